"""Training loop of one candidate: a compiled step, from a checkpoint to a checkpoint.

On a CPU a step inside `lax.scan` took 87 ms where a jitted step called in a loop took 8.5 ms (jaxlib 0.10.2, 2 cores),
so the loop is Python. What a step computes is in `nas.train.step`; candidates whose steps differ only in what is traced
share one executable, and the persistent cache shares it between processes.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from nas.data.batches import Batches, BatchSpec
from nas.data.pairs import PairSet
from nas.train.checkpoint import ALONE, JOINT, Arrays, Checkpoint
from nas.train.losses import vgg_weights
from nas.train.memory import machine_bytes, training_bytes
from nas.train.recipe import Recipe
from nas.train.schedules import learning_rates
from nas.train.step import TOTAL, Constants, StepPlan, Terms, compiled_step, ready, state_of, stored
from search_spaces import lower_flax
from search_spaces.auxiliary_head import heads
from search_spaces.errors import DivergedError, TooLargeError, UsageError
from search_spaces.graph import Graph
from search_spaces.quantised_maps import QuantisedMaps

# Progress is looked at this often: a fetch of the loss makes the host wait for the device.
CHECK_EVERY = 10
# A mean loss above this many times the first one does not come back within a rung.
DIVERGED = 3.0
# Where training begins with trained weights, losses are so small that a dark first batch, or a mean over few pairs, is
# off by as much: a mean of batches is the yardstick then, and so many looks in a row must be above it, or one above
# three times as much.
LOOKS_TRAINED = 2
# A training that diverged goes on from its last state with this share of the learning rates.
CALMER = 1 / 3

# Called with the step and the losses, means since the last call; the weighted sum is called TOTAL.
Tick = Callable[[int, Mapping[str, float]], None]


@dataclass(frozen=True)
class TrainedStretch:
    """What a stretch of training came to."""

    checkpoint: Checkpoint
    train_s: float
    compile_s: float
    terms: Mapping[str, float]  # losses at the end, as of `Tick`; empty where nothing was left to train
    waited_s: float = 0.0  # of `train_s`, the most that the device can have waited for batches


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


def with_ranges(checkpoint: Checkpoint, quantised: QuantisedMaps) -> Checkpoint:
    """Return a state in which the ranges of an int8 file's maps are trained along with the weights."""
    first = quantised.first_logarithms
    zeros = {name: np.zeros_like(value) for name, value in first.items()}
    return replace(
        checkpoint,
        parameters=checkpoint.parameters | first,
        first_moment=checkpoint.first_moment | zeros,
        second_moment=checkpoint.second_moment | dict(zeros),
    )


def train(
    graph: Graph,
    checkpoint: Checkpoint,
    pairs: PairSet,
    *,
    recipe: Recipe,
    steps: int,
    seed: int,
    tick: Tick | None = None,
    vgg_file: Path | None = None,
    quantised: QuantisedMaps | None = None,
    begins_trained: bool = False,
) -> TrainedStretch:
    """Train from `checkpoint` until step `steps`; `tick(step, losses)` is called now and then.

    `vgg_file` holds the weights of VGG-19 where its loss takes part; None: Keras's own copy. With `quantised` weights
    and maps are rounded as in an int8 file, and the checkpoint holds the ranges, too (`with_ranges`). `begins_trained`
    where the run began with weights that were trained before, of which a loss tells less.

    Where the loss is no number or diverges, training begins once more from `checkpoint` with CALMER of the learning
    rates, which the checkpoint that comes of it tells and keeps to.

    Raises DivergedError where that does not help, TrainingError where memory runs out; UsageError beyond the recipe's
    total_steps or without VGG-19.
    """
    if steps > recipe.total_steps:
        raise UsageError(
            f"The recipe's learning rate ends at step {recipe.total_steps}; training to {steps} needs another."
        )
    if checkpoint.step >= steps:  # trained before a crash that came before the record
        return TrainedStretch(checkpoint, 0.0, 0.0, {})
    course = _Course(graph, pairs, recipe, seed, tick, vgg_file, quantised, begins_trained)
    try:
        return course.trained(checkpoint, steps)
    except DivergedError:
        if checkpoint.rate_share < 1:
            raise
    try:
        return course.trained(replace(checkpoint, rate_share=CALMER), steps)
    except DivergedError as error:
        raise DivergedError(f"{error} So it did at {CALMER:.2g} of the rate.") from None


