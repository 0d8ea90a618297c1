"""Faster JAX forms of operations that XLA computes slowly on a CPU, each with its plain twin for other backends.

What each gains over `lax` is in benchmarks/cpu_kernels.json. Convolutions become one matrix product each for value
and gradients: XLA's own gradient of the kernel slides a window as large as the map, and its convolution of a 2×2 map
takes longer than that of an 8×8 one. On a GPU the `lax` operations map to cuDNN and stay.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

_LAYOUT = ("NHWC", "HWIO", "NHWC")
# Up to so many pixels in a batch unfolded maps stay in the cache; beyond, XLA's own convolutions win, but those that
# have so few channels on one side that most of each vector is empty win later. What is unfolded for kernels above 5×5
# would soon take more memory than all maps of a network.
_MOST_UNFOLDED, _MOST_UNFOLDED_NARROW, _MOST_UNFOLDED_WIDE = 2**15, 2**18, 2**12
_NARROW = 8
# From so many pixels on: the U-Net at 4×64, whose lowest maps have 16 pixels in all, takes 19.5 ms so and 23.6 without.
_LEAST_TO_TURN = 64


def conv(x: Float[Array, "n h w c"], kernel: Float[Array, "k k c f"], *, stride: int) -> Float[Array, "n h2 w2 f"]:
    """Convolve with "same" padding."""
    if jax.default_backend() == "cpu" and kernel.shape[0] == stride == 1:
        return _pointwise(x, kernel)
    if jax.default_backend() == "cpu" and _unfolds(x.shape, kernel.shape):
        return _split_conv(x, kernel) if stride == 1 else _strided_conv(x, kernel, stride)
    return lax.conv_general_dilated(x, kernel, (stride, stride), "SAME", dimension_numbers=_LAYOUT)


def _unfolds(map_shape: tuple[int, ...], kernel_shape: tuple[int, ...]) -> bool:
    n, h, w, _ = map_shape
    size, _, *channels = kernel_shape
    most = _MOST_UNFOLDED_NARROW if min(channels) < _NARROW else _MOST_UNFOLDED
    return n * h * w <= (most if size <= 5 else _MOST_UNFOLDED_WIDE)


def depthwise_conv(
    x: Float[Array, "n h w c"], kernel: Float[Array, "k k 1 c"], *, dilation: int
) -> Float[Array, "n h w c"]:
    """Convolve each channel with its own odd-sized kernel, "same" padding."""
    if jax.default_backend() == "cpu":
        return _shifted_depthwise(dilation, x, kernel)
    return lax.conv_general_dilated(
        x,
        kernel,
        (1, 1),
        "SAME",
        rhs_dilation=(dilation, dilation),
        dimension_numbers=_LAYOUT,
        feature_group_count=x.shape[3],
    )


def transpose_conv(
    x: Float[Array, "n h w c"], kernel: Float[Array, "k k f c"], *, stride: int
) -> Float[Array, "n h2 w2 f"]:
    """Return the gradient of a "same" convolution of that stride; kernels are HWOI as in TensorFlow."""
    if jax.default_backend() == "cpu":
        return _transpose_conv(x, kernel, stride)
    return lax.conv_transpose(x, kernel, (stride, stride), "SAME", dimension_numbers=_LAYOUT, transpose_kernel=True)


def materialize(x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
    """Compute a map once and keep it, and so its gradient.

    Left alone, XLA:CPU computes a map again inside everything that reads it, down to the last product: steps of six
    random networks of the space took a tenth longer, and a tenth longer to compile.
    """
    once: Array = lax.optimization_barrier(x) if jax.default_backend() == "cpu" else x
    return once


def scale_channels(x: Float[Array, "n h w c"], scale: Float[Array, " c"]) -> Float[Array, "n h w c"]:
    """Multiply each channel by its own number."""
    return _scale(x, scale) if jax.default_backend() == "cpu" else x * scale


def add_channels(x: Float[Array, "n h w c"], bias: Float[Array, " c"]) -> Float[Array, "n h w c"]:
    """Add to each channel its own number."""
    return _add(x, bias) if jax.default_backend() == "cpu" else x + bias


def map_mean(x: Float[Array, "n h w c"]) -> Float[Array, "n 1 1 c"]:
    """Return the mean of each channel over the map."""
    return _map_mean(x) if jax.default_backend() == "cpu" else jnp.mean(x, axis=(1, 2), keepdims=True)


def gate(x: Float[Array, "n h w c"], factor: Float[Array, "n 1 1 c"]) -> Float[Array, "n h w c"]:
    """Multiply each channel of each image by its own number."""
    return _gate(x, factor) if jax.default_backend() == "cpu" else x * factor


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def instance_norm(
    x: Float[Array, "n h w c"], gamma: Float[Array, " c"], beta: Float[Array, " c"], epsilon: float
) -> Float[Array, "n h w c"]:
    """Give each channel of each image a mean of beta and a deviation of gamma (Ulyanov et al. 2016, arXiv 1607.08022).

    The gradient is written out, with two means over maps where differentiating the steps takes six.
    """
    return _normalised(x, epsilon)[0] * gamma + beta


def _normalised(x: Array, epsilon: float) -> tuple[Array, Array]:
    """Return the map with a mean of 0 and a variance of 1, and what it was multiplied by, [n, 1, 1, c]."""
    centred = x - map_mean(x)
    inverse = lax.rsqrt(map_mean(centred**2) + epsilon)
    return centred * inverse, inverse


def _instance_norm_forward(
    x: Array, gamma: Array, beta: Array, epsilon: float
) -> tuple[Array, tuple[Array, Array, Array]]:
    normalised, inverse = _normalised(x, epsilon)
    return normalised * gamma + beta, (normalised, inverse, gamma)


def _instance_norm_backward(_epsilon: float, saved: tuple[Array, Array, Array], g: Array) -> tuple[Array, Array, Array]:
    normalised, inverse, gamma = saved
    mean, slope = map_mean(g), map_mean(g * normalised)
    positions = g.shape[1] * g.shape[2]
    dx = (g - mean - normalised * slope) * (inverse * gamma)
    return dx, positions * slope.sum((0, 1, 2)), positions * mean.sum((0, 1, 2))


instance_norm.defvjp(_instance_norm_forward, _instance_norm_backward)


def pool(x: Float[Array, "n h w c"], *, function: str) -> Float[Array, "n h/2 w/2 c"]:
    """Return the maximum or the average of every 2×2 pixels.

    By slices: XLA's window reduction has a gradient that scatters, on every backend.
    """
    corners = [x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]
    if function == "average":
        return (corners[0] + corners[1] + corners[2] + corners[3]) / 4
    return jnp.maximum(jnp.maximum(corners[0], corners[1]), jnp.maximum(corners[2], corners[3]))


def enlarge(x: Float[Array, "n h w c"]) -> Float[Array, "n 2*h 2*w c"]:
    """Return the map at twice its size, bilinearly, pixel centres at half-integers and edges repeated."""
    return _enlarge_axis(_enlarge_axis(x, 1), 2)


def _enlarge_axis(x: Array, axis: int) -> Array:
    """Put between x[i−1], x[i] and x[i+1] the points at i − 1/4 and i + 1/4."""
    size = x.shape[axis]
    before = jnp.concatenate([_part(x, axis, 0, 1), _part(x, axis, 0, size - 1)], axis)
    after = jnp.concatenate([_part(x, axis, 1, size), _part(x, axis, size - 1, size)], axis)
    both = jnp.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], axis + 1)
    return both.reshape(*x.shape[:axis], 2 * size, *x.shape[axis + 1 :])


def _part(x: Array, axis: int, start: int, stop: int) -> Array:
    return lax.slice_in_dim(x, start, stop, axis=axis)


@jax.custom_vjp
def _map_mean(x: Array) -> Array:
    """Average columns, then the averages: one running float32 over a Full-HD map is off by 1e-3 after normalisation.

    Columns first, since a product with rows of w·c values keeps the map as it lies in memory.
    """
    n, h, w, c = x.shape
    columns = (jnp.ones((n, 1, h), x.dtype) @ x.reshape(n, h, w * c)).reshape(n, w, c) / h
    return (jnp.ones((n, 1, w), x.dtype) @ columns).reshape(n, 1, 1, c) / w


_map_mean.defvjp(
    lambda x: (_map_mean(x), x.shape),
    lambda shape, g: (jnp.broadcast_to(g / (shape[1] * shape[2]), shape),),
)


@jax.custom_vjp
def _gate(x: Array, factor: Array) -> Array:
    return x * factor


_gate.defvjp(
    lambda x, factor: (x * factor, (x, factor)),
    lambda saved, g: (g * saved[1], _map_mean(g * saved[0]) * (g.shape[1] * g.shape[2])),
)


@jax.custom_vjp
def _scale(x: Array, scale: Array) -> Array:
    return x * scale


@jax.custom_vjp
def _add(x: Array, bias: Array) -> Array:
    return x + bias


def _sum_per_channel(x: Array) -> Array:
    """Sum over everything but the last axis.

    As a product with a row of ones, which runs in Eigen; XLA:CPU's own reduction over leading axes takes about
    four times as long.
    """
    flat = x.reshape(-1, x.shape[-1])
    return jnp.ones(flat.shape[0], x.dtype) @ flat


_scale.defvjp(
    lambda x, scale: (x * scale, (x, scale)),
    lambda saved, g: (g * saved[1], _sum_per_channel(g * saved[0])),
)
_add.defvjp(lambda x, bias: (x + bias, None), lambda _, g: (g, _sum_per_channel(g)))


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _shifted_depthwise(dilation: int, x: Array, kernel: Array) -> Array:
    """Sum shifted copies of the map, one per tap: XLA makes a single loop of it."""
    size = kernel.shape[0]
    taps = [(i, j) for i in range(size) for j in range(size)]
    padded = _pad(x, size, dilation)
    return sum((_shift(padded, x, i, j, dilation) * kernel[i, j, 0] for i, j in taps), start=jnp.zeros((), x.dtype))


def _pad(x: Array, size: int, dilation: int) -> Array:
    reach = (size - 1) * dilation // 2
    return jnp.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)))


def _shift(padded: Array, like: Array, i: int, j: int, dilation: int) -> Array:
    _, h, w, _ = like.shape
    return padded[:, i * dilation : i * dilation + h, j * dilation : j * dilation + w]


def _shifted_forward(dilation: int, x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _shifted_depthwise(dilation, x, kernel), (x, kernel)


def _shifted_backward(dilation: int, saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, kernel = saved
    size = kernel.shape[0]
    padded = _pad(x, size, dilation)

    def of_tap(tap: Array) -> Array:
        start = (0, tap // size * dilation, tap % size * dilation, 0)
        return _sum_per_channel(lax.dynamic_slice(padded, start, x.shape) * g)

    # A loop is compiled once, not once per tap: 0.3 instead of 1.5 s for 5×5 taps, in the same time per step.
    taps = lax.map(of_tap, jnp.arange(size * size))
    return _shifted_depthwise(dilation, g, kernel[::-1, ::-1]), taps.reshape(kernel.shape)


_shifted_depthwise.defvjp(_shifted_forward, _shifted_backward)


def _pointwise(x: Array, kernel: Array) -> Array:
    return _product(x.reshape(-1, x.shape[3]), kernel[0, 0]).reshape(*x.shape[:3], kernel.shape[3])


@jax.custom_vjp
def _product(x: Float[Array, "p c"], kernel: Float[Array, "c f"]) -> Float[Array, "p f"]:
    return x @ kernel


def _summed_products(x: Float[Array, "p c"], g: Float[Array, "p f"]) -> Float[Array, "c f"]:
    """Return xᵀ·g, a sum over pixels, with the narrower factor in front.

    Eigen packs the factor in front once for each strip of the other: 4096×512 and 4096×64 take 7.6 ms in one order and
    2.6 ms in the other. The barrier keeps XLA from putting them back as they were. Over few pixels, turning the sums
    back takes longer than the product.
    """
    over_pixels = (((0,), (0,)), ((), ()))
    if x.shape[0] < _LEAST_TO_TURN:
        sums: Array = lax.dot_general(x, g, over_pixels)
        return sums
    narrow, wide = (x, g) if x.shape[1] <= g.shape[1] else (g, x)
    product: Array = lax.optimization_barrier(lax.dot_general(narrow, wide, over_pixels))
    return product if narrow is x else product.T


_product.defvjp(
    lambda x, kernel: (x @ kernel, (x, kernel)),
    lambda saved, g: (g @ saved[1].T, _summed_products(saved[0], g)),
)


@jax.custom_vjp
def _split_conv(x: Array, kernel: Array) -> Array:
    """Convolve in one product, the columns of each window put side by side before it, the rows summed after it.

    Putting whole windows side by side would move k² times the map; this moves k times the map on either side. The
    gradients are products of the same two unfolded maps.
    """
    n, h, w, _ = x.shape
    size, filters = kernel.shape[0], kernel.shape[3]
    y = (_unfolded(x, 2, _reach(size)) @ _split_kernel(kernel)).reshape(n, h, w, size * filters)
    return _folded(y, 1, _reach(size))


def _split_backward(saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, kernel = saved
    size, _, channels, filters = kernel.shape
    back = [-d for d in _reach(size)]
    rows = _unfolded(g, 1, back)
    dx = (rows @ _split_kernel(kernel).T).reshape(*x.shape[:3], size * channels)
    dk = _summed_products(_unfolded(x, 2, _reach(size)), rows).reshape(size, channels, size, filters)
    return _folded(dx, 2, back), dk.transpose(2, 0, 1, 3)


_split_conv.defvjp(lambda x, kernel: (_split_conv(x, kernel), (x, kernel)), _split_backward)


def _reach(size: int) -> list[int]:
    """Return how far each tap of a "same" convolution of stride 1 looks."""
    return [tap - (size - 1) // 2 for tap in range(size)]


def _split_kernel(kernel: Float[Array, "k k c f"]) -> Float[Array, "kc kf"]:
    size, _, channels, filters = kernel.shape
    return kernel.transpose(1, 2, 0, 3).reshape(size * channels, size * filters)


def _unfolded(x: Float[Array, "n h w c"], axis: int, reach: list[int]) -> Float[Array, "nhw kc"]:
    """Put each pixel's neighbours along an axis behind one another, zeros beyond the edge."""
    return jnp.concatenate([_moved(x, axis, d) for d in reach], 3).reshape(-1, len(reach) * x.shape[3])


