"""How far does an output pixel of a .tflite file see? What decides how a picture may be cut into tiles.

A network of convolutions sees a neighbourhood: a 3×3 convolution one element to each side, and after a stride of two
the next one twice as far. What lies beyond that *reach* cannot change a pixel, so a tile with so much around it gives
what the whole picture would give. Two things end this. A mean over the map sees everything, so that no tile is exact;
and where the network halves maps, tiles must begin at multiples of its *period*, or pixels are paired differently.

Read from the file alone, operation by operation, in pixels of the network's input (packed RAW, half the mosaic's side).
The reach is rounded up where halves would have to be told apart, never down. No framework and no interpreter is loaded.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, lcm
from typing import Any, NamedTuple

import numpy as np

from search_spaces.tflite_file import operations

OUTPUT_SCALE = Fraction(1, 2)  # RGB has twice the side of packed RAW
_SAME_PADDING = 0  # of the schema's enumeration
_WINDOWED = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV")
_POINTER_BYTES = 8
_ROWS_AND_COLUMNS = {1, 2}
_CHANNELS = 3
# Bytes per value by the number of the schema's TensorType: float32, float16, int32, uint8, int64, bool, int16, int8.
_ITEM_BYTES = {0: 4, 1: 2, 2: 4, 3: 1, 4: 8, 6: 1, 7: 2, 9: 1}


@dataclass(frozen=True)
class Field:
    """What of its input a network sees, in input pixels."""

    reach: int | None  # to each side; None where an operation has no rule below
    period: int  # tiles begin at multiples of it
    global_ops: tuple[str, ...]  # operations that see the whole map
    unknown_op: str | None
    bytes_per_pixel: float | None  # that LiteRT takes to run it, maps and pointers; None where the reach is unknown


class _Place(NamedTuple):
    """Where the elements of a map lie: input pixels from one to the next, and how far beyond its own each one sees."""

    scale: Fraction
    reach: Fraction


_Places = dict[int, _Place]  # by tensor
_Ops = Sequence[tuple[str, Any]]


class _Unknown(Exception):
    """An operation of which no rule says what it does to places."""


class _Global(Exception):
    """An operation whose result has no place, for it sees the whole map."""


@dataclass(frozen=True)
class _Step:
    """One operation with what its rule needs: its options, the tensors it reads, and the values of constants."""

    options: Any
    tensors: Sequence[Any]
    results: Sequence[Any]
    constants: Sequence[np.ndarray[Any, Any] | None]

    def side(self, index: int, dimension: int) -> int:
        return int(self.tensors[index].shape[dimension])


def read_field(content: bytes) -> Field:
    """Return what a file sees; raise ExportError for bytes that are no .tflite.

    From an operation without a rule on, nothing is known.
    """
    model, ops = operations(content)
    graph = model.subgraphs[0]
    places: _Places = {int(graph.inputs[0]): _Place(Fraction(1), Fraction(0))}
    scales = [Fraction(1)]
    global_ops: list[str] = []
    for name, op in ops:
        read = [places[i] for i in op.inputs if i in places]
        if not read or name == "SHAPE":
            continue  # weights, or arithmetic on sizes and on results of global operations
        try:
            place = RULES.get(name, _unknown)(_step(model, graph, op), _merged(read))
        except _Global:
            global_ops.append(name)
            continue
        except _Unknown:
            return Field(None, _period(scales), tuple(dict.fromkeys(global_ops)), name, None)
        places |= {int(i): place for i in op.outputs}
        scales.append(place.scale)
    found = places.get(int(graph.outputs[0]))
    reach = ceil(found.reach) if found and found.scale == OUTPUT_SCALE else None
    unknown = None if reach is not None else "its output"
    memory = _peak_bytes(graph, ops, places) + _pointer_bytes(graph, ops, places)
    return Field(reach, _period(scales), tuple(dict.fromkeys(global_ops)), unknown, memory)


def _period(scales: Sequence[Fraction]) -> int:
    return lcm(*(scale.numerator for scale in scales))


def _step(model: Any, graph: Any, op: Any) -> _Step:
    inputs = [graph.tensors[i] for i in op.inputs if i >= 0]  # −1 stands for an input that is left out
    constants = [_constant(model, tensor) for tensor in inputs]
    return _Step(op.builtinOptions, inputs, [graph.tensors[i] for i in op.outputs], constants)


def _constant(model: Any, tensor: Any) -> np.ndarray[Any, Any] | None:
    """Return the whole numbers that a tensor holds in the file, such as axes; None for maps and weights."""
    data = model.buffers[tensor.buffer].data
    if data is None or tensor.type != 2:  # int32
        return None
    return np.frombuffer(bytes(bytearray(data)), np.int32)


def _merged(read: Sequence[_Place]) -> _Place:
    if len({place.scale for place in read}) > 1:
        raise _Unknown
    return _Place(read[0].scale, max(place.reach for place in read))


def _unknown(_: _Step, __: _Place) -> _Place:
    raise _Unknown


def _pointwise(_: _Step, place: _Place) -> _Place:
    return place


def _concat(step: _Step, place: _Place) -> _Place:
    return _only_where(step.options.axis in (_CHANNELS, -1), place)


def _only_where(holds: bool, place: _Place) -> _Place:
    if not holds:
        raise _Unknown
    return place


def _same_sides(step: _Step, place: _Place) -> _Place:
    """Pass slices of channels, which leave rows and columns as they are."""
    maps = [t for t in step.tensors if t.shape is not None and len(t.shape) == 4]
    sides = {tuple(t.shape[1:3]) for t in (*maps[:1], *step.results)}
    return _only_where(len(maps) == 1 and len(sides) == 1 and min(sides.pop()) > 1, place)


def _reduction(step: _Step, place: _Place) -> _Place:
    axes = step.constants[1]
    if axes is None:
        raise _Unknown
    if _ROWS_AND_COLUMNS & {int(axis) % 4 for axis in axes}:
        raise _Global
    return place


def _convolution(step: _Step, place: _Place) -> _Place:
    options = step.options
    dilations = (options.dilationHFactor, options.dilationWFactor)
    sides = [(step.side(1, d) - 1) * dilation + 1 for d, dilation in zip((1, 2), dilations, strict=True)]
    return _window(sides, (options.strideH, options.strideW), options.padding, place)


def _pool(step: _Step, place: _Place) -> _Place:
    options = step.options
    sides = [options.filterHeight, options.filterWidth]
    if sides == [step.side(0, 1), step.side(0, 2)] and max(sides) > 1:
        raise _Global
    return _window(sides, (options.strideH, options.strideW), options.padding, place)


def _window(sides: Sequence[int], strides: tuple[int, int], padding: int, place: _Place) -> _Place:
    """A window of so many elements that moves by the stride, laid as TensorFlow lays it."""
    stride = _one(strides)
    seen = max(_beyond(side, stride, padding) for side in sides)
    return _Place(place.scale * stride, place.reach + seen * place.scale)


def _one(strides: tuple[int, int]) -> int:
    if strides[0] != strides[1]:
        raise _Unknown
    return int(strides[0])


def _beyond(side: int, stride: int, padding: int) -> int:
    """Return how far a window reaches, before or behind its own element; `same` centres what the stride leaves."""
    before = max(0, side - stride) // 2 if padding == _SAME_PADDING else 0
    return max(before, side - 1 - before)


def _transpose_convolution(step: _Step, place: _Place) -> _Place:
    stride = _one((step.options.strideH, step.options.strideW))
    side = max(step.side(1, 1), step.side(1, 2))
    seen = Fraction(_beyond(side, stride, step.options.padding), stride)
    return _Place(place.scale / stride, place.reach + seen * place.scale)


def _depth_to_space(step: _Step, place: _Place) -> _Place:
    block = step.options.blockSize
    return _Place(place.scale / block, place.reach + place.scale * Fraction(block - 1, block))


def _space_to_depth(step: _Step, place: _Place) -> _Place:
    block = step.options.blockSize
    return _Place(place.scale * block, place.reach + place.scale * (block - 1))


def _resize(step: _Step, place: _Place) -> _Place:
    """Interpolation reads a neighbour at a shift of at most half an element; `align_corners` depends on the size."""
    before, after = (tuple(int(side) for side in t.shape[1:3]) for t in (step.tensors[0], step.results[0]))
    ratios = {Fraction(a, b) for a, b in zip(after, before, strict=True)}
    # Of a file for any size the converter writes sides of 1.
    if len(ratios) != 1 or min(*before, *after) < 2 or step.options.alignCorners:
        raise _Unknown
    ratio = ratios.pop()
    return _Place(place.scale / ratio, place.reach + place.scale * (Fraction(3, 2) + 1 / (2 * ratio)))


def _pad(step: _Step, place: _Place) -> _Place:
    padding = step.constants[1]
    if padding is None or padding.reshape(-1, 2)[[0, 3]].any():
        raise _Unknown
    return _Place(place.scale, place.reach + int(padding.max()) * place.scale)


def _fully_connected(step: _Step, place: _Place) -> _Place:
    return _only_where(bool(step.options.keepNumDims), place)


_Rule = Callable[[_Step, _Place], _Place]

_POINTWISE = (
    "ABS", "ADD", "CAST", "COS", "DEQUANTIZE", "DIV", "ELU", "EXP", "FLOOR", "GELU", "HARD_SWISH", "LEAKY_RELU", "LOG",
    "LOGISTIC", "MAXIMUM", "MINIMUM", "MUL", "NEG", "POW", "PRELU", "QUANTIZE", "RELU", "RELU6", "RELU_0_TO_1",
    "RELU_N1_TO_1", "ROUND", "RSQRT", "SIGN", "SIN", "SQRT", "SQUARE", "SQUARED_DIFFERENCE", "SUB", "TANH",
    "L2_NORMALIZATION", "SOFTMAX", "LOG_SOFTMAX",  # these three along channels
)  # fmt: skip

RULES: dict[str, _Rule] = {
    **dict.fromkeys(_POINTWISE, _pointwise),
    **dict.fromkeys(("SPLIT", "SPLIT_V", "SLICE", "STRIDED_SLICE"), _same_sides),
    **dict.fromkeys(("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD"), _reduction),
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D"), _convolution),
    **dict.fromkeys(("AVERAGE_POOL_2D", "MAX_POOL_2D", "L2_POOL_2D"), _pool),
    **dict.fromkeys(("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"), _resize),
    **dict.fromkeys(("PAD", "PADV2", "MIRROR_PAD"), _pad),
    "CONCATENATION": _concat,
    "DEPTH_TO_SPACE": _depth_to_space,
    "FULLY_CONNECTED": _fully_connected,
    "SPACE_TO_DEPTH": _space_to_depth,
    "TRANSPOSE_CONV": _transpose_convolution,
}


# Memory. Measured on the ten published designs at 384×512, LiteRT 2.3 with XNNPACK takes 0.78 to 1.16 of the two sums
# below; the maps alone would be a half down to a tenth of it.


def _peak_bytes(graph: Any, ops: _Ops, places: _Places) -> float:
    """Return the largest sum of bytes per input pixel of maps that exist together, as `latency_models.memory` does."""
    last_use = {int(i): index for index, (_, op) in enumerate(ops) for i in op.inputs}
    last_use[int(graph.outputs[0])] = len(ops)
    sizes = {index: _map_bytes(graph.tensors[index], place) for index, place in places.items()}
    alive = {int(graph.inputs[0])}
    peak = 0.0
    for index, (_, op) in enumerate(ops):
        alive |= {int(i) for i in op.outputs if int(i) in places}
        peak = max(peak, sum(sizes[i] for i in alive))
        alive = {i for i in alive if last_use.get(i, -1) > index}
    return peak


def _map_bytes(tensor: Any, place: _Place) -> float:
    return int(tensor.shape[-1]) * _ITEM_BYTES.get(tensor.type, 4) / float(place.scale) ** 2


def _pointer_bytes(graph: Any, ops: _Ops, places: _Places) -> float:
    """Return the bytes per input pixel of XNNPACK's pointers: one to every tap of every window, kept for each layer."""
    taken = 0.0
    for name, op in ops:
        if name in _WINDOWED and int(op.outputs[0]) in places:
            _, rows, columns, _ = map(int, graph.tensors[op.inputs[1]].shape)
            coarser = max(places[int(i)].scale for i in (*op.inputs, *op.outputs) if int(i) in places)
            taken += _POINTER_BYTES * (rows * columns if rows * columns > 1 else 0) / float(coarser) ** 2
    return taken
