"""Print rows of data as a table for people, or as JSON or CSV for programs."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.table import Table

from nas.cli.console import Console, plain, print_out, text_of
from nas.units import Row
from search_spaces.errors import UnknownNameError
from search_spaces.system.printable import json_printable, printable

FORMATS = ("table", "json", "csv")
_GAP = 2  # between two columns
_LEAST = 8  # of a flexible column, however little is left
SHORT_FORMATS = ("table", "json")


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
    rows: Sequence[Row], columns: Sequence[Column], *, output_format: str, console: Console, title: str | None = None
) -> None:
    """Print rows in the chosen form; JSON and CSV carry every field at full precision."""
    if output_format == "json":
        print_json(rows)
    elif output_format == "csv":
        print_out(printable(to_csv(rows), keep="\n"))
    else:
        if title:  # not the table's own, which is broken where the table is narrower
            console.print(f"[italic]{plain(title)}[/]", highlight=False)
        console.print(_table(rows, columns, console.width))


def print_json(data: object) -> None:
    """Print data for a program, at full precision."""
    print_out(json_printable(json.dumps(data, indent=1, ensure_ascii=False, default=list)) + "\n")


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
    return text_of(column.show(row)).splitlines()
