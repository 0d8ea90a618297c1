"""Tests of which published designs a search trains."""

import numpy as np
import pytest

from latency_models.device import load_device
from nas.search.known_designs import KnownDesigns, designs_of
from nas.search.prior import known_tables, prior, spread_db
from nas.search.proposals import Cost
from nas.search.score import final_score
from nas.search.surrogate import features
from search_spaces.designs import DESIGNS
from search_spaces.networks import build_graph
from search_spaces.space import load_space
from search_spaces.spec import ArchSpec

SPACE, DEVICE = load_space("mai21"), load_device("dimensity-1000-plus")


def price(spec: ArchSpec) -> Cost | None:
    return Cost(DEVICE.predict(build_graph(spec), allow_fallback=True).runtime_ms, 0.0)


def names(designs: KnownDesigns) -> list[str]:
    return [design.name for design in designs.all]


def test_without_a_prior_every_design_may_be_the_best_in_the_order_of_the_report() -> None:
    designs = designs_of(SPACE, (), price, steps=900)
    scores = [design.table1.score for design in designs.likely]
    assert scores == sorted(scores, reverse=True)
    assert sorted(names(designs)) == sorted(name for name, d in DESIGNS.items() if d.variant_of is None)
    assert not designs.unlikely


@pytest.mark.parametrize("table", known_tables())
def test_with_a_prior_those_far_below_the_best_come_last(table: str) -> None:
    designs = designs_of(SPACE, [table], price, steps=900)
    learned = prior([table])
    assert learned is not None
    cost = {name: price(DESIGNS[name].spec) for name in names(designs)}
    unit_db = spread_db([table])
    score = {
        name: final_score(unit_db * learned(features(DESIGNS[name].spec)[None], np.array([900]))[0], of.runtime_ms)
        for name, of in cost.items()
        if of is not None
    }
    best = max(score.values())
    assert all(best - score[d.name] <= 1 for d in designs.likely)
    assert all(best - score[d.name] > 1 for d in designs.unlikely)
    assert names(designs) == sorted(score, key=lambda name: -score[name])
    assert designs.likely[0].name == "smallnet"  # on both sets the best of the ten by far


def test_what_the_limits_refuse_is_asked_for_all_the_same() -> None:
    refused = designs_of(
        SPACE, known_tables(), lambda spec: None if "eds" in spec_name(spec) else price(spec), steps=900
    )
    assert [design.name for design in refused.refused] == ["eds"]
    over = designs_of(SPACE, known_tables(), lambda _: Cost(400.0, 1.0), steps=900)
    assert not over.likely
    assert not over.unlikely


def spec_name(spec: ArchSpec) -> str:
    return next(name for name, design in DESIGNS.items() if design.spec == spec)
