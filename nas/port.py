"""What are the numbers of a file's input or output? Real values, or whole numbers that stand for them."""

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

FLOATS = ("float32", "float16")
INTEGERS = ("uint8", "int8", "int16")


@dataclass(frozen=True)
class Port:
    """What the numbers of a file's input or output are."""

    dtype: str
    scale: float  # of one step; 1 for floating point
    zero_point: int

    @property
    def is_whole(self) -> bool:
        """Whether it stores whole numbers."""
        return self.dtype in INTEGERS

    @property
    def is_of_bytes(self) -> bool:
        """Whether it stores numbers of 8 bits."""
        return self.is_whole and np.dtype(self.dtype).itemsize == 1

    @property
    def largest(self) -> float | None:
        """The largest value that it can hold; None of floating point, which has room for everything here."""
        if not self.is_whole:
            return None
        return float((np.iinfo(self.dtype).max - self.zero_point) * self.scale)

    def encode(self, x: Array) -> Array:
        """Turn real values into what the file reads; what its integers cannot hold is clipped."""
        if self.dtype in FLOATS:
            return np.ascontiguousarray(x, self.dtype)
        bounds = np.iinfo(self.dtype)
        steps = np.rint(x / np.float32(self.scale)) + self.zero_point
        whole: Array = np.clip(steps, bounds.min, bounds.max).astype(self.dtype)
        return whole

    def decode(self, y: Array) -> Array:
        """Turn what the file writes into real values, float32; no copy where they are that already."""
        if self.dtype in FLOATS:
            return y.astype(np.float32, copy=False)
        real: Array = (y.astype(np.float32) - np.float32(self.zero_point)) * np.float32(self.scale)
        return real
