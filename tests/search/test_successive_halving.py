"""Who trains further: the best third of those that reached a rung, from what is known so far."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.search.budget import Budget
from nas.search.pareto import ranks
from nas.search.score import final_score
from nas.search.successive_halving import (
    ETA,
    OBJECTIVES,
    AtRung,
    best_first,
    check_ladder,
    default_final_steps,
    default_ladder,
    promotions,
)
from search_spaces.errors import UsageError

RUNGS = 3


@dataclass(frozen=True)
class Standing:
    """A candidate: PSNR by rung index, and whether it may climb."""

    trial: int
    runtime_ms: float
    psnr_db: Mapping[int, float]
    busy: bool = False
    ended: bool = False


every_objective = pytest.mark.parametrize("objective", OBJECTIVES)


def field(*psnr_db: float, runtime_ms: float = 60.0, rung: int = 0) -> list[Standing]:
    """Candidates of one runtime that have reached `rung`; what they had on the rungs before is the same."""
    return [Standing(n, runtime_ms, dict.fromkeys(range(rung + 1), p)) for n, p in enumerate(psnr_db)]


def climbers(
    standings: list[Standing], *, objective: str = "score", draining: bool = False, rungs: int = RUNGS
) -> list[tuple[int, int]]:
    by_trial = {standing.trial: standing for standing in standings}
    reached = [
        [AtRung(s.trial, s.psnr_db[rung], s.runtime_ms) for s in standings if rung in s.psnr_db]
        for rung in range(rungs)
    ]
    climbing = promotions(
        lambda rung: best_first(reached[rung], objective),
        [len(of_rung) for of_rung in reached],
        has_ended=lambda trial: by_trial[trial].ended,
        is_above=lambda trial, rung: rung + 1 in by_trial[trial].psnr_db,
        is_busy=lambda trial: by_trial[trial].busy,
        draining=draining,
    )
    return list(climbing)


@st.composite
def standings(draw) -> list[Standing]:
    def one(trial: int) -> Standing:
        reached = draw(st.integers(0, RUNGS))
        psnr: Mapping[int, float] = {rung: draw(st.integers(15, 25)) + rung / 2 for rung in range(reached)}
        runtime = float(draw(st.sampled_from([20, 60, 61, 150, 250])))
        return Standing(trial, runtime, psnr, busy=draw(st.booleans()), ended=draw(st.booleans()))

    return [one(trial) for trial in range(draw(st.integers(0, 14)))]


@every_objective
@given(count=st.integers(0, 12))
def test_exactly_a_third_of_the_first_rung_climbs(objective: str, count: int) -> None:
    assert len(climbers(field(*range(count)), objective=objective)) == count // ETA


def test_the_best_climb_and_the_best_of_them_first() -> None:
    assert climbers(field(20, 23, 21, 24, 22, 19)) == [(3, 1), (1, 1)]


def test_of_equals_the_earlier_trial_climbs() -> None:
    assert climbers(field(20, 20, 20)) == [(0, 1)]


def test_higher_rungs_are_served_first() -> None:
    first = field(20, 21, 22)
    second = [replace(s, trial=s.trial + 3, psnr_db={0: 30.0, 1: 30.0 + s.trial}) for s in first]
    assert climbers([*first, *second])[0] == (5, 2)


def test_who_has_climbed_does_not_climb_again_and_keeps_the_place() -> None:
    reached = field(20, 21, 22)
    reached[2] = replace(reached[2], psnr_db={0: 22.0, 1: 23.0})
    assert climbers(reached) == []


@pytest.mark.parametrize("state", ["busy", "ended"])
@pytest.mark.parametrize("draining", [False, True])
@every_objective
def test_who_is_busy_or_has_failed_does_not_climb(objective: str, draining: bool, state: str) -> None:
    out = [replace(standing, **{state: True}) for standing in field(*range(9))]
    assert climbers(out, objective=objective, draining=draining) == []


def test_nobody_climbs_beyond_the_last_rung() -> None:
    assert climbers(field(*range(9), rung=RUNGS - 1)) == []
    assert climbers(field(*range(9)), rungs=1) == []


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_to_compare_climb_only_when_no_more_will_come(count: int) -> None:
    few = field(*range(count))
    assert climbers(few) == []
    assert climbers(few, draining=True) == [(count - 1, 1)]


def test_draining_widens_no_rung_that_has_enough() -> None:
    assert climbers(field(*range(6)), draining=True) == climbers(field(*range(6)))


def test_a_fast_network_of_less_psnr_climbs_by_score() -> None:
    slow, fast, bad = (
        replace(field(24)[0], runtime_ms=180.0),
        Standing(1, 60.0, {0: 23.0}),
        Standing(2, 60.0, {0: 20.0}),
    )
    assert climbers([slow, fast, bad]) == [(1, 1)]


def test_by_rank_every_member_of_the_front_comes_before_the_rest() -> None:
    # Trial 0 is slow enough to score last, but nothing has its PSNR.
    points = [(25.0, 400.0), (23.0, 60.0), (22.9, 61.0), (22.8, 62.0), (22.7, 63.0), (22.6, 64.0)]
    reached = [Standing(n, runtime, {0: psnr}) for n, (psnr, runtime) in enumerate(points)]
    assert climbers(reached, objective="pareto") == [(1, 1), (0, 1)]
    assert climbers(reached, objective="score") == [(1, 1), (2, 1)]


@every_objective
@pytest.mark.parametrize("draining", [False, True])
@settings(max_examples=150, deadline=None)
@given(known=standings())
def test_who_climbs_is_free_and_among_the_best_of_the_rung(
    objective: str, draining: bool, known: list[Standing]
) -> None:
    for trial, target in climbers(known, objective=objective, draining=draining):
        rung = target - 1
        me = known[trial]
        assert rung in me.psnr_db
        assert target not in me.psnr_db
        assert not me.busy
        assert not me.ended
        reached = [s for s in known if rung in s.psnr_db]
        better = [s for s in reached if not s.ended and _is_better(s, me, rung, reached, objective)]
        assert len(better) < max(len(reached) // ETA, 1 if draining else 0)


@every_objective
@settings(max_examples=100, deadline=None)
@given(known=standings())
def test_a_decision_does_not_depend_on_the_order_of_the_records(objective: str, known: list[Standing]) -> None:
    assert climbers(known[::-1], objective=objective) == climbers(known, objective=objective)


def _is_better(a: Standing, b: Standing, rung: int, reached: list[Standing], objective: str) -> bool:
    rank = ranks([(s.psnr_db[rung], s.runtime_ms) for s in reached]) if objective == "pareto" else [0] * len(reached)
    by_trial = {s.trial: r for s, r in zip(reached, rank, strict=True)}

    def key(s: Standing) -> tuple[float, float]:
        return by_trial[s.trial], -final_score(s.psnr_db[rung], s.runtime_ms)

    return key(a) < key(b)


@pytest.mark.parametrize(
    ("budget", "ladder"),
    [
        (Budget(seconds=60), (300, 900)),
        (Budget(seconds=120), (300, 900)),
        (Budget(seconds=300), (300, 900, 2700)),
        (Budget(seconds=1200), (300, 900, 2700)),
        (Budget(seconds=1201), (900, 2700, 8100)),
        (Budget(seconds=24 * 3600), (900, 2700, 8100)),
        (Budget(candidates=5), (300, 900)),
        (Budget(candidates=20), (300, 900)),
        (Budget(candidates=21), (300, 900, 2700)),
        (Budget(candidates=100), (900, 2700, 8100)),
    ],
)
def test_a_longer_search_trains_each_candidate_longer(budget: Budget, ladder: tuple[int, ...]) -> None:
    assert default_ladder(budget, "cpu") == ladder
    assert default_ladder(budget, "gpu") == tuple(10 * steps for steps in ladder)
    assert check_ladder(ladder) == ladder
    assert default_final_steps(budget, ladder) == (0 if budget.candidates else 3 * ladder[-1])


@pytest.mark.parametrize("steps", [[1], [50, 150, 450], (1, 2, 3)])
def test_a_rising_ladder_is_taken(steps: list[int]) -> None:
    assert check_ladder(steps) == tuple(steps)


@pytest.mark.parametrize("steps", [[], [0, 10], [-5, 10], [50, 50], [150, 50], [50, 450, 150]])
def test_a_ladder_that_does_not_rise_is_refused(steps: list[int]) -> None:
    with pytest.raises(UsageError, match=r"rising numbers of steps such as 50,150,450; got"):
        check_ladder(steps)
