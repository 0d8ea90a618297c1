"""From genes to a graph: one function per part of the network.

    input R/2 → stem → body at R/2 or R/4 → long skip → up to R/2 → head at R/2 and R → RGB

A new block is one function and its name in `BLOCK_BUILDERS`; everything it needs is in the spec it is handed.
"""

from collections.abc import Callable

from search_spaces.errors import SpecError
from search_spaces.graph import FULL_HD, INPUT, Graph, GraphBuilder
from search_spaces.ops import (
    Activation,
    Add,
    Concat,
    Conv,
    DepthToSpace,
    DepthwiseConv,
    GlobalMean,
    Multiply,
    Shape,
    TransposeConv,
)
from search_spaces.spec import ArchSpec

# CSANet squeezes its channels by four (challenge report §4.2; two 1×1 convolutions). Below two hidden channels
# nothing is left to choose from.
ATTENTION_REDUCTION = 4
MIN_ATTENTION_HIDDEN = 2
RGB = 3


def build_graph(spec: ArchSpec, input_shape: Shape = FULL_HD) -> Graph:
    """Return the network of `spec` for packed RAW of `input_shape` [n, h, w, 4].

    Raises SpecError where the size is not a multiple of what the body's scale needs.
    """
    _check_size(spec, input_shape)
    g = GraphBuilder(input_shape)
    stem = _stem(g, spec)
    body = _body(g, spec, stem)
    joined = _long_skip(g, spec, stem, body)
    _head(g, spec, _up_to_half(g, spec, joined))
    return g.build()


def _check_size(spec: ArchSpec, input_shape: Shape) -> None:
    multiple = spec.scale // 2
    _, h, w, _ = input_shape
    if h % multiple or w % multiple:
        raise SpecError(
            f"A body at R/{spec.scale} needs output sizes that are multiples of {2 * multiple}, got {2 * h}×{2 * w}; "
            "choose another size or another scale."
        )


def _conv(g: GraphBuilder, name: str, x: str, op: Conv | TransposeConv | DepthwiseConv, activation: str) -> str:
    x = g.add(name, op, x)
    return x if activation == "none" else g.add(f"{name}.{activation}", Activation(activation), x)


