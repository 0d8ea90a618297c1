"""A spec is in canonical form, so that two specs are equal exactly where they mean one network."""

import json
import random
from copy import copy
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces.errors import SpecError, UnknownNameError
from search_spaces.graph import Shape
from search_spaces.networks import WIDEST_LEVEL, build_graph
from search_spaces.ops import GlobalMean
from search_spaces.space import SearchSpace, load_space
from search_spaces.spec import GENES, ArchSpec, Gene, Value

SIZE: Shape = (1, 32, 64, 4)
# Everything that a space may ever offer.
ALL = SearchSpace("all", {name: gene.legal for name, gene in GENES.items()})
specs = st.builds(lambda data: ALL.sample(lambda _, values, __: data.draw(st.sampled_from(values))), st.data())
GATED = {name: gene for name, gene in GENES.items() if gene.active_when}


def sampled(space: SearchSpace, count: int) -> list[ArchSpec]:
    rng = random.Random(0)
    return [space.sample(lambda _, values, __: rng.choice(values)) for _ in range(count)]


@cache
def members(count: int) -> list[ArchSpec]:
    """Return the same members of `ALL` to every gene's test."""
    return sampled(ALL, count)


def structure(spec: ArchSpec) -> str:
    return build_graph(spec, SIZE).structure


@cache
def structure_of_member(spec: ArchSpec) -> str:
    return structure(spec)


def capped(spec: ArchSpec) -> bool:
    """Tell whether the two lowest levels are as wide as any level gets, so that the lowest cannot be widened."""
    halvings = {"unet": spec.levels, "two_path": spec.levels - 1}.get(spec.topology, 0)
    return halvings > 0 and spec.width * 2 ** (halvings - 1) >= WIDEST_LEVEL


def has_one_plain_block(spec: ArchSpec) -> bool:
    """Tell whether attention at the end of the block is attention behind the body."""
    return spec.depth == 1 and spec.block == "plain" and spec.long_skip != "local_fusion"


def squeezes_four_channels(spec: ArchSpec) -> bool:
    """Tell whether channel attention has so few channels that both of its reductions come to two."""
    graph = build_graph(spec, SIZE)
    return all(graph.shapes[node.name][3] == 4 for node in graph.nodes if isinstance(node.op, GlobalMean))


# The genes whose values share a network although they have an effect elsewhere, and where.
SHARED = {
    "attention_position": has_one_plain_block,
    "attention_reduction": squeezes_four_channels,
}


def shared(name: str, spec: ArchSpec) -> bool:
    return name in SHARED and SHARED[name](spec)


@pytest.mark.parametrize("space", [load_space("mai21"), ALL], ids=lambda space: space.name)
def test_two_specs_have_one_hash_exactly_where_they_mean_one_network(space: SearchSpace) -> None:
    distinct = {spec.hash: spec for spec in sampled(space, 1500)}
    assert len(distinct) > 1000
    assert len(set(distinct.values())) == len(distinct)
    assert len({structure(spec) for spec in distinct.values()}) == len(distinct)


@settings(max_examples=300, deadline=None)
@given(specs, st.data())
def test_changing_a_gene_changes_the_network_exactly_where_the_gene_is_active(spec: ArchSpec, data) -> None:
    name = data.draw(st.sampled_from(sorted(GENES)))
    gene = GENES[name]
    other = spec.with_genes(**{name: data.draw(st.sampled_from([v for v in gene.legal if v != getattr(spec, name)]))})
    active = gene.is_active(spec.to_dict())
    assert (other != spec) == active
    assert (other.hash != spec.hash) == active
    assert (structure(other) != structure(spec)) == (active and not shared(name, spec))


@pytest.mark.parametrize("name", GENES)
def test_every_gene_changes_the_network_where_it_is_active(name: str) -> None:
    changed = 0
    for spec in (spec for spec in members(150) if GENES[name].is_active(spec.to_dict())):
        value = next(v for v in GENES[name].legal if v != getattr(spec, name))
        other = spec.with_genes(**{name: value})
        assert (structure(other) == structure_of_member(spec)) == shared(name, spec), spec
        changed += not shared(name, spec)
    assert changed > 5


