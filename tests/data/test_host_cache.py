"""Where pairs lie while they are trained on, what is said before, and that it makes no difference to the pixels."""

from pathlib import Path

import numpy as np
import pytest

from nas.data import host_cache
from nas.data.host_cache import decide, load, stored_bytes, warm
from nas.data.pairs import open_prepared
from nas.train.memory import host_bytes
from search_spaces.errors import DataError

GB = 10**9
PLENTY = 1000 * GB
# 24 161 pairs of 256×256: two bytes of mosaic and three of target per pixel.
CHALLENGE = 24161 * 256 * 256 * 5


@pytest.fixture(autouse=True)
def everything_is_worth_saying(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_cache, "WORTH_SAYING_BYTES", 0)


def test_the_challenges_pairs_are_7_9_gb_and_said_before_they_are_read() -> None:
    residence = decide(CHALLENGE, 32 * GB)
    assert residence == host_cache.Residence(CHALLENGE, True, "Reading 7.9 GB of pairs into memory.")


def test_what_takes_more_than_half_of_the_memory_stays_on_disk_and_is_told_why() -> None:
    residence = decide(CHALLENGE, 15 * GB)
    assert not residence.in_memory
    assert residence.sentence == (
        "7.9 GB of pairs are read from disk as needed: they are more than half of the 15.0 GB of memory "
        "that there are for them."
    )
    assert decide(CHALLENGE, 2 * CHALLENGE).in_memory
    assert not decide(CHALLENGE, 2 * CHALLENGE - 1).in_memory


def test_an_unknown_memory_is_not_filled() -> None:
    residence = decide(CHALLENGE, None)
    assert not residence.in_memory
    assert "unknown" in residence.sentence


def test_the_size_is_that_of_the_pixels_as_stored(prepared_tiny: Path) -> None:
    assert stored_bytes(prepared_tiny, ("train",)) == 8 * 64 * 64 * 5
    assert stored_bytes(prepared_tiny) == 12 * 64 * 64 * 5


@pytest.mark.parametrize("block_bytes", [1, 64 * 64 * 5 * 3, 1 << 26])
def test_pairs_in_memory_are_those_on_disk(
    prepared_tiny: Path, block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_cache, "BLOCK_BYTES", block_bytes)
    mapped, held = open_prepared(prepared_tiny, "train"), load(prepared_tiny, "train", available=PLENTY)
    for on_disk, in_memory in ((mapped.raw, held.raw), (mapped.rgb, held.rgb)):
        assert isinstance(on_disk, np.memmap)
        assert type(in_memory) is np.ndarray
        assert in_memory.base is None
        np.testing.assert_array_equal(on_disk, in_memory)
        assert on_disk.dtype == in_memory.dtype
    assert (mapped.names, mapped.format) == (held.names, held.format)


@pytest.mark.parametrize("available", [None, 1000])
def test_what_does_not_fit_is_mapped(prepared_tiny: Path, available: int | None) -> None:
    said: list[str] = []
    pairs = load(prepared_tiny, "train", available=available, on_message=said.append)
    assert isinstance(pairs.raw, np.memmap)
    assert len(said) == 1
    assert "read from disk as needed" in said[0]


def test_the_sentence_comes_before_the_first_byte(prepared_tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[str] = []
    monkeypatch.setattr(host_cache, "_read", lambda *_: happened.append("read"))
    load(prepared_tiny, "train", available=PLENTY, on_message=happened.append)
    assert happened[0] == "Reading 0.2 MB of pairs into memory."
    assert set(happened[1:]) == {"read"}


@pytest.mark.parametrize("read", [load, warm], ids=["load", "warm"])
def test_only_what_takes_long_shows_progress_and_that_ends_at_all_pairs(
    prepared_tiny: Path, read: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seen() -> list[tuple[int, int]]:
        steps: list[tuple[int, int]] = []
        if read is load:
            load(prepared_tiny, "train", available=PLENTY, progress=lambda *at: steps.append(at))
        else:
            warm(prepared_tiny, available=PLENTY, progress=lambda *at: steps.append(at))
        return steps

    assert seen() == []
    monkeypatch.setattr(host_cache, "PATIENCE_S", -1.0)
    monkeypatch.setattr(host_cache, "BLOCK_BYTES", 1)
    total = 8 if read is load else 12
    assert seen() == [(done, total) for done in range(1, total + 1)]


def test_warming_reads_every_byte_of_both_splits_and_keeps_none(
    prepared_tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    original = host_cache._read

    def counted(mapped: np.ndarray, block: slice, into: np.ndarray) -> None:
        original(mapped, block, into)
        np.testing.assert_array_equal(into, mapped[block])
        read.append(into.nbytes)

    monkeypatch.setattr(host_cache, "_read", counted)
    said: list[str] = []
    assert warm(prepared_tiny, available=PLENTY, on_message=said.append).in_memory
    assert sum(read) == stored_bytes(prepared_tiny)
    assert said == ["Reading 0.2 MB of pairs into the memory that all workers share."]


def test_nobody_is_told_of_what_is_read_at_once(prepared_tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    said: list[str] = []
    load(prepared_tiny, "train", available=PLENTY, on_message=said.append)
    warm(prepared_tiny, available=PLENTY, on_message=said.append)
    assert said == []
    assert decide(CHALLENGE, PLENTY).size_bytes > host_cache.WORTH_SAYING_BYTES


def test_what_does_not_fit_is_not_warmed(prepared_tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_cache, "_read", None)
    assert not warm(prepared_tiny, available=1000).in_memory


def test_a_file_that_ends_too_early_is_named(prepared_tiny: Path, tmp_path: Path) -> None:
    mapped = open_prepared(prepared_tiny, "train")
    shorter = tmp_path / "train_raw.npy"
    shorter.write_bytes((prepared_tiny / "train_raw.npy").read_bytes()[:-1])
    cut = np.memmap(prepared_tiny / "train_raw.npy", np.uint16, "r", mapped.raw.offset, mapped.raw.shape)
    cut.filename = str(shorter)
    with pytest.raises(DataError, match=r"Pairs are missing in .*train_raw\.npy"):
        host_cache._read(cut, slice(0, 8), np.empty_like(cut))


def test_a_file_that_cannot_be_read_is_named(prepared_tiny: Path) -> None:
    mapped = open_prepared(prepared_tiny, "train").raw
    mapped.filename = str(prepared_tiny)
    with pytest.raises(DataError, match="check the disk"):
        host_cache._read(mapped, slice(0, 8), np.empty_like(mapped))


def test_the_hosts_memory_is_known_without_asking_a_graphics_card() -> None:
    known = host_bytes()
    assert known is None or known > GB
