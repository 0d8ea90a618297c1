"""A .tflite file whose parts do not fit is one sentence, before a number of it is believed or LiteRT gets it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from tflite_builder import FileBuilder

from search_spaces.errors import ExportError
from search_spaces.tflite_file import read_graph


def network() -> FileBuilder:
    """Return 4 → 8 → 12 channels and a depth-to-space, as an ISP has them."""
    made = FileBuilder()
    x = made.input(1, 8, 8, 4)
    x = made.op("CONV_2D", [x, made.weights(8, 3, 3, 4), made.weights(8)], (1, 8, 8, 8), options=_steps())
    x = made.op("DEPTHWISE_CONV_2D", [x, made.weights(1, 3, 3, 8), made.weights(8)], (1, 8, 8, 8), options=_steps())
    x = made.op("CONV_2D", [x, made.weights(12, 1, 1, 8), made.weights(12)], (1, 8, 8, 12), options=_steps())
    made.op("DEPTH_TO_SPACE", [x], (1, 16, 16, 3), options={"blockSize": 2})
    return made


def _steps() -> dict[str, int]:
    return {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}


def conv(made: FileBuilder) -> Any:
    return made.graph.operators[0]


def tensor_of(made: FileBuilder, position: int) -> Any:
    return made.graph.tensors[conv(made).inputs[position]]


def change(target: Callable[[FileBuilder], Any], **values: Any) -> Callable[[FileBuilder], None]:
    def act(made: FileBuilder) -> None:
        for name, value in values.items():
            setattr(target(made), name, value)

    return act


def quantised(scales: list[float], zeros: list[int], axis: int) -> Any:
    parameters = schema.QuantizationParametersT()
    parameters.scale, parameters.zeroPoint, parameters.quantizedDimension = scales, zeros, axis
    return parameters


SPOILT: dict[str, tuple[Callable[[FileBuilder], None], str]] = {
    "stride 0": (change(lambda m: conv(m).builtinOptions, strideH=0), "whose strideH is 0"),
    "negative dilation": (change(lambda m: conv(m).builtinOptions, dilationWFactor=-1), "whose dilationWFactor is -1"),
    "padding": (change(lambda m: conv(m).builtinOptions, padding=7), "of padding 7"),
    "block 0": (change(lambda m: m.graph.operators[3].builtinOptions, blockSize=0), "whose blockSize is 0"),
    "no options": (change(conv, builtinOptions=None, builtinOptionsType=0), "without the options"),
    "other options": (
        change(conv, builtinOptions=schema.Pool2DOptionsT(), builtinOptionsType=5),
        "without the options",
    ),
    "too few inputs": (change(conv, inputs=[0]), "of 1 inputs, which needs 2"),
    "no data": (change(conv, inputs=[-1, 1, 2]), "without its input 0"),
    "reads nothing": (change(conv, inputs=[0, 99, 2]), "reads no tensor"),
    "index below": (change(conv, inputs=[0, 1, -7]), "reads no tensor"),
    "makes nothing": (change(conv, outputs=[99]), "makes no tensor"),
    "no kind": (change(conv, opcodeIndex=40), "of no kind"),
    "other bias": (change(lambda m: tensor_of(m, 2), shape=[2, 4]), "input 2 has 2 dimensions"),
    "short bias": (change(conv, inputs=[0, 1, 99]), "reads no tensor"),
    "rank of weights": (change(lambda m: tensor_of(m, 1), shape=[8, 9, 4]), "input 1 has 3 dimensions"),
    "size of weights": (change(lambda m: tensor_of(m, 1), shape=[8, 3, 3, 40]), "bytes where its shape needs"),
    "channels": (change(lambda m: tensor_of(m, 0), shape=[1, 8, 8, 3]), "of 3 channels with weights for 4"),
    "rank of input": (change(lambda m: tensor_of(m, 0), shape=[8, 8, 4]), "input 0 has 3 dimensions"),
    "no buffer": (change(lambda m: tensor_of(m, 1), buffer=99), "of a buffer that is not there"),
    "negative size": (change(lambda m: tensor_of(m, 0), shape=[1, -9, 8, 4]), "of a negative size"),
    "open constant": (change(lambda m: tensor_of(m, 1), shape=[8, 3, -1, 4]), "of an open size"),
    "huge": (change(lambda m: tensor_of(m, 0), shape=[1, 2**30, 2**30, 4]), "of a size too large"),
    "type": (change(lambda m: tensor_of(m, 0), type=99), "of no known type"),
    "signature": (change(lambda m: tensor_of(m, 0), shapeSignature=[1, -1, 9, 4]), "open sizes are not those"),
    "short signature": (change(lambda m: tensor_of(m, 0), shapeSignature=[-1]), "open sizes are not those"),
    "NaN scale": (change(lambda m: tensor_of(m, 1), quantization=quantised([float("nan")], [0], 0)), "no number"),
    "axis of scales": (change(lambda m: tensor_of(m, 1), quantization=quantised([1.0] * 8, [0] * 8, 9)), "8 scales"),
    "zero points": (change(lambda m: tensor_of(m, 1), quantization=quantised([1.0] * 8, [0] * 3, 0)), "zero points"),
    "output": (change(lambda m: m.graph, inputs=[99]), "that is no tensor"),
}


def test_a_network_as_converters_write_it_is_sound() -> None:
    assert [node.op.name for node in read_graph(network().file()).nodes][-1] == "DEPTH_TO_SPACE"


@pytest.mark.parametrize("how", SPOILT)
def test_what_does_not_fit_is_named(how: str) -> None:
    made = network()
    spoil, says = SPOILT[how]
    made.graph.outputs = [made.graph.operators[-1].outputs[0]]
    spoil(made)
    with pytest.raises(ExportError, match="is damaged") as refused:
        read_graph(made.file(*made.graph.outputs))
    assert says in str(refused.value)


def test_a_file_that_claims_more_than_its_bytes_is_refused_at_once() -> None:
    content = bytearray(network().file())
    root = schema.Model.GetRootAs(bytes(content))
    vector = root.Subgraphs(0)._tab
    at = vector.Vector(vector.Offset(4)) - 4  # where the number of tensors stands
    content[at : at + 4] = np.array([2**31 - 1], "<u4").tobytes()
    with pytest.raises(ExportError, match="is damaged"):
        read_graph(bytes(content))


@pytest.mark.parametrize("keep", [0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_a_file_that_was_cut_is_damaged(keep: float) -> None:
    content = network().file()
    with pytest.raises(ExportError):
        read_graph(content[: int(keep * len(content))])
