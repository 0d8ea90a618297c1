"""The command line: parse, call, print. Everything heavy is imported inside the command that needs it.

`isp-nas --help` must answer at once, so nothing at the top of this file loads NumPy, JAX, Optuna or TensorFlow.
"""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from nas.cli import cluster, data, latency, process
from nas.cli.command_options import (
    ClusterSettings,
    DumpOptions,
    FileOptions,
    PictureOptions,
    RunOptions,
    SearchRunOptions,
    StudySettings,
)
from nas.cli.config_file import ConfigFile, read_config
from nas.cli.option_groups import argument, grouped, option
from nas.cli.options import (
    AnyDevice,
    DataOptions,
    DeviceName,
    Form,
    NetworkName,
    RawOptions,
    RecipeOptions,
    ResultsFolder,
    Seed,
    ShortForm,
    StudyOptions,
    Trainable,
    Watch,
    parse_rungs,
)

app = typer.Typer(
    name="isp-nas",
    help="Find the best learned smartphone ISP for your phone: search, inspect the front, export to TFLite.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(data.app, name="data")
app.add_typer(latency.app, name="latency")
app.add_typer(cluster.app, name="cluster")


def main() -> None:
    """Run the command line; what the user can mend is one sentence and exit code 2."""
    process.run(app)


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
    """Options of the command as a whole; `process` looks for --debug itself."""


@app.command()
@grouped
def search(
    search: SearchRunOptions,
    data: DataOptions,
    settings: StudySettings,
    training: RecipeOptions,
    cluster: ClusterSettings,
    config: Annotated[
        ConfigFile | None,
        option(
            "--config",
            help="Read options from a .toml file or a study's run.toml; the command line wins.",
            parser=str,
            metavar="FILE",
            is_eager=True,
            callback=read_config,
        ),
    ] = None,
) -> None:
    """Search for the best network on a device. The same command continues, a larger budget extends it."""
    from nas.search.budget import parse_budget

    spent = parse_budget(search.budget)
    from nas.cli.config_file import search_options

    given = {
        "study": search.study,
        "device": search.device,
        "seed": search.seed,
        "vgg_file": training.vgg_weights,
        "backend": cluster.backend,
        **settings.fields(),
        **training.recipe_fields(),
    }
    options = search_options(config, given, data)
    from nas.cli.search import run_search
    from nas.train.workers import parse_workers

    workers = parse_workers(search.workers)
    run_search(
        options,
        search.results,
        spent,
        workers=workers,
        cluster=cluster.options(),
        stall_s=cluster.stall,
        quiet=search.quiet,
        log_file=search.log_file,
    )


app.command()(cluster.worker)


@app.command()
def space(
    name: Annotated[str, typer.Argument(help="Space name or a .toml file.")] = "mai21",
    sample: Annotated[int, option("--sample", help="Number of random members to show.")] = 0,
    seed: Annotated[int, option("--seed", help="Seed of the random members.")] = 0,
    device: AnyDevice = None,
    output_format: ShortForm = "table",
) -> None:
    """Show the genes of a space, its size, and random members."""
    from nas.cli.show import show_space

    show_space(name, sample=sample, seed=seed, device_name=device, output_format=output_format)


@app.command()
@grouped
def pareto(
    where: StudyOptions,
    steps: Annotated[
        int | None,
        option(
            "--steps",
            help="Compare candidates at this number of steps.",
            default="the longest that three were trained for",
        ),
    ] = None,
    everything: Annotated[bool, option("--all", help="Also show dominated candidates.")] = False,
    plot: Annotated[Path | None, option("--plot", help="Save a picture: .png, .svg, .pdf or .html.")] = None,
    watch: Watch = False,
    output_format: Form = "table",
) -> None:
    """Show the Pareto front of a study: quality against predicted runtime, at equal training steps."""
    from nas.cli.show import show_front, watch_front

    if watch:
        watch_front(
            where.results, where.study, steps=steps, everything=everything, plot=plot, output_format=output_format
        )
    else:
        show_front(
            where.results, where.study, steps=steps, everything=everything, plot=plot, output_format=output_format
        )


@app.command()
@grouped
def report(
    where: StudyOptions,
    out: Annotated[Path, option("--out", help="The page, an .html file.")] = Path("report.html"),
    photos: Annotated[int, option("--photos", help="Validation pairs to show; 0 loads no network.")] = 3,
    export: Annotated[
        list[Path] | None,
        option("--export", help="Folder of an export whose losses to show.", default="those in the study's folder"),
    ] = None,
    output_format: ShortForm = "table",
) -> None:
    """Write a page about a study: verdict, front, photos, progress, time, genes, layers, precisions, provenance.

    One file without requests to other hosts; it reads on a phone, too. With --format json its data is printed as well.
    """
    from nas.cli.report import write_report
    from nas.report.study_report import ReportOptions

    write_report(
        where.results, where.study, ReportOptions(photos, tuple(export or ())), out=out, output_format=output_format
    )


@app.command()
@grouped
def compare(
    names: Annotated[
        list[str], typer.Argument(metavar="A B...", help="Studies, or networks such as STUDY:17 or best.")
    ],
    where: StudyOptions,
    out: Annotated[Path, option("--out", help="The page, an .html file.")] = Path("compare.html"),
    photos: Annotated[int, option("--photos", help="Validation pairs to show on the page.")] = 3,
    output_format: ShortForm = "table",
) -> None:
    """Show where two or more studies, or networks, differ: settings, data, training, genes, quality, layers, photos."""
    from nas.cli.report import write_comparison

    write_comparison(names, where.results, where.study, photos=photos, out=out, output_format=output_format)


@app.command()
@grouped
def status(where: StudyOptions, watch: Watch = False, output_format: ShortForm = "table") -> None:
    """Show how a study stands: running or not, budget used, counts, the best so far, the verdict."""
    from nas.cli.studies import show_status

    show_status(where.results, where.study, watch=watch, output_format=output_format)


@app.command()
def studies(results: ResultsFolder = Path("results"), output_format: Form = "table") -> None:
    """List the studies: running or not, budget, age, and the best of each."""
    from nas.cli.studies import show_studies

    show_studies(results, output_format=output_format)


@app.command()
def delete(
    study: Annotated[str, typer.Argument(help="Name of the study.")],
    results: ResultsFolder = Path("results"),
    output_format: ShortForm = "table",
) -> None:
    """Move a study to the trash of this system, from which it can be taken back."""
    from nas.cli.studies import delete_study

    delete_study(results, study, output_format=output_format)


@app.command()
@grouped
def show(
    network: NetworkName, where: StudyOptions, device: DeviceName = None, output_format: ShortForm = "table"
) -> None:
    """Show one network in full: genes, layers with shapes, MACs and predicted runtime, and its history."""
    from nas.cli.show import show_network

    show_network(where.resolve(network), device_name=device, output_format=output_format)


@app.command()
def designs(
    name: Annotated[str | None, typer.Argument(help="Design to show in full; all if left out.")] = None,
    device: AnyDevice = None,
    results: ResultsFolder = Path("results"),
    output_format: Form = "table",
) -> None:
    """Show the published designs: cost, predicted runtime, our short trainings, and Table 1 of the challenge."""
    from nas.cli.designs import show_design, show_designs

    if name is None:
        show_designs(results, device_name=device, output_format=output_format)
    else:
        show_design(name, results, device_name=device, output_format=output_format)


@app.command()
@grouped
def best(where: StudyOptions, output_format: ShortForm = "table") -> None:
    """Show the best candidate and its quality on the test pairs, which no search reads."""
    from nas.cli.show import show_best

    show_best(where.results, where.study, output_format=output_format)


@app.command()
@grouped
def train(
    network: Trainable,
    steps: Annotated[
        int | None,
        option("--steps", help="Training steps; the learning rate falls over all of them.", default="the recipe's"),
    ] = None,
    *,
    run: RunOptions,
    out: Annotated[Path | None, option("--out", help="Folder of the run.", default="results/trained/…")] = None,
    data: DataOptions,
    where: StudyOptions,
    seed: Seed = None,
    training: RecipeOptions,
    output_format: ShortForm = "table",
) -> None:
    """Train one network to the end. The same command continues after a crash.

    Training options that are not given are those of the recipe or of the study. The run's folder holds the last and the
    best checkpoint, history.jsonl, pictures of validation patches, and scalars that TensorBoard reads.
    """
    from nas.train.recipe import Recipe

    fields = training.recipe_fields()
    total_steps: dict[str, Any] = {} if steps is None else {"total_steps": steps}
    Recipe(**fields, **total_steps)  # refuses a wrong one before anything is read
    config = data.chosen()
    from nas.cli.train import run_training
    from nas.search.network_training import TrainingRequest
    from nas.train.recipe_file import recipe_for

    network_ref = where.resolve(network)
    options = TrainingRequest(
        fields,
        config,
        steps,
        None if run.recipe is None else recipe_for(run.recipe, network_ref.spec),
        run.super_network,
        run.detach_at,
        seed,
        out,
        run.init_from,
        run.validate_every,
        run.patience,
        training.vgg_weights,
        run.qat,
        run.calibration,
    )
    run_training(network_ref, options, results=where.results, output_format=output_format)


@app.command()
def check(
    model: Annotated[Path, argument(help="Any .tflite file.")],
    device: AnyDevice = None,
    size: Annotated[
        str | None,
        option("--size", help="Height x width of the photograph, both even, for a file of open size."),
    ] = None,
    output_format: ShortForm = "table",
) -> None:
    """Check whether a .tflite file runs on a device as a whole, and what to change; exit code 2 if it does not."""
    from nas.cli.check import show_file_check

    if not show_file_check(model, device_name=device, size=size, output_format=output_format):
        raise typer.Exit(2)


@app.command()
@grouped
def audit(
    networks: Annotated[
        list[str] | None,
        typer.Argument(help="Designs, spec files or trial numbers; if left out, small designs and members of mai21."),
    ] = None,
    rungs: Annotated[
        list[str] | None,
        option("--rungs", help="Ladder of steps such as 100,300,900; repeatable.", default="those of searches"),
    ] = None,
    steps: Annotated[
        int | None, option("--steps", help="Steps of the long training.", default="8100, on a GPU 81000")
    ] = None,
    seeds: Annotated[int, option("--seeds", help="Number of seeds per network.")] = 2,
    out: Annotated[Path | None, option("--out", help="Folder of the audit.", default="results/audit/…")] = None,
    plot: Annotated[Path | None, option("--plot", help="Save a picture: .png, .svg or .pdf.")] = None,
    workers: Annotated[int, option("--workers", help="Networks trained at once.")] = 1,
    *,
    data: DataOptions,
    device: DeviceName = None,
    where: StudyOptions,
    training: RecipeOptions,
    output_format: Form = "table",
) -> None:
    """Measure how well short training predicts long training. The same command continues.

    Networks, seeds, ladders and steps may be added to an audit later.
    """
    fields = training.recipe_fields()
    from nas.cli.audit import AuditOptions, run_audit

    question = AuditOptions(
        networks=tuple(networks or ()),
        ladders=tuple(parse_rungs(ladder) for ladder in rungs or ()),
        steps=steps,
        seeds=seeds,
        data=data.chosen(),
        training=fields,
        device=device,
        study=where.study,
        vgg_file=training.vgg_weights,
    )
    run_audit(question, where.results, workers=workers, out=out, plot=plot, output_format=output_format)


@app.command()
@grouped
def export(
    network: NetworkName,
    more: Annotated[list[str] | None, typer.Argument(hidden=True)] = None,
    *,
    out: Annotated[Path, option("--out", help="Folder for the files, card.md, card.json and patches.png.")],
    files: FileOptions,
    device: DeviceName = None,
    where: StudyOptions,
    output_format: ShortForm = "table",
) -> None:
    """Write verified TFLite files of the longest-trained checkpoint of a network, in one or more precisions.

    Each is judged as a file. One that loses more than allowed is not written, and the layer at fault is named; the
    exit code is 2 then.
    """
    options = files.options(more or [])  # `--precision fp16 int8` leaves the second word to the arguments
    from nas.cli.export import run_export

    network_ref = where.resolve(network)
    run_export(
        network_ref, out, options, results=where.results, device_name=device, qat=files.qat, output_format=output_format
    )


@app.command()
@grouped
def render(
    model: Annotated[Path, argument(help="A .tflite file that turns packed RAW into RGB, ours or any other.")],
    inputs: Annotated[list[Path], argument(metavar="INPUT...", help="PNG mosaics, camera RAW, or folders.")],
    out: Annotated[Path, option("--out", help="Folder for the pictures; no file in it is overwritten.")],
    picture: PictureOptions,
    raw: RawOptions,
    dump: DumpOptions,
    output_format: ShortForm = "table",
) -> None:
    """Make photos of RAW files with a .tflite file: any size, in tiles where needed.

    Options that say how RAW is read hold for PNG mosaics, and for a file without a card; --pattern holds for a camera's
    RAW, too.
    """
    from nas.cli.render import run_render

    run_render(model, inputs, out, picture.options(raw, dump), output_format=output_format)
