"""DNG files as a camera writes them, small enough to be made by a test."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

_SHORT, _LONG, _RATIONAL, _SIGNED_RATIONAL, _BYTE, _TEXT = 3, 4, 5, 10, 1, 2
_CFA_DIM, _CFA_PATTERN, _BLACK_DIM, _BLACK, _WHITE, _ACTIVE = 33421, 33422, 50713, 50714, 50717, 50829
_CFA, _YCBCR = 32803, 6  # photometric interpretations
_JPEG, _SUB_FILES = 7, 330
_SIZES = {_SHORT: 2, _LONG: 4, _RATIONAL: 8, _SIGNED_RATIONAL: 8, _BYTE: 1, _TEXT: 1}
Jpeg = tuple[bytes, tuple[int, int]]  # and its rows and columns
_IDENTITY = [1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1]  # of XYZ to the camera's colours, as fractions
COLOURS = {"R": 0, "G": 1, "B": 2}
XTRANS = "GGRGGBGGBGGRBRGRBGGGBGGRGGRGGBRBGBRG"
QUAD = "RRGGRRGGGGBBGGBB"


@dataclass(frozen=True)
class Camera:
    """What a DNG says of its mosaic."""

    pattern: str = "RGGB"
    black: Sequence[int] = (64, 64, 64, 64)  # of the places of the 2×2 tile, row by row
    white: int = 1023
    orientation: int = 1  # TIFF's number: 6 is to be turned clockwise
    active: tuple[int, int, int, int] | None = None  # top, left, bottom, right of what is picture
    white_balance: tuple[int, int, int] = (2, 1, 2)  # gains of red, green, blue
    model: str = "isp-nas test camera"

    def _tags(self) -> list[tuple[Any, ...]]:
        side = round(len(self.pattern) ** 0.5)
        filters = bytes(COLOURS[letter] for letter in self.pattern)
        neutral = [part for gain in self.white_balance for part in (1, gain)]
        tags: list[tuple[Any, ...]] = [
            (_CFA_DIM, _SHORT, 2, (side, side)),  # CFARepeatPatternDim
            (_CFA_PATTERN, _BYTE, len(filters), filters),  # CFAPattern
            (50706, _BYTE, 4, bytes((1, 4, 0, 0))),  # DNGVersion
            (50708, _TEXT, 0, self.model),  # UniqueCameraModel
            (_BLACK_DIM, _SHORT, 2, (2, 2)),  # BlackLevelRepeatDim
            (_BLACK, _SHORT, 4, tuple(self.black)),  # BlackLevel
            (_WHITE, _LONG, 1, self.white),  # WhiteLevel
            (50721, _SIGNED_RATIONAL, 9, tuple(_IDENTITY)),  # ColorMatrix1
            (50728, _RATIONAL, 3, tuple(neutral)),  # AsShotNeutral
            (50778, _SHORT, 1, 21),  # CalibrationIlluminant1: D65
            (274, _SHORT, 1, self.orientation),
        ]
        if self.active is not None:
            tags.append((_ACTIVE, _LONG, 4, self.active))  # ActiveArea
        return tags

    def write(self, path: Path, mosaic: np.ndarray) -> Path:
        """Write a mosaic as an uncompressed DNG."""
        file = BytesIO()
        extra = [(*tag, True) for tag in self._tags()]
        tifffile.imwrite(file, mosaic, photometric=_CFA, extratags=extra, metadata=None, subfiletype=0)
        path.write_bytes(file.getvalue())
        return path

    def write_with_preview(self, path: Path, mosaic: np.ndarray, preview: np.ndarray) -> Path:
        """Write a mosaic beside a picture of it, as cameras do, in the sub-file of a TIFF that shows the picture."""
        described = {_CFA_DIM, _CFA_PATTERN, _BLACK_DIM, _BLACK, _WHITE, _ACTIVE}
        tags = self._tags()
        with tifffile.TiffWriter(path) as file:
            top = [(*tag, True) for tag in tags if tag[0] not in described]
            file.write(preview, photometric="rgb", subfiletype=1, subifds=1, extratags=top, metadata=None)
            rest = [(*tag, True) for tag in tags if tag[0] in described]
            file.write(mosaic, photometric=_CFA, subfiletype=0, extratags=rest, metadata=None)
        return path

    def write_with_jpegs(self, path: Path, mosaic: np.ndarray, previews: Sequence[Jpeg]) -> Path:
        """Write a mosaic and JPEG pictures of it, the first where a TIFF shows it and the others in sub-files."""
        described = {_CFA_DIM, _CFA_PATTERN, _BLACK_DIM, _BLACK, _WHITE, _ACTIVE}
        tags = self._tags()
        file = _TiffFile()
        raw = [*_image(mosaic.shape, _CFA, file.put(mosaic.tobytes()), mosaic.nbytes), (254, _LONG, 1, 0)]
        raw += [(258, _SHORT, 1, 16), (259, _SHORT, 1, 1), (277, _SHORT, 1, 1)]
        folders = [file.folder([*raw, *(tag for tag in tags if tag[0] in described)])]
        shown = []
        for content, size in previews:
            more = [(254, _LONG, 1, 1), (258, _SHORT, 3, (8, 8, 8)), (259, _SHORT, 1, _JPEG), (277, _SHORT, 1, 3)]
            shown.append([*_image(size, _YCBCR, file.put(content), len(content)), *more])
        folders += [file.folder(tags) for tags in shown[1:]]
        top = [tag for tag in tags if tag[0] not in described]
        path.write_bytes(file.whole([*shown[0], *top, (_SUB_FILES, _LONG, len(folders), tuple(folders))]))
        return path


class _TiffFile:
    """A TIFF put together byte by byte: tifffile writes no JPEG without another package."""

    def __init__(self) -> None:
        self._content = bytearray(b"II*\0\0\0\0\0")

    def put(self, content: bytes) -> int:
        """Append content and return where it lies."""
        self._content += bytes(len(self._content) % 2)
        begin = len(self._content)
        self._content += content
        return begin

    def folder(self, tags: Sequence[tuple[Any, ...]]) -> int:
        """Append a folder of tags and return where it lies."""
        entries = []
        for code, kind, _, value in sorted(tags, key=lambda tag: tag[0]):
            content = value if isinstance(value, bytes) else _encoded(kind, value)
            count = len(content) // _SIZES[kind]
            place = content.ljust(4, b"\0") if len(content) <= 4 else struct.pack("<I", self.put(content))
            entries.append(struct.pack("<HHI", code, kind, count) + place)
        return self.put(struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4))

    def whole(self, tags: Sequence[tuple[Any, ...]]) -> bytes:
        """Return the file with its first folder."""
        struct.pack_into("<I", self._content, 4, self.folder(tags))
        return bytes(self._content)


def _encoded(kind: int, value: Any) -> bytes:
    if kind == _TEXT:
        return value.encode() + b"\0"
    values = value if isinstance(value, tuple) else (value,)
    letter = {_BYTE: "B", _SHORT: "H", _LONG: "I", _RATIONAL: "I", _SIGNED_RATIONAL: "i"}[kind]
    return struct.pack(f"<{len(values)}{letter}", *values)


def _image(size: Sequence[int], photometric: int, offset: int, length: int) -> list[tuple[Any, ...]]:
    rows, columns = size[0], size[1]
    tags = {256: columns, 257: rows, 262: photometric, 273: offset, 278: rows, 279: length, 284: 1}
    return [(code, _LONG, 1, value) for code, value in tags.items()]


def write_mosaic(path: Path, mosaic: np.ndarray) -> Path:
    """Write a mosaic as the 16-bit grey PNG that data sets use."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mosaic).save(path)
    return path


def noise(rows: int, columns: int, *, low: int = 64, high: int = 1023, seed: int = 0) -> np.ndarray:
    """Return a mosaic of random values, `high` among them; LibRaw reads none of less than 22 pixels a side."""
    mosaic = np.random.default_rng(seed).integers(low, high + 1, (rows, columns), dtype=np.uint16)
    mosaic[rows // 2, columns // 2] = high
    return mosaic
