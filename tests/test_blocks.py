"""Every member of every space is a network that the challenge's phone could be handed."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces.blocks import ATTENTION_BUILDERS, BLOCK_BUILDERS, build_graph
from search_spaces.errors import SpecError
from search_spaces.graph import FULL_HD, Graph
from search_spaces.ops import Activation, Conv, DepthToSpace, GlobalMean, Multiply, Shape, TransposeConv
from search_spaces.space import SearchSpace
from search_spaces.spec import ATTENTIONS, BLOCKS, GENES, UPSAMPLERS, ArchSpec

ALL = SearchSpace("all", {name: gene.legal for name, gene in GENES.items()})
specs = st.builds(lambda data: ALL.sample(lambda _, values, __: data.draw(st.sampled_from(values))), st.data())
SMALL: Shape = (1, 8, 16, 4)
# Trained values of one block of sixteen channels with 3×3 kernels, added up by hand from k²·in·out + out per
# convolution: 3×3 16→16 2320, 16→32 4640; 1×1 32→16 528, 32→32 1056, 64→16 1040; gates of 16 channels 68 + 80
# (hidden 4) and 416 (5×5 depthwise), of 32 channels 264 + 288 (hidden 8) and 832.
BLOCK_PARAMETERS = {
    ("plain", "none"): 2320,
    ("plain", "channel"): 2320 + 148,
    ("plain", "spatial"): 2320 + 416,
    ("plain", "dual"): 2320 + 148 + 416 + 528,
    ("residual", "none"): 4640,
    ("residual", "channel"): 4640 + 148,
    ("residual", "spatial"): 4640 + 416,
    ("residual", "dual"): 4640 + 148 + 416 + 528,
    ("expanded", "none"): 4640 + 528,
    ("expanded", "channel"): 4640 + 1056 + 552 + 528,
    ("expanded", "spatial"): 4640 + 1056 + 832 + 528,
    ("expanded", "dual"): 4640 + 1056 + 552 + 832 + 1040,
}


def small(**genes: object) -> Graph:
    return build_graph(ArchSpec.from_dict(genes), SMALL)


def ops_of(graph: Graph) -> dict[str, object]:
    return {node.name: node.op for node in graph.nodes}


@settings(max_examples=150, deadline=None)
@given(specs)
def test_every_member_makes_full_hd_rgb_of_the_challenges_input(spec: ArchSpec) -> None:
    graph = build_graph(spec)
    assert graph.input_shape == FULL_HD
    assert graph.output_shape == (1, 1088, 1920, 3)
    assert graph.parameters > 0
    assert graph.macs > 0


@settings(max_examples=50, deadline=None)
@given(specs)
def test_the_parameters_do_not_depend_on_the_size(spec: ArchSpec) -> None:
    assert build_graph(spec).parameter_shapes == build_graph(spec, SMALL).parameter_shapes


@settings(max_examples=50, deadline=None)
@given(specs)
def test_no_map_is_computed_in_vain(spec: ArchSpec) -> None:
    graph = build_graph(spec, SMALL)
    assert [node.name for node in graph.nodes if not graph.readers(node.name)] == [graph.output]


def test_every_block_and_attention_has_a_builder() -> None:
    assert tuple(BLOCK_BUILDERS) == BLOCKS
    assert ("none", *ATTENTION_BUILDERS) == ATTENTIONS
    assert set(BLOCK_PARAMETERS) == {(block, attention) for block in BLOCKS for attention in ATTENTIONS}


@pytest.mark.parametrize(("block", "attention"), BLOCK_PARAMETERS)
def test_a_block_keeps_the_shape_and_has_the_parameters_counted_by_hand(block: str, attention: str) -> None:
    genes = {"width": 16, "block": block, "attention": attention}
    one, two = small(depth=1, **genes), small(depth=2, **genes)
    assert two.parameters - one.parameters == BLOCK_PARAMETERS[block, attention]
    assert one.parameters - small(depth=0, width=16).parameters == BLOCK_PARAMETERS[block, attention]
    last = [node.name for node in one.nodes if node.name.startswith("block1.")][-1]
    assert one.shapes[last] == (1, 8, 16, 16)


@pytest.mark.parametrize("kernel", GENES["kernel"].legal)
@pytest.mark.parametrize(("block", "first"), [("plain", "conv"), ("residual", "conv_a"), ("expanded", "conv_a")])
def test_the_kernel_gene_is_that_of_a_blocks_first_convolution(block: str, first: str, kernel: int) -> None:
    op = ops_of(small(block=block, kernel=kernel))[f"block1.{first}"]
    assert isinstance(op, Conv)
    assert op.kernel == kernel


@pytest.mark.parametrize(("width", "hidden"), [(4, 2), (8, 2), (16, 4), (48, 12)])
def test_channel_attention_squeezes_fourfold_and_never_below_two(width: int, hidden: int) -> None:
    ops = ops_of(small(width=width, attention="channel"))
    assert ops["block1.ca.fc1"] == Conv(hidden, 1)
    assert ops["block1.ca.fc2"] == Conv(width, 1)
    assert isinstance(ops["block1.ca.mean"], GlobalMean)
    assert isinstance(ops["block1.ca.mul"], Multiply)


@pytest.mark.parametrize(("skip", "channels"), [("none", 16), ("add", 16), ("concat", 32)])
def test_the_long_skip_joins_stem_and_body(skip: str, channels: int) -> None:
    graph = small(long_skip=skip)
    head = next(node for node in graph.nodes if node.name == "head")
    assert graph.input_shapes(head)[0][3] == channels
    assert [node.inputs for node in graph.nodes if node.name == "skip"] == (
        [] if skip == "none" else [("tail.relu", "stem1.relu")]
    )


@pytest.mark.parametrize("inner", UPSAMPLERS)
@pytest.mark.parametrize("outer", UPSAMPLERS)
def test_a_body_at_a_quarter_comes_up_in_two_steps(inner: str, outer: str) -> None:
    graph = small(scale=4, body_upsampler=inner, output_upsampler=outer)
    assert graph.shapes["stem1"] == (1, 4, 8, 16)
    enlarging = [type(node.op) for node in graph.nodes if isinstance(node.op, DepthToSpace | TransposeConv)]
    kinds = {"depth_to_space": DepthToSpace, "transposed": TransposeConv}
    assert enlarging == [kinds[inner], kinds[outer]]


def test_a_body_at_half_is_not_enlarged_inside() -> None:
    assert "up" not in ops_of(small(scale=2))


def test_the_refining_convolution_works_at_full_resolution_and_ends_the_network() -> None:
    graph = small(refine_width=8, output_activation="none")
    assert graph.output == "rgb"
    assert graph.input_shapes(graph.nodes[-1]) == ((1, 16, 32, 8),)


@pytest.mark.parametrize("outer", UPSAMPLERS)
@pytest.mark.parametrize("refine", [0, 4])
@pytest.mark.parametrize("function", ["relu", "sigmoid"])
def test_nothing_but_a_shuffle_follows_the_output_activation(outer: str, refine: int, function: str) -> None:
    graph = small(activation="elu", output_upsampler=outer, refine_width=refine, output_activation=function)
    end = [node.op for node in graph.nodes if not isinstance(node.op, DepthToSpace)][-1]
    assert end == Activation(function)


@pytest.mark.parametrize("size", [(1, 7, 16, 4), (1, 8, 15, 4)])
def test_a_size_that_a_quarter_body_cannot_halve_is_refused_in_output_pixels(size: Shape) -> None:
    assert build_graph(ArchSpec(scale=2), size).output_shape == (1, 2 * size[1], 2 * size[2], 3)
    with pytest.raises(SpecError, match=rf"multiples of 4, got {2 * size[1]}×{2 * size[2]}; choose another size"):
        build_graph(ArchSpec(scale=4), size)
