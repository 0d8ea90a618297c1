"""How good a picture is: PSNR and SSIM per image, as the challenge and TensorFlow define them."""

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


def psnr_db(predicted: Float[Array, "n h w c"], target: Float[Array, "n h w c"]) -> Float[Array, " n"]:
    """Return each image's PSNR in dB for targets in [0, 1]; the prediction is clipped, not rounded."""
    mse = jnp.mean((jnp.clip(predicted, 0, 1) - target) ** 2, axis=(1, 2, 3))
    return -10 * jnp.log10(jnp.maximum(mse, 10 ** (-MAX_PSNR_DB / 10)))


def ssim(predicted: Float[Array, "n h w c"], target: Float[Array, "n h w c"]) -> Float[Array, " n"]:
    """Return each image's SSIM for a range of 1, the mean over channels and fully covered windows.

    Images must be at least 11 pixels high and wide. Source: Wang et al. 2004, equation 13; agrees with
    `tf.image.ssim` to 1e-5 (tests/test_metrics.py).
    """
    mean_p, mean_t = _blur(predicted), _blur(target)
    product, energy = mean_p * mean_t, mean_p**2 + mean_t**2
    covariance = _blur(predicted * target) - product
    variance = _blur(predicted**2 + target**2) - energy
    luminance = (2 * product + K1**2) / (energy + K1**2)
    structure = (2 * covariance + K2**2) / (variance + K2**2)
    return jnp.mean(luminance * structure, axis=(1, 2, 3))


def _window() -> list[float]:
    offsets = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-(offsets**2) / (2 * SIGMA**2))
    return [float(w) for w in weights / weights.sum()]


def _blur(x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c"]:
    """Filter with the Gaussian window, one direction after the other, where the window fits.

    Written as sums of shifted maps: XLA makes one loop of it, several times faster on a CPU than a
    convolution with one channel per group.
    """
    h, w = x.shape[1] - WINDOW + 1, x.shape[2] - WINDOW + 1
    weights = _window()
    x = sum((weight * x[:, i : i + h] for i, weight in enumerate(weights)), start=jnp.zeros(()))
    return sum((weight * x[:, :, i : i + w] for i, weight in enumerate(weights)), start=jnp.zeros(()))
