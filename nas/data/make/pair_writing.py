"""Write pairs in the challenge's layout, and pairs.csv, which says of each where it comes from.

    out/train/mediatek_raw/N.png, out/train/fujifilm/N.png, val/ and test/ alike, out/pairs.csv, out/dropped.csv

A file that is there is left as it is: the same bytes are what a killed run wrote, others are somebody else's.
"""

import csv
import errno
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from io import StringIO
from pathlib import Path

import numpy as np
from PIL import Image

from nas.data.layout import LAYOUTS, SPLITS, Split
from nas.data.make.assembly import PlannedPair, SetLevels
from nas.data.make.patch_judging import WORDS
from nas.data.make.photograph_state import FAST_PNG, FinishedPhotograph
from nas.data.manifest import MADE_FILE
from nas.data.raw_format import RawFormat
from search_spaces.errors import DataError
from search_spaces.system import stored
from search_spaces.system.atomic_write import temporary_of, write_durably
from search_spaces.system.file_errors import acting_on, cause

RAW_FOLDER, RGB_FOLDER = LAYOUTS[0]
PAIRS_FILE, DROPPED_FILE = MADE_FILE, "dropped.csv"
COLUMNS = (
    "split", "raw", "rgb", "source", "target", "scene", "row", "column", "shift_down_px", "shift_right_px",
    "disagreement_px", "correlation", "sharpness", "exposure_stops", "brightened", "black", "white", "bits", "pattern",
    "packing", "target_bits", "target_colours", "why", "key",
)  # fmt: skip
_EXACT = 1e-6
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK, errno.EXDEV, errno.EINVAL)


def write_pair(out: Path, row: Mapping[str, str], source: FinishedPhotograph) -> None:
    """Write the two files of a row; raises DataError where others are in their places."""
    at = int(row["row"]) - source.record.begins[0], int(row["column"]) - source.record.begins[1]
    for kind in ("raw", "rgb"):
        place, patch = out / row[kind], source.patch(*at, kind)
        with acting_on(place, "write", DataError):
            place.parent.mkdir(parents=True, exist_ok=True)
            if kind == "rgb" and abs(float(row["brightened"]) - 1) > _EXACT:
                _write_brightened(place, patch, float(row["brightened"]))
            else:
                _place(patch, place)


def _write_brightened(place: Path, patch: Path, factor: float) -> None:
    with Image.open(patch) as image:
        values = np.asarray(image).astype(np.float32) * np.float32(factor)
    temporary = temporary_of(place)
    try:
        Image.fromarray(np.rint(np.clip(values, 0, 255)).astype(np.uint8)).save(
            temporary, "PNG", compress_level=FAST_PNG
        )
        _place(temporary, place)
    finally:
        temporary.unlink(missing_ok=True)


def _place(whole: Path, place: Path) -> None:
    """Give a whole file a second name, which unlike a rename replaces nothing; copy it where a disk has no links."""
    try:
        os.link(whole, place)
    except FileExistsError:
        if place.read_bytes() != whole.read_bytes():
            raise DataError(
                f'"{place}" is there already and is another picture; name a new folder with --out, or move it away.'
            ) from None
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        with place.open("xb") as file:
            file.write(whole.read_bytes())


def row_of(pair: PlannedPair, levels: SetLevels, fmt: RawFormat) -> dict[str, str]:
    """Return what pairs.csv says of a pair."""
    record, judgement = pair.source.record, pair.judgement
    down, right = judgement.shift if judgement.shift is not None else (None, None)
    name = f"{pair.number}.png"
    stops = None if judgement.exposure is None or levels.exposure is None else judgement.exposure - levels.exposure
    row = {
        "split": pair.split,
        "raw": f"{pair.split}/{RAW_FOLDER}/{name}",
        "rgb": f"{pair.split}/{RGB_FOLDER}/{name}",
        "source": record.name,
        "target": record.target or "",
        "scene": pair.scene,
        "row": judgement.row + record.begins[0],
        "column": judgement.column + record.begins[1],
        "shift_down_px": down,
        "shift_right_px": right,
        "disagreement_px": _rounded(judgement.disagreement_px),
        "correlation": _rounded(judgement.correlation),
        "sharpness": _rounded(judgement.sharpness),
        "exposure_stops": _rounded(stops),
        "brightened": _rounded(pair.brighten),
        "black": levels.black,
        "white": levels.white,
        "bits": levels.bits,
        "pattern": fmt.pattern,
        "packing": fmt.packing,
        "target_bits": record.target_bits,
        "target_colours": record.target_colours,
        "why": _why(pair),
        "key": pair.source.key,
    }
    return {name: "" if value is None else str(value) for name, value in row.items()}


