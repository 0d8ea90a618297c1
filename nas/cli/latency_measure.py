"""Commands of `isp-nas latency` that measure: probe, measure, import, calibrate and validate."""

import os
from collections.abc import Generator, Iterable, Sequence, Set
from contextlib import closing
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from latency_models import probes
from latency_models.calibration import left_out
from latency_models.device import Device, builtin_devices, load_device, summary
from latency_models.measurements import (
    MODELS_FOLDER,
    Conditions,
    Failure,
    Timing,
    read_measurements,
    write_measurements,
)
from latency_models.predictor import Predictor
from latency_models.probes import Probe
from nas.cli.console import Console, typed
from nas.cli.latency_tables import ACCURACY_COLUMNS, accuracy_line, accuracy_rows, outliers
from nas.cli.progress import progress_bar
from nas.cli.tables import Column, print_json, print_rows
from nas.search import candidate_rows
from nas.search.network_ref import the_study
from nas.units import Row, predicted_with_interval
from search_spaces.errors import MeasurementError, UsageError
from search_spaces.graph import Graph
from search_spaces.networks import build_graph
from search_spaces.spec import ArchSpec
from search_spaces.system import named_files

MEASUREMENTS = "measurements.csv"


@dataclass(frozen=True)
class MeasureOptions:
    """What `isp-nas latency measure` is asked to do."""

    out: Path
    models: tuple[Path, ...] = ()  # these .tflite files instead of planned ones
    probes: int = 0
    candidates: int = 0
    largest_side: int | None = None
    seed: int = 0
    threads: int = 1
    xnnpack: bool = True
    phone: str | None = None  # serial, "" for the only one; None: this machine
    binary: Path | None = None
    delegate: str = "xnnpack"
    precision: str = ""
    flags: tuple[str, ...] = ()
    accelerator: str = ""
    cores: str = ""
    allow_partial: bool = False


def write_probes(
    out: Path, *, probes: int, candidates: int, largest_side: int | None, seed: int, output_format: str
) -> None:
    """Write probes and candidates as .tflite files, for people who time them by other means."""
    paths = _models(out, probes, candidates, largest_side, seed)
    if output_format == "json":
        print_json({"folder": str(out), "models": [path.name for path in paths]})
        return
    console = Console()
    console.print(f"{len(paths)} networks in {out}; a file's name says what is in it.", highlight=False)
    console.print(
        "Time each, then: isp-nas latency import LOGS… --out measurements.csv, or write a CSV with the columns "
        "network and runtime_ms.",
        highlight=False,
    )


def _models(folder: Path, probes: int, candidates: int, largest_side: int | None, seed: int) -> list[Path]:
    from latency_models.measure.models import planned, write_models

    with progress_bar("Planning probes"):
        todo = planned(probes, candidates, seed=seed, largest_side=largest_side)
    with progress_bar("Writing .tflite files") as report:
        return write_models(todo, folder, report=report)


def run_measure(options: MeasureOptions, *, output_format: str) -> None:
    """Time networks here or on a phone; what is timed is written at once, and the same command goes on."""
    file = options.out / MEASUREMENTS
    known = read_measurements(file) if file.exists() else ()  # before anything is built: it may be another file
    paths = list(options.models) or _models(
        options.out / MODELS_FOLDER, options.probes, options.candidates, options.largest_side, options.seed
    )
    console = Console(stderr=True)
    failures = list[Failure]()
    with closing(_outcomes(options, paths, known)) as outcomes:
        for outcome in outcomes:
            if isinstance(outcome, Failure):
                failures.append(outcome)
                console.print(f"{outcome.network}: {outcome.reason}", highlight=False, markup=False)
            else:
                write_measurements(file, [_beside(outcome, options.out)], extend=True)
    _report_measured(file, failures, output_format, own={path.stem for path in paths})


def _beside(timing: Timing, folder: Path) -> Timing:
    """Name the model relative to the file of measurements, so that the folder can be moved."""
    return replace(timing, model=Path(os.path.relpath(timing.model, folder)).as_posix())


Outcomes = Generator[Timing | Failure]


def _outcomes(options: MeasureOptions, paths: Sequence[Path], known: Sequence[Timing]) -> Outcomes:
    return _on_phone(options, paths, known) if options.phone is not None else _here(options, paths, known)


