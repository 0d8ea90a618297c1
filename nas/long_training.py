"""Train one network to the end, in stretches, each ending in a validation and a checkpoint from which it continues.

The recipe's learning rate falls over the whole length, so a run asked for 10 000 steps and one asked for 20 000
are two runs: each has its own folder.

A network may be trained jointly with a larger one on the same trunk (`search_spaces.supernet`) at first. The larger one
is taken off when it is good enough, or at half of the steps, and the network is fine-tuned alone.

What a run leaves in its folder: `training.toml` (what was asked for), `checkpoint.safetensors` (the last state, from
which the same command continues), `best.safetensors` (the state of the best validation, which is what is exported),
`history.jsonl`, `tensorboard/` and `pictures/`. Best, history, last are written in this order, so that after a crash
between two of them the stretch is trained again and writes the same.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nas import checkpoint, front, history, provenance, vgg_weights
from nas.checkpoint import load
from nas.config import check_fits
from nas.data import residence
from nas.data.cache import cache_dir
from nas.data.pairs import DataConfig, PairSet, Progress, identity, open_prepared, prepare
from nas.evaluate import Judge, Quality, judge, judged_at_once, load_or_start
from nas.history import Validation
from nas.recipe import Recipe
from nas.report import save_patches
from nas.scalars import Scalars
from nas.schedules import learning_rates
from nas.target import BEST_FILE, CHECKPOINT_FILE, QUANTISATION, TRAINING_FILE, read_training
from nas.training import Tick, Trained, train, with_ranges
from nas.training_memory import bytes_beside_training, machine_bytes, require_memory
from search_spaces.durable import write_durably
from search_spaces.errors import StudyError, TrainingError, UsageError
from search_spaces.graph import Graph
from search_spaces.networks import build_graph
from search_spaces.quantised_maps import QuantisedMaps
from search_spaces.spec import ArchSpec
from search_spaces.supernet import BLOCKS, LAYERS, detach, heads, with_super_head

PICTURES_FOLDER = "pictures"
OWN_FILES = (CHECKPOINT_FILE, BEST_FILE, history.HISTORY_FILE)
NAMES = {
    "data_identity": "pairs in the same place",
    QUANTISATION: "weights to start from, or their ranges",
}  # what people call a setting
SHOWN_PATCHES = 3
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
class Quantisation:
    """What quantisation-aware training rounds, and what it started from."""

    maps: QuantisedMaps
    start: str  # SHA-256 of the checkpoint whose weights are fine-tuned
    calibration: int  # pairs from which the first ranges were taken

    def to_dict(self) -> dict[str, Any]:
        """Return it as training.toml has it."""
        return {"start": self.start, "calibration": self.calibration, "maps": self.maps.to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Quantisation":
        """Read what `to_dict` wrote."""
        return cls(QuantisedMaps.from_dict(data["maps"]), data["start"], data["calibration"])


@dataclass(frozen=True)
class LongRun:
    """One network, what it is trained on, and where its state is kept."""

    folder: Path
    spec: ArchSpec
    data: DataConfig
    recipe: Recipe
    seed: int
    super_network: SuperNetwork | None = None
    validate_every: int | None = None  # steps; None: a twentieth of the training, but no less than LEAST_STRETCH
    init_from: str | None = None  # what names the checkpoint of the same network whose weights are the first ones
    vgg_file: Path | None = None  # of the weights of VGG-19; None: Keras's own copy, where they are needed
    quantisation: Quantisation | None = None  # train as an int8 file computes; None: in plain float32

    def __post_init__(self) -> None:
        if self.quantisation and self.recipe.precision != "float32":
            raise UsageError(
                f"Quantisation-aware training rounds float32 numbers, not {self.recipe.precision}; "
                "give --precision float32."
            )
        if self.validate_every is not None and self.validate_every < 1:
            raise UsageError(f"A validation comes after one step or more, got {self.validate_every}.")

    def settings(self) -> dict[str, object]:
        """Return what makes two runs the same; pairs and VGG-19's weights are told by their content."""
        data = {name: value for name, value in self.data.to_dict().items() if value is not None}
        data["raw"] = {name: value for name, value in data["raw"].items() if value is not None}
        told = {"spec": self.spec.to_dict(), "data": data, "recipe": self.recipe.to_dict(), "seed": self.seed}
        more = {
            "data_identity": identity(self.data),
            "super_network": asdict(self.super_network) if self.super_network else None,
            "validate_every": self.validate_every,
            "init_from": self.init_from,
            "vgg": vgg_weights.used(self.recipe, self.vgg_file),
            QUANTISATION: self.quantisation.to_dict() if self.quantisation else None,
        }
        return told | {name: value for name, value in more.items() if value is not None}

    @property
    def quantised(self) -> QuantisedMaps | None:
        """What is rounded as in an int8 file."""
        return self.quantisation.maps if self.quantisation else None

    @property
    def stretch(self) -> int:
        """Steps from one validation to the next."""
        return self.validate_every or max(LEAST_STRETCH, self.recipe.horizon // STRETCHES)


@dataclass(frozen=True)
class Finished:
    """What a long run came to: its last and its best quality, and when its super-network was taken off."""

    quality: Quality
    best: Validation | None  # None where a run of an earlier version had ended before validations were kept
    steps: int  # fewer than the recipe's where the PSNR stood still
    detached_step: int
    detached_psnr_db: float


@dataclass(frozen=True)
class Watcher:
    """Who is told how a run goes: of every few steps' losses, of every validation, of reading, of what is about to."""

    tick: Tick | None = None
    validated: Callable[[Validation], None] | None = None
    read: Progress | None = None
    say: Callable[[str], None] | None = None


def run(
    long_run: LongRun,
    *,
    watcher: Watcher = Watcher(),
    patience: int | None = None,
    find: Callable[[str], Path] = Path,
    available: Callable[[], int | None] = machine_bytes,
) -> Finished:
    """Train to the recipe's horizon, continuing where an earlier call stopped; return the validation quality.

    With `patience`, training ends where so many validations in a row brought nothing better; while a super-network is
    on, none counts. `find` tells which file `init_from` names; only a run that begins asks. Raises StudyError where the
    folder holds a run with other settings or files of something else, TrainingError where the bytes that `available`
    tells would not do; then nothing is written.
    """
    graph = build_graph(long_run.spec)
    joint = _joined(graph, long_run)
    _require_free(long_run)
    first = _first_state(long_run, joint, find)
    vgg_weights.needed(long_run.recipe, long_run.vgg_file)  # refused here, not when its phase begins after hours
    prepared = prepare(long_run.data, cache_dir() / "pairs", progress=watcher.read)
    check_fits(long_run.recipe, prepared, multiple=long_run.spec.size_multiple, of="this network")
    val = open_prepared(prepared, "val")
    require_memory(joint, long_run.recipe, judged=judged_at_once(val), available=available())
    with _only_training(long_run):
        _claim(long_run)
        room = bytes_beside_training(joint, long_run.recipe)
        pairs = residence.load(prepared, "train", available=room, say=watcher.say, progress=watcher.read)
        return _Run(long_run, graph, joint, pairs, val, watcher).to_the_end(first, patience)


def _first_state(long_run: LongRun, joint: Graph, find: Callable[[str], Path]) -> checkpoint.Checkpoint:
    """Return the state to continue from, or else that in which the run begins."""
    path = long_run.folder / CHECKPOINT_FILE
    state = load_or_start(long_run.spec, joint, path, seed=long_run.seed, initialiser=long_run.recipe.initialiser)
    if path.exists():
        return state
    if long_run.init_from is not None:
        state = _initialised(state, long_run, find(long_run.init_from))
    return with_ranges(state, long_run.quantised) if long_run.quantised else state


def _initialised(state: checkpoint.Checkpoint, long_run: LongRun, path: Path) -> checkpoint.Checkpoint:
    """Give a fresh state the weights of another checkpoint, which keeps nothing else: step and moments begin anew."""
    try:
        given = load(path)
    except StudyError:
        raise UsageError(
            f"--init-from takes a checkpoint that training wrote, and {path} is missing or cannot be read as one."
        ) from None
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
        self, long_run: LongRun, graph: Graph, joint: Graph, pairs: PairSet, val: PairSet, watcher: Watcher
    ) -> None:
        self._run, self._graph, self._joint = long_run, graph, joint
        self._pairs, self._val, self._watcher = pairs, val, watcher
        self._judge = Judge(graph, val, long_run.quantised)
        self._rates = learning_rates(long_run.recipe)

    def to_the_end(self, state: checkpoint.Checkpoint, patience: int | None) -> Finished:
        seen = history.read(self._run.folder, until=state.step) or self._seen_of_best(state)
        scalars = Scalars(self._run.folder, first=state.step) if self._is_unfinished(state, seen, patience) else None
        while self._is_unfinished(state, seen, patience):
            assert scalars is not None
            # Judged before a stretch, not after: a run that was killed between the two then decides the same.
            state = _detached_if_due(self._run, self._joint, state, self._val)
            state = self._stretch(state, seen, scalars)
        if scalars:
            scalars.close()
        quality = self._judge.quality(self._own(state))
        return Finished(quality, history.best(seen), state.step, state.detached_step, state.detached_psnr_db)

    def _is_unfinished(self, state: checkpoint.Checkpoint, seen: list[Validation], patience: int | None) -> bool:
        alone = [] if state.phase == checkpoint.JOINT else [each for each in seen if each.step > state.detached_step]
        return state.step < self._run.recipe.horizon and not history.stands_still(alone, patience)

    def _seen_of_best(self, state: checkpoint.Checkpoint) -> list[Validation]:
        """Judge the best state again where its history is gone, so that nothing worse takes its place."""
        path = self._run.folder / BEST_FILE
        best = load(path) if path.exists() else None
        if best is None or not 0 < best.step <= state.step:  # a later one is of the stretch that is trained again
            return []
        quality = self._judge.quality(self._own(best))
        return [Validation(best.step, quality.psnr_db, quality.ssim, {}, float(self._rates[best.step - 1]), 0.0, 0.0)]

    def _stretch(self, state: checkpoint.Checkpoint, seen: list[Validation], scalars: Scalars) -> checkpoint.Checkpoint:
        """Train to the next validation, validate, and write everything down."""
        run = self._run
        trained = train(
            self._joint if state.phase == checkpoint.JOINT else self._graph, state, self._pairs,
            recipe=run.recipe, steps=_next_stop(run, state), seed=run.seed, tick=self._tick(scalars),
            vgg_file=run.vgg_file, quantised=run.quantised,
        )  # fmt: skip
        if trained.checkpoint.rate_share != state.rate_share and self._watcher.say:
            self._watcher.say(
                f"The loss diverged after step {state.step}; training goes on from there at "
                f"{trained.checkpoint.rate_share:.2g} of the learning rate."
            )
        before = history.best(seen)
        seen.append(self._validated(trained))
        try:
            if history.best(seen) != before:
                checkpoint.save(trained.checkpoint, run.folder / BEST_FILE)
            history.write(run.folder, seen)
            self._show(trained.checkpoint, seen[-1], scalars)
        except OSError as error:
            raise _cannot_be_written(run.folder, error) from None
        _save(trained.checkpoint, run.folder / CHECKPOINT_FILE)
        return trained.checkpoint

    def _tick(self, scalars: Scalars) -> Tick:
        def tick(step: int, losses: Mapping[str, float]) -> None:
            scalars.losses(step, losses)
            if self._watcher.tick:
                self._watcher.tick(step, losses)

        return tick

    def _validated(self, trained: Trained) -> Validation:
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
        index = np.linspace(0, len(self._val) - 1, min(SHOWN_PATCHES, len(self._val))).astype(int)
        path = self._run.folder / PICTURES_FOLDER / f"{seen.step:08d}.png"
        path.parent.mkdir(exist_ok=True)
        outputs = self._judge.outputs(self._own(state), index)
        save_patches(path, self._val, index, outputs)
        scalars.validation(seen)
        scalars.picture(seen.step, np.round(255 * np.clip(np.concatenate(outputs, axis=1), 0, 1)).astype(np.uint8))
        if self._watcher.validated:
            self._watcher.validated(seen)

    def _own(self, state: checkpoint.Checkpoint) -> checkpoint.Arrays:
        ranges = self._run.quantised.first_logarithms if self._run.quantised else {}
        return {name: state.weights[name] for name in (*self._graph.parameter_shapes, *ranges)}


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
    psnr_db = judge(large, {name: state.weights[name] for name in large.parameter_shapes}, val).psnr_db
    due = psnr_db > long_run.super_network.detach_at_db or state.step >= _half(long_run)
    return checkpoint.detached(state, psnr_db=psnr_db) if due else state


