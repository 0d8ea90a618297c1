"""Give the maps of a calibrated file their ranges, those inside of a node included.

A node that a file computes in several steps, such as an ELU in integers, has maps inside. The converter's calibration
cannot be believed there: LiteRT computes such steps in place, so that what it writes down for one is joined with the
next, and it knows nothing of a narrower range in front of them. Steps that read one map and constants follow from the
range of what they read.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from search_spaces.quantised_maps import Range
from search_spaces.tflite_file import FileGraph, FileNode, pack, parse, read_graph
from search_spaces.tflite_names import tensor_names

Array = np.ndarray[Any, Any]

# Of an operation with one map and at most one constant, the answers at an end of the map's range; all are monotone.
_RULES: dict[str, Callable[..., Any]] = {
    "MUL": lambda x, c: x * c,
    "ADD": lambda x, c: x + c,
    "SUB": lambda x, c: x - c,
    "EXP": math.exp,
    "RELU": lambda x: max(x, 0.0),
    "RELU6": lambda x: min(max(x, 0.0), 6.0),
}
_FUSED: dict[str, Callable[[float], float]] = {"none": lambda x: x, "relu": _RULES["RELU"], "relu6": _RULES["RELU6"]}


def with_ranges(content: bytes, ranges: Mapping[str, Range], nodes: Sequence[str]) -> bytes:
    """Return a calibrated float32 file of a network of `nodes` in which the maps of these nodes have these ranges.

    What is quantised from it then has their scales. A node without a map of its own in the file, because it was fused
    into the next, is left aside.
    """
    model, graph = parse(content), read_graph(content)
    names = tensor_names(graph, nodes)
    by_tensor = _with_inner(graph, model, names, {index: ranges[n] for index, n in names.items() if n in ranges})
    for index, tensor in enumerate(model.subgraphs[0].tensors):
        if index in by_tensor and tensor.quantization is not None and tensor.quantization.min is not None:
            tensor.quantization.min, tensor.quantization.max = [by_tensor[index][0]], [by_tensor[index][1]]
    return pack(model)


def _with_inner(
    graph: FileGraph, model: Any, names: Mapping[int, str], by_tensor: Mapping[int, Range]
) -> dict[int, Range]:
    """Return the ranges `by_tensor` of nodes' own maps, and with them those of maps inside of nodes.

    "node/1" lies inside of "node". A step with two maps, or with an operation that has no rule here, ends what follows
    from it.
    """
    known = dict(by_tensor)
    for node in graph.nodes:
        made = node.outputs[0]
        sides = _sides(graph, model, node, known) if "/" in names.get(made, "") else None
        if sides is not None:
            known[made] = sides
    return known


def _sides(graph: FileGraph, model: Any, node: FileNode, known: Mapping[int, Range]) -> Range | None:
    rule, fused = _RULES.get(node.op.name), _FUSED.get(node.op.fused_activation)
    maps = [index for index in node.inputs if not graph.tensors[index].is_constant]
    if rule is None or fused is None or len(maps) != 1 or node.inputs[0] not in known:
        return None
    constants = [_floats(model, index) for index in node.inputs[1:]]
    ends = [fused(float(value)) for side in known[maps[0]] for value in _answers(rule, side, constants)]
    return min(0.0, *ends), max(0.0, *ends)


def _answers(rule: Callable[..., Any], side: float, constants: list[Array]) -> Iterator[float]:
    if not constants:
        yield rule(side)
        return
    for value in (constants[0].min(), constants[0].max()):
        yield rule(side, float(value))


def _floats(model: Any, index: int) -> Array:
    return np.frombuffer(bytes(model.buffers[model.subgraphs[0].tensors[index].buffer].data), np.float32)
