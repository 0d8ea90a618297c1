"""One candidate's training: a jitted step in a Python loop, from a checkpoint to a checkpoint.

On a CPU a step inside `lax.scan` took 87 ms where a jitted step called in a loop took 8.5 ms (jaxlib 0.10.2, 2 cores),
so the loop is Python. Learning rate, loss weights and RAW levels are traced: candidates that differ only in these
share one executable, and the persistent cache shares it between processes.
"""

import math
import operator
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, UInt8, UInt16

from nas import losses
from nas.checkpoint import ALONE, JOINT, Arrays, Checkpoint
from nas.data.augment import sample_batch
from nas.data.pairs import PairSet
from nas.data.raw_format import RawFormat
from nas.recipe import Recipe
from search_spaces import lower_flax
from search_spaces.errors import TrainingError, UsageError
from search_spaces.graph import Graph
from search_spaces.supernet import heads

# Progress is looked at this often: a fetch of the loss makes the host wait for the device.
CHECK_EVERY = 10
# A mean loss above this many times the first one does not come back within a rung.
DIVERGED = 3.0

_ADAM = optax.scale_by_adam()
State = tuple[lower_flax.Parameters, Any]
Tick = Callable[[int, float], None]


@dataclass(frozen=True)
class Trained:
    """What a stretch of training came to."""

    checkpoint: Checkpoint
    train_s: float
    compile_s: float


def start(graph: Graph, *, seed: int, spec_hash: str, initialiser: str = "he") -> Checkpoint:
    """Return an untrained state; the initial parameters are a function of seed and initialiser alone.

    A network joined to a super-network starts as it would alone.
    """
    networks = heads(graph)
    parameters: Arrays = {}
    for network in reversed(networks):
        parameters |= lower_flax.init_parameters(network, seed, initialiser=initialiser)
    zeros = {name: np.zeros_like(value) for name, value in parameters.items()}
    return Checkpoint(0, spec_hash, parameters, zeros, dict(zeros), phase=JOINT if len(networks) > 1 else ALONE)


def train(
    graph: Graph,
    checkpoint: Checkpoint,
    pairs: PairSet,
    *,
    recipe: Recipe,
    steps: int,
    seed: int,
    tick: Tick | None = None,
) -> Trained:
    """Train from `checkpoint` until step `steps`; `tick(step, loss)` is called now and then.

    Raises TrainingError where the loss is no number or has diverged, UsageError beyond the recipe's horizon or where
    one of its losses cannot be computed yet.
    """
    if steps > recipe.horizon:
        raise UsageError(
            f"The recipe's learning rate ends at step {recipe.horizon}; training to {steps} needs another."
        )
    recipe.require_available()
    if checkpoint.step >= steps:  # trained before a crash that came before the record
        return Trained(checkpoint, 0.0, 0.0)
    train_s = compile_s = 0.0
    for until in _ends_of_phases(recipe, checkpoint.step, steps):
        trained = _train_phase(graph, checkpoint, pairs, recipe=recipe, steps=until, seed=seed, tick=tick)
        checkpoint = trained.checkpoint
        train_s, compile_s = train_s + trained.train_s, compile_s + trained.compile_s
    return Trained(checkpoint, train_s, compile_s)


def _ends_of_phases(recipe: Recipe, first: int, last: int) -> list[int]:
    return [*(phase.from_step for phase in recipe.phases if first < phase.from_step < last), last]


def _train_phase(
    graph: Graph, checkpoint: Checkpoint, pairs: PairSet, *, recipe: Recipe, steps: int, seed: int, tick: Tick | None
) -> Trained:
    """Train until `steps`, all of them with the losses of the first."""
    present = recipe.during(checkpoint.step)
    step_fn, compile_s = compiled_step(graph, present)
    state = _device_state(checkpoint)
    rates = learning_rates(recipe)
    constants = _constants(present, pairs.format)
    watch = LossWatch(checkpoint.first_loss, checkpoint.loss)
    if checkpoint.step in (checkpoint.detached_step, *(phase.from_step for phase in recipe.phases)):
        watch.expect_another_scale()
    begun = time.perf_counter()
    with ThreadPoolExecutor(1) as reader:
        for step, batch in _batches(reader, pairs, recipe, seed=seed, first=checkpoint.step, last=steps):
            state, loss = step_fn(state, *batch, rates[step], *constants)
            watch.see(step + 1, loss, tick, last=step + 1 == steps)
    parameters, adam = jax.block_until_ready(state)
    train_s = time.perf_counter() - begun
    done = replace(
        checkpoint,
        step=steps,
        parameters=_to_numpy(parameters),
        first_moment=_to_numpy(adam.mu),
        second_moment=_to_numpy(adam.nu),
        first_loss=watch.first,
        loss=watch.latest,
    )
    return Trained(done, train_s, compile_s)


class LossWatch:
    """Keeps the losses on the device between looks, and raises when they leave the road."""

    def __init__(self, first: float, latest: float) -> None:
        self.first = first
        self.latest = latest
        self._waiting: list[Array] = []
        self._rescales = False

    def expect_another_scale(self) -> None:
        """Say that other losses begin: the yardstick changes by as much as the loss does at the change."""
        self._rescales = math.isfinite(self.first) and self.latest > 0

    def see(self, step: int, loss: Array, tick: Tick | None, *, last: bool) -> None:
        """Take one step's loss; every CHECK_EVERY steps and at the end, judge what has gathered."""
        self._waiting.append(loss)
        if step % CHECK_EVERY and not last:
            return
        values = [float(value) for value in self._waiting]
        self._waiting.clear()
        self._judge(step, values)
        if tick:
            tick(step, self.latest)

    def _judge(self, step: int, values: list[float]) -> None:
        before, self.latest = self.latest, sum(values) / len(values)
        if not math.isfinite(self.latest):
            raise TrainingError(f"The loss was not a number by step {step}; a smaller learning rate may help.")
        if math.isinf(self.first):
            self.first = values[0]
        if self._rescales:
            self.first *= self.latest / before
            self._rescales = False
        if self.latest > DIVERGED * self.first:
            raise TrainingError(f"The loss diverged: {self.latest:.3g} at step {step}, {self.first:.3g} at the start.")


