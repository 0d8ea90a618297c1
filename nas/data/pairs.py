"""Find, decode and open the pairs of a study.

    DataConfig ─ find_pairs ─► paths by split ─ load_split ─► PairSet in memory
         └────── prepare ────► decoded .npy files, once ─ open_prepared ─► PairSet mapped from disk

A search trains many candidates on the same pairs, in several processes; it decodes once and maps the files.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, fields, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, ClassVar
from zlib import crc32

import numpy as np
from jaxtyping import Int, UInt8, UInt16

from nas.data.array_file import mapped
from nas.data.cache import build_once
from nas.data.layout import SPLITS, Pair, Split, divide, find_splits, is_mosaic_alone, known_layouts
from nas.data.manifest import MADE_FILE, is_manifest, manifest_format, read_manifest
from nas.data.raw_format import RawFormat, pack
from search_spaces.errors import DataError, IspNasError, UnknownNameError, UsageError
from search_spaces.system import checksums, stored
from search_spaces.system.named_files import expanded
from search_spaces.system.printable import is_text

__all__ = [
    "SPLITS",
    "DataConfig",
    "Pair",
    "PairSet",
    "Split",
    "find_pairs",
    "fingerprint",
    "identity",
    "load_split",
    "open_prepared",
    "prepare",
]

Decoded = tuple[UInt16[np.ndarray, "h w"], UInt8[np.ndarray, "h w 3"]]
Progress = Callable[[int, int], None]  # (pairs done, pairs in all)

DEMO = "demo"
PREPARED_SPLITS: tuple[Split, ...] = ("train", "val")  # the test pairs are read when a result is reported, not before
LEAST_BITS = 9
KINDS = ("raw", "rgb")
FINGERPRINT_DIGITS = 16
MOST_SUMMED_BYTES = 1 << 33  # a few seconds' reading


@dataclass(frozen=True)
class DataConfig:
    """Everything that decides which pairs are read; recorded with the study."""

    source: str  # "demo" for the built-in set (a folder of that name is "./demo"), else a folder
    raw_dir: str | None = None  # the two parallel sub-folders where the layout is not a known one
    rgb_dir: str | None = None
    split_seed: int = 0
    val_fraction: float = 0.1  # of the training pairs, for a split without a folder of its own
    test_fraction: float = 0.1
    raw: RawFormat = field(default_factory=RawFormat)
    crop: int | None = None  # px: pairs are cut in their middle to sides that are multiples of it

    @classmethod
    def of(cls, source: str, *, raw: Mapping[str, Any] | None = None, **settings: Any) -> "DataConfig":
        """Describe pairs, with the format that they tell themselves where `raw` does not say another."""
        plain = cls(source, **settings)
        return replace(plain, raw=RawFormat(**{**stated_format(plain), **(raw or {})}))

    def validate(self) -> None:
        """Raise `UsageError` for settings that cannot be met."""
        self.raw.validate()
        if self.source == DEMO and replace(self.raw, packing=RawFormat.packing) != RawFormat():
            raise UsageError(
                f"The demo set has the raw format {RawFormat()}, got {self.raw}; leave out options such as "
                "--bits and --pattern, or give a folder of your own."
            )
        fractions = (self.val_fraction, self.test_fraction)
        if not (all(0 <= fraction < 1 for fraction in fractions) and sum(fractions) < 1):
            raise UsageError(
                f"Fractions for validation and test are at least 0 and together below 1, got {self.val_fraction} and "
                f"{self.test_fraction}; leave the larger part for training."
            )
        if self.crop is not None and (self.crop < 2 or self.crop % 2):
            raise UsageError(f"--crop is an even number of pixels, got {self.crop}; 32 fits every built-in network.")
        if self.split_seed < 0:
            raise UsageError(f"A split seed is 0 or more, got {self.split_seed}; give another seed.")

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON-ready values; `from_dict` reads them back."""
        return {name: value for name, value in asdict(self).items() if name != "crop" or value is not None}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "DataConfig":
        """Read back what `to_dict` wrote; raises `UnknownNameError` for a setting that does not exist."""
        given = dict(values)
        given["raw"] = RawFormat(**_known(RawFormat, given.get("raw", {})))
        return cls(**_known(cls, given))


