"""Read tables that have a column of times per delegate: "Model; CPU 4 threads, ms; GPU fp16, ms; NNAPI, ms". Pure.

A heading names the delegate and may name the unit, the statistic, the precision and the number of threads. Each column
of times becomes a table of its own, with the delegate in a column, for `measurements` to read. A cell that says that
there is no time ("—", "n/a", "unsupported") gives none.
"""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from latency_models.measure.delegation import delegate_name
from latency_models.measure.typed_results import typed_columns
from search_spaces.errors import MeasurementError

UNITS = {
    **dict.fromkeys(("ms", "msec", "msecs", "millisecond", "milliseconds"), "ms"),
    **dict.fromkeys(("us", "usec", "usecs", "microsecond", "microseconds"), "us"),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), "s"),
}
_STATISTICS = {
    **dict.fromkeys(("avg", "mean", "average"), "mean"),
    **dict.fromkeys(("median", "p50", "med"), "median"),
    **dict.fromkeys(("p5", "p05", "p10"), "low"),
    **dict.fromkeys(("p90", "p95"), "high"),
    **dict.fromkeys(("min", "max", "std", "stdev", "stddev", "sd", "first", "init", "warmup"), ""),  # no runtime
}
_PRECISIONS = {"fp16": "fp16", "fp32": "fp32", "float16": "fp16", "float32": "fp32", "half": "fp16", "int8": "int8",
               "int16": "int16", "uint8": "uint8", "w8a8": "w8a8", "w8a16": "w8a16", "float": "float"}  # fmt: skip
# What a heading calls a delegate, and the flags of benchmark_model that this name stands for.
_DELEGATES = {
    **{name: (name, "") for name in ("cpu", "xnnpack", "ynnpack", "gpu", "nnapi", "neuron", "hexagon", "eden", "enn")},
    **{name: (name, "") for name in ("qnn", "coreml", "armnn", "edgetpu", "npu", "apu", "tpu", "vulkan")},
    **dict.fromkeys(("opencl", "cl"), ("gpu", "--gpu_backend=cl")),
    **dict.fromkeys(("opengl", "gles", "gl"), ("gpu", "--gpu_backend=gl")),
    "metal": ("gpu", ""),
    "htp": ("qnn", ""),
    "dsp": ("hexagon", ""),
    "ane": ("coreml", ""),
}
# Names for whatever a phone has, beside one that says which.
_UNSPECIFIC = ("cpu", "npu", "apu", "tpu", "hexagon")
_EMPTY_WORDS = {"time", "times", "latency", "runtime", "inference", "delegate", "tflite", "litert", "in", "on", "by",
                "with", "per", "run", "result", "results", "acceleration", "accelerator", "accelerated"}  # fmt: skip
_NAMES = {"network", "model", "net", "file", "name", "networks", "models", "index", "unnamed"}
_THREADS = re.compile(r"(\d+) ?(?:threads?|thr|t|cores?)\b|\bx ?(\d+)\b|\b(single) ?thread(?:ed)?\b")
_NO_TIME = re.compile(
    r"|[-–—.x×/?]+|n\.?/?a\.?|nan|none|null|no|fail(ed|s|ure)?|error|crash(ed|es)?|oom|out of memory|time ?out|"
    r"(not |un)supported|not (available|measured|run)|unavailable|skipped",
    re.IGNORECASE,
)


class Heading(NamedTuple):
    """What a heading says of its column of times."""

    delegate: str
    flags: str
    precision: str
    threads: int | None
    statistic: str  # "mean", "median", "low", "high"; empty for figures that are no runtime
    unit: str  # "ms", "us" or "s"; empty where the heading does not say

    @property
    def conditions(self) -> tuple[str, str, str, int | None]:
        """Under which conditions the column's times were taken."""
        return self[:4]


def read_heading(heading: str) -> Heading | None:
    """Return what a heading says; None where it names no delegate, or holds a word that is not known here."""
    plain = re.sub("[µμ]", "u", heading.lower()).replace("core ml", "coreml").replace("edge tpu", "edgetpu")
    plain = " ".join(re.findall(r"[a-z0-9]+", plain))
    threads = _THREADS.search(plain)
    words = _THREADS.sub(" ", plain).split()
    named, unit, statistic, precision = list[str](), "", "mean", ""
    for word in words:
        if word in UNITS:
            unit = UNITS[word]
        elif word in _STATISTICS:
            statistic = _STATISTICS[word]
        elif word in _PRECISIONS:
            precision = _PRECISIONS[word]
        elif delegate_name(word) in _DELEGATES:
            named.append(delegate_name(word))
        elif word not in _EMPTY_WORDS:
            return None
    if not named:
        return None
    count = None if threads is None else 1 if threads[3] else int(threads[1] or threads[2])
    return Heading(*_one_delegate(named), precision, count, statistic, unit)