def learning_rates(recipe: Recipe) -> Float[np.ndarray, " horizon"]:
    """Return the learning rate of every step; the final one would be that of the step after the last."""
    return np.asarray(SCHEDULES[recipe.schedule](recipe)(jnp.arange(recipe.horizon)), np.float32)


def _cosine(recipe: Recipe) -> optax.Schedule:
    share = recipe.final_learning_rate / recipe.learning_rate
    return optax.cosine_decay_schedule(recipe.learning_rate, recipe.horizon, alpha=share)


def _constant(recipe: Recipe) -> optax.Schedule:
    rate = recipe.learning_rate
    return lambda step: jnp.full(jnp.shape(step), rate)


def _exponential(recipe: Recipe) -> optax.Schedule:
    share = recipe.final_learning_rate / recipe.learning_rate
    return optax.exponential_decay(recipe.learning_rate, recipe.horizon, share)


SCHEDULES: dict[str, Callable[[Recipe], optax.Schedule]] = {
    "cosine": _cosine,
    "constant": _constant,
    "exponential": _exponential,
}


def compiled_step(graph: Graph, recipe: Recipe) -> tuple[Callable[..., tuple[State, Array]], float]:
    """Return the executable of one step and the seconds that compiling, or fetching it from the cache, took."""
    begun = time.perf_counter()
    shapes = _step_shapes(graph, recipe)
    step = jax.jit(partial(_step, graph), donate_argnums=0).lower(*shapes).compile()
    return step, time.perf_counter() - begun


def _step_shapes(graph: Graph, recipe: Recipe) -> tuple[Any, ...]:
    n, half = recipe.batch, recipe.patch // 2
    f32 = partial(jax.ShapeDtypeStruct, dtype=jnp.float32)
    parameters = {name: f32(shape) for name, shape in graph.parameter_shapes.items()}
    adam = jax.eval_shape(_ADAM.init, parameters)
    raw = jax.ShapeDtypeStruct((n, half, half, 4), jnp.uint16)
    rgb = jax.ShapeDtypeStruct((n, recipe.patch, recipe.patch, 3), jnp.uint8)
    weights = {name: f32(()) for name in _active_losses(recipe)}
    return (parameters, adam), raw, rgb, f32(()), weights, f32(()), f32(())


def _step(
    graph: Graph,
    state: State,
    raw: UInt16[Array, "n h w 4"],
    rgb: UInt8[Array, "n h2 w2 3"],
    rate: Float[Array, ""],
    weights: dict[str, Float[Array, ""]],
    black: Float[Array, ""],
    span: Float[Array, ""],
) -> tuple[State, Float[Array, ""]]:
    parameters, adam = state
    x = (raw.astype(jnp.float32) - black) / span
    target = rgb.astype(jnp.float32) / 255

    def objective(p: lower_flax.Parameters) -> Float[Array, ""]:
        outputs = (lower_flax.apply(network, _parameters_of(network, p), x) for network in heads(graph))
        return reduce(operator.add, (losses.weighted(y, target, weights=weights) for y in outputs))

    loss, gradients = jax.value_and_grad(objective)(parameters)
    updates, adam = _ADAM.update(gradients, adam, parameters)
    parameters = optax.apply_updates(parameters, jax.tree.map(lambda u: -rate * u, updates))
    return (parameters, adam), loss


def _parameters_of(graph: Graph, parameters: lower_flax.Parameters) -> lower_flax.Parameters:
    return {name: parameters[name] for name in graph.parameter_shapes}


def _active_losses(recipe: Recipe) -> list[str]:
    return sorted(name for name, weight in recipe.loss.items() if weight > 0)


def _constants(recipe: Recipe, raw: RawFormat) -> tuple[dict[str, np.float32], np.float32, np.float32]:
    weights = {name: np.float32(recipe.loss[name]) for name in _active_losses(recipe)}
    return weights, np.float32(raw.black), np.float32(raw.white_level - raw.black)


def _device_state(checkpoint: Checkpoint) -> State:
    # Arrays are put on the device as they are: any arithmetic here would be compiled for every new shape.
    to_device = partial(jax.tree.map, jnp.asarray)
    adam = optax.ScaleByAdamState(
        count=jnp.asarray(np.int32(checkpoint.step)),
        mu=to_device(checkpoint.first_moment),
        nu=to_device(checkpoint.second_moment),
    )
    return to_device(checkpoint.parameters), adam


def _batches(
    reader: ThreadPoolExecutor, pairs: PairSet, recipe: Recipe, *, seed: int, first: int, last: int
) -> Iterator[tuple[int, tuple[Any, Any]]]:
    """Yield (step, batch), cutting the next batch while the device works on this one."""
    size = {"batch": recipe.batch, "patch": recipe.patch}
    cut = partial(sample_batch, pairs, seed=seed, **size, flip=recipe.flip, rotate=recipe.rotate)
    upcoming = reader.submit(cut, step=first)
    for step in range(first, last):
        batch = upcoming.result()
        if step + 1 < last:
            upcoming = reader.submit(cut, step=step + 1)
        yield step, batch


def _to_numpy(tree: Any) -> Arrays:
    return {name: np.asarray(value) for name, value in tree.items()}
