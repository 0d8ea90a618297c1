"""What bodies are made of: contracts of every block and attention, and parameters and wiring counted by hand."""

import pytest

from search_spaces.graph import Graph, Node, Shape
from search_spaces.networks import build_graph
from search_spaces.ops import Add, Concat, Conv, DepthwiseConv, GlobalMean, InstanceNorm, Multiply, Op, Scale
from search_spaces.parts import ATTENTIONS, BLOCKS, Part
from search_spaces.spec import GENES, ArchSpec, Value

SMALL: Shape = (1, 8, 16, 4)
# Trained values of one block of sixteen channels with 3×3 kernels, two layers and a growth of eight, added up by hand
# from k²·in·out + out per convolution: 3×3 16→16 2320, 16→32 4640, 16→8 1160, 24→8 1736; 1×1 16→8 136, 32→16 528,
# 32→32 1056, 64→16 1040; gates of 8 channels 18 + 24 (hidden 2) and 208 (5×5 depthwise), of 16 channels 68 + 80
# (hidden 4) and 416, of 32 channels 264 + 288 (hidden 8) and 832.
_GATES_OF_16 = {"none": 0, "channel": 148, "spatial": 416, "dual": 148 + 416 + 528}
_GATES_OF_8 = {"none": 0, "channel": 42, "spatial": 208, "dual": 42 + 208 + 136}
BLOCK_PARAMETERS = {
    **{("plain", attention): 2320 + gate for attention, gate in _GATES_OF_16.items()},
    **{("residual", attention): 4640 + gate for attention, gate in _GATES_OF_16.items()},
    **{("adaptive_residual", attention): 4640 + 2 + gate for attention, gate in _GATES_OF_16.items()},
    ("expanded", "none"): 4640 + 528,
    ("expanded", "channel"): 4640 + 1056 + 552 + 528,
    ("expanded", "spatial"): 4640 + 1056 + 832 + 528,
    ("expanded", "dual"): 4640 + 1056 + 552 + 832 + 1040,
    **{("dense", attention): 1160 + gate for attention, gate in _GATES_OF_8.items()},
    **{("residual_dense", attention): 1160 + 1736 + 528 + gate for attention, gate in _GATES_OF_16.items()},
}
# The same blocks of one filter per channel (9·in) and one convolution per pixel (in·out + out).
SEPARABLE_PARAMETERS = {
    "plain": 144 + 272,
    "residual": 2 * (144 + 272),
    "adaptive_residual": 2 * (144 + 272) + 2,
    "expanded": 144 + 544 + 528,
    "dense": 144 + 136,
    "residual_dense": 144 + 136 + 216 + 200 + 528,
}
# What every block computes, in order, where nothing activates or recalibrates.
BLOCK_WIRING: dict[str, list[tuple[str, Op, tuple[str, ...]]]] = {
    "plain": [("conv", Conv(16), ("IN",))],
    "residual": [
        ("conv_a", Conv(16), ("IN",)),
        ("conv_b", Conv(16), ("conv_a.relu",)),
        ("add", Add(), ("conv_b", "IN")),
    ],
    "adaptive_residual": [
        ("conv_a", Conv(16), ("IN",)),
        ("conv_b", Conv(16), ("conv_a.relu",)),
        ("branch_weight", Scale(), ("conv_b",)),
        ("input_weight", Scale(), ("IN",)),
        ("add", Add(), ("branch_weight", "input_weight")),
    ],
    "expanded": [
        ("conv_a", Conv(32), ("IN",)),
        ("fuse", Conv(16, 1), ("conv_a.relu",)),
        ("add", Add(), ("fuse", "IN")),
    ],
    "dense": [("conv", Conv(8), ("IN",)), ("grow", Concat(), ("IN", "conv.relu"))],
    "residual_dense": [
        ("conv_a", Conv(8), ("IN",)),
        ("conv_a.concat", Concat(), ("IN", "conv_a.relu")),
        ("conv_b", Conv(8), ("conv_a.concat",)),
        ("conv_b.concat", Concat(), ("conv_a.concat", "conv_b.relu")),
        ("fuse", Conv(16, 1), ("conv_b.concat",)),
        ("add", Add(), ("fuse", "IN")),
    ],
}


def small(**genes: Value) -> Graph:
    return build_graph(ArchSpec.from_dict(genes), SMALL)


def ops_of(graph: Graph) -> dict[str, Op]:
    return {node.name: node.op for node in graph.nodes}


