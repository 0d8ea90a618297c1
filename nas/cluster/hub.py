"""The driver's end of a cluster: a Dask scheduler in a thread beside the driver, and one RemoteWorker per agent.

    driver thread                             hub thread (asyncio)
      RemoteWorker.submit ───────────────────► job to the agent
      future ◄──────────────────────────────── outcome of the agent, its state already kept on disk
      Hub.arrived, messages ◄───────────────── agents that were checked, refused, lost

A job is sent to one agent, once; whether it is sent again is for the driver to decide. An attempt that was given up is
known by its name, so whatever still comes of it is passed over.
"""

import asyncio
import queue
import socket
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.cluster import dask_setup, messages
from nas.cluster.address import Address
from nas.cluster.eligibility import misfit
from nas.cluster.messages import FACTS, HOLDING, PREFIX, Facts, JobMessage, Terms
from nas.train import checkpoint
from nas.train.job import Begun, Job, JobFailure, Outcome
from nas.train.worker import Place, TrainingWorker, WorkerSource
from search_spaces.errors import IspNasError, UsageError
from search_spaces.system.file_errors import sentence

if TYPE_CHECKING:
    from distributed import Scheduler

BLOCK_BYTES = 8 << 20
LOST_AFTER_S = 60.0  # without a heartbeat
_OPENS_S = 60.0
_CLOSES_S = 10.0
VGG = "vgg"
MOST_SHOWN = 5  # refusals for one reason


@dataclass(eq=False)
class _Flight:
    """One attempt at a job on one agent."""

    attempt: str
    job: Job
    future: "Future[Outcome | JobFailure]"


class RemoteWorker(TrainingWorker):
    """An agent, as the driver sees it."""

    def __init__(self, hub: "Hub", address: str, facts: Facts) -> None:
        self._hub, self._address = hub, address
        self.place = Place(facts.host, facts.backend, facts.processor)
        self.memory_bytes = facts.memory_bytes
        self.flight: _Flight | None = None
        self.left = False

    @property
    def step(self) -> int:
        """The training step of the last heartbeat."""
        flight = self.flight
        return 0 if flight is None else messages.step_in(self._hub.metrics_of(self._address), flight.attempt)

    @property
    def has_left(self) -> bool:
        """Whether the agent is gone, or was refused."""
        return self.left

    def start(self) -> None:
        """Do nothing: an agent has started before it is known here."""

    def submit(self, job: Job) -> "Future[Outcome | JobFailure]":
        """Send a job to the agent, with the state from which it goes on; raise StudyError where that is damaged."""
        state = b""
        if job.checkpoint.exists():
            checkpoint.step_of(job.checkpoint)
            state = job.checkpoint.read_bytes()
        self.flight = flight = _Flight(uuid.uuid4().hex, job, Future())
        self._hub.call(self._hub.send_job, self, self._address, flight, state)
        return flight.future

    def recycle(self) -> None:
        """Do nothing: the agent replaces its process itself."""

    def close(self, *, kill: bool = False) -> None:
        """With `kill`, have the agent give up what it does, of which nothing will be taken any more."""
        flight, self.flight = self.flight, None
        if flight is not None and kill and not flight.future.done():
            self._hub.call(self._hub.send, self._address, "stop", {"attempt": flight.attempt})

    def resolve(self, flight: _Flight, result: Outcome | JobFailure) -> None:
        """Hand the driver what came of an attempt, if it still waits for that one."""
        if self.flight is flight:
            self.flight = None
        if not flight.future.done():
            flight.future.set_result(result)


@dataclass(eq=False)
class _Agent:
    """What the hub knows of an agent."""

    address: str
    facts: Facts
    worker: RemoteWorker | None = None  # once it is ready
    is_leaving: bool = False

    @property
    def label(self) -> str:
        return f"{self.facts.host} ({self.facts.processor}, process {self.facts.process}.{self.facts.number})"


