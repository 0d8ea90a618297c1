"""Learning rate at each step, one rule per schedule, built from Optax's.

Learning rates are computed once, before training, and handed to the compiled step one by one: a schedule never
recompiles anything.
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float

from nas.train.recipe import Recipe

Rule = Callable[[Recipe, int], optax.Schedule]


def learning_rates(recipe: Recipe) -> Float[np.ndarray, " horizon"]:
    """Return the learning rate of every step; the final one would be that of the step after the last.

    The rate rises in a line over the warm-up, whose last step has the full rate; the schedule takes the steps after it.
    """
    rising = recipe.learning_rate * np.arange(1, recipe.warmup + 1) / max(recipe.warmup, 1)
    steps = recipe.horizon - recipe.warmup
    following = np.asarray(SCHEDULES[recipe.schedule](recipe, steps)(jnp.arange(steps)))
    return np.concatenate([rising, following]).astype(np.float32)


def _cosine(recipe: Recipe, steps: int) -> optax.Schedule:
    share = recipe.final_learning_rate / recipe.learning_rate
    return optax.cosine_decay_schedule(recipe.learning_rate, steps, alpha=share)


def _constant(recipe: Recipe, _: int) -> optax.Schedule:
    rate = recipe.learning_rate
    return lambda step: jnp.full(jnp.shape(step), rate)


def _exponential(recipe: Recipe, steps: int) -> optax.Schedule:
    share = recipe.final_learning_rate / recipe.learning_rate
    return optax.exponential_decay(recipe.learning_rate, steps, share)


def _step(recipe: Recipe, _: int) -> optax.Schedule:
    return optax.exponential_decay(recipe.learning_rate, recipe.drop_every, recipe.drop_factor, staircase=True)


SCHEDULES: dict[str, Rule] = {"cosine": _cosine, "constant": _constant, "exponential": _exponential, "step": _step}
