"""Time .tflite files on this machine's CPU with LiteRT such that two runs on a busy machine agree.

A machine that others use is slower at one moment than at the next, by 5 to 23 % on Full-HD Smallnet. So a network
is never timed alone: a reference network runs before and after it (A, B, A, B, …), and what is kept is the median of
B's time to that of the A's around it, times the milliseconds of the reference that were recorded when the measurements
began. Medians of such ratios repeat to 0.4–0.7 % where medians of times do not (measured on 2 cores, one thread).
"""

import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version
from math import log
from pathlib import Path
from statistics import median
from typing import Any

from latency_models.measure.litert_trial import require_runs
from latency_models.measurements import Conditions, Failure, Timing
from latency_models.probes import Probe, reference
from search_spaces.errors import ExportError, MeasurementError
from search_spaces.system import machine, stored
from search_spaces.system.native_stderr import quiet
from search_spaces.tflite_file import read_graph

Report = Callable[[int, int], None]  # (networks done, networks in all)

WARM_UP_RUNS, WARM_UP_S = 2, 0.3
# A turn of either side takes about this long, so that both see the same disturbances.
TURN_S = 0.04
FEWEST_PAIRS, MOST_PAIRS = 9, 60
# Pairs are added until the median's standard error is below this, or the time is used up.
WANTED_ERROR, LONGEST_S = 0.004, 8.0
RECORD_TURNS = 40


@dataclass(frozen=True)
class LocalOptions:
    """How LiteRT runs networks here."""

    threads: int = 1
    xnnpack: bool = True


class LoadedModel:
    """A .tflite file in memory, ready to run again and again on one random input."""

    def __init__(self, name: str, content: bytes, options: LocalOptions) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        kind = OpResolverType.AUTO if options.xnnpack else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        self.name = name
        try:
            with quiet():
                self._interpreter = Interpreter(
                    model_content=content, num_threads=options.threads, experimental_op_resolver_type=kind
                )
                self._interpreter.allocate_tensors()
                _fill_inputs(self._interpreter)
                self.warm_up()
        except (RuntimeError, ValueError) as error:
            first = str(error).strip().splitlines()[0]
            raise MeasurementError(f"LiteRT cannot run {name}: {first}. Check the file with another tool.") from None

    def warm_up(self) -> None:
        """Run until caches and memory are as they will be, and find out how many runs a turn takes."""
        begun, seconds = time.perf_counter(), list[float]()
        while len(seconds) < WARM_UP_RUNS or time.perf_counter() - begun < WARM_UP_S:
            seconds.append(self.seconds(1))
            if seconds[-1] > WARM_UP_S:
                break
        # The shortest: after one disturbed run turns would be so short that they slip between other work's slices,
        # beside turns of the other network that do not.
        self.runs_per_turn = max(1, round(TURN_S / min(seconds)))

    def seconds(self, runs: int) -> float:
        """Return the mean seconds of so many runs."""
        begun = time.perf_counter()
        for _ in range(runs):
            self._interpreter.invoke()
        return (time.perf_counter() - begun) / runs

    def turn(self) -> float:
        """Return the mean seconds of a run over one turn."""
        return self.seconds(self.runs_per_turn)


def _fill_inputs(interpreter: Any) -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    for detail in interpreter.get_input_details():
        if np.issubdtype(detail["dtype"], np.floating):
            value = rng.random(detail["shape"], np.float32).astype(detail["dtype"])
        else:
            value = rng.integers(0, 127, detail["shape"]).astype(detail["dtype"])
        interpreter.set_tensor(detail["index"], value)


@dataclass(frozen=True)
class PairRatio:
    """A network's time in units of the reference's: the median, two quantiles, and how many pairs there were."""

    ratio: float
    low: float  # the 10 % quantile
    high: float
    pairs: int


def pair_ratio(model: LoadedModel, reference: LoadedModel) -> PairRatio:
    """Run both in turns until the median of their ratios is known well enough."""
    begun = time.perf_counter()
    before, ratios = reference.turn(), list[float]()
    while True:
        own, after = model.turn(), reference.turn()
        ratios.append(2 * own / (before + after))
        before = after
        if _is_enough(ratios, time.perf_counter() - begun):
            break
    ordered = sorted(ratios)
    tenth = len(ordered) // 10
    return PairRatio(median(ordered), ordered[tenth], ordered[-1 - tenth], len(ordered))


def _is_enough(ratios: Sequence[float], spent_s: float) -> bool:
    if len(ratios) < FEWEST_PAIRS:
        return False
    return len(ratios) >= MOST_PAIRS or spent_s > LONGEST_S or _error_of_median(ratios) < WANTED_ERROR


