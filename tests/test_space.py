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
def small_spaces(draw) -> SearchSpace:
    """A few genes with two or three choices each, the genes that switch others on and off among them."""
    choices = {}
    for name in draw(st.permutations(sorted(GENES))):
        values = draw(st.lists(st.sampled_from(GENES[name].legal), min_size=1, max_size=3, unique=True))
        if prod(map(len, choices.values())) * len(values) <= MOST_COMBINATIONS:
            choices[name] = tuple(values)
    return SearchSpace("small", choices)


def members(space: SearchSpace) -> list[ArchSpec]:
    return [
        ArchSpec(**dict(zip(GENES, values, strict=True))) for values in product(*(space.values(name) for name in GENES))
    ]


def written(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text, "utf-8")
    return str(path)


@settings(max_examples=60, deadline=None)
@given(small_spaces())
def test_the_size_is_the_number_of_different_networks(space: SearchSpace) -> None:
    every = members(space)
    assert space.raw_size == len(every)
    assert space.size == len(set(every)) == len({spec.hash for spec in every})


@settings(max_examples=60, deadline=None)
@given(small_spaces(), st.data())
def test_whatever_is_drawn_is_a_member(space: SearchSpace, data) -> None:
    spec = space.sample(lambda _, values, __: data.draw(st.sampled_from(values)))
    assert spec in members(space)
    assert space.contains(spec)


@settings(max_examples=60, deadline=None)
@given(small_spaces(), st.integers(0, 99))
def test_containing_is_being_drawable(space: SearchSpace, seed: int) -> None:
    rng = random.Random(seed)
    stranger = MAI21.sample(lambda _, values, __: rng.choice(values))
    assert space.contains(stranger) == (stranger in members(space))


@settings(max_examples=60, deadline=None)
@given(small_spaces(), st.data())
def test_the_genes_of_a_member_are_choices_and_draw_it_again(space: SearchSpace, data) -> None:
    spec = space.sample(lambda _, values, __: data.draw(st.sampled_from(values)))
    genes = space.genes_of(spec)
    assert all(value in space.values(name) for name, value in genes.items())
    assert space.sample(lambda name, _, __: genes[name]) == spec


def test_choosers_are_told_every_gene_its_choices_and_whether_they_are_ordered() -> None:
    asked = {}

    def choose(name: str, values: tuple, ordered: bool) -> object:
        asked[name] = (values, ordered)
        return values[-1]

    MAI21.sample(choose)
    assert asked == {name: (MAI21.values(name), gene.ordered) for name, gene in GENES.items()}


def test_a_gene_that_is_left_out_keeps_its_default() -> None:
    space = SearchSpace("widths", {"width": (8, 16)})
    assert space.size == space.raw_size == 2
    assert space.values("depth") == (GENES["depth"].default,)
    assert space.contains(ArchSpec(width=8))
    assert not space.contains(ArchSpec(width=12))
    assert not space.contains(ArchSpec(width=8, depth=2))


def test_the_built_in_space_has_as_many_networks_as_counted_by_hand() -> None:
    always = 4 * 7 * 2 * 3  # stem activation, width, output upsampler, output activation
    scales = 1 + 2  # the body's upsampler matters at a quarter only
    with_body = 6 * (3 * 2 * 4 * 3) * 7 * (2 * 3)  # depths, the body's genes, activation, stem depth and refine width
    without = 1 + 5 * 7  # the activation matters unless the stem is one convolution and nothing refines
    assert MAI21.size == always * scales * (with_body + without) == 9_162_720
    assert MAI21.raw_size == 14_224_896


def test_the_built_in_space_holds_every_design() -> None:
    assert all(MAI21.contains(design.spec) for design in DESIGNS.values())


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
