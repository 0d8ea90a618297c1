"""Verify that the parts of a .tflite file fit together, before anything relies on its numbers or a runtime gets it.

The schema's reader goes wherever offsets lead, and LiteRT's kernels take ranks, strides and buffers as the file says
them; a mutated file has ended the whole process by a signal. What is checked here holds for every file of a converter:
counts that fit into the file, indices that lead to something, shapes and their constants' bytes, and the options that
kernels divide by.
"""

from collections.abc import Iterator
from math import isfinite, prod
from typing import Any

# A value of a vector takes at least so many bytes, and vectors are shared at most so often: a file of a few kilobytes
# cannot hold a million operations.
MOST_VALUES_PER_BYTE = 16
MOST_RANK = 8
MOST_ELEMENTS = 2**31 - 1
# Bytes of a value; two of 4 bits share one. Others have no fixed size.
_ITEM_BITS = {
    "FLOAT32": 32, "FLOAT16": 16, "FLOAT64": 64, "BFLOAT16": 16, "INT4": 4, "UINT4": 4, "INT8": 8, "UINT8": 8,
    "INT16": 16, "UINT16": 16, "INT32": 32, "UINT32": 32, "INT64": 64, "UINT64": 64, "BOOL": 8, "COMPLEX64": 64,
    "COMPLEX128": 128,
}  # fmt: skip
_RANKS: dict[str, dict[int, int]] = {
    "CONV_2D": {0: 4, 1: 4, 2: 1},
    "DEPTHWISE_CONV_2D": {0: 4, 1: 4, 2: 1},
    "TRANSPOSE_CONV": {0: 1, 1: 4, 2: 4, 3: 1},
    "AVERAGE_POOL_2D": {0: 4},
    "MAX_POOL_2D": {0: 4},
    "L2_POOL_2D": {0: 4},
    "DEPTH_TO_SPACE": {0: 4},
    "SPACE_TO_DEPTH": {0: 4},
    "RESIZE_BILINEAR": {0: 4, 1: 1},
    "RESIZE_NEAREST_NEIGHBOR": {0: 4, 1: 1},
    "FULLY_CONNECTED": {1: 2},
}
_FEWEST_INPUTS = {
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "PAD", "MIRROR_PAD", "PRELU"), 2),
    **dict.fromkeys(("ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", "POW", "SQUARED_DIFFERENCE"), 2),
    **dict.fromkeys(("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "MEAN", "SUM", "TRANSPOSE", "SPLIT", "GATHER"), 2),
    **dict.fromkeys(("REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD", "BATCH_MATMUL", "EXPAND_DIMS", "TILE"), 2),
    **dict.fromkeys(("TRANSPOSE_CONV", "SLICE", "PADV2", "SPLIT_V", "SELECT", "SELECT_V2"), 3),
    "STRIDED_SLICE": 4,
}
# Options that count something, which must be 1 or more where the operation has them.
_POSITIVE = ("strideH", "strideW", "dilationHFactor", "dilationWFactor", "filterHeight", "filterWidth", "blockSize")
_OPTIONS = {
    "CONV_2D": "Conv2D", "DEPTHWISE_CONV_2D": "DepthwiseConv2D", "TRANSPOSE_CONV": "TransposeConv",
    "AVERAGE_POOL_2D": "Pool2D", "MAX_POOL_2D": "Pool2D", "L2_POOL_2D": "Pool2D", "DEPTH_TO_SPACE": "DepthToSpace",
    "SPACE_TO_DEPTH": "SpaceToDepth", "CONCATENATION": "Concatenation", "RESIZE_BILINEAR": "ResizeBilinear",
    "RESIZE_NEAREST_NEIGHBOR": "ResizeNearestNeighbor", "FULLY_CONNECTED": "FullyConnected", "PACK": "Pack",
    "SPLIT": "Split", "STRIDED_SLICE": "StridedSlice", "MEAN": "Reducer", "SUM": "Reducer", "REDUCE_MAX": "Reducer",
    "REDUCE_MIN": "Reducer", "SOFTMAX": "Softmax", "MIRROR_PAD": "MirrorPad",
}  # fmt: skip
_NO_PARTS: tuple[Any, ...] = ()


def counts_fit(root: Any, size: int) -> bool:
    """Tell whether a file of `size` bytes can hold as many values as its vectors claim, without reading them."""
    total = 0
    for values in _counts(root):
        total += values
        if total > size * MOST_VALUES_PER_BYTE:
            return False
    return True


def _counts(root: Any) -> Iterator[int]:
    yield root.OperatorCodesLength()
    yield root.BuffersLength()
    yield root.SubgraphsLength()
    for number in range(root.SubgraphsLength()):
        graph = root.Subgraphs(number)
        yield graph.TensorsLength()
        yield graph.OperatorsLength()
        for index in range(graph.TensorsLength()):
            tensor = graph.Tensors(index)
            yield tensor.ShapeLength() + tensor.ShapeSignatureLength()
            if tensor.Quantization() is not None:
                yield tensor.Quantization().ScaleLength() + tensor.Quantization().ZeroPointLength()
        for index in range(graph.OperatorsLength()):
            op = graph.Operators(index)
            yield op.InputsLength() + op.OutputsLength() + op.CustomOptionsLength()


def require_sound(model: Any, schema: Any) -> None:
    """Raise ValueError, saying what does not fit, unless the parts of a file as the schema's reader took it fit."""
    types = {number: name for name, number in vars(schema.TensorType).items() if isinstance(number, int)}
    operators = {number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}
    for graph in _listed(model.subgraphs):
        _require(
            graph is not None and bool(_listed(graph.tensors) or not _listed(graph.operators)), "an empty subgraph"
        )
        for tensor in _listed(graph.tensors):
            _require_tensor(model, tensor, types)
        count = len(_listed(graph.tensors))
        for ends in (graph.inputs, graph.outputs):
            _require(all(0 <= index < count for index in _listed(ends)), "an input or output that is no tensor")
        for op in _listed(graph.operators):
            _require(0 <= op.opcodeIndex < len(_listed(model.operatorCodes)), "an operation of no kind")
            code = model.operatorCodes[op.opcodeIndex]
            name = operators.get(max(code.builtinCode, code.deprecatedBuiltinCode), "")
            _require_operation(graph, op, name)


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)


