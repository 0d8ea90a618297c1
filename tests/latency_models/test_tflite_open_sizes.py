"""Files that leave sizes open: what follows from the input's shape, and what cannot be worked out."""

from dataclasses import replace

import numpy as np
import pytest
from litert_reading import litert, written
from tflite_builder import FileBuilder
from tflite_samples import CONV, sample

from latency_models.device import load_device
from latency_models.tflite_network import read_network
from latency_models.tflite_shapes import SHAPES, with_input_shape
from search_spaces.errors import DeviceError
from search_spaces.tflite_file import FileGraph, FileTensor, read_graph


def side_of(b: FileBuilder, shape: int, axis: int) -> int:
    inputs = [shape, b.numbers(axis), b.numbers(axis + 1), b.numbers(1)]
    return b.op("STRIDED_SLICE", inputs, (), dtype="int32", options={"shrinkAxisMask": 1})


def enlarging(b: FileBuilder) -> None:
    """Halves a picture of any size and enlarges it again, as a converter writes it where sizes are open."""
    x = b.input(1, -1, -1, 4)
    half = b.op(
        "CONV_2D",
        [x, b.weights(4, 3, 3, 4), b.weights(4)],
        (1, -1, -1, 4),
        options={**CONV, "strideH": 2, "strideW": 2},
    )
    shape = b.op("SHAPE", [half], (4,), dtype="int32", options={"outType": 2})
    sides = [b.op("MUL", [side_of(b, shape, axis), b.constant(2, "int32")], (), dtype="int32") for axis in (1, 2)]
    options = {"axis": 0, "valuesCount": 4}
    full = b.op("PACK", [b.constant(1, "int32"), *sides, b.constant(4, "int32")], (4,), dtype="int32", options=options)
    up = b.op(
        "TRANSPOSE_CONV", [full, b.weights(4, 3, 3, 4), half], (1, -1, -1, 4), options={"strideH": 2, "strideW": 2}
    )
    size = b.op("SLICE", [shape, b.numbers(1), b.numbers(2)], (2,), dtype="int32")
    small = b.op("RESIZE_BILINEAR", [up, size], (1, -1, -1, 4), version=3, options={"halfPixelCenters": True})
    joined = b.op("CONCATENATION", [small, half], (1, -1, -1, 8), options={"axis": -1})
    gate = b.op("MEAN", [joined, b.numbers(1, 2)], (1, 1, 1, 8), options={"keepDims": True})
    b.op("DEPTH_TO_SPACE", [b.op("MUL", [joined, gate], (1, -1, -1, 8))], (1, -1, -1, 2), options={"blockSize": 2})


@pytest.mark.parametrize("shape", [(1, 8, 12, 4), (1, 7, 9, 4)])
def test_open_sizes_follow_from_the_inputs_as_litert_has_them(shape: tuple[int, ...]) -> None:
    content = written(enlarging)
    runtime = litert(content)
    runtime.resize_tensor_input(0, shape)
    runtime.allocate_tensors()
    runtime.set_tensor(0, np.zeros(shape, np.float32))
    runtime.invoke()
    made = {details["index"]: tuple(details["shape"]) for details in runtime.get_tensor_details()}
    resolved = with_input_shape(read_graph(content), shape)
    for node in resolved.nodes:
        assert resolved.tensors[node.outputs[0]].shape == made[node.outputs[0]], node.op.name


def test_a_file_of_open_sizes_has_the_kernels_of_its_size() -> None:
    content = written(enlarging)
    small, large = (read_network(content, (1, *sides, 4)) for sides in ((8, 12), (16, 24)))
    assert [kernel.macs for kernel in large.kernels] == [4 * kernel.macs for kernel in small.kernels]
    assert (small.input_elements, large.input_elements) == (384, 1536)
    assert sum(kernel.macs for kernel in small.kernels) == 2 * 24 * 9 * 4 * 4


def test_open_sizes_without_a_shape_are_refused_with_what_to_do() -> None:
    with pytest.raises(
        DeviceError, match=r'leaves sizes open \(input "t0" \[1, \?, \?, 4\]\); .*say at which input shape'
    ):
        read_network(written(enlarging))


@pytest.mark.parametrize("shape", [(1, 8, 12, 3), (8, 12, 4), (1, 0, 12, 4), ()])
def test_a_shape_that_does_not_fit_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DeviceError, match=r'takes input "t0" \[1, \?, \?, 4\], not \['):
        read_network(written(enlarging), shape)


def test_an_operation_whose_sizes_are_not_known_here_asks_for_fixed_shapes() -> None:
    with pytest.raises(
        DeviceError,
        match=r"SPACE_TO_BATCH_ND makes maps whose sizes cannot be worked out here; convert .* fixed shapes",
    ):
        read_network(written(dividing), (3, 4, 4, 2))


def dividing(b: FileBuilder) -> None:
    inputs = [b.input(-1, 4, 4, 2), b.numbers(2, 2), b.constant([[0, 0], [0, 0]], "int32")]
    b.op("SPACE_TO_BATCH_ND", inputs, (-1, 2, 2, 2))


def test_what_reads_constants_alone_has_a_price() -> None:
    def embedding(b: FileBuilder) -> object:
        return b.op("GATHER", [b.weights(100, 16), b.input(1, 12, dtype="int32")], (1, 12, 16))

    seen = read_network(written(embedding))
    assert load_device("amd-epyc-genoa-1-thread").predict_network(seen).runtime_ms > 0


def test_a_size_that_depends_on_the_picture_is_refused() -> None:
    def build(b: FileBuilder) -> object:
        return b.op("RESIZE_BILINEAR", [b.input(1, -1, -1, 4), b.input(2, dtype="int32")], (1, -1, -1, 4))

    with pytest.raises(DeviceError, match="RESIZE_BILINEAR takes a size that depends on the picture"):
        read_network(written(build), (1, 8, 12, 4))


def opened(graph: FileGraph) -> FileGraph:
    """The graph with everything that operations make left open."""
    made = {index for node in graph.nodes for index in node.outputs}

    def opening(index: int, tensor: FileTensor) -> FileTensor:
        return replace(tensor, shape=(-1,) * len(tensor.shape)) if index in made else tensor

    return replace(graph, tensors=tuple(opening(index, tensor) for index, tensor in enumerate(graph.tensors)))


@pytest.mark.parametrize("name", SHAPES)
def test_every_rule_of_sizes_finds_what_the_file_says(name: str) -> None:
    graph = read_graph(sample(name))
    first = graph.tensors[graph.inputs[0]].shape
    assert with_input_shape(opened(graph), first) == graph
