"""The command `isp-nas designs`: the published designs with their cost, our trainings, and Table 1.

Everything comes from the registry of designs and from files: their .tflite facts, the device, comparisons under one
budget, studies. Nothing is converted or trained to show it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from rich.markup import escape

from latency_models.device import Device, load_device
from latency_models.memory import peak_activation_bytes
from latency_models.predictor import Prediction
from nas.audit import design_comparison
from nas.audit.design_comparison import Comparison
from nas.cli.console import Console
from nas.cli.show import LAYER_COLUMNS, interval_note
from nas.cli.tables import Column, check_format, print_json, print_rows
from nas.defaults import DEFAULT_DEVICE
from nas.report.layers import layer_rows, runtime_fields
from nas.search import study
from nas.search.score import final_score
from nas.search.study import StudyRecord
from nas.units import Row, count, runtime
from search_spaces.design_files import stored_files
from search_spaces.designs import DESIGNS, Design, find_design
from search_spaces.errors import DeviceError, StudyError
from search_spaces.graph import Graph
from search_spaces.networks import build_graph

UNSURE = "~"  # before the name of a design whose structure is of low confidence


@dataclass(frozen=True)
class RowSources:
    """The files from which rows are made."""

    device: Device
    comparisons: Mapping[str, Comparison]
    studies: Sequence[StudyRecord]


def read_sources(results: Path, device_name: str | None = None) -> RowSources:
    """Read device, comparisons and studies; raise StudyError for a comparison that is damaged."""
    device = load_device(device_name or DEFAULT_DEVICE)
    return RowSources(device, design_comparison.read_comparisons(results), list(_studies(results)))


def _studies(results: Path) -> Iterator[StudyRecord]:
    for name in study.names(results):
        try:
            yield study.load(results / name)
        except StudyError:
            continue  # a damaged study of another time must not stand in the way of this table


def rows(sources: RowSources) -> list[dict[str, Any]]:
    """Return one row per design, in the order of the registry."""
    return [row(design, sources) for design in DESIGNS.values()]


def row(design: Design, sources: RowSources) -> dict[str, Any]:
    """Return what is known of a design, under the names that programs rely on; None stands for unknown."""
    graph = build_graph(design.spec)
    predicted, refused = _predict(sources.device, graph)
    file = stored_files().get(design.name)
    return {
        "name": design.name,
        "variant_of": design.variant_of,
        "team": design.team,
        "hash": design.spec.hash,
        "parameters": graph.parameters,
        "macs": graph.macs,
        "peak_activation_bytes": peak_activation_bytes(graph),
        "tflite_bytes": file.tflite_bytes if file else None,
        "device": sources.device.name,
        **runtime_fields(predicted),
        "left_out_ms": left_out_ms(sources.device, design.name),
        "unsupported": refused,
        **_table1(design),
        "confidence": design.confidence,
        "source": design.source,
        "trained": [*_compared(design, sources.comparisons), *_searched(design, sources.studies)],
    }


def left_out_ms(device: Device, name: str) -> float | None:
    """Return what a fit without a design's own row predicts of it; None where it is no measurement of the device."""
    return next((held.predicted_ms for held in device.held_out if held.label == name), None)


def left_out_note(device: Device) -> str:
    """Say how good predictions of designs are that the device was measured with; nothing where it has none."""
    held = [h for h in device.held_out if h.label in DESIGNS]
    if len(held) < 2:
        return ""
    pairs = [(a, b) for a, b in combinations(held, 2) if a.measured_ms != b.measured_ms]
    right = sum((a.predicted_ms < b.predicted_ms) == (a.measured_ms < b.measured_ms) for a, b in pairs)
    error = sum(abs(h.predicted_ms / h.measured_ms - 1) for h in held) / len(held)
    return (
        f"{len(held)} designs are measurements of {device.name}, so their runtimes here are no test of it. Left out of "
        f"the fit one by one they are {100 * error:.0f} % off on average, and {right} of {len(pairs)} pairs are in the "
        "right order."
    )


def _predict(device: Device, graph: Graph) -> tuple[Prediction | None, list[str]]:
    """Return the prediction, or None and why there is none: one network that cannot be judged hides no other."""
    refused = list(device.unsupported(graph))
    if refused:
        return None, refused
    try:
        return device.predict(graph), []
    except DeviceError as error:
        return None, [str(error)]


def _table1(design: Design) -> dict[str, float]:
    published = design.table1
    return {
        "table1_kb": published.size_kb,
        "table1_psnr_db": published.psnr_db,
        "table1_ssim": published.ssim,
        "table1_runtime_ms": published.runtime_ms,
        "table1_score": final_score(published.psnr_db, published.runtime_ms),
    }