def _known(kind: type[RawFormat] | type[DataConfig], values: Mapping[str, Any]) -> dict[str, Any]:
    names = [member.name for member in fields(kind)]
    for name in values:
        if name not in names:
            raise UnknownNameError("data setting", name, names)
    return dict(values)


@dataclass(frozen=True)
class PairSet:
    """Mosaics and their targets, in memory or mapped from disk."""

    raw: UInt16[np.ndarray, "n h w"]
    rgb: UInt8[np.ndarray, "n h w 3"]
    names: tuple[str, ...]
    format: RawFormat

    def packed(self) -> UInt16[np.ndarray, "n rows columns 4"]:
        """All mosaics packed as the format says, at half height and width; a copy."""
        return pack(self.raw, self.format)

    def subset(self, index: Int[np.ndarray, " k"]) -> "PairSet":
        """Return some of the pairs, in memory."""
        return PairSet(self.raw[index], self.rgb[index], tuple(self.names[i] for i in index), self.format)

    def __len__(self) -> int:
        return len(self.names)


def evenly(total: int, most: int) -> Int[np.ndarray, " k"]:
    """Return at most so many of `total` positions, spread evenly: neighbours often show one scene."""
    return np.linspace(0, total - 1, min(most, total)).astype(int)


def find_pairs(config: DataConfig) -> dict[str, list[Pair]]:
    """List the pairs of each split without reading a pixel; raises `DataError` where they do not pair up."""
    config.validate()
    root = _root(config)
    if is_manifest(root):
        pairs = read_manifest(root).splits()
    else:
        pairs = find_splits(root, known_layouts(config.raw_dir, config.rgb_dir))
    splits = divide(pairs, seed=config.split_seed, val_fraction=config.val_fraction, test_fraction=config.test_fraction)
    for split in ("train", "val"):
        if not splits[split]:
            total = sum(map(len, splits.values()))
            raise DataError(
                f'None of the {total} pairs in "{config.source}" is left for {split}; add pairs, or change '
                "the share split off for validation and test."
            )
    crop = config.crop or 1
    return {split: [replace(pair, crop=crop) for pair in splits[split]] for split in SPLITS}


def stated_format(config: DataConfig) -> dict[str, Any]:
    """Return the fields of a RawFormat that pairs tell themselves, by a table or as a camera's RAW; none for others.

    What is wrong with the pairs is said when they are read.
    """
    try:
        root = _root(config) if config.source != DEMO else Path()
        made = root / MADE_FILE
        if config.source == DEMO or not root.exists():
            return {}
        if is_manifest(root) or made.exists():
            return manifest_format(root if is_manifest(root) else made)
        pairs = find_splits(root, known_layouts(config.raw_dir, config.rgb_dir))
        first = next(iter(pairs if isinstance(pairs, list) else pairs["train"]), None)
        return {} if first is None or is_mosaic_alone(first.raw) else _format_of_camera(first.raw)
    except IspNasError:
        return {}


def _format_of_camera(path: Path) -> dict[str, Any]:
    from nas.data.camera_raw import read_mosaic

    mosaic = read_mosaic(path, RawFormat())
    white = round(mosaic.white)
    return {
        "bits": max(LEAST_BITS, white.bit_length()),
        "black": round(float(np.mean(mosaic.black))),
        "white": white,
        "pattern": mosaic.pattern,
    }


def _root(config: DataConfig) -> Path:
    if config.source != DEMO:
        return expanded(config.source)
    from nas.data.demo.demo_set import demo_folder

    return demo_folder()


def load_split(config: DataConfig, split: str, *, progress: Progress | None = None) -> PairSet:
    """Decode one split into memory, judging every file; raises `DataError` naming the first bad one."""
    if split not in SPLITS:
        raise UnknownNameError("split", split, SPLITS)
    from nas.data.pair_reading import decode

    pairs = find_pairs(config)[split]
    if not pairs:
        raise DataError(f'No {split} pairs in "{config.source}"; add a {split}/ folder or a fraction.')
    decoded = decode(pairs, config.raw)
    raw, rgb = next(decoded)
    raws = np.empty((len(pairs), *raw.shape), np.uint16)
    rgbs = np.empty((len(pairs), *rgb.shape), np.uint8)
    raws[0], rgbs[0] = raw, rgb
    _report(progress, 1, len(pairs))
    for done, (raw, rgb) in enumerate(decoded, start=1):
        raws[done], rgbs[done] = raw, rgb
        _report(progress, done + 1, len(pairs))
    return PairSet(raws, rgbs, tuple(pair.name for pair in pairs), config.raw)


