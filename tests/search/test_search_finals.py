"""Finals within a search: recorded, resumed, compared, and what everything else makes of them."""

import json
import statistics
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flow import TINY_TRAINING, InlineWorker, decisions, in_process, made_up, make_study, records, search
from made_up_study import made_up_study

from nas.cli.search_view import running
from nas.search import candidate_rows, driver, finals, verdicts
from nas.search import study as studies
from nas.search.budget import Budget
from nas.search.candidate import CandidateRecord
from nas.search.improvement import corner_of
from nas.search.in_flight import InFlight
from nas.search.policy import EARLY_SHARE
from nas.search.score import final_score
from nas.search.study import StudyRecord
from nas.search.successive_halving import OBJECTIVES
from nas.train.job import Job, Outcome
from nas.train.workers import JobFailure
from search_spaces.designs import DESIGNS

FINAL_STEPS = 270


pytestmark = pytest.mark.usefixtures("few_proposals")


def with_finals(folder: Path, **changes: Any) -> StudyRecord:
    return make_study(folder, **({"final_steps": FINAL_STEPS, "final_share": 0.25} | changes))


def seeded(job: Job) -> Outcome | JobFailure:
    """As `made_up`, a little different from every seed."""
    outcome = made_up(job)
    assert isinstance(outcome, Outcome)
    return replace(outcome, psnr_db=outcome.psnr_db + 0.01 * job.seed)


def finished(folder: Path, budget: int = 12, **changes: Any) -> tuple[StudyRecord, InlineWorker]:
    worker = InlineWorker(seeded)
    search(with_finals(folder, **changes), budget, workers=[worker])
    return studies.load(folder), worker


def test_the_best_and_the_best_design_train_alike_from_fresh_weights_and_further_seeds(tmp_path: Path) -> None:
    opened, worker = finished(tmp_path / "s")
    jobs = [job for job in worker.jobs if job.steps == FINAL_STEPS]
    rungs = [job for job in worker.jobs if job.steps != FINAL_STEPS]
    assert worker.jobs[-len(jobs) :] == jobs, "finals come last"
    assert {job.seed for job in rungs} == {opened.config.seed}
    assert opened.config.seed not in {job.seed for job in jobs}
    assert {job.recipe.total_steps for job in jobs} == {FINAL_STEPS}
    assert not {job.checkpoint for job in jobs} & {job.checkpoint for job in rungs}
    leaders = [c for c in opened.candidates.values() if len(c.finals) == finals.MOST_SEEDS]
    assert sorted(c.name is None for c in leaders) == [False, True]
    assert leaders[0].finals.keys() == leaders[1].finals.keys()


def test_the_best_is_the_best_mean_of_the_finals(tmp_path: Path) -> None:
    opened, _ = finished(tmp_path / "s")
    repeated = [c for c in opened.candidates.values() if len(c.finals) == finals.MOST_SEEDS]
    best = opened.best()
    assert best == max(repeated, key=lambda c: c.score(opened.final_rung))
    assert best.longest is not None
    assert best.longest.psnr_db == pytest.approx(sum(f.psnr_db for f in best.finals.values()) / len(best.finals))
    assert opened.ladder == (*opened.config.rungs, FINAL_STEPS)
    assert candidate_rows.choose_rung(opened, None) == opened.final_rung
    assert {row["steps"] for row in candidate_rows.rows(opened, opened.final_rung)} == {FINAL_STEPS}


def test_a_study_is_exported_from_its_best_final(tmp_path: Path) -> None:
    opened, _ = finished(tmp_path / "s")
    best = opened.best()
    assert opened.longest_checkpoint(best) == opened.final_checkpoint(best, max(best.finals))  # seeds rise in quality
    unfinished = next(c for c in opened.trained() if not c.finals)
    assert opened.longest_checkpoint(unfinished) == opened.checkpoint(unfinished)


