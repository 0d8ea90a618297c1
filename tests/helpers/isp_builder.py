"""ISPs as .tflite files, layer by layer and without TensorFlow: packed RAW [n, h, w, 4] → RGB [n, 2h, 2w, 3]."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tflite_builder import FileBuilder

WINDOW = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
VALID = {"padding": 1}
Weights = Callable[..., Any]


@dataclass
class Trunk:
    """The map at which a file under construction has arrived."""

    b: FileBuilder
    index: int
    shape: tuple[int, ...]
    weights: Weights

    def op(self, name: str, *constants: int, shape: Sequence[int], first: Sequence[int] = (), **options: int) -> None:
        self.index = self.b.op(name, [*first, self.index, *constants], shape, options=options)
        self.shape = tuple(shape)

    def sides(self, factor: float) -> tuple[int, int]:
        return tuple(-1 if side < 0 else int(side * factor) for side in self.shape[1:3])  # type: ignore[return-value]

    def conv(self, channels: int, kernel: int, *, stride: int = 1, dilation: int = 1, **options: int) -> None:
        n, _, _, c = self.shape
        constants = (self.b.constant(self.weights(channels, kernel, kernel, c)), self.b.constant(np.zeros(channels)))
        sides = {"strideH": stride, "strideW": stride, "dilationHFactor": dilation, "dilationWFactor": dilation}
        self.op("CONV_2D", *constants, shape=(n, *self.sides(1 / stride), channels), **sides, **options)

    def depthwise(self, kernel: int) -> None:
        c = self.shape[3]
        constants = (self.b.constant(self.weights(1, kernel, kernel, c)), self.b.constant(np.zeros(c)))
        self.op("DEPTHWISE_CONV_2D", *constants, shape=self.shape, depthMultiplier=1, **WINDOW)

    def padded_conv(self) -> None:
        """As PyTorch's converters write a 3×3 convolution."""
        n, h, w, c = self.shape
        around = self.b.constant([[0, 0], [1, 1], [1, 1], [0, 0]], "int32")
        self.op("PAD", around, shape=(n, h + 2, w + 2, c))
        constants = (self.b.constant(self.weights(c, 3, 3, c)), self.b.constant(np.zeros(c)))
        self.op("CONV_2D", *constants, shape=(n, h, w, c), **WINDOW, **VALID)

    def transposed(self, kernel: int) -> None:
        n, _, _, c = self.shape
        shape = (n, *self.sides(2), c)
        first = (self.b.numbers(*shape), self.b.constant(self.weights(c, kernel, kernel, c)))
        self.op("TRANSPOSE_CONV", first=first, shape=shape, strideH=2, strideW=2)

    def pool(self, name: str) -> None:
        n, _, _, c = self.shape
        options = {"filterHeight": 2, "filterWidth": 2, "strideH": 2, "strideW": 2, **VALID}
        self.op(name, shape=(n, *self.sides(0.5), c), **options)

    def shuffle(self, block: int) -> None:
        n, _, _, c = self.shape
        self.op("DEPTH_TO_SPACE", shape=(n, *self.sides(block), c // block**2), blockSize=block)

    def unshuffle(self) -> None:
        n, _, _, c = self.shape
        self.op("SPACE_TO_DEPTH", shape=(n, *self.sides(0.5), 4 * c), blockSize=2)

    def resize(self, name: str, **options: int) -> None:
        n, _, _, c = self.shape
        sides = self.sides(2)
        self.op(name, self.b.numbers(*sides), shape=(n, *sides, c), **options)

    def pointwise(self, name: str) -> None:
        self.index = self.b.op(name, [self.index], self.shape)

    def attention(self) -> None:
        """Multiply by a mean over the map."""
        axes = self.b.numbers(1, 2)
        mean = self.b.op("MEAN", [self.index, axes], (self.shape[0], 1, 1, self.shape[3]), options={"keepDims": 1})
        self.op("MUL", mean, shape=self.shape)


LAYERS: dict[str, Callable[[Trunk], None]] = {
    "conv 1": lambda t: t.conv(6, 1),
    "conv 3": lambda t: t.conv(6, 3),
    "conv 5": lambda t: t.conv(6, 5),
    "conv 3 dilated": lambda t: t.conv(6, 3, dilation=2),
    "conv 3 stride 2": lambda t: t.conv(6, 3, stride=2),
    "conv 4 stride 2": lambda t: t.conv(6, 4, stride=2),
    "conv 2 stride 2 valid": lambda t: t.conv(6, 2, stride=2, **VALID),
    "pad, conv 3 valid": lambda t: t.padded_conv(),
    "depthwise 3": lambda t: t.depthwise(3),
    "average pool": lambda t: t.pool("AVERAGE_POOL_2D"),
    "max pool": lambda t: t.pool("MAX_POOL_2D"),
    "transposed 2": lambda t: t.transposed(2),
    "transposed 3": lambda t: t.transposed(3),
    "transposed 4": lambda t: t.transposed(4),
    "space to depth": lambda t: t.unshuffle(),
    "bilinear": lambda t: t.resize("RESIZE_BILINEAR"),
    "bilinear, half pixels": lambda t: t.resize("RESIZE_BILINEAR", halfPixelCenters=1),
    "nearest": lambda t: t.resize("RESIZE_NEAREST_NEIGHBOR"),
    "tanh": lambda t: t.pointwise("TANH"),
}


def ones(*shape: int) -> Any:
    """Weights with which nothing cancels: what a pixel may change, it does change."""
    return np.ones(shape, np.float32)


def random_weights(seed: int) -> Weights:
    """Weights with which maps keep their size."""
    rng = np.random.default_rng(seed)
    return lambda *shape: rng.normal(0, 1.4 / np.prod(shape[1:]) ** 0.5, shape).astype(np.float32)


def isp(
    rows: int,
    columns: int,
    layers: Sequence[str] = ("conv 3", "tanh"),
    *,
    weights: Weights | None = None,
    batch: int = 1,
    is_global: bool = False,
    squashed: bool = True,
    input_type: str = "float32",
    output_type: str = "float32",
) -> bytes:
    """Return a file whose layers end in a pixel shuffle to twice the side; −1 leaves rows and columns open.

    Squashed, its output lies between 0 and 1. Whole-numbered inputs hold [0, 1], as do outputs.
    """
    b = FileBuilder()
    trunk = Trunk(b, -1, (batch, rows, columns, 4), weights or random_weights(0))
    trunk.index = _input(b, trunk.shape, input_type)
    for name in layers:
        LAYERS[name](trunk)
    if is_global:
        trunk.attention()
    block = 2 if rows < 0 else 2 * rows // trunk.shape[1]
    trunk.conv(3 * block**2, 1)
    trunk.shuffle(block)
    if squashed:
        trunk.pointwise("LOGISTIC")
    return b.file(_output(b, trunk, output_type))


RANGES = {"uint8": (1 / 255, 0), "int8": (1 / 255, -128), "int16": (1 / 32767, 0)}  # of [0, 1]: scale and zero point


def _input(b: FileBuilder, shape: tuple[int, ...], dtype: str) -> int:
    if dtype == "float32":
        return b.input(*shape)
    index = b.input(*shape, dtype=dtype)
    _set_range(b, index, dtype)
    return b.op("DEQUANTIZE", [index], shape)


def _output(b: FileBuilder, trunk: Trunk, dtype: str) -> int:
    if dtype == "float32":
        return trunk.index
    index = b.op("CAST" if dtype == "float16" else "QUANTIZE", [trunk.index], trunk.shape, dtype=dtype)
    _set_range(b, index, dtype)
    return index


def _set_range(b: FileBuilder, index: int, dtype: str) -> None:
    if dtype in RANGES:
        quantization = b.graph.tensors[index].quantization
        quantization.scale, quantization.zeroPoint = [RANGES[dtype][0]], [RANGES[dtype][1]]
