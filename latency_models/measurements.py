"""Measurements: the time of a network on a device, with every condition that determines what it means.

A file of measurements is a CSV, one row per network, that people may write by hand: see `COLUMNS`. Times are
milliseconds throughout; sources in other units are converted where they are read. A file keeps every row it was
given; rows of one network under equal conditions become one measurement where they are read.
"""

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from difflib import get_close_matches
from math import inf
from pathlib import Path
from statistics import median
from typing import Any

from search_spaces.errors import MeasurementError
from search_spaces.system import stored
from search_spaces.system.atomic_write import write_durably

STATISTICS = ("median", "mean", "pair_ratio", "minimum")


MODELS_FOLDER = "models"  # in which the files that are timed lie, beside the measurements


@dataclass(frozen=True)
class Conditions:
    """Under which a time was taken; two times compare only where all but the date agree. Empty: not known."""

    device: str = ""  # what people call it: "Pixel 4", "AMD EPYC (Zen 4), 2 cores"
    soc: str = ""
    os: str = ""
    runtime: str = ""  # "LiteRT", "benchmark_model", "AI Benchmark"
    runtime_version: str = ""
    binary_sha256: str = ""  # of the runtime's binary: builds of one version differ by a factor
    delegate: str = ""  # "cpu", "xnnpack", "gpu", "nnapi", "neuron", …
    flags: str = ""  # that the binary was given, in one line
    precision: str = ""  # in which the device computed: "fp32", "fp16", "int8", …
    threads: int | None = None
    date: str = ""  # ISO 8601


@dataclass(frozen=True)
class Timing:
    """One network that was timed."""

    network: str  # the name of a design, or of the .tflite file without its suffix
    runtime_ms: float  # by `statistic`
    statistic: str = "median"  # one of STATISTICS
    low_ms: float | None = None  # 10 % of the runs were faster (5 % where the source tells only that)
    high_ms: float | None = None  # 10 % (or 5 %) were slower
    runs: int | None = None  # timed, without warm-up
    model: str = ""  # path of the .tflite file, relative to the file of measurements; empty: not at hand
    model_sha256: str = ""
    nodes: int | None = None  # of the network in the runtime
    delegated_nodes: int | None = None  # of them that the delegate took
    partitions: int | None = None  # that the delegate made of them
    source: str = ""  # the command or file that the figure is from
    conditions: Conditions = Conditions()


# The columns of a CSV: what a Timing holds, then its conditions. Only network and runtime_ms are needed.
COLUMNS = tuple(field.name for part in (Timing, Conditions) for field in fields(part) if field.name != "conditions")
_OF_CONDITIONS = {field.name for field in fields(Conditions)}
_NEEDED = ("network", "runtime_ms")
_PER_MS = {"ms": 1.0, "us": 1000.0, "s": 0.001}
_TIME = re.compile(r"(runtime|low|high)_(ms|us|s)")
_WITHOUT_UNIT = ("runtime", "latency", "time")  # beside a time, "runtime" is the software
_AGREEING = 1.1  # the largest ratio between repeats of one measurement
Placed = tuple[str, Timing]  # with where it is from, to name it in an error


def read_measurements(path: Path) -> tuple[Timing, ...]:
    """Return what the file at `path` holds, repeats merged; raise MeasurementError where a row cannot be meant."""
    return merged(parse_measurements(_read(path), where=str(path)))


def write_measurements(path: Path, timings: Sequence[Timing], *, extend: bool = False) -> tuple[Timing, ...]:
    """Write timings to the CSV at `path` and return what it then holds.

    A file that is there keeps what it holds: it may hold just these timings, or is extended where `extend`;
    otherwise raises MeasurementError.
    """
    old = parse_measurements(_read(path), where=str(path)) if path.exists() else []
    held = {timing for _, timing in old}
    new = [(one.source or "the new measurements", one) for one in dict.fromkeys(timings) if one not in held]
    if old and not extend and (new or held != set(timings)):
        raise MeasurementError(f"{path} exists and holds other measurements; extend it, or name another file.")
    text = to_csv([timing for _, timing in [*old, *new]])
    parse_measurements(text, where=f"{path} (not written)")  # for it could not be read
    result = merged([*old, *new])
    if new:
        _write(path, text)
    return result


def to_csv(timings: Sequence[Timing]) -> str:
    """Return timings as the CSV that `read_measurements` reads, all columns, at full precision."""
    text = io.StringIO()
    plain = csv.writer(text, lineterminator="\n")
    quoted = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)  # for what the first leaves open: "\r"
    plain.writerow(COLUMNS)
    for timing in timings:
        row = [getattr(timing.conditions if column in _OF_CONDITIONS else timing, column) for column in COLUMNS]
        (quoted if any("\r" in str(cell) for cell in row) else plain).writerow(row)
    return text.getvalue()


