"""Import measurements from files of other tools and people, recognised by content and not by name.

Read are logs of `benchmark_model` (see `benchmark_log`), the JSON of `litert-benchmark --result_json` and of Qualcomm
AI Hub (see `ai_hub`), our own CSV (see `measurements`), results of AI Benchmark typed into a CSV (see `typed_results`),
and tables with a column per delegate (see `wide_tables`).
"""

import csv
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from pathlib import Path, PureWindowsPath

from latency_models.measure.ai_hub import is_ai_hub, parse_ai_hub
from latency_models.measure.benchmark_log import LogResult, is_benchmark_log, parse_benchmark_log
from latency_models.measure.delegation import CPU_DELEGATES
from latency_models.measure.litert_json import parse_litert_json
from latency_models.measure.op_profile import is_op_profile
from latency_models.measure.profiled import timings_of_profile
from latency_models.measure.typed_results import in_our_words, typed_columns
from latency_models.measure.wide_tables import narrow_tables, wide_headings
from latency_models.measurements import COLUMNS, Conditions, Placed, Timing, merged, parse_measurements, with_commas
from search_spaces.errors import MeasurementError
from search_spaces.system import stored
from search_spaces.system.file_errors import files_below

SUFFIXES = (".txt", ".log", ".csv", ".json")  # of the files that are looked for in a folder
_TABLE = re.compile(r"network|(?:runtime|time|latency)\b", re.IGNORECASE)  # with this, what is wrong can be told
_UNSPECIFIC = ("npu", "external")  # names for whatever the device or a library brings


def import_files(
    paths: Sequence[Path],
    *,
    defaults: Conditions,
    allow_partial: bool = False,
    folder: Path | None = None,
    profiled: Path | None = None,
) -> tuple[Timing, ...]:
    """Return the timings in the files, and in those with one of SUFFIXES below each folder, repeats merged.

    `defaults` holds what the files do not tell; a log that tells a delegate must agree with the one in it, and of a
    table of several delegates, devices or precisions only what agrees with it is taken. Models
    that a CSV names beside itself are named relative to `folder`, where the result is to be written; unless given,
    the working directory. With `profiled`, the files are profiles by operation of that .tflite file. Raises
    MeasurementError that names every file that cannot be imported.
    """
    placed, refused, files = list[Placed](), list[str](), _files(paths)
    for path in files:
        try:
            if profiled is not None:
                placed += _from_profile(path, profiled, defaults, folder=folder or Path())
            else:
                placed += _placed(_text(path), path, defaults, allow_partial=allow_partial, folder=folder or Path())
        except MeasurementError as error:
            refused.append(str(error))
    if refused:
        raise MeasurementError(_joined(refused, len(files)))
    return merged([(place, _filled(timing, defaults)) for place, timing in placed])


def _joined(refused: Sequence[str], count: int) -> str:
    """Return why files cannot be imported, all at once: whoever has fifty logs mends them in one go."""
    if len(refused) == 1:
        return refused[0]
    return " ".join([f"{len(refused)} of {count} files cannot be imported; mend them or leave them out.", *refused])


def _from_profile(path: Path, model: Path, defaults: Conditions, *, folder: Path) -> list[Placed]:
    try:
        timings = timings_of_profile(_text(path), model, source=path.name, conditions=defaults)
    except MeasurementError as error:
        raise MeasurementError(f"{path}: {error}") from None
    relative = Path(os.path.relpath(model, folder)).as_posix()
    return [(str(path), replace(timing, model=relative)) for timing in timings]


