"""The choices of a search: counted exactly, drawn through one interface, read from a file the user can edit."""

import random
from itertools import product
from math import prod
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces.designs import DESIGNS
from search_spaces.errors import IspNasError, SpecError, UnknownNameError, UsageError
from search_spaces.space import SearchSpace, load_space
from search_spaces.spec import GENES, ArchSpec

MAI21 = load_space("mai21")
# Small enough to be written down member by member.
MOST_COMBINATIONS = 600


@st.composite
def small_spaces(draw, of: SearchSpace) -> SearchSpace:
    """A few genes with two or three of their choices each, the others with one."""
    choices = {}
    for name in draw(st.permutations(sorted(GENES))):
        values = draw(st.lists(st.sampled_from(of.values(name)), min_size=1, max_size=3, unique=True))
        room = MOST_COMBINATIONS // prod(map(len, choices.values()))
        choices[name] = tuple(values[:room])
    return SearchSpace("small", choices)


ALL = SearchSpace("all", {name: gene.legal for name, gene in GENES.items()})
any_small_space = st.one_of(small_spaces(ALL), small_spaces(MAI21))


def members(space: SearchSpace) -> list[ArchSpec]:
    return [
        ArchSpec(**dict(zip(GENES, values, strict=True))) for values in product(*(space.values(name) for name in GENES))
    ]


def written(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text, "utf-8")
    return str(path)


@settings(max_examples=60, deadline=None)
@given(any_small_space)
def test_the_size_is_the_number_of_different_networks(space: SearchSpace) -> None:
    every = members(space)
    assert space.raw_size == len(every)
    assert space.size == len(set(every)) == len({spec.hash for spec in every})


@settings(max_examples=60, deadline=None)
@given(any_small_space, st.data())
def test_whatever_is_drawn_is_a_member(space: SearchSpace, data) -> None:
    spec = space.sample(lambda _, values, __: data.draw(st.sampled_from(values)))
    assert spec in members(space)
    assert space.contains(spec)


@settings(max_examples=60, deadline=None)
@given(any_small_space, st.integers(0, 99))
def test_containing_is_being_drawable(space: SearchSpace, seed: int) -> None:
    rng = random.Random(seed)
    stranger = MAI21.sample(lambda _, values, __: rng.choice(values))
    assert space.contains(stranger) == (stranger in members(space))


@settings(max_examples=60, deadline=None)
@given(any_small_space, st.data())
def test_the_genes_of_a_member_are_choices_and_draw_it_again(space: SearchSpace, data) -> None:
    spec = space.sample(lambda _, values, __: data.draw(st.sampled_from(values)))
    genes = space.genes_of(spec)
    assert all(value in space.values(name) for name, value in genes.items())
    assert space.sample(lambda name, _, __: genes[name]) == spec


def test_choosers_are_told_every_gene_its_choices_and_whether_they_are_ordered() -> None:
    questions = {}

    def choose(name: str, values: tuple, ordered: bool) -> object:
        questions[name] = (values, ordered)
        return values[-1]

    MAI21.sample(choose)
    assert questions == {name: (MAI21.values(name), gene.ordered) for name, gene in GENES.items()}


def test_a_gene_that_is_left_out_keeps_its_default() -> None:
    space = SearchSpace("widths", {"width": (8, 16)})
    assert space.size == space.raw_size == 2
    assert space.values("depth") == (GENES["depth"].default,)
    assert space.contains(ArchSpec(width=8))
    assert not space.contains(ArchSpec(width=12))
    assert not space.contains(ArchSpec(width=8, depth=2))


@pytest.mark.parametrize("seed", range(12))
def test_parts_of_the_built_in_space_have_as_many_networks_as_can_be_written_down(seed: int) -> None:
    rng = random.Random(seed)
    choices: dict[str, tuple] = {}
    for name in rng.sample(
        sorted(GENES), len(GENES)
    ):  # all choices of as many genes as can be written down, one of the rest
        values = MAI21.values(name)
        fits = prod(map(len, choices.values())) * len(values) <= MOST_COMBINATIONS
        choices[name] = values if fits else (rng.choice(values),)
    part = SearchSpace("part", choices)
    assert part.size == len({spec.hash for spec in members(part)})


def test_the_built_in_space_has_more_networks_than_a_search_could_ever_try() -> None:
    assert MAI21.raw_size == prod(len(MAI21.values(name)) for name in GENES)
    assert 10**15 < MAI21.size < MAI21.raw_size


def test_the_built_in_space_holds_every_design() -> None:
    missing = [design.name for design in DESIGNS.values() if not MAI21.contains(design.spec)]
    assert missing == []


