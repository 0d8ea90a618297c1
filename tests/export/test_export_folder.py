"""An export's files take their names in one step, or in steps that the next run of the command can undo."""

import os
from contextlib import suppress
from pathlib import Path

import pytest

from nas.export.folder import MOVES, PREFIX, publish, require_place, undo_broken_moves
from search_spaces.errors import ExportError
from search_spaces.system import work_folder as work
from search_spaces.system.work_folder import abandoned, clear_abandoned, work_folder

FILES = {"model.tflite": b"network", "card.md": b"text", "patches.png": b"picture", "card.json": b"{}"}


class Killed(BaseException):
    """Ends the process's work where it stands."""


def publish_all(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    with work_folder(out, PREFIX) as folder:
        for name, content in FILES.items():
            (folder / name).write_bytes(content)
        publish(folder, out)


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


@pytest.mark.parametrize("mine", [{}, {"notes.txt": b"mine"}], ids=["new", "beside others"])
def test_all_files_are_there_and_nothing_else(tmp_path: Path, mine: dict[str, bytes]) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for name, content in mine.items():
        (out / name).write_bytes(content)
    publish_all(out)
    assert contents(out) == {**FILES, **mine}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("moves", range(6))
@pytest.mark.parametrize("mine", [{}, {"notes.txt": b"mine"}], ids=["new", "beside others"])
def test_the_same_command_completes_after_a_kill_between_any_two_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moves: int, mine: dict[str, bytes]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for name, content in mine.items():
        (out / name).write_bytes(content)
    left = [moves]
    replace, rename = Path.replace, Path.rename

    def counted(act):  # type: ignore[no-untyped-def]
        def move(self: Path, target: Path) -> Path:
            if not left[0]:
                raise Killed
            left[0] -= 1
            return act(self, target)

        return move

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", counted(replace))
        patch.setattr(Path, "rename", counted(rename))
        patch.setattr(work.shutil, "rmtree", lambda *_, **__: None)  # a killed process tidies nothing up
        with suppress(Killed):
            publish_all(out)
    if (out / "card.json").exists():
        undo_broken_moves(out)  # takes away the work folder alone
    else:
        require_place(out)
        assert contents(out) == mine
        publish_all(out)
    assert contents(out) == {**FILES, **mine}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_file_that_was_changed_since_is_the_users_and_stays(tmp_path: Path) -> None:
    folder = tmp_path / f"{PREFIX}x"
    folder.mkdir()
    (folder / ".lock").touch()
    (folder / MOVES).write_text('{"model.tflite": "0", "../secret": "0"}')
    (tmp_path / "model.tflite").write_bytes(b"mine")
    with pytest.raises(ExportError, match="exists and is not overwritten"):
        require_place(tmp_path)
    assert contents(tmp_path) == {"model.tflite": b"mine"}


def test_a_folder_that_somebody_works_in_is_left_alone_and_one_without_a_lock_for_a_day(tmp_path: Path) -> None:
    with work_folder(tmp_path, ".x-") as folder:
        assert abandoned(tmp_path, ".x-") == []
        clear_abandoned(tmp_path, ".x-")
        assert folder.is_dir()
    assert not folder.exists()
    young, old = tmp_path / ".x-young", tmp_path / ".x-old"
    young.mkdir()
    old.mkdir()
    os.utime(old, (0, 0))
    clear_abandoned(tmp_path, ".x-")
    assert (young.is_dir(), old.is_dir()) == (True, False)
