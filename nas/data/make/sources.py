"""Which photograph of the camera belongs to which RAW of the phone: by name, by time of capture, or by a CSV.

Here folders are listed and times are read; what is in the photographs is seen later.
"""

import csv
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from unicodedata import normalize

from nas.data.camera_raw import find_raw_files
from nas.data.layout import RGB_SUFFIXES
from nas.data.make.capture_time import clock_offset, taken_at
from search_spaces.errors import DataError, UnknownNameError
from search_spaces.system import stored
from search_spaces.system.file_errors import acting_on, files_below
from search_spaces.system.printable import printable

EMBEDDED, SIDECAR, LIBRAW = "embedded", "sidecar", "libraw"
OWN_TARGETS = (EMBEDDED, SIDECAR, LIBRAW)
BY_NAME, BY_TIME = "name", "time"
SHOWN = 3  # names in a sentence
STATE_FOLDER = ".isp-nas-make"  # in a folder of pairs: what making goes on from
WITHIN_S = 2.0  # two cameras released by hand
_RAW, _TARGET, _SCENE = "raw", "target", "scene"


@dataclass(frozen=True)
class Photograph:
    """A RAW of the phone and what its targets are cut from."""

    name: str  # of the RAW below its folder
    raw: Path
    target: Path | None = None  # None: inside of the RAW, or made of it
    scene: str | None = None  # as a CSV names it


@dataclass(frozen=True)
class Refused:
    """A photograph of which no pairs are made, and why."""

    name: str
    why: str

    def __post_init__(self) -> None:
        """Show bytes that are no text: paths in sentences may hold some, and no page may."""
        object.__setattr__(self, "name", printable(self.name))
        object.__setattr__(self, "why", printable(self.why))


def find_photographs(raw: Path, target: str, *, match: str = BY_NAME) -> tuple[list[Photograph], list[Refused]]:
    """Match photographs, in order of their names; raises DataError where there are none at all."""
    is_own = target in OWN_TARGETS
    aside = None if is_own else Path(target)
    raws = [p for p in find_raw_files(raw) if not _is_below(p, aside, raw) and not _is_made(p, raw)]
    root = raw if raw.is_dir() else raw.parent
    if target in (EMBEDDED, LIBRAW):
        return [Photograph(_name(path, root), path) for path in raws], []
    if target == SIDECAR:
        return _divided([_with_sidecar(path, root) for path in _without_sidecars(raws)])
    assert aside is not None
    pictures = _pictures(aside)
    if match == BY_NAME:
        return _divided(list(_by_name(raws, root, pictures, aside)))
    if match == BY_TIME:
        return _divided(list(_by_time(raws, root, pictures)))
    if not match.lower().endswith(".csv"):
        raise UnknownNameError("way to match photographs", match, (BY_NAME, BY_TIME, "FILE.csv"))
    return _divided(list(_by_csv(Path(match), root, aside)))


def left_over(target: str, photographs: Sequence[Photograph]) -> str | None:
    """Say which of the targets belong to no RAW; None where all do, or where RAW files have their own."""
    if target in OWN_TARGETS:
        return None
    used = {each.target.resolve() for each in photographs if each.target is not None}
    pictures = _pictures(Path(target))
    left = [path.name for path in pictures if path.resolve() not in used]
    if not left:
        return None
    first = ", ".join(left[:SHOWN]) + (", …" if len(left) > SHOWN else "")
    return printable(f"{len(left)} of {len(pictures)} targets belong to no RAW file ({first}) and are not used.")


def _divided(photographs: Sequence[Photograph | Refused]) -> tuple[list[Photograph], list[Refused]]:
    return [p for p in photographs if isinstance(p, Photograph)], [r for r in photographs if isinstance(r, Refused)]


def _is_made(path: Path, raw: Path) -> bool:
    """Tell whether a file lies in a folder of pairs that were made, below the one of RAW files."""
    return any((above / STATE_FOLDER).is_dir() for above in path.parents if above != raw and raw in above.parents)


def _is_below(path: Path, folder: Path | None, raw: Path) -> bool:
    """Whether a file belongs to the targets though they lie below the folder of mosaics."""
    if folder is None or not folder.is_dir() or raw.resolve().is_relative_to(folder.resolve()):
        return False
    return path.resolve().is_relative_to(folder.resolve())


def _name(path: Path, root: Path) -> str:
    return printable(path.relative_to(root).as_posix())  # a name may hold bytes that are no text


def _pictures(folder: Path) -> list[Path]:
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        if folder.exists():
            with acting_on(folder, "read", DataError):
                stored.require_file(folder)
        raise DataError(
            f'No photographs at "{folder}"; --target takes their folder, or {", ".join(OWN_TARGETS[:-1])} or {LIBRAW}.'
        )
    paths = sorted(
        p for p in files_below(folder, DataError) if p.suffix.lower() in RGB_SUFFIXES and not p.name.startswith(".")
    )
    if not paths:
        raise DataError(f'No photographs in "{folder}"; they end with {", ".join(RGB_SUFFIXES)}.')
    return paths


