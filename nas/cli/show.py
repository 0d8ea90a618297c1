"""Commands that show: the space, the front, one network, the best one."""

from dataclasses import asdict, replace
from math import exp
from pathlib import Path
from typing import Any

from latency_models.device import Device, load_device
from latency_models.memory import peak_activation_bytes
from latency_models.predictor import Prediction
from nas import backend
from nas.cli.console import Console, plain
from nas.cli.tables import SHORT_FORMATS, Column, check_format, print_json, print_rows
from nas.defaults import DEFAULT_DEVICE
from nas.plots import PlotPoint, check_plot, save_front
from nas.report.layers import layer_rows, runtime_fields
from nas.search import candidate_rows, verdicts
from nas.search.candidate import CandidateRecord
from nas.search.device_pruning import runnable
from nas.search.network_ref import NetworkRef, require_same_data, the_study
from nas.search.study import StudyRecord
from nas.search.study import load as load_study
from nas.units import Row, count, runtime
from search_spaces.errors import StudyError, UsageError
from search_spaces.graph import Graph
from search_spaces.networks import build_graph
from search_spaces.space import SearchSpace, load_space
from search_spaces.spec import GENES, ArchSpec
from search_spaces.system import folder_lock

FRONT_COLUMNS = (
    Column("trial", lambda r: f"{'' if r.get('on_front', True) else '· '}{r['trial']}"),
    Column("PSNR dB", lambda r: _psnr(r)),
    Column("SSIM", lambda r: f"{r['ssim']:.4f}"),
    Column("ms (interval)", runtime),
    Column("score", lambda r: f"{r['score']:.2f}"),
    Column("params", lambda r: count(r["parameters"])),
    Column("MACs", lambda r: count(r["macs"])),
    Column("network", lambda r: _network(r), right=False, stretches=True),
)
SAMPLE_COLUMNS = (
    Column("hash", lambda r: r["hash"], right=False),
    Column("ms (interval)", runtime),
    Column("params", lambda r: count(r["parameters"])),
    Column("MACs", lambda r: count(r["macs"])),
    Column("network", lambda r: ArchSpec.from_dict(r["spec"]).description, right=False, stretches=True),
)
GENE_COLUMNS = (
    Column("gene", lambda r: r["gene"], right=False),
    Column("values", lambda r: ", ".join(map(str, r["values"])), right=False, wraps=True),
    Column("meaning", lambda r: r["meaning"], right=False, wraps=True),
)
LAYER_COLUMNS = (
    Column("layer", lambda r: r["layer"], right=False, stretches=True),
    Column("op", lambda r: r["op"], right=False),
    Column("output", lambda r: "×".join(map(str, r["output"])), right=False),
    Column("params", lambda r: count(r["parameters"])),
    Column("MACs", lambda r: count(r["macs"])),
    Column("ms", lambda r: "—" if r["runtime_ms"] is None else f"{r['runtime_ms']:.2f}"),
)


def _network(row: Row) -> str:
    description = ArchSpec.from_dict(row["spec"]).description
    return f"[bold red]★ {row['name']}[/] {description}" if row["name"] else description


def show_space(name: str, *, sample: int, seed: int, device_name: str | None, output_format: str) -> None:
    """Print genes, sizes and random members of a space."""
    check_format(output_format, SHORT_FORMATS)
    if sample < 0:
        raise UsageError(f"The number of members to sample is zero or more, got {sample}.")
    space, device = load_space(name), load_device(device_name or DEFAULT_DEVICE)
    genes = [_gene_row(space, gene) for gene in GENES]
    members = _sample(space, device, sample, seed)
    refused = runnable(space, device, allow_fallback=False)[1] if device_name else ()
    if output_format == "json":
        facts = {"name": space.name, "size": space.size, "raw_size": space.raw_size, "genes": genes, "sample": members}
        left_out = {"left_out": [asdict(each) for each in refused]} if device_name else {}
        print_json(facts | left_out)
        return
    console = Console()
    print_rows(genes, GENE_COLUMNS, output_format=output_format, console=console)
    console.print(
        f"\n{space.name}: {space.size:,} networks ({space.raw_size:,} combinations of genes; in most of them "
        "some genes have no effect)."
    )
    for each in refused:
        console.print(f"In a search for {plain(device.name)}, {plain(each.sentence)}", highlight=False)
    if members:
        console.print()
        print_rows(members, SAMPLE_COLUMNS, output_format=output_format, console=console)
        console.print(interval_note(device))


def _gene_row(space: SearchSpace, name: str) -> dict[str, Any]:
    gene = GENES[name]
    return {"gene": name, "values": list(space.values(name)), "ordered": gene.ordered, "meaning": gene.meaning}


def _sample(space: SearchSpace, device: Device, number: int, seed: int) -> list[dict[str, Any]]:
    import random

    rng = random.Random(seed)
    specs = (space.sample(lambda _, values, __: rng.choice(values)) for _ in range(number))
    return [_member_row(spec, device) for spec in specs]