def _here(options: MeasureOptions, paths: Sequence[Path], known: Sequence[Timing]) -> Outcomes:
    from latency_models.measure.local import LocalOptions, measure_here, reference_probes
    from latency_models.measure.models import write_models
    from latency_models.measure.network_file import read_networks

    read_networks(paths)  # what cannot be read is refused before TensorFlow is loaded to write the references
    references = write_models(reference_probes(), options.out / MODELS_FOLDER)
    with progress_bar("Timing here") as report:
        yield from measure_here(
            paths,
            references,
            LocalOptions(options.threads, options.xnnpack),
            are_ours=not options.models,
            known=known,
            report=report,
        )


def _on_phone(options: MeasureOptions, paths: Sequence[Path], known: Sequence[Timing]) -> Outcomes:
    from latency_models.measure.android import measure_on_phone
    from latency_models.measure.benchmark_setup import BenchmarkSetup

    if options.binary is None:
        raise UsageError("A phone runs networks with TensorFlow's benchmark_model; give your build of it by --binary.")
    setup = BenchmarkSetup(
        options.binary,
        options.delegate,
        options.precision,
        threads=options.threads,
        extra_flags=options.flags,
        accelerator=options.accelerator,
        cores=options.cores,
        allow_partial=options.allow_partial,
    )
    with progress_bar("Timing on the phone") as bar:
        report = lambda done, total, _: bar(done, total)  # noqa: E731 (the bar has no place for what is being done)
        with closing(
            measure_on_phone(paths, setup, serial=options.phone or None, known=known, report=report)
        ) as measured:
            yield from measured


def _report_measured(file: Path, failures: Sequence[Failure], output_format: str, *, own: Set[str]) -> None:
    timings = read_measurements(file) if file.exists() else ()
    if output_format == "json":
        refused = [vars(failure) for failure in failures]
        print_json({"measurements": str(file), "timed": len(timings), "failures": refused})
    else:
        console = Console()
        console.print(f"{len(timings)} networks timed in {file}, {len(failures)} without a time.", highlight=False)
        console.print_command(f"Next: isp-nas latency calibrate {typed(file)} --name my-device")
    if failures and own.isdisjoint(timing.network for timing in timings):  # references alone are nothing asked for
        raise MeasurementError(f"No network could be timed; the first: {failures[0].reason}")


def run_import(
    paths: Sequence[Path],
    out: Path,
    *,
    defaults: Conditions,
    allow_partial: bool,
    profiled: Path | None,
    extend: bool,
    output_format: str,
) -> None:
    """Read what other tools and people wrote, and write it as one file of measurements."""
    from latency_models.measure.importing import import_files

    timings = import_files(paths, defaults=defaults, allow_partial=allow_partial, folder=out.parent, profiled=profiled)
    held = write_measurements(out, timings, extend=extend)
    if output_format == "json":
        print_json({"measurements": str(out), "read": len(timings), "held": len(held)})
        return
    console = Console()
    print_rows([_timing_row(timing) for timing in timings], TIMING_COLUMNS, output_format="table", console=console)
    console.print(f"{len(timings)} timings in {out}, which now holds {len(held)}.", highlight=False)


def _timing_row(timing: Timing) -> dict[str, Any]:
    row = {field.name: getattr(timing, field.name) for field in fields(Timing) if field.name != "conditions"}
    return row | {"delegate": timing.conditions.delegate, "precision": timing.conditions.precision}


TIMING_COLUMNS = (
    Column("network", lambda r: str(r["network"]), right=False, stretches=True),
    Column("ms", lambda r: f"{r['runtime_ms']:.2f}"),
    Column("by", lambda r: str(r["statistic"]), right=False),
    Column("runs", lambda r: str(r["runs"] or "—")),
    Column("delegate", lambda r: str(r["delegate"] or "—"), right=False),
    Column("precision", lambda r: str(r["precision"] or "—"), right=False),
)


def run_calibrate(
    measurements: Path,
    name: str,
    *,
    title: str,
    priors: Sequence[str],
    table: str | None,
    user_wide: bool,
    output_format: str,
) -> None:
    """Fit a device to measurements, say how good it is on networks left out, and save it."""
    from latency_models.device_writer import save_device
    from latency_models.new_device import make_device

    folder = _device_folder(user_wide)
    _require_free(folder, name)
    timings = read_measurements(measurements)
    named = {prior: load_device(prior) for prior in priors}
    for device in named.values():
        _require_other_rows(timings, device)
    lines: list[str] = []
    with progress_bar("Fitting, leaving families out"):
        device = make_device(
            name,
            timings,
            folder=measurements.parent,
            title=title,
            sources={prior: each.predictor for prior, each in named.items()},
            known=None if named else _known_devices,
            delegate_table=table or _table_of(named.values(), timings),
            on_message=lines.append,
        )
    for each in lines:
        Console(stderr=True).print(each, highlight=False, markup=False)
    path = save_device(device, folder)
    _report_device(device, path, lines, output_format)


