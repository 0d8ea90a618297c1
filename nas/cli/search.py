"""The command `isp-nas search`, with what a person sees meanwhile."""

import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

from nas import backend
from nas.cli.console import Console
from nas.cli.progress import progress_bar
from nas.cli.show import FRONT_COLUMNS
from nas.cli.tables import print_rows
from nas.data.host_cache import warm
from nas.search import candidate_rows, finals, study
from nas.search.budget import Budget, duration
from nas.search.device_pruning import runnable
from nas.search.open_study import SearchContext, SearchOptions, open_study
from nas.train.memory import host_bytes
from nas.train.workers import default_workers, shares_of_cores
from nas.units import count
from search_spaces.errors import StudyError
from search_spaces.system import folder_lock


def run_search(asked: SearchOptions, results: Path, budget: Budget, *, workers: int | None) -> None:
    """Open or start the study, search until the budget is spent or Ctrl-C, and print what was found.

    `workers` train at once; None: as many as suit the machine.
    """
    workers = workers or default_workers(backend.expected(), host_bytes())
    backend.prepare(processes=workers)
    console = Console()
    with progress_bar("Reading pairs") as read:
        opened = open_study(asked, results, budget, read=read)
        warm(opened.pairs, available=host_bytes(), say=lambda line: console.print(line, highlight=False), progress=read)
    _announce(console, opened, budget)
    opened = _without_refused(console, opened)
    with _only_search(opened.study.folder):
        opened = _as_it_is_now(opened)
        before = _rungs_reached(opened)
        interrupted, exhausted = _search(console, opened, budget, workers)
    if _rungs_reached(opened) == before and not interrupted and not exhausted:
        console.print(f"The budget of {budget} is spent; a larger one extends the search.", highlight=False)
    _conclude(console, opened, interrupted)
    if interrupted:
        raise KeyboardInterrupt


def _without_refused(console: Console, opened: SearchContext) -> SearchContext:
    """Leave out of the space what the device refuses, saying so."""
    allow_fallback = opened.study.config.allow_fallback
    space, left_out = runnable(opened.space, opened.device, allow_fallback=allow_fallback)
    for each in left_out:
        console.print(f"[dim]{each.sentence}[/]", highlight=False)
    return replace(opened, space=space)


def _as_it_is_now(opened: SearchContext) -> SearchContext:
    """Read the study again now that nobody else may write to it: another search may have ended a moment ago."""
    found = study.load(opened.study.folder)
    if replace(found.config, data=opened.study.config.data) != opened.study.config:
        raise StudyError(f"Study {found.config.name} was started by another command just now; run this one again.")
    if found.config.data != opened.study.config.data:  # the same pairs, as `open_study` made sure, in another place
        found.append("moved", source=opened.study.config.data.source)
    return replace(opened, study=found)


def _rungs_reached(opened: SearchContext) -> int:
    return sum(len(each.rungs) + len(each.finals) for each in opened.study.candidates.values())


def _only_search(folder: Path) -> Any:
    from filelock import Timeout

    lock = folder_lock.lock(folder)
    try:
        return lock.acquire()
    except Timeout:
        raise StudyError(f"Another search is working on {folder}; wait for it, or name another --study.") from None


def _announce(console: Console, opened: SearchContext, budget: Budget) -> None:
    config = opened.study.config
    done = f", {duration(opened.study.elapsed_s)} searched so far" if not opened.is_new else ""
    console.print(f"Study [bold]{config.name}[/] in {opened.study.folder}{done}", highlight=False)
    if config.data.source == "demo":
        from nas.data.demo.demo_set import DEMO_NOTE

        console.print(f"[dim]{DEMO_NOTE}[/]", highlight=False)
    console.print(
        f"Budget {budget}; {count(opened.space.size)} networks; {config.objective} on {config.device}; "
        f"rungs of {', '.join(map(str, config.rungs))} steps"
        + (f", finals of {config.final_steps}" if config.final_steps else ""),
        highlight=False,
    )
    if config.prior:
        from nas.search.prior import table_size

        known = ", ".join(f"{table_size(name)} networks trained on {name}" for name in config.prior)
        console.print(f"[dim]Proposals begin with what {known} showed; --prior none begins with nothing.[/]")


def _search(console: Console, opened: SearchContext, budget: Budget, workers: int) -> tuple[bool, bool]:
    """Search; tell whether Ctrl-C (or a polite kill) ended it, and whether nothing new was left to try."""
    from nas.cli.search_view import SearchView
    from nas.search.driver import Search
    from nas.train.workers import Worker

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    on_cpu = backend.expected() == "cpu"
    shares = shares_of_cores(workers) if on_cpu else [None] * workers
    slots = [Worker(cores=cores) for cores in shares]
    with SearchView(console) as view:
        search = Search(
            opened.study, opened.space, opened.device, budget, opened.pairs, slots, view.say, view.look,
            vgg_file=opened.vgg_file,
        )  # fmt: skip
        try:
            search.run()
        except KeyboardInterrupt:
            return True, search.exhausted
    return False, search.exhausted


def _conclude(console: Console, opened: SearchContext, interrupted: bool) -> None:
    from nas.cli.search_view import standing

    found = opened.study
    if interrupted:
        console.print("\nStopped; the rung in flight is lost. The same command continues.")
    console.print(f"\n{standing(found)}", highlight=False)
    if not found.trained():
        return
    judged = finals.verdict_of(found)
    if judged is not None:
        console.print(f"[bold]{judged.sentence}[/]", highlight=False)
    rung = candidate_rows.choose_rung(found, None)
    best = [row for row in candidate_rows.rows(found, rung) if row["on_front"]]
    title = f"Pareto front at {found.ladder[rung]} steps"
    print_rows(best, FRONT_COLUMNS, form="table", console=console, title=title)
    name = found.config.name
    console.print(f"\nLook:   isp-nas pareto --study {name} --plot front.png", highlight=False)
    console.print(f"Export: isp-nas export best --study {name} --out export", highlight=False)
