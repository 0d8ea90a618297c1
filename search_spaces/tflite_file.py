"""Read a .tflite file as data, and make the one repair our exports need.

Reads the flatbuffer with the schema that LiteRT ships; neither TensorFlow nor an interpreter is loaded.
"""

import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any

from search_spaces.errors import ExportError
from search_spaces.tflite_verify import counts_fit, require_sound

BIASED_OPS = ("CONV_2D", "DEPTHWISE_CONV_2D")  # their third input is the bias
# What the schema's reader raises where offsets, lengths or indices lead nowhere.
_DAMAGE = (
    struct.error, AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError, MemoryError,
    RecursionError, AssertionError, NotImplementedError, ZeroDivisionError,
)  # fmt: skip
_WHOLE_NUMBERS = {"int32": "i", "int64": "q"}  # as struct spells them
_FILE_IDENTIFIER = b"TFL3"


@dataclass(frozen=True)
class FileOp:
    """One operation of a .tflite file: its TFLite name, its version, and the activation fused into it."""

    name: str
    version: int
    fused_activation: str


@dataclass(frozen=True)
class FileTensor:
    """One tensor of a .tflite file, a map or a constant."""

    name: str
    shape: tuple[int, ...]  # −1 where the file leaves a size open
    dtype: str  # "float32", "int8", …
    is_constant: bool = False
    values: tuple[int, ...] | None = None  # of a constant of whole numbers: shapes, axes, paddings
    scales: tuple[float, ...] = ()  # of quantised values; several where every channel has its own
    is_variable: bool = False  # it keeps its value from one run to the next
    zero_points: tuple[int, ...] = ()  # what stands for 0, one for each scale


@dataclass(frozen=True)
class FileNode:
    """One operation of a .tflite file with what it reads and makes, as positions in `FileGraph.tensors`."""

    op: FileOp
    inputs: tuple[int, ...]  # −1 where an optional input is left out
    outputs: tuple[int, ...]
    options: Mapping[str, Any]  # as the schema names them
    custom: str = ""  # the name that a CUSTOM operation goes by


@dataclass(frozen=True)
class FileGraph:
    """The main subgraph of a .tflite file: its operations in the order in which they run."""

    tensors: tuple[FileTensor, ...]
    nodes: tuple[FileNode, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    def __post_init__(self) -> None:
        there = (index for index, tensor in enumerate(self.tensors) if tensor.is_constant or tensor.is_variable)
        known = {-1, *self.inputs, *there}
        for node in self.nodes:
            if not known.issuperset(node.inputs):
                raise ValueError(f"a {node.op.name} reads what no earlier operation makes")
            known.update(node.outputs)
        if not known.issuperset(self.outputs) or max(known) >= len(self.tensors):
            raise ValueError("an operation or output names a tensor that is not there")


def read_graph(content: bytes) -> FileGraph:
    """Return the main subgraph; raise ExportError for bytes that are no .tflite, or a damaged one."""
    model = parse(content)
    try:
        return _graph(model)
    except _DAMAGE as error:
        raise _damaged(error) from None


def read_ops(content: bytes) -> tuple[FileOp, ...]:
    """Return the operations of the main subgraph in order; raise ExportError for bytes that are no .tflite."""
    model = parse(content)
    return tuple(_file_op(model, op) for op in model.subgraphs[0].operators)


def op_counts(content: bytes) -> dict[str, int]:
    """Return how often each operation occurs, most frequent first."""
    return dict(Counter(op.name for op in read_ops(content)).most_common())


def without_bias(content: bytes) -> tuple[str, ...]:
    """Return the convolutions that read no bias, each as its operation and the name of the map it makes.

    A phone's delegate may refuse those, so an exported file should have none.
    """
    model = parse(content)
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
    model = parse(content)
    graph = model.subgraphs[0]
    fused = [op for op in graph.operators if _is_fused_transpose_conv(model, op)]
    if not fused:
        return content
    for op in fused:
        _separate(model, graph, op)
    _lower_transpose_conv_version(model)
    return pack(model)


@cache
def schema() -> Any:
    """Return the module of LiteRT's flatbuffer schema."""
    from ai_edge_litert import schema_py_generated

    return schema_py_generated


@cache
def _names(enum: str) -> dict[int, str]:
    return {value: name for name, value in vars(getattr(schema(), enum)).items() if isinstance(value, int)}


def parse(content: bytes) -> Any:
    """Return a file as the schema's tree of objects, to be changed and packed again.

    Raises ExportError for bytes that are no .tflite, or a damaged one.
    """
    if content[4:8] != _FILE_IDENTIFIER:
        raise ExportError("These bytes are not a .tflite file: the identifier TFL3 is missing; give a TFLite model.")
    try:
        if not counts_fit(schema().Model.GetRootAs(content), len(content)):
            raise ValueError("it claims to hold more than its bytes")
        model = schema().ModelT.InitFromPackedBuf(content)
        if not model.subgraphs or model.operatorCodes is None:
            raise ValueError("it holds no network")
        require_sound(model, schema())
    except _DAMAGE as error:
        raise _damaged(error) from None
    return model


def pack(model: Any) -> bytes:
    """Return the bytes of a file that `parse` took apart."""
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), _FILE_IDENTIFIER)
    return bytes(builder.Output())


