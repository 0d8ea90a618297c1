"""`isp-nas designs`: every published design with its cost, its predicted runtime, our trainings and Table 1."""

import csv
import io
import json
import resource
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from flow import in_process, isp_nas, make_study, refusal, search, write_delegate, write_device
from written_comparison import run_of, write_comparison

from latency_models.device import device_path, load_device
from latency_models.memory import peak_activation_bytes
from nas.cli import designs
from nas.cli.designs import RowSources, is_unsure, row
from nas.defaults import DEFAULT_DEVICE
from search_spaces.design_files import stored_files
from search_spaces.designs import DESIGNS, Design
from search_spaces.networks import build_graph

FIELDS = [
    *("name", "variant_of", "team", "hash", "parameters", "macs", "peak_activation_bytes", "tflite_bytes", "device"),
    *(
        "runtime_ms",
        "runtime_low_ms",
        "runtime_high_ms",
        "left_out_ms",
        "unsupported",
        "table1_kb",
        "table1_psnr_db",
        "table1_ssim",
    ),
    *("table1_runtime_ms", "table1_score", "confidence", "source", "trained"),
]

every_design = pytest.mark.parametrize("design", DESIGNS.values(), ids=DESIGNS)


def as_json(*arguments: object) -> Any:
    return json.loads(in_process("designs", *arguments, "--format", "json").stdout)


