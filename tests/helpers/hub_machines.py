"""A hub's other end in the same process: agents in threads, and training processes that are none."""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from nas.cluster import agent_files
from nas.cluster.address import Address
from nas.cluster.agent import Agent, End
from nas.cluster.hub import Hub, RemoteWorker
from nas.train import checkpoint
from nas.train.job import Job, JobFailure, Outcome
from nas.train.recipe import Recipe
from nas.train.workers import Equipment, Worker
from search_spaces.spec import ArchSpec

SPEC = ArchSpec()
Listens = Callable[..., Hub]


def outcome(job: Job) -> Outcome:
    return Outcome(job.steps, 30.0, 0.9, 0.1, 1.0, 0.5, 0.5, 100.0)


def trains(job: Job) -> Outcome | JobFailure:
    """Stand in for a training: go on from the state that is there, and leave one."""
    before = checkpoint.load(job.checkpoint).step if job.checkpoint.exists() else 0
    if before < job.begins_at:
        return JobFailure(f"no state of step {job.begins_at}", returned=True)
    save(job.checkpoint, job.steps)
    return outcome(job)


def save(path: Path, step: int, spec: ArchSpec = SPEC) -> None:
    arrays = {"w": np.full(3, step, np.float32)}
    checkpoint.save(checkpoint.Checkpoint(step, spec.hash, arrays, arrays, arrays, loss=0.1), path)


def long(gate: threading.Event, end: Callable[[Job], Outcome | JobFailure]) -> Callable[[Job], Outcome | JobFailure]:
    """Stand in for a training that leaves a state of step 10 and comes to its end once the gate opens."""

    def run(there: Job) -> Outcome | JobFailure:
        time.sleep(0.05)
        save(there.checkpoint, 10)
        gate.wait(20)
        return end(there)

    return run


class InlineWorker(Worker):
    """A training process that is none: jobs run in a thread, or wait for `gate`."""

    def __init__(
        self, run: Callable[[Job], Outcome | JobFailure] = trains, gate: threading.Event | None = None
    ) -> None:
        super().__init__()
        self.run, self.gate, self.jobs = run, gate, 0
        self.threads: list[threading.Thread] = []

    def submit(self, job: Job) -> "Future[Outcome | JobFailure]":
        self.jobs += 1
        future: Future[Outcome | JobFailure] = Future()

        def work() -> None:
            if self.gate is not None:
                self.gate.wait(30)
            with suppress(Exception):
                future.set_result(self.run(job))

        self.threads.append(threading.Thread(target=work, daemon=True))
        self.threads[-1].start()
        return future

    def close(self, *, kill: bool = False) -> None:
        pass


class Machine:
    """An agent in a thread of its own, as a command on another machine."""

    def __init__(
        self, address: Address, folder: Path, worker: InlineWorker | None = None, *, keys: Path | None = None,
        equipment: Equipment | None = None, patience_s: float = 20.0, **facts: Any,
    ) -> None:  # fmt: skip
        folder.mkdir(parents=True, exist_ok=True)
        self.said: list[str] = []
        self.worker = worker or InlineWorker()
        known = equipment or Equipment("cpu", "test", None)
        files = agent_files.AgentFiles(folder)
        self.agent = Agent(0, self.worker, files, known, known.memory_bytes, self.said.append)
        own_facts = self.agent._facts
        self.agent._facts = lambda: replace(own_facts(), **facts)  # type: ignore[method-assign]
        self.end: End | None = None
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=(address, keys, patience_s), daemon=True)
        self._thread.start()

    def _run(self, address: Address, keys: Path | None, patience_s: float) -> None:
        self.end = self.loop.run_until_complete(self.agent.serve(address, keys, patience_s=patience_s))
        self.loop.close()

    def leave(self) -> None:
        asyncio.run_coroutine_threadsafe(self.agent.leave(), self.loop)

    def vanish(self) -> None:
        """Cut the connection without a word."""
        assert self.agent._dask is not None
        dask = self.agent._dask
        self.agent._end = End.LEFT
        self.loop.call_soon_threadsafe(lambda: dask.batched_stream.comm.abort())

    def ended(self) -> End:
        self._thread.join(20)
        assert self.end is not None, self.said
        return self.end


def until(condition: Callable[[], Any]) -> Any:
    last = time.monotonic() + 20
    while not (value := condition()):
        assert time.monotonic() < last, "waited in vain"
        time.sleep(0.02)
    return value


def joined(hub: Hub) -> RemoteWorker:
    (worker,) = until(hub.arrived)
    assert isinstance(worker, RemoteWorker)
    return worker


def job(folder: Path, steps: int = 10, **changes: Any) -> Job:
    return Job(SPEC, steps, folder / "0-x.safetensors", folder, Recipe(total_steps=90), 0, **changes)