# What a body without blocks does not have by definition, whatever a builder would make of it.
NEEDS_BLOCKS = {"attention", "long_skip", "normalisation"}


@pytest.mark.parametrize("name", sorted(set(GATED) - NEEDS_BLOCKS))
def test_an_inactive_gene_would_have_changed_nothing(name: str) -> None:
    # Canonical form hides what a builder would do with an inactive gene; here it is handed one all the same.
    inactive = [spec for spec in members(2000) if not GENES[name].is_active(spec.to_dict())]
    if name == "tail":  # it needs blocks too, and a long skip makes it besides
        inactive = [spec for spec in inactive if spec.depth]
    assert inactive
    for spec in inactive[:100]:
        forced = copy(spec)
        object.__setattr__(forced, name, next(v for v in reversed(GENES[name].legal) if v != GENES[name].default))
        assert structure(forced) == structure_of_member(spec), spec


@pytest.mark.parametrize(
    "same",
    [
        {"block": "plain", "depth": 3},
        {"block": "plain", "depth": 2, "stem_depth": 2},
        {"block": "plain", "depth": 2, "tail": "conv"},
        {"block": "plain", "depth": 2, "head_depth": 1},
    ],
    ids=["block", "stem", "tail", "head"],
)
def test_stem_tail_and_head_add_what_one_more_plain_block_is(same: dict[str, Value]) -> None:
    assert structure(ArchSpec.from_dict(same)) == structure(ArchSpec(depth=3))


@pytest.mark.parametrize(("width", "levels"), [(24, 4), (28, 4), (32, 4), (64, 3)])
def test_widening_the_lowest_level_has_no_effect_where_the_one_above_is_as_wide_as_any(width: int, levels: int) -> None:
    wide = ArchSpec(topology="unet", levels=levels, width=width)
    assert (wide.with_genes(bottleneck_widening=1) == wide) == capped(wide) == (width << (levels - 1) >= WIDEST_LEVEL)


# For each gated gene, others that leave it without effect and others that give it one.
SWITCHES: dict[str, tuple[dict[str, Value], dict[str, Value]]] = {
    "scale": ({"topology": "unet"}, {}),
    "levels": ({}, {"topology": "two_path"}),
    "downsampler": ({}, {"topology": "unet"}),
    "down_kernel": ({"scale": 4}, {"scale": 8}),
    "encoder_depth": ({"topology": "two_path", "levels": 1}, {"topology": "two_path", "levels": 2}),
    "decoder_depth": ({"scale": 8}, {"topology": "unet", "levels": 1}),
    "bottleneck_widening": (
        {"topology": "unet", "encoder_depth": 0, "downsampler": "max_pool"},
        {"topology": "unet", "encoder_depth": 0},
    ),
    "skip": ({"topology": "two_path", "levels": 1}, {"topology": "unet", "levels": 1}),
    "skip_reach": ({"topology": "unet", "levels": 1}, {"topology": "unet", "levels": 2}),
    "block": ({"depth": 0}, {}),
    "kernel": ({"depth": 0}, {}),
    "convolution": ({"depth": 0}, {}),
    "block_layers": ({"block": "dense"}, {"block": "residual_dense"}),
    "block_end": ({"block": "expanded"}, {"block": "adaptive_residual"}),
    "growth": ({"block": "residual"}, {"block": "dense"}),
    "attention": ({"depth": 0}, {"depth": 0, "topology": "unet"}),
    "attention_position": ({"attention": "channel", "depth": 0}, {"attention": "channel"}),
    "attention_reduction": ({"attention": "spatial"}, {"attention": "dual"}),
    "long_skip": ({"depth": 0}, {}),
    "tail": ({"long_skip": "add"}, {"long_skip": "local_fusion"}),
    "body_upsampler": ({}, {"scale": 4}),
    "up_kernel": ({"topology": "unet", "body_upsampler": "bilinear"}, {"global_residual": "transposed"}),
    "head_activation": ({}, {"refine_width": 4}),
    "output_kernel": ({"output_upsampler": "transposed"}, {"output_upsampler": "transposed", "refine_width": 4}),
    "activation": ({"depth": 0, "refine_width": 4, "head_activation": "none"}, {"depth": 0, "head_depth": 1}),
    "normalisation": ({"depth": 0}, {"depth": 0, "topology": "unet"}),
}


