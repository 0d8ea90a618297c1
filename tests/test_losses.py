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
LEAST = {"l1": 0.0, "charbonnier": losses.CHARBONNIER_EPSILON, "ssim": 0.0}


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
