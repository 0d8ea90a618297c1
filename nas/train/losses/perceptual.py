"""Perceptual loss: distance of two pictures in features of VGG-19.

Source of the network: Simonyan and Zisserman 2015, arXiv 1409.1556, table 1, column E.
"""

from collections.abc import Mapping

import jax.numpy as jnp
from jax import lax, nn
from jaxtyping import Array, Float

from nas.train.losses.vgg_weights import CONTENT_LAYER, convolutions
from search_spaces import jax_ops
from search_spaces.errors import UsageError

Weights = Mapping[str, Float[Array, "..."]]

# Means of ImageNet's blue, green and red, which `keras.applications.vgg19.preprocess_input` subtracts from 0 … 255.
_MEAN_BGR = (103.939, 116.779, 123.68)


def least_patch(layer: str = CONTENT_LAYER) -> int:
    """Return the smallest side of a picture, in pixels, of which a layer has anything to say: 16 behind four pools.

    Raises UnknownNameError for a layer that VGG-19 does not have.
    """
    pools = sum(_starts_block(name) for name in convolutions(layer))
    return int(2**pools)


def require_patch(patch: int, *, layer: str = CONTENT_LAYER) -> None:
    """Raise UsageError where nothing of a patch of that side, in pixels, is left at a layer."""
    if patch < least_patch(layer):
        raise UsageError(
            f"The layer {layer} of VGG-19 needs patches of at least {least_patch(layer)} pixels, got {patch}; "
            "choose larger patches or a shallower layer."
        )


def features(
    weights: Weights, rgb: Float[Array, "n h w 3"], *, layer: str = CONTENT_LAYER
) -> Float[Array, "n _ _ features"]:
    """Return what a layer makes of RGB in [0, 1], which is not clipped.

    Pictures become BGR of 0 … 255 less ImageNet's means first, as in `keras.applications.vgg19.preprocess_input`. An
    odd row or column is left out by the next pool, as in Keras. Raises UsageError for pictures that are too small.
    """
    require_patch(min(rgb.shape[1:3]), layer=layer)
    x = 255 * rgb[..., ::-1] - jnp.asarray(_MEAN_BGR, rgb.dtype)
    for name in convolutions(layer):
        if _starts_block(name):
            x = _halve(x)
        kernel, bias = (weights[f"{name}/{kind}"].astype(x.dtype) for kind in ("kernel", "bias"))
        x = lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        x = nn.relu(x + bias)
    return x


def perceptual(
    predicted: Float[Array, "n h w 3"],
    target: Float[Array, "n h w 3"],
    *,
    weights: Weights,
    layer: str = CONTENT_LAYER,
) -> Float[Array, ""]:
    """Mean squared difference of features, at the scale at which Keras's weights make them.

    That is DPED's content loss, so the weights of its recipe hold. SRGAN divides features by 12.75: a weight on its
    loss is 1/162.6 of that here. Raises UsageError for pictures too small for the layer.
    Source: Johnson et al. 2016, arXiv 1603.08155, equation 2; Ignatov et al. 2017, arXiv 1704.02470 §3.1.3.
    """
    difference = features(weights, predicted, layer=layer) - features(weights, target, layer=layer)
    return jnp.mean(difference**2)


def _starts_block(name: str) -> bool:
    return name.endswith("conv1") and name != "block1_conv1"


def _halve(x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c"]:
    _, h, w, _ = x.shape
    return jax_ops.pool(x[:, : h // 2 * 2, : w // 2 * 2], function="max")
