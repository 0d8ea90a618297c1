"""The finals: who trains in which order, what is kept of the budget, and what the verdict says."""

import math
import statistics
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nas.search.finals import (
    MOST_DESIGNS,
    MOST_FOUND,
    SEEDS,
    Contender,
    Final,
    affordable,
    early_final,
    least_s,
    next_final,
    plan_s,
)
from nas.search.verdicts import CONFIDENCE, SEED_DB, SEED_FREEDOM, verdict

ALL_SEEDS = (1, 2, 3, 4, 5)
NAMES = {0: "smallnet", 1: "csanet", 2: None, 3: None, 4: None, 5: None}


def contender(trial: int, expected: float, scores: dict[int, float] | None = None, **more: object) -> Contender:
    is_design = NAMES[trial] is not None
    made = Contender(trial, is_design, expected, reached=1, seconds=10.0, scores=scores or {})
    return replace(made, **more)  # type: ignore[arg-type]


FIELD = [contender(0, 30.0), contender(1, 28.0), contender(2, 31.0), contender(3, 30.5), contender(4, 29.0)]


def played(field: list[Contender], left_s: float, score: dict[int, float], workers: int = 1) -> list[tuple[int, int]]:
    """Train the finals one after another until none is left; return (trial, seed) in order."""
    done: list[tuple[int, int]] = []
    while (final := next_final(field, ALL_SEEDS, left_s=left_s, workers=workers)) is not None:
        done.append((final.trial, final.seed))
        field = [
            replace(c, scores={**c.scores, final.seed: score[c.trial]}) if c.trial == final.trial else c for c in field
        ]
        left_s -= 10.0 / workers
    return done


def test_the_best_found_and_the_best_design_come_first_then_the_others_then_the_leaders_again() -> None:
    order = played(FIELD, 1000.0, {0: 30.0, 1: 31.0, 2: 30.0, 3: 33.0, 4: 29.0})
    assert order[:5] == [(2, 1), (0, 1), (3, 1), (1, 1), (4, 1)]
    # Trial 3 and CSANet came out best, so these two are trained again.
    assert order[5:] == [(1, 2), (3, 2), (3, 3), (1, 3), (3, 4), (1, 4), (3, 5), (1, 5)]  # as many count of either


def trained_early(expected: float, **more: object) -> list[Contender]:
    """Trial 2 and Smallnet were trained once while the search went on; trial 3 came later."""
    return [
        contender(0, 30.0, {1: 30.0}, is_predicted=True),
        contender(2, 31.0, {1: 31.0}, is_predicted=True),
        contender(3, expected, is_predicted=True, **more),
    ]


def test_one_that_is_predicted_to_be_better_leaves_the_leaders_one_more_training_each() -> None:
    scores = {0: 30.0, 2: 31.0, 3: 33.0}
    assert played(trained_early(32.0), 30.0, scores) == [(3, 1), (0, 2), (3, 2)]
    assert played(trained_early(32.0), 20.0, scores) == [(0, 2), (2, 2)], "the noise would stay unknown"
    assert played(trained_early(30.5), 40.0, scores) == [(0, 2), (2, 2), (2, 3), (0, 3)]
    # Two at once: a second round has to fit, too.
    assert played(trained_early(32.0), 15.0, scores, workers=2) == [(0, 2), (2, 2)]


def test_a_design_that_is_too_dear_leaves_its_place_to_one_that_can_be_trained_twice() -> None:
    dear, cheap, network = contender(1, 31.0, seconds=130.0), contender(0, 30.0), contender(2, 32.0)
    assert affordable([dear, cheap, network], 200.0) == [cheap, network]
    assert affordable([dear, cheap, network], 280.0) == [dear, cheap, network]
    assert affordable([dear, cheap, replace(network, seconds=30.0)], 280.0) == [cheap, replace(network, seconds=30.0)]
    assert affordable([dear, network], 200.0) == [dear, network], "it is the only one"
    assert affordable([replace(dear, scores={1: 31.0}), cheap, network], 200.0)[0].trial == 1, "it was trained"
    assert played(affordable([dear, cheap, network], 200.0), 50.0, {0: 30.0, 2: 32.0})[:2] == [(2, 1), (0, 1)]


