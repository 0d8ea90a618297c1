"""The command `isp-nas data make`: print progress, what gave no pairs and why, and what to do next."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from nas.cli.console import Console, plain, typed
from nas.cli.progress import progress_bar
from nas.cli.tables import SHORT_FORMATS, check_format, print_json
from search_spaces.errors import UsageError
from search_spaces.system.printable import printable

if TYPE_CHECKING:
    from nas.cli.command_options import DumpOptions, MakeOptions
    from nas.cli.options import RawOptions
    from nas.data.make.assembly import AssemblySettings
    from nas.data.make.maker import MakeReport
    from nas.data.make.photograph import MakeSettings

SHOWN_REFUSALS = 20


def run_make(
    raw: Path,
    target: str,
    out: Path,
    settings: "MakeSettings",
    assembly: "AssemblySettings",
    *,
    match: str,
    workers: int | None,
    output_format: str,
) -> None:
    """Make pairs and print what became of the photographs."""
    check_format(output_format, SHORT_FORMATS)
    from nas.data.make.maker import make_pairs

    with progress_bar("Photographs") as bar:
        report = make_pairs(raw, target, out, settings, assembly, match=match, workers=workers, progress=bar)
    _show(report, output_format)


def settings_of(
    target: str, options: "MakeOptions", raw: "RawOptions", dump: "DumpOptions"
) -> "tuple[MakeSettings, AssemblySettings]":
    """Return what was asked for."""
    from nas.data.make.assembly import AssemblySettings
    from nas.data.make.maker import FOLDER_TARGET
    from nas.data.make.photograph import MakeSettings
    from nas.data.make.sources import OWN_TARGETS
    from nas.data.raw_format import RawFormat

    fmt = RawFormat(**raw.given())
    settings = MakeSettings(
        target=target if target in OWN_TARGETS else FOLDER_TARGET,
        patch=options.patch,
        stride=options.stride,
        phase=options.phase,
        black_levels=options.black_levels,
        raw=fmt,
        pattern=raw.pattern,
        black=_black(options.tile_black, raw.black),
        white=raw.white,
        dump=dump.dump(),
    )
    return settings, AssemblySettings(
        options.per_photo, options.seed, options.val, options.test, options.gap, options.exposure
    )


def _black(tile: str | None, black: int | None) -> "int | tuple[float, ...] | None":
    if tile is None:
        return black
    if black is not None:
        raise UsageError("Give one black level with --black, or those of the tile with --tile-black; not both.")
    try:
        return tuple(float(part) for part in tile.split(","))
    except ValueError:
        raise UsageError(
            f'--tile-black is four numbers, row by row, such as 64,65,65,64; got "{printable(tile)}".'
        ) from None


def _show(report: "MakeReport", output_format: str) -> None:
    if output_format == "json":
        print_json(asdict(report))
        return
    from nas.data.make.maker import report_facts
    from nas.data.make.report_page import REPORT_FILE

    console = Console()
    for each in report.refused[:SHOWN_REFUSALS]:
        console.print(f"[yellow]{plain(each.name)}[/]: {plain(each.why)}", highlight=False)
    if len(report.refused) > SHOWN_REFUSALS:
        console.print(f"… {len(report.refused) - SHOWN_REFUSALS} more are in {REPORT_FILE}.", highlight=False)
    for note in report.notes:
        console.print(f"[yellow]note[/] {plain(note)}", highlight=False)
    for name, value in report_facts(report).items():
        console.print(f"{name}: {plain(value)}", highlight=False)
    out = Path(report.out)
    console.print(f"{report.written} pairs written; look at {plain(out / REPORT_FILE)}", highlight=False)
    command = f"isp-nas data check {typed(report.out)}{report.check_options}"
    console.print_command(f"Next: {command}")
