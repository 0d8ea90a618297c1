"""kill -9 and Ctrl-C at the worst moments: nothing that was finished is lost or counted twice."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from flow import COMMAND, assert_whole, decisions, records, search_in_process
from small_search import BUDGET, made_up_search, run, search, search_arguments, until

from nas.search import study as studies

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="kill -9 and Ctrl-C are signals"),
    pytest.mark.usefixtures("few_proposals"),
]
# Long enough that a search can be caught in the middle of a training.
SLOW_TRAINING = ("--rungs", "200,400", "--batch", "2", "--patch", "32")


# kill -9 of the search, wherever it stands

KILLED_BUDGET = 3
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
    "before a record": ("study", "StudyRecord", "append", 5, True),
}


@pytest.fixture(scope="module")
def killed(with_prior: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, int]]:
    """Where searches are that were killed until they came to an end, by fault, and how often they were."""
    parts = ("module", "owner", "method", "at", "before")
    faults = {name: KILL.format(**dict(zip(parts, last, strict=True))) for name, last in LAST_CALLS.items()}
    folder = tmp_path_factory.mktemp("killed")
    script = AGAIN_AND_AGAIN.format(faults=faults)
    done = run([sys.executable, "-c", script], search_arguments(with_prior, folder, budget=KILLED_BUDGET))
    assert done.returncode == 0, done.stderr
    counts = (line.split(": ") for line in done.stdout.splitlines() if line.startswith(tuple(LAST_CALLS)))
    return folder, {name: int(kills) for name, kills in counts}


@pytest.mark.parametrize("name", LAST_CALLS)
def test_a_search_that_is_killed_again_and_again_ends_like_an_undisturbed_one(
    killed: tuple[Path, dict[str, int]], undisturbed: Path, name: str
) -> None:
    folder, kills = killed
    assert kills[name] > 0
    assert decisions(folder / name / "s") == decisions(undisturbed)
    assert_whole(folder / name / "s", budget=KILLED_BUDGET)


# The search proper, with processes that train

# A search whose workers run this file's code too: `spawn` imports the main module again where nothing hides it.
TORN_CHECKPOINT = """
import os, signal
from contextlib import nullcontext
import nas.train.checkpoint
import nas.train.workers
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
nas.train.workers._script_unseen = nullcontext
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
    assert run([sys.executable, str(script)], search_arguments(options, results)).returncode == -signal.SIGKILL
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
