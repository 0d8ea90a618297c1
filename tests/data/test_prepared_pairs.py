"""Pairs that were decoded once: they equal what was read, and what was changed since is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from pair_folders import file_of, write_splits

from nas.data.pairs import DataConfig, fingerprint, load_split, open_prepared, prepare
from search_spaces.errors import DataError, UnknownNameError


def test_prepared_pairs_equal_loaded_ones_and_stay_on_disk(two: DataConfig, tmp_path: Path) -> None:
    folder = prepare(two, tmp_path / "cache")
    assert folder == tmp_path / "cache" / fingerprint(two)
    for split in ("train", "val"):
        mapped, loaded = open_prepared(folder, split), load_split(two, split)
        assert isinstance(mapped.raw, np.memmap)
        np.testing.assert_array_equal(mapped.raw, loaded.raw)
        np.testing.assert_array_equal(mapped.rgb, loaded.rgb)
        assert (mapped.names, mapped.format) == (loaded.names, loaded.format)


def test_preparing_never_reads_the_test_pairs(two: DataConfig, tmp_path: Path) -> None:
    for path in (Path(two.source) / "test").rglob("*.png"):
        path.write_bytes(b"damaged")
    folder = prepare(two, tmp_path / "cache")
    assert not list(folder.glob("test*"))
    with pytest.raises(UnknownNameError, match="prepared split"):
        open_prepared(folder, "test")


def test_preparing_again_decodes_nothing(two: DataConfig, tmp_path: Path) -> None:
    folder = prepare(two, tmp_path / "cache")
    stamp = (folder / "train_raw.npy").stat().st_mtime_ns
    seen: list[int] = []
    assert prepare(two, tmp_path / "cache", progress=lambda done, _: seen.append(done)) == folder
    assert seen == []
    assert (folder / "train_raw.npy").stat().st_mtime_ns == stamp


def test_a_failed_preparation_leaves_nothing_behind(two: DataConfig, tmp_path: Path) -> None:
    file_of(two, "fujifilm").write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"fujifilm/1\.png"):
        prepare(two, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_the_slower_of_two_preparations_keeps_the_first_ones_result(two: DataConfig, tmp_path: Path) -> None:
    cache = tmp_path / "cache"

    def other_process_finishes(done: int, total: int) -> None:
        if done == 1:
            prepare(two, cache)

    folder = prepare(two, cache, progress=other_process_finishes)
    assert [path.name for path in cache.iterdir()] == [folder.name]
    assert len(open_prepared(folder, "train")) == 2


def test_a_cache_that_cannot_be_written_says_so(two: DataConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="set ISP_NAS_CACHE"):
        prepare(two, tmp_path / "file")


def test_a_damaged_prepared_folder_is_named(two: DataConfig, tmp_path: Path) -> None:
    folder = prepare(two, tmp_path / "cache")
    (folder / "train_raw.npy").write_bytes(b"")
    with pytest.raises(DataError, match="remove that folder"):
        open_prepared(folder, "train")


@pytest.mark.parametrize("file", ["train_raw.npy", "val_rgb.npy"])
def test_decoded_pixels_that_were_changed_are_refused(tmp_path: Path, file: str) -> None:
    config = write_splits(tmp_path / "pairs", train=2, val=1)
    folder = prepare(config, tmp_path / "cache")
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content[:-8] + bytes(8))
    with pytest.raises(DataError, match=r"other (raw|rgb) pixels than were written there; remove that folder"):
        prepare(config, tmp_path / "cache")


def test_decoded_pairs_from_before_checksums_open(tmp_path: Path) -> None:
    config = write_splits(tmp_path / "pairs", train=2, val=1)
    folder = prepare(config, tmp_path / "cache")
    for split in ("train", "val"):
        described = json.loads((folder / f"{split}.json").read_text())
        described = {name: value for name, value in described.items() if name not in ("crc32", "sha256")}
        (folder / f"{split}.json").write_text(json.dumps(described))
    assert len(open_prepared(prepare(config, tmp_path / "cache"), "train")) == 2


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("train.json", b'"bits": 10', b'"bits": 12'),  # levels and names decide what the pixels mean
        ("val.json", b'["0"]', b'["7"]'),
        ("train_raw.npy", b"'descr'", b"('descr"),  # NumPy's own parser fails in ways of its own
    ],
)
def test_decoded_pairs_that_are_described_otherwise_are_refused(
    tmp_path: Path, name: str, old: bytes, new: bytes
) -> None:
    config = write_splits(tmp_path / "pairs", train=2, val=1)
    path = prepare(config, tmp_path / "cache") / name
    assert old in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(old, new, 1))
    with pytest.raises(DataError, match="remove that folder and run again"):
        prepare(config, tmp_path / "cache")


@pytest.mark.parametrize("array", [np.zeros((2, 8, 8), "f4"), np.zeros((2, 8), "u2"), np.zeros((3, 8, 8), "u2")])
def test_decoded_pairs_of_another_kind_or_number_are_refused(tmp_path: Path, array: np.ndarray) -> None:
    folder = prepare(write_splits(tmp_path / "pairs", train=2, val=1), tmp_path / "cache")
    np.save(folder / "train_raw.npy", array)
    with pytest.raises(DataError, match="remove that folder"):
        open_prepared(folder, "train")
