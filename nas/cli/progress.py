"""A progress bar with the remaining time, for anything that takes longer than a moment."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from nas.cli.console import Console
from nas.data.pairs import Progress as Report


@contextmanager
def progress_bar(label: str, *, quiet: bool = False) -> Iterator[Report]:
    """Give a callback (done, total) that draws a bar on standard error, where that is a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
