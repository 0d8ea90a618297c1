"""A hub and its agents in one process: who is refused, what travels, what is lost and what is given back."""

import threading
import time
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import distributed
import pytest
from hub_machines import SPEC, InlineWorker, Listens, Machine, job, joined, long, outcome, save, trains, until

from nas.cli.studies import _refusals
from nas.cluster import agent, agent_files, messages
from nas.cluster.address import Address
from nas.cluster.agent import End
from nas.cluster.keys import make_keys
from nas.data.content import content_of, files_of
from nas.train import checkpoint
from nas.train.job import Begun, Job, JobFailure, Outcome
from nas.train.workers import Equipment
from search_spaces.errors import UsageError


def test_a_state_goes_out_with_its_job_and_comes_back_with_its_outcome(listens: Listens, tmp_path: Path) -> None:
    hub = listens()
    machine = Machine(hub.address, tmp_path / "there")
    worker, here = joined(hub), job(tmp_path)
    assert worker.submit(here).result(20) == outcome(here)
    assert checkpoint.load(here.checkpoint).step == 10
    further = replace(here, steps=30, begins_at=10)
    assert worker.submit(further).result(20) == outcome(further)
    assert checkpoint.load(here.checkpoint).step == 30
    assert worker.place is not None
    assert worker.place.backend == "cpu"
    hub.close(over=True)
    assert machine.ended() is End.OVER