def inputs_of(graph: Graph) -> dict[str, tuple[str, ...]]:
    return {node.name: node.inputs for node in graph.nodes}


def parameters_of(graph: Graph, prefix: str) -> int:
    return sum(graph.node_parameters(node) for node in graph.nodes if node.name.startswith(prefix))


def body_output(graph: Graph) -> str:
    return inputs_of(graph)["head"][0]


def nodes_of(graph: Graph, prefix: str) -> list[Node]:
    return [node for node in graph.nodes if node.name.startswith(prefix)]


# Contracts: a new block or attention is tested by being registered

every_block = pytest.mark.parametrize("block", BLOCKS)
every_attention = pytest.mark.parametrize("attention", ATTENTIONS)


@every_block
@pytest.mark.parametrize("attention", ["none", *ATTENTIONS])
@pytest.mark.parametrize("position", GENES["attention_position"].legal)
def test_what_a_block_and_its_attention_make_is_as_large_as_what_they_read(
    block: str, attention: str, position: str
) -> None:
    graph = small(block=block, attention=attention, attention_position=position, depth=2)
    made = graph.shapes[body_output(graph)]
    assert made[:3] == (1, 8, 16)
    assert made[3] >= 16


@every_block
def test_a_block_reads_the_one_before_it_alone(block: str) -> None:
    graph = small(block=block, depth=2)
    first, second = (nodes_of(graph, f"block{number}.") for number in (1, 2))
    last = next(node.name for node in reversed(graph.nodes) if node in first)
    own = {node.name for node in second}
    outside = {read for node in second for read in node.inputs} - own
    assert outside == {last}
    assert {read for node in first for read in node.inputs} - {node.name for node in first} == {"stem1.relu"}


@every_block
@pytest.mark.parametrize("convolution", GENES["convolution"].legal)
@pytest.mark.parametrize("kernel", GENES["kernel"].legal)
def test_the_kernel_gene_is_that_of_a_blocks_first_spatial_convolution(
    block: str, convolution: str, kernel: int
) -> None:
    graph = small(block=block, kernel=kernel, convolution=convolution)
    kernels = [n.op.kernel for n in nodes_of(graph, "block1.") if isinstance(n.op, Conv | DepthwiseConv)]
    assert kernel in kernels
    assert {*kernels} <= {kernel, 3, 1}


@every_block
def test_a_separable_block_has_no_full_convolution_and_no_more_weights(block: str) -> None:
    full, separable = (small(block=block, convolution=kind) for kind in ("full", "separable"))
    assert parameters_of(separable, "block1.") <= parameters_of(full, "block1.")
    assert all(
        node.op.kernel == 1 for node in separable.nodes if node.name.startswith("block1.") and type(node.op) is Conv
    )


@every_attention
def test_an_attention_adds_a_gate_and_weights(attention: str) -> None:
    graph = small(attention=attention)
    assert any(isinstance(node.op, Multiply) for node in nodes_of(graph, "block1."))
    assert parameters_of(graph, "block1.") > parameters_of(small(), "block1.")


@pytest.mark.parametrize(
    ("kind", "name", "gene"),
    [
        (kind, name, gene)
        for kind, parts in (("block", BLOCKS), ("attention", ATTENTIONS))
        for name, part in parts.items()
        for gene in part.genes
    ],
)
def test_a_gene_that_a_part_reads_changes_it(kind: str, name: str, gene: str) -> None:
    made = [small(**{kind: name, gene: value}).structure for value in GENES[gene].legal]
    assert len({*made}) == len(made)


@pytest.mark.parametrize("parts", [BLOCKS, ATTENTIONS], ids=["blocks", "attentions"])
def test_genes_of_parts_are_genes(parts: dict[str, Part]) -> None:
    assert {gene for part in parts.values() for gene in part.genes} <= {*GENES}


# Known answers


@pytest.mark.parametrize(("block", "attention"), BLOCK_PARAMETERS)
def test_a_block_has_the_parameters_counted_by_hand_and_its_shape(block: str, attention: str) -> None:
    graph = small(block=block, attention=attention)
    assert parameters_of(graph, "block1.") == BLOCK_PARAMETERS[block, attention]
    channels = 16 + 8 if block == "dense" else 16
    assert graph.shapes[body_output(graph)] == (1, 8, 16, channels)
    # What is not the block is a stem of 592 and a head of 9 · channels · 12 + 12.
    assert graph.parameters - BLOCK_PARAMETERS[block, attention] == 592 + 108 * channels + 12