class Hub(WorkerSource):
    """Agents that may come and go while a search runs."""

    def __init__(
        self,
        address: Address,
        terms: Terms,
        *,
        pairs: Path,
        vgg_file: Path | None = None,
        keys: Path | None = None,
        on_message: Callable[[str], None] = lambda _: None,
        lost_after_s: float = LOST_AFTER_S,
    ) -> None:
        """`on_message` is called in the driver's thread, with one line per event."""
        dask_setup.configure()
        self._security = dask_setup.security(keys)
        self.address, self._terms, self._lost_after_s = address, terms, lost_after_s
        self._files = {name: pairs / name for name in terms.files} | ({VGG: vgg_file} if vgg_file else {})
        self._on_message = on_message
        self._messages: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._arrived: queue.SimpleQueue[TrainingWorker] = queue.SimpleQueue()
        self._agents: dict[str, _Agent] = {}
        self.refusals: list[str] = []
        self._scheduler: Scheduler | None = None
        self._listens: Future[int] = Future()
        self._thread = threading.Thread(target=self._run, name="isp-nas-hub", daemon=True)

    def start(self) -> None:
        """Listen; raise UsageError where the address cannot be had."""
        self._require_free()
        self._thread.start()
        self.address = Address(self.address.host, self._listens.result(_OPENS_S))

    def _require_free(self) -> None:
        family = socket.AF_INET6 if ":" in self.address.host else socket.AF_INET
        with socket.socket(family) as probe:
            try:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((self.address.host, self.address.port))
            except OSError as error:
                raise self._unavailable(error.strerror or str(error)) from None

    def _unavailable(self, why: str) -> UsageError:
        return UsageError(f"{self.address} cannot be listened at ({why}); name another address with --cluster.")

    def arrived(self) -> list[TrainingWorker]:
        """Return agents that were found fit since the last call, and tell what else happened."""
        while not self._messages.empty():
            self._on_message(self._messages.get())
        workers = []
        while not self._arrived.empty():
            workers.append(self._arrived.get())
        return workers

    def close(self, *, over: bool) -> None:
        """Stop listening; agents end where the search is over, and wait for it to go on where it is not."""
        if self._thread.is_alive():
            self.call(self._stop, over)
            self._thread.join(_CLOSES_S)

    def metrics_of(self, address: str) -> object:
        """Return what an agent's last heartbeat told."""
        state = None if self._scheduler is None else self._scheduler.workers.get(address)
        return None if state is None else state.metrics

    def call(self, function: Callable[..., object], *arguments: object) -> None:
        """Have the hub's thread call a function soon; nothing once it has ended."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)

    # In the hub's thread

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except (OSError, ValueError, RuntimeError) as error:
            if not self._listens.done():
                self._listens.set_exception(self._unavailable(str(error)))

    async def _serve(self) -> None:
        from distributed import Scheduler

        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        shows = dask_setup.has_dashboard()
        scheduler = Scheduler(
            host=self.address.written_host,
            port=self.address.port,
            protocol="tcp" if self._security is None else "tls",
            security=self._security,
            worker_ttl=self._lost_after_s,
            dashboard=shows,
            dashboard_address="127.0.0.1:0",
        )
        self._scheduler = scheduler
        async with scheduler:
            dask_setup.only(scheduler.handlers, dask_setup.SCHEDULER_CALLS)
            scheduler.handlers[f"{PREFIX}block"] = self._block
            for name in ("hello", "ready", "unfit", "kept", "done", "leaving"):
                scheduler.stream_handlers[f"{PREFIX}{name}"] = getattr(self, f"_{name}")
            scheduler.add_plugin(_watch(self))
            if shows:
                self.dashboard = f"http://127.0.0.1:{scheduler.services['dashboard'].port}/status"
            self._listens.set_result(scheduler.port)
            await self._stopped.wait()

    def _stop(self, over: bool) -> None:
        for address in [*self._agents]:
            self.send(address, "over" if over else "pause", {})
        self._loop.call_later(0.2, self._stopped.set)

    def send(self, address: str, op: str, values: dict[str, Any]) -> None:
        """Send an agent a message; one that cannot be reached is gone."""
        if self._scheduler is not None and address in self._agents:
            self._scheduler.worker_send(address, {"op": f"{PREFIX}{op}", **values})

    def send_job(self, worker: RemoteWorker, address: str, flight: _Flight, state: bytes) -> None:
        """Send an agent a job."""
        if worker.left or address not in self._agents:
            worker.resolve(flight, JobFailure("The worker had left by then.", returned=True))
            return
        message = messages.plain(JobMessage.of(flight.job))
        self.send(address, "job", {"attempt": flight.attempt, "job": message, "state": state})

    def _hello(self, worker: str, facts: Any = None, **_: Any) -> None:
        try:
            agent_facts = FACTS.read(facts)
        except ValueError as error:
            self._refuse(worker, worker, f"what it tells of itself cannot be read ({error}); install the same version.")
            return
        agent = self._agents[worker] = _Agent(worker, agent_facts)
        reason = misfit(agent_facts, self._terms, time.time())
        if reason:
            self._refuse(worker, agent.label, reason)
        else:
            self.send(worker, "welcome", {"terms": messages.plain(self._terms)})

    def _refuse(self, address: str, label: str, reason: str) -> None:
        """Send an agent away, with the reason; it is no verdict on anything else."""
        if self._scheduler is not None:
            self._scheduler.worker_send(address, {"op": f"{PREFIX}refused", "reason": reason})
        line = f"Worker {label} is refused: {reason}"
        self.refusals.append(line)
        so_far = sum(each.endswith(f" is refused: {reason}") for each in self.refusals)
        if so_far < MOST_SHOWN:
            self._messages.put(line)
        elif so_far == MOST_SHOWN:  # a rack of a wrong version would fill the terminal
            self._messages.put(f"{line} Others that are refused for this reason are in `isp-nas status` alone.")
        agent = self._agents.get(address)
        if agent is not None and agent.worker is not None:
            agent.worker.left = True

    def _ready(self, worker: str, holding: Any = None, **_: Any) -> None:
        agent = self._agents.get(worker)
        if agent is None or agent.worker is not None:
            return
        agent.worker = RemoteWorker(self, worker, agent.facts)
        with suppress(ValueError):  # what cannot be read is asked of somebody, sooner or later
            agent.worker.has_begun = None if holding is None else Begun(**asdict(HOLDING.read(holding)))
        self._arrived.put(agent.worker)
        self._messages.put(f"Worker {agent.label} has joined.")

    def _unfit(self, worker: str, reason: Any = "", **_: Any) -> None:
        agent = self._agents.get(worker)
        if agent is not None:
            self._refuse(worker, agent.label, str(reason)[:500])

    def _flight(self, worker: str, attempt: object) -> tuple[_Agent, RemoteWorker, _Flight] | None:
        """Return what an agent is training, if that is the attempt it speaks of."""
        agent = self._agents.get(worker)
        remote = None if agent is None else agent.worker
        flight = None if remote is None else remote.flight
        if agent is None or remote is None or flight is None or flight.attempt != attempt:
            return None
        return agent, remote, flight

    async def _kept(self, worker: str, attempt: Any = None, state: Any = b"", **_: Any) -> None:
        """Keep a state from the middle of a training, so that little of it is lost with the agent."""
        in_flight = self._flight(worker, attempt)
        if in_flight is not None:
            await self._keep(*in_flight, state)

    async def _done(self, worker: str, attempt: Any = None, result: Any = None, state: Any = b"", **_: Any) -> None:
        in_flight = self._flight(worker, attempt)
        if in_flight is None:
            return
        agent, remote, flight = in_flight
        try:
            outcome = messages.read_result(result)
            if isinstance(outcome, Outcome) and outcome.steps != flight.job.steps:
                raise ValueError(f"{outcome.steps} steps where {flight.job.steps} were asked for")
        except ValueError as error:
            outcome = JobFailure(f"its result cannot be used ({error}).", fatal=True)
        if isinstance(outcome, Outcome):
            outcome = await self._keep(agent, remote, flight, state) or outcome
        elif outcome.fatal:
            self._refuse(worker, agent.label, outcome.reason)
            outcome = JobFailure(outcome.reason, returned=True)
        remote.resolve(flight, outcome)

    async def _keep(self, agent: _Agent, remote: RemoteWorker, flight: _Flight, state: Any) -> JobFailure | None:
        """Write a state that an agent sent; return the failure where it is none, or the disk here does not take it."""
        job = flight.job
        try:
            if not isinstance(state, bytes):
                raise UsageError("it is not made of bytes.")
            await asyncio.to_thread(checkpoint.receive, state, job.checkpoint, spec_hash=job.spec.hash, steps=job.steps)
        except OSError as error:
            return JobFailure(sentence(error, path=job.checkpoint, action="write"), fatal=True)
        except IspNasError as error:
            self._refuse(agent.address, agent.label, f"the state that it sent cannot be used: {error}")
            failure = JobFailure("The state that came with its result cannot be used.", returned=True)
            remote.resolve(flight, failure)
            return failure
        return None

    def _leaving(self, worker: str, **_: Any) -> None:
        agent = self._agents.get(worker)
        if agent is not None:
            agent.is_leaving = True

    def gone(self, address: str) -> None:
        """Take in that an agent is no longer connected: what it had in work is lost, unless it took its leave."""
        agent = self._agents.pop(address, None)
        if agent is None or agent.worker is None:
            return
        was_refused, agent.worker.left = agent.worker.left, True
        flight = agent.worker.flight
        if flight is not None:
            left = agent.is_leaving or was_refused
            reason = f"worker {agent.label} {'left' if left else 'is gone: it, its machine or the network between'}."
            agent.worker.resolve(flight, JobFailure(reason, lost=not left, returned=left))
        if not was_refused:
            self._messages.put(f"Worker {agent.label} {'has left' if agent.is_leaving else 'is gone'}.")

    async def _block(self, name: Any = "", offset: Any = 0, **_: Any) -> bytes:
        """Return a block of one of the files that agents may need."""
        path = self._files.get(str(name))
        if path is None or not isinstance(offset, int) or offset < 0:
            return b""
        return await asyncio.to_thread(_read_block, path, offset)


def _read_block(path: Path, offset: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(BLOCK_BYTES)


def _watch(hub: Hub) -> Any:
    from distributed import SchedulerPlugin

    class Watch(SchedulerPlugin):
        """Tells the hub who is gone."""

        def remove_worker(self, scheduler: Any, worker: str, **_: Any) -> None:  # noqa: ARG002 (Dask's names)
            hub.gone(worker)

    return Watch()
