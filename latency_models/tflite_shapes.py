"""Infer the tensor sizes of a .tflite file that leaves sizes open.

A file for any picture (`[1, ?, ?, 4]`) has a runtime only at a size. From the input's the others follow, one rule
per operation; where an operation computes a size from other sizes (SHAPE, slice, multiply, PACK: how converters write
an enlargement by two) its numbers are worked out as well. Knows the operations of our own networks and what
surrounds them; a file with others has to be converted with fixed shapes.
"""

import operator
from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import NamedTuple

from latency_models.tflite_rules import Sizes
from search_spaces.errors import DeviceError
from search_spaces.tflite_file import FileGraph, FileNode, FileTensor

Values = tuple[int, ...]
_VALID = 1  # the padding that adds nothing; 0 is SAME


_CONVERT = "convert the network with fixed shapes"


class UnknownSizeError(DeviceError):
    """A size that cannot be worked out here, because of an operation or because it depends on the picture."""

    def __init__(self, condition: str) -> None:
        super().__init__(f"{condition}; {_CONVERT}.")
        self.condition = condition


class Sized(NamedTuple):
    """An operation whose inputs have sizes."""

    node: FileNode
    shapes: tuple[Sizes, ...]
    values: tuple[Values | None, ...]  # of inputs whose numbers are known: constants, and what follows from sizes

    def option(self, name: str, default: int = 0) -> int:
        """Return an option of the operation."""
        return int(self.node.options.get(name, default))

    def known(self, position: int) -> Values:
        """Return the numbers of an input; raise UnknownSizeError where they depend on the picture."""
        value = self.values[position] if position < len(self.values) else None
        if value is None:
            raise UnknownSizeError(f"{self.node.op.name} takes a size that depends on the picture")
        return value


def with_input_shape(graph: FileGraph, input_shape: Sizes | None, *, folded: bool = False) -> FileGraph:
    """Return `graph` with every size known: as the file fixes them, or as they follow from the first input's shape.

    Where it is `folded`, what works out sizes from sizes is a constant, as in a file converted with fixed shapes.
    Raises DeviceError where sizes are open and no shape is given and where it does not fit what the file fixes,
    UnknownSizeError for an operation without a rule.
    """
    if input_shape is not None:
        _check(graph, input_shape)
    graph = _one_picture(graph)
    used = {index for node in graph.nodes for index in (*node.inputs, *node.outputs) if index >= 0}
    if not any(map(_is_open, (graph.tensors[index] for index in used))):
        return graph
    first = graph.tensors[graph.inputs[0]] if graph.inputs else None
    shape_given = input_shape or (first.shape if first and not _is_open(first) else None)
    if shape_given is None:
        raise DeviceError(
            f"The file leaves sizes open ({_inputs(graph)}); {_CONVERT}, or say at which input shape it is to run, "
            "where a command takes that (`isp-nas latency predict --input-shape`, or --size for a photograph)."
        )
    return _sized(graph, shape_given, folded=folded)


def _one_picture(graph: FileGraph) -> FileGraph:
    """Return the graph with a batch of one where an input leaves its batch open, and nothing else."""
    tensors = list(graph.tensors)
    for index in graph.inputs:
        shape = tensors[index].shape
        if len(shape) > 1 and shape[0] < 0 and min(shape[1:]) >= 0:
            tensors[index] = replace(tensors[index], shape=(1, *shape[1:]))
    return replace(graph, tensors=tuple(tensors))


def _check(graph: FileGraph, sizes: Sizes) -> None:
    taken = [graph.tensors[index] for index in graph.inputs]
    first = taken[0].shape if taken else None
    fits = first is not None and len(first) == len(sizes) and all(map(_agree, first, sizes))
    if not fits or min(sizes, default=1) < 1 or any(map(_is_open, taken[1:])):
        raise DeviceError(f"The file takes {_inputs(graph)}, not {list(sizes)}; give a shape that fits.")


def _is_open(tensor: FileTensor) -> bool:
    return min(tensor.shape, default=0) < 0


def _agree(fixed: int, side: int) -> bool:
    return fixed in (-1, side)


