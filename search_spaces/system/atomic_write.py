"""Write files atomically: whole or not at all, whatever happens meanwhile."""

import os
from contextlib import suppress
from pathlib import Path


def write_durably(path: Path, content: bytes) -> None:
    """Replace `path` by `content` so that a crash at any moment leaves a whole file.

    Raises OSError that names `path` where the disk does not take it; what was there is left as it was.
    """
    try:
        _write(path, content)
    except OSError as error:
        error.filename, error.filename2 = str(path), None  # not the temporary file, of which nobody knows
        raise


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        with suppress(OSError):  # which would hide why nothing could be written
            temporary.unlink(missing_ok=True)  # left only where the disk was full
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make the new name itself durable; systems that cannot open a folder do not need it."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
