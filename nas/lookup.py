"""What a function makes of whole numbers, looked up instead of computed.

A file of integers takes and gives few different numbers: 65,536 counts in, 256 values out. What scaling, rounding and
clipping make of each is computed once; a picture of millions of them then takes one pass instead of eight.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

# Rows looked up at a time: indices and results stay in the processor's cache.
ROWS = 64


def look_up(table: Array, gain: float, offset: float) -> Callable[[Array], Array]:
    """Return what finds whole numbers in a table, which is about rint(gain · number + offset), clipped.

    Where it is that to the last number, and nothing in it is clipped, computing it is faster than looking it up: 0.7
    against 1.6 ms for the mosaic of Full HD on an AMD EPYC.
    """

    def line(numbers: Array) -> Array:
        x = np.multiply(numbers, np.float32(gain))
        x += np.float32(offset)
        return np.rint(x, out=x)

    if np.array_equal(line(np.arange(len(table), dtype=np.uint16)), table):
        return lambda numbers: line(numbers).astype(table.dtype)
    return lambda numbers: np.take(table, numbers, mode="clip")  # nothing is out of bounds, and this does not look


def byte_table(function: Callable[[Array], Array], dtype: str) -> Array:
    """Return what a function makes of every value of an 8-bit type, one by one, ordered by the byte that it is."""
    values = np.arange(2**8, dtype=np.uint8).view(dtype)
    # The function is for pictures [h, w, 3].
    return np.ascontiguousarray(function(np.repeat(values, 3).reshape(-1, 1, 3))[:, 0, 0])


def look_up_bytes(stored: Array, table: Array) -> Array:
    """Return what the table has for every value of 8 bits of a picture [h, w, 3] of even width.

    Two at a time, in a table of all pairs: half the time (2.6 against 4.9 ms for Full HD on an AMD EPYC).
    """
    height, width, channels = stored.shape
    pairs = np.arange(2**16, dtype=np.uint16).view(np.uint8).reshape(-1, 2)
    wide = np.dtype(f"u{2 * table.itemsize}")
    table_of_pairs = np.ascontiguousarray(table[pairs]).view(wide)[:, 0]
    made = np.empty((height, width, channels), table.dtype)
    places = made.reshape(height, -1).view(wide)
    for first in range(0, height, ROWS):
        part = np.ascontiguousarray(stored[first : first + ROWS]).reshape(-1, width * channels).view(np.uint16)
        np.take(table_of_pairs, part, out=places[first : first + ROWS], mode="clip")  # no index is out of bounds
    return made