def _inputs(graph: FileGraph) -> str:
    return " and ".join(map(_input_text, (graph.tensors[index] for index in graph.inputs))) or "no input"


def _input_text(tensor: FileTensor) -> str:
    return f'input "{tensor.name}" [{", ".join("?" if size < 0 else str(size) for size in tensor.shape)}]'


def _sized(graph: FileGraph, input_shape: Sizes, *, folded: bool) -> FileGraph:
    shapes = [tensor.shape for tensor in graph.tensors]
    values = [tensor.values for tensor in graph.tensors]
    shapes[graph.inputs[0]] = input_shape
    for node in graph.nodes:
        there = [index for index in node.inputs if index >= 0]
        op = Sized(node, tuple([shapes[index] for index in there]), tuple([values[index] for index in there]))
        for index in node.outputs:
            shapes[index], values[index] = _made(op, shapes[index])
    known = {index for node in graph.nodes for index in node.outputs if values[index] is not None} if folded else set()
    sized = [
        replace(tensor, shape=shape, is_constant=tensor.is_constant or index in known)
        for index, (tensor, shape) in enumerate(zip(graph.tensors, shapes, strict=True))
    ]
    nodes = [node for node in graph.nodes if not known.issuperset(node.outputs)] if known else graph.nodes
    return replace(graph, tensors=tuple(sized), nodes=tuple(nodes))


def _made(op: Sized, stored: Sizes) -> tuple[Sizes, Values | None]:
    """Return the shape of what an operation makes, by its rule or as the file fixes it, and its numbers if known."""
    name = op.node.op.name
    if name not in SHAPES:
        if stored and stored[0] < 0 <= min(stored[1:], default=0) and op.shapes and op.shapes[0][:1] == (1,):
            return (1, *stored[1:]), None  # of one picture, whose other sizes the file fixes
        if min(stored, default=0) < 0:
            raise UnknownSizeError(f"{name} makes maps whose sizes cannot be worked out here")
        return stored, None
    try:
        return SHAPES[name](op), _computed(op)
    except (IndexError, ValueError, ZeroDivisionError):
        raise DeviceError(f"{name} does not fit maps of {list(map(list, op.shapes))}; {_CONVERT}.") from None


def _same(op: Sized) -> Sizes:
    return op.shapes[0]


def _broadcast(op: Sized) -> Sizes:
    rank = max(map(len, op.shapes))
    padded = [(1,) * (rank - len(shape)) + shape for shape in op.shapes]
    return tuple([max(sizes) for sizes in zip(*padded, strict=True)])


