"""The interface of everything that trains candidates for a driver, wherever it is.

    Worker (nas.train.workers)        a process of this machine, on some of its cores or on one of its GPUs
    RemoteWorker (nas.cluster.hub)    an agent on another machine, which has such a process of its own

The driver knows this interface alone.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from nas.train.job import Begun, Job, JobFailure, Outcome


@dataclass(frozen=True)
class Place:
    """Where a training ran, as records tell it."""

    host: str
    backend: str  # cpu or gpu, as JAX calls it
    processor: str  # the model, and which one of them

    def __str__(self) -> str:
        return f"{self.host} ({self.processor})"


class TrainingWorker(ABC):
    """One place where a candidate can train at a time."""

    place: Place | None = None  # None: this machine's CPU, of which a study's settings tell
    memory_bytes: int | None = None  # that a training may take; None: not known, or its own jobs are asked
    has_begun: Begun | None = None  # for the same study, when it was cut off; what it is asked first to go on with

    @property
    @abstractmethod
    def step(self) -> int:
        """The training step that was last reported."""

    @property
    def is_silent(self) -> bool:
        """Whether the training process is stopped or stuck; ask a few times a second while it works."""
        return False

    @property
    def has_left(self) -> bool:
        """Whether it is gone for good and takes no job any more."""
        return False

    @abstractmethod
    def start(self) -> None:
        """Get ready beside whatever the caller does next."""

    @abstractmethod
    def submit(self, job: Job) -> "Future[Outcome | JobFailure]":
        """Train a candidate; the future holds its outcome or why there is none."""

    @abstractmethod
    def recycle(self) -> None:
        """Replace what has done its share; call between candidates."""

    @abstractmethod
    def close(self, *, kill: bool = False) -> None:
        """End what it does; with `kill`, without waiting for it. The next job starts it again."""


class WorkerSource(ABC):
    """Where further workers come from while a search runs: a cluster."""

    refusals: Sequence[str] = ()  # of workers that did not fit, one line each
    dashboard: str | None = None  # a page about it, for a browser

    @abstractmethod
    def arrived(self) -> list[TrainingWorker]:
        """Return the workers that have come since the last call."""

    @abstractmethod
    def close(self, *, over: bool) -> None:
        """Stop; `over` where the search has come to its end and nobody needs to wait for it to go on."""
