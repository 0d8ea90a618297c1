"""Live view of a running search: budget left, counts, the best candidate, and what is training."""

import time
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from nas.cli.console import Console
from nas.search.budget import duration
from nas.search.session import budget_share
from nas.search.standing import counts
from nas.search.study import Study

if TYPE_CHECKING:
    from nas.search.driver import Search

REFRESH_S = 0.5


class SearchView:
    """A bar and three lines that are drawn anew; without a terminal, one line per event and nothing else."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(None), TextColumn("{task.percentage:.0f}%"), TimeElapsedColumn()
        )
        self._task = self._bar.add_task("starting", total=1.0)
        self._live = Live(console=console, refresh_per_second=4, transient=True)
        self._drawn = 0.0

    def __enter__(self) -> "SearchView":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def say(self, line: str) -> None:
        """Print one event above the moving part."""
        self._console.print(line, highlight=False, soft_wrap=not self._console.is_terminal)

    def look(self, search: "Search") -> None:
        """Draw the search as it stands."""
        if not self._console.is_terminal or time.monotonic() - self._drawn < REFRESH_S:
            return
        self._drawn = time.monotonic()
        self._bar.update(self._task, completed=budget_share(search), description=budget_left(search))
        busy = [f.candidate.trial for f in search.running]
        lines = [standing(search.study, busy), *running(search)]
        self._live.update(Group(self._bar, *(Text(line) for line in lines)))


def budget_left(search: "Search") -> str:
    """Return what is left of the budget, in time; under a budget that counts, from the pace so far."""
    if search.budget.candidates is None:
        return f"{duration(search.remaining_s)} left"
    left = search.budget.candidates - search.used
    pace = search.elapsed_s / search.used if search.used else 0
    return f"{max(0, left)} candidates left" + (f", about {duration(left * pace)}" if pace else "")


def standing(study: Study, busy: Collection[int] = ()) -> str:
    """Return counts, the best so far, and where the time went."""
    told = [f"{number} {name}" for name, number in counts(study, busy).items() if number or name == "trained"]
    return f"{', '.join(told)}{_best(study)}; {time_spent(study)}"


def _best(study: Study) -> str:
    if not study.trained():
        return ""
    best = study.best()
    rung = study.comparison_rung()
    return f"; best score {best.score(rung):.3f} (trial {best.trial}, {best.at(rung).psnr_db:.2f} dB)"


def time_spent(study: Study) -> str:
    """Return training, compile and other seconds of the study so far."""
    return f"training {duration(study.train_s)}, compiling {duration(study.compile_s)}"


def running(search: "Search") -> list[str]:
    """Return one line per candidate in training."""
    ladder, rungs = search.study.ladder, len(search.study.config.rungs)
    return [
        f"trial {f.candidate.trial} {f.candidate.name or f.candidate.spec.description}: "
        + (f"rung {f.rung + 1}/{rungs}" if f.seed is None else f"final from seed {f.seed}")
        + f", step {f.slot.step}/{ladder[f.rung]}"
        for f in search.running
    ]
