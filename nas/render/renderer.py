"""Render RAW files to pictures through a .tflite file: `isp-nas render` without its printing.

    RAW file ─ raw_file ─► mosaic ─ raw_input ─► packed RAW ─ tiling, isp_file ─► RGB ─ picture ─► file

Everything that can be refused before a network has run is refused then, and no file is ever overwritten.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nas.data.camera_raw import Mosaic, Reference, find_raw_files, read_mosaic, read_reference
from nas.data.raw_dump import RawDump
from nas.data.raw_format import RawFormat
from nas.render.image_file import BITS, FileKind, Integers, encode, side_by_side, to_integers
from nas.render.integer_tables import look_up_bytes
from nas.render.made import RenderNotes
from nas.render.pack_input import convert, count_look_ups, packed, packed_by_look_ups, pad
from nas.render.row_threads import in_strips
from nas.render.tile_plan import Place, TileLayout, lay_out
from nas.render.tiling import blend
from nas.tflite.input_contract import Contract
from nas.tflite.isp_file import IspFile
from nas.tflite.tensor_encoding import TensorEncoding
from search_spaces.errors import ExportError, UsageError
from search_spaces.system.atomic_write import write_durably

Array = np.ndarray[Any, Any]
Report = Callable[[int, int], None]  # (tiles done, tiles in all)
COMPARISON_SUFFIX = ".compare.jpg"
NOTHING_TO_COMPARE = "There is no other rendering of this mosaic to compare with."


# What makes whole numbers of RGB; one of each, so that tables of them are made once.
_FINISH = {bits: partial(to_integers, bits=bits) for bits in BITS}


@dataclass(frozen=True)
class Task:
    """One picture to be made: from which RAW, and into which files."""

    input: Path
    output: Path
    comparison: Path | None


@dataclass(frozen=True)
class Rendered:
    """What became of one RAW file; seconds by where they went."""

    input: str
    output: str
    comparison: str | None
    height: int
    width: int
    tiles: int
    decode_s: float
    inference_s: float
    encode_s: float
    conversions: tuple[str, ...]
    notes: tuple[str, ...]


def plan(
    inputs: Sequence[Path], out: Path, kind: FileKind, *, compare: bool, made: RenderNotes | None = None
) -> tuple[list[Task], list[Task]]:
    """Name the files that are to be made: below `out` as the input is called; the folders of a folder are kept.

    Returns what is to be done, and what an earlier run of the same command has done.

    Raises UsageError where one of them exists or two inputs would make the same, DataError where there is no input.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file, and --out names a folder for the pictures; name another one.")
    tasks: dict[Path, Task] = {}
    for given in inputs:
        for path in find_raw_files(given):
            stem = (out / path.relative_to(given if given.is_dir() else given.parent)).with_suffix("")
            output, comparison = stem.with_name(stem.name + kind.suffix), stem.with_name(stem.name + COMPARISON_SUFFIX)
            task = Task(path, output, comparison if compare else None)
            other = tasks.setdefault(output, task)
            if other.input.resolve() != path.resolve():
                raise UsageError(
                    f"{other.input} and {path} would both become {output}; render them with different folders as --out."
                )
    done = [task for task in tasks.values() if made is not None and _is_done(task, made)]
    left = [task for task in tasks.values() if task not in done]
    for task in left:
        for path in filter(None, (task.output, task.comparison)):
            if made is None or not made.has(path, task.input):
                _refuse_overwriting(path)
    return left, done


def _is_done(task: Task, made: RenderNotes) -> bool:
    return all(made.has(path, task.input) for path in filter(None, (task.output, task.comparison)))


def _refuse_overwriting(path: Path) -> None:
    if path.exists():
        raise UsageError(f"{path} exists and is not overwritten; name another folder with --out.")


