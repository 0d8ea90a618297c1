"""Temporary folders that a killed process leaves behind, and how the next one knows that nobody owns them.

A process holds a lock inside of its folder while it works. Where the lock is free, its owner is gone; a folder without
one, of an earlier version or of a process that died at its first breath, counts as left behind after a day.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from search_spaces.system.folder_lock import LOCK

DAY_S = 24 * 3600
FRESH_LOCK = ".lock-fresh"  # its name until it is held, so that a free lock of the other name has lost its owner


@contextmanager
def work_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Make a folder of ours in `parent`, held while the block runs and removed behind it, if it is still there."""
    from filelock import FileLock

    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    try:
        with FileLock(folder / FRESH_LOCK, timeout=0):
            os.rename(folder / FRESH_LOCK, folder / LOCK)  # noqa: PTH104 (tests count the moves of pathlib)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def give_name(folder: Path, name: Path) -> None:
    """Have a work folder take its name in one step; `name` is nothing yet or an empty folder."""
    folder.chmod(0o755)  # mkdtemp makes folders that only their owner can read
    folder.replace(name)
    (name / LOCK).unlink(missing_ok=True)  # held until here, so that a kill leaves what is seen to be left behind


def abandoned(parent: Path, prefix: str) -> list[Path]:
    """Return the work folders in `parent` that no living process owns."""
    try:
        folders = [path for path in parent.iterdir() if path.name.startswith(prefix) and path.is_dir()]
    except OSError:  # nothing there, or nothing that may be looked at: nothing to clear
        return []
    return sorted(path for path in folders if not path.is_symlink() and _is_abandoned(path))


def _is_abandoned(folder: Path) -> bool:
    from filelock import FileLock, Timeout

    try:
        if not (folder / LOCK).exists():
            return time.time() - folder.stat().st_mtime > DAY_S
        with FileLock(folder / LOCK, timeout=0):
            return True
    except (OSError, Timeout):
        return False


def clear_abandoned(parent: Path, prefix: str) -> None:
    """Remove the work folders that no living process owns."""
    for folder in abandoned(parent, prefix):
        shutil.rmtree(folder, ignore_errors=True)
