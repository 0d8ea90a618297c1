"""Lower a graph to Flax for training.

One rule per operation, chosen by its type. The parameters are a flat dict `<node>/<parameter>` → array, the
same that `lower_tf` reads, so nothing is renamed or transposed on the way to a phone.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from search_spaces import jax_ops
from search_spaces.activations import ENTRIES, function_of
from search_spaces.errors import UnknownNameError
from search_spaces.graph import INPUT, Graph, Node
from search_spaces.initialisers import INITIALISERS
from search_spaces.ops import (
    Activation,
    Add,
    Affine,
    Concat,
    Conv,
    DepthToSpace,
    DepthwiseConv,
    GlobalMean,
    InstanceNorm,
    Multiply,
    Op,
    Pool,
    Resize,
    Scale,
    Subtract,
    TransposeConv,
)

Map = Float[Array, "n _ _ _"]  # only the batch is the same for everything that an operation reads and makes
Parameters = dict[str, Array]

ACTIVATION_FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    name: function_of(entry.jax, entry.jax_options) for name, entry in ENTRIES.items() if entry.jax
}

# He et al. 2015 (arXiv 1502.01852): fan-in scaling for rectified units, and 0.25 as PReLU's first slope.
_PRELU_START = 0.25
# RAW is dark and never negative, so a rectified unit whose kernel happens to sum below zero is off everywhere and
# gets no gradient. With biases of zero CSANet stayed 14 dB behind after 150 steps from two seeds of six, with 0.05
# from none.
_BIAS_START = 0.05
_START = {"alpha": _PRELU_START, "bias": _BIAS_START, "gamma": 1.0, "beta": 0.0, "factor": 1.0}
# Where a kernel keeps its input channels: HWIO, HW1C and HWOI.
_INPUT_AXIS: dict[type[Op], int] = {Conv: 2, DepthwiseConv: 2, TransposeConv: 3}


class GraphModule(nn.Module):
    """The Flax module that computes a graph; parameters carry the graph's own names.

    They start from `seed`, not from the key that Flax hands around: see `initial_value`.
    """

    graph: Graph
    seed: int = 0

    @nn.compact
    def __call__(self, x: Float[Array, "n h w 4"]) -> Float[Array, "n h2 w2 3"]:
        """Return RGB, nominally in [0, 1], for packed RAW in [0, 1]."""
        maps: dict[str, Array] = {INPUT: x}
        for node in self.graph.nodes:
            inputs = [maps[name] for name in node.inputs]
            maps[node.name] = jax_ops.materialize(RULES[type(node.op)](node.op, self._parameters(node), *inputs))
        return maps[self.graph.output]

    def _parameters(self, node: Node) -> Parameters:
        shapes = node.op.parameter_shapes(*self.graph.input_shapes(node))
        return {name: self._parameter(node, name, shape) for name, shape in shapes.items()}

    def _parameter(self, node: Node, name: str, shape: tuple[int, ...]) -> Array:
        place = f"{node.name}/{name}"
        # `param` works out the shape of a first value even where there is a value: a fifth of tracing a network.
        if self.has_variable("params", place):
            given: Array = self.get_variable("params", place)
            if given.shape == shape:
                return given
        value: Array = self.param(place, partial(_first_value, node, name, self.seed), shape)
        return value


def _first_value(node: Node, name: str, seed: int, _: Array, shape: tuple[int, ...]) -> Array:
    return jnp.asarray(initial_value(node, name, shape, seed=seed))


def initial_value(
    node: Node, name: str, shape: tuple[int, ...], *, seed: int, initialiser: str = "he"
) -> Float[np.ndarray, "..."]:
    """Return the first value of one parameter: normal kernels, small positive biases, PReLU slopes of 0.25.

    Drawn by NumPy from the seed and the parameter's own name: layers of one name and shape start alike in all
    networks, on every backend, and nothing is compiled to draw them.
    """
    if name != "kernel":
        return np.full(shape, _START[name], np.float32)
    rng = np.random.default_rng([seed, *f"{node.name}/{name}".encode()])
    value: np.ndarray[Any, Any] = rng.standard_normal(shape) * np.sqrt(_variance(node, shape, initialiser))
    return value.astype(np.float32)


def _variance(node: Node, shape: tuple[int, ...], initialiser: str) -> float:
    if initialiser not in INITIALISERS:
        raise UnknownNameError("initialiser", initialiser, INITIALISERS)
    fan_in = shape[0] * shape[1] * shape[_INPUT_AXIS[type(node.op)]]
    if initialiser == "he":
        return 2 / fan_in
    # Each channel of a depthwise convolution makes one channel, whatever the shape of its kernel says.
    made = 1 if isinstance(node.op, DepthwiseConv) else shape[2] * shape[3] // shape[_INPUT_AXIS[type(node.op)]]
    return 2 / (fan_in + shape[0] * shape[1] * made)


def init_parameters(
    graph: Graph, seed: int, *, output_level: float = 0.5, initialiser: str = "he"
) -> dict[str, Float[np.ndarray, "..."]]:
    """Return fresh parameters; `initialiser` is "he" or "xavier".

    The last bias starts so that an untrained network puts out `output_level` (mid-grey): short rungs then
    compare architectures instead of how soon each found the mean, and a last ReLU does not start dead.
    """
    parameters = {
        f"{node.name}/{name}": initial_value(node, name, shape, seed=seed, initialiser=initialiser)
        for node in graph.nodes
        for name, shape in node.op.parameter_shapes(*graph.input_shapes(node)).items()
    }
    name, level = _output_bias(graph, output_level)
    if name:
        parameters[name].fill(level)
    return parameters


def _output_bias(graph: Graph, level: float) -> tuple[str | None, float]:
    """Return the bias that sets the output's level, and its value: the one behind shuffles, activations and sums."""
    nodes = {node.name: node for node in graph.nodes}
    name = graph.output
    while name in nodes and isinstance(nodes[name].op, DepthToSpace | Resize | Activation | Affine | Add):
        level = _before(nodes[name].op, level)
        name = nodes[name].inputs[0]
    key = f"{name}/bias"
    return (key if key in graph.parameter_shapes else None), level


