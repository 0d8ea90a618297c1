"""Building blocks of every topology: a convolution with what follows it, downsampling, upsampling."""

from search_spaces.graph import GraphBuilder
from search_spaces.ops import (
    Activation,
    Add,
    Affine,
    Concat,
    Conv,
    DepthToSpace,
    DepthwiseConv,
    InstanceNorm,
    Pool,
    Resize,
    TransposeConv,
)
from search_spaces.spec import ArchSpec

# 0.58 · tanh + 0.5 covers [0, 1] with a margin, so that black and white are reached where tanh is not yet flat.
# Source: DPED's networks, which EdS descends from (arXiv 2105.07809 §4.9).
SCALED_TANH = Affine(0.58, 0.5)
POOLS = {"max_pool": "max", "average_pool": "average"}


def conv(g: GraphBuilder, name: str, x: str, op: Conv | TransposeConv | DepthwiseConv, activation: str = "none") -> str:
    """Add a convolution and what activates it."""
    return activate(g, name, g.add(name, op, x), activation)


def activate(g: GraphBuilder, name: str, x: str, activation: str) -> str:
    """Add an activation behind `x`, under the name of the convolution it belongs to."""
    if activation == "none":
        return x
    if activation == "scaled_tanh":
        return g.add(f"{name}.range", SCALED_TANH, g.add(f"{name}.tanh", Activation("tanh"), x))
    return g.add(f"{name}.{activation}", Activation(activation), x)


def inner_conv(
    g: GraphBuilder, spec: ArchSpec, name: str, x: str, op: Conv | TransposeConv, activation: str = "none"
) -> str:
    """Add a convolution between stem and head: normalised where the spec asks for it, then activated."""
    x = g.add(name, op, x)
    if spec.normalisation == "instance":
        x = g.add(f"{name}.norm", InstanceNorm(), x)
    return activate(g, name, x, activation)


def downsample(g: GraphBuilder, spec: ArchSpec, name: str, x: str, filters: int) -> str:
    """Halve `x`: by a convolution to `filters` channels, or by pooling, which keeps the channels."""
    if spec.downsampler == "strided":
        return inner_conv(g, spec, name, x, Conv(filters, spec.down_kernel, stride=2), spec.activation)
    return g.add(name, Pool(POOLS[spec.downsampler]), x)


def upsample(g: GraphBuilder, spec: ArchSpec, name: str, x: str, filters: int) -> str:
    """Double `x` on a U-Net's way up: learned ways give `filters` channels, bilinear enlargement keeps the channels."""
    if spec.body_upsampler == "transposed":
        return inner_conv(g, spec, name, x, TransposeConv(filters, spec.up_kernel), spec.activation)
    if spec.body_upsampler == "depth_to_space":
        x = inner_conv(g, spec, name, x, Conv(4 * filters, 3), spec.activation)
        return g.add(f"{name}.shuffle", DepthToSpace(2), x)
    return g.add(name, Resize(), x)


def join(g: GraphBuilder, name: str, kind: str, x: str, skip: str) -> str:
    """Join a skip connection by "add" or "concat"; "none" leaves `x`. An add of fewer channels is widened first."""
    if kind == "none":
        return x
    if kind == "concat":
        return g.add(name, Concat(), x, skip)
    if g.channels(x) != g.channels(skip):
        x = g.add(f"{name}.project", Conv(g.channels(skip), 1), x)
    return g.add(name, Add(), x, skip)
