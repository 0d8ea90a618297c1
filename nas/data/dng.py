"""Read how a DNG stores its mosaic, and check that all of it is there.

LibRaw reads a tile that is missing, cut or overwritten as black or as another tile's memory, and says nothing. So the
places of tiles are checked before it is asked: inside the file, not empty, and whole JPEGs where they are compressed.
"""

import itertools
import logging
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search_spaces.errors import DataError
from search_spaces.system.printable import printable

_CFA, _LINEAR = 32803, 34892
_UNCOMPRESSED, _LOSSLESS_JPEG = (1,), (7,)
_READ = (*_UNCOMPRESSED, *_LOSSLESS_JPEG)
_COMPRESSIONS = {
    2: "CCITT", 5: "LZW", 6: "old JPEG", 8: "deflate", 9: "VC-5 (GoPro)", 32946: "deflate", 34892: "lossy JPEG",
    50002: "JPEG XL", 52546: "JPEG XL", 32773: "PackBits",
}  # fmt: skip
_UNSIGNED = 1
_MAKE, _MODEL, _UNIQUE_MODEL = 271, 272, 50708
_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_PADDING = b"\x00\xff"
_MOST_TILES = 1_000_000
_HEADER_BYTES = 8  # of a TIFF
# Bytes by which an uncompressed tile may be longer than its samples: padding, and no samples of more bits.
_LEAST_PADDING, _MOST_PADDED = 512, 1.02


@dataclass(frozen=True)
class Tile:
    """One tile or strip: where it lies, how long it is, and how long it would be without compression."""

    offset: int
    size: int
    unpacked: int


@dataclass(frozen=True)
class DngMosaic:
    """The image of a DNG that is its mosaic."""

    compression: int
    sample_format: int
    bits: int
    tiles: tuple[Tile, ...]
    wanted_tiles: int
    black_repeat: tuple[int, int]
    has_black_deltas: bool


def require_whole(path: Path) -> None:
    """Raise DataError for a DNG of which a part is missing, or whose numbers are stored as nobody here reads them.

    Files that are no DNG, and those whose structure cannot be read here, are left to LibRaw.
    """
    content_size = path.stat().st_size
    for mosaic in mosaics(path):
        _require_read(mosaic, path)
        if len(mosaic.tiles) < mosaic.wanted_tiles:
            raise _damaged(path, f"{len(mosaic.tiles)} of {mosaic.wanted_tiles} tiles")
        _require_apart(mosaic.tiles, path)
        with path.open("rb") as file:
            for number, tile in enumerate(mosaic.tiles, start=1):
                if not tile.size or tile.offset < _HEADER_BYTES or tile.offset + tile.size > content_size:
                    raise _damaged(path, f"tile {number} of {len(mosaic.tiles)} outside of the file")
                if mosaic.compression in _UNCOMPRESSED:
                    _require_length(tile, number, mosaic.bits, path)
                    continue
                file.seek(tile.offset)
                if not _is_whole_jpeg(file.read(tile.size)):
                    raise _damaged(path, f"tile {number} of {len(mosaic.tiles)} that is no whole JPEG")


def _require_apart(tiles: Sequence[Tile], path: Path) -> None:
    """Raise DataError where two tiles lie over each other."""
    for before, after in itertools.pairwise(sorted(tiles, key=lambda tile: tile.offset)):
        if before.offset + before.size > after.offset:
            raise _damaged(path, f"two of {len(tiles)} tiles in one place, at byte {after.offset}")


def _require_length(tile: Tile, number: int, bits: int, path: Path) -> None:
    if tile.size < tile.unpacked:
        raise _damaged(path, f"tile {number} with {tile.size} of {tile.unpacked} bytes")
    if tile.size > max(tile.unpacked + _LEAST_PADDING, _MOST_PADDED * tile.unpacked):
        raise DataError(
            f'The RAW file "{path}" contradicts itself: tile {number} has {tile.size} bytes, and its pixels of {bits} '
            f"bits take {tile.unpacked}; have it written again with the right BitsPerSample."
        )


def _require_read(mosaic: DngMosaic, path: Path) -> None:
    got = None
    if mosaic.compression not in _READ:
        name = _COMPRESSIONS.get(mosaic.compression, "an unknown method")
        got = f"one compressed by {name} (TIFF compression {mosaic.compression})"
    elif mosaic.sample_format != _UNSIGNED:
        got = f"one of {mosaic.bits}-bit floating point or signed numbers"
    elif not {1, 2}.issuperset(mosaic.black_repeat) or mosaic.has_black_deltas:
        got = "one whose black level differs within a colour (by row, by column or over more than 2×2 px)"
    if got:
        raise DataError(
            f'"{path}" is {got}, and only a DNG of whole numbers, uncompressed or in lossless JPEG, can be read; '
            "convert it with Adobe DNG Converter or dnglab without lossy compression."
        )


def _damaged(path: Path, got: str) -> DataError:
    return DataError(f'The RAW file "{path}" is damaged: {got}; copy it from the camera again.')


