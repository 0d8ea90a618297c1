"""Crashes at the worst moments: the same command continues, and nothing that was finished is lost or counted twice."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flow import (
    COMMAND,
    TINY_TRAINING,
    assert_whole,
    decisions,
    few_to_choose_from,
    in_process,
    made_up,
    optuna_trials,
    records,
    refusal,
    search_in_process,
    snapshot,
    truncate,
    write_space,
)
from optuna.trial import TrialState

from nas.search import study as studies
from nas.train.job import Job
from nas.train.recipe import Recipe
from nas.train.workers import Worker, result_of
from search_spaces.spec import ArchSpec

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="kill -9 and Ctrl-C are signals")

ROOT = Path(__file__).parents[2]
BUDGET = 3
# Long enough that a search can be caught in the middle of a training.
SLOW_TRAINING = ("--rungs", "200,400", "--batch", "2", "--patch", "32")


@pytest.fixture(scope="module")
def options(tiny_pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """What every search here is asked for, but for budget, rungs and results.

    Without a prior, whose forests would take seconds in each process.
    """
    space = write_space(tmp_path_factory.mktemp("space") / "tiny.toml")
    return ("--data", str(tiny_pairs), "--space", str(space), "--study", "s", "--prior", "none")


@pytest.fixture(scope="module", autouse=True)
def _few_to_choose_from() -> Iterator[None]:
    with few_to_choose_from():
        yield


def asked(options: tuple[str, ...], results: Path, *, budget: int = BUDGET) -> tuple[str, ...]:
    """Return the arguments of a search in which each training is over at once."""
    return ("--workers", "1", "--budget", str(budget), "--results", str(results), *options, *TINY_TRAINING)


def search(options: tuple[str, ...], results: Path, *, budget: int = BUDGET) -> subprocess.CompletedProcess[str]:
    return search_in_process(*asked(options, results, budget=budget))


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


def made_up_search(options: tuple[str, ...], results: Path, *, budget: int) -> None:
    """Search with made-up qualities in place of training."""
    done = search_in_process(*asked(options, results, budget=budget), run=made_up)
    assert done.returncode == 0, done.stderr


def run(program: list[str], arguments: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """Run a program that stands in for the installed command."""
    helpers = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests" / "helpers")))}
    command = [*program, "search", *arguments]
    return subprocess.run(command, env=helpers, capture_output=True, text=True, timeout=120, check=False)


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
    told, wanted = (
        [(t.number, t.state, t.values) for t in optuna_trials(place / "s")] for place in (results, untouched)
    )
    assert told == wanted
    assert TrialState.COMPLETE in {state for _, state, _ in told}
    assert [number for number, *_ in told] == list(assert_whole(results / "s", budget=BUDGET + 2).candidates)


def test_a_second_damaged_database_is_kept_beside_the_first(options: tuple[str, ...], results: Path) -> None:
    for budget in (BUDGET + 1, BUDGET + 2):
        truncate(results / "s" / "study.db")
        made_up_search(options, results, budget=budget)
    assert len(list((results / "s").glob("study.db.damaged-*"))) == 2


def test_a_torn_last_record_is_ignored_and_cut_off(options: tuple[str, ...], results: Path) -> None:
    file = results / "s" / studies.RECORDS_FILE
    whole = file.read_bytes()
    *kept, last = whole.splitlines(keepends=True)
    file.write_bytes(b"".join(kept) + last[: len(last) // 2])
    assert in_process("pareto", "--results", results).returncode == 0
    made_up_search(options, results, budget=BUDGET)
    assert file.read_bytes().startswith(b"".join(kept))
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
    *kept, last = decisions(folder)
    assert (last["event"], last["rung"]) == ("rung", 1)
    file = folder / studies.RECORDS_FILE
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:-1]))  # as if killed just before it
    (checkpoint,) = (folder / "checkpoints").glob(f"{last['trial']:05d}-*.safetensors")
    truncate(checkpoint)
    assert str(checkpoint) in refusal(search(options, results))
    assert decisions(folder) == kept
    checkpoint.unlink()
    done = search(options, results)
    assert done.returncode == 0, done.stderr
    assert not [c for c in assert_whole(folder, budget=BUDGET).candidates.values() if c.failure]
    assert [(r["trial"], r["rung"]) for r in decisions(folder)[len(kept) :]] == [(last["trial"], 1)]


# kill -9 of the search, wherever it stands

KILLED_BUDGET = 4
# The installed command with made-up qualities in place of training, again and again until it is not killed, for one
# fault after the other: each time in a child of one process that has done the imports and grown the prior's forests.
AGAIN_AND_AGAIN = """
import os, signal, sys
import nas.cli.search, nas.search.driver, nas.search.session
from flow import InlineWorker, few_to_choose_from, short_walks
from nas.cli.main import main
from nas.search.prior import prior, table_names

