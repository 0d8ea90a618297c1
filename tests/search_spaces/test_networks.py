"""From genes to a whole network: ways down and up, skips, paths, stem and head, by hand."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces.errors import SpecError
from search_spaces.graph import FULL_HD, INPUT, Graph, Shape
from search_spaces.networks import WIDEST_LEVEL, build_graph
from search_spaces.ops import (
    Activation,
    Add,
    Affine,
    Concat,
    Conv,
    DepthToSpace,
    InstanceNorm,
    Op,
    Pool,
    Resize,
    Subtract,
    TransposeConv,
)
from search_spaces.parts import TOPOLOGIES
from search_spaces.space import SearchSpace
from search_spaces.spec import DOWNSAMPLERS, GENES, OUTPUT_ACTIVATIONS, UPSAMPLERS, ArchSpec, Value

ALL = SearchSpace("all", {name: gene.legal for name, gene in GENES.items()})
specs = st.builds(lambda data: ALL.sample(lambda _, values, __: data.draw(st.sampled_from(values))), st.data())
SMALL: Shape = (1, 16, 32, 4)
ENLARGING: dict[str, type[Op]] = {"depth_to_space": DepthToSpace, "transposed": TransposeConv, "bilinear": Resize}


def small(**genes: Value) -> Graph:
    return build_graph(ArchSpec.from_dict(genes), SMALL)


def ops_of(graph: Graph) -> dict[str, Op]:
    return {node.name: node.op for node in graph.nodes}


def inputs_of(graph: Graph) -> dict[str, tuple[str, ...]]:
    return {node.name: node.inputs for node in graph.nodes}


def wiring(graph: Graph) -> list[tuple[str, tuple[str, ...]]]:
    """Every node but the activations, each with what it reads before activation."""
    activations = {n.name: n.inputs[0] for n in graph.nodes if isinstance(n.op, Activation)}
    return [
        (n.name, tuple(activations.get(read, read) for read in n.inputs))
        for n in graph.nodes
        if n.name not in activations
    ]


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_every_topology_makes_rgb_of_twice_the_sides(topology: str) -> None:
    assert small(topology=topology).output_shape == (1, 32, 64, 3)


@pytest.mark.parametrize(
    ("topology", "gene"), [(name, gene) for name, part in TOPOLOGIES.items() for gene in part.genes]
)
def test_a_gene_that_a_topology_reads_changes_it(topology: str, gene: str) -> None:
    made = [build_graph(ArchSpec.from_dict({"topology": topology, gene: v})).structure for v in GENES[gene].legal]
    assert len({*made}) == len(made)


def test_three_thousand_networks_make_full_hd_rgb_of_the_challenges_input() -> None:
    rng = random.Random(0)
    for _ in range(3000):
        spec = ALL.sample(lambda _, values, __: rng.choice(values))
        assert build_graph(spec).output_shape == (1, 1088, 1920, 3), spec


@settings(max_examples=200, deadline=None)
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


@settings(max_examples=100, deadline=None)
@given(specs)
def test_no_map_is_computed_in_vain(spec: ArchSpec) -> None:
    graph = build_graph(spec, SMALL)
    assert [node.name for node in graph.nodes if not graph.readers(node.name)] == [graph.output]
    assert graph.readers(INPUT)


@settings(max_examples=100, deadline=None)
@given(specs)
def test_stem_and_head_are_told_by_their_names(spec: ArchSpec) -> None:
    # What trains or is counted apart from the body is found by these names.
    heads = ("head", "shuffle", "rgb", "input")
    names = [node.name for node in build_graph(spec, SMALL).nodes]
    first_of_head = next(index for index, name in enumerate(names) if name.startswith(heads))
    assert all(name.startswith(heads) for name in names[first_of_head:])
    assert sum(name == "stem1" for name in names) == 1


# Flat bodies


@pytest.mark.parametrize("downsampler", DOWNSAMPLERS)
@pytest.mark.parametrize(("scale", "side"), [(2, 16), (4, 8), (8, 4)])
def test_a_flat_body_works_at_its_scale(scale: int, side: int, downsampler: str) -> None:
    graph = small(scale=scale, downsampler=downsampler)
    assert graph.shapes["block1.conv"] == (1, side, 2 * side, 16)
    first = 2 if downsampler == "strided" and scale > 2 else 1
    assert ops_of(graph)["stem1"] == Conv(16, 3, stride=first)
    pools = [op for op in ops_of(graph).values() if isinstance(op, Pool)]
    function = {"max_pool": "max", "average_pool": "average"}
    assert pools == ([] if downsampler == "strided" else [Pool(function[downsampler])] * {2: 0, 4: 1, 8: 2}[scale])


def test_a_body_at_an_eighth_is_halved_by_the_stem_and_once_more() -> None:
    graph = small(scale=8, down_kernel=4, body_upsampler="transposed")
    assert wiring(graph) == [
        ("stem1", (INPUT,)),
        ("down2", ("stem1",)),
        ("block1.conv", ("down2",)),
        ("up", ("block1.conv",)),
        ("up2", ("up",)),
        ("head", ("up2",)),
        ("shuffle", ("head",)),
    ]
    assert ops_of(graph)["down2"] == Conv(16, 4, stride=2)
    assert ops_of(graph)["up"] == ops_of(graph)["up2"] == TransposeConv(16, 3, use_bias=False)


@pytest.mark.parametrize("inner", UPSAMPLERS)
@pytest.mark.parametrize("outer", UPSAMPLERS)
def test_a_body_at_a_quarter_comes_up_in_two_steps(inner: str, outer: str) -> None:
    graph = small(scale=4, body_upsampler=inner, output_upsampler=outer)
    steps = [node for node in graph.nodes if isinstance(node.op, DepthToSpace | TransposeConv | Resize)]
    assert [type(node.op) for node in steps] == [ENLARGING[inner], ENLARGING[outer]]
    assert [graph.shapes[node.name][1] for node in steps] == [16, 32]


def test_a_body_at_half_is_not_enlarged_inside() -> None:
    assert [name for name in ops_of(small(scale=2)) if name.startswith("up")] == []


# U-Nets


def test_a_u_net_is_wired_as_drawn() -> None:
    graph = small(topology="unet", levels=2)
    assert wiring(graph) == [
        ("stem1", (INPUT,)),
        ("down1", ("stem1",)),
        ("enc1.conv1", ("down1",)),
        ("down2", ("enc1.conv1",)),
        ("enc2.conv1", ("down2",)),
        ("block1.conv", ("enc2.conv1",)),
        ("up2", ("block1.conv",)),
        ("join2", ("up2", "enc1.conv1")),
        ("dec2.conv1", ("join2",)),
        ("up1", ("dec2.conv1",)),
        ("join1", ("up1", "stem1")),
        ("dec1.conv1", ("join1",)),
        ("head", ("dec1.conv1",)),
        ("shuffle", ("head",)),
    ]
    assert [graph.shapes[f"enc{level}.conv1"] for level in (1, 2)] == [(1, 8, 16, 32), (1, 4, 8, 64)]
    assert [graph.shapes[f"dec{level}.conv1"] for level in (2, 1)] == [(1, 8, 16, 32), (1, 16, 32, 16)]
    assert ops_of(graph)["down1"] == Conv(16, 3, stride=2)
    assert ops_of(graph)["up2"] == TransposeConv(32, 3)


@pytest.mark.parametrize(
    ("genes", "widths"),
    [
        ({"levels": 1}, [16, 32]),
        ({"levels": 4}, [16, 32, 64, 128, 256]),
        ({"levels": 4, "bottleneck_widening": 1}, [16, 32, 64, 128, 128]),
        ({"levels": 1, "bottleneck_widening": 1}, [16, 16]),
        ({"levels": 4, "width": 48}, [48, 96, 192, 256, 256]),
        ({"levels": 2, "width": 128}, [128, 256, 256]),
        ({"levels": 3, "width": 4, "encoder_depth": 2}, [4, 8, 16, 32]),
        ({"levels": 3, "encoder_depth": 0}, [16, 32, 64, 128]),
        ({"levels": 3, "encoder_depth": 0, "downsampler": "max_pool"}, [16, 16, 16, 16]),
        ({"levels": 3, "encoder_depth": 1, "downsampler": "max_pool"}, [16, 32, 64, 128]),
    ],
)
def test_each_level_is_twice_as_wide_up_to_a_limit(genes: dict[str, Value], widths: list[int]) -> None:
    graph = small(topology="unet", depth=0, body_upsampler="bilinear", skip="none", decoder_depth=0, **genes)
    levels: dict[int, int] = {}
    for name, (_, side, _, channels) in graph.shapes.items():
        if name.startswith(("stem", "down", "enc")):
            levels[side] = channels
    assert [levels[16 >> level] for level in range(len(widths))] == widths
    assert max(widths) <= WIDEST_LEVEL


@pytest.mark.parametrize("depth", GENES["encoder_depth"].legal)
def test_levels_have_as_many_convolutions_as_their_genes_say(depth: int) -> None:
    down = ops_of(small(topology="unet", encoder_depth=depth, decoder_depth=2 - depth))
    for level in (1, 2):
        assert sum(name.startswith(f"enc{level}.conv") and isinstance(op, Conv) for name, op in down.items()) == depth
        number = sum(name.startswith(f"dec{level}.conv") and isinstance(op, Conv) for name, op in down.items())
        assert number == 2 - depth
    assert down["down1"].filters == (16 if depth else 32)


@pytest.mark.parametrize(
    ("skip", "reach", "joined"),
    [
        ("none", "all", []),
        ("add", "all", ["join3", "join2", "join1"]),
        ("add", "top", ["join1"]),
        ("concat", "all", ["join3", "join2", "join1"]),
        ("concat", "top", ["join1"]),
    ],
)
def test_skips_reach_the_levels_that_their_gene_says(skip: str, reach: str, joined: list[str]) -> None:
    graph = small(topology="unet", levels=3, skip=skip, skip_reach=reach)
    joins = {name: op for name, op in ops_of(graph).items() if name.startswith("join")}
    assert list(joins) == joined
    assert set(joins.values()) <= {Add() if skip == "add" else Concat()}
    for name in joined:
        assert graph.shapes[name][3] == {"join1": 16, "join2": 32, "join3": 64}[name] * (2 if skip == "concat" else 1)


def test_a_wider_map_is_projected_before_it_is_added() -> None:
    graph = small(topology="unet", levels=1, body_upsampler="bilinear")
    assert ops_of(graph)["join1.project"] == Conv(16, 1)
    assert inputs_of(graph)["join1.project"] == ("up1",)
    assert inputs_of(graph)["join1"] == ("join1.project", "stem1.relu")
    same = small(topology="unet", levels=1, body_upsampler="bilinear", bottleneck_widening=1)
    assert "join1.project" not in ops_of(same)


@pytest.mark.parametrize("upsampler", UPSAMPLERS)
def test_ways_up_are_learned_or_bilinear(upsampler: str) -> None:
    graph = small(topology="unet", levels=1, body_upsampler=upsampler, up_kernel=4, skip="concat")
    ups = {name: op for name, op in ops_of(graph).items() if name.startswith("up1")}
    assert (
        ups
        == {
            "transposed": {"up1": TransposeConv(16, 4), "up1.relu": Activation("relu")},
            "depth_to_space": {"up1": Conv(64, 3), "up1.relu": Activation("relu"), "up1.shuffle": DepthToSpace(2)},
            "bilinear": {"up1": Resize()},
        }[upsampler]
    )


def test_the_body_of_a_u_net_is_as_wide_as_its_lowest_level() -> None:
    graph = small(topology="unet", levels=2, block="expanded", long_skip="add")
    assert graph.shapes["block1.conv_a"] == (1, 4, 8, 128)
    assert graph.shapes["tail"] == (1, 4, 8, 64)


# Two paths


def test_two_paths_are_wired_as_drawn() -> None:
    graph = small(topology="two_path", levels=2, body_upsampler="bilinear", skip="concat")
    assert wiring(graph) == [
        ("low", (INPUT,)),
        ("low.up", ("low",)),
        ("texture", (INPUT, "low.up")),
        ("colour.enc0.conv1", ("low",)),
        ("colour.down1", ("colour.enc0.conv1",)),
        ("colour.enc1.conv1", ("colour.down1",)),
        ("colour.up1", ("colour.enc1.conv1",)),
        ("colour.join1", ("colour.up1", "colour.enc0.conv1")),
        ("colour.dec1.conv1", ("colour.join1",)),
        ("colour.up", ("colour.dec1.conv1",)),
        ("stem1", ("texture",)),
        ("block1.conv", ("stem1",)),
        ("fuse", ("colour.up", "block1.conv")),
        ("head", ("fuse",)),
        ("shuffle", ("head",)),
    ]
    ops = ops_of(graph)
    assert (ops["low"], ops["low.up"], ops["texture"], ops["fuse"]) == (Pool("average"), Resize(), Subtract(), Concat())
    assert graph.shapes["colour.enc0.conv1"] == (1, 8, 16, 16)
    assert graph.shapes["colour.enc1.conv1"] == (1, 4, 8, 32)
    assert graph.shapes["fuse"] == (1, 16, 32, 32)


def test_a_colour_path_of_one_level_has_no_way_down() -> None:
    names = list(ops_of(small(topology="two_path", levels=1, body_upsampler="bilinear")))
    assert [name for name in names if name.startswith("colour.")] == [
        "colour.enc0.conv1",
        "colour.enc0.conv1.relu",
        "colour.up",
    ]


# Stem and head


def test_the_stem_is_one_or_two_convolutions_each_with_its_activation() -> None:
    one = small(stem_kernel=9, stem_activation="tanh", activation="elu", depth=0, output_activation="relu")
    assert ops_of(one)["stem1"] == Conv(16, 9)
    assert [op.function for op in ops_of(one).values() if isinstance(op, Activation)] == ["tanh", "relu"]
    two = small(stem_depth=2, stem_kernel=5, stem_activation="none", activation="elu", depth=0)
    assert wiring(two)[:2] == [("stem1", (INPUT,)), ("stem2", ("stem1",))]
    assert inputs_of(two)["stem2"] == ("stem1",)
    assert ops_of(two)["stem2"] == Conv(16, 3)
    assert ops_of(two)["stem2.elu"] == Activation("elu")


@pytest.mark.parametrize(
    ("outer", "made"),
    [
        ("depth_to_space", {"head": Conv(12, 5), "shuffle": DepthToSpace(2)}),
        ("transposed", {"head": TransposeConv(3, 4)}),
        ("bilinear", {"head": Conv(3, 5), "head.up": Resize()}),
    ],
)
def test_a_head_without_refining_goes_to_rgb_at_once(outer: str, made: dict[str, Op]) -> None:
    ops = ops_of(small(output_upsampler=outer, output_kernel=5, up_kernel=4))
    assert {name: op for name, op in ops.items() if name.startswith(("head", "shuffle", "rgb"))} == made


@pytest.mark.parametrize(
    ("outer", "made"),
    [
        ("depth_to_space", {"head": Conv(32, 3), "head.relu": Activation("relu"), "shuffle": DepthToSpace(2)}),
        ("transposed", {"head": TransposeConv(8, 4), "head.relu": Activation("relu")}),
        ("bilinear", {"head": Conv(8, 3), "head.relu": Activation("relu"), "head.up": Resize()}),
    ],
)
def test_a_refining_head_convolves_once_more_at_full_resolution(outer: str, made: dict[str, Op]) -> None:
    graph = small(output_upsampler=outer, output_kernel=5, up_kernel=4, refine_width=8)
    head = {name: op for name, op in ops_of(graph).items() if name.startswith(("head", "shuffle", "rgb"))}
    assert head == {**made, "rgb": Conv(3, 5)}
    assert graph.input_shapes(graph.nodes[-1]) == ((1, 32, 64, 8),)


def test_the_head_may_stay_linear() -> None:
    assert "head.relu" not in ops_of(small(refine_width=8, head_activation="none"))


@pytest.mark.parametrize(("refine", "channels", "side"), [(0, 16, 16), (8, 8, 32)])
def test_convolutions_of_the_head_stand_just_before_the_last_one(refine: int, channels: int, side: int) -> None:
    graph = small(head_depth=2, refine_width=refine)
    assert graph.shapes["head.conv1"] == graph.shapes["head.conv2"] == (1, side, 2 * side, channels)
    last = "rgb" if refine else "head"
    assert inputs_of(graph)[last] == ("head.conv2.relu",)
    assert inputs_of(graph)["head.conv1"] == (("shuffle",) if refine else ("block1.conv.relu",))


@pytest.mark.parametrize("outer", UPSAMPLERS)
@pytest.mark.parametrize("refine", [0, 4])
@pytest.mark.parametrize("residual", GENES["global_residual"].legal)
@pytest.mark.parametrize("function", OUTPUT_ACTIVATIONS)
def test_nothing_but_an_enlargement_follows_the_output_activation(
    outer: str, refine: int, residual: str, function: str
) -> None:
    graph = small(
        activation="elu",
        output_upsampler=outer,
        refine_width=refine,
        output_activation=function,
        global_residual=residual,
    )
    ops = [node.op for node in graph.nodes]
    if residual == "none" and not refine and outer != "transposed":
        assert type(ops.pop()) is ENLARGING[outer]
    ends: dict[str, list[Op]] = {
        "none": [],
        "scaled_tanh": [Activation("tanh"), Affine(0.58, 0.5)],
        "relu": [Activation("relu")],
        "sigmoid": [Activation("sigmoid")],
    }
    end = ends[function]
    assert ops[len(ops) - len(end) :] == end
    if not end:
        assert not isinstance(ops[-1], Activation | Affine)


@pytest.mark.parametrize("outer", UPSAMPLERS)
@pytest.mark.parametrize("refine", [0, 8])
@pytest.mark.parametrize(
    ("residual", "made"),
    [
        ("transposed", {"input.up": (TransposeConv(3, 2), (INPUT,))}),
        ("bilinear", {"input.rgb": (Conv(3, 1), (INPUT,)), "input.up": (Resize(), ("input.rgb",))}),
        ("depth_to_space", {"input.rgb": (Conv(12, 3), (INPUT,)), "input.shuffle": (DepthToSpace(2), ("input.rgb",))}),
    ],
)
def test_the_global_residual_adds_the_mosaic_brought_to_rgb(
    residual: str, made: dict[str, tuple[Op, tuple[str, ...]]], refine: int, outer: str
) -> None:
    graph = small(global_residual=residual, refine_width=refine, output_upsampler=outer, up_kernel=2)
    assert {n.name: (n.op, n.inputs) for n in graph.nodes if n.name.startswith("input")} == made
    network = "rgb" if refine else {"depth_to_space": "shuffle", "transposed": "head", "bilinear": "head.up"}[outer]
    assert graph.output == "rgb.add"
    assert inputs_of(graph)["rgb.add"] == (network, list(made)[-1])


def test_no_convolution_of_stem_and_head_is_normalised_but_the_learned_step_to_full_resolution() -> None:
    graph = small(
        topology="unet",
        levels=1,
        normalisation="instance",
        stem_depth=2,
        head_depth=1,
        refine_width=8,
        output_upsampler="transposed",
        global_residual="transposed",
    )
    norms = [n.inputs[0] for n in graph.nodes if isinstance(n.op, InstanceNorm)]
    assert norms == ["down1", "enc1.conv1", "block1.conv", "up1", "dec1.conv1", "head"]


# Sizes


@pytest.mark.parametrize("size", [(1, 7, 16, 4), (1, 8, 15, 4)])
def test_a_size_that_a_quarter_body_cannot_halve_is_refused_in_output_pixels(size: Shape) -> None:
    assert build_graph(ArchSpec(scale=2), size).output_shape == (1, 2 * size[1], 2 * size[2], 3)
    with pytest.raises(SpecError) as caught:
        build_graph(ArchSpec(scale=4), size)
    assert str(caught.value) == (
        f"Gene scale, 4, needs output sizes that are multiples of 4, got {2 * size[1]}×{2 * size[2]}; "
        "choose another size, or a smaller scale."
    )


def test_a_size_that_a_u_net_cannot_halve_names_its_levels() -> None:
    with pytest.raises(SpecError, match=r"Gene levels, 3, needs output sizes that are multiples of 16, got 16×24"):
        build_graph(ArchSpec(topology="unet", levels=3), (1, 8, 12, 4))
