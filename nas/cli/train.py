"""`isp-nas train`: one network to the end, with what a person sees meanwhile and afterwards."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from nas import backend
from nas.cli.console import Console
from nas.cli.tables import SHORT_FORMATS, check_format, print_json
from nas.data.pairs import DataConfig
from nas.defaults import DEFAULT_DATA
from nas.search.network_ref import Target, resolve
from nas.train.checkpoint import digest
from nas.train.default_recipe import default_recipe
from nas.train.history import Validation
from nas.train.recipe import Recipe
from nas.train.recipe_file import PublishedRecipe
from nas.train.run_folder import TRAINED, TRAINING_FILE, read_training
from search_spaces.errors import UsageError

if TYPE_CHECKING:
    from nas.train.evaluation import Quality
    from nas.train.long_run import Callbacks, Finished
    from nas.train.run_folder import SuperNetwork, TrainingRun


# Weights that are good already are moved in smaller steps; benchmarks/qat.json tells what it brings.
QAT_RATE = 0.3


@dataclass(frozen=True)
class TrainOptions:
    """The options of `isp-nas train`; None where the user said nothing.

    What is left open is as in the chosen recipe, or else in the target's study, or the default where it has none.
    """

    options: dict[str, Any]  # fields of the recipe
    data: DataConfig | None = None
    steps: int | None = None
    recipe: PublishedRecipe | None = None
    super_network: bool = False
    detach_at_db: float | None = None
    seed: int | None = None
    out: Path | None = None
    init_from: str | None = None  # a target, or a checkpoint file
    validate_every: int | None = None
    patience: int | None = None
    vgg_file: Path | None = None
    qat: bool = False  # train on as an int8 file computes, from the target's trained weights
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
            raise UsageError(f"--qat fine-tunes the target's own trained weights; leave out {other}.")
        if self.patience is not None and self.patience < 1:
            raise UsageError(f"The patience is one validation or more, got {self.patience}.")


def run_training(target: Target, asked: TrainOptions, *, results: Path, form: str) -> None:
    """Train one network to the end, with a bar, and print its validation quality."""
    check_format(form, SHORT_FORMATS)
    long_run, finished = train_target(target, asked, results)
    if form == "json":
        print_json(_as_data(finished, long_run, asked.recipe))
    else:
        _print_trained(target.label, long_run, finished, asked.recipe)


def fine_tune(target: Target, steps: int, *, calibration: int, results: Path) -> Path:
    """Fine-tune a trained network for int8, with a bar; return the run's folder. A finished run is not repeated."""
    asked = TrainOptions({}, steps=steps, qat=True, calibration=calibration)
    long_run, _ = train_target(target, asked, results)
    return long_run.folder


def train_target(target: Target, asked: TrainOptions, results: Path) -> "tuple[TrainingRun, Finished]":
    """Train one network to the end, with a bar; return the run and what it came to."""
    recipe = _recipe(target, asked, results)
    backend.prepare()
    from nas.train.long_run import run

    long_run = _long_run(target, asked, recipe, results)
    with _view(target.label, recipe.horizon) as watcher:
        finished = run(
            long_run, watcher=watcher, patience=asked.patience, find=partial(_checkpoint_of, results=results)
        )
    return long_run, finished


def _recipe(target: Target, asked: TrainOptions, results: Path) -> Recipe:
    recipe = _recipe_at_full_rate(target, asked)
    path = (asked.out or _folder(target, asked, recipe, results)) / TRAINING_FILE
    if path.exists():
        recipe = _recipe_at_full_rate(target, asked, begun=read_training(path.parent)["recipe"])
    if asked.qat and asked.recipe is None and "learning_rate" not in asked.options:
        return recipe.changed(learning_rate=QAT_RATE * recipe.learning_rate)
    return recipe