def test_a_lead_of_one_training_that_is_within_the_noise_of_others_decides_nothing() -> None:
    field = [contender(0, 30.0, {1: 30.0, 2: 30.4}), contender(2, 31.0, {1: 31.4})]
    assert verdict(field, NAMES, steps=100).outcome == "undecided"
    field[1] = replace(field[1], scores={1: 31.4, 2: 30.1})
    assert verdict(field, NAMES, steps=100).outcome == "ties"


def test_the_best_found_without_a_final_is_trained_early_and_after_the_first_the_best_design() -> None:
    field = [contender(0, 30.0), contender(1, 28.0), contender(2, 31.0), contender(3, 32.0)]
    assert early_final(field, ALL_SEEDS) == (Final(3, 1), 10.0)
    field[3] = replace(field[3], scores={1: 31.5})
    assert early_final(field, ALL_SEEDS) == (Final(0, 1), 10.0)
    field[0] = replace(field[0], taken=frozenset({1}))
    assert early_final(field, ALL_SEEDS) == (Final(2, 1), 10.0)
    field[2] = replace(field[2], scores={1: 30.0})
    assert early_final(field, ALL_SEEDS) is None


def test_where_time_is_short_the_two_that_are_compared_come_before_further_entrants() -> None:
    assert played(FIELD, 60.0, dict.fromkeys(NAMES, 30.0)) == [(2, 1), (0, 1), (0, 2), (2, 2), (2, 3), (0, 3)]
    assert played(FIELD, 20.0, dict.fromkeys(NAMES, 30.0)) == [(2, 1), (0, 1)]
    assert played(FIELD, 9.0, dict.fromkeys(NAMES, 30.0)) == []


def test_a_final_that_one_worker_cannot_end_is_not_begun_however_many_there_are() -> None:
    assert next_final(FIELD, ALL_SEEDS, left_s=9.0, workers=8) is None
    assert next_final(FIELD, ALL_SEEDS, left_s=11.0, workers=8) is not None


def test_seeds_in_training_are_not_given_twice() -> None:
    field = [contender(2, 31.0, taken=frozenset({1})), contender(0, 30.0)]
    assert next_final(field, ALL_SEEDS, left_s=1000.0, workers=2) == next_final(
        [contender(0, 30.0)], ALL_SEEDS, left_s=1000.0
    )


def test_a_failed_final_leaves_its_place_to_the_other_seeds() -> None:
    field = [contender(2, 31.0, {2: 30.0}, taken=frozenset({1})), contender(0, 30.0, {1: 30.0})]
    order = played(field, 1000.0, dict.fromkeys(NAMES, 30.0))
    assert (2, 1) not in order
    assert {(2, 3), (0, 2), (0, 3)} <= set(order)


def test_no_contender_means_no_final() -> None:
    assert next_final([], ALL_SEEDS, left_s=math.inf) is None
    assert plan_s([]) == 0


def test_the_plan_holds_every_entrant_once_and_the_leaders_further() -> None:
    assert plan_s(FIELD) == 10.0 * (len(FIELD) + 2 * (SEEDS - 1))
    crowd = [replace(contender(2, float(n)), trial=n) for n in range(10, 30)]
    assert plan_s(crowd) == 10.0 * (MOST_FOUND + SEEDS - 1)
    designs = [replace(contender(0, float(n)), trial=n) for n in range(10, 30)]
    assert plan_s(designs) == 10.0 * (MOST_DESIGNS + SEEDS - 1)
    assert plan_s(FIELD, workers=100) == 20.0  # repeats can begin only after the first


def test_workers_that_would_idle_train_the_first_two_from_further_seeds() -> None:
    field = [replace(c, taken=frozenset({1})) for c in FIELD]
    assert next_final(field, ALL_SEEDS, left_s=100.0, workers=8) == Final(0, 2)