@pytest.mark.parametrize("block", SEPARABLE_PARAMETERS)
def test_a_separable_block_has_the_parameters_counted_by_hand(block: str) -> None:
    graph = small(block=block, convolution="separable")
    assert parameters_of(graph, "block1.") == SEPARABLE_PARAMETERS[block]
    first, second = nodes_of(graph, "block1.")[:2]
    assert first.op == DepthwiseConv(3, use_bias=False)
    assert isinstance(second.op, Conv)
    assert second.op.kernel == 1


@pytest.mark.parametrize("block", BLOCK_WIRING)
def test_a_block_is_wired_as_published(block: str) -> None:
    graph = small(block=block)
    nodes = [n for n in graph.nodes if n.name.startswith("block1.") and not n.name.endswith(".relu")]
    wanted = [
        (f"block1.{name}", op, tuple("stem1.relu" if read == "IN" else f"block1.{read}" for read in reads))
        for name, op, reads in BLOCK_WIRING[block]
    ]
    assert [(node.name, node.op, node.inputs) for node in nodes] == wanted


@pytest.mark.parametrize("block", BLOCK_WIRING)
def test_a_second_block_has_as_many_parameters(block: str) -> None:
    grown = 9 * 8 * 8 if block == "dense" else 0  # its input is eight channels wider
    assert parameters_of(small(block=block, depth=2), "block2.") == BLOCK_PARAMETERS[block, "none"] + grown


@pytest.mark.parametrize("kernel", GENES["kernel"].legal)
@pytest.mark.parametrize("block", ["residual", "adaptive_residual", "residual_dense"])
def test_the_later_convolutions_of_a_block_are_3_by_3(block: str, kernel: int) -> None:
    ops = ops_of(small(block=block, kernel=kernel, block_layers=3))
    kernels = [op.kernel for name, op in ops.items() if name.startswith("block1.conv") and isinstance(op, Conv)]
    assert kernels == [kernel, 3, 3]


@pytest.mark.parametrize("layers", GENES["block_layers"].legal)
@pytest.mark.parametrize("block", ["residual", "adaptive_residual", "residual_dense"])
def test_a_block_has_as_many_convolutions_as_its_gene_says(block: str, layers: int) -> None:
    ops = ops_of(small(block=block, block_layers=layers))
    assert sum(name.startswith("block1.conv_") and isinstance(op, Conv) for name, op in ops.items()) == layers


def test_the_growth_gene_is_what_each_dense_layer_adds() -> None:
    dense = small(block="dense", depth=3, growth=12)
    assert [dense.shapes[f"block{n}.grow"][3] for n in (1, 2, 3)] == [28, 40, 52]
    inside = small(block="residual_dense", growth=12)
    assert [inside.shapes[f"block1.conv_{n}.concat"][3] for n in "ab"] == [28, 40]


@pytest.mark.parametrize("block", ["residual", "adaptive_residual"])
def test_a_residual_block_may_activate_what_it_adds(block: str) -> None:
    linear, activated = (inputs_of(small(block=block, block_end=end)) for end in ("linear", "activated"))
    first = "block1.branch_weight" if block == "adaptive_residual" else "block1.add"
    assert linear[first][0] == "block1.conv_b"
    assert activated[first][0] == "block1.conv_b.relu"


