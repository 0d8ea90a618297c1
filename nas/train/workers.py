"""Worker processes that train one candidate each, replaced before they grow and after they die.

Each worker is an executor with a single process, so that a process that dies takes exactly its own candidate with it.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

from nas.train.gpus import GpuShare, local_gpus, shares_of_gpus
from nas.train.job import Job, JobFailure, Outcome
from nas.train.worker import Place, TrainingWorker
from search_spaces.errors import UsageError
from search_spaces.system import machine

# JAX keeps what it compiled; after this many candidates a process is replaced and its memory returned.
TASKS_PER_PROCESS = 25
_WATCH_EVERY_S = 1.0
# What a worker that trains small networks takes in memory, with what JAX compiles.
WORKER_BYTES = 2_000_000_000
_MANAGER_ENDS_S = 5.0
# A process that has shown no sign of life for so long is stopped or stuck. Watched time alone counts, so that a search
# that was itself stopped for an hour, with all its workers, ends none of them.
SILENCE_S = 60.0
_MOST_WATCHED_S = 2.0  # from one look to the next


def parse_workers(text: str) -> int | None:
    """Read a number of workers, or `auto`, which is None; raise UsageError for anything else."""
    if text.strip().lower() == "auto":
        return None
    if not text.strip().isdecimal() or int(text) < 1:
        raise UsageError(f'--workers takes a number of one or more, or "auto"; got {text}.')
    return int(text)


def default_workers(hardware: str, memory: int | None) -> int:
    """Return one worker per GPU; on a CPU one per core, as far as the memory goes (in bytes; None: unknown).

    A small network trains faster alone on a core than on all of them in turn: two workers of one thread each trained
    99 candidates up to 2700 steps in the time in which one of two threads trained 84 up to 900.
    """
    if hardware != "cpu":
        return max(1, len(local_gpus()))
    if not hasattr(os, "sched_setaffinity"):  # cores that cannot be divided are all one worker's
        return 1
    fitting = len(_cores()) if memory is None else memory // WORKER_BYTES
    return max(1, min(len(_cores()), _quota(), fitting))


def _quota(limit: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Return how many cores' time a container may use; without a limit, more than there are."""
    try:
        quota, period = limit.read_text().split()
        return max(1, int(quota) // int(period))
    except (OSError, ValueError):
        return len(_cores())


def local_workers(count: int, hardware: str, make: "Callable[..., Worker]") -> "list[Worker]":
    """Return so many workers of this machine: each on its share of the cores, or of a GPU where there are several.

    A single worker on a single card has all of it, as JAX gives it out.
    """
    if hardware == "cpu":
        return [make(cores=cores) for cores in shares_of_cores(count)]
    gpus = local_gpus()
    if len(gpus) < 2:
        made = [make() for _ in range(count)]
        card = shares_of_gpus(1, gpus or ["0"])[0]
        for worker in made:
            worker.place = Place(machine.host(), "gpu", str(card))
        return made
    return [make(gpu=share) for share in shares_of_gpus(count, gpus)]


def shares_of_cores(workers: int) -> list[list[int] | None]:
    """Return the cores of each of several workers; None where they cannot be divided, or one worker has them all."""
    cores = _cores()
    if workers == 1 or workers > len(cores) or not hasattr(os, "sched_setaffinity"):
        return [None] * workers
    return [cores[number::workers] for number in range(workers)]


def _cores() -> list[int]:
    """Return the cores that this process may run on."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


class Worker(TrainingWorker):
    """A process of this machine that trains a candidate at a time."""

    def __init__(
        self,
        run: Callable[[Job], Outcome | JobFailure] | None = None,
        *,
        cores: list[int] | None = None,
        gpu: GpuShare | None = None,
    ) -> None:
        """With `cores` the process keeps to these, and XLA starts as many threads; with `gpu` it sees no other."""
        self._run, self._cores, self._gpu = run, cores, gpu
        self.place = None if gpu is None else Place(machine.host(), "gpu", str(gpu))
        self._context = multiprocessing.get_context("spawn")  # JAX's threads do not survive a fork
        self._step = self._context.Value("q", 0, lock=False)
        self._beat = self._context.Value("q", 0, lock=False)  # rises every second while the process lives
        self._silence = _Silence()
        self._executor: ProcessPoolExecutor | None = None
        self._tasks = 0

    @property
    def step(self) -> int:
        """The training step that the process last reported."""
        return int(self._step.value)

    @property
    def is_silent(self) -> bool:
        """Whether the process is stopped or stuck; ask a few times a second while it works."""
        return self._executor is not None and self._silence.lasts(int(self._beat.value)) > SILENCE_S

    def start(self) -> None:
        """Start the process now, so that its imports run beside whatever the caller does next."""
        self._begin(_import_everything)

    def equipment(self) -> "Future[Equipment]":
        """Start the process and have it say what it computes with."""
        return self._begin(_equipment)

    def submit(self, job: Job) -> "Future[Outcome | JobFailure]":
        """Train a candidate; the future holds its outcome or why there is none."""
        self._step.value = 0
        self._tasks += 1
        try:
            return self._begin(self._run or run_job, job)
        except BrokenProcessPool:  # it died while it had nothing to do, which no candidate is to blame for
            self.close(kill=True)
            return self._begin(self._run or run_job, job)

    def _begin(self, run: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        self._silence = _Silence()
        unseen = _script_unseen() if self._run is None else nullcontext()  # another `run` may be of the script
        with _interrupts_wait(), unseen:  # the first call starts the process
            return self._pool().submit(run, *arguments)

    def recycle(self) -> None:
        """Replace the process where it has done its share; call between candidates."""
        if self._tasks >= TASKS_PER_PROCESS:
            self.close()

    def close(self, *, kill: bool = False) -> None:
        """End the process; with `kill`, without waiting for what it does."""
        if self._executor is None:
            return
        processes = list((self._executor._processes or {}).values())
        manager: threading.Thread | None = self._executor._executor_manager_thread  # type: ignore[assignment]  # typeshed errs
        if kill:
            for process in processes:
                process.kill()
        self._executor.shutdown(wait=not kill, cancel_futures=True)
        if manager is not None:
            # It ends soon after its process; left running, Python 3.11 writes at exit to a pipe that it is closing.
            manager.join(_MANAGER_ENDS_S)
        self._executor, self._tasks = None, 0

    def _pool(self) -> ProcessPoolExecutor:
        if self._executor is None:
            self._executor = ProcessPoolExecutor(
                1,
                mp_context=self._context,
                initializer=_initialise,
                initargs=(self._step, self._beat, os.getpid(), self._cores, self._gpu.environment if self._gpu else {}),
            )
        return self._executor


class _Silence:
    """For how many watched seconds a counter has stood still."""

    def __init__(self) -> None:
        self._beat, self._seconds, self._looked = -1, 0.0, time.monotonic()

    def lasts(self, beat: int) -> float:
        now = time.monotonic()
        self._seconds = 0.0 if beat != self._beat else self._seconds + min(now - self._looked, _MOST_WATCHED_S)
        self._beat, self._looked = beat, now
        return self._seconds


@contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Hold Ctrl-C back for a moment; a process started meanwhile never gets it: it is the parent's to handle."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # where the first process starts it, it lets interrupts through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _script_unseen() -> Iterator[None]:
    """Keep a process that starts meanwhile from running the user's script again, which would search once more.

    `spawn` imports the main module for what is defined there, and nothing that we run is.
    """
    main = sys.modules["__main__"].__dict__
    hidden: dict[str, Any] = {name: main[name] for name in ("__file__", "__spec__") if name in main}
    main.pop("__file__", None)
    main["__spec__"] = None
    try:
        yield
    finally:
        main.update(hidden)


def result_of(future: "Future[Outcome | JobFailure]") -> Outcome | JobFailure:
    """Return a finished future's result, a dead process being a failure like any other."""
    try:
        return future.result()
    except BrokenProcessPool:
        return JobFailure("The training process died: it was killed or ran out of memory.", died=True)


_progress: Any = None


def _initialise(progress: Any, beat: Any, parent: int, cores: list[int] | None, environment: Mapping[str, str]) -> None:
    global _progress  # the one place through which a running job reports; set once per process
    _progress = progress
    os.environ.update(environment)  # before anything loads CUDA
    if cores is not None:
        os.sched_setaffinity(0, cores)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_end_with, args=(parent, beat), daemon=True).start()


