"""The command `isp-nas audit`: train what is missing and show how well short training predicts long training."""

import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latency_models.device import Device, load_device
from nas import backend, provenance
from nas.audit import trainings
from nas.audit.report import Audited, audited, derived, notes, rung_rows, to_dict
from nas.audit.trainings import Audit, AuditPlan
from nas.cli.console import Console
from nas.cli.progress import progress_bar
from nas.cli.tables import Column, check_format, print_json, print_rows
from nas.data.cache import cache_dir
from nas.data.host_cache import warm
from nas.data.pairs import DataConfig, find_pairs, identity, prepare
from nas.defaults import DEFAULT_DATA, DEFAULT_DEVICE, DEFAULT_SPACE
from nas.plots import Panel, check_plot, save_panels
from nas.search.budget import Budget
from nas.search.network_ref import NetworkRef, find_study
from nas.search.successive_halving import GPU_FACTOR, LADDER_TOPS, default_ladder
from nas.train.default_recipe import default_recipe
from nas.train.fit import check_fits
from nas.train.losses import vgg_weights
from nas.train.memory import host_bytes
from nas.train.workers import Worker
from nas.units import Row
from search_spaces.errors import DeviceError, StudyError, UsageError
from search_spaces.networks import build_graph
from search_spaces.space import load_space
from search_spaces.spec import ArchSpec
from search_spaces.system import folder_lock
from search_spaces.system.atomic_write import clear_left_behind
from search_spaces.system.named_files import expanded

if TYPE_CHECKING:
    from nas.search.study_config import StudyConfig

AUDITS = "audit"  # the folder beside the studies
AUDIT_FILE = "audit.json"
PICTURES = (".png", ".svg", ".pdf")


@dataclass(frozen=True)
class AuditOptions:
    """The options of `isp-nas audit`; None and nothing named where the user said nothing."""

    networks: tuple[str, ...] = ()
    ladders: tuple[tuple[int, ...], ...] = ()
    steps: int | None = None
    seeds: int = 2
    data: DataConfig | None = None
    training: dict[str, Any] | None = None  # fields of the recipe
    device: str | None = None
    study: str | None = None
    vgg_file: Path | None = None  # of the weights of VGG-19; None: Keras's own copy, where they are needed

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise UsageError(f"An audit needs at least one seed, got {self.seeds}.")
        if self.steps is not None and self.steps < 1:
            raise UsageError(f"Training needs at least one step, got {self.steps}.")


def run_audit(
    question: AuditOptions, results: Path, *, workers: int, out: Path | None, plot: Path | None, output_format: str
) -> None:
    """Train what is not recorded yet, write `audit.json`, and print it."""
    check_format(output_format)
    if plot:
        check_plot(plot, PICTURES, made=out)
    if workers < 1:
        raise UsageError(f"An audit needs at least one worker, got {workers}.")
    refs = trainings.named(question.networks, results, question.study)
    config = _study_of(refs, question, results)
    data = question.data or (config.data if config else DEFAULT_DATA)
    folder = out or results / AUDITS / _label(data)
    plan = _plan(refs, question, config, data, trainings.begun(folder))
    device = load_device(question.device or (config.device if config else DEFAULT_DEVICE))
    backend.prepare(processes=workers)
    of = _trained(folder, plan, data, device, workers, question.vgg_file)
    described = _described(data, device, workers)
    trainings.save(folder / AUDIT_FILE, to_dict(of, plan, described))
    _show(of, device, folder / AUDIT_FILE, output_format=output_format)
    if plot:
        save_panels(plot, panels(of), title=_title(of))


def _study_of(refs: Sequence[NetworkRef], question: AuditOptions, results: Path) -> "StudyConfig | None":
    """Return the study whose trials are meant, or that was named; its data, recipe and device hold then."""
    if question.study is not None:
        study = find_study(results, question.study)
        return study.config if study else None
    return next((t.study.config for t in refs if t.candidate is not None and t.study is not None), None)


def _plan(
    refs: Sequence[NetworkRef],
    question: AuditOptions,
    config: "StudyConfig | None",
    data: DataConfig,
    begun: Mapping[str, Any] | None,
) -> AuditPlan:
    hardware = backend.expected()
    networks = trainings.networks_of(refs) or trainings.default_networks(load_space(DEFAULT_SPACE))
    steps = question.steps or LADDER_TOPS[-1][1] * (1 if hardware == "cpu" else GPU_FACTOR)
    recipe = config.recipe if config else default_recipe(hardware, data, begun)
    recipe = recipe.changed(**question.training or {})
    vgg_weights.needed(recipe, question.vgg_file)  # refused now, not by every training
    ladders = tuple(dict.fromkeys(question.ladders)) or default_ladders(steps, hardware)
    return AuditPlan(networks, tuple(range(question.seeds)), ladders, steps, recipe)


