"""Learning rate at each step, one rule per schedule, built from Optax's.

A new rule is a function here and an entry in `nas.train.registry` that names it. Learning rates are computed
once, before training, and handed to the compiled step one by one: a schedule never recompiles anything.
"""

import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float

from nas.train.recipe import Recipe
from nas.train.registry import SCHEDULES


def learning_rates(recipe: Recipe) -> Float[np.ndarray, " horizon"]:
    """Return the learning rate of every step; the final one would be that of the step after the last.

    The rate rises in a line over the warm-up, whose last step has the full rate; the schedule takes the steps after it.
    """
    rising = recipe.peak_rate * np.arange(1, recipe.warmup + 1) / max(recipe.warmup, 1)
    steps = recipe.total_steps - recipe.warmup
    following = np.asarray(SCHEDULES[recipe.schedule].build(recipe, steps)(jnp.arange(steps)))
    return np.concatenate([rising, following]).astype(np.float32)


def cosine(recipe: Recipe, steps: int) -> optax.Schedule:
    """Half a cosine."""
    share = recipe.final_learning_rate / recipe.learning_rate
    return optax.cosine_decay_schedule(recipe.peak_rate, steps, alpha=share)


def constant(recipe: Recipe, _: int) -> optax.Schedule:
    """One rate throughout."""
    rate = recipe.peak_rate
    return lambda steps: jnp.full(jnp.shape(steps), rate)


def exponential(recipe: Recipe, steps: int) -> optax.Schedule:
    """The same factor at every step."""
    share = recipe.final_learning_rate / recipe.learning_rate
    return optax.exponential_decay(recipe.peak_rate, steps, share)


def step(recipe: Recipe, _: int) -> optax.Schedule:
    """Drops by a factor every so many steps."""
    return optax.exponential_decay(recipe.peak_rate, recipe.drop_every, recipe.drop_factor, staircase=True)
