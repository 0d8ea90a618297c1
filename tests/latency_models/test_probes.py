"""Probes: what they are called, what they hold, and that a plan covers what it must."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latency_models import probes
from latency_models.kernels import kernels
from search_spaces.activations import ACTIVATIONS
from search_spaces.designs import DESIGNS
from search_spaces.graph import FULL_HD
from search_spaces.ops import OPS, Activation, Affine, Scale
from search_spaces.space import load_space

SPACE = load_space("mai21")


@pytest.fixture(scope="module")
def plan() -> tuple[probes.Probe, ...]:
    return probes.plan(300)


@settings(deadline=None, max_examples=80)
@given(st.integers(0, 100_000))
def test_a_name_says_all_of_a_probe(seed: int) -> None:
    probe = probes.draw(random.Random(seed))
    if probe is not None:
        assert probes.named(probe.name) == probe


@pytest.mark.parametrize(
    ("name", "ops", "shape"),
    [
        ("conv-k3-s1-16-24-relu-272x480", ["CONV_2D"], (1, 272, 480, 16)),
        ("depthwise-k5-d2-8-none-68x120", ["DEPTHWISE_CONV_2D"], (1, 68, 120, 8)),
        ("transposed-k4-32-16-136x240", ["TRANSPOSE_CONV"], (1, 136, 240, 32)),
        ("prelu-12-34x60", ["PRELU"], (1, 34, 60, 12)),
        ("concat-16-34x60", ["RELU", "CONCATENATION"], (1, 34, 60, 16)),
        ("gate-16-34x60", ["MEAN", "MUL"], (1, 34, 60, 16)),
    ],
)
def test_probes_hold_the_operation_that_they_are_named_for(name: str, ops: list[str], shape: tuple[int, ...]) -> None:
    probe = probes.named(name)
    assert probe is not None
    assert [kernel.tflite_op for kernel in kernels(probe.graph)] == ops
    assert probe.graph.input_shape == shape


@pytest.mark.parametrize(
    "name", ["smallnet", "conv-k3", "conv-k3-s1-16-24-tanh-272x480", "candidate-unet-0123456789ab"]
)
def test_other_names_are_no_probes(name: str) -> None:
    assert probes.named(name) is None


def test_a_plan_has_no_network_twice_and_is_the_same_every_time(plan: tuple[probes.Probe, ...]) -> None:
    assert len({probe.name for probe in plan}) == len(plan) == 300
    few = probes.plan(60)
    assert probes.plan(60) == few
    assert probes.plan(60, seed=1) != few


def test_a_fifth_of_a_plan_is_at_the_target_resolution_or_a_strip_as_tall(plan: tuple[probes.Probe, ...]) -> None:
    assert sum(probe.graph.input_shape[1] >= 544 for probe in plan) >= 0.2 * len(plan)


def test_a_plan_holds_every_operation_of_networks_and_most_often_convolutions(plan: tuple[probes.Probe, ...]) -> None:
    held = {type(node.op) for probe in plan for node in probe.graph.nodes}
    assert set(OPS.values()) - held == {Affine, Scale}  # which become MUL and ADD, and are there as these
    functions = {n.op.function for p in plan for n in p.graph.nodes if isinstance(n.op, Activation)}
    assert functions == {*ACTIVATIONS}
    counts = Counter(probe.name.split("-")[0] for probe in plan)
    assert counts.most_common(1)[0][0] == "conv"


def test_no_probe_is_larger_than_a_phone_can_hold(plan: tuple[probes.Probe, ...]) -> None:
    for probe in plan:
        assert max(h * w * c for _, h, w, c in probe.graph.shapes.values()) <= 4 * probes.LARGEST_MAP
        assert probe.graph.macs <= probes.LARGEST_MACS


def test_a_plan_may_be_held_to_small_maps() -> None:
    small = probes.plan(120, largest_side=480)
    assert all(max(h, w) <= 480 for probe in small for _, h, w, _ in probe.graph.shapes.values())


def test_what_is_planned_after_the_start_is_what_is_least_known(plan: tuple[probes.Probe, ...]) -> None:
    # The chosen probes leave less uncertainty than as many drawn at random from the same pool.
    import numpy as np

    from latency_models.kernels import network

    pool = probes._pool(random.Random(0), probes.POOL, None)
    rows = probes._rows([network(probe.graph) for probe in pool])
    names = {probe.name: index for index, probe in enumerate(pool)}

    def uncertainty(chosen: list[int]) -> float:
        inverse = np.linalg.inv(probes.RIDGE * np.eye(rows.shape[1]) + rows[chosen].T @ rows[chosen])
        worth = np.array([probes.KINDS[probes._kind(probe)] for probe in pool])
        return float((worth * np.einsum("ij,jk,ik->i", rows, inverse, rows)).mean())

    planned = [names[probe.name] for probe in plan]
    drawn = [uncertainty(random.Random(seed).sample(range(len(pool)), len(planned))) for seed in range(5)]
    assert uncertainty(planned) < min(drawn)


def test_candidates_are_the_designs_and_then_members_of_the_space_each_once() -> None:
    candidates = list(probes.candidates(SPACE, 20))
    assert [probe.name for probe in candidates[: len(DESIGNS)]] == list(DESIGNS)
    assert len(candidates) == 20
    assert len({probe.graph.structure for probe in candidates}) == 20
    assert all(probe.graph.input_shape == FULL_HD for probe in candidates)
    assert all(probe.name == f"candidate-{probe.family}-{probe.name[-12:]}" for probe in candidates[len(DESIGNS) :])
