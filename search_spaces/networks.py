"""Build a graph from genes: one function per topology, between a common stem and a common head.

flat      input R/2 → stem → body at R/2, R/4 or R/8 → up to R/2 → head → RGB at R
unet      input R/2 → stem → levels down → body on the lowest → levels up, with skips → head → RGB
two_path  texture: input − blurred input → stem → body at R/2;  colour: a U-Net from R/4 → R/2;  both → head → RGB
"""

from functools import lru_cache

from search_spaces.blocks import body
from search_spaces.errors import SpecError
from search_spaces.graph import FULL_HD, INPUT, Graph, GraphBuilder
from search_spaces.layers import activate, conv, downsample, inner_conv, join, upsample
from search_spaces.ops import Add, Concat, Conv, DepthToSpace, Pool, Resize, Shape, Subtract, TransposeConv
from search_spaces.parts import TOPOLOGIES
from search_spaces.spec import WIDEST_LEVEL, ArchSpec

RGB = 3


# A pool of proposals is some hundred networks, and each one's graph is asked for several times within a decision.
@lru_cache(maxsize=1024)
def build_graph(spec: ArchSpec, input_shape: Shape = FULL_HD) -> Graph:
    """Return the network of `spec` for packed RAW of `input_shape` [n, h, w, 4].

    Raises SpecError where the size is not a multiple of what the network's lowest scale needs.
    """
    _check_size(spec, input_shape)
    g = GraphBuilder(input_shape)
    _head(g, spec, TOPOLOGIES[spec.topology].build(g, spec))
    return g.build()


def _check_size(spec: ArchSpec, input_shape: Shape) -> None:
    _, h, w, _ = input_shape
    if 2 * h % spec.size_multiple or 2 * w % spec.size_multiple:
        gene = "scale" if spec.topology == "flat" else "levels"
        raise SpecError(
            f"Gene {gene}, {getattr(spec, gene)}, needs output sizes that are multiples of {spec.size_multiple}, got "
            f"{2 * h}×{2 * w}; choose another size, or a smaller {gene}."
        )


def _stem(g: GraphBuilder, spec: ArchSpec, x: str, stride: int = 1) -> str:
    x = conv(g, "stem1", x, Conv(spec.width, spec.stem_kernel, stride=stride), spec.stem_activation)
    return x if spec.stem_depth == 1 else conv(g, "stem2", x, Conv(spec.width, 3), spec.activation)


def flat(g: GraphBuilder, spec: ArchSpec) -> str:
    """One scale, below R/2 or at it."""
    halvings = spec.scale.bit_length() - 2  # from R/2
    strided = spec.downsampler == "strided" and halvings > 0
    x = _stem(g, spec, INPUT, stride=2 if strided else 1)
    for index in range(1 + strided, 1 + halvings):
        x = downsample(g, spec, f"down{index}", x, spec.width)
    x = body(g, spec, x, spec.width)
    for index in range(1, 1 + halvings):
        x = _up_again(g, spec, "up" if index == 1 else f"up{index}", x)
    return x


def _up_again(g: GraphBuilder, spec: ArchSpec, name: str, x: str) -> str:
    """Double a flat body as CSANet does: linearly, nothing being learned before or behind."""
    if spec.body_upsampler == "transposed":
        return g.add(name, TransposeConv(spec.width, spec.up_kernel, use_bias=False), x)
    if spec.body_upsampler == "bilinear":
        return g.add(name, Resize(), x)
    return g.add(f"{name}.shuffle", DepthToSpace(2), g.add(name, Conv(4 * spec.width, 3), x))


def unet(g: GraphBuilder, spec: ArchSpec) -> str:
    """Levels down, the body on the lowest, levels up."""
    levels = _down(g, spec, "", _stem(g, spec, INPUT), spec.levels)
    levels[-1] = body(g, spec, levels[-1], g.channels(levels[-1]))
    return _up(g, spec, "", levels)


def _down(g: GraphBuilder, spec: ArchSpec, path: str, x: str, halvings: int) -> list[str]:
    """Return the map of each level, the first being `x`."""
    levels = [x]
    for index in range(1, halvings + 1):
        width = _level_width(spec, index, halvings)
        widest = g.channels(levels[-1])
        x = downsample(g, spec, f"{path}down{index}", levels[-1], widest if spec.encoder_depth else width)
        levels.append(_level_convs(g, spec, f"{path}enc{index}", x, width, spec.encoder_depth))
    return levels


def _level_width(spec: ArchSpec, index: int, lowest: int) -> int:
    """Return a level's channels: twice as many on each, the lowest as its gene says."""
    doublings = index if index < lowest or spec.bottleneck_widening == 2 else index - 1
    return min(spec.width << doublings, max(WIDEST_LEVEL, spec.width))


