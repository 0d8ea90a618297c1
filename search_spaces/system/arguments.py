"""Check the arguments of a public function against its annotations: a program is told like a person at a command line.

Nothing is converted: `"yes"` is no truth value and `"3"` no number. Scalars and arrays of NumPy count as what they
hold.
"""

import inspect
import re
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache, wraps
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, ParamSpec, TypeVar, Union, Unpack, get_args, get_origin, get_type_hints

from search_spaces.errors import IspNasError, UnknownNameError, UsageError
from search_spaces.system.printable import printable

P = ParamSpec("P")
R = TypeVar("R")
# What arguments end in whose option does not: units, and the plural.
_UNITS = ("_s", "_ms", "_mb", "_db", "s")
_WORDS = {
    str: "a string",
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    Path: "a path",
    Any: "anything",
    NoneType: "None",
}


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Have a function raise UsageError for an argument of another type than its annotation says.

    Of keyword arguments that are unpacked from a TypedDict, those that are None or unknown are left to the function.
    """
    signature = inspect.signature(function)

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        bound = signature.bind(*args, **kwargs)
        for name, value in bound.arguments.items():
            hint = signature.parameters[name].annotation
            if get_origin(hint) is Unpack:
                bound.arguments[name] = _checked_settings(get_args(hint)[0], value)
            else:
                bound.arguments[name] = _checked(name, hint, value)
        return function(*bound.args, **bound.kwargs)

    return call


def by_argument(function: Callable[P, R]) -> Callable[P, R]:
    """Have the errors of a function speak of its arguments where they speak of the command line's options.

    Messages are written for the command line, `--final-steps`; whoever calls the function has `final_steps`. Options
    that it has no argument for stay.
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except IspNasError as error:
            names = _argument_names(function)
            error.args = tuple(_reworded(each, names) if isinstance(each, str) else each for each in error.args)
            raise

    return call


def _argument_names(function: Callable[..., Any]) -> list[str]:
    parameters = inspect.signature(function).parameters.values()
    groups = [get_args(p.annotation)[0] for p in parameters if get_origin(p.annotation) is Unpack]
    return [*(p.name for p in parameters), *(name for group in groups for name in get_type_hints(group))]


def _reworded(message: str, names: Sequence[str]) -> str:
    def argument(option: re.Match[str]) -> str:
        name = option[1].replace("-", "_")
        called = next((each for each in names if each in (name, *(f"{name}{unit}" for unit in _UNITS))), None)
        return f"`{called}`" if called else option[0]

    return re.sub(r"(?<![\w-])--([a-z][a-z0-9]*(?:-[a-z0-9]+)*)", argument, message)


def require_types(made: Any) -> None:
    """Raise UsageError where a field of a dataclass, or of one in it, is of another type than it is declared."""
    require_types_of(type(made), {field.name: getattr(made, field.name) for field in fields(made)})


def require_types_of(kind: type, values: Mapping[str, Any]) -> None:
    """Raise UsageError for a value that a field of a dataclass cannot have, UnknownNameError for no such field."""
    hints = get_type_hints(kind)
    for name, value in values.items():
        if name not in hints:
            raise UnknownNameError(f"field of {kind.__name__}:", name, [field.name for field in fields(kind)])
        _checked(name, hints[name], value)
        if is_dataclass(value):
            require_types(value)


def _checked_settings(group: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    hints = get_type_hints(group)
    return {
        name: value if value is None or name not in hints else _checked(name, hints[name], value)
        for name, value in settings.items()
    }


def _checked(name: str, hint: Any, value: Any) -> Any:
    """Return a value, that of NumPy as Python's; raise UsageError where it is not of a type."""
    if type(value) in _alternatives(hint):
        return value  # as nearly always, and without the tenth of a second that pydantic takes to load
    from pydantic import ValidationError

    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        value = value.tolist()
    try:
        _adapter(hint).validate_python(value, strict=True)
    except ValidationError:
        got = printable(reprlib.repr(value))
        raise UsageError(f"{name} must be {in_words(hint)}, got {got} ({type(value).__name__}).") from None
    return value


def _alternatives(hint: Any) -> tuple[Any, ...]:
    """Return the types that a union allows, of another type itself alone."""
    return get_args(hint) if isinstance(hint, UnionType) or get_origin(hint) is Union else (hint,)


@cache
def _adapter(hint: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(_checkable(hint))


def _checkable(hint: Any) -> Any:
    """Return a type as pydantic is to check it: a class of ours by being one, and what is iterated unread."""
    from pydantic import InstanceOf

    instance_of: Any = InstanceOf
    if len(alternatives := _alternatives(hint)) > 1:
        return Union[tuple(map(_checkable, alternatives))]  # noqa: UP007 (made at run time)
    if get_origin(hint) is Iterable:
        return instance_of[Iterable]
    is_own = isinstance(hint, type) and get_origin(hint) is None and hint not in _WORDS
    return instance_of[hint] if is_own else hint


def in_words(hint: Any) -> str:
    """Return what a type is called in a message."""
    if len(alternatives := _alternatives(hint)) > 1:
        *most, last = map(in_words, alternatives)
        return f"{', '.join(most)} or {last}"
    origin, inner = get_origin(hint), get_args(hint)
    if origin is tuple and ... not in inner:
        return f"a tuple of {' and '.join(map(in_words, inner))}"
    if origin in (Sequence, Iterable, list, tuple):
        return f"a sequence, each {in_words(inner[0])}"
    if origin in (Mapping, dict):
        return "a mapping" if inner[1] is Any else f"a mapping from names to {in_words(inner[1])}"
    if origin is Callable:
        return "a function"
    return _WORDS.get(hint) or f"{'an' if hint.__name__[0] in 'AEIOU' else 'a'} {hint.__name__}"