def test_the_digest_tells_that_choices_were_edited_and_nothing_else() -> None:
    space = SearchSpace("one", {"width": (8, 16)})
    assert SearchSpace("renamed", {"width": (8, 16)}).digest == space.digest
    assert SearchSpace("one", {"width": (8, 16), "depth": (GENES["depth"].default,)}).digest == space.digest
    edited = [{"width": (8,)}, {"width": (8, 16, 32)}, {"width": (8, 16), "depth": (0, 1)}, {}]
    assert len({space.digest, *(SearchSpace("one", choices).digest for choices in edited)}) == 1 + len(edited)


def test_the_users_space_hides_the_built_in_one_of_the_same_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "spaces").mkdir()
    (tmp_path / "spaces" / "mai21.toml").write_text("[genes]\nwidth = [4, 8]\n")
    monkeypatch.chdir(tmp_path)
    assert load_space("mai21").size == 2
    monkeypatch.chdir(tmp_path / "spaces")
    assert load_space("mai21") == MAI21


def test_a_space_is_read_from_a_path_and_named_after_its_file(tmp_path: Path) -> None:
    path = written(tmp_path, "[genes]\nwidth = [4, 8]\n")
    assert load_space(path) == SearchSpace("mine", {"width": (4, 8)})


def test_a_space_may_name_itself(tmp_path: Path) -> None:
    assert load_space(written(tmp_path, 'name = "slim"\n[genes]\nwidth = [4]\n')).name == "slim"


def test_an_unknown_space_names_the_nearest_one() -> None:
    with pytest.raises(UnknownNameError, match=r'Unknown space "mai12".*Did you mean "mai21"'):
        load_space("mai12")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"No space file at .*gone\.toml"):
        load_space(str(tmp_path / "gone.toml"))


@pytest.mark.parametrize(
    ("text", "error", "complaint"),
    [
        ("width = [", UsageError, r"mine\.toml is not readable TOML"),
        ("", UsageError, r"mine\.toml needs a \[genes\] table"),
        ("genes = 3", UsageError, r"mine\.toml needs a \[genes\] table"),
        ("[genes]", UsageError, r"mine\.toml needs a \[genes\] table"),
        ("[genes]\nwidth = 16", UsageError, "gene width needs a list of values, got 16"),
        ("[genes]\nwidht = [16]", UnknownNameError, 'Unknown gene "widht".*Did you mean "width"'),
        ("[genes]\nwidth = []", UsageError, r"Gene width needs one or more different values, got \[\]"),
        ("[genes]\nwidth = [8, 8]", UsageError, r"different values, got \[8, 8\]"),
        ("[genes]\nwidth = [8, 9]", SpecError, r"Gene width takes 4, 8, … 128, got 9\."),
        ("[genes]\nwidth = ['8']", SpecError, "got '8'"),
        ("[genes]\nblock = ['plane']", UnknownNameError, 'Did you mean "plain"'),
    ],
)
def test_a_file_that_is_no_space_says_why(tmp_path: Path, text: str, error: type[IspNasError], complaint: str) -> None:
    with pytest.raises(error, match=complaint):
        load_space(written(tmp_path, text))


def test_a_file_that_is_no_text_says_so(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="not readable TOML"):
        load_space(str(path))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4))
def test_a_variation_is_a_member_with_at_most_so_many_active_genes_changed_and_ordered_ones_by_one_step(
    seed: int, genes: int
) -> None:
    rng = random.Random(seed)
    spec = MAI21.sample(lambda _, values, __: rng.choice(values))
    varied = MAI21.variation(spec, genes, rng.choice)
    assert MAI21.contains(varied)
    before, after = spec.active_genes, varied.active_genes
    changed = [name for name in before.keys() & after.keys() if before[name] != after[name]]
    assert 0 < len(changed) <= genes or before.keys() != after.keys()
    for name in changed:
        if GENES[name].ordered:
            values = sorted(MAI21.values(name))
            assert abs(values.index(before[name]) - values.index(after[name])) == 1


def test_only_members_are_varied() -> None:
    with pytest.raises(UsageError, match="is not in space widths"):
        SearchSpace("widths", {"width": (8, 16)}).variation(ArchSpec(depth=2), 1, random.Random(0).choice)


@pytest.mark.parametrize("name", ["smallnet", "csanet", "tuned-unet"])
def test_neighbours_are_every_change_of_one_gene(name: str) -> None:
    spec = DESIGNS[name].spec
    neighbours = list(MAI21.neighbours(spec))
    drawn = {MAI21.variation(spec, 1, random.Random(seed).choice) for seed in range(2000)}
    assert drawn == {each for each in neighbours if each != spec}
    assert all(MAI21.contains(each) for each in neighbours)