def _compared(design: Design, comparisons: Mapping[str, Comparison]) -> Iterator[dict[str, Any]]:
    for file, compared in comparisons.items():
        runs = compared.runs_of(design)
        if not runs:
            continue
        means = {quality: design_comparison.mean(runs, quality) for quality in design_comparison.QUALITIES}
        yield {
            "data": compared.label,
            "steps": compared.steps,
            "seeds": [run.seed for run in runs],
            "psnr_db": means["val_psnr_db"],
            "ssim": means["val_ssim"],
            "test_psnr_db": means["test_psnr_db"],
            "test_ssim": means["test_ssim"],
            "failures": [run.failure for run in runs if run.failure],
            "origin": f"{design_comparison.FOLDER}/{file}",
        }


def _searched(design: Design, studies: Iterable[StudyRecord]) -> Iterator[dict[str, Any]]:
    for opened in studies:
        for candidate in opened.trained():
            if candidate.spec != design.spec or candidate.longest is None:
                continue
            tested = opened.tests.get((candidate.trial, candidate.longest.steps, candidate.best_seed), {})
            yield {
                "data": Path(opened.config.data.source).name,
                "steps": candidate.longest.steps,
                "seeds": [opened.config.seed],
                "psnr_db": candidate.longest.psnr_db,
                "ssim": candidate.longest.ssim,
                "test_psnr_db": tested.get("test_psnr_db"),
                "test_ssim": tested.get("test_ssim"),
                "failures": [],
                "origin": f"study {opened.config.name}",
            }


def is_unsure(confidence: str) -> bool:
    """Tell whether a design's confidence begins with a low one."""
    return "low" in confidence.partition(":")[0].lower().replace("-", " ").split()


def _name(r: Row) -> str:
    return f"{UNSURE if is_unsure(r['confidence']) else ''}{r['name']}"


def _number(value: float | None, output_format: str) -> str:
    return "—" if value is None else format(value, output_format)


NAME_COLUMN = Column("design", _name, right=False)
OUR_COLUMNS = (
    NAME_COLUMN,
    Column("params", lambda r: count(r["parameters"])),
    Column("MACs", lambda r: count(r["macs"])),
    Column("peak MB", lambda r: f"{r['peak_activation_bytes'] / 1e6:.1f}"),
    Column("file kB", lambda r: "—" if r["tflite_bytes"] is None else f"{r['tflite_bytes'] / 1e3:.1f}"),
    Column("ms (interval)", runtime),
)
TABLE1_COLUMNS = (
    NAME_COLUMN,
    Column("team", lambda r: r["team"], right=False),
    Column("kB", lambda r: str(r["table1_kb"])),
    Column("dB", lambda r: f"{r['table1_psnr_db']:.2f}"),
    Column("SSIM", lambda r: f"{r['table1_ssim']:.4f}"),
    Column("ms", lambda r: f"{r['table1_runtime_ms']:g}"),
    Column("score", lambda r: f"{r['table1_score']:.2f}"),
)
TRAINED_COLUMNS = (
    Column("data", lambda r: r["data"], right=False),
    Column("steps", lambda r: str(r["steps"])),
    Column("seeds", lambda r: ",".join(map(str, r["seeds"]))),
    Column("dB", lambda r: _number(r["psnr_db"], ".2f")),
    Column("SSIM", lambda r: _number(r["ssim"], ".4f")),
    Column("test dB", lambda r: _number(r["test_psnr_db"], ".2f")),
    Column("from", lambda r: "; ".join([r["origin"], *r["failures"]]), right=False, wraps=True),
)


def show_designs(results: Path, *, device_name: str | None, output_format: str) -> None:
    """Print all designs: what they cost, Table 1, and what they gave when we trained them."""
    check_format(output_format)
    sources = read_sources(results, device_name)
    designs, console = rows(sources), Console()
    if output_format != "table":
        print_rows(designs, (), output_format=output_format, console=console)
        return
    print_rows(designs, OUR_COLUMNS, output_format=output_format, console=console, title="As built here, at 1920×1088")
    _print_notes(console, designs, sources.device)
    console.print()
    published = [r for r in designs if r["variant_of"] is None]
    print_rows(
        published,
        TABLE1_COLUMNS,
        output_format=output_format,
        console=console,
        title="Published: Table 1 of the challenge",
    )
    _print_trained(console, designs)


