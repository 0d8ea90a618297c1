"""Processes that train: what happens to one that is stopped, killed or interrupted."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flow import made_up

from nas.train import workers
from nas.train.job import Job
from nas.train.recipe import Recipe
from nas.train.workers import JobFailure, Worker, result_of
from search_spaces.spec import ArchSpec

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")


def job(folder: Path) -> Job:
    return Job(ArchSpec(), 1, folder / "none", folder, Recipe(), 0)


def slow(_: Job) -> JobFailure:
    time.sleep(60)
    return JobFailure("it was not ended")


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker(slow)
    yield made
    made.close(kill=True)


def pid_of(worker: Worker) -> int:
    assert worker._executor is not None
    (process,) = worker._executor._processes.values()
    return int(process.pid or 0)


def until(condition: Callable[[], bool]) -> None:
    last = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < last, "waited in vain"
        time.sleep(0.05)


def test_a_stopped_process_is_silent_and_one_that_works_is_not(
    worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    future = worker.submit(job(tmp_path))
    until(lambda: worker._beat.value > 1)
    assert not worker.is_silent
    os.kill(pid_of(worker), signal.SIGSTOP)
    monkeypatch.setattr(workers, "SILENCE_S", 3.0)
    until(lambda: worker.is_silent)
    worker.close(kill=True)
    assert result_of(future) == JobFailure("The training process died: it was killed or ran out of memory.", died=True)


def test_time_in_which_nobody_looked_is_no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(workers.time, "monotonic", lambda: now[0])
    silence = workers._Silence()
    silence.lasts(7)
    now[0] += 3600  # Ctrl-Z stops the search with all its workers
    assert silence.lasts(7) <= 2
    now[0] += 1
    assert silence.lasts(8) == 0


def test_an_interrupt_of_the_whole_group_while_a_process_starts_does_not_reach_it(
    worker: Worker, tmp_path: Path
) -> None:
    worker._run = made_up
    future = worker.submit(job(tmp_path))
    os.kill(pid_of(worker), signal.SIGINT)  # long before its first line of Python
    assert result_of(future) == made_up(job(tmp_path))