@dataclass(frozen=True)
class Renderer:
    """A network with everything that is the same for all pictures."""

    model: IspFile
    contract: Contract  # what it was trained on
    raw_format: RawFormat  # what mosaics without a format of their own mean
    kind: FileKind
    may_convert: bool
    most_bytes: float  # that a network of open size may take
    made: RenderNotes | None = None  # where it is noted what a picture is made of
    pattern: str | None = None  # that holds whatever a camera's RAW says of its own
    dump: RawDump | None = None  # how files without a header are stored
    assumed: str | None = None  # of what the network reads, for nobody told

    def render(self, task: Task, *, report: Report = lambda _, __: None) -> Rendered:
        """Make one picture and write it.

        Raises DataError for a RAW file that cannot be used, UsageError where the network cannot take it, and
        ExportError where the picture cannot be written.
        """
        begun = time.perf_counter()
        mosaic = read_mosaic(task.input, self.raw_format, pattern=self.pattern, dump=self.dump)
        mosaic, conversions = convert(mosaic, self.contract.format, allowed=self.may_convert, name=str(task.input))
        reference = read_reference(task.input) if task.comparison else None
        decoded = time.perf_counter()
        layout = self.layout(mosaic)
        picture = self.picture(mosaic, layout, report=report)
        rendered = time.perf_counter()
        self._write(task.output, encode(picture, self.kind), task)
        if task.comparison and reference:
            self._write(task.comparison, self._compared(picture, reference), task)
        height, width, _ = picture.shape
        nothing = NOTHING_TO_COMPARE if task.comparison and not reference else None
        return Rendered(
            input=str(task.input),
            output=str(task.output),
            comparison=str(task.comparison) if reference else None,
            height=height,
            width=width,
            tiles=layout.tiles,
            decode_s=decoded - begun,
            inference_s=rendered - decoded,
            encode_s=time.perf_counter() - rendered,
            conversions=conversions,
            notes=(*filter(None, (self.assumed, layout.note, nothing)), *mosaic.notes),
        )

    def _write(self, path: Path, content: bytes, task: Task) -> None:
        if self.made is not None:
            if self.made.has(path, task.input):  # a run that was killed came as far as this one of two files
                return
            self.made.note(path, task.input, content)
        _write(path, content)

    def _compared(self, picture: Integers, reference: Reference) -> bytes:
        ours = picture if picture.dtype == np.uint8 else (picture >> 8).astype(np.uint8)
        return side_by_side([(self.model.path.name, ours), (reference.made_by, reference.rgb)])

    def layout(self, mosaic: Mosaic) -> TileLayout:
        """Return how a mosaic goes through the network."""
        height, width = mosaic.values.shape
        size = (height // 2, width // 2)
        return lay_out(size, self.model.field, fixed=self.model.size, most_bytes=self.most_bytes)

    def picture(self, mosaic: Mosaic, layout: TileLayout, *, report: Report = lambda _, __: None) -> Integers:
        """Return the picture of a mosaic, upright, in whole numbers."""
        whole = self.rgb(mosaic, layout, finish=_FINISH[self.kind.bits], report=report)
        return np.ascontiguousarray(mosaic.upright(whole))

    def rgb(
        self,
        mosaic: Mosaic,
        layout: TileLayout,
        *,
        finish: Callable[[Array], Array],
        report: Report = lambda _, __: None,
    ) -> Array:
        """Return what `finish` makes of the network's RGB [h, w, 3], value by value; its argument is not to be kept.

        Raises UsageError where the network's output is no number.
        """
        at_once = self.model.allocate(layout.rows.tile, layout.columns.tile)
        values = pad(mosaic.values, 2 * layout.rows.size, 2 * layout.columns.size)
        canvas = _Canvas(mosaic.values.shape, layout, self.model.output, finish)
        stored = self._stored(mosaic)
        report(0, layout.tiles)
        for first in range(0, layout.tiles, at_once):
            group = layout.places[first : first + at_once]
            pieces = [stored(layout.piece(values, place)) for place in group]
            self.model.run_stored(_filled(pieces, at_once), partial(canvas.add, group))
            report(first + len(group), layout.tiles)
        return canvas.finished()

    def _stored(self, mosaic: Mosaic) -> Callable[[Array], Array]:
        """Return what makes the network's input, as its file stores it, of a piece of the mosaic."""
        encoding, fmt = self.model.input, self.contract.format
        if encoding.is_whole:
            look_ups = count_look_ups(mosaic, self.contract, encoding)
            return partial(packed_by_look_ups, look_ups=look_ups, fmt=fmt, dtype=encoding.dtype)
        return lambda values: encoding.encode(packed(values, mosaic, self.contract))


def _filled(tiles: list[Array], count: int) -> Array:
    """Return a batch of so many tiles, the last one repeated where some are missing."""
    return tiles[0][None] if count == 1 else np.stack([*tiles, *tiles[-1:] * (count - len(tiles))])


class _Canvas:
    """RGB that tiles are added to, each with its weights; a single one is finished where it lies, without a copy."""

    def __init__(
        self, size: tuple[int, ...], layout: TileLayout, output: TensorEncoding, finish: Callable[[Array], Array]
    ) -> None:
        self._size, self._layout, self._output, self._finish = size, layout, output, finish
        self._rows, self._columns = layout.rows.weights(scale=2), layout.columns.weights(scale=2)
        self._sum: Array | None = None
        self._finished: Array | None = None

    def add(self, places: Sequence[Place], stored: Array) -> None:
        """Add a batch of tiles, as the file stores them, by their places.

        Raises UsageError where it holds what is no number.
        """
        if self._layout.tiles == 1:
            self._finished = self._single(stored)
            return
        y = self._decoded(stored)
        if self._sum is None:
            self._sum = np.zeros((2 * self._layout.rows.size, 2 * self._layout.columns.size, 3), np.float32)
        for (row, column), tile in zip(places, y, strict=False):  # a batch may be filled up
            blend(
                tile, self._layout.piece(self._sum, (row, column)), rows=self._rows[row], columns=self._columns[column]
            )

    def _single(self, stored: Array) -> Array:
        place = (0, slice(self._size[0]), slice(self._size[1]))
        if self._output.is_of_bytes:
            return look_up_bytes(stored[place], self._finish, self._output)
        return self._finish(self._decoded(stored)[place])

    def _decoded(self, stored: Array) -> Array:
        y = self._output.decode(stored)
        if not self._output.is_whole and not _is_finite(y):
            raise UsageError(
                "The network's output is not a number; check its file, and that RAW is as it was trained on."
            )
        return y

    def finished(self) -> Array:
        """Return what all tiles make together."""
        if self._finished is None:
            assert self._sum is not None, "no tile was added"
            self._finished = self._finish(self._sum[: self._size[0], : self._size[1]])
        return self._finished


def _is_finite(y: Array) -> bool:
    """Tell whether tiles [n, h, w, 3] hold numbers alone: what is none makes the sum of its row none."""
    rows_of_all = y.reshape(-1, y.shape[2] * y.shape[3])
    sums: list[np.float32] = []
    in_strips(len(rows_of_all), lambda rows: sums.append(rows_of_all[rows].sum()))
    return bool(np.isfinite(sums).all())


def _write(path: Path, content: bytes) -> None:
    _refuse_overwriting(path)  # another run may have made it meanwhile
    try:
        write_durably(path, content)
    except OSError as error:
        raise ExportError(f"{path} cannot be written ({error.strerror}); name another folder with --out.") from None
