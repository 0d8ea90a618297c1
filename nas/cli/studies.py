"""The commands about studies as a whole: `isp-nas status`, `studies` and `delete`, and watching one from afar."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.live import Live
from rich.text import Text

from nas.cli.console import Console, plain, print_out
from nas.cli.tables import SHORT_FORMATS, Column, check_format, print_json, print_rows
from nas.report.status import Clock, clock_of, listing, status
from nas.report.trash import trash_study
from nas.search import study as studies
from nas.search.budget import duration
from nas.search.network_ref import the_study
from nas.search.standing import in_words
from nas.units import runtime
from search_spaces.system.printable import json_printable

EVERY_S = 2.0

LISTED = (
    Column("study", lambda r: plain(r["study"]), right=False, stretches=True),
    Column("state", lambda r: "[green]running[/]" if r["running"] else _aged(r["age_s"]), right=False),
    Column("searched", lambda r: "—" if r["elapsed_s"] is None else duration(r["elapsed_s"])),
    Column("budget", lambda r: plain(r["budget"] or "—")),
    Column("trained", lambda r: "—" if r["trained"] is None else str(r["trained"])),
    Column("score", lambda r: "—" if r["score"] is None else f"{r['score']:.2f}"),
    Column("best", lambda r: _best(r), right=False),
)


def _aged(seconds: float | None) -> str:
    """Return how long ago something was, in the largest unit that fits."""
    if seconds is None:
        return "not begun"
    units = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
    size, unit = next((each for each in units if seconds >= 2 * each[0]), units[-1])
    return f"{seconds / size:.0f} {unit} ago"


def _best(row: Any) -> str:
    if row["problem"]:
        return plain(row["problem"])
    return "—" if row["trial"] is None else plain(row["name"] or f"trial {row['trial']}")


def show_studies(results: Path, *, output_format: str) -> None:
    """Print one line per study."""
    check_format(output_format)
    rows = listing(results)
    if not rows and output_format == "table":
        Console().print(f"There is no study in {plain(results)}; start one with `isp-nas search`.", highlight=False)
        return
    print_rows(rows, LISTED, output_format=output_format, console=Console())


def delete_study(results: Path, name: str, *, output_format: str) -> None:
    """Move a study to the trash, and say so."""
    check_format(output_format, SHORT_FORMATS)
    trashed = trash_study(results, name)
    now = None if trashed.now is None else str(trashed.now)
    if output_format == "json":
        print_json({"study": name, "folder": str(trashed.folder), "in_trash": True, "now": now})
        return
    place = f"; it lies in {plain(now)} now" if now else ""
    Console().print(
        f"Moved {plain(trashed.folder)} to the trash of this system{place}. Move it back to undo this.",
        highlight=False,
        soft_wrap=True,
    )


def show_status(results: Path, name: str | None, *, watch: bool, output_format: str) -> None:
    """Print how a study stands; with `watch` again and again while a search runs."""
    check_format(output_format, SHORT_FORMATS)
    opened = the_study(results, name)
    folder, read = opened.folder, [opened]

    def draw(console: Console, clock: Clock) -> None:
        figures = status(read.pop() if read else studies.load(folder), clock)  # later drawings show what is new
        if output_format == "json":
            print_status_json(figures, whole=not watch)
        else:
            print_status(console, figures)

    if watch:
        watch_study(folder, draw, output_format=output_format)
    else:
        draw(Console(), clock_of(folder))


def print_status_json(figures: dict[str, Any], *, whole: bool) -> None:
    """Print a status for a program: over several lines, or in one of a stream."""
    if whole:
        print_json(figures)
    else:
        print_out(json_printable(json.dumps(figures, ensure_ascii=False)) + "\n")


def print_status(console: Console, figures: dict[str, Any]) -> None:
    """Print a status for people."""
    state = "[green]running[/]" if figures["running"] else "not running"
    last = "" if figures["silent_s"] is None else f"; last record {_aged(figures['silent_s'])}"
    console.print(f"[bold]{plain(figures['study'])}[/] in {plain(figures['folder'])}: {state}{last}", highlight=False)
    if figures["budget"]:
        share = f" ({figures['budget_share']:.0%})" if figures["budget_share"] is not None else ""
        console.print(
            f"Searched {duration(figures['elapsed_s'])} of {plain(figures['budget'])}{share}, in {figures['sessions']} "
            f"session{'s' * (figures['sessions'] != 1)}, {'now' if figures['running'] else 'last'} "
            f"with {_workers(figures)}; training {duration(figures['train_s'])}, "
            f"compiling {duration(figures['compile_s'])}.",
            highlight=False,
        )
    console.print(f"{in_words(figures['counts'])}.", highlight=False)
    if figures["begun"]:
        console.print(
            f"In training for the first time: trials {', '.join(map(str, figures['begun']))}.", highlight=False
        )
    _print_crew(console, figures)
    best = figures["best"]
    if best:
        name = f" {plain(best['name'])}" if best["name"] else ""
        console.print(
            f"Best: trial {best['trial']}{name} at {best['steps']} steps, {best['psnr_db']:.2f} dB, {runtime(best)} ms"
            f", score {best['score']:.3f}.",
            highlight=False,
        )
    if figures["verdict"]:
        console.print(plain(figures["verdict"]["sentence"]), highlight=False)


def _workers(crew: dict[str, Any]) -> str:
    number = crew["workers"] if crew["crew"] is None else len(crew["crew"]["workers"])
    return f"{number} worker{'s' * (number != 1)}"


def _print_crew(console: Console, crew: dict[str, Any]) -> None:
    """Print who works now, and what every machine has done."""
    if crew["crew"] is not None:
        for row in crew["crew"]["workers"]:
            console.print(f"  {plain(_doing(row))}", highlight=False)
        for line in _refusals(crew["crew"]["refused"]):
            console.print(f"  {plain(line)}", highlight=False)
        if crew["crew"]["dashboard"]:
            console.print(f"  Dask's dashboard: {plain(crew['crew']['dashboard'])}", highlight=False)
    hosts = ", ".join(
        f"{plain(host)} {row['trainings']}" + (f" ({row['losses']} lost)" if row["losses"] else "")
        for host, row in crew["hosts"].items()
    )
    if hosts:
        console.print(f"Trainings by machine: {hosts}.", highlight=False)


def _refusals(lines: Sequence[str]) -> Iterator[str]:
    """Yield a line per reason for which workers were refused, with how many more there are than the first."""
    first: dict[str, str] = {}
    counts = Counter(line.partition(": ")[2] for line in lines)
    for line in lines:
        first.setdefault(line.partition(": ")[2], line)
    for reason, line in first.items():
        more = f" And {counts[reason] - 1} more workers for this reason." if counts[reason] > 1 else ""
        yield f"{line}{more}"


def _doing(row: dict[str, Any]) -> str:
    where = f"{row['host']} ({row['processor']})" if row["host"] else "this machine"
    if row["trial"] is None:
        return f"worker {row['worker']} on {where}: idle"
    pace = f", {row['steps_per_s']:.3g} steps/s" if row.get("steps_per_s") else ""
    return f"worker {row['worker']} on {where}: trial {row['trial']}, step {row['step']}/{row['steps']}{pace}"


Draw = Callable[[Console, Clock], None]


def watch_study(folder: Path, draw: Draw, *, output_format: str) -> None:
    """Draw a study now and whenever it has changed, until no search runs on it any more.

    On a terminal what was drawn before is replaced; elsewhere each drawing follows the last one.
    """
    console = Console()
    moving = console.is_terminal and output_format == "table"
    with Live(console=console, auto_refresh=False) as live:
        if not moving:
            live.stop()
        before: object = None
        while True:
            clock = clock_of(folder)
            now = _state(folder, clock) if not moving else object()  # a terminal shows the seconds, too
            if now != before:
                before = now
                _draw_once(live, console, draw, clock, moving=moving)
            if not clock.running:
                break
            time.sleep(EVERY_S)
    if output_format == "table":
        console.print("No search runs on it.", highlight=False)


def _state(folder: Path, clock: Clock) -> object:
    records = folder / studies.RECORDS_FILE
    return (records.stat().st_size if records.exists() else 0, clock.running)


def _draw_once(live: Live, console: Console, draw: Draw, clock: Clock, *, moving: bool) -> None:
    if not moving:
        draw(console, clock)
        return
    page = Console(force_terminal=True, width=console.width)
    with page.capture() as drawn:
        draw(page, clock)
    live.update(Text.from_ansi(drawn.get()), refresh=True)
