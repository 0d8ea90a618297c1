"""A .tflite file is read as data; bytes that are none are refused before anything is made of them."""

from collections.abc import Sequence

import pytest

from search_spaces.errors import ExportError
from search_spaces.tflite_file import FileOp, op_counts, read_ops, separate_transpose_conv_activations, without_bias

IN, OUT, WEIGHTS, BIAS, SIZE = range(5)
TENSORS = ((b"in", [1, 2, 2, 3]), (b"out", [1, 2, 2, 3]), (b"weights", [3, 1, 1, 3]), (b"bias", [3]), (b"size", [4]))
INPUTS = {"TRANSPOSE_CONV": (SIZE, WEIGHTS, IN)}
OPTIONS = {"CONV_2D": "Conv2D", "DEPTHWISE_CONV_2D": "DepthwiseConv2D", "TRANSPOSE_CONV": "TransposeConv"}


def one_op_file(name: str, *, version: int = 1, fused: int = 0, inputs: Sequence[int] | None = None) -> bytes:
    """The smallest sound file: one operation that makes the tensor `OUT`, its fused activation by TFLite's number."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model, graph, op, code = schema.ModelT(), schema.SubGraphT(), schema.OperatorT(), schema.OperatorCodeT()
    code.builtinCode, code.version = getattr(schema.BuiltinOperator, name), version
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    op.opcodeIndex, op.outputs = 0, [OUT]
    op.inputs = list(INPUTS.get(name, (IN,)) if inputs is None else inputs)
    if name in OPTIONS:
        op.builtinOptionsType = getattr(schema.BuiltinOptions, f"{OPTIONS[name]}Options")
        op.builtinOptions = getattr(schema, f"{OPTIONS[name]}OptionsT")()
        op.builtinOptions.strideH = op.builtinOptions.strideW = 1
        op.builtinOptions.fusedActivationFunction = fused
    graph.tensors = [schema.TensorT() for _ in TENSORS]
    for tensor, (label, shape) in zip(graph.tensors, TENSORS, strict=True):
        tensor.name, tensor.shape, tensor.buffer = label, shape, 0
    graph.operators, graph.inputs, graph.outputs = [op], [IN], [OUT]
    model.operatorCodes, model.subgraphs, model.buffers, model.version = [code], [graph], [schema.BufferT()], 3
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


@pytest.mark.parametrize("content", [b"", b"TFL3", b"PK\x03\x04 a zip archive", b"\x89PNG\r\n\x1a\n" + bytes(64)])
@pytest.mark.parametrize("read", [read_ops, op_counts, without_bias, separate_transpose_conv_activations])
def test_bytes_that_are_no_tflite_are_refused(content: bytes, read: object) -> None:
    with pytest.raises(ExportError, match=r"not a \.tflite file: the identifier TFL3 is missing"):
        read(content)


def test_an_operation_is_read_with_version_and_fused_activation() -> None:
    assert read_ops(one_op_file("TRANSPOSE_CONV", version=4, fused=1)) == (FileOp("TRANSPOSE_CONV", 4, "relu"),)


@pytest.mark.parametrize("name", ["TANH", "GELU"])
def test_operations_beyond_the_old_byte_are_named_too(name: str) -> None:
    assert op_counts(one_op_file(name)) == {name: 1}


@pytest.mark.parametrize(("fused", "name"), [(1, "RELU"), (3, "RELU6")])
def test_a_fused_activation_becomes_an_operation_and_the_version_falls(fused: int, name: str) -> None:
    content = separate_transpose_conv_activations(one_op_file("TRANSPOSE_CONV", version=4, fused=fused))
    assert read_ops(content) == (FileOp("TRANSPOSE_CONV", 3, "none"), FileOp(name, 1, "none"))


def test_separating_twice_is_separating_once() -> None:
    once = separate_transpose_conv_activations(one_op_file("TRANSPOSE_CONV", version=4, fused=1))
    assert separate_transpose_conv_activations(once) == once


@pytest.mark.parametrize("name", ["CONV_2D", "DEPTHWISE_CONV_2D"])
@pytest.mark.parametrize(
    ("inputs", "biased"), [((IN, WEIGHTS, BIAS), True), ((IN, WEIGHTS, -1), False), ((IN, WEIGHTS), False)]
)
def test_a_convolution_without_a_bias_is_found(name: str, inputs: tuple[int, ...], biased: bool) -> None:
    assert without_bias(one_op_file(name, inputs=inputs)) == (() if biased else (f"{name} out",))


def test_an_operation_that_knows_no_bias_lacks_none() -> None:
    assert without_bias(one_op_file("TANH")) == ()
