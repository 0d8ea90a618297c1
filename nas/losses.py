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


def l1(predicted: Float[Array, "n h w c"], target: Float[Array, "n h w c"]) -> Float[Array, ""]:
    """Mean absolute difference."""
    return jnp.mean(jnp.abs(predicted - target))


def charbonnier(predicted: Float[Array, "n h w c"], target: Float[Array, "n h w c"]) -> Float[Array, ""]:
    """Mean of √(d² + ε²): L1 with a round bottom."""
    return jnp.mean(jnp.sqrt((predicted - target) ** 2 + CHARBONNIER_EPSILON**2))


def ssim(predicted: Float[Array, "n h w c"], target: Float[Array, "n h w c"]) -> Float[Array, ""]:
    """One minus the mean SSIM."""
    return 1 - jnp.mean(metrics.ssim(predicted, target))


LOSSES: dict[str, Loss] = {"l1": l1, "charbonnier": charbonnier, "ssim": ssim}


def weighted(
    predicted: Float[Array, "n h w c"], target: Float[Array, "n h w c"], *, weights: Mapping[str, Float[Array, ""]]
) -> Float[Array, ""]:
    """Return Σ weight · loss over the losses named in `weights`."""
    return sum((weight * LOSSES[name](predicted, target) for name, weight in weights.items()), start=jnp.zeros(()))
