"""Rules for the operations of .tflite files, one per TFLite operation.

A rule says what an operation computes and over which taps, which of its inputs are settings, and what is out of
the ordinary in it. `tflite_network` makes kernels of it; an operation without a rule is an error there.
"""

from collections.abc import Callable, Iterator
from math import isqrt, prod
from typing import NamedTuple

from search_spaces.activations import TFLITE_OPS
from search_spaces.errors import DeviceError
from search_spaces.tflite_file import FileNode, FileTensor

Sizes = tuple[int, ...]


class Operation(NamedTuple):
    """One operation of a file with the tensors themselves."""

    node: FileNode
    inputs: tuple[FileTensor | None, ...]  # None where an optional input is left out
    outputs: tuple[FileTensor, ...]

    def option(self, name: str) -> int:
        """Return an option of the operation, 0 where the file has none."""
        return int(self.node.options.get(name, 0))

    def input(self, position: int) -> FileTensor | None:
        """Return the input at `position`; None where it is left out."""
        return self.inputs[position] if position < len(self.inputs) else None

    def sizes(self, position: int, rank: int) -> Sizes:
        """Return the shape of an input; raise DeviceError unless it has `rank` dimensions."""
        shape = self.input(position)
        if shape is None or len(shape.shape) != rank:
            got = "none" if shape is None else list(shape.shape)
            raise DeviceError(
                f'{self.node.op.name} "{self.outputs[0].name}" needs an input {position} of {rank} dimensions, got '
                f"{got}; the file is damaged, convert it again."
            )
        return shape.shape


class OperationWork(NamedTuple):
    """What an operation computes, and over which taps."""

    cls: str
    macs: int = 0
    kernel: int = 1
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    cin: int | None = None  # where it is not the channels of the first input


class Rule(NamedTuple):
    """What is known of a TFLite operation."""

    work: Callable[[Operation], OperationWork]
    settings: tuple[int, ...] = ()  # inputs that say how it works: shapes, axes, paddings; neither maps nor weights
    bias: int | None = None  # the input that is the bias
    traits: Callable[[Operation], Iterator[str]] = lambda _: iter(())


def _moves(_: Operation) -> OperationWork:
    return OperationWork("memory")


def _activates(_: Operation) -> OperationWork:
    return OperationWork("activation")


def _side(taps: int) -> int:
    """Return the side of the smallest square that holds as many taps: 3 for 3×3 and for 1×7."""
    return isqrt(taps - 1) + 1


def _steps(op: Operation) -> tuple[int, int]:
    stride = max(op.option("strideH"), op.option("strideW"), 1)
    return stride, max(op.option("dilationHFactor"), op.option("dilationWFactor"), 1)


