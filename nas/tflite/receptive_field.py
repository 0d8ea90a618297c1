"""Receptive field of a .tflite file's output pixels, which determines how a picture may be tiled.

A network of convolutions sees a neighbourhood: a 3×3 convolution one element to each side, and behind a stride of two
the next one twice as far. What lies beyond that *reach* cannot change a pixel, so a tile with so much around it gives
what the whole picture would give. Two things end this. A mean over the map sees everything, so that no tile is exact;
and where the network halves maps, tiles must begin at multiples of its *period*, or pixels are paired differently.

Read from the file alone, operation by operation, in pixels of the network's input: packed RAW, half the mosaic's side.
The reach is rounded up where halves would have to be told apart, never down.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, lcm
from typing import NamedTuple

from latency_models.tflite_shapes import with_input_shape
from search_spaces.activations import TFLITE_OPS
from search_spaces.errors import DeviceError
from search_spaces.tflite_file import FileGraph, FileNode, FileTensor, read_graph

OUTPUT_SCALE = Fraction(1, 2)  # RGB has twice the side of packed RAW
# At which size a file that leaves it open is looked at: halved eight times, and no side is the other or 1.
PROBED_SIDES = (256, 768)
_VALID = 1  # the padding that adds nothing; 0 is SAME
_ROWS_AND_COLUMNS = {1, 2}
_CHANNELS = (3, -1)


@dataclass(frozen=True)
class ReceptiveField:
    """What of its input a network sees, in input pixels."""

    reach: int | None  # to each side; None where an operation has no rule below
    period: int  # tiles begin at multiples of it
    global_ops: tuple[str, ...]  # operations that see the whole map
    unknown_op: str | None
    bytes_per_pixel: float | None  # that LiteRT takes to run it: maps and pointers; None where the reach is unknown


class _Place(NamedTuple):
    """Where the elements of a map lie: input pixels from one to the next, and how far beyond its own each one sees."""

    scale: Fraction
    reach: Fraction
    padded: int = 0  # elements that PAD has just put before the map, which a VALID window behind it takes for its own

    @property
    def settled(self) -> "_Place":
        """The same for those that do not take the padding: to them all elements are moved by so many."""
        return _Place(self.scale, self.reach + self.padded * self.scale)


_Places = dict[int, _Place]  # by tensor; constants, sizes and what is behind a global operation have none


class _Unknown(Exception):
    """An operation of which no rule says what it does to places."""


class _Global(Exception):
    """An operation whose result has no place, for it sees the whole map."""


class _Step(NamedTuple):
    """One operation with the tensors that it reads and makes."""

    node: FileNode
    inputs: Sequence[FileTensor]
    outputs: Sequence[FileTensor]

    def option(self, name: str, default: int = 0) -> int:
        return int(self.node.options.get(name, default))

    def both(self, rows: str, columns: str) -> int:
        """Return an option that must be the same down and across."""
        if self.option(rows, 1) != self.option(columns, 1):
            raise _Unknown
        return self.option(rows, 1)

    def numbers(self, position: int) -> tuple[int, ...]:
        """Return a list of whole numbers that the file fixes."""
        values = self.inputs[position].values
        if values is None:
            raise _Unknown
        return values


def read_field(content: bytes) -> ReceptiveField:
    """Return what a file sees; raise ExportError for bytes that are no .tflite or damaged.

    From an operation without a rule on, nothing is known.
    """
    graph = _sized(read_graph(content))
    if not (graph.nodes and graph.inputs and graph.outputs):
        return ReceptiveField(None, 1, (), "nothing", None)
    places: _Places = {graph.inputs[0]: _Place(Fraction(1), Fraction(0))}
    global_ops: list[str] = []
    for node in graph.nodes:
        read = [places[index] for index in node.inputs if index in places]
        if not read or node.op.name == "SHAPE":
            continue
        try:
            place = RULES.get(node.op.name, _unknown)(_step(graph, node), _merged(node, read))
            places |= dict.fromkeys(node.outputs, place)
        except _Global:
            global_ops.append(node.op.name)
        except (_Unknown, ZeroDivisionError, IndexError, ValueError):  # the last three: sizes that its rule cannot take
            return _field(None, places, global_ops, unknown_op=node.op.name, memory=None)
    field = places.get(graph.outputs[0])
    if field is None or field.scale != OUTPUT_SCALE:
        return _field(None, places, global_ops, unknown_op=graph.nodes[-1].op.name, memory=None)
    memory = _peak_bytes(graph, places) + _pointer_bytes(graph, places)
    return _field(ceil(field.settled.reach), places, global_ops, unknown_op=None, memory=memory)


def _field(
    reach: int | None, places: _Places, global_ops: Sequence[str], *, unknown_op: str | None, memory: float | None
) -> ReceptiveField:
    period = lcm(*(place.scale.numerator for place in places.values()))
    return ReceptiveField(reach, period, tuple(dict.fromkeys(global_ops)), unknown_op, memory)


def _sized(graph: FileGraph) -> FileGraph:
    """Return the graph with the sizes it leaves open worked out for one picture, where they can be."""
    shape = graph.tensors[graph.inputs[0]].shape if graph.inputs else ()
    if len(shape) != len(PROBED_SIDES) + 2:
        return graph
    batch, *sides, channels = shape
    probed = [probe if side < 0 else side for side, probe in zip(sides, PROBED_SIDES, strict=True)]
    try:
        return with_input_shape(graph, (max(batch, 1), *probed, channels))
    except DeviceError:
        return graph


def _step(graph: FileGraph, node: FileNode) -> _Step:
    inputs = [graph.tensors[index] for index in node.inputs if index >= 0]  # −1 stands for one that is left out
    return _Step(node, inputs, [graph.tensors[index] for index in node.outputs])


def _merged(node: FileNode, read: Sequence[_Place]) -> _Place:
    if len({place.scale for place in read}) > 1:
        raise _Unknown
    if node.op.name in _WINDOWS and node.options.get("padding") == _VALID:
        return read[0]
    return _Place(read[0].scale, max(place.settled.reach for place in read))


# One rule per kind of operation: from the place of what it reads to the place of what it makes.


def _unknown(_: _Step, __: _Place) -> _Place:
    raise _Unknown


def _pointwise(_: _Step, place: _Place) -> _Place:
    return place


def _concatenation(step: _Step, place: _Place) -> _Place:
    return _only_where(step.option("axis") in _CHANNELS, place)


def _only_where(holds: bool, place: _Place) -> _Place:
    if not holds:
        raise _Unknown
    return place


def _slice(step: _Step, place: _Place) -> _Place:
    """Pass slices of channels, which leave rows and columns as they are."""
    maps = [tensor for tensor in step.inputs if len(tensor.shape) == 4]
    sides = {tensor.shape[1:3] for tensor in (*maps, *step.outputs)}
    return _only_where(len(maps) == 1 and len(sides) == 1, place)


def _reduction(step: _Step, place: _Place) -> _Place:
    if _ROWS_AND_COLUMNS & {axis % 4 for axis in step.numbers(1)}:
        raise _Global
    return place


def _convolution(step: _Step, place: _Place) -> _Place:
    _, rows, columns, _ = step.inputs[1].shape
    dilation = step.both("dilationHFactor", "dilationWFactor")
    return _window((max(rows, columns) - 1) * dilation + 1, step, place)


def _pool(step: _Step, place: _Place) -> _Place:
    sides = (step.option("filterHeight"), step.option("filterWidth"))
    if sides == step.inputs[0].shape[1:3]:
        raise _Global
    return _window(max(sides), step, place)


def _window(side: int, step: _Step, place: _Place) -> _Place:
    """A window of so many elements that moves by the stride."""
    stride = step.both("strideH", "strideW")
    return _Place(place.scale * stride, place.reach + _beyond(side, stride, step, place) * place.scale)


def _beyond(side: int, stride: int, step: _Step, place: _Place) -> int:
    """Return how far a window reaches before or behind its own element; SAME centres what the stride leaves."""
    before = place.padded if step.option("padding") == _VALID else max(0, side - stride) // 2
    return max(before, side - 1 - before)


def _transpose_convolution(step: _Step, place: _Place) -> _Place:
    _, rows, columns, _ = step.inputs[1].shape
    stride = step.both("strideH", "strideW")
    seen = Fraction(_beyond(max(rows, columns), stride, step, place), stride)
    return _Place(place.scale / stride, place.reach + seen * place.scale)


def _depth_to_space(step: _Step, place: _Place) -> _Place:
    block = step.option("blockSize")
    return _Place(place.scale / block, place.reach + place.scale * Fraction(block - 1, block))


def _space_to_depth(step: _Step, place: _Place) -> _Place:
    block = step.option("blockSize")
    return _Place(place.scale * block, place.reach + place.scale * (block - 1))


def _resize(step: _Step, place: _Place) -> _Place:
    """Interpolation reads a neighbour at a shift of at most half an element; `align_corners` depends on the size."""
    before, after = step.inputs[0].shape[1:3], step.outputs[0].shape[1:3]
    if min(*before, *after) < 1 or step.option("alignCorners"):
        raise _Unknown
    ratio, across = (Fraction(a, b) for a, b in zip(after, before, strict=True))
    grown = _Place(place.scale / ratio, place.reach + place.scale * (Fraction(3, 2) + 1 / (2 * ratio)))
    return _only_where(ratio == across, grown)


def _pad(step: _Step, place: _Place) -> _Place:
    batch, (top, _), (left, _), channels = (step.numbers(1)[at : at + 2] for at in (0, 2, 4, 6))
    return _only_where(top == left and not any((*batch, *channels)), place._replace(padded=top))


def _fully_connected(step: _Step, place: _Place) -> _Place:
    return _only_where(bool(step.option("keepNumDims")), place)


_WINDOWS = ("CONV_2D", "DEPTHWISE_CONV_2D", "AVERAGE_POOL_2D", "MAX_POOL_2D", "L2_POOL_2D")
_Rule = Callable[[_Step, _Place], _Place]

_POINTWISE = (
    "ABS", "ADD", "CAST", "COS", "DEQUANTIZE", "DIV", "ELU", "EXP", "FLOOR", "GELU", "HARD_SWISH", "LEAKY_RELU", "LOG",
    "LOGISTIC", "MAXIMUM", "MINIMUM", "MUL", "NEG", "POW", "PRELU", "QUANTIZE", "RELU", "RELU6", "RELU_0_TO_1",
    "RELU_N1_TO_1", "ROUND", "RSQRT", "SIGN", "SIN", "SQRT", "SQUARE", "SQUARED_DIFFERENCE", "SUB", "TANH",
    "L2_NORMALIZATION", "SOFTMAX", "LOG_SOFTMAX",  # these three along channels
)  # fmt: skip

RULES: dict[str, _Rule] = {
    **dict.fromkeys((*_POINTWISE, *TFLITE_OPS.values()), _pointwise),
    **dict.fromkeys(("SPLIT", "SPLIT_V", "SLICE", "STRIDED_SLICE"), _slice),
    **dict.fromkeys(("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD"), _reduction),
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D"), _convolution),
    **dict.fromkeys(("AVERAGE_POOL_2D", "MAX_POOL_2D", "L2_POOL_2D"), _pool),
    **dict.fromkeys(("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"), _resize),
    **dict.fromkeys(("PAD", "PADV2", "MIRROR_PAD"), _pad),
    "CONCATENATION": _concatenation,
    "DEPTH_TO_SPACE": _depth_to_space,
    "FULLY_CONNECTED": _fully_connected,
    "SPACE_TO_DEPTH": _space_to_depth,
    "TRANSPOSE_CONV": _transpose_convolution,
}

# Memory. Measured on the ten published designs at 384×512, LiteRT 2.3 with XNNPACK takes 0.78 to 1.16 of the two sums
# below; the maps alone would be a half down to a tenth of it.

_WINDOWED = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV")
_POINTER_BYTES = 8
_ITEM_BYTES = {"float16": 2, "int16": 2, "int8": 1, "uint8": 1}  # others: 4


def _peak_bytes(graph: FileGraph, places: _Places) -> float:
    """Return the largest sum of bytes per input pixel of maps that exist together, as `latency_models.memory` does."""
    last_use = {index: number for number, node in enumerate(graph.nodes) for index in node.inputs}
    last_use |= dict.fromkeys(graph.outputs, len(graph.nodes))
    sizes = {index: _map_bytes(graph.tensors[index], place) for index, place in places.items()}
    alive, peak = {graph.inputs[0]}, 0.0
    for number, node in enumerate(graph.nodes):
        alive |= sizes.keys() & set(node.outputs)
        peak = max(peak, sum(sizes[index] for index in alive))
        alive = {index for index in alive if last_use.get(index, -1) > number}
    return peak


def _map_bytes(tensor: FileTensor, place: _Place) -> float:
    return tensor.shape[-1] * _ITEM_BYTES.get(tensor.dtype, 4) / float(place.scale) ** 2


def _pointer_bytes(graph: FileGraph, places: _Places) -> float:
    """Return the bytes per input pixel of XNNPACK's pointers: one to every tap of every window, kept for each layer."""
    taken = 0.0
    for node in graph.nodes:
        if node.op.name in _WINDOWED and node.outputs[0] in places:
            _, rows, columns, _ = graph.tensors[node.inputs[1]].shape
            coarser = max(places[index].scale for index in (*node.inputs, *node.outputs) if index in places)
            taken += (rows * columns > 1) * rows * columns * _POINTER_BYTES / float(coarser) ** 2
    return taken
