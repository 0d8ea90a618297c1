"""Find the files that form pairs, and split pairs into training, validation and test.

Two parallel folders hold one pair per file stem. They lie under the root, or under `train/`, `val/` and `test/`:

| layout | mosaics | targets |
|---|---|---|
| Mobile AI 2021 challenge | `mediatek_raw/N.png` | `fujifilm/N.png` |
| Zurich RAW to RGB | `huawei_raw/N.png` | `canon/N.jpg` |
| any other | named by the user | named by the user |
| one folder | `--raw-dir "*_raw.png"` | `--rgb-dir "*_rgb.jpg"` |

Here folders are listed and no pixel is read.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from unicodedata import normalize

import numpy as np

from search_spaces.errors import DataError, UsageError
from search_spaces.system.file_errors import listed
from search_spaces.system.printable import is_text

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
SPLIT_FOLDERS: dict[Split, tuple[str, ...]] = {
    "train": ("train",),
    "val": ("val", "valid", "validation"),
    "test": ("test",),
}
STAR = "*"  # of patterns that tell the files of one folder apart
LAYOUTS = (("mediatek_raw", "fujifilm"), ("huawei_raw", "canon"))
RAW_SUFFIXES = (".png", ".tif", ".tiff")
CAMERA_SUFFIXES = (
    ".3fr", ".arw", ".bin", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".gpr", ".iiq", ".kdc", ".mef",
    ".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f",
)  # fmt: skip
RGB_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")


@dataclass(frozen=True)
class Pair:
    """One mosaic and its target on disk."""

    name: str
    raw: Path
    rgb: Path
    levels: tuple[float, float] | None = None  # black and white of this mosaic; None: those of the set
    crop: int = 1  # px of which both sides are to be multiples


def is_mosaic_alone(path: Path) -> bool:
    """Tell whether a file holds the mosaic alone, so that its format has to be told."""
    return path.suffix.lower() in RAW_SUFFIXES


def known_layouts(raw_dir: str | None, rgb_dir: str | None) -> tuple[tuple[str, str], ...]:
    """The (raw, rgb) sub-folder names to look for: the user's two, or all known ones."""
    if raw_dir is None and rgb_dir is None:
        return LAYOUTS
    if raw_dir is None or rgb_dir is None:
        raise UsageError(
            f"--raw-dir and --rgb-dir belong together, got raw {raw_dir!r} and RGB {rgb_dir!r}; give both, or neither "
            "for a known layout."
        )
    return ((raw_dir, rgb_dir),)


def find_splits(root: Path, layouts: Sequence[tuple[str, str]]) -> dict[Split, list[Pair]] | list[Pair]:
    """List the pairs of a folder: by split where it has split folders, else all in one list."""
    if not root.is_dir():
        raise DataError(f'No folder of RAW→RGB pairs at "{root}"; check the path.')
    folders = {split: folder for split in SPLITS if (folder := _split_folder(root, split))}
    if not folders:
        return list_pairs(root, layouts)
    if "train" not in folders:
        raise DataError(
            f'No train/ folder in "{root}" beside {_listed(f.name for f in folders.values())}; '
            "put the training pairs there."
        )
    return {split: list_pairs(folder, layouts) for split, folder in folders.items()}


def _split_folder(root: Path, split: Split) -> Path | None:
    return next((root / name for name in SPLIT_FOLDERS[split] if (root / name).is_dir()), None)


def list_pairs(folder: Path, layouts: Sequence[tuple[str, str]]) -> list[Pair]:
    """Pair the files of the two parallel sub-folders by stem, in numeric order where stems are numbers."""
    if any(STAR in name for names in layouts for name in names):
        return _by_patterns(folder, *layouts[0])
    raw_folder, rgb_folder = _parallel_folders(folder, layouts)
    raws = _files_by_stem(raw_folder, (*RAW_SUFFIXES, *CAMERA_SUFFIXES))
    rgbs = _files_by_stem(rgb_folder, RGB_SUFFIXES)
    if raws.keys() != rgbs.keys():
        raise DataError(_without_partner(raw_folder, rgb_folder, raws.keys() - rgbs.keys(), rgbs.keys() - raws.keys()))
    pairs = [Pair(raws[stem].stem, raws[stem], rgbs[stem]) for stem in raws]
    return sorted(pairs, key=lambda pair: _by_number(pair.name))