def _conv(op: Operation) -> OperationWork:
    cin = op.sizes(0, 4)[3]
    _, height, width, per_group = op.sizes(1, 4)
    taps = height * width
    macs = prod(op.outputs[0].shape) * taps * per_group
    return OperationWork("conv_1x1" if taps == 1 else "conv", macs, _side(taps), *_steps(op), max(cin // per_group, 1))


def _depthwise(op: Operation) -> OperationWork:
    _, height, width, _ = op.sizes(1, 4)
    taps = height * width
    return OperationWork("depthwise", prod(op.outputs[0].shape) * taps, _side(taps), *_steps(op))


def _transpose_conv(op: Operation) -> OperationWork:
    cout, height, width, _ = op.sizes(1, 4)
    taps = height * width
    # Every input value meets every tap of every output channel once.
    return OperationWork("transpose_conv", prod(op.sizes(2, 4)) * taps * cout, _side(taps), *_steps(op))


def _fully_connected(op: Operation) -> OperationWork:
    return _product(op, op.sizes(1, 2)[1])


def _batch_matmul(op: Operation) -> OperationWork:
    left = op.inputs[0]
    return _product(op, left.shape[-2 if op.option("adjX") else -1] if left and len(left.shape) > 1 else 1)


def _product(op: Operation, summed: int) -> OperationWork:
    return OperationWork("fully_connected", prod(op.outputs[0].shape) * summed, cin=summed)


def _pool(op: Operation) -> OperationWork:
    return OperationWork("memory", 0, _side(max(op.option("filterHeight") * op.option("filterWidth"), 1)), *_steps(op))


# The traits of an operation, see delegate.TRAITS.


def _weighted(op: Operation) -> Iterator[str]:
    """Traits of an operation with weights as its second input."""
    data, weights = op.input(2 if op.node.op.name == "TRANSPOSE_CONV" else 0), op.input(1)
    if data is None or weights is None:
        return
    if not weights.is_constant:
        yield "dynamic_weights"
    if data.dtype.startswith("float") and not weights.dtype.startswith("float"):
        yield "hybrid"
    scales = [tensor.scales[0] if tensor.scales else 0.0 for tensor in (data, weights, op.outputs[0])]
    if data.dtype == "uint8" and scales[0] * scales[1] >= scales[2]:
        yield "scale_product"


def _depthwise_traits(op: Operation) -> Iterator[str]:
    yield from _weighted(op)
    if op.sizes(0, 4)[3] != op.outputs[0].shape[-1]:
        yield "depth_multiplier"


def _fully_connected_traits(op: Operation) -> Iterator[str]:
    yield from _weighted(op)
    if op.option("keepNumDims") and len(op.outputs[0].shape) > 2:
        yield "keep_num_dims"


def _pool_traits(op: Operation) -> Iterator[str]:
    work = _pool(op)
    if work.kernel == 1 and work.stride > 1:
        yield "single_pixel_pool"


def _resize_traits(op: Operation) -> Iterator[str]:
    if op.option("alignCorners"):
        yield "align_corners"
    if op.option("halfPixelCenters"):
        yield "half_pixel_centers"


def _reduction_traits(op: Operation) -> Iterator[str]:
    data, made = op.input(0), op.outputs[0]
    if not made.shape:
        yield "scalar"
    if data and data.scales != made.scales:
        yield "rescales"


def _split_traits(op: Operation) -> Iterator[str]:
    if len(op.outputs) > 4:
        yield "many_parts"


def _slice_traits(op: Operation) -> Iterator[str]:
    strides = op.input(3)
    if strides and strides.values and set(strides.values) != {1}:
        yield "strided"
    if op.option("ellipsisMask") or op.option("newAxisMask") or op.option("shrinkAxisMask"):
        yield "masks"


def _crop_traits(op: Operation) -> Iterator[str]:
    crops = op.input(2)
    if crops and any(crops.values or ()):
        yield "crops"


def _pack_traits(op: Operation) -> Iterator[str]:
    if op.option("axis") in (-1, len(op.outputs[0].shape) - 1):
        yield "last_axis"


def _mirror_traits(op: Operation) -> Iterator[str]:
    if op.option("mode") == 1:
        yield "symmetric"


def _softmax_traits(op: Operation) -> Iterator[str]:
    if op.node.options.get("beta", 1.0) != 1.0:
        yield "beta"


ACTIVATIONS = (*TFLITE_OPS.values(), "RELU_N1_TO_1", "RELU_0_TO_1", "GELU", "LOG_SOFTMAX")
# Value by value: each output value comes from the values at the same place.
ELEMENTWISE = (
    *("ADD", "SUB", "MUL", "DIV", "POW", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE", "FLOOR_DIV", "FLOOR_MOD", "ADD_N"),
    *("ABS", "NEG", "SIGN", "EXP", "LOG", "SQRT", "RSQRT", "SQUARE", "SIN", "COS", "FLOOR", "CEIL", "ROUND", "ATAN2"),
    *("LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL", "EQUAL", "NOT_EQUAL", "SELECT", "SELECT_V2"),
    *("LOGICAL_AND", "LOGICAL_OR", "LOGICAL_NOT", "CAST", "QUANTIZE", "DEQUANTIZE", "ZEROS_LIKE"),
)
REDUCTIONS = ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD", "REDUCE_ANY", "REDUCE_ALL")
# What stays within one group of values, or only carries values elsewhere; with the inputs that are settings.
REARRANGING = {
    **dict.fromkeys(("CONCATENATION", "UNPACK", "SQUEEZE", "DEPTH_TO_SPACE", "SPACE_TO_DEPTH"), ()),
    **dict.fromkeys(("L2_NORMALIZATION", "LOCAL_RESPONSE_NORMALIZATION"), ()),
    **dict.fromkeys(("RESHAPE", "EXPAND_DIMS", "TRANSPOSE", "PAD", "TILE", "BROADCAST_TO", "REVERSE_V2"), (1,)),
    **dict.fromkeys(("GATHER", "GATHER_ND", "ARG_MAX", "ARG_MIN", "CUMSUM", "TOPK_V2"), (1,)),
    **dict.fromkeys(("PADV2", "SLICE", "SPLIT_V", "SPACE_TO_BATCH_ND"), (1, 2)),
    **dict.fromkeys(("FILL", "SHAPE"), (0,)),  # SHAPE reads no value of the map
    "RANGE": (0, 1, 2),
    "ONE_HOT": (1, 2, 3),
}
RULES: dict[str, Rule] = {
    "CONV_2D": Rule(_conv, bias=2, traits=_weighted),
    "DEPTHWISE_CONV_2D": Rule(_depthwise, bias=2, traits=_depthwise_traits),
    "TRANSPOSE_CONV": Rule(_transpose_conv, settings=(0,), bias=3, traits=_weighted),
    "FULLY_CONNECTED": Rule(_fully_connected, bias=2, traits=_fully_connected_traits),
    "BATCH_MATMUL": Rule(_batch_matmul),
    **dict.fromkeys(("AVERAGE_POOL_2D", "MAX_POOL_2D", "L2_POOL_2D"), Rule(_pool, traits=_pool_traits)),
    **dict.fromkeys(("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"), Rule(_moves, (1,), traits=_resize_traits)),
    **dict.fromkeys(ACTIVATIONS, Rule(_activates)),
    **dict.fromkeys(ELEMENTWISE, Rule(_moves)),
    **dict.fromkeys(REDUCTIONS, Rule(_moves, (1,), traits=_reduction_traits)),
    **{op: Rule(_moves, settings) for op, settings in REARRANGING.items()},
    "SPLIT": Rule(_moves, (0,), traits=_split_traits),
    "PRELU": Rule(_activates, traits=_weighted),
    "SOFTMAX": Rule(_activates, traits=_softmax_traits),
    "STRIDED_SLICE": Rule(_moves, (1, 2, 3), traits=_slice_traits),
    "BATCH_TO_SPACE_ND": Rule(_moves, (1, 2), traits=_crop_traits),
    "PACK": Rule(_moves, traits=_pack_traits),
    "MIRROR_PAD": Rule(_moves, (1,), traits=_mirror_traits),
}
