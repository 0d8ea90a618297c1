"""Asynchronous successive halving over a fixed ladder of training steps.

Every candidate trains to the first rung. Of those that reached a rung, the best 1/η may climb to the next,
from their checkpoint. This is the promotion rule of ASHA (Li et al. 2018, arXiv 1810.05934, algorithm 2),
with ranks by score or by non-domination, written as a pure function of what is known so far. Where a model predicts
what candidates will come to at the final steps, that is what ranks them, and not the rung itself.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise

from nas.search import pareto
from nas.search.budget import Budget
from nas.search.score import final_score
from search_spaces.errors import UsageError

ETA = 3
# The top rung for budgets up to so many seconds, or so many candidates, on a CPU; a GPU gets ten times as many steps.
LADDER_TOPS = ((120, 900), (1200, 2700), (math.inf, 8100))
# Finals train as often as long as the top rung. The share of a budget in time that is kept for them.
FINAL_FACTOR = 3
FINAL_SHARE = 0.25
COUNT_TOPS = ((20, 900), (60, 2700))
COUNTED_TOP = 8100
# The first rung has no fewer steps than this on a CPU. Of thirteen designs and candidates from two seeds, the best
# third after 100 steps held half of the three that were best after 8100 (Spearman's ρ of PSNR 0.58, the interval
# reaching down to 0.05), after 300 it held nearly all (0.76 to 0.79): results/audit/demo.
FEWEST_STEPS = 300
GPU_FACTOR = 10
OBJECTIVES = ("score", "pareto")


@dataclass(frozen=True)
class Standing:
    """What the rule needs to know of one candidate: its prediction, and PSNR by rung index."""

    trial: int
    runtime_ms: float
    psnr_db: Mapping[int, float]
    expected_db: Mapping[int, float] = field(default_factory=dict)  # at the final steps, from what each rung tells
    busy: bool = False  # in flight
    ended: bool = False  # failed


def default_ladder(budget: Budget, backend: str) -> tuple[int, ...]:
    """Return the training steps of the rungs for a new study, from its first budget and backend alone.

    Each rung has a third of the next one's steps, the last three or, where the first would say too little, two of them:
    see FEWEST_STEPS. More steps would let few candidates be seen; five minutes see about twenty with these.
    """
    factor = 1 if backend == "cpu" else GPU_FACTOR
    top = _top(budget)
    rungs = (top // ETA**2, top // ETA, top)
    return tuple(factor * steps for steps in rungs if steps >= FEWEST_STEPS)


def _top(budget: Budget) -> int:
    if budget.candidates is not None:
        return next((steps for limit, steps in COUNT_TOPS if budget.candidates <= limit), COUNTED_TOP)
    return next(steps for limit, steps in LADDER_TOPS if (budget.seconds or 0) <= limit)


def default_final_steps(budget: Budget, rungs: Sequence[int]) -> int:
    """Return the steps of the finals; 0, which is none, under a budget that counts candidates: it limits no time."""
    return 0 if budget.seconds is None else FINAL_FACTOR * rungs[-1]


def check_ladder(steps: Sequence[int]) -> tuple[int, ...]:
    """Return the rungs' steps; raise UsageError unless they are positive and rise."""
    if not steps or steps[0] < 1 or any(b <= a for a, b in pairwise(steps)):
        raise UsageError(f"Rungs are rising numbers of steps such as 50,150,450; got {','.join(map(str, steps))}.")
    return tuple(steps)


def promotions(
    standings: Sequence[Standing], *, rungs: int, objective: str, draining: bool = False, capped: bool = False
) -> Iterator[tuple[int, int]]:
    """Yield (trial, rung to climb to) of every candidate that may climb now, highest rung first.

    With `draining`, when no new candidate will come, the best of each rung climbs even where fewer than η
    candidates reached it. With `capped`, no more than 1/η of a rung climb in all: where proposals get better, nearly
    every new one is among the best so far, and most would climb.
    """
    for rung in range(rungs - 2, -1, -1):
        reached = [s for s in standings if rung in s.psnr_db]
        places = max(len(reached) // ETA, 1 if draining else 0)
        able = [s for s in reached if not s.ended]  # one that failed higher up leaves its place to the next
        left = places - sum(rung + 1 in s.psnr_db for s in reached) if capped else places
        for standing in sorted(able, key=_rank_key(reached, rung, objective))[:places]:
            if left > 0 and rung + 1 not in standing.psnr_db and not standing.busy:
                yield standing.trial, rung + 1


def promotions_by_score(
    ranked: Sequence[Sequence[tuple[float, int]]],
    *,
    has_ended: Callable[[int], bool],
    is_above: Callable[[int, int], bool],
    is_busy: Callable[[int], bool],
    draining: bool = False,
) -> Iterator[tuple[int, int]]:
    """As `promotions` for the objective "score", of trials that are kept in order, which spares sorting all of them.

    `ranked` holds, for each rung, the negative score and the trial of everything that reached it, sorted.
    """
    for rung in range(len(ranked) - 2, -1, -1):
        places = max(len(ranked[rung]) // ETA, 1 if draining else 0)
        able = (trial for _, trial in ranked[rung] if not has_ended(trial))
        for trial in islice(able, places):
            if not is_above(trial, rung) and not is_busy(trial):
                yield trial, rung + 1


def _rank_key(reached: list[Standing], rung: int, objective: str) -> Callable[[Standing], tuple[float, ...]]:
    def psnr_db(s: Standing) -> float:
        return s.expected_db.get(rung, s.psnr_db[rung])

    def score(s: Standing) -> float:
        return -final_score(psnr_db(s), s.runtime_ms)

    if objective == "score":
        return lambda s: (score(s), s.trial)
    rank = pareto.ranks([(psnr_db(s), s.runtime_ms) for s in reached])
    by_trial = {s.trial: r for s, r in zip(reached, rank, strict=True)}
    return lambda s: (by_trial[s.trial], score(s), s.trial)
