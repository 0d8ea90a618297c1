"""A network that reads counts answers as the one that reads values in [0, 1], at the border, too."""

import numpy as np
import pytest
from lowering_cases import random_weights

from nas.tflite.interpreter import TfliteModel
from search_spaces import lower_flax, lower_tf
from search_spaces.designs import DESIGNS
from search_spaces.graph import INPUT, Graph, GraphBuilder
from search_spaces.input_levels import InputLevels, fold_raw_levels
from search_spaces.networks import build_graph
from search_spaces.ops import Add, Conv, DepthwiseConv
from search_spaces.tflite_counts import add_count_input
from search_spaces.tflite_file import op_counts, read_graph

SHAPE = (1, 16, 24, 4)
LEVELS = {
    "10 bits": InputLevels(0, 1023),
    "14 bits": InputLevels(0, 16383),
    "10 bits, black 64": InputLevels(64, 1023),
    "14 bits, black 1024, white 15000": InputLevels(1024, 15000),
}


def readers() -> dict[str, Graph]:
    """Networks whose first operations are a convolution, several of them, and none."""
    several = GraphBuilder(SHAPE)
    both = several.add("sum", Add(), several.add("a", Conv(4, 5), INPUT), several.add("b", DepthwiseConv(3), INPUT))
    several.add("rgb", Conv(3, 1), both)
    residual = GraphBuilder(SHAPE)
    residual.add("rgb", Conv(3, 1), residual.add("sum", Add(), residual.add("a", Conv(4, 3), INPUT), INPUT))
    return {
        "one convolution": build_graph(DESIGNS["smallnet"].spec, SHAPE),
        "several convolutions": several.build(),
        "a convolution and an addition": residual.build(),
        "a pool and a subtraction": build_graph(DESIGNS["noahtcv"].spec, (1, 16, 32, 4)),
    }


@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("levels", LEVELS.values(), ids=LEVELS)
@pytest.mark.parametrize("graph", readers().values(), ids=readers())
def test_counts_give_the_answer_of_values_at_every_pixel(graph: Graph, levels: InputLevels, fold: bool) -> None:
    weights = random_weights(graph)
    x = np.random.default_rng(0).random(graph.input_shape, np.float32)
    x[:, 0] = x[:, :, -1] = 1.0  # bright borders, where zero padding and black are easily mixed up
    expected = np.asarray(lower_flax.jit_apply(graph)(weights, x))
    reading, scaled = fold_raw_levels(graph, weights, levels, fold=fold)
    answer = np.asarray(lower_flax.jit_apply(reading)(scaled, levels.counts(x)))
    np.testing.assert_allclose(answer, expected, atol=2e-5 * max(1.0, float(np.ptp(expected))))


def test_a_division_is_folded_into_weights_and_a_black_level_is_an_operation() -> None:
    graph = build_graph(DESIGNS["smallnet"].spec, SHAPE)
    weights = random_weights(graph)
    plain = op_counts(lower_tf.to_tflite(graph, weights))
    for levels, more in ((InputLevels(0, 1023), {}), (InputLevels(64, 1023), {"ADD": 1})):
        reading, scaled = fold_raw_levels(graph, weights, levels, fold=True)
        assert op_counts(lower_tf.to_tflite(reading, scaled)) == plain | more


@pytest.mark.parametrize("levels", LEVELS.values(), ids=LEVELS)
def test_weights_that_may_be_run_in_half_precision_keep_their_size(levels: InputLevels) -> None:
    graph = build_graph(DESIGNS["smallnet"].spec, SHAPE)
    weights = random_weights(graph)
    reading, scaled = fold_raw_levels(graph, weights, levels, fold=False)
    ratio = scaled["stem1/kernel"] / weights["stem1/kernel"]
    assert ratio == pytest.approx(ratio.flat[0])
    assert 0.5 < ratio.flat[0] <= 2
    counts = op_counts(lower_tf.to_tflite(reading, scaled, precision="fp16"))
    assert counts["MUL"] == 1  # not folded behind our back


def test_normalised_input_changes_nothing() -> None:
    graph = build_graph(DESIGNS["smallnet"].spec, SHAPE)
    weights = random_weights(graph)
    assert fold_raw_levels(graph, weights, InputLevels(), fold=True) == (graph, weights)


@pytest.mark.parametrize("levels", LEVELS.values(), ids=LEVELS)
def test_a_16_bit_file_takes_counts_as_they_are(levels: InputLevels) -> None:
    graph = build_graph(DESIGNS["smallnet"].spec, SHAPE)
    weights, x = random_weights(graph), np.random.default_rng(0).random(SHAPE, np.float32)
    counts = np.rint(levels.counts(x))
    reading, scaled = fold_raw_levels(graph, weights, levels, fold=True)
    content = add_count_input(lower_tf.to_tflite(reading, scaled, precision="int16", calibration=[counts]))
    model = TfliteModel(content)
    assert (model.input.dtype, model.input.scale, model.input.zero_point) == ("int16", 1.0, 0)
    np.testing.assert_array_equal(model.input.encode(counts), counts)
    expected = lower_tf.predict(reading, scaled, counts)
    assert np.abs(model(counts) - expected).max() < 0.02 * np.ptp(expected)
    file = read_graph(content)
    assert [file.tensors[index].name for index in file.inputs] == [INPUT]
