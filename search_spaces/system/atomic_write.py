"""Write files atomically: whole or not at all, whatever happens meanwhile."""

import os
import platform
import re
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

_MOST_OF_HOST = 40  # characters; file systems allow 255 bytes for the whole name
_MOST_BYTES = 255
_DIGITS = 12


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
    temporary = temporary_of(path)
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


def temporary_of(path: Path) -> Path:
    """Return where this process writes what will be `path`: folders may be shared, and process numbers repeat."""
    return path.with_name(hidden_name(path.name, f".{_host()}-{os.getpid()}.tmp"))


def hidden_name(name: str, ending: str) -> str:
    """Return the name of what is made beside `name` while it is not whole; long ones are cut, or no system takes it."""
    whole = f".{name}{ending}"
    if len(os.fsencode(whole)) <= _MOST_BYTES:
        return whole
    digest = sha256(os.fsencode(name)).hexdigest()[:_DIGITS]  # equal beginnings stay apart
    room = _MOST_BYTES - len(os.fsencode(f".-{digest}{ending}"))
    return f".{os.fsencode(name)[:room].decode(errors='ignore')}-{digest}{ending}"


def _host() -> str:
    """Return this machine's name as a part of a file's."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", platform.node())[:_MOST_OF_HOST] or "unknown"


def clear_left_behind(folder: Path) -> None:
    """Remove what processes of this machine left below a folder in the middle of a write; others' are theirs."""
    own = re.compile(rf"\..+\.{re.escape(_host())}-(\d+)\.tmp")
    for path in folder.rglob(".*.tmp"):
        match = own.fullmatch(path.name)
        if match and not _lives(int(match[1])):
            with suppress(OSError):  # in a folder where nothing can be written
                path.unlink(missing_ok=True)


def _lives(process: int) -> bool:
    if os.name != "posix":
        return False  # signal 0 would end it there; a search holds a lock on its folder
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return process != os.getpid()  # our own number at an earlier time: nothing of ours is being written now
