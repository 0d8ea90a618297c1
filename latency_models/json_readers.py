"""Strict reading of a device's JSON: every key is known, present and of its type, or an error names it.

A reader takes where a value stands ("devices/mine.json: prior.fixed_ms") and the value as JSON gave it, and
returns the value checked. `record` and `list_of` make readers of readers, so `device` can say what a file
holds in one table. Knows nothing of devices.
"""

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from math import isfinite
from pathlib import Path
from typing import Any, NoReturn

from search_spaces.errors import DeviceError
from search_spaces.system import stored
from search_spaces.system.file_errors import cause

Reader = Callable[[str, object], Any]


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in the file at `path`; raise DeviceError unless it is one JSON object without twin keys."""
    try:
        data = stored.parse_json(stored.read_bytes(path))
    except (OSError, ValueError) as error:
        raise DeviceError(
            f"{path} is not a readable JSON file: {cause(error)}. Correct it, or use another device."
        ) from None
    if not isinstance(data, dict):
        refuse(str(path), "one JSON object", data)
    return data


def refuse(where: str, wanted: str, got: object) -> NoReturn:
    """Raise the DeviceError of a value that is not what it must be."""
    raise DeviceError(f"{where} must be {wanted}, got {got!r}; correct the file.")


def text(where: str, value: object) -> str:
    """Read a string that is not empty."""
    return value if isinstance(value, str) and value else refuse(where, "a string", value)


def number(where: str, value: object) -> float:
    """Read a finite number ≥ 0."""
    if isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value) and value >= 0:
        return float(value)
    refuse(where, "a finite number ≥ 0", value)


def positive(where: str, value: object) -> float:
    """Read a finite number > 0."""
    return number(where, value) or refuse(where, "a finite number > 0", value)


def count(where: str, value: object) -> int:
    """Read a whole number ≥ 1."""
    return value if type(value) is int and value >= 1 else refuse(where, "a whole number ≥ 1", value)


def one_of(*legal: object) -> Reader:
    """Return the reader of a value that is one of `legal`, in type too."""

    def read(where: str, value: object) -> object:
        listed = ", ".join(map(repr, legal))
        return value if any(type(value) is type(v) and value == v for v in legal) else refuse(where, listed, value)

    return read


def list_of(reader: Reader) -> Reader:
    """Return the reader of a list with one element or more."""

    def read(where: str, value: object) -> tuple[Any, ...]:
        if not isinstance(value, list) or not value:
            refuse(where, "a list with one element or more", value)
        return tuple(reader(f"{where}[{index}]", element) for index, element in enumerate(value))

    return read


def optional(reader: Reader) -> Reader:
    """Return the reader of a value that may be null."""
    return lambda where, value: None if value is None else reader(where, value)


def named(reader: Reader) -> Reader:
    """Return the reader of an object whose keys are free."""

    def read(where: str, value: object) -> dict[str, Any]:
        if not isinstance(value, dict):
            refuse(where, "an object", value)
        return {key: reader(_inside(where, key), element) for key, element in value.items()}

    return read


def record(readers: Mapping[str, Reader]) -> Reader:
    """Return the reader of an object with exactly these keys."""

    def read(where: str, value: object) -> dict[str, Any]:
        if not isinstance(value, dict):
            refuse(where, "an object", value)
        check_keys(where, value, readers)
        return {key: reader(_inside(where, key), value[key]) for key, reader in readers.items()}

    return read


def some_of(readers: Mapping[str, Reader]) -> Reader:
    """Return the reader of an object with any of these keys."""

    def read(where: str, value: object) -> dict[str, Any]:
        if not isinstance(value, dict):
            refuse(where, "an object", value)
        _check_known(where, value, readers)
        return {key: readers[key](_inside(where, key), element) for key, element in value.items()}

    return read


def check_keys(where: str, value: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Raise DeviceError for the first key that is missing or that nobody knows."""
    for key in known:
        if key not in value:
            raise DeviceError(f"{_inside(where, key)} is missing; add it to the file.")
    _check_known(where, value, known)


def _check_known(where: str, value: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    for key in value:
        if key not in known:
            near = get_close_matches(key, known, n=1)
            hint = f' Did you mean "{near[0]}"?' if near else ""
            raise DeviceError(f"{_inside(where, key)} is not a known key; known: {', '.join(known)}.{hint}")


def _inside(where: str, key: str) -> str:
    return f"{where}.{key}" if ": " in where else f"{where}: {key}"
