"""Find named files: in the working directory, the user's data folder, then the installation.

A user's own spaces and devices come first and are never written into the installation.
"""

import os
from pathlib import Path

from search_spaces.errors import UnknownNameError, UsageError
from search_spaces.system.file_errors import listed


def expanded(path: str) -> Path:
    """Return a path as it is typed, `~` being the home folder; "./~x" is a file of that name, for pathlib it is not."""
    return Path(os.path.expanduser(path))  # noqa: PTH111


def user_folder(kind: str) -> Path:
    """Return the user's data folder for `kind` ("spaces", "devices"); ISP_NAS_HOME moves it."""
    home = os.environ.get("ISP_NAS_HOME")
    if home:
        return Path(home) / kind
    from platformdirs import user_data_path

    return user_data_path("isp-nas", appauthor=False) / kind


def folders(kind: str, builtin: Path) -> tuple[Path, ...]:
    """Return where `kind` is looked for, the first hit winning."""
    return (Path(kind), user_folder(kind), builtin)


def names(kind: str, builtin: Path, suffix: str) -> dict[str, Path]:
    """Return every name of `kind` with its file; the user's own hide built-in ones of the same name.

    Raises UsageError where a folder cannot be listed: a built-in file in place of the user's own would be another one.
    """
    paths: dict[str, Path] = {}
    for folder in reversed(folders(kind, builtin)):
        paths |= {path.stem: path for path in listed(folder) if path.name.endswith(suffix)}
    return paths


def find(kind: str, name: str, builtin: Path, suffix: str) -> Path:
    """Return the file of `name`, which is a known name or the path of a file.

    Raises UnknownNameError with the nearest known name, or UsageError where a path does not exist.
    """
    if name.endswith(suffix):
        if not Path(name).exists():
            raise UsageError(f"No {kind[:-1]} file at {name}; give an existing file or a known name.")
        return Path(name)  # whoever reads it says so where it is no file
    known = names(kind, builtin, suffix)
    if name not in known:
        raise UnknownNameError(kind[:-1], name, known)
    return known[name]
