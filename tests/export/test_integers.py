"""What an integer file holds: the same network with equal channels, the ranges that lose least, and rounded kernels."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lowering_cases import random_weights

from nas.export.integers.calibration import CalibratedNetwork
from nas.export.integers.map_ranges import chosen_ranges, rounded_maps
from nas.export.integers.map_samples import MapSamples, judged_at, look_at
from nas.export.integers.weight_rounding import rounded
from search_spaces import lower_flax
from search_spaces.channel_scales import LARGEST_FACTOR, channel_scales, scaled
from search_spaces.designs import DESIGNS
from search_spaces.graph import INPUT, Graph, GraphBuilder
from search_spaces.lower_quantised import fake_quantised_weight
from search_spaces.networks import build_graph
from search_spaces.ops import Activation, Add, Concat, Conv, DepthwiseConv, Multiply, TransposeConv
from search_spaces.quantised_maps import channel_axis
from search_spaces.spec import ArchSpec

SIZE = (1, 16, 16, 4)
DENSE = ArchSpec(width=8, depth=2).with_genes(attention="channel")
# Designs of one block where they have several of a kind: compiling a look at them is what takes the time.
NETWORKS = {name: DESIGNS[name].spec.with_genes(depth=1) for name in ("csanet", "noahtcv", "cvml", "eds")} | {
    "smallnet": DESIGNS["smallnet"].spec,
    "dense": DENSE,
}
Arrays = dict[str, np.ndarray]


def pictures(shape: tuple[int, ...] = SIZE, count: int = 3) -> np.ndarray:
    """Smooth pictures with a few highlights: neighbours are alike, as in photographs."""
    rng = np.random.default_rng(0)
    _, h, w, c = shape
    coarse = rng.random((count, h // 4 + 1, w // 4 + 1, c))
    x = np.repeat(np.repeat(coarse, 4, axis=1), 4, axis=2)[:, :h, :w] + 0.02 * rng.random((count, h, w, c))
    return np.clip(0.3 * x + (rng.random(x.shape) > 0.999), 0, 1).astype(np.float32)


@cache
def compiled(graph: Graph) -> Callable[..., Any]:  # operation by operation, a network takes ten times as long
    return jax.jit(lambda parameters, x: lower_flax.maps(graph, parameters, x, lambda _, value: value)[graph.output])


def output(graph: Graph, weights: Arrays, x: np.ndarray) -> np.ndarray:
    parameters = {name: jnp.asarray(value) for name, value in weights.items()}
    return np.asarray(compiled(graph.at(x.shape))(parameters, jnp.asarray(x)))  # type: ignore[arg-type]


def chain(*ops: object, shape: tuple[int, ...] = SIZE) -> Graph:
    build = GraphBuilder(shape)  # type: ignore[arg-type]
    last = INPUT
    for number, op in enumerate(ops):
        last = build.add(f"n{number}", op, last)  # type: ignore[arg-type]
    return build.build()


def unequal(graph: Graph) -> Arrays:
    """Random weights of which every convolution makes channels of very different sizes."""
    weights = dict(random_weights(graph))
    for node in graph.nodes:
        if isinstance(node.op, Conv):
            sizes = np.logspace(0, -2, node.op.filters).astype(np.float32)
            weights[f"{node.name}/kernel"] = weights[f"{node.name}/kernel"] * sizes
            weights[f"{node.name}/bias"] = weights[f"{node.name}/bias"] * sizes
    return weights


class Equalised(NamedTuple):
    """A network of unequal channels before and after they are scaled."""

    graph: Graph
    weights: Arrays
    seen: MapSamples
    scales: Arrays
    scaled: Arrays
    seen_scaled: MapSamples


@cache
def equalised(name: str) -> Equalised:
    graph = build_graph(NETWORKS[name], SIZE)
    weights = unequal(graph)
    seen = look_at(graph, weights, pictures())
    scales = channel_scales(graph, seen.low, seen.high, rounded_maps(graph))
    made = scaled(graph, weights, scales)
    return Equalised(graph, weights, seen, scales, made, look_at(graph, made, pictures()))


@pytest.mark.parametrize("name", NETWORKS)
def test_equal_channels_leave_every_network_what_it_computes(name: str) -> None:
    graph, weights, _, scales, equal, _ = equalised(name)
    assert max(factors.max() for factors in scales.values()) > 1.5
    before, after = output(graph, weights, pictures()), output(graph, equal, pictures())
    np.testing.assert_allclose(after, before, atol=2e-5 * max(1.0, np.ptp(before)))


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_told_of_equal_channels_is_what_one_would_see(name: str) -> None:
    graph, _, samples, scales, _, seen = equalised(name)
    predicted = samples.scaled(graph, scales)
    for part in ("low", "high", "moments"):
        for key, value in getattr(seen, part).items():
            near = 1e-3 * max(1e-6, float(np.abs(value).max()))
            np.testing.assert_allclose(getattr(predicted, part)[key], value, atol=near, err_msg=f"{part} {key}")


def test_channels_fill_the_range_of_their_map_as_far_as_a_factor_may_go() -> None:
    graph = chain(Conv(8), Activation("relu"), Conv(3))
    weights, x = unequal(graph), pictures()
    samples = look_at(graph, weights, x)
    scales = channel_scales(graph, samples.low, samples.high, rounded_maps(graph))
    after = look_at(graph, scaled(graph, weights, scales), x).high["n1"]
    assert after.max() == pytest.approx(samples.high["n1"].max(), rel=1e-4)  # no range is wider than before
    grown = scales["n1"]
    assert np.all((after > 0.999 * after.max()) | (grown == LARGEST_FACTOR) | (after == 0))
    assert scales[INPUT].tolist() == [1] * 4
    assert scales["n2"].tolist() == [1] * 3


def test_channels_that_are_added_up_share_a_factor_and_a_tanh_has_none() -> None:
    build = GraphBuilder(SIZE)
    a = build.add("a", Conv(6), INPUT)
    b = build.add("b", Conv(6), INPUT)
    gate = build.add("gate", Activation("sigmoid"), build.add("g", Conv(6), INPUT))
    joined = build.add("joined", Concat(), build.add("sum", Add(), a, b), build.add("tanh", Activation("tanh"), a))
    gated = build.add("gated", Multiply(), build.add("c", Conv(6, 1), joined), gate)
    build.add("out", Conv(3), gated)
    graph = build.build()
    samples = look_at(graph, unequal(graph), pictures())
    scales = channel_scales(graph, samples.low, samples.high, rounded_maps(graph))
    np.testing.assert_equal(scales["a"], scales["b"])
    np.testing.assert_equal(scales["joined"], np.concatenate([scales["sum"], scales["tanh"]]))
    assert set(scales["a"]) == set(scales["tanh"]) == set(scales["gate"]) == {1}
    np.testing.assert_equal(scales["gated"], scales["c"])
    assert scales["c"].max() > 1


def test_importance_is_what_an_error_does_to_the_output() -> None:
    graph = chain(Conv(5), Conv(3))
    weights = {name: 0.2 * value for name, value in random_weights(graph).items()}
    weights["n1/bias"] = np.full(3, 0.5, np.float32)  # nothing is clipped
    samples = look_at(graph, weights, 0.2 * pictures(count=24))
    inside = np.sort(samples.importance["n0"], axis=0)  # each stands for as many positions as it was drawn from
    expected = (weights["n1/kernel"] ** 2).sum((0, 1, 3))
    importance = samples.importance["n0"].sum(0) / 24 / (16 * 16)
    assert inside.min() >= 0
    np.testing.assert_allclose(importance, expected, rtol=0.15)  # less at the border, and 96 vectors of random signs


def test_what_the_photograph_clips_has_no_importance() -> None:
    graph = chain(Conv(3))
    weights = random_weights(graph) | {"n0/bias": np.full(3, 50, np.float32)}
    assert look_at(graph, weights, pictures()).importance["n0"].max() == 0


def samples_of(graph: Graph, values: Arrays, importance: Arrays | None = None) -> MapSamples:
    given = {name: np.zeros((4, shape[3]), np.float32) for name, shape in graph.shapes.items()} | values
    low, high = ({name: end(value, axis=0) for name, value in given.items()} for end in (np.min, np.max))
    weights = {name: np.ones_like(value) for name, value in given.items()} | (importance or {})
    return MapSamples(given, weights, low, high, {})


def spread(count: int = 4000, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(1).uniform(-1, 1, (count, channels)).astype(np.float32)


def test_a_range_leaves_out_what_a_tanh_flattens() -> None:
    graph = chain(Conv(3), Activation("tanh"))
    far = np.concatenate([spread(), np.full((40, 3), -30, np.float32)])
    low, high = chosen_ranges(graph, {}, samples_of(graph, {"n0": far}))["n0"]
    assert -6 < low < -2
    assert high == pytest.approx(1, abs=0.01)


def test_a_range_holds_what_matters_and_leaves_out_what_does_not() -> None:
    graph = chain(Conv(3))
    values = np.concatenate([spread(), np.full((4, 3), 20, np.float32)])
    idle = np.concatenate([np.ones((4000, 3)), np.zeros((4, 3))]).astype(np.float32)
    assert chosen_ranges(graph, {}, samples_of(graph, {"n0": values})) == {}
    narrowed = chosen_ranges(graph, {}, samples_of(graph, {"n0": values}, {"n0": idle}))["n0"]
    assert narrowed[1] < 1.3


def test_maps_that_a_file_rounds_in_one_step_have_one_range() -> None:
    build = GraphBuilder(SIZE)
    a, b = build.add("a", Conv(3), INPUT), build.add("b", Conv(3), INPUT)
    build.add("joined", Concat(), a, b)
    graph = build.build()
    idle = {"joined": np.zeros((4, 6), np.float32), "a": np.zeros((4000, 3), np.float32)}
    ranges = chosen_ranges(graph, {}, samples_of(graph, {"a": 9 * spread(), "b": spread()}, idle))
    assert ranges["a"] == ranges["b"] == ranges["joined"]
    assert ranges["b"][1] == pytest.approx(1, rel=0.2)


def test_a_convolution_has_no_map_of_its_own_in_front_of_a_relu_and_one_in_front_of_a_tanh() -> None:
    graph = chain(Conv(3), Activation("relu"), Conv(3), Activation("tanh"))
    assert rounded_maps(graph) == (INPUT, "n1", "n2", "n3")
    assert [judged_at(graph, name) for name in ("n1", "n2", "n3")] == ["n1", "n3", "n3"]


KERNELS = {
    "conv": chain(Conv(7)),
    "strided": chain(Conv(7, 5, 2)),
    "pointwise": chain(Conv(7, 1)),
    "depthwise": chain(DepthwiseConv(3, dilation=2)),
    "transposed": chain(TransposeConv(7, 3, 2)),
    "doubling": chain(TransposeConv(7, 2, 2)),
}


@pytest.mark.parametrize("name", KERNELS)
def test_rounded_kernels_are_those_of_the_file_and_change_its_products_less(name: str) -> None:
    graph, x = KERNELS[name], pictures()
    weights = random_weights(graph)
    kernel = weights["n0/kernel"]
    rounded_kernel = rounded(graph, weights, look_at(graph, weights, x).moments)["n0/kernel"]
    axis = channel_axis(graph.nodes[0], "kernel")
    again, plain = (np.asarray(fake_quantised_weight(value, axis)) for value in (rounded_kernel, kernel))
    np.testing.assert_allclose(again, rounded_kernel, atol=1e-6 * np.abs(kernel).max())
    errors = [
        np.mean((output(graph, weights | {"n0/kernel": k}, x) - output(graph, weights, x)) ** 2)
        for k in (rounded_kernel, plain)
    ]
    assert errors[0] < 0.95 * errors[1]


def test_a_channel_of_zeros_stays_one() -> None:
    graph = chain(Conv(3))
    weights = random_weights(graph)
    weights["n0/kernel"] = weights["n0/kernel"] * np.array([1, 0, 1], np.float32)
    rounded_kernel = rounded(graph, weights, look_at(graph, weights, pictures()).moments)["n0/kernel"]
    assert not rounded_kernel[..., 1].any()
    assert np.isfinite(rounded_kernel).all()


def test_pictures_larger_than_what_is_looked_at_count_with_their_middle() -> None:
    graph = build_graph(replace(DESIGNS["smallnet"].spec, width=4), (1, 160, 200, 4))
    x = np.zeros((2, 160, 200, 4), np.float32)
    x[:, 80, 100] = 1
    x[:, 0, 0] = 5
    samples = look_at(graph, random_weights(graph), x)
    assert samples.high[INPUT].tolist() == [1] * 4


def test_int16_keeps_channels_and_ranges_as_they_are() -> None:
    graph = build_graph(DENSE, SIZE)
    weights = unequal(graph)
    calibrated = CalibratedNetwork(graph, weights, pictures()).int16
    assert (calibrated.ranges, calibrated.scales) == ({}, {})
    assert calibrated.exact is weights
