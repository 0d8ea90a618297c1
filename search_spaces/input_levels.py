"""Fold the sensor's levels into a network, so that it reads raw counts instead of values in [0, 1].

A phone then feeds its mosaic as it is. Dividing by a number is exact in the weights of the first convolutions.
Subtracting a black level is not: their zero padding stands for black before it and for counts of 0 behind, which is
wrong at the border, so it stays an operation of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil, log2
from typing import Any

import numpy as np

from search_spaces.graph import INPUT, Graph, Node
from search_spaces.ops import Activation, Affine, Conv, DepthwiseConv, TransposeConv

LEVELS_NODE = "levels"
_LINEAR = (Conv, DepthwiseConv, TransposeConv)

Weights = Mapping[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class InputLevels:
    """Which counts are 0 and 1 to the network."""

    black: float = 0.0
    white: float = 1.0

    @property
    def span(self) -> float:
        """The counts between black and white."""
        return self.white - self.black

    @property
    def is_normalized(self) -> bool:
        """Whether counts are what the network reads anyway."""
        return (self.black, self.white) == (0.0, 1.0)

    def counts(self, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return values in [0, 1] as counts, float32."""
        return np.asarray(x, np.float32) * np.float32(self.span) + np.float32(self.black)

    def values(self, counts: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return counts as values, black 0 and white 1, float32."""
        return (np.asarray(counts, np.float32) - np.float32(self.black)) / np.float32(self.span)


def fold_raw_levels(
    graph: Graph, weights: Weights, levels: InputLevels, *, fold: bool
) -> tuple[Graph, dict[str, np.ndarray[Any, Any]]]:
    """Return the network and its weights for an input of counts.

    With `fold` the weights of the first convolutions take the whole division. Where a file may be run in half precision
    they must not: divided by 16383 they are below its smallest normal number, which many accelerators take for zero
    (15 dB lost by a trained Smallnet, 0.3 dB already at 10 bits). Then the input is multiplied by a power of two, which
    is exact, and the weights take the factor that is left, nearly 1.
    """
    if levels.is_normalized:
        return graph, dict(weights)
    readers = graph.readers(INPUT)
    if not all(isinstance(node.op, _LINEAR) for node in readers):
        return _behind(graph, 1 / levels.span, levels.black), dict(weights)
    first = 1.0 if fold else 2.0 ** -ceil(log2(levels.span))
    kernels = {f"{node.name}/kernel" for node in readers}
    factor = np.float32(1 / (levels.span * first))
    scaled = {name: value * factor if name in kernels else value for name, value in weights.items()}
    return (graph if fold and not levels.black else _behind(graph, first, levels.black)), scaled


def _behind(graph: Graph, scale: float, black: float) -> Graph:
    """Return the network behind (x − black) · scale."""
    levels = [Node(LEVELS_NODE, Affine(scale, -black * scale), (INPUT,))]
    if not black:  # a bare factor would be folded into the weights by the converter; no count is below 0
        levels.append(Node(f"{LEVELS_NODE}.relu", Activation("relu"), (LEVELS_NODE,)))
    last = levels[-1].name
    nodes = (
        replace(node, inputs=tuple(last if name == INPUT else name for name in node.inputs)) for node in graph.nodes
    )
    return Graph(graph.input_shape, (*levels, *nodes))