def _damaged(error: Exception) -> ExportError:
    reason = str(error) or type(error).__name__
    return ExportError(f"This .tflite file is damaged ({reason}); make or fetch it again.")


def _file_op(model: Any, op: Any) -> FileOp:
    code = model.operatorCodes[op.opcodeIndex]
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    name = _names("BuiltinOperator").get(number, f"OPERATOR_{number}")  # of a later schema than ours
    fused = getattr(op.builtinOptions, "fusedActivationFunction", 0)
    return FileOp(name, code.version, _names("ActivationFunctionType")[fused].lower())


def _graph(model: Any) -> FileGraph:
    graph = model.subgraphs[0]
    tensors = [_tensor(model, tensor) for tensor in graph.tensors]
    nodes = [_node(model, op) for op in _listed(graph.operators)]
    return FileGraph(tuple(tensors), tuple(nodes), _indices(graph.inputs), _indices(graph.outputs))


def _node(model: Any, op: Any) -> FileNode:
    code = model.operatorCodes[op.opcodeIndex].customCode
    options = {} if op.builtinOptions is None else vars(op.builtinOptions)
    return FileNode(_file_op(model, op), _indices(op.inputs), _indices(op.outputs), options, (code or b"").decode())


def _tensor(model: Any, tensor: Any) -> FileTensor:
    shape = _indices(tensor.shape)
    signature = _indices(tensor.shapeSignature)
    dtype = _names("TensorType")[tensor.type].lower()
    buffer = model.buffers[tensor.buffer]
    # Files of more than 2 GB keep their constants behind the schema's part, at an offset.
    constant = bool(len(_listed(buffer.data)) or buffer.offset > 1 or tensor.externalBuffer)
    quantization = tensor.quantization
    scales = () if quantization is None else tuple(map(float, _listed(quantization.scale)))
    zero_points = () if quantization is None else _indices(quantization.zeroPoint)
    name = (tensor.name or b"").decode()
    values = _values(buffer.data, dtype, shape)
    return FileTensor(name, signature or shape, dtype, constant, values, scales, bool(tensor.isVariable), zero_points)


def _values(data: Any, dtype: str, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    if data is None or not len(data) or dtype not in _WHOLE_NUMBERS:
        return None
    return struct.unpack(f"<{prod(shape)}{_WHOLE_NUMBERS[dtype]}", bytes(data))


def _indices(numbers: Any) -> tuple[int, ...]:
    return tuple(map(int, _listed(numbers)))


def _listed(vector: Any) -> Any:
    return () if vector is None else vector  # the schema's reader gives None for an empty vector


def _is_fused_transpose_conv(model: Any, op: Any) -> bool:
    described = _file_op(model, op)
    return described.name == "TRANSPOSE_CONV" and described.fused_activation != "none"


# RELU and RELU6 by the type of their maps. Source: TensorFlow Lite's op_version.cc.
_POINTWISE_VERSIONS = {"float32": 1, "int8": 2, "int16": 3}


def _separate(model: Any, graph: Any, op: Any) -> None:
    activation = _file_op(model, op).fused_activation.upper()
    result = graph.tensors[op.outputs[0]]
    # The ranges of a quantised result are those behind the activation; clipped to them before it, nothing changes.
    before = add_tensor(graph, (result.name or b"") + b"/before_activation", result.type, result.shape)
    graph.tensors[before].shapeSignature = result.shapeSignature
    graph.tensors[before].quantization = result.quantization
    pointwise = schema().OperatorT()
    version = _POINTWISE_VERSIONS[_names("TensorType")[result.type].lower()]
    pointwise.opcodeIndex = opcode(model, activation, version)
    pointwise.inputs, pointwise.outputs = [before], list(op.outputs)
    graph.operators.insert(graph.operators.index(op) + 1, pointwise)
    op.outputs = [before]
    op.builtinOptions.fusedActivationFunction = 0


def add_tensor(graph: Any, name: bytes, kind: int, shape: Sequence[int]) -> int:
    """Append a map to a subgraph that `parse` read, and return its index."""
    tensor = schema().TensorT()
    # Buffer 0 is the empty one by definition.
    tensor.name, tensor.type, tensor.shape, tensor.buffer, tensor.hasRank = name, kind, list(shape), 0, True
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def _lower_transpose_conv_version(model: Any) -> None:
    number = schema().BuiltinOperator.TRANSPOSE_CONV
    for code in model.operatorCodes:
        if code.builtinCode == number:
            code.version = min(code.version, 3)  # 3 has the bias; only the fused activation asked for 4


def opcode(model: Any, name: str, version: int) -> int:
    """Return the index of an operator code, added where the file lacks it."""
    number = getattr(schema().BuiltinOperator, name)
    for index, code in enumerate(model.operatorCodes):
        if code.builtinCode == number and code.version == version:
            return index
    code = schema().OperatorCodeT()
    # The deprecated field holds what fits into a signed byte; old readers look only there.
    code.builtinCode, code.deprecatedBuiltinCode, code.version = number, min(number, 127), version
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1
