"""The command `isp-nas render`: print progress and the pictures written."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from nas.cli.console import Console, plain
from nas.cli.progress import progress_bar
from nas.cli.tables import SHORT_FORMATS, Column, check_format, print_json, print_rows
from nas.render.batch import Batch, RenderOptions, render_files
from nas.units import Row

SHOWN_NAMES = 3
SHOWN_ERRORS = 10

COLUMNS = (
    Column("picture", lambda r: plain(r["output"]), right=False, stretches=True),
    Column("size", lambda r: f"{r['width']}×{r['height']}"),
    Column("tiles", lambda r: str(r["tiles"])),
    Column("decode s", lambda r: f"{r['decode_s']:.2f}"),
    Column("render s", lambda r: f"{r['inference_s']:.2f}"),
    Column("encode s", lambda r: f"{r['encode_s']:.2f}"),
)


def run_render(model: Path, inputs: Sequence[Path], out: Path, options: RenderOptions, *, output_format: str) -> None:
    """Render every input and print what was made.

    A RAW file that cannot be used does not keep others from being rendered; DataError tells of it in the end.
    """
    check_format(output_format, SHORT_FORMATS)
    aside = Console(stderr=True)
    with progress_bar("Rendering") as bar:
        batch = render_files(
            model, inputs, out, options, on_progress=bar, on_message=lambda line: aside.print(line, highlight=False)
        )
    _show(batch, output_format)
    batch.require_complete()


def _show(batch: Batch, output_format: str) -> None:
    if output_format == "json":
        print_json([asdict(outcome) for outcome in batch.outcomes])
        return
    rows = [asdict(rendered) for rendered in batch.rendered]
    console = Console()
    if rows:
        print_rows(rows, COLUMNS, output_format=output_format, console=console)
    for text, names in _said(rows).items():
        console.print(f"{_listed(names)}: {text}", highlight=False, markup=False)
    if len(batch.outcomes) > 1:
        for error in batch.errors[:SHOWN_ERRORS]:
            console.print(error, style="red", highlight=False, markup=False)


def _said(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Return every conversion and note with the files of which it was said."""
    said: dict[str, list[str]] = {}
    for row in rows:
        for text in (*row["conversions"], *row["notes"]):
            said.setdefault(text, []).append(Path(row["input"]).name)
    return said


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    return ", ".join(names[:SHOWN_NAMES]) + more
