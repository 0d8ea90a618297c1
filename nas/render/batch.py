"""Many RAW files → pictures: which network reads them how, one after the other, and what became of each.

What `isp-nas render` and `nas.render` have in common.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, TypedDict

from nas.data.layout import is_mosaic_alone
from nas.data.raw_dump import RawDump
from nas.render.image_file import FileKind
from nas.render.made import RenderNotes
from nas.render.renderer import Rendered, Renderer, Report, Task, plan
from nas.tflite.input_contract import CARD_FILE, is_carded, read_contract
from nas.tflite.isp_file import IspFile
from nas.train.memory import host_bytes
from search_spaces.errors import DataError, ExportError, IspNasError, UsageError

# A network may take half of the machine: the picture, the system and other programs need the rest.
SHARE_OF_MEMORY = 0.5
UNKNOWN_MEMORY_BYTES = 8e9
# Values in [0, 1] leave half of such an integer's steps unused and more; of counts it is the least.
MOST_NORMALIZED = 2.0


class RenderSettings(TypedDict, total=False):
    """The keyword arguments of `nas.render` beside those that all pictures need."""

    bits: int  # per channel of a PNG: 8 or 16
    jpeg_quality: int  # write JPEG of this quality, 1 to 100
    compare: bool  # also draw the camera's own rendering, or a pair's target, beside ours
    convert: bool  # accept RAW of another Bayer pattern, other levels or odd sides
    max_memory_mb: float  # that a network of open size may take
    input: str  # what the file reads: normalized, raw10, raw12 or raw14


@dataclass(frozen=True)
class RenderOptions:
    """How pictures are to be made; None where nothing was said."""

    raw: dict[str, Any] = field(default_factory=dict)  # the fields of RawFormat that were given
    input: str | None = None
    kind: FileKind = FileKind()  # noqa: RUF009 (frozen)
    compare: bool = False
    convert: bool = False
    max_memory_mb: float | None = None
    dump: RawDump | None = None  # how files without a header are stored


@dataclass(frozen=True)
class RefusedFile:
    """A RAW file that was not rendered, beside others that were."""

    input: str
    output: str
    error: str


@dataclass(frozen=True)
class Batch:
    """What became of the inputs: fewer outcomes than inputs where the disk was full."""

    outcomes: tuple[Rendered | RefusedFile, ...]
    inputs: int

    @property
    def rendered(self) -> list[Rendered]:
        """The pictures that were made."""
        return [outcome for outcome in self.outcomes if isinstance(outcome, Rendered)]

    @property
    def errors(self) -> list[str]:
        """Why others were not."""
        return [outcome.error for outcome in self.outcomes if isinstance(outcome, RefusedFile)]

    def require_complete(self) -> None:
        """Raise DataError where an input was not rendered."""
        missing = self.inputs - len(self.rendered)
        if missing:
            first = self.errors[0]
            one = self.inputs == 1
            raise DataError(
                first if one else f"{missing} of {self.inputs} inputs were not rendered; the first: {first}"
            )


def _no_report(_: int, __: int) -> None:
    pass


def render_files(
    model: Path,
    inputs: Sequence[Path],
    out: Path,
    options: RenderOptions,
    *,
    on_progress: Report = _no_report,
    on_message: Callable[[str], None] = lambda _: None,
) -> "Batch":
    """Render every input; return what became of each, in order, ending early where the disk is full.

    Pictures that an earlier run of the same request made are left as they are, which `on_message` tells.
    Raises before the first one UsageError for options or files that do not go together, DataError for no input.
    """
    made = RenderNotes.read(out, {**_content_hashes(model), **asdict(options), "max_memory_mb": None})
    tasks, done = plan(inputs, out, options.kind, compare=options.compare, made=made)
    if done:
        on_message(f"{len(done)} of {len(done) + len(tasks)} pictures were whole already and are left as they are.")
    renderer = _renderer(model, options, tasks, made)
    return Batch(tuple(_render_all(renderer, tasks, on_progress)), len(tasks))


def _renderer(model: Path, options: RenderOptions, tasks: Sequence[Task], made: RenderNotes) -> Renderer:
    most_bytes = _most_bytes(options.max_memory_mb)
    contract, raw_format, assumed = read_contract(model, options.raw, input_kind=options.input)
    says_levels = replace(raw_format, pattern=contract.format.pattern) != contract.format
    if says_levels and options.dump is None and not any(is_mosaic_alone(task.input) for task in tasks):
        raise UsageError(
            "--bits, --black and --white say how PNG mosaics are to be read where a card describes the network, and "
            "there are none; leave them out, for a camera's RAW says so itself."
        )
    file = IspFile(model, is_ours=is_carded(model))
    if assumed and options.input is None:
        _refuse_counts(file)
    return Renderer(
        file,
        contract,
        raw_format,
        options.kind,
        may_convert=options.convert,
        most_bytes=most_bytes,
        assumed=assumed,
        made=made,
        pattern=options.raw.get("pattern"),
        dump=options.dump,
    )


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


def _render_all(renderer: Renderer, tasks: Sequence[Task], bar: Report) -> Iterator[Rendered | RefusedFile]:
    """Render one after the other; where one cannot be written, the disk is full for all of them."""
    tiles = _Tiles(bar, len(tasks))
    for task in tasks:
        try:
            yield renderer.render(task, report=tiles)
        except IspNasError as error:
            yield RefusedFile(str(task.input), str(task.output), str(error))
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
