"""Asynchronous successive halving over a fixed ladder of training steps.

Every candidate trains to the first rung. Of those that reached a rung, the best 1/η may climb to the next,
from their checkpoint. This is the promotion rule of ASHA (Li et al. 2018, arXiv 1810.05934, algorithm 2),
with ranks by score or by non-domination, written as a pure function of what is known so far. Where a model predicts
what candidates will come to at the final steps, that is what ranks them, and not the rung itself.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice, pairwise
from typing import Literal, NamedTuple

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
# By name what is optimised and in which direction, as Optuna calls it: the score, or PSNR and runtime.
OBJECTIVES: dict[str, tuple[Literal["maximize", "minimize"], ...]] = {
    "score": ("maximize",),
    "pareto": ("maximize", "minimize"),
}


class AtRung(NamedTuple):
    """A candidate at a rung: PSNR there, or what is predicted from there for the final steps."""

    trial: int
    psnr_db: float
    runtime_ms: float


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


def best_first(reached: Iterable[AtRung], objective: str) -> list[int]:
    """Return the trials of one rung in the order in which they deserve to climb; of equals, the earlier one first."""
    by_score = sorted(reached, key=lambda r: (-final_score(r.psnr_db, r.runtime_ms), r.trial))
    if objective == "score":
        return [r.trial for r in by_score]
    ranks = pareto.ranks([(r.psnr_db, r.runtime_ms) for r in by_score])
    return [r.trial for _, r in sorted(zip(ranks, by_score, strict=True), key=lambda pair: pair[0])]


def promotions(
    best_first: Callable[[int], Iterable[int]],
    reached: Sequence[int],
    *,
    has_ended: Callable[[int], bool],
    is_above: Callable[[int, int], bool],
    is_busy: Callable[[int], bool],
    draining: bool = False,
    capped: bool = False,
) -> Iterator[tuple[int, int]]:
    """Yield (trial, rung to climb to) of every candidate that may climb now, highest rung first.

    `best_first` returns the trials of a rung in order, `reached` holds their number for each rung. A trial that
    `has_ended`, for it failed higher up, leaves its place to the next. With `draining`, when no new candidate will
    come, the best of each rung climbs even where fewer than η candidates reached it. With `capped`, no more than 1/η
    of a rung climb in all: where proposals get better, nearly every new one is among the best so far, and most would
    climb.
    """
    for rung in range(len(reached) - 2, -1, -1):
        places = max(reached[rung] // ETA, 1 if draining else 0)
        left = places - reached[rung + 1] if capped else places
        able = (trial for trial in best_first(rung) if not has_ended(trial))
        for trial in islice(able, places if left > 0 else 0):
            if not is_above(trial, rung) and not is_busy(trial):
                yield trial, rung + 1