def _is_whole_jpeg(content: bytes) -> bool:
    """Tell whether a tile is a lossless JPEG from its start to its end, whatever pads it behind."""
    if not content.startswith(_JPEG_START):
        return False
    end = content.rfind(_JPEG_END)
    if end < 0 or content[end + len(_JPEG_END) :].strip(_PADDING):
        return False
    scan = _scan_start(content)
    return scan is not None and scan < end


def _scan_start(content: bytes) -> int | None:
    """Return where the compressed data begin, walking the markers before them; None where they lead nowhere."""
    at = len(_JPEG_START)
    while at + 4 <= len(content):
        marker, length = (int.from_bytes(content[place : place + 2]) for place in (at, at + 2))
        if marker >> 8 != 0xFF or length < 2:
            return None
        at += 2 + length
        if marker == 0xFFDA:
            return at
    return None


# What tifffile raises for damaged structure; LibRaw says so in its own way.
_DAMAGED = (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, struct.error,
            RuntimeError, ZeroDivisionError, MemoryError)  # fmt: skip


def mosaics(path: Path) -> Iterator[DngMosaic]:
    """Yield the images of a DNG that are mosaics; nothing of files of other kinds."""
    from tifffile import TiffFile

    _silence_tifffile()
    try:
        with TiffFile(path) as file:
            pages = [_mosaic(page) for page in _pages(file)]
    except _DAMAGED:
        return
    yield from filter(None, pages)


def camera_model(path: Path) -> str | None:
    """Return which camera took a DNG, or another RAW file that is a TIFF; None where the file does not tell."""
    from tifffile import TiffFile

    _silence_tifffile()
    try:
        with TiffFile(path) as file:
            tags = file.pages.first.tags
            names = [str(tags[tag].value) if tag in tags else "" for tag in (_UNIQUE_MODEL, _MAKE, _MODEL)]
    except _DAMAGED:
        return None
    unique, make, model = (" ".join(printable(text.strip("\0 ")).split()) for text in names)
    return unique or " ".join(filter(None, (make, model))) or None


_MOST_PAGES = 64


def _silence_tifffile() -> None:
    """Keep what tifffile logs of odd structure off the terminal, unless somebody has set up logging."""
    logging.getLogger("tifffile").addHandler(_NOWHERE)  # the same one again changes nothing


_NOWHERE = logging.NullHandler()


def _pages(file: Any) -> list[Any]:
    """Return the images of a DNG with those that they hold; none of another TIFF."""
    pages = list(itertools.islice(file.pages, _MOST_PAGES))
    if not pages or "DNGVersion" not in pages[0].tags:
        return []
    return pages + [inner for page in pages for inner in itertools.islice(page.pages or (), _MOST_PAGES)]


def _mosaic(page: Any) -> DngMosaic | None:
    tags = page.tags
    values = {name: tags[name].value for name in _TAGS if name in tags}
    if values.get("PhotometricInterpretation") != _CFA:
        return None
    bits, samples = _first(values.get("BitsPerSample", 16)), int(values.get("SamplesPerPixel", 1))
    height, width = int(values["ImageLength"]), int(values["ImageWidth"])
    if "TileOffsets" in values:
        rows, columns = int(values["TileLength"]), int(values["TileWidth"])
        wanted = -(-height // rows) * -(-width // columns)
        unpacked = [rows * (-(-columns * samples * bits // 8))] * min(wanted, _MOST_TILES)
        places = (values["TileOffsets"], values["TileByteCounts"])
    else:
        rows = min(int(values.get("RowsPerStrip", height)), height)
        wanted = -(-height // rows)
        line = -(-width * samples * bits // 8)
        unpacked = [line * min(rows, height - number * rows) for number in range(min(wanted, _MOST_TILES))]
        places = (values["StripOffsets"], values["StripByteCounts"])
    tiles = [Tile(int(at), int(size), full) for at, size, full in zip(*map(_listed, places), unpacked, strict=False)]
    repeat = _listed(values.get("BlackLevelRepeatDim", (1, 1)))
    deltas = [*_listed(values.get("BlackLevelDeltaH", ())), *_listed(values.get("BlackLevelDeltaV", ()))]
    return DngMosaic(
        compression=int(values.get("Compression", 1)),
        sample_format=_first(values.get("SampleFormat", _UNSIGNED)),
        bits=bits,
        tiles=tuple(tiles),
        wanted_tiles=wanted,
        black_repeat=(int(repeat[0]), int(repeat[1])),
        has_black_deltas=any(deltas[::2]),
    )


_TAGS = (
    "PhotometricInterpretation", "BitsPerSample", "SamplesPerPixel", "ImageLength", "ImageWidth", "TileOffsets",
    "TileByteCounts", "TileLength", "TileWidth", "RowsPerStrip", "StripOffsets", "StripByteCounts", "Compression",
    "SampleFormat", "BlackLevelRepeatDim", "BlackLevelDeltaH", "BlackLevelDeltaV",
)  # fmt: skip


def _listed(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value,)


def _first(value: Any) -> int:
    return int(_listed(value)[0])
