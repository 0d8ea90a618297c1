"""Image quality: PSNR, SSIM and MS-SSIM per image, as the challenge and TensorFlow define them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity", §III-B and C:
# an 11×11 Gaussian window of σ = 1.5, K1 = 0.01, K2 = 0.03. The same constants are the defaults of tf.image.ssim.
WINDOW = 11
SIGMA = 1.5
K1, K2 = 0.01, 0.03
# A pixel-exact image has an infinite PSNR, which no mean survives; 100 dB is far beyond any 8-bit target.
MAX_PSNR_DB = 100.0
# Wang, Simoncelli and Bovik 2003, "Multi-scale structural similarity for image quality assessment", §3.2: the weight of
# each scale, the finest first. The same are the defaults of tf.image.ssim_multiscale.
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def psnr_db(predicted: Float[Array, "n h w c"], target: Float[Array, "n h w c"]) -> Float[Array, " n"]:
    """Return each image's PSNR in dB for targets in [0, 1]; the prediction is clipped, not rounded."""
    mse = jnp.mean((jnp.clip(predicted, 0, 1) - target) ** 2, axis=(1, 2, 3))
    return -10 * jnp.log10(jnp.maximum(mse, 10 ** (-MAX_PSNR_DB / 10)))


def ssim(predicted: Float[Array, "n h w c"], target: Float[Array, "n h w c"]) -> Float[Array, " n"]:
    """Return each image's SSIM for a range of 1, the mean over channels and fully covered windows.

    Images must be at least 11 pixels high and wide. Source: Wang et al. 2004, equation 13; agrees with
    `tf.image.ssim` to 1e-5 (tests/train/test_metrics.py).
    """
    luminance, contrast = _similarity(predicted, target)
    return jnp.mean(luminance * contrast, axis=(1, 2, 3))


def ms_ssim(
    predicted: Float[Array, "n h w c"], target: Float[Array, "n h w c"], *, least_contrast: float = 0.0
) -> Float[Array, " n"]:
    """Return each image's MS-SSIM for a range of 1, the mean over channels.

    A channel's value is Π contrast_i^weight_i over the scales, luminance · contrast standing for the contrast of the
    coarsest; each scale halves the one before by 2×2 means, an odd side being mirrored by one pixel first. Images from
    161 pixels on have five scales, as in `tf.image.ssim_multiscale`, with which this agrees to 1e-4
    (tests/train/test_metrics.py). Smaller ones have as many as leave room for the window of 11, four from 81 pixels,
    three from 41, two from 21, one from 11, and the weights of these are divided by their sum.

    A mean contrast may be negative, where powers are not defined: below `least_contrast` it counts as that much. With
    zero, the default and TensorFlow's choice, one such scale makes the channel zero and leaves it without a gradient;
    above zero the other scales keep theirs. Gradients are finite always.
    Source: Wang, Simoncelli and Bovik 2003, equation 7.
    """
    scales = scale_count(min(predicted.shape[1:3]))
    weights = SCALE_WEIGHTS[:scales]
    value = jnp.ones((), predicted.dtype)
    for scale, weight in enumerate(weights, start=1):
        luminance, contrast = _similarity(predicted, target)
        term = jnp.mean(luminance * contrast if scale == scales else contrast, axis=(1, 2))
        value = value * _power(term, weight / sum(weights), least_contrast)
        if scale < scales:
            predicted, target = _halve(predicted), _halve(target)
    return jnp.mean(value, axis=1)


def scale_count(side: int) -> int:
    """Return how many scales of MS-SSIM an image with this shorter side has: one to five."""
    count = 1
    while count < len(SCALE_WEIGHTS) and (side := -(-side // 2)) >= WINDOW:
        count += 1
    return count


def _power(term: Float[Array, "n c"], exponent: float, least: float) -> Float[Array, "n c"]:
    """Return max(term, least)^exponent with a gradient of zero, not of NaN, where the least is taken."""
    taken = term > least
    return jnp.where(taken, jnp.where(taken, term, 1.0) ** exponent, least**exponent)


def _halve(x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c"]:
    _, h, w, _ = x.shape
    if h % 2 or w % 2:
        x = jnp.pad(x, ((0, 0), (0, h % 2), (0, w % 2), (0, 0)), mode="symmetric")
    # Four strided maps: one loop on a CPU, as in `blur`.
    return (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4


def _similarity(
    predicted: Float[Array, "n h w c"], target: Float[Array, "n h w c"]
) -> tuple[Float[Array, "n h2 w2 c"], Float[Array, "n h2 w2 c"]]:
    """Return luminance, and contrast with structure, at every fully covered window."""
    # Blurred as one map of four times the channels: apart, XLA joins the blurs with what follows into loops that
    # compute the same sums again and again, and on a CPU the gradient takes over ten times as long.
    maps = jnp.concatenate([predicted, target, predicted * target, predicted**2 + target**2], axis=3)
    mean_p, mean_t, mean_product, mean_energy = jnp.split(blur(maps, _WINDOW), 4, axis=3)
    product, energy = mean_p * mean_t, mean_p**2 + mean_t**2
    covariance = mean_product - product
    variance = mean_energy - energy
    return (2 * product + K1**2) / (energy + K1**2), (2 * covariance + K2**2) / (variance + K2**2)


def gaussian(size: int, sigma: float) -> tuple[float, ...]:
    """Return an odd number of weights of a sampled Gaussian, whose sum is one; sigma in pixels."""
    offsets = np.arange(size) - size // 2
    weights = np.exp(-(offsets**2) / (2 * sigma**2))
    return tuple(float(w) for w in weights / weights.sum())


_WINDOW = gaussian(WINDOW, SIGMA)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def blur(x: Float[Array, "n h w c"], weights: tuple[float, ...]) -> Float[Array, "n h2 w2 c"]:
    """Filter with the same weights in both directions, one after the other, where all of them fit.

    Written as sums of shifted maps: XLA makes one loop of it, several times faster on a CPU than a
    convolution with one channel per group. So is its gradient, which would be a sum of padded maps otherwise.
    """
    h, w = (side - len(weights) + 1 for side in x.shape[1:3])
    x = sum((weight * x[:, i : i + h] for i, weight in enumerate(weights)), start=jnp.zeros((), x.dtype))
    return sum((weight * x[:, :, i : i + w] for i, weight in enumerate(weights)), start=jnp.zeros((), x.dtype))


def _blur_backward(weights: tuple[float, ...], _: None, g: Float[Array, "n h2 w2 c"]) -> tuple[Array]:
    reach = len(weights) - 1
    return (blur(jnp.pad(g, ((0, 0), (reach, reach), (reach, reach), (0, 0))), weights[::-1]),)


blur.defvjp(lambda x, weights: (blur(x, weights), None), _blur_backward)
