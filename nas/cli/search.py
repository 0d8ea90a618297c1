"""The command `isp-nas search`, with what a person sees meanwhile."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.cli.console import Console, plain, typed
from nas.cli.progress import progress_bar
from nas.cli.search_log import SearchLog
from nas.cli.search_view import SearchView, standing
from nas.cli.show import FRONT_COLUMNS
from nas.cli.tables import print_rows
from nas.data.pairs import Progress
from nas.search import candidate_rows, verdicts
from nas.search.budget import Budget, duration
from nas.search.cluster import ClusterOptions
from nas.search.open_study import SearchContext, SearchOptions
from nas.search.session import SearchInterrupted, SearchSession, open_session, without_refused
from nas.search.study import StudyRecord
from nas.units import count


def run_search(
    options: SearchOptions,
    results: Path,
    budget: Budget,
    *,
    workers: int | None,
    cluster: ClusterOptions | None = None,
    stall_s: float | None = None,
    quiet: bool = False,
    log_file: Path | None = None,
) -> None:
    """Open or start the study, search until the budget is spent or Ctrl-C, and print what was found.

    `workers` train at once here; None: as many as suit the machine, or none with a `cluster`. With `quiet` nothing but
    the result is printed; every message is appended to `log_file`.
    """
    with SearchLog(log_file) as log:
        voice = Voice(Console(), log, quiet)
        with _read_first(voice) as (say, read):
            session = open_session(
                options,
                results,
                budget,
                workers=workers,
                cluster=cluster,
                stall_s=stall_s,
                on_message=say,
                on_reading=read,
            )
        _search(session, budget, voice)
        if log.problem:
            Console(stderr=True).print(plain(log.problem), highlight=False)


@contextmanager
def _read_first(voice: "Voice") -> Iterator[tuple[Callable[[str], None], Progress]]:
    """Draw a bar while pairs are read, and say what there is to say after it: a line would stand behind the bar."""
    lines: list[str] = []
    try:
        with progress_bar("Reading pairs", quiet=voice.quiet) as read:
            yield lines.append, read
    finally:
        for line in lines:
            voice.say(line)


@dataclass(frozen=True)
class Voice:
    """Where the messages of a search go: to the terminal, unless it is to be quiet, and to the log file."""

    console: Console
    log: SearchLog
    quiet: bool

    def say(self, line: str) -> None:
        """Tell what happens; a quiet search leaves it to the log file."""
        self.log.write(line)
        if not self.quiet:
            self.console.print(line, highlight=False)

    def suggest(self, line: str) -> None:
        """Tell a command that may come next, in one piece."""
        self.log.write(line)
        if not self.quiet:
            self.console.print_command(line)

    def conclude(self, line: str) -> None:
        """Tell a part of the result."""
        self.log.write(line)
        self.console.print(line, highlight=False)

    def remark(self, line: str) -> None:
        """Tell something in one line, cut where a terminal is narrower."""
        self.log.write(line)
        if not self.quiet:
            cut: dict[str, Any] = {"no_wrap": True, "overflow": "ellipsis"} if self.console.is_terminal else {}
            self.console.print(f"[dim]{plain(line)}[/]", highlight=False, **cut)


def _search(session: SearchSession, budget: Budget, voice: Voice) -> None:
    _announce(voice, session.context, budget)
    session = without_refused(session, voice.remark)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with SearchView(voice.console, voice.log, quiet=voice.quiet) as view:
            ended = session.run(on_message=view.on_message, on_progress=view.on_progress)
    except SearchInterrupted as stopped:
        voice.say("\nStopped; the rung in flight is lost. The same command continues.")
        _conclude(voice, stopped.study)
        raise
    if ended.why_nothing:
        voice.conclude(ended.why_nothing)
    _conclude(voice, ended.study)


NO_FINALS = (
    "There were no finals, so the best network found cannot be compared with the best published design. Ask for finals "
    "by --final-steps N."
)


def _announce(voice: Voice, opened: SearchContext, budget: Budget) -> None:
    config = opened.study.config
    done = f", {duration(opened.study.elapsed_s)} searched so far" if not opened.is_new else ""
    voice.say(f"Study [bold]{plain(config.name)}[/] in {plain(opened.study.folder)}{done}")
    if config.data.source == "demo":
        from nas.data.demo.demo_set import DEMO_NOTE

        voice.say(f"[dim]{DEMO_NOTE}[/]")
    voice.say(
        f"Budget {budget}; {count(opened.space.size)} networks; {config.objective} on {plain(config.device)}; "
        f"rungs of {', '.join(map(str, config.rungs))} steps"
        + (f", finals of {config.final_steps}" if config.final_steps else ""),
    )
    if config.prior:
        from nas.search.prior import table_size

        known = ", ".join(f"{table_size(name)} networks trained on {name}" for name in config.prior)
        voice.say(f"[dim]Proposals begin with what {known} showed; --prior none begins with nothing.[/]")


def _conclude(voice: Voice, study: StudyRecord) -> None:
    voice.conclude(f"\n{standing(study)}")
    if not study.trained():
        return
    judged = verdicts.verdict_of(study)
    if judged is not None:
        voice.conclude(f"[bold]{judged.sentence}[/]")
    else:
        voice.conclude(NO_FINALS)
    rung = candidate_rows.choose_rung(study, None)
    best = candidate_rows.rows(study, rung, everything=False)
    title = f"Pareto front at {study.ladder[rung]} steps"
    if judged is not None and rung != study.final_rung:
        voice.conclude(
            f"The front is that of all candidates at {study.ladder[rung]} steps; finals train a few of them further."
        )
    print_rows(best, FRONT_COLUMNS, output_format="table", console=voice.console, title=title)
    where = _typed(study.folder)
    voice.suggest(f"\nLook:   isp-nas pareto {where} --plot front.png")
    voice.suggest(f"Page:   isp-nas report {where}")
    voice.suggest(f"Export: isp-nas export best {where} --out export")


def _typed(folder: Path) -> str:
    """Return the options that name a study."""
    results = "" if folder.parent == Path("results") else f" --results {typed(folder.parent)}"
    return f"--study {folder.name}{results}"
