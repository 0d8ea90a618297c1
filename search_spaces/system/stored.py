"""Read back what a program stored on disk: whole, of the kinds that were meant, and named where it is not.

    read_bytes ─► parse_json, parse_toml ─► Schema.read

A schema is a type: a dataclass, a TypedDict, or a union of them. Nothing is converted on the way: `true` is no number,
a string is no number, NaN is none either, and an unknown key is refused. Every failure is an OSError or a ValueError
whose text says what is wrong and nothing else; who calls adds the file's name and what to do.
"""

import errno
import json
import os
import re
import stat
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Generic, TypeVar

from search_spaces.system.printable import printable

if TYPE_CHECKING:
    from pydantic import TypeAdapter
    from pydantic_core import ErrorDetails

T = TypeVar("T")
_SHOWN = 60  # characters of a wrong value
_SPECIAL = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"))


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading; raise OSError where it cannot be, or is no regular file: a pipe may never end."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        kind = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(kind):
            named = next((name for is_kind, name in _SPECIAL if is_kind(kind)), "a device")
            raise OSError(errno.EINVAL, f"it is {named}, not a file", str(path))
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            yield file
    finally:
        os.close(descriptor)


def require_file(path: Path) -> None:
    """Raise OSError where a path cannot be opened for reading, or is no regular file.

    For readers that wait for a pipe, or say of whatever cannot be read that it is damaged or missing.
    """
    with opened(path):
        pass


def read_bytes(path: Path) -> bytes:
    """Return a file's content; raise OSError as `opened` does, which names the path also where reading fails."""
    try:
        with opened(path) as file:
            return file.read()
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """Return a file's text; raise OSError as `opened` does, ValueError where it is no such text."""
    return read_bytes(path).decode(encoding).replace("\r\n", "\n").replace("\r", "\n")


def parse_json(text: str | bytes) -> Any:
    """Return what JSON text holds; raise ValueError also for a key given twice, NaN, and what nests or counts too far.

    A whole number of so many digits that no float holds it would be no figure, wherever it is used as one.
    """
    try:
        return _shallow(json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_int=_whole))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def parse_toml(content: bytes) -> dict[str, Any]:
    """Return what TOML text holds; raise ValueError where it is none, or nested too deeply."""
    try:
        if _TOO_MANY_DIGITS.search(content):
            raise ValueError(f"a number of more than {_MOST_DIGITS} digits")
        return _shallow(tomllib.loads(content.decode("utf-8")))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f'the key "{_short(twice)}" is there twice')
    return made


_MOST_DIGITS = 300  # of a whole number; a float holds 308
_TOO_MANY_DIGITS = re.compile(rb"[0-9_]{%d}" % (_MOST_DIGITS + 1))


_MOST_LEVELS = 100  # below one another; readers walk down them by calling themselves


def _shallow(data: T) -> T:
    """Return data as it is; raise RecursionError where it is nested deeper than anything that is meant."""
    level: list[Any] = [data]
    for _ in range(_MOST_LEVELS):
        inner = [each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list)]
        level = [each for part in inner for each in part if isinstance(each, dict | list)]
        level = [each for each in level if each]
        if not level:
            return data
    raise RecursionError


def _whole(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


class Schema(Generic[T]):
    """A type that stored data must have, every key known and every value in its range."""

    def __init__(self, kind: Any, *, known: Iterable[str] = ()) -> None:
        """`known` are keys among which an unknown one is looked for; without, the missing ones are."""
        self._kind, self._known = kind, tuple(known)
        self._adapter: TypeAdapter[T] | None = None

    def read(self, data: Any) -> T:
        """Return plain data as the type; raise ValueError with the first thing that is wrong."""
        try:
            text = json.dumps(data, default=str, ensure_ascii=False)
            return self.read_json(text.encode("utf-8"))
        except RecursionError:
            raise ValueError("it is nested too deeply") from None

    def read_json(self, text: bytes) -> T:
        """Return JSON text as the type, which must not hold a key twice; raise ValueError as `read` does."""
        from pydantic import ValidationError

        try:
            return self._checker.validate_json(text, strict=True)
        except ValidationError as error:
            raise ValueError(_reason(error.errors(include_url=False), self._known)) from None

    @property
    def _checker(self) -> "TypeAdapter[T]":
        if self._adapter is None:
            from pydantic import TypeAdapter

            self._adapter = TypeAdapter(self._kind)
        return self._adapter


_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")


def _reason(errors: "list[ErrorDetails]", known: tuple[str, ...]) -> str:
    """Say what is wrong: an unknown key first, for it explains the one that is missing."""
    first = next((each for each in errors if each["type"] in _UNKNOWN), errors[0])
    name = str(first["loc"][-1]) if first["loc"] else "it"
    if first["type"] in _UNKNOWN:
        return _unknown(name, [*(str(e["loc"][-1]) for e in errors if e["type"].startswith("missing")), *known])
    if first["type"].startswith("missing"):
        return f'the key "{name}" is missing'
    if first["type"] == "json_invalid":
        return f"it is no JSON: {first['msg'].removeprefix('Invalid JSON: ')}"
    place = ".".join(str(part) for part in first["loc"]) or "it"
    if first["type"].startswith("union_tag"):
        place = "its kind"
    wrong = first["msg"].replace("Input should", "should")
    return f"{_short(place)} {wrong[:1].lower()}{wrong[1:]}, got {shown(first['input'])}{_hint(first)}"


def _hint(error: "ErrorDetails") -> str:
    expected = str(error.get("ctx", {}).get("expected", "")).replace(" or ", ", ").split(", ")
    near = get_close_matches(str(error["input"]), [each.strip("'") for each in expected], n=1, cutoff=0.5)
    return f'; did you mean "{near[0]}"?' if near else ""


def _unknown(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f'the key "{_short(name)}" is unknown' + (f'; did you mean "{near[0]}"?' if near else "")


def shown(value: object) -> str:
    """Return a value from outside as a terminal may print it: short, and without control characters."""
    return _short(json.dumps(value, default=repr, ensure_ascii=False))


def _short(text: str) -> str:
    return printable(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")
