"""Rows of data as a table for people, or as JSON or CSV for programs."""

import csv
import io
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import floor, log10
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.markup import render
from rich.table import Table

from search_spaces.errors import UnknownNameError

FORMATS = ("table", "json", "csv")
_GAP = 2  # between two columns
_LEAST = 8  # of a flexible column, however little is left
_MOST_DECIMALS = 6  # of a time
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """A column for people: its heading, and how a row is shown in it."""

    heading: str
    show: Callable[[Row], str]
    right: bool = True
    stretches: bool = False  # takes the room that is left, and is cut where there is too little
    wraps: bool = False  # takes the room that is left, over several lines where needed


def check_format(name: str, known: Sequence[str] = FORMATS) -> str:
    """Return `name`; raise UnknownNameError where it is no format of this command."""
    if name not in known:
        raise UnknownNameError("format", name, known)
    return name


def print_rows(
    rows: Sequence[Row], columns: Sequence[Column], *, form: str, console: Console, title: str | None = None
) -> None:
    """Print rows in the chosen form; JSON and CSV carry every field at full precision."""
    if form == "json":
        print_json(rows)
    elif form == "csv":
        sys.stdout.write(to_csv(rows))
    else:
        if title:  # not the table's own, which is broken where the table is narrower
            console.print(f"[italic]{title}[/]", highlight=False)
        console.print(_table(rows, columns, console.width))


def print_json(data: object) -> None:
    """Print data for a program, at full precision."""
    sys.stdout.write(json.dumps(data, indent=1, ensure_ascii=False, default=list) + "\n")


def to_csv(rows: Sequence[Row]) -> str:
    """Return rows as CSV; nested values are written as JSON."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if rows:
        writer.writerow(rows[0])
    for row in rows:
        writer.writerow(json.dumps(v, ensure_ascii=False) if isinstance(v, dict | list) else v for v in row.values())
    return text.getvalue()


def _table(rows: Sequence[Row], columns: Sequence[Column], room: int) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column, width in zip(columns, _widths(rows, columns, room), strict=True):
        table.add_column(
            column.heading,
            justify="right" if column.right else "left",
            no_wrap=not column.wraps,
            width=width,
            overflow="ellipsis",
        )
    for row in rows:
        table.add_row(*(column.show(row) for column in columns))
    return table


def _widths(rows: Sequence[Row], columns: Sequence[Column], room: int) -> list[int]:
    """Return every column's width: what it holds; the flexible ones share what is left in proportion.

    Told to Rich in full, for it would rather drop a column than cut one.
    """
    held = [_widest(rows, column) for column in columns]
    flexible = [column.stretches or column.wraps for column in columns]
    fixed = sum(width for width, bends in zip(held, flexible, strict=True) if not bends)
    wanted = sum(held) - fixed
    left = room - fixed - _GAP * (len(columns) - 1)
    if not wanted or wanted <= left:
        return held
    return [
        max(_LEAST, width * left // wanted) if bends else width for width, bends in zip(held, flexible, strict=True)
    ]


def _widest(rows: Sequence[Row], column: Column) -> int:
    return max(
        [cell_len(column.heading), *(cell_len(line) for row in rows for line in _plain(column, row))],
    )


def _plain(column: Column, row: Row) -> list[str]:
    return render(column.show(row)).plain.splitlines()


def count(value: float) -> str:
    """Return a count in the unit a person reads: 842, 28.5 k, 3.41 M, 4.65 G; 3.7e+15 above these."""
    if value >= 1e12:
        return f"{value:.2g}"
    for limit, unit in ((1e9, " G"), (1e6, " M"), (1e4, " k")):
        if value >= limit:
            return f"{value / (1e3 if unit == ' k' else limit):.3g}{unit}"
    return f"{value:g}"


def runtime(row: Row) -> str:
    """Return the predicted runtime of a row with its interval."""
    if row["runtime_ms"] is None:
        return "—"
    return predicted_with_interval(row["runtime_ms"], row["runtime_low_ms"], row["runtime_high_ms"])


def predicted_with_interval(ms: float, low: float, high: float) -> str:
    """Return a predicted time with its interval: 61.0 (41–92), 1.8 (1.2–2.7)."""
    return f"{predicted_ms(ms)} ({interval_ms(ms, low, high)})"


def milliseconds(ms: float) -> str:
    """Return a time as a person reads it, two digits of it at least: 131, 8.4, 0.35."""
    return f"{ms:.{_decimals(ms)}f}"


def predicted_ms(ms: float) -> str:
    """Return a predicted time: 131.0, 8.4, 0.35."""
    return f"{ms:.{_predicted_decimals(ms)}f}"


def interval_ms(ms: float, low: float, high: float) -> str:
    """Return the interval of a predicted time, with as many digits as it takes to hold the time as it is shown."""
    shown, decimals = round(ms, _predicted_decimals(ms)), _decimals(low)
    while decimals < _MOST_DECIMALS and not round(low, decimals) <= shown <= round(high, decimals):
        decimals += 1
    return f"{low:.{decimals}f}–{high:.{decimals}f}"


def _predicted_decimals(ms: float) -> int:
    return max(1, _decimals(ms))


def _decimals(value: float) -> int:
    """Return behind which decimal a number may be rounded so that two digits of it are left."""
    return min(_MOST_DECIMALS, max(0, 1 - floor(log10(value)))) if value > 0 else 0


def decibels(loss: float) -> str:
    """Return a loss in dB with its sign, and nothing that rounds to nothing as 0."""
    return "0" if abs(loss) < 5e-4 else f"{loss:+.3f}"
