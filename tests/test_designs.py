"""The published designs, layer by layer, against the reconstruction tables they were read from."""

import json

import pytest

from search_spaces.designs import DESIGNS, Design, design_name, find_design
from search_spaces.errors import UnknownNameError
from search_spaces.graph import Graph
from search_spaces.networks import build_graph
from search_spaces.ops import Activation
from search_spaces.space import load_space
from search_spaces.spec import ArchSpec

# (trained values, MMAC at 1920×1088) of every layer that has any, in order.
# Source: arXiv 2105.07809 §4.1 for Smallnet; §4.2 and the team's public TensorFlow code for CSANet.
_ATTENTION_MODULE = [
    (4640, 601.6),  # 3×3 16→32
    (1056, 133.7),  # 1×1 32→32
    (832, 104.4),  # 5×5 depthwise, dilation 2
    (264, 0.0),  # 1×1 32→8 on one pixel
    (288, 0.0),  # 1×1 8→32 on one pixel
    (1040, 133.7),  # 1×1 64→16
]
LAYERS = {
    "smallnet": [(592, 300.8), (2320, 1203.2), (1740, 902.4)],
    "csanet": [
        (592, 75.2),
        (2320, 300.8),
        *_ATTENTION_MODULE,
        *_ATTENTION_MODULE,
        (2320, 300.8),
        (4608, 601.6),  # transposed 32→16, no bias
        (2320, 1203.2),
        (111, 225.6),
    ],
}
TOTALS = {"smallnet": (4652, 2406.48192), "csanet": (28511, 4654.2)}
ACTIVATIONS = {
    "smallnet": ["tanh", "relu", "relu"],
    "csanet": ["relu", "relu", *["relu", "sigmoid", "relu", "sigmoid"] * 2, "relu", "relu", "sigmoid"],
}

every_design = pytest.mark.parametrize("design", DESIGNS.values(), ids=DESIGNS)


def layers(graph: Graph) -> list[tuple[int, float]]:
    counted = ((graph.node_parameters(node), graph.node_macs(node) / 1e6) for node in graph.nodes)
    return [(parameters, mmacs) for parameters, mmacs in counted if parameters]


@every_design
def test_every_layer_has_the_published_parameters_and_macs(design: Design) -> None:
    counted = layers(build_graph(design.spec))
    assert [parameters for parameters, _ in counted] == [parameters for parameters, _ in LAYERS[design.name]]
    assert [mmacs for _, mmacs in counted] == pytest.approx([mmacs for _, mmacs in LAYERS[design.name]], abs=0.05)


@every_design
def test_the_totals_are_the_published_ones(design: Design) -> None:
    graph = build_graph(design.spec)
    parameters, mmacs = TOTALS[design.name]
    assert graph.parameters == parameters
    assert graph.macs / 1e6 == pytest.approx(mmacs, abs=0.05)


def test_smallnet_takes_exactly_the_macs_of_three_convolutions() -> None:
    assert build_graph(DESIGNS["smallnet"].spec).macs == 2_406_481_920


@every_design
def test_activations_are_the_published_ones_in_order(design: Design) -> None:
    graph = build_graph(design.spec)
    assert [n.op.function for n in graph.nodes if isinstance(n.op, Activation)] == ACTIVATIONS[design.name]


@every_design
def test_four_bytes_a_value_fit_into_the_published_file_size(design: Design) -> None:
    # The challenge's files were float32 with a container of 2 kB (few operations) to 11 kB (35 operations).
    container_kb = design.table1.size_kb - 4 * build_graph(design.spec).parameters / 1000
    assert 0 < container_kb < 12


@every_design
def test_a_design_is_a_point_of_the_built_in_space(design: Design) -> None:
    space = load_space("mai21")
    assert space.contains(design.spec)
    genes = space.genes_of(design.spec)
    assert space.sample(lambda name, _, __: genes[name]) == design.spec


@every_design
def test_a_design_is_found_by_name_and_recognised_by_its_genes(design: Design) -> None:
    assert find_design(design.name) is design
    assert design_name(ArchSpec.from_dict(json.loads(json.dumps(design.spec.to_dict())))) == design.name
    assert design_name(design.spec.with_genes(width=24)) is None
    assert design.source.startswith("arXiv 2105.07809")


def test_an_unknown_design_names_the_nearest_one() -> None:
    with pytest.raises(UnknownNameError, match=r'Unknown design "csnet".*Did you mean "csanet"'):
        find_design("csnet")


def test_no_two_designs_are_one_network() -> None:
    assert len({design.spec.hash for design in DESIGNS.values()}) == len(DESIGNS)
