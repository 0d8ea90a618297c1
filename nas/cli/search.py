"""The command `isp-nas search`, with what a person sees meanwhile."""

import shlex
import signal
from functools import partial
from pathlib import Path

from nas.cli.console import Console, plain
from nas.cli.progress import progress_bar
from nas.cli.search_view import SearchView, standing
from nas.cli.show import FRONT_COLUMNS
from nas.cli.tables import print_rows
from nas.search import candidate_rows, finals
from nas.search.budget import Budget, duration
from nas.search.open_study import SearchContext, SearchOptions
from nas.search.session import SearchInterrupted, open_session, without_refused
from nas.search.study import Study
from nas.units import count


def run_search(asked: SearchOptions, results: Path, budget: Budget, *, workers: int | None) -> None:
    """Open or start the study, search until the budget is spent or Ctrl-C, and print what was found.

    `workers` train at once; None: as many as suit the machine.
    """
    console = Console()
    on_message = partial(console.print, highlight=False)
    with progress_bar("Reading pairs") as read:
        session = open_session(asked, results, budget, workers=workers, on_message=on_message, on_reading=read)
    _announce(console, session.context, budget)
    session = without_refused(session, lambda line: on_message(f"[dim]{line}[/]"))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with SearchView(console) as view:
            ended = session.run(on_message=view.on_message, on_progress=view.on_progress)
    except SearchInterrupted as stopped:
        on_message("\nStopped; the rung in flight is lost. The same command continues.")
        _conclude(console, stopped.study)
        raise
    if ended.is_spent:
        on_message(f"The budget of {budget} is spent; a larger one extends the search.")
    _conclude(console, ended.study)


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


def _conclude(console: Console, found: Study) -> None:
    console.print(f"\n{standing(found)}", highlight=False)
    if not found.trained():
        return
    judged = finals.verdict_of(found)
    if judged is not None:
        console.print(f"[bold]{judged.sentence}[/]", highlight=False)
    rung = candidate_rows.choose_rung(found, None)
    best = candidate_rows.rows(found, rung, everything=False)
    title = f"Pareto front at {found.ladder[rung]} steps"
    print_rows(best, FRONT_COLUMNS, output_format="table", console=console, title=title)
    where = _typed(found.folder)
    console.print(f"\nLook:   isp-nas pareto {where} --plot front.png", highlight=False)
    console.print(f"Export: isp-nas export best {where} --out export", highlight=False)


def _typed(folder: Path) -> str:
    """Return the options that name a study."""
    results = "" if folder.parent == Path("results") else f" --results {shlex.quote(str(folder.parent))}"
    return f"--study {folder.name}{plain(results)}"