# For programs


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The table where nothing was trained."""
    output: list[dict[str, Any]] = as_json("--results", tmp_path_factory.mktemp("results"))
    return output


@every_design
def test_a_row_holds_what_graph_file_and_device_say(design: Design, rows: list[dict[str, Any]]) -> None:
    (figures,) = (each for each in rows if each["name"] == design.name)
    graph, device = build_graph(design.spec), load_device(DEFAULT_DEVICE)
    assert list(figures) == FIELDS
    assert (figures["parameters"], figures["macs"]) == (graph.parameters, graph.macs)
    assert figures["peak_activation_bytes"] == peak_activation_bytes(graph)
    assert figures["tflite_bytes"] == stored_files()[design.name].tflite_bytes
    assert (figures["team"], figures["confidence"], figures["source"]) == (
        design.team,
        design.confidence,
        design.source,
    )
    assert figures["variant_of"] == design.variant_of
    assert bool(figures["unsupported"]) == (figures["runtime_ms"] is None)
    if not figures["unsupported"]:
        predicted = device.predict(graph)
        assert figures["runtime_ms"] == predicted.runtime_ms
        assert (figures["runtime_low_ms"], figures["runtime_high_ms"]) == (predicted.low_ms, predicted.high_ms)


@every_design
def test_the_score_computed_from_table_1_is_the_published_one(design: Design, tmp_path: Path) -> None:
    figures = row(design, RowSources(load_device(DEFAULT_DEVICE), {}, ()))
    assert figures["table1_score"] == pytest.approx(design.table1.score, abs=0.006)
    published = design.table1
    shown = (figures["table1_kb"], figures["table1_psnr_db"], figures["table1_ssim"], figures["table1_runtime_ms"])
    assert shown == (published.size_kb, published.psnr_db, published.ssim, published.runtime_ms)


def test_json_and_csv_hold_every_design_once_and_in_order(tmp_path: Path) -> None:
    assert [r["name"] for r in as_json("--results", tmp_path)] == list(DESIGNS)
    written = in_process("designs", "--results", tmp_path, "--format", "csv").stdout
    rows = list(csv.DictReader(io.StringIO(written)))
    assert [r["name"] for r in rows] == list(DESIGNS)
    assert list(rows[0]) == FIELDS
    assert float(rows[0]["runtime_ms"]) == as_json("--results", tmp_path)[0]["runtime_ms"]


def test_what_is_unknown_is_null_and_a_dash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(designs, "stored_files", dict)
    output = as_json("--results", tmp_path)
    assert [r["tflite_bytes"] for r in output] == [None] * len(DESIGNS)
    assert [r["trained"] for r in output] == [[]] * len(DESIGNS)
    shown = in_process("designs", "--results", tmp_path).stdout
    assert all("—" in next(line for line in shown.splitlines() if line.startswith(_shown(d))) for d in DESIGNS.values())


def test_a_device_that_refuses_an_operation_has_no_runtime_and_says_why(tmp_path: Path) -> None:
    table = write_delegate(tmp_path / "without-tanh.json", without="TANH")
    path = write_device(tmp_path / "narrow.json", delegate=str(table))
    by_name = {r["name"]: r for r in as_json("--device", path, "--results", tmp_path)}
    assert by_name["smallnet"]["runtime_ms"] is None
    assert "TANH" in by_name["smallnet"]["unsupported"][0]
    assert by_name["csanet"]["runtime_ms"] is not None
    assert by_name["csanet"]["device"] == "narrow"
    shown = " ".join(in_process("designs", "--device", path, "--results", tmp_path).stdout.split())
    assert 'No runtime of smallnet: TANH ("stem1.tanh"): the delegate does not know the operation; ' in shown


def test_eds_has_no_runtime_and_the_table_says_why(tmp_path: Path) -> None:
    by_name = {r["name"]: r for r in as_json("--results", tmp_path)}
    refused = {name for name, r in by_name.items() if r["unsupported"]}
    assert refused == {"eds", "eds-shuffle"}
    assert {name for name, r in by_name.items() if r["runtime_ms"] is None} == refused
    shown = in_process("designs", "--results", tmp_path).stdout
    assert next(line for line in shown.splitlines() if line.startswith("eds ")).split()[-1] == "—"
    assert 'No runtime of eds: RSQRT ("down1.norm.rsqrt" and 8 more): it is handed on' in " ".join(shown.split())


def test_a_device_without_a_coefficient_hides_no_other_design(tmp_path: Path) -> None:
    device = json.loads(device_path(DEFAULT_DEVICE).read_text("utf-8"))
    for costs in (device["method"]["prior"], device["predictor"]["core"]["coefficients"]):
        for name in [name for name in costs if "depthwise" in name]:
            del costs[name]
    measured = [row for row in device["measurements"] if row["network"] == "smallnet"]
    path = write_device(tmp_path / "narrow.json", **device | {"name": "narrow", "measurements": measured})
    by_name = {r["name"]: r for r in as_json("--device", path, "--results", tmp_path)}
    assert by_name["csanet"]["runtime_ms"] is None
    assert "depthwise" in by_name["csanet"]["unsupported"][0]
    assert by_name["smallnet"]["runtime_ms"] is not None


# What was trained


def test_a_comparison_gives_every_design_its_means(tmp_path: Path) -> None:
    seeds = [run_of(design, seed=seed, psnr_db=20.0 + seed) for design in DESIGNS.values() for seed in (0, 1)]
    write_comparison(tmp_path, "pairs", runs=seeds)
    for figures in as_json("--results", tmp_path):
        (trained,) = figures["trained"]
        assert trained == {
            "data": "pairs",
            "steps": 2000,
            "seeds": [0, 1],
            "psnr_db": 20.5,
            "ssim": 0.75,
            "test_psnr_db": 21.5,
            "test_ssim": 0.5,
            "failures": [],
            "origin": "designs/pairs.json",
        }


def test_a_failed_seed_leaves_no_mean_but_its_reason(tmp_path: Path) -> None:
    smallnet = DESIGNS["smallnet"]
    write_comparison(tmp_path, runs=[run_of(smallnet), run_of(smallnet, seed=1, psnr_db=None)])
    (trained,) = as_json("smallnet", "--results", tmp_path)["trained"]
    assert trained["psnr_db"] is None
    assert trained["failures"] == ["The loss was not a number by step 50."]


def test_figures_of_other_genes_under_a_designs_name_are_not_shown(tmp_path: Path) -> None:
    write_comparison(tmp_path, runs=[replace(run_of(DESIGNS["smallnet"]), hash="0" * 12)])
    assert as_json("smallnet", "--results", tmp_path)["trained"] == []


def test_a_study_gives_the_designs_that_it_trained(tmp_path: Path) -> None:
    study = make_study(tmp_path / "night")
    search(study, 2 * len(DESIGNS))
    reached = {c.spec: asdict(c.highest) for c in study.trained() if c.highest}
    searched = [design for design in DESIGNS.values() if design.spec in reached]
    assert DESIGNS["smallnet"] in searched
    for design in searched:
        (trained,) = as_json(design.name, "--results", tmp_path)["trained"]
        assert trained["origin"] == "study night"
        assert (trained["data"], trained["seeds"], trained["test_psnr_db"]) == ("nowhere", [0], None)
        assert {name: trained[name] for name in ("steps", "psnr_db", "ssim")}.items() <= reached[design.spec].items()


def test_a_damaged_study_stands_not_in_the_way_and_a_damaged_comparison_does(tmp_path: Path) -> None:
    make_study(tmp_path / "night")
    (tmp_path / "night" / "run.toml").write_text("torn", "utf-8")
    assert len(as_json("--results", tmp_path)) == len(DESIGNS)
    write_comparison(tmp_path)
    path = tmp_path / "designs" / "demo.json"
    for content in ("{", "[]", "{}", path.read_text("utf-8").replace('"schema": 1', '"schema": 7')):
        path.write_text(content, "utf-8")
        assert "demo.json is no comparison of designs" in refusal(in_process("designs", "--results", tmp_path))


# For people


def _shown(design: Design) -> str:
    return f"{'~' if is_unsure(design.confidence) else ''}{design.name}"


@pytest.mark.parametrize("columns", [80, 100])
def test_the_tables_fit_the_terminal_with_every_name_and_number_whole(
    columns: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("demo", "zurich"):
        write_comparison(tmp_path, name)
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = in_process("designs", "--results", tmp_path).stdout.splitlines()
    assert max(map(len, lines)) <= columns
    assert not any("…" in line for line in lines)
    for design in DESIGNS.values():
        of_design = [line.split() for line in lines if line.split()[:1] == [_shown(design)]]
        assert len(of_design) == (3 if design.variant_of is None else 2)
        trained = of_design[-1]
        assert design.variant_of or of_design[1][-1] == f"{design.table1.score:.2f}"
        assert trained[1:] == [f"{design.table1.psnr_db:.2f}", "20.12", "20.12"]


def test_budgets_that_do_not_fit_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for steps in range(1000, 1008):
        write_comparison(tmp_path, f"demo-{steps}", steps=steps)
    monkeypatch.setenv("COLUMNS", "80")
    shown = " ".join(in_process("designs", "--results", tmp_path).stdout.split())
    assert all(f"demo-{steps}, {steps}" in shown for steps in range(1000, 1008))
    assert "Not shown for want of room: " in shown


def test_below_the_tables_stands_what_the_numbers_are(tmp_path: Path) -> None:
    write_comparison(tmp_path)
    shown = " ".join(in_process("designs", "--results", tmp_path).stdout.split())
    assert "the interval ×/÷ 1.5 is an assumption" in shown
    assert "Means over our validation pairs and seeds" in shown


@pytest.mark.parametrize(
    ("confidence", "unsure"),
    [
        ("very high: the text gives all", False),
        ("medium: lowly widths", False),
        ("low: widths follow from the size", True),
        ("low-medium: drawn, not written", True),
        ("low to medium", True),
        ("high; tail uncertain", False),
    ],
)
def test_low_confidence_is_marked(confidence: str, unsure: bool) -> None:
    assert is_unsure(confidence) is unsure


@every_design
def test_one_design_is_shown_whole(design: Design, tmp_path: Path) -> None:
    write_comparison(tmp_path)
    shown = in_process("designs", design.name, "--results", tmp_path)
    assert shown.returncode == 0
    text = " ".join(shown.stdout.split())
    for wanted in (design.title, design.team, design.source, design.confidence, design.spec.hash, "1088×1920×3"):
        assert " ".join(wanted.split()) in text
    output = as_json(design.name, "--results", tmp_path)
    assert list(output) == [*FIELDS, "spec", "layers"]
    assert output["layers"][-1]["output"] == [1088, 1920, 3]
    assert sum(layer["macs"] for layer in output["layers"]) == output["macs"]


# At once, and refusing


def test_an_unknown_design_names_the_nearest(tmp_path: Path) -> None:
    assert 'Did you mean "csanet"?' in refusal(in_process("designs", "csnet", "--results", tmp_path))
    assert "known: csv, json, table" in refusal(in_process("designs", "--format", "yaml"))
    assert 'Unknown device "iphone"' in refusal(in_process("designs", "--device", "iphone"))


def test_the_table_answers_without_jax_and_tensorflow(tmp_path: Path) -> None:
    write_comparison(tmp_path)
    make_study(tmp_path / "night")
    script = (
        "import sys; from pathlib import Path; from nas.cli.designs import show_designs, show_design\n"
        f"show_designs(Path({str(tmp_path)!r}), device_name=None, output_format='table')\n"
        f"show_design('csanet', Path({str(tmp_path)!r}), device_name=None, output_format='json')\n"
        "print('loaded:', *sorted({'jax', 'tensorflow', 'scipy', 'optuna'} & sys.modules.keys()), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr.splitlines() == ["loaded:"]


def cpu_s(*words: object) -> float:
    """Return the CPU seconds that the installed command takes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = isp_nas(*words)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (done.returncode, done.stderr) == (0, "")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_the_installed_command_answers_at_once(tmp_path: Path) -> None:
    """Measured beside the least that the command does; the table took 4 to 6 times as much, JAX alone takes 8."""
    write_comparison(tmp_path)
    ratios: list[float] = []
    while len(ratios) < 3 and min(ratios, default=10) >= 8:
        ratios.append(cpu_s("designs", "--results", tmp_path) / cpu_s("--version"))
    assert min(ratios) < 8, ratios
