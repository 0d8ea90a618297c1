"""Read the files of pairs as a study wants them: cameras' RAW as mosaics, one pair of levels, sides that can be halved.

Mosaics in PNG and TIFF with the levels of the set stay as they are stored.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from nas.data.camera_raw import read_mosaic
from nas.data.decode import Mosaic, Target, check_levels, read_raw, read_rgb, size_of, workers
from nas.data.layout import Pair, is_mosaic_alone
from nas.data.raw_format import RawFormat
from search_spaces.errors import DataError

PAIRS_IN_FLIGHT = 64  # decoded ahead of the reader: 20 MB at 256×256


def read_pair(pair: Pair, fmt: RawFormat) -> tuple[Mosaic, Target]:
    """Read both sides of a pair, which must have the same height and width, in the levels of `fmt`."""
    raw, levels = _read_mosaic(pair, fmt)
    rgb = read_rgb(pair.rgb)
    if raw.shape != rgb.shape[:2]:
        raise DataError(
            f'"{pair.raw}" has {size_of(raw)} and "{pair.rgb}" {size_of(rgb)}; cut both from the same place at the '
            "same size."
        )
    if levels is not None:
        raw = _releveled(raw, levels, fmt)
    return _cropped(raw, rgb, pair)


def _read_mosaic(pair: Pair, fmt: RawFormat) -> tuple[Mosaic, tuple[float, float] | None]:
    """Read a mosaic, and the levels that it has where they are not those of the set."""
    if is_mosaic_alone(pair.raw):
        return read_raw(pair.raw), pair.levels
    mosaic = read_mosaic(pair.raw, fmt)
    if mosaic.pattern != fmt.pattern:
        raise DataError(
            f'The mosaic of "{pair.raw}" is {mosaic.pattern}, and {fmt.pattern} is declared; give --pattern '
            f"{mosaic.pattern}, or cut all pairs to one pattern with `isp-nas data make`."
        )
    return mosaic.values, pair.levels or (float(np.mean(mosaic.black)), mosaic.white)


def _releveled(raw: Mosaic, levels: tuple[float, float], fmt: RawFormat) -> Mosaic:
    """Bring a mosaic from levels of its own to those of the set."""
    black, white = levels
    if (black, white) == (fmt.black, fmt.white_level) or not black < white:
        return raw
    scale = (fmt.white_level - fmt.black) / (white - black)
    values = (raw.astype(np.float32) - np.float32(black)) * np.float32(scale) + np.float32(fmt.black)
    moved: Mosaic = np.clip(np.rint(values), 0, fmt.white_level).astype(np.uint16)
    return moved


def _cropped(raw: Mosaic, rgb: Target, pair: Pair) -> tuple[Mosaic, Target]:
    """Cut a pair in its middle to sides that are multiples of its `crop`, from whole tiles on."""
    if pair.crop <= 1:
        return raw, rgb
    sides = [side // pair.crop * pair.crop for side in raw.shape]
    if not all(sides):
        raise DataError(
            f'Pairs of {size_of(raw)}, as "{pair.raw}", are smaller than --crop {pair.crop}; give a smaller one.'
        )
    starts = [(whole - side) // 2 // 2 * 2 for whole, side in zip(raw.shape, sides, strict=True)]
    here = tuple(slice(start, start + side) for start, side in zip(starts, sides, strict=True))
    return np.ascontiguousarray(raw[here]), np.ascontiguousarray(rgb[here])


def check_same_size(raw: Mosaic, pair: Pair, *, wanted: tuple[int, ...], first: Pair) -> None:
    """Raise `DataError` when a pair has not the size of the first one."""
    if raw.shape != wanted:
        raise DataError(
            f'"{pair.raw}" has {size_of(raw)}, and the first pair, "{first.raw}", {wanted[0]}×{wanted[1]}; cut all '
            "pairs to one size."
        )


def decode(pairs: Sequence[Pair], fmt: RawFormat) -> Iterator[tuple[Mosaic, Target]]:
    """Yield every pair, read ahead in threads and judged against the format and the first pair's size."""
    wanted: tuple[int, ...] | None = None
    with ThreadPoolExecutor(workers()) as pool:
        for start in range(0, len(pairs), PAIRS_IN_FLIGHT):
            chunk = pairs[start : start + PAIRS_IN_FLIGHT]
            for pair, (raw, rgb) in zip(chunk, pool.map(lambda each: read_pair(each, fmt), chunk), strict=True):
                wanted = wanted or raw.shape
                check_levels(raw, pair.raw, fmt)
                check_same_size(raw, pair, wanted=wanted, first=pairs[0])
                yield raw, rgb
