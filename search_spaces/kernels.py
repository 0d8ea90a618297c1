"""JAX computations that XLA's own operations do slowly on a CPU, each with its plain twin for other backends.

Forward and backward of a batch of 8 on 2 CPU cores take, as shares of the time with `lax` (jaxlib 0.10.2,
benchmarks/cpu_kernels.json): a 5×5 depthwise convolution with dilation 2 about a tenth, a 3×3 transposed convolution
about a sixth. On a GPU the `lax` operations map to cuDNN and stay.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

_LAYOUT = ("NHWC", "HWIO", "NHWC")
# On the 2×2 maps at the bottom of a U-Net rearranging the kernel costs more than the convolution: nine times `lax`
# for 256 → 128 channels, where from 4×4 on it is a half to a sixth of it.
_FEWEST_PIXELS = 16


def depthwise_conv(
    x: Float[Array, "n h w c"], kernel: Float[Array, "k k 1 c"], *, dilation: int
) -> Float[Array, "n h w c"]:
    """Convolve each channel with its own odd-sized kernel, "same" padding."""
    if jax.default_backend() == "cpu":
        return _shifted_depthwise(dilation, x, kernel)
    return lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", rhs_dilation=(dilation, dilation), dimension_numbers=_LAYOUT,
        feature_group_count=x.shape[3],
    )  # fmt: skip


def transpose_conv(
    x: Float[Array, "n h w c"], kernel: Float[Array, "k k f c"], *, stride: int
) -> Float[Array, "n h2 w2 f"]:
    """Return the gradient of a "same" convolution of that stride; kernels are HWOI as in TensorFlow."""
    if jax.default_backend() == "cpu" and x.shape[1] * x.shape[2] >= _FEWEST_PIXELS:
        return _phase_transpose_conv(x, kernel, stride)
    return lax.conv_transpose(x, kernel, (stride, stride), "SAME", dimension_numbers=_LAYOUT, transpose_kernel=True)


def scale_channels(x: Float[Array, "n h w c"], scale: Float[Array, " c"]) -> Float[Array, "n h w c"]:
    """Multiply each channel by its own number."""
    return _scale(x, scale) if jax.default_backend() == "cpu" else x * scale


def add_channels(x: Float[Array, "n h w c"], bias: Float[Array, " c"]) -> Float[Array, "n h w c"]:
    """Add to each channel its own number."""
    return _add(x, bias) if jax.default_backend() == "cpu" else x + bias


def map_mean(x: Float[Array, "n h w c"]) -> Float[Array, "n 1 1 c"]:
    """Return the mean of each channel over the map."""
    return _map_mean(x) if jax.default_backend() == "cpu" else jnp.mean(x, axis=(1, 2), keepdims=True)


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
    """Average rows, then the averages: one running float32 over a Full-HD map is off by 1e-3 after normalisation."""
    n, h, w, c = x.shape
    rows = (jnp.ones((1, w), x.dtype) @ x.reshape(n * h, w, c)).reshape(n, h, c) / w
    return (jnp.ones((1, h), x.dtype) @ rows).reshape(n, 1, 1, c) / h


_map_mean.defvjp(
    lambda x: (_map_mean(x), x.shape),
    lambda shape, g: (jnp.broadcast_to(g / (shape[1] * shape[2]), shape),),
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
    taps = [[_sum_per_channel(_shift(padded, x, i, j, dilation) * g) for j in range(size)] for i in range(size)]
    return _shifted_depthwise(dilation, g, kernel[::-1, ::-1]), jnp.asarray(taps)[:, :, None]


_shifted_depthwise.defvjp(_shifted_forward, _shifted_backward)


def _phase_transpose_conv(x: Array, kernel: Array, stride: int) -> Array:
    """Compute every output phase by an ordinary convolution, then interleave the phases.

    Output pixel s·u + a meets input pixel u + d through tap a + before − s·d, `before` being the "same" padding.
    """
    size, _, filters, _ = kernel.shape
    before = max(size - stride, 0) // 2
    reach = [(a + before - t) // stride for a in range(stride) for t in range(size) if (a + before - t) % stride == 0]
    low, high = min(*reach, 0), max(*reach, 0)
    taps = [[a + before - stride * d for a in range(stride)] for d in range(low, high + 1)]
    phases = _phase_kernel(kernel.transpose(0, 1, 3, 2), taps)
    y = lax.conv_general_dilated(x, phases, (1, 1), ((-low, high), (-low, high)), dimension_numbers=_LAYOUT)
    n, h, w, _ = x.shape
    y = y.reshape(n, h, w, stride, stride, filters).transpose(0, 1, 3, 2, 4, 5)
    return y.reshape(n, h * stride, w * stride, filters)


def _phase_kernel(kernel: Float[Array, "k k c f"], taps: list[list[int]]) -> Float[Array, "d d c phases_f"]:
    size, _, channels, filters = kernel.shape
    # One slot more than the kernel has taps: the zero that every tap outside the kernel points to.
    padded = jnp.pad(kernel, ((0, 1), (0, 1), (0, 0), (0, 0)))
    index = jnp.asarray([[t if 0 <= t < size else size for t in row] for row in taps])
    gathered = padded[index][:, :, index]  # [d, phase, d, phase, c, f]
    reach, stride = index.shape
    return gathered.transpose(0, 2, 4, 1, 3, 5).reshape(reach, reach, channels, stride * stride * filters)
