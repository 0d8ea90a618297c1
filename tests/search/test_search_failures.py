"""Candidates that fail: recorded with the reason, never trained again, and no end of the search unless all do."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from flow import InlineWorker, assert_whole, decisions, made_up, make_study, records, search
from inline_runs import BUDGET
from optuna.trial import TrialState

from nas.search import study as studies
from nas.search.optuna_sampler import expected_trials
from nas.train.job import Job, Outcome
from nas.train.workers import JobFailure
from search_spaces.designs import DESIGNS
from search_spaces.errors import StudyError

pytestmark = pytest.mark.usefixtures("few_proposals")


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
    trials = expected_trials(studies.load(tmp_path / "s"))
    for candidate in failed:
        wanted = TrialState.COMPLETE if candidate.rungs else TrialState.FAIL
        assert trials[candidate.trial].state == wanted


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