def _print_notes(console: Console, designs: Sequence[Row], device: Device) -> None:
    console.print(interval_note(device), highlight=False)
    if note := left_out_note(device):
        console.print(f"[dim]{note}[/]", highlight=False)
    for r in designs:
        if r["unsupported"]:
            console.print(f"[dim]No runtime of {r['name']}: {'; '.join(r['unsupported'])}[/]", highlight=False)
    if any(is_unsure(r["confidence"]) for r in designs):
        console.print(
            f"[dim]{UNSURE}: the report leaves much of the structure open; see isp-nas designs NAME.[/]",
            highlight=False,
        )


def _print_trained(console: Console, designs: Sequence[Row]) -> None:
    budgets = _budgets(designs)
    if not budgets:
        console.print("[dim]No training of a design is kept in the results folder yet.[/]", highlight=False)
        return
    columns, left_out = _fitting(budgets, designs, console.width)
    console.print()
    print_rows(
        designs, columns, output_format="table", console=console, title="Trained here: PSNR in dB by data and steps"
    )
    console.print(
        "[dim]Means over our validation pairs and seeds; Table 1's are of the challenge's own pairs and each team's "
        "own training.[/]",
        highlight=False,
    )
    if left_out:
        console.print(f"[dim]Not shown for want of room: {', '.join(left_out)}; see --format json.[/]", highlight=False)


def _budgets(designs: Sequence[Row]) -> list[tuple[str, int]]:
    """Return every budget under which designs were trained, those of most designs first, then the longest."""
    held = [{_budget(t) for t in r["trained"]} for r in designs]
    return sorted(set().union(*held), key=lambda budget: (-sum(budget in one for one in held), -budget[1], budget[0]))


def _budget(trained: Mapping[str, Any]) -> tuple[str, int]:
    """Return what makes two trainings comparable: one comparison's data, or one study, and the steps."""
    origin = trained["origin"]
    return (trained["data"] if origin.startswith(f"{design_comparison.FOLDER}/") else origin, trained["steps"])


def _fitting(
    budgets: Sequence[tuple[str, int]], designs: Sequence[Row], width: int
) -> tuple[tuple[Column, ...], list[str]]:
    """Return the columns that fit into a terminal, and the headings of those that do not."""
    columns = [NAME_COLUMN, Column("Table 1", lambda r: f"{r['table1_psnr_db']:.2f}")]
    room = width - max(len(_name(r)) for r in designs) - len("  Table 1")
    left_out: list[str] = []
    for budget in budgets:
        heading = f"{budget[0]}, {budget[1]}"
        room -= 2 + len(heading)
        if room < 0:
            left_out.append(heading)
        else:
            columns.append(_budget_column(heading, budget))
    return tuple(columns), left_out


def _budget_column(heading: str, budget: tuple[str, int]) -> Column:
    def psnr(r: Row) -> str:
        reached = (t["psnr_db"] for t in r["trained"] if _budget(t) == budget)
        return _number(next(reached, None), ".2f")

    return Column(heading, psnr)


def show_design(name: str, results: Path, *, device_name: str | None, output_format: str) -> None:
    """Print one design whole; raise UnknownNameError with the nearest where there is none of that name."""
    check_format(output_format)
    design = find_design(name)
    sources = read_sources(results, device_name)
    facts = row(design, sources)
    graph = build_graph(design.spec)
    layers = layer_rows(graph, _predict(sources.device, graph)[0])
    if output_format == "json":
        print_json({**facts, "spec": design.spec.to_dict(), "layers": layers})
        return
    console = Console()
    if output_format == "csv":
        print_rows([facts], (), output_format=output_format, console=console)
        return
    _print_facts(console, design, facts)
    print_rows(layers, LAYER_COLUMNS, output_format=output_format, console=console)
    for columns, title in ((OUR_COLUMNS, "As built here, at 1920×1088"), (TABLE1_COLUMNS, "Published: Table 1")):
        console.print()
        print_rows([facts], columns, output_format=output_format, console=console, title=title)
    _print_notes(console, [facts], sources.device)
    if facts["trained"]:
        console.print()
        print_rows(
            facts["trained"], TRAINED_COLUMNS, output_format=output_format, console=console, title="Trained here"
        )


def _print_facts(console: Console, design: Design, facts: Row) -> None:
    reading = f", another reading of {facts['variant_of']}" if facts["variant_of"] else ""
    console.print(f"[bold]{design.name}[/]  {escape(design.title)}, by {escape(design.team)}{reading}", highlight=False)
    for label, value in (
        ("source", design.source),
        ("confidence", design.confidence),
        ("network", f"{design.spec.description}  {facts['hash']}"),
        ("genes", "  ".join(f"{gene}={value}" for gene, value in design.spec.active_genes.items())),
    ):
        console.print(f"[bold]{label}[/]: {escape(value)}", highlight=False)
    console.print()
