"""Blocks and attentions of a network's body, one function per kind.

A new one is a function here and an entry in `search_spaces.parts` that names it; what it needs is in the spec and the
width it is handed.
"""

from search_spaces.graph import GraphBuilder
from search_spaces.layers import conv, inner_conv
from search_spaces.ops import Add, Concat, Conv, DepthwiseConv, GlobalMean, Multiply, Scale
from search_spaces.parts import ATTENTIONS, BLOCKS
from search_spaces.spec import ArchSpec

# Of one hidden value all gates would be functions.
MIN_ATTENTION_HIDDEN = 2
_LETTERS = "abcd"  # of the convolutions inside a block


def body(g: GraphBuilder, spec: ArchSpec, x: str, width: int) -> str:
    """Add all blocks, what recalibrates or fuses them, and the skip over them; `x` has `width` channels."""
    outputs = _blocks(g, spec, x, width)
    y = _local_fusion(g, spec, outputs, x, width) if spec.long_skip == "local_fusion" else outputs[-1]
    if spec.attention_position == "body" or not spec.depth:
        y = attend(g, spec, "body", y)
    if spec.tail == "conv" or spec.long_skip in ("add", "concat"):
        y = inner_conv(g, spec, "tail", y, Conv(width, 3), spec.activation)
    if spec.long_skip in ("add", "concat"):
        return g.add("skip", Add() if spec.long_skip == "add" else Concat(), y, x)
    return y


def _blocks(g: GraphBuilder, spec: ArchSpec, x: str, width: int) -> list[str]:
    """Return what goes into the body and what comes out of each block; of dense layers, the grown map."""
    outputs = [x]
    for index in range(1, spec.depth + 1):
        outputs.append(BLOCKS[spec.block].build(g, spec, f"block{index}", outputs[-1], width))
    return outputs


def _local_fusion(g: GraphBuilder, spec: ArchSpec, outputs: list[str], x: str, width: int) -> str:
    """ACVLab's local residual fusion: all blocks' outputs through a 1×1 convolution, plus what went in.

    Source: Wang et al. 2019, "Lightweight Image Super-Resolution with Adaptive Weighted Learning Network" (AWSRN),
    arXiv 1904.02358; with 1×1 in place of its 3×3.
    """
    made = outputs[1:]
    y = g.add("fusion.concat", Concat(), *made) if len(made) > 1 else made[0]
    y = g.add("fusion.reduce", Conv(width, 1), y)
    return _weighted_add(g, spec, "fusion", y, x)


def _weighted_add(g: GraphBuilder, spec: ArchSpec, name: str, y: str, x: str) -> str:
    """Add a branch to what it branched off; adaptive residual units learn a weight for each."""
    if spec.block == "adaptive_residual":
        y = g.add(f"{name}.branch_weight", Scale(), y)
        x = g.add(f"{name}.input_weight", Scale(), x)
    return g.add(f"{name}.add", Add(), y, x)


def _block_conv(
    g: GraphBuilder, spec: ArchSpec, name: str, x: str, filters: int, *, kernel: int, activation: str
) -> str:
    """Add a convolution of a block: full, or split into one per channel and one per pixel."""
    if spec.convolution == "full":
        return inner_conv(g, spec, name, x, Conv(filters, kernel), activation)
    x = g.add(f"{name}.dw", DepthwiseConv(kernel, use_bias=False), x)
    return inner_conv(g, spec, name, x, Conv(filters, 1), activation)


def plain(g: GraphBuilder, spec: ArchSpec, name: str, x: str, width: int) -> str:
    """One convolution."""
    x = _block_conv(g, spec, f"{name}.conv", x, width, kernel=spec.kernel, activation=spec.activation)
    return _attend_inside(g, spec, name, x)


def residual(g: GraphBuilder, spec: ArchSpec, name: str, x: str, width: int) -> str:
    """Convolutions with an activation between them, plus the input; also with learned weights (AWSRN's unit)."""
    y = x
    for index in range(spec.block_layers):
        last = index == spec.block_layers - 1
        activation = "none" if last and spec.block_end == "linear" else spec.activation
        kernel = 3 if index else spec.kernel
        y = _block_conv(g, spec, f"{name}.conv_{_LETTERS[index]}", y, width, kernel=kernel, activation=activation)
    return _weighted_add(g, spec, name, _attend_inside(g, spec, name, y), x)