def _before(op: Op, level: float) -> float:
    """Return which input makes `op` put out `level`."""
    if isinstance(op, Affine):
        return (level - op.offset) / op.scale
    if isinstance(op, Activation) and op.function == "sigmoid":
        return math.log(level / (1 - level))
    if isinstance(op, Activation) and op.function == "tanh":
        return math.atanh(level)
    return level


def apply(graph: Graph, parameters: Parameters, x: Float[Array, "n h w 4"]) -> Float[Array, "n h2 w2 3"]:
    """Run the network on packed RAW in [0, 1]; the output is not clipped."""
    n, h, w, c = x.shape
    y: Array = GraphModule(graph.at((n, h, w, c))).apply({"params": parameters}, x)  # type: ignore[assignment]
    return y


def maps(
    graph: Graph, parameters: Parameters, x: Float[Array, "n h w 4"], each: Callable[[str, Array], Array]
) -> dict[str, Array]:
    """Return every map by its node's name, the input included, as `each` made it of the name and the map."""
    values = {INPUT: each(INPUT, x)}
    for node in graph.nodes:
        names = node.op.parameter_shapes(*graph.input_shapes(node))
        own = {name: parameters[f"{node.name}/{name}"] for name in names}
        made = RULES[type(node.op)](node.op, own, *(values[name] for name in node.inputs))
        values[node.name] = each(node.name, made)
    return values


def _conv(op: Op, p: Parameters, x: Map) -> Map:
    assert isinstance(op, Conv)
    return jax_ops.add_channels(jax_ops.conv(x, p["kernel"], stride=op.stride), p["bias"])