def _folded(y: Float[Array, "n h w kf"], axis: int, reach: list[int]) -> Float[Array, "n h w f"]:
    """Sum what the product made of each neighbour."""
    parts = jnp.split(y, len(reach), 3)
    moved = [_moved(part, axis, d) for part, d in zip(parts, reach, strict=True)]
    return sum(moved[1:], start=moved[0])


def _moved(x: Array, axis: int, by: int) -> Array:
    """Return y[p] = x[p + by], zero where that lies outside."""
    size = x.shape[axis]
    if abs(by) >= size:
        return jnp.zeros_like(x)
    padding = [(0, 0, 0)] * 4
    padding[axis] = (-by, by, 0)
    return lax.pad(x, jnp.zeros((), x.dtype), padding) if by else x


def _strided_conv(x: Array, kernel: Array, stride: int) -> Array:
    size, filters = kernel.shape[0], kernel.shape[3]
    windows = _windows(x, size, stride)
    y = _product(windows.reshape(-1, windows.shape[3]), kernel.reshape(-1, filters))
    return y.reshape(*windows.shape[:3], filters)


def _transpose_conv(x: Array, kernel: Array, stride: int) -> Array:
    """Make of each pixel the window that it adds to, and sum the windows where they overlap."""
    n, h, w, channels = x.shape
    windows = _product(x.reshape(-1, channels), kernel.reshape(-1, channels).T).reshape(n, h, w, -1)
    return _sum_of_windows(windows, kernel.shape[0], stride, h * stride, w * stride)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _windows(x: Float[Array, "n h w c"], size: int, stride: int) -> Float[Array, "n h2 w2 kkc"]:
    """Return the window of a "same" convolution around every stride-th pixel."""
    n, h, w, c = x.shape
    (rows, top, bottom), (columns, left, right) = (same_padding(length, size, stride) for length in (h, w))
    padded = jnp.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    last = ((rows - 1) * stride + 1, (columns - 1) * stride + 1)
    taps = [
        lax.slice(padded, (0, i, j, 0), (n, i + last[0], j + last[1], c), (1, stride, stride, 1))
        for i in range(size)
        for j in range(size)
    ]
    return jnp.concatenate(taps, 3)


