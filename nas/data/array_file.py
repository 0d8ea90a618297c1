"""Read NumPy's files, whose damage NumPy reports as almost anything."""

import zlib
from pathlib import Path
from tokenize import TokenError
from typing import Any
from zipfile import BadZipFile

import numpy as np

from search_spaces.system import stored

# A header is parsed as Python, and says how much memory is wanted; an archive is unpacked.
_DAMAGE = (
    SyntaxError, TokenError, TypeError, KeyError, EOFError, OverflowError, MemoryError, RecursionError,
    NotImplementedError, RuntimeError, BadZipFile, zlib.error,
)  # fmt: skip

Array = np.ndarray[Any, Any]


def mapped(path: Path) -> Array:
    """Map an .npy file, whose values are read as they are touched; raise OSError or ValueError where it is none."""
    stored.require_file(path)  # NumPy would wait for a pipe
    try:
        array = np.load(path, mmap_mode="r")
    except _DAMAGE as error:
        raise ValueError(f"it is no file of NumPy ({type(error).__name__})") from None
    if not isinstance(array, np.ndarray):
        raise ValueError("it is an archive, where an array was wanted")
    return array


def unpacked(path: Path, *names: str) -> tuple[Array, ...]:
    """Return arrays of an .npz file by name; raise OSError or ValueError where they cannot be read."""
    try:
        with stored.opened(path) as file, np.load(file) as archive:
            return tuple(archive[name] for name in names)
    except _DAMAGE as error:
        raise ValueError(f"it is no archive of NumPy with {', '.join(names)} ({type(error).__name__})") from None
