"""The arrays of a network as a few long vectors, so that a training step changes all of them at once.

Arrays changed one by one are as many small loops to compile and to start as there are arrays, times what a step keeps
of each: of a network of sixteen channels these were half of the step's compiling. Arrays of one vector are changed by
one rule.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from types import ModuleType
from typing import Any

Shape = tuple[int, ...]


@dataclass(frozen=True)
class VectorLayout:
    """Which arrays follow each other in each vector."""

    shapes: Mapping[str, Mapping[str, Shape]]  # by vector and array; no vector is empty

    def joined(self, arrays: Mapping[str, Any], numpy: ModuleType) -> dict[str, Any]:
        """Return the vectors; `numpy` is the module that the arrays belong to, NumPy or JAX's."""
        return {vector: self.join(vector, arrays, numpy) for vector in self.shapes}

    def join(self, vector: str, arrays: Mapping[str, Any], numpy: ModuleType) -> Any:
        """Return one of the vectors."""
        return numpy.concatenate([numpy.ravel(arrays[name]) for name in self.shapes[vector]])

    def split(self, vectors: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arrays of all vectors that are given, by name."""
        return {name: array for vector, values in vectors.items() for name, array in self._arrays(vector, values)}

    def _arrays(self, vector: str, values: Any) -> Iterator[tuple[str, Any]]:
        begin = 0
        for name, shape in self.shapes[vector].items():
            end = begin + prod(shape)
            yield name, values[begin:end].reshape(shape)
            begin = end

    @property
    def sizes(self) -> dict[str, int]:
        """The number of values of each vector."""
        return {vector: sum(map(prod, within.values())) for vector, within in self.shapes.items()}
