"""The command `isp-nas render`: what a person or a program sees of it."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from nas.cli.console import Console, plain
from nas.cli.progress import progress_bar
from nas.cli.tables import SHORT_FORMATS, Column, check_format, print_json, print_rows
from nas.data.camera_raw import is_told
from nas.data.raw_dump import RawDump
from nas.render.image_file import FileKind
from nas.render.made import Made
from nas.render.renderer import Rendered, Renderer, Report, Task, plan
from nas.tflite.input_contract import CARD_FILE, is_carded, read_contract
from nas.tflite.isp_file import IspFile
from nas.train.memory import host_bytes
from nas.units import Row
from search_spaces.errors import DataError, ExportError, IspNasError, UsageError

# A network may take half of the machine: the picture, the system and other programs need the rest.
SHARE_OF_MEMORY = 0.5
UNKNOWN_MEMORY_BYTES = 8e9
# Values in [0, 1] leave half of such an integer's steps unused and more; of counts it is the least.
MOST_NORMALIZED = 2.0
SHOWN_NAMES = 3
SHOWN_ERRORS = 10
MOST_DIGITS = 7

COLUMNS = (
    Column("picture", lambda r: plain(r["output"]), right=False, stretches=True),
    Column("size", lambda r: f"{r['width']}×{r['height']}"),
    Column("tiles", lambda r: str(r["tiles"])),
    Column("decode s", lambda r: f"{r['decode_s']:.2f}"),
    Column("render s", lambda r: f"{r['inference_s']:.2f}"),
    Column("encode s", lambda r: f"{r['encode_s']:.2f}"),
)


@dataclass(frozen=True)
class RenderAsked:
    """What was asked for; None where nothing was said."""

    raw: dict[str, Any]  # the fields of RawFormat that were given
    input: str | None
    kind: FileKind
    compare: bool
    convert: bool
    max_memory_mb: float | None
    dump: RawDump | None = None


@dataclass(frozen=True)
class Refused:
    """A RAW file that was not rendered, beside others that were."""

    input: str
    output: str
    error: str


def dump_of(size: str | None, storage: str) -> RawDump | None:
    """Return how files without a header are stored; None where nobody said so."""
    if size is None:
        if storage != RawDump.storage:
            raise UsageError("--storage says how a RAW dump is stored; give its --size (height x width), too.")
        return None
    sides = size.lower().replace("×", "x").split("x")
    if len(sides) != 2 or not all(side.isascii() and side.isdigit() and len(side) < MOST_DIGITS for side in sides):
        raise UsageError(f'The size of a RAW dump is height x width, such as 3000x4000; got "{size}".')
    return RawDump(int(sides[0]), int(sides[1]), storage)


def run_render(model: Path, inputs: Sequence[Path], out: Path, asked: RenderAsked, *, form: str) -> None:
    """Render every input and print what was made.

    A RAW file that cannot be used does not keep others from being rendered; DataError tells of it in the end.
    """
    check_format(form, SHORT_FORMATS)
    most_bytes = _most_bytes(asked.max_memory_mb)
    made = Made.read(out, {**_content_hashes(model), **asdict(asked), "max_memory_mb": None})
    tasks, done = plan(inputs, out, asked.kind, compare=asked.compare, made=made)
    if done:
        aside = f"{len(done)} of {len(done) + len(tasks)} pictures were whole already and are left as they are."
        Console(stderr=True).print(aside, highlight=False)
    contract, told, assumed = read_contract(model, asked.raw, input_kind=asked.input)
    says_levels = replace(told, pattern=contract.format.pattern) != contract.format
    if says_levels and asked.dump is None and not any(is_told(task.input) for task in tasks):
        raise UsageError(
            "--bits, --black and --white say how PNG mosaics are to be read where a card describes the network, and "
            "there are none; leave them out, for a camera's RAW says so itself."
        )
    file = IspFile(model, is_ours=is_carded(model))
    if assumed and asked.input is None:
        _refuse_counts(file)
    renderer = Renderer(
        file,
        contract,
        told,
        asked.kind,
        may_convert=asked.convert,
        most_bytes=most_bytes,
        assumed=assumed,
        made=made,
        pattern=asked.raw.get("pattern"),
        dump=asked.dump,
    )
    with progress_bar("Rendering") as bar:
        outcomes = list(_render_all(renderer, tasks, bar))
    _show(outcomes, form)
    _complain(outcomes, len(tasks))


def _content_hashes(model: Path) -> dict[str, str]:
    """Return what names the network: its file and the card beside it; nothing of files that cannot be read."""
    files = [path for path in (model, model.with_name(CARD_FILE)) if path.is_file()]
    try:
        return {path.name: sha256(path.read_bytes()).hexdigest() for path in files}
    except OSError:  # whoever reads the file next says so better
        return {}


def _refuse_counts(file: IspFile) -> None:
    """Raise UsageError where a file's integers reach so far that values in [0, 1] would be black to it."""
    largest = file.input.largest
    if largest is not None and largest > MOST_NORMALIZED:
        raise UsageError(
            f"{file.path} reads integers that stand for values up to {largest:g}, which are counts and not [0, 1], and "
            "nothing tells which counts are black and white; say so by --input raw10, raw12 or raw14."
        )


def _most_bytes(max_memory_mb: float | None) -> float:
    if max_memory_mb is None:
        return SHARE_OF_MEMORY * (host_bytes() or UNKNOWN_MEMORY_BYTES)
    if not max_memory_mb > 0:
        raise UsageError(f"A network needs more than 0 MB, got {max_memory_mb:g} for --max-memory.")
    return max_memory_mb * 1e6


def _render_all(renderer: Renderer, tasks: Sequence[Task], bar: Report) -> Iterator[Rendered | Refused]:
    """Render one after the other; where one cannot be written, the disk is full for all of them."""
    tiles = _Tiles(bar, len(tasks))
    for task in tasks:
        try:
            yield renderer.render(task, report=tiles)
        except IspNasError as error:
            yield Refused(str(task.input), str(task.output), str(error))
            if isinstance(error, ExportError):
                return
        tiles.next_picture()


class _Tiles:
    """Adds up the tiles of all pictures, those to come being taken for as large as the one at work."""

    def __init__(self, bar: Report, pictures: int) -> None:
        self._bar, self._left = bar, pictures
        self._before = self._here = 0

    def __call__(self, done: int, total: int) -> None:
        self._here = done
        self._bar(self._before + done, self._before + total * self._left)

    def next_picture(self) -> None:
        self._before, self._here = self._before + self._here, 0
        self._left -= 1


def _show(outcomes: Sequence[Rendered | Refused], form: str) -> None:
    if form == "json":
        print_json([asdict(outcome) for outcome in outcomes])
        return
    rows = [asdict(outcome) for outcome in outcomes if isinstance(outcome, Rendered)]
    console = Console()
    if rows:
        print_rows(rows, COLUMNS, form=form, console=console)
    for text, names in _said(rows).items():
        console.print(f"{_listed(names)}: {text}", highlight=False, markup=False)
    refused = [outcome.error for outcome in outcomes if isinstance(outcome, Refused)]
    if len(outcomes) > 1:
        for error in refused[:SHOWN_ERRORS]:
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


def _complain(outcomes: Sequence[Rendered | Refused], asked: int) -> None:
    errors = [outcome.error for outcome in outcomes if isinstance(outcome, Refused)]
    missing = asked - (len(outcomes) - len(errors))
    if missing:
        first = errors[0]
        raise DataError(first if asked == 1 else f"{missing} of {asked} inputs were not rendered; the first: {first}")