def _report(progress: Progress | None, done: int, total: int) -> None:
    if progress is not None:
        progress(done, total)


def fingerprint(config: DataConfig) -> str:
    """Name the data: equal for the same settings and files (name, size, modification time), else different."""
    config.validate()
    described = {**config.to_dict(), "files": _described_files(config)}
    if config.source != DEMO:
        described["source"] = str(_root(config).resolve())
    text = json.dumps(described, sort_keys=True)
    return sha256(text.encode()).hexdigest()[:FINGERPRINT_DIGITS]


def identity(config: DataConfig) -> str:
    """Name the data as a study knows it: settings, names and sizes of training and validation files.

    Unlike `fingerprint` it survives a move or a copy of the folder to another machine, and a test set added later.
    """
    config.validate()
    if not is_text(config.source):
        raise DataError(
            f'The name of "{config.source}" is no text in UTF-8, so that no record can hold it; rename the folder.'
        )
    described = {**config.to_dict(), "source": None}
    if config.source == DEMO:
        described["files"] = _described_files(config)
    else:
        described["files"] = {
            split: [(p.name, p.raw.stat().st_size, p.rgb.stat().st_size, *(p.levels or ())) for p in pairs]
            for split, pairs in find_pairs(config).items()
            if split in PREPARED_SPLITS
        }
    return sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:FINGERPRINT_DIGITS]


def _described_files(config: DataConfig) -> object:
    if config.source == DEMO:  # made from these two alone, so nothing need be built to name it
        from nas.data.demo.demo_set import DEMO_SEED, DEMO_VERSION

        return {"version": DEMO_VERSION, "seed": DEMO_SEED}
    return {
        split: [(pair.name, *_stamp(pair.raw), *_stamp(pair.rgb), *(pair.levels or ())) for pair in pairs]
        for split, pairs in find_pairs(config).items()
    }


def _stamp(path: Path) -> tuple[str, int, int]:
    status = path.stat()
    return path.name, status.st_size, status.st_mtime_ns


def prepare(config: DataConfig, cache_dir: Path, *, progress: Progress | None = None) -> Path:
    """Decode the training and validation pairs once into `cache_dir/<fingerprint>/`; return that folder.

    Raises `DataError` for a file that cannot be used, and for a target that is a copy of another one.
    The test pairs are not read. Returns at once where the folder is there; a broken-off run leaves none.
    """

    def build(folder: Path) -> None:
        splits = find_pairs(config)
        total = sum(len(splits[split]) for split in PREPARED_SPLITS)
        done = 0
        seen: dict[bytes, str] = {}
        for split in PREPARED_SPLITS:
            decoded = _all_different(decode(splits[split], config.raw), splits[split], split, seen)
            _write_split(folder, split, splits[split], config.raw, decoded, _shifted(progress, done, total))
            done += len(splits[split])

    from nas.data.pair_reading import decode

    folder = cache_dir / fingerprint(config)
    was_there = folder.is_dir()
    build_once(folder, build)
    if was_there:
        for split in PREPARED_SPLITS:
            _require_sums(folder, split)
    return folder


def _all_different(
    decoded: Iterator[Decoded], pairs: list[Pair], split: Split, seen: dict[bytes, str]
) -> Iterator[Decoded]:
    """Pass pairs on, refusing a target seen before: one of the two belongs to another mosaic, or leaks into val."""
    for pair, (raw, rgb) in zip(pairs, decoded, strict=True):
        name = f"{split}/{pair.name}"
        first = seen.setdefault(sha256(rgb.tobytes()).digest(), name)
        if first != name and np.ptp(rgb):  # pictures of one colour are alike without being copies
            raise DataError(
                f"{first} and {name} have the same picture as target, and every pair needs its own; "
                "remove the wrong one, and look for more with `isp-nas data check`."
            )
        yield raw, rgb


def _shifted(progress: Progress | None, before: int, total: int) -> Progress | None:
    return None if progress is None else lambda done, _: progress(before + done, total)