def test_the_verdict_is_that_of_the_records(tmp_path: Path) -> None:
    opened, _ = finished(tmp_path / "s")
    verdict = verdicts.verdict_of(opened)
    assert verdict is not None
    assert verdict.steps == FINAL_STEPS
    assert verdict.found is not None
    assert verdict.design is not None
    ours, theirs = (opened.candidates[trial].final_scores() for trial in (verdict.found, verdict.design))
    fresh = list(ours.values())[1:]  # the first chose it among others
    assert verdict.difference == pytest.approx(statistics.fmean(fresh) - statistics.fmean(theirs.values()))
    assert verdict.half_width is not None
    assert verdict.outcome == ("ties" if abs(verdict.difference) <= verdict.half_width else "beats")
    assert verdict.probability_faster is not None
    assert verdict.runtime_half_width is not None
    assert 0 < verdict.probability_faster < 1
    assert f"they add ± {verdict.runtime_half_width:.2f} to that" in verdict.sentence
    opened.config = replace(opened.config, device_digest="0" * 12)
    assert "Runtimes are predicted" not in (verdicts.verdict_of(opened) or verdict).sentence


def test_designs_that_were_not_trained_are_named_by_the_reason(tmp_path: Path) -> None:
    kinds = {"likely": ["smallnet", "cvml"], "unlikely": ["csanet", "eds"], "refused": ["acvlab"]}
    study = made_up_study(tmp_path / "s", 8, prior=("demo",))  # trains the first two designs
    reopened = studies.load(tmp_path / "s")
    reopened.append("session", budget="2 h", workers=1, designs=kinds)
    reopened.close()
    verdict = verdicts.verdict_of(reopened)
    assert verdict is not None
    assert study.designs[0].name == "smallnet"
    assert "(demo). Not trained, because far behind there: eds." in verdict.sentence
    assert "Designs that the budget left no room for: cvml." in verdict.sentence
    assert "Designs over the limits: acvlab." in verdict.sentence


def test_records_of_before_do_not_tell_which_designs_were_far_behind(tmp_path: Path) -> None:
    made_up_study(tmp_path / "s", 8, prior=("demo",))
    verdict = verdicts.verdict_of(studies.load(tmp_path / "s"))
    assert verdict is not None
    assert "far behind" not in verdict.sentence
    assert "Designs that the budget left no room for: " in verdict.sentence
    assert " eds" not in verdict.sentence, "the device cannot run it"


def test_without_any_design_within_the_limits_the_best_is_told_and_no_larger_budget_advised(tmp_path: Path) -> None:
    search(with_finals(tmp_path / "s", max_runtime_ms=50.0), 4)
    verdict = verdicts.verdict_of(studies.load(tmp_path / "s"))
    assert verdict is not None
    assert verdict.outcome == "undecided"
    assert verdict.sentence.startswith(
        "Nothing was compared: no published design is within the limits and in the space."
    )
    assert "--budget" not in verdict.sentence
    over = verdict.sentence.partition("Designs over the limits: ")[2]
    assert "smallnet" in over
    assert "eds" not in over, "the device cannot run it"


def test_networks_that_all_overfit_are_told_of(tmp_path: Path) -> None:
    def fitted(job: Job) -> Outcome | JobFailure:
        outcome = seeded(job)
        assert isinstance(outcome, Outcome)
        return replace(outcome, train_psnr_db=outcome.psnr_db + 4.0) if job.judge_training else outcome

    search(with_finals(tmp_path / "s"), 12, workers=[InlineWorker(fitted)])
    verdict = verdicts.verdict_of(studies.load(tmp_path / "s"))
    assert verdict is not None
    assert "Networks overfit these pairs: training pairs come out 4.0 dB better" in verdict.sentence