REFUSED = {
    "code": ({"code": "0123"}, "other code of isp-nas"),
    "version": ({"versions": {"jax": "0.1"}}, "it has jax 0.1, the search has"),
    "backend": ({"backend": "gpu"}, "it computes on gpu, and this study is trained on cpu"),
    "memory": ({"memory_bytes": 1000}, "it has 0.00 GB of memory for a training"),
    "clock": ({"now_s": 1000.0}, "its clock is"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_an_agent_that_does_not_fit_is_refused_with_its_reason_and_the_hub_goes_on(
    listens: Listens, tmp_path: Path, kind: str
) -> None:
    facts, reason = REFUSED[kind]
    hub = listens()
    machine = Machine(hub.address, tmp_path / "there", **facts)
    assert machine.ended() is End.REFUSED
    assert reason in machine.said[-1]
    assert hub.arrived() == []
    assert reason in hub.said[-1]  # type: ignore[attr-defined]
    Machine(hub.address, tmp_path / "other")
    assert joined(hub).submit(job(tmp_path)).result(20) == outcome(job(tmp_path))


def test_a_rack_that_is_refused_for_one_reason_does_not_fill_the_terminal(
    listens: Listens, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = listens()
    monkeypatch.setattr(hub, "_scheduler", None)  # none of them is connected
    for number in range(20):
        hub._refuse(f"tcp://rack:{number}", f"rack ({number})", "it runs other code.")
    hub._refuse("tcp://old:1", "old (1)", "its clock is off.")
    hub.arrived()
    said: list[str] = hub.said  # type: ignore[attr-defined]
    assert len(hub.refusals) == 21, "all are kept"
    assert sum("it runs other code" in line for line in said) == 5
    assert sum("are in `isp-nas status` alone" in line for line in said) == 1
    assert said[-1] == "Worker old (1) is refused: its clock is off."
    assert list(_refusals(hub.refusals)) == [
        "Worker rack (0) is refused: it runs other code. And 19 more workers for this reason.",
        "Worker old (1) is refused: its clock is off.",
    ]


def test_an_agent_without_pairs_is_refused_where_none_are_sent(listens: Listens, tmp_path: Path) -> None:
    hub = listens(pairs=str(tmp_path / "not-here"), sends_pairs=False)
    machine = Machine(hub.address, tmp_path / "there")
    assert machine.ended() is End.REFUSED
    assert "it has no pairs of content" in machine.said[-1]


def test_pairs_are_fetched_once_and_known_by_content(
    listens: Listens, tmp_path: Path, prepared_tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_files, "cache_dir", lambda: tmp_path / "cache")
    fetched: list[str] = []
    whole = agent_files._fetch_all

    async def counting(folder: Path, files: Any, fetch: Any) -> None:
        fetched.extend(files)
        await whole(folder, files, fetch)

    monkeypatch.setattr(agent_files, "_fetch_all", counting)
    hub = listens(pairs=str(tmp_path / "not-here"))
    for name in ("one", "two"):
        machine = Machine(hub.address, tmp_path / name)
        joined(hub)
        assert machine.agent._pairs == tmp_path / "cache" / "received" / content_of(prepared_tiny)
        assert content_of(machine.agent._pairs) == content_of(prepared_tiny)
    assert sorted(fetched) == sorted(files_of(prepared_tiny))


def test_pairs_that_arrive_damaged_are_not_kept(
    listens: Listens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_files, "cache_dir", lambda: tmp_path / "cache")
    hub = listens(pairs=str(tmp_path / "not-here"))
    read = hub._block

    async def damaged(**request: Any) -> bytes:
        block = await read(**request)
        return block[:-1] + bytes([block[-1] ^ 1]) if request["name"] == "val_rgb.npy" else block

    assert hub._scheduler is not None
    hub._scheduler.handlers["isp-nas-block"] = damaged
    machine = Machine(hub.address, tmp_path / "there")
    assert machine.ended() is End.REFUSED
    assert "are not those that were sent" in machine.said[-1]
    assert [path for path in (tmp_path / "cache" / "received").iterdir() if path.is_dir()] == []


def test_what_an_agent_had_in_work_is_lost_when_it_vanishes(listens: Listens, tmp_path: Path) -> None:
    hub = listens()
    machine = Machine(hub.address, tmp_path / "there", InlineWorker(gate=threading.Event()))
    worker = joined(hub)
    future = worker.submit(job(tmp_path))
    until(lambda: machine.worker.jobs)
    machine.vanish()
    failure = future.result(20)
    assert isinstance(failure, JobFailure)
    assert failure.lost
    assert not failure.returned
    assert worker.has_left


def test_what_an_agent_had_in_work_is_given_back_when_it_leaves(listens: Listens, tmp_path: Path) -> None:
    hub = listens()
    machine = Machine(hub.address, tmp_path / "there", InlineWorker(gate=threading.Event()))
    future = joined(hub).submit(job(tmp_path))
    until(lambda: machine.worker.jobs)
    machine.leave()
    failure = future.result(20)
    assert isinstance(failure, JobFailure)
    assert failure.returned
    assert not failure.lost
    assert machine.ended() is End.LEFT


def test_an_agent_finds_the_search_again_and_hands_over_what_it_trained_meanwhile(
    listens: Listens, tmp_path: Path
) -> None:
    hub, gate = listens(), threading.Event()
    machine = Machine(hub.address, tmp_path / "there", InlineWorker(gate=gate))
    joined(hub).submit(job(tmp_path))
    until(lambda: machine.worker.jobs)
    hub.close(over=False)
    gate.set()
    again = listens(port=hub.address.port)
    worker = joined(again)
    assert worker.has_begun == Begun(job(tmp_path).checkpoint.name, 10)
    assert worker.submit(job(tmp_path)).result(20) == outcome(job(tmp_path))
    assert machine.worker.jobs == 1


def test_a_long_training_whose_states_the_hub_has_kept_goes_on_where_it_is(listens: Listens, tmp_path: Path) -> None:
    gate = threading.Event()
    hub, here = listens(), job(tmp_path, 30, save_every=10)
    machine = Machine(hub.address, tmp_path / "there", InlineWorker(long(gate, trains)))
    joined(hub).submit(here)
    until(here.checkpoint.exists)
    hub.close(over=False)
    worker = joined(listens(port=hub.address.port))
    future = worker.submit(here)  # from the state that it sent
    until(lambda: machine.agent._training is not None and worker.flight is not None)
    gate.set()
    assert future.result(20) == outcome(here)
    assert machine.worker.jobs == 1
    assert checkpoint.load(here.checkpoint).step == 30


def test_a_worker_tells_nothing_of_what_it_began_for_another_study(listens: Listens, tmp_path: Path) -> None:
    hub, gate = listens(), threading.Event()
    machine = Machine(hub.address, tmp_path / "there", InlineWorker(gate=gate))
    joined(hub).submit(job(tmp_path))
    until(lambda: machine.worker.jobs)
    hub.close(over=False)
    assert joined(listens(port=hub.address.port, study="another")).has_begun is None
    gate.set()


def test_too_little_memory_on_an_agent_gives_the_job_back_with_what_it_needs(listens: Listens, tmp_path: Path) -> None:
    hub = listens()
    small = InlineWorker(lambda _: JobFailure("too large", needs_bytes=5 * 10**9))
    Machine(hub.address, tmp_path / "there", small, equipment=Equipment("cpu", "test", 10**9))
    worker = joined(hub)
    failure = worker.submit(job(tmp_path)).result(20)
    assert failure == JobFailure("too large", returned=True, needs_bytes=5 * 10**9)
    assert worker.memory_bytes == 10**9
    assert not worker.has_left


def test_a_full_disk_of_an_agent_ends_the_agent_and_nothing_else(listens: Listens, tmp_path: Path) -> None:
    hub = listens()
    machine = Machine(hub.address, tmp_path / "there", InlineWorker(lambda _: JobFailure("Disk full.", fatal=True)))
    worker = joined(hub)
    assert worker.submit(job(tmp_path)).result(20) == JobFailure("Disk full.", returned=True)
    assert worker.has_left
    assert machine.ended() is End.REFUSED


def another_network(there: Job) -> Outcome:
    save(there.checkpoint, there.steps, replace(SPEC, width=SPEC.width * 2))
    return outcome(there)


UNUSABLE = {
    "state": lambda there: there.checkpoint.write_bytes(b"not a state") and outcome(there),
    "network": another_network,
    "steps": lambda there: (save(there.checkpoint, there.steps), replace(outcome(there), steps=7))[1],
    "psnr": lambda there: (save(there.checkpoint, there.steps), replace(outcome(there), psnr_db=-1.0))[1],
    "nan": lambda there: (save(there.checkpoint, there.steps), replace(outcome(there), loss=float("nan")))[1],
}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_what_an_agent_sends_is_checked_on_arrival(listens: Listens, tmp_path: Path, kind: str) -> None:
    hub, here = listens(), job(tmp_path, 30, begins_at=10)
    save(here.checkpoint, 10)
    machine = Machine(hub.address, tmp_path / "there", InlineWorker(UNUSABLE[kind]))
    failure = joined(hub).submit(here).result(20)
    assert isinstance(failure, JobFailure)
    assert failure.returned
    assert machine.ended() is End.REFUSED
    assert checkpoint.load(here.checkpoint).step == 10


def test_states_in_the_middle_of_a_long_training_are_kept_by_the_hub(listens: Listens, tmp_path: Path) -> None:
    gate = threading.Event()
    hub, here = listens(), job(tmp_path, 30, save_every=10)
    Machine(hub.address, tmp_path / "there", InlineWorker(long(gate, lambda _: JobFailure("enough"))))
    joined(hub).submit(here)
    until(here.checkpoint.exists)
    assert checkpoint.load(here.checkpoint).step == 10
    gate.set()


def test_an_attempt_that_was_given_up_is_passed_over(listens: Listens, tmp_path: Path) -> None:
    hub, gate = listens(), threading.Event()
    inline = InlineWorker(gate=gate)
    Machine(hub.address, tmp_path / "there", inline)
    worker, here = joined(hub), job(tmp_path)
    first = worker.submit(here)
    until(lambda: inline.threads)
    worker.close(kill=True)
    gate.set()
    inline.threads[0].join(20)  # a process would be gone; two threads would write one state at a time
    further = replace(here, seed=1)
    assert worker.submit(further).result(20) == outcome(further)
    assert not first.done()


def test_neither_end_runs_functions_that_it_is_sent(listens: Listens, tmp_path: Path) -> None:
    hub = listens()
    machine = Machine(hub.address, tmp_path / "there")
    joined(hub)
    assert hub._scheduler is not None
    assert machine.agent._dask is not None
    for handlers in (hub._scheduler.handlers, machine.agent._dask.handlers, machine.agent._dask.stream_handlers):
        assert not {"run_function", "run", "run_coroutine", "register-client", "feed", "compute-task", "plugin-add"} & {
            *handlers
        }


def test_with_certificates_an_agent_without_them_finds_nobody(listens: Listens, tmp_path: Path) -> None:
    make_keys(tmp_path / "keys")
    make_keys(tmp_path / "others")
    hub = listens(keys=tmp_path / "keys")
    strangers = [
        Machine(hub.address, tmp_path / str(number), keys=keys, patience_s=1.5)
        for number, keys in enumerate((None, tmp_path / "others"))
    ]
    Machine(hub.address, tmp_path / "there", keys=tmp_path / "keys")
    assert joined(hub).submit(job(tmp_path)).result(20) == outcome(job(tmp_path))
    assert [stranger.ended() for stranger in strangers] == [End.ALONE, End.ALONE]
    assert hub.arrived() == []


def test_an_agent_that_looks_for_a_search_leaves_when_it_is_asked_to(tmp_path: Path) -> None:
    looking = Machine(Address("127.0.0.1", 9), tmp_path / "agent", patience_s=600)
    time.sleep(1)
    looking.leave()
    assert looking.ended() is End.LEFT


def test_an_agent_says_why_it_finds_no_search_once(
    tmp_path: Path, listens: Listens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent, "_KNOCKS_S", 1.0)
    make_keys(tmp_path / "keys")
    hub = listens(keys=tmp_path / "keys")
    stranger = Machine(hub.address, tmp_path / "agent", patience_s=5)
    assert stranger.ended() is End.ALONE
    assert sum(line.startswith(f"No search at {hub.address} yet (") for line in stranger.said) == 1, stranger.said


def test_a_training_that_ends_with_an_exception_is_a_failure_and_no_silence(listens: Listens, tmp_path: Path) -> None:
    class Raises(InlineWorker):
        def submit(self, _: Job) -> "Future[Outcome | JobFailure]":
            future: Future[Outcome | JobFailure] = Future()
            future.set_exception(ValueError("odd weights"))
            return future

    hub = listens()
    Machine(hub.address, tmp_path / "agent", Raises())
    result = joined(hub).submit(job(tmp_path)).result(20)
    assert result == JobFailure("it ended with ValueError: odd weights")


def test_workers_open_every_connection_themselves_so_that_a_tunnel_or_a_firewall_lets_them_through(
    listens: Listens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = distributed.Worker.__init__

    def unreachable(self: distributed.Worker, *arguments: Any, **options: Any) -> None:
        made(self, *arguments, contact_address="tcp://127.0.0.1:9", **options)

    monkeypatch.setattr(distributed.Worker, "__init__", unreachable)
    hub = listens()
    Machine(hub.address, tmp_path / "there")
    assert joined(hub).submit(job(tmp_path)).result(20) == outcome(job(tmp_path))


def test_an_address_that_is_taken_is_refused_in_one_sentence(listens: Listens) -> None:
    hub = listens()
    with pytest.raises(UsageError, match="cannot be listened at"):
        listens(port=hub.address.port)


def test_a_job_survives_the_way(tmp_path: Path) -> None:
    here = job(tmp_path, 30, save_every=10, judge_training=True, begins_at=10)
    message = messages.JOB.read(messages.plain(messages.JobMessage.of(here)))
    there = message.job(folder=tmp_path, pairs=tmp_path, vgg_file=None, memory_bytes=None)
    assert there == here
