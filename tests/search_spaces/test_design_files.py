"""The kept facts of the designs' .tflite files are those of a fresh conversion, and a phone accepts the files."""

import json
from functools import cache

import pytest

from latency_models.delegate import load_delegate
from latency_models.support import support
from latency_models.tflite_network import read_network
from search_spaces import design_files
from search_spaces.design_files import convert, file_facts, stored_files, stored_tensorflow, tensorflow_version
from search_spaces.designs import DESIGNS
from search_spaces.networks import build_graph
from search_spaces.tflite_file import read_ops, without_bias

# What the converter writes where an operation of ours has no direct counterpart. Delegates run them slowly or not.
DETOURS = {
    "SPACE_TO_BATCH_ND",
    "BATCH_TO_SPACE_ND",
    "TRANSPOSE",
    "RESHAPE",
    "PACK",
    "STRIDED_SLICE",
    "SHAPE",
    "CUSTOM",
    "DELEGATE",
}
REGENERATE = f"run `{design_files.COMMAND}`"

every_design = pytest.mark.parametrize("name", DESIGNS)


@cache
def fresh(name: str) -> bytes:
    return convert(DESIGNS[name])


@every_design
def test_a_fresh_conversion_has_the_kept_operations(name: str) -> None:
    assert name in stored_files(), f"no facts of {name} are kept: {REGENERATE}"
    assert file_facts(fresh(name)).ops == stored_files()[name].ops, REGENERATE


@every_design
def test_a_fresh_conversion_has_the_kept_size(name: str) -> None:
    assert name in stored_files(), f"no facts of {name} are kept: {REGENERATE}"
    if tensorflow_version() != stored_tensorflow():
        pytest.skip(f"the kept sizes are TensorFlow {stored_tensorflow()}'s")
    assert len(fresh(name)) == stored_files()[name].tflite_bytes, REGENERATE


def test_facts_are_kept_of_the_designs_alone_and_in_their_order() -> None:
    assert list(stored_files()) == list(DESIGNS), REGENERATE


@every_design
def test_no_operation_of_a_design_takes_a_detour(name: str) -> None:
    assert not {op.name for op in read_ops(fresh(name))} & DETOURS


@every_design
def test_every_convolution_of_a_design_has_a_bias(name: str) -> None:
    assert without_bias(fresh(name)) == ()


@every_design
def test_the_phone_takes_every_operation_of_a_designs_file_but_the_root_in_instance_norms(name: str) -> None:
    verdict = support(read_network(fresh(name)), load_delegate("mediatek-neuron"))
    assert {refusal.op for refusal in verdict.refused} == ({"RSQRT"} if name.startswith("eds") else set())


@every_design
def test_a_file_holds_its_weights_and_little_else(name: str) -> None:
    weights = 4 * build_graph(DESIGNS[name].spec).parameters
    operations = sum(stored_files()[name].ops.values())
    assert weights < stored_files()[name].tflite_bytes < weights + 2000 + 500 * operations


def test_no_two_made_up_arrays_are_alike() -> None:
    weights = design_files.made_up_weights(build_graph(DESIGNS["csanet"].spec))
    assert len({array.tobytes() for array in weights.values()}) == len(weights)


def test_the_documented_command_writes_what_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(design_files, "convert", fresh_of_design)
    written = json.loads(design_files.to_json([DESIGNS["smallnet"]]))
    stored = json.loads(design_files.STORED.read_text("utf-8"))
    assert written["command"] == stored["command"]
    assert written["designs"] == {"smallnet": stored["designs"]["smallnet"]}


def fresh_of_design(design: design_files.Design) -> bytes:
    return fresh(design.name)