def _member_row(spec: ArchSpec, device: Device) -> dict[str, Any]:
    graph = build_graph(spec)
    predicted = None if device.unsupported(graph) else device.predict(graph)
    return {
        "hash": spec.hash,
        "parameters": graph.parameters,
        "macs": graph.macs,
        **runtime_fields(predicted),
        "spec": spec.to_dict(),
    }


def interval_note(device: Device) -> str:
    """Return what a person must know about the runtimes of a device."""
    interval = device.predictor.interval
    if interval.kind == "assumed":
        width = f"×/÷ {exp(interval.high):.2g}"
        return f"[dim]Runtimes on {device.name}: predicted; the interval {width} is an assumption.[/]"
    return f"[dim]Runtimes on {device.name}: predicted, with the interval of held-out measurements.[/]"


def show_front(
    results: Path, name: str | None, *, steps: int | None, everything: bool, plot: Path | None, output_format: str
) -> None:
    """Print the Pareto front of a study, and draw it where asked for."""
    check_format(output_format)
    if plot:
        check_plot(plot)
    study = the_study(results, name)
    _print_front(Console(), study, steps, everything=everything, output_format=output_format)
    if plot:
        _draw_front(plot, study, steps)
        Console(stderr=True).print(f"Saved {plot}.", highlight=False)


def watch_front(
    results: Path, name: str | None, *, steps: int | None, everything: bool, plot: Path | None, output_format: str
) -> None:
    """Print the front of a study again and again while a search runs on it."""
    check_format(output_format, SHORT_FORMATS)
    if plot:
        raise UsageError("A front that is watched is printed; leave out --plot, or --watch.")
    folder = the_study(results, name).folder
    from nas.cli.studies import watch_study

    def draw(console: Console, _: object) -> None:
        study = load_study(folder)
        if study.trained():
            _print_front(console, study, steps, everything=everything, output_format=output_format)
        elif output_format == "table":
            console.print(f"Study {plain(study.config.name)} has no trained candidate yet.", highlight=False)

    watch_study(folder, draw, output_format=output_format)


def _print_front(
    console: Console, study: StudyRecord, steps: int | None, *, everything: bool, output_format: str
) -> None:
    rung = candidate_rows.choose_rung(study, steps)
    rows = candidate_rows.rows(study, rung, everything=everything)
    shown: list[Row] = [r if everything else _without_mark(r) for r in rows]
    title = _front_title(study, rung, rows)
    print_rows(shown, FRONT_COLUMNS, output_format=output_format, console=console, title=title)
    if output_format == "table":
        console.print(interval_note(load_device(study.config.device)))


def _draw_front(path: Path, study: StudyRecord, steps: int | None) -> None:
    rung = candidate_rows.choose_rung(study, steps)
    device = load_device(study.config.device)
    if path.suffix == ".html":
        from nas.report import candidates, page, study_report

        at = replace(study_report.front(study, device), chosen=study.ladder[rung])
        text = page.front_page(study.config.name, candidates.candidate_rows(study), at)
        page.write_page(path, text)
        return
    rows = candidate_rows.rows(study, rung)
    width = f"interval {device.predictor.interval.kind}"
    save_front(path, dots(rows), title=_front_title(study, rung, rows), interval=width)


def _psnr(row: Row) -> str:
    """Return `24.95±0.04`, the interval where trainings from several seeds tell it."""
    half = row.get("psnr_half_width_db")
    return f"{row['psnr_db']:.2f}" + ("" if half is None else f"±{half:.2f}")


def _without_mark(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "on_front"}


def _front_title(study: StudyRecord, rung: int, rows: list[dict[str, Any]]) -> str:
    size = sum(r["on_front"] for r in rows)
    judged = len(study.at_rung(rung))
    return f"{study.config.name}: {size} on the front of {judged} candidates at {study.ladder[rung]} steps"


def show_network(network: NetworkRef, *, device_name: str | None, output_format: str) -> None:
    """Print one network whole."""
    check_format(output_format, SHORT_FORMATS)
    device = load_device(device_name or (network.study.config.device if network.study else DEFAULT_DEVICE))
    graph = build_graph(network.spec)
    refused = device.unsupported(graph)
    predicted = None if refused else device.predict(graph)
    layers = layer_rows(graph, predicted)
    history = [asdict(rung) for rung in network.candidate.rungs.values()] if network.candidate else []
    last = network.candidate.finals if network.candidate else {}
    if output_format == "json":
        print_json(
            {
                "target": network.label,
                "hash": network.spec.hash,
                "spec": network.spec.to_dict(),
                "parameters": graph.parameters,
                "macs": graph.macs,
                "peak_activation_bytes": peak_activation_bytes(graph),
                "device": device.name,
                "unsupported": list(refused),
                **runtime_fields(predicted),
                "fixed_ms": predicted.fixed_ms if predicted else None,
                "layers": layers,
                "history": history,
                "finals": [{"seed": seed, **asdict(final)} for seed, final in last.items()],
                "trained_steps": network.state.steps if network.state else None,
            }
        )
        return
    _print_whole(Console(), network, graph, device, predicted, refused, layers)


