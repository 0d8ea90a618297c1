"""Every loss is zero or nearly so for a perfect answer, and its gradient never leaves the numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import tensorflow as tf
from jax import Array
from jax.test_util import check_grads

from nas.train import metrics
from nas.train.losses import pixel
from nas.train.registry import LOSSES

SHAPE = (2, 16, 16, 3)
# Those that need no network of their own.
ON_PIXELS = {name: loss.compute for name, loss in LOSSES.items() if loss.function}
# The value of a loss where nothing differs.
LEAST = dict.fromkeys(ON_PIXELS, 0.0) | {"charbonnier": pixel.CHARBONNIER_EPSILON}


def images(seed: int) -> Array:
    return jnp.asarray(np.random.default_rng(seed).random(SHAPE), jnp.float32)


# Compiled: every single operation would be compiled apart otherwise.
COMPILED = {name: jax.jit(jax.value_and_grad(loss)) for name, loss in ON_PIXELS.items()}


def value(name: str, predicted: Array, target: Array) -> float:
    return float(COMPILED[name](predicted, target)[0])


every_loss = pytest.mark.parametrize("name", ON_PIXELS)
BLIND = {"tv"}  # looks at the prediction alone
every_comparison = pytest.mark.parametrize("name", [name for name in ON_PIXELS if name not in BLIND])


@every_comparison
def test_nothing_is_better_than_a_perfect_answer(name: str) -> None:
    target = images(0)
    best = value(name, target, target)
    assert best == pytest.approx(LEAST[name], abs=1e-6)
    assert best < value(name, target + 0.01, target) < value(name, images(1), target)


@every_loss
@pytest.mark.parametrize("target", [images(0), jnp.zeros(SHAPE), jnp.ones(SHAPE)], ids=["random", "black", "white"])
@pytest.mark.parametrize("difference", [0.0, 1e-6, 0.5])
def test_gradients_are_finite_even_where_nothing_differs(name: str, target: Array, difference: float) -> None:
    _, gradient = COMPILED[name](target + difference, target)
    assert bool(jnp.isfinite(gradient).all())


@every_loss
def test_a_step_against_the_gradient_helps(name: str) -> None:
    predicted, target = images(1), images(0)
    loss, gradient = COMPILED[name](predicted, target)
    assert value(name, predicted - 0.1 * gradient / jnp.abs(gradient).max(), target) < float(loss)


# In single precision a difference of two losses keeps three digits; the formulas are checked in double.
GRADIENT_SHAPE = (1, 48, 48, 3)  # large enough for three scales of MS-SSIM


@every_loss
@pytest.mark.parametrize("spread", [1.0, 3.0], ids=["inside the range", "far beyond it"])
def test_the_gradient_is_the_slope_of_the_loss(name: str, spread: float) -> None:
    rng = np.random.default_rng(0)
    target, noise = (rng.random(GRADIENT_SHAPE) for _ in range(2))
    predicted = 0.5 + spread * (0.7 * target + 0.3 * noise - 0.5)
    with jax.enable_x64(True):
        true = jnp.asarray(target)
        loss = jax.jit(lambda y: ON_PIXELS[name](y, true))
        # Slopes lie between 1e-4 and 1 here.
        check_grads(loss, (jnp.asarray(predicted),), order=1, modes=("rev",), eps=1e-6, rtol=1e-4, atol=1e-9)


def test_smooth_l1_is_a_parabola_with_straight_ends() -> None:
    target = jnp.zeros(SHAPE)
    for difference, wanted in ((0.5, 0.125), (-0.5, 0.125), (1.0, 0.5), (3.0, 2.5), (-3.0, 2.5)):
        assert float(pixel.smooth_l1(target + difference, target)) == pytest.approx(wanted)


def test_mse_is_the_mean_of_squares() -> None:
    predicted, target = images(1), images(0)
    assert float(pixel.mse(predicted, target)) == pytest.approx(float(np.mean(np.square(predicted - target))), rel=1e-5)


@pytest.mark.parametrize("shape", [(2, 16, 16, 3), (1, 64, 40, 3), (1, 21, 90, 1)], ids=str)
def test_colour_is_the_mse_of_blurred_pictures(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    pictures = rng.random((2, *shape))
    radius = pixel.COLOUR_WINDOW // 2 / pixel.COLOUR_SIGMA
    blurred = scipy.ndimage.gaussian_filter(
        pictures, pixel.COLOUR_SIGMA, axes=(2, 3), mode="constant", truncate=radius, output=np.float64
    )
    wanted = np.mean((blurred[0] - blurred[1]) ** 2)
    loss = pixel.colour(*(jnp.asarray(picture, jnp.float32) for picture in pictures))
    assert float(loss) == pytest.approx(wanted, rel=1e-5)


def test_colour_sees_a_tint_and_overlooks_detail() -> None:
    rows, columns = np.mgrid[:64, :64]
    target = jnp.full((1, 64, 64, 3), 0.5)
    checks = target + jnp.asarray(0.2 * ((rows + columns) % 2 - 0.5), jnp.float32)[None, ..., None]
    tint = target + jnp.asarray([0.1, 0.0, -0.1])
    assert float(pixel.mse(checks, target)) > float(pixel.mse(tint, target))
    assert float(pixel.colour(checks, target)) < 1e-2 * float(pixel.colour(tint, target))
    assert float(pixel.colour(tint, target)) > 0.7 * float(pixel.mse(tint, target))


def test_tv_is_the_mean_squared_step_in_both_directions() -> None:
    picture = jnp.asarray([[[0.0, 1.0], [0.5, 0.0], [0.5, 2.0]], [[0.0, 1.0], [1.5, 0.0], [0.5, 0.0]]])[None]
    down = (0 + 0 + 1 + 0 + 0 + 4) / 6
    right = (0.25 + 1 + 0 + 4 + 2.25 + 1 + 1 + 0) / 8
    assert float(pixel.tv(picture, picture)) == pytest.approx(down + right)


def test_tv_is_the_mean_of_tensorflows_squared_image_gradients() -> None:
    pictures = np.random.default_rng(0).random((3, 20, 33, 3)).astype(np.float32)
    down, right = (gradient.numpy() for gradient in tf.image.image_gradients(tf.constant(pictures)))
    # TensorFlow's gradients are as large as the pictures, with zeros in the last row and column.
    wanted = np.sum(down**2) / (3 * 19 * 33 * 3) + np.sum(right**2) / (3 * 20 * 32 * 3)
    assert float(pixel.tv(jnp.asarray(pictures), jnp.asarray(pictures))) == pytest.approx(wanted, rel=1e-5)


def test_tv_looks_at_the_prediction_alone() -> None:
    predicted = images(1)
    assert float(pixel.tv(predicted, images(0))) == float(pixel.tv(predicted, predicted)) > 0
    assert float(pixel.tv(jnp.full(SHAPE, 0.3), images(0))) == 0
    assert float(pixel.tv(predicted + 0.2, images(0))) == pytest.approx(float(pixel.tv(predicted, images(0))), rel=1e-4)


def test_ms_ssim_is_one_minus_the_metric_where_contrasts_are_above_its_least() -> None:
    target = images(0)
    predicted = 0.8 * target + 0.2 * images(1)
    wanted = 1 - float(metrics.ms_ssim(predicted, target).mean())
    assert float(pixel.ms_ssim(predicted, target)) == pytest.approx(wanted, abs=1e-6)


def test_a_scale_of_negative_contrast_does_not_silence_the_others() -> None:
    """Fine detail is the negative of the target's, the rest is right: the metric gives up, the loss does not."""
    rows, columns = np.mgrid[:64, :64]
    checks = 0.2 * ((rows + columns) % 2 - 0.5)[None, ..., None]
    waves = 0.5 + 0.2 * np.sin(rows / 6)[None, ..., None] * np.ones(3)
    target, predicted = jnp.asarray(waves + checks, jnp.float32), jnp.asarray(0.8 * waves - checks, jnp.float32)
    assert float(metrics.ms_ssim(predicted, target)[0]) == 0
    loss, gradient = COMPILED["ms_ssim"](predicted, target)
    assert 0 < float(loss) < 1
    assert bool(jnp.isfinite(gradient).all())
    better, _ = COMPILED["ms_ssim"](predicted - 1e-2 * gradient / jnp.abs(gradient).max(), target)
    assert float(better) < float(loss) - 1e-4


def test_known_values() -> None:
    target = jnp.full(SHAPE, 0.5)
    assert float(pixel.l1(target + 0.25, target)) == pytest.approx(0.25)
    # √(0.75e-3² + 1e-3²) = 1.25e-3
    assert float(pixel.charbonnier(target + 0.75e-3, target)) == pytest.approx(1.25e-3, rel=1e-3)
    predicted = images(1)
    assert float(pixel.ssim(predicted, images(0))) == pytest.approx(
        1 - float(metrics.ssim(predicted, images(0)).mean())
    )
