"""The installed command as people and programs use it: one small search, and everything one may ask about it.

What answers at once, a training and an export start the command itself; the rest calls what the command calls. Searches
in processes of their own, to the end and killed: `tests/faults` and `tests/search`.
"""

import csv
import io
import json
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from flow import (
    TINY_TRAINING,
    assert_whole,
    in_process,
    isp_nas,
    make_study,
    refusal,
    search,
    search_in_process,
    truncate,
    write_space,
)

from latency_models.device import load_device
from nas.cli import main
from nas.defaults import DEFAULT_DEVICE
from nas.export.exporter import Card
from nas.report.layers import runtime_fields
from nas.tflite.interpreter import TfliteModel
from search_spaces.designs import DESIGNS
from search_spaces.networks import build_graph
from search_spaces.spec import GENES, ArchSpec

HEAVY = ("numpy", "jax", "tensorflow", "optuna")
FRONT_FIELDS = (
    "trial,name,psnr_db,psnr_half_width_db,seeds,ssim,runtime_ms,runtime_low_ms,runtime_high_ms,score,parameters,macs,"
    "steps,hash,spec"
)
BUDGET = 3


# Answering at once


def subcommands() -> Iterator[tuple[str, ...]]:
    """Yield the words of every command, groups and the program itself included."""

    def walk(command: Any, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        yield words
        for name, inner in getattr(command, "commands", {}).items():
            yield from walk(inner, (*words, name))

    return walk(typer.main.get_command(main.app), ())


COMMANDS = list(subcommands())


def test_every_command_of_the_design_is_there() -> None:
    wanted = {
        ("search",),
        ("space",),
        ("pareto",),
        ("show",),
        ("designs",),
        ("best",),
        ("train",),
        ("export",),
        ("render",),
        ("audit",),
    }
    assert {*wanted, ("data", "check")} <= set(COMMANDS)


def cpu_s() -> float:
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


# What any command line in Typer takes: its import and one page of help. Measured beside ours, since the speed of a
# machine that others share changes from second to second; ours took 1.7 to 2.3 times as much.
PLAIN_TYPER = """
import typer
app = typer.Typer()
@app.command()
def hello(name: str = typer.Option("you", help="Whom to greet.")) -> None: ...
app(["--help"])
"""


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_has_a_help(words: tuple[str, ...]) -> None:
    done = in_process(*words, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{' '.join(('isp-nas', *words))} [OPTIONS]" in done.stdout


# All commands import the same; the page of `search` is the longest.
@pytest.mark.parametrize("words", [(), ("search",)], ids=["isp-nas", "search"])
def test_help_costs_little_more_cpu_than_that_of_any_command(words: tuple[str, ...]) -> None:
    ratios: list[float] = []
    while len(ratios) < 5 and min(ratios, default=3) >= 2.5:
        start = cpu_s()
        subprocess.run([sys.executable, "-c", PLAIN_TYPER], capture_output=True, check=True)
        between = cpu_s()
        done = isp_nas(*words, "--help")
        ratios.append((cpu_s() - between) / (between - start))
        assert (done.returncode, done.stderr) == (0, "")
        assert "Usage: isp-nas" in done.stdout
    assert min(ratios) < 2.5, ratios


HELP_SCRIPT = """
import sys
from nas.cli.main import app
for words in {commands}:
    app([*words, "--help"], standalone_mode=False)
print("loaded:", *sorted({heavy} & sys.modules.keys()), file=sys.stderr)
"""


def test_no_help_loads_anything_heavy() -> None:
    script = HELP_SCRIPT.format(commands=COMMANDS, heavy=set(HEAVY))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr.splitlines() == ["loaded:"]


def test_the_version_is_the_installed_one() -> None:
    done = isp_nas("--version")
    assert (done.returncode, done.stdout) == (0, f"isp-nas {version('isp-nas')}\n")


@pytest.mark.parametrize("words", [(), ("data",)], ids=["isp-nas", "isp-nas data"])
def test_without_a_command_the_help_is_shown_and_no_empty_complaint(words: tuple[str, ...]) -> None:
    assert isp_nas(*words).stderr.strip() != "isp-nas:"


# Spaces


def test_space_tells_genes_size_and_members_to_programs() -> None:
    output = json.loads(in_process("space", "--sample", 5, "--format", "json").stdout)
    assert set(output) == {"name", "size", "raw_size", "genes", "sample"}
    assert [gene["gene"] for gene in output["genes"]] == list(GENES)
    assert len(output["sample"]) == 5
    device = load_device(DEFAULT_DEVICE)
    for member in output["sample"]:
        spec = ArchSpec.from_dict(member["spec"])
        graph = build_graph(spec)
        predicted = None if device.unsupported(graph) else device.predict(graph)
        assert member == {
            "hash": spec.hash,
            "parameters": graph.parameters,
            "macs": graph.macs,
            **runtime_fields(predicted),
            "spec": spec.to_dict(),
        }


def test_a_seed_draws_the_same_members_again() -> None:
    drawn = [in_process("space", "--sample", 3, "--seed", seed, "--format", "json").stdout for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_space_as_a_table_shows_every_gene_and_the_size() -> None:
    done = in_process("space")
    assert done.returncode == 0
    assert all(gene in done.stdout for gene in GENES)
    assert "combinations of genes" in " ".join(done.stdout.split())  # wherever the line is broken


# One search


@dataclass(frozen=True)
class Searched:
    """A finished search, and what `best` said while no test pair could be read."""

    results: Path
    pairs: Path
    said: str
    best_without_test_pairs: subprocess.CompletedProcess[str]

    @property
    def folder(self) -> Path:
        return self.results / "s"


@pytest.fixture(scope="module")
def searched(tiny_pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Searched:
    """Search while every file under test/ is damaged, then mend them."""
    home = tmp_path_factory.mktemp("home")
    pairs, results = shutil.copytree(tiny_pairs, home / "pairs"), home / "results"
    space = write_space(home / "tiny.toml")
    for path in (pairs / "test").rglob("*.png"):
        truncate(path)
    options = ("--data", pairs, "--space", space, "--results", results, "--study", "s", *TINY_TRAINING)
    done = search_in_process("--workers", 1, "--budget", BUDGET, *options)
    assert (done.returncode, done.stderr) == (0, "")
    best = in_process("best", "--results", results)
    shutil.copytree(tiny_pairs / "test", pairs / "test", dirs_exist_ok=True)
    return Searched(results, pairs, done.stdout, best)


def test_a_search_never_opens_a_test_pair(searched: Searched) -> None:
    assert_whole(searched.folder, budget=BUDGET)


def test_a_search_says_what_it_does_and_how_to_go_on(searched: Searched) -> None:
    assert "Study s in" in searched.said
    assert "Trial 0 at 2 steps: " in searched.said
    assert f"{BUDGET} trained" in searched.said
    assert "isp-nas pareto --study s" in searched.said
    assert "isp-nas export best --study s" in searched.said


def test_best_fails_naming_the_test_pair_that_cannot_be_read(searched: Searched) -> None:
    sentence = refusal(searched.best_without_test_pairs)
    assert str(searched.pairs / "test") in sentence


def test_best_reports_the_test_pairs_and_remembers_them(searched: Searched) -> None:
    output = json.loads(in_process("best", "--results", searched.results, "--format", "json").stdout)
    assert ",".join(output) == f"{FRONT_FIELDS},test_psnr_db,test_ssim,verdict"
    assert output["steps"] == 4
    assert 0 < output["test_psnr_db"] < 60
    done = in_process("best", "--results", searched.results)
    assert f"On the test pairs, which the search did not read: {output['test_psnr_db']:.2f} dB" in done.stdout
    assert (searched.folder / "records.jsonl").read_text().count('"event": "test"') == 1


@pytest.fixture(scope="module")
def front(searched: Searched) -> list[dict[str, Any]]:
    done = in_process("pareto", "--results", searched.results, "--format", "json", "--steps", 2, "--all")
    return [row for row in json.loads(done.stdout) if row["on_front"]]


def test_pareto_as_json_has_exactly_the_promised_fields(searched: Searched) -> None:
    rows = json.loads(in_process("pareto", "--results", searched.results, "--format", "json").stdout)
    assert rows
    for row in rows:
        assert ",".join(row) == FRONT_FIELDS
        assert ArchSpec.from_dict(row["spec"]).hash == row["hash"]


def test_pareto_as_csv_says_the_same_as_json(searched: Searched, front: list[dict[str, Any]]) -> None:
    text = in_process("pareto", "--results", searched.results, "--format", "csv", "--steps", 2).stdout
    assert text.splitlines()[0] == FRONT_FIELDS
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(int(row["trial"]), float(row["psnr_db"])) for row in rows] == [(r["trial"], r["psnr_db"]) for r in front]
    assert [json.loads(row["spec"]) for row in rows] == [r["spec"] for r in front]


def test_pareto_as_a_table_has_one_line_per_candidate_and_says_where_runtimes_come_from(
    searched: Searched, front: list[dict[str, Any]]
) -> None:
    said = in_process("pareto", "--results", searched.results, "--steps", 2).stdout
    assert f"{len(front)} on the front of {BUDGET} candidates at 2 steps" in said
    assert all(f"{row['psnr_db']:.2f}" in said for row in front)
    assert f"Runtimes on {DEFAULT_DEVICE}: predicted" in said


def test_nobody_on_the_front_is_dominated(searched: Searched) -> None:
    done = in_process("pareto", "--results", searched.results, "--format", "json", "--steps", 2, "--all")
    rows = json.loads(done.stdout)
    assert len(rows) == BUDGET
    for row in rows:
        better = [r for r in rows if r["psnr_db"] > row["psnr_db"] and r["runtime_ms"] < row["runtime_ms"]]
        assert not (row["on_front"] and better)


PLOT_STARTS = [(".png", b"\x89PNG\r\n"), (".html", b"<!doctype html>"), (".svg", b"<?xml"), (".pdf", b"%PDF")]


@pytest.mark.parametrize(("suffix", "start"), PLOT_STARTS)
def test_a_plot_is_written_as_asked(searched: Searched, tmp_path: Path, suffix: str, start: bytes) -> None:
    picture = tmp_path / f"front{suffix}"
    done = in_process("pareto", "--results", searched.results, "--plot", picture)
    assert done.returncode == 0
    assert f"Saved {picture}" in done.stderr.replace("\n", "")
    content = picture.read_bytes()
    assert content.startswith(start)
    assert len(content) > 5000
    assert in_process("pareto", "--results", searched.results, "--plot", picture).returncode == 0


@pytest.mark.parametrize(("suffix", "start"), PLOT_STARTS)
def test_a_plot_replaces_no_file_of_somebody_else(
    searched: Searched, tmp_path: Path, suffix: str, start: bytes
) -> None:
    picture = tmp_path / f"front{suffix}"
    picture.write_bytes(start)
    done = in_process("pareto", "--results", searched.results, "--plot", picture)
    assert "is left as it is; name another file" in refusal(done)
    assert picture.read_bytes() == start


def test_show_tells_a_trial_whole(searched: Searched, front: list[dict[str, Any]]) -> None:
    row = front[0]
    output = json.loads(in_process("show", row["trial"], "--results", searched.results, "--format", "json").stdout)
    assert {name: output[name] for name in ("hash", "spec", "parameters", "macs", "runtime_ms")} == {
        name: row[name] for name in ("hash", "spec", "parameters", "macs", "runtime_ms")
    }
    assert sum(layer["parameters"] for layer in output["layers"]) == output["parameters"]
    assert output["fixed_ms"] + sum(layer["runtime_ms"] for layer in output["layers"]) == pytest.approx(
        output["runtime_ms"]
    )
    assert output["history"][0]["psnr_db"] == row["psnr_db"]
    assert output["trained_steps"] == output["history"][-1]["steps"]


def test_show_tells_how_much_memory_the_maps_take() -> None:
    output = json.loads(in_process("show", "smallnet", "--format", "json").stdout)
    assert output["peak_activation_bytes"] == 66_846_720
    assert "Maps take at most 66.8 MB at once in float32." in in_process("show", "smallnet").stdout


def test_a_network_left_out_for_its_memory_is_shown_with_the_reason(tmp_path: Path) -> None:
    study = make_study(tmp_path / "s", max_memory_mb=60.0)
    search(study, 2)
    (trial,) = (c.trial for c in study.candidates.values() if c.name == "smallnet")
    said = in_process("show", trial, "--study", "s", "--results", tmp_path).stdout
    assert "Not trained further: 66.8 MB of maps at once are over the limit of 60 MB" in said


def test_show_names_the_layers_for_people(searched: Searched) -> None:
    said = in_process("show", "best", "--results", searched.results).stdout
    assert "CONV_2D" in said
    assert "Longest training: 4 steps (trial" in said


def test_show_and_best_agree_on_the_best(searched: Searched) -> None:
    best = json.loads(in_process("best", "--results", searched.results, "--format", "json").stdout)
    shown = json.loads(in_process("show", "best", "--results", searched.results, "--format", "json").stdout)
    assert shown["hash"] == best["hash"]
    assert shown["history"][-1]["psnr_db"] == best["psnr_db"]


# Training to the end, and exports


@pytest.fixture(scope="module")
def trained(searched: Searched) -> Path:
    """Train smallnet for twenty steps, and for ten after that; return the folder of the longer run."""
    outputs = []
    for steps, command in ((20, isp_nas), (10, in_process)):
        options = ("--steps", steps, "--data", searched.pairs, "--results", searched.results, *TINY_TRAINING[2:])
        done = command("train", "smallnet", *options, "--format", "json")
        assert done.returncode == 0
        assert re.fullmatch(rf"step {steps}/{steps}: loss \S+, validation \S+ dB, SSIM \S+.*\n", done.stderr)
        outputs.append(json.loads(done.stdout))
    assert [run["steps"] for run in outputs] == [20, 10]
    return Path(outputs[0]["folder"])


def test_a_training_is_kept_beside_the_studies(searched: Searched, trained: Path) -> None:
    assert trained == searched.results / "trained" / f"smallnet-{DESIGNS['smallnet'].spec.hash}-20"
    assert {path.name for path in trained.iterdir()} == {
        "training.toml",
        "checkpoint.safetensors",
        "best.safetensors",
        "history.jsonl",
        "pictures",
        "tensorboard",
        ".lock",
    }


@pytest.fixture(scope="module")
def smallnet(searched: Searched, trained: Path) -> Path:
    """Export smallnet through the installed command."""
    out = searched.results.parent / "smallnet"
    done = isp_nas("export", "smallnet", "--results", searched.results, "--out", out, timeout_s=300)
    assert done.returncode == 0, done.stderr
    assert "20 steps" in done.stdout
    return out


def card(out: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((out / "card.json").read_text("utf-8"))
    return read


def test_an_export_takes_the_longest_trained_checkpoint_and_names_its_steps(smallnet: Path, trained: Path) -> None:
    assert card(smallnet)["steps"] == 20
    assert card(smallnet)["trained_by"] == f"training run {trained.name}"


def test_an_export_is_a_file_a_card_and_a_picture(smallnet: Path) -> None:
    assert {path.name for path in smallnet.iterdir()} == {"model.tflite", "card.json", "card.md", "patches.png"}


def test_an_export_in_several_precisions_writes_what_is_allowed_and_names_the_rest(
    searched: Searched, trained: Path
) -> None:
    out = searched.results.parent / "precisions"
    # As a person types them. Whether int8 loses anything after so short a training is chance; either way is looked at.
    options = ("--precision", "fp16", "int8", "--precision", "int16", "--size", "64x96", "--max-drop", "int8=0")
    form = ("--format", "json")
    done = in_process("export", trained, *options, *form, "--dynamic", "--io", "uint8", "--out", out)
    assert json.loads(done.stdout) | {"sha256": card(out)["sha256"]} == card(out)
    files = {file["precision"]: file for file in card(out)["precisions"]}
    assert list(files) == ["fp32", "fp16", "int8", "int16"]
    refused = {name for name, file in files.items() if file["refused"]}
    assert refused <= {"int8"}
    assert done.returncode == (2 if refused else 0)
    assert done.stderr.count("isp-nas: int8 loses") == len(refused)
    names = {f"model{'' if name == 'fp32' else f'_{name}'}" for name in files.keys() - refused}
    assert {path.stem for path in out.glob("*.tflite")} == names | {f"{name}_none" for name in names}
    assert files["int8"]["output"]["dtype"] == "uint8"


def test_the_card_tells_what_the_file_is_worth(smallnet: Path) -> None:
    document = card(smallnet)
    assert list(document) == [*(field.name for field in fields(Card)), "sha256"]
    spec = DESIGNS["smallnet"].spec
    graph = build_graph(spec)
    assert (document["spec"], document["hash"]) == (spec.to_dict(), spec.hash)
    assert (document["parameters"], document["macs"]) == (graph.parameters, graph.macs)
    assert document["size_bytes"] == (smallnet / "model.tflite").stat().st_size
    assert (document["input_shape"], document["output_shape"]) == ([1, 544, 960, 4], [1, 1088, 1920, 3])
    assert document["val_psnr_db"] == pytest.approx(document["trained_val_psnr_db"], abs=1e-3)
    assert 0 < document["test_psnr_db"] < 60
    assert max(document["twin_difference"], document["deploy_difference"]) < 1e-4
    assert document["runtime_ms"] == load_device(DEFAULT_DEVICE).predict(graph).runtime_ms
    assert document["provenance"]["command"].startswith("isp-nas export smallnet ")


def test_the_exported_file_maps_a_packed_full_hd_mosaic_to_rgb(smallnet: Path) -> None:
    model = TfliteModel((smallnet / "model.tflite").read_bytes())
    assert (model.input_shape, model.output_shape) == ((1, 544, 960, 4), (1, 1088, 1920, 3))
    output = model(np.full(model.input_shape, 0.5, np.float32))
    assert output.shape == (1, 1088, 1920, 3)
    assert np.isfinite(output).all()


def test_whatever_names_a_network_can_be_exported(
    searched: Searched, trained: Path, front: list[dict[str, Any]], tmp_path: Path
) -> None:
    row = front[0]
    (tmp_path / "genes.json").write_text(json.dumps(row))
    targets = {"best": "best", "trial": str(row["trial"]), "spec": str(tmp_path / "genes.json"), "run": str(trained)}
    for name, target in targets.items():
        options = ("--size", "64x96", "--results", searched.results, "--out", tmp_path / name)
        done = in_process("export", target, *options)
        assert done.returncode == 0, done.stderr
    best = json.loads(in_process("best", "--results", searched.results, "--format", "json").stdout)
    wanted = {"best": best["hash"], "trial": row["hash"], "spec": row["hash"], "run": DESIGNS["smallnet"].spec.hash}
    assert {name: card(tmp_path / name)["hash"] for name in targets} == wanted
    assert (tmp_path / "trial" / "model.tflite").read_bytes() == (tmp_path / "spec" / "model.tflite").read_bytes()
    assert card(tmp_path / "run")["steps"] == 20
    assert card(tmp_path / "best")["trained_by"] == f"trial {best['trial']} of study s"
