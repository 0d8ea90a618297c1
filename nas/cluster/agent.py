"""An agent: a light process without JAX that owns one training process and does what a hub asks.

It outlives its connection. Where the hub is gone, the training goes on and the agent looks for the hub again; asked for
the same job, it hands over what it has instead of beginning anew.
"""

import asyncio
import os
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas import provenance
from nas.cluster import dask_setup, messages
from nas.cluster.address import LOOPBACK, Address
from nas.cluster.agent_files import AgentFiles, UnfitError
from nas.cluster.messages import JOB, METRIC, PREFIX, TERMS, Facts, Holding
from nas.train.job import Job, JobFailure, Outcome
from nas.train.workers import Equipment, Worker, result_of
from search_spaces.errors import IspNasError
from search_spaces.system import machine
from search_spaces.system.file_errors import sentence

if TYPE_CHECKING:
    from distributed import Security
    from distributed import Worker as DaskWorker

POLL_S = 0.1
_AGAIN_S = 0.5
_KNOCKS_S = 5.0
_CLOSES_S = 5.0


class End(Enum):
    """Why an agent stopped."""

    OVER = "the search is over"
    REFUSED = "it was refused"
    ALONE = "no search was found"
    LEFT = "it was asked to leave"


def _digest(state: bytes) -> str:
    return sha256(state).hexdigest()


async def _started(dask: "DaskWorker") -> None:
    await dask


async def _knock(url: str, security: "Security | None") -> None:
    """Open a connection and end it; raise OSError with the reason where there is none, which Dask's worker keeps."""
    from distributed.comm.core import connect

    arguments = {} if security is None else security.get_connection_args("worker")  # type: ignore[no-untyped-call]
    comm = await connect(url, timeout=_KNOCKS_S, **arguments)  # type: ignore[no-untyped-call]
    comm.abort()


@dataclass
class _Training:
    """What the training process does, or what came of it."""

    study: str
    job_text: str  # the job as it came
    states: set[str]  # digests of the states from which it goes on or that it reached: from any it is the same training
    job: Job
    future: "Future[Outcome | JobFailure]"
    attempt: str
    sent_at: float = 0.0  # when the state was last written that the hub has


