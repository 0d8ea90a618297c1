"""Convert a mosaic from its own format to the input a network was trained on.

A network knows one Bayer pattern and one pair of levels. Another pattern is the same one begun a row or a column later,
so cropping converts it without touching a value; other levels are rescaled. Neither is done unless it was asked for.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float32, Shaped, UInt16

from nas.data.camera_raw import Mosaic
from nas.data.raw_format import RawFormat
from nas.render.integer_tables import look_up
from nas.render.row_threads import in_strips
from nas.tflite.input_contract import Contract
from nas.tflite.tensor_encoding import TensorEncoding
from search_spaces.errors import DataError

Array = np.ndarray[Any, Any]


def convert(mosaic: Mosaic, wanted: RawFormat, *, allowed: bool, name: str) -> tuple[Mosaic, tuple[str, ...]]:
    """Return the mosaic as the format wants it, and what had to be done; levels are rescaled when it is packed.

    Raises DataError where something had to be done and is not `allowed`.
    """
    rows, columns = _shift(mosaic.pattern, wanted.pattern)
    cropped = _cropped(mosaic, rows, columns, wanted.pattern)
    if not cropped.values.size:
        raise DataError(f'The mosaic "{name}" is too small to be converted ({_sides(mosaic)}); give a larger one.')
    done = tuple(
        filter(None, (_pattern_note(mosaic, wanted), _size_note(mosaic, cropped), _levels_note(mosaic, wanted)))
    )
    if done and not allowed:
        raise DataError(
            f'"{name}" is {mosaic.pattern}, {_sides(mosaic)}, {mosaic.levels}; the network was trained on '
            f"{wanted.pattern} of even sides with levels {_levels(wanted)}. Convert it with --convert."
        )
    return cropped, done


def _shift(pattern: str, wanted: str) -> tuple[int, int]:
    """Return how many rows and columns to leave out so that one pattern becomes the other; green tells of neither."""
    (row, column), (to_row, to_column) = (divmod(p.index("R"), 2) for p in (pattern, wanted))
    return (row - to_row) % 2, (column - to_column) % 2


def _cropped(mosaic: Mosaic, rows: int, columns: int, pattern: str) -> Mosaic:
    height, width = mosaic.values.shape
    values = mosaic.values[rows : rows + (height - rows) // 2 * 2, columns : columns + (width - columns) // 2 * 2]
    black = np.roll(np.reshape(mosaic.black, (2, 2)), (-rows, -columns), (0, 1)).ravel()
    return replace(mosaic, values=values, pattern=pattern, black=tuple(black.tolist()))


def _pattern_note(mosaic: Mosaic, wanted: RawFormat) -> str | None:
    if mosaic.pattern == wanted.pattern:
        return None
    rows, columns = _shift(mosaic.pattern, wanted.pattern)
    left_out = " and ".join(name for name, count in (("row", rows), ("column", columns)) if count)
    return f"{mosaic.pattern} → {wanted.pattern} by leaving out the first {left_out}"


def _size_note(mosaic: Mosaic, cropped: Mosaic) -> str | None:
    if mosaic.values.shape == cropped.values.shape:
        return None
    return f"{_sides(mosaic)} → {_sides(cropped)}, whole tiles of 2×2"


def _levels_note(mosaic: Mosaic, wanted: RawFormat) -> str | None:
    if set(mosaic.black) == {wanted.black} and mosaic.white == wanted.white_level:
        return None
    return f"levels {mosaic.levels} → {_levels(wanted)} by rescaling"


def _levels(fmt: RawFormat) -> str:
    return f"{fmt.black}–{fmt.white_level}"


def _sides(mosaic: Mosaic) -> str:
    return "×".join(map(str, mosaic.values.shape))


def pad(values: UInt16[np.ndarray, "h w"], rows: int, columns: int) -> UInt16[np.ndarray, "rows columns"]:
    """Reflect a mosaic of even sides at its lower and right end up to a size.

    Reflection about the last pixel takes even places to even ones, so the Bayer pattern goes on; about the edge
    behind it would not.
    """
    missing = (rows - values.shape[0], columns - values.shape[1])
    return values if missing == (0, 0) else np.pad(values, [(0, n) for n in missing], mode="reflect")


def packed(values: UInt16[np.ndarray, "h w"], mosaic: Mosaic, contract: Contract) -> Float32[np.ndarray, "h/2 w/2 4"]:
    """Return a piece of a mosaic, begun at an even place, as the network reads it."""
    x = np.empty((values.shape[0] // 2, values.shape[1] // 2, 4), np.float32)

    def some(rows: slice) -> None:
        part, place = values[rows], x[rows.start // 2 : rows.stop // 2]
        for channel, (row, column) in enumerate(contract.format.offsets()):
            gain, offset = contract.affine(mosaic.black[2 * row + column], mosaic.white)
            _scale(part[row::2, column::2], gain, offset, out=place[..., channel])

    in_strips(len(values), some)
    return x


def _scale(counts: Array, gain: float, offset: float, *, out: Array) -> None:
    np.multiply(counts, np.float32(gain), out=out)
    if offset:
        out += np.float32(offset)


LookUp = Callable[[Array], Array]  # counts → what a file stores for them


def count_look_ups(mosaic: Mosaic, contract: Contract, encoding: TensorEncoding) -> list[LookUp]:
    """Return what a file of whole numbers stores for counts up to white, for each packed channel."""
    return [
        _look_up_of(mosaic.black[2 * row + column], mosaic.white, contract, encoding)
        for row, column in contract.format.offsets()
    ]


@lru_cache(maxsize=16)  # the same for all pictures of a camera, and often for the four places
def _look_up_of(black: float, white: float, contract: Contract, encoding: TensorEncoding) -> LookUp:
    gain, offset = contract.affine(black, white)
    counts = np.arange(min(int(white), 2**16 - 1) + 1, dtype=np.uint16)
    x = np.empty(counts.shape, np.float32)
    _scale(counts, gain, offset, out=x)
    return look_up(encoding.encode(x), gain / encoding.scale, offset / encoding.scale + encoding.zero_point)


def packed_by_look_ups(
    values: UInt16[np.ndarray, "h w"], *, look_ups: Sequence[LookUp], fmt: RawFormat, dtype: str
) -> Shaped[np.ndarray, "h/2 w/2 4"]:
    """Return what `packed` does, as a file stores it."""
    x = np.empty((values.shape[0] // 2, values.shape[1] // 2, 4), dtype)

    def some(rows: slice) -> None:
        place = x[rows.start // 2 : rows.stop // 2]
        for channel, stored in enumerate(_channels(values[rows], look_ups, fmt)):
            place[..., channel] = stored

    in_strips(len(values), some)
    return x


def _channels(rows: UInt16[np.ndarray, "h w"], look_ups: Sequence[LookUp], fmt: RawFormat) -> Iterator[Array]:
    if all(each is look_ups[0] for each in look_ups):  # one black level: in one go, which is faster
        stored = look_ups[0](rows)
        yield from (stored[row::2, column::2] for row, column in fmt.offsets())
    else:
        for each, (row, column) in zip(look_ups, fmt.offsets(), strict=True):
            yield each(rows[row::2, column::2])
