"""A .tflite file of every operation that has a rule, such that LiteRT accepts it."""

from collections.abc import Callable

from tflite_builder import FileBuilder

from latency_models.tflite_rules import RULES

MAP = (1, 4, 6, 8)
Sample = Callable[[FileBuilder, str], int]
# Of these there is version 1 alone, whatever the maps are of.
SINGLE = ("RESHAPE", "ELU", "SQUARE", "SOFTMAX", "EXPAND_DIMS", "POW")
CONV = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}


def conv(b: FileBuilder, dtype: str) -> int:
    inputs = (b.input(*MAP, dtype=dtype), b.weights(5, 3, 3, 8, dtype=dtype), bias(b, 5, dtype))
    return b.op("CONV_2D", inputs, (1, 4, 6, 5), dtype=dtype, version=version(dtype, 3), options=CONV)


def depthwise(b: FileBuilder, dtype: str) -> int:
    inputs = (b.input(*MAP, dtype=dtype), b.weights(1, 3, 3, 8, dtype=dtype), bias(b, 8, dtype))
    options = {**CONV, "depthMultiplier": 1}
    return b.op("DEPTHWISE_CONV_2D", inputs, MAP, dtype=dtype, version=version(dtype, 3), options=options)


def transpose_conv(b: FileBuilder, dtype: str) -> int:
    shape = (1, 8, 12, 5)
    inputs = (b.numbers(*shape), b.weights(5, 3, 3, 8, dtype=dtype), b.input(*MAP, dtype=dtype), bias(b, 5, dtype))
    return b.op("TRANSPOSE_CONV", inputs, shape, dtype=dtype, version=3, options={"strideH": 2, "strideW": 2})


def fully_connected(b: FileBuilder, dtype: str) -> int:
    inputs = (b.input(3, 8, dtype=dtype), b.weights(5, 8, dtype=dtype), bias(b, 5, dtype))
    return b.op("FULLY_CONNECTED", inputs, (3, 5), dtype=dtype, version=version(dtype, 4))


def bias(b: FileBuilder, channels: int, dtype: str) -> int:
    if dtype == "float32":
        return b.weights(channels)
    index = b.constant([0] * channels, "int32")
    b.graph.tensors[index].quantization = quantization = b.graph.tensors[b.tensor((1,), "int8", 0.25)].quantization
    assert quantization is not None
    return index


def version(dtype: str, quantised: int, name: str = "") -> int:
    return 1 if dtype == "float32" or name in SINGLE else quantised


def one(name: str, *, made: tuple[int, ...] = MAP, quantised: int = 2, **options: object) -> Sample:
    """One map in, one out."""
    return lambda b, dtype: b.op(
        name, [b.input(*MAP, dtype=dtype)], made, dtype=dtype, version=version(dtype, quantised, name), options=options
    )


def two(name: str, **options: object) -> Sample:
    """Two maps in, one out."""
    return lambda b, dtype: b.op(
        name,
        [b.input(*MAP, dtype=dtype), b.input(*MAP, dtype=dtype)],
        MAP,
        dtype=dtype,
        version=version(dtype, 2),
        options=options,
    )


def compared(name: str) -> Sample:
    return lambda b, dtype: b.op(
        name, [b.input(*MAP, dtype=dtype), b.input(*MAP, dtype=dtype)], MAP, dtype="bool", version=version(dtype, 2)
    )


def logical(name: str, maps: int = 2) -> Sample:
    return lambda b, _: b.op(name, [b.input(*MAP, dtype="bool") for _ in range(maps)], MAP, dtype="bool")


def reduced(name: str) -> Sample:
    return lambda b, dtype: b.op(
        name,
        [b.input(*MAP, dtype=dtype), b.numbers(1, 2)],
        (1, 1, 1, 8),
        dtype=dtype,
        version=version(dtype, 2),
        options={"keepDims": True},
    )


def reduced_truth(name: str) -> Sample:
    return lambda b, _: b.op(
        name, [b.input(*MAP, dtype="bool"), b.numbers(1, 2)], (1, 1, 1, 8), dtype="bool", options={"keepDims": True}
    )


