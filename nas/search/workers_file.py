"""Who works on a study now: written beside the records while workers of other places take part, for `isp-nas status`.

The records say what came of trainings; this says what is in training, and is worth nothing once the search has ended.
"""

import json
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, NotRequired, Protocol

from typing_extensions import TypedDict  # that of typing tells pydantic too little before Python 3.12

from nas.search.candidate import CandidateRecord
from nas.train.ranges import Number, Seconds
from nas.train.worker import Place, TrainingWorker, WorkerSource
from search_spaces.system import stored
from search_spaces.system.atomic_write import temporary_of

FILE = "workers.json"
EVERY_S = 2.0
FRESH_S = 30.0


class Flight(Protocol):
    """What is told of a training."""

    candidate: CandidateRecord
    rung: int
    seed: int | None
    worker: TrainingWorker
    steps: int
    begun: float

    @property
    def step(self) -> int:
        """The step that was last reported."""

    @property
    def steps_per_s(self) -> float | None:
        """How fast it trains."""


def rows(numbered: Iterable[tuple[TrainingWorker, int]], running: Iterable[Flight]) -> list[dict[str, Any]]:
    """Return one row per worker: where it is, what it trains, how far and how fast."""
    training = {id(flight.worker): flight for flight in running}
    return [_row(number, worker.place, training.get(id(worker))) for worker, number in numbered]


def _row(number: int, place: Place | None, flight: Flight | None) -> dict[str, Any]:
    where = {"host": None, "backend": None, "processor": None} if place is None else vars(place)
    if flight is None:
        return {"worker": number, **where, "trial": None}
    rate = flight.steps_per_s
    return {
        "worker": number,
        **where,
        "trial": flight.candidate.trial,
        "rung": flight.rung,
        "seed": flight.seed,
        "step": flight.step,
        "steps": flight.steps,
        "steps_per_s": None if rate is None else round(rate, 2),
        "seconds": round(time.monotonic() - flight.begun, 1),
    }


class WorkerRow(TypedDict):
    """One worker, as the file has it."""

    worker: Number
    host: str | None
    backend: str | None
    processor: str | None
    trial: Number | None
    rung: NotRequired[Number]
    seed: NotRequired[Number | None]
    step: NotRequired[Number]
    steps: NotRequired[Number]
    steps_per_s: NotRequired[Seconds | None]
    seconds: NotRequired[Seconds]


class Crew(TypedDict):
    """The whole file."""

    workers: list[WorkerRow]
    refused: list[str]
    dashboard: str | None


_CREW: stored.Schema[dict[str, Any]] = stored.Schema(Crew)


class WorkersFile:
    """Keeps the file up to date, now and then."""

    def __init__(self, folder: Path) -> None:
        self._path, self._written = folder / FILE, 0.0

    def write_if_due(self, source: WorkerSource | None, rows_of_workers: Callable[[], list[dict[str, Any]]]) -> None:
        """Write who works now, where that is more than this machine; a disk that does not take it stops nothing."""
        if source is None or time.monotonic() - self._written < EVERY_S:
            return
        self._written = time.monotonic()
        crew = {"workers": rows_of_workers(), "refused": list(source.refusals), "dashboard": source.dashboard}
        temporary = temporary_of(self._path)
        with suppress(OSError):
            temporary.write_text(json.dumps(crew), encoding="utf-8")
            temporary.replace(self._path)

    def remove(self) -> None:
        """Remove the file: nobody works any more."""
        self._path.unlink(missing_ok=True)


def read(folder: Path, now_s: float) -> dict[str, Any] | None:
    """Return what the file told a moment ago; None where there is none, or an old one, or it is damaged."""
    path = folder / FILE
    try:
        if now_s - path.stat().st_mtime > FRESH_S:
            return None
        return _CREW.read_json(stored.read_bytes(path))
    except (OSError, ValueError):
        return None
