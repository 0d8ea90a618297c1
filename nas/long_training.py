"""Train one network to the end, in stretches, each ending in a checkpoint from which it continues.

The recipe's learning rate falls over the whole length, so a run asked for 10 000 steps and one asked for 20 000
are two runs: each has its own folder.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas import checkpoint, provenance
from nas.config import check_fits
from nas.data.cache import cache_dir
from nas.data.pairs import DataConfig, open_prepared, prepare
from nas.evaluate import Quality, judge, load_or_start
from nas.recipe import Recipe
from nas.target import CHECKPOINT_FILE, TRAINING_FILE, read_training
from nas.training import Tick, train
from search_spaces.blocks import build_graph
from search_spaces.errors import StudyError
from search_spaces.spec import ArchSpec

# A checkpoint this often: losing at most a minute or so, spending under 1 % of the time on writing.
STRETCHES = 20
LEAST_STRETCH = 100


@dataclass(frozen=True)
class LongRun:
    """One network, what it is trained on, and where its state is kept."""

    folder: Path
    spec: ArchSpec
    data: DataConfig
    recipe: Recipe
    seed: int

    def settings(self) -> dict[str, object]:
        """Return what makes two runs the same."""
        data = {name: value for name, value in self.data.to_dict().items() if value is not None}
        data["raw"] = {name: value for name, value in data["raw"].items() if value is not None}
        return {"spec": self.spec.to_dict(), "data": data, "recipe": self.recipe.to_dict(), "seed": self.seed}


def run(long_run: LongRun, *, tick: Tick | None = None, read: Callable[[int, int], None] | None = None) -> Quality:
    """Train to the recipe's horizon, continuing where an earlier call stopped; return the validation quality.

    Raises StudyError where the folder holds a run with other settings.
    """
    long_run.recipe.require_available()
    prepared = prepare(long_run.data, cache_dir() / "pairs", progress=read)
    check_fits(long_run.recipe, prepared)
    _claim(long_run)
    graph = build_graph(long_run.spec)
    path = long_run.folder / CHECKPOINT_FILE
    state = load_or_start(long_run.spec, graph, path, seed=long_run.seed, initialiser=long_run.recipe.initialiser)
    pairs = open_prepared(prepared, "train")
    while state.step < long_run.recipe.horizon:
        until = min(state.step + _stretch(long_run.recipe.horizon), long_run.recipe.horizon)
        state = train(
            graph, state, pairs, recipe=long_run.recipe, steps=until, seed=long_run.seed, tick=tick
        ).checkpoint
        _save(state, path)
    return judge(graph, state.parameters, open_prepared(prepared, "val"))


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
        differs = [name for name, value in long_run.settings().items() if told.get(name) != value]
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