@dataclass
class Agent:
    """One place of this machine where a hub's candidates train."""

    number: int
    worker: Worker
    files: AgentFiles
    equipment: Equipment
    memory_bytes: int | None
    on_message: Callable[[str], None]
    _training: _Training | None = None
    _study: str = ""  # the last one that was joined
    _pairs: Path | None = None
    _vgg_file: Path | None = None
    _end: End | None = None
    _dask: "DaskWorker | None" = None
    _starting: "asyncio.Future[None] | None" = None
    _why: str = ""  # there was no connection the last time
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    async def serve(self, address: Address, keys: Path | None, *, patience_s: float) -> End:
        """Work for the hub at an address until the search is over; look for it for so long where it is gone."""
        dask_setup.configure()
        security, sought = dask_setup.security(keys), time.monotonic()
        while self._end is None:
            if await self._connected(address, security, patience_s - (time.monotonic() - sought)):
                sought = time.monotonic()
                if self._end is None:
                    self.on_message(f"Lost the search at {address}; looking for it again.")
            elif time.monotonic() - sought >= patience_s:
                self._end = self._end or End.ALONE
            else:
                await asyncio.sleep(_AGAIN_S)
        self.worker.close(kill=True)
        return self._end

    async def leave(self) -> None:
        """Take leave of the hub, which gives what is in work to another one."""
        self._end = self._end or End.LEFT
        if self._starting is not None:
            self._starting.cancel()
        elif self._dask is not None:
            self._send("leaving")
            await asyncio.sleep(POLL_S)
            with suppress(Exception):
                await self._dask.close(reason="leaving")

    async def _connected(self, address: Address, security: "Security | None", patience_s: float) -> bool:
        """Stay connected for as long as that goes; tell whether there was a connection."""
        from distributed import Worker as DaskWorker

        url = address.url(encrypted=security is not None)
        if not await self._done(_knock(url, security), address, patience_s):
            return False
        self._dask = dask = DaskWorker(
            url,
            nthreads=1,
            name=f"{machine.host()}-{os.getpid()}-{self.number}-{time.monotonic_ns()}",
            host=LOOPBACK if address.is_loopback and not address.is_ipv6 else None,
            protocol="tcp" if security is None else "tls",
            security=security,
            local_directory=str(self.files.folder),
            memory_limit=0,
            dashboard_address=f"{LOOPBACK}:0",
            metrics={METRIC: lambda _: self._progress()},
        )
        dask_setup.only(dask.handlers, dask_setup.WORKER_CALLS)
        dask_setup.only(dask.stream_handlers, dask_setup.WORKER_STREAM)
        for name in ("welcome", "refused", "job", "stop", "over", "pause"):
            dask.stream_handlers[f"{PREFIX}{name}"] = getattr(self, f"_on_{name}")
        if not await self._done(_started(dask), address, patience_s):
            with suppress(Exception):
                await asyncio.wait_for(dask.close(reason="no hub"), _CLOSES_S)
            return False
        self._why = ""
        self._send("hello", facts=messages.plain(self._facts()))
        await dask.finished()  # type: ignore[no-untyped-call]
        return True

    async def _done(self, start: "Coroutine[Any, Any, None]", address: Address, patience_s: float) -> bool:
        """Wait for a connection to be made, or say why it is not; `leave` ends the waiting."""
        self._starting = asyncio.ensure_future(start)
        try:
            await asyncio.wait_for(self._starting, max(_AGAIN_S, patience_s))
        except (TimeoutError, OSError, ValueError, RuntimeError, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and self._end is None:
                raise  # not by `leave`
            self._say_why(address, error)
            return False
        finally:
            self._starting = None
        return True

    def _say_why(self, address: Address, error: BaseException) -> None:
        """Say once why there is no connection, and again where that changes."""
        cause = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        if isinstance(error, TimeoutError | asyncio.CancelledError) or isinstance(cause, asyncio.CancelledError):
            return
        why = str(cause) or type(cause).__name__
        if why != self._why:
            self.on_message(f"No search at {address} yet ({why[:200]}); looking again.")
        self._why = why

    def _facts(self) -> Facts:
        return Facts(
            machine.host(),
            os.getpid(),
            self.number,
            provenance.code_digest(),
            provenance.training_versions(),
            self.equipment.backend,
            self.equipment.processor,
            self.memory_bytes,
            time.time(),
        )

    def _progress(self) -> dict[str, Any]:
        training = self._training
        return {} if training is None else messages.progress(training.attempt, self.worker.step)

    def _send(self, op: str, **values: Any) -> None:
        if self._dask is not None:
            with suppress(Exception):  # whatever Dask raises where the connection is gone, which ends it anyway
                self._dask.batched_stream.send({"op": f"{PREFIX}{op}", **values})

    def _begin(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # What a hub says

    def _on_welcome(self, terms: Any = None, **_: Any) -> None:
        self._begin(self._prepare(terms))

    async def _prepare(self, data: Any) -> None:
        """Find or fetch what trainings read, and say whether that went well."""
        assert self._dask is not None
        dask = self._dask
        try:
            terms = TERMS.read(data)

            async def fetch(name: str, offset: int) -> bytes:
                block: bytes = await getattr(dask.scheduler, f"{PREFIX}block")(name=name, offset=offset)
                return block

            self._pairs = await self.files.pairs(terms, fetch)
            self._vgg_file = await self.files.vgg(terms, fetch)
        except (ValueError, UnfitError, IspNasError) as error:
            self._send("unfit", reason=str(error))
        except OSError as error:
            self._send("unfit", reason=sentence(error))
        else:
            self._study = terms.study
            self.on_message(f"Joined study {terms.study}.")
            self._send("ready", holding=self._holding())

    def _holding(self) -> dict[str, Any] | None:
        """Return which job of this study is in training here since before the connection was lost, or is done."""
        held = self._training
        if held is None or held.study != self._study:
            return None
        return messages.plain(Holding(held.job.checkpoint.name, held.job.steps))

    async def _on_refused(self, reason: Any = "", **_: Any) -> None:
        self.on_message(f"Refused: {str(reason)[:500]}")
        self._end = End.REFUSED
        await self._hang_up()

    async def _on_over(self, **_: Any) -> None:
        self._end = End.OVER
        await self._hang_up()

    async def _on_pause(self, **_: Any) -> None:
        await self._hang_up()

    async def _hang_up(self) -> None:
        assert self._dask is not None
        self._begin(self._dask.close(reason="told to"))

    def _on_stop(self, attempt: Any = None, **_: Any) -> None:
        if self._training is not None and self._training.attempt == attempt:
            self._give_up()

    def _on_job(self, attempt: Any = None, job: Any = None, state: Any = b"", **_: Any) -> None:
        self._begin(self._train(str(attempt), job, state))

    async def _train(self, attempt: str, data: Any, state: Any) -> None:
        try:
            training = self._training = self._begun(attempt, data, state)
        except (ValueError, IspNasError) as error:
            failure = JobFailure(f"the job cannot be read: {error}", fatal=True)
            self._send("done", attempt=attempt, result=messages.plain_result(failure), state=b"")
            return
        except OSError as error:
            failure = JobFailure(sentence(error), fatal=True)
            self._send("done", attempt=attempt, result=messages.plain_result(failure), state=b"")
            return
        try:
            result = await self._waited_for(training)
        except Exception as error:
            result = JobFailure(f"it ended with {type(error).__name__}: {error}")
        if self._training is not training or training.attempt != attempt:
            return  # given up meanwhile, or asked for again by another hub
        if isinstance(result, JobFailure):
            self._training = None
            self.worker.close(kill=True)
            result = self._of_this_machine(result)
        content = b""
        if isinstance(result, Outcome):
            try:
                content = training.job.checkpoint.read_bytes()
                training.states.add(_digest(content))
            except OSError as error:
                result = JobFailure(sentence(error), fatal=True)
        self._send("done", attempt=attempt, result=messages.plain_result(result), state=content)

    def _begun(self, attempt: str, job_data: Any, state: Any) -> _Training:
        """Begin a training, or go on with the one that is the same."""
        message = JOB.read(job_data)
        if not isinstance(state, bytes) or self._pairs is None:
            raise ValueError("it came without a state, or before the pairs")
        text, digest, held = repr(messages.plain(message)), _digest(state), self._training
        if held is not None and held.study == self._study and held.job_text == text and digest in held.states:
            held.attempt = attempt
            return held
        self._give_up()
        folder = self.files.states()
        job = message.job(folder=folder, pairs=self._pairs, vgg_file=self._vgg_file, memory_bytes=self.memory_bytes)
        job.checkpoint.unlink(missing_ok=True)
        if state:
            job.checkpoint.write_bytes(state)
        self.worker.recycle()
        return _Training(self._study, text, {digest}, job, self.worker.submit(job), attempt, time.time())

    def _give_up(self) -> None:
        training, self._training = self._training, None
        if training is not None and not training.future.done():
            self.worker.close(kill=True)

    async def _waited_for(self, training: _Training) -> Outcome | JobFailure:
        """Return what comes of a training; send its state on whenever that was written in between."""
        while not training.future.done():
            await asyncio.sleep(POLL_S)
            if self.worker.is_silent:
                self.on_message("The training process shows no sign of life and is ended.")
                self.worker.close(kill=True)
            self._send_kept(training)
        return result_of(training.future)

    def _send_kept(self, training: _Training) -> None:
        if training.job.save_every is None or self._training is not training or training.future.done():
            return
        with suppress(OSError):  # nothing is kept yet
            written = training.job.checkpoint.stat().st_mtime
            if written > training.sent_at:
                state = training.job.checkpoint.read_bytes()
                training.sent_at = written
                training.states.add(_digest(state))
                self._send("kept", attempt=training.attempt, state=state)

    def _of_this_machine(self, failure: JobFailure) -> JobFailure:
        """Return a failure with this machine's share in it: too little memory here is no verdict on a candidate."""
        if failure.needs_bytes is None:
            return failure
        return JobFailure(failure.reason, returned=True, needs_bytes=failure.needs_bytes)
