"""What prepared pairs contain, whatever they are called, wherever they lie and however old they are."""

import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from zlib import crc32

from nas.data.pairs import KINDS, PREPARED_SPLITS, open_prepared, stored_sums
from search_spaces.errors import DataError

_BLOCK = 1 << 22


def content_of(folder: Path) -> str:
    """Return a name for the pixels, names and format of prepared pairs; raise DataError where they cannot be read."""
    file_sums = []
    for split in PREPARED_SPLITS:
        pairs = open_prepared(folder, split)
        sums = stored_sums(folder, split) or {kind: _sum(folder, split, kind) for kind in KINDS}
        file_sums.append([split, list(pairs.names), vars(pairs.format), pairs.raw.shape, sums])
    return sha256(json.dumps(file_sums, sort_keys=True).encode()).hexdigest()[:32]


def files_of(folder: Path) -> dict[str, int]:
    """Return the files that prepared pairs consist of, with their sizes in bytes."""
    names = [name for split in PREPARED_SPLITS for name in _names(split)]
    return {name: (folder / name).stat().st_size for name in names}


def is_file_of_pairs(name: str) -> bool:
    """Tell whether prepared pairs have a file of that name."""
    return any(name in _names(split) for split in PREPARED_SPLITS)


def _names(split: str) -> list[str]:
    return [f"{split}.json", *(f"{split}_{kind}.npy" for kind in KINDS)]


def require_written(folder: Path) -> None:
    """Raise DataError where pixels are not those whose sums lie beside them, as after a broken transfer."""
    for split in PREPARED_SPLITS:
        for kind, wanted in (stored_sums(folder, split) or {}).items():
            if _sum(folder, split, kind) != wanted:
                raise DataError(f'The {kind} pixels of {split} in "{folder}" are not those that were sent.')


def _sum(folder: Path, split: str, kind: str) -> int:
    checksum = 0
    for block in _pixels(folder / f"{split}_{kind}.npy"):
        checksum = crc32(block, checksum)
    return checksum


def _pixels(path: Path) -> Iterator[bytes]:
    import numpy as np

    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        while block := file.read(_BLOCK):
            yield block