def _recipe_at_full_rate(target: Target, asked: TrainOptions, begun: Mapping[str, Any] | None = None) -> Recipe:
    if asked.recipe:
        recipe = asked.recipe.recipe.changed(**asked.options)
    elif target.study:
        recipe = target.study.config.recipe.changed(**asked.options)
    else:
        data = asked.data or (target.trained.data if asked.qat else DEFAULT_DATA)
        recipe = default_recipe(backend.expected(), data, begun).changed(**asked.options)
    return recipe if asked.steps is None else recipe.scaled(asked.steps)


def _long_run(target: Target, asked: TrainOptions, recipe: Recipe, results: Path) -> "TrainingRun":
    from nas.train.run_folder import TrainingRun

    settings = target.study.config if target.study else None
    data = asked.data or (settings.data if settings else DEFAULT_DATA)
    folder = asked.out or _folder(target, asked, recipe, results)
    quantisation = None
    if asked.qat:
        from nas.export import qat as fine_tuning

        data = asked.data or target.trained.data
        quantisation = fine_tuning.quantisation(target, data, folder, calibration=asked.calibration)
    return TrainingRun(
        folder,
        target.spec,
        data,
        recipe,
        asked.seed if asked.seed is not None else (settings.seed if settings else 0),
        super_network=_super_network(target, asked, recipe),
        validate_every=asked.validate_every,
        init_from=str(target.trained.path) if asked.qat else asked.init_from,
        vgg_file=asked.vgg_file,
        quantisation=quantisation,
    )


def _super_network(target: Target, asked: TrainOptions, recipe: Recipe) -> "SuperNetwork | None":
    from nas.train.run_folder import DETACH_AT_DB, SuperNetwork

    if not asked.super_network:
        return None
    larger = SuperNetwork(DETACH_AT_DB if asked.detach_at_db is None else asked.detach_at_db)
    larger.require_fit(target.spec, recipe)
    return larger


def _folder(target: Target, asked: TrainOptions, recipe: Recipe, results: Path) -> Path:
    label = Path(target.label).absolute().stem  # of a folder or file its name
    named = (f"-{asked.recipe.name}" if asked.recipe else "") + ("-super" if asked.super_network else "")
    named += f"-int8-{_start(target, asked)}" if asked.qat else ""
    return results / TRAINED / f"{label}-{target.spec.hash}-{recipe.horizon}{named}"


def _start(target: Target, asked: TrainOptions) -> str:
    """Return a name for what fine-tuning starts from, so that each start has a folder of its own."""
    told = f"{digest(target.trained.path)} {asked.calibration}"
    return hashlib.sha256(told.encode()).hexdigest()[:8]


def _checkpoint_of(text: str, *, results: Path) -> Path:
    """Return the checkpoint that `--init-from` names: a file, or the trained state of a target."""
    return Path(text) if Path(text).suffix == ".safetensors" else resolve(text, results).trained.path


@contextmanager
def _view(label: str, steps: int) -> "Iterator[Callbacks]":
    """Show bars, of reading and of training with its losses and latest validation; anywhere, a line per validation."""
    from nas.train.long_run import Callbacks

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[told]}"),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        reading = bar.add_task("Reading pairs", total=None, visible=False, told="")
        task = bar.add_task(f"Training {label}", total=steps, visible=False, told="")
        latest: list[str] = [""]

        def read(done: int, total: int) -> None:
            bar.update(reading, completed=done, total=total, visible=done < total)

        def tick(step: int, losses: Mapping[str, float]) -> None:
            bar.update(task, completed=step, told=told_losses(losses) + latest[0], visible=True)

        def validated(seen: Validation) -> None:
            latest[0] = f", {seen.psnr_db:.2f} dB"
            console.print(f"step {seen.step}/{steps}: {told_validation(seen)}", highlight=False, soft_wrap=True)

        yield Callbacks(tick, validated, read, say=lambda line: console.print(line, highlight=False))


def told_losses(losses: Mapping[str, float]) -> str:
    """Return `loss 0.0312 (l1 0.0201, ssim 0.111)`, the terms where there are several."""
    terms = [f"{name} {value:.3g}" for name, value in losses.items() if name != "loss"]
    return f"loss {losses['loss']:.3g}" + (f" ({', '.join(terms)})" if len(terms) > 1 else "")


