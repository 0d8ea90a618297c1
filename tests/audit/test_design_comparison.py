"""Designs under one budget: what a comparison says of its runs, how it is made, and what it refuses."""

import importlib.util
import json
import re
import statistics
import subprocess
import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from scipy import stats
from written_comparison import write_comparison

from nas.audit import design_comparison
from nas.audit.design_comparison import (
    QUALITIES,
    Comparison,
    Run,
    correlation_text,
    rank_correlation,
    read_comparisons,
    summaries,
)
from nas.data.pairs import DataConfig, identity, load_split
from nas.train import long_run
from nas.train.checkpoint import Checkpoint, load
from nas.train.default_recipe import default_recipe
from nas.train.evaluation import judge
from nas.train.run_folder import TrainingRun
from search_spaces.designs import DESIGNS
from search_spaces.errors import StudyError, TrainingError
from search_spaces.networks import build_graph

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "design_comparison.py"
RESULTS = ROOT / "results"
SMALLNET = DESIGNS["smallnet"]
STEPS = 2
MACHINE_PATH = re.compile(r"(?<![\w.])/(home|root|work|tmp|Users)/")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The script as a module; benchmarks are no package."""
    spec = importlib.util.spec_from_file_location("design_comparison", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["design_comparison"] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


def run(name: str, psnr_db: float | None, *, seed: int = 0) -> Run:
    if psnr_db is None:
        return Run(name, "0", seed, failure="The loss diverged.")
    return Run(name, "0", seed, None, psnr_db, psnr_db / 30, psnr_db - 1, psnr_db / 31, 1.5)


def published(monkeypatch: pytest.MonkeyPatch, psnr: dict[str, float], variants: dict[str, str] | None = None) -> None:
    """Let these be the designs, with these rows of Table 1."""
    of = {name: (variants or {}).get(name) for name in psnr}
    made = {
        n: SimpleNamespace(name=n, table1=SimpleNamespace(psnr_db=value), variant_of=of[n]) for n, value in psnr.items()
    }
    monkeypatch.setattr(design_comparison, "DESIGNS", made)


# What follows from the runs


def test_a_design_is_summed_up_by_mean_and_spread_over_its_seeds() -> None:
    by_design = summaries([run("a", 20.0), run("b", 25.0), run("a", 21.0, seed=1), run("a", 25.0, seed=2)])
    assert by_design["a"]["val_psnr_db"] == {"mean": 22.0, "min": 20.0, "max": 25.0}
    assert by_design["a"]["test_psnr_db"] == {"mean": 21.0, "min": 19.0, "max": 24.0}
    assert by_design["b"]["val_psnr_db"] == {"mean": 25.0, "min": 25.0, "max": 25.0}


def test_a_failed_seed_is_never_a_number() -> None:
    assert summaries([run("a", 20.0), run("a", None, seed=1)])["a"] == dict.fromkeys(QUALITIES)


def test_without_test_pairs_there_is_no_test_figure() -> None:
    summary = summaries([replace(run("a", 20.0), test_psnr_db=None, test_ssim=None)])["a"]
    assert summary["test_psnr_db"] is summary["test_ssim"] is None
    assert summary["val_psnr_db"]


@pytest.mark.parametrize(("ours", "wanted"), [((1, 2, 3, 4), 1.0), ((4, 3, 2, 1), -1.0)])
def test_the_same_order_correlates_fully_and_the_reverse_order_inversely(
    ours: tuple[float, ...], wanted: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(monkeypatch, {"a": 22.0, "b": 22.5, "c": 23.0, "d": 23.5})
    correlation = rank_correlation([run(n, float(v)) for n, v in zip("abcd", ours, strict=True)], "val_psnr_db")
    assert correlation
    assert (correlation["spearman"], correlation["kendall"]) == (pytest.approx(wanted), pytest.approx(wanted))
    assert correlation["kendall_p"] == pytest.approx(2 / 24)  # two of the 24 orders of four are as extreme


def test_one_swap_of_neighbours_counts_as_the_textbook_says(monkeypatch: pytest.MonkeyPatch) -> None:
    published(monkeypatch, {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0})
    correlation = rank_correlation(
        [run(n, v) for n, v in zip("abcd", (1.0, 3.0, 2.0, 4.0), strict=True)], "val_psnr_db"
    )
    assert correlation
    assert correlation["spearman"] == pytest.approx(1 - 6 * 2 / (4 * 15))  # 1 − 6 Σd² / (n (n² − 1))
    assert correlation["kendall"] == pytest.approx((5 - 1) / 6)  # five pairs in order, one not


def test_another_reading_of_a_design_and_a_failed_one_are_not_ranked(monkeypatch: pytest.MonkeyPatch) -> None:
    published(monkeypatch, {"a": 1.0, "b": 2.0, "c": 3.0, "c-wide": 3.0, "d": 4.0}, {"c-wide": "c"})
    runs = [run("a", 1.0), run("b", 2.0), run("c", 3.0), run("c-wide", 0.5), run("d", None), run("gone", 9.0)]
    correlation = rank_correlation(runs, "val_psnr_db")
    assert correlation
    assert (correlation["designs"], correlation["spearman"]) == (3, pytest.approx(1.0))


@pytest.mark.parametrize("psnr", [(20.0, 21.0, None), (20.0, 20.0, 20.0)])
def test_where_there_is_no_order_there_is_no_correlation(
    psnr: tuple[float | None, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    published(monkeypatch, {"a": 1.0, "b": 2.0, "c": 3.0})
    correlation = rank_correlation([run(n, v) for n, v in zip("abc", psnr, strict=True)], "val_psnr_db")
    assert correlation is None
    assert correlation_text(correlation) == "too few designs to rank"


# The script


def options(pairs: Path, folder: Path, **changes: object) -> list[str]:
    given = {
        "data": pairs,
        "label": "tiny",
        "steps": STEPS,
        "seeds": "0",
        "out": folder / "tiny.json",
        "only": "smallnet",
        "work": folder / "work",
    } | changes
    return [*(f"--{name}={value}" for name, value in given.items() if value is not None), "--allow-dirty"]


def no_training(*_: object, **__: object) -> None:
    raise AssertionError("trained again")


@pytest.fixture(scope="module")
def made(script: ModuleType, tiny_pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one finished comparison of one design over two seeds."""
    folder = tmp_path_factory.mktemp("compared")
    assert script.main(options(tiny_pairs, folder, seeds="0,1")) == 0
    return folder