def default_ladders(steps: int, hardware: str) -> tuple[tuple[int, ...], ...]:
    """Return the ladders that searches choose from by their budget, as far as they are within `steps`."""
    ladders = (default_ladder(Budget(seconds=limit), hardware) for limit, _ in LADDER_TOPS)
    return tuple(ladder for ladder in ladders if ladder[-1] <= steps)


def _label(data: DataConfig) -> str:
    return "demo" if data.source == "demo" else expanded(data.source).resolve().name


def _trained(
    folder: Path, plan: AuditPlan, data: DataConfig, device: Device, workers: int, vgg_file: Path | None
) -> Audited:
    with progress_bar("Reading pairs") as reading:
        pairs = prepare(data, cache_dir() / "pairs", progress=reading)
    for network in plan.networks:
        check_fits(plan.recipe, pairs, multiple=network.spec.size_multiple, of=f"network {network.name}")
    settings = _settings(plan, data, vgg_file)
    aside = Console(stderr=True)
    with _only_audit(folder):
        trainings.claim(folder, settings)
        with progress_bar("Reading pairs") as reading:
            warm(pairs, available=host_bytes(), on_message=_on_message(aside), progress=reading)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with progress_bar("Training steps") as on_progress:
            started = [Worker() for _ in range(workers)]
            audit_ = Audit(
                folder,
                plan,
                pairs,
                started,
                commit=_commit(),
                on_message=_on_message(aside),
                on_progress=on_progress,
                vgg_file=vgg_file,
            )
            try:
                records = audit_.run()
            except KeyboardInterrupt:
                aside.print("Stopped; the stretches in flight are lost. The same command continues.", highlight=False)
                raise
    return audited(plan, records, {n.spec.hash: predicted_ms(device, n.spec) for n in plan.networks})


def _on_message(aside: Console) -> Callable[[str], None]:
    return lambda line: aside.print(line, highlight=False, soft_wrap=True)


@contextmanager
def _only_audit(folder: Path) -> Iterator[None]:
    from filelock import Timeout

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = folder_lock.lock(folder).acquire()
    except Timeout:
        raise StudyError(f"Another audit is working on {folder}; wait for it, or name another --out.") from None
    except OSError as error:
        raise StudyError(f"{folder} cannot be written ({error.strerror}); name another folder with --out.") from None
    with lock:
        clear_left_behind(folder)
        yield


def _settings(plan: AuditPlan, data: DataConfig, vgg_file: Path | None) -> dict[str, Any]:
    """Return what all records of a folder have in common; networks, seeds, ladders and steps may be added to."""
    recipe = {name: value for name, value in plan.recipe.to_dict().items() if name != "horizon"}
    settings = {"data": f"{_label(data)} ({identity(data)})", "hardware": backend.expected(), **recipe}
    features = vgg_weights.used(plan.recipe, vgg_file)
    return settings | ({"vgg": features} if features else {})


def predicted_ms(device: Device, spec: ArchSpec) -> float | None:
    """Return the predicted runtime; None where the device cannot run the network or nothing is known."""
    graph = build_graph(spec)
    try:
        return None if device.unsupported(graph) else device.predict(graph).runtime_ms
    except DeviceError:
        return None


def _commit() -> str | None:
    commit = provenance.collect().get("commit")
    return None if commit is None else str(commit)


def _described(data: DataConfig, device: Device, workers: int) -> dict[str, Any]:
    pairs = {split: len(members) for split, members in find_pairs(data).items()}
    return {
        "provenance": {**provenance.collect(), "hardware": backend.expected(), "workers": workers},
        "data": {"label": _label(data), "pairs": pairs, "identity": identity(data)},
        "device": {"name": device.name, "digest": device.digest},
    }


# What is shown


def _coefficient(name: str) -> "Column":
    heading = name.replace("_", " ").replace("spearman", "ρ").replace("kendall", "τ").replace("psnr", "PSNR")

    def show(row: Row) -> str:
        if row[name] is None:
            return "—"
        return f"{row[name]:.2f} {_short(row[f'{name}_low'])}–{_short(row[f'{name}_high'])}"

    return Column(heading, show)


def _short(value: float) -> str:
    """Return a coefficient without the zero before its point."""
    return f"{value:.2f}".replace("0.", ".") if abs(value) < 0.995 else f"{value:.0f}"


