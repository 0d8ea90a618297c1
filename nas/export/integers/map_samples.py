"""Look at a network's maps on calibration pictures: what they hold, and what an error in them does to the output.

How much an error in one value of a map matters is the squared change of the output per squared change of the value,
summed over the output. It is found for all maps at once: a vector of random signs v, taken back through the network,
has at every value the product vᵀJ, whose square has ‖J‖² as its mean (the diagonal of JᵀJ; Bekas et al. 2007, "An
estimator for the diagonal of a matrix"). Highlights that the photograph clips are so of no importance, however large
they are in a map.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Float

from nas.train.checkpoint import Arrays
from search_spaces import jax_ops, lower_flax
from search_spaces.graph import Graph, Node
from search_spaces.ops import Activation, Conv, DepthwiseConv, Op, Shape, TransposeConv

LARGEST_SIDE = 128  # of packed RAW: what a gradient keeps of larger pictures may not fit into memory
PROBES = 4  # vectors of random signs for a picture
# Positions kept of a map in one picture, and values of a map in all pictures: the choice of a range reads each of them
# some fifty times. Extremes are rare and decide what a range must hold, so they are kept beside the random positions.
_RANDOM, _EXTREME, _VALUES = 1024, 8, 1 << 18
_SEED = 0

Array = np.ndarray[Any, Any]
Maps = dict[str, Array]


@dataclass(frozen=True)
class MapSamples:
    """What calibration pictures tell of maps, by the names of nodes (and the input), and of kernels."""

    values: Mapping[str, Float[Array, "p c"]]  # at some positions of all pictures
    importance: Mapping[str, Float[Array, "p c"]]  # of errors there, seen behind the map's activation (`judged_at`)
    low: Mapping[str, Float[Array, " c"]]  # the smallest value of each channel anywhere
    high: Mapping[str, Float[Array, " c"]]
    moments: Mapping[str, Float[Array, "g d d"]]  # by kernel, the mean of x·xᵀ for what it multiplies (`_windows`)

    def scaled(self, graph: Graph, scales: Mapping[str, Float[Array, " c"]]) -> "MapSamples":
        """Return what would be seen with the channels of every map times these factors."""
        judged = {name: scales[judged_at(graph, name)] for name in self.values}
        moments = {
            node.name: self.moments[node.name] * _outer(node, scales[node.inputs[0]], self.moments[node.name])
            for node in graph.nodes
            if node.name in self.moments
        }
        return MapSamples(
            {name: value * scales[name] for name, value in self.values.items()},
            {name: value / judged[name] ** 2 for name, value in self.importance.items()},
            {name: value * scales[name] for name, value in self.low.items()},
            {name: value * scales[name] for name, value in self.high.items()},
            moments,
        )


def _outer(node: Node, factors: Float[Array, " c"], moments: Float[Array, "g d d"]) -> Array:
    """Return by what the means of x·xᵀ change where the channels of x have these factors."""
    if isinstance(node.op, DepthwiseConv):
        return factors[:, None, None] ** 2
    each = np.tile(factors, moments.shape[1] // len(factors))
    return np.outer(each, each)[None]


def look_at(graph: Graph, weights: Arrays, inputs: Float[Array, "n h w 4"]) -> MapSamples:
    """Run the network over packed RAW in [0, 1], forwards and back; large pictures count with their middle."""
    inputs = _middle(inputs)
    at = graph.at((1, *inputs.shape[1:]))
    run = _compiled_look(at, tuple(_kept(at, len(inputs)).items()))
    parameters = {name: jnp.asarray(value) for name, value in weights.items()}
    rng = np.random.default_rng(_SEED)
    looks = [_numbers(run(parameters, x[None], *_drawn(at, rng))) for x in inputs]
    return MapSamples(
        _over(looks, "values", np.concatenate),
        _over(looks, "importance", np.concatenate),
        _over(looks, "low", np.minimum.reduce),
        _over(looks, "high", np.maximum.reduce),
        _over(looks, "moments", lambda each: np.asarray(np.mean(each, axis=0))),
    )


def judged_at(graph: Graph, name: str) -> str:
    """Return the map at which an error of this one shows: behind an activation that alone reads it, or itself.

    What a tanh flattens is no error, however far off it is in front of it.
    """
    readers = graph.readers(name)
    is_activated = len(readers) == 1 and isinstance(readers[0].op, Activation)
    return readers[0].name if is_activated else name


def answer(op: Op, parameters: Arrays, values: Float[Array, "p c"]) -> Float[Array, "p c"]:
    """Return what an operation that treats every position alike makes of values."""
    own = {name: jnp.asarray(value) for name, value in parameters.items()}
    made = lower_flax.RULES[type(op)](op, own, jnp.asarray(values[None, None]))
    rows: Array = np.asarray(made)[0, 0]
    return rows


def _middle(inputs: Array) -> Array:
    _, h, w, _ = inputs.shape
    top, left = (2 * (max(0, side - LARGEST_SIDE) // 4) for side in (h, w))
    return inputs[:, top : top + LARGEST_SIDE, left : left + LARGEST_SIDE]


def _numbers(look: Any) -> dict[str, Maps]:
    return {part: {name: np.asarray(value) for name, value in each.items()} for part, each in look.items()}


def _over(looks: list[dict[str, Maps]], part: str, join: Callable[[list[Array]], Any]) -> Maps:
    return {name: join([look[part][name] for look in looks]) for name in looks[0][part]}


def _kept(graph: Graph, pictures: int) -> dict[str, int]:
    """Return how many random positions of each map are kept of one picture."""
    return {name: max(1, min(h * w, _RANDOM, _VALUES // (pictures * c))) for name, (_, h, w, c) in graph.shapes.items()}


def _drawn(graph: Graph, rng: np.random.Generator) -> tuple[Array, dict[tuple[int, int], Array]]:
    """Return random signs [probes, 1, h, w, 3], and random positions for each size of a map."""
    signs = rng.choice(np.array([-1, 1], np.float32), (PROBES, *graph.output_shape))
    sizes = {(h, w) for _, h, w, _ in graph.shapes.values()}
    return signs, {(h, w): rng.permutation(h * w)[:_RANDOM].astype(np.int32) for h, w in sorted(sizes)}


@lru_cache(maxsize=4)
def _compiled_look(graph: Graph, saved: tuple[tuple[str, int], ...]) -> Callable[..., Any]:
    """Return `_look` of a network, compiled once however often it is looked at: with its own weights, with others."""
    return jax.jit(partial(_look, graph, dict(saved)))


def _look(
    graph: Graph, saved: Mapping[str, int], parameters: Any, x: Any, signs: Any, positions: Mapping[Any, Any]
) -> dict[str, dict[str, Any]]:
    maps, importance = _maps_and_importance(graph, parameters, x, signs)
    samples: dict[str, dict[str, Any]] = {"values": {}, "importance": {}, "low": {}, "high": {}, "moments": {}}
    for name, each in maps.items():
        rows, matter = each.reshape(-1, each.shape[-1]), importance[judged_at(graph, name)]
        at, weights = _sampled(rows, positions[each.shape[1:3]][: saved[name]])
        samples["values"][name] = rows[at]
        samples["importance"][name] = matter.reshape(rows.shape)[at] * weights[:, None]
        samples["low"][name], samples["high"][name] = rows.min(0), rows.max(0)
    for node in graph.nodes:
        windows = _windows(node.op, maps[node.inputs[0]], graph.shapes[node.name], parameters, node, positions)
        if windows is not None:
            samples["moments"][node.name] = jnp.einsum("pgi,pgj->gij", windows, windows) / len(windows)
    return samples


def _maps_and_importance(graph: Graph, parameters: Any, x: Any, signs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    def visible(errors: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        maps = lower_flax.maps(graph, parameters, x, lambda name, value: value + errors[name])
        return jnp.clip(maps[graph.output], 0, 1), maps

    none = {name: jnp.zeros(shape) for name, shape in graph.shapes.items()}
    _, back, maps = jax.vjp(visible, none, has_aux=True)

    def add(total: dict[str, Any], probe: Any) -> tuple[dict[str, Any], None]:
        (gradients,) = back(probe)
        return {name: value + gradients[name] ** 2 / len(signs) for name, value in total.items()}, None

    importance, _ = lax.scan(add, none, signs)
    return maps, importance


def _sampled(rows: Any, random: Any) -> tuple[Any, Any]:
    """Return random positions and those of the largest values, each with the number of positions it stands for."""
    extreme = min(_EXTREME, len(rows))
    _, largest = lax.top_k(jnp.abs(rows).max(1), extreme)
    standing_for = jnp.full(len(random), len(rows) / len(random))
    return jnp.concatenate([random, largest]), jnp.concatenate([standing_for, jnp.ones(extreme)])


def _windows(op: Op, x: Any, made: Shape, parameters: Any, node: Node, positions: Mapping[Any, Any]) -> Any:
    """Return what a kernel multiplies at random positions, [p, g, d]: g matrices with d rows; None without a kernel."""
    if isinstance(op, TransposeConv):  # each tap multiplies one pixel
        return x.reshape(-1, 1, x.shape[-1])[positions[x.shape[1:3]]]
    if not isinstance(op, Conv | DepthwiseConv):
        return None
    stride, dilation = getattr(op, "stride", 1), getattr(op, "dilation", 1)
    size = parameters[f"{node.name}/kernel"].shape[0]
    h, w = made[1:3]
    spread = (size - 1) * dilation + 1  # what the taps of a kernel reach over
    sides = [jax_ops.same_padding(length, spread, stride)[1:] for length in x.shape[1:3]]
    padded = jnp.pad(x[0], [*sides, (0, 0)])
    at = positions[h, w]
    rows, columns = at // w * stride, at % w * stride
    taps = [padded[rows + i * dilation, columns + j * dilation] for i in range(size) for j in range(size)]
    windows = jnp.stack(taps, axis=1)  # [p, taps, c]
    return windows.reshape(len(at), 1, -1) if isinstance(op, Conv) else windows.transpose(0, 2, 1)
