"""Lower a graph with its parameters to a TensorFlow function and .tflite bytes, in each of four precisions.

The only place that imports TensorFlow. Each operation is written so that the converter makes one known
TFLite operation of it; `tests/search_spaces/test_lower_tf.py` holds that op list for every operation. Where the
converter has no integer form of that operation, others with the same answer are written.
"""

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np

from search_spaces.system.native_stderr import quiet
from search_spaces.system.printable import printable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before the import: the runtime reads it once
with quiet():
    import tensorflow as tf
    from tensorflow.lite.python.convert_phase import ConverterError

from search_spaces.activations import ENTRIES, function_of
from search_spaces.errors import ExportError
from search_spaces.file_ranges import with_ranges
from search_spaces.graph import INPUT, Graph, Node
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
from search_spaces.precision import Precision, find_precision, unconvertible
from search_spaces.tflite_file import separate_transpose_conv_activations
from search_spaces.tflite_names import named_after_nodes

Array = np.ndarray[Any, Any]
Weights = Mapping[str, Array]
Rules = Mapping[type[Op], Callable[..., Any]]


def run(graph: Graph, weights: Weights, x: Any) -> Any:
    """Compute the network with TensorFlow, eagerly or while being traced; `x` is [n, h, w, 4] in [0, 1]."""
    return _maps(graph, weights, x, RULES)[graph.output]


def predict(graph: Graph, weights: Weights, x: Array) -> Array:
    """Return TensorFlow's own answer for a batch [n, h, w, 4], float32."""
    return np.asarray(run(graph, weights, tf.constant(x, tf.float32)))


def predict_maps(graph: Graph, weights: Weights, x: Array, *, half: bool = False) -> dict[str, Array]:
    """Return every map by its node's name, the input included, for a batch [n, h, w, 4], float32.

    With `half`, weights and maps are rounded to half precision, as a phone may hold them.
    """
    with quiet():  # of half precision TensorFlow says what it thinks
        if half:
            weights = {name: _halved(value) for name, value in weights.items()}
        each = _halved if half else _as_it_is
        maps = _maps(graph, weights, tf.constant(x, tf.float32), RULES, each=each, keep=True)
        return {name: np.asarray(value) for name, value in maps.items()}


def _halved(x: Any) -> Any:
    return tf.cast(tf.cast(x, tf.float16), tf.float32)


def _as_it_is(x: Any) -> Any:
    return x


def to_tflite(
    graph: Graph,
    weights: Weights,
    *,
    precision: str = "fp32",
    io: str | None = None,
    calibration: Iterable[Array] = (),
    ranges: Mapping[str, tuple[float, float]] | None = None,
) -> bytes:
    """Return a .tflite file of fixed shapes: `graph.input_shape` in, `graph.output_shape` out.

    Inputs of `calibration`, each [1, h, w, 4], are what int8 and int16 take their ranges from; in int8, `ranges` are
    those of the nodes that it names. `io` is the type of input and output, else the precision's own. Maps of other
    precisions than fp32 are called as their nodes are.

    Raises ExportError where the converter has no form of an operation in that precision.
    """
    wanted = find_precision(precision)
    _require_convertible(graph, precision)
    converter = _converter(graph, weights, wanted)
    io_type = getattr(tf, io or wanted.io_types[0])
    inputs = list(calibration)
    if wanted.is_calibrated:
        converter.representative_dataset = lambda: _one_by_one(inputs)
        converter.inference_input_type = converter.inference_output_type = io_type
    names = [node.name for node in graph.nodes]
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what TensorFlow says of its own attributes is nothing that a user could mend
        if precision == "int8":
            converter._experimental_calibrate_only = True
            map_range = map_ranges(graph, weights, inputs) | dict(ranges or {})
            content = _quantised(with_ranges(_converted(converter), map_range, names), io_type)
        else:
            content = _converted(converter)
    content = separate_transpose_conv_activations(content)
    # The names of fp32, and so its size, stay as the converter makes them.
    return content if precision == "fp32" else named_after_nodes(content, names)