@pytest.mark.parametrize(("lead_db", "overfits"), [(3.0, True), (0.6, False)])
def test_the_verdict_tells_of_overfitting(tmp_path: Path, lead_db: float, overfits: bool) -> None:
    """Designs are half a dB better on training pairs; what is found is `lead_db` better."""
    published = {design.spec for design in DESIGNS.values()}

    def fitted(job: Job) -> Outcome | JobFailure:
        outcome = seeded(job)
        assert isinstance(outcome, Outcome)
        lead = 0.5 if job.spec in published else lead_db
        return replace(outcome, train_psnr_db=outcome.psnr_db + lead) if job.judge_training else outcome

    search(with_finals(tmp_path / "s"), 12, workers=[InlineWorker(fitted)])
    verdict = verdicts.verdict_of(studies.load(tmp_path / "s"))
    assert verdict is not None
    assert (
        "overfits: its lead of training pairs over validation pairs is 2.5 dB larger" in verdict.sentence
    ) is overfits


def test_a_search_that_was_stopped_goes_on_with_the_finals(tmp_path: Path) -> None:
    straight, _ = finished(tmp_path / "straight")
    finished(tmp_path / "broken")
    path = tmp_path / "broken" / studies.RECORDS_FILE
    lines = path.read_bytes().splitlines(keepends=True)
    kinds = [json.loads(line)["event"] for line in lines]
    path.write_bytes(b"".join(lines[: kinds.index("final") + 2]))
    search(studies.load(tmp_path / "broken"), 12, workers=[InlineWorker(seeded)])
    assert decisions(tmp_path / "broken") == decisions(straight.folder)


def test_the_same_command_trains_no_final_twice(tmp_path: Path) -> None:
    opened, _ = finished(tmp_path / "s")
    again = InlineWorker(seeded)
    search(opened, 12, workers=[again])
    assert again.jobs == []


def test_a_final_that_fails_is_told_and_leaves_the_candidate_what_it_was(tmp_path: Path) -> None:
    def failing(job: Job) -> Outcome | JobFailure:
        return JobFailure("The loss diverged.") if job.steps == FINAL_STEPS and job.seed == 1 else seeded(job)

    said: list[str] = []
    search(with_finals(tmp_path / "s"), 12, workers=[InlineWorker(failing)], on_message=said.append)
    opened = studies.load(tmp_path / "s")
    assert any("from seed 1 failed: The loss diverged." in line for line in said)
    assert not any(c.failure for c in opened.candidates.values())
    assert any(c.final_failures for c in opened.candidates.values())
    assert not any(1 in c.finals for c in opened.candidates.values())
    assert verdicts.verdict_of(opened) is not None