@dataclass(frozen=True)
class _Course:
    """All of a training but the state that it begins with and where it ends; the fields are `train`'s."""

    graph: Graph
    pairs: PairSet
    recipe: Recipe
    seed: int
    tick: Tick | None
    vgg_file: Path | None
    quantised: QuantisedMaps | None
    begins_trained: bool

    def trained(self, checkpoint: Checkpoint, steps: int) -> TrainedStretch:
        """Train until `steps`, one phase of the recipe after the other."""
        train_s = compile_s = waited_s = 0.0
        for until in _ends_of_phases(self.recipe, checkpoint.step, steps):
            with _told_when_out_of_memory(self.graph, self.recipe):
                part = self._phase(checkpoint, until)
            checkpoint = part.checkpoint
            train_s, compile_s = train_s + part.train_s, compile_s + part.compile_s
            waited_s += part.waited_s
        return TrainedStretch(checkpoint, train_s, compile_s, part.terms, waited_s)

    def _phase(self, checkpoint: Checkpoint, steps: int) -> TrainedStretch:
        """Train until `steps`, all of them with the losses of the first."""
        present = self.recipe.during(checkpoint.step)
        plan = StepPlan.of(present, self.quantised)
        features = vgg_weights.needed(present, self.vgg_file) if present.uses("vgg") else {}
        constants = Constants.of(present, self.pairs.format, features)
        step_fn, compile_s = compiled_step(self.graph, plan)
        checkpoint = ready(self.graph, checkpoint, plan, seed=self.seed)
        state = state_of(self.graph, checkpoint, plan)
        rates = np.float32(checkpoint.rate_share) * learning_rates(self.recipe)
        watch = self._watch(checkpoint, present)
        cut = BatchSpec(self.recipe.batch, self.recipe.patch, self.recipe.flip, self.recipe.rotate)
        begun = time.perf_counter()
        with Batches(self.pairs, cut, seed=self.seed, first=checkpoint.step, last=steps) as batches:
            for step, batch in batches:
                state, terms = step_fn(state, *batch, rates[step], constants)
                watch.see(step + 1, terms, self.tick, last=step + 1 == steps)
        state = jax.block_until_ready(state)
        train_s = time.perf_counter() - begun
        done = stored(self.graph, plan, checkpoint, state, step=steps)
        done = replace(done, first_loss=watch.first, loss=watch.latest)
        return TrainedStretch(done, train_s, compile_s, watch.terms, batches.waited_s)

    def _watch(self, checkpoint: Checkpoint, present: Recipe) -> "LossWatch":
        """Return who watches the losses of a phase, which are of another scale where it is not the one before it."""
        watch = LossWatch(
            checkpoint.first_loss,
            checkpoint.loss,
            adversarial=present.loss.get("texture", 0.0),
            begins_trained=self.begins_trained,
        )
        if checkpoint.step in (checkpoint.detached_step, *(phase.from_step for phase in self.recipe.phases)):
            watch.expect_another_scale()
        return watch


@contextmanager
def _told_when_out_of_memory(graph: Graph, recipe: Recipe) -> Iterator[None]:
    """Turn JAX's running out of memory into a TooLargeError with the estimate."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        expected = training_bytes(graph, recipe)
        raise TooLargeError(
            f"Training ran out of memory; with batch {recipe.batch} and patch {recipe.patch} about "
            f"{expected / 1e9:.2f} GB were expected. Choose a smaller --batch or --patch.",
            max(expected, (machine_bytes() or 0) + 1),
        ) from error


def _ends_of_phases(recipe: Recipe, first: int, last: int) -> list[int]:
    return [*(phase.from_step for phase in recipe.phases if first < phase.from_step < last), last]


class LossWatch:
    """Keeps the losses on the device between looks, and raises when they leave the road."""

    def __init__(self, first: float, latest: float, *, adversarial: float = 0.0, begins_trained: bool = False) -> None:
        self._begins_trained = begins_trained
        self.first = first
        self.latest = latest
        self._adversarial = adversarial  # weight of the texture loss, which rises because its discriminator learns
        self.terms: dict[str, float] = {}
        self._waiting: list[Terms] = []
        self._rescales = False
        self._above = 0  # looks in a row at which the loss was too high

    def expect_another_scale(self) -> None:
        """Say that other losses begin: the yardstick changes by as much as the loss does at the change."""
        self._rescales = math.isfinite(self.first) and self.latest > 0

    def see(self, step: int, terms: Terms, tick: Tick | None, *, last: bool) -> None:
        """Take one step's losses; every CHECK_EVERY steps and at the end, judge what has gathered."""
        self._waiting.append(terms)
        if step % CHECK_EVERY and not last:
            return
        fetched = jax.device_get(self._waiting)
        self._waiting.clear()
        self.terms = {name: sum(float(each[name]) for each in fetched) / len(fetched) for name in terms}
        latest = self._judged(self.terms)
        self._judge(step, latest, latest if self._begins_trained else self._judged(fetched[0]))
        if tick:
            tick(step, self.terms)

    def _judged(self, terms: Mapping[str, Any]) -> float:
        """Return the loss whose rise means divergence: all of it but for what an adversary adds."""
        return float(terms[TOTAL]) - self._adversarial * float(terms.get("texture", 0.0))

    def _judge(self, step: int, latest: float, first: float) -> None:
        before, self.latest = self.latest, latest
        if not math.isfinite(self.terms[TOTAL]):
            raise DivergedError(f"The loss was not a number by step {step}; a smaller learning rate may help.")
        if math.isinf(self.first):
            self.first = first
        if self._rescales:
            self.first *= self.latest / before
            self._rescales = False
        self._above = self._above + 1 if self.latest > DIVERGED * self.first else 0
        wanted = LOOKS_TRAINED if self._begins_trained else 1
        if self._above >= wanted or self.latest > DIVERGED**2 * self.first:
            raise DivergedError(f"The loss diverged: {self.latest:.3g} at step {step}, {self.first:.3g} at the start.")
