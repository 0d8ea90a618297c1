"""Parse a log of `benchmark_model`: the time of each network, and whether the delegate really ran it.

Pure. Read are the tools of TensorFlow Lite since 1.10 (microseconds; the line of the result went through three
forms), LiteRT's for compiled models and its `litert-benchmark` (milliseconds), each from a terminal or from
Android's log. A text may hold the logs of several runs, one after another.

Source: benchmark_model.cc and benchmark_tflite_model.cc of TensorFlow, benchmark_litert_model.h of LiteRT.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isclose
from pathlib import PureWindowsPath
from typing import NoReturn

from latency_models.measure.delegation import read_delegation, require_delegated
from latency_models.measure.log_flags import command_line, read_flags
from latency_models.measure.log_lines import plain_lines
from search_spaces.errors import MeasurementError

TENSORFLOW_TOOL, LITERT_TOOL, LITERT_PYTHON_TOOL = "benchmark_model", "LiteRT benchmark_model", "litert-benchmark"


@dataclass(frozen=True)
class LogResult:
    """One timed run of the tool; what its log did not tell is None or empty."""

    runtime_ms: float  # by `statistic`
    statistic: str  # "median" where the tool tells it (TensorFlow 2.20 and later), else "mean"
    runs: int | None = None  # timed, without warm-up
    low_ms: float | None = None  # 5 % of the runs were faster
    high_ms: float | None = None  # 5 % were slower
    std_ms: float | None = None
    model: str = ""  # path as the tool was given it, on the machine that it ran on
    threads: int | None = None
    delegate: str = ""  # "gpu", "nnapi", "neuron", "xnnpack", …; "cpu" where none was asked for
    nodes: int | None = None  # of the network
    delegated_nodes: int | None = None  # of them that the delegate took
    partitions: int | None = None  # that the delegate made of them
    runtime_version: str = ""
    flags: str = ""  # as command line arguments, in one line: those that decide what the time means
    tool: str = TENSORFLOW_TOOL  # or one of LiteRT's


# Nothing may follow that could belong to the number: a line that was cut within "2.95034e+06" holds none, and neither
# does "41,230.5", as a locale may write it.
_NUMBER = r"([-+]?(?:\d+(?:\.\d+)?(?:[eE][-+]?\d+)?|nan|inf))(?![\w.+-]|,\d)"
_PAIR = re.compile(r"(\w+)=" + _NUMBER)
_COUNT = re.compile(r"count=\d{1,9}(?= |$)")
_RESULT_US = re.compile(
    r"Inference timings in us: .*Inference \(avg\): "
    + _NUMBER
    + r"|Average inference timings in us: .*(?:no stats|Inference): "
    + _NUMBER
)
_ANY_RESULT = re.compile(r"Inference timings in us: |Average inference timings in us: |Inference \(avg\): ")
_RESULT_MS = re.compile(r"Inference \(avg\): +" + _NUMBER + r" ms \((\d{1,9}) runs\)")
_FIGURE_MS = re.compile(r"Inference \((median|p5|p95|std)\): +" + _NUMBER)
_ONLY_PYTHONS = re.compile(r"Inference \(median\): |Fully accelerated: ")
_STARTING = "STARTING!"
# After a result, what only the next run prints; failures stay with the run before them.
_NEXT_RUN = re.compile(
    r"STARTING!|Log parameter values|Min num runs: |Num threads: |Graph: \[|Load(?:ed|ing) model|Model: "
    r"|Initialized |Created TensorFlow Lite|Replacing \d|Explicitly applied|Applied|Though |Failed to apply"
    r"|Running benchmark|count=\d|=* ?BENCHMARK RESULTS|Inference timings|Average inference|Inference \(avg\)"
)
_OURS = re.compile(
    r"STARTING!|Log parameter values verbosely|Min num runs: \[|Num threads: \[|Graph: \[|Loaded model "
    r"|Loading model from: |Created TensorFlow Lite|Replacing \d+ .*with delegate"
    r"|(?:Explicitly applied|Though|Failed to apply) .*delegate|Running benchmark for at least|Initialized session in"
    r"|count=\d|Benchmarking failed|=* ?BENCHMARK RESULTS"
    r"|Inference timings in us|Average inference timings|Inference \(avg\)"
)
# What a delegate must be before it runs anything; in whatever wording it is said that it is not.
_BEGUN = (
    r"(?:creat|open|load|appl|initiali[sz]|instantiat|construct|set ?up|regist|find|found|us|support|availab|prepar)\w*"
)
_FAILURES = (
    re.compile(r"Failed to apply .*delegate|Restored original execution plan|Disallowed CPU fallback"),
    re.compile(
        # "Could not open the GPU delegate", "error: loading external delegate libx.so"
        r"(?:could ?n[o']t|can ?not|can't|failed to|unable to|error while|error:?) "
        rf"(?:be )?{_BEGUN}.*delegate"
        # "Delegate 'gpu' couldn't be created", "TfLiteGpuDelegate: initialisation failed, no OpenCL"
        r"|(?<!by )delegate\w*\b.*(?:"
        r"\b(?:fail\w*|unavailable|null|missing|invalid|skipped|rejected|(?<!no )error|cannot|unable)\b"
        rf"|\b(?:n[o']t|no|non)\b (?:be |been )?(?:{_BEGUN}|opencl|opengl|device|driver|librar)"
        rf"|n't (?:be |been )?{_BEGUN})"
        r"|failed to modify graph with .*delegate|modifygraphwithdelegate.*(?:failed|error)"
        # Of the rest of a network it may be said that it runs on the CPU: that is a part, and told elsewhere.
        r"|^(?!.*\b(?:remaining|rest|operations)\b).*\b(?:running|executing|fall(?:ing|s)? ?back) "
        r"(?:on|to) (?:the )?cpu",
        re.IGNORECASE,
    ),
    re.compile(r"NN API returned error|failed to prepare|Failed to (?:allocate|invoke|initialize the)|Run failed: "),
    re.compile(r"Benchmarking failed"),
)
_PROFILE = re.compile(r"Operator-wise Profiling Info|Profiling Info for Benchmark|=+ Run Order =+")
_PROFILING_FLAGS = ("enable_op_profiling", "use_profiler")
_MODEL = re.compile(r"(?:Loaded model|Loading model from:|Model: ) *(\S.*)")
_THREADS = re.compile(r"Num threads: +(\d+)$")
_POSITIVE = re.compile(r"[1-9]\d{0,8}")
_VERSION = re.compile(r"(?:TensorFlow ?Lite|TFLite|LiteRT)(?: runtime)? version:? v?(\d+\.\d+[\w.+-]*)", re.IGNORECASE)
_ROUNDED_MS = 0.005  # half of the last digit that the tools in milliseconds print


def is_benchmark_log(text: str) -> bool:
    """Tell whether `text` is of the tool at all, whole or not."""
    return any(_OURS.match(line.lstrip()) for line in plain_lines(text))


def parse_benchmark_log(text: str, *, allow_partial: bool = False) -> tuple[LogResult, ...]:
    """Return every result in `text`: what the tool printed, or what Android's log holds of it.

    A network of which the delegate took only a part, or which part the log does not tell, is refused unless
    `allow_partial`; one that the delegate did not run at all is always refused. Raises MeasurementError for
    whatever cannot be trusted to be the network's time.
    """
    lines = [line.lstrip() for line in plain_lines(text)]
    if not any(_OURS.match(line) or _PROFILE.match(line) for line in lines):
        raise MeasurementError(
            'Not a log of benchmark_model: its line "Inference timings in us" is missing; give the whole output.'
        )
    return tuple(_result(run, allow_partial=allow_partial) for run in _runs(lines))


def _runs(lines: Sequence[str]) -> list[list[str]]:
    """Cut a log where the next run begins. What stands before the first belongs to it: stderr may come first."""
    runs: list[list[str]] = [[]]
    started = ended = False
    for line in lines:
        if (ended and _NEXT_RUN.match(line)) or (started and line.startswith(_STARTING)):
            runs.append([])
            started = ended = False
        started |= line.startswith(_STARTING)
        ended |= bool(_RESULT_US.match(line) or _RESULT_MS.match(line))
        runs[-1].append(line)
    return runs


def _result(run: Sequence[str], *, allow_partial: bool) -> LogResult:
    flags = read_flags(run)
    model = flags.get("graph") or _first(_MODEL, run)
    name = PureWindowsPath(model).name or "the network"  # splits at either kind of slash
    _refuse_failed(run, name)
    _refuse_profiled(run, flags, name)
    times = _times_ms(run, name)
    delegation = read_delegation(run)
    if delegation:
        require_delegated(delegation, name, allow_partial=allow_partial)
    threads = flags.get("num_threads") or _first(_THREADS, run)
    return LogResult(
        runtime_ms=times.get("median", times["avg"]),
        statistic="median" if "median" in times else "mean",
        runs=int(times["count"]) if "count" in times else None,
        low_ms=times.get("p5"),
        high_ms=times.get("p95"),
        std_ms=times.get("std"),
        model=model,
        threads=int(threads) if _POSITIVE.fullmatch(threads) else None,  # -1: the tool's own choice
        # TensorFlow's tool repeats its graph and would name a delegate; LiteRT's does neither.
        delegate=delegation.delegate if delegation else "cpu" if "graph" in flags else "",
        nodes=delegation.nodes if delegation else None,
        delegated_nodes=delegation.delegated_nodes if delegation else None,
        partitions=delegation.partitions if delegation else None,
        runtime_version=_first(_VERSION, run),
        flags=_with_backend(command_line(flags), run),
        tool=_tool(run),
    )


# OpenGL is slower than OpenCL by a factor: the GPU delegate falls back to it where the phone has no OpenCL.
_OPENGL = re.compile(r"(?:Initialized|Falling back to|using|through|via) OpenGL", re.IGNORECASE)
_BACKEND = "--gpu_backend="


def _with_backend(flags: str, run: Sequence[str]) -> str:
    """Return the flags with the GPU's programming interface where the log tells another than was asked for."""
    if _BACKEND in flags or not any(_OPENGL.search(line) for line in run):
        return flags
    return f"{flags} {_BACKEND}gl".strip()


