"""Losses on pixels. Their weighted sum is taken in `nas.train.step`.

A new loss is a function here and an entry in `nas.train.registry` that names it. Weights are traced, so changing
them never recompiles; which losses take part does.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from nas.train import metrics

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
# Ignatov et al. 2017, "DSLR-quality photos on mobile devices", arXiv 1704.02470, equations 1 and 2: a Gaussian of
# amplitude A = 0.053 and σ = 3, in its public code (aiff22/DPED, utils.py) 21 pixels wide. They leave the width open:
# that amplitude gives a sum of one where σ² is 3, and of three where σ is; the code's kernel has a sum of one and a σ
# near 4.7, being made of square roots of a Gaussian. Ours has σ = 3 pixels, between the two, and a sum of one, so that
# a uniform difference keeps its size.
COLOUR_WINDOW = 21
COLOUR_SIGMA = 3.0
_COLOUR_WEIGHTS = metrics.gaussian(COLOUR_WINDOW, COLOUR_SIGMA)


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


def colour(predicted: Float[Array, "n h w c"], target: Float[Array, "n h w c"]) -> Float[Array, ""]:
    """Mean squared difference of the blurred pictures: their colours are compared, their details are not.

    Both are black beyond their edges, as in DPED's public code, so pixels near them count less. A mean, where DPED sums
    over the picture: its weight of 0.5 on half the sum over 100×100×3 values is one of 7500 here.
    Source: Ignatov et al. 2017, arXiv 1704.02470 §3.1.1; see COLOUR_SIGMA.
    """
    reach = COLOUR_WINDOW // 2
    # Blurring is linear, so the difference is blurred once instead of each picture.
    difference = jnp.pad(predicted - target, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
    return jnp.mean(metrics.blur(difference, _COLOUR_WEIGHTS) ** 2)


def tv(predicted: Float[Array, "n h w c"], _: Float[Array, "n h w c"]) -> Float[Array, ""]:
    """Total variation of the prediction, whatever the target: the mean squared step down plus the one to the right.

    The squares are those of DPED, each mean being over its own number of steps as in its public code
    (aiff22/DPED, train_model.py), so its weights hold here; `tf.image.total_variation` sums absolute steps instead.
    Source: Ignatov et al. 2017, arXiv 1704.02470 §3.1.4, equation 6; taken over by de Stoutz et al. 2018.
    """
    return jnp.mean(jnp.diff(predicted, axis=1) ** 2) + jnp.mean(jnp.diff(predicted, axis=2) ** 2)
