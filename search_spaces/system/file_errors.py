"""Describe a failure with a file in one sentence: the path, what was tried, why it failed and what to do."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from search_spaces.errors import IspNasError, UsageError

_CURES = {
    errno.ENOSPC: "make room on that disk, or name a place on another one",
    errno.EDQUOT: "make room within your quota, or name a place on another disk",
    errno.EROFS: "name a place that can be written",
    errno.EACCES: "change its permissions, or name another place",
    errno.EPERM: "change its permissions, or name another place",
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "check the path: a part of it is a file",
    errno.EISDIR: "name a file, for this is a folder",
    errno.EEXIST: "name another place",
    errno.ENAMETOOLONG: "name a shorter path",
    errno.EMFILE: "close other programs, or allow more open files (ulimit -n)",
    errno.EIO: "check the disk",
    errno.EINVAL: "name a file",  # as of a pipe, see `stored.opened`
    errno.ELOOP: "mend the link",
    errno.EFBIG: "allow larger files (ulimit -f), or name a place on another disk",
}
_CURE = "check the path and the disk"


@contextmanager
def acting_on(path: Path | str, action: str, kind: type[IspNasError] = UsageError) -> Iterator[None]:
    """Turn an OSError of the block into one sentence of `kind`; `action` is such as "read" or "write"."""
    try:
        yield
    except OSError as error:
        raise kind(sentence(error, path=path, action=action)) from None


def sentence(error: OSError, *, path: Path | str | None = None, action: str = "use") -> str:
    """Say what failed, with the error's own path where none is given."""
    named = path if path is not None else error.filename
    where = (
        "standard output or a file"
        if named is None
        else f'"{os.fsdecode(named) if isinstance(named, bytes) else named}"'
    )
    return f"Could not {action} {where}: {cause(error)}; {_CURES.get(error.errno or 0, _CURE)}."


def cause(error: Exception) -> str:
    """Return why something could not be read or written, without the path that an OSError repeats."""
    reason = error.strerror if isinstance(error, OSError) else None
    return (reason or str(error) or type(error).__name__).removesuffix(".")


def walked(folder: Path, kind: type[IspNasError] = UsageError) -> Iterator[tuple[str, list[str], list[str]]]:
    """Walk a folder as `os.walk` does; raise `kind` where one cannot be listed, which that passes over in silence."""

    def refuse(error: OSError) -> None:
        raise kind(sentence(error, action="list"))

    return os.walk(folder, onerror=refuse)


def files_below(folder: Path, kind: type[IspNasError] = UsageError) -> Iterator[Path]:
    """Yield the files in a folder and all below it; raise `kind` where one of them cannot be listed."""
    for at, folders, names in walked(folder, kind):
        folders.sort()
        yield from (Path(at) / name for name in sorted(names))


def listed(folder: Path, kind: type[IspNasError] = UsageError) -> list[Path]:
    """Return what lies in a folder, sorted; nothing where there is none. Raises `kind` where it cannot be listed.

    `Path.glob` says nothing of a folder that it may not list, and what is in there would be passed over in silence.
    """
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise kind(sentence(error, path=folder, action="list")) from None
