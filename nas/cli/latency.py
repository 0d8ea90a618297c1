"""The commands under `isp-nas latency`: parse, call, print. Heavy imports stay inside the commands, as in `main`."""

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.options import DeviceName, Form, Results, ShortForm, StudyName

app = typer.Typer(
    help="How long networks take on a device: measure, import, calibrate, predict, validate.", no_args_is_help=True
)

Out = Annotated[Path, typer.Option("--out", help="Folder for the .tflite files and measurements.csv.")]
Probes = Annotated[int | None, typer.Option("--probes", help="Networks of one operation; default 400.")]
Candidates = Annotated[int | None, typer.Option("--candidates", help="Whole networks at Full HD; default 40.")]
LargestSide = Annotated[
    int | None, typer.Option("--largest-side", help="Probes have no map with a longer side; for small memory.")
]
Seed = Annotated[int, typer.Option("--seed", help="Seed of the plan.")]
Threads = Annotated[int, typer.Option("--threads", help="Threads of the runtime.")]
Xnnpack = Annotated[bool, typer.Option("--xnnpack/--no-xnnpack", help="XNNPACK on this machine's CPU.")]
Adb = Annotated[
    str | None,
    typer.Option(
        "--adb", help='Time on an Android phone: its serial, or "any" where one is connected.', rich_help_panel="Phone"
    ),
]
Binary = Annotated[
    Path | None,
    typer.Option("--binary", help="Your build of TensorFlow's benchmark_model for the phone.", rich_help_panel="Phone"),
]
Delegate = Annotated[
    str, typer.Option("--delegate", help="cpu, xnnpack, gpu, nnapi or neuron.", rich_help_panel="Phone")
]
Precision = Annotated[
    str, typer.Option("--precision", help="fp32, fp16 or int8; else the delegate's own.", rich_help_panel="Phone")
]
Accelerator = Annotated[
    str, typer.Option("--accelerator", help="Of NNAPI or Neuron, as the phone calls it.", rich_help_panel="Phone")
]
Cores = Annotated[str, typer.Option("--cores", help="Mask of cores in hex, such as f0.", rich_help_panel="Phone")]
Flags = Annotated[
    list[str] | None,
    typer.Option("--flag", help="More for benchmark_model, such as --flag=--gpu_backend=cl.", rich_help_panel="Phone"),
]
Partial = Annotated[
    bool, typer.Option("--allow-partial", help="Keep times of networks that the delegate took only in part.")
]
UserWide = Annotated[bool, typer.Option("--user-wide", help="Save in your data folder instead of ./devices.")]


@app.command()
def devices(form: Form = "table") -> None:
    """List devices with how good and how old their predictions are."""
    from nas.cli.latency_tables import show_devices

    show_devices(form=form)


@app.command()
def predict(
    target: Annotated[str, typer.Argument(help="A .tflite file, a design, a trial number, best or a spec file.")],
    device: DeviceName = None,
    study: StudyName = None,
    results: Results = Path("results"),
    allow_fallback: Annotated[
        bool, typer.Option("--allow-fallback", help="Price operations that the delegate leaves to the CPU.")
    ] = False,
    form: Form = "table",
) -> None:
    """Predict how long a network takes on a device, kernel by kernel."""
    from nas.cli import latency_tables

    latency_tables.predict(
        target, device_name=device, results=results, study=study, allow_fallback=allow_fallback, form=form
    )


@app.command()
def probe(
    out: Annotated[Path, typer.Option("--out", help="Folder for the .tflite files.")],
    probes: Probes = None,
    candidates: Candidates = None,
    largest_side: LargestSide = None,
    seed: Seed = 0,
    form: ShortForm = "table",
) -> None:
    """Write the networks that are worth timing as .tflite files, to be timed by other means."""
    from nas.cli.latency_measure import CANDIDATES, PROBES, write_probes

    write_probes(
        out,
        probes=_or(probes, PROBES),
        candidates=_or(candidates, CANDIDATES),
        largest_side=largest_side,
        seed=seed,
        form=form,
    )


@app.command()
def measure(
    out: Out,
    models: Annotated[list[Path] | None, typer.Argument(help=".tflite files; else probes and candidates.")] = None,
    probes: Probes = None,
    candidates: Candidates = None,
    largest_side: LargestSide = None,
    seed: Seed = 0,
    threads: Threads = 1,
    xnnpack: Xnnpack = True,
    adb: Adb = None,
    binary: Binary = None,
    delegate: Delegate = "xnnpack",
    precision: Precision = "",
    accelerator: Accelerator = "",
    cores: Cores = "",
    flag: Flags = None,
    allow_partial: Partial = False,
    form: ShortForm = "table",
) -> None:
    """Time networks on this machine or on a phone. The same command continues where it was broken off."""
    from nas.cli.latency_measure import CANDIDATES, PROBES, MeasureAsked, run_measure

    asked = MeasureAsked(
        out, tuple(models or ()), _or(probes, PROBES), _or(candidates, CANDIDATES), largest_side, seed, threads,
        xnnpack, _serial(adb), binary, delegate, precision, tuple(flag or ()), accelerator, cores, allow_partial,
    )  # fmt: skip
    run_measure(asked, form=form)


