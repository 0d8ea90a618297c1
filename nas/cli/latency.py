"""The commands under `isp-nas latency`: parse, call, print. Heavy imports stay inside the commands, as in `main`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.cli.option_groups import grouped, option
from nas.cli.options import DeviceName, Form, ShortForm, StudyOptions

if TYPE_CHECKING:
    from latency_models.measurements import Conditions

app = typer.Typer(
    help="How long networks take on a device: measure, import, calibrate, predict, validate.", no_args_is_help=True
)

Out = Annotated[Path, option("--out", help="Folder for the .tflite files and measurements.csv.")]
Partial = Annotated[bool, option("--allow-partial", help="Keep times of networks that the delegate took only in part.")]
UserWide = Annotated[bool, option("--user-wide", help="Save in your data folder instead of ./devices.")]
PHONE = "Phone"


@dataclass(frozen=True)
class PlanOptions:
    """Which networks are timed."""

    # As many as take half an hour on one core of a server, conversion included; see results/README.md.
    probes: Annotated[int, option("--probes", help="Networks of one operation.")] = 400
    candidates: Annotated[int, option("--candidates", help="Whole networks at Full HD.")] = 40
    largest_side: Annotated[
        int | None, option("--largest-side", help="Probes have no map with a longer side; for small memory.")
    ] = None
    seed: Annotated[int, option("--seed", help="Seed of the plan.")] = 0


@dataclass(frozen=True)
class TimingOptions:
    """Where networks are timed, and how: here, or on a phone."""

    threads: Annotated[int, option("--threads", help="Threads of the runtime.")] = 1
    xnnpack: Annotated[bool, option("--xnnpack/--no-xnnpack", help="XNNPACK on this machine's CPU.")] = True
    adb: Annotated[
        str | None,
        option(
            "--adb", help='Time on an Android phone: its serial, or "any" where one is connected.',
            default="this machine", panel=PHONE,
        ),
    ] = None  # fmt: skip
    binary: Annotated[
        Path | None,
        option("--binary", help="Your build of TensorFlow's benchmark_model for the phone.", panel=PHONE),
    ] = None
    delegate: Annotated[str, option("--delegate", help="cpu, xnnpack, gpu, nnapi or neuron.", panel=PHONE)] = "xnnpack"
    precision: Annotated[
        str, option("--precision", help="fp32, fp16 or int8.", default="the delegate's own", panel=PHONE)
    ] = ""
    accelerator: Annotated[
        str, option("--accelerator", help="Of NNAPI or Neuron, as the phone calls it.", panel=PHONE)
    ] = ""
    cores: Annotated[str, option("--cores", help="Mask of cores in hex, such as f0.", panel=PHONE)] = ""
    flag: Annotated[
        list[str] | None,
        option("--flag", help="More for benchmark_model, such as --flag=--gpu_backend=cl.", panel=PHONE),
    ] = None

    def fields(self) -> dict[str, Any]:
        """Return the fields of a MeasureAsked."""
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

    device: Annotated[str, option("--device", help="What the device is called.")] = ""
    soc: Annotated[str, option("--soc", help="Its chip.")] = ""
    os: Annotated[str, option("--os", help="Its system.")] = ""
    runtime: Annotated[str, option("--runtime", help="The software that timed.")] = ""
    delegate: Annotated[str, option("--delegate", help="Where the logs do not tell it.")] = ""
    precision: Annotated[str, option("--precision", help="Where the logs do not tell it.")] = ""
    threads: Annotated[int | None, option("--threads", help="Where the logs do not tell it.")] = None
    date: Annotated[str, option("--date", help="Of the measurements, as 2026-11-25.")] = ""

    def conditions(self) -> "Conditions":
        """Return them as files of measurements have them."""
        from latency_models.measurements import Conditions

        return Conditions(**vars(self))


@app.command()
def devices(form: Form = "table") -> None:
    """List devices with how good and how old their predictions are."""
    from nas.cli.latency_tables import show_devices

    show_devices(form=form)


@app.command()
@grouped
def predict(
    target: Annotated[str, typer.Argument(help="A .tflite file, a design, a trial number, best or a spec file.")],
    device: DeviceName = None,
    *,
    where: StudyOptions,
    allow_fallback: Annotated[
        bool, option("--allow-fallback", help="Price operations that the delegate leaves to the CPU.")
    ] = False,
    size: Annotated[
        str | None,
        option("--size", help="Height x width of the photograph, for our files of open size and for designs."),
    ] = None,
    input_shape: Annotated[
        str | None, option("--input-shape", help="Of a file of open size, such as 1x224x224x3.")
    ] = None,
    against: Annotated[
        str | None, option("--against", help="Another network: how probable it is that this one is faster.")
    ] = None,
    form: Form = "table",
) -> None:
    """Predict how long a network takes on a device, kernel by kernel."""
    from nas.cli import latency_tables

    latency_tables.predict(
        target, device_name=device, results=where.results, study=where.study, allow_fallback=allow_fallback,
        shape=latency_tables.parse_shape(size, input_shape), against=against, form=form,
    )  # fmt: skip


@app.command()
@grouped
def probe(
    out: Annotated[Path, option("--out", help="Folder for the .tflite files.")],
    plan: PlanOptions,
    form: ShortForm = "table",
) -> None:
    """Write the networks that are worth timing as .tflite files, to be timed by other means."""
    from nas.cli.latency_measure import write_probes

    write_probes(out, **vars(plan), form=form)


@app.command()
@grouped
def measure(
    out: Out,
    models: Annotated[
        list[Path] | None, typer.Argument(help=".tflite files; probes and candidates if left out.")
    ] = None,
    *,
    plan: PlanOptions,
    timing: TimingOptions,
    allow_partial: Partial = False,
    form: ShortForm = "table",
) -> None:
    """Time networks on this machine or on a phone. The same command continues where it was broken off."""
    from nas.cli.latency_measure import MeasureAsked, run_measure

    asked = MeasureAsked(out, tuple(models or ()), **vars(plan), **timing.fields(), allow_partial=allow_partial)
    run_measure(asked, form=form)


@app.command("import")
@grouped
def import_(
    files: Annotated[list[Path], typer.Argument(help="Logs of benchmark_model, CSV or JSON files, or folders.")],
    out: Annotated[Path, option("--out", help="The file of measurements to write.")],
    profile_of: Annotated[
        Path | None, option("--profile-of", help="The files are profiles by operation of this .tflite file.")
    ] = None,
    extend: Annotated[bool, option("--extend", help="Add to a file that is there.")] = False,
    *,
    conditions: ConditionOptions,
    allow_partial: Partial = False,
    form: ShortForm = "table",
) -> None:
    """Turn logs and tables that other tools and people wrote into one file of measurements."""
    from nas.cli.latency_measure import run_import

    run_import(
        files, out, defaults=conditions.conditions(), allow_partial=allow_partial, profiled=profile_of, extend=extend,
        form=form,
    )  # fmt: skip


@app.command()
def calibrate(
    measurements: Annotated[Path, typer.Argument(help="A file of measurements.")],
    name: Annotated[str, option("--name", help="Name of the new device.")],
    title: Annotated[str, option("--title", help="What it is, in a line.")] = "",
    prior: Annotated[
        list[str] | None, option("--prior", help="Start from this device; may be given often. For few networks.")
    ] = None,
    ops: Annotated[
        str | None, option("--ops", help="Table of operations that the delegate takes.", default="by the delegate")
    ] = None,
    user_wide: UserWide = False,
    form: ShortForm = "table",
) -> None:
    """Fit a device to measurements, and say how good it is on families of networks that it had not seen."""
    from nas.cli.latency_measure import run_calibrate

    run_calibrate(measurements, name, title=title, priors=prior or (), table=ops, user_wide=user_wide, form=form)


@app.command()
@grouped
def validate(
    out: Out,
    where: StudyOptions,
    device: DeviceName = None,
    most: Annotated[int, option("--most", help="So many networks of the front.")] = 10,
    refit: Annotated[str | None, option("--refit", help="Fold the times back into a new device of this name.")] = None,
    user_wide: UserWide = False,
    *,
    timing: TimingOptions,
    form: ShortForm = "table",
) -> None:
    """Time the front of a study on the device, and report predicted against measured."""
    from nas.cli.latency_measure import MeasureAsked, ValidateAsked, run_validate

    asked = MeasureAsked(out, **timing.fields())
    run_validate(ValidateAsked(asked, where.results, where.study, device, most, refit, user_wide), form=form)
