"""Keep decoded pairs in memory, or mapped from disk, during training.

    one process trains (`isp-nas train`)      load: a copy of its own, where it takes at most half of the memory
    several processes share a machine         warm: the files are mapped by all and read once, so that they lie in the
      (`isp-nas search`, `isp-nas audit`)     system's page cache, of which there is one however many workers there are

A mapped set needs no room: what does not fit is read from disk again as it is touched. Whether it fits is asked of the
host's memory, never of a graphics card's, and is said before anything is read.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from nas.data.pairs import PREPARED_SPLITS, PairSet, Progress, open_prepared
from search_spaces.errors import DataError

SHARE = 0.5  # of the memory that there is for them: the system and others need some, too
PATIENCE_S = 2.0  # without a sign of life
WORTH_SAYING_BYTES = 10**8  # less is read before anybody wonders
BLOCK_BYTES = 1 << 26
OnMessage = Callable[[str], None]


@dataclass(frozen=True)
class Residence:
    """Whether pairs of that size are read into memory, and the sentence that says so and why."""

    size_bytes: int
    in_memory: bool
    sentence: str


def decide(size_bytes: int, available: int | None, *, into: str = "memory") -> Residence:
    """Return where `size_bytes` of pairs go on a host with `available` bytes (None: unknown, so nothing is risked)."""
    size = f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 1e8 else f"{size_bytes / 1e6:.1f} MB"
    if available is None:
        return Residence(
            size_bytes, False, f"{size} of pairs are read from disk as needed: how much memory there is, is unknown."
        )
    if size_bytes > SHARE * available:
        return Residence(
            size_bytes,
            False,
            f"{size} of pairs are read from disk as needed: they are more than half of the {available / 1e9:.1f} GB of "
            "memory that there are for them.",
        )
    return Residence(size_bytes, True, f"Reading {size} of pairs into {into}.")


def stored_bytes(folder: Path, splits: tuple[str, ...] = PREPARED_SPLITS) -> int:
    """Return how many bytes the pixels of prepared splits take, as they are stored."""
    prepared = (open_prepared(folder, split) for split in splits)
    return sum(pairs.raw.nbytes + pairs.rgb.nbytes for pairs in prepared)


def load(
    folder: Path,
    split: str,
    *,
    available: int | None,
    on_message: OnMessage | None = None,
    progress: Progress | None = None,
) -> PairSet:
    """Return a prepared split in memory where it fits, else mapped; raise DataError where the disk fails.

    For a process that is alone on its machine. `on_message` gets the sentence before anything is read; `progress`
    follows the pairs once that takes longer than a moment.
    """
    mapped = open_prepared(folder, split)
    where = decide(stored_bytes(folder, (split,)), available)
    _tell(on_message, where)
    if not where.in_memory:
        return mapped
    raw, rgb = (np.empty(array.shape, array.dtype) for array in (mapped.raw, mapped.rgb))
    memory = PairSet(raw, rgb, mapped.names, mapped.format)
    report = _patient(progress, len(mapped))
    for block in _blocks(mapped):
        _read(mapped.raw, block, memory.raw[block])
        _read(mapped.rgb, block, memory.rgb[block])
        report(block.stop)
    return memory


def warm(
    folder: Path, *, available: int | None, on_message: OnMessage | None = None, progress: Progress | None = None
) -> Residence:
    """Read the prepared splits once where they fit, so that processes which map them later do not wait for the disk.

    Raises DataError where the disk fails. `on_message` and `progress` are as in `load`.
    """
    where = decide(stored_bytes(folder), available, into="the memory that all workers share")
    _tell(on_message, where)
    if not where.in_memory:
        return where
    splits = [open_prepared(folder, split) for split in PREPARED_SPLITS]
    report, before = _patient(progress, sum(map(len, splits))), 0
    for mapped in splits:
        for block in _blocks(mapped):
            _read(mapped.raw, block, np.empty(mapped.raw[block].shape, mapped.raw.dtype))
            _read(mapped.rgb, block, np.empty(mapped.rgb[block].shape, mapped.rgb.dtype))
            report(before + block.stop)
        before += len(mapped)
    return where


def _tell(on_message: OnMessage | None, where: Residence) -> None:
    if on_message is not None and where.size_bytes >= WORTH_SAYING_BYTES:
        on_message(where.sentence)


def _patient(progress: Progress | None, total: int) -> Callable[[int], None]:
    """Return what reports pairs done, but nothing before it has taken long enough for somebody to wonder."""
    begun = monotonic()

    def report(done: int) -> None:
        if progress is not None and monotonic() - begun > PATIENCE_S:
            progress(done, total)

    return report


def _blocks(pairs: PairSet) -> Iterator[slice]:
    pair_bytes = max(1, (pairs.raw.nbytes + pairs.rgb.nbytes) // max(1, len(pairs)))
    step = max(1, BLOCK_BYTES // pair_bytes)
    yield from (slice(start, min(start + step, len(pairs))) for start in range(0, len(pairs), step))


def _read(mapped: np.ndarray[Any, Any], block: slice, into: np.ndarray[Any, Any]) -> None:
    """Read pairs of a mapped file by the file: a disk that fails is an error then, not the end of the process."""
    assert isinstance(mapped, np.memmap)
    path = mapped.filename
    try:
        with Path(str(path)).open("rb") as file:
            file.seek(mapped.offset + block.start * mapped[0].nbytes)
            whole = file.readinto(into) == into.nbytes  # type: ignore[arg-type]  # an array is a buffer
    except OSError as error:
        raise DataError(f'Cannot read "{path}": {error.strerror or error}; check the disk.') from error
    if not whole:
        raise DataError(f'Pairs are missing in "{path}"; remove that folder and run again.')
