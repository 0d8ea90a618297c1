"""Every loss is zero or nearly so for a perfect answer, and its gradient never leaves the numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from nas import losses, metrics
from nas.losses import LOSSES
from nas.recipe import LOSS_NAMES

SHAPE = (2, 16, 16, 3)
# The value of a loss where nothing differs.
LEAST = dict.fromkeys(LOSSES, 0.0) | {"charbonnier": losses.CHARBONNIER_EPSILON}


def images(seed: int) -> Array:
    return jnp.asarray(np.random.default_rng(seed).random(SHAPE), jnp.float32)


# Compiled: every single operation would be compiled apart otherwise.
COMPILED = {name: jax.jit(jax.value_and_grad(loss)) for name, loss in LOSSES.items()}


def value(name: str, predicted: Array, target: Array) -> float:
    return float(COMPILED[name](predicted, target)[0])


every_loss = pytest.mark.parametrize("name", LOSSES)


def test_a_recipe_knows_exactly_these_losses() -> None:
    assert tuple(LOSSES) == LOSS_NAMES


@every_loss
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
FOUND_IN_DOUBLE = {name: jax.value_and_grad(loss) for name, loss in LOSSES.items()}


@every_loss
@pytest.mark.parametrize("spread", [1.0, 3.0], ids=["inside the range", "far beyond it"])
def test_the_gradient_is_the_slope_of_the_loss(name: str, spread: float) -> None:
    rng = np.random.default_rng(0)
    target, noise, direction = (rng.random(GRADIENT_SHAPE) for _ in range(3))
    predicted = 0.5 + spread * (0.7 * target + 0.3 * noise - 0.5)
    step = 1e-6 * (direction - 0.5)
    with jax.enable_x64(True):
        gradient = jax.jit(FOUND_IN_DOUBLE[name])(predicted, target)[1]
        loss = jax.jit(LOSSES[name])
        slope = (float(loss(predicted + step, target)) - float(loss(predicted - step, target))) / 2
        assert gradient.dtype == np.float64
        assert slope == pytest.approx(float((gradient * step).sum()), rel=1e-4)
    assert abs(slope) > 1e-12


def test_smooth_l1_is_a_parabola_with_straight_ends() -> None:
    target = jnp.zeros(SHAPE)
    for difference, wanted in ((0.5, 0.125), (-0.5, 0.125), (1.0, 0.5), (3.0, 2.5), (-3.0, 2.5)):
        assert float(losses.smooth_l1(target + difference, target)) == pytest.approx(wanted)


def test_mse_is_the_mean_of_squares() -> None:
    predicted, target = images(1), images(0)
    assert float(losses.mse(predicted, target)) == pytest.approx(
        float(np.mean(np.square(predicted - target))), rel=1e-5
    )


def test_ms_ssim_is_one_minus_the_metric_where_contrasts_are_above_its_least() -> None:
    target = images(0)
    predicted = 0.8 * target + 0.2 * images(1)
    wanted = 1 - float(metrics.ms_ssim(predicted, target).mean())
    assert float(losses.ms_ssim(predicted, target)) == pytest.approx(wanted, abs=1e-6)


def test_a_scale_of_negative_contrast_does_not_silence_the_others() -> None:
    """Fine detail is the negative of the target's, the rest is right: the metric gives up, the loss does not."""
    rows, columns = np.mgrid[:64, :64]
    checks = 0.2 * ((rows + columns) % 2 - 0.5)[None, ..., None]
    waves = 0.5 + 0.2 * np.sin(rows / 6)[None, ..., None] * np.ones(3)
    target, predicted = jnp.asarray(waves + checks, jnp.float32), jnp.asarray(0.8 * waves - checks, jnp.float32)
    assert float(metrics.ms_ssim(predicted, target)[0]) == 0
    loss, gradient = jax.value_and_grad(losses.ms_ssim)(predicted, target)
    assert 0 < float(loss) < 1
    assert bool(jnp.isfinite(gradient).all())
    better = losses.ms_ssim(predicted - 1e-2 * gradient / jnp.abs(gradient).max(), target)
    assert float(better) < float(loss) - 1e-4


def test_known_values() -> None:
    target = jnp.full(SHAPE, 0.5)
    assert float(losses.l1(target + 0.25, target)) == pytest.approx(0.25)
    # √(0.75e-3² + 1e-3²) = 1.25e-3
    assert float(losses.charbonnier(target + 0.75e-3, target)) == pytest.approx(1.25e-3, rel=1e-3)
    predicted = images(1)
    assert float(losses.ssim(predicted, images(0))) == pytest.approx(
        1 - float(metrics.ssim(predicted, images(0)).mean())
    )


def test_the_weighted_sum_is_the_sum() -> None:
    predicted, target = images(1), images(0)
    weights = {"l1": jnp.asarray(2.0), "ssim": jnp.asarray(0.5)}
    wanted = 2 * losses.l1(predicted, target) + 0.5 * losses.ssim(predicted, target)
    assert float(losses.weighted(predicted, target, weights=weights)) == pytest.approx(float(wanted), rel=1e-6)