def _why(pair: PlannedPair) -> str:
    judgement = pair.judgement
    agree = f"both directions agree within {judgement.disagreement_px or 0:.2f} px"
    if judgement.correlation is None:
        return f"{agree}; too little texture to measure more"
    return f"{agree}, edges correlate by {judgement.correlation:.2f}"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows that an earlier run wrote, none where it wrote none."""
    if not path.exists():
        return []
    try:
        rows = list(csv.DictReader(StringIO(stored.read_text(path))))
        for row in rows:
            _require_ours(row)
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f'Cannot go on from "{path}": {cause(error)}; name a new folder with --out.') from None
    return rows


def _require_ours(row: Mapping[str, str]) -> None:
    """Raise ValueError where a row is none that `row_of` makes."""
    if set(row) != set(COLUMNS) or None in row.values():
        raise ValueError("it has other columns than are written there")
    places = (f"{row['split']}/{folder}" for folder in (RAW_FOLDER, RGB_FOLDER))
    for kind, place in zip(("raw", "rgb"), places, strict=True):
        if row["split"] not in SPLITS or not re.fullmatch(rf"{re.escape(place)}/[0-9]{{1,9}}\.png", row[kind]):
            raise ValueError(
                f"{stored.shown(row[kind])} is no path of a pair of the split {stored.shown(row['split'])}"
            )
    if not (row["row"].isdecimal() and row["column"].isdecimal() and 0 < float(row["brightened"]) < math.inf):
        raise ValueError(f"{stored.shown(row['raw'])} has no place in a photograph, or is brightened by no number")


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Write a table in one step."""
    with acting_on(path, "write", DataError):
        write_durably(path, table_of(columns, rows))


def table_of(columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> bytes:
    """Return a table as a CSV file holds it."""
    text = StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode("utf-8")


def write_own(path: Path, content: bytes, state: Path) -> None:
    """Write a file anew that an earlier run wrote; raises DataError where somebody has changed it since.

    Its digest is written before it, beside the one before: after a kill between the two, either is known.
    """
    digests, new = state / f"{path.name}.sha256", sha256(content).hexdigest()
    with acting_on(path, "write", DataError):
        before = digests.read_text("ascii", errors="replace").split() if digests.exists() else []
        there = sha256(path.read_bytes()).hexdigest() if path.exists() else None
        if before and there is not None and there not in before:
            raise DataError(f'"{path}" was changed since it was written; move it away, and it is written anew.')
        write_durably(digests, "\n".join([new, *([there] if there else [])]).encode())
        write_durably(path, content)


def dropped_rows(photographs: Iterable[FinishedPhotograph]) -> Iterable[dict[str, object]]:
    """Yield what dropped.csv says of every patch that is no pair."""
    for each in photographs:
        for judgement in each.record.judgements:
            if judgement.reason is not None:
                yield {
                    "source": each.record.name,
                    "row": judgement.row + each.record.begins[0],
                    "column": judgement.column + each.record.begins[1],
                    "reason": judgement.reason,
                    "meaning": WORDS[judgement.reason],
                    "correlation": _rounded(judgement.correlation),
                    "sharpness": _rounded(judgement.sharpness),
                }


DROPPED_COLUMNS = ("source", "row", "column", "reason", "meaning", "correlation", "sharpness")


def highest_numbers(rows: Iterable[Mapping[str, str]]) -> dict[Split, int]:
    """Return the highest number of each split."""
    highest: dict[Split, int] = {}
    for row in rows:
        split: Split = row["split"]  # type: ignore[assignment]  # written by this module
        highest[split] = max(highest.get(split, 0), int(Path(row["raw"]).stem))
    return highest