def _one_delegate(named: Sequence[str]) -> tuple[str, str]:
    """Return the delegate that words such as "NPU QNN HTP" mean, and the flags they stand for."""
    delegates = dict.fromkeys(_DELEGATES[name][0] for name in named)
    flags = " ".join(dict.fromkeys(_DELEGATES[name][1] for name in named if _DELEGATES[name][1]))
    specific = [name for name in delegates if name not in _UNSPECIFIC] or list(delegates)
    return specific[0], " ".join([*specific[1:], flags]).strip()


def wide_headings(headings: Sequence[str]) -> dict[int, Heading]:
    """Return the columns of times by position; none where the table has a column of times for all delegates."""
    others = {*headings, *typed_columns(headings).values()}
    if "delegate" in others or any(re.fullmatch(r"runtime_(ms|us|s)", name) for name in others):
        return {}
    return {index: column for index, heading in enumerate(headings) if (column := read_heading(heading))}


class Narrow(NamedTuple):
    """A table with one column of times."""

    conditions: Heading
    text: str
    heading: str  # that the times stood under


def narrow_tables(text: str, headings: Sequence[str], wide: dict[int, Heading]) -> list[Narrow]:
    """Return a table per delegate, precision and number of threads, each line where it stands in `text`.

    Raises MeasurementError where a unit is missing, or two columns are of the same conditions.
    """
    columns: dict[tuple[str, str, str, int | None], dict[str, int]] = {}
    for index, column in wide.items():
        if not column.statistic:
            continue
        group = columns.setdefault(column.conditions, {})
        if column.statistic in group:
            raise MeasurementError(
                f'Its columns "{headings[group[column.statistic]]}" and "{headings[index]}" are of one delegate under '
                "the same conditions; name what differs (fp16, 4 threads), or keep one."
            )
        group[column.statistic] = index
    tables = [_narrow(text, headings, wide, group) for group in columns.values() if {"mean", "median"} & group.keys()]
    with_times = [table for table in tables if table is not None]
    if not with_times:
        raise MeasurementError("No cell of its columns of delegates holds a time; give at least one.")
    return with_times


def _narrow(text: str, headings: Sequence[str], wide: dict[int, Heading], group: dict[str, int]) -> Narrow | None:
    """Return the table of one group of columns; None where none of its cells holds a time."""
    statistic = "median" if "median" in group else "mean"
    times = {"runtime": group[statistic]} | {name: group[name] for name in ("low", "high") if name in group}
    column = wide[times["runtime"]]
    shared_columns = {index: name for index, name in _renamed(headings, wide).items() if index not in wide}
    columns = {
        "statistic": statistic,
        "delegate": column.delegate,
        "flags": column.flags,
        "precision": column.precision,
        "threads": str(column.threads or ""),
    }
    columns = {name: value for name, value in columns.items() if value and name not in shared_columns.values()}
    units = {f"{name}_{_unit(headings, wide, index)}": index for name, index in times.items()}
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    rows = 0
    for cells in _lines(text, len(headings)):
        if not cells or (rows and _NO_TIME.fullmatch(cells[times["runtime"]])):
            out.write("\n")
            continue
        own = [cells[index] for index in (*shared_columns, *times.values())]
        writer.writerow([*own, *columns.values()] if rows else [*shared_columns.values(), *units, *columns])
        rows += 1
    return Narrow(column, out.getvalue(), headings[times["runtime"]]) if rows > 1 else None


def _lines(text: str, width: int) -> Iterator[list[str]]:
    """Yield the cells of every line, none where it is empty; raise MeasurementError where their number is wrong."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    for row in _rows(reader):
        cells = [cell.strip() for cell in row]
        if any(cells) and len(cells) != width:
            raise MeasurementError(
                f"Line {reader.line_num} has {len(cells)} cells for {width} columns; complete it, or put text with "
                "commas into quotation marks."
            )
        yield cells if any(cells) else []


def _rows(reader: Any) -> Iterator[list[str]]:
    try:
        yield from reader
    except csv.Error as error:
        raise MeasurementError(f"Line {reader.line_num} is no CSV ({error}); correct the file.") from None


def _renamed(headings: Sequence[str], wide: dict[int, Heading]) -> dict[int, str]:
    """Return the headings with that of the networks' names as ours, where it says more ("Model / latency in ms")."""
    names = dict(enumerate(headings))
    if "network" not in {*headings, *typed_columns(headings).values()}:
        others = [index for index in names if index not in wide]
        named = [i for i in others if _NAMES & set(re.findall(r"[a-z]+", headings[i].lower())) or not headings[i]]
        names |= dict.fromkeys(named[:1], "network")
    return names


def _unit(headings: Sequence[str], wide: dict[int, Heading], index: int) -> str:
    """Return the unit that a heading names, or else that the heading of a column without times does."""
    if wide[index].unit:
        return wide[index].unit
    others: set[str] = {
        UNITS[word]
        for other, heading in enumerate(headings)
        if other not in wide
        for word in re.findall(r"[a-z]+", re.sub("[µμ]", "u", heading.lower()))
        if word in UNITS and word != "s"
    }
    if len(others) == 1:
        return others.pop()
    raise MeasurementError(
        f'The unit of its column "{headings[index]}" is missing; call it "{headings[index]} ms", "… us" or "… s".'
    )
