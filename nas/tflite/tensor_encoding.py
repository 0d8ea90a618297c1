"""Encoding of a file's tensors: real values, or integers that stand for them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

FLOATS = ("float32", "float16")
INTEGERS = ("uint8", "int8", "int16")


@dataclass(frozen=True)
class TensorEncoding:
    """How a file takes or gives numbers: value = (stored − zero_point) · scale; plainly where the scale is 0."""

    dtype: str
    scale: float
    zero_point: int

    @classmethod
    def of(cls, detail: Mapping[str, Any]) -> "TensorEncoding":
        """Read what the interpreter tells of a tensor of one scale."""
        scale, zero_point = detail["quantization"]
        return cls(np.dtype(detail["dtype"]).name, float(scale), int(zero_point))

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
        """Turn real values into what the file stores: rounded, and clipped to what its type holds."""
        if not self.scale:
            return np.ascontiguousarray(x, self.dtype)
        bounds = np.iinfo(self.dtype)
        steps = np.rint(x / np.float32(self.scale)) + self.zero_point
        whole: Array = np.clip(steps, bounds.min, bounds.max).astype(self.dtype)
        return whole

    def decode(self, y: Array) -> Array:
        """Turn what the file stores into real values, float32; no copy where they are that already."""
        if not self.scale:
            return y.astype(np.float32, copy=False)
        real: Array = (y.astype(np.float32) - np.float32(self.zero_point)) * np.float32(self.scale)
        return real