def _listed(vector: Any) -> Any:
    return _NO_PARTS if vector is None else vector  # the schema's reader gives None for an empty vector


def _require_tensor(model: Any, tensor: Any, types: dict[int, str]) -> None:
    name = (tensor.name or b"").decode(errors="replace")
    shape, signature = list(_listed(tensor.shape)), list(_listed(tensor.shapeSignature))
    _require(tensor.type in types, f'tensor "{name}" of no known type')
    _require(0 <= tensor.buffer < len(_listed(model.buffers)), f'tensor "{name}" of a buffer that is not there')
    _require(len(shape) <= MOST_RANK and prod(map(int, shape)) <= MOST_ELEMENTS, f'tensor "{name}" of a size too large')
    _require(min(shape, default=0) >= -1, f'tensor "{name}" of a negative size')
    fits = not signature or (
        len(signature) == len(shape) and all(a in (-1, b) for a, b in zip(signature, shape, strict=True))
    )
    _require(fits, f'tensor "{name}" whose open sizes are not those of its shape')
    data = model.buffers[tensor.buffer].data
    bits = _ITEM_BITS.get(types[tensor.type])
    if data is not None and len(data) and bits and tensor.sparsity is None:
        _require(min(shape, default=1) >= 0, f'constant "{name}" of an open size')
        needed = (prod(map(int, shape)) * bits + 7) // 8
        _require(len(data) == needed, f'constant "{name}" of {len(data)} bytes where its shape needs {needed}')
    _require_quantization(tensor, name, shape)