def test_an_entrant_too_dear_for_the_time_left_leaves_it_to_the_others() -> None:
    field = [replace(FIELD[2], seconds=50.0), *FIELD[:2], *FIELD[3:]]
    assert next_final(field, ALL_SEEDS, left_s=20.0) == Final(0, 1)
    assert least_s(field) == 50.0


def test_what_was_found_later_enters_finals_that_were_played_before() -> None:
    played_before = [replace(contender(2, 30.0 + n / 10, {1: 30.0}), trial=10 + n) for n in range(MOST_FOUND)]
    later = replace(contender(2, 35.0), trial=20)
    design = replace(FIELD[0], scores={1: 30.0})
    assert next_final([*played_before, design, later], ALL_SEEDS, left_s=1000.0) == Final(20, 1)


def test_a_second_network_of_a_kind_waits_for_the_first_of_the_other() -> None:
    """While one that was found trains, another one may climb past it; the design still comes next."""
    begun = replace(contender(2, 30.0), trial=10, taken=frozenset({1}))
    better = replace(contender(2, 35.0), trial=20)
    assert next_final([better, begun, FIELD[0]], ALL_SEEDS, left_s=1000.0, workers=2) == Final(FIELD[0].trial, 1)


def test_what_climbed_higher_goes_before_what_scored_more_at_a_lower_rung() -> None:
    field = [contender(2, 35.0, reached=0), contender(3, 30.0, reached=2)]
    first = next_final(field, ALL_SEEDS, left_s=10.0)
    assert first is not None
    assert first.trial == 3


# The verdict


def test_a_difference_beyond_the_noise_is_a_win_with_its_interval() -> None:
    field = [contender(0, 30.0, {1: 30.0, 2: 30.1, 3: 29.9}), contender(2, 31.0, {1: 31.0, 2: 31.1, 3: 30.9})]
    decision = verdict(field, NAMES, steps=8100)
    deviation = math.sqrt((4 * 0.1**2 + SEED_FREEDOM * SEED_DB**2) / (4 + SEED_FREEDOM))
    half = stats.t.ppf(1 - (1 - CONFIDENCE) / 2, 4 + SEED_FREEDOM) * deviation * math.sqrt(2 / 3)
    assert decision.outcome == "beats"
    assert decision.half_width == pytest.approx(half)
    assert decision.sentence == (
        f"Trial 2 beats smallnet, the best published design, by 1.00 ± {half:.2f} in score (3 seeds, 8100 steps)."
    )
    assert decision.to_dict()["difference"] == pytest.approx(1.0)


def test_a_difference_within_the_noise_is_none() -> None:
    field = [contender(0, 30.0, {1: 30.0, 2: 30.4}), contender(2, 31.0, {1: 30.3, 2: 30.5})]
    decision = verdict(field, NAMES, steps=900)
    assert decision.outcome == "ties"
    assert "Nothing found beats smallnet" in decision.sentence


def test_a_design_may_win() -> None:
    field = [contender(1, 30.0, {1: 32.0, 2: 32.1}), contender(2, 31.0, {1: 30.0, 2: 30.1})]
    decision = verdict(field, NAMES, steps=900)
    assert decision.outcome == "loses"
    assert decision.sentence.startswith(
        "csanet, the best published design, beats the best network found, trial 2, by 2.00"
    )


def test_one_training_of_each_decides_nothing() -> None:
    decision = verdict([contender(0, 30.0, {1: 30.0}), contender(2, 31.0, {1: 35.0})], NAMES, steps=900)
    assert (decision.outcome, decision.half_width) == ("undecided", None)
    assert "one training of either tells too little of the noise" in decision.sentence


@pytest.mark.parametrize(
    ("field", "missing"),
    [
        ([], "no network found and no published design"),
        ([contender(0, 30.0, {1: 30.0})], "no network found"),
        ([contender(2, 30.0, {1: 30.0})], "no published design"),
    ],
)
def test_where_one_of_the_two_is_missing_that_is_said(field: list[Contender], missing: str) -> None:
    decision = verdict(field, NAMES, steps=900)
    assert decision.outcome == "undecided"
    assert f"{missing} was trained to 900 steps" in decision.sentence


