"""The most memory that maps take at once: by hand, by bounds, and against what LiteRT sets aside."""

from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latency_models.kernels import kernels
from latency_models.memory import peak_activation_bytes
from search_spaces.designs import DESIGNS
from search_spaces.graph import INPUT, Graph, GraphBuilder
from search_spaces.networks import build_graph
from search_spaces.ops import Activation, Add, Concat, Conv, DepthToSpace, Shape
from search_spaces.space import load_space
from search_spaces.spec import ArchSpec

SMALL: Shape = (1, 8, 16, 4)  # 512 values
SPACE = load_space("mai21")
specs = st.builds(lambda data: SPACE.sample(lambda _, values, __: data.draw(st.sampled_from(values))), st.data())


# By hand


def test_smallnet_at_full_hd_is_largest_at_tanh_and_at_the_convolution_behind_it() -> None:
    # 544×960 pixels: 4 → 16 is 20 channels at once, tanh 16 + 16 = 32, the next convolution 32 again, the last one
    # 16 + 12 = 28, the shuffle 12 + 12 = 24. 32 × 544 × 960 × 4 bytes = 66 846 720.
    assert peak_activation_bytes(build_graph(DESIGNS["smallnet"].spec)) == 66_846_720


def test_one_kernel_holds_its_input_and_its_output() -> None:
    g = GraphBuilder(SMALL)
    g.add("conv", Conv(6), INPUT)
    assert peak_activation_bytes(g.build()) == 4 * (512 + 768)


def test_a_fused_activation_makes_no_map_of_its_own() -> None:
    fused, alone = GraphBuilder(SMALL), GraphBuilder(SMALL)
    fused.add("relu", Activation("relu"), fused.add("conv", Conv(16), INPUT))
    alone.add("tanh", Activation("tanh"), alone.add("conv", Conv(16), INPUT))
    assert peak_activation_bytes(fused.build()) == 4 * (512 + 2048)
    assert peak_activation_bytes(alone.build()) == 4 * (2048 + 2048)


def test_a_map_that_is_read_late_is_held_until_then() -> None:
    g = GraphBuilder(SMALL)
    early = g.add("early", Conv(4), INPUT)
    wide = g.add("wide", Conv(16), early)
    g.add("sum", Add(), g.add("narrow", Conv(4), wide), early)
    # early 512 + wide 2048 + narrow 512 while "narrow" runs; the input is long gone.
    assert peak_activation_bytes(g.build()) == 4 * (512 + 2048 + 512)


def test_the_input_is_held_as_long_as_it_is_read() -> None:
    g = GraphBuilder(SMALL)
    g.add("join", Concat(), g.add("b", Conv(8), g.add("a", Conv(8), INPUT)), INPUT)
    # input 512, a 1024, b 1024 while "b" runs; then input 512, b 1024, join 1536.
    assert peak_activation_bytes(g.build()) == 4 * (512 + 1024 + 1536)


def test_a_map_read_twice_by_one_kernel_exists_once() -> None:
    g = GraphBuilder(SMALL)
    g.add("double", Add(), INPUT, INPUT)
    assert peak_activation_bytes(g.build()) == 4 * (512 + 512)


def test_a_map_that_nobody_reads_is_gone_when_its_kernel_has_run() -> None:
    g = GraphBuilder(SMALL)
    g.add("unread", Conv(32), INPUT)
    g.add("out", DepthToSpace(2), INPUT)
    assert peak_activation_bytes(g.build()) == 4 * (512 + 4096)


# By bounds


@settings(deadline=None, max_examples=50)
@given(specs)
def test_the_peak_lies_between_the_largest_kernel_and_the_sum_of_all_maps(spec: ArchSpec) -> None:
    graph = build_graph(spec, (1, 16, 32, 4))
    parts = kernels(graph)
    sizes = {INPUT: prod(graph.input_shape)} | {part.makes: part.output_elements for part in parts}
    largest = max(sum(sizes[name] for name in {*part.reads, part.makes}) for part in parts)
    assert 4 * largest <= peak_activation_bytes(graph) <= 4 * sum(sizes.values())


@settings(deadline=None, max_examples=20)
@given(specs, st.integers(1, 8))
def test_the_peak_follows_the_size_of_an_element_and_the_batch(spec: ArchSpec, number: int) -> None:
    graph = build_graph(spec, (1, 16, 32, 4))
    assert peak_activation_bytes(graph, bytes_per_element=number) == number * peak_activation_bytes(
        graph, bytes_per_element=1
    )
    assert peak_activation_bytes(graph.at((number, 16, 32, 4))) == number * peak_activation_bytes(graph)


# Against LiteRT


def arena_bytes(graph: Graph) -> int:
    """Return how far apart LiteRT, with its reference kernels, puts the maps of a network in memory."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    from search_spaces.lower_flax import init_parameters
    from search_spaces.lower_tf import to_tflite

    content = to_tflite(graph, init_parameters(graph, 0))
    interpreter = Interpreter(model_content=content, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    interpreter.allocate_tensors()
    file = np.frombuffer(content, np.uint8).__array_interface__["data"][0]
    spans = []
    for index in (details["index"] for details in interpreter.get_tensor_details() if prod(details["shape"])):
        view = interpreter.tensor(index)()
        start = view.__array_interface__["data"][0]
        if not file <= start < file + len(content):  # weights stay in the file
            spans.append((start, start + view.nbytes))
    return max(end for _, end in spans) - min(start for start, _ in spans)


@pytest.mark.parametrize("name", ["smallnet", "csanet"])
def test_litert_sets_aside_the_peak_and_the_input_which_it_never_frees(name: str) -> None:
    graph = build_graph(DESIGNS[name].spec, (1, 32, 48, 4))
    wanted = peak_activation_bytes(graph) + 4 * prod(graph.input_shape)
    assert arena_bytes(graph) == pytest.approx(wanted, rel=0.01)
