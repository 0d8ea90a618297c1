"""The figures of an audit: what follows from given records, and from the committed ones."""

import json
from pathlib import Path
from typing import Any

import pytest
from audits import assert_close

from nas.audit import trainings as audit
from nas.audit.report import Audited, derived, from_dict, ladder_rows, notes, rung_rows
from nas.audit.trainings import AuditRecord

ROOT = Path(__file__).parents[2]


def record(hash_: str, steps: int, total_steps: int, psnr_db: float, *, seed: int = 0, **named: Any) -> AuditRecord:
    return AuditRecord(hash_, seed, total_steps, steps, 0, psnr_db=psnr_db, **named)


def of(records: list[AuditRecord], *, runtimes: dict[str, float | None] | None = None, seeds: int = 1) -> Audited:
    names = {r.hash: r.hash.upper() for r in records}
    return Audited(names, runtimes or dict.fromkeys(names, 50.0), tuple(range(seeds)), ((1, 3),), 9, tuple(records))


def three_stops(hash_: str, *psnr_db: float, seed: int = 0) -> list[AuditRecord]:
    places = ((1, 3), (3, 3), (9, 9))
    return [record(hash_, *place, value, seed=seed) for place, value in zip(places, psnr_db, strict=True)]


def test_a_network_without_a_runtime_has_a_psnr_and_no_score() -> None:
    records = [r for h, psnr in zip("abcd", (20, 21, 22, 30), strict=True) for r in three_stops(h, psnr, psnr, psnr)]
    tiny_audit = of(records, runtimes={"a": 50.0, "b": 50.0, "c": 50.0, "d": None})
    row = rung_rows(tiny_audit)[0]
    assert (row["psnr_spearman"], row["score_spearman"]) == (pytest.approx(1.0), pytest.approx(1.0))
    assert derived(tiny_audit)["truth"]["networks_scored"] == 3
    assert any("without a score: D" in note for note in notes(tiny_audit))


def test_a_fast_network_of_less_quality_may_lead_by_score() -> None:
    records = [r for h, psnr in zip("abcd", (20, 21, 22, 23), strict=True) for r in three_stops(h, psnr, psnr, psnr)]
    tiny_audit = of(records, runtimes={"a": 30.0, "b": 180.0, "c": 180.0, "d": 180.0})
    assert tiny_audit.score(9, 9)[:, 0].argmax() == 0
    assert tiny_audit.psnr_db(9, 9)[:, 0].argmax() == 3


def test_a_network_of_which_one_training_failed_takes_no_part_anywhere() -> None:
    records = [r for h in "abcd" for r in three_stops(h, 20, 21, 22)]
    records[-1] = AuditRecord("d", 0, 9, 9, 3, failure="The loss diverged.")
    tiny_audit = of(records)
    assert tiny_audit.hashes == ["a", "b", "c"]
    assert derived(tiny_audit)["left_out"] == [{"name": "D", "reason": "seed 0, 9 steps: The loss diverged."}]
    assert any("D takes no part" in note for note in notes(tiny_audit))


def test_a_ladder_tells_what_a_candidate_costs_and_what_its_choice_lost() -> None:
    # The first rung of 1 step keeps the best third of three alone, C, which is one dB short of the best in the end.
    records = [*three_stops("a", 20, 20, 20), *three_stops("b", 21, 21, 25), *three_stops("c", 22, 22, 24)]
    (row,) = ladder_rows(of(records))
    assert row["steps_per_network"] == pytest.approx(1 + 2 / 3)
    assert row["score_regret"] == pytest.approx(1.0)


def test_seconds_come_from_the_pace_of_what_was_timed() -> None:
    timed = [
        AuditRecord("a", 0, 9, 3, 0, psnr_db=20.0, train_s=6.0),
        AuditRecord("a", 0, 9, 6, 3, psnr_db=20.0, train_s=None),  # trained before a kill
        AuditRecord("a", 0, 9, 9, 6, psnr_db=20.0, train_s=12.0),
    ]
    short = [record("a", 1, 3, 20.0), record("a", 3, 3, 20.0)]
    tiny_audit = of([*timed, *short])
    assert tiny_audit.train_s(9, 9) == pytest.approx(9 * (6 + 12) / 6)
    assert tiny_audit.train_s(3, 3) is None


# Committed audits


@pytest.mark.parametrize(
    "path", sorted((ROOT / "results").glob("audit/*/audit.json")), ids=lambda path: path.parent.name
)
def test_what_is_derived_in_a_committed_audit_follows_from_its_records(path: Path) -> None:
    text = path.read_text("utf-8")
    document = json.loads(text)
    again = json.loads(json.dumps(derived(from_dict(document))))
    for name, value in again.items():
        assert_close(document[name], value)
    assert not document["provenance"]["commit"].endswith("-dirty")
    assert len(document["networks"]) >= audit.ENOUGH