def told_validation(seen: Validation) -> str:
    """Return losses, quality and, where batches were late, the share of time that was spent waiting for them."""
    waited = seen.waited_s / seen.train_s if seen.train_s else 0.0
    late = f", {waited:.0%} of the time waiting for batches" if waited > LATE_BATCHES else ""
    return f"{told_losses(seen.losses)}, validation {seen.psnr_db:.2f} dB, SSIM {seen.ssim:.4f}{late}"


LATE_BATCHES = 0.05


def _as_data(finished: "Finished", done: "TrainingRun", chosen: PublishedRecipe | None) -> dict[str, Any]:
    return {
        "folder": str(done.folder),
        "steps": finished.steps,
        "psnr_db": finished.quality.psnr_db,
        "ssim": finished.quality.ssim,
        "best": _best(finished.best),
        "stopped_early": finished.steps < done.recipe.horizon,
        "recipe": done.recipe.to_dict(),
        "published_recipe": chosen.origin() if chosen else None,
        "super_network": _detachment(finished, done.super_network) if done.super_network else None,
    }


def _best(found: Validation | None) -> dict[str, Any] | None:
    """Return the best validation without its seconds, which differ from one machine to the next."""
    return None if found is None else {"step": found.step, "psnr_db": found.psnr_db, "ssim": found.ssim}


def _print_trained(label: str, done: "TrainingRun", finished: "Finished", chosen: PublishedRecipe | None) -> None:
    console = Console()
    as_int8 = ", rounded as in an int8 file," if done.quantisation else ""
    console.print(
        f"{label}: {_told_quality(finished.quality)}{as_int8} on the validation pairs after {finished.steps} steps on "
        f"{done.data.source} ({_told(done.recipe)}), kept in {done.folder}",
        highlight=False,
    )
    if finished.steps < done.recipe.horizon:
        console.print(f"Ended before its {done.recipe.horizon} steps: nothing better was coming.", highlight=False)
    if finished.best and finished.best.step < finished.steps:
        best = finished.best
        console.print(
            f"Best at step {best.step}: {best.psnr_db:.2f} dB, SSIM {best.ssim:.4f}; that state is exported.",
            highlight=False,
        )
    if chosen:
        ours = f"; ours, where it says nothing: {', '.join(chosen.ours)}" if chosen.ours else ""
        console.print(f"Recipe {chosen.name}, {chosen.source or 'without a source'}{ours}.", highlight=False)
    if done.super_network:
        console.print(
            f"Super-network taken off at step {finished.detached_step}, of {finished.detached_psnr_db:.2f} dB: "
            f"{_detachment(finished, done.super_network)['reason']}.",
            highlight=False,
        )
    console.print(f"Look:   tensorboard --logdir {done.folder}", highlight=False)
    qat = f"{label} --precision int8 --qat {done.folder}"
    console.print(f"Export: isp-nas export {qat if done.quantisation else done.folder} --out export", highlight=False)


def _told_quality(quality: "Quality") -> str:
    return f"{quality.psnr_db:.2f} dB, SSIM {quality.ssim:.4f}"


def _detachment(finished: "Finished", larger: "SuperNetwork") -> dict[str, Any]:
    """Return when, how good and why the larger head was taken off."""
    passed = finished.detached_psnr_db > larger.detach_at_db
    return {
        **asdict(larger),
        "detached_step": finished.detached_step,
        "detached_psnr_db": finished.detached_psnr_db,
        "reason": f"{'the threshold' if passed else 'half of the steps were done, and the threshold'} of "
        f"{larger.detach_at_db:g} dB was {'' if passed else 'not '}passed",
    }


def _told(recipe: Recipe) -> str:
    loss = _written(recipe.loss)
    loss += "".join(f", from step {phase.from_step} {_written(phase.loss)}" for phase in recipe.phases)
    return f"{loss}, learning rate {recipe.learning_rate:g}, batch {recipe.batch}, patch {recipe.patch}"


def _written(loss: dict[str, float]) -> str:
    return ",".join(f"{name}={weight:g}" for name, weight in loss.items())
