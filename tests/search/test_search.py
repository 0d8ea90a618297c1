"""The driver alone: real proposals and a real database, made-up qualities, no process and no training."""

import json
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
from flow import (
    TINY_SIZE,
    InlineWorker,
    assert_whole,
    decisions,
    few_to_choose_from,
    made_up,
    make_study,
    optuna_trials,
    records,
    search,
    write_delegate,
    write_space,
)
from optuna.trial import TrialState

from latency_models.delegate import load_delegate
from latency_models.device import load_device
from nas.defaults import DEFAULT_DEVICE
from nas.search import driver as search_module
from nas.search import policy, proposals
from nas.search import study as studies
from nas.search.budget import Budget
from nas.search.driver import Search
from nas.search.optuna_sampler import Proposer, expected_trials
from nas.search.samplers import SAMPLERS, require_sampler
from nas.search.score import final_score
from nas.search.successive_halving import ETA
from nas.train.job import Job, Outcome
from nas.train.workers import JobFailure
from search_spaces.designs import DESIGNS
from search_spaces.errors import StudyError, UsageError

INSTALLED = [name for name, sampler in SAMPLERS.items() if sampler.is_installed]
BUDGET = 12  # enough for TPE to leave its random start
Run = tuple[Path, InlineWorker]


@pytest.fixture(scope="module", autouse=True)
def _few_to_choose_from() -> Iterator[None]:
    with few_to_choose_from():
        yield


@pytest.fixture(scope="module", params=INSTALLED)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A search that nothing disturbed, one per sampler; tests only read it."""
    folder, worker = tmp_path_factory.mktemp("whole") / "s", InlineWorker()
    search(make_study(folder, sampler=request.param), BUDGET, workers=[worker])
    return folder, worker


def sampler_of(run: Run) -> str:
    return studies.load(run[0]).config.sampler


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A search in which many climb; tests only read it."""
    folder, worker = tmp_path_factory.mktemp("long") / "s", InlineWorker()
    search(make_study(folder, sampler="random"), 3 * BUDGET, workers=[worker])
    return folder, worker


def reached(folder: Path, rung: int) -> list[int]:
    return [r["trial"] for r in records(folder) if r["event"] == "rung" and r["rung"] == rung]


def verdicts(folder: Path) -> Counter[str]:
    return Counter(r["verdict"] for r in records(folder) if r["event"] == "asked")


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
    sessions = stop_and_continue(tmp_path / "s", every=3, sampler=sampler_of(whole))
    assert sessions > 3
    assert decisions(tmp_path / "s") == decisions(whole[0])