def _print_whole(
    console: Console,
    network: NetworkRef,
    graph: Graph,
    device: Device,
    predicted: Prediction | None,
    refused: tuple[str, ...],
    layers: list[dict[str, Any]],
) -> None:
    console.print(f"[bold]{network.label}[/]  {network.spec.description}  {network.spec.hash}", highlight=False)
    console.print("  ".join(f"{gene}={value}" for gene, value in network.spec.active_genes.items()), highlight=False)
    console.print()
    print_rows(layers, LAYER_COLUMNS, output_format="table", console=console)
    console.print(f"\n{count(graph.parameters)} parameters, {count(graph.macs)} MACs at 1920×1088.", highlight=False)
    console.print(f"Maps take at most {peak_activation_bytes(graph) / 1e6:.1f} MB at once in float32.", highlight=False)
    if predicted:
        console.print(
            f"{device.name}: {runtime(runtime_fields(predicted))} ms, of which {predicted.fixed_ms:.1f} ms "
            "start and carry input and output.",
            highlight=False,
        )
        console.print(interval_note(device))
    else:
        console.print(f"{device.name} cannot run it: {'; '.join(refused)}.", highlight=False)
    if network.candidate:
        _print_history(console, network.candidate)
    if network.state:
        console.print(f"Longest training: {network.state.steps} steps ({network.state.origin}).", highlight=False)


def _print_history(console: Console, candidate: CandidateRecord) -> None:
    if candidate.reason or candidate.failure:
        console.print(f"Not trained further: {candidate.failure or candidate.reason}", highlight=False)
    if candidate.duplicate_of is not None:
        console.print(f"A repeat of trial {candidate.duplicate_of}, whose result it shares.", highlight=False)
    for seed, final in candidate.finals.items():
        console.print(
            f"Final from seed {seed}, {final.steps} steps: {final.psnr_db:.3f} dB, SSIM {final.ssim:.4f}, "
            f"score {candidate.final_scores()[seed]:.3f}; trained {final.train_s:.1f} s",
            highlight=False,
        )
    for number, rung in candidate.rungs.items():
        console.print(
            f"Rung {number + 1}, {rung.steps} steps: {rung.psnr_db:.3f} dB, SSIM {rung.ssim:.4f}, "
            f"loss {rung.loss:.4f}, score {candidate.score(number):.3f}; "
            f"trained {rung.train_s:.1f} s, compiled {rung.compile_s:.1f} s",
            highlight=False,
        )


def show_best(results: Path, name: str | None, *, output_format: str) -> None:
    """Print the best candidate with its quality on the test pairs, measured once and then remembered."""
    check_format(output_format, SHORT_FORMATS)
    study = the_study(results, name)
    candidate, rung = candidate_rows.best(study)
    test = _test_quality(study, candidate)
    judged = verdicts.verdict_of(study)
    row = {
        **candidate_rows.row(candidate, rung, verdicts.half_width_db(study, study.ladder[rung])),
        **test,
        "verdict": judged.to_dict() if judged else None,
    }
    if output_format == "json":
        print_json(row)
        return
    console = Console()
    print_rows(
        [row], FRONT_COLUMNS, output_format=output_format, console=console, title=_best_title(study, row["steps"])
    )
    text = (
        "no test pairs"
        if test["test_psnr_db"] is None
        else f"{test['test_psnr_db']:.2f} dB, SSIM {test['test_ssim']:.4f}"
    )
    console.print(f"On the test pairs, which the search did not read: {text}.", highlight=False)
    if judged:
        console.print(judged.sentence, highlight=False)


def _best_title(study: StudyRecord, steps: int) -> str:
    compared = study.ladder[study.comparison_rung()]
    chosen = "" if compared == steps else f", chosen at {compared}"
    return f"{study.config.name}: best at {steps} steps{chosen}"


def _test_quality(study: StudyRecord, candidate: CandidateRecord) -> dict[str, float | None]:
    assert candidate.longest is not None
    steps = candidate.longest.steps
    known = study.tests.get((candidate.trial, steps, candidate.best_seed))
    if known is None:
        backend.prepare()
        from nas.train.evaluation import judge_on_test

        require_same_data(study)
        known = judge_on_test(candidate.spec, study.longest_checkpoint(candidate), study.config.data)
        _remember(study, candidate, steps, known)
    return known


def _remember(study: StudyRecord, candidate: CandidateRecord, steps: int, judged: dict[str, float | None]) -> None:
    """Record a test result, unless a search is writing to the study: then it is judged again next time."""
    from filelock import Timeout

    try:
        with folder_lock.lock(study.folder):
            study.append("test", trial=candidate.trial, steps=steps, seed=candidate.best_seed, **judged)
    except (Timeout, OSError, StudyError):
        return  # another search holds the study, or it lies where nothing can be written
    finally:
        study.close()


def dots(rows: list[dict[str, Any]]) -> list[PlotPoint]:
    """Return rows as dots of a picture."""
    return [
        PlotPoint(
            r["trial"],
            r["name"],
            r["psnr_db"],
            r["runtime_ms"],
            r["runtime_low_ms"],
            r["runtime_high_ms"],
            r["on_front"],
            r["psnr_half_width_db"] or 0.0,
        )
        for r in rows
    ]
