"""Values of genes that the device always refuses are taken out of a search before it begins."""

from dataclasses import replace
from pathlib import Path

import pytest
from flow import write_delegate
from hypothesis import given, settings
from hypothesis import strategies as st

from latency_models.delegate import load_delegate
from latency_models.device import load_device
from latency_models.kernels import network
from nas.defaults import DEFAULT_DEVICE
from nas.search.device_pruning import LeftOut, runnable
from search_spaces.errors import UsageError
from search_spaces.networks import build_graph
from search_spaces.space import SearchSpace, load_space

SPACE = load_space("mai21")
DEVICE = load_device(DEFAULT_DEVICE)
RUNNABLE, LEFT_OUT = runnable(SPACE, DEVICE, allow_fallback=False)


def test_normalisation_is_what_the_challenges_phone_leaves_to_the_cpu() -> None:
    assert [(each.gene, each.value) for each in LEFT_OUT] == [("normalisation", "instance")]
    assert LEFT_OUT[0].sentence.startswith(
        "normalisation = instance is left out: dimensity-1000-plus runs this network"
    )
    assert RUNNABLE.values("normalisation") == ("none",)
    assert {g: v for g, v in RUNNABLE.choices.items() if g != "normalisation"} == {
        g: v for g, v in SPACE.choices.items() if g != "normalisation"
    }


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_every_member_of_what_is_left_runs_whole(data: st.DataObject) -> None:
    spec = RUNNABLE.sample(lambda _, values, __: data.draw(st.sampled_from(values)))
    assert DEVICE.refusal(network(build_graph(spec))) is None


def test_where_fallback_is_paid_for_nothing_is_left_out() -> None:
    assert runnable(SPACE, DEVICE, allow_fallback=True) == (SPACE, ())


@pytest.mark.parametrize(
    ("op", "left_out"),
    [
        ("PRELU", {("stem_activation", "prelu"), ("activation", "prelu")}),
        ("TRANSPOSE_CONV", {("output_upsampler", "transposed"), ("global_residual", "transposed")}),
    ],
)
def test_a_delegate_that_lacks_an_operation_loses_the_genes_that_need_it(
    tmp_path: Path, op: str, left_out: set[tuple[str, str]]
) -> None:
    table = load_delegate(str(write_delegate(tmp_path / "narrow.json", without=op)))
    _, pruned = runnable(SPACE, replace(DEVICE, delegate=table), allow_fallback=False)
    genes = {(each.gene, each.value) for each in pruned} - {("normalisation", "instance")}
    assert genes <= left_out | {("body_upsampler", "transposed")}
    assert genes & left_out


def test_a_device_that_runs_nothing_of_a_space_is_refused(tmp_path: Path) -> None:
    table = load_delegate(str(write_delegate(tmp_path / "narrow.json", without="CONV_2D")))
    with pytest.raises(UsageError, match=r"runs none of 4000 networks of space tiny: .*CONV_2D"):
        runnable(SearchSpace("tiny", {"width": (4, 8)}), replace(DEVICE, delegate=table), allow_fallback=False)


def test_a_sentence_names_gene_value_and_reason() -> None:
    assert LeftOut("activation", "elu", "no ELU").sentence == "activation = elu is left out: no ELU."