def test_a_crash_between_record_and_tell_changes_nothing_that_follows(
    tmp_path: Path, whole: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_study(tmp_path / "s", sampler=sampler_of(whole))
    told = Proposer.tell
    calls = 0

    def crash(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise KeyboardInterrupt
        told(*arguments)

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


# Duplicates and small spaces


def tiny(tmp_path: Path) -> Path:
    return write_space(tmp_path / "tiny.toml")


def test_duplicates_are_not_trained_twice_and_cost_no_budget(tmp_path: Path) -> None:
    budget = TINY_SIZE - 3
    worker = InlineWorker()
    search(make_study(tmp_path / "s", space=tiny(tmp_path), sampler="random"), budget, workers=[worker])
    assert verdicts(tmp_path / "s")["duplicate"] > 0, "nothing was proposed twice: this run shows nothing"
    trained_to = Counter((job.spec, job.steps) for job in worker.jobs)
    assert max(trained_to.values()) == 1
    opened = assert_whole(tmp_path / "s", budget=budget)
    assert len({c.spec for c in opened.trained()}) == budget


def test_a_duplicate_is_told_to_optuna_with_the_result_of_the_first(tmp_path: Path) -> None:
    search(make_study(tmp_path / "s", space=tiny(tmp_path), sampler="random"), TINY_SIZE - 3)
    told = expected_trials(studies.load(tmp_path / "s"))
    repeats = [c for c in studies.load(tmp_path / "s").candidates.values() if c.duplicate_of is not None]
    assert repeats
    for repeat in repeats:
        assert told[repeat.trial].state == TrialState.COMPLETE
        assert told[repeat.trial].values == told[repeat.duplicate_of].values


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search that sooner gives up hope that anything is new in a small space; the way it ends is the same."""
    monkeypatch.setattr(search_module, "PATIENCE", 5)
    monkeypatch.setattr(search_module, "RANDOM_TRIES", 200)
    monkeypatch.setattr(proposals, "MOST_PRICED", 100)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("sampler", INSTALLED)
def test_a_tiny_space_ends_with_exhausted(tmp_path: Path, sampler: str) -> None:
    said: list[str] = []
    study = make_study(tmp_path / "s", space=tiny(tmp_path), sampler=sampler)
    assert search(study, 100, on_message=said.append).exhausted
    assert any("exhausted" in line for line in said)
    assert_whole(tmp_path / "s", budget=TINY_SIZE)


@pytest.mark.usefixtures("impatient")
def test_a_space_that_is_wholly_over_the_limit_ends_and_trains_nothing(tmp_path: Path) -> None:
    worker = InlineWorker()
    assert search(make_study(tmp_path / "s", space=tiny(tmp_path), max_runtime_ms=1.0), 5, workers=[worker]).exhausted
    assert worker.jobs == []


# Over the limit, not runnable


# Of the networks that a phone can run, few are as fast as 90 ms, and a sampler that learns finds them; to one that does
# not, hundreds would be proposed for every one that is trained.
LIMITS_MS = dict.fromkeys(INSTALLED, 150.0) | {"model": 90.0, "tpe": 90.0}


def limit_ms(run: Run) -> float:
    return LIMITS_MS[sampler_of(run)]


@pytest.fixture(scope="module", params=INSTALLED)
def limited(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A search with a limit that a good part of the proposals miss."""
    folder, worker = tmp_path_factory.mktemp("limited") / "s", InlineWorker()
    search(make_study(folder, sampler=request.param, max_runtime_ms=LIMITS_MS[request.param]), BUDGET, workers=[worker])
    return folder, worker


def test_a_search_with_a_limit_uses_its_budget_whatever_the_sampler(limited: Run) -> None:
    assert_whole(limited[0], budget=BUDGET)


def test_a_candidate_over_the_limit_is_never_trained(limited: Run) -> None:
    folder, worker = limited
    over = {c.spec for c in studies.load(folder).candidates.values() if c.verdict == "infeasible"}
    assert over, "nothing was over the limit: this run shows nothing"
    assert not over & {job.spec for job in worker.jobs}
    assert all(c.runtime_ms is not None and c.runtime_ms <= limit_ms(limited) for c in studies.load(folder).trained())


def test_an_infeasible_candidate_is_told_pruned_with_its_violation_and_never_failed(limited: Run) -> None:
    told = expected_trials(studies.load(limited[0]))
    for candidate in studies.load(limited[0]).candidates.values():
        trial = told[candidate.trial]
        constraint = trial.constraint
        if candidate.verdict == "infeasible":
            assert trial.state == TrialState.PRUNED
            assert constraint == pytest.approx(candidate.runtime_ms - limit_ms(limited))
            assert constraint > 0
        elif candidate.verdict == "unsupported":
            assert (trial.state, constraint) == (TrialState.PRUNED, 1)
        else:
            assert trial.state == TrialState.COMPLETE
            assert constraint == 0


# Over the limit of memory


LIMIT_MB = 60.0  # Smallnet takes 66.8, CSANet 83.6
LIMITS_MB = dict.fromkeys(INSTALLED, 120.0) | {"model": LIMIT_MB, "tpe": LIMIT_MB}


def limit_mb(run: Run) -> float:
    return LIMITS_MB[sampler_of(run)]


@pytest.fixture(scope="module", params=INSTALLED)
def cramped(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A search with limits of memory and runtime, each of which a good part of the proposals miss."""
    folder, worker = tmp_path_factory.mktemp("cramped") / "s", InlineWorker()
    limits = {"max_memory_mb": LIMITS_MB[request.param], "max_runtime_ms": LIMITS_MS[request.param]}
    search(make_study(folder, sampler=request.param, **limits), BUDGET, workers=[worker])
    return folder, worker


def test_a_candidate_whose_maps_do_not_fit_is_never_trained(cramped: Run) -> None:
    folder, worker = cramped
    candidates = studies.load(folder).candidates.values()
    too_large = [c for c in candidates if c.verdict == "infeasible" and c.runtime_ms <= limit_ms(cramped)]
    assert too_large, "none was only too large: this run shows nothing"
    over = {c.spec for c in candidates if c.verdict == "infeasible"}
    assert not over & {job.spec for job in worker.jobs}
    assert_whole(folder, budget=BUDGET)
    for candidate in studies.load(folder).trained():
        assert candidate.peak_memory_mb is not None
        assert candidate.peak_memory_mb <= limit_mb(cramped)
        assert candidate.runtime_ms <= limit_ms(cramped)


def test_two_limits_reach_optuna_as_one_sum_of_shares(cramped: Run) -> None:
    told = expected_trials(studies.load(cramped[0]))
    for candidate in studies.load(cramped[0]).candidates.values():
        if candidate.verdict == "unsupported":
            continue  # refused before either limit was looked at
        constraint = told[candidate.trial].constraint
        slow, large = candidate.runtime_ms / limit_ms(cramped) - 1, candidate.peak_memory_mb / limit_mb(cramped) - 1
        assert constraint == pytest.approx(max(0, slow) + max(0, large))
        wanted = TrialState.PRUNED if candidate.verdict == "infeasible" else TrialState.COMPLETE
        assert told[candidate.trial].state == wanted


def test_a_published_design_that_does_not_fit_is_named_with_the_reason(tmp_path: Path) -> None:
    said: list[str] = []
    search(make_study(tmp_path / "s", max_memory_mb=LIMIT_MB), 5, on_message=said.append)
    assert "smallnet is left out: 66.8 MB of maps at once are over the limit of 60 MB." in said


@pytest.mark.usefixtures("impatient")
def test_a_limit_of_memory_out_of_reach_ends_the_search_and_tells_the_nearest(tmp_path: Path) -> None:
    said: list[str] = []
    assert search(
        make_study(tmp_path / "s", space=tiny(tmp_path), max_memory_mb=1.0), 5, on_message=said.append
    ).exhausted
    least = min(c.peak_memory_mb for c in studies.load(tmp_path / "s").candidates.values())
    (told,) = (line for line in said if "exhausted" in line)
    assert told.endswith(f"; the smallest one over the limit takes {least:.1f} MB.")


def test_records_made_before_memory_was_known_are_continued(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    search(make_study(folder, max_runtime_ms=90.0), 5)
    run, lines = folder / studies.RUN_FILE, folder / studies.RECORDS_FILE
    assert "max_memory_mb" not in run.read_text()
    newer = ("peak_memory_mb", "checksum")
    old = [{name: v for name, v in record.items() if name not in newer} for record in records(folder)]
    lines.write_text("".join(json.dumps(record) + "\n" for record in old))
    search(studies.load(folder), 8)
    assert records(folder)[: len(old)] == old
    assert_whole(folder, budget=8)


def test_an_unsupported_design_is_named_as_left_out_and_not_trained(tmp_path: Path) -> None:
    table = load_delegate(str(write_delegate(tmp_path / "narrow.json", without="MEAN")))
    less = replace(load_device(DEFAULT_DEVICE), delegate=table)
    said: list[str] = []
    worker = InlineWorker()
    search(make_study(tmp_path / "s"), BUDGET, workers=[worker], device=less, on_message=said.append)
    assert any(line.startswith("csanet is left out: ") and "MEAN" in line for line in said)
    assert DESIGNS["csanet"].spec not in {job.spec for job in worker.jobs}
    (left_out,) = (c for c in studies.load(tmp_path / "s").candidates.values() if c.name == "csanet")
    assert left_out.verdict == "unsupported"
    trial = list(optuna_trials(tmp_path / "s"))[left_out.trial]
    assert trial.state == TrialState.PRUNED
    assert all(constraint > 0 for constraint in trial.constraints.values())


def test_a_sampler_whose_package_is_missing_is_refused_before_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SAMPLERS, "gp", replace(SAMPLERS["gp"], needs="no_such_package"))
    with pytest.raises(UsageError, match="needs the package no_such_package; run `pip install no_such_package`"):
        require_sampler("gp")


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
    (told,) = (line for line in said if line.startswith("eds is left out: "))
    assert "runs this network only in part (partial): RSQRT" in told
    assert "extension operation, whose speed is unknown" in told


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
    told = expected_trials(studies.load(long[0]))
    climbed = 0
    for candidate in studies.load(long[0]).trained():
        climbed += len(candidate.rungs) > 1
        assert candidate.runtime_ms is not None
        assert told[candidate.trial].values == [final_score(candidate.rungs[0].psnr_db, candidate.runtime_ms)]
    assert climbed, "nothing climbed: this run shows nothing"


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_the_pareto_objective_tells_quality_and_runtime(tmp_path: Path, sampler: str) -> None:
    search(make_study(tmp_path / "s", objective="pareto", sampler=sampler), BUDGET)
    told = expected_trials(studies.load(tmp_path / "s"))
    for candidate in studies.load(tmp_path / "s").trained():
        assert told[candidate.trial].values == [candidate.rungs[0].psnr_db, candidate.runtime_ms]
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


# Failures


def every_third_fails() -> Callable[[Job], Outcome | JobFailure]:
    jobs = 0

    def run(job: Job) -> Outcome | JobFailure:
        nonlocal jobs
        jobs += 1
        return JobFailure("the loss was not a number") if jobs % 3 == 0 else made_up(job)

    return run


def test_a_failing_candidate_is_recorded_with_its_reason_and_the_search_goes_on(tmp_path: Path) -> None:
    search(make_study(tmp_path / "s"), BUDGET, workers=[InlineWorker(every_third_fails())])
    opened = assert_whole(tmp_path / "s", budget=BUDGET)
    failed = [c for c in opened.candidates.values() if c.failure]
    assert failed
    assert {c.failure for c in failed} == {"the loss was not a number"}
    told = expected_trials(studies.load(tmp_path / "s"))
    for candidate in failed:
        wanted = TrialState.COMPLETE if candidate.rungs else TrialState.FAIL
        assert told[candidate.trial].state == wanted


def test_a_failed_candidate_is_not_trained_again(tmp_path: Path) -> None:
    worker = InlineWorker(every_third_fails())
    search(make_study(tmp_path / "s"), BUDGET, workers=[worker])
    search(studies.load(tmp_path / "s"), BUDGET + 2, workers=[worker])
    assert max(Counter((job.spec, job.steps) for job in worker.jobs).values()) == 1


def test_three_failures_at_the_very_start_stop_the_search_and_say_why(tmp_path: Path) -> None:
    worker = InlineWorker(lambda _: JobFailure("the disk is full."))
    with pytest.raises(StudyError, match=r"first 3 candidates all failed.*the disk is full"):
        search(make_study(tmp_path / "s"), BUDGET, workers=[worker])
    assert len(worker.jobs) == 3
    assert [r["reason"] for r in records(tmp_path / "s") if r["event"] == "failed"] == ["the disk is full."] * 3


def test_a_failure_that_no_candidate_can_help_stops_the_search_and_is_no_candidate_s_fault(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    full = InlineWorker(lambda _: JobFailure("The disk is full.", fatal=True))
    with pytest.raises(StudyError, match=r"The disk is full\. Mend this; the same command continues"):
        search(make_study(folder), 3, workers=[full])
    search(studies.load(folder), 3)
    assert not [c for c in assert_whole(folder, budget=3).candidates.values() if c.failure]


def test_failures_after_a_success_do_not_stop_the_search(tmp_path: Path) -> None:
    design = DESIGNS["smallnet"].spec
    run = InlineWorker(lambda job: made_up(job) if job.spec == design else JobFailure("no memory"))
    search(make_study(tmp_path / "s"), 6, workers=[run])
    assert_whole(tmp_path / "s", budget=6)


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


def test_a_candidate_whose_process_died_once_is_tried_again_and_leaves_no_record_of_it(tmp_path: Path) -> None:
    died = JobFailure("The training process died.", died=True)
    deaths = iter([died])
    search(make_study(tmp_path / "s"), 4, workers=[InlineWorker(lambda job: next(deaths, None) or made_up(job))])
    search(make_study(tmp_path / "whole" / "s"), 4)
    assert decisions(tmp_path / "s") == decisions(tmp_path / "whole" / "s")


def test_a_candidate_whose_process_dies_twice_has_failed(tmp_path: Path) -> None:
    died = JobFailure("The training process died.", died=True)
    first = DESIGNS["smallnet"].spec
    search(
        make_study(tmp_path / "s"), 4, workers=[InlineWorker(lambda job: died if job.spec == first else made_up(job))]
    )
    (failed,) = (c for c in studies.load(tmp_path / "s").candidates.values() if c.failure)
    assert failed.spec == first