prior(table_names(""))
nas.search.session.Worker = InlineWorker
results = sys.argv.index("--results") + 1
base = sys.argv[results]

for name, fault in {faults!r}.items():
    kills = 0
    sys.argv[results] = os.path.join(base, name)
    while (child := os.fork()) and os.waitpid(child, 0)[1] == signal.SIGKILL:
        kills += 1
        assert kills < 20, name
    if not child:
        exec(fault, dict(os=os, signal=signal))
        with few_to_choose_from(), short_walks():
            main()
    print(name, kills, sep=": ", flush=True)
"""
KILL = """
from nas.search.{module} import {owner}
calls, whole = 0, {owner}.{method}

def killed(*arguments, **named):
    global calls
    calls += 1
    if calls == {at} and {before}:
        os.kill(os.getpid(), signal.SIGKILL)
    answer = whole(*arguments, **named)
    if calls == {at}:
        os.kill(os.getpid(), signal.SIGKILL)
    return answer

{owner}.{method} = killed
"""


@pytest.fixture(scope="module")
def with_prior(options: tuple[str, ...]) -> tuple[str, ...]:
    """What these searches are asked for: a prior, as users have one."""
    return options[: options.index("--prior")]


@pytest.fixture(scope="module")
def undisturbed(with_prior: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = tmp_path_factory.mktemp("undisturbed")
    made_up_search(with_prior, results, budget=KILLED_BUDGET)
    return results / "s"


# Which call of what is the last one of a session, and whether it was still done.
LAST_CALLS = {
    "before tell": ("optuna_sampler", "Proposer", "tell", 2, True),
    "after tell": ("optuna_sampler", "Proposer", "tell", 3, False),
    "after ask": ("optuna_sampler", "Proposer", "ask", 3, False),
    "before a record": ("study", "Study", "append", 5, True),
}


@pytest.fixture(scope="module")
def killed(with_prior: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, int]]:
    """Where searches are that were killed until they came to an end, by fault, and how often they were."""
    parts = ("module", "owner", "method", "at", "before")
    faults = {name: KILL.format(**dict(zip(parts, last, strict=True))) for name, last in LAST_CALLS.items()}
    folder = tmp_path_factory.mktemp("killed")
    script = AGAIN_AND_AGAIN.format(faults=faults)
    done = run([sys.executable, "-c", script], asked(with_prior, folder, budget=KILLED_BUDGET))
    assert done.returncode == 0, done.stderr
    told = (line.split(": ") for line in done.stdout.splitlines() if line.startswith(tuple(LAST_CALLS)))
    return folder, {name: int(kills) for name, kills in told}


@pytest.mark.parametrize("name", LAST_CALLS)
def test_a_search_that_is_killed_again_and_again_ends_like_an_undisturbed_one(
    killed: tuple[Path, dict[str, int]], undisturbed: Path, name: str
) -> None:
    folder, kills = killed
    assert kills[name] > 0
    assert decisions(folder / name / "s") == decisions(undisturbed)
    assert_whole(folder / name / "s", budget=KILLED_BUDGET)


# The search proper, with processes that train

# A search whose workers run this file's code too, for `spawn` imports the main module again.
TORN_CHECKPOINT = """
import os, signal
import nas.train.checkpoint
from nas import backend
from nas.search import study
from nas.cli.main import main
from search_spaces.system.atomic_write import temporary_of

whole = nas.train.checkpoint.write_durably