def _known_devices() -> dict[str, Predictor]:
    """Return the predictors of the built-in devices: one of the user's own may rest on the measurements themselves."""
    return {name: load_device(str(path)).predictor for name, path in builtin_devices().items()}


def _require_other_rows(timings: Sequence[Timing], prior: Device) -> None:
    """Refuse measurements that the prior rests on: what they tell would count twice, and no error would be held out."""
    known = {(m.label, m.runtime_ms) for m in prior.measurements}
    again = [t.network for t in timings if (t.network, t.runtime_ms) in known]
    if again:
        raise MeasurementError(
            f"{len(again)} of the measurements are those of {prior.name} already ({again[0]}): as its prior they would "
            "count twice; leave them out, or name another device by --prior."
        )


def _table_of(priors: Iterable[Device], timings: Sequence[Timing]) -> str | None:
    """Return the table of the priors' delegate where the measurements name no delegate."""
    tables = {prior.delegate.name for prior in priors}
    return tables.pop() if len(tables) == 1 and not any(t.conditions.delegate for t in timings) else None


def _device_folder(user_wide: bool) -> Path:
    return named_files.user_folder("devices") if user_wide else Path("devices")


def _require_free(folder: Path, name: str) -> None:
    """Refuse a name that is taken before minutes are spent on a fit."""
    if (folder / f"{name}.json").exists():
        raise UsageError(f"{folder / name}.json exists already; choose another --name, or move it away.")


def _report_device(device: Device, path: Path, messages: Sequence[str], output_format: str) -> None:
    held = device.held_out
    rows: list[Row] = list(accuracy_rows(held))
    missing = left_out([m.sample for m in device.measurements], device.held_out)
    if output_format == "json":
        figures = summary(device.predictor, device.held_out)
        foreseen = [{"network": h.label, "measured_ms": h.measured_ms, "foreseen_ms": h.predicted_ms} for h in held]
        lists = {"held_out": rows, "foreseen": foreseen, "left_out": missing, "messages": list(messages)}
        print_json({"device": device.name, "path": str(path), **figures, **lists})
        return
    console = Console()
    print_rows(rows, ACCURACY_COLUMNS, output_format="table", console=console)
    for label, reason in missing.items():
        console.print(f"Not in the table: {label}, for {reason}.", highlight=False, markup=False)
    for odd in outliers(held):
        console.print(
            f"Look at {odd.label}: {odd.measured_ms:.3g} ms were measured and {odd.predicted_ms:.3g} ms foreseen, "
            "which is far more off than the others; leave it out where its file, unit or run was wrong.",
            highlight=False,
            markup=False,
        )
    console.print(accuracy_line(device), highlight=False)
    console.print(f"Saved as {path}; use it by --device {device.name}.", highlight=False)


@dataclass(frozen=True)
class ValidateOptions:
    """What `isp-nas latency validate` is asked to do."""

    measure: MeasureOptions
    results: Path
    study: str | None = None
    device: str | None = None
    most: int = 10
    refit_name: str | None = None  # fold the times back into a new device of this name
    user_wide: bool = False


def run_validate(options: ValidateOptions, *, output_format: str) -> None:
    """Time the front of a study on the device, and say how far the predictions were from what was measured."""
    study = the_study(options.results, options.study)
    device = load_device(options.device or study.config.device)
    if options.refit_name:
        _require_free(_device_folder(options.user_wide), options.refit_name)
    rung = candidate_rows.choose_rung(study, None)
    best = [row for row in candidate_rows.rows(study, rung) if row["on_front"]][: options.most]
    probes = {row["trial"]: _probe(study.candidate(row["trial"]).spec) for row in best}
    timings = _timed(options.measure, list(probes.values()), device)
    by_trial = {trial: timings[probe.name] for trial, probe in probes.items() if probe.name in timings}
    if not by_trial:
        raise MeasurementError("No network of the front could be timed; see the reasons above.")
    rows = [_validated(trial, probes[trial].graph, timing, device) for trial, timing in by_trial.items()]
    path = _fold_back(device, list(by_trial.values()), options) if options.refit_name else None
    _report_validated(rows, device, path, output_format)