def _or(value: int | None, default: int) -> int:
    return default if value is None else value


def _serial(adb: str | None) -> str | None:
    return "" if adb == "any" else adb


@app.command("import")
def import_(
    files: Annotated[list[Path], typer.Argument(help="Logs of benchmark_model, CSV or JSON files, or folders.")],
    out: Annotated[Path, typer.Option("--out", help="The file of measurements to write.")],
    profile_of: Annotated[
        Path | None, typer.Option("--profile-of", help="The files are profiles by operation of this .tflite file.")
    ] = None,
    extend: Annotated[bool, typer.Option("--extend", help="Add to a file that is there.")] = False,
    device: Annotated[str, typer.Option("--device", help="What the device is called.")] = "",
    soc: Annotated[str, typer.Option("--soc", help="Its chip.")] = "",
    os: Annotated[str, typer.Option("--os", help="Its system.")] = "",
    runtime: Annotated[str, typer.Option("--runtime", help="The software that timed.")] = "",
    delegate: Annotated[str, typer.Option("--delegate", help="Where the logs do not tell it.")] = "",
    precision: Annotated[str, typer.Option("--precision", help="Where the logs do not tell it.")] = "",
    threads: Annotated[int | None, typer.Option("--threads", help="Where the logs do not tell it.")] = None,
    date: Annotated[str, typer.Option("--date", help="Of the measurements, as 2026-11-25.")] = "",
    allow_partial: Partial = False,
    form: ShortForm = "table",
) -> None:
    """Turn logs and tables that other tools and people wrote into one file of measurements."""
    from latency_models.measurements import Conditions
    from nas.cli.latency_measure import run_import

    defaults = Conditions(
        device=device,
        soc=soc,
        os=os,
        runtime=runtime,
        delegate=delegate,
        precision=precision,
        threads=threads,
        date=date,
    )
    run_import(
        files, out, defaults=defaults, allow_partial=allow_partial, profiled=profile_of, extend=extend, form=form
    )


@app.command()
def calibrate(
    measurements: Annotated[Path, typer.Argument(help="A file of measurements.")],
    name: Annotated[str, typer.Option("--name", help="Name of the new device.")],
    title: Annotated[str, typer.Option("--title", help="What it is, in a line.")] = "",
    prior: Annotated[
        list[str] | None, typer.Option("--prior", help="Start from this device; may be given often. For few networks.")
    ] = None,
    ops: Annotated[
        str | None, typer.Option("--ops", help="Table of operations that the delegate takes; else by the delegate.")
    ] = None,
    user_wide: UserWide = False,
    form: ShortForm = "table",
) -> None:
    """Fit a device to measurements, and say how good it is on families of networks that it had not seen."""
    from nas.cli.latency_measure import run_calibrate

    run_calibrate(measurements, name, title=title, priors=prior or (), table=ops, user_wide=user_wide, form=form)


@app.command()
def validate(
    out: Out,
    study: StudyName = None,
    device: DeviceName = None,
    most: Annotated[int, typer.Option("--most", help="So many networks of the front.")] = 10,
    refit: Annotated[
        str | None, typer.Option("--refit", help="Fold the times back into a new device of this name.")
    ] = None,
    user_wide: UserWide = False,
    threads: Threads = 1,
    xnnpack: Xnnpack = True,
    adb: Adb = None,
    binary: Binary = None,
    delegate: Delegate = "xnnpack",
    precision: Precision = "",
    accelerator: Accelerator = "",
    cores: Cores = "",
    flag: Flags = None,
    results: Results = Path("results"),
    form: ShortForm = "table",
) -> None:
    """Time the front of a study on the device, and report predicted against measured."""
    from nas.cli.latency_measure import MeasureAsked, ValidateAsked, run_validate

    asked = MeasureAsked(
        out, threads=threads, xnnpack=xnnpack, phone=_serial(adb), binary=binary, delegate=delegate,
        precision=precision, flags=tuple(flag or ()), accelerator=accelerator, cores=cores,
    )  # fmt: skip
    run_validate(ValidateAsked(asked, results, study, device, most, refit, user_wide), form=form)
