"""Training rounds what an int8 file rounds, and what it learns is what the file has."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lowered_designs import design, snr_db
from lowering_cases import CASES, built, random_weights, spread_input, tflite

from nas.tflite.interpreter import TfliteModel
from search_spaces import lower_flax, lower_quantised, lower_tf
from search_spaces.graph import INPUT, Graph, GraphBuilder
from search_spaces.lower_quantised import fake_quantised, fake_quantised_weight
from search_spaces.ops import Activation, Add, Concat, Conv, DepthToSpace
from search_spaces.precision import unconvertible
from search_spaces.quantised_maps import QuantisedMaps, channel_axis
from search_spaces.tflite_file import read_graph

Weights = dict[str, np.ndarray]
# An int8 kernel rounds its sum once, JAX the same sum as a float: now and then one step apart, and through tens of
# layers a step becomes a few. Twins that round alike are nearer to each other than to the float network.
NEARER_DB = 6.0


def converted(graph: Graph, weights: Weights, x: np.ndarray) -> tuple[bytes, QuantisedMaps]:
    content = tflite(graph, weights, precision="int8", calibration=[x])
    return content, QuantisedMaps.of_file(content, graph)


def as_file(graph: Graph, maps: QuantisedMaps, weights: Weights, x: np.ndarray) -> np.ndarray:
    return np.asarray(lower_quantised.jit_apply(graph, maps)(weights | maps.first_logarithms, x))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not unconvertible(built(case), "int8")])
def test_an_operation_rounds_as_its_file_does(name: str) -> None:
    graph = built(CASES[name])
    weights, x = random_weights(graph), spread_input(graph.input_shape, 2)
    content, maps = converted(graph, weights, x)
    expected, answer = TfliteModel(content)(x), as_file(graph, maps, weights, x)
    # Operations with maps inside (a normalisation's variance) are rounded more often in the file.
    assert snr_db(expected, answer) >= 33.0


@pytest.mark.parametrize("name", ["smallnet", "enerzai-dense", "acvlab", "isp-forever"])
def test_a_shallow_design_rounds_as_its_file_does(name: str) -> None:
    graph, weights, calibration = design(name)
    x = calibration[0]
    content, maps = converted(graph, weights, x)
    plain, file = lower_tf.predict(graph, weights, x), TfliteModel(content)(x)
    assert snr_db(file, as_file(graph, maps, weights, x)) >= snr_db(plain, file) + NEARER_DB / 3


@pytest.mark.parametrize("name", ["csanet"])
def test_a_design_can_be_trained_with_its_roundings(name: str) -> None:
    graph, weights, calibration = design(name)
    _, maps = converted(graph, weights, calibration[0])

    def mean(parameters: lower_flax.Parameters) -> jax.Array:
        return jnp.mean(lower_quantised.apply(graph, maps, parameters, jnp.asarray(calibration[0])) ** 2)

    gradients = jax.jit(jax.grad(mean))({name: jnp.asarray(v) for name, v in (weights | maps.first_logarithms).items()})
    assert all(bool(jnp.isfinite(value).all()) for value in gradients.values())
    assert any(float(jnp.abs(gradients[key]).max()) > 0 for key in maps.first_logarithms)


@pytest.mark.parametrize("name", ["smallnet", "csanet", "noahtcv"])
def test_the_file_has_the_ranges_that_it_is_given(name: str) -> None:
    graph, weights, calibration = design(name)
    _, maps = converted(graph, weights, calibration[0])
    wanted = {node: (0.7 * low, 0.7 * high) for node, (low, high) in maps.trained_ranges(maps.first_logarithms).items()}
    content = lower_tf.to_tflite(graph, weights, precision="int8", calibration=calibration[:1], ranges=wanted)
    read = QuantisedMaps.of_file(content, graph)
    assert read.maps == maps.maps
    for key, (low, high) in read.learned:
        assert high - low == pytest.approx(wanted[key][1] - wanted[key][0], rel=1e-4)


def test_the_first_term_of_a_sum_has_its_own_range_and_not_that_of_the_sum() -> None:
    # LiteRT adds in place, and its calibration then takes the one for the other.
    g = GraphBuilder((1, 8, 8, 4))
    big = g.add("big", Conv(4), INPUT)
    small = g.add("small", Conv(4), big)
    g.add("end", Conv(3), g.add("sum", Add(), small, big))
    graph, x = g.build(), spread_input((1, 8, 8, 4), 2)
    weights = random_weights(graph)
    weights["big/bias"] = np.full(4, 50.0, np.float32)
    weights["small/kernel"] *= np.float32(0.001)
    _, maps = converted(graph, weights, x)
    seen = lower_tf.predict_maps(graph, weights, x)["small"]
    low, high = maps.trained_ranges(maps.first_logarithms)["small"]
    assert high - low == pytest.approx(max(0.0, float(seen.max())) - min(0.0, float(seen.min())), rel=0.02)


def test_maps_that_must_share_a_scale_share_a_range_and_those_of_the_format_stay() -> None:
    g = GraphBuilder((1, 8, 8, 4))
    a, b = g.add("a", Conv(4), INPUT), g.add("b", Conv(4), INPUT)
    both = g.add("both", Concat(), a, b)
    shuffled = g.add("shuffled", DepthToSpace(2), both)
    g.add("f", Activation("tanh"), g.add("end", Conv(3), shuffled))
    graph = g.build()
    _, maps = converted(graph, random_weights(graph), spread_input((1, 8, 8, 4), 2))
    named = dict(maps.maps)
    assert named["a"] == named["b"] == named["both"] == named["shuffled"]
    assert named["end"] != named["both"]
    assert maps.fixed == {"f"}
    assert dict(maps.ranges)["f"] == (-1.0, 127 / 128)
    assert {name for name in maps.first_logarithms if name.startswith("f/")} == set()


def test_a_tanh_before_a_concatenation_is_rounded_twice_as_in_its_file() -> None:
    g = GraphBuilder((1, 16, 16, 4))
    f = g.add("f", Activation("tanh"), g.add("a", Conv(4), INPUT))
    g.add("end", Conv(3), g.add("both", Concat(), f, g.add("b", Conv(4), f)))
    graph, x = g.build(), spread_input((1, 16, 16, 4), 2)
    weights = random_weights(graph)
    weights["a/kernel"] *= np.float32(0.05)  # a tanh of small values, whose rounding by 1/128 is the coarser one
    content, maps = converted(graph, weights, x)
    assert dict(maps.before) == {"f": (-1.0, 127 / 128)}
    once = as_file(graph, replace(maps, before=()), weights, x)
    twice = as_file(graph, maps, weights, x)
    file = TfliteModel(content)(x)
    assert snr_db(file, twice) > snr_db(file, once) + 3


def test_a_fused_activation_is_rounded_once_and_a_range_from_0_keeps_its_0() -> None:
    g = GraphBuilder((1, 8, 8, 4))
    g.add("end", Conv(3), g.add("f", Activation("relu"), g.add("a", Conv(4), INPUT)))
    graph = g.build()
    _, maps = converted(graph, random_weights(graph), spread_input((1, 8, 8, 4), 2))
    assert [node for node, _ in maps.maps] == [INPUT, "f", "end"]
    assert "f/high" in maps.first_logarithms
    assert "f/low" not in maps.first_logarithms


def test_maps_round_trip_as_data_and_ranges_as_logarithms() -> None:
    graph, weights, calibration = design("csanet")
    _, maps = converted(graph, weights, calibration[0])
    assert QuantisedMaps.from_dict(maps.to_dict()) == maps
    for node, sides in maps.trained_ranges(maps.first_logarithms).items():
        assert sides == pytest.approx(dict(maps.ranges)[dict(maps.maps)[node]], rel=1e-6)


def test_a_kernel_has_as_many_scales_as_the_training_gives_it() -> None:
    for name in ("conv 3×3", "depthwise", "transposed"):
        graph = built(next(case for key, case in CASES.items() if key.startswith(name)))
        content, _ = converted(graph, random_weights(graph), spread_input(graph.input_shape, 2))
        kernels = [t for t in read_graph(content).tensors if len(t.shape) == 4 and t.is_constant and t.dtype == "int8"]
        axes = [channel_axis(node, "kernel") for node in graph.nodes]
        counts = [
            graph.parameter_shapes[f"{node.name}/kernel"][axis]
            for node, axis in zip(graph.nodes, axes, strict=True)
            if axis is not None
        ]
        assert sorted(len(kernel.scales) for kernel in kernels) == sorted(counts)


@settings(deadline=None)
@given(st.floats(-8, -0.01), st.floats(0.01, 8), st.lists(st.floats(-10, 10), min_size=1, max_size=20))
def test_a_rounded_map_takes_256_values_of_which_one_is_0(low: float, high: float, values: list[float]) -> None:
    x = jnp.array([0.0, *values], jnp.float32)
    y = np.asarray(fake_quantised(x, jnp.array([low], jnp.float32), jnp.array([high], jnp.float32)))
    step = (high - low) / 255
    assert y[0] == 0
    steps = y / np.float32(step)
    assert np.abs(steps - np.round(steps)).max() < 1e-2
    inside = (np.asarray(x) > low + step) & (np.asarray(x) < high - step)
    assert np.abs(y - np.asarray(x))[inside].max(initial=0) <= 0.51 * step
    assert low - step <= y.min()
    assert y.max() <= high + step


def test_gradients_pass_through_inside_and_move_the_range_outside() -> None:
    low, high = jnp.array([-1.0]), jnp.array([1.0])
    x = jnp.array([-3.0, 0.3, 3.0])
    total = lambda x, low, high: jnp.sum(fake_quantised(x, low, high))  # noqa: E731
    of_x, of_low, of_high = jax.grad(total, argnums=(0, 1, 2))(x, low, high)
    assert of_x.tolist() == [0.0, 1.0, 0.0]
    assert float(of_low[0]) == pytest.approx(1.0, abs=0.6)
    assert float(of_high[0]) == pytest.approx(1.0, abs=0.6)


def test_a_rounded_weight_is_symmetric_and_keeps_its_largest() -> None:
    value = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3, 4, 5)), jnp.float32)
    rounded = fake_quantised_weight(value, 3)
    largest = np.abs(np.asarray(value)).max((0, 1, 2))
    assert np.abs(np.asarray(rounded)).max((0, 1, 2)) == pytest.approx(largest, rel=1e-6)
    assert np.abs(np.asarray(rounded - value)).max() <= 0.51 * largest.max() / 127
    assert np.asarray(fake_quantised_weight(jnp.zeros((1, 1, 2, 2)), 3)).tolist() == np.zeros((1, 1, 2, 2)).tolist()
