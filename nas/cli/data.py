"""The commands under `isp-nas data`: parse, call, print. Heavy imports stay inside the commands, as in `main`."""

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.command_options import DumpOptions, MakeOptions
from nas.cli.option_groups import grouped, option
from nas.cli.options import PairOptions, RawOptions, ShortForm

app = typer.Typer(help="Make RAW→RGB training pairs of photographs, and check them.", no_args_is_help=True)


@app.command("check")
@grouped
def check(
    folder: Annotated[str, typer.Argument(help='Folder or .csv of RAW→RGB pairs, or "demo".')],
    pairs: PairOptions,
    output_format: ShortForm = "table",
) -> None:
    """Read every pair and report what would spoil a training; exit code 2 if anything would."""
    config = pairs.config(folder)
    assert config is not None
    from nas.cli.data_check import run_check

    if not run_check(config, output_format=output_format):
        raise typer.Exit(2)


@app.command("make")
@grouped
def make(
    raw: Annotated[Path, option("--raw", help="A RAW file, or a folder of them: all that `render` reads.")],
    target: Annotated[
        str,
        option(
            "--target",
            help="Folder of another camera's photographs, or sidecar, embedded (the phone's own JPEG) or libraw.",
        ),
    ],
    out: Annotated[Path, option("--out", help="Folder for the pairs; no file in it is overwritten.")],
    options: MakeOptions,
    format_of_raw: RawOptions,
    dump: DumpOptions,
    output_format: ShortForm = "table",
) -> None:
    """Make training pairs of photographs: align, cut and judge patches. The same command continues.

    Mosaics stay as the sensor wrote them, only targets are moved. Options that say how RAW is read hold for mosaics
    without metadata; --black, --white and --pattern for a camera's RAW, too, where its own are wrong.
    """
    from nas.cli.data_make import run_make, settings_of

    settings, assembly = settings_of(target, options, format_of_raw, dump)
    run_make(
        raw, target, out, settings, assembly, match=options.match, workers=options.workers, output_format=output_format
    )
