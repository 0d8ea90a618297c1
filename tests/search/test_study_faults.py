"""Crashes at the worst moments: the same command continues, and nothing that was finished is lost or counted twice."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from flow import assert_whole, decisions, in_process, made_up, optuna_trials, records, refusal, snapshot, truncate
from optuna.trial import TrialState
from small_search import BUDGET, made_up_search, run, search, search_arguments, until

from nas.search import study as studies
from nas.train.job import Job
from nas.train.recipe import Recipe
from nas.train.workers import Worker, result_of
from search_spaces.spec import ArchSpec

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="kill -9 and Ctrl-C are signals"),
    pytest.mark.usefixtures("few_proposals"),
]


@pytest.fixture(scope="module")
def finished(options: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results folder of a search that ended well; tests work on a copy."""
    results = tmp_path_factory.mktemp("finished")
    done = search(options, results)
    assert done.returncode == 0, done.stderr
    assert_whole(results / "s", budget=BUDGET)
    return results


@pytest.fixture
def results(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "results")


# Damaged files


def test_a_database_cut_in_half_is_rebuilt_and_the_search_continues(options: tuple[str, ...], results: Path) -> None:
    folder = results / "s"
    before = decisions(folder)
    truncate(folder / "study.db")
    damaged = (folder / "study.db").read_bytes()
    done = search(options, results, budget=BUDGET + 1)
    assert done.returncode == 0, done.stderr
    assert "study.db was damaged" in done.stdout
    assert "rebuilt from the records" in done.stdout
    assert (folder / "study.db.damaged-1").read_bytes() == damaged
    assert decisions(folder)[: len(before)] == before
    opened = assert_whole(folder, budget=BUDGET + 1)
    assert [t.number for t in optuna_trials(folder)] == list(opened.candidates)


def no_database(database: Path) -> None:
    database.unlink()


def an_empty_file(database: Path) -> None:
    database.write_bytes(b"")


def no_database_at_all(database: Path) -> None:
    database.write_bytes(b"These are not the pages that you are looking for.\n" * 200)