def test_the_file_says_what_was_trained_on_what_and_how(made: Path, tiny_pairs: Path) -> None:
    document = json.loads((made / "tiny.json").read_text("utf-8"))
    assert (document["label"], document["steps"], document["seeds"]) == ("tiny", STEPS, [0, 1])
    assert document["recipe"] == default_recipe("cpu", DataConfig(str(tiny_pairs))).scaled(STEPS).to_dict()
    assert document["data"] == {
        "pairs": {"train": 8, "val": 4, "test": 2},
        "identity": identity(DataConfig(str(tiny_pairs))),
    }
    assert {"commit", "created", "machine", "python", "versions", "backend"} <= document["provenance"].keys()
    assert document["provenance"]["command"] == (
        "python benchmarks/design_comparison.py --data FOLDER --label tiny --steps 2 --seeds 0,1 "
        "--out results/designs/tiny.json --only smallnet"
    )


def test_the_file_says_nowhere_where_the_pairs_lie(made: Path, tiny_pairs: Path) -> None:
    text = (made / "tiny.json").read_text("utf-8")
    assert str(tiny_pairs) not in text
    assert not MACHINE_PATH.search(text)


def test_the_figures_are_those_of_the_trained_network(made: Path, tiny_pairs: Path) -> None:
    first, second = json.loads((made / "tiny.json").read_text("utf-8"))["runs"]
    assert (first["design"], first["hash"], first["seed"], second["seed"]) == ("smallnet", SMALLNET.spec.hash, 0, 1)
    data, graph = DataConfig(str(tiny_pairs)), build_graph(SMALLNET.spec)
    for record in (first, second):
        state = load(made / "work" / f"smallnet-{record['seed']}" / "checkpoint.safetensors")
        assert state.step == STEPS
        for split in ("val", "test"):
            quality = judge(graph, state.weights, load_split(data, split))
            assert record[f"{split}_psnr_db"] == pytest.approx(quality.psnr_db, abs=1e-6)
            assert record[f"{split}_ssim"] == pytest.approx(quality.ssim, abs=1e-6)
        assert record["train_s"] > 0
    assert first["val_psnr_db"] != second["val_psnr_db"]