def _error_of_median(ratios: Sequence[float]) -> float:
    """Return the relative standard error of the median, from the middle half of the ratios.

    Of a normal distribution the middle half is 1.35 σ wide, and a median's error is 1.25 σ/√n.
    """
    ordered, n = sorted(ratios), len(ratios)
    width = ordered[(3 * n) // 4] - ordered[n // 4]
    return float(1.25 * width / 1.35 / n**0.5 / median(ordered))


def record_reference(reference: LoadedModel) -> list[float]:
    """Return the reference's milliseconds over many turns, in order; their median is what is recorded."""
    return sorted(1e3 * reference.turn() for _ in range(RECORD_TURNS))


# Smallnet at three sizes: what is timed is compared with the one whose time is nearest.
REFERENCE_SIDES = ((136, 240), (272, 480), (544, 960))


def reference_probes() -> list[Probe]:
    """Return the networks to which others are compared."""
    return [reference(h, w) for h, w in REFERENCE_SIDES]


def measure_here(
    paths: Sequence[Path],
    references: Sequence[Path],
    options: LocalOptions,
    *,
    are_ours: bool = True,
    known: Sequence[Timing] = (),
    report: Report | None = None,
) -> Iterator[Timing | Failure]:
    """Time .tflite files on this machine and yield each outcome as soon as it is there.

    The milliseconds of the references are taken from `known` timings under the same conditions; where these have none
    they are recorded first, so that everything measured in the same file is in the same unit. Networks that `known`
    has are left out. Those that are not ours are run once in a process of their own before.
    """
    conditions = here(options)
    old = {t.network: t for t in known if replace(t.conditions, date="") == replace(conditions, date="")}
    bench = list[tuple[LoadedModel, float]]()
    for path in references:
        model = LoadedModel(path.stem, _content(path), options)
        if model.name not in old:
            old[model.name] = _recorded(model, path, conditions)
            yield old[model.name]
        bench.append((model, old[model.name].runtime_ms))
    todo = [path for path in paths if path.stem not in old]
    for done, path in enumerate(todo):
        if report:
            report(done, len(todo))
        yield _outcome(path, bench, options, conditions, is_ours=are_ours)
    if report:
        report(len(todo), len(todo))


def here(options: LocalOptions) -> Conditions:
    """Return the conditions of a time taken on this machine now."""
    from ai_edge_litert import interpreter

    folder = Path(interpreter.__file__).parent
    binaries = sorted(folder.glob("_pywrap_tensorflow_interpreter_wrapper*")) or [Path(interpreter.__file__)]
    return Conditions(
        device=machine.described(),
        soc=machine.processor(),
        os=f"{platform.system()} {platform.release()}",
        runtime="LiteRT",
        runtime_version=version("ai-edge-litert"),
        binary_sha256=sha256(binaries[0].read_bytes()).hexdigest(),
        delegate="xnnpack" if options.xnnpack else "cpu",
        precision="fp32",
        threads=options.threads,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _content(path: Path) -> bytes:
    try:
        return stored.read_bytes(path)
    except OSError as error:
        raise MeasurementError(f"Cannot read {path}: {error.strerror}; give a .tflite file.") from None


def _recorded(model: LoadedModel, path: Path, conditions: Conditions) -> Timing:
    turns = record_reference(model)
    return _timing(
        path, conditions, median(turns), "median", turns[len(turns) // 10], turns[-1 - len(turns) // 10], len(turns)
    )


def _outcome(
    path: Path,
    bench: Sequence[tuple[LoadedModel, float]],
    options: LocalOptions,
    conditions: Conditions,
    *,
    is_ours: bool,
) -> Timing | Failure:
    try:
        content = _content(path)
        if not is_ours:
            _require_sound(content, path)
        model = LoadedModel(path.stem, content, options)
    except MeasurementError as error:
        return Failure(path.stem, str(path), str(error))
    once = 1e3 * model.turn()
    reference, ms = min(bench, key=lambda pair: abs(log(pair[1] / once)))
    ratio = pair_ratio(model, reference)
    return _timing(path, conditions, ms * ratio.ratio, "pair_ratio", ms * ratio.low, ms * ratio.high, ratio.pairs)


def _require_sound(content: bytes, path: Path) -> None:
    """Raise MeasurementError for a file that is damaged, or that LiteRT does not survive."""
    try:
        read_graph(content)
    except ExportError as error:
        raise MeasurementError(f"LiteRT cannot run {path.stem}: {error}") from None
    require_runs(content, path.stem, MeasurementError)


def _timing(
    path: Path, conditions: Conditions, ms: float, statistic: str, low: float, high: float, runs: int
) -> Timing:
    return Timing(
        network=path.stem,
        runtime_ms=float(f"{ms:.6g}"),
        statistic=statistic,
        low_ms=float(f"{low:.6g}"),
        high_ms=float(f"{high:.6g}"),
        runs=runs,
        model=str(path),
        model_sha256=sha256(_content(path)).hexdigest(),
        source="isp-nas latency measure",
        conditions=replace(conditions, date=datetime.now(UTC).isoformat(timespec="seconds")),
    )
