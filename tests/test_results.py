"""Committed runs: what is derived in them is recomputed here."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from latency_models.device import load_device
from nas.search import candidate_rows, study
from nas.search.score import final_score
from search_spaces.networks import build_graph
from search_spaces.spec import ArchSpec

REFERENCE = Path(__file__).parents[1] / "results" / "reference"
RUNS = sorted(path.name for path in REFERENCE.iterdir())


def as_committed(row: dict[str, Any]) -> dict[str, Any]:
    """A row with its genes read back: a run may be older than some genes, which then hold their defaults."""
    return {**row, "spec": ArchSpec.from_dict(row["spec"]), "on_front": True}


@pytest.mark.parametrize("name", RUNS)
def test_the_committed_front_follows_from_the_records(name: str) -> None:
    opened = study.load(REFERENCE / name)
    committed = json.loads((REFERENCE / name / "front.json").read_text("utf-8"))
    rung = opened.ladder.index(committed[0]["steps"])
    front_now = [row for row in candidate_rows.rows(opened, rung) if row["on_front"]]
    assert [as_committed(row) for row in committed] == [as_committed(row) for row in front_now]
    assert all(row["score"] == final_score(row["psnr_db"], row["runtime_ms"]) for row in committed)


@pytest.mark.parametrize("name", RUNS)
def test_recorded_runtimes_are_those_of_the_device_that_the_run_names(name: str) -> None:
    opened = study.load(REFERENCE / name)
    device = load_device(opened.config.device)
    if device.digest != opened.config.device_digest:
        pytest.skip("the device has been refitted since this run")
    for candidate in opened.trained():
        assert candidate.runtime_ms == pytest.approx(device.predict(build_graph(candidate.spec)).runtime_ms, rel=1e-12)


@pytest.mark.parametrize("name", RUNS)
def test_a_committed_run_says_how_it_was_made_and_names_no_machine(name: str) -> None:
    provenance = tomllib.loads((REFERENCE / name / "run.toml").read_text("utf-8"))["provenance"]
    assert {"command", "commit", "created", "machine", "python", "versions"} <= provenance.keys()
    assert "dirty" not in provenance["commit"]
    for path in (REFERENCE / name).iterdir():
        text = path.read_text("utf-8")
        assert not re.search(r"(?<![\w.])/(home|root|work|tmp|Users)/", text)


@pytest.mark.parametrize("name", RUNS)
def test_the_card_is_of_a_network_of_the_run(name: str) -> None:
    card = json.loads((REFERENCE / name / "card.json").read_text("utf-8"))
    best = study.load(REFERENCE / name).best()
    assert (card["hash"], card["parameters"]) == (best.spec.hash, build_graph(best.spec).parameters)
    assert card["val_psnr_db"] == pytest.approx(card["trained_val_psnr_db"], abs=1e-3)
    assert card["twin_difference"] <= 1e-4


@pytest.mark.parametrize("name", ["qat.json", "qat_demo.json"])
def test_integer_files_lose_as_little_as_is_said_and_fine_tuning_wins(name: str) -> None:
    document = json.loads((Path(__file__).parents[1] / "benchmarks" / name).read_text("utf-8"))
    assert {row["network"] for row in document["rows"]} == {"smallnet", "found"}
    for row in document["rows"]:
        psnr_db = {key: each["psnr_db"] for key, each in row.items() if isinstance(each, dict) and "psnr_db" in each}
        assert psnr_db["float"] - psnr_db["int16"] < 0.15
        assert psnr_db["ptq"] > psnr_db["plain_int8"] + 1.5
        assert psnr_db["qat"] > max(psnr_db["ptq"], psnr_db["longer_ptq"])
