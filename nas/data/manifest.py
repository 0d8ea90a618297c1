"""Read a table of pairs: which mosaic belongs to which target, and what is known of each.

    raw,rgb,split,black,white,bits,pattern
    phone/1.png,camera/1.jpg,train,64,1023,10,RGGB

Only raw and rgb have to be there; paths are relative to the table. `isp-nas data make` writes such a table.
"""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from nas.data.layout import SPLIT_FOLDERS, SPLITS, Pair, Split
from search_spaces.errors import DataError
from search_spaces.system import stored

SUFFIX = ".csv"
MADE_FILE = "pairs.csv"  # in the folders that `isp-nas data make` writes
_PATHS = ("raw", "rgb")
_NUMBERS = {"bits": (1, 16), "black": (0, 65534), "white": (1, 65535)}  # least and most of each
_WORDS = ("pattern", "packing")


@dataclass(frozen=True)
class Manifest:
    """The rows of a table: pairs with their splits."""

    pairs: tuple[tuple[Split | None, Pair], ...]

    def splits(self) -> dict[Split, list[Pair]] | list[Pair]:
        """The pairs by split, in one list where no row names one; rows without one are for training."""
        if all(split is None for split, _ in self.pairs):
            return [pair for _, pair in self.pairs]
        pairs: dict[Split, list[Pair]] = {}
        for split, pair in self.pairs:
            pairs.setdefault(split or "train", []).append(pair)
        return {split: pairs[split] for split in SPLITS if split in pairs}


def is_manifest(source: Path) -> bool:
    """Whether a source of pairs is a table."""
    return source.suffix.lower() == SUFFIX and not source.is_dir()


def read_manifest(path: Path) -> Manifest:
    """Read a table; raises DataError with the line of the first fault."""
    rows = _rows(path)
    usual = _usual(rows, path)
    pairs = [_pair(row, path, line, usual) for line, row in rows]
    twice = [name for name, count in Counter(pair.name for _, pair in pairs).items() if count > 1]
    if twice:
        raise DataError(f'"{path}" has the mosaic "{twice[0]}" in more than one line; keep one of them.')
    return Manifest(tuple(pairs))


def manifest_format(path: Path) -> dict[str, Any]:
    """Return the fields of a RawFormat that most rows of a table have; whether its files are there is not asked."""
    return _usual(_rows(path), path)


def _usual(rows: Sequence[tuple[int, Mapping[str, str | None]]], path: Path) -> dict[str, Any]:
    levels = [tuple(sorted(_levels_of(row, path, line).items())) for line, row in rows]
    (most, _), *_ = Counter(levels).most_common(1)
    return dict(most)


def _rows(path: Path) -> list[tuple[int, dict[str, str | None]]]:
    try:
        content = stored.read_bytes(path)
    except OSError as error:
        raise DataError(f'Could not read the table of pairs "{path}": {error.strerror}; check the path.') from None
    if b"\0" in content:
        raise DataError(f'"{path}" is no text in UTF-8, but perhaps in UTF-16; save it as CSV in UTF-8.')
    text = content.decode("utf-8-sig", errors="surrogateescape")
    first = text.partition("\n")[0]
    rows = csv.DictReader(StringIO(text), delimiter=";" if ";" in first and "," not in first else ",")
    try:
        names = rows.fieldnames or ()
        read = [(rows.line_num, row) for row in rows]
    except csv.Error as error:
        raise DataError(f'Line {rows.line_num} of "{path}" is no CSV ({error}); mend it.') from None
    missing = [name for name in _PATHS if name not in names]
    if missing:
        raise DataError(
            f'The first line of "{path}" names no column {" and ".join(missing)}; a table of pairs has raw and rgb, '
            "and may have split, black, white, bits, pattern and packing."
        )
    if not read:
        raise DataError(f'The table of pairs "{path}" has no rows; add a line for each pair.')
    return read


def _pair(row: Mapping[str, str | None], path: Path, line: int, usual: Mapping[str, Any]) -> tuple[Split | None, Pair]:
    raw, rgb = (_file(row, name, path, line) for name in _PATHS)
    levels = _levels(_levels_of(row, path, line), usual, path, line)
    return _split(row.get("split"), path, line), Pair((row["raw"] or "").strip(), raw, rgb, levels)


def _levels(row: Mapping[str, Any], usual: Mapping[str, Any], path: Path, line: int) -> tuple[int, int] | None:
    """Return black and white of a row, None where the set's hold for it; `usual` is what most rows tell.

    What a row leaves out is as in most rows; a white that none tells follows from the bits.
    """
    for name in _WORDS:
        if row.get(name, usual.get(name)) != usual.get(name):
            raise DataError(
                f'Line {line} of "{path}" has {name} {row[name]}, and most lines have {usual.get(name, "none")}; the '
                f"pairs of a set have one {name}: convert that one, or leave it out."
            )
    merged = {**usual, **row}
    if merged == usual and not {"black", "white"} <= row.keys():
        return None
    black, white = merged.get("black", 0), _white(row, usual)
    if white is None:
        raise DataError(f'Line {line} of "{path}" has a black level and neither white nor bits; add one of them.')
    _require_order(black, white, path, line)
    return black, white


def _require_order(black: int, white: int, path: Path, line: int) -> None:
    if black >= white:
        raise DataError(f'Line {line} of "{path}" has black {black}, which is not below white, {white}; mend it.')


def _white(row: Mapping[str, Any], usual: Mapping[str, Any]) -> int | None:
    for source in (row, usual):
        if "white" in source:
            return int(source["white"])
        if source.get("bits"):
            return int(2 ** source["bits"] - 1)
    return None


def _file(row: Mapping[str, str | None], name: str, path: Path, line: int) -> Path:
    """Return the file that a row names: as it is written, or without the blanks around it, which CSVs often have."""
    written = row[name] or ""
    for each in (written, written.strip()):
        if each.strip() and (path.parent / each).is_file():
            return path.parent / each
    raise DataError(f'Line {line} of "{path}" names "{written.strip()}" as {name}, which is no file; check the path.')


def _levels_of(row: Mapping[str, str | None], path: Path, line: int) -> dict[str, Any]:
    numbers = {name: _number(row[name], name, path, line) for name in _NUMBERS if row.get(name)}
    if {"black", "white"} <= numbers.keys():
        _require_order(numbers["black"], numbers["white"], path, line)
    return {**numbers, **{name: str(row[name]).strip() for name in _WORDS if row.get(name)}}


def _number(text: str | None, name: str, path: Path, line: int) -> int:
    try:
        number = round(float(text or ""))
    except (ValueError, OverflowError):
        raise DataError(f'Line {line} of "{path}" has {name} "{text}", which is no number; mend it.') from None
    least, most = _NUMBERS[name]
    if not least <= number <= most:
        raise DataError(f'Line {line} of "{path}" has {name} {text}, and it is from {least} to {most}; mend it.')
    return number


def _split(text: str | None, path: Path, line: int) -> Split | None:
    written = (text or "").strip().lower()
    if not written:
        return None
    for split, names in SPLIT_FOLDERS.items():
        if written in names:
            return split
    raise DataError(f'Line {line} of "{path}" has the split "{text}"; splits are {", ".join(SPLITS)}.')