def _write_split(
    folder: Path, split: Split, pairs: list[Pair], fmt: RawFormat, decoded: Iterator[Decoded], progress: Progress | None
) -> None:
    """Write pair after pair: a full data set need not fit in memory, and a full disk is an error, not a SIGBUS."""
    sums = dict.fromkeys(KINDS, 0)
    with ExitStack() as stack:
        raw_file, rgb_file = (stack.enter_context(_array_path(folder, split, kind).open("wb")) for kind in KINDS)
        for done, (raw, rgb) in enumerate(decoded):
            if done == 0:
                _write_header(raw_file, (len(pairs), *raw.shape), raw.dtype)
                _write_header(rgb_file, (len(pairs), *rgb.shape), rgb.dtype)
            for file, kind, pixels in ((raw_file, "raw", raw.tobytes()), (rgb_file, "rgb", rgb.tobytes())):
                file.write(pixels)
                sums[kind] = crc32(pixels, sums[kind])
            _report(progress, done + 1, len(pairs))
    described = {"names": [pair.name for pair in pairs], "format": asdict(fmt), "crc32": sums}
    (folder / f"{split}.json").write_text(json.dumps(checksums.summed(described)), encoding="utf-8")


def _array_path(folder: Path, split: str, kind: str) -> Path:
    return folder / f"{split}_{kind}.npy"


def _write_header(file: BinaryIO, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, described)


def open_prepared(folder: Path, split: str) -> PairSet:
    """Map one split that `prepare` decoded; pixels are read from disk as they are touched."""
    if split not in PREPARED_SPLITS:
        raise UnknownNameError("prepared split", split, PREPARED_SPLITS)
    try:
        described = _described(folder, split)
        raw, rgb = (mapped(_array_path(folder, split, kind)) for kind in KINDS)
        _require_arrays(raw, rgb, len(described.names))
    except (OSError, EOFError, ValueError, IspNasError) as error:
        raise _unusable(folder, split, str(error)) from error
    return PairSet(raw, rgb, described.names, described.format)


@dataclass(frozen=True)
class Described:
    """What is stored beside the pixels of a split."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    names: tuple[str, ...]
    format: RawFormat
    crc32: dict[str, int] | None = None  # over the pixels of each kind; None in a cache of before there were any


_DESCRIBED: stored.Schema[Described] = stored.Schema(Described)


def _described(folder: Path, split: str) -> Described:
    description = stored.parse_json(stored.read_bytes(folder / f"{split}.json"))
    described = _DESCRIBED.read(checksums.without_sum(description))
    described.format.validate()
    return described


def stored_sums(folder: Path, split: str) -> dict[str, int] | None:
    """Return the CRC-32 of each kind of pixels of a prepared split; None in a cache of before there were any."""
    return _described(folder, split).crc32


def _require_arrays(raw: np.ndarray[Any, Any], rgb: np.ndarray[Any, Any], count: int) -> None:
    """Raise ValueError unless the arrays are what `prepare` writes for so many pairs."""
    for pixels, dtype, shape in ((raw, np.uint16, raw.shape[:3]), (rgb, np.uint8, (*raw.shape[:3], 3))):
        if pixels.dtype != dtype or pixels.shape != shape or len(shape) < 3 or not pixels.flags.c_contiguous:
            raise ValueError(f"pixels of shape {pixels.shape} and kind {pixels.dtype}")
    if len(raw) != count:
        raise ValueError(f"{len(raw)} pairs and {count} names")


def _unusable(folder: Path, split: str, why: str) -> DataError:
    return DataError(f'Cannot read the decoded {split} pairs in "{folder}": {why}; remove that folder and run again.')


def _require_sums(folder: Path, split: str) -> None:
    """Raise DataError where pixels on disk are not those that were written; of much more than fits, none are read."""
    pairs = open_prepared(folder, split)
    wanted = _described(folder, split).crc32
    if wanted is None or pairs.raw.nbytes + pairs.rgb.nbytes > MOST_SUMMED_BYTES:
        return
    for kind in KINDS:
        with _array_path(folder, split, kind).open("rb") as file:
            np.lib.format.read_magic(file)
            np.lib.format.read_array_header_1_0(file)
            checksum = 0
            while block := file.read(1 << 22):
                checksum = crc32(block, checksum)
        if checksum != wanted.get(kind):
            raise _unusable(folder, split, f"other {kind} pixels than were written there")