def test_every_gated_gene_is_switched_below() -> None:
    assert set(SWITCHES) == set(GATED)


@pytest.mark.parametrize(("name", "gene"), GATED.items(), ids=GATED)
def test_an_inactive_gene_holds_its_default_and_an_active_one_its_value(name: str, gene: Gene) -> None:
    off, on = SWITCHES[name]
    other = next(value for value in gene.legal if value != gene.default)
    assert getattr(ArchSpec(**off | {name: other}), name) == gene.default
    assert ArchSpec(**off | {name: other}) == ArchSpec(**off)
    assert getattr(ArchSpec(**on | {name: other}), name) == other


@pytest.mark.parametrize(("name", "gene"), GATED.items(), ids=GATED)
def test_a_condition_speaks_only_of_genes_declared_before(name: str, gene: Gene) -> None:
    before = list(GENES)[: list(GENES).index(name)]
    assert {other for alternative in gene.active_when for other in alternative} <= set(before)


@settings(max_examples=200, deadline=None)
@given(specs)
def test_canonical_form_is_reached_in_one_pass(spec: ArchSpec) -> None:
    assert ArchSpec(**spec.to_dict()) == spec
    inactive = [name for name, gene in GENES.items() if not gene.is_active(spec.to_dict())]
    assert all(getattr(spec, name) == GENES[name].default for name in inactive)


@settings(max_examples=200, deadline=None)
@given(specs)
def test_a_spec_survives_json(spec: ArchSpec) -> None:
    again = ArchSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert again == spec
    assert again.hash == spec.hash


@settings(max_examples=200, deadline=None)
@given(specs)
def test_the_description_tells_place_and_body(spec: ArchSpec) -> None:
    place = {"flat": f"R/{spec.scale}", "unet": f"U-Net{spec.levels}", "two_path": f"two-path{spec.levels}"}
    where = place.get(spec.topology, spec.description.partition(" ")[0])  # a new one may call it as it likes
    assert spec.description.startswith(f"{where} {spec.width}ch {spec.stem_depth}×stem ")
    without = "no body" if spec.attention == "none" else f"{spec.attention} attention"
    assert (f"{spec.depth}×{spec.block}" if spec.depth else without) in spec.description
    assert ("+input" in spec.description) == (spec.global_residual != "none")


# A study on disk names its candidates by hash: a change here makes every old study unreadable. The last two were
# written when the space held fourteen genes.
OLD_HASHES: dict[str, dict[str, Value]] = {
    "44136fa355b3": {},
    "66c131f1c875": {"stem_activation": "tanh", "output_activation": "relu"},
    "b8606fdbf085": {
        "scale": 4, "stem_depth": 2, "depth": 2, "block": "expanded", "attention": "dual", "long_skip": "concat",
        "refine_width": 4, "output_activation": "sigmoid",
    },
    "ee0e8ddf8afe": {
        "scale": 4, "stem_depth": 2, "stem_activation": "tanh", "width": 64, "depth": 6, "block": "expanded",
        "kernel": 7, "attention": "spatial", "activation": "relu6", "long_skip": "add", "refine_width": 40,
        "output_activation": "sigmoid",
    },
    "5af262e39859": {
        "scale": 4, "stem_depth": 2, "stem_activation": "elu", "width": 92, "depth": 4, "block": "expanded", "kernel":
        5, "attention": "dual", "activation": "elu", "long_skip": "add", "body_upsampler": "depth_to_space",
        "refine_width": 24, "output_activation": "sigmoid",
    },
}  # fmt: skip


