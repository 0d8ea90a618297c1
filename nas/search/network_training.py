"""Train to the end whatever a name stands for: a design, a spec file, a trial of a study, the best candidate.

What the user left open comes from the recipe that was chosen, from the network's study, or from the defaults. What
`isp-nas train`, `isp-nas export --qat` and `nas.train` have in common.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from nas import backend
from nas.data.pairs import DataConfig
from nas.defaults import DEFAULT_DATA
from nas.search.network_ref import NetworkRef, resolve
from nas.train.checkpoint import digest
from nas.train.default_recipe import default_recipe
from nas.train.recipe import Recipe
from nas.train.recipe_file import PublishedRecipe
from nas.train.run_folder import TRAINED, TRAINING_FILE, read_training
from search_spaces.errors import UsageError

if TYPE_CHECKING:
    from nas.train.long_run import Callbacks, Finished
    from nas.train.run_folder import Quantisation, SuperNetwork, TrainingRun

# Weights that are good already are moved in smaller steps; benchmarks/qat.json tells what it brings.
QAT_RATE = 0.3


@dataclass(frozen=True)
class TrainingRequest:
    """How a network is to be trained; None where the user said nothing."""

    recipe_fields: dict[str, Any]  # what is to be changed of the recipe
    data: DataConfig | None = None
    steps: int | None = None
    recipe: PublishedRecipe | None = None
    super_network: bool = False
    detach_at_db: float | None = None
    seed: int | None = None
    out: Path | None = None
    init_from: str | None = None  # a network, or a checkpoint file
    validate_every: int | None = None
    patience: int | None = None
    vgg_file: Path | None = None
    qat: bool = False  # train on as an int8 file computes, from the network's trained weights
    calibration: int = 100  # training pairs from which the first ranges of int8 are taken

    def __post_init__(self) -> None:
        if self.seed is not None and self.seed < 0:
            raise UsageError(f"A seed is zero or more, got {self.seed}.")
        if self.steps is None and self.recipe is None:
            raise UsageError("Training needs a length: give --steps, or a recipe that has one with --recipe.")
        if self.detach_at_db is not None and not self.super_network:
            raise UsageError("--detach-at says when a super-network is taken off; ask for one with --super-network.")
        if self.qat and (self.super_network or self.init_from):
            other = "--super-network" if self.super_network else "--init-from"
            raise UsageError(f"--qat fine-tunes the network's own trained weights; leave out {other}.")
        if self.patience is not None and self.patience < 1:
            raise UsageError(f"The patience is one validation or more, got {self.patience}.")


class Quantise(Protocol):
    """What tells which numbers an int8 file of a network rounds: `nas.export.qat.quantisation`."""

    def __call__(self, network: NetworkRef, data: DataConfig, folder: Path, *, calibration: int) -> "Quantisation":
        """Return what a run in `folder` rounds, from so many pairs of calibration."""


@dataclass(frozen=True)
class TrainingPlan:
    """A training as it will be: everything that was left open is decided."""

    network: NetworkRef
    request: TrainingRequest
    recipe: Recipe
    folder: Path
    results: Path

    def run(
        self, callbacks: "Callbacks | None" = None, *, quantise: Quantise | None = None
    ) -> "tuple[TrainingRun, Finished]":
        """Train to the end, continuing where an earlier call stopped; return the run and what it came to.

        `quantise` is needed for quantisation-aware training: what int8 files round is known to `nas.export` alone.
        """
        backend.prepare()
        from nas.train.long_run import Callbacks, run

        long_run = self._run(quantise)
        find = partial(_checkpoint_of, results=self.results)
        return long_run, run(long_run, watcher=callbacks or Callbacks(), patience=self.request.patience, find=find)

    def _run(self, quantise: Quantise | None) -> "TrainingRun":
        from nas.train.run_folder import TrainingRun

        network, request = self.network, self.request
        settings = network.study.config if network.study else None
        data = request.data or (settings.data if settings else DEFAULT_DATA)
        quantisation = None
        if request.qat:
            assert quantise is not None, "quantisation-aware training needs to know what is rounded"
            data = request.data or network.trained.data
            quantisation = quantise(network, data, self.folder, calibration=request.calibration)
        return TrainingRun(
            self.folder,
            network.spec,
            data,
            self.recipe,
            request.seed if request.seed is not None else (settings.seed if settings else 0),
            super_network=_super_network(network, request, self.recipe),
            validate_every=request.validate_every,
            init_from=str(network.trained.path) if request.qat else request.init_from,
            vgg_file=request.vgg_file,
            quantisation=quantisation,
        )


def plan_training(network: NetworkRef, request: TrainingRequest, results: Path) -> TrainingPlan:
    """Decide recipe and folder of a training; a run that was begun goes on as it began."""
    recipe = _recipe_before_qat(network, request)
    folder = request.out or run_folder(network, request, recipe, results)
    if (folder / TRAINING_FILE).exists():
        recipe = _recipe_before_qat(network, request, begun=read_training(folder)["recipe"])
    if request.qat and request.recipe is None and "learning_rate" not in request.recipe_fields:
        recipe = replace(recipe, learning_rate=QAT_RATE * recipe.learning_rate)
    return TrainingPlan(network, request, recipe, folder, results)


def _recipe_before_qat(network: NetworkRef, request: TrainingRequest, begun: Mapping[str, Any] | None = None) -> Recipe:
    if request.recipe:
        recipe = request.recipe.recipe.changed(**request.recipe_fields)
    elif network.study:
        recipe = network.study.config.recipe.changed(**request.recipe_fields)
    else:
        data = request.data or (network.trained.data if request.qat else DEFAULT_DATA)
        recipe = default_recipe(backend.expected(), data, begun).changed(**request.recipe_fields)
    return recipe if request.steps is None else recipe.scaled(request.steps)


def _super_network(network: NetworkRef, request: TrainingRequest, recipe: Recipe) -> "SuperNetwork | None":
    from nas.train.run_folder import DETACH_AT_DB, SuperNetwork

    if not request.super_network:
        return None
    larger = SuperNetwork(DETACH_AT_DB if request.detach_at_db is None else request.detach_at_db)
    larger.require_fit(network.spec, recipe)
    return larger


def run_folder(network: NetworkRef, request: TrainingRequest, recipe: Recipe, results: Path) -> Path:
    """Return the folder of a run that names none: by name, network, length, and what else makes it another run."""
    label = Path(network.label).absolute().stem  # of a folder or file its name
    named = (f"-{request.recipe.name}" if request.recipe else "") + ("-super" if request.super_network else "")
    named += f"-int8-{_start(network, request)}" if request.qat else ""
    return results / TRAINED / f"{label}-{network.spec.hash}-{recipe.total_steps}{named}"


def _start(network: NetworkRef, request: TrainingRequest) -> str:
    """Return a name for what fine-tuning starts from, so that each start has a folder of its own."""
    text = f"{digest(network.trained.path)} {request.calibration}"
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _checkpoint_of(text: str, *, results: Path) -> Path:
    """Return the checkpoint that `init_from` names: a file, or the trained state of a network."""
    return Path(text) if Path(text).suffix == ".safetensors" else resolve(text, results).trained.path
