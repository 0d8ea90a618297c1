"""Probes of operations that only other makers' files have: names, files that run, and what a plan of them holds."""

import re
from collections import Counter

import pytest

from latency_models import other_probes
from latency_models.measure.local import LoadedModel, LocalOptions
from latency_models.other_probes import OtherProbe, any_named, named, plan, probe_like
from search_spaces.tflite_file import read_graph

EACH = {
    "fully_connected-64-10": ("FULLY_CONNECTED", "fully_connected", 640),
    "grouped-k3-s2-g4-32-64-8x8": ("CONV_2D", "conv", 4 * 4 * 64 * 9 * 8),
    "grouped-k1-s1-g2-8-8-4x4": ("CONV_2D", "conv_1x1", 4 * 4 * 8 * 4),
    "softmax-8-6x4": ("SOFTMAX", "activation", 0),
    "strided_slice-8-6x4": ("STRIDED_SLICE", "memory", 0),
    "transpose-8-6x4": ("TRANSPOSE", "memory", 0),
    "resize_nearest-8-6x4": ("RESIZE_NEAREST_NEIGHBOR", "memory", 0),
    "pad-8-6x4": ("PAD", "memory", 0),
    "pow-8-6x4": ("POW", "memory", 0),
    "divide-8-6x4": ("DIV", "memory", 0),
}


def other(name: str) -> OtherProbe:
    probe = named(name)
    assert probe is not None
    return probe


@pytest.mark.parametrize("name", EACH)
def test_a_probe_holds_its_operation_alone_and_runs(name: str) -> None:
    probe = other(name)
    (kernel,) = probe.network.kernels
    assert (kernel.tflite_op, kernel.cls, kernel.macs) == EACH[name]
    graph = read_graph(probe.content)
    model = LoadedModel(name, probe.content, LocalOptions())
    (made,) = model._interpreter.get_output_details()
    assert tuple(made["shape"]) == graph.tensors[graph.outputs[0]].shape


def test_every_kind_that_is_drawn_has_a_file_that_is_tested_here() -> None:
    kinds = {name.split("-")[0] for name in EACH}
    assert set(other_probes.KINDS) - {"depthwise"} == kinds
    assert set(other_probes.ON_MAPS) <= kinds


@pytest.mark.parametrize(
    "name", ["smallnet", "grouped-k3-s1-g3-32-32-8x8", "softmax-0-6x4", "pow-8", "conv-k3-s1-3-4-none-8x8"]
)
def test_other_names_are_none_of_them(name: str) -> None:
    assert named(name) is None


def test_a_plan_takes_every_kind_in_turn_and_is_the_same_every_time() -> None:
    names = [probe.name for probe in plan(40)]
    assert names == [probe.name for probe in plan(40)]
    assert len(set(names)) == 40
    counts = Counter(name.split("-")[0] for name in names)
    assert set(counts) == set(other_probes.KINDS)
    assert min(counts.values()) >= 2
    assert {name.split("-")[1] for name in names if name.startswith("depthwise")} <= {"k7", "k9", "k11"}
    assert all(any_named(name) is not None for name in names)


def test_a_plan_may_be_held_to_small_maps() -> None:
    for probe in plan(30, largest_side=60):
        sides = re.search(r"(\d+)x(\d+)$", probe.name)
        enlarges = 2 if probe.name.startswith("resize") else 1
        assert sides is None or enlarges * max(map(int, sides.groups())) <= 60


@pytest.mark.parametrize(
    "name", [name for name in EACH if not re.match("strided|transpose|resize|pad|grouped-k3", name)]
)
def test_a_kernel_leads_to_the_probe_that_measures_it(name: str) -> None:
    assert probe_like(other(name).network.kernels[0]) == name


def test_an_operation_without_a_probe_leads_to_none() -> None:
    kernel = other("pow-8-6x4").network.kernels[0]
    assert probe_like(kernel._replace(tflite_op="GATHER")) is None