@pytest.mark.parametrize("old", OLD_HASHES)
def test_hashes_stay_what_they_were_when_studies_were_written(old: str) -> None:
    assert ArchSpec.from_dict(OLD_HASHES[old]).hash == old


def test_a_hash_that_an_older_run_wrote_means_the_network_of_that_run() -> None:
    # Channel attention squeezed four channels to two, never to one.
    spec = ArchSpec(width=4, attention="channel")
    assert spec.hash == "3d4b3c43c133"
    assert build_graph(spec, SIZE).parameter_shapes["block1.ca.fc1/kernel"] == (1, 1, 4, 2)


def test_genes_that_an_older_run_drew_without_effect_have_none_now() -> None:
    # Records hold genes as they were drawn: here without blocks, and with what only blocks had.
    drawn = {"depth": 0, "width": 8, "stem_activation": "tanh", "kernel": 5, "attention": "dual", "long_skip": "concat"}
    assert ArchSpec.from_dict(drawn) == ArchSpec(depth=0, width=8, stem_activation="tanh")


@pytest.mark.parametrize(
    ("genes", "multiple"),
    [
        ({}, 2),
        ({"scale": 4}, 4),
        ({"scale": 8}, 8),
        ({"topology": "unet", "levels": 1}, 4),
        ({"topology": "unet", "levels": 4}, 32),
        ({"topology": "two_path", "levels": 1}, 4),
        ({"topology": "two_path", "levels": 3}, 16),
    ],
)
def test_sides_are_multiples_of_what_the_lowest_scale_needs(genes: dict[str, Value], multiple: int) -> None:
    assert ArchSpec.from_dict(genes).size_multiple == multiple


@settings(max_examples=100, deadline=None)
@given(specs, st.integers(1, 40), st.integers(1, 40))
def test_a_network_is_built_exactly_at_multiples_of_its_size_multiple(spec: ArchSpec, h: int, w: int) -> None:
    fits = 2 * h % spec.size_multiple == 0 and 2 * w % spec.size_multiple == 0
    if fits:
        assert build_graph(spec, (1, h, w, 4)).output_shape == (1, 2 * h, 2 * w, 3)
    else:
        with pytest.raises(SpecError, match=f"multiples of {spec.size_multiple}, got {2 * h}×{2 * w}"):
            build_graph(spec, (1, h, w, 4))


def written(spec: ArchSpec) -> dict[str, Value]:
    """What a person who knows the genes would write: those that have an effect."""
    values = spec.to_dict()
    return {name: value for name, value in values.items() if GENES[name].is_active(values)}


@settings(max_examples=100, deadline=None)
@given(specs)
def test_a_file_says_what_has_an_effect_and_may_say_the_other_defaults(spec: ArchSpec) -> None:
    assert ArchSpec.from_file(written(spec)) == spec
    assert ArchSpec.from_file(spec.to_dict()) == spec


@settings(max_examples=100, deadline=None)
@given(specs, st.data())
def test_a_file_without_a_gene_that_has_an_effect_is_refused(spec: ArchSpec, data) -> None:
    genes = written(spec)
    name = data.draw(st.sampled_from(sorted(genes)))
    del genes[name]
    if missing := [n for n, g in GENES.items() if g.is_active(ArchSpec.from_dict(genes).to_dict()) and n not in genes]:
        with pytest.raises(SpecError, match=rf"^Gene ({'|'.join(missing)})(, .*has no effect here| is missing)"):
            ArchSpec.from_file(genes)