def by_numbers(
    name: str, made: tuple[int, ...], *numbers: tuple[int, ...], version: int = 1, **options: object
) -> Sample:
    """One map and lists of whole numbers in, one out."""
    return lambda b, dtype: b.op(
        name,
        [b.input(*MAP, dtype=dtype), *(b.numbers(*row) for row in numbers)],
        made,
        dtype=dtype,
        version=version if dtype == "float32" or name in SINGLE else max(version, 2),
        options=options,
    )


def padded(name: str, **options: object) -> Sample:
    def build(b: FileBuilder, dtype: str) -> int:
        around = b.constant([[0, 0], [1, 1], [1, 1], [0, 0]], "int32")
        fill = [b.constant(0.0, dtype)] if name == "PADV2" else []
        inputs = [b.input(*MAP, dtype=dtype), around, *fill]
        return b.op(name, inputs, (1, 6, 8, 8), dtype=dtype, version=version(dtype, 2), options=options)

    return build


def blocks(name: str, made: tuple[int, ...], batch: int) -> Sample:
    def build(b: FileBuilder, dtype: str) -> int:
        around = b.constant([[0, 0], [0, 0]], "int32")
        inputs = [b.input(batch, 4, 6, 8, dtype=dtype), b.numbers(2, 2), around]
        return b.op(name, inputs, made, dtype=dtype, version=version(dtype, 2))

    return build


def prelu(b: FileBuilder, dtype: str) -> int:
    return b.op("PRELU", [b.input(*MAP, dtype=dtype), b.weights(1, 1, 8, dtype=dtype)], MAP, dtype=dtype)


def batch_matmul(b: FileBuilder, dtype: str) -> int:
    inputs = [b.input(2, 3, 8, dtype=dtype), b.input(2, 8, 5, dtype=dtype)]
    return b.op("BATCH_MATMUL", inputs, (2, 3, 5), dtype=dtype, version=version(dtype, 2))


def split(b: FileBuilder, dtype: str) -> int:
    inputs = [b.constant(3, "int32"), b.input(*MAP, dtype=dtype)]
    options = {"numSplits": 2}
    return b.op("SPLIT", inputs, (1, 4, 6, 4), dtype=dtype, version=version(dtype, 2), options=options, outputs=2)


def split_v(b: FileBuilder, dtype: str) -> int:
    inputs = [b.input(*MAP, dtype=dtype), b.numbers(4, 4), b.constant(3, "int32")]
    options = {"numSplits": 2}
    return b.op("SPLIT_V", inputs, (1, 4, 6, 4), dtype=dtype, version=version(dtype, 2), options=options, outputs=2)


def unpack(b: FileBuilder, dtype: str) -> int:
    options = {"num": 4, "axis": 1}
    return b.op("UNPACK", [b.input(*MAP, dtype=dtype)], (1, 6, 8), dtype=dtype, options=options, outputs=4)


def top(b: FileBuilder, dtype: str) -> int:
    made = b.op("TOPK_V2", [b.input(*MAP, dtype=dtype), b.constant(2, "int32")], (1, 4, 6, 2), dtype=dtype, outputs=2)
    from ai_edge_litert.schema_py_generated import TensorType

    b.graph.tensors[made + 1].type, b.graph.tensors[made + 1].quantization = TensorType.INT32, None
    return made


def gather(b: FileBuilder, dtype: str) -> int:
    inputs = [b.input(*MAP, dtype=dtype), b.numbers(3, 1)]
    return b.op("GATHER", inputs, (1, 2, 6, 8), dtype=dtype, version=version(dtype, 2), options={"axis": 1})


def gather_nd(b: FileBuilder, dtype: str) -> int:
    return b.op(
        "GATHER_ND", [b.input(*MAP, dtype=dtype), b.constant([[0, 3], [0, 1]], "int32")], (2, 6, 8), dtype=dtype
    )