def _tool(run: Sequence[str]) -> str:
    if not any(_RESULT_MS.match(line) for line in run):
        return TENSORFLOW_TOOL
    return LITERT_PYTHON_TOOL if any(_ONLY_PYTHONS.match(line) for line in run) else LITERT_TOOL


def _first(pattern: re.Pattern[str], run: Sequence[str]) -> str:
    return next((match[1].strip() for line in run if (match := pattern.search(line))), "")


def _refuse_failed(run: Sequence[str], name: str) -> None:
    for failure in _FAILURES:  # the reason before that there is one
        for line in run:
            if failure.search(line):
                raise MeasurementError(
                    f'benchmark_model failed on {name}: "{line}"; a time from this log would not be the network\'s, '
                    "so mend the cause or use another delegate, and measure again."
                )


def _refuse_profiled(run: Sequence[str], flags: dict[str, str], name: str) -> None:
    if any(_PROFILE.match(line) for line in run) or any(flags.get(flag) == "1" for flag in _PROFILING_FLAGS):
        raise MeasurementError(
            f"The run of {name} was profiled, which makes it slower, so its time is not taken; measure again "
            "without --enable_op_profiling or --use_profiler."
        )


def _times_ms(run: Sequence[str], name: str) -> dict[str, float]:
    """Return the figures of the timed runs: avg, and where told count, median, p5, p95 and std."""
    for index, line in enumerate(run):
        if match := _RESULT_US.match(line):
            return _checked(_counted_ms(run[:index]), float(match[1] or match[2]) / 1000, 0.0, name)
        if match := _RESULT_MS.match(line):
            # Rounded to 0.01 ms; what LiteRT's tool counted before is in microseconds like its ancestor's.
            rounded = {m[1]: float(m[2]) for later in run[index:] if (m := _FIGURE_MS.match(later))}
            rounded["count"] = float(match[2])
            return _checked(rounded | _counted_ms(run[:index]), float(match[1]), _ROUNDED_MS, name)
    if unread := next((line for line in run if _ANY_RESULT.match(line)), None):
        raise MeasurementError(
            f'The result of {name} is no number as the tool writes it ("{unread}"), but cut or in another locale; '
            "measure again with LC_ALL=C and keep the whole output."
        )
    raise MeasurementError(
        f'The log of {name} ends before its result ("Inference timings in us" or "Inference (avg)"); '
        "measure again and keep the whole output."
    )


