"""What tests of whole flows share: small spaces, the installed command, records, searches without training."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import replace
from functools import cache
from importlib.metadata import entry_points
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import typer.main

from latency_models.delegate import BUILTIN as DELEGATES
from latency_models.device import Device, device_path, load_device
from nas.data.pairs import DataConfig
from nas.defaults import DEFAULT_DEVICE
from nas.search import proposals, session
from nas.search import study as studies
from nas.search.budget import Budget
from nas.search.driver import Search
from nas.search.study import StudyRecord
from nas.search.study_config import StudyConfig
from nas.train.job import Job, Outcome
from nas.train.recipe import Recipe
from nas.train.workers import JobFailure, Worker, run_job
from search_spaces.space import load_space
from search_spaces.system import named_files

COMMAND = Path(sys.executable).parent / "isp-nas"

# A training that is over before it began: what a whole flow costs is then the start of its processes.
TINY_TRAINING = ("--rungs", "2,4", "--batch", "2", "--patch", "16")

# Twelve networks, each of them small.
TINY_SPACE = """name = "tiny"
[genes]
width = [4, 8]
depth = [0, 1]
activation = ["relu", "tanh"]
output_activation = ["none", "relu"]
"""
TINY_SIZE = 12  # the activation has no effect without a body: 2 × 2 × (1 + 2)


def truncate(path: Path, *, keep: float = 0.5) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])


def write_space(path: Path, text: str = TINY_SPACE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def write_device(path: Path, **changes: object) -> Path:
    """Write a copy of the default device under the name of `path`, some of its keys changed."""
    device = json.loads(device_path(DEFAULT_DEVICE).read_text("utf-8"))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(device | {"name": path.stem} | changes))
    return path


def write_delegate(path: Path, *, without: str) -> Path:
    """Write a copy of the default device's delegate under the name of `path` that does not know one operation."""
    table = json.loads(
        named_files.find("delegates", load_device(DEFAULT_DEVICE).delegate.name, DELEGATES, ".json").read_text()
    )
    table["ops"].pop(without)
    path.write_text(json.dumps(table | {"name": path.stem}))
    return path


def isp_nas(*arguments: object, cwd: Path | None = None, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
    """Run the installed command."""
    command = [str(COMMAND), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout_s, check=False)


@cache  # reading what is installed takes longer than many a command
def _command() -> Callable[[], None]:
    """Return the function that the installed command is."""
    (script,) = entry_points(group="console_scripts", name="isp-nas")
    command: Callable[[], None] = script.load()
    return command


# Typer makes its commands of their functions' signatures anew for every call, which takes longer than a refusal.
_parsers = cache(typer.main.get_command)


def in_process(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run what the installed command runs, without the second that a process of its own takes."""
    out, err = StringIO(), StringIO()
    given, sys.argv = sys.argv, ["isp-nas", *map(str, arguments)]
    try:
        with pytest.MonkeyPatch.context() as patched, redirect_stdout(out), redirect_stderr(err):
            patched.setattr(typer.main, "get_command", _parsers)
            with pytest.raises(SystemExit) as left:
                _command()()
    finally:
        sys.argv = given
    return subprocess.CompletedProcess(arguments, left.value.code, out.getvalue(), err.getvalue())


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """Return the one sentence with which a command refused; fail unless that is all it did."""
    assert done.returncode == 2, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("isp-nas: "), done.stderr
    sentence = lines[0].removeprefix("isp-nas: ")
    assert sentence.strip(), "a refusal without a reason"
    return sentence


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Return everything in a folder; two equal snapshots mean that nothing was written between."""
    if not folder.exists():
        return {}
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


# Records


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / studies.RECORDS_FILE).read_text("utf-8").splitlines()]


MEASURED = ("memory_mb", "checksum", "worker")  # beside the seconds


def decisions(folder: Path) -> list[dict[str, Any]]:
    """Return what a search decided and found, without how long it took and how often it was started."""
    return [
        {name: value for name, value in record.items() if not name.endswith("_s") and name not in MEASURED}
        for record in records(folder)
        if record["event"] != "session"
    ]


def assert_whole(folder: Path, *, budget: int) -> StudyRecord:
    """Fail unless the records hold every trial and every rung once and the budget of candidates exactly."""
    events = decisions(folder)
    trials = [record["trial"] for record in events if record["event"] == "asked"]
    reached = [(record["trial"], record["rung"]) for record in events if record["event"] == "rung"]
    assert trials == list(range(len(trials)))
    assert len(set(reached)) == len(reached)
    opened = studies.load(folder)
    assert sum(c.is_finished for c in opened.candidates.values()) == budget
    trained = [c.spec for c in opened.candidates.values() if c.is_finished]
    assert len(set(trained)) == len(trained)
    return opened