def torn(path, content):
    if path.name.startswith("00001-"):
        if {after}:
            whole(path, content)
        else:
            temporary_of(path).write_bytes(content[: len(content) // 2])
        os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
    whole(path, content)

nas.train.checkpoint.write_durably = torn
if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("after", [False, True], ids=["during", "after"])
def test_kill_9_around_a_checkpoint_write_loses_at_most_the_rung_in_flight(
    options: tuple[str, ...], tmp_path: Path, after: bool
) -> None:
    script = tmp_path / "driver.py"
    script.write_text(TORN_CHECKPOINT.format(after=after))
    results = tmp_path / "results"
    assert run([sys.executable, str(script)], asked(options, results)).returncode == -signal.SIGKILL
    before = decisions(results / "s")
    assert any(record["event"] == "rung" for record in before)
    done = search(options, results)
    assert done.returncode == 0, done.stderr
    assert decisions(results / "s")[: len(before)] == before
    assert not [c for c in assert_whole(results / "s", budget=BUDGET).candidates.values() if c.failure]


class Started:
    """A search in a process group of its own, so that a signal reaches what a terminal's would."""

    def __init__(self, options: tuple[str, ...], results: Path) -> None:
        arguments = [
            "search",
            "--workers",
            "1",
            "--budget",
            str(BUDGET),
            "--results",
            str(results),
            *options,
            *SLOW_TRAINING,
        ]
        self.folder = results / "s"
        self.process = subprocess.Popen(
            [str(COMMAND), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def wait_for(self, event: str) -> None:
        """Return as soon as the records tell of `event`."""
        until(lambda: (self.folder / studies.RECORDS_FILE).exists() and event in self._events(), seconds=60)
        assert self.process.poll() is None, self.process.communicate()

    def _events(self) -> set[str]:
        text = (self.folder / studies.RECORDS_FILE).read_text("utf-8")
        return {event for event in ("asked", "rung") if f'"event": "{event}"' in text}

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err


def until(condition: Callable[[], bool], *, seconds: float) -> None:
    last = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < last, "waited in vain"
        time.sleep(0.05)


def alive() -> dict[int, int]:
    """Return every process that still runs, with its parent's number; a zombie runs no more."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,stat="], capture_output=True, text=True, check=True).stdout
    rows = (line.split() for line in listed.splitlines())
    return {int(pid): int(parent) for pid, parent, state in rows if not state.startswith("Z")}


def children(pid: int) -> set[int]:
    return {child for child, parent in alive().items() if parent == pid}


@pytest.fixture
def started(options: tuple[str, ...], tmp_path: Path) -> Started:
    return Started(options, tmp_path)


def finish(started: Started, options: tuple[str, ...]) -> None:
    """Run the same command to its end and see that it completes what the first one began."""
    before = decisions(started.folder)
    results = started.folder.parent
    done = search_in_process("--workers", 1, "--budget", BUDGET, "--results", results, *options, *SLOW_TRAINING)
    assert done.returncode == 0, done.stderr
    assert decisions(started.folder)[: len(before)] == before
    assert_whole(started.folder, budget=BUDGET)


@pytest.mark.skipif(shutil.which("ps") is None, reason="ps lists the processes")
def test_kill_9_during_training_leaves_no_orphan_and_the_same_command_continues(
    started: Started, options: tuple[str, ...]
) -> None:
    started.wait_for("rung")
    workers = children(started.process.pid)
    assert workers
    started.process.kill()
    started.end()
    until(lambda: not workers & alive().keys(), seconds=5)
    finish(started, options)


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "polite kill"])
def test_an_interrupted_search_leaves_a_whole_study_and_says_how_to_continue(
    started: Started, options: tuple[str, ...], kind: signal.Signals
) -> None:
    started.wait_for("rung")
    os.killpg(started.process.pid, kind)
    code, out, err = started.end()
    assert code == 130
    assert "The same command continues." in out
    assert err == ""
    records(started.folder)  # whole lines only
    if kind == signal.SIGINT:
        finish(started, options)


def test_an_interruption_at_the_very_start_is_no_traceback(started: Started) -> None:
    started.wait_for("asked")
    os.killpg(started.process.pid, signal.SIGINT)
    code, _, err = started.end()
    assert (code, err) == (130, "")


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
    done = run([sys.executable, str(script)], asked(options, results))
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
