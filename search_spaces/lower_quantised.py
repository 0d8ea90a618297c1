"""Lower a graph to JAX as an int8 file computes it: rounded weights and activations, straight-through gradients.

Fake quantisation: numbers stay float32 but take only the 256 values that the file has. Rounding passes gradients on as
if it were not there (the straight-through estimator); ranges are trained along, and what lies outside of one pulls it.
Biases have 32 bits in the file and are not rounded here; what a node computes inside (the variance of an instance
normalisation) is rounded at its end alone.

Source: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", arXiv 1712.05877, section 3; learned ranges: Esser et al. 2020, "Learned Step Size Quantization",
arXiv 1902.08153, and Jain et al. 2019, arXiv 1903.08066.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from search_spaces.graph import Graph, Node
from search_spaces.lower_flax import Parameters, maps
from search_spaces.quantised_maps import STEPS, QuantisedMaps, channel_axis, has_one_scale

WEIGHT_STEPS = 127  # on either side of 0: weights have no zero point
LEAST_RANGE = 1e-9  # of a channel whose weights are all 0


def apply(
    graph: Graph, quantised: QuantisedMaps, parameters: Parameters, x: Float[Array, "n h w 4"]
) -> Float[Array, "n h2 w2 3"]:
    """Run the network on packed RAW in [0, 1] with its weights and maps rounded; the output is not clipped further.

    `parameters` holds the weights and, under the names of `quantised.first_logarithms`, the ranges.
    """
    ranges, before = dict(quantised.maps), dict(quantised.before)

    def rounded(name: str, value: Array) -> Array:
        if name in before:
            low, high = (jnp.array([side], jnp.float32) for side in before[name])
            value = fake_quantised(value, low, high)
        return _in_range(quantised, ranges[name], parameters, value) if name in ranges else value

    at = graph.at((x.shape[0], x.shape[1], x.shape[2], x.shape[3]))
    return maps(at, _rounded_weights(at, parameters), x, rounded)[graph.output]


def _rounded_weights(graph: Graph, parameters: Parameters) -> Parameters:
    names = ((node, name) for node in graph.nodes for name in node.op.parameter_shapes(*graph.input_shapes(node)))
    return {f"{n.name}/{name}": _rounded_weight(n, name, parameters[f"{n.name}/{name}"]) for n, name in names}


def _rounded_weight(node: Node, name: str, value: Array) -> Array:
    axis = channel_axis(node, name)
    if axis is not None:
        return fake_quantised_weight(value, axis)
    return fake_quantised_weight(value, None) if has_one_scale(node, name) else value


def fake_quantised_weight(value: Float[Array, "..."], axis: int | None) -> Float[Array, "..."]:
    """Round a weight to 255 values symmetric around 0, one scale for each channel of `axis` or one for all."""
    others = [number for number in range(value.ndim) if number != axis]
    largest = jnp.max(jnp.abs(value), axis=tuple(others), keepdims=True)
    scale = lax.stop_gradient(jnp.maximum(largest, LEAST_RANGE) / WEIGHT_STEPS)
    return straight_through(value / scale) * scale


def fake_quantised(x: Float[Array, "..."], low: Float[Array, "1"], high: Float[Array, "1"]) -> Float[Array, "..."]:
    """Round a map to the 256 values of [low, high], of which one is 0; low ≤ 0 ≤ high.

    Gradients reach x where it lies inside, and low and high from where it does not, and from the size of the step.
    """
    scale = (high - low) / STEPS
    zero = straight_through(-low / scale)
    stored = jnp.clip(straight_through(x / scale) + zero, 0, STEPS)
    return (stored - zero) * scale


def straight_through(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Round to whole numbers, with the gradient of not rounding. Source: Bengio et al. 2013, arXiv 1308.3432."""
    return x + lax.stop_gradient(jnp.round(x) - x)


def _in_range(quantised: QuantisedMaps, name: str, parameters: Parameters, x: Array) -> Array:
    low, high = (jnp.array([side], jnp.float32) for side in dict(quantised.ranges)[name])
    if name not in quantised.fixed:  # a side that training does not move is 0
        low = -jnp.exp(parameters[f"{name}/low"]) if f"{name}/low" in parameters else low
        high = jnp.exp(parameters[f"{name}/high"]) if f"{name}/high" in parameters else high
    return fake_quantised(x, low, high)


def jit_apply(graph: Graph, quantised: QuantisedMaps) -> Callable[[Parameters, Array], Array]:
    """Return the compiled network, `(parameters, packed RAW) → RGB`, in full float32 but for its roundings."""

    def exactly(parameters: Parameters, x: Array) -> Array:
        with jax.default_matmul_precision("highest"):
            return apply(graph, quantised, parameters, x)

    return jax.jit(exactly)
