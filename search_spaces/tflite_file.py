"""A .tflite file as data: which operations it holds, and the one repair that our exports need.

Reads the flatbuffer with the schema that LiteRT ships; neither TensorFlow nor an interpreter is loaded.
"""

import struct
from collections import Counter
from dataclasses import dataclass
from functools import cache
from typing import Any

from search_spaces.errors import ExportError

BIASED_OPS = ("CONV_2D", "DEPTHWISE_CONV_2D")  # their third input is the bias
_FILE_IDENTIFIER = b"TFL3"


@dataclass(frozen=True)
class FileOp:
    """One operation of a .tflite file: its TFLite name, its version, and the activation fused into it."""

    name: str
    version: int
    fused_activation: str


def read_ops(content: bytes) -> tuple[FileOp, ...]:
    """Return the operations of the main subgraph in order; raise ExportError for bytes that are no .tflite."""
    model = _parse(content)
    return tuple(_file_op(model, op) for op in model.subgraphs[0].operators)


def operations(content: bytes) -> tuple[Any, list[tuple[str, Any]]]:
    """Return the file and the operations of its main subgraph, each with its TFLite name, as the schema's objects."""
    model = _parse(content)
    return model, [(_file_op(model, op).name, op) for op in model.subgraphs[0].operators]


def op_counts(content: bytes) -> dict[str, int]:
    """Return how often each operation occurs, most frequent first."""
    return dict(Counter(op.name for op in read_ops(content)).most_common())


def without_bias(content: bytes) -> tuple[str, ...]:
    """Return the convolutions that read no bias, each as its operation and the name of the map it makes.

    A phone's delegate may refuse those, so an exported file should have none.
    """
    model = _parse(content)
    graph = model.subgraphs[0]
    named = ((_file_op(model, op).name, op) for op in graph.operators)
    return tuple(
        f"{name} {graph.tensors[op.outputs[0]].name.decode()}"
        for name, op in named
        if name in BIASED_OPS and not _reads_a_third_tensor(op)
    )


def _reads_a_third_tensor(op: Any) -> bool:
    return len(op.inputs) > 2 and bool(op.inputs[2] >= 0)  # −1 stands for an input that is left out


def separate_transpose_conv_activations(content: bytes) -> bytes:
    """Give every activation that the converter fused into a TRANSPOSE_CONV an operation of its own.

    A fused activation makes the operation version 4; MediaTek's Neuron delegate accepts version 3 at most
    and would leave the whole layer to the CPU. Source: neuron_delegate_validation.cc of tflite-neuron-delegate.
    """
    import flatbuffers

    model = _parse(content)
    graph = model.subgraphs[0]
    fused = [op for op in graph.operators if _is_fused_transpose_conv(model, op)]
    if not fused:
        return content
    for op in fused:
        _separate(model, graph, op)
    _lower_transpose_conv_version(model)
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), _FILE_IDENTIFIER)
    return bytes(builder.Output())


@cache
def _schema() -> Any:
    from ai_edge_litert import schema_py_generated

    return schema_py_generated


@cache
def _names(enum: str) -> dict[int, str]:
    return {value: name for name, value in vars(getattr(_schema(), enum)).items() if isinstance(value, int)}


def _parse(content: bytes) -> Any:
    if content[4:8] != _FILE_IDENTIFIER:
        raise ExportError("These bytes are not a .tflite file: the identifier TFL3 is missing; give a TFLite model.")
    try:
        return _schema().ModelT.InitFromPackedBuf(content)
    except (struct.error, IndexError, TypeError, ValueError) as error:
        raise ExportError(f"This .tflite file is damaged ({error}); make or fetch it again.") from None


def _file_op(model: Any, op: Any) -> FileOp:
    code = model.operatorCodes[op.opcodeIndex]
    name = _names("BuiltinOperator")[max(code.builtinCode, code.deprecatedBuiltinCode)]
    fused = getattr(op.builtinOptions, "fusedActivationFunction", 0)
    return FileOp(name, code.version, _names("ActivationFunctionType")[fused].lower())


def _is_fused_transpose_conv(model: Any, op: Any) -> bool:
    described = _file_op(model, op)
    return described.name == "TRANSPOSE_CONV" and described.fused_activation != "none"


def _separate(model: Any, graph: Any, op: Any) -> None:
    activation = _file_op(model, op).fused_activation.upper()
    schema = _schema()
    tensor = schema.TensorT()
    result = graph.tensors[op.outputs[0]]
    tensor.shape, tensor.type, tensor.shapeSignature = result.shape, result.type, result.shapeSignature
    tensor.name, tensor.buffer = result.name + b"/before_activation", 0  # buffer 0 is the empty one by definition
    graph.tensors.append(tensor)
    pointwise = schema.OperatorT()
    pointwise.opcodeIndex = _opcode(model, activation, 1)
    pointwise.inputs, pointwise.outputs = [len(graph.tensors) - 1], list(op.outputs)
    graph.operators.insert(graph.operators.index(op) + 1, pointwise)
    op.outputs = [len(graph.tensors) - 1]
    op.builtinOptions.fusedActivationFunction = 0


def _lower_transpose_conv_version(model: Any) -> None:
    number = _schema().BuiltinOperator.TRANSPOSE_CONV
    for code in model.operatorCodes:
        if code.builtinCode == number:
            code.version = min(code.version, 3)  # 3 has the bias; only the fused activation asked for 4


def _opcode(model: Any, name: str, version: int) -> int:
    """Return the index of an operator code, added where the file lacks it."""
    number = getattr(_schema().BuiltinOperator, name)
    for index, code in enumerate(model.operatorCodes):
        if code.builtinCode == number and code.version == version:
            return index
    code = _schema().OperatorCodeT()
    # The deprecated field holds what fits into a signed byte; old readers look only there.
    code.builtinCode, code.deprecatedBuiltinCode, code.version = number, min(number, 127), version
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1
