"""Lock on a folder, released when its process dies."""

from pathlib import Path
from typing import Any

LOCK = ".lock"


def lock(folder: Path) -> Any:
    """Return the lock that one search at a time may hold on a study; a killed process leaves it free."""
    from filelock import FileLock

    return FileLock(folder / LOCK, timeout=0)


def is_held(folder: Path) -> bool:
    """Tell whether another process holds the lock on a folder now; nothing is written."""
    from filelock import Timeout

    if not (folder / LOCK).exists():
        return False
    try:
        with lock(folder):
            return False
    except Timeout:
        return True
    except OSError:
        return False  # a folder that nobody may write to has no search on it