def _converted(converter: Any) -> bytes:
    try:
        return bytes(converter.convert())
    except ConverterError as error:
        why = next(iter(str(error).splitlines()), "no reason given")
        raise ExportError(
            f"TensorFlow's converter failed ({printable(why)[:300]}); it works in the folder of temporary files, which "
            "must have room and be readable."
        ) from None


def map_ranges(graph: Graph, weights: Weights, inputs: Iterable[Array]) -> dict[str, tuple[float, float]]:
    """Return the smallest and largest value of every node's map, and of the input, over inputs of [1, h, w, 4].

    The converter's own calibration has them, too, but not always right: LiteRT adds in place, so what it writes down
    for the sum's first term is joined with the sum's own range (twice too wide behind CSANet's blocks, measured).
    """

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]  # TF has no types
    def ends(x: Any) -> Any:
        maps = _maps(graph, weights, x, RULES, keep=True)
        return {name: tf.stack([tf.reduce_min(each), tf.reduce_max(each)]) for name, each in maps.items()}

    ranges: dict[str, tuple[float, float]] = {}
    for x in inputs:
        for name, pair in ends(tf.constant(x, tf.float32)).items():
            low, high = map(float, np.asarray(pair))
            before = ranges.get(name, (low, high))
            ranges[name] = (min(low, before[0]), max(high, before[1]))
    return ranges


def _quantised(calibrated: bytes, io_type: Any) -> bytes:
    """Return the int8 file of a float32 file whose maps carry ranges."""
    from tensorflow.lite.python.convert import mlir_quantize

    return bytes(mlir_quantize(calibrated, input_data_type=io_type, output_data_type=io_type))


def _require_convertible(graph: Graph, precision: str) -> None:
    refused = unconvertible(graph, precision)
    if refused:
        raise ExportError(f"{'; '.join(refused)}; choose another precision, or a network without it.")


def _converter(graph: Graph, weights: Weights, precision: Precision) -> Any:
    if precision.name == "int16":
        weights = _with_distinct_biases(weights)
    rules = {"int8": INT8_RULES, "int16": INT16_RULES}.get(precision.name, RULES)
    signature = tf.TensorSpec(graph.input_shape, tf.float32, name="raw")

    @tf.function(input_signature=[signature], autograph=False)  # type: ignore[untyped-decorator]  # TF has no types
    def network(raw: Any) -> Any:
        return {"rgb": _maps(graph, weights, raw, rules, named=precision.name != "fp32")[graph.output]}

    module = tf.Module()
    module.network = network
    converter = tf.lite.TFLiteConverter.from_concrete_functions([network.get_concrete_function()], module)
    _SETTINGS[precision.name](converter)
    return converter


def _with_distinct_biases(weights: Weights) -> dict[str, Array]:
    """Return weights of which no two biases are equal, by as little as float32 can tell.

    The converter keeps equal constants once and, in int16, with one scale: that of the layer that it meets first. The
    others then read a wrong bias (off by a tenth of the range in a network with fresh weights).
    """
    result, seen = dict(weights), set[bytes]()
    for name in (name for name in weights if name.endswith("/bias")):
        while result[name].tobytes() in seen:
            result[name] = np.nextafter(result[name], np.float32(np.inf))
        seen.add(result[name].tobytes())
    return result


def _ask_fp16(converter: Any) -> None:
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]
    # Says in the file that maps may be float16 and sums may be, too: XNNPACK then computes so on processors that can.
    converter.target_spec._experimental_supported_accumulation_type = tf.float16


def _ask_integers(name: str) -> Callable[[Any], None]:
    def ask(converter: Any) -> None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_ops = [getattr(tf.lite.OpsSet, name)]

    return ask