def _next_stop(long_run: LongRun, state: checkpoint.Checkpoint) -> int:
    last = _half(long_run) if state.phase == checkpoint.JOINT else long_run.recipe.horizon
    return min((state.step // long_run.stretch + 1) * long_run.stretch, last)


def _half(long_run: LongRun) -> int:
    return long_run.recipe.horizon // 2


def _save(state: checkpoint.Checkpoint, path: Path) -> None:
    try:
        checkpoint.save(state, path)
    except OSError as error:
        raise _cannot_be_written(path, error) from None


def _cannot_be_written(path: Path, error: OSError) -> StudyError:
    return StudyError(f"{path} cannot be written ({error.strerror}); free space, then the same command continues.")


@contextmanager
def _only_training(long_run: LongRun) -> Iterator[None]:
    """Hold the folder against a second process that trains into it."""
    from filelock import Timeout

    try:
        long_run.folder.mkdir(parents=True, exist_ok=True)
        held = front.lock(long_run.folder).acquire()
    except Timeout:
        raise StudyError(f"Another training works on {long_run.folder}; wait for it, or name another --out.") from None
    except OSError as error:
        raise StudyError(
            f"{long_run.folder} cannot be written ({error.strerror}); name another folder with --out."
        ) from None
    with held:
        yield


def _require_free(long_run: LongRun) -> None:
    """Raise StudyError where the folder holds a run with other settings, or files that no run explains."""
    if not (long_run.folder / TRAINING_FILE).exists():
        foreign = [name for name in OWN_FILES if (long_run.folder / name).exists()]
        if foreign:
            raise StudyError(
                f"{long_run.folder} holds {' and '.join(foreign)} but no {TRAINING_FILE} to tell what of; "
                "name another folder with --out."
            )
        return
    told = _in_todays_terms(read_training(long_run.folder))
    wanted = dict.fromkeys(("super_network", "validate_every", "init_from", "vgg", QUANTISATION)) | long_run.settings()
    told = {"data_identity": wanted["data_identity"], **told}  # not written down at first
    differs = [NAMES.get(name, name.replace("_", "-")) for name, value in wanted.items() if told.get(name) != value]
    if differs:
        raise StudyError(
            f"{long_run.folder} holds a training run with other {' and '.join(differs)}; "
            "name another folder with --out."
        )


def _claim(long_run: LongRun) -> None:
    import tomli_w

    if (long_run.folder / TRAINING_FILE).exists():
        return
    described = {name: value for name, value in provenance.collect().items() if value is not None}
    text = tomli_w.dumps({**long_run.settings(), "provenance": described})
    try:
        write_durably(long_run.folder / TRAINING_FILE, text.encode())
    except OSError as error:
        raise StudyError(
            f"{long_run.folder} cannot be written ({error.strerror}); name another folder with --out."
        ) from None


def _in_todays_terms(told: dict[str, Any]) -> dict[str, Any]:
    """Return stored settings with what did not exist when they were written: its default is what was done then."""
    spec, recipe = ArchSpec.from_dict(told["spec"]), Recipe.from_dict(told["recipe"])
    return {**told, "spec": spec.to_dict(), "recipe": recipe.to_dict()}
