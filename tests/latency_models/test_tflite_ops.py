"""The kernels that are priced are those of the exported file. Needs TensorFlow's converter (seconds)."""

from collections import Counter
from itertools import cycle

import pytest
from lowering_cases import LEVELLED, random_member, random_weights, tflite

from latency_models.delegate import load_delegate
from latency_models.kernels import Kernel, Network, kernels, network
from latency_models.support import support
from latency_models.tflite_network import read_network
from search_spaces.activations import BODY_ACTIVATIONS, TFLITE_OPS
from search_spaces.designs import DESIGNS
from search_spaces.graph import INPUT, Graph, GraphBuilder
from search_spaces.networks import build_graph
from search_spaces.ops import (
    Activation,
    Affine,
    Conv,
    DepthwiseConv,
    InstanceNorm,
    Op,
    Pool,
    Resize,
    Scale,
    TransposeConv,
)
from search_spaces.spec import GENES, ArchSpec, Value

# Every design, members of the space at random, and every activation once, each in one of these structures.
RANDOM_MEMBERS = 12


NEURON = load_delegate("mediatek-neuron")
STRUCTURES: list[dict[str, Value]] = [
    {"block": "residual", "attention": "dual", "output_upsampler": "transposed", "refine_width": 4},
    {"depth": 2, "block": "residual", "attention": "channel"},
    {"stem_depth": 2, "attention": "spatial"},
    {"output_upsampler": "transposed", "refine_width": 4, "output_activation": "sigmoid"},
    {"scale": 4, "body_upsampler": "depth_to_space", "long_skip": "concat"},
    {"scale": 4, "body_upsampler": "transposed", "block": "expanded", "long_skip": "add"},
    {"block": "expanded", "attention": "spatial", "refine_width": 8},
]
SPECS = {
    **{name: design.spec for name, design in DESIGNS.items()},
    **{f"random {seed}": random_member(seed) for seed in range(RANDOM_MEMBERS)},
    **{
        name: ArchSpec.from_dict({"activation": name, "stem_activation": name, **structure})
        for name, structure in zip(BODY_ACTIVATIONS, cycle(STRUCTURES), strict=False)
    },
    "transposed": ArchSpec(scale=4, depth=0, output_upsampler="transposed", output_activation="relu"),
}


def exported(graph: Graph) -> bytes:
    return tflite(graph, random_weights(graph))


def row(kernel: Kernel) -> Kernel:
    """A kernel without names, which the converter makes up."""
    return kernel._replace(name="", nodes=(), reads=(), makes="")


def wired(whole: Network) -> Counter[tuple[Kernel, tuple[Kernel | str, ...]]]:
    """Every kernel with the kernels whose maps it reads; the converter orders branches as it likes."""
    makers: dict[str, Kernel | str] = {INPUT: INPUT} | {kernel.makes: row(kernel) for kernel in whole.kernels}
    return Counter((row(kernel), tuple(makers[name] for name in kernel.reads)) for kernel in whole.kernels)


@pytest.mark.parametrize("name", SPECS)
def test_the_network_of_a_graph_is_the_network_of_its_file(name: str) -> None:
    graph = build_graph(SPECS[name], LEVELLED)
    content = exported(graph)
    computed, read = network(graph), read_network(content)
    assert wired(computed) - wired(read) == wired(read) - wired(computed) == Counter()
    assert (computed.input_elements, computed.output_elements) == (read.input_elements, read.output_elements)
    refused = support(read, NEURON).refused  # here, because a conversion takes a second
    assert {refusal.op for refusal in refused} <= {"RSQRT", *TFLITE_OPS.values()}


RELU, TANH, LINE = Activation("relu"), Activation("tanh"), Affine(0.58, 0.5)
# Chains that no member of the space has, or few: the rules hold for any graph.
CHAINS: dict[str, tuple[Op, ...]] = {
    "max pool, relu": (Pool("max"), RELU),
    "average pool, relu": (Pool("average"), RELU),
    "resize, relu": (Resize(), RELU),
    "factor, relu": (TANH, Scale(), RELU),
    "two factors": (TANH, Scale(), Scale()),
    "line, relu": (TANH, LINE, RELU),
    "two lines": (TANH, LINE, LINE),
    "conv, factor, relu": (Conv(4), Scale(), RELU),
    "conv, relu, factor": (Conv(4), RELU, Scale()),
    "conv, two factors": (Conv(4), Scale(), Scale()),
    "conv, line, relu": (Conv(4), LINE, RELU),
    "conv, factor, line": (Conv(4), Scale(), LINE),
    "depthwise, factor": (DepthwiseConv(3), Scale()),
    "depthwise without bias, factor": (DepthwiseConv(3, use_bias=False), Scale()),
    "depthwise, line": (DepthwiseConv(3), LINE),
    "depthwise without bias, line": (DepthwiseConv(3, use_bias=False), LINE),
    "depthwise without bias, conv": (DepthwiseConv(3, use_bias=False), Conv(4, 1)),
    "transposed, factor": (TransposeConv(4), Scale()),
    "transposed, line": (TransposeConv(4), LINE),
    "transposed, factor, relu": (TransposeConv(4), Scale(), RELU),
    "transposed without bias, factor": (TransposeConv(4, use_bias=False), Scale()),
    "transposed without bias, line": (TransposeConv(4, use_bias=False), LINE),
    "norm, relu": (TANH, InstanceNorm(), RELU),
    "norm, factor": (TANH, InstanceNorm(), Scale()),
    "conv, norm": (Conv(4), InstanceNorm()),
}


@pytest.mark.parametrize("ops", CHAINS.values(), ids=CHAINS)
def test_the_network_of_a_chain_is_the_network_of_its_file_in_order(ops: tuple[Op, ...]) -> None:
    g = GraphBuilder((1, 8, 12, 4))
    x = INPUT
    for index, op in enumerate(ops):
        x = g.add(f"n{index}", op, x)
    graph = g.build()
    assert list(map(row, kernels(graph))) == list(map(row, read_network(exported(graph)).kernels))


def test_the_specs_above_hold_every_activation_that_a_gene_can_have() -> None:
    genes = ("stem_activation", "activation", "output_activation")
    possible = {TFLITE_OPS[value] for gene in genes for value in GENES[gene].legal if value in TFLITE_OPS}
    used = {kernel.tflite_op for spec in SPECS.values() for kernel in kernels(build_graph(spec, LEVELLED))}
    assert possible <= used
