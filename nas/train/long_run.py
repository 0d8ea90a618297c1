"""Train one network to the end, in stretches, each ending in a validation and a checkpoint from which it continues.

The recipe's learning rate falls over the whole length, so a run asked for 10 000 steps and one asked for 20 000
are two runs: each has its own folder.

A network may be trained jointly with a larger one on the same trunk (`search_spaces.auxiliary_head`) at first. The
larger one is taken off when it is good enough, or at half of the steps, and the network is fine-tuned alone.

What a run leaves in its folder: `training.toml` (what was asked for), `checkpoint.safetensors` (the last state, from
which the same command continues), `best.safetensors` (the state of the best validation, which is what is exported),
`history.jsonl`, `tensorboard/` and `pictures/`. Best, history, last are written in this order, so that after a crash
between two of them the stretch is trained again and writes the same.
"""

import math
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nas import plots
from nas.data import host_cache
from nas.data.cache import cache_dir
from nas.data.pairs import PairSet, Progress, evenly, open_prepared, prepare
from nas.train import checkpoint, history
from nas.train.candidate import load_or_start
from nas.train.checkpoint import load
from nas.train.evaluation import Evaluator, Quality, is_broken, judge, judged_at_once, worth_nothing
from nas.train.fit import check_fits
from nas.train.history import Validation
from nas.train.loop import CALMER, Tick, TrainedStretch, train, with_ranges
from nas.train.losses import vgg_weights
from nas.train.memory import bytes_beside_training, machine_bytes, require_memory
from nas.train.run_folder import (
    BEST_FILE,
    CHECKPOINT_FILE,
    Quantisation,
    TrainingRun,
    claim,
    only_training,
    require_free,
)
from nas.train.schedules import learning_rates
from nas.train.tensorboard import Scalars
from search_spaces.auxiliary_head import detach, heads, with_super_head
from search_spaces.channel_scales import scaled
from search_spaces.errors import DivergedError, StudyError, TrainingError, UsageError
from search_spaces.graph import Graph
from search_spaces.networks import build_graph

PICTURES_FOLDER = "pictures"
SHOWN_PATCHES = 3


@dataclass(frozen=True)
class Finished:
    """What a long run came to: its last and its best quality, and when its super-network was taken off."""

    quality: Quality
    best: Validation | None  # None where a run of an earlier version had ended before validations were kept
    steps: int  # fewer than the recipe's where the PSNR stood still
    detached_step: int
    detached_psnr_db: float


@dataclass(frozen=True)
class Callbacks:
    """Who is told how a run goes: of every few steps' losses, of every validation, of reading, of what is about to."""

    tick: Tick | None = None
    validated: Callable[[Validation], None] | None = None
    read: Progress | None = None
    on_message: Callable[[str], None] | None = None


def run(
    long_run: TrainingRun,
    *,
    watcher: Callbacks = Callbacks(),
    patience: int | None = None,
    find: Callable[[str], Path] = Path,
    available: Callable[[], int | None] = machine_bytes,
) -> Finished:
    """Train to the recipe's total steps, continuing where an earlier call stopped; return the validation quality.

    With `patience`, training ends where so many validations in a row brought nothing better; while a super-network is
    on, none counts. `find` tells which file `init_from` names; only a run that begins asks. Raises StudyError where the
    folder holds a run with other settings or files of something else, TrainingError where the bytes that `available`
    tells would not do; then nothing is written.
    """
    graph = build_graph(long_run.spec)
    joint = _joined(graph, long_run)
    require_free(long_run)
    first = _first_state(long_run, joint, find)
    vgg_weights.needed(long_run.recipe, long_run.vgg_file)  # refused here, not when its phase begins after hours
    prepared = prepare(long_run.data, cache_dir() / "pairs", progress=watcher.read)
    check_fits(long_run.recipe, prepared, multiple=long_run.spec.size_multiple, of="this network")
    val = open_prepared(prepared, "val")
    require_memory(joint, long_run.recipe, judged=judged_at_once(val), available=available())
    with only_training(long_run):
        claim(long_run)
        room = bytes_beside_training(joint, long_run.recipe)
        pairs = host_cache.load(prepared, "train", available=room, on_message=watcher.on_message, progress=watcher.read)
        return _Run(long_run, graph, joint, pairs, val, watcher).to_the_end(first, patience)


def _first_state(long_run: TrainingRun, joint: Graph, find: Callable[[str], Path]) -> checkpoint.Checkpoint:
    """Return the state to continue from, or else that in which the run begins."""
    path = long_run.folder / CHECKPOINT_FILE
    state = load_or_start(long_run.spec, joint, path, seed=long_run.seed, initialiser=long_run.recipe.initialiser)
    if path.exists():
        return state
    if long_run.init_from is not None:
        state = _initialised(state, long_run, find(long_run.init_from))
    return _quantised(state, joint, long_run.quantisation) if long_run.quantisation else state


