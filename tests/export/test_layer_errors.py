"""The layer that is named is the one that spoils the picture."""

import numpy as np
import pytest
from lowering_cases import random_weights

from nas.export.converter import Converted
from nas.export.layer_errors import file_maps, half_maps, snr_db, worst_layer
from search_spaces import lower_tf
from search_spaces.designs import DESIGNS
from search_spaces.graph import Graph
from search_spaces.input_levels import InputLevels
from search_spaces.networks import build_graph
from search_spaces.precision import PRECISIONS

SHAPE = (1, 16, 32, 4)
BEST_DB = PRECISIONS["int8"].best_snr_db


def network(name: str) -> tuple[Graph, dict[str, np.ndarray], np.ndarray]:
    graph = build_graph(DESIGNS[name].spec, SHAPE)
    return graph, random_weights(graph), np.random.default_rng(0).random(SHAPE, np.float32)


@pytest.mark.parametrize("node", ["block1.sa.dw", "block2.add", "tail.relu", "up", "rgb.sigmoid"])
def test_noise_that_enters_at_a_node_is_found_there(node: str) -> None:
    graph, weights, x = network("csanet")
    expected = lower_tf.predict_maps(graph, weights, x)
    rng = np.random.default_rng(1)
    noisy, spoilt = {}, set[str]()
    for each in graph.nodes:  # noise where it enters and, a little more of it, in all that follows
        if each.name == node or spoilt & set(each.inputs):
            spoilt.add(each.name)
        level = 0.5 if each.name in spoilt else 0.002
        value = expected[each.name]
        noisy[each.name] = value + rng.normal(0, level * value.std() + 1e-6, value.shape)
    worst = worst_layer(graph, expected, noisy, best_db=BEST_DB)
    assert worst.node == node
    assert worst.before_db > 40 > 20 > worst.after_db
    assert f'"{node}"' in str(worst)


def converted(graph: Graph, weights: dict[str, np.ndarray], x: np.ndarray, precision: str) -> Converted:
    twin = lower_tf.to_tflite(graph, weights, precision=precision, calibration=[x])
    return Converted(PRECISIONS[precision], "float32", InputLevels(), graph, twin, twin, None, weights)


@pytest.mark.parametrize("layer", ["block1.conv", "head"])
def test_a_map_with_one_huge_channel_is_where_8_bits_lose_the_others(layer: str) -> None:
    graph, weights, x = network("smallnet")
    weights[f"{layer}/bias"][3] = 400.0  # one range for all channels: the others get one step or two
    if layer == "block1.conv":
        weights["head/kernel"][:, :, 3] = 0.0
    expected = lower_tf.predict_maps(graph, weights, x)
    worst = worst_layer(graph, expected, file_maps(converted(graph, weights, x, "int8"), x), best_db=BEST_DB)
    assert worst.node == f"{layer}.relu"


def test_maps_in_half_precision_are_compared_like_those_of_a_file() -> None:
    graph, weights, x = network("smallnet")
    weights["block1.conv/bias"][:] = 3e3  # of which half precision keeps steps of 2
    expected = lower_tf.predict_maps(graph, weights, x)
    worst = worst_layer(graph, expected, half_maps(graph, weights, x), best_db=PRECISIONS["fp16"].best_snr_db)
    assert worst.node == "block1.conv"


def test_the_ratio_of_signal_to_error_is_in_decibels() -> None:
    pixels = np.array([0.0, 2.0] * 8).reshape(1, 4, 4, 1)  # a variance of 1
    channels = np.concatenate([pixels, pixels + 1000], axis=3)
    for signal in (pixels, channels, np.full((1, 1, 1, 1), 1.0), np.array([-1.0, 1.0]).reshape(1, 1, 1, 2)):
        assert snr_db(signal, signal + 0.1) == pytest.approx(20)
        assert snr_db(signal, signal) == float("inf")
        assert snr_db(signal, np.full_like(signal, np.inf)) == snr_db(signal, signal + 1e9) == -100


def test_a_map_that_is_no_number_is_the_one_that_is_named() -> None:
    graph, weights, x = network("smallnet")
    weights["block1.conv/bias"][:] = 7e4  # more than half precision holds
    expected = lower_tf.predict_maps(graph, weights, x)
    worst = worst_layer(graph, expected, half_maps(graph, weights, x), best_db=PRECISIONS["fp16"].best_snr_db)
    assert (worst.node, worst.after_db) == ("block1.conv", -100)