def test_a_missing_gene_is_named_with_its_meaning_and_what_it_takes() -> None:
    genes = written(ArchSpec())
    del genes["stem_kernel"]
    with pytest.raises(SpecError) as caught:
        ArchSpec.from_file(genes)
    assert str(caught.value).startswith(
        "Gene stem_kernel is missing (kernel of the first convolution); it takes 3, 5, 7, 9. "
    )
    assert "`isp-nas show smallnet --format json`" in str(caught.value)


@pytest.mark.parametrize(
    ("genes", "complaint"),
    [
        ({"levels": 3}, "Gene levels, 3, has no effect here: it needs topology unet/two_path; leave it out."),
        (
            {"growth": 16},
            "Gene growth, 16, has no effect here: it needs depth 1 or more and block dense/residual_dense; "
            "leave it out.",
        ),
        (
            {"body_upsampler": "bilinear"},
            "Gene body_upsampler, 'bilinear', has no effect here: it needs topology flat and scale 4/8, or "
            "topology unet/two_path; leave it out.",
        ),
        (
            {"head_activation": "none"},
            "Gene head_activation, 'none', has no effect here: it needs refine_width 2 or more; leave it out.",
        ),
    ],
)
def test_a_gene_without_effect_is_named_with_its_value_and_what_it_needs(
    genes: dict[str, Value], complaint: str
) -> None:
    with pytest.raises(SpecError) as caught:
        ArchSpec.from_file(written(ArchSpec()) | genes)
    assert str(caught.value) == complaint


def test_a_file_with_an_illegal_or_unknown_gene_is_refused_as_anywhere() -> None:
    with pytest.raises(SpecError, match=r"Gene levels takes 1, 2, 3, 4, got 7\."):
        ArchSpec.from_file(written(ArchSpec()) | {"levels": 7})
    with pytest.raises(UnknownNameError, match=r'Unknown gene "level".*Did you mean "levels"'):
        ArchSpec.from_file(written(ArchSpec()) | {"level": 2})


def test_a_missing_gene_has_its_default() -> None:
    assert ArchSpec.from_dict({"width": 32}) == ArchSpec(width=32)


def test_an_unknown_gene_names_the_nearest_one() -> None:
    with pytest.raises(UnknownNameError, match=r'Unknown gene "widht".*Did you mean "width"'):
        ArchSpec.from_dict({"widht": 16})


@pytest.mark.parametrize(
    ("gene", "value", "complaint"),
    [
        ("width", 6, r"Gene width takes 4, 8, … 128, got 6\."),
        ("width", "16", "Gene width takes 4, 8, … 128, got '16'"),
        ("width", 16.0, r"Gene width takes 4, 8, … 128, got 16\.0"),
        ("depth", True, "Gene depth takes 0, 1, … 16, got True"),
        ("kernel", 2, "Gene kernel takes 1, 3, 5, 7, got 2"),
        ("block", 3, "Gene block takes plain, residual, expanded, dense, residual_dense, adaptive_residual, got 3"),
        ("block", "residul", r'Unknown value of gene block: "residul".*Did you mean "residual"'),
        ("activation", "sigmoid", 'Unknown value of gene activation: "sigmoid"; known: elu, '),
    ],
)
def test_an_illegal_value_says_what_the_gene_takes(gene: str, value: object, complaint: str) -> None:
    with pytest.raises((SpecError, UnknownNameError), match=complaint):
        ArchSpec.from_dict({gene: value})


@pytest.mark.parametrize(("name", "gene"), GENES.items(), ids=GENES)
def test_every_default_is_legal_and_every_condition_speaks_of_genes(name: str, gene: Gene) -> None:
    gene.check(name, gene.default)
    for alternative in gene.active_when:
        for other, wanted in alternative.items():
            for value in wanted:
                GENES[other].check(other, value)


@pytest.mark.parametrize("gene", GENES.values(), ids=GENES)
def test_values_of_an_ordered_gene_rise(gene: Gene) -> None:
    assert not gene.ordered or list(gene.legal) == sorted(gene.legal)
