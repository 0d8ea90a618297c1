"""A file takes and gives float32 here, whatever it stores."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lowering_cases import random_weights

from nas.tflite.interpreter import TfliteModel
from nas.tflite.tensor_encoding import TensorEncoding
from search_spaces import lower_tf
from search_spaces.designs import DESIGNS
from search_spaces.graph import INPUT
from search_spaces.networks import build_graph

TYPES = st.sampled_from(["int8", "uint8", "int16"])


@given(TYPES, st.floats(1e-5, 10), st.data())
def test_what_a_file_stores_is_a_value_within_half_a_step(dtype: str, scale: float, data: st.DataObject) -> None:
    holds = np.iinfo(dtype)
    zero = data.draw(st.integers(int(holds.min), int(holds.max)))
    port = TensorEncoding(dtype, scale, zero)
    stored = data.draw(st.integers(int(holds.min), int(holds.max)))
    value = port.decode(np.array([stored], dtype))
    assert port.encode(value).tolist() == [stored]
    beside = value + np.float32(0.4 * scale)
    assert abs(int(port.encode(beside)[0]) - stored) <= 1


def test_a_value_outside_the_range_is_its_nearest_end_and_does_not_wrap() -> None:
    for dtype in ("int8", "uint8", "int16"):
        encoded = TensorEncoding(dtype, 0.01, 3).encode(np.array([-1e6, 1e6], np.float32))
        assert encoded.tolist() == [np.iinfo(dtype).min, np.iinfo(dtype).max]


def test_a_float_is_taken_as_it_is() -> None:
    x = np.array([-1.5, 1e6], np.float32)
    plain = TensorEncoding("float32", 0.0, 0)
    assert plain.decode(plain.encode(x)).tolist() == x.tolist()


def test_every_map_of_a_run_can_be_read() -> None:
    graph = build_graph(DESIGNS["csanet"].spec, (1, 16, 16, 4))
    weights, x = random_weights(graph), np.random.default_rng(0).random((1, 16, 16, 4), np.float32)
    expected = lower_tf.predict_maps(graph, weights, x)
    maps = TfliteModel(lower_tf.to_tflite(graph, weights, precision="int16", calibration=[x]), keep_maps=True).maps(x)
    compared = [name for name in expected if name in maps]
    assert {INPUT, "block1.concat", "up", graph.output} <= set(compared)
    for name in compared:
        assert np.abs(maps[name] - expected[name]).mean() <= 0.02 * max(np.ptp(expected[name]), 1e-3), name


@pytest.mark.parametrize(("budget_s", "most"), [(0.0, 1), (60.0, 3)])
def test_a_slow_file_is_timed_once(monkeypatch: pytest.MonkeyPatch, budget_s: float, most: int) -> None:
    graph = build_graph(DESIGNS["smallnet"].spec, (1, 8, 8, 4))
    model = TfliteModel(lower_tf.to_tflite(graph, random_weights(graph)))
    runs = []
    invoke = model._interpreter.invoke
    monkeypatch.setattr(model._interpreter, "invoke", lambda: (runs.append(1), invoke()))
    assert model.runtime_ms(runs=3, budget_s=budget_s) > 0
    assert len(runs) == most