def _quantised(state: checkpoint.Checkpoint, graph: Graph, quantisation: Quantisation) -> checkpoint.Checkpoint:
    """Return the state with the ranges of an int8 file and the equal channels that they are for."""
    scales = {name: np.array(factors, np.float32) for name, factors in quantisation.scales.items()}
    equal = replace(state, parameters=scaled(graph, state.parameters, scales))
    return with_ranges(equal, quantisation.maps)


def _initialised(state: checkpoint.Checkpoint, long_run: TrainingRun, path: Path) -> checkpoint.Checkpoint:
    """Give a fresh state the weights of another checkpoint, which keeps nothing else: step and moments begin anew."""
    try:
        given = load(path)
    except StudyError as error:
        raise UsageError(f"--init-from takes a checkpoint that training wrote. {error}") from None
    if given.spec_hash != long_run.spec.hash:
        raise UsageError(
            f"{path} belongs to network {given.spec_hash}, not to {long_run.spec.hash}; "
            "--init-from takes a checkpoint of the same network."
        )
    weights = detach(given.weights)  # beside them, one that was quantised holds ranges
    return replace(state, parameters={name: weights.get(name, first) for name, first in state.parameters.items()})


class _Run:
    """A run in progress: what stays the same from stretch to stretch."""

    def __init__(
        self, long_run: TrainingRun, graph: Graph, joint: Graph, pairs: PairSet, val: PairSet, watcher: Callbacks
    ) -> None:
        self._run, self._graph, self._joint = long_run, graph, joint
        self._pairs, self._val, self._watcher = pairs, val, watcher
        self._judge = Evaluator(graph, val, long_run.quantised)
        self._rates = learning_rates(long_run.recipe)

    def to_the_end(self, state: checkpoint.Checkpoint, patience: int | None) -> Finished:
        seen = history.read(self._run.folder, until=state.step) or self._seen_of_best(state)
        given = self._judge.quality(self._own(state)) if state.step == 0 and self._run.init_from else None
        if self._is_unfinished(state, seen, patience):
            with closing(Scalars(self._run.folder, first=state.step)) as scalars:
                while self._is_unfinished(state, seen, patience):
                    # Judged before a stretch, not after: a run that was killed between the two then decides the same.
                    state = _detached_if_due(self._run, self._joint, state, self._val)
                    state = self._stretch(state, seen, scalars)
        best = history.best(seen)
        if best is not None and self._is_broken(best):
            raise DivergedError(worth_nothing(Quality(best.psnr_db, best.ssim), best.step))
        if given is not None and best is not None and best.psnr_db < given.psnr_db:
            self._say(
                f"No validation came up to the given weights, {given.psnr_db:.2f} dB; train longer, or at a smaller "
                "learning rate."
            )
        quality = self._judge.quality(self._own(state))
        return Finished(quality, history.best(seen), state.step, state.detached_step, state.detached_psnr_db)

    def _is_unfinished(self, state: checkpoint.Checkpoint, seen: list[Validation], patience: int | None) -> bool:
        alone = [] if state.phase == checkpoint.JOINT else [each for each in seen if each.step > state.detached_step]
        return state.step < self._run.recipe.total_steps and not history.stands_still(alone, patience)

    def _seen_of_best(self, state: checkpoint.Checkpoint) -> list[Validation]:
        """Judge the best state again where its history is gone, so that nothing worse takes its place."""
        path = self._run.folder / BEST_FILE
        best = load(path) if path.exists() else None
        if best is None or not 0 < best.step <= state.step:  # a later one is of the stretch that is trained again
            return []
        quality = self._judge.quality(self._own(best))
        rate = best.rate_share * float(self._rates[best.step - 1])
        return [Validation(best.step, quality.psnr_db, quality.ssim, {}, rate, 0.0, 0.0)]

    def _stretch(self, state: checkpoint.Checkpoint, seen: list[Validation], scalars: Scalars) -> checkpoint.Checkpoint:
        """Train to the next validation, validate, and write everything down."""
        run = self._run
        trained = self._trained(state, scalars)
        validated = self._validated(trained)
        if trained.checkpoint.rate_share == 1 and self._is_broken(validated):
            trained = self._trained(replace(state, rate_share=CALMER), scalars)
            validated = self._validated(trained)
        if trained.checkpoint.rate_share != state.rate_share:
            self._say(
                f"Training diverged after step {state.step}; it goes on from there at "
                f"{trained.checkpoint.rate_share:.2g} of the learning rate."
            )
        before = history.best(seen)
        seen.append(validated)
        try:
            if history.best(seen) != before:
                checkpoint.save(trained.checkpoint, run.folder / BEST_FILE)
            history.write(run.folder, seen)
            self._show(trained.checkpoint, seen[-1], scalars)
        except OSError as error:
            raise _cannot_be_written(run.folder, error) from None
        _save(trained.checkpoint, run.folder / CHECKPOINT_FILE)
        return trained.checkpoint

    def _trained(self, state: checkpoint.Checkpoint, scalars: Scalars) -> TrainedStretch:
        run = self._run
        return train(
            self._joint if state.phase == checkpoint.JOINT else self._graph,
            state,
            self._pairs,
            recipe=run.recipe,
            steps=_next_stop(run, state),
            seed=run.seed,
            tick=self._tick(scalars),
            vgg_file=run.vgg_file,
            quantised=run.quantised,
            begins_trained=run.init_from is not None,
        )

    def _is_broken(self, seen: Validation) -> bool:
        return is_broken(Quality(seen.psnr_db, seen.ssim), seen.step, self._val)

    def _say(self, line: str) -> None:
        if self._watcher.on_message:
            self._watcher.on_message(line)

    def _tick(self, scalars: Scalars) -> Tick:
        def tick(step: int, losses: Mapping[str, float]) -> None:
            scalars.losses(step, losses)
            if self._watcher.tick:
                self._watcher.tick(step, losses)

        return tick

    def _validated(self, trained: TrainedStretch) -> Validation:
        state = trained.checkpoint
        quality = self._judge.quality(self._own(state))
        if not (math.isfinite(quality.psnr_db) and math.isfinite(quality.ssim)):
            raise TrainingError(f"The output on the validation pairs is not a number after {state.step} steps.")
        rate = state.rate_share * float(self._rates[state.step - 1])
        return Validation(
            state.step, quality.psnr_db, quality.ssim, {**trained.terms}, rate, trained.train_s, trained.waited_s
        )

    def _show(self, state: checkpoint.Checkpoint, seen: Validation, scalars: Scalars) -> None:
        """Tell the watcher, and draw some patches as they come out now."""
        index = evenly(len(self._val), SHOWN_PATCHES)
        path = self._run.folder / PICTURES_FOLDER / f"{seen.step:08d}.png"
        path.parent.mkdir(exist_ok=True)
        outputs = self._judge.outputs(self._own(state), index)
        plots.save_patches(path, self._val, index, outputs)
        scalars.validation(seen)
        scalars.picture(seen.step, np.round(255 * np.clip(np.concatenate(outputs, axis=1), 0, 1)).astype(np.uint8))
        if self._watcher.validated:
            self._watcher.validated(seen)

    def _own(self, state: checkpoint.Checkpoint) -> checkpoint.Arrays:
        ranges = self._run.quantised.first_logarithms if self._run.quantised else {}
        weights = state.weights  # folds branches at every call
        return {name: weights[name] for name in (*self._graph.parameter_shapes, *ranges)}