def _without_sidecars(raws: Sequence[Path]) -> list[Path]:
    """Leave out pictures that could hold a mosaic and lie beside a camera's RAW of the same name."""
    pictures = {path for path in raws if path.suffix.lower() in RGB_SUFFIXES}
    cameras = {path.with_suffix("") for path in raws if path not in pictures}
    return [path for path in raws if path not in pictures or path.with_suffix("") not in cameras]


def _with_sidecar(raw: Path, root: Path) -> Photograph | Refused:
    beside = sorted(
        path
        for path in raw.parent.iterdir()
        if path.stem == raw.stem and path != raw and path.suffix.lower() in RGB_SUFFIXES
    )
    if len(beside) == 1:
        return Photograph(_name(raw, root), raw, beside[0])
    there = "is none" if not beside else f"are {' and '.join(path.name for path in beside)}"
    return Refused(
        _name(raw, root), f"One picture of the same name belongs beside the RAW, and there {there}; keep one there."
    )


def _by_name(
    raws: Sequence[Path], root: Path, pictures: Sequence[Path], folder: Path
) -> Iterator[Photograph | Refused]:
    """Match by the path below the two folders, else by the file's name alone, cases and endings aside."""
    whole: dict[str, list[Path]] = defaultdict(list)
    alone: dict[str, list[Path]] = defaultdict(list)
    base = folder if folder.is_dir() else folder.parent
    for path in pictures:
        whole[_key(path, base)].append(path)
        alone[_plain(path.stem)].append(path)
    single = len(raws) == len(pictures) == 1
    for raw in raws:
        matches = list(pictures) if single else whole.get(_key(raw, root)) or alone.get(_plain(raw.stem), [])
        if len(matches) == 1:
            yield Photograph(_name(raw, root), raw, matches[0])
        else:
            there = "is none" if not matches else f"are {len(matches)} ({matches[0].name}, {matches[1].name})"
            yield Refused(
                _name(raw, root),
                f"One target of the same name is needed, and there {there}; rename it, or use --match time or a CSV.",
            )


def _key(path: Path, root: Path) -> str:
    return _plain(path.relative_to(root).with_suffix("").as_posix())


def _plain(name: str) -> str:
    """Return a name without its case, accented letters in one form: macOS stores them in another than cameras do."""
    return normalize("NFC", name).casefold()


def _by_time(raws: Sequence[Path], root: Path, pictures: Sequence[Path]) -> Iterator[Photograph | Refused]:
    """Match each RAW with the picture nearest in time, once the clocks are made to agree."""
    mine = {raw: time for raw in raws if (time := taken_at(raw)) is not None}
    theirs = {picture: time for picture in pictures if (time := taken_at(picture)) is not None}
    if not mine or not theirs:
        which = "RAW files" if not mine else "targets"
        raise DataError(f"None of the {which} says when it was taken; match by name, or by a CSV.")
    offset = clock_offset(list(mine.values()), list(theirs.values()), within_s=WITHIN_S)
    apart = sorted((abs(t - offset - time), str(raw), raw, p) for raw, time in mine.items() for p, t in theirs.items())
    matched: dict[Path, Path] = {}
    taken: set[Path] = set()
    for difference, _, raw, picture in apart:
        if difference <= WITHIN_S and raw not in matched and picture not in taken:
            matched[raw] = picture
            taken.add(picture)
    for raw in raws:
        if raw in matched:
            yield Photograph(_name(raw, root), raw, matched[raw])
        elif raw in mine:
            yield Refused(
                _name(raw, root),
                f"No target was taken within {WITHIN_S:g} s of it (clocks are {offset:g} s apart); match by a CSV.",
            )
        else:
            yield Refused(_name(raw, root), "It does not say when it was taken; match by name, or by a CSV.")


def _by_csv(table: Path, root: Path, folder: Path) -> Iterator[Photograph | Refused]:
    """Read which belongs to which; paths are below the two folders, or beside the CSV."""
    with acting_on(table, "read", DataError):
        text = table.read_text("utf-8-sig", errors="surrogateescape")
    reader = csv.DictReader(text.splitlines(), delimiter=";" if ";" in text.partition("\n")[0] else ",")
    try:
        names = reader.fieldnames or ()
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise DataError(f'Line {reader.line_num} of "{table}" is no CSV ({error}); mend it.') from None
    if not {_RAW, _TARGET} <= set(names):
        got = ", ".join(names) or "nothing"
        raise DataError(
            f'The first line of "{table}" names the columns {got}; raw and target are needed; name them so.'
        )
    base = folder if folder.is_dir() else folder.parent
    for line, row in rows:
        raw = _existing(row[_RAW], (root, table.parent))
        target = _existing(row[_TARGET], (base, table.parent))
        if raw is not None and target is not None:
            yield Photograph(row[_RAW].strip(), raw, target, (row.get(_SCENE) or "").strip() or None)
        else:
            missing = row[_RAW] if raw is None else row[_TARGET]
            yield Refused(str(row[_RAW]), f'Line {line} of "{table}" names "{missing}", which is not there.')


def _existing(name: str | None, folders: Sequence[Path]) -> Path | None:
    stripped = (name or "").strip()
    return next((path for folder in folders if stripped and (path := folder / stripped).is_file()), None)
