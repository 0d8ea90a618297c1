"""The command line: parse, call, print. Everything heavy is imported inside the command that needs it.

`isp-nas --help` must answer at once, so nothing at the top of this file loads NumPy, JAX, Optuna or TensorFlow.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli import latency
from nas.cli.options import (
    Batch,
    Bits,
    Black,
    DeviceName,
    Form,
    Loss,
    Packing,
    Patch,
    Pattern,
    Precision,
    Rate,
    RawDir,
    Reparameterise,
    Results,
    RgbDir,
    Seed,
    ShortForm,
    Source,
    StudyName,
    VggWeights,
    White,
    data_config,
    parse_rungs,
    training_options,
)
from search_spaces.errors import IspNasError

if TYPE_CHECKING:
    from nas.search.network_ref import Target
    from nas.train.recipe_file import PublishedRecipe

app = typer.Typer(
    name="isp-nas",
    help="Find the learned smartphone ISP that is best on your phone: search, look at the front, export to TFLite.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Look at RAW→RGB training pairs.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(latency.app, name="latency")


def main() -> None:
    """Run the command line; what the user can mend is one sentence and exit code 2."""
    try:
        code = app(standalone_mode=False)
    except IspNasError as error:
        if "--debug" in sys.argv:
            raise
        code = _complain(str(error))
    except KeyboardInterrupt:
        code = 130
    except Exception as error:
        # The option parser's own complaints carry their sentence in `format_message`; the rest are bugs.
        if not hasattr(error, "format_message"):
            raise
        code = _complain(error.format_message())  # empty where the parser has just shown the help
    sys.exit(code if isinstance(code, int) else 0)


def _complain(sentence: str) -> int:
    if sentence:
        sys.stderr.write(f"isp-nas: {sentence}\n")
    return 2


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        sys.stdout.write(f"isp-nas {version('isp-nas')}\n")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", help="Show the version and leave.", is_eager=True, callback=_print_version)
]


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Version = False,
) -> None:
    """Options of the command as a whole; `main` looks for --debug itself."""


@app.command()
def search(
    budget: Annotated[str, typer.Option("--budget", help="Time (5m, 8h) or number of candidates (200).")],
    data: Source = None,
    device: DeviceName = None,
    space: Annotated[str | None, typer.Option("--space", help="Space name or a .toml file; default mai21.")] = None,
    objective: Annotated[str | None, typer.Option("--objective", help="score or pareto; default score.")] = None,
    max_runtime: Annotated[float | None, typer.Option("--max-runtime", help="Largest predicted runtime, ms.")] = None,
    max_memory: Annotated[
        float | None,
        typer.Option("--max-memory", help="Most MB that maps take at once at Full HD, float32: 4 bytes per value."),
    ] = None,
    allow_fallback: Annotated[
        bool | None,
        typer.Option("--allow-fallback", help="Price networks that the device's delegate runs only in part."),
    ] = None,
    sampler: Annotated[
        str | None, typer.Option("--sampler", help="model, tpe, random or nsga2; default model.")
    ] = None,
    rungs: Annotated[str | None, typer.Option("--rungs", help="Training steps per rung, such as 50,150,450.")] = None,
    final_steps: Annotated[
        int | None,
        typer.Option(
            "--final-steps",
            help="How long the winner will be trained: finals train the best so, from three seeds. 0: no finals.",
        ),
    ] = None,
    final_share: Annotated[
        float | None, typer.Option("--final-share", help="Share of a budget in time for the finals; default 0.25.")
    ] = None,
    prior: Annotated[
        str | None,
        typer.Option("--prior", help="auto: proposals begin with what was learned on other pairs; none: with nothing."),
    ] = None,
    workers: Annotated[
        str,
        typer.Option(
            "--workers", help="Candidates trained at once, or auto: one per core, on a GPU one. 1 repeats exactly."
        ),
    ] = "auto",
    study: Annotated[
        str | None, typer.Option("--study", help="Name of the study; default from data, device, space.")
    ] = None,
    results: Results = Path("results"),
    seed: Seed = None,
    loss: Loss = None,
    learning_rate: Rate = None,
    batch: Batch = None,
    patch: Patch = None,
    precision: Precision = None,
    reparameterise: Reparameterise = None,
    vgg_weights: VggWeights = None,
    raw_dir: RawDir = None,
    rgb_dir: RgbDir = None,
    bits: Bits = None,
    black: Black = None,
    white: White = None,
    pattern: Pattern = None,
    packing: Packing = None,
) -> None:
    """Search for the best network on a device. The same command continues, a larger budget extends."""
    from nas.search.budget import parse_budget
    from nas.search.open_study import SearchOptions

    spent = parse_budget(budget)
    asked = SearchOptions(
        study=study,
        data=data_config(data, raw_dir, rgb_dir, bits, black, white, pattern, packing),
        device=device,
        space=space,
        objective=objective,
        sampler=sampler,
        seed=seed,
        rungs=None if rungs is None else parse_rungs(rungs),
        final_steps=final_steps,
        final_share=final_share,
        prior=prior,
        max_runtime_ms=max_runtime,
        max_memory_mb=max_memory,
        allow_fallback=allow_fallback,
        vgg_file=vgg_weights,
        **training_options(loss, learning_rate, batch, patch, precision, reparameterise),
    )
    from nas.cli.search import run_search
    from nas.train.workers import parse_workers

    run_search(asked, results, spent, workers=parse_workers(workers))


@app.command()
def space(
    name: Annotated[str, typer.Argument(help="Space name or a .toml file.")] = "mai21",
    sample: Annotated[int, typer.Option("--sample", help="Also show this many random members.")] = 0,
    seed: Seed = None,
    device: DeviceName = None,
    form: ShortForm = "table",
) -> None:
    """Show the genes of a space, its size, and random members."""
    from nas.cli.show import show_space

    show_space(name, sample=sample, seed=seed or 0, device_name=device, form=form)


@app.command()
def pareto(
    study: StudyName = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Compare at this rung.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also show dominated candidates.")] = False,
    plot: Annotated[Path | None, typer.Option("--plot", help="Save a picture: .png, .svg, .pdf or .html.")] = None,
    results: Results = Path("results"),
    form: Form = "table",
) -> None:
    """Show the Pareto front of a study: quality against predicted runtime, at equal training steps."""
    from nas.cli.show import show_front

    show_front(results, study, steps=steps, everything=everything, plot=plot, form=form)


@app.command()
def show(
    target: Annotated[str, typer.Argument(help="best, a trial number, a design, a spec file or a checkpoint folder.")],
    study: StudyName = None,
    device: DeviceName = None,
    results: Results = Path("results"),
    form: ShortForm = "table",
) -> None:
    """Show one network whole: genes, layers with shapes, MACs and predicted runtime, and its history."""
    from nas.cli.show import show_target

    show_target(_resolve(target, results, study), device_name=device, form=form)


@app.command()
def designs(
    name: Annotated[str | None, typer.Argument(help="Show this design whole; all of them if left out.")] = None,
    device: DeviceName = None,
    results: Results = Path("results"),
    form: Form = "table",
) -> None:
    """Show the published designs: cost, predicted runtime, our short trainings, and Table 1 of the challenge."""
    from nas.cli.designs import show_design, show_designs

    if name is None:
        show_designs(results, device_name=device, form=form)
    else:
        show_design(name, results, device_name=device, form=form)


@app.command()
def best(study: StudyName = None, results: Results = Path("results"), form: ShortForm = "table") -> None:
    """Show the best candidate and its quality on the test pairs, which no search reads."""
    from nas.cli.show import show_best

    show_best(results, study, form=form)


@app.command()
def train(
    target: Annotated[str, typer.Argument(help="best, a trial number, a design or a spec file.")],
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps", help="Training steps; the learning rate falls over all of them. Default: the recipe's."
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", help='Recipe name or a .toml file; "report": that of this published design.'),
    ] = None,
    super_network: Annotated[
        bool, typer.Option("--super-network", help="Train jointly with a larger head, taken off on the way.")
    ] = False,
    detach_at: Annotated[
        float | None, typer.Option("--detach-at", help="PSNR in dB above which the larger head goes; default 23.")
    ] = None,
    init_from: Annotated[
        str | None,
        typer.Option("--init-from", help="First weights: a checkpoint file or folder, a trial, best or a design."),
    ] = None,
    validate_every: Annotated[
        int | None, typer.Option("--validate-every", help="Steps between validations; default a twentieth.")
    ] = None,
    patience: Annotated[
        int | None, typer.Option("--patience", help="Stop after so many validations without a better PSNR.")
    ] = None,
    qat: Annotated[
        bool, typer.Option("--qat", help="Fine-tune the trained weights for int8, rounding as its file does.")
    ] = False,
    calibration: Annotated[
        int, typer.Option("--calibration", help="Training pairs from which --qat takes its first ranges.")
    ] = 100,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the run; default results/trained/….")] = None,
    data: Source = None,
    study: StudyName = None,
    results: Results = Path("results"),
    seed: Seed = None,
    loss: Loss = None,
    learning_rate: Rate = None,
    batch: Batch = None,
    patch: Patch = None,
    precision: Precision = None,
    reparameterise: Reparameterise = None,
    vgg_weights: VggWeights = None,
    raw_dir: RawDir = None,
    rgb_dir: RgbDir = None,
    bits: Bits = None,
    black: Black = None,
    white: White = None,
    pattern: Pattern = None,
    packing: Packing = None,
    form: ShortForm = "table",
) -> None:
    """Train one network to the end. The same command continues after a crash.

    Training options that are not given are those of the recipe or of the study. The run's folder holds the last and the
    best checkpoint, history.jsonl, pictures of validation patches, and scalars that TensorBoard reads.
    """
    from nas.train.recipe import Recipe

    options = training_options(loss, learning_rate, batch, patch, precision, reparameterise)
    Recipe(**options, **({} if steps is None else {"horizon": steps}))  # type: ignore[arg-type]  # refuses a wrong one before anything is read
    config = data_config(data, raw_dir, rgb_dir, bits, black, white, pattern, packing)
    from nas.cli.train import run_training
    from nas.search.network_training import TrainOptions

    found = _resolve(target, results, study)
    asked = TrainOptions(
        options, config, steps=steps, recipe=None if recipe is None else _published(recipe, found),
        super_network=super_network, detach_at_db=detach_at, seed=seed, out=out, init_from=init_from,
        validate_every=validate_every, patience=patience, vgg_file=vgg_weights, qat=qat, calibration=calibration,
    )  # fmt: skip
    run_training(found, asked, results=results, form=form)


def _published(name: str, target: "Target") -> "PublishedRecipe":
    from nas.train.recipe_file import recipe_for

    return recipe_for(name, target.spec)


@app.command()
def check(
    model: Annotated[Path, typer.Argument(help="Any .tflite file.")],
    device: DeviceName = None,
    size: Annotated[
        str | None,
        typer.Option("--size", help="Height x width of the photograph, both even, for a file of open size."),
    ] = None,
    form: ShortForm = "table",
) -> None:
    """Check whether a .tflite file runs on a device as a whole, and what to change; exit code 2 where it does not."""
    from nas.cli.check import show_file_check

    if not show_file_check(model, device_name=device, size=size, form=form):
        raise typer.Exit(2)


@app.command()
def audit(
    targets: Annotated[
        list[str] | None,
        typer.Argument(help="Designs, spec files, trial numbers; if left out, small designs and members of mai21."),
    ] = None,
    rungs: Annotated[
        list[str] | None,
        typer.Option("--rungs", help="A ladder such as 100,300,900; may be given often. Default: those of searches."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", help="Of the long training; default 8100, on a GPU 81000.")
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", help="How many seeds every network is trained from.")] = 2,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the audit; default results/audit/….")] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Save a picture: .png, .svg or .pdf.")] = None,
    workers: Annotated[int, typer.Option("--workers", help="Networks trained at once.")] = 1,
    data: Source = None,
    device: DeviceName = None,
    study: StudyName = None,
    results: Results = Path("results"),
    loss: Loss = None,
    learning_rate: Rate = None,
    batch: Batch = None,
    patch: Patch = None,
    precision: Precision = None,
    reparameterise: Reparameterise = None,
    vgg_weights: VggWeights = None,
    raw_dir: RawDir = None,
    rgb_dir: RgbDir = None,
    bits: Bits = None,
    black: Black = None,
    white: White = None,
    pattern: Pattern = None,
    packing: Packing = None,
    form: Form = "table",
) -> None:
    """Find out how well short training predicts long training. The same command continues.

    Networks, seeds, ladders and steps may be added to an audit later.
    """
    options = training_options(loss, learning_rate, batch, patch, precision, reparameterise)
    from nas.cli.audit import AuditOptions, run_audit

    question = AuditOptions(
        targets=tuple(targets or ()),
        ladders=tuple(parse_rungs(ladder) for ladder in rungs or ()),
        steps=steps,
        seeds=seeds,
        data=data_config(data, raw_dir, rgb_dir, bits, black, white, pattern, packing),
        training=options,
        device=device,
        study=study,
        vgg_file=vgg_weights,
    )
    run_audit(question, results, workers=workers, out=out, plot=plot, form=form)


@app.command()
def export(
    target: Annotated[str, typer.Argument(help="best, a trial number, a design, a spec file or a checkpoint folder.")],
    more: Annotated[list[str] | None, typer.Argument(hidden=True)] = None,
    *,
    out: Annotated[Path, typer.Option("--out", help="Folder for the files, card.md, card.json and patches.png.")],
    precision: Annotated[
        list[str] | None,
        typer.Option("--precision", help="fp32, fp16, int8, int16: one or more. fp32 always comes along."),
    ] = None,
    size: Annotated[str, typer.Option("--size", help="Height x width of the mosaic and the photograph.")] = "1088x1920",
    dynamic: Annotated[
        bool, typer.Option("--dynamic", help="Also write files for any size, model_none.tflite and so on.")
    ] = False,
    input_counts: Annotated[
        str, typer.Option("--input", help="What the files read: normalized, or counts: raw10, raw12, raw14.")
    ] = "normalized",
    io: Annotated[
        str | None, typer.Option("--io", help="Input and output of integer files: int8, uint8, int16 or float32.")
    ] = None,
    calibration: Annotated[
        int, typer.Option("--calibration", help="Training pairs from which integer files take their ranges.")
    ] = 100,
    max_drop: Annotated[
        list[str] | None,
        typer.Option(
            "--max-drop", help="Most dB that a file may lose: 0.3, or int8=1; else fp16 and int16 0.1, int8 0.5."
        ),
    ] = None,
    qat: Annotated[
        str | None,
        typer.Option("--qat", help="Fine-tune for int8 for so many steps before, or the folder of `train --qat`."),
    ] = None,
    device: DeviceName = None,
    study: StudyName = None,
    results: Results = Path("results"),
    form: ShortForm = "table",
) -> None:
    """Write verified TFLite files of the longest-trained checkpoint of a network, in one or more precisions.

    Each is judged as a file. One that loses more than allowed is not written, and the layer at fault is named; the
    exit code is 2 then.
    """
    from nas.export.options import ExportOptions, parse_max_drop, parse_precisions, parse_size

    options = ExportOptions(
        # `--precision fp16 int8` leaves the second word to the arguments.
        precisions=parse_precisions([*(precision or ["fp32"]), *(more or [])]),
        size=parse_size(size),
        io=io,
        input=input_counts,
        calibration=calibration,
        dynamic=dynamic,
        max_drop_db=parse_max_drop(max_drop or []),
    )
    options.validate()
    from nas.cli.export import run_export

    found = _resolve(target, results, study)
    run_export(found, out, options, results=results, device_name=device, qat=qat, form=form)


@app.command()
def render(
    model: Annotated[Path, typer.Argument(help="A .tflite file that turns packed RAW into RGB, ours or any other.")],
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help="PNG mosaics, camera RAW, or folders.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the pictures; no file in it is overwritten.")],
    bits_out: Annotated[int, typer.Option("--bits-out", help="Bits per channel of a PNG: 8 or 16.")] = 8,
    jpeg: Annotated[int | None, typer.Option("--jpeg", help="Write JPEG of this quality, 1 to 100.")] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Also draw the camera's own rendering, or a pair's target, beside ours.")
    ] = False,
    convert: Annotated[
        bool, typer.Option("--convert", help="Convert RAW of another Bayer pattern, other levels or odd sides.")
    ] = False,
    max_memory: Annotated[
        float | None,
        typer.Option("--max-memory", help="MB that a network of open size may take; default half of the machine's."),
    ] = None,
    input_kind: Annotated[
        str | None,
        typer.Option(
            "--input",
            help="What the file reads: normalized, raw10, raw12, raw14; default its card's.",
            rich_help_panel="RAW",
        ),
    ] = None,
    bits: Bits = None,
    black: Black = None,
    white: White = None,
    pattern: Pattern = None,
    packing: Packing = None,
    form: ShortForm = "table",
) -> None:
    """Make photos of RAW files with a .tflite file: any size, in tiles where needed.

    Options that say how RAW is read hold for PNG mosaics, and for a file without a card.
    """
    from nas.cli.render import run_render
    from nas.render.batch import RenderOptions
    from nas.render.image_file import FileKind

    raw = {"bits": bits, "black": black, "white": white, "pattern": pattern, "packing": packing}
    asked = RenderOptions(
        raw={name: value for name, value in raw.items() if value is not None},
        input=input_kind,
        kind=FileKind(bits_out, jpeg),
        compare=compare,
        convert=convert,
        max_memory_mb=max_memory,
    )
    run_render(model, inputs, out, asked, form=form)


@data_app.command("check")
def data_check(
    folder: Annotated[str, typer.Argument(help='Folder of RAW→RGB pairs, or "demo".')],
    raw_dir: RawDir = None,
    rgb_dir: RgbDir = None,
    bits: Bits = None,
    black: Black = None,
    white: White = None,
    pattern: Pattern = None,
    packing: Packing = None,
    form: ShortForm = "table",
) -> None:
    """Read every pair and report what would spoil a night of training; exit code 2 where anything would."""
    config = data_config(folder, raw_dir, rgb_dir, bits, black, white, pattern, packing)
    assert config is not None
    from nas.cli.data_check import run_check

    if not run_check(config, form=form):
        raise typer.Exit(2)


def _resolve(target: str, results: Path, study: str | None) -> "Target":
    from nas.search.network_ref import resolve

    return resolve(target, results, study)