def _number(name: str, heading: str, output_format: str) -> Column:
    return Column(heading, lambda row: "—" if row[name] is None else format(row[name], output_format))


def _rung(row: Row) -> str:
    return f"{row['steps']} of {row['top']}{'*' if row['one_run_with_truth'] else ' '}"


RUNG_COLUMN = Column("rung", _rung)
AGREEMENT_COLUMNS = (
    RUNG_COLUMN,
    *(_coefficient(name) for name in ("psnr_spearman", "psnr_kendall", "score_spearman", "score_kendall")),
)
NOISE_COLUMNS = (
    RUNG_COLUMN,
    _number("psnr_spearman_one_seed", "ρ PSNR", ".2f"),
    _number("score_spearman_one_seed", "ρ score", ".2f"),
    Column(
        "kept",
        lambda r: "—" if r["best_quarter_kept"] is None else f"{r['best_quarter_kept']:.1f}/{r['best_quarter']}",
    ),
    _number("seed_std_db", "± seeds", ".2f"),
    _number("network_std_db", "± nets", ".2f"),
    _number("train_s", "train s", ".1f"),
)
LADDER_COLUMNS = (
    Column("ladder", lambda r: ",".join(map(str, r["ladder"])) + ("*" if r["one_run_with_truth"] else " ")),
    _number("steps_per_network", "steps per candidate", ".0f"),
    _number("score_regret", "score lost", ".3f"),
)


def _title(of: Audited) -> str:
    seeds = f"{len(of.seeds)} seed{'s' if len(of.seeds) > 1 else ''}"
    return f"What a rung tells of {of.steps} steps: {len(of.hashes)} networks, {seeds}"


def _show(of: Audited, device: Device, file: Path, *, output_format: str) -> None:
    figures = derived(of)
    aside = Console(stderr=True)
    if output_format == "json":
        print_json({"file": str(file), "steps": of.steps, "seeds": list(of.seeds), "device": device.name, **figures})
    elif output_format == "csv":
        print_rows(figures["rungs"], (), output_format=output_format, console=aside)
    else:
        _print_tables(Console(), of, figures, device)
    for note in notes(of) if output_format != "table" else ():
        aside.print(f"{note}.", highlight=False)
    if output_format == "table":
        sys.stdout.write(f"Kept in {file}\n")


def _print_tables(console: Console, of: Audited, figures: dict[str, Any], device: Device) -> None:
    tables = (
        (figures["rungs"], AGREEMENT_COLUMNS, f"{_title(of)} (ρ Spearman, τ Kendall, with 95 % intervals)"),
        (
            figures["rungs"],
            NOISE_COLUMNS,
            "One seed against the others, how many of the best quarter a rung keeps, PSNR's spread in dB",
        ),
        (figures["ladders"], LADDER_COLUMNS, "Ladders: what they cost, and what their choice is short of the best"),
    )
    for rows, columns, title in tables:
        print_rows(rows, columns, output_format="table", console=console, title=title)
        console.print()
    truth = figures["truth"]
    console.print(
        f"Ceiling, {of.steps} steps with one seed against the others: "
        f"PSNR ρ {_figure(truth['psnr_spearman_one_seed'])}, "
        f"score ρ {_figure(truth['score_spearman_one_seed'])}; ± {_figure(truth['seed_std_db'])} dB over seeds, "
        f"± {_figure(truth['network_std_db'])} dB over networks. Scores with the runtimes predicted for {device.name}.",
        highlight=False,
    )
    for note in notes(of):
        console.print(f"{note[0].upper()}{note[1:]}.", highlight=False, markup=False)


def _figure(value: float | None) -> str:
    return "—" if value is None else f"{value:.2f}"


def panels(of: Audited) -> list[list[Panel]]:
    """Return a row per ladder with a panel per rung: PSNR there against PSNR of the long training."""
    rows = {(row["top"], row["steps"]): row for row in rung_rows(of)}
    return [[_panel(of, rows[ladder[-1], steps]) for steps in ladder] for ladder in of.ladders]


def _panel(of: Audited, row: Row) -> Panel:
    return Panel(
        f"{_rung(row).strip()}: ρ {_figure(row['psnr_spearman'])}, τ {_figure(row['psnr_kendall'])}",
        f"PSNR at {row['steps']} steps, dB",
        f"PSNR at {of.steps} steps, dB",
        [of.names[hash_].rpartition("/")[2] for hash_ in of.hashes],  # without the study: panels are small
        of.psnr_db(row["top"], row["steps"]),
        of.psnr_db(of.steps, of.steps),
    )
