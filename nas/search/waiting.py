"""What waits for a worker, and how long a search has lasted without the time in which nobody was there."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from nas.search.policy import Work
from nas.train.worker import TrainingWorker


@dataclass
class SearchClock:
    """Seconds of searching; while nobody is there to train, it stands still."""

    before_s: float  # of earlier sessions
    now: Callable[[], float]  # seconds of whatever clock
    _stood_s: float = 0.0
    _stands_since: float | None = None

    def __post_init__(self) -> None:
        """Begin to count."""
        self._begun = self.now()

    @property
    def elapsed_s(self) -> float:
        """All seconds of searching, those of earlier sessions included."""
        until = self.now() if self._stands_since is None else self._stands_since
        return self.before_s + until - self._begun - self._stood_s

    def stand(self, *, still: bool) -> bool:
        """Stop or go on; tell whether it was stopped just now."""
        now = self.now()
        if still and self._stands_since is None:
            self._stands_since = now
            return True
        if not still and self._stands_since is not None:
            self._stood_s, self._stands_since = self._stood_s + now - self._stands_since, None
        return False


@dataclass
class HeldWork:
    """Work that was decided on, and that no worker who is there has begun."""

    works: list[Work] = field(default_factory=list)
    _needs_bytes: dict[int, int] = field(default_factory=dict)  # by trial, where a worker's memory was too small

    def needs(self, trial: int, memory_bytes: int) -> None:
        """Remember that a trial needs so much memory, as far as is known."""
        self._needs_bytes[trial] = max(memory_bytes, self._needs_bytes.get(trial, 0))

    def fits(self, work: Work, worker: TrainingWorker) -> bool:
        """Tell whether a worker may have the memory that a candidate needs."""
        return worker.memory_bytes is None or self._needs_bytes.get(work.candidate.trial, 0) <= worker.memory_bytes

    def is_too_large(self, work: Work, workers: Sequence[TrainingWorker]) -> bool:
        """Tell whether none of the workers that are there, if any is, may have the memory for it."""
        return bool(workers) and not any(self.fits(work, worker) for worker in workers)

    def possible(self, workers: Sequence[TrainingWorker]) -> list[Work]:
        """Return the works that one of the workers, or whoever comes where none is there, may have the memory for."""
        return [work for work in self.works if not self.is_too_large(work, workers)]

    def take_for(self, worker: TrainingWorker) -> Work | None:
        """Return what was held back for a worker like this."""
        work = next((each for each in self.works if self.fits(each, worker)), None)
        if work is not None:
            self.works.remove(work)
        return work
