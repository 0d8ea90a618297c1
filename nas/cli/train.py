"""The command `isp-nas train`: train one network to the end and print progress and result."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from nas import backend
from nas.cli.console import Console, plain, typed
from nas.cli.tables import SHORT_FORMATS, check_format, print_json
from nas.search.network_ref import NetworkRef
from nas.search.network_training import Quantise, TrainingRequest, plan_training
from nas.train.history import Validation
from nas.train.recipe import Recipe
from nas.train.recipe_file import PublishedRecipe

if TYPE_CHECKING:
    from nas.train.evaluation import Quality
    from nas.train.long_run import Callbacks, Finished
    from nas.train.run_folder import SuperNetwork, TrainingRun


def run_training(network: NetworkRef, options: TrainingRequest, *, results: Path, output_format: str) -> None:
    """Train one network to the end, with a bar, and print its validation quality."""
    check_format(output_format, SHORT_FORMATS)
    plan = plan_training(network, options, results)
    backend.prepare()
    with training_view(network.label, plan.recipe.total_steps) as callbacks:
        long_run, finished = plan.run(callbacks, quantise=_quantise() if options.qat else None)
    if output_format == "json":
        print_json(_as_data(finished, long_run, options.recipe))
    else:
        _print_trained(network.label, long_run, finished, options.recipe)


def _quantise() -> Quantise:
    from nas.export.qat import quantisation

    return quantisation


@contextmanager
def training_view(label: str, steps: int) -> "Iterator[Callbacks]":
    """Show bars, of reading and of training with its losses and latest validation; anywhere, a line per validation."""
    from nas.train.long_run import Callbacks

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(20),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[losses]}"),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        reading = bar.add_task("Reading pairs", total=None, visible=False, losses="")
        task = bar.add_task(f"Training {label}", total=steps, visible=False, losses="")
        latest: list[str] = [""]

        def read(done: int, total: int) -> None:
            bar.update(reading, completed=done, total=total, visible=done < total)

        def tick(step: int, losses: Mapping[str, float]) -> None:
            bar.update(task, completed=step, losses=losses_text(losses) + latest[0], visible=True)

        def validated(seen: Validation) -> None:
            latest[0] = f", {seen.psnr_db:.2f} dB"
            console.print(f"step {seen.step}/{steps}: {validation_text(seen)}", highlight=False, soft_wrap=True)

        yield Callbacks(tick, validated, read, on_message=lambda line: console.print(line, highlight=False))


def losses_text(losses: Mapping[str, float]) -> str:
    """Return `loss 0.0312 (l1 0.0201, ssim 0.111)`, the terms where there are several."""
    terms = [f"{name} {value:.3g}" for name, value in losses.items() if name != "loss"]
    return f"loss {losses['loss']:.3g}" + (f" ({', '.join(terms)})" if len(terms) > 1 else "")


def validation_text(seen: Validation) -> str:
    """Return losses, quality and, where batches were late, the share of time that was spent waiting for them."""
    waited = seen.waited_s / seen.train_s if seen.train_s else 0.0
    late = f", {waited:.0%} of the time waiting for batches" if waited > LATE_BATCHES else ""
    return f"{losses_text(seen.losses)}, validation {seen.psnr_db:.2f} dB, SSIM {seen.ssim:.4f}{late}"


LATE_BATCHES = 0.05


def _as_data(finished: "Finished", done: "TrainingRun", chosen: PublishedRecipe | None) -> dict[str, Any]:
    return {
        "folder": str(done.folder),
        "steps": finished.steps,
        "psnr_db": finished.quality.psnr_db,
        "ssim": finished.quality.ssim,
        "best": _best(finished.best),
        "stopped_early": finished.steps < done.recipe.total_steps,
        "recipe": done.recipe.to_dict(),
        "published_recipe": chosen.origin() if chosen else None,
        "super_network": _detachment(finished, done.super_network) if done.super_network else None,
    }


def _best(best: Validation | None) -> dict[str, Any] | None:
    """Return the best validation without its seconds, which differ from one machine to the next."""
    return None if best is None else {"step": best.step, "psnr_db": best.psnr_db, "ssim": best.ssim}


def _print_trained(label: str, done: "TrainingRun", finished: "Finished", chosen: PublishedRecipe | None) -> None:
    console = Console()
    as_int8 = ", rounded as in an int8 file," if done.quantisation else ""
    console.print(
        f"{label}: {_told_quality(finished.quality)}{as_int8} on the validation pairs after {finished.steps} steps on "
        f"{done.data.source} ({_recipe_text(done.recipe)}), kept in {done.folder}",
        highlight=False,
    )
    if finished.steps < done.recipe.total_steps:
        console.print(f"Ended before its {done.recipe.total_steps} steps: nothing better was coming.", highlight=False)
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
    console.print_command(f"Look:   tensorboard --logdir {typed(done.folder)}")
    qat = f"{plain(label)} --precision int8 --qat {typed(done.folder)}"
    trained = qat if done.quantisation else typed(done.folder)
    console.print_command(f"Export: isp-nas export {trained} --out export")


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


def _recipe_text(recipe: Recipe) -> str:
    loss = _written(recipe.loss)
    loss += "".join(f", from step {phase.from_step} {_written(phase.loss)}" for phase in recipe.phases)
    return f"{loss}, learning rate {recipe.peak_rate:.3g}, batch {recipe.batch}, patch {recipe.patch}"


def _written(loss: dict[str, float]) -> str:
    return ",".join(f"{name}={weight:g}" for name, weight in loss.items())
