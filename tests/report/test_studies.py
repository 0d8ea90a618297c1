"""Studies as a whole: how they stand, which there are, where they differ, and how one is thrown away."""

import json
import os
import shutil
import threading
import time
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flow import in_process, refusal
from made_up_study import made_up_study

from nas.cli import studies as studies_cli
from nas.report import trash
from nas.report.comparison import differences
from nas.report.status import Clock, status
from nas.search import study as studies
from nas.search.budget import Budget, read_budget
from search_spaces.system import folder_lock

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    made_up_study(folder / "a", 30)
    made_up_study(folder / "b", 24, seed=1, rungs=(10, 30, 90), max_memory_mb=100.0)
    (folder / "broken").mkdir()
    (folder / "broken" / "run.toml").write_text("[study]\n")
    return folder


def as_json(*arguments: object) -> Any:
    done = in_process(*arguments, "--format", "json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_status_says_how_a_study_stands(results: Path) -> None:
    output = as_json("status", "--study", "a", "--results", results)
    study = studies.load(results / "a")
    assert (output["running"], output["budget"], output["workers"]) == (False, "1 h 00 min", 2)
    assert output["best"]["trial"] == study.best().trial
    assert output["counts"]["trained"] == len(study.trained())
    said = in_process("status", "--study", "a", "--results", results).stdout
    assert "not running" in said
    assert f"Best: trial {study.best().trial}" in said


def test_a_running_study_counts_the_time_up_to_now(results: Path) -> None:
    study = studies.load(results / "a")
    began_s = 1767261600.0  # 2026-01-01T10:00:00+00:00, when its session began
    state = status(study, Clock(began_s + 1800, running=True))
    assert state["elapsed_s"] == 1800
    assert state["budget_share"] == 0.5
    assert status(study, Clock(began_s + 1800, running=False))["elapsed_s"] == study.elapsed_s


@pytest.mark.parametrize(
    "budget", [Budget(candidates=12), Budget(seconds=45), Budget(seconds=270), Budget(seconds=25500)]
)
def test_a_budget_is_read_back_from_what_records_say(budget: Budget) -> None:
    assert read_budget(str(budget)) == budget


def test_studies_are_listed_with_their_best_and_a_damaged_one_with_its_problem(results: Path) -> None:
    rows = {row["study"]: row for row in as_json("studies", "--results", results)}
    assert rows.keys() == {"a", "b", "broken"}
    for name in ("a", "b"):
        study = studies.load(results / name)
        assert rows[name]["trial"] == study.best().trial
        assert rows[name]["problem"] is None
    assert "is damaged" in rows["broken"]["problem"]
    assert len({tuple(row) for row in rows.values()}) == 1, "rows have different fields"
    lines = in_process("studies", "--results", results).stdout.splitlines()
    assert len(lines) == 4
    assert max(map(len, lines)) <= 80


def test_a_copied_study_is_as_old_as_its_last_record(results: Path) -> None:
    study = studies.load(results / "a")  # its file is new, its session began in January
    last = study.sessions[-1]
    ended_s = datetime.fromisoformat(last.began or "").timestamp() + study.elapsed_s - last.elapsed_s
    assert status(study, Clock(ended_s + 100, running=False))["silent_s"] == pytest.approx(100)


def test_no_study_is_said(tmp_path: Path) -> None:
    assert "There is no study in" in in_process("studies", "--results", tmp_path).stdout
    assert as_json("studies", "--results", tmp_path) == []


def test_watching_draws_whatever_is_new_until_the_search_ends(
    results: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = shutil.copytree(results / "a", tmp_path / "r" / "a")
    monkeypatch.setattr(studies_cli, "EVERY_S", 0.01)
    held, release, grown = threading.Event(), threading.Event(), threading.Event()

    def search() -> None:
        with folder_lock.lock(folder):
            held.set()
            grown.wait(10)
            study = studies.load(folder)
            study.append("moved", source="elsewhere")
            study.close()
            release.wait(10)

    running = threading.Thread(target=search)
    running.start()
    held.wait(10)
    seen: list[bool] = []

    def clock(of: Path) -> Clock:
        is_held = folder_lock.is_held(of)
        seen.append(is_held)
        if len(seen) == 2:
            grown.set()
        if len(seen) == 60:
            release.set()
        return Clock(time.time(), is_held)

    monkeypatch.setattr(studies_cli, "clock_of", clock)
    done = in_process("status", "--watch", "--study", "a", "--results", tmp_path / "r", "--format", "json")
    running.join()
    drawn = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(drawn) == 3, "one at the start, one for the new record, one at the end"
    assert [each["running"] for each in drawn] == [True, True, False]


def test_a_front_that_nobody_extends_is_shown_once(results: Path) -> None:
    done = in_process("pareto", "--watch", "--study", "a", "--results", results)
    assert done.stdout.count("on the front of") == 1
    assert "No search runs on it." in done.stdout
    assert "leave out --plot" in refusal(
        in_process("pareto", "--watch", "--plot", "x.png", "--study", "a", "--results", results)
    )
    assert 'Unknown format "csv"' in refusal(
        in_process("pareto", "--watch", "--study", "a", "--results", results, "--format", "csv")
    )


# The trash


def test_a_deleted_study_goes_to_the_trash_as_a_whole(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(results / "a", tmp_path / "r" / "a")
    moved: list[Path] = []
    monkeypatch.setattr("send2trash.send2trash", lambda path: moved.append(Path(path)))
    done = in_process("delete", "a", "--results", tmp_path / "r")
    assert moved == [folder]
    assert f"Moved {folder} to the trash" in done.stdout


def test_delete_says_where_the_study_lies_now(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = tmp_path / "share" / "Trash" / "files"
    files.mkdir(parents=True)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    monkeypatch.setattr("send2trash.send2trash", lambda path: Path(path).rename(files / "a 1"))
    shutil.copytree(results / "a", tmp_path / "r" / "a")
    output = as_json("delete", "a", "--results", tmp_path / "r")
    assert output["now"] == str(files / "a 1")
    assert studies.exists(files / "a 1")


def test_a_study_in_a_trash_that_cannot_be_looked_into_is_deleted_all_the_same(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    shutil.copytree(results / "a", tmp_path / "r" / "a")
    monkeypatch.setattr("send2trash.send2trash", lambda path: shutil.rmtree(path))
    monkeypatch.setattr(trash, "_trash_folders", lambda _: [SimpleNamespace(iterdir=lambda: unreadable(tmp_path))])
    output = as_json("delete", "a", "--results", tmp_path / "r")
    assert (output["in_trash"], output["now"]) == (True, None)


def test_a_study_with_a_search_on_it_is_not_deleted(results: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(results / "a", tmp_path / "r" / "a")
    with folder_lock.lock(folder):
        assert "A search is working on" in refusal(in_process("delete", "a", "--results", tmp_path / "r"))
    assert folder.exists()


def test_where_there_is_no_trash_the_study_stays(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_trash(path: object) -> None:
        raise PermissionError(13, os.strerror(13), str(path))

    folder = shutil.copytree(results / "a", tmp_path / "r" / "a")
    monkeypatch.setattr("send2trash.send2trash", no_trash)
    assert "is left where it is" in refusal(in_process("delete", "a", "--results", tmp_path / "r"))
    assert studies.exists(folder)


@pytest.mark.parametrize("name", ["nope", "..", "a/../a", ""])
def test_only_a_study_is_deleted(results: Path, name: str) -> None:
    assert "Unknown study" in refusal(in_process("delete", name, "--results", results))
    assert trash.studies.exists(results / "a")


# Comparisons


def test_studies_are_compared_by_settings_and_by_what_they_found(results: Path, tmp_path: Path) -> None:
    page = tmp_path / "compare.html"
    output = as_json("compare", "a", "b", "--results", results, "--out", page, "--photos", "0")
    rows = {(row["part"], row["name"]): row for row in output["differences"]}
    assert rows["search", "max_memory_mb"]["values"] == [None, 100.0]
    assert not rows["training", "learning_rate"]["differs"]
    best = [studies.load(results / name).best().trial for name in ("a", "b")]
    assert rows["best", "trial"]["values"] == best
    assert page.read_text("utf-8").startswith("<!doctype html>")


def test_networks_are_compared_gene_by_gene(results: Path, tmp_path: Path) -> None:
    output = as_json("compare", "a:0", "csanet", "--results", results, "--out", tmp_path / "c.html", "--photos", "0")
    rows = {(row["part"], row["name"]): row for row in output["differences"]}
    assert rows["genes", "scale"]["values"] == [2, 4]
    assert [each["target"] for each in output["layers"]] == ["a:0", "csanet"]
    assert output["kind"] == "networks"


def test_studies_are_compared_by_one_corner_with_their_time_and_genes(results: Path, tmp_path: Path) -> None:
    output = as_json("compare", "a", "b", "--results", results, "--out", tmp_path / "c.html", "--photos", "0")
    assert output["hypervolume_note"] == ""
    corners = {(s["anytime"]["reference_psnr_db"], s["anytime"]["reference_runtime_ms"]) for s in output["studies"]}
    assert len(corners) == 1
    for shown in output["studies"]:
        assert shown["spending"]["train_s"] > 0
        assert shown["genes"]["importances"] or shown["genes"]["note"]


def test_hypervolumes_of_other_pairs_or_devices_are_not_compared(results: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(results / "a", tmp_path / "r" / "a").parent
    made_up_study(folder / "c", 24, device="pixel-4-gpu")
    made_up_study(folder / "d", 24, data_fingerprint="of other pairs")
    for other, why in (("c", "different devices"), ("d", "different pairs")):
        output = as_json("compare", "a", other, "--results", folder, "--out", tmp_path / "c.html", "--photos", "0")
        assert why in output["hypervolume_note"]


def test_a_design_beside_networks_of_a_study_is_the_one_that_it_trained(results: Path, tmp_path: Path) -> None:
    for best in ("best", "a:best"):
        output = as_json(
            *("compare", best, "smallnet", "--study", "a", "--results", results),
            *("--out", tmp_path / "c.html", "--photos", "0"),
        )
        rows = {(row["part"], row["name"]): row["values"] for row in output["differences"]}
        assert None not in rows["quality", "psnr_db"]
        assert "trial" in output["sentences"][1]


def test_what_cannot_be_compared_is_said(results: Path, tmp_path: Path) -> None:
    out = ("--results", results, "--out", tmp_path / "c.html")
    assert "Name two studies" in refusal(in_process("compare", "a", *out))
    assert "Compare studies with studies" in refusal(in_process("compare", "a", "b:0", *out))
    assert "Unknown network" in refusal(in_process("compare", "a", "nope", *out))


def test_differences_keep_what_only_one_has() -> None:
    rows = differences([{"p": {"x": 1, "y": 2}}, {"p": {"x": 1}, "q": {"z": None}}])
    assert [(r["part"], r["name"], r["values"], r["differs"]) for r in rows] == [
        ("p", "x", [1, 1], False),
        ("p", "y", [2, None], True),
        ("q", "z", [None, None], False),
    ]
