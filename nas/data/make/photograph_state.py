"""What became of each photograph, kept in the output folder so that the same command continues after a kill.

    out/.isp-nas-make/settings.json          what the folder was begun with
    out/.isp-nas-make/photographs/KEY/       one photograph: record.json, its patches as PNG, what scenes are told by

KEY names the content of RAW and target together with the settings, so that a file that was replaced is made anew and
one that was renamed or moved is not. A folder takes its name in one step and is whole from then on.
"""

import json
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
from PIL import Image

from nas.data.array_file import Array, unpacked
from nas.data.cache import build_once
from nas.data.check.near_duplicates import SIDE, Thumbnail, thumbnail
from nas.data.dng import camera_model
from nas.data.make.capture_time import taken_at
from nas.data.make.patch_judging import Judgement
from nas.data.make.photograph import Made, MakeSettings, make
from nas.data.make.scenes import Sight, sight
from nas.data.make.sources import STATE_FOLDER, Photograph, Refused
from search_spaces.errors import DataError
from search_spaces.system import checksums, stored
from search_spaces.system.file_errors import acting_on, cause
from search_spaces.system.printable import printable

KEY_DIGITS = 20
VERSION = 3  # of what is made of a photograph; another makes all anew
FAST_PNG = 1
SHOWN_QUALITY = 80


@dataclass(frozen=True)
class PhotographRecord:
    """One photograph: what it is, how it was aligned, and what became of every patch."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    name: str
    raw: str
    target: str | None
    scene: str | None
    taken: float | None  # s of the phone's clock
    refused: str | None  # why no patch was cut
    size: tuple[int, int] = (0, 0)  # of the mosaic in its phase
    begins: tuple[int, int] = (0, 0)  # in the sensor's rows and columns
    black: tuple[float, ...] = ()
    white: float = 0.0
    agreeing: int | None = None  # features
    degrees: float = 0.0
    scale: float = 1.0
    target_bits: int | None = None  # of a channel, in the file; None where no patch was cut
    target_colours: str | None = None  # which it had, and what was done with them
    camera: str | None = None  # which took the RAW; None where it does not tell
    notes: tuple[str, ...] = ()
    judgements: tuple[Judgement, ...] = ()

    @property
    def kept(self) -> list[Judgement]:
        """The patches that were kept, in order."""
        return [each for each in self.judgements if each.reason is None]

    @property
    def exposure(self) -> float | None:
        """The median of its patches: log2 of mosaic against target."""
        exposures = [each.exposure for each in self.kept if each.exposure is not None]
        return float(np.median(exposures)) if exposures else None


_RECORD: stored.Schema[PhotographRecord] = stored.Schema(PhotographRecord)


@dataclass(frozen=True)
class FinishedPhotograph:
    """The folder of one photograph."""

    folder: Path
    record: PhotographRecord

    @classmethod
    def read(cls, folder: Path) -> "FinishedPhotograph":
        """Read what was written; raises DataError where it is damaged."""
        try:
            data = stored.parse_json(stored.read_bytes(folder / "record.json"))
            return cls(folder, _RECORD.read(checksums.without_sum(data)))
        except (OSError, ValueError) as error:
            raise _damaged(folder, error) from None

    @property
    def key(self) -> str:
        """What names its content and the settings."""
        return self.folder.name

    def patch(self, row: int, column: int, kind: str) -> Path:
        """Where a kept patch lies; `kind` is raw or rgb, row and column are those of the mosaic in its phase."""
        return self.folder / f"{row}-{column}-{kind}.png"

    @property
    def shown(self) -> Path:
        """The target as the mosaic sees it, small."""
        return self.folder / "shown.jpg"

    def sight(self) -> Sight:
        """What scenes are told by."""
        small, places, descriptors = self._sight_file("thumbnail", "places", "descriptors")
        return Sight(small if small.size else None, places, descriptors)

    def thumbnails(self) -> dict[tuple[int, int], Thumbnail]:
        """The small pictures of the targets of kept patches, by row and column, as far as they show something."""
        at, patches = self._sight_file("at", "patches")
        return {(int(row), int(column)): small for (row, column), small in zip(at, patches, strict=True)}

    def _sight_file(self, *names: str) -> tuple[Array, ...]:
        try:
            return unpacked(self.folder / "sight.npz", *names)
        except (OSError, ValueError) as error:
            raise _damaged(self.folder, error) from None


def _damaged(folder: Path, error: Exception) -> DataError:
    return DataError(f'Cannot read "{folder}": {cause(error)}; remove that folder and run again.')


def state_folder(out: Path) -> Path:
    """Where the state of an output folder lies."""
    return out / STATE_FOLDER


def finish(photograph: Photograph, settings: MakeSettings, out: Path) -> Path | Refused:
    """Make a photograph's patches, unless an earlier run has; return its folder, or why there is none."""
    try:
        folder = state_folder(out) / "photographs" / _key(photograph, settings)
        build_once(
            folder, lambda partial: _write(partial, photograph, settings), other="name another folder with --out"
        )
    except DataError as error:
        return Refused(photograph.name, str(error))
    except (cv2.error, MemoryError) as error:  # the others of a long run go on
        why = "needs more memory than there is" if isinstance(error, MemoryError) else f"cannot be worked on ({error})"
        return Refused(photograph.name, f"It {why}; leave it out, or try fewer --workers.")
    return folder


