"""Evaluating a candidate is a pure function of its job: the same figures, whatever happened on the way."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nas.data.pairs import PairSet, open_prepared
from nas.data.raw_format import RawFormat
from nas.train import candidate, checkpoint, evaluation
from nas.train.evaluation import Quality, flat_psnr_db, is_broken, judge, network_input, quality_of, targets
from nas.train.job import Job, Outcome
from nas.train.loop import CALMER, start
from nas.train.recipe import Recipe
from search_spaces.errors import DataError, StudyError, TrainingError
from search_spaces.networks import build_graph
from search_spaces.spec import ArchSpec

SPEC = ArchSpec(width=4, depth=0)
RECIPE = Recipe(batch=2, patch=32, total_steps=9)


@pytest.fixture
def job(prepared_tiny: Path, tmp_path: Path) -> Job:
    return Job(SPEC, 3, tmp_path / "state.safetensors", prepared_tiny, RECIPE, seed=0)


@pytest.fixture(scope="module")
def val(prepared_tiny: Path) -> PairSet:
    return open_prepared(prepared_tiny, "val")


def figures(outcome: Outcome) -> tuple[float, ...]:
    """What a result says about the network, its times left out."""
    return outcome.steps, outcome.psnr_db, outcome.ssim, outcome.loss


def echo(x: np.ndarray) -> np.ndarray:
    """A network of no training: every 2×2 tile takes its red, mean green and blue (packed B, G, R, G)."""
    rgb = np.stack([x[..., 2], (x[..., 1] + x[..., 3]) / 2, x[..., 0]], axis=-1)
    return rgb.repeat(2, axis=1).repeat(2, axis=2)


# The same figures


def test_the_same_job_gives_the_same_figures(job: Job) -> None:
    again = replace(job, checkpoint=job.checkpoint.with_name("again"))
    assert figures(candidate.evaluate(job)) == figures(candidate.evaluate(again))
    first, second = (checkpoint.load(path).parameters for path in (job.checkpoint, again.checkpoint))
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_a_candidate_that_climbs_is_where_it_would_be_without_a_stop(job: Job) -> None:
    straight = candidate.evaluate(replace(job, steps=9, checkpoint=job.checkpoint.with_name("straight")))
    candidate.evaluate(job)
    climbed = candidate.evaluate(replace(job, steps=9))
    assert (climbed.steps, climbed.psnr_db, climbed.ssim) == (9, straight.psnr_db, straight.ssim)


def test_what_was_trained_before_a_crash_is_only_judged(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    straight = candidate.evaluate(replace(job, checkpoint=job.checkpoint.with_name("straight")))
    with monkeypatch.context() as crash:
        crash.setattr(evaluation.Evaluator, "quality", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            candidate.evaluate(job)
    after = candidate.evaluate(job)
    assert figures(after) == figures(straight)
    assert after.train_s == 0


def test_an_outcome_accounts_for_its_time_and_memory(job: Job) -> None:
    outcome = candidate.evaluate(job)
    assert outcome.train_s > 0
    assert outcome.compile_s > 0
    assert outcome.evaluate_s > 0
    assert 100 < outcome.memory_mb < 100_000


# Refusals


def test_finals_are_judged_on_training_pairs_too(job: Job) -> None:
    plain, both = candidate.evaluate(job), candidate.evaluate(replace(job, judge_training=True))
    assert plain.train_psnr_db is None
    assert both.psnr_db == plain.psnr_db
    pairs = open_prepared(job.data, "train")
    count = len(open_prepared(job.data, "val"))
    some = pairs.subset(np.unique(np.linspace(0, len(pairs) - 1, min(count, len(pairs))).astype(int)))
    weights = checkpoint.load(job.checkpoint).weights
    assert both.train_psnr_db == pytest.approx(judge(build_graph(job.spec), weights, some).psnr_db, abs=1e-3)


def test_another_networks_checkpoint_is_refused_and_left_alone(job: Job) -> None:
    other = ArchSpec(width=8, depth=0)
    checkpoint.save(start(build_graph(other), seed=0, spec_hash=other.hash), job.checkpoint)
    before = job.checkpoint.read_bytes()
    with pytest.raises(StudyError, match=rf"belongs to network {other.hash}, not to {SPEC.hash}; remove or rename it"):
        candidate.evaluate(job)
    assert job.checkpoint.read_bytes() == before


def test_a_torn_checkpoint_is_refused_and_left_alone(job: Job) -> None:
    job.checkpoint.write_bytes(b"torn")
    with pytest.raises(StudyError, match="remove that file"):
        candidate.evaluate(job)
    assert job.checkpoint.read_bytes() == b"torn"


def test_missing_pairs_are_named(job: Job, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Cannot read the decoded train pairs"):
        candidate.evaluate(replace(job, data=tmp_path / "gone"))


def test_a_network_whose_output_is_no_number_has_no_quality(job: Job) -> None:
    state = start(build_graph(SPEC), seed=0, spec_hash=SPEC.hash)
    state.parameters["head/bias"][:] = np.nan
    checkpoint.save(replace(state, step=job.steps), job.checkpoint)  # trained far enough, so only judged
    with pytest.raises(TrainingError, match="output on the validation pairs is not a number after 3 steps"):
        candidate.evaluate(job)


# Judging


@pytest.mark.parametrize("batch", [1, 2, 3, 4])
def test_the_mean_does_not_depend_on_the_batch(val: PairSet, batch: int) -> None:
    sizes: list[int] = []

    def network(x: np.ndarray) -> np.ndarray:
        sizes.append(len(x))
        return echo(x)

    one_by_one = quality_of(echo, val, batch=1)
    batched = quality_of(network, val, batch=batch)
    assert sizes == [batch] * -(-len(val) // batch)
    assert batched.psnr_db == pytest.approx(one_by_one.psnr_db, rel=1e-6)
    assert batched.ssim == pytest.approx(one_by_one.ssim, rel=1e-6)


def test_a_limit_on_pixels_changes_the_batch_and_not_the_judgement(
    val: PairSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = build_graph(SPEC)
    parameters = start(graph, seed=0, spec_hash=SPEC.hash).parameters
    whole = judge(graph, parameters, val)
    monkeypatch.setattr(evaluation, "EVALUATION_PIXELS", 3 * 64 * 64)
    by_three = judge(graph, parameters, val)
    assert by_three.psnr_db == pytest.approx(whole.psnr_db, rel=1e-5)
    assert by_three.ssim == pytest.approx(whole.ssim, rel=1e-5)


def test_the_mean_is_that_of_every_pair_judged_alone(val: PairSet) -> None:
    alone = [
        quality_of(echo, PairSet(val.raw[i : i + 1], val.rgb[i : i + 1], val.names[i : i + 1], val.format), batch=1)
        for i in range(len(val))
    ]
    assert quality_of(echo, val, batch=4).psnr_db == pytest.approx(np.mean([q.psnr_db for q in alone]), rel=1e-6)
    assert len({q.psnr_db for q in alone}) == len(val)


def test_a_perfect_network_has_a_hundred_db(val: PairSet) -> None:
    wanted = targets(val, np.arange(len(val)))
    quality = quality_of(lambda _: wanted, val, batch=len(val))
    assert quality.psnr_db == pytest.approx(100, abs=1e-3)
    assert quality.ssim == pytest.approx(1, abs=1e-5)


def test_networks_read_black_as_zero_and_white_as_one() -> None:
    raw_format = RawFormat(black=64, white=1000)
    raw = np.array([[[64, 1000], [532, 64]]], np.uint16)
    pairs = PairSet(raw, np.full((1, 2, 2, 3), 255, np.uint8), ("0",), raw_format)
    x = network_input(pairs, np.arange(1))
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x[0, 0, 0], [0.0, 1.0, 0.0, 0.5])  # B, the green beside red, R, the green beside blue
    np.testing.assert_array_equal(targets(pairs, np.arange(1)), 1.0)


def test_training_makes_the_quality_better(job: Job) -> None:
    recipe = replace(RECIPE, total_steps=60, learning_rate=1e-2)
    first = candidate.evaluate(replace(job, steps=1, recipe=recipe))
    last = candidate.evaluate(replace(job, steps=60, recipe=recipe))
    assert last.psnr_db > first.psnr_db + 3


# Broken


@pytest.fixture
def strict(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Calls networks broken as the list says, in turn."""
    verdicts: list[bool] = []
    monkeypatch.setattr(candidate, "is_broken", lambda *_: verdicts.pop(0))
    return verdicts