def _windows(op: Sized, height: int, width: int) -> tuple[int, int]:
    """Return how many windows of a size fit into the first input, down and across."""
    _, h, w, _ = op.shapes[0]
    down, across = op.option("strideH", 1), op.option("strideW", 1)
    if op.option("padding") == _VALID:
        h -= (height - 1) * op.option("dilationHFactor", 1)
        w -= (width - 1) * op.option("dilationWFactor", 1)
    return -(-h // down), -(-w // across)


def _conv(op: Sized) -> Sizes:
    cout, height, width, _ = op.shapes[1]
    return (op.shapes[0][0], *_windows(op, height, width), cout)


def _depthwise(op: Sized) -> Sizes:
    _, height, width, cout = op.shapes[1]
    return (op.shapes[0][0], *_windows(op, height, width), cout)


def _pool(op: Sized) -> Sizes:
    batch, _, _, channels = op.shapes[0]
    return (batch, *_windows(op, op.option("filterHeight"), op.option("filterWidth")), channels)


def _resize(op: Sized) -> Sizes:
    batch, _, _, channels = op.shapes[0]
    height, width = op.known(1)
    return (batch, height, width, channels)


def _depth_to_space(op: Sized) -> Sizes:
    batch, height, width, channels = op.shapes[0]
    block = op.option("blockSize")
    return (batch, height * block, width * block, channels // block**2)


def _space_to_depth(op: Sized) -> Sizes:
    batch, height, width, channels = op.shapes[0]
    block = op.option("blockSize")
    return (batch, height // block, width // block, channels * block**2)


def _concatenation(op: Sized) -> Sizes:
    axis = op.option("axis") % len(op.shapes[0])
    return (*op.shapes[0][:axis], sum([shape[axis] for shape in op.shapes]), *op.shapes[0][axis + 1 :])


def _reduction(op: Sized) -> Sizes:
    shape = op.shapes[0]
    axes = {axis % len(shape) for axis in op.known(1)}
    if op.option("keepDims"):
        return tuple([1 if axis in axes else size for axis, size in enumerate(shape)])
    return tuple([size for axis, size in enumerate(shape) if axis not in axes])


def _pad(op: Sized) -> Sizes:
    around = op.known(1)
    return tuple(map(sum, zip(op.shapes[0], around[::2], around[1::2], strict=True)))


def _reshape(op: Sized) -> Sizes:
    target = op.known(1)
    return tuple([size if size >= 0 else prod(op.shapes[0]) // -prod(target) for size in target])


def _transpose(op: Sized) -> Sizes:
    return tuple([op.shapes[0][axis] for axis in op.known(1)])


def _slice(op: Sized) -> Sizes:
    sized = zip(op.shapes[0], op.known(1), op.known(2), strict=True)
    return tuple([whole - begin if size < 0 else size for whole, begin, size in sized])


def _strided_slice(op: Sized) -> Sizes:
    if op.option("ellipsisMask") or op.option("newAxisMask") or len(op.known(1)) != len(op.shapes[0]):
        raise UnknownSizeError("STRIDED_SLICE leaves out or adds dimensions")
    cut = [range(size)[_cut(op, axis)] for axis, size in enumerate(op.shapes[0])]
    return tuple([len(part) for axis, part in enumerate(cut) if not op.option("shrinkAxisMask") >> axis & 1])


def _cut(op: Sized, axis: int) -> slice:
    """Return which part of an axis a STRIDED_SLICE takes."""
    begin, end, stride = (op.known(position)[axis] for position in (1, 2, 3))
    if op.option("shrinkAxisMask") >> axis & 1:
        return slice(begin, begin + 1 or None)
    is_open = [op.option(mask) >> axis & 1 for mask in ("beginMask", "endMask")]
    return slice(None if is_open[0] else begin, None if is_open[1] else end, stride)


def _pack(op: Sized) -> Sizes:
    axis = op.option("axis") % (len(op.shapes[0]) + 1)
    return (*op.shapes[0][:axis], len(op.shapes), *op.shapes[0][axis:])


def _expand_dims(op: Sized) -> Sizes:
    (axis,) = op.known(1)
    axis %= len(op.shapes[0]) + 1
    return (*op.shapes[0][:axis], 1, *op.shapes[0][axis:])


def _squeeze(op: Sized) -> Sizes:
    shape, dimensions = op.shapes[0], op.node.options.get("squeezeDims")
    axes = {int(axis) % len(shape) for axis in (() if dimensions is None else dimensions)}
    return tuple([size for axis, size in enumerate(shape) if (axis not in axes if axes else size != 1)])


def _gather(op: Sized) -> Sizes:
    data, chosen = op.shapes[0], op.shapes[1]
    axis, shared = op.option("axis") % len(data), op.option("batchDims")
    return (*data[:axis], *chosen[shared:], *data[axis + 1 :])


def _fully_connected(op: Sized) -> Sizes:
    shape, (made, summed) = op.shapes[0], op.shapes[1]
    return (*shape[:-1], made) if op.option("keepNumDims") else (prod(shape) // summed, made)


def _batch_matmul(op: Sized) -> Sizes:
    left, right = op.shapes[:2]
    rows, columns = left[-1 if op.option("adjX") else -2], right[-2 if op.option("adjY") else -1]
    outer = _broadcast(op._replace(shapes=(left[:-2], right[:-2])))
    return (*outer, rows, columns)


def _arg(op: Sized) -> Sizes:
    (axis,) = op.known(1)
    return tuple([size for n, size in enumerate(op.shapes[0]) if n != axis % len(op.shapes[0])])


def _split(op: Sized) -> Sizes:
    (axis,), shape = op.known(0), list(op.shapes[1])
    shape[axis % len(shape)] //= op.option("numSplits", 1)
    return tuple(shape)


def _unpack(op: Sized) -> Sizes:
    axis = op.option("axis") % len(op.shapes[0])
    return (*op.shapes[0][:axis], *op.shapes[0][axis + 1 :])


def _tile(op: Sized) -> Sizes:
    return tuple([size * times for size, times in zip(op.shapes[0], op.known(1), strict=True)])


POINTWISE = (
    *("RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "LEAKY_RELU", "PRELU", "ELU", "HARD_SWISH", "LOGISTIC", "TANH"),
    *("GELU", "SOFTMAX", "ABS", "NEG", "EXP", "LOG", "SQRT", "RSQRT", "SQUARE", "CAST", "QUANTIZE", "DEQUANTIZE"),
    *("SIGN", "SIN", "COS", "FLOOR", "CEIL", "ROUND", "LOGICAL_NOT", "ZEROS_LIKE", "LOG_SOFTMAX", "L2_NORMALIZATION"),
    *("LOCAL_RESPONSE_NORMALIZATION", "CUMSUM", "REVERSE_V2", "ADD_N"),
)
BROADCASTING = (
    *("ADD", "SUB", "MUL", "DIV", "POW", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE", "FLOOR_DIV", "FLOOR_MOD", "ATAN2"),
    *("LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL", "EQUAL", "NOT_EQUAL", "LOGICAL_AND", "LOGICAL_OR"),
    *("SELECT", "SELECT_V2"),
)
SHAPES: dict[str, Callable[[Sized], Sizes]] = {
    **dict.fromkeys(POINTWISE, _same),
    **dict.fromkeys(BROADCASTING, _broadcast),
    **dict.fromkeys(("AVERAGE_POOL_2D", "MAX_POOL_2D", "L2_POOL_2D"), _pool),
    **dict.fromkeys(("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"), _resize),
    **dict.fromkeys(("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD"), _reduction),
    **dict.fromkeys(("PAD", "PADV2", "MIRROR_PAD"), _pad),
    **dict.fromkeys(("ARG_MAX", "ARG_MIN"), _arg),
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _depthwise,
    "TRANSPOSE_CONV": lambda op: op.known(0),
    "FULLY_CONNECTED": _fully_connected,
    "BATCH_MATMUL": _batch_matmul,
    "DEPTH_TO_SPACE": _depth_to_space,
    "SPACE_TO_DEPTH": _space_to_depth,
    "CONCATENATION": _concatenation,
    "RESHAPE": _reshape,
    "EXPAND_DIMS": _expand_dims,
    "SQUEEZE": _squeeze,
    "BROADCAST_TO": lambda op: op.known(1),
    "TILE": _tile,
    "GATHER": _gather,
    "SPLIT": _split,
    "UNPACK": _unpack,
    "TRANSPOSE": _transpose,
    "SLICE": _slice,
    "STRIDED_SLICE": _strided_slice,
    "PACK": _pack,
    "SHAPE": lambda op: (len(op.shapes[0]),),
}

# Whole numbers worked out from sizes.
ARITHMETIC: dict[str, Callable[[int, int], int]] = {
    "ADD": operator.add,
    "SUB": operator.sub,
    "MUL": operator.mul,
    "FLOOR_DIV": operator.floordiv,
    "MAXIMUM": max,
    "MINIMUM": min,
}


def _computed(op: Sized) -> Values | None:
    """Return the numbers that an operation makes, where they follow from sizes alone; lists, no matrices."""
    name = op.node.op.name
    if name == "SHAPE":
        return op.shapes[0]
    values = [value for value in op.values if value is not None]
    if len(values) < len(op.values) or not values or max(map(len, op.shapes)) > 1:
        return None
    if name in ARITHMETIC:
        left, right = (value * (max(map(len, values)) // len(value)) for value in values)
        return tuple(map(ARITHMETIC[name], left, right))
    if name == "STRIDED_SLICE":
        return values[0][_cut(op, 0)]
    if name == "SLICE":
        return values[0][values[1][0] :][: values[2][0] if values[2][0] >= 0 else None]
    if name in ("PACK", "CONCATENATION"):
        return tuple([number for value in values for number in value])
    return values[0] if name in ("CAST", "RESHAPE") else None