def parse_measurements(text: str, *, where: str, rename: Mapping[str, str] | None = None) -> list[Placed]:
    """Return every row of a CSV with where it stands; `where` names the text itself.

    `rename` gives our names of columns that the text calls otherwise.
    """
    try:
        plain = with_commas(text)
    except csv.Error as error:
        raise MeasurementError(f"{where} is no CSV ({error}); correct the file.") from None
    reader = csv.reader(io.StringIO(plain, newline=""), strict=True)  # an open quotation is a torn file
    placed: list[Placed] = []
    columns: list[_Column] = []
    try:
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            if not columns:
                columns = _header([(rename or {}).get(name, name) for name in cells], where) if any(cells) else []
            elif any(cells):
                line = f"{where}, line {reader.line_num}"
                placed.append((line, _timing(cells, columns, line)))
    except csv.Error as error:
        raise MeasurementError(f"{where}, line {reader.line_num} is no CSV ({error}); correct the file.") from None
    if not placed:
        raise MeasurementError(f"{where} holds no measurement; give one row per network, {' and '.join(_NEEDED)}.")
    return placed


_DECIMAL_COMMA = re.compile(r"[-+]?(?:\d+|\d{1,3}(?:[.\u00a0\u202f ]\d{3})+),\d+(?:[eE][-+]?\d+)?")
_GROUPS = str.maketrans({",": ".", ".": None, " ": None, "\u00a0": None, "\u202f": None})


def with_commas(text: str) -> str:
    """Return a CSV with commas and decimal points, where it has semicolons or tabs, with decimal commas perhaps."""
    lines = text.splitlines(keepends=True)
    if lines and re.fullmatch(r"sep=[;,\t]?\s*", lines[0]):  # a spreadsheet's note to itself
        text = "\n" + "".join(lines[1:])
    heading = next((line for line in text.splitlines() if line.strip()), "")
    separator = next((each for each in "\t;" if each in heading), "")
    if not separator or any(name in heading.split(",") for name in _NEEDED):
        return text
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for cells in csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True):
        writer.writerow([c.strip().translate(_GROUPS) if _DECIMAL_COMMA.fullmatch(c.strip()) else c for c in cells])
    return out.getvalue()


def merged(placed: Sequence[Placed]) -> tuple[Timing, ...]:
    """Return one timing per network and conditions: the median of its repeats, their runs added.

    A timing that is told twice, its source and date too, is one. Raises MeasurementError where repeats disagree.
    """
    repeats: dict[Timing, list[Placed]] = {}
    for place, timing in dict.fromkeys(placed):
        group = repeats.setdefault(_what_repeats(timing), [])
        if timing not in [other for _, other in group]:
            group.append((place, timing))
    return tuple(_merged(group) for group in repeats.values())


def _what_repeats(timing: Timing) -> Timing:
    """Return the timing without what may differ between repeats."""
    conditions = replace(timing.conditions, date="")
    return replace(
        timing, runtime_ms=0.0, low_ms=None, high_ms=None, runs=None, model="", source="", conditions=conditions
    )


def _merged(group: Sequence[Placed]) -> Timing:
    fast_place, fastest = min(group, key=lambda one: one[1].runtime_ms)
    slow_place, slowest = max(group, key=lambda one: one[1].runtime_ms)
    if slowest.runtime_ms > _AGREEING * fastest.runtime_ms:
        raise MeasurementError(
            f"{fastest.network} took {fastest.runtime_ms:g} ms ({fast_place}) and {slowest.runtime_ms:g} ms "
            f"({slow_place}) under equal conditions, more than 10 % apart; remove the wrong one or measure again."
        )
    timings = [timing for _, timing in group]
    return replace(
        timings[0],
        runtime_ms=median(timing.runtime_ms for timing in timings),
        low_ms=min((timing.low_ms for timing in timings if timing.low_ms is not None), default=None),
        high_ms=max((timing.high_ms for timing in timings if timing.high_ms is not None), default=None),
        runs=None if any(timing.runs is None for timing in timings) else sum(timing.runs or 0 for timing in timings),
        source="; ".join(dict.fromkeys(timing.source for timing in timings if timing.source)),
        conditions=replace(timings[0].conditions, date=max(timing.conditions.date for timing in timings)),
    )


