"""Choose the range over which an int8 file rounds each map: what lies outside is cut off, so that the steps are finer.

The range of all values that a map has is rarely the best one: a tanh or an ELU flattens most of what is far out, and a
few highlights stretch the steps of everything else. The best range is that of the least squared error of the output,
to first order: of every value the squared error that rounding and cutting off make, seen behind the map's activation,
times its importance (`map_samples`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float, Integer
from scipy.cluster.hierarchy import DisjointSet

from nas.export.integers.map_samples import MapSamples, answer, judged_at
from nas.train.checkpoint import Arrays
from search_spaces.activations import FUSED
from search_spaces.graph import INPUT, Graph, Node
from search_spaces.ops import (
    Activation,
    Add,
    Concat,
    Conv,
    DepthToSpace,
    DepthwiseConv,
    Multiply,
    Op,
    Pool,
    Resize,
    Subtract,
)
from search_spaces.quantised_maps import STEPS, Range

# Of each side of a range, the shares that are tried: each is five sixths of the one before.
SHARES = tuple((5 / 6) ** number for number in range(20))
_ROUNDS = 2  # each side is chosen with the other one as it then is
_TAKE_AN_ACTIVATION = (Conv, DepthwiseConv, Add, Subtract, Multiply)
_SAME_SCALE = (Concat, DepthToSpace, Pool, Resize)  # answer in the steps of what they read

Array = np.ndarray[Any, Any]


def rounded_maps(graph: Graph) -> tuple[str, ...]:
    """Return the maps that a file has: the input and all nodes' but those that are fused with their activation."""
    return (INPUT, *(node.name for node in graph.nodes if not _is_fused(graph, node)))


def _is_fused(graph: Graph, node: Node) -> bool:
    if not isinstance(node.op, _TAKE_AN_ACTIVATION):
        return False
    readers = [reader.op for reader in graph.readers(node.name)]
    return len(readers) == 1 and isinstance(readers[0], Activation) and readers[0].function in FUSED


def chosen_ranges(graph: Graph, weights: Arrays, samples: MapSamples) -> dict[str, Range]:
    """Return the ranges of those maps of a file that lose less over a narrower range than that of their values."""
    ranges: dict[str, Range] = {}
    for group in _of_one_range(graph):
        whole = _whole(samples, group)
        best = _best(whole, [_Errors.of(graph, weights, samples, name) for name in group])
        if best != whole:
            ranges |= dict.fromkeys(group, best)
    return ranges


def _of_one_range(graph: Graph) -> list[list[str]]:
    names = rounded_maps(graph)
    groups = DisjointSet(names)
    for node in graph.nodes:
        for source in node.inputs if isinstance(node.op, _SAME_SCALE) else ():
            groups.merge(source, node.name)
    return [[name for name in names if name in group] for group in groups.subsets()]


def _whole(samples: MapSamples, group: Sequence[str]) -> Range:
    low = min(float(samples.low[name].min()) for name in group)
    high = max(float(samples.high[name].max()) for name in group)
    return min(low, 0.0), max(high, 0.0)


def _best(whole: Range, maps: Sequence["_Errors"]) -> Range:
    """Return the best range, each side in turn."""

    def error(low: float, high: float) -> float:
        return sum(each.sum_over(low, high) for each in maps)

    low, high = whole
    if low == high:
        return whole
    for _ in range(_ROUNDS):
        low = min((whole[0] * share for share in _shares(whole[0])), key=partial(_swapped, error, high))
        high = min((whole[1] * share for share in _shares(whole[1])), key=partial(error, low))
    return low, high


def _shares(side: float) -> Sequence[float]:
    return SHARES if side else (1.0,)


def _swapped(error: Any, high: float, low: float) -> float:
    return float(error(low, high))


@dataclass(frozen=True)
class _Errors:
    """What rounding one map does to the output."""

    values: Float[Array, "p c"]
    importance: Float[Array, "p c"]
    op: Op | None  # the activation behind which errors show
    parameters: Arrays  # of the activation
    exact: Float[Array, "p c"]  # the values behind it

    @classmethod
    def of(cls, graph: Graph, weights: Arrays, samples: MapSamples, name: str) -> "_Errors":
        values, at = samples.values[name], judged_at(graph, name)
        if at == name:
            return cls(values, samples.importance[name], None, {}, values)
        node = next(node for node in graph.nodes if node.name == at)
        own = {key.removeprefix(f"{at}/"): value for key, value in weights.items() if key.startswith(f"{at}/")}
        return cls(values, samples.importance[name], node.op, own, answer(node.op, own, values))

    def sum_over(self, low: float, high: float) -> float:
        """Return the sum of squared errors of the output where the map is rounded over [low, high], which holds 0."""
        step = (high - low) / STEPS
        if not step:
            return float("inf")
        zero = round(-low / step)
        levels = ((np.arange(STEPS + 1) - zero) * step).astype(np.float32)
        stored: Integer[Array, "p c"] = np.clip(np.rint(self.values / step) + zero, 0, STEPS).astype(np.intp)
        values = levels[stored] if self.op is None else self._table(levels)[stored, np.arange(self.values.shape[1])]
        return float(np.sum(self.importance * (values - self.exact) ** 2))

    def _table(self, levels: Array) -> Float[Array, "levels c"]:
        """Return what the activation makes of each level in each channel."""
        assert self.op is not None
        return answer(self.op, self.parameters, np.repeat(levels[:, None], self.values.shape[1], axis=1))
