"""Parse a profile of `benchmark_model`: time by operation. Pure.

Profiling slows a network, so these times say how it divides among its operations, not how long it takes. Read are
the tables on the terminal and both forms of CSV, whichever columns the build has. A delegate is one row; what it
reports of its inside stands apart and is `internal`.

Source: stats_calculator.cc and profile_summary_formatter.cc of TensorFlow and LiteRT.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from latency_models.measure.log_lines import plain_lines
from search_spaces.errors import MeasurementError


@dataclass(frozen=True)
class OpTime:
    """One operation, in the order in which the network runs."""

    node_type: str  # "CONV_2D", "TfLiteNnapiDelegate", "Convolution (NHWC, F32) IGEMM", …
    name: str
    avg_ms: float  # of one call
    times_called: int  # in one run of the network
    internal: bool = False  # inside a delegate, whose own row holds this time too

    @property
    def ms_per_run(self) -> float:
        """The operation's share of one run of the network."""
        return self.avg_ms * self.times_called


@dataclass(frozen=True)
class TypeTime:
    """All operations of one type together."""

    node_type: str
    count: int
    ms_per_run: float
    times_called: int
    internal: bool = False


_TITLE = re.compile(r"=+ (.+?) =+$")
_RUN_ORDER, _BY_TYPE = "Run Order", "Summary by node type"
_INITIALIZATION = "Profiling Info for Benchmark Initialization"
_REGULAR_RUNS = "Operator-wise Profiling Info for Regular Benchmark Runs"
_DELEGATE_INTERNAL = "Delegate internal:"
_TYPE, _NAME, _AVG, _CALLED, _COUNT = "node type", "name", "avg ms", "times called", "count"
_FIGURE = re.compile(r"\s*[-+]?(?:\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|nan|inf)(%?)\s*")
# A line with so many figures between blanks is a row whose tabs a terminal or an editor made blanks of.
PASTED_FIGURES = 4
Columns = tuple[str, ...]


@dataclass(frozen=True)
class _Row:
    title: str
    internal: bool
    cells: dict[str, str]


def is_op_profile(text: str) -> bool:
    """Tell whether `text` holds a table of operations."""
    return any(_header(line) for line in plain_lines(text))


def parse_op_profile(text: str) -> tuple[OpTime, ...]:
    """Return the operations of the regular runs; raise MeasurementError where `text` lists none."""
    rows = [row for row in _rows(text) if row.title == _RUN_ORDER and _NAME in row.cells]
    return tuple(
        OpTime(row.cells[_TYPE], row.cells[_NAME], _number(row, _AVG), _whole(row, _CALLED), row.internal)
        for row in _some(rows, f'"{_RUN_ORDER}"')
    )


def parse_type_summary(text: str) -> tuple[TypeTime, ...]:
    """Return the regular runs by type of operation; raise MeasurementError where `text` has no such table."""
    rows = [row for row in _rows(text) if _COUNT in row.cells]
    return tuple(
        TypeTime(row.cells[_TYPE], _whole(row, _COUNT), _number(row, _AVG), _whole(row, _CALLED), row.internal)
        for row in _some(rows, f'"{_BY_TYPE}"')
    )


def _some(rows: list[_Row], table: str) -> list[_Row]:
    if not rows:
        raise MeasurementError(
            f"No table {table} of benchmark_model's profile in the log; "
            "profile with --enable_op_profiling=true and give the whole output."
        )
    return rows


def _rows(text: str) -> Iterator[_Row]:
    """Yield the rows of all tables but those of the initialization."""
    title, columns, internal, skipping = _RUN_ORDER, Columns(), False, False
    for line in plain_lines(text):
        if _INITIALIZATION in line or _REGULAR_RUNS in line:
            skipping, internal, columns = _INITIALIZATION in line, False, ()
        elif line.strip() == _DELEGATE_INTERNAL:
            internal, columns = True, ()
        elif match := _TITLE.match(line):
            title, columns = match[1], ()
        elif header := _header(line):
            columns = header
        elif not line.strip():
            columns = ()
        elif columns and not skipping and (cells := _row(line, columns)):
            yield _Row(title, internal, cells)


def _row(line: str, columns: Columns) -> dict[str, str]:
    """Return a row by column; nothing for a line of another program."""
    if "\t" in line:
        return _cells(line.removeprefix("\t").split("\t") if line.startswith("\t") else line.split(","), columns, line)
    pieces = line.split()
    if sum(_FIGURE.fullmatch(piece) is not None for piece in pieces) >= PASTED_FIGURES:  # pasted, its tabs lost
        return _cells(pieces, columns, line, between=" ")
    return _cells(line.split(","), columns, line) if "," in line else {}


def _header(line: str) -> Columns:
    """Return the columns that a header names, "[avg ms]" and "avg_ms" alike; () where it is none."""
    pieces = re.split(r"\t|,", line.strip())
    if len(pieces) == 1:
        pieces = re.findall(r"\[[^\]]*\]", line) or re.split(r" {2,}", line.strip())
    names = [name.strip().strip("[]").lower().replace("_", " ") for name in pieces]
    return tuple(names) if names and names[0] == _TYPE and {_AVG, _CALLED} <= set(names) else ()


def _cells(pieces: Sequence[str], columns: Columns, line: str, *, between: str = ",") -> dict[str, str]:
    """Return a row by column; raise MeasurementError where a cell is missing.

    Types and names may hold what separates the cells, so the figures between them are looked for. A CSV
    puts tabs for the commas of a name.
    """
    figures = [column for column in columns if column not in (_TYPE, _NAME)]
    for start in range(1, len(pieces) - len(figures) + 1):
        end = start + len(figures)
        if all(map(_fits, figures, pieces[start:end])):
            cells = dict(zip(figures, (piece.strip() for piece in pieces[start:end]), strict=True))
            cells[_TYPE] = _words(pieces[:start], between)
            return cells | ({_NAME: _words(pieces[end:], between)} if _NAME in columns else {})
    raise MeasurementError(
        f'The row "{line.strip()}" of the profile lacks some of {", ".join(figures)}; give it as the tool wrote it.'
    )


def _fits(column: str, piece: str) -> bool:
    match = _FIGURE.fullmatch(piece)
    return match is not None and ("%" in column) == bool(match[1])


def _words(pieces: Sequence[str], between: str) -> str:
    return between.join(pieces).replace("\t", ",").strip()


def _number(row: _Row, column: str) -> float:
    value = float(row.cells[column])
    if not 0 <= value < float("inf"):
        raise MeasurementError(
            f"The profile gives {row.cells[column]} as {column} of {row.cells[_TYPE]}, which cannot be; profile again."
        )
    return value


def _whole(row: _Row, column: str) -> int:
    return int(_number(row, column))
