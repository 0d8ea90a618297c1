"""Make a 16-bit file read raw counts: an input of scale 1 in front of the calibrated one.

A count of 700 is then fed as 700. The calibrated input holds the same range in finer steps, so nothing is lost.
"""

from typing import Any

from search_spaces.graph import INPUT
from search_spaces.tflite_file import add_tensor, opcode, pack, parse, schema


def add_count_input(content: bytes) -> bytes:
    """Return the file of an int16 input for one whose stored values are the counts themselves."""
    model = parse(content)
    graph = model.subgraphs[0]
    (inner,) = graph.inputs
    counts = add_tensor(graph, INPUT.encode(), schema().TensorType.INT16, graph.tensors[inner].shape)
    graph.tensors[counts].quantization = _as_they_are()
    graph.tensors[inner].name = f"{INPUT}/1".encode()
    graph.operators.insert(0, _quantize(model, counts, int(inner)))
    graph.inputs = [counts]
    for signature in model.signatureDefs or ():
        for tensor in signature.inputs:
            tensor.tensorIndex = counts
    return pack(model)


def _as_they_are() -> Any:
    quantization = schema().QuantizationParametersT()
    quantization.scale, quantization.zeroPoint = [1.0], [0]
    return quantization


def _quantize(model: Any, source: int, target: int) -> Any:
    op = schema().OperatorT()
    op.opcodeIndex = opcode(model, "QUANTIZE", 2)  # 2 is the first that takes int16
    op.inputs, op.outputs = [source], [target]
    op.builtinOptionsType = schema().BuiltinOptions.QuantizeOptions
    op.builtinOptions = schema().QuantizeOptionsT()
    return op