def _files(paths: Iterable[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        below = sorted(file for file in files_below(path, MeasurementError) if file.suffix.lower() in SUFFIXES)
        if not below:
            raise MeasurementError(f"{path} holds no file that ends with {', '.join(SUFFIXES)}; name the files.")
        files += below
    return files


def _text(path: Path) -> str:
    """Return the text of a file in UTF-8, or in UTF-16 as the Windows PowerShell redirects what a command prints."""
    try:
        content = stored.read_bytes(path)
        return content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except OSError as error:
        raise MeasurementError(f"{path} cannot be read ({error.strerror}); name a file of measurements.") from None
    except UnicodeDecodeError:
        raise MeasurementError(f"{path} is not UTF-8 text; give a log, JSON or CSV in UTF-8.") from None


def _placed(text: str, path: Path, defaults: Conditions, *, allow_partial: bool, folder: Path) -> list[Placed]:
    try:
        if (data := _json(text)) is not None and is_ai_hub(data):
            return _from_ai_hub(data, path, defaults, allow_partial=allow_partial)
        results = _results(text, allow_partial=allow_partial)
        timings = [_from_result(result, path, defaults.delegate, alone=len(results) == 1) for result in results]
    except MeasurementError as error:
        raise MeasurementError(f"{path}: {error}") from None
    return [(str(path), timing) for timing in timings] or _from_csv(text, path, defaults, folder)


def _json(text: str) -> object:
    """Return the JSON value that a text is, None where it is none."""
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        return stored.parse_json(text)
    except ValueError:
        return None


def _results(text: str, *, allow_partial: bool) -> tuple[LogResult, ...]:
    """Return what a tool concluded; nothing where the text is of no tool."""
    if text.lstrip().startswith("{"):
        return (parse_litert_json(text, allow_partial=allow_partial),)
    if is_benchmark_log(text):
        return parse_benchmark_log(text, allow_partial=allow_partial)
    if is_op_profile(text):
        raise MeasurementError(
            "This is a profile by operations, which is no runtime of the network; measure without "
            "--enable_op_profiling, or say by --profile-of which .tflite file it is of."
        )
    return ()


def _from_ai_hub(data: object, path: Path, defaults: Conditions, *, allow_partial: bool) -> list[Placed]:
    timings = parse_ai_hub(data, allow_partial=allow_partial)
    if sum(not timing.network for timing in timings) > 1:
        raise MeasurementError(
            "It holds several profiles without the networks' names; give an object of profiles by name, or a file each."
        )
    named = [replace(t, network=t.network or path.stem, source=path.name) for t in timings]
    return [(str(path), timing) for timing in _agreeing(named, defaults)]


def _agreeing(timings: Sequence[Timing], wanted: Conditions) -> list[Timing]:
    """Return the timings under the conditions that the user states, of those that the source tells."""
    agreeing = [t for t in timings if not _disagreeing(t.conditions, wanted)]
    if timings and not agreeing:
        name = _disagreeing(timings[0].conditions, wanted)[0]
        values = ", ".join(sorted({str(getattr(t.conditions, name)) for t in timings}))
        raise MeasurementError(
            f"It holds no time of {name} {getattr(wanted, name)}, only of {values}; name one of these by --{name}."
        )
    return agreeing


def _disagreeing(conditions: Conditions, wanted: Conditions) -> list[str]:
    """Return in what two conditions differ that both state, of what a table may hold several of."""

    def agree(name: str) -> bool:
        mine, theirs = getattr(conditions, name), getattr(wanted, name)
        if mine in ("", None) or theirs in ("", None) or str(mine).lower() == str(theirs).lower():
            return True
        return name == "delegate" and mine in CPU_DELEGATES and theirs in CPU_DELEGATES

    return [name for name in ("delegate", "device", "precision", "threads") if not agree(name)]


def _from_csv(text: str, path: Path, defaults: Conditions, folder: Path) -> list[Placed]:
    plain = _in_commas(text, path)
    headings = _headings(plain)
    if wide := wide_headings(headings):
        try:
            tables = narrow_tables(plain, headings, wide)
        except MeasurementError as error:
            raise MeasurementError(f"{path}: {error}") from None
        placed = [
            one for table in tables for one in _of_table(table.text, f'{path}, column "{table.heading}"', path, folder)
        ]
        try:
            agreeing = _agreeing([timing for _, timing in placed], defaults)
        except MeasurementError as error:
            raise MeasurementError(f"{path}: {error}") from None
        return [(place, timing) for place, timing in placed if timing in agreeing]
    if not typed_columns(headings) and not any(heading in COLUMNS or _TABLE.match(heading) for heading in headings):
        raise MeasurementError(
            f"{path} is none of a log of benchmark_model, JSON of litert-benchmark or Qualcomm AI Hub, or a CSV of "
            "measurements; give one of these."
        )
    return _of_table(plain, str(path), path, folder)


def _of_table(text: str, where: str, path: Path, folder: Path) -> list[Placed]:
    """Return the timings of a CSV with one column of times."""
    headings = _headings(text)
    rename = typed_columns(headings)
    placed = []
    for place, timing in parse_measurements(text, where=where, rename=rename):
        renamed = in_our_words(timing, headings) if rename else timing
        model = renamed.model and Path(os.path.relpath(path.parent / renamed.model, folder)).as_posix()
        placed.append((place, replace(renamed, model=model, source=renamed.source or path.name)))
    return placed


def _from_result(result: LogResult, path: Path, delegate: str, *, alone: bool) -> Timing:
    return Timing(
        network=_network(result.model, path, alone=alone),
        runtime_ms=result.runtime_ms,
        statistic=result.statistic,
        low_ms=result.low_ms,
        high_ms=result.high_ms,
        runs=result.runs,
        nodes=result.nodes,
        delegated_nodes=result.delegated_nodes,
        partitions=result.partitions,
        source=path.name,
        conditions=Conditions(
            runtime=result.tool,
            runtime_version=result.runtime_version,
            delegate=_agreed(result.delegate, delegate),
            flags=result.flags,
            threads=result.threads,
        ),
    )


def _network(model: str, path: Path, *, alone: bool) -> str:
    """Return the name of a network: of its model, whichever system's path that is, else of the file."""
    if model and not model.startswith("fd:"):
        return PureWindowsPath(model).name.removesuffix(".tflite")
    if alone:
        return path.stem
    raise MeasurementError(
        'It holds several results and does not tell of which networks; keep the lines "Graph: […]", or give each '
        "result a file named as its network."
    )


def _agreed(value: str, wanted: str) -> str:
    """Return the delegate that a log tells and the user expects; one that fell back to the CPU is not it."""
    if not value or not wanted or value == wanted:
        return value or wanted
    if (value in CPU_DELEGATES) == (wanted in CPU_DELEGATES):
        if value in _UNSPECIFIC:
            return wanted
        if value in CPU_DELEGATES or wanted in _UNSPECIFIC:
            return value
    raise MeasurementError(f"The log tells that {value} ran the network, not {wanted}; correct one or the other.")


def _filled(timing: Timing, defaults: Conditions) -> Timing:
    values = {field.name: getattr(timing.conditions, field.name) for field in fields(Conditions)}
    return replace(
        timing,
        conditions=replace(defaults, **{name: value for name, value in values.items() if value not in ("", None)}),
    )


def _in_commas(text: str, path: Path) -> str:
    try:
        return with_commas(text)
    except csv.Error as error:
        raise MeasurementError(f"{path} is no CSV ({error}); correct the file.") from None


def _headings(text: str) -> list[str]:
    first = next((line for line in text.splitlines() if line.strip()), "")
    try:
        return [heading.strip() for heading in next(csv.reader([first]), [])]
    except csv.Error:  # a line without end, for instance
        return []