def _require_quantization(tensor: Any, name: str, shape: list[int]) -> None:
    quantization = tensor.quantization
    scales, zero_points = (
        () if quantization is None else _listed(each)
        for each in ((quantization and quantization.scale), (quantization and quantization.zeroPoint))
    )
    if not len(scales):
        return
    _require(all(isfinite(scale) and scale >= 0 for scale in scales), f'tensor "{name}" of a scale that is no number')
    _require(len(zero_points) in (0, 1, len(scales)), f'tensor "{name}" of as many zero points as not scales')
    if len(scales) > 1:
        axis = quantization.quantizedDimension
        known = 0 <= axis < len(shape) and shape[axis] == len(scales)
        _require(known, f'tensor "{name}" of {len(scales)} scales, which is not the size of any axis it names')


def _require_operation(graph: Any, op: Any, name: str) -> None:
    inputs, outputs, count = list(_listed(op.inputs)), list(_listed(op.outputs)), len(_listed(graph.tensors))
    _require(all(-1 <= index < count for index in inputs), f"a {name} that reads no tensor of the file")
    _require(all(0 <= index < count for index in outputs), f"a {name} that makes no tensor of the file")
    fewest = _FEWEST_INPUTS.get(name, 0)
    _require(len(inputs) >= fewest, f"a {name} of {len(inputs)} inputs, which needs {fewest}")
    _require(bool(outputs) or name not in _RANKS, f"a {name} that makes nothing")
    for position, rank in _RANKS.get(name, {}).items():
        if position < len(inputs) and inputs[position] >= 0:
            shape = list(_listed(graph.tensors[inputs[position]].shape))
            _require(len(shape) == rank, f"a {name} whose input {position} has {len(shape)} dimensions, not {rank}")
            _require(position == 0 or 0 not in shape, f"a {name} whose input {position} is empty")
        else:
            _require(position >= fewest, f"a {name} without its input {position}")
    _require_options(op, name)
    _require_channels(graph, inputs, outputs, name)


def _require_options(op: Any, name: str) -> None:
    options = op.builtinOptions
    needed, given = _OPTIONS.get(name), type(options).__name__
    _require(needed is None or given == f"{needed}OptionsT", f"a {name} without the options that it needs")
    for option in _POSITIVE:
        value = getattr(options, option, 1)
        _require(1 <= value <= MOST_ELEMENTS, f"a {name} whose {option} is {value}")
    padding = getattr(options, "padding", 0)
    _require(padding in (0, 1), f"a {name} of padding {padding}")


def _require_channels(graph: Any, inputs: list[int], outputs: list[int], name: str) -> None:
    """Channels that read and written maps must share; kernels trust the file for them."""

    def shape(index: int) -> list[int]:
        return [int(size) for size in _listed(graph.tensors[index].shape)]

    if name == "CONV_2D":
        (cin, (cout, _, _, per_group)) = (shape(inputs[0])[3], shape(inputs[1]))
        _require(cin < 0 or cin % per_group == 0, f"a {name} of {cin} channels with weights for {per_group}")
        _require_bias(shape, inputs, 2, cout, name)
    elif name == "DEPTHWISE_CONV_2D":
        (cin, cout) = (shape(inputs[0])[3], shape(inputs[1])[3])
        _require(cin < 1 or cout % cin == 0, f"a {name} of {cin} channels with weights for {cout}")
        _require_bias(shape, inputs, 2, cout, name)
    elif name == "TRANSPOSE_CONV":
        (cin, wanted) = (shape(inputs[2])[3], shape(inputs[1])[3])
        _require(cin in (-1, wanted), f"a {name} of {cin} channels with weights for {wanted}")
        _require_bias(shape, inputs, 3, shape(inputs[1])[0], name)
    if name in _RANKS and name != "FULLY_CONNECTED":
        made = shape(outputs[0])
        _require(len(made) in (0, 4), f"a {name} that makes a map of {len(made)} dimensions")


def _require_bias(shape: Any, inputs: list[int], position: int, cout: int, name: str) -> None:
    if len(inputs) > position and inputs[position] >= 0:
        bias_shape = shape(inputs[position])
        _require(bias_shape == [cout], f"a {name} of {cout} channels with a bias of {bias_shape}")
