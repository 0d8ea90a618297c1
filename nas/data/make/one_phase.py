"""Bring mosaics to one Bayer phase and one black level; where that is not asked for, no value changes."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from nas.data.camera_raw import Mosaic

PLACES = ((0, 0), (0, 1), (1, 0), (1, 1))


def phase_offset(pattern: str, wanted: str) -> tuple[int, int]:
    """Return the first row and column, 0 or 1, at which a mosaic of a pattern has the wanted one."""
    return next(
        (row, column)
        for row, column in PLACES
        if all(wanted[2 * r + c] == pattern[2 * ((r + row) % 2) + (c + column) % 2] for r, c in PLACES)
    )


def in_phase(mosaic: Mosaic, wanted: str) -> tuple[Mosaic, tuple[int, int]]:
    """Crop a mosaic to a phase and to whole tiles; return where in the old one it begins, too. A view."""
    row, column = phase_offset(mosaic.pattern, wanted)
    height, width = ((side - start) // 2 * 2 for side, start in zip(mosaic.values.shape, (row, column), strict=True))
    black = tuple(mosaic.black[2 * ((r + row) % 2) + (c + column) % 2] for r, c in PLACES)
    values = mosaic.values[row : row + height, column : column + width]
    return replace(mosaic, values=values, pattern=wanted, black=black), (row, column)


def without_black(mosaic: Mosaic) -> Mosaic:
    """Subtract the black level of each place; what was below becomes 0, and white is as far above as before."""
    values = mosaic.values.copy()
    white = mosaic.white - max(map(round, mosaic.black))
    for (row, column), level in zip(PLACES, mosaic.black, strict=True):
        place = values[row::2, column::2]
        np.subtract(np.maximum(place, round(level)), np.uint16(round(level)), out=place)
    return replace(mosaic, values=np.minimum(values, np.uint16(white)), black=(0.0,) * 4, white=white)


def with_levels(mosaic: Mosaic, black: int | Sequence[float] | None, white: int | None) -> Mosaic:
    """Replace levels that the user knows better than the file; a sequence is of the tile's places, row by row."""
    levels = mosaic.black if black is None else (black,) * 4 if isinstance(black, int) else black
    return replace(mosaic, black=tuple(map(float, levels)), white=mosaic.white if white is None else float(white))