def highest(name: str) -> Sample:
    def build(b: FileBuilder, dtype: str) -> int:
        from ai_edge_litert.schema_py_generated import TensorType

        options = {"outputType": TensorType.INT32}
        inputs = [b.input(*MAP, dtype=dtype), b.constant(3, "int32")]
        return b.op(name, inputs, (1, 4, 6), dtype="int32", version=version(dtype, 2), options=options)

    return build


def one_hot(b: FileBuilder, _: str) -> int:
    inputs = [b.input(1, 4, 6, dtype="int32"), b.constant(8, "int32"), b.constant(1.0), b.constant(0.0)]
    return b.op("ONE_HOT", inputs, MAP, options={"axis": -1})


def select(name: str) -> Sample:
    return lambda b, dtype: b.op(
        name, [b.input(*MAP, dtype="bool"), b.input(*MAP, dtype=dtype), b.input(*MAP, dtype=dtype)], MAP, dtype=dtype
    )


def shape(b: FileBuilder, dtype: str) -> int:
    from ai_edge_litert.schema_py_generated import TensorType

    return b.op("SHAPE", [b.input(*MAP, dtype=dtype)], (4,), dtype="int32", options={"outType": TensorType.INT32})


def cast(b: FileBuilder, dtype: str) -> int:
    return b.op("CAST", [b.input(*MAP, dtype=dtype)], MAP, dtype="int32")


def quantize(b: FileBuilder, dtype: str) -> int:
    return b.op("QUANTIZE", [b.input(*MAP, dtype=dtype)], MAP, dtype="int8", version=version(dtype, 2))


def dequantize(b: FileBuilder, dtype: str) -> int:
    return b.op("DEQUANTIZE", [b.input(*MAP, dtype="int8" if dtype == "float32" else dtype)], MAP, version=2)


def fill(b: FileBuilder, dtype: str) -> int:
    return b.op("FILL", [b.numbers(*MAP), b.input(dtype=dtype)], MAP, dtype=dtype, version=version(dtype, 2))


def count_up(b: FileBuilder, _: str) -> int:
    return b.op("RANGE", [b.constant(0, "int32"), b.constant(5, "int32"), b.constant(1, "int32")], (5,), dtype="int32")


