"""What a search does with trainings that were lost, given back, or stand still, and with workers that come and go."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from flow import InlineWorker, decisions, made_up, make_study, records, search

from latency_models.device import load_device
from nas.cli.console import Console
from nas.cli.studies import print_status
from nas.report.status import Clock as status_clock
from nas.report.status import status
from nas.search import driver, stalls, workers_file
from nas.search import study as studies
from nas.search.budget import Budget
from nas.search.driver import Search
from nas.search.finals import seeds_of
from nas.search.policy import Work
from nas.search.stalls import StallWatch
from nas.search.study import StudyRecord
from nas.search.workers_file import rows
from nas.train.job import Begun, Job, JobFailure, Outcome
from nas.train.worker import Place, TrainingWorker, WorkerSource
from search_spaces.space import load_space

LOST = JobFailure("it is gone.", lost=True)


def failing(times: int, failure: JobFailure = LOST) -> Callable[[Job], Outcome | JobFailure]:
    """Fail so often at the first network, then train."""
    left = [times]

    def run(job: Job) -> Outcome | JobFailure:
        left[0] -= 1
        return failure if left[0] >= 0 else made_up(job)

    return run


def of_event(folder: Path, event: str) -> list[dict[str, object]]:
    return [record for record in records(folder) if record["event"] == event]


def test_what_was_lost_is_trained_again_and_the_rest_of_the_search_is_as_if_nothing_had_been(tmp_path: Path) -> None:
    search(make_study(tmp_path / "calm"), 4)
    search(make_study(tmp_path / "s"), 4, workers=[InlineWorker(failing(2))])
    assert [r for r in decisions(tmp_path / "s") if r["event"] != "lost"] == decisions(tmp_path / "calm")
    assert [r["reason"] for r in of_event(tmp_path / "s", "lost")] == ["it is gone."] * 2


def test_the_third_loss_in_a_row_is_a_failure(tmp_path: Path) -> None:
    study = search(make_study(tmp_path / "s"), 4, workers=[InlineWorker(failing(3))]).study
    assert study.candidates[0].failure == "It was lost 3 times, at last so: it is gone."
    assert study.finished == 4


def test_losses_are_counted_over_restarts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(job: Job) -> Outcome | JobFailure:
        if len(of_event(tmp_path / "s", "lost")) == 2:
            raise KeyboardInterrupt
        return LOST

    with pytest.raises(KeyboardInterrupt):
        search(make_study(tmp_path / "s"), 4, workers=[InlineWorker(run)])
    study = search(studies.load(tmp_path / "s"), 4, workers=[InlineWorker(failing(1))]).study
    assert study.candidates[0].failure.startswith("It was lost 3 times")


def test_a_result_in_between_forgives_losses(tmp_path: Path) -> None:
    seen: list[tuple[str, int]] = []

    def run(job: Job) -> Outcome | JobFailure:
        seen.append((job.spec.hash, job.steps))
        return LOST if seen.count(seen[-1]) <= 2 else made_up(job)

    study = search(make_study(tmp_path / "s"), 4, workers=[InlineWorker(run)]).study
    assert not study.failed
    assert max(len(c.rungs) for c in study.candidates.values()) == 3


class Source(WorkerSource):
    """Workers that come one after the other, each once nobody is there any more."""

    def __init__(self, workers: Sequence[TrainingWorker]) -> None:
        self.coming, self.closed, self.here = list(workers), None, None

    def arrived(self) -> list[TrainingWorker]:
        if not self.coming or (self.here is not None and not self.here.has_left):
            return []
        self.here = self.coming.pop(0)
        return [self.here]

    def close(self, *, over: bool) -> None:
        self.closed = over


class Visitor(InlineWorker):
    """A worker of elsewhere that leaves after so many jobs."""

    def __init__(self, jobs: int, run: Callable[[Job], Outcome | JobFailure] = made_up, memory: int | None = None):
        super().__init__(run)
        self.left, self.memory_bytes = jobs, memory
        self.place = Place("far", "gpu", "H200")

    @property
    def has_left(self) -> bool:
        return len(self.jobs) >= self.left


def search_with(
    folder: Path, source: Source, candidates: int = 4, study: StudyRecord | None = None, **options: object
) -> Search:
    study = study or make_study(folder)
    new_search = Search(
        study, load_space("mai21"), load_device(study.config.device), Budget(candidates=candidates), Path("nowhere"),
        [], source=source, **options,
    )  # fmt: skip
    new_search.run()
    return new_search


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "POLL_S", 0.01)


@pytest.mark.usefixtures("_quick")
def test_a_search_waits_for_workers_and_takes_whoever_comes(tmp_path: Path) -> None:
    search(make_study(tmp_path / "calm"), 4)
    said: list[str] = []
    source = Source([Visitor(1), Visitor(2), Visitor(100)])
    new_search = search_with(tmp_path / "s", source, on_message=said.append)
    assert decisions_without_places(tmp_path / "s") == decisions(tmp_path / "calm")
    assert source.closed is True
    rungs = [(r["worker"], r["host"], r["backend"], r["processor"]) for r in of_event(tmp_path / "s", "rung")]
    assert {host for _, host, _, _ in rungs} == {"far"}
    assert {number for number, *_ in rungs} == {0, 1, 2}
    assert new_search.study.trainings_on == {"far": len(rungs)}


def returning(begun: Begun) -> Visitor:
    worker = Visitor(100)
    worker.has_begun = begun
    return worker


@pytest.mark.usefixtures("_quick")
def test_workers_that_come_back_go_on_with_what_they_had_begun(tmp_path: Path) -> None:
    class Together(Source):
        def arrived(self) -> list[TrainingWorker]:
            here, self.coming = self.coming, []
            return here

    def interrupted(_: Job) -> Outcome:
        raise KeyboardInterrupt

    folder = tmp_path / "s"
    with pytest.raises(KeyboardInterrupt):
        search(make_study(folder), 8, workers=[Stuck(), Stuck(), InlineWorker(interrupted)])
    stopped = studies.load(folder)
    names = [stopped.checkpoint(candidate).name for candidate in stopped.waiting.values()]
    assert len(names) == 3
    stranger, third, second = Visitor(100), returning(Begun(names[2], 10)), returning(Begun(names[1], 10))
    mistaken = returning(Begun("00001-0123456789ab.safetensors", 10))
    stopped.close()
    search_with(folder, Together([stranger, third, second, mistaken]), candidates=4, study=studies.load(folder))
    firsts = [worker.jobs[0].checkpoint.name for worker in (third, second, mistaken)]
    assert firsts == [names[2], names[1], names[0]]
    assert stranger.jobs[0].checkpoint.name not in names
    rungs = [(r["trial"], r["rung"]) for r in of_event(folder, "rung")]
    assert len(rungs) == len(set(rungs)), "nothing is trained twice"


def test_what_a_worker_had_begun_is_given_only_where_it_is_the_next_thing_to_do(tmp_path: Path) -> None:
    made = search(make_study(tmp_path / "s", final_steps=270), 4)
    study, done = made.study, max(made.study.candidates.values(), key=lambda c: len(c.rungs))
    first, state = study.config.rungs[0], study.checkpoint(done).name
    assert made.now.begun(Begun(state, first)) is None, "it is done"
    climber = next(c for c in study.candidates.values() if len(c.rungs) == 1)
    name, second = study.checkpoint(climber).name, study.config.rungs[1]
    work = made.now.begun(Begun(name, second))
    assert work == Work(climber, 1)
    assert replace(made.now, training=(work,)).begun(Begun(name, second)) is None, "another one trains it"
    seed = next(seed for seed in seeds_of(study) if seed not in climber.finals)
    final = study.final_checkpoint(climber, seed)
    assert made.now.begun(Begun(final.name, 270)) == Work(climber, study.final_rung, seed)
    assert made.now.begun(Begun(final.name, first)) is None


def decisions_without_places(folder: Path) -> list[dict[str, object]]:
    places = ("host", "backend", "processor")
    return [{name: value for name, value in r.items() if name not in places} for r in decisions(folder)]


@pytest.mark.usefixtures("_quick")
def test_a_candidate_too_large_for_one_worker_waits_for_a_larger_one_and_others_go_on(tmp_path: Path) -> None:
    too_large = JobFailure("too large here", returned=True, needs_bytes=8 * 10**9)
    small = Visitor(100, failing(1, too_large), memory=2 * 10**9)

    class Later(Source):
        def arrived(self) -> list[TrainingWorker]:
            waits = len(small.jobs) < 4  # the larger one comes once the small one has gone on with others
            return [] if not self.coming or (waits and len(self.coming) == 1) else [self.coming.pop(0)]

    large = Visitor(100, memory=64 * 10**9)
    study = search_with(tmp_path / "s", Later([small, large])).study
    assert not study.failed
    assert study.finished == 4
    assert study.candidates[0].rungs[0].worker == 1
    assert not of_event(tmp_path / "s", "lost")


def test_who_works_now_is_told_with_place_and_pace(tmp_path: Path) -> None:
    made = search(make_study(tmp_path / "s"), 2, workers=[worker := Visitor(100)])
    candidate = made.study.candidates[0]
    made.running = [driver.InFlight(candidate, 0, None, worker, Future(), 10)]
    (row,) = rows(made.numbered(), made.running)
    assert (row["host"], row["processor"], row["trial"], row["steps"], row["worker"]) == ("far", "H200", 0, 10, 0)
    made.running = []
    (row,) = rows(made.numbered(), made.running)
    assert row["trial"] is None


def test_a_state_that_is_missing_is_said_and_trained_again_from_the_first_step(tmp_path: Path) -> None:
    said: list[str] = []
    worker = InlineWorker()
    search(make_study(tmp_path / "s"), 2, workers=[worker], on_message=said.append)
    later = [job for job in worker.jobs if job.steps > 10]
    assert later
    assert all(job.begins_at == 0 for job in later)  # the stand-in keeps no states
    assert sum("is missing" in line and "trained again from the first step" in line for line in said) == len(later)


# Standing still


def moving(step: int, steps: int = 100) -> SimpleNamespace:
    return SimpleNamespace(step=step, steps=steps)


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(stalls.time, "monotonic", lambda: self.now)

    def watch(self, watch: StallWatch, training: SimpleNamespace, seconds: float) -> list[str]:
        reasons: list[str] = []
        for _ in range(int(seconds)):
            self.now += 1
            reasons += [reason for _, reason in watch.stalled([training])]
        return reasons


def test_a_training_without_a_step_is_lost_after_two_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, watch, training = Clock(monkeypatch), StallWatch(), moving(10)
    assert clock.watch(watch, training, 119) == []
    assert clock.watch(watch, training, 5)[0] == "no step for 121 s after step 10"


def test_where_steps_are_slow_ten_of_them_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, watch, training = Clock(monkeypatch), StallWatch(), moving(10)
    clock.watch(watch, training, 60)
    training.step = 20
    assert clock.watch(watch, training, 585) == []
    assert clock.watch(watch, training, 10)


def test_the_limit_can_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, watch, training = Clock(monkeypatch), StallWatch(30), moving(10)
    assert clock.watch(watch, training, 29) == []
    assert clock.watch(watch, training, 5)


@pytest.mark.parametrize("step", [0, 100], ids=["compiling", "judging"])
def test_where_no_steps_are_to_be_expected_more_patience_is_shown(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    clock, watch, training = Clock(monkeypatch), StallWatch(30), moving(step)
    assert clock.watch(watch, training, 599) == []
    assert clock.watch(watch, training, 5)


def test_hours_in_which_nobody_looked_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, watch, training = Clock(monkeypatch), StallWatch(), moving(10)
    clock.watch(watch, training, 1)
    clock.now += 7200
    assert clock.watch(watch, training, 5) == []


class Stuck(InlineWorker):
    """Reports one step of its first job and nothing more."""

    closed = 0

    @property
    def step(self) -> int:
        return 5

    def submit(self, job: Job) -> "Future[Outcome | JobFailure]":
        return super().submit(job) if self.closed else Future()

    def close(self, *, kill: bool = False) -> None:
        self.closed += kill


@pytest.mark.usefixtures("_quick")
def test_a_training_that_stalls_is_ended_and_tried_again(tmp_path: Path) -> None:
    study, worker = make_study(tmp_path / "s"), Stuck()
    Search(
        study, load_space("mai21"), load_device(study.config.device), Budget(candidates=2), Path("nowhere"), [worker],
        stall_s=0.1,
    ).run()  # fmt: skip
    assert worker.closed
    (lost,) = of_event(tmp_path / "s", "lost")
    assert str(lost["reason"]).startswith("It stalled: no step for 0 s after step 5")
    assert not study.failed


def test_status_tells_who_works_where_and_what_was_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = search(make_study(tmp_path / "s"), 2, workers=[worker := Visitor(100, failing(1))])
    made.running = [driver.InFlight(made.study.candidates[0], 0, None, worker, Future(), 10)]
    source = Source([])
    source.refusals = ["Worker old is refused: it runs other code."]
    written = workers_file.WorkersFile(tmp_path / "s")
    written.write_if_due(source, lambda: rows(made.numbered(), made.running))
    state = status(studies.load(tmp_path / "s"), status_clock(time.time(), running=True))
    (row,) = state["crew"]["workers"]
    assert (row["host"], row["trial"], row["steps"]) == ("far", 0, 10)
    assert state["hosts"]["far"]["losses"] == state["losses"] == 1
    print_status(Console(), state)
    printed = " ".join(capsys.readouterr().out.split())
    assert "now with 1 worker;" in printed
    assert "worker 0 on far (H200): trial 0, step 0/10" in printed
    assert "Worker old is refused: it runs other code." in printed
    assert "(1 lost)" in printed


@pytest.mark.usefixtures("_quick")
def test_status_counts_the_workers_that_came_later(tmp_path: Path) -> None:
    search_with(tmp_path / "s", Source([Visitor(1), Visitor(2), Visitor(100)]))
    study = studies.load(tmp_path / "s")
    assert study.sessions[-1].workers == 0
    assert status(study, status_clock(time.time(), running=False))["workers"] == 3


@pytest.mark.parametrize("content", ["", "[]", '{"workers": [{"worker": "x"}], "refused": [], "dashboard": null}'])
def test_a_damaged_file_of_workers_is_passed_over(tmp_path: Path, content: str) -> None:
    (tmp_path / workers_file.FILE).write_text(content)
    assert workers_file.read(tmp_path, time.time()) is None