def _read(path: Path) -> str:
    try:
        return stored.read_text(path, "utf-8-sig")
    except OSError as error:
        raise MeasurementError(f"{path} cannot be read ({error.strerror}); give a file of measurements.") from None
    except UnicodeDecodeError:
        raise MeasurementError(f"{path} is not UTF-8; save it as CSV in UTF-8.") from None


def _write(path: Path, text: str) -> None:
    try:
        write_durably(path, text.encode())
    except OSError as error:
        raise MeasurementError(f"{path} cannot be written ({error.strerror}); name another file.") from None


@dataclass(frozen=True)
class _Column:
    name: str
    per_ms: float = 1.0  # the unit of a time


def _header(names: Sequence[str], where: str) -> list[_Column]:
    for name in names:
        if name.lower() in _WITHOUT_UNIT and not any(_TIME.fullmatch(other) for other in names):
            raise MeasurementError(
                f'{where} misses the unit of its column "{name}"; call it runtime_ms, runtime_us or runtime_s.'
            )
    columns = [_column(name, where) for name in names]
    known = [column.name for column in columns]
    for name in known:
        if known.count(name) > 1:
            raise MeasurementError(f"{where} gives the column {name} twice; keep one.")
    for name in _NEEDED:
        if name not in known:
            raise MeasurementError(f"{where} has no column {name}; its columns are {', '.join(names)}. Add it.")
    return columns


def _column(name: str, where: str) -> _Column:
    if match := _TIME.fullmatch(name):
        return _Column(f"{match[1]}_ms", _PER_MS[match[2]])
    if name not in COLUMNS:
        near = get_close_matches(name, COLUMNS, n=1)
        hint = f' Did you mean "{near[0]}"?' if near else ""
        raise MeasurementError(f'{where} has an unknown column "{name}"; known: {", ".join(COLUMNS)}.{hint}')
    return _Column(name)


def _timing(cells: Sequence[str], columns: Sequence[_Column], where: str) -> Timing:
    if len(cells) != len(columns):
        raise MeasurementError(
            f"{where} has {len(cells)} cells for {len(columns)} columns; complete it, or put text with commas "
            "into quotation marks."
        )
    values: dict[str, Any] = {}
    for cell, column in zip(cells, columns, strict=True):
        if cell or column.name in _NEEDED:
            value = _READERS.get(column.name, _text)(f"{where}: {column.name}", cell)
            values[column.name] = value / column.per_ms if column.per_ms != 1 else value
    conditions = {name: values.pop(name) for name in _OF_CONDITIONS & values.keys()}
    timing = Timing(**values, conditions=Conditions(**conditions))
    _check_order(where, "low_ms", timing.low_ms, "high_ms", timing.high_ms)
    _check_order(where, "delegated_nodes", timing.delegated_nodes, "nodes", timing.nodes)
    return timing


def _check_order(where: str, less: str, low: float | None, more: str, high: float | None) -> None:
    if low is not None and high is not None and low > high:
        raise MeasurementError(f"{where}: {less}, {low:g}, must not be above {more}, {high:g}; correct it.")


def _text(where: str, cell: str) -> str:
    return cell or _refuse(where, "a string", cell)


def _positive(where: str, cell: str) -> float:
    try:
        value = float(cell.replace("_", "x"))  # Python's 1_000 is no number elsewhere
    except ValueError:
        value = 0.0
    return value if 0 < value < inf else _refuse(where, "a finite number > 0", cell)


def _whole(where: str, cell: str) -> int:
    return int(cell) if cell.isascii() and cell.isdigit() else _refuse(where, "a whole number ≥ 0", cell)


def _count(where: str, cell: str) -> int:
    return _whole(where, cell) or _refuse(where, "a whole number ≥ 1", cell)


def _statistic(where: str, cell: str) -> str:
    return cell if cell in STATISTICS else _refuse(where, f"one of {', '.join(STATISTICS)}", cell)


def _date(where: str, cell: str) -> str:
    try:
        datetime.fromisoformat(cell)
    except ValueError:
        _refuse(where, "a date such as 2026-05-04", cell)
    return cell


def _refuse(where: str, wanted: str, got: str) -> Any:
    raise MeasurementError(f'{where} must be {wanted}, got "{got}"; correct it.')


_READERS: dict[str, Callable[[str, str], Any]] = {
    "runtime_ms": _positive,
    "low_ms": _positive,
    "high_ms": _positive,
    "statistic": _statistic,
    "runs": _count,
    "nodes": _count,
    "delegated_nodes": _whole,
    "partitions": _whole,
    "threads": _count,
    "date": _date,
}


@dataclass(frozen=True)
class Failure:
    """A network without a time that could be trusted."""

    network: str
    model: str  # the path of its file
    reason: str
