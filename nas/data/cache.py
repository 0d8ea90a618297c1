"""Folders of reproducible data in the user's cache, each made exactly once."""

import os
from collections.abc import Callable
from pathlib import Path

from search_spaces.errors import DataError
from search_spaces.system.named_files import expanded
from search_spaces.system.work_folder import clear_abandoned, give_name, work_folder

CACHE_VARIABLE = "ISP_NAS_CACHE"


def cache_dir() -> Path:
    """The folder for remade things: `$ISP_NAS_CACHE`, else the user's cache folder; it need not exist."""
    from platformdirs import user_cache_dir

    chosen = os.environ.get(CACHE_VARIABLE)
    return expanded(chosen) if chosen else Path(user_cache_dir("isp-nas"))


ELSEWHERE = f"set {CACHE_VARIABLE} to a folder that can be written"


def build_once(folder: Path, build: Callable[[Path], None], *, other: str = ELSEWHERE) -> Path:
    """Have `build` fill `folder` unless it is there; return it.

    `build` works in a temporary folder beside `folder`, which then takes its name in one step: a folder of that
    name is always complete, and of two processes that build at once the first one's result stays.
    `other` is what to do where there is no room.
    """
    clear_abandoned(folder.parent, f".{folder.name}-")
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with work_folder(folder.parent, f".{folder.name}-") as partial:
            build(partial)
            _take_name(partial, folder)
    except OSError as error:
        raise DataError(f'Cannot write "{folder}": {error.strerror or error}; free space there or {other}.') from error
    return folder


def _take_name(partial: Path, folder: Path) -> None:
    try:
        give_name(partial, folder)
    except OSError:
        if not folder.is_dir():  # else another process was first
            raise
