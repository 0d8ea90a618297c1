"""A file for another size is the file with other shapes: the same weights, the same ranges, the same answers."""

import numpy as np
import pytest
from lowering_cases import random_weights

from nas.tflite.interpreter import TfliteModel
from search_spaces import lower_tf
from search_spaces.designs import DESIGNS
from search_spaces.errors import ExportError
from search_spaces.graph import INPUT, Graph, GraphBuilder, Shape
from search_spaces.networks import build_graph
from search_spaces.ops import Conv, Pool, Resize, TransposeConv
from search_spaces.spec import ArchSpec
from search_spaces.tflite_file import read_graph, read_ops
from search_spaces.tflite_resize import dynamic, resized

SMALL: Shape = (1, 32, 64, 4)
LARGE: Shape = (1, 96, 128, 4)
# One of each way to a size: transposed convolutions; bilinear and pooled; norms with means of rows; attention.
NAMES = ("tuned-unet", "noahtcv", "eds", "csanet")


def network(name: str, shape: Shape = SMALL) -> Graph:
    return build_graph(DESIGNS[name].spec, shape)


@pytest.mark.parametrize("name", NAMES)
def test_a_resized_file_is_the_file_that_a_conversion_at_that_size_gives(name: str) -> None:
    weights, x = random_weights(network(name)), np.random.default_rng(0).random(LARGE, np.float32)
    direct = lower_tf.to_tflite(network(name, LARGE), weights)
    moved = resized(lower_tf.to_tflite(network(name), weights), LARGE)
    assert read_ops(moved) == read_ops(direct)
    assert [t.shape for t in read_graph(moved).tensors] == [t.shape for t in read_graph(direct).tensors]
    np.testing.assert_array_equal(TfliteModel(moved)(x), TfliteModel(direct)(x))


def test_a_file_can_be_resized_there_and_back() -> None:
    graph = network("noahtcv")
    content = lower_tf.to_tflite(graph, random_weights(graph))
    x = np.random.default_rng(0).random(SMALL, np.float32)
    np.testing.assert_array_equal(TfliteModel(resized(resized(content, LARGE), SMALL))(x), TfliteModel(content)(x))


def test_a_map_of_one_pixel_grows_and_a_mean_does_not() -> None:
    # Of a picture of 8×8 the lowest map of this U-Net is one pixel; csanet's means are one value always.
    specs = [ArchSpec(topology="unet", levels=2, depth=1, block="residual", width=4), DESIGNS["csanet"].spec]
    for spec in specs:
        small = build_graph(spec, (1, 4, 4, 4))
        weights = random_weights(small)
        moved = resized(lower_tf.to_tflite(small, weights), LARGE)
        x = np.random.default_rng(0).random(LARGE, np.float32)
        expected = lower_tf.predict(small.at(LARGE), weights, x)
        np.testing.assert_allclose(TfliteModel(moved)(x), expected, atol=1e-4 * max(1, float(np.ptp(expected))))


@pytest.mark.parametrize("name", NAMES)
def test_a_dynamic_file_takes_any_size(name: str) -> None:
    graph = network(name)
    weights = random_weights(graph)
    content = dynamic(lower_tf.to_tflite(graph, weights))
    file = read_graph(content)
    assert [file.tensors[index].shape for index in (*file.inputs, *file.outputs)] == [(1, -1, -1, 4), (1, -1, -1, 3)]
    for shape in (SMALL, LARGE):
        x = np.random.default_rng(0).random(shape, np.float32)
        expected = lower_tf.predict(graph.at(shape), weights, x)
        answer = TfliteModel(content, input_shape=shape)(x)
        np.testing.assert_allclose(answer, expected, atol=1e-4 * max(1, float(np.ptp(expected))))


def test_a_dynamic_file_has_the_size_of_the_pairs_until_it_is_told_another() -> None:
    graph = network("smallnet")
    assert TfliteModel(dynamic(lower_tf.to_tflite(graph, random_weights(graph)))).input_shape == SMALL


def test_sizes_that_are_worked_out_when_it_runs_are_the_only_new_operations() -> None:
    g = GraphBuilder(SMALL)
    g.add("bilinear", Resize(), g.add("up", TransposeConv(3), INPUT))
    content = lower_tf.to_tflite(g.build(), random_weights(g.build()))
    sizes = ["SHAPE", "MUL", "ADD", "SLICE"]
    wanted = [*sizes, "TRANSPOSE_CONV", *sizes, "RESIZE_BILINEAR"]
    assert [op.name for op in read_ops(dynamic(content))] == wanted


def test_a_size_that_would_halve_a_pixel_is_refused() -> None:
    g = GraphBuilder(SMALL)
    g.add("conv", Conv(3), g.add("pool", Pool("max"), INPUT))
    content = lower_tf.to_tflite(g.build(), random_weights(g.build()))
    with pytest.raises(ExportError, match="multiple of what the network needs"):
        resized(content, (1, 33, 64, 4))
