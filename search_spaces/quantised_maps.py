"""Read from a converted int8 file where it rounds and over which ranges, by nodes of its network.

    trained network ─ convert once ─► int8 file ─ of_file ─► QuantisedMaps ─► training with these roundings
                                                                          └─► ranges for the conversion afterwards

Not every node's map is rounded: what the converter fuses (an activation into its convolution, a line into the layer
before) is rounded once, at the end. Some operations must answer in the scale of what they read (concatenation,
depth-to-space): their maps share one range. The ranges of tanh and sigmoid are those of the format.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import exp
from typing import Any

import numpy as np

from search_spaces.graph import INPUT, Graph, Node
from search_spaces.ops import Activation, Conv, DepthwiseConv, Op, TransposeConv
from search_spaces.tflite_file import FileGraph, FileTensor, read_graph

STEPS = 255  # between the smallest and the largest of 256 values
LOWEST, HIGHEST = -128, 127
# Their answers lie in [−1, 1] and [0, 1], and the format fixes the scale to 1/128 and 1/256.
# Source: TensorFlow Lite 8-bit quantization specification, TANH and LOGISTIC.
FIXED_OPS = ("TANH", "LOGISTIC")
# The axis of a kernel along which every channel has a scale of its own: its output channels.
CHANNEL_AXIS: dict[type[Op], int] = {Conv: 3, DepthwiseConv: 3, TransposeConv: 2}

Range = tuple[float, float]


@dataclass(frozen=True)
class QuantisedMaps:
    """The maps that an int8 file rounds, and their ranges; of a range, a side that is 0 stays 0.

    Hashable, so that a compiled step can be kept for it.
    """

    maps: tuple[tuple[str, str], ...]  # a node (or the input) and the name of its range, in the order of the network
    ranges: tuple[tuple[str, Range], ...]  # as they were found: every name once
    fixed: frozenset[str] = frozenset()  # ranges that are the format's
    before: tuple[tuple[str, Range], ...] = ()  # nodes that the file rounds over another range first

    @classmethod
    def of_file(cls, content: bytes, graph: Graph) -> "QuantisedMaps":
        """Read an int8 file of `graph` whose maps are called after its nodes; input and output are int8, too.

        A map inside of a node (of an instance normalisation, say) is not among them, but for one that is rounded anew:
        a tanh in front of a concatenation has the format's scale first and then that of the concatenation.
        """
        file = read_graph(content)
        names = {name: index for index, name in _maps(file)}
        rounded = [name for name in (INPUT, *(node.name for node in graph.nodes)) if name in names]
        leader = _shared_scales(file)
        owner: dict[int, str] = {}
        for name in rounded:
            owner.setdefault(leader[names[name]], name)
        groups = tuple((name, owner[leader[names[name]]]) for name in rounded)
        ranges = tuple((name, _range(file.tensors[names[name]])) for name in owner.values())
        fixed = frozenset(owner[leader[index]] for index in _fixed(file) if leader[index] in owner)
        return cls(groups, ranges, fixed, tuple(_rounded_before(file, names)))

    @property
    def learned(self) -> tuple[tuple[str, Range], ...]:
        """The ranges that training may move."""
        return tuple((name, sides) for name, sides in self.ranges if name not in self.fixed)

    @property
    def first_logarithms(self) -> dict[str, np.ndarray[Any, Any]]:
        """What training moves, by parameter name: the logarithm of every side of a range that is not 0, float32 [1].

        Scales act by ratios: in logarithms one learning rate does for small and large maps.
        Source: Jain et al. 2019, "Trained Quantization Thresholds", arXiv 1903.08066, section 4.3.
        """
        return {
            f"{name}/{side}": np.log(np.abs(np.array([value], np.float32)))
            for name, sides in self.learned
            for side, value in zip(("low", "high"), sides, strict=True)
            if value
        }

    def trained_ranges(self, logarithms: Mapping[str, Any]) -> dict[str, Range]:
        """Return the range of every rounded map after training; each logarithm is an array of one number."""
        ranges = dict(self.ranges)
        for name, (low, high) in self.learned:
            ranges[name] = (
                -exp(logarithms[f"{name}/low"].item()) if low else 0.0,
                exp(logarithms[f"{name}/high"].item()) if high else 0.0,
            )
        return {node: ranges[name] for node, name in self.maps}

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data, to be read back by `from_dict`."""
        return {
            "maps": dict(self.maps),
            "ranges": {name: list(sides) for name, sides in self.ranges},
            "fixed": sorted(self.fixed),
            "before": {name: list(sides) for name, sides in self.before},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "QuantisedMaps":
        """Read what `to_dict` wrote."""
        ranges, before = (
            tuple((name, (float(low), float(high))) for name, (low, high) in data[key].items())
            for key in ("ranges", "before")
        )
        return cls(tuple(data["maps"].items()), ranges, frozenset(data["fixed"]), before)


def channel_axis(node: Node, parameter: str) -> int | None:
    """Return the axis along which a weight has scales of its own; None for a weight with one scale or none at all."""
    return CHANNEL_AXIS.get(type(node.op)) if parameter == "kernel" else None


def has_one_scale(node: Node, parameter: str) -> bool:
    """Tell whether a weight is rounded to 8 bits with one scale: PReLU's slopes."""
    return isinstance(node.op, Activation) and parameter == "alpha"


def _maps(file: FileGraph) -> Iterator[tuple[int, str]]:
    for index, tensor in enumerate(file.tensors):
        if tensor.dtype == "int8" and not tensor.is_constant and len(tensor.scales) == 1:
            yield index, tensor.name


def _range(tensor: FileTensor) -> Range:
    (scale,), (zero_point,) = tensor.scales, tensor.zero_points
    return ((LOWEST - zero_point) * scale, (HIGHEST - zero_point) * scale)


def _fixed(file: FileGraph) -> Iterator[int]:
    return (node.outputs[0] for node in file.nodes if node.op.name in FIXED_OPS)


def _rounded_before(file: FileGraph, names: Mapping[str, int]) -> Iterator[tuple[str, Range]]:
    """Yield the nodes whose map is made by rounding anew what the node had made, with the range of that."""
    made = {index: name for name, index in names.items()}
    for node in file.nodes:
        if node.op.name == "QUANTIZE" and node.outputs[0] in made:
            source, name = file.tensors[node.inputs[0]], made[node.outputs[0]]
            if source.dtype == "int8" and source.name.startswith(f"{name}/"):
                yield name, _range(source)


def _shared_scales(file: FileGraph) -> dict[int, int]:
    """Return for every map the first of those with which it shares a scale through an operation."""
    rounded = dict(_maps(file))
    leader = {index: index for index in rounded}
    for node in file.nodes:
        joined = [index for index in (*node.inputs, *node.outputs) if index in rounded]
        for index in joined:
            if _same_scale(file.tensors[index], file.tensors[joined[-1]]):
                first, other = sorted((leader[index], leader[joined[-1]]))
                leader |= {member: first for member, of in leader.items() if of == other}
    return leader


def _same_scale(a: FileTensor, b: FileTensor) -> bool:
    return (a.scales, a.zero_points) == (b.scales, b.zero_points)
