"""Mosaics that are numbers alone: a dump of a sensor's frame without a header, read as the user says it is stored."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8, UInt16

from nas.data.encodings import STORAGES
from nas.data.picture_file import MOST_PIXELS
from search_spaces.errors import DataError, UnknownNameError, UsageError
from search_spaces.system.file_errors import acting_on

MOST_DIGITS = 7  # of a side in pixels
UNLIKE_BY, SWAPPED_BY = 0.4, 0.08  # between correlations
_LOOKED_AT = 40_000  # pixels
_WHOLE = tuple(name for name, bits in STORAGES.items() if bits is None)


@dataclass(frozen=True)
class RawDump:
    """How the frames of a file without a header are stored."""

    height: int
    width: int
    storage: str = "u16le"

    def __post_init__(self) -> None:
        if self.storage not in STORAGES:
            raise UnknownNameError("storage of a RAW dump", self.storage, STORAGES)
        if min(self.height, self.width) < 2 or self.height * self.width > MOST_PIXELS:
            raise UsageError(
                f"A RAW dump has 2×2 px up to {MOST_PIXELS // 10**6} megapixels, not {self.height}×{self.width}; give "
                "its height and width in pixels."
            )
        if STORAGES[self.storage] and self.width % self._group:
            raise UsageError(
                f"Rows of {self.storage} hold a multiple of {self._group} px, got a width of {self.width}; check "
                "--size, which is height x width."
            )

    @property
    def _group(self) -> int:
        return {"mipi10": 4, "mipi12": 2}.get(self.storage, 1)

    @property
    def bits(self) -> int:
        """The most bits that a value can have."""
        return STORAGES[self.storage] or 16

    @property
    def size_bytes(self) -> int:
        """How long a file of one frame is."""
        return self.height * self.width * self.bits // 8

    def read(self, path: Path) -> UInt16[np.ndarray, "h w"]:
        """Read the mosaic; raise DataError where the file is not as long as it has to be."""
        with acting_on(path, "read", DataError):
            size = path.stat().st_size
            if size != self.size_bytes:
                raise DataError(
                    f'"{path}" has {size} bytes, and {self.height}×{self.width} px as {self.storage} are '
                    f"{self.size_bytes}; check --size (height x width) and --storage, and cut off a header or padding "
                    "of rows."
                )
            content = np.fromfile(path, np.uint8)
        rows = content.reshape(self.height, -1)
        if self.storage == "mipi10":
            return _unpacked(rows, values=4, bits=2)
        if self.storage == "mipi12":
            return _unpacked(rows, values=2, bits=4)
        return rows.view("<u2" if self.storage == "u16le" else ">u2").astype(np.uint16)


def doubt(values: UInt16[np.ndarray, "h w"], dump: RawDump) -> str | None:
    """Say what speaks against the way in which a dump was read; None where its values lie as those of a picture do.

    In a picture pixels of one colour, two px apart, are alike in both directions.
    """
    across, down = _likeness(values[:, :-2], values[:, 2:]), _likeness(values[:-2], values[2:])
    if dump.storage in _WHOLE:
        swapped = values.byteswap()
        if _likeness(swapped[:, :-2], swapped[:, 2:]) > across + SWAPPED_BY:
            other = next(name for name in _WHOLE if name != dump.storage)
            return f"neighbours are hardly alike, and would be with the bytes exchanged; try --storage {other}"
    if across > down + UNLIKE_BY:
        return (
            f"rows of {dump.width} px do not follow each other as in a picture (likeness {down:.2f}, within rows "
            f"{across:.2f}); check --size, which is height x width"
        )
    return None


def _likeness(first: UInt16[np.ndarray, "h w"], second: UInt16[np.ndarray, "h w"]) -> float:
    """Return the correlation of two parts of a mosaic, on some ten thousand pixels; 1 where nothing varies."""
    step = max(1, int((first.size / _LOOKED_AT) ** 0.5)) | 1  # odd: every place of the tile has its turn
    a, b = (part[::step, ::step].astype(np.float64).ravel() for part in (first, second))
    if len(a) < 2 or not a.std() or not b.std():
        return 1.0
    return float(np.corrcoef(a, b)[0, 1])


def dump_of(size: str | None, storage: str = RawDump.storage) -> RawDump | None:
    """Return how files without a header are stored, None where nobody said so; raise UsageError for no size."""
    if size is None:
        if storage != RawDump.storage:
            raise UsageError("--storage says how a RAW dump is stored; give its --size (height x width), too.")
        return None
    sides = size.lower().replace("×", "x").split("x")
    if len(sides) != 2 or not all(side.isascii() and side.isdigit() and len(side) < MOST_DIGITS for side in sides):
        raise UsageError(f'The size of a RAW dump is height x width, such as 3000x4000; got "{size}".')
    return RawDump(int(sides[0]), int(sides[1]), storage)


def _unpacked(rows: UInt8[np.ndarray, "h bytes"], *, values: int, bits: int) -> UInt16[np.ndarray, "h w"]:
    """Join so many bytes with their lower bits, which the byte behind them holds, the first value's lowest."""
    groups = rows.reshape(len(rows), -1, values + 1).astype(np.uint16)
    shifts = np.arange(values, dtype=np.uint16) * bits
    low = (groups[..., values:] >> shifts) & (2**bits - 1)
    joined: UInt16[np.ndarray, "h w"] = ((groups[..., :values] << bits) | low).reshape(len(rows), -1)
    return joined