def same_padding(length: int, size: int, stride: int) -> tuple[int, int, int]:
    """Return the outputs of a "same" convolution along one axis, and the zeros before and after."""
    outputs = -(-length // stride)
    total = max((outputs - 1) * stride + size - length, 0)
    return outputs, total // 2, total - total // 2


@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3, 4))
def _sum_of_windows(
    windows: Float[Array, "n h w kkc"], size: int, stride: int, height: int, width: int
) -> Float[Array, "n height width c"]:
    """Add every window to where `_windows` takes it from: each output phase is a sum of shifted taps."""
    n, h, w, total = windows.shape
    c = total // size**2
    sides = [_phases(length, size, stride) for length in (height, width)]
    phases = [
        _sum_of_taps(
            [(windows[..., (i * size + j) * c :][..., :c], d, e) for i, d in rows for j, e in columns],
            nothing=jnp.zeros_like(windows[..., :c]),
        )
        for rows in sides[0]
        for columns in sides[1]
    ]
    y = jnp.concatenate(phases, 3).reshape(n, h, w, stride, stride, c).transpose(0, 1, 3, 2, 4, 5)
    return y.reshape(n, h * stride, w * stride, c)[:, :height, :width]


def _phases(length: int, size: int, stride: int) -> list[list[tuple[int, int]]]:
    """Return for each phase of the output which taps reach it, and from how many windows away."""
    before = same_padding(length, size, stride)[1]
    return [
        [(tap, (phase + before - tap) // stride) for tap in range(size) if not (phase + before - tap) % stride]
        for phase in range(stride)
    ]


def _sum_of_taps(taps: list[tuple[Array, int, int]], *, nothing: Array) -> Array:
    moved = [_moved(_moved(tap, 1, rows), 2, columns) for tap, rows, columns in taps]
    return sum(moved[1:], start=moved[0]) if moved else nothing


_windows.defvjp(
    lambda x, size, stride: (_windows(x, size, stride), x.shape),
    lambda size, stride, shape, g: (_sum_of_windows(g, size, stride, shape[1], shape[2]),),
)
_sum_of_windows.defvjp(
    lambda windows, size, stride, height, width: (_sum_of_windows(windows, size, stride, height, width), None),
    lambda size, stride, _height, _width, _, g: (_windows(g, size, stride),),
)
