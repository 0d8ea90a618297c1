"""Graph + parameters → TensorFlow function → TFLite bytes.

The only place that imports TensorFlow. Each operation is written so that the converter makes one known
TFLite operation of it; `tests/test_lower_tf.py` holds that op list for every operation.
"""

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from search_spaces.quiet import quiet

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before the import: the runtime reads it once
with quiet():
    import tensorflow as tf

from search_spaces.graph import INPUT, Graph, Node
from search_spaces.ops import (
    LEAKY_SLOPE,
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
from search_spaces.tflite_file import separate_transpose_conv_activations

Weights = Mapping[str, np.ndarray[Any, Any]]


def run(graph: Graph, weights: Weights, x: Any) -> Any:
    """Compute the network with TensorFlow, eagerly or while being traced; `x` is [n, h, w, 4] in [0, 1]."""
    maps = {INPUT: x}
    for node in graph.nodes:
        inputs = [maps[name] for name in node.inputs]
        maps[node.name] = RULES[type(node.op)](node.op, _parameters(node, weights), *inputs)
    return maps[graph.output]


def predict(graph: Graph, weights: Weights, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return TensorFlow's own answer for a batch [n, h, w, 4], float32."""
    return np.asarray(run(graph, weights, tf.constant(x, tf.float32)))


def to_tflite(graph: Graph, weights: Weights) -> bytes:
    """Return a float32 .tflite file of fixed shapes: `graph.input_shape` in, `graph.output_shape` out."""
    signature = tf.TensorSpec(graph.input_shape, tf.float32, name="raw")

    @tf.function(input_signature=[signature], autograph=False)  # type: ignore[untyped-decorator]  # TF has no types
    def network(raw: Any) -> Any:
        return {"rgb": run(graph, weights, raw)}

    module = tf.Module()
    module.network = network
    converter = tf.lite.TFLiteConverter.from_concrete_functions([network.get_concrete_function()], module)
    with quiet():
        content = bytes(converter.convert())
    return separate_transpose_conv_activations(content)


def _parameters(node: Node, weights: Weights) -> dict[str, Any]:
    prefix = f"{node.name}/"
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def _conv(op: Op, p: Weights, x: Any) -> Any:
    assert isinstance(op, Conv)
    return tf.nn.bias_add(tf.nn.conv2d(x, p["kernel"], op.stride, "SAME"), p["bias"])


def _depthwise_conv(op: Op, p: Weights, x: Any) -> Any:
    assert isinstance(op, DepthwiseConv)
    kernel = np.transpose(p["kernel"], (0, 1, 3, 2))  # HW1C → TensorFlow's HWC1
    y = tf.nn.depthwise_conv2d(x, kernel, (1, 1, 1, 1), "SAME", dilations=(op.dilation, op.dilation))
    return tf.nn.bias_add(y, p["bias"]) if op.use_bias else y


def _transpose_conv(op: Op, p: Weights, x: Any) -> Any:
    assert isinstance(op, TransposeConv)
    shape = op.output_shape(tuple(x.shape))
    y = tf.nn.conv2d_transpose(x, p["kernel"], shape, op.stride, "SAME")
    return tf.nn.bias_add(y, p["bias"]) if op.use_bias else y


def _depth_to_space(op: Op, _: Weights, x: Any) -> Any:
    assert isinstance(op, DepthToSpace)
    return tf.nn.depth_to_space(x, op.block)


def _prelu(p: Weights, x: Any) -> Any:
    # Only this form, with a constant of shape [1, 1, c], becomes one PRELU in the file.
    negative_slope = tf.constant(-np.asarray(p["alpha"])[None, None])
    return tf.nn.relu(x) + negative_slope * tf.nn.relu(-x)


def _hard_swish(x: Any) -> Any:
    # The converter knows this form as HARD_SWISH.
    return x * tf.nn.relu6(x + 3.0) * (1.0 / 6.0)


ACTIVATION_FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "relu": tf.nn.relu,
    "relu6": tf.nn.relu6,
    "leaky_relu": lambda x: tf.nn.leaky_relu(x, LEAKY_SLOPE),
    "tanh": tf.nn.tanh,
    "sigmoid": tf.nn.sigmoid,
    "elu": tf.nn.elu,
    "hard_swish": _hard_swish,
}


def _activation(op: Op, p: Weights, x: Any) -> Any:
    assert isinstance(op, Activation)
    return _prelu(p, x) if op.function == "prelu" else ACTIVATION_FUNCTIONS[op.function](x)


def _add(_: Op, __: Weights, a: Any, b: Any) -> Any:
    return a + b


def _multiply(_: Op, __: Weights, a: Any, b: Any) -> Any:
    return a * b


def _concat(_: Op, __: Weights, *inputs: Any) -> Any:
    return tf.concat(inputs, axis=3)


def _global_mean(_: Op, __: Weights, x: Any) -> Any:
    return tf.reduce_mean(x, axis=(1, 2), keepdims=True)


def _pool(op: Op, _: Weights, x: Any) -> Any:
    assert isinstance(op, Pool)
    compute = tf.nn.max_pool2d if op.function == "max" else tf.nn.avg_pool2d
    return compute(x, 2, 2, "VALID")


def _resize(op: Op, _: Weights, x: Any) -> Any:
    assert isinstance(op, Resize)
    return tf.image.resize(x, op.output_shape(tuple(x.shape))[1:3])


def _affine(op: Op, _: Weights, x: Any) -> Any:
    assert isinstance(op, Affine)
    # One offset per channel: of a single number the converter makes a transposed convolution's bias as it is, and a
    # runtime then reads beyond it.
    return x * np.float32(op.scale) + np.full(x.shape[-1], op.offset, np.float32)


def _scale(_: Op, p: Weights, x: Any) -> Any:
    return x * np.asarray(p["factor"])


def _instance_norm(op: Op, p: Weights, x: Any) -> Any:
    assert isinstance(op, InstanceNorm)
    centred = x - _exact_mean(x)
    variance = _exact_mean(centred * centred)  # not SQUARED_DIFFERENCE, which is an extension to MediaTek's delegate
    return centred * (p["gamma"] * tf.math.rsqrt(variance + np.float32(op.epsilon))) + p["beta"]


def _exact_mean(x: Any) -> Any:
    """Return the mean over the map, rows first.

    LiteRT's MEAN adds up in one float32: over 544×960 pixels instance normalisation is then off by 1.4e-4, this way
    by 1.8e-6 (measured against TensorFlow, 8 channels).
    """
    return tf.reduce_mean(tf.reduce_mean(x, axis=2, keepdims=True), axis=1, keepdims=True)


def _subtract(_: Op, __: Weights, a: Any, b: Any) -> Any:
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