def zeros_in_the_middle(database: Path) -> None:
    content = bytearray(database.read_bytes())
    content[len(content) // 4 : len(content) // 2] = bytes(len(content) // 2 - len(content) // 4)
    database.write_bytes(content)


@pytest.fixture(scope="module")
def untouched(options: tuple[str, ...], finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished search, extended with nothing damaged."""
    results = shutil.copytree(finished, tmp_path_factory.mktemp("untouched") / "results")
    made_up_search(options, results, budget=BUDGET + 2)
    return results


@pytest.mark.parametrize("damage", [no_database, an_empty_file, no_database_at_all, zeros_in_the_middle])
def test_whatever_happens_to_the_database_the_search_continues_as_if_nothing_had(
    options: tuple[str, ...], results: Path, untouched: Path, damage: Callable[[Path], None]
) -> None:
    damage(results / "s" / "study.db")
    made_up_search(options, results, budget=BUDGET + 2)
    assert decisions(results / "s") == decisions(untouched / "s")
    trials, wanted = (
        [(t.number, t.state, t.values) for t in optuna_trials(place / "s")] for place in (results, untouched)
    )
    assert trials == wanted
    assert TrialState.COMPLETE in {state for _, state, _ in trials}
    assert [number for number, *_ in trials] == list(assert_whole(results / "s", budget=BUDGET + 2).candidates)


def test_a_second_damaged_database_is_kept_beside_the_first(options: tuple[str, ...], results: Path) -> None:
    for budget in (BUDGET + 1, BUDGET + 2):
        truncate(results / "s" / "study.db")
        made_up_search(options, results, budget=budget)
    assert len(list((results / "s").glob("study.db.damaged-*"))) == 2


def test_a_torn_last_record_is_ignored_and_cut_off(options: tuple[str, ...], results: Path) -> None:
    file = results / "s" / studies.RECORDS_FILE
    whole = file.read_bytes()
    *before, last = whole.splitlines(keepends=True)
    file.write_bytes(b"".join(before) + last[: len(last) // 2])
    assert in_process("pareto", "--results", results).returncode == 0
    made_up_search(options, results, budget=BUDGET)
    assert file.read_bytes().startswith(b"".join(before))
    records(results / "s")  # every line is whole again
    assert_whole(results / "s", budget=BUDGET)


@pytest.mark.parametrize("number", [1, 3])
def test_a_damaged_record_in_the_middle_is_refused_with_its_number(
    options: tuple[str, ...], results: Path, number: int
) -> None:
    file = results / "s" / studies.RECORDS_FILE
    lines = file.read_bytes().splitlines(keepends=True)
    lines[number - 1] = lines[number - 1][:20] + b"\n"
    file.write_bytes(b"".join(lines))
    before = snapshot(results)
    for done in (search(options, results, budget=BUDGET + 1), in_process("pareto", "--results", results)):
        assert f"Line {number} of {file} is damaged" in refusal(done)
    assert snapshot(results) == before


@pytest.mark.parametrize("line", ['{"event": "rung"}', '{"event": "nap"}', '{"event": "failed", "trial": 99}', "[]"])
def test_a_record_that_cannot_be_one_is_refused_with_its_number(results: Path, line: str) -> None:
    file = results / "s" / studies.RECORDS_FILE
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([*lines[:2], line + "\n", *lines[2:]]))
    assert "Line 3 of" in refusal(in_process("pareto", "--results", results))


def test_a_damaged_checkpoint_stops_the_search_by_name_and_without_it_the_same_command_continues(
    options: tuple[str, ...], results: Path
) -> None:
    folder = results / "s"
    *before, last = decisions(folder)
    assert (last["event"], last["rung"]) == ("rung", 1)
    file = folder / studies.RECORDS_FILE
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:-1]))  # as if killed just before it
    (checkpoint,) = (folder / "checkpoints").glob(f"{last['trial']:05d}-*.safetensors")
    truncate(checkpoint)
    assert str(checkpoint) in refusal(search(options, results))
    assert decisions(folder) == before
    checkpoint.unlink()
    done = search(options, results)
    assert done.returncode == 0, done.stderr
    assert not [c for c in assert_whole(folder, budget=BUDGET).candidates.values() if c.failure]
    assert [(r["trial"], r["rung"]) for r in decisions(folder)[len(before) :]] == [(last["trial"], 1)]


# Workers that die

DYING_WORKER = """
import os, signal
from functools import partial
import nas.search.session
from flow import made_up
from nas.cli.main import main

def train(job):
    if job.checkpoint.name.startswith("00001-"):
        os.kill(os.getpid(), signal.SIGKILL)
    return made_up(job)

if __name__ == "__main__":
    nas.search.session.Worker = partial(nas.search.session.Worker, train)
    main()
"""


def test_a_worker_that_dies_fails_its_candidate_and_the_search_goes_on(
    options: tuple[str, ...], tmp_path: Path
) -> None:
    script = tmp_path / "driver.py"
    script.write_text(DYING_WORKER)
    results = tmp_path / "results"
    done = run([sys.executable, str(script)], search_arguments(options, results))
    assert (done.returncode, done.stderr) == (0, "")
    opened = assert_whole(results / "s", budget=BUDGET)
    (failed,) = (c for c in opened.candidates.values() if c.failure)
    assert failed.trial == 1
    assert "process died" in failed.failure
    assert f"Trial 1 failed: {failed.failure}" in done.stdout
    assert len(opened.trained()) == BUDGET - 1


def test_a_worker_that_dies_between_two_candidates_is_replaced_and_costs_none(tmp_path: Path) -> None:
    job = Job(ArchSpec(), 1, tmp_path / "none", tmp_path, Recipe(), 0)
    worker = Worker(made_up)
    try:
        assert worker.submit(job).result() == made_up(job)
        (process,) = worker._executor._processes.values()  # type: ignore[union-attr]
        process.kill()
        process.join()
        until(lambda: bool(worker._executor._broken), seconds=5)  # type: ignore[union-attr]
        assert result_of(worker.submit(job)) == made_up(job)
    finally:
        worker.close(kill=True)
