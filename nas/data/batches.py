"""Batches of a training in order, cut in advance by threads so that a fast device does not wait.

    step N of `sample_batch`, a pure function ─► threads cut N, N+1, … ─► at most `ahead` of them wait ─► in order

What order they are cut in decides nothing: a batch depends on seed and step alone, so any number of threads, and a
training that was resumed at any step, see the same ones. Copies of pixels release the interpreter lock.
"""

import os
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from types import TracebackType

import numpy as np
from jaxtyping import UInt8, UInt16

from nas.data.augment import sample_batch
from nas.data.pairs import PairSet
from search_spaces.errors import UsageError

Batch = tuple[UInt16[np.ndarray, "n h w 4"], UInt8[np.ndarray, "n h2 w2 3"]]

# A thread cuts this many pixels in half a millisecond (benchmarks/input.json); what is smaller needs no second one.
PIXELS_PER_THREAD = 1 << 17
MOST_THREADS = 8
BATCHES_PER_THREAD = 2


@dataclass(frozen=True)
class BatchSpec:
    """What decides how a batch is cut from the pairs, as in a recipe."""

    batch: int
    patch: int
    flip: str = "both"
    rotate: bool = True

    @property
    def threads(self) -> int:
        """How many threads are worth their while: one for small batches, never more than half of the cores."""
        wanted = -(-self.batch * self.patch**2 // PIXELS_PER_THREAD)
        return max(1, min(wanted, MOST_THREADS, (os.cpu_count() or 1) // 2))


class Batches:
    """The batches of steps `first` to `last` − 1 in order; close it, or use it with `with`, to end its threads.

    `waited_s` is how long the consumer stood waiting for a batch. A device that works off a queue of steps may have
    been busy meanwhile, so this is the most that it can have starved. Raises UsageError for a patch that does not fit.
    """

    def __init__(
        self,
        pairs: PairSet,
        cut: BatchSpec,
        *,
        seed: int,
        first: int,
        last: int,
        threads: int | None = None,
        ahead: int | None = None,
    ) -> None:
        self.threads = cut.threads if threads is None else threads
        self.ahead = BATCHES_PER_THREAD * self.threads if ahead is None else ahead
        if self.threads < 1 or self.ahead < 1:
            raise UsageError(f"Cutting ahead needs a thread and a batch, got {self.threads} and {self.ahead}.")
        self.waited_s = 0.0
        size = {"batch": cut.batch, "patch": cut.patch}
        self._cut = partial(sample_batch, pairs, seed=seed, **size, flip=cut.flip, rotate=cut.rotate)
        self._steps = iter(range(first, last))
        self._waiting: deque[tuple[int, Future[Batch]]] = deque()
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="batches")

    def __iter__(self) -> Iterator[tuple[int, Batch]]:
        """Yield (step, batch)."""
        for _ in range(self.ahead):
            self._submit()
        while self._waiting:
            step, future = self._waiting.popleft()
            begun = time.perf_counter()
            batch = future.result()
            self.waited_s += time.perf_counter() - begun
            self._submit()
            yield step, batch

    def _submit(self) -> None:
        step = next(self._steps, None)
        if step is not None:
            self._waiting.append((step, self._pool.submit(self._cut, step=step)))

    def close(self) -> None:
        """End the threads; batches that nobody took are dropped."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> "Batches":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
