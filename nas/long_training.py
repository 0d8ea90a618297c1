"""Train one network to the end, in stretches, each ending in a checkpoint from which it continues.

The recipe's learning rate falls over the whole length, so a run asked for 10 000 steps and one asked for 20 000
are two runs: each has its own folder.

A network may be trained jointly with a larger one on the same trunk (`search_spaces.supernet`) at first. The larger one
is taken off when it is good enough, or at half of the steps, and the network is fine-tuned alone.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nas import checkpoint, provenance
from nas.config import check_fits
from nas.data.cache import cache_dir
from nas.data.pairs import DataConfig, PairSet, open_prepared, prepare
from nas.evaluate import Quality, judge, judged_at_once, load_or_start
from nas.recipe import Recipe
from nas.target import CHECKPOINT_FILE, TRAINING_FILE, read_training
from nas.training import Tick, train
from nas.training_memory import machine_bytes, require_memory
from search_spaces.errors import StudyError, UsageError
from search_spaces.graph import Graph
from search_spaces.networks import build_graph
from search_spaces.spec import ArchSpec
from search_spaces.supernet import BLOCKS, LAYERS, heads, with_super_head

# A checkpoint this often: losing at most a minute or so, spending under 1 % of the time on writing.
STRETCHES = 20
LEAST_STRETCH = 100
# ENERZAI's team took its super-network off above a PSNR that the report does not tell (§4.4); this one is ours, near
# the 22.97 dB that their small network reached on the challenge's pairs.
DETACH_AT_DB = 23.0


@dataclass(frozen=True)
class SuperNetwork:
    """The larger head that a network is joined to at first, and the validation PSNR above which it is taken off."""

    detach_at_db: float = DETACH_AT_DB
    blocks: int = BLOCKS
    layers: int = LAYERS

    def __post_init__(self) -> None:
        if not (math.isfinite(self.detach_at_db) and self.detach_at_db > 0):
            raise UsageError(f"The PSNR to detach at must be above zero dB, got {self.detach_at_db}.")

    def require_fit(self, spec: ArchSpec, recipe: Recipe) -> None:
        """Raise UsageError where this network cannot be joined, or is not trained for long enough."""
        if spec.topology != "flat":
            raise UsageError(
                f"A super-network can be joined to a network of the flat topology only, this one is {spec.topology}; "
                "train it without --super-network."
            )
        if recipe.horizon < 2:
            raise UsageError(f"A joint and a lone phase need two steps at least, got {recipe.horizon}; give more.")


@dataclass(frozen=True)
class LongRun:
    """One network, what it is trained on, and where its state is kept."""

    folder: Path
    spec: ArchSpec
    data: DataConfig
    recipe: Recipe
    seed: int
    super_network: SuperNetwork | None = None

    def settings(self) -> dict[str, object]:
        """Return what makes two runs the same."""
        data = {name: value for name, value in self.data.to_dict().items() if value is not None}
        data["raw"] = {name: value for name, value in data["raw"].items() if value is not None}
        told = {"spec": self.spec.to_dict(), "data": data, "recipe": self.recipe.to_dict(), "seed": self.seed}
        return told | ({"super_network": asdict(self.super_network)} if self.super_network else {})


@dataclass(frozen=True)
class Finished:
    """What a long run came to: its quality, and when and at which PSNR its super-network was taken off."""

    quality: Quality
    detached_step: int
    detached_psnr_db: float


def run(
    long_run: LongRun,
    *,
    tick: Tick | None = None,
    read: Callable[[int, int], None] | None = None,
    available: Callable[[], int | None] = machine_bytes,
) -> Finished:
    """Train to the recipe's horizon, continuing where an earlier call stopped; return the validation quality.

    Raises StudyError where the folder holds a run with other settings, TrainingError where the bytes that `available`
    tells would not do; then nothing is written.
    """
    graph = build_graph(long_run.spec)
    joint = _joined(graph, long_run)
    long_run.recipe.require_available()
    prepared = prepare(long_run.data, cache_dir() / "pairs", progress=read)
    check_fits(long_run.recipe, prepared, multiple=long_run.spec.size_multiple, of="this network")
    pairs, val = open_prepared(prepared, "train"), open_prepared(prepared, "val")
    require_memory(joint, long_run.recipe, judged=judged_at_once(val), available=available())
    _claim(long_run)
    path = long_run.folder / CHECKPOINT_FILE
    state = load_or_start(long_run.spec, joint, path, seed=long_run.seed, initialiser=long_run.recipe.initialiser)
    while state.step < long_run.recipe.horizon:
        # Judged before a stretch, not after: a run that was killed between the two then decides the same.
        state = _detached_if_due(long_run, joint, state, val)
        state = train(
            joint if state.phase == checkpoint.JOINT else graph, state, pairs,
            recipe=long_run.recipe, steps=_next_stop(long_run, state), seed=long_run.seed, tick=tick,
        ).checkpoint  # fmt: skip
        _save(state, path)
    return Finished(judge(graph, state.parameters, val), state.detached_step, state.detached_psnr_db)


def _joined(graph: Graph, long_run: LongRun) -> Graph:
    larger = long_run.super_network
    if larger is None:
        return graph
    larger.require_fit(long_run.spec, long_run.recipe)
    return with_super_head(graph, blocks=larger.blocks, layers=larger.layers)


def _detached_if_due(
    long_run: LongRun, joint: Graph, state: checkpoint.Checkpoint, val: PairSet
) -> checkpoint.Checkpoint:
    """Take the super-network off where its PSNR has passed the threshold or half of the steps are done."""
    if state.phase != checkpoint.JOINT or state.step == 0:
        return state
    assert long_run.super_network is not None
    _, large = heads(joint)
    psnr_db = judge(large, {name: state.parameters[name] for name in large.parameter_shapes}, val).psnr_db
    due = psnr_db > long_run.super_network.detach_at_db or state.step >= _half(long_run)
    return checkpoint.detached(state, psnr_db=psnr_db) if due else state


def _next_stop(long_run: LongRun, state: checkpoint.Checkpoint) -> int:
    last = _half(long_run) if state.phase == checkpoint.JOINT else long_run.recipe.horizon
    return min(state.step + _stretch(long_run.recipe.horizon), last)


def _half(long_run: LongRun) -> int:
    return long_run.recipe.horizon // 2


def _save(state: checkpoint.Checkpoint, path: Path) -> None:
    try:
        checkpoint.save(state, path)
    except OSError as error:
        raise StudyError(
            f"{path} cannot be written ({error.strerror}); free space, then the same command continues."
        ) from None


def _stretch(steps: int) -> int:
    return max(LEAST_STRETCH, steps // STRETCHES)


def _claim(long_run: LongRun) -> None:
    import tomli_w

    if (long_run.folder / TRAINING_FILE).exists():
        told = _in_todays_terms(read_training(long_run.folder))
        wanted = {"super_network": None, **long_run.settings()}
        differs = [name.replace("_", "-") for name, value in wanted.items() if told.get(name) != value]
        if differs:
            raise StudyError(
                f"{long_run.folder} holds a training run with other {' and '.join(differs)}; "
                "name another folder with --out."
            )
        return
    described = {name: value for name, value in provenance.collect().items() if value is not None}
    text = tomli_w.dumps({**long_run.settings(), "provenance": described})
    try:
        checkpoint.write_durably(long_run.folder / TRAINING_FILE, text.encode())
    except OSError as error:
        raise StudyError(
            f"{long_run.folder} cannot be written ({error.strerror}); name another folder with --out."
        ) from None


def _in_todays_terms(told: dict[str, Any]) -> dict[str, Any]:
    """Return stored settings with what did not exist when they were written: its default is what was done then."""
    spec, recipe = ArchSpec.from_dict(told["spec"]), Recipe.from_dict(told["recipe"])
    return {**told, "spec": spec.to_dict(), "recipe": recipe.to_dict()}
