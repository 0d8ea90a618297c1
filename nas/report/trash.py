"""Move a study to the trash of the system, from which it can be taken back."""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from nas.search import study as studies
from search_spaces.errors import StudyError, UnknownNameError
from search_spaces.system import folder_lock


@dataclass(frozen=True)
class Trashed:
    """A study that was moved to the trash."""

    folder: Path  # where it lay
    now: Path | None  # where it lies; None where the system's trash is not a folder that we know


def trash_study(results: Path, name: str) -> Trashed:
    """Move the study called `name` to the trash.

    Raises UnknownNameError where there is no such study, StudyError where a search works on it or there is no trash.
    """
    from send2trash import send2trash

    known = studies.names(results)
    if name not in known:
        raise UnknownNameError("study", name, known)
    folder = results / name
    if folder_lock.is_held(folder):
        raise StudyError(f"A search is working on {folder}; stop it with Ctrl-C before the study is deleted.")
    folders = _trash_folders(folder)
    inode = folder.stat().st_ino
    try:
        send2trash(folder)
    except OSError as error:
        raise StudyError(
            f"{folder} could not be moved to the trash ({error.strerror or error}) and is left where it is; move it by "
            "hand."
        ) from None
    return Trashed(folder, _moved(folders, name, inode))


def _trash_folders(path: Path) -> list[Path]:
    """Return where things may lie once thrown away: by freedesktop.org's trash specification, and on macOS."""
    mount = path.resolve()
    while not mount.is_mount():
        mount = mount.parent
    user = getattr(os, "getuid", lambda: "")()
    home = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "Trash"
    folders = (home, mount / ".Trash" / str(user), mount / f".Trash-{user}")
    return [*(folder / "files" for folder in folders), Path.home() / ".Trash"]


def _moved(folders: list[Path], name: str, inode: int) -> Path | None:
    """Return what became of a folder: what is moved within a file system keeps its inode.

    None where that cannot be seen: it is in the trash all the same.
    """
    for folder in folders:
        with suppress(OSError):
            for entry in folder.iterdir():
                if entry.name.startswith(name) and entry.lstat().st_ino == inode:
                    return entry
    return None