def _counted_ms(before: Sequence[str]) -> dict[str, float]:
    """Return what the last line of counts says: the lines above it are of the warm-up."""
    line = next((line for line in reversed(before) if _COUNT.match(line)), "")
    figures = {key: float(number) / (1 if key == "count" else 1000) for key, number in _PAIR.findall(line)}
    if "curr" in figures and "first" not in figures:  # all runs took the same time, or there was one
        figures.setdefault("avg", figures["curr"])
    return figures


def _checked(figures: dict[str, float], avg_ms: float, rounding_ms: float, name: str) -> dict[str, float]:
    """Return the figures, with the mean of the line of the result where the counts give none."""
    if figures.get("count") == 0:
        _refuse(name, "counts no timed run (count=0)", "measure again with --num_runs=50 and without --dry_run")
    times = {"avg": avg_ms} | figures
    for key in ("avg", "median", "p5", "p95"):
        if key in times and not 0 < times[key] < inf:
            _refuse(name, f"gives {times[key]:g} ms as its {key}", "measure again with more runs")
    if not isclose(times["avg"], avg_ms, rel_tol=1e-3, abs_tol=2 * rounding_ms):
        _refuse(name, f"tells two means, {times['avg']:g} and {avg_ms:g} ms", "give one log as the tool wrote it")
    return times


def _refuse(name: str, got: str, advice: str) -> NoReturn:
    raise MeasurementError(f"The log of {name} {got}, which is no time of a network; {advice}.")