def test_a_quarter_of_the_time_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under a clock that trainings move: a twentieth of a second per step."""
    now = [0.0]
    from nas.search import driver as module

    monkeypatch.setattr(module, "time", type("Clock", (), {"monotonic": staticmethod(lambda: now[0])}))

    def timed(job: Job) -> Outcome | JobFailure:
        outcome = seeded(job)
        assert isinstance(outcome, Outcome)
        before = {30: 10, 90: 30}.get(job.steps, 0)
        seconds = 0.05 * (job.steps - before)
        now[0] += seconds
        return replace(outcome, train_s=seconds, compile_s=0.0, evaluate_s=0.0)

    search(with_finals(tmp_path / "s"), Budget(seconds=120), workers=[InlineWorker(timed)])
    events = records(tmp_path / "s")
    first = next(record["elapsed_s"] for record in events if record["event"] == "final")
    assert 90 <= first <= 110
    assert max(record["elapsed_s"] for record in events) <= 120
    assert [record["event"] for record in events if record["elapsed_s"] > first + 1].count("rung") == 0
    assert len(studies.load(tmp_path / "s").at_rung(3)) == 2


def test_a_person_sees_what_trains_now(tmp_path: Path) -> None:
    seen: list[str] = []
    made = search(with_finals(tmp_path / "s"), 3, workers=[InlineWorker(seeded)])
    candidate = made.study.best()
    worker = InlineWorker(seeded)
    for rung, seed in ((0, None), (made.study.final_rung, 2)):
        made.running = [InFlight(candidate, rung, seed, worker, Future(), 270)]
        seen += running(made)
    assert ": rung 1/3, step 0/10" in seen[0]
    assert f": final from seed 2, step 0/{FINAL_STEPS}" in seen[1]


def test_a_longer_budget_goes_on_searching_and_plays_finals_again(tmp_path: Path) -> None:
    opened, _ = finished(tmp_path / "s", budget=8)
    before = {c.trial for c in opened.candidates.values() if c.finals}
    worker = InlineWorker(seeded)
    search(studies.load(tmp_path / "s"), 30, workers=[worker])
    after = studies.load(tmp_path / "s")
    assert len(after.trained()) == 30
    assert {c.trial for c in after.candidates.values() if c.finals} > before
    verdict, best = verdicts.verdict_of(after), after.best()
    assert verdict is not None
    assert best.trial == (verdict.found if verdict.difference and verdict.difference > 0 else verdict.design)


def test_a_front_is_not_one_of_finalists(tmp_path: Path) -> None:
    opened, _ = finished(tmp_path / "s", objective="pareto", budget=20)
    assert any(c.finals for c in opened.candidates.values())
    assert candidate_rows.choose_rung(opened, None) < opened.final_rung


def area(candidates: Sequence[CandidateRecord], expected_db: Mapping[int, float], corner: tuple[float, float]) -> float:
    """The area under a front, by adding up thin slices of time."""
    worst, slowest = corner
    points = [(c.runtime_ms or 0.0, expected_db[c.trial]) for c in candidates]
    starts = np.arange(0, slowest, slowest / 4000)
    best = [max([db for ms, db in points if ms <= start] + [worst]) for start in starts]
    return float(np.sum(np.array(best) - worst) * slowest / 4000)


def test_for_a_front_the_best_score_and_then_those_who_widen_it_have_finals(tmp_path: Path) -> None:
    study = search(make_study(tmp_path / "s", objective="pareto"), 16).study
    expected_db = {c.trial: c.rungs[0].psnr_db for c in study.trained()}
    candidates = [c for c in study.trained() if c.name is None]
    corner = corner_of([expected_db[c.trial] for c in study.trained()], [c.runtime_ms or 0 for c in study.trained()])
    contenders = [c for c in finals.contenders_of(study, expected_db=expected_db) if not c.is_design]
    first, *others = sorted(contenders, key=lambda c: -c.preference)
    assert first.expected == max(final_score(expected_db[c.trial], c.runtime_ms or 0) for c in candidates)
    chosen = [study.candidates[first.trial]]
    for each in others[:2]:
        most = max(area([*chosen, c], expected_db, corner) for c in candidates)
        chosen.append(study.candidates[each.trial])
        assert area(chosen, expected_db, corner) == pytest.approx(most, rel=0.01)
    early = finals.early_final(contenders, [1])
    assert early is not None
    assert early[0].trial == first.trial


def test_one_worker_and_one_seed_repeat_whatever_a_training_took(tmp_path: Path) -> None:
    def in_other_seconds(factor: float) -> Any:
        def run(job: Job) -> Outcome | JobFailure:
            outcome = seeded(job)
            assert isinstance(outcome, Outcome)
            seconds = factor * (1 + int(job.spec.hash, 16) % 7)
            return replace(outcome, train_s=seconds, compile_s=seconds, evaluate_s=seconds)

        return run

    for name, factor in (("a", 0.1), ("b", 3.0)):
        study = with_finals(tmp_path / name, sampler="model")
        search(study, 16, workers=[InlineWorker(in_other_seconds(factor))])
    assert decisions(tmp_path / "a") == decisions(tmp_path / "b")


def test_without_final_steps_there_are_none(tmp_path: Path) -> None:
    opened, worker = finished(tmp_path / "s", final_steps=None)
    assert not any(c.finals for c in opened.candidates.values())
    assert {job.steps for job in worker.jobs} <= set(opened.config.rungs)
    assert verdicts.verdict_of(opened) is None
    assert opened.ladder == opened.config.rungs


def test_only_the_best_design_climbs_for_the_finals_sake(tmp_path: Path) -> None:
    opened, _ = finished(tmp_path / "s", budget=20)
    designs = [c for c in opened.candidates.values() if c.name and c.rungs]
    best = max(designs, key=lambda c: c.score(0))
    assert len(best.rungs) == len(opened.config.rungs)
    assert len(designs) > 2


def test_the_commands_show_finals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    opened, _ = finished(tmp_path / "results" / "s")
    output = json.loads(in_process("show", opened.best().trial, "--format", "json").stdout)
    assert [final["seed"] for final in output["finals"]] == sorted(opened.best().finals)
    rows = json.loads(in_process("pareto", "--format", "json").stdout)
    assert {row["steps"] for row in rows} == {FINAL_STEPS}
    assert f"Final from seed 1, {FINAL_STEPS} steps" in in_process("show", opened.best().trial).stdout
    below = json.loads(in_process("pareto", "--steps", "30", "--format", "json").stdout)
    assert {row["steps"] for row in below} == {30}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--final-steps", "-1"), "Finals train for some steps"),
        (("--final-share", "1.5"), "between 0 and 1, got 1.5"),
        (("--workers", "none"), 'a number of one or more, or "auto"; got none'),
        (("--workers", "0"), "got"),
        (("--prior", "some"), "prior"),
        (("--final-steps", "900", "--rungs", "300,900"), "must exceed the longest rung, 900 steps; got 900"),
        (("--final-steps", "200"), "must exceed the longest rung, 300 steps; got 200"),
    ],
)
def test_wrong_options_are_refused(options: tuple[str, ...], sentence: str, tiny_pairs: Path, tmp_path: Path) -> None:
    # Some are refused only once the pairs are known, and the demo set would take ten seconds.
    known = ("--data", tiny_pairs, *TINY_TRAINING[2:])
    done = in_process("search", "--budget", "1", "--results", tmp_path, *known, *options)
    assert done.returncode == 2
    assert sentence in done.stderr


class Clock:
    """Time that only training moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def trained(self, job: Job) -> Outcome | JobFailure:
        outcome = seeded(job)
        assert isinstance(outcome, Outcome)
        seconds = 0.1 * job.steps
        self.now += seconds
        return replace(outcome, train_s=seconds, compile_s=0.0, evaluate_s=0.0)


