"""Train one candidate to one rung and evaluate it on the validation pairs.

A pure function of its job: given the same files it returns the same figures. It knows no Optuna and no study,
so any executor can run it, on this machine or another.
"""

import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from nas.data.pairs import PairSet, evenly, open_prepared
from nas.train import checkpoint, loop
from nas.train.evaluation import Evaluator, is_broken, judged_at_once, worth_nothing
from nas.train.job import Job, Outcome
from nas.train.memory import machine_bytes, require_memory
from search_spaces.errors import DivergedError, MissingStateError, StudyError, TrainingError
from search_spaces.graph import Graph
from search_spaces.networks import build_graph
from search_spaces.spec import ArchSpec
from search_spaces.system.file_errors import acting_on
from search_spaces.system.machine import peak_memory_mb


def evaluate(
    job: Job, *, tick: loop.Tick | None = None, available: Callable[[], int | None] = machine_bytes
) -> Outcome:
    """Train and judge one candidate, within the bytes that `available` tells.

    Raises TrainingError where loss or output is no number, the loss diverges, or the memory would not do.
    """
    graph = build_graph(job.spec)
    state = _state(job, graph)
    pairs, val = open_prepared(job.data, "train"), open_prepared(job.data, "val")
    known = [size for size in (available(), job.memory_bytes) if size is not None]
    require_memory(graph, job.recipe, judged=judged_at_once(val), available=min(known, default=None))
    with ThreadPoolExecutor(1) as beside:  # training steps of a small batch leave cores to compile on
        judge_of_val = beside.submit(Evaluator, graph, val)
        trained = _trained(job, graph, state, pairs, tick)
        begun = time.perf_counter()
    waited_s, begun = time.perf_counter() - begun, time.perf_counter()
    quality = judge_of_val.result().quality(trained.checkpoint.weights)
    broken = is_broken(quality, job.steps, val)
    if broken and trained.checkpoint.rate_share == 1:
        again = _trained(job, graph, replace(state, rate_share=loop.CALMER), pairs, tick)
        begun += again.train_s + again.compile_s  # which is no judging
        trained = replace(again, train_s=trained.train_s + again.train_s, compile_s=trained.compile_s + again.compile_s)
        quality = judge_of_val.result().quality(trained.checkpoint.weights)
        broken = is_broken(quality, job.steps, val)
    if broken:
        raise DivergedError(worth_nothing(quality, job.steps))
    if not (math.isfinite(quality.psnr_db) and math.isfinite(quality.ssim)):
        raise TrainingError(f"The output on the validation pairs is not a number after {job.steps} steps.")
    train_psnr_db = _on_training_pairs(graph, pairs, len(val), trained) if job.judge_training else None
    evaluate_s = time.perf_counter() - begun
    return Outcome(
        job.steps,
        quality.psnr_db,
        quality.ssim,
        trained.checkpoint.loss,
        trained.train_s,
        trained.compile_s + waited_s,
        evaluate_s,
        peak_memory_mb(),
        trained.checkpoint.rate_share,
        train_psnr_db,
    )


def _on_training_pairs(graph: Graph, pairs: PairSet, count: int, trained: loop.TrainedStretch) -> float:
    """Return PSNR in dB on `count` training pairs, spread evenly."""
    some = pairs.subset(evenly(len(pairs), count))
    return Evaluator(graph, some).quality(trained.checkpoint.weights).psnr_db


def _trained(
    job: Job, graph: Graph, state: checkpoint.Checkpoint, pairs: PairSet, tick: loop.Tick | None
) -> loop.TrainedStretch:
    """Train to the end of the job, keeping the state now and then."""
    parts: list[loop.TrainedStretch] = []
    for until in _stops(job, state.step):
        part = loop.train(
            graph, state, pairs, recipe=job.recipe, steps=until, seed=job.seed, tick=tick, vgg_file=job.vgg_file
        )
        state = part.checkpoint
        with acting_on(job.checkpoint, "write", StudyError):
            checkpoint.save(state, job.checkpoint)
        parts.append(part)
    return replace(
        parts[-1], train_s=sum(part.train_s for part in parts), compile_s=sum(part.compile_s for part in parts)
    )


def _stops(job: Job, done: int) -> list[int]:
    every = job.save_every or job.steps
    return [*range(done - done % every + every, job.steps, every), job.steps]


def _state(job: Job, graph: Graph) -> checkpoint.Checkpoint:
    if job.begins_at and not job.checkpoint.exists():
        raise MissingStateError(
            f"The state of step {job.begins_at}, from which training goes on, is missing at {job.checkpoint}."
        )
    state = load_or_start(job.spec, graph, job.checkpoint, seed=job.seed, initialiser=job.recipe.initialiser)
    if state.step > job.steps:
        raise StudyError(f"{job.checkpoint} was trained to step {state.step}, beyond {job.steps}; remove or rename it.")
    return state


def load_or_start(
    spec: ArchSpec, graph: Graph, path: Path, *, seed: int, initialiser: str = "he"
) -> checkpoint.Checkpoint:
    """Return the state at `path`, or a fresh one where there is none; raise StudyError for another network's."""
    if not path.exists():
        return loop.start(graph, seed=seed, spec_hash=spec.hash, initialiser=initialiser)
    state = checkpoint.load(path)
    if state.spec_hash != spec.hash:
        raise StudyError(f"{path} belongs to network {state.spec_hash}, not to {spec.hash}; remove or rename it.")
    return state
