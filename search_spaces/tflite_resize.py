"""Resize a .tflite file for another picture size or any size: shapes change, weights and ranges stay.

A quantised file is calibrated at the size of the pairs; converted anew at full size it would have other ranges, if
the converter could calibrate it at all. All sizes of our networks follow from the input's, so a file for another size
is the file with other shapes: those of its maps, and the constants from which TRANSPOSE_CONV and RESIZE_BILINEAR read
theirs. A dynamic file works these out when it runs, from the size of the map before.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from search_spaces.errors import ExportError
from search_spaces.ops import Shape
from search_spaces.tflite_file import FileGraph, FileNode, add_tensor, opcode, pack, parse, read_graph, schema

Sizes = tuple[int, ...]

# Where an operation reads the size that it is to make, where the map, and which of [n, h, w, c] it reads.
_SIZE_OPERANDS = {"TRANSPOSE_CONV": (0, 2, slice(0, 4)), "RESIZE_BILINEAR": (1, 0, slice(1, 3))}


def resized(content: bytes, input_shape: Shape) -> bytes:
    """Return the file for an input of [n, h, w, c].

    Raises ExportError where a map would have a size that is not whole, or the file is not one of ours.
    """
    graph, model = read_graph(content), parse(content)
    shapes = _shapes(graph, input_shape)
    for index, shape in shapes.items():
        model.subgraphs[0].tensors[index].shape = list(shape)
    for node in graph.nodes:
        if node.op.name in _SIZE_OPERANDS:
            position, _, size = _SIZE_OPERANDS[node.op.name]
            _fill(model, node.inputs[position], shapes[node.outputs[0]][size])
    return pack(model)


def dynamic(content: bytes) -> bytes:
    """Return the file for inputs of any height and width, [n, −1, −1, c]; without being told a size it has its own."""
    graph, model = read_graph(content), parse(content)
    for index, shape in _open_shapes(graph).items():
        model.subgraphs[0].tensors[index].shapeSignature = list(shape)
    operators: list[Any] = []
    for node, op in zip(graph.nodes, model.subgraphs[0].operators, strict=True):
        if node.op.name in _SIZE_OPERANDS:
            operators += _size_ops(model, graph, node, op)
        operators.append(op)
    model.subgraphs[0].operators = operators
    return pack(model)


def _shapes(graph: FileGraph, input_shape: Sequence[int]) -> dict[int, Sizes]:
    """Return the shape of every map where the input has another one."""
    shapes = {graph.inputs[0]: tuple(input_shape)}
    for node in graph.nodes:
        maps = [index for index in node.inputs if index in shapes]
        if maps:  # others prepare weights
            (output,) = node.outputs
            if len(graph.tensors[output].shape) != 4:
                raise ExportError(f"{node.op.name} makes no map [n, h, w, c]; only files of isp-nas can be resized.")
            shapes[output] = tuple(_size(graph, node, maps, shapes, axis) for axis in range(4))
    return shapes


def _size(graph: FileGraph, node: FileNode, maps: Sequence[int], shapes: dict[int, Sizes], axis: int) -> int:
    made = graph.tensors[node.outputs[0]].shape[axis]
    if axis in (0, 3) or axis in _averaged(graph, node):
        return made
    largest = max(maps, key=lambda index: shapes[index][axis])  # the others are stretched to it
    size, rest = divmod(shapes[largest][axis] * made, graph.tensors[largest].shape[axis])
    if rest:
        raise ExportError(
            f"{node.op.name} would make half a pixel of a map {list(shapes[largest])}; choose a size that is a "
            "multiple of what the network needs."
        )
    return size


def _averaged(graph: FileGraph, node: FileNode) -> Sizes:
    return graph.tensors[node.inputs[1]].values or () if node.op.name == "MEAN" else ()


def _open_shapes(graph: FileGraph) -> dict[int, Sizes]:
    """Return the shape of every map, −1 where it goes with the size of the picture."""
    n, h, w, c = graph.tensors[graph.inputs[0]].shape
    now, doubled = _shapes(graph, (n, h, w, c)), _shapes(graph, (n, 2 * h, 2 * w, c))
    return {
        index: tuple(a if a == b else -1 for a, b in zip(shape, doubled[index], strict=True))
        for index, shape in now.items()
    }


def _size_ops(model: Any, graph: FileGraph, node: FileNode, op: Any) -> Iterator[Any]:
    """Yield the operations that work out the size that `op` reads: (size of its map) · factors + channels."""
    position, read, size = _SIZE_OPERANDS[node.op.name]
    before, after = graph.tensors[node.inputs[read]].shape, graph.tensors[node.outputs[0]].shape
    factors = (1, after[1] // before[1], after[2] // before[2], 0)
    steps = [
        ("SHAPE", (), 4),
        ("MUL", (factors,), 4),
        ("ADD", ((0, 0, 0, after[3]),), 4),
        ("SLICE", ((size.start,), (size.stop - size.start,)), size.stop - size.start),
    ]
    last = node.inputs[read]
    for name, constants, length in steps:
        inputs = [last, *(_constant(model, values) for values in constants)]
        last = add_tensor(model.subgraphs[0], _name(model), schema().TensorType.INT32, (length,))
        yield _operator(model, name, inputs, last)
    op.inputs = [last if index == position else tensor for index, tensor in enumerate(op.inputs)]


def _operator(model: Any, name: str, inputs: Sequence[int], output: int) -> Any:
    op = schema().OperatorT()
    op.opcodeIndex, op.inputs, op.outputs = opcode(model, name, 1), list(inputs), [output]
    options = f"{name.capitalize()}Options"
    op.builtinOptionsType = getattr(schema().BuiltinOptions, options)
    op.builtinOptions = getattr(schema(), f"{options}T")()
    if name == "SHAPE":
        op.builtinOptions.outType = schema().TensorType.INT32
    return op


def _constant(model: Any, values: Sequence[int]) -> int:
    index = add_tensor(model.subgraphs[0], _name(model), schema().TensorType.INT32, (len(values),))
    _fill(model, index, values)
    return index


def _name(model: Any) -> bytes:
    return f"size{len(model.subgraphs[0].tensors)}".encode()


def _fill(model: Any, index: int, values: Sequence[int]) -> None:
    """Give a tensor a constant of its own: the converter lets several share one."""
    buffer = schema().BufferT()
    buffer.data = np.asarray(values, "<i4").view(np.uint8)
    model.buffers.append(buffer)
    model.subgraphs[0].tensors[index].buffer = len(model.buffers) - 1
