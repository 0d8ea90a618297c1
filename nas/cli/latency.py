"""The commands under `isp-nas latency`: parse, call, print. Heavy imports stay inside the commands, as in `main`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from latency_models.measure.benchmark_setup import DELEGATES
from nas.cli.option_groups import argument, grouped, option
from nas.cli.options import DeviceName, Form, ShortForm, StudyOptions, one_of

if TYPE_CHECKING:
    from latency_models.measurements import Conditions

app = typer.Typer(
    help="Network latency on a device: measure, import, calibrate, predict, validate.", no_args_is_help=True
)

Out = Annotated[Path, option("--out", help="Folder for the .tflite files and measurements.csv.")]
Partial = Annotated[bool, option("--allow-partial", help="Keep times of networks that the delegate ran only in part.")]
UserWide = Annotated[bool, option("--user-wide", help="Save in your data folder instead of ./devices.")]
PHONE = "Phone"


@dataclass(frozen=True)
class PlanOptions:
    """Which networks are timed."""

    # As many as take half an hour on one core of a server, conversion included; see results/README.md.
    probes: Annotated[int, option("--probes", help="Number of networks of a single operation.")] = 400
    candidates: Annotated[int, option("--candidates", help="Number of whole networks at Full HD.")] = 40
    largest_side: Annotated[
        int | None, option("--largest-side", help="Longest side of a probe's maps, for devices with little memory.")
    ] = None
    seed: Annotated[int, option("--seed", help="Seed of the choice of networks.")] = 0


@dataclass(frozen=True)
class TimingOptions:
    """Where networks are timed, and how: here, or on a phone."""

    threads: Annotated[int, option("--threads", help="CPU threads of the runtime.")] = 1
    xnnpack: Annotated[bool, option("--xnnpack/--no-xnnpack", help="Use XNNPACK on this machine's CPU.")] = True
    adb: Annotated[
        str | None,
        option(
            "--adb",
            help='Measure on an Android phone: its serial, or "any" if one is connected.',
            default="this machine",
            panel=PHONE,
        ),
    ] = None
    binary: Annotated[
        Path | None,
        option("--binary", help="TensorFlow's benchmark_model, built for the phone.", panel=PHONE),
    ] = None
    delegate: Annotated[str, option("--delegate", help=f"{one_of(DELEGATES)}.", panel=PHONE)] = "xnnpack"
    precision: Annotated[
        str, option("--precision", help="fp32, fp16 or int8.", default="the delegate's own", panel=PHONE)
    ] = ""
    accelerator: Annotated[
        str, option("--accelerator", help="Accelerator of NNAPI or Neuron, by the phone's name for it.", panel=PHONE)
    ] = ""
    cores: Annotated[str, option("--cores", help="CPU affinity mask in hex, such as f0.", panel=PHONE)] = ""
    flag: Annotated[
        list[str] | None,
        option(
            "--flag", help="Extra flag of benchmark_model, such as --flag=--gpu_backend=cl; repeatable.", panel=PHONE
        ),
    ] = None

    def fields(self) -> dict[str, Any]:
        """Return the fields of a MeasureOptions."""
        return {
            "threads": self.threads,
            "xnnpack": self.xnnpack,
            "phone": "" if self.adb == "any" else self.adb,
            "binary": self.binary,
            "delegate": self.delegate,
            "precision": self.precision,
            "flags": tuple(self.flag or ()),
            "accelerator": self.accelerator,
            "cores": self.cores,
        }


@dataclass(frozen=True)
class ConditionOptions:
    """What the files do not tell of how networks were timed."""

    device: Annotated[str, option("--device", help="Name of the device.")] = ""
    soc: Annotated[str, option("--soc", help="System on chip.")] = ""
    os: Annotated[str, option("--os", help="Operating system.")] = ""
    runtime: Annotated[str, option("--runtime", help="Runtime and its version.")] = ""
    delegate: Annotated[str, option("--delegate", help="Delegate, if the logs do not name it.")] = ""
    precision: Annotated[str, option("--precision", help="Precision, if the logs do not name it.")] = ""
    threads: Annotated[int | None, option("--threads", help="Threads, if the logs do not name them.")] = None
    date: Annotated[str, option("--date", help="Date of the measurements, such as 2026-11-25.")] = ""

    def conditions(self) -> "Conditions":
        """Return them as files of measurements have them."""
        from latency_models.measurements import Conditions

        return Conditions(**vars(self))


@app.command()
def devices(output_format: Form = "table") -> None:
    """List devices with how good and how old their predictions are."""
    from nas.cli.latency_tables import show_devices

    show_devices(output_format=output_format)


@app.command()
@grouped
def predict(
    network: Annotated[str, typer.Argument(help="A .tflite file, a design, a trial number, best or a spec file.")],
    device: DeviceName = None,
    *,
    where: StudyOptions,
    allow_fallback: Annotated[
        bool, option("--allow-fallback", help="Include the cost of operations that fall back to the CPU.")
    ] = False,
    size: Annotated[
        str | None,
        option("--size", help="Height x width of the photograph, for designs and our files of open size."),
    ] = None,
    input_shape: Annotated[
        str | None, option("--input-shape", help="Input shape of a file of open size, such as 1x224x224x3.")
    ] = None,
    against: Annotated[
        str | None, option("--against", help="Another network: print the probability that this one is faster.")
    ] = None,
    output_format: Form = "table",
) -> None:
    """Predict how long a network takes on a device, kernel by kernel."""
    from nas.cli import latency_tables

    latency_tables.predict(
        network,
        device_name=device,
        results=where.results,
        study=where.study,
        allow_fallback=allow_fallback,
        shape=latency_tables.parse_shape(size, input_shape),
        against=against,
        output_format=output_format,
    )


@app.command()
@grouped
def probe(
    out: Annotated[Path, option("--out", help="Folder for the .tflite files.")],
    plan: PlanOptions,
    output_format: ShortForm = "table",
) -> None:
    """Write the networks worth timing as .tflite files, to be timed by other tools."""
    from nas.cli.latency_measure import write_probes

    write_probes(out, **vars(plan), output_format=output_format)


@app.command()
@grouped
def measure(
    out: Out,
    models: Annotated[list[Path] | None, argument(help=".tflite files. \\[default: probes and candidates]")] = None,
    *,
    plan: PlanOptions,
    timing: TimingOptions,
    allow_partial: Partial = False,
    output_format: ShortForm = "table",
) -> None:
    """Time networks on this machine or on a phone. The same command resumes an interrupted run."""
    from nas.cli.latency_measure import MeasureOptions, run_measure

    options = MeasureOptions(out, tuple(models or ()), **vars(plan), **timing.fields(), allow_partial=allow_partial)
    run_measure(options, output_format=output_format)


@app.command("import")
@grouped
def import_(
    files: Annotated[list[Path], argument(help="Logs of benchmark_model, CSV or JSON files, or folders.")],
    out: Annotated[Path, option("--out", help="The file of measurements to write.")],
    profile_of: Annotated[
        Path | None, option("--profile-of", help="Read the files as per-operation profiles of this .tflite file.")
    ] = None,
    extend: Annotated[bool, option("--extend", help="Add to an existing file.")] = False,
    *,
    conditions: ConditionOptions,
    allow_partial: Partial = False,
    output_format: ShortForm = "table",
) -> None:
    """Convert logs and tables of other tools into one file of measurements."""
    from nas.cli.latency_measure import run_import

    run_import(
        files,
        out,
        defaults=conditions.conditions(),
        allow_partial=allow_partial,
        profiled=profile_of,
        extend=extend,
        output_format=output_format,
    )


@app.command()
def calibrate(
    measurements: Annotated[Path, argument(help="A file of measurements.")],
    name: Annotated[str, option("--name", help="Name of the new device.")],
    title: Annotated[str, option("--title", help="One-line description of the device.")] = "",
    prior: Annotated[
        list[str] | None, option("--prior", help="Start from this device where few networks were measured; repeatable.")
    ] = None,
    ops: Annotated[
        str | None, option("--ops", help="Table of operations that the delegate runs.", default="the delegate's")
    ] = None,
    user_wide: UserWide = False,
    output_format: ShortForm = "table",
) -> None:
    """Fit a device to measurements and report its error on held-out families of networks."""
    from nas.cli.latency_measure import run_calibrate

    run_calibrate(
        measurements, name, title=title, priors=prior or (), table=ops, user_wide=user_wide, output_format=output_format
    )


@app.command()
@grouped
def validate(
    out: Out,
    where: StudyOptions,
    device: DeviceName = None,
    most: Annotated[int, option("--most", help="Largest number of networks to time.")] = 10,
    refit: Annotated[
        str | None, option("--refit", help="Fit a new device of this name with these measurements added.")
    ] = None,
    user_wide: UserWide = False,
    *,
    timing: TimingOptions,
    output_format: ShortForm = "table",
) -> None:
    """Time the front of a study on the device and compare with the predictions."""
    from nas.cli.latency_measure import MeasureOptions, ValidateOptions, run_validate

    options = MeasureOptions(out, **timing.fields())
    run_validate(
        ValidateOptions(options, where.results, where.study, device, most, refit, user_wide),
        output_format=output_format,
    )
