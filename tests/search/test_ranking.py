"""Who deserves to climb first, of what a study knows."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from nas.search.ranking import Ranking
from nas.search.score import final_score
from nas.search.successive_halving import OBJECTIVES, AtRung, best_first


@dataclass
class Known:
    """What a ranking reads of a study: one rung with candidates of made-up figures."""

    objective: str
    reached: list[AtRung] = field(default_factory=list)
    looked_through: int = 0

    @property
    def config(self) -> Any:
        return SimpleNamespace(objective=self.objective)

    @property
    def counts(self) -> tuple[int, ...]:
        return (len(self.reached),)

    @property
    def ranked(self) -> list[list[tuple[float, int]]]:
        return [sorted((-final_score(r.psnr_db, r.runtime_ms), r.trial) for r in self.reached)]

    def at_rung(self, rung: int) -> list[Any]:
        self.looked_through += 1
        return [
            SimpleNamespace(trial=r.trial, runtime_ms=r.runtime_ms, rungs={rung: SimpleNamespace(psnr_db=r.psnr_db)})
            for r in self.reached
        ]


def some(count: int, seed: int = 0) -> list[AtRung]:
    rng = random.Random(seed)
    return [AtRung(n, round(rng.uniform(20, 22), 1), rng.choice([30.0, 60.0, 250.0])) for n in range(count)]


@pytest.mark.parametrize("seed", range(10))
def test_the_order_that_a_study_keeps_is_the_order_by_score(seed: int) -> None:
    study = Known("score", some(40, seed))  # with equal scores among them
    assert list(Ranking(study, lambda _: {})(0)) == best_first(study.reached, "score")


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_prediction_counts_instead_of_the_rung_where_there_is_one(objective: str) -> None:
    study = Known(objective, some(40))
    expected: Mapping[int, float] = {trial: 30.0 - trial / 100 for trial in range(20)}
    replaced = [r._replace(psnr_db=expected.get(r.trial, r.psnr_db)) for r in study.reached]
    assert list(Ranking(study, lambda _: expected)(0)) == best_first(replaced, objective)


def test_nothing_is_sorted_again_until_something_more_is_reached() -> None:
    study = Known("pareto", some(10))
    ranking = Ranking(study, lambda _: {})
    before = [*ranking(0)], [*ranking(0)]
    assert study.looked_through == 1
    study.reached.append(AtRung(10, 40.0, 20.0))
    assert next(iter(ranking(0))) == 10
    assert before[0] == before[1] != [*ranking(0)]
