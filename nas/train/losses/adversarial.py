"""Adversarial loss on texture, by a discriminator trained alongside.

The discriminator sees luminance alone, so colours are not its business, and says how sure it is that a picture is real.
One training step minimises `generator_loss` over the network's parameters and `discriminator_loss` over its own.

Source: Ignatov et al. 2017, "DSLR-quality photos on mobile devices", arXiv 1704.02470 §3.1.2, and its public code
(aiff22/DPED, models.py and train_model.py); team EdS trained with the same losses (arXiv 2105.07809 §4.9, by way of
de Stoutz et al. 2018). Theirs are the layers, the leaky rectifier before the normalisation, its slope and ε, the first
biases, and the luminance. Ours are five choices:

- Kernels start as in He et al. 2015 (arXiv 1502.01852), DPED's from a deviation of 0.01 throughout. From there, at
  DPED's own rate of 5e-4 but with batches of eight patches of 32 pixels, the discriminator died: after 60 steps of Adam
  it still answered sharp and blurred noise alike, from two seeds of two; from He's it told all apart after 20, from
  three of three.
- One output, the difference of DPED's two: a softmax of two is the sigmoid of their difference.
- A network that maximises log D, as in DPED's text. Its code minimises log(1 − D) instead, whose gradient vanishes just
  while the discriminator wins (Goodfellow et al. 2014, arXiv 1406.2661 §3).
- Means over the pictures, where DPED sums: its weight of 1 on batches of 50 is one of 50 here.
- Every picture of a batch is shown, once real and once made, where DPED tosses a coin for each.

Normalisation is over each map of each picture (instance norm, as in the code; the text says batch norm). It needs no
running statistics: the discriminator is only ever used on the batch it trains on, never afterwards, and a picture's
logit does not depend on which others share its batch.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax, nn
from jaxtyping import Array, Float

from nas.train.registry import LOSSES
from search_spaces import jax_ops
from search_spaces.errors import UsageError

Parameters = Mapping[str, Float[Array, "..."]]

# Filters, kernel side and stride of the convolutions; all but the first are normalised.
_CONVOLUTIONS = ((48, 11, 4), (128, 5, 2), (192, 3, 1), (192, 3, 1), (128, 3, 2))
_TOTAL_STRIDE = 16
_HIDDEN = 1024
_LEAKY_SLOPE = 0.2
_EPSILON = 1e-3
# ITU-R BT.601, to the digits of `tf.image.rgb_to_grayscale`.
_LUMINANCE = (0.2989, 0.5870, 0.1140)
_START = {"bias": 0.01, "gamma": 1.0, "beta": 0.0}
LEAST_PATCH = LOSSES["texture"].least_patch


def require_patch(patch: int) -> None:
    """Raise UsageError where the discriminator would see too little of a patch of that side, in pixels."""
    if patch < LEAST_PATCH:
        raise UsageError(
            f"The texture loss needs patches of at least {LEAST_PATCH} pixels, got {patch}; choose larger patches."
        )


def init_discriminator(seed: int, *, patch: int) -> dict[str, Float[np.ndarray, "..."]]:
    """Return the initial parameters for pictures of `patch`×`patch` pixels, drawn by NumPy: a function of the seed.

    Raises UsageError where the patch is too small.
    """
    require_patch(patch)
    return {name: _initial_value(name, shape, seed) for name, shape in parameter_shapes(patch).items()}


def parameter_shapes(patch: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the discriminator's parameters for patches of that side, in pixels."""
    shapes: dict[str, tuple[int, ...]] = {}
    channels = 1
    for i, (filters, side, _) in enumerate(_CONVOLUTIONS, 1):
        shapes |= {f"conv{i}/kernel": (side, side, channels, filters), f"conv{i}/bias": (filters,)}
        if i > 1:
            shapes |= {f"conv{i}/gamma": (filters,), f"conv{i}/beta": (filters,)}
        channels = filters
    flat = channels * (-(-patch // _TOTAL_STRIDE)) ** 2
    shapes |= {"dense/kernel": (flat, _HIDDEN), "dense/bias": (_HIDDEN,)}
    return shapes | {"output/kernel": (_HIDDEN, 1), "output/bias": (1,)}


def _initial_value(name: str, shape: tuple[int, ...], seed: int) -> Float[np.ndarray, "..."]:
    kind = name.rpartition("/")[2]
    if kind != "kernel":
        return np.full(shape, _START[kind], np.float32)
    rng = np.random.default_rng([seed, *f"discriminator/{name}".encode()])
    value: np.ndarray[Any, Any] = rng.standard_normal(shape) * np.sqrt(2 / math.prod(shape[:-1]))
    return value.astype(np.float32)


def logits(parameters: Parameters, rgb: Float[Array, "n h w 3"]) -> Float[Array, " n"]:
    """Return how sure the discriminator is that each picture is real: the logit of a probability.

    The side of the pictures must be the patch for which the parameters were made; their channels lie in [0, 1].
    """
    x = rgb @ jnp.asarray(_LUMINANCE, rgb.dtype)[:, None]
    for i, (_, _, stride) in enumerate(_CONVOLUTIONS, 1):
        x = nn.leaky_relu(_conv(parameters, f"conv{i}", x, stride), _LEAKY_SLOPE)
        if i > 1:
            x = _instance_norm(parameters, f"conv{i}", x)
    x = nn.leaky_relu(_dense(parameters, "dense", x.reshape(x.shape[0], -1)), _LEAKY_SLOPE)
    return _dense(parameters, "output", x)[:, 0]


def generator_loss(parameters: Parameters, predicted: Float[Array, "n h w 3"]) -> Float[Array, ""]:
    """Return what the network minimises, the mean of −log D: how far its pictures are from being taken for real."""
    return jnp.mean(nn.softplus(-logits(parameters, predicted)))


def discriminator_loss(
    parameters: Parameters, predicted: Float[Array, "n h w 3"], target: Float[Array, "n h w 3"]
) -> Float[Array, ""]:
    """Return what the discriminator minimises: the binary cross-entropy over all pictures, half of them real.

    It is log 2 for one that cannot tell. No gradient reaches the prediction.
    """
    # Apart and not as one batch: where the network's step is compiled with this one, XLA finds that both need the
    # logits of the prediction and computes them once.
    made = logits(parameters, lax.stop_gradient(predicted))
    real = logits(parameters, target)
    return (jnp.mean(nn.softplus(made)) + jnp.mean(nn.softplus(-real))) / 2


def _conv(parameters: Parameters, name: str, x: Float[Array, "n h w c"], stride: int) -> Float[Array, "n h2 w2 f"]:
    y = lax.conv_general_dilated(
        x, parameters[f"{name}/kernel"], (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return jax_ops.add_channels(y, parameters[f"{name}/bias"])


def _instance_norm(parameters: Parameters, name: str, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
    return jax_ops.instance_norm(x, parameters[f"{name}/gamma"], parameters[f"{name}/beta"], _EPSILON)


def _dense(parameters: Parameters, name: str, x: Float[Array, "n k"]) -> Float[Array, "n f"]:
    return x @ parameters[f"{name}/kernel"] + parameters[f"{name}/bias"]
