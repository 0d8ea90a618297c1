"""Plan how a picture of any size passes through a .tflite file: whole or in tiles, exact or blended.

A file of one size cuts every picture into tiles of it; one that leaves its size open takes what memory holds. What
cannot be exact is blended softly and said in one sentence.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import ceil
from typing import Any

import numpy as np

from nas.render.tiling import Axis, Overlap, cut, evened, exact, inexact, padded, step
from nas.tflite.receptive_field import ReceptiveField
from search_spaces.errors import UsageError

MEMORY_FACTOR = 1.25  # the estimate is up to a sixth too low, see nas.tflite.receptive_field
UNKNOWN_BYTES_PER_PIXEL = 4096  # as much as the largest of the ten published designs takes
SMALLEST_OPEN_SIDE = 64  # px of packed RAW
# Tiles that step by less than this share of their side do so much work twice that soft ones are better.
SMALLEST_STEP = 0.25

Place = tuple[int, int]
Sides = tuple[int | None, int | None]  # rows and columns; None where a file leaves them open


@dataclass(frozen=True)
class TileLayout:
    """How a picture goes through a network: the tiles of both axes, and in words where they cannot be exact."""

    rows: Axis
    columns: Axis
    note: str | None

    @cached_property
    def places(self) -> list[Place]:
        """Every tile by its number among the rows and among the columns."""
        return list(product(range(len(self.rows.starts)), range(len(self.columns.starts))))

    @property
    def tiles(self) -> int:
        """How many tiles there are."""
        return len(self.places)

    def piece(self, picture: np.ndarray[Any, Any], place: Place) -> np.ndarray[Any, Any]:
        """Return the part of a mosaic or of RGB that a tile covers; both have twice the sides of packed RAW."""
        top, left = 2 * self.rows.starts[place[0]], 2 * self.columns.starts[place[1]]
        return picture[top : top + 2 * self.rows.tile, left : left + 2 * self.columns.tile]


def lay_out(size: tuple[int, int], field: ReceptiveField, *, fixed: Sides, most_bytes: float) -> TileLayout:
    """Cut a picture into the tiles that a file takes; sides it leaves open take as much as memory holds.

    Raises UsageError where a fixed size is too small for tiles that overlap.
    """
    tile = _tile(size, field, fixed, most_bytes)
    rows, columns = (
        _axis(length, side, field, is_open=fixed_side is None)
        for length, side, fixed_side in zip(size, tile, fixed, strict=True)
    )
    return TileLayout(rows, columns, _note(size, (rows, columns), field))


def _tile(size: tuple[int, int], field: ReceptiveField, fixed: Sides, most_bytes: float) -> tuple[int, int]:
    """Return the sides of a tile: what is fixed, and of what is open as much as memory holds, near to a square."""
    pixels = most_bytes / (MEMORY_FACTOR * (field.bytes_per_pixel or UNKNOWN_BYTES_PER_PIXEL))
    whole = [side or padded(length, field.period, field.period) for length, side in zip(size, fixed, strict=True)]
    if whole[0] * whole[1] <= pixels:
        return whole[0], whole[1]

    def at_most(side: float) -> int:
        return max(_smallest_open_side(field), int(side) // field.period * field.period)

    first, second = sorted((0, 1), key=lambda axis: (fixed[axis] is None, whole[axis]))
    if fixed[first] is None:
        whole[first] = min(whole[first], at_most(pixels**0.5))
    if fixed[second] is None:
        whole[second] = min(whole[second], at_most(pixels / whole[first]))
    return whole[0], whole[1]


def _smallest_open_side(field: ReceptiveField) -> int:
    """Return the side below which overlaps would be most of the work, whatever memory there is."""
    return ceil(max(SMALLEST_OPEN_SIDE, 4 * (field.reach or 0)) / field.period) * field.period


def _axis(length: int, tile: int, field: ReceptiveField, *, is_open: bool) -> Axis:
    if padded(length, tile, field.period) == tile:
        return Axis(tile, tile, (0,), Overlap(0, 1))
    overlap = _overlap(tile, field)
    if step(overlap, tile, field.period) < 1:
        raise UsageError(
            f"The network's input of {tile} packed pixels is too small for overlapping tiles (they begin at multiples "
            f"of {field.period}); give a file of a larger size."
        )
    if is_open:
        tile = evened(length, tile, overlap=overlap, period=field.period)
    return cut(length, tile, overlap=overlap, period=field.period)


def _overlap(tile: int, field: ReceptiveField) -> Overlap:
    """Return the overlap that makes tiles exact; a soft one where none does, or at too high a price."""
    if field.reach is not None and not field.global_ops:
        overlap = exact(field.reach)
        if step(overlap, tile, field.period) >= SMALLEST_STEP * tile:
            return overlap
    return inexact(tile)


def _note(size: tuple[int, int], axes: Sequence[Axis], field: ReceptiveField) -> str | None:
    """Say why tiles, or a reflected border, change the picture; None where they do not."""
    cut_axes = [axis for axis in axes if len(axis.starts) > 1]
    if field.global_ops and (cut_axes or any(axis.size != length for axis, length in zip(axes, size, strict=True))):
        what = "tiles are blended" if cut_axes else "the reflected border counts, too"
        names = " and ".join(field.global_ops)
        sees = "sees" if len(field.global_ops) == 1 else "see"
        return f"{names} {sees} the whole map, so the size of the input changes the picture a little; {what}."
    if cut_axes and field.reach is None:
        return f"How far {field.unknown_op} sees is not known; tiles overlap by half and are blended."
    if any(axis.overlap.margin < (field.reach or 0) for axis in cut_axes):
        return (
            f"The network sees {field.reach} packed pixels to each side, more than its input of "
            f"{'×'.join(str(axis.tile) for axis in axes)} has room for; tiles overlap by half and are blended."
        )
    return None