def _probe(spec: ArchSpec) -> Probe:
    family = probes.family(spec)
    return Probe(f"candidate-{family}-{spec.hash}", family, build_graph(spec))


def _timed(options: MeasureOptions, networks: Sequence[Probe], device: Device) -> dict[str, Timing]:
    """Time networks under the device's own conditions, in its own unit: its references' recorded times stay."""
    from latency_models.measure.models import write_models

    paths = write_models(networks, options.out / MODELS_FOLDER)
    file = options.out / MEASUREMENTS
    known = [*(read_measurements(file) if file.exists() else ()), *_references(device)]
    by_network = {timing.network: timing for timing in known}
    for outcome in _outcomes(options, paths, known):
        if isinstance(outcome, Failure):
            Console(stderr=True).print(f"{outcome.network}: {outcome.reason}", highlight=False, markup=False)
            continue
        by_network[outcome.network] = _beside(outcome, options.out)
        write_measurements(file, [by_network[outcome.network]], extend=True)
    for timing in by_network.values():
        _require_same_conditions(timing.conditions, device)
    return by_network


def _references(device: Device) -> list[Timing]:
    references = [m for m in device.measurements if m.label.startswith("reference-")]
    return [Timing(m.label, m.runtime_ms, conditions=device.conditions) for m in references]


# What makes another device of a device; a newer runtime or system is worth a sentence only where it is told.
_DECISIVE = ("delegate", "precision", "threads", "soc")


def _require_same_conditions(conditions: Conditions, device: Device) -> None:
    for name in _DECISIVE:
        wanted, got = getattr(device.conditions, name), getattr(conditions, name)
        if wanted and got and wanted != got:
            raise UsageError(
                f'{device.name} was calibrated with {name} "{wanted}", this measurement had "{got}"; measure as it '
                "was, or name the device that was meant by --device."
            )


def _validated(trial: int, graph: Graph, timing: Timing, device: Device) -> dict[str, Any]:
    prediction = device.predict(graph)
    return {
        "trial": trial,
        "network": timing.network,
        "measured_ms": timing.runtime_ms,
        "predicted_ms": prediction.runtime_ms,
        "low_ms": prediction.low_ms,
        "high_ms": prediction.high_ms,
        "error": prediction.runtime_ms / timing.runtime_ms - 1,
        "inside": prediction.low_ms <= timing.runtime_ms <= prediction.high_ms,
    }


VALIDATED_COLUMNS = (
    Column("trial", lambda r: str(r["trial"])),
    Column("network", lambda r: str(r["network"]), right=False, stretches=True),
    Column("measured ms", lambda r: f"{r['measured_ms']:.1f}"),
    Column("predicted ms", lambda r: predicted_with_interval(r["predicted_ms"], r["low_ms"], r["high_ms"])),
    Column("error", lambda r: f"{100 * r['error']:+.1f} %"),
    Column("in interval", lambda r: "yes" if r["inside"] else "[red]no[/]", right=False),
)


def _report_validated(rows: Sequence[dict[str, Any]], device: Device, better: Path | None, output_format: str) -> None:
    mean = sum(abs(row["error"]) for row in rows) / len(rows)
    inside = sum(row["inside"] for row in rows)
    if output_format == "json":
        figures = {
            "mean_error": mean,
            "inside": inside / len(rows),
            "refitted": None if better is None else str(better),
        }
        print_json({"device": device.name, **figures, "networks": rows})
        return
    console = Console()
    print_rows(rows, VALIDATED_COLUMNS, output_format="table", console=console)
    console.print(
        f"{device.name}: {100 * mean:.1f} % off on average; {inside} of {len(rows)} within the 80 % interval. A search "
        "picks networks whose time is underestimated, so expect more below than above.",
        highlight=False,
    )
    if better:
        console.print(f"Saved as {better}, these times included.", highlight=False)


def _fold_back(device: Device, timings: Sequence[Timing], options: ValidateOptions) -> Path:
    """Save a new device that knows these times, too; the old one stays as it is."""
    from latency_models.device_writer import save_device
    from latency_models.new_device import extended

    assert options.refit_name is not None
    with progress_bar("Fitting, leaving families out"):
        better = extended(device, timings, name=options.refit_name, folder=options.measure.out)
    return save_device(better, _device_folder(options.user_wide))
