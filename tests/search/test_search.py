"""The driver alone: real proposals and a real database, made-up qualities, no process and no training."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flow import InlineWorker, assert_whole, decisions, made_up, make_study, records, search
from inline_runs import BUDGET, INSTALLED, Run, sampler_of, tiny

from nas.search import driver as search_module
from nas.search import policy
from nas.search import study as studies
from nas.search.budget import Budget
from nas.search.driver import Search
from nas.search.optuna_sampler import Proposer, expected_trials
from nas.search.samplers import SAMPLERS
from nas.search.score import final_score
from nas.search.successive_halving import ETA
from nas.train.job import Job, Outcome
from nas.train.workers import JobFailure
from search_spaces.designs import DESIGNS

pytestmark = pytest.mark.usefixtures("few_proposals")


@pytest.fixture(scope="module", params=INSTALLED)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A search that nothing disturbed, one per sampler; tests only read it."""
    folder, worker = tmp_path_factory.mktemp("whole") / "s", InlineWorker()
    search(make_study(folder, sampler=request.param), BUDGET, workers=[worker])
    return folder, worker


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A search in which many climb; tests only read it."""
    folder, worker = tmp_path_factory.mktemp("long") / "s", InlineWorker()
    search(make_study(folder, sampler="random"), 3 * BUDGET, workers=[worker])
    return folder, worker


def reached(folder: Path, rung: int) -> list[int]:
    return [r["trial"] for r in records(folder) if r["event"] == "rung" and r["rung"] == rung]


# Repeating and continuing


def test_one_worker_and_one_seed_repeat_a_run_exactly(tmp_path: Path, whole: Run) -> None:
    search(make_study(tmp_path / "s", sampler=sampler_of(whole)), BUDGET)
    assert decisions(tmp_path / "s") == decisions(whole[0])


def test_another_seed_is_another_run(tmp_path: Path, whole: Run) -> None:
    search(make_study(tmp_path / "s", sampler=sampler_of(whole), seed=1), BUDGET)
    assert decisions(tmp_path / "s") != decisions(whole[0])


class Stop(InlineWorker):
    """Is interrupted as by Ctrl-C when a job is handed over."""

    def __init__(self, *, at: int) -> None:
        super().__init__()
        self._at = at

    def submit(self, job: Job) -> "Future[Outcome | JobFailure]":
        if len(self.jobs) == self._at:
            raise KeyboardInterrupt
        return super().submit(job)


def stop_and_continue(folder: Path, *, every: int, **settings: Any) -> int:
    """Search to the end, interrupted again and again; return the number of sessions."""
    make_study(folder, **settings)
    for session in range(1, 100):
        try:
            search(studies.load(folder), BUDGET, workers=[Stop(at=every)])
        except KeyboardInterrupt:
            continue
        return session
    raise AssertionError("the search never ended")


def test_a_stopped_and_continued_run_equals_an_uninterrupted_one(tmp_path: Path, whole: Run) -> None:
    sessions = stop_and_continue(tmp_path / "s", every=4, sampler=sampler_of(whole))
    assert sessions > 3
    assert decisions(tmp_path / "s") == decisions(whole[0])


def test_a_crash_between_record_and_tell_changes_nothing_that_follows(
    tmp_path: Path, whole: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_study(tmp_path / "s", sampler=sampler_of(whole))
    tell = Proposer.tell
    calls = 0

    def crash(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise KeyboardInterrupt
        tell(*arguments)

    monkeypatch.setattr(Proposer, "tell", crash)
    with pytest.raises(KeyboardInterrupt):
        search(studies.load(tmp_path / "s"), BUDGET)
    search(studies.load(tmp_path / "s"), BUDGET)
    assert decisions(tmp_path / "s") == decisions(whole[0])


def test_a_larger_budget_extends_a_finished_search(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    search(make_study(folder), 5)
    before = records(folder)
    search(studies.load(folder), 9)
    assert records(folder)[: len(before)] == before
    assert_whole(folder, budget=9)


def test_a_spent_budget_trains_nothing_more(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    search(make_study(folder), 5)
    before = decisions(folder)
    again = InlineWorker()
    search(studies.load(folder), 5, workers=[again])
    assert again.jobs == []
    assert decisions(folder) == before


# Designs first


def test_published_designs_come_first_and_the_best_of_the_challenge_before_the_others(whole: Run) -> None:
    first = [c.name for c in studies.load(whole[0]).candidates.values()][:3]
    assert first == ["smallnet", "csanet", "tuned-unet"]


def test_every_design_starts_before_one_climbs_and_variants_are_left_out(tmp_path: Path) -> None:
    worker = InlineWorker()
    search(make_study(tmp_path / "s", sampler="random"), 4 * len(DESIGNS), workers=[worker])
    # Of EdS the phone's delegate runs only a part.
    published = [d.spec for d in DESIGNS.values() if d.variant_of is None and d.name != "eds"]
    assert {job.spec for job in worker.jobs[: len(published)]} == set(published)
    assert worker.jobs[len(published)].steps > worker.jobs[0].steps
    assert worker.jobs[len(published)].spec == DESIGNS["smallnet"].spec


def test_eds_is_left_out_with_the_operation_that_the_phone_does_not_run_as_others(tmp_path: Path) -> None:
    said: list[str] = []
    search(make_study(tmp_path / "s", sampler="random"), 4 * len(DESIGNS), on_message=said.append)
    (message,) = (line for line in said if line.startswith("eds is left out: "))
    assert "runs this network only in part (partial): RSQRT" in message
    assert "extension operation, whose speed is unknown" in message


# Nine of the ten: EdS is left out.
@pytest.mark.parametrize(("budget", "designs"), [(1, 1), (4, 1), (8, 2), (60, 9)])
def test_designs_take_a_quarter_of_a_budget_of_candidates(tmp_path: Path, budget: int, designs: int) -> None:
    search(make_study(tmp_path / "s", sampler="random"), budget)
    assert sum(c.name is not None for c in studies.load(tmp_path / "s").trained()) == designs


def test_beside_tpe_every_second_proposal_is_near_one_of_the_best(tmp_path: Path) -> None:
    finished = search(make_study(tmp_path / "s", sampler="tpe"), 40, workers=[InlineWorker()])
    near = 0
    candidates = list(finished.study.candidates.values())
    for candidate in candidates[len(DESIGNS) :]:
        before = [c.genes for c in candidates if c.trial < candidate.trial and 0 in c.rungs]
        near += min(sum(genes[n] != candidate.genes[n] for n in genes) for genes in before) <= 4
    assert near > (len(candidates) - len(DESIGNS)) // 3


class Clock:
    """The search's clock, which only training moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def train(self, job: Job) -> Outcome | JobFailure:
        self.now += job.steps
        return replace(made_up(job), train_s=float(job.steps), compile_s=0.0, evaluate_s=0.0)  # type: ignore[type-var]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(search_module, "time", SimpleNamespace(monotonic=clock.monotonic))
    return clock