def test_one_lucky_training_wins_nothing_where_others_were_trained_more_often() -> None:
    field = [
        contender(0, 30.0, {1: 30.0, 2: 30.1, 3: 30.0}),
        contender(2, 31.0, {1: 30.3, 2: 30.4, 3: 30.2}),
        contender(3, 31.0, {1: 35.0}),
    ]
    assert verdict(field, NAMES, steps=900).found == 2


def test_a_training_that_chose_a_network_among_others_does_not_judge_it() -> None:
    pair = [contender(0, 30.0, {1: 30.0, 2: 30.1}), contender(2, 31.0, {1: 31.3, 2: 31.1})]
    assert verdict(pair, NAMES, steps=8100).difference == pytest.approx(31.2 - 30.05), "nothing was chosen"
    decision = verdict([*pair, contender(3, 30.0, {1: 30.5})], NAMES, steps=8100)
    assert (decision.difference, decision.seeds) == (pytest.approx(31.1 - 30.05), 1)
    assert "(1 fresh seed, 8100 steps)" in decision.sentence


def test_choosing_among_networks_trained_again_widens_the_interval() -> None:
    pair = [contender(0, 30.0, {1: 30.0, 2: 30.1}), contender(2, 31.0, {1: 31.0, 2: 31.1})]
    halves = [
        verdict([*pair, contender(3, 30.0, scores)], NAMES, steps=8100).half_width
        for scores in ({1: 30.5}, {1: 30.5, 2: 30.6})
    ]
    alone, among = halves
    assert alone is not None
    assert among is not None
    assert among > alone


def test_two_trainings_that_happen_to_agree_do_not_end_the_doubt() -> None:
    field = [contender(0, 30.0, {1: 30.0, 2: 30.0}), contender(2, 31.0, {1: 30.1, 2: 30.1})]
    decision = verdict(field, NAMES, steps=8100)
    assert decision.outcome == "ties"
    assert verdict(field, NAMES, steps=300).half_width > decision.half_width, "short trainings differ more"  # type: ignore[operator]


@pytest.mark.parametrize("rounds", [3, 6])
@pytest.mark.parametrize("noise_db", [0.2, 0.6])
def test_wins_by_chance_are_as_rare_as_the_interval_says(noise_db: float, rounds: int) -> None:
    """Of five equal networks that searches trained once, the best hardly ever beats the design, nor loses to it.

    0.6 dB is three times what is known of noise from other data: that must not make the interval too narrow.
    """
    rng = np.random.default_rng(0)
    outcomes = []
    for _ in range(400):
        scores = {trial: rng.normal(30, noise_db) for trial in range(6)}
        field = [Contender(trial, trial == 0, 30.0, 1, 10.0, {1: score}) for trial, score in scores.items()]
        left_s = 10.0 * rounds
        while (final := next_final(field, ALL_SEEDS, left_s=left_s)) is not None:
            field = [_trained(c, final, rng.normal(30, noise_db)) for c in field]
            left_s -= 10.0
        outcomes.append(verdict(field, dict.fromkeys(range(6)), steps=8100).outcome)
    assert outcomes.count("beats") / 400 < 0.05 + 2 * math.sqrt(0.05 * 0.95 / 400)
    assert outcomes.count("loses") / 400 < 0.05


def _trained(contender: Contender, final: Final, score: float) -> Contender:
    if contender.trial != final.trial:
        return contender
    return replace(contender, scores={**contender.scores, final.seed: score})


@given(st.lists(st.floats(20, 40), min_size=2, max_size=4), st.lists(st.floats(20, 40), min_size=2, max_size=4))
def test_a_verdict_is_antisymmetric(ours: list[float], theirs: list[float]) -> None:
    def between(network: list[float], design: list[float]) -> float:
        field = [contender(2, 0.0, dict(enumerate(network))), contender(0, 0.0, dict(enumerate(design)))]
        difference = verdict(field, NAMES, steps=900).difference
        assert difference is not None
        return difference

    assert between(ours, theirs) == pytest.approx(-between(theirs, ours))
    assert between(ours, theirs) == pytest.approx(statistics.fmean(ours) - statistics.fmean(theirs))
