"""Tests of which published designs a search trains."""

import itertools

import pytest

from latency_models.device import load_device
from nas.search.known_designs import LIKELY_WITHIN, KnownDesigns, designs_of
from nas.search.prior import design_psnr_db, known_tables
from nas.search.proposals import Cost
from nas.search.score import final_score
from search_spaces.designs import DESIGNS
from search_spaces.networks import build_graph
from search_spaces.space import load_space
from search_spaces.spec import ArchSpec

SPACE, DEVICE = load_space("mai21"), load_device("dimensity-1000-plus")


def price(spec: ArchSpec) -> Cost | None:
    return Cost(DEVICE.predict(build_graph(spec), allow_fallback=True).runtime_ms, 0.0)


def runtime_ms(design: str) -> float:
    cost = price(DESIGNS[design].spec)
    assert cost is not None
    return cost.runtime_ms


def names(designs: KnownDesigns) -> list[str]:
    return [design.name for design in designs.all]


def test_without_a_prior_every_design_may_be_the_best_in_the_order_of_the_report() -> None:
    designs = designs_of(SPACE, (), price, steps=900)
    scores = [design.table1.score for design in designs.likely]
    assert scores == sorted(scores, reverse=True)
    assert sorted(names(designs)) == sorted(name for name, d in DESIGNS.items() if d.variant_of is None)
    assert not designs.unlikely


@pytest.mark.parametrize("table", known_tables())
@pytest.mark.parametrize("steps", [900, 8100, 24_300])
def test_with_a_prior_those_far_below_the_best_come_last(table: str, steps: int) -> None:
    designs = designs_of(SPACE, [table], price, steps=steps)
    psnr_db = design_psnr_db(table, steps)
    score = {name: final_score(psnr_db[name], runtime_ms(name)) for name in names(designs)}
    best = max(score.values())
    assert all(best - score[d.name] <= LIKELY_WITHIN for d in designs.likely)
    assert all(best - score[d.name] > LIKELY_WITHIN for d in designs.unlikely)
    assert names(designs) == sorted(score, key=lambda name: -score[name])
    if steps == 900:
        assert designs.likely[0].name == "smallnet"  # on both sets the best of the ten after so few


@pytest.mark.parametrize("steps", [8100, 24_300])
def test_the_best_design_of_either_set_is_likely_by_the_other(steps: int) -> None:
    tables = known_tables()
    for table, other in itertools.permutations(tables):
        psnr_db = design_psnr_db(table, steps)
        best = max(psnr_db, key=lambda name: final_score(psnr_db[name], runtime_ms(name)))
        assert best in {d.name for d in designs_of(SPACE, [other], price, steps=steps).likely}


def test_a_design_that_was_not_trained_so_long_gains_what_the_others_do(monkeypatch: pytest.MonkeyPatch) -> None:
    stages = [
        {"steps": 900, "psnr_db": {"a": 30.0, "b": 31.0, "c": 32.0, "d": 20.0}},
        {"steps": 8100, "psnr_db": {"a": 31.0, "b": 33.0, "c": 35.0}},
        {"steps": 24_300, "psnr_db": {"a": 31.5}},
    ]
    monkeypatch.setattr("nas.search.prior._table", lambda _: {"designs": stages})
    assert design_psnr_db("some", 500)["d"] == 20.0
    assert design_psnr_db("some", 8000) == {"a": 31.0, "b": 33.0, "c": 35.0, "d": 22.0}
    assert design_psnr_db("some", 10**6) == {"a": 31.5, "b": 33.5, "c": 35.5, "d": 22.5}


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