def test_a_network_that_training_broke_is_trained_again_at_a_lower_rate(job: Job, strict: list[bool]) -> None:
    strict += [True, False]
    outcome = candidate.evaluate(job)
    assert outcome.rate_share == CALMER
    calmer = replace(RECIPE, learning_rate=RECIPE.learning_rate * CALMER)
    by_hand = replace(job, recipe=calmer, checkpoint=job.checkpoint.with_name("by hand"))
    strict.append(False)
    strict.append(False)
    assert outcome.psnr_db == pytest.approx(candidate.evaluate(by_hand).psnr_db, abs=0.01)


def test_a_network_that_is_broken_again_is_a_failure_with_its_reason(job: Job, strict: list[bool]) -> None:
    strict += [True, True]
    with pytest.raises(TrainingError, match="after 3 steps it makes pictures that are worth less than one colour"):
        candidate.evaluate(job)


def test_pictures_of_one_colour_are_the_least_that_a_training_is_worth(val: PairSet) -> None:
    colour = (val.rgb / np.float32(255)).mean((0, 1, 2))
    errors = ((val.rgb / np.float32(255) - colour) ** 2).mean((1, 2, 3))
    flat_db = float(np.mean(-10 * np.log10(errors)))
    assert flat_psnr_db(val) == pytest.approx(flat_db, abs=1e-3)
    assert is_broken(Quality(flat_db - 0.1, 0.1), 100, val)
    assert not is_broken(Quality(flat_db + 0.1, 0.1), 100, val)
    assert not is_broken(Quality(flat_db - 0.1, 0.1), 99, val), "so few steps may have changed nothing"