def _stem(g: GraphBuilder, spec: ArchSpec) -> str:
    first = Conv(spec.width, 3, stride=spec.scale // 2)
    x = _conv(g, "stem1", INPUT, first, spec.stem_activation)
    return _conv(g, "stem2", x, Conv(spec.width, 3), spec.activation) if spec.stem_depth == 2 else x


def _body(g: GraphBuilder, spec: ArchSpec, x: str) -> str:
    build = BLOCK_BUILDERS[spec.block]
    for index in range(1, spec.depth + 1):
        x = build(g, spec, f"block{index}", x)
    return x


def _plain(g: GraphBuilder, spec: ArchSpec, name: str, x: str) -> str:
    x = _conv(g, f"{name}.conv", x, Conv(spec.width, spec.kernel), spec.activation)
    return _attend(g, spec, name, x, spec.width)


def _residual(g: GraphBuilder, spec: ArchSpec, name: str, x: str) -> str:
    y = _conv(g, f"{name}.conv_a", x, Conv(spec.width, spec.kernel), spec.activation)
    y = g.add(f"{name}.conv_b", Conv(spec.width, 3), y)
    return g.add(f"{name}.add", Add(), _attend(g, spec, name, y, spec.width), x)


def _expanded(g: GraphBuilder, spec: ArchSpec, name: str, x: str) -> str:
    """CSANet's double-attention module for any attention: widen twofold, recalibrate, fuse back, add."""
    wide = 2 * spec.width
    y = _conv(g, f"{name}.conv_a", x, Conv(wide, spec.kernel), spec.activation)
    if spec.attention != "none":  # without a gate in between, two linear 1×1 convolutions would be one
        y = g.add(f"{name}.conv_b", Conv(wide, 1), y)
        y = ATTENTION_BUILDERS[spec.attention](g, name, y, wide)
    y = g.add(f"{name}.fuse", Conv(spec.width, 1), y)
    return g.add(f"{name}.add", Add(), y, x)


BLOCK_BUILDERS: dict[str, Callable[[GraphBuilder, ArchSpec, str, str], str]] = {
    "plain": _plain,
    "residual": _residual,
    "expanded": _expanded,
}


def _attend(g: GraphBuilder, spec: ArchSpec, name: str, x: str, channels: int) -> str:
    """Recalibrate `x`; dual attention doubles the channels, so a 1×1 convolution brings them back."""
    if spec.attention == "none":
        return x
    y = ATTENTION_BUILDERS[spec.attention](g, name, x, channels)
    return g.add(f"{name}.fuse", Conv(channels, 1), y) if spec.attention == "dual" else y


def _channel_attention(g: GraphBuilder, name: str, x: str, channels: int) -> str:
    """Squeeze and excite: mean over the map, two 1×1 convolutions, one gate per channel."""
    hidden = max(MIN_ATTENTION_HIDDEN, channels // ATTENTION_REDUCTION)
    y = g.add(f"{name}.ca.mean", GlobalMean(), x)
    y = _conv(g, f"{name}.ca.fc1", y, Conv(hidden, 1), "relu")
    y = _conv(g, f"{name}.ca.fc2", y, Conv(channels, 1), "sigmoid")
    return g.add(f"{name}.ca.mul", Multiply(), x, y)


def _spatial_attention(g: GraphBuilder, name: str, x: str, _channels: int) -> str:
    """A 5×5 depthwise convolution with dilation 2 sees 9×9 pixels and gates each of them."""
    y = _conv(g, f"{name}.sa.dw", x, DepthwiseConv(5, dilation=2), "sigmoid")
    return g.add(f"{name}.sa.mul", Multiply(), x, y)


def _dual_attention(g: GraphBuilder, name: str, x: str, channels: int) -> str:
    spatial = _spatial_attention(g, name, x, channels)
    return g.add(f"{name}.concat", Concat(), spatial, _channel_attention(g, name, x, channels))


ATTENTION_BUILDERS: dict[str, Callable[[GraphBuilder, str, str, int], str]] = {
    "channel": _channel_attention,
    "spatial": _spatial_attention,
    "dual": _dual_attention,
}


def _long_skip(g: GraphBuilder, spec: ArchSpec, stem: str, body: str) -> str:
    if spec.long_skip == "none":
        return body
    x = _conv(g, "tail", body, Conv(spec.width, 3), spec.activation)
    return g.add("skip", Add() if spec.long_skip == "add" else Concat(), x, stem)


def _up_to_half(g: GraphBuilder, spec: ArchSpec, x: str) -> str:
    if spec.scale == 2:
        return x
    if spec.body_upsampler == "transposed":
        return g.add("up", TransposeConv(spec.width, 3, use_bias=False), x)
    return g.add("up.shuffle", DepthToSpace(2), g.add("up", Conv(4 * spec.width, 3), x))


def _head(g: GraphBuilder, spec: ArchSpec, x: str) -> str:
    if not spec.refine_width:
        return _to_full(g, spec, x, RGB, spec.output_activation)
    x = _to_full(g, spec, x, spec.refine_width, spec.activation)
    return _conv(g, "rgb", x, Conv(RGB, 3), spec.output_activation)


def _to_full(g: GraphBuilder, spec: ArchSpec, x: str, channels: int, activation: str) -> str:
    """Bring `x` from R/2 to R. The activation stands before the shuffle, as in Smallnet and CSANet."""
    if spec.output_upsampler == "transposed":
        return _conv(g, "head", x, TransposeConv(channels, 3), activation)
    return g.add("shuffle", DepthToSpace(2), _conv(g, "head", x, Conv(4 * channels, 3), activation))