POOL = {"strideH": 2, "strideW": 2, "filterHeight": 2, "filterWidth": 2}
UNARY = (
    *("ABS", "NEG", "SIGN", "EXP", "LOG", "SQRT", "RSQRT", "SQUARE", "SIN", "COS", "FLOOR", "CEIL", "ROUND"),
    *("RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "ELU", "HARD_SWISH", "LOGISTIC", "TANH", "GELU", "LOG_SOFTMAX"),
    *("ZEROS_LIKE", "L2_NORMALIZATION"),
)
BINARY = (
    *("ADD", "SUB", "MUL", "DIV", "POW", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE", "FLOOR_DIV", "FLOOR_MOD"),
    *("ADD_N", "ATAN2"),
)
SAMPLES: dict[str, Sample] = {
    "CONV_2D": conv,
    "DEPTHWISE_CONV_2D": depthwise,
    "TRANSPOSE_CONV": transpose_conv,
    "FULLY_CONNECTED": fully_connected,
    "BATCH_MATMUL": batch_matmul,
    **{name: one(name) for name in UNARY},
    **{name: two(name) for name in BINARY},
    **{name: compared(name) for name in ("LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL", "EQUAL", "NOT_EQUAL")},
    **{name: logical(name) for name in ("LOGICAL_AND", "LOGICAL_OR")},
    "LOGICAL_NOT": logical("LOGICAL_NOT", 1),
    **{name: reduced(name) for name in ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD")},
    **{name: reduced_truth(name) for name in ("REDUCE_ANY", "REDUCE_ALL")},
    **{name: one(name, made=(1, 2, 3, 8), **POOL) for name in ("AVERAGE_POOL_2D", "MAX_POOL_2D", "L2_POOL_2D")},
    **{name: by_numbers(name, (1, 8, 12, 8), (8, 12)) for name in ("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR")},
    "PRELU": prelu,
    "LEAKY_RELU": one("LEAKY_RELU", alpha=0.2),
    "SOFTMAX": one("SOFTMAX", beta=1.0),
    "LOCAL_RESPONSE_NORMALIZATION": one("LOCAL_RESPONSE_NORMALIZATION", radius=1, bias=1.0, alpha=1.0, beta=0.5),
    "CONCATENATION": lambda b, dtype: b.op(
        "CONCATENATION", [b.input(*MAP, dtype=dtype), b.input(*MAP, dtype=dtype)], (1, 4, 6, 16), dtype=dtype,
        version=version(dtype, 2), options={"axis": 3},
    ),
    "PACK": lambda b, dtype: b.op(
        "PACK", [b.input(4, 6, dtype=dtype), b.input(4, 6, dtype=dtype)], (2, 4, 6), dtype=dtype,
        version=version(dtype, 2), options={"axis": 0, "valuesCount": 2},
    ),
    "UNPACK": unpack,
    "RESHAPE": by_numbers("RESHAPE", (1, 24, 8), (1, 24, 8)),
    "SQUEEZE": one("SQUEEZE", made=(4, 6, 8), squeezeDims=[0]),
    "EXPAND_DIMS": by_numbers("EXPAND_DIMS", (1, 1, 4, 6, 8), (1,)),
    "TRANSPOSE": by_numbers("TRANSPOSE", (1, 6, 4, 8), (0, 2, 1, 3)),
    **{name: padded(name) for name in ("PAD", "PADV2", "MIRROR_PAD")},
    "TILE": by_numbers("TILE", (1, 8, 6, 8), (1, 2, 1, 1)),
    "BROADCAST_TO": by_numbers("BROADCAST_TO", (2, 4, 6, 8), (2, 4, 6, 8), version=2),
    "REVERSE_V2": by_numbers("REVERSE_V2", MAP, (1,)),
    "GATHER": gather,
    "GATHER_ND": gather_nd,
    "ARG_MAX": highest("ARG_MAX"),
    "ARG_MIN": highest("ARG_MIN"),
    "CUMSUM": lambda b, dtype: b.op("CUMSUM", [b.input(*MAP, dtype=dtype), b.constant(1, "int32")], MAP, dtype=dtype),
    "TOPK_V2": top,
    "SLICE": by_numbers("SLICE", (1, 2, 6, 8), (0, 1, 0, 0), (1, 2, 6, 8)),
    "STRIDED_SLICE": by_numbers("STRIDED_SLICE", (1, 2, 6, 8), (0, 1, 0, 0), (1, 3, 6, 8), (1, 1, 1, 1)),
    "SPLIT": split,
    "SPLIT_V": split_v,
    "SPACE_TO_DEPTH": one("SPACE_TO_DEPTH", made=(1, 2, 3, 32), blockSize=2),
    "DEPTH_TO_SPACE": one("DEPTH_TO_SPACE", made=(1, 8, 12, 2), blockSize=2),
    "SPACE_TO_BATCH_ND": blocks("SPACE_TO_BATCH_ND", (4, 2, 3, 8), 1),
    "BATCH_TO_SPACE_ND": blocks("BATCH_TO_SPACE_ND", (1, 8, 12, 8), 4),
    "FILL": fill,
    "SHAPE": shape,
    "RANGE": count_up,
    "ONE_HOT": one_hot,
    "SELECT": select("SELECT"),
    "SELECT_V2": select("SELECT_V2"),
    "CAST": cast,
    "QUANTIZE": quantize,
    "DEQUANTIZE": dequantize,
}  # fmt: skip
assert SAMPLES.keys() == RULES.keys(), SAMPLES.keys() ^ RULES.keys()


def sample(name: str, dtype: str = "float32") -> bytes:
    """Return a file of one operation on maps of `dtype`."""
    builder = FileBuilder()
    SAMPLES[name](builder, dtype)
    return builder.file()
