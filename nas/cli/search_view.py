"""Live view of a running search: budget left, counts, the best candidate, and what is training."""

import time
from collections import Counter
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from nas.cli.console import Console
from nas.cli.search_log import SearchLog
from nas.search.budget import duration
from nas.search.session import budget_share
from nas.search.standing import counts, in_words
from nas.search.study import StudyRecord

if TYPE_CHECKING:
    from nas.search.driver import Search

REFRESH_S = 0.5
LEFT_TO_EVENTS = 8  # lines of the terminal


class SearchView:
    """A bar and a few lines that are drawn anew; without a terminal, one line per event and nothing else.

    On a terminal an event takes one line, cut at its end: `isp-nas show` and the log file have the whole.
    """

    def __init__(self, console: Console, log: SearchLog | None = None, *, quiet: bool = False) -> None:
        self._console, self._log = console, log or SearchLog(None)
        self._quiet, self._moves = quiet, console.is_terminal and not quiet
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(None), TextColumn("{task.percentage:.0f}%"), TimeElapsedColumn()
        )
        self._task = self._bar.add_task("starting", total=1.0)
        self._live = Live(console=console, refresh_per_second=4, transient=True)
        self._drawn = 0.0

    def __enter__(self) -> "SearchView":
        if self._moves:
            self._live.start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self._moves:
            self._live.stop()

    def on_message(self, line: str) -> None:
        """Print one event above the moving part."""
        self._log.write(line)
        if self._quiet:
            return
        if self._console.is_terminal:
            first = line.partition("\n")[0]
            self._console.print(first, highlight=False, no_wrap=True, overflow="ellipsis")
        else:
            self._console.print(line, highlight=False, soft_wrap=True)

    def on_progress(self, search: "Search") -> None:
        """Draw the search as it stands."""
        if not self._moves or time.monotonic() - self._drawn < REFRESH_S:
            return
        self._drawn = time.monotonic()
        self._bar.update(self._task, completed=budget_share(search), description=budget_left(search))
        self._live.update(Group(self._bar, *lines_of(search, self._console.height)))


def lines_of(search: "Search", height: int) -> list[Text]:
    """Return what is shown below the bar: how the study stands, and one line per candidate in training."""
    busy = [f.candidate.trial for f in search.running]
    study = search.study
    lines = [text for text in (counted(study, busy), best_so_far(study), time_spent(study), crew(search)) if text]
    training = running(search)
    room = max(1, height - LEFT_TO_EVENTS - len(lines))
    if len(training) > room:
        training = [*training[: room - 1], f"and {len(training) - room + 1} more"]
    return [Text(line) for line in lines] + [Text(line, no_wrap=True, overflow="ellipsis") for line in training]


def budget_left(search: "Search") -> str:
    """Return what is left of the budget, in time; under a budget that counts, from the pace so far."""
    if search.budget.candidates is None:
        return f"{duration(search.remaining_s)} left"
    left = search.budget.candidates - search.used
    if left <= 0:
        return "finishing what was begun"
    pace = search.elapsed_s / search.used if search.used else 0
    return f"{left} candidates left" + (f", about {duration(left * pace)}" if pace else "")


def standing(study: StudyRecord, busy: Collection[int] = ()) -> str:
    """Return counts, the best so far, and where the time went."""
    return "; ".join(text for text in (counted(study, busy), best_so_far(study), time_spent(study)) if text)


def counted(study: StudyRecord, busy: Collection[int] = ()) -> str:
    """Return how many candidates were trained, how far, and how many were not."""
    return in_words(counts(study, busy))


def best_so_far(study: StudyRecord) -> str:
    """Return the best candidate with its score; nothing before anything is trained."""
    if not study.trained():
        return ""
    best = study.best()
    rung = study.comparison_rung()
    at = best.at(rung)
    return f"best score {best.score(rung):.3f} (trial {best.trial}, {at.psnr_db:.2f} dB at {at.steps} steps)"


def time_spent(study: StudyRecord) -> str:
    """Return training, compile and other seconds of the study so far."""
    return f"training {duration(study.train_s)}, compiling {duration(study.compile_s)}"


def crew(search: "Search") -> str:
    """Return how many workers of which hosts are here, and what was lost; nothing where all are of this machine."""
    if search.source is None:
        return ""
    hosts = Counter(worker.place.host for worker in search.workers if worker.place)
    here = ", ".join(f"{host} {number}" for host, number in sorted(hosts.items()))
    lost = f"; {len(search.study.losses)} trainings lost and tried again" if search.study.losses else ""
    refused = f"; {len(search.source.refusals)} refused" if search.source.refusals else ""
    return f"{len(search.workers)} workers" + (f" ({here})" if here else "") + lost + refused


def running(search: "Search") -> list[str]:
    """Return one line per candidate in training."""
    ladder, rungs = search.study.ladder, len(search.study.config.rungs)
    return [
        f"trial {f.candidate.trial}{f' {f.candidate.name}' if f.candidate.name else ''}: "
        + (f"rung {f.rung + 1}/{rungs}" if f.seed is None else f"final from seed {f.seed}")
        + f", step {f.worker.step}/{ladder[f.rung]}"
        + (f", {f.steps_per_s:.3g}/s" if f.steps_per_s else "")
        + (f" on {f.worker.place}" if f.worker.place else "")
        + ("" if f.candidate.name else f"  ({f.candidate.spec.description})")
        for f in search.running
    ]
