"""Primitive operations of networks.

Each operation answers three questions from the shapes of its inputs alone: what comes out, which parameters
it needs, and how many multiply-accumulates it takes. Nothing here computes anything; `lower_flax`,
`lower_tf` and `latency_models.kernels` each hold one rule per operation.

Conventions: images are NHWC; convolution kernels are HWIO, depthwise kernels HW1C, and transposed-convolution
kernels HWOI (the layout of `tf.nn.conv2d_transpose`, whose padding they follow); padding is always "same" in
TensorFlow's sense. Only the batch of the input is free.
"""

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from search_spaces.activations import ACTIVATIONS
from search_spaces.errors import GraphError, UnknownNameError

Shape = tuple[int, int, int, int]
ParameterShapes = dict[str, tuple[int, ...]]

POOLS = ("max", "average")


@dataclass(frozen=True)
class Op:
    """One primitive operation; subclasses say what it does to shapes."""

    kind: ClassVar[str]
    is_integer: ClassVar[bool] = False  # tests have seen it converted to int8 and int16

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the shape that comes out; raise GraphError where the inputs do not fit together."""
        raise NotImplementedError

    def parameter_shapes(self, *inputs: Shape) -> ParameterShapes:  # noqa: ARG002 (most operations have none)
        """Return the shape of every trained array by its short name."""
        return {}

    def macs(self, *inputs: Shape) -> int:  # noqa: ARG002 (most operations have none)
        """Return the multiply-accumulates of one application."""
        return 0

    def to_dict(self) -> dict[str, Any]:
        """Return the operation as plain data, to be read back by `op_from_dict`."""
        return {"kind": self.kind, **asdict(self)}


@dataclass(frozen=True)
class Conv(Op):
    """A convolution with bias, kernel × kernel."""

    kind = "conv"
    is_integer = True
    filters: int
    kernel: int = 3
    stride: int = 1

    def output_shape(self, *inputs: Shape) -> Shape:
        """[n, h, w, c] → [n, ⌈h/stride⌉, ⌈w/stride⌉, filters]."""
        n, h, w, _ = single(self, inputs)
        return (n, -(-h // self.stride), -(-w // self.stride), self.filters)

    def parameter_shapes(self, *inputs: Shape) -> ParameterShapes:
        """Kernel HWIO and bias."""
        channels = single(self, inputs)[3]
        return {"kernel": (self.kernel, self.kernel, channels, self.filters), "bias": (self.filters,)}

    def macs(self, *inputs: Shape) -> int:
        """Output pixels × kernel² × input channels × filters."""
        _, h, w, _ = self.output_shape(*inputs)
        return h * w * self.kernel**2 * inputs[0][3] * self.filters


@dataclass(frozen=True)
class DepthwiseConv(Op):
    """A convolution of each channel with its own kernel; `dilation` spreads the taps.

    Without a bias of its own where a pointwise convolution follows at once, whose bias does the same.
    """

    kind = "depthwise_conv"
    is_integer = True
    kernel: int = 3
    dilation: int = 1
    use_bias: bool = True

    def output_shape(self, *inputs: Shape) -> Shape:
        """The shape of the input."""
        return single(self, inputs)

    def parameter_shapes(self, *inputs: Shape) -> ParameterShapes:
        """Kernel HW1C and, where asked for, bias."""
        channels = single(self, inputs)[3]
        kernel = (self.kernel, self.kernel, 1, channels)
        return {"kernel": kernel, "bias": (channels,)} if self.use_bias else {"kernel": kernel}

    def macs(self, *inputs: Shape) -> int:
        """Pixels × kernel² × channels."""
        _, h, w, c = single(self, inputs)
        return h * w * self.kernel**2 * c


@dataclass(frozen=True)
class TransposeConv(Op):
    """A transposed convolution, the gradient of a "same" convolution: enlarges by `stride`."""

    kind = "transpose_conv"
    is_integer = True
    filters: int
    kernel: int = 3
    stride: int = 2
    use_bias: bool = True

    def output_shape(self, *inputs: Shape) -> Shape:
        """[n, h, w, c] → [n, h·stride, w·stride, filters]."""
        n, h, w, _ = single(self, inputs)
        return (n, h * self.stride, w * self.stride, self.filters)

    def parameter_shapes(self, *inputs: Shape) -> ParameterShapes:
        """Kernel HWOI and, where asked for, bias."""
        kernel = (self.kernel, self.kernel, self.filters, single(self, inputs)[3])
        return {"kernel": kernel, "bias": (self.filters,)} if self.use_bias else {"kernel": kernel}

    def macs(self, *inputs: Shape) -> int:
        """Input pixels × kernel² × input channels × filters: each input pixel meets each tap once."""
        _, h, w, c = single(self, inputs)
        return h * w * self.kernel**2 * c * self.filters


@dataclass(frozen=True)
class DepthToSpace(Op):
    """Pixel shuffle in TensorFlow's order: channel (i·block + j)·c + k becomes pixel (i, j) of channel k."""

    kind = "depth_to_space"
    is_integer = True
    block: int = 2

    def output_shape(self, *inputs: Shape) -> Shape:
        """[n, h, w, c·block²] → [n, h·block, w·block, c]."""
        n, h, w, c = single(self, inputs)
        if c % self.block**2:
            raise GraphError(f"depth_to_space({self.block}) needs channels divisible by {self.block**2}, got {c}.")
        return (n, h * self.block, w * self.block, c // self.block**2)


@dataclass(frozen=True)
class Activation(Op):
    """A pointwise non-linearity; PReLU learns one slope per channel."""

    kind = "activation"
    function: str

    def __post_init__(self) -> None:
        if self.function not in ACTIVATIONS:
            raise UnknownNameError("activation", self.function, ACTIVATIONS)

    def output_shape(self, *inputs: Shape) -> Shape:
        """The shape of the input."""
        return single(self, inputs)

    def parameter_shapes(self, *inputs: Shape) -> ParameterShapes:
        """Alpha per channel for PReLU, nothing otherwise."""
        return {"alpha": (single(self, inputs)[3],)} if self.function == "prelu" else {}


@dataclass(frozen=True)
class Affine(Op):
    """A fixed line, scale · x + offset, such as brings a tanh into the range of a photograph."""

    kind = "affine"
    is_integer = True
    scale: float
    offset: float

    def output_shape(self, *inputs: Shape) -> Shape:
        """The shape of the input."""
        return single(self, inputs)


@dataclass(frozen=True)
class Scale(Op):
    """The map times one learned number."""

    kind = "scale"
    is_integer = True

    def output_shape(self, *inputs: Shape) -> Shape:
        """The shape of the input."""
        return single(self, inputs)

    def parameter_shapes(self, *inputs: Shape) -> ParameterShapes:
        """One factor."""
        single(self, inputs)
        return {"factor": (1,)}


@dataclass(frozen=True)
class InstanceNorm(Op):
    """Each channel of each image at mean 0 and variance 1, then a learned line: gamma · x̂ + beta.

    Source: Ulyanov et al. 2016, "Instance Normalization", arXiv 1607.08022.
    """

    kind = "instance_norm"
    is_integer = True
    epsilon: float = 1e-3

    def output_shape(self, *inputs: Shape) -> Shape:
        """The shape of the input."""
        return single(self, inputs)

    def parameter_shapes(self, *inputs: Shape) -> ParameterShapes:
        """Gamma and beta per channel."""
        channels = single(self, inputs)[3]
        return {"gamma": (channels,), "beta": (channels,)}


@dataclass(frozen=True)
class Pool(Op):
    """The maximum or the average of every 2×2 pixels: halves both sides."""

    kind = "pool"
    is_integer = True
    function: str

    def __post_init__(self) -> None:
        if self.function not in POOLS:
            raise UnknownNameError("pool", self.function, POOLS)

    def output_shape(self, *inputs: Shape) -> Shape:
        """[n, h, w, c] → [n, h/2, w/2, c]; odd sides are refused."""
        n, h, w, c = single(self, inputs)
        if h % 2 or w % 2:
            raise GraphError(f"pool needs even sides, got {h}×{w}.")
        return (n, h // 2, w // 2, c)


@dataclass(frozen=True)
class Resize(Op):
    """Bilinear enlargement to twice the size, pixel centres at half-integers as in `tf.image.resize`."""

    kind = "resize"
    is_integer = True

    def output_shape(self, *inputs: Shape) -> Shape:
        """[n, h, w, c] → [n, 2h, 2w, c]."""
        n, h, w, c = single(self, inputs)
        return (n, 2 * h, 2 * w, c)


@dataclass(frozen=True)
class Add(Op):
    """The sum of two maps of one shape."""

    kind = "add"
    is_integer = True

    def output_shape(self, *inputs: Shape) -> Shape:
        """The shape of both inputs."""
        a, b = pair(self, inputs)
        if a != b:
            raise GraphError(f"add needs two maps of one shape, got {a} and {b}.")
        return a


@dataclass(frozen=True)
class Subtract(Op):
    """The first map minus the second, of one shape."""

    kind = "subtract"
    is_integer = True

    def output_shape(self, *inputs: Shape) -> Shape:
        """The shape of both inputs."""
        a, b = pair(self, inputs)
        if a != b:
            raise GraphError(f"subtract needs two maps of one shape, got {a} and {b}.")
        return a


@dataclass(frozen=True)
class Multiply(Op):
    """The product of a map and a map of the same shape, or of one value per channel."""

    kind = "multiply"
    is_integer = True

    def output_shape(self, *inputs: Shape) -> Shape:
        """The shape of the first input."""
        a, b = pair(self, inputs)
        if b not in (a, (a[0], 1, 1, a[3])):
            raise GraphError(f"multiply needs a second map of shape {a} or {(a[0], 1, 1, a[3])}, got {b}.")
        return a


@dataclass(frozen=True)
class Concat(Op):
    """Maps of one size, their channels behind one another."""

    kind = "concat"
    is_integer = True

    def output_shape(self, *inputs: Shape) -> Shape:
        """[n, h, w, Σ channels]."""
        if len(inputs) < 2 or len({shape[:3] for shape in inputs}) != 1:
            raise GraphError(f"concat needs two or more maps of one size, got {list(inputs)}.")
        return (*inputs[0][:3], sum(shape[3] for shape in inputs))


@dataclass(frozen=True)
class GlobalMean(Op):
    """The mean of each channel over the whole map."""

    kind = "global_mean"
    is_integer = True

    def output_shape(self, *inputs: Shape) -> Shape:
        """[n, h, w, c] → [n, 1, 1, c]."""
        n, _, _, c = single(self, inputs)
        return (n, 1, 1, c)


OPS: dict[str, type[Op]] = {
    op.kind: op
    for op in (
        Conv,
        DepthwiseConv,
        TransposeConv,
        DepthToSpace,
        Pool,
        Resize,
        Activation,
        Affine,
        Scale,
        InstanceNorm,
        Add,
        Subtract,
        Multiply,
        Concat,
        GlobalMean,
    )
}


def op_from_dict(data: dict[str, Any]) -> Op:
    """Read back what `Op.to_dict` wrote; raise UnknownNameError for an operation that does not exist."""
    fields = dict(data)
    kind = fields.pop("kind", None)
    if kind not in OPS:
        raise UnknownNameError("operation", kind, OPS)
    return OPS[kind](**fields)


def single(op: Op, inputs: tuple[Shape, ...]) -> Shape:
    """Return the one input of `op`; raise GraphError where there is another number of them."""
    if len(inputs) != 1:
        raise GraphError(f"{op.kind} takes one input, got {len(inputs)}.")
    return inputs[0]


def pair(op: Op, inputs: tuple[Shape, ...]) -> tuple[Shape, Shape]:
    """Return the two inputs of `op`; raise GraphError where there is another number of them."""
    if len(inputs) != 2:
        raise GraphError(f"{op.kind} takes two inputs, got {len(inputs)}.")
    return inputs[0], inputs[1]