def searched_by_the_clock(
    folder: Path, budget_s: float, monkeypatch: pytest.MonkeyPatch, **changes: Any
) -> StudyRecord:
    clock = Clock()
    monkeypatch.setattr(driver, "time", clock)
    search(with_finals(folder, **changes), Budget(seconds=budget_s), workers=[InlineWorker(clock.trained)])
    return studies.load(folder)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_finals_of_the_best_found_begin_while_the_search_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, objective: str
) -> None:
    opened = searched_by_the_clock(tmp_path / "s", 450.0, monkeypatch, sampler="model", objective=objective)
    events = [r for r in records(tmp_path / "s") if r["event"] in ("rung", "final")]
    last_rung = max(n for n, r in enumerate(events) if r["event"] == "rung")
    early = [r for r in events[:last_rung] if r["event"] == "final"]
    names = [opened.candidates[r["trial"]].name for r in early]
    assert [name is None for name in names] == [True, False, *([True] * (len(names) - 2))]  # one design to compare with
    assert len({r["trial"] for r in early}) == len(early) >= 2  # each from the first seed alone
    assert {r["seed"] for r in early} == {finals.seeds_of(opened)[0]}
    assert sum(r["train_s"] for r in early) <= EARLY_SHARE * events[last_rung]["elapsed_s"]
    verdict = verdicts.verdict_of(opened)
    assert min(len(opened.candidates[trial].finals) for trial in (verdict.found, verdict.design)) >= 2  # type: ignore


def test_where_no_model_learns_from_them_finals_come_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    searched_by_the_clock(tmp_path / "s", 200.0, monkeypatch, sampler="random")
    events = [r["event"] for r in records(tmp_path / "s") if r["event"] in ("rung", "final")]
    assert events == sorted(events, reverse=True)
