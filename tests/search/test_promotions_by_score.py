"""Promotions of trials that are kept in order are those of trials that are sorted anew."""

import random

import pytest

from nas.search.score import final_score
from nas.search.successive_halving import Standing, promotions, promotions_by_score


@pytest.mark.parametrize("draining", [False, True])
@pytest.mark.parametrize("seed", range(20))
def test_both_ways_promote_the_same_in_the_same_order(seed: int, draining: bool) -> None:
    rng = random.Random(seed)
    standings = []
    for trial in range(rng.randrange(1, 80)):
        psnr_db = {rung: round(rng.uniform(20, 22), 1) for rung in range(rng.choice([1, 1, 2, 3]))}  # ties happen
        busy, ended = rng.random() < 0.1, rng.random() < 0.1
        standings.append(Standing(trial, rng.choice([30.0, 60.0]), psnr_db, busy=busy, ended=ended))
    ranked = [
        sorted((-final_score(s.psnr_db[rung], s.runtime_ms), s.trial) for s in standings if rung in s.psnr_db)
        for rung in range(3)
    ]
    kept = promotions_by_score(
        ranked,
        has_ended=lambda trial: standings[trial].ended,
        is_above=lambda trial, rung: rung + 1 in standings[trial].psnr_db,
        is_busy=lambda trial: standings[trial].busy,
        draining=draining,
    )
    assert list(kept) == list(promotions(standings, rungs=3, objective="score", draining=draining))