# Searches in this process, with made-up qualities


@contextmanager
def few_to_choose_from() -> Iterator[None]:
    """Let the model choose among an eighth of the networks that it usually does: what follows is decided alike."""
    with pytest.MonkeyPatch.context() as patched:
        for name in ("VARIATIONS", "CROSSINGS", "RANDOM"):
            patched.setattr(proposals, name, getattr(proposals, name) // 8)
        yield


@contextmanager
def short_walks() -> Iterator[None]:
    """Price few networks where hardly any is left: the small spaces of tests have no more, however long one looks."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(proposals, "MOST_PRICED", proposals.MOST_PRICED // 15)
        yield


def made_up_psnr(job: Job) -> float:
    """Return a quality that depends on nothing but the genes and the steps, and rises with both."""
    spread = int(job.spec.hash, 16) % 1000 / 1000
    return 20 + 2 * spread + job.spec.depth / 4 + job.steps / 1000


def made_up(job: Job) -> Outcome | JobFailure:
    """Stand in for training: the same job has the same outcome, at once."""
    psnr = made_up_psnr(job)
    return Outcome(job.steps, psnr, psnr / 40, 1 / psnr, 0.5, 0.25, 0.25, 100.0)


class InlineWorker(Worker):
    """A worker that trains nothing and starts no process; `run` decides what comes back."""

    def __init__(self, run: Callable[[Job], Outcome | JobFailure] = made_up, *, cores: list[int] | None = None) -> None:
        super().__init__(cores=cores)
        self._inline = run
        self.jobs: list[Job] = []

    def start(self) -> None:
        pass

    def submit(self, job: Job) -> "Future[Outcome | JobFailure]":
        self.jobs.append(job)
        future: Future[Outcome | JobFailure] = Future()
        future.set_result(self._inline(job))
        return future


def search_in_process(
    *arguments: object, run: Callable[[Job], Outcome | JobFailure] = run_job
) -> subprocess.CompletedProcess[str]:
    """Run what `isp-nas search` runs, training in this process too: it has loaded JAX, and processes take seconds.

    Two workers would train one after the other, so ask for one where the order matters.
    """
    made: list[InlineWorker] = []

    def worker(*, cores: list[int] | None = None) -> InlineWorker:
        made.append(InlineWorker(run, cores=cores))
        return made[-1]

    with pytest.MonkeyPatch.context() as patched, short_walks():
        patched.setattr(session, "Worker", worker)
        done = in_process("search", *arguments)
    assert made or done.returncode, "it trained in processes of its own"
    return done


def make_study(
    folder: Path, *, space: Path | str = "mai21", device: str = DEFAULT_DEVICE, **changes: Any
) -> StudyRecord:
    """Start a study of a given folder whose data is never read."""
    config = StudyConfig(
        name=folder.name,
        data=DataConfig("nowhere"),
        data_fingerprint="0",
        device=device,
        device_digest=load_device(device).digest,
        space=str(space),
        space_digest=load_space(str(space)).digest,
        objective="score",
        sampler="tpe",
        seed=0,
        rungs=(10, 30, 90),
        recipe=Recipe(total_steps=90),
    )
    return studies.create(folder, replace(config, **changes), provenance={})


def search(
    study: StudyRecord,
    budget: int | Budget,
    *,
    workers: Sequence[Worker] | None = None,
    device: Device | None = None,
    on_message: Callable[[str], None] = lambda _: None,
) -> Search:
    """Search to the end of the budget; return the finished search."""
    made = Search(
        study,
        load_space(study.config.space),
        device or load_device(study.config.device),
        budget if isinstance(budget, Budget) else Budget(candidates=budget),
        Path("nowhere"),
        list(workers or [InlineWorker()]),
        on_message,
    )
    made.run()
    return made


def optuna_trials(folder: Path) -> list[Any]:
    """Return the trials that a study's database holds."""
    from optuna.storages import RDBStorage

    storage = RDBStorage(f"sqlite:///{folder / studies.DATABASE_FILE}")
    try:
        (study,) = storage.get_all_studies()
        return storage.get_all_trials(study._study_id)
    finally:
        storage.engine.dispose()