def expanded(g: GraphBuilder, spec: ArchSpec, name: str, x: str, width: int) -> str:
    """CSANet's double-attention module for any attention: widen twofold, recalibrate, fuse back, add."""
    wide = 2 * width
    y = _block_conv(g, spec, f"{name}.conv_a", x, wide, kernel=spec.kernel, activation=spec.activation)
    if spec.attention != "none" and spec.attention_position == "block":
        # Without a gate in between, two linear 1×1 convolutions would be one.
        y = g.add(f"{name}.conv_b", Conv(wide, 1), y)
        y = ATTENTIONS[spec.attention].build(g, spec, name, y)
    y = inner_conv(g, spec, f"{name}.fuse", y, Conv(width, 1))
    return g.add(f"{name}.add", Add(), y, x)


def dense(g: GraphBuilder, spec: ArchSpec, name: str, x: str, width: int) -> str:  # noqa: ARG001 (it grows freely)
    """One layer of a DenseNet: what it makes is put behind what it read (arXiv 1608.06993)."""
    y = _block_conv(g, spec, f"{name}.conv", x, spec.growth, kernel=spec.kernel, activation=spec.activation)
    return g.add(f"{name}.grow", Concat(), x, _attend_inside(g, spec, name, y))


def residual_dense(g: GraphBuilder, spec: ArchSpec, name: str, x: str, width: int) -> str:
    """Dense layers, fused by a 1×1 convolution, plus the input (arXiv 1802.08797)."""
    grown = x
    for index in range(spec.block_layers):
        layer = f"{name}.conv_{_LETTERS[index]}"
        kernel = 3 if index else spec.kernel
        y = _block_conv(g, spec, layer, grown, spec.growth, kernel=kernel, activation=spec.activation)
        grown = g.add(f"{layer}.concat", Concat(), grown, y)
    y = inner_conv(g, spec, f"{name}.fuse", grown, Conv(width, 1))
    return g.add(f"{name}.add", Add(), _attend_inside(g, spec, name, y), x)


def _attend_inside(g: GraphBuilder, spec: ArchSpec, name: str, x: str) -> str:
    return attend(g, spec, name, x) if spec.attention_position == "block" else x


def attend(g: GraphBuilder, spec: ArchSpec, name: str, x: str) -> str:
    """Recalibrate `x`; where that gives more channels, as dual attention does, a 1×1 convolution brings them back."""
    if spec.attention == "none":
        return x
    y: str = ATTENTIONS[spec.attention].build(g, spec, name, x)
    fuse = "attention.fuse" if spec.block in ("expanded", "residual_dense") and spec.depth else "fuse"
    return y if g.channels(y) == g.channels(x) else g.add(f"{name}.{fuse}", Conv(g.channels(x), 1), y)


def channel_attention(g: GraphBuilder, spec: ArchSpec, name: str, x: str) -> str:
    """Squeeze and excite: mean over the map, two 1×1 convolutions, one gate per channel (arXiv 1709.01507)."""
    channels = g.channels(x)
    y = g.add(f"{name}.ca.mean", GlobalMean(), x)
    hidden = max(MIN_ATTENTION_HIDDEN, channels // spec.attention_reduction)
    y = conv(g, f"{name}.ca.fc1", y, Conv(hidden, 1), "relu")
    y = conv(g, f"{name}.ca.fc2", y, Conv(channels, 1), "sigmoid")
    return g.add(f"{name}.ca.mul", Multiply(), x, y)


def spatial_attention(g: GraphBuilder, _: ArchSpec, name: str, x: str) -> str:
    """A 5×5 depthwise convolution with dilation 2 sees 9×9 pixels and gates each of them."""
    y = conv(g, f"{name}.sa.dw", x, DepthwiseConv(5, dilation=2), "sigmoid")
    return g.add(f"{name}.sa.mul", Multiply(), x, y)


def dual_attention(g: GraphBuilder, spec: ArchSpec, name: str, x: str) -> str:
    """Both gates read one map, and their outputs are concatenated (CSANet, arXiv 2105.07809)."""
    spatial = spatial_attention(g, spec, name, x)
    return g.add(f"{name}.concat", Concat(), spatial, channel_attention(g, spec, name, x))
