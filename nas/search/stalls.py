"""Notice a training that lives but does not move: it is lost, and begins again from its last state.

    between two reports of a step     --stall, or ten times the slowest so far, at least two minutes
    before the first, after the last  compiling and judging tell no steps: ten minutes at least, and more where the
                                      slowest so far took long

Watched time alone counts, so that a search that was itself stopped for an hour gives nothing up.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

LEAST_S, LEAST_QUIET_S = 120.0, 600.0
TIMES_SLOWEST = 10.0
_MOST_WATCHED_S = 2.0  # from one look to the next


class WatchedTraining(Protocol):
    """What is watched."""

    @property
    def step(self) -> int:
        """The step that was last reported."""

    @property
    def steps(self) -> int:
        """The step at which it ends."""


T = TypeVar("T", bound=WatchedTraining)


@dataclass
class _Seen:
    step: int
    still_s: float = 0.0


class StallWatch:
    """Knows for how long each training has stood still, and how long others took to move."""

    def __init__(self, limit_s: float | None = None) -> None:
        self._limit_s = limit_s
        self._seen: dict[int, _Seen] = {}
        self._slowest_s = self._slowest_quiet_s = 0.0
        self._looked = time.monotonic()

    def stalled(self, trainings: Iterable[T]) -> Iterator[tuple[T, str]]:
        """Yield the trainings that stand still for too long, each with a reason; call a few times a second."""
        now = time.monotonic()
        passed_s, self._looked = min(now - self._looked, _MOST_WATCHED_S), now
        before, self._seen = self._seen, {}
        for training in trainings:
            seen = self._seen[id(training)] = self._moved(before.get(id(training)), training, passed_s)
            is_quiet = not 0 < training.step < training.steps
            limit_s = self._quiet_limit_s if is_quiet else self._step_limit_s
            if seen.still_s > limit_s:
                yield training, f"no step for {seen.still_s:.0f} s" + (f" after step {seen.step}" if seen.step else "")

    def _moved(self, seen: _Seen | None, training: WatchedTraining, passed_s: float) -> _Seen:
        if seen is None or seen.step > training.step:
            return _Seen(training.step)
        if seen.step == training.step:
            return _Seen(training.step, seen.still_s + passed_s)
        if seen.step == 0:
            self._slowest_quiet_s = max(self._slowest_quiet_s, seen.still_s)
        else:
            self._slowest_s = max(self._slowest_s, seen.still_s)
        return _Seen(training.step)

    @property
    def _step_limit_s(self) -> float:
        return self._limit_s or max(LEAST_S, TIMES_SLOWEST * self._slowest_s)

    @property
    def _quiet_limit_s(self) -> float:
        return max(LEAST_QUIET_S, self._limit_s or 0.0, TIMES_SLOWEST * self._slowest_quiet_s)
