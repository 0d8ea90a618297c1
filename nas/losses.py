"""What training minimises: each loss by name, and their weighted sum.

A new loss is one function and one line in `LOSSES`. Weights are traced, so changing them never recompiles;
which losses take part does.
"""

from collections.abc import Callable, Mapping

import jax.numpy as jnp
from jaxtyping import Array, Float

from nas import metrics

Loss = Callable[[Float[Array, "n h w c"], Float[Array, "n h w c"]], Float[Array, ""]]

# Charbonnier et al. 1994, "Two deterministic half-quadratic regularization algorithms for computed imaging";
# ε = 1e-3 is the value of Lai et al. 2017 (LapSRN, arXiv 1704.03915 §3.3) that restoration networks took over.
CHARBONNIER_EPSILON = 1e-3
# Girshick 2015, "Fast R-CNN", arXiv 1504.08083, equation 3: the parabola ends at a difference of 1, which is also the
# default of TensorFlow's and PyTorch's own. Colours lie in [0, 1], so only what leaves that range meets the straight
# part; inside it this is half the mean squared error.
SMOOTH_L1_DELTA = 1.0
# An untrained network may have a scale whose mean contrast is negative. Counted as this much, that scale teaches
# nothing for the moment while the others go on; counted as zero it would silence them too.
MS_SSIM_LEAST_CONTRAST = 1e-3


def l1(predicted: Float[Array, "n h w c"], target: Float[Array, "n h w c"]) -> Float[Array, ""]:
    """Mean absolute difference."""
    return jnp.mean(jnp.abs(predicted - target))


def charbonnier(predicted: Float[Array, "n h w c"], target: Float[Array, "n h w c"]) -> Float[Array, ""]:
    """Mean of √(d² + ε²): L1 with a round bottom."""
    return jnp.mean(jnp.sqrt((predicted - target) ** 2 + CHARBONNIER_EPSILON**2))


def mse(predicted: Float[Array, "n h w c"], target: Float[Array, "n h w c"]) -> Float[Array, ""]:
    """Mean squared difference."""
    return jnp.mean((predicted - target) ** 2)


def smooth_l1(predicted: Float[Array, "n h w c"], target: Float[Array, "n h w c"]) -> Float[Array, ""]:
    """Mean of d²/2 up to |d| = δ and of δ(|d| − δ/2) beyond: Huber's loss, δ = SMOOTH_L1_DELTA."""
    difference = jnp.abs(predicted - target)
    parabola = jnp.minimum(difference, SMOOTH_L1_DELTA)
    return jnp.mean(parabola**2 / 2 + SMOOTH_L1_DELTA * (difference - parabola))


def ssim(predicted: Float[Array, "n h w c"], target: Float[Array, "n h w c"]) -> Float[Array, ""]:
    """One minus the mean SSIM."""
    return 1 - jnp.mean(metrics.ssim(predicted, target))


def ms_ssim(predicted: Float[Array, "n h w c"], target: Float[Array, "n h w c"]) -> Float[Array, ""]:
    """One minus the mean MS-SSIM; patches below 161 pixels have fewer scales, see `metrics.ms_ssim`."""
    return 1 - jnp.mean(metrics.ms_ssim(predicted, target, least_contrast=MS_SSIM_LEAST_CONTRAST))


LOSSES: dict[str, Loss] = {
    "l1": l1,
    "charbonnier": charbonnier,
    "mse": mse,
    "smooth_l1": smooth_l1,
    "ssim": ssim,
    "ms_ssim": ms_ssim,
}


def weighted(
    predicted: Float[Array, "n h w c"], target: Float[Array, "n h w c"], *, weights: Mapping[str, Float[Array, ""]]
) -> Float[Array, ""]:
    """Return Σ weight · loss over the losses named in `weights`."""
    return sum((weight * LOSSES[name](predicted, target) for name, weight in weights.items()), start=jnp.zeros(()))
