"""Time .tflite files on this machine's CPU with LiteRT, so that two runs on a busy machine agree.

A machine that others use is slower at one moment than at the next, by 5 to 23 % on Full-HD Smallnet. So a network
is never timed alone: a reference network runs before and after it (A, B, A, B, …), and what is kept is the median of
B's time to that of the A's around it, times the milliseconds of the reference that were recorded when the measurements
began. Medians of such ratios repeat to 0.4–0.7 % where medians of times do not (measured on 2 cores, one thread).
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from latency_models.measurements import Timing
from search_spaces.errors import MeasurementError
from search_spaces.quiet import quiet

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
        begun, runs = time.perf_counter(), 0
        while runs < WARM_UP_RUNS or time.perf_counter() - begun < WARM_UP_S:
            once = self.seconds(1)
            runs += 1
            if once > WARM_UP_S:
                break
        self.runs_per_turn = max(1, round(TURN_S / once))

    def seconds(self, runs: int) -> float:
        """Return the mean seconds of so many runs."""
        begun = time.perf_counter()
        for _ in range(runs):
            self._interpreter.invoke()
        return (time.perf_counter() - begun) / runs

    def turn(self) -> float:
        """Return the mean seconds of a run over one turn."""
        return self.seconds(self.runs_per_turn)

    @property
    def nodes(self) -> tuple[int, int]:
        """How many operations LiteRT runs by itself, and how many groups a delegate runs."""
        names = [op["op_name"] for op in self._interpreter._get_ops_details()]
        return sum(name != "DELEGATE" for name in names), names.count("DELEGATE")


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


def record_reference(reference: LoadedModel) -> float:
    """Return the reference's milliseconds: the median over many turns."""
    return 1e3 * median(reference.turn() for _ in range(RECORD_TURNS))