@pytest.mark.parametrize("width", [4, 8, 16, 48])
@pytest.mark.parametrize("reduction", GENES["attention_reduction"].legal)
def test_channel_attention_squeezes_as_its_gene_says_and_never_below_two(width: int, reduction: int) -> None:
    graph = small(width=width, attention="channel", attention_reduction=reduction)
    ops = ops_of(graph)
    assert ops["block1.ca.fc1"] == Conv(max(2, width // reduction), 1)
    assert ops["block1.ca.fc2"] == Conv(width, 1)
    assert ops["block1.ca.mean"] == GlobalMean()
    assert inputs_of(graph)["block1.ca.mul"] == ("block1.conv.relu", "block1.ca.fc2.sigmoid")
    assert ops["block1.ca.mul"] == Multiply()


def test_spatial_attention_gates_every_pixel() -> None:
    graph = small(attention="spatial")
    assert ops_of(graph)["block1.sa.dw"] == DepthwiseConv(5, dilation=2)
    assert inputs_of(graph)["block1.sa.mul"] == ("block1.conv.relu", "block1.sa.dw.sigmoid")


def test_dual_attention_lets_both_gates_read_one_map_and_brings_the_channels_back() -> None:
    inputs = inputs_of(small(attention="dual"))
    assert inputs["block1.sa.dw"] == inputs["block1.ca.mean"] == ("block1.conv.relu",)
    assert inputs["block1.concat"] == ("block1.sa.mul", "block1.ca.mul")
    assert inputs["block1.fuse"] == ("block1.concat",)
    assert ops_of(small(attention="dual"))["block1.fuse"] == Conv(16, 1)


@every_block
@every_attention
def test_attention_behind_the_body_is_there_once_and_reads_all_blocks(block: str, attention: str) -> None:
    graph = small(block=block, attention=attention, attention_position="body", depth=2)
    plain = small(block=block, depth=2)
    assert nodes_of(graph, "block") == nodes_of(plain, "block")
    of_attention = nodes_of(graph, "body.")
    outside = {read for node in of_attention for read in node.inputs} - {node.name for node in of_attention}
    assert outside == {body_output(plain)}
    assert graph.shapes[body_output(graph)] == plain.shapes[body_output(plain)]


def test_attention_without_blocks_recalibrates_the_lowest_level_and_no_flat_stem() -> None:
    assert inputs_of(small(topology="unet", levels=1, depth=0, attention="channel"))["body.ca.mean"] == (
        "enc1.conv1.relu",
    )
    assert body_output(small(depth=0, attention="channel")) == "stem1.relu"


def test_the_position_of_attention_in_a_residual_block_is_its_branch() -> None:
    inputs = inputs_of(small(block="residual", attention="channel"))
    assert inputs["block1.ca.mean"] == ("block1.conv_b",)
    assert inputs["block1.add"] == ("block1.ca.mul", "stem1.relu")


@every_block
@pytest.mark.parametrize(("skip", "op"), [("add", Add()), ("concat", Concat())])
def test_the_long_skip_joins_stem_and_tail(block: str, skip: str, op: Op) -> None:
    graph = small(block=block, long_skip=skip)
    assert body_output(graph) == "skip"
    assert ops_of(graph)["skip"] == op
    assert inputs_of(graph)["skip"] == ("tail.relu", "stem1.relu")
    assert ops_of(graph)["tail"] == Conv(16, 3)
    assert graph.shapes["skip"][3] == (16 if skip == "add" else 32)


def test_the_tail_is_an_activated_convolution_of_the_bodys_width() -> None:
    graph = small(block="dense", tail="conv")
    assert inputs_of(graph)["tail"] == ("block1.grow",)
    assert graph.shapes["tail"] == (1, 8, 16, 16)
    assert body_output(graph) == "tail.relu"
    assert "tail" not in ops_of(small(block="dense"))


def test_local_fusion_reads_all_blocks_and_adds_what_went_in() -> None:
    graph = small(depth=3, block="residual", long_skip="local_fusion")
    inputs = inputs_of(graph)
    assert inputs["fusion.concat"] == ("block1.add", "block2.add", "block3.add")
    assert ops_of(graph)["fusion.reduce"] == Conv(16, 1)
    assert inputs["fusion.add"] == ("fusion.reduce", "stem1.relu")
    assert body_output(graph) == "fusion.add"


def test_local_fusion_of_adaptive_units_learns_two_weights_more() -> None:
    inputs = inputs_of(small(depth=2, block="adaptive_residual", long_skip="local_fusion"))
    assert inputs["fusion.add"] == ("fusion.branch_weight", "fusion.input_weight")
    assert inputs["fusion.branch_weight"] == ("fusion.reduce",)
    assert inputs["fusion.input_weight"] == ("stem1.relu",)


def test_local_fusion_of_one_block_concatenates_nothing() -> None:
    inputs = inputs_of(small(depth=1, long_skip="local_fusion"))
    assert "fusion.concat" not in inputs
    assert inputs["fusion.reduce"] == ("block1.conv.relu",)


@pytest.mark.parametrize("convolution", GENES["convolution"].legal)
@every_block
def test_every_convolution_of_a_block_is_normalised_once_behind_its_last_step(block: str, convolution: str) -> None:
    graph = small(block=block, convolution=convolution, normalisation="instance")
    ops, inputs = ops_of(graph), inputs_of(graph)
    convolutions = [name for name, op in ops.items() if name.startswith("block1.") and isinstance(op, Conv)]
    assert convolutions
    norms = {name: inputs[name] for name, op in ops.items() if isinstance(op, InstanceNorm)}
    assert norms == {f"{name}.norm": (name,) for name in convolutions}