def test_the_network_is_the_one_that_isp_nas_train_makes(made: Path, tiny_pairs: Path, tmp_path: Path) -> None:
    trained = long_run.run(
        TrainingRun(
            tmp_path,
            SMALLNET.spec,
            DataConfig(str(tiny_pairs)),
            default_recipe("cpu", DataConfig(str(tiny_pairs))).scaled(STEPS),
            seed=0,
        )
    )
    record = json.loads((made / "tiny.json").read_text("utf-8"))["runs"][0]
    assert record["val_psnr_db"] == pytest.approx(trained.quality.psnr_db, abs=1e-4)


def test_what_was_trained_is_read_and_not_trained_again(
    script: ModuleType, made: Path, tiny_pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(long_run, "run", no_training)
    again = tmp_path / "tiny.json"
    assert script.main(options(tiny_pairs, made, seeds="0,1", out=again)) == 0
    first, second = (json.loads(path.read_text("utf-8")) for path in (made / "tiny.json", again))
    assert first["runs"] == second["runs"]


def test_a_stopped_comparison_continues_to_the_same_figures_and_does_not_make_up_a_duration(
    script: ModuleType, made: Path, tiny_pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = long_run._save

    def stop(state: Checkpoint, path: Path) -> None:
        save(state, path)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(long_run, "_save", stop)
        with pytest.raises(KeyboardInterrupt):
            script.main(options(tiny_pairs, tmp_path))
    assert not (tmp_path / "tiny.json").exists()
    assert script.main(options(tiny_pairs, tmp_path)) == 0
    (continued,) = read_comparisons_at(tmp_path / "tiny.json").runs
    assert continued.train_s is None
    first = read_comparisons_at(made / "tiny.json").runs[0]
    assert [getattr(continued, q) for q in QUALITIES] == pytest.approx([getattr(first, q) for q in QUALITIES], abs=1e-6)


def test_a_work_folder_of_another_budget_is_refused(
    script: ModuleType, made: Path, tiny_pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script.main(options(tiny_pairs, made, steps=STEPS + 1, out=tmp_path / "tiny.json")) == 2
    assert "holds runs with other recipe; name another folder with --work" in capsys.readouterr().err


def test_a_failed_design_is_recorded_with_its_reason_and_no_number(
    script: ModuleType, tiny_pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise TrainingError("The loss was not a number by step 2; a smaller learning rate may help.")

    monkeypatch.setattr(long_run, "run", fail)
    assert script.main(options(tiny_pairs, tmp_path)) == 0
    (failed,) = read_comparisons_at(tmp_path / "tiny.json").runs
    assert failed.failure == "The loss was not a number by step 2; a smaller learning rate may help."
    assert [getattr(failed, quality) for quality in QUALITIES] == [None] * 4
    document = json.loads((tmp_path / "tiny.json").read_text("utf-8"))
    assert document["designs"] == {"smallnet": dict.fromkeys(QUALITIES)}


def test_an_output_that_is_no_number_is_a_failure(script: ModuleType) -> None:
    with pytest.raises(TrainingError, match="val_ssim is not a number"):
        script.require_numbers({"val_psnr_db": 20.0, "val_ssim": float("nan")})


def test_every_design_is_trained_where_none_is_named(
    script: ModuleType, tiny_pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "train_and_judge", lambda r, design, _: Run(design.name, design.spec.hash, r.seed, "x"))
    assert script.main(options(tiny_pairs, tmp_path, only=None, seeds="3,1")) == 0
    document = json.loads((tmp_path / "tiny.json").read_text("utf-8"))
    assert [(r["design"], r["seed"]) for r in document["runs"]] == [(name, seed) for seed in (3, 1) for name in DESIGNS]
    assert "--only" not in document["provenance"]["command"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"only": "smalnet"}, 'Did you mean "smallnet"?'),
        ({"label": "/data/pairs"}, "A label is made of letters"),
        ({"seeds": "-1"}, "A seed is zero or more, got -1"),
        ({"steps": 0}, "Training takes 1 to 100000000 steps, got 0"),
        ({"out": SCRIPT}, "exists and is not overwritten"),
        ({"data": "nowhere"}, "nowhere"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_written(
    script: ModuleType,
    changes: dict[str, object],
    sentence: str,
    tiny_pairs: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert script.main(options(tiny_pairs, tmp_path, **changes)) == 2
    assert sentence in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("commit", "refused"), [("0123abcd-dirty", True), (None, True), ("0123abcd", False)])
def test_changes_that_are_not_committed_are_refused_unless_allowed(
    script: ModuleType, commit: str | None, refused: bool
) -> None:
    script.require_clean(commit, allowed=True)
    if refused:
        with pytest.raises(script.UsageError, match="add --allow-dirty"):
            script.require_clean(commit, allowed=False)
    else:
        script.require_clean(commit, allowed=False)


def test_the_default_work_folder_lies_outside_the_repository_and_is_one_commits(script: ModuleType) -> None:
    arguments = Namespace(label="demo", steps=2000)
    folders = {script.default_work(arguments, commit) for commit in ("a", "b")}
    assert len(folders) == 2
    assert not any(folder.is_relative_to(ROOT) for folder in folders)


def test_the_script_tells_its_options() -> None:
    done = subprocess.run([sys.executable, SCRIPT, "--help"], capture_output=True, text=True, check=True, timeout=60)
    assert all(option in done.stdout for option in ("--data", "--label", "--seeds", "--only", "--work", "--out"))


# Files


def read_comparisons_at(path: Path) -> Comparison:
    return Comparison.from_dict(json.loads(path.read_text("utf-8")))


def test_a_comparison_is_read_as_it_was_written(made: Path, tmp_path: Path) -> None:
    read = read_comparisons_at(made / "tiny.json")
    assert read.to_dict() == json.loads((made / "tiny.json").read_text("utf-8"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"val_psnr_db": 20.125', '"val_psnr_db": 29.125'),  # of the first run: its mean is another one then
        ('"val_psnr_db": 20.125', '"val_psnr_db": "20"'),
        ('"val_psnr_db": 20.125', '"val_psnr_db": 20.125, "more": 1'),
        ('"horizon": 2000', '"horizon": 200'),
        ('"horizon": 2000', '"horizon": null'),
        ('"steps": 2000', '"steps": [2000]'),
    ],
)
def test_a_comparison_that_is_not_as_it_was_written_is_refused(tmp_path: Path, old: str, new: str) -> None:
    write_comparison(tmp_path)
    path = tmp_path / "designs" / "demo.json"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(StudyError, match=r"demo\.json is no comparison of designs"):
        read_comparisons(tmp_path)


def test_no_folder_holds_no_comparison_and_a_folder_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    assert read_comparisons(tmp_path) == {}
    (tmp_path / "designs" / "demo.json").mkdir(parents=True)
    with pytest.raises(StudyError, match=r"demo\.json cannot be read"):
        read_comparisons(tmp_path)


COMMITTED = sorted(path.name for path in (RESULTS / "designs").glob("*.json"))


@pytest.mark.parametrize("name", COMMITTED)
def test_a_committed_comparison_can_be_repeated_and_names_no_machine(name: str) -> None:
    text = (RESULTS / "designs" / name).read_text("utf-8")
    document = json.loads(text)
    assert {"command", "commit", "created", "machine", "python", "versions"} <= document["provenance"].keys()
    assert not document["provenance"]["commit"].endswith("-dirty")
    assert not MACHINE_PATH.search(text)


@pytest.mark.parametrize("quality", design_comparison.RANKED)
@pytest.mark.parametrize("name", COMMITTED)
def test_what_is_derived_in_a_committed_comparison_follows_from_its_runs(name: str, quality: str) -> None:
    document = json.loads((RESULTS / "designs" / name).read_text("utf-8"))
    for design, of_design in document["designs"].items():
        psnr = [r[quality] for r in document["runs"] if r["design"] == design]
        assert (of_design[quality] is None) == (None in psnr)
        if None not in psnr:
            assert of_design[quality]["mean"] == pytest.approx(statistics.fmean(psnr))
    ranked = [n for n, summary in document["designs"].items() if summary[quality] and not variant(n)]
    ours = [document["designs"][n][quality]["mean"] for n in ranked]
    theirs = [DESIGNS[n].table1.psnr_db for n in ranked]
    wanted = {"spearman": stats.spearmanr(ours, theirs).statistic, "kendall": stats.kendalltau(ours, theirs).statistic}
    correlation = document["rank_correlation"][quality]
    assert {name: correlation[name] for name in wanted} == pytest.approx(wanted)
    assert correlation["designs"] == len(ranked)


def variant(name: str) -> Any:
    return DESIGNS[name].variant_of


@pytest.mark.parametrize("name", COMMITTED)
def test_a_committed_comparison_is_of_the_designs_as_they_are(name: str) -> None:
    read = read_comparisons_at(RESULTS / "designs" / name)
    assert {(r.design, r.hash) for r in read.runs} == {(d.name, d.spec.hash) for d in DESIGNS.values()}
    assert len(read.runs) == len(DESIGNS) * len(read.seeds)
