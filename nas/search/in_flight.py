"""What is being trained in a running search, where, and how fast."""

import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cached_property

from nas.search.candidate import CandidateRecord
from nas.search.policy import Work
from nas.train.job import JobFailure, Outcome
from nas.train.worker import TrainingWorker


@dataclass(eq=False)
class InFlight:
    """A candidate that is being trained, where, and to which rung."""

    candidate: CandidateRecord
    rung: int
    seed: int | None
    worker: TrainingWorker
    future: "Future[Outcome | JobFailure]"
    steps: int  # at which it ends
    begun: float = field(default_factory=time.monotonic)
    first: tuple[int, float] | None = None  # the first step that was seen in it, and when

    @property
    def step(self) -> int:
        """The step that was last reported."""
        return self.worker.step

    @property
    def steps_per_s(self) -> float | None:
        """How fast it trains; None before two reports."""
        if self.first is None or self.step <= self.first[0]:
            return None
        return (self.step - self.first[0]) / max(1e-6, time.monotonic() - self.first[1])

    @cached_property
    def work(self) -> Work:
        """What is being done."""
        return Work(self.candidate, self.rung, self.seed)