def test_a_budget_in_seconds_ends_the_search(tmp_path: Path, clock: Clock) -> None:
    finished = search(make_study(tmp_path / "s"), Budget(seconds=400), workers=[InlineWorker(clock.train)])
    assert 300 < finished.elapsed_s <= 400
    assert studies.load(tmp_path / "s").elapsed_s == finished.elapsed_s


def test_designs_take_a_quarter_of_a_budget_in_seconds_before_anything_new(tmp_path: Path, clock: Clock) -> None:
    seconds, worker = 400.0, InlineWorker(clock.train)
    search(make_study(tmp_path / "s"), Budget(seconds=seconds), workers=[worker])
    published = {design.spec for design in DESIGNS.values()}
    first_new = next(index for index, job in enumerate(worker.jobs) if job.spec not in published)
    spent = sum(job.steps for job in worker.jobs[:first_new])
    # One rung was under way when the share was used up; then the best third of ten climbs like everything else.
    climbs = max(job.steps for job in worker.jobs) * (1 + len(published) // 3)
    assert 0 < spent < policy.DESIGN_SHARE * seconds + climbs


def test_seconds_of_an_earlier_session_count_against_the_budget(tmp_path: Path, clock: Clock) -> None:
    folder = tmp_path / "s"
    search(make_study(folder), Budget(seconds=200), workers=[InlineWorker(clock.train)])
    clock.now += 10_000  # a night between two sessions costs nothing
    finished = search(studies.load(folder), Budget(seconds=400), workers=[InlineWorker(clock.train)])
    assert 300 < finished.elapsed_s <= 400


# What Optuna learns from, and who climbs


def test_optuna_is_told_the_score_at_the_first_rung_whatever_came_later(long: Run) -> None:
    trials = expected_trials(studies.load(long[0]))
    climbed = 0
    for candidate in studies.load(long[0]).trained():
        climbed += len(candidate.rungs) > 1
        assert candidate.runtime_ms is not None
        assert trials[candidate.trial].values == [final_score(candidate.rungs[0].psnr_db, candidate.runtime_ms)]
    assert climbed, "nothing climbed: this run shows nothing"


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_the_pareto_objective_tells_quality_and_runtime(tmp_path: Path, sampler: str) -> None:
    search(make_study(tmp_path / "s", objective="pareto", sampler=sampler), BUDGET)
    trials = expected_trials(studies.load(tmp_path / "s"))
    for candidate in studies.load(tmp_path / "s").trained():
        assert trials[candidate.trial].values == [candidate.rungs[0].psnr_db, candidate.runtime_ms]
    assert_whole(tmp_path / "s", budget=BUDGET)


def climbs(folder: Path) -> Iterator[tuple[int, list[int]]]:
    """Yield who climbed while new candidates still came, with everybody on the rung below, the best first."""
    opened = studies.load(folder)
    there: dict[int, list[int]] = {}
    last_asked = max(i for i, r in enumerate(records(folder)) if r["event"] == "asked")
    for record in records(folder)[:last_asked]:
        if record["event"] != "rung":
            continue
        trial, rung = record["trial"], record["rung"]
        if rung and opened.candidates[trial].name is None:
            below = there[rung - 1]
            yield trial, sorted(below, key=lambda t: -opened.candidates[t].score(rung - 1))
        there.setdefault(rung, []).append(trial)


def test_only_the_best_third_of_a_rung_climbs(long: Run) -> None:
    seen = list(climbs(long[0]))
    assert seen, "nothing climbed: this run shows nothing"
    for trial, ranked in seen:
        assert trial in ranked[: len(ranked) // ETA]


def test_every_step_of_the_ladder_is_climbed_in_order(long: Run) -> None:
    ladder = studies.load(long[0]).config.rungs
    by_spec: dict[str, list[int]] = {}
    for job in long[1].jobs:
        by_spec.setdefault(job.spec.hash, []).append(job.steps)
    assert all(tuple(steps) == ladder[: len(steps)] for steps in by_spec.values())
    assert any(len(steps) == len(ladder) for steps in by_spec.values())


# Several workers


class ThreadSlot(InlineWorker):
    """A worker that takes a moment, so that others are at work meanwhile."""

    def __init__(self, run: Callable[[Job], Outcome | JobFailure]) -> None:
        super().__init__(run)
        self._thread = ThreadPoolExecutor(1)

    def submit(self, job: Job) -> "Future[Outcome | JobFailure]":
        self.jobs.append(job)
        return self._thread.submit(self._inline, job)

    def close(self, *, kill: bool = False) -> None:
        pass


class Watched:
    """Training that notices when one network is trained twice at the same time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now: Counter[str] = Counter()
        self.most_at_once = 0
        self.most_of_one = 0

    def train(self, job: Job) -> Outcome | JobFailure:
        with self._lock:
            self._now[job.spec.hash] += 1
            self.most_at_once = max(self.most_at_once, self._now.total())
            self.most_of_one = max(self.most_of_one, self._now[job.spec.hash])
        time.sleep(0.02)
        with self._lock:
            self._now[job.spec.hash] -= 1
        return made_up(job)


@pytest.mark.parametrize("space", ["mai21", "tiny"])
def test_several_workers_never_train_one_candidate_twice_at_the_same_time(tmp_path: Path, space: str) -> None:
    watched = Watched()
    workers = [ThreadSlot(watched.train) for _ in range(3)]
    place = tiny(tmp_path) if space == "tiny" else space
    search(make_study(tmp_path / "s", space=place), 10, workers=workers)
    assert watched.most_at_once > 1, "the workers worked one after another: this run shows nothing"
    assert watched.most_of_one == 1
    done = Counter((job.spec, job.steps) for worker in workers for job in worker.jobs)
    assert max(done.values()) == 1
    assert_whole(tmp_path / "s", budget=10)


def test_what_is_said_of_a_search_names_trial_steps_and_score(tmp_path: Path) -> None:
    said: list[str] = []
    finished: Search = search(make_study(tmp_path / "s"), 3, on_message=said.append)
    best = finished.study.candidates[0].rungs[0]
    assert said[0].startswith(f"Trial 0 smallnet at {best.steps} steps: {best.psnr_db:.2f} dB")


def test_candidates_that_each_beat_all_before_all_climb_for_each_was_the_best_when_judged(
    tmp_path: Path,
) -> None:
    """Successive halving without waiting: who climbed stays up, though later ones push it out of the best third."""
    order: dict[str, int] = {}

    def better_each_time(job: Job) -> Outcome | JobFailure:
        return replace(made_up(job), psnr_db=20.0 + 3 * order.setdefault(job.spec.hash, len(order)))  # type: ignore[type-var]

    search(make_study(tmp_path / "s", sampler="random"), BUDGET, workers=[InlineWorker(better_each_time)])
    first = [c.trial for c in studies.load(tmp_path / "s").trained()]
    assert set(first[ETA:]) <= set(reached(tmp_path / "s", 1))


def test_a_rebuilt_database_changes_nothing_that_nsga2_proposes_after_its_first_generation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SAMPLERS, "nsga2", replace(SAMPLERS["nsga2"], options={"population_size": 4}))
    budget = 14
    search(make_study(tmp_path / "whole" / "s", sampler="nsga2"), budget)
    with pytest.raises(KeyboardInterrupt):
        search(make_study(tmp_path / "stopped" / "s", sampler="nsga2"), budget, workers=[Stop(at=budget - 6)])
    (tmp_path / "stopped" / "s" / "study.db").unlink()
    search(studies.load(tmp_path / "stopped" / "s"), budget)

    def genes(name: str) -> list[Any]:
        return [r["genes"] for r in decisions(tmp_path / name / "s") if r["event"] == "asked"]

    assert genes("stopped") == genes("whole")
