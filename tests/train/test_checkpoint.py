"""A training state comes back bit for bit, or an error says that it cannot."""

import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors import safe_open
from safetensors.numpy import save_file

from nas.train.checkpoint import Arrays, Checkpoint, digest, load, save, step_of
from search_spaces.errors import StudyError
from search_spaces.system import atomic_write
from search_spaces.system.atomic_write import write_durably

STATE = Checkpoint(
    step=50,
    spec_hash="0123456789ab",
    parameters={
        "stem1/kernel": np.arange(6, dtype=np.float32).reshape(1, 2, 3),
        "block1.ca.fc1/bias": np.ones(2, "f4"),
    },
    first_moment={"stem1/kernel": np.full((1, 2, 3), 1e-30, np.float32), "block1.ca.fc1/bias": np.zeros(2, "f4")},
    second_moment={"stem1/kernel": np.full((1, 2, 3), 1e30, np.float32), "block1.ca.fc1/bias": np.zeros(2, "f4")},
    first_loss=0.1 + 0.2,
    loss=1 / 3,
)
any_floats = arrays.arrays(
    np.float32, arrays.array_shapes(max_dims=4, max_side=3), elements=st.floats(width=32, allow_nan=True)
)


def same_bits(a: Arrays, b: Arrays) -> bool:
    return a.keys() == b.keys() and all(
        a[name].dtype == b[name].dtype and a[name].shape == b[name].shape and a[name].tobytes() == b[name].tobytes()
        for name in a
    )


def assert_same(a: Checkpoint, b: Checkpoint) -> None:
    assert (a.step, a.spec_hash) == (b.step, b.spec_hash)
    assert repr((a.first_loss, a.loss)) == repr((b.first_loss, b.loss))
    for part in ("parameters", "first_moment", "second_moment"):
        assert same_bits(getattr(a, part), getattr(b, part)), part


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save(STATE, tmp_path / "state.safetensors")
    return tmp_path / "state.safetensors"


def test_a_state_comes_back_bit_for_bit(path: Path) -> None:
    assert_same(load(path), STATE)


@settings(deadline=None, max_examples=30)
@given(any_floats, st.integers(0, 10**9), st.floats(), st.floats())
def test_any_state_comes_back_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, array: np.ndarray, step: int, first_loss: float, loss: float
) -> None:
    path = tmp_path_factory.mktemp("state") / "state.safetensors"
    state = Checkpoint(
        step, "h", {"a/kernel": array}, {"a/kernel": array.T}, {"a/kernel": array[::-1]}, first_loss, loss
    )
    save(state, path)
    assert_same(load(path), state)


def test_an_untrained_state_keeps_its_unknown_losses(tmp_path: Path) -> None:
    save(Checkpoint(0, "h", {}, {}, {}), tmp_path / "state")
    again = load(tmp_path / "state")
    assert math.isinf(again.first_loss)
    assert math.isnan(again.loss)


@pytest.mark.parametrize("read", [load, step_of, digest])
def test_a_state_that_cannot_be_opened_is_not_called_missing_and_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], object]
) -> None:
    path = tmp_path / "state.safetensors"
    os.mkfifo(path)
    with pytest.raises(StudyError, match=r"state\.safetensors.*it is a pipe, not a file"):
        read(path)
    path.unlink()
    save(STATE, path)

    def denied(name: Path, *_: object) -> int:
        raise PermissionError(13, "Permission denied", str(name))

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(StudyError, match=r"state\.safetensors.*Permission denied"):
        read(path)


@pytest.mark.parametrize("length", [0, 1, 7, 8, 100, 0.5, 0.99])
def test_a_torn_file_is_refused(path: Path, length: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: length if isinstance(length, int) else int(length * len(content))])
    with pytest.raises(StudyError, match=r"state\.safetensors cannot be read .*; put a copy back, or remove"):
        load(path)


@pytest.mark.parametrize("by", [0x00, 0xFF])
def test_changed_values_are_refused(path: Path, by: int) -> None:
    content = bytearray(path.read_bytes())
    content[-4:] = bytes([by]) * 4
    path.write_bytes(content)
    with pytest.raises(StudyError, match="values are not those that were written"):
        load(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"checkpoint .*gone is not there"):
        load(tmp_path / "gone")


def test_bytes_of_another_kind_are_refused(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 8)
    with pytest.raises(StudyError, match="cannot be read"):
        load(path)


def test_a_safetensors_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    save_file({"weight": np.ones(3, np.float32)}, tmp_path / "other.safetensors")
    with pytest.raises(StudyError, match="not a checkpoint of isp-nas"):
        load(tmp_path / "other.safetensors")


def test_a_state_replaces_the_one_before_it_and_leaves_nothing_else(path: Path) -> None:
    save(Checkpoint(51, "h", {}, {}, {}), path)
    assert load(path).step == 51
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_whole(path: Path, broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(
        *(("search_spaces.system.atomic_write.os.fsync", fail) if broken == "fsync" else ("pathlib.Path.replace", fail))
    )
    with pytest.raises(OSError, match="No space left"):
        save(Checkpoint(51, "h", {}, {}, {}), path)
    monkeypatch.undo()
    assert_same(load(path), STATE)


def test_a_file_is_on_the_disk_before_it_takes_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, seen = tmp_path / "new" / "file", []

    def look(descriptor: int) -> None:
        seen.append((os.fstat(descriptor).st_size, path.exists()))

    monkeypatch.setattr(atomic_write.os, "fsync", look)
    write_durably(path, b"content")
    assert seen[0] == (7, False)
    assert path.read_bytes() == b"content"


def rewritten(path: Path, **changes: str) -> None:
    """Write a checkpoint again with other metadata, which safetensors itself does not protect."""
    with safe_open(path, framework="numpy") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(tensors, path, metadata={**metadata, **changes})


@pytest.mark.parametrize(
    ("name", "value"),
    [("step", "51"), ("spec_hash", "ba9876543210"), ("phase", "joint"), ("loss", "0.1"), ("rate_share", "0.5")],
)
def test_changed_metadata_is_refused(path: Path, name: str, value: str) -> None:
    rewritten(path, **{name: value})
    for read in (load, step_of):
        with pytest.raises(StudyError, match="what it tells of its training is not what was written"):
            read(path)


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("step", "many", "a whole number"),
        ("step", "-1", "a whole number"),
        ("step", "9" * 40, "a whole number"),
        ("loss", "small", "a number"),
        ("phase", "apart", "alone"),
        ("rate_share", "nan", "a number in"),
        ("pace", "1", "is unknown"),
    ],
)
def test_metadata_of_a_wrong_kind_are_named_in_a_file_from_before_their_checksum(
    path: Path, name: str, value: str, wanted: str
) -> None:
    without_metadata_checksum(path)
    assert_same(load(path), STATE)
    rewritten(path, **{name: value})
    with pytest.raises(StudyError, match=wanted):
        load(path)


def without_metadata_checksum(path: Path) -> None:
    with safe_open(path, framework="numpy") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    metadata.pop("metadata_sha256")
    save_file(tensors, path, metadata=metadata)