def _depthwise_conv(op: Op, p: Parameters, x: Map) -> Map:
    assert isinstance(op, DepthwiseConv)
    y = jax_ops.depthwise_conv(x, p["kernel"], dilation=op.dilation)
    return jax_ops.add_channels(y, p["bias"]) if op.use_bias else y


def _transpose_conv(op: Op, p: Parameters, x: Map) -> Map:
    assert isinstance(op, TransposeConv)
    y = jax_ops.transpose_conv(x, p["kernel"], stride=op.stride)
    return jax_ops.add_channels(y, p["bias"]) if op.use_bias else y


def _depth_to_space(op: Op, _: Parameters, x: Map) -> Map:
    assert isinstance(op, DepthToSpace)
    n, h, w, c = x.shape
    b = op.block
    x = x.reshape(n, h, w, b, b, c // b**2).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(n, h * b, w * b, c // b**2)


def _activation(op: Op, p: Parameters, x: Map) -> Map:
    assert isinstance(op, Activation)
    if op.function == "prelu":
        return jnp.maximum(x, 0) + jax_ops.scale_channels(jnp.minimum(x, 0), p["alpha"])
    return ACTIVATION_FUNCTIONS[op.function](x)


def _add(_: Op, __: Parameters, a: Map, b: Map) -> Map:
    return a + b


def _multiply(_: Op, __: Parameters, a: Map, b: Map) -> Map:
    return a * b if a.shape == b.shape else jax_ops.gate(a, b)


def _concat(_: Op, __: Parameters, *inputs: Map) -> Map:
    return jnp.concatenate(inputs, axis=3)


def _global_mean(_: Op, __: Parameters, x: Map) -> Map:
    return jax_ops.map_mean(x.astype(jnp.float32)).astype(x.dtype)


def _pool(op: Op, _: Parameters, x: Map) -> Map:
    assert isinstance(op, Pool)
    return jax_ops.pool(x, function=op.function)


def _resize(_: Op, __: Parameters, x: Map) -> Map:
    return jax_ops.enlarge(x)


def _affine(op: Op, _: Parameters, x: Map) -> Map:
    assert isinstance(op, Affine)
    return op.scale * x + op.offset


def _scale(_: Op, p: Parameters, x: Map) -> Map:
    return jax_ops.scale_channels(x, jnp.broadcast_to(p["factor"], x.shape[3:]))


def _instance_norm(op: Op, p: Parameters, x: Map) -> Map:
    assert isinstance(op, InstanceNorm)
    # Where training is in half precision, a mean over a map is not.
    full, gamma, beta = (value.astype(jnp.float32) for value in (x, p["gamma"], p["beta"]))
    return jax_ops.instance_norm(full, gamma, beta, op.epsilon).astype(x.dtype)


def _subtract(_: Op, __: Parameters, a: Map, b: Map) -> Map:
    return a - b


RULES: dict[type[Op], Callable[..., Any]] = {
    Conv: _conv,
    DepthwiseConv: _depthwise_conv,
    TransposeConv: _transpose_conv,
    DepthToSpace: _depth_to_space,
    Activation: _activation,
    Affine: _affine,
    Scale: _scale,
    InstanceNorm: _instance_norm,
    Pool: _pool,
    Resize: _resize,
    Add: _add,
    Subtract: _subtract,
    Multiply: _multiply,
    Concat: _concat,
    GlobalMean: _global_mean,
}


def jit_apply(graph: Graph) -> Callable[[Parameters, Array], Array]:
    """Return the compiled network, `(parameters, packed RAW) → RGB`, in full float32.

    GPUs and TPUs otherwise round the factors of float32 products, which training does not mind and a comparison does.
    """

    def exactly(parameters: Parameters, x: Array) -> Array:
        with jax.default_matmul_precision("highest"):
            return apply(graph, parameters, x)

    return jax.jit(exactly)