def _level_convs(g: GraphBuilder, spec: ArchSpec, name: str, x: str, width: int, number: int) -> str:
    for index in range(1, number + 1):
        x = inner_conv(g, spec, f"{name}.conv{index}", x, Conv(width, 3), spec.activation)
    return x


def _up(g: GraphBuilder, spec: ArchSpec, path: str, levels: list[str]) -> str:
    """Come up from the last level to the first, joining what each had on the way down."""
    x = levels[-1]
    for index in reversed(range(len(levels) - 1)):
        width = g.channels(levels[index])
        x = upsample(g, spec, f"{path}up{index + 1}", x, width)
        kind = spec.skip if spec.skip_reach == "all" or index == 0 else "none"
        x = join(g, f"{path}join{index + 1}", kind, x, levels[index])
        x = _level_convs(g, spec, f"{path}dec{index + 1}", x, width, spec.decoder_depth)
    return x


def two_path(g: GraphBuilder, spec: ArchSpec) -> str:
    """NOAHTCV's split: what 2×2 averages tell is colour, what they do not is texture."""
    low = g.add("low", Pool("average"), INPUT)
    fine = g.add("texture", Subtract(), INPUT, g.add("low.up", Resize(), low))
    colour = _colour(g, spec, low)
    texture = body(g, spec, _stem(g, spec, fine), spec.width)
    return g.add("fuse", Concat(), colour, texture)


def _colour(g: GraphBuilder, spec: ArchSpec, low: str) -> str:
    """A U-Net from R/4, brought back to R/2."""
    first = inner_conv(g, spec, "colour.enc0.conv1", low, Conv(spec.width, 3), spec.activation)
    x = _up(g, spec, "colour.", _down(g, spec, "colour.", first, spec.levels - 1))
    return upsample(g, spec, "colour.up", x, spec.width)


def _head(g: GraphBuilder, spec: ArchSpec, x: str) -> str:
    """From R/2 to RGB at R. Every node of it has a name that starts with "head", "shuffle", "rgb" or "input"."""
    if not spec.refine_width:
        x = _head_convs(g, spec, x)
        return _to_full(g, spec, x, RGB, kernel=spec.output_kernel, activation=spec.output_activation)
    activation = spec.activation if spec.head_activation == "body" else "none"
    x = _to_full(g, spec, x, spec.refine_width, kernel=3, activation=activation)
    x = conv(g, "rgb", _head_convs(g, spec, x), Conv(RGB, spec.output_kernel))
    return activate(g, "rgb", _add_input(g, spec, x), spec.output_activation)


def _head_convs(g: GraphBuilder, spec: ArchSpec, x: str) -> str:
    channels = spec.refine_width or spec.width
    for index in range(1, spec.head_depth + 1):
        x = conv(g, f"head.conv{index}", x, Conv(channels, 3), spec.activation)
    return x


def _to_full(g: GraphBuilder, spec: ArchSpec, x: str, channels: int, *, kernel: int, activation: str) -> str:
    """Bring `x` from R/2 to R. The activation stands before a shuffle, as in Smallnet and CSANet."""
    is_output = not spec.refine_width
    if is_output and spec.global_residual != "none":  # the sum is activated, not the network's part of it
        return activate(g, "rgb", _add_input(g, spec, _enlarged(g, spec, x, channels, kernel, "none")), activation)
    return _enlarged(g, spec, x, channels, kernel, activation)


def _enlarged(g: GraphBuilder, spec: ArchSpec, x: str, channels: int, kernel: int, activation: str) -> str:
    if spec.output_upsampler == "transposed":
        op = TransposeConv(channels, spec.up_kernel)
        return (
            inner_conv(g, spec, "head", x, op, activation) if spec.refine_width else conv(g, "head", x, op, activation)
        )
    if spec.output_upsampler == "bilinear":
        return g.add("head.up", Resize(), conv(g, "head", x, Conv(channels, kernel), activation))
    return g.add("shuffle", DepthToSpace(2), conv(g, "head", x, Conv(4 * channels, kernel), activation))


def _add_input(g: GraphBuilder, spec: ArchSpec, x: str) -> str:
    """Add the mosaic itself, brought to RGB by one linear layer, so that the network learns the difference."""
    if spec.global_residual == "none":
        return x
    if spec.global_residual == "transposed":
        direct = g.add("input.up", TransposeConv(RGB, spec.up_kernel), INPUT)
    elif spec.global_residual == "bilinear":
        direct = g.add("input.up", Resize(), g.add("input.rgb", Conv(RGB, 1), INPUT))
    else:
        direct = g.add("input.shuffle", DepthToSpace(2), g.add("input.rgb", Conv(4 * RGB, 3), INPUT))
    return g.add("rgb.add", Add(), x, direct)
