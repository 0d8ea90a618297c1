"""Writes .tflite files operation by operation, as converters other than ours may write them."""

from collections.abc import Mapping, Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

# The options that an operation goes by, where their name does not follow from its own.
OPTIONS = {
    **dict.fromkeys(("AVERAGE_POOL_2D", "MAX_POOL_2D", "L2_POOL_2D"), "Pool2D"),
    **dict.fromkeys(("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD", "REDUCE_ANY", "REDUCE_ALL"), "Reducer"),
    **dict.fromkeys(("MAXIMUM", "MINIMUM"), "MaximumMinimum"),
    "BATCH_MATMUL": "BatchMatMul",
    "CONV_2D": "Conv2D",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2D",
    "L2_NORMALIZATION": "L2Norm",
    "PADV2": "PadV2",
}


class FileBuilder:
    """Tensors are named by their number."""

    def __init__(self) -> None:
        self.graph, self.model = schema.SubGraphT(), schema.ModelT()
        self.graph.tensors, self.graph.operators, self.graph.inputs, self.graph.outputs = [], [], [], []
        self.model.operatorCodes, self.model.buffers, self.model.version = [], [schema.BufferT()], 3
        self.model.subgraphs = [self.graph]

    def tensor(self, shape: Sequence[int], dtype: str = "float32", scale: float = 0.5, name: str | None = None) -> int:
        """Add a map; −1 leaves a size open. Maps of whole numbers of 8 or 16 bits get a scale."""
        tensor = schema.TensorT()
        tensor.shape, tensor.buffer = [max(size, 1) for size in shape], 0
        tensor.shapeSignature = list(shape) if min(shape, default=0) < 0 else None
        tensor.type = getattr(schema.TensorType, dtype.upper())
        tensor.name = (f"t{len(self.graph.tensors)}" if name is None else name).encode()
        if dtype in ("int8", "uint8", "int16"):
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = [scale], [0]
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def input(self, *shape: int, dtype: str = "float32", scale: float = 0.5) -> int:
        """Add an input of the network."""
        self.graph.inputs.append(self.tensor(shape, dtype, scale))
        return int(self.graph.inputs[-1])

    def constant(self, value: Any, dtype: str = "float32", scale: float = 0.5) -> int:
        """Add a constant."""
        array = np.asarray(value, dtype)
        index = self.tensor(array.shape, dtype, scale)
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(array.tobytes(), np.uint8)
        self.graph.tensors[index].buffer = len(self.model.buffers)
        self.model.buffers.append(buffer)
        return index

    def weights(self, *shape: int, dtype: str = "float32", scale: float = 0.5) -> int:
        """Add a constant of ones."""
        return self.constant(np.ones(shape), dtype, scale)

    def numbers(self, *values: int) -> int:
        """Add a list of whole numbers: a shape, axes."""
        return self.constant(values, "int32")

    def op(
        self,
        name: str,
        inputs: Sequence[int],
        shape: Sequence[int],
        *,
        dtype: str = "float32",
        version: int = 1,
        options: Mapping[str, Any] | None = None,
        custom: str = "",
        outputs: int = 1,
    ) -> int:
        """Add an operation and return the map it makes, the first of several of one shape."""
        op = schema.OperatorT()
        made = [self.tensor(shape, dtype) for _ in range(outputs)]
        op.opcodeIndex = self._code(name, version, custom)
        op.inputs, op.outputs = list(inputs), made
        kind = OPTIONS.get(name, "".join(part.capitalize() for part in name.split("_")))
        number = getattr(schema.BuiltinOptions, f"{kind}Options", None)
        if number is not None:
            op.builtinOptionsType, op.builtinOptions = number, getattr(schema, f"{kind}OptionsT")()
            for option, value in (options or {}).items():
                assert hasattr(op.builtinOptions, option), f"{name} has no option {option}"
                setattr(op.builtinOptions, option, value)
        else:
            assert not options, f"{name} has no options"
        self.graph.operators.append(op)
        return made[0]

    def _code(self, name: str, version: int, custom: str) -> int:
        code = schema.OperatorCodeT()
        code.builtinCode, code.version = getattr(schema.BuiltinOperator, name), version
        code.deprecatedBuiltinCode, code.customCode = min(code.builtinCode, 127), custom.encode() or None
        self.model.operatorCodes.append(code)
        return len(self.model.operatorCodes) - 1

    def file(self, *outputs: int) -> bytes:
        """Return the file; its outputs are those named, or else the last map made."""
        self.graph.outputs = list(outputs) or [self.graph.operators[-1].outputs[0]]
        builder = flatbuffers.Builder(0)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())
