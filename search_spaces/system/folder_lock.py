"""Lock on a folder, released when its process dies."""

from pathlib import Path
from typing import Any

LOCK = ".lock"


def lock(folder: Path) -> Any:
    """Return the lock that one search at a time may hold on a study; a killed process leaves it free."""
    from filelock import FileLock

    return FileLock(folder / LOCK, timeout=0)