def _end_with(parent: int, beat: Any) -> None:
    """Show signs of life, and leave as soon as the parent is gone: an orphan would train for nobody."""
    while os.getppid() == parent:
        beat.value += 1
        time.sleep(_WATCH_EVERY_S)
    os._exit(1)


def _import_everything() -> None:
    from nas import backend

    backend.prepare()
    import nas.train.candidate  # noqa: F401


@dataclass(frozen=True)
class Equipment:
    """What a training process computes with."""

    backend: str  # as JAX calls it
    processor: str
    memory_bytes: int | None  # None: the system does not tell


def _equipment() -> Equipment:
    _import_everything()
    import jax

    from nas.train.memory import machine_bytes

    kind = jax.default_backend()
    processor = machine.processor() if kind == "cpu" else str(jax.devices()[0].device_kind)
    return Equipment(kind, processor, machine_bytes())


def run_job(job: Job) -> Outcome | JobFailure:
    """Train one candidate in this process; what goes wrong with it alone becomes its reason."""
    _import_everything()
    import jax

    from nas.train.candidate import evaluate
    from search_spaces.errors import IspNasError, MissingStateError, TrainingError
    from search_spaces.system.file_errors import sentence

    try:
        return evaluate(job, tick=_report)
    except TrainingError as error:
        return JobFailure(str(error), needs_bytes=getattr(error, "needs_bytes", None))
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        return JobFailure(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'out of memory'}.")
    except MissingStateError as error:
        return JobFailure(str(error), returned=True)
    except IspNasError as error:
        return JobFailure(str(error), fatal=True)
    except OSError as error:
        return JobFailure(sentence(error), fatal=True)


def _report(step: int, _losses: object) -> None:
    if _progress is not None:
        _progress.value = step
