"""A graph is checked when it is made, and its totals are the sums over its nodes."""

import hashlib
import json
from math import prod

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces.designs import DESIGNS
from search_spaces.errors import GraphError
from search_spaces.graph import INPUT, Graph, GraphBuilder, Node
from search_spaces.networks import build_graph
from search_spaces.ops import Add, Concat, Conv, DepthToSpace, Op, Shape, Subtract
from search_spaces.space import load_space

SMALL: Shape = (1, 8, 16, 4)
LEVELLED: Shape = (1, 16, 32, 4)  # what four levels below R/2 can halve
SPACE = load_space("mai21")
specs = st.builds(lambda data: SPACE.sample(lambda _, values, __: data.draw(st.sampled_from(values))), st.data())


def two_convolutions() -> Graph:
    g = GraphBuilder(SMALL)
    a = g.add("a", Conv(12), INPUT)
    b = g.add("b", Conv(12, 1), a)
    g.add("rgb", DepthToSpace(), g.add("sum", Add(), a, b))
    return g.build()


def refused(*nodes: tuple[str, Op, tuple[str, ...]]) -> str:
    with pytest.raises(GraphError) as caught:
        Graph(SMALL, tuple(Node(*node) for node in nodes))
    return str(caught.value)


def test_totals_are_those_counted_by_hand() -> None:
    graph = two_convolutions()
    assert graph.output == "rgb"
    assert graph.output_shape == (1, 16, 32, 3)
    assert graph.parameter_shapes == {
        "a/kernel": (3, 3, 4, 12),
        "a/bias": (12,),
        "b/kernel": (1, 1, 12, 12),
        "b/bias": (12,),
    }
    assert graph.parameters == 444 + 156
    assert graph.macs == 8 * 16 * (9 * 4 * 12 + 12 * 12)


def test_readers_of_a_map_are_found() -> None:
    graph = two_convolutions()
    assert [node.name for node in graph.readers("a")] == ["b", "sum"]
    assert [node.name for node in graph.readers(INPUT)] == ["a"]
    assert graph.readers("rgb") == []


def renamed(graph: Graph) -> Graph:
    """The same network under other names."""
    name = {INPUT: INPUT} | {node.name: f"n{index}" for index, node in enumerate(graph.nodes)}
    nodes = (Node(name[n.name], n.op, tuple(name[read] for read in n.inputs)) for n in graph.nodes)
    return Graph(graph.input_shape, tuple(nodes))


def test_a_structure_is_a_hash_that_outlives_the_process() -> None:
    # Python's own hash() differs from process to process; this one was computed from the definition once.
    text = (
        '[[{"filters": 12, "kernel": 3, "kind": "conv", "stride": 1}, [-1]],'
        ' [{"filters": 12, "kernel": 1, "kind": "conv", "stride": 1}, [0]],'
        ' [{"kind": "add"}, [0, 1]], [{"block": 2, "kind": "depth_to_space"}, [2]]]'
    )
    assert two_convolutions().structure == hashlib.sha256(text.encode()).hexdigest()[:12] == "2777500e27e7"


@settings(max_examples=50, deadline=None)
@given(specs)
def test_a_structure_does_not_depend_on_names_or_size(spec) -> None:
    graph = build_graph(spec, LEVELLED)
    assert renamed(graph).structure == graph.structure
    assert renamed(graph) != graph
    assert graph.at((2, 32, 16, 4)).structure == graph.structure


@pytest.mark.parametrize(
    "edited",
    [
        {"b": (Conv(12, 3), ("a",))},  # another kernel
        {"b": (Conv(12, 1), ("a",)), "sum": (Add(), ("b", "a"))},  # read in another order
        {"sum": (Add(), ("b", "b"))},  # wired otherwise
        {"sum": (Subtract(), ("a", "b"))},  # another operation of the same fields
        {"rgb": (DepthToSpace(1), ("sum",))},
    ],
    ids=["kernel", "order", "wiring", "operation", "last"],
)
def test_a_structure_tells_other_networks_apart(edited: dict[str, tuple[Op, tuple[str, ...]]]) -> None:
    graph = two_convolutions()
    nodes = tuple(Node(n.name, *edited[n.name]) if n.name in edited else n for n in graph.nodes)
    assert Graph(SMALL, nodes).structure != graph.structure


def test_the_builder_knows_the_channels_of_every_map() -> None:
    g = GraphBuilder(SMALL)
    g.add("shuffle", DepthToSpace(), g.add("wide", Conv(12), INPUT))
    assert [g.channels(name) for name in (INPUT, "wide", "shuffle")] == [4, 12, 3]


def test_the_builder_refuses_at_the_node_that_does_not_fit() -> None:
    g = GraphBuilder(SMALL)
    g.add("wide", Conv(12), INPUT)
    with pytest.raises(GraphError, match='Node "sum": add needs two maps of one shape'):
        g.add("sum", Add(), "wide", INPUT)
    with pytest.raises(GraphError, match='Node "sum" reads "gone", which no earlier node makes'):
        g.add("sum", Add(), "wide", "gone")
    assert g.add("rgb", DepthToSpace(), "wide") == "rgb"
    assert [node.name for node in g.build().nodes] == ["wide", "rgb"]


@settings(max_examples=50, deadline=None)
@given(specs)
def test_totals_are_sums_over_nodes(spec) -> None:
    graph = build_graph(spec, LEVELLED)
    assert graph.parameters == sum(map(graph.node_parameters, graph.nodes))
    assert graph.parameters == sum(prod(shape) for shape in graph.parameter_shapes.values())
    assert graph.macs == sum(map(graph.node_macs, graph.nodes))


@settings(max_examples=50, deadline=None)
@given(specs)
def test_a_graph_survives_json(spec) -> None:
    graph = build_graph(spec, LEVELLED)
    again = Graph.from_dict(json.loads(json.dumps(graph.to_dict())))
    assert again == graph
    assert again.shapes == graph.shapes


@pytest.mark.parametrize("name", DESIGNS)
def test_another_size_changes_the_macs_and_not_the_parameters(name: str) -> None:
    graph = build_graph(DESIGNS[name].spec, LEVELLED)
    larger = graph.at((3, 32, 128, 4))
    assert larger.parameter_shapes == graph.parameter_shapes
    assert larger.output_shape == (3, 64, 256, 3)
    assert larger.macs > 7 * graph.macs
    assert larger.structure == graph.structure


def test_a_graph_needs_a_node() -> None:
    assert refused() == "A graph needs at least one node."


def test_two_nodes_of_one_name_are_refused() -> None:
    assert 'Two nodes are called "a"' in refused(("a", Conv(8), (INPUT,)), ("a", Conv(8), (INPUT,)))


def test_no_node_may_be_called_as_the_input_is() -> None:
    assert f'Two nodes are called "{INPUT}"' in refused((INPUT, Conv(8), (INPUT,)))


def test_a_map_that_nobody_makes_is_named_with_its_reader() -> None:
    complaint = refused(("a", Conv(8), (INPUT,)), ("b", Add(), ("a", "c")), ("c", Conv(8), (INPUT,)))
    assert complaint == 'Node "b" reads "c", which no earlier node makes.'


@pytest.mark.parametrize(
    ("op", "complaint"),
    [(Add(), "add needs two maps of one shape"), (Concat(), "concat needs two or more maps of one size")],
)
def test_maps_that_do_not_fit_name_the_node_where_they_meet(op: Op, complaint: str) -> None:
    said = refused(("half", Conv(8, stride=2), (INPUT,)), ("meet", op, ("half", INPUT)))
    assert said.startswith(f'Node "meet": {complaint}')