def _by_patterns(folder: Path, raw_pattern: str, rgb_pattern: str) -> list[Pair]:
    """Pair files by what the star of their patterns stands for; what fits both belongs to the longer one."""
    for name, pattern in (("--raw-dir", raw_pattern), ("--rgb-dir", rgb_pattern)):
        if pattern.count(STAR) != 1 or "/" in pattern.partition(STAR)[2]:
            raise UsageError(f'Patterns of files have one *, in the name of the file; got {name} "{pattern}".')
    raws, rgbs = _files_by_star(folder, raw_pattern), _files_by_star(folder, rgb_pattern)
    both = set(raws.values()) & set(rgbs.values())
    loser = raws if len(raw_pattern) <= len(rgb_pattern) else rgbs
    for star in [star for star, path in loser.items() if path in both]:
        del loser[star]
    for files, pattern in ((raws, raw_pattern), (rgbs, rgb_pattern)):
        if not files:
            raise DataError(f'No files in "{folder}" are called like "{pattern}"; check the pattern.')
    if raws.keys() != rgbs.keys():
        odd = sorted(raws.keys() ^ rgbs.keys(), key=_by_number)
        raise DataError(
            f'{len(odd)} files in "{folder}" have no partner under "{raw_pattern}" and "{rgb_pattern}" '
            f"({_listed(odd)}); add the missing files or move the odd ones away."
        )
    return [Pair(star, raws[star], rgbs[star]) for star in sorted(raws, key=_by_number)]


def _files_by_star(folder: Path, pattern: str) -> dict[str, Path]:
    parent, _, name = pattern.rpartition("/")
    begin, _, end = name.partition(STAR)
    inside = folder / parent
    paths = sorted(inside.iterdir()) if inside.is_dir() else []
    return {
        path.name[len(begin) : len(path.name) - len(end)]: path
        for path in paths
        if path.name.startswith(begin) and path.name.endswith(end) and len(path.name) > len(begin) + len(end)
        if not path.name.startswith(".") and path.is_file()
    }


def _parallel_folders(folder: Path, layouts: Sequence[tuple[str, str]]) -> tuple[Path, Path]:
    for raw_name, rgb_name in layouts:
        if (folder / raw_name).is_dir() and (folder / rgb_name).is_dir():
            return folder / raw_name, folder / rgb_name
    looked_for = " or ".join(f"{raw_name}/ with {rgb_name}/" for raw_name, rgb_name in layouts)
    there = _listed(f"{p.name}/" for p in listed(folder, DataError) if p.is_dir()) or "no sub-folder"
    raise DataError(
        f'"{folder}" has {there}, not {looked_for}; name the two parallel sub-folders with --raw-dir and '
        "--rgb-dir, and move a split without targets elsewhere."
    )


def _files_by_stem(folder: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    """Return files by their stem in Unicode's composed form: macOS stores accented letters in another."""
    by_stem: dict[str, Path] = {}
    for path in listed(folder, DataError):
        if path.suffix.lower() not in suffixes or path.name.startswith("."):
            continue
        if not is_text(path.name):
            raise DataError(f'The name of "{path}" is no text in UTF-8; rename it, and its partner alike.')
        stem = normalize("NFC", path.stem)
        if stem in by_stem:
            raise DataError(
                f'Two files of one pair in "{folder}": {by_stem[stem].name} and {path.name}; keep one of them.'
            )
        by_stem[stem] = path
    if not by_stem:
        others = _listed(sorted({path.suffix or path.name for path in listed(folder, DataError)}))
        raise DataError(
            f'No {_listed(suffixes)} files in "{folder}", {"only " + others if others else "which is empty"}; '
            "put the images of the pairs there (mosaics in the raw folder, targets in the other)."
        )
    return by_stem


def _by_number(stem: str) -> tuple[bool, int, str]:
    return (False, int(stem), stem) if stem.isdecimal() else (True, 0, stem)


def _without_partner(raw_folder: Path, rgb_folder: Path, raw_only: set[str], rgb_only: set[str]) -> str:
    lacking = [
        f"{len(stems)} in {folder.name}/ without a partner ({_listed(sorted(stems, key=_by_number))})"
        for folder, stems in ((raw_folder, raw_only), (rgb_folder, rgb_only))
        if stems
    ]
    return (
        f'File names in {raw_folder.name}/ and {rgb_folder.name}/ of "{raw_folder.parent}" differ: '
        f"{' and '.join(lacking)}; add the missing files or move the odd ones away."
    )


def _listed(names: Iterable[str], most: int = 5) -> str:
    every = list(names)
    return ", ".join(every[:most]) + (f", … {len(every) - most} more" if len(every) > most else "")


def divide(
    pairs: dict[Split, list[Pair]] | list[Pair], *, seed: int, val_fraction: float, test_fraction: float
) -> dict[Split, list[Pair]]:
    """Complete the three splits: what has no folder of its own is taken from the training pairs by the seed.

    Pairs are drawn one by one. Where many were cut from one photograph, folders made by hand judge more honestly.
    """
    given: dict[Split, list[Pair]] = {"train": pairs} if isinstance(pairs, list) else {"train": [], **pairs}
    pool = given["train"]
    order = [int(i) for i in np.random.default_rng(seed).permutation(len(pool))]
    taken = 0
    wanted: tuple[tuple[Split, float], ...] = (("val", val_fraction), ("test", test_fraction))
    for split, fraction in wanted:
        if split in given:
            continue
        count = round(fraction * len(pool))
        given[split] = [pool[i] for i in sorted(order[taken : taken + count])]
        taken += count
    given["train"] = [pool[i] for i in sorted(order[taken:])]
    return given
