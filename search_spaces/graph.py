"""A network as data: named operations in order, each naming the maps it reads.

`Graph` is the only executable meaning of an architecture. Flax trains it, TensorFlow exports it and the
latency features cost it; nothing else crosses between them than a Graph and a dict of NumPy arrays whose
keys are `<node>/<parameter>`.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import InitVar, dataclass, field
from functools import cached_property, lru_cache
from math import prod
from typing import Any

from search_spaces.errors import GraphError
from search_spaces.ops import Op, Shape, op_from_dict

INPUT = "input"
# The shapes that the challenge times: a packed Full-HD mosaic in, RGB out.
FULL_HD: Shape = (1, 544, 960, 4)


@dataclass(frozen=True)
class Node:
    """One operation with its name and the names of the maps it reads."""

    name: str
    op: Op
    inputs: tuple[str, ...]


@lru_cache(maxsize=4096)  # networks of a search share most of their operations
def _op_json(op: Op) -> str:
    return json.dumps(op.to_dict(), sort_keys=True)


@dataclass(frozen=True)
class Graph:
    """Nodes in an order in which they can be computed; the last one is the output."""

    input_shape: Shape
    nodes: tuple[Node, ...]
    known_shapes: InitVar[dict[str, Shape] | None] = None  # what `shapes` would find, where it is known

    def __post_init__(self, known_shapes: dict[str, Shape] | None) -> None:
        if not self.nodes:
            raise GraphError("A graph needs at least one node.")
        if known_shapes is not None:
            self.__dict__["shapes"] = known_shapes
        _ = self.shapes  # fail now, at the node that does not fit, not in a framework later

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """The shape of every map by node name, the input included."""
        known: dict[str, Shape] = {INPUT: self.input_shape}
        for node in self.nodes:
            known[node.name] = _shape_of(node, known)
        return known

    @property
    def output(self) -> str:
        """The name of the last node."""
        return self.nodes[-1].name

    @property
    def output_shape(self) -> Shape:
        """The shape of the last map."""
        return self.shapes[self.output]

    def input_shapes(self, node: Node) -> tuple[Shape, ...]:
        """Return the shapes that `node` reads."""
        return tuple([self.shapes[name] for name in node.inputs])

    def node_parameters(self, node: Node) -> int:
        """Return the number of trained values of one node."""
        return sum(prod(shape) for shape in node.op.parameter_shapes(*self.input_shapes(node)).values())

    def node_macs(self, node: Node) -> int:
        """Return the multiply-accumulates of one node at this graph's input size."""
        return node.op.macs(*self.input_shapes(node))

    @cached_property
    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every trained array by `<node>/<parameter>`."""
        return dict(self._parameter_items())

    def _parameter_items(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        for node in self.nodes:
            for name, shape in node.op.parameter_shapes(*self.input_shapes(node)).items():
                yield f"{node.name}/{name}", shape

    @property
    def parameters(self) -> int:
        """The number of trained values."""
        return sum(prod(shape) for shape in self.parameter_shapes.values())

    @property
    def macs(self) -> int:
        """The multiply-accumulates at this graph's input size."""
        return sum(self.node_macs(node) for node in self.nodes)

    @cached_property
    def structure(self) -> str:
        """A hash by which two graphs that compute the same, whatever their nodes are called, are told to be one.

        Equal for equal operations wired alike in the same order.
        """
        number = {INPUT: -1} | {node.name: index for index, node in enumerate(self.nodes)}
        text = ", ".join(f"[{_op_json(node.op)}, {[number[name] for name in node.inputs]}]" for node in self.nodes)
        return hashlib.sha256(f"[{text}]".encode()).hexdigest()[:12]

    def at(self, input_shape: Shape) -> "Graph":
        """Return the same network for another input size."""
        return Graph(input_shape, self.nodes)

    def readers(self, name: str) -> list[Node]:
        """Return the nodes that read the map `name`."""
        return [node for node in self.nodes if name in node.inputs]

    def to_dict(self) -> dict[str, Any]:
        """Return the graph as plain data, to be read back by `from_dict`."""
        nodes = [{"name": n.name, "op": n.op.to_dict(), "inputs": list(n.inputs)} for n in self.nodes]
        return {"input_shape": list(self.input_shape), "nodes": nodes}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Graph":
        """Read back what `to_dict` wrote."""
        nodes = (Node(n["name"], op_from_dict(n["op"]), tuple(n["inputs"])) for n in data["nodes"])
        n, h, w, c = data["input_shape"]
        return cls((n, h, w, c), tuple(nodes))


@dataclass
class GraphBuilder:
    """Collects nodes one behind the other; `add` returns the name that later nodes read."""

    input_shape: Shape
    nodes: list[Node] = field(default_factory=list)
    _shapes: dict[str, Shape] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._shapes[INPUT] = self.input_shape

    def add(self, name: str, op: Op, *inputs: str) -> str:
        """Append an operation that reads `inputs`, and return its name; raise GraphError where they do not fit."""
        node = Node(name, op, inputs)
        self._shapes[name] = _shape_of(node, self._shapes)
        self.nodes.append(node)
        return name

    def channels(self, name: str) -> int:
        """Return the channels of the map `name`."""
        return self._shapes[name][3]

    def build(self) -> Graph:
        """Return the finished graph; raise GraphError where two maps do not fit together."""
        return Graph(self.input_shape, tuple(self.nodes), dict(self._shapes))


def _shape_of(node: Node, known: dict[str, Shape]) -> Shape:
    if node.name in known:
        raise GraphError(f'Two nodes are called "{node.name}"; names must differ.')
    missing = [name for name in node.inputs if name not in known]
    if missing:
        raise GraphError(f'Node "{node.name}" reads "{missing[0]}", which no earlier node makes.')
    try:
        return node.op.output_shape(*(known[name] for name in node.inputs))
    except GraphError as error:
        raise GraphError(f'Node "{node.name}": {error}') from None