def _key(photograph: Photograph, settings: MakeSettings) -> str:
    summed = sha256(json.dumps([VERSION, asdict(settings)], sort_keys=True).encode())
    for path in (photograph.raw, photograph.target):
        if path is not None:
            with acting_on(path, "read", DataError), stored.opened(path) as file:
                while block := file.read(1 << 22):
                    summed.update(block)
        summed.update(b"\0")
    return summed.hexdigest()[:KEY_DIGITS]


def _write(folder: Path, photograph: Photograph, settings: MakeSettings) -> None:
    """Write one photograph; what its content makes impossible is kept, so that it is not tried again."""
    named: dict[str, Any] = {
        "name": printable(photograph.name),  # names may hold bytes that are no text
        "raw": printable(photograph.raw),
        "target": None if photograph.target is None else printable(photograph.target),
        "scene": photograph.scene,
        "taken": taken_at(photograph.raw),
        "camera": camera_model(photograph.raw),
    }
    try:
        made = make(photograph, settings)
    except DataError as error:
        _write_record(folder, PhotographRecord(**named, refused=_sentence(printable(error))))
        return
    for cut in made.cuts:
        for kind, pixels in (("raw", cut.mosaic), ("rgb", cut.target)):
            name = f"{cut.judgement.row}-{cut.judgement.column}-{kind}.png"
            Image.fromarray(np.ascontiguousarray(pixels)).save(folder / name, compress_level=FAST_PNG)
    Image.fromarray(made.shown).save(folder / "shown.jpg", quality=SHOWN_QUALITY)
    _write_sight(folder / "sight.npz", sight(made.grey), made)
    _write_record(folder, _record(made, named))


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _record(made: Made, named: dict[str, Any]) -> PhotographRecord:
    return PhotographRecord(
        **named,
        refused=None,
        size=(made.mosaic.values.shape[0], made.mosaic.values.shape[1]),
        begins=made.begins,
        black=made.mosaic.black,
        white=made.mosaic.white,
        agreeing=made.agreeing,
        degrees=made.degrees,
        scale=made.scale,
        target_bits=made.target_bits,
        target_colours=made.target_colours,
        notes=made.notes,
        judgements=made.judgements,
    )


def _write_record(folder: Path, record: PhotographRecord) -> None:
    (folder / "record.json").write_text(json.dumps(checksums.summed(asdict(record))), encoding="utf-8")


def _write_sight(path: Path, seen: Sight, made: Made) -> None:
    small = np.empty(0, np.float16) if seen.thumbnail is None else seen.thumbnail
    shown = [(cut.judgement, each) for cut in made.cuts if (each := thumbnail(cut.target)) is not None]
    np.savez(
        path,
        thumbnail=small,
        places=seen.places,
        descriptors=seen.descriptors,
        at=np.array([(judgement.row, judgement.column) for judgement, _ in shown], np.int32).reshape(-1, 2),
        patches=np.array([each for _, each in shown], np.float16).reshape(-1, SIDE, SIDE),
    )