_SETTINGS: dict[str, Callable[[Any], None]] = {
    "fp32": lambda _: None,
    "fp16": _ask_fp16,
    "int8": _ask_integers("TFLITE_BUILTINS_INT8"),
    "int16": _ask_integers("EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8"),
}


def _one_by_one(calibration: Iterable[Array]) -> Iterator[list[Array]]:
    return ([np.asarray(x, np.float32)] for x in calibration)


def _maps(
    graph: Graph,
    weights: Weights,
    x: Any,
    rules: Rules,
    *,
    named: bool = False,
    each: Callable[[Any], Any] = _as_it_is,
    keep: bool = False,
) -> dict[str, Any]:
    """Compute the output, and with `keep` return every map beside it: at Full HD all of them take gigabytes.

    `named` calls TensorFlow's operations after their nodes, `each` is done to every map.
    """
    last_reader = {name: node.name for node in graph.nodes for name in node.inputs}
    maps = {INPUT: each(x)}
    for node in graph.nodes:
        inputs = [maps[name] for name in node.inputs]
        with tf.name_scope(node.name) if named else nullcontext():
            maps[node.name] = each(rules[type(node.op)](node.op, _parameters(node, weights), *inputs))
        for name in () if keep else dict.fromkeys(node.inputs):
            if last_reader[name] == node.name:
                del maps[name]
    return maps


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
    name: function_of(entry.tensorflow, entry.tensorflow_options) for name, entry in ENTRIES.items() if entry.tensorflow
} | {"hard_swish": _hard_swish}


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


RULES: Rules = {
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


# What integers have no form of, in operations that they have.


def _one_hot_transpose_conv(op: Op, _: Weights, x: Any) -> Any:
    """Shuffle pixels by a transposed convolution that copies: each tap takes one channel.

    The kernel holds zeros and ones, which 8 bits hold exactly, so the only error is the one that rounding the map has
    anyway.
    """
    assert isinstance(op, DepthToSpace)
    shape = op.output_shape(tuple(x.shape))
    taps, channels = op.block**2, shape[3]
    # Channel (i·block + j)·c + k becomes pixel (i, j) of channel k: HWOI.
    kernel = np.eye(taps * channels, dtype=np.float32).reshape(op.block, op.block, channels, taps * channels)
    return tf.nn.conv2d_transpose(x, kernel, shape, op.block, "SAME")


def _two_step_mean(_: Op, __: Weights, x: Any) -> Any:
    return _exact_mean(x)  # LiteRT's one sum of 16-bit values over a large map leaves 32 bits


def _linear_prelu(p: Weights, x: Any) -> Any:
    slope = np.asarray(p["alpha"])
    return x * slope + tf.nn.relu(x) * (1 - slope)


def _relu_elu(x: Any) -> Any:
    negative = tf.nn.relu(x * -1.0) * -1.0  # not a minimum: for its sake the converter would give x the range below 0
    return tf.nn.relu(x) + (tf.exp(negative) - 1.0)


def _reordered_hard_swish(x: Any) -> Any:
    return (x * (1.0 / 6.0)) * tf.nn.relu6(x + 3.0)  # a form that the converter does not know as HARD_SWISH


def _int8_activation(op: Op, p: Weights, x: Any) -> Any:
    assert isinstance(op, Activation)
    return _relu_elu(x) if op.function == "elu" else _activation(op, p, x)


def _int16_activation(op: Op, p: Weights, x: Any) -> Any:
    assert isinstance(op, Activation)
    if op.function == "prelu":
        return _linear_prelu(p, x)
    return _reordered_hard_swish(x) if op.function == "hard_swish" else _int8_activation(op, p, x)


# ELU would stay in float32 in the midst of an int8 file.
INT8_RULES: Rules = {**RULES, Activation: _int8_activation}
INT16_RULES: Rules = {
    **RULES,
    DepthToSpace: _one_hot_transpose_conv,
    GlobalMean: _two_step_mean,
    Activation: _int16_activation,
}
