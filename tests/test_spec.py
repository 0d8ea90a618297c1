"""A spec is in canonical form, so that two specs are equal exactly where they mean one network."""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces.errors import SpecError, UnknownNameError
from search_spaces.graph import FULL_HD
from search_spaces.networks import build_graph
from search_spaces.space import SearchSpace, load_space
from search_spaces.spec import GENES, ArchSpec, Gene

# Everything that a space may ever offer.
ALL = SearchSpace("all", {name: gene.legal for name, gene in GENES.items()})
specs = st.builds(lambda data: ALL.sample(lambda _, values, __: data.draw(st.sampled_from(values))), st.data())
GATED = {name: gene for name, gene in GENES.items() if gene.active_when}


def sampled(space: SearchSpace, count: int) -> list[ArchSpec]:
    rng = random.Random(0)
    return [space.sample(lambda _, values, __: rng.choice(values)) for _ in range(count)]


def anonymous(spec: ArchSpec) -> str:
    """The graph as JSON with its nodes numbered, so that only what is computed counts."""
    graph = build_graph(spec, FULL_HD)
    number = {"input": 0} | {node.name: index for index, node in enumerate(graph.nodes, start=1)}
    return json.dumps([(node.op.to_dict(), [number[name] for name in node.inputs]) for node in graph.nodes])


@pytest.mark.parametrize("space", [load_space("mai21"), ALL], ids=lambda space: space.name)
def test_two_specs_have_one_hash_exactly_where_they_mean_one_network(space: SearchSpace) -> None:
    distinct = {spec.hash: spec for spec in sampled(space, 3000)}
    assert len(distinct) > 2500
    assert len(set(distinct.values())) == len(distinct)
    assert len({anonymous(spec) for spec in distinct.values()}) == len(distinct)


@settings(max_examples=200, deadline=None)
@given(specs, st.data())
def test_changing_a_gene_changes_the_network_exactly_where_the_gene_is_active(spec: ArchSpec, data) -> None:
    name = data.draw(st.sampled_from(sorted(GENES)))
    gene = GENES[name]
    other = spec.with_genes(**{name: data.draw(st.sampled_from([v for v in gene.legal if v != getattr(spec, name)]))})
    active = gene.is_active(spec.to_dict())
    assert (other != spec) == active
    assert (other.hash != spec.hash) == active
    assert (anonymous(other) != anonymous(spec)) == active


@pytest.mark.parametrize(("name", "gene"), GATED.items(), ids=GATED)
def test_an_inactive_gene_holds_its_default(name: str, gene: Gene) -> None:
    off = {"depth": 0, "stem_depth": 1, "refine_width": 0, "scale": 2}
    other = next(value for value in gene.legal if value != gene.default)
    assert getattr(ArchSpec(**off | {name: other}), name) == gene.default
    assert ArchSpec(**off | {name: other}) == ArchSpec(**off)


@settings(max_examples=200, deadline=None)
@given(specs)
def test_a_spec_survives_json(spec: ArchSpec) -> None:
    again = ArchSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert again == spec
    assert again.hash == spec.hash


@settings(max_examples=200, deadline=None)
@given(specs)
def test_the_description_tells_the_size_of_the_body(spec: ArchSpec) -> None:
    assert spec.description.startswith(f"R/{spec.scale} {spec.width}ch ")
    assert (f"{spec.depth}×{spec.block}" if spec.depth else "no body") in spec.description


def test_hashes_stay_what_they_were_when_studies_were_written() -> None:
    # A study on disk names its candidates by hash: a change here makes every old study unreadable.
    assert ArchSpec().hash == "44136fa355b3"
    assert ArchSpec(stem_activation="tanh", output_activation="relu").hash == "66c131f1c875"


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
        ("block", 3, "Gene block takes plain, residual, expanded, got 3"),
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