def _joined(graph: Graph, long_run: TrainingRun) -> Graph:
    larger = long_run.super_network
    if larger is None:
        return graph
    larger.require_fit(long_run.spec, long_run.recipe)
    return with_super_head(graph, blocks=larger.blocks, layers=larger.layers)


def _detached_if_due(
    long_run: TrainingRun, joint: Graph, state: checkpoint.Checkpoint, val: PairSet
) -> checkpoint.Checkpoint:
    """Take the super-network off where its PSNR has passed the threshold or half of the steps are done."""
    if state.phase != checkpoint.JOINT or state.step == 0:
        return state
    assert long_run.super_network is not None
    _, large = heads(joint)
    weights = state.weights
    psnr_db = judge(large, {name: weights[name] for name in large.parameter_shapes}, val).psnr_db
    due = psnr_db > long_run.super_network.detach_at_db or state.step >= _half(long_run)
    return checkpoint.detached(state, psnr_db=psnr_db) if due else state


def _next_stop(long_run: TrainingRun, state: checkpoint.Checkpoint) -> int:
    last = _half(long_run) if state.phase == checkpoint.JOINT else long_run.recipe.total_steps
    return min((state.step // long_run.stretch + 1) * long_run.stretch, last)


def _half(long_run: TrainingRun) -> int:
    return long_run.recipe.total_steps // 2


def _save(state: checkpoint.Checkpoint, path: Path) -> None:
    try:
        checkpoint.save(state, path)
    except OSError as error:
        raise _cannot_be_written(path, error) from None


def _cannot_be_written(path: Path, error: OSError) -> StudyError:
    return StudyError(f"{path} cannot be written ({error.strerror}); free space, then the same command continues.")
