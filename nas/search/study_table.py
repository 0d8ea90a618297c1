"""The [study] table of a run.toml as options of a search: another study started with them is equal to the first.

Read strictly, for people edit such files: every key and the kind of every value is checked, and an error names both.
"""

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from nas.search.open_study import SearchOptions
from nas.search.study import StudyConfig
from search_spaces.errors import IspNasError, UnknownNameError, UsageError

TABLE = "study"
# Under which names the table tells the content of what a study was started with.
CONTENTS = {"data_fingerprint": "data", "device_digest": "device", "space_digest": "space", "vgg": "vgg"}
_PLAIN: dict[type, tuple[str, tuple[type, ...]]] = {
    str: ("text", (str,)),
    int: ("a whole number", (int,)),
    float: ("a number", (int, float)),
    bool: ("true or false", (bool,)),
}


def of_table(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a SearchOptions that a [study] table means; "recorded" holds what contents it tells.

    Raises UnknownNameError for a key that no study has, UsageError for a value of another kind.
    """
    read = _values(TABLE, StudyConfig, table)
    known = {each.name for each in fields(SearchOptions)}
    options = {name: value for name, value in read.items() if name in known}
    if "name" in read:
        options["study"] = read["name"]
    if "rungs" in read:
        options.setdefault("final_steps", 0)  # a study without finals says nothing of them
    if not options.get("final_share"):
        options.pop("final_share", None)
    return options | {"recorded": {what: read[name] for name, what in CONTENTS.items() if name in read}}


def _values(where: str, kind: type, table: object) -> dict[str, Any]:
    """Return the values of a table that means a dataclass, each read as its field."""
    if not isinstance(table, Mapping):
        raise UsageError(f"{where} must be a table, got {table!r}.")
    hints = get_type_hints(kind)
    names = [each.name for each in fields(kind)]
    for name in table:
        if name not in names:
            raise UnknownNameError(f"key of [{where}]:", name, names)
    return {name: _value(f"{where}.{name}", hints[name], value) for name, value in table.items()}


def _value(where: str, hint: Any, value: Any) -> Any:
    if get_origin(hint) in (Union, UnionType):
        hint = next(each for each in get_args(hint) if each is not type(None))
    origin, inner = get_origin(hint), get_args(hint)
    if is_dataclass(hint) and isinstance(hint, type):
        return _built(where, hint, value)
    if origin is tuple:
        if not isinstance(value, list):
            raise UsageError(f"{where} must be a list, got {value!r}.")
        return tuple(_value(f"{where}[{number}]", inner[0], each) for number, each in enumerate(value))
    if origin is dict:
        if not isinstance(value, Mapping):
            raise UsageError(f"{where} must be a table, got {value!r}.")
        return {name: _value(f"{where}.{name}", inner[1], each) for name, each in value.items()}
    wanted, types = _PLAIN[hint]
    if type(value) not in types:
        raise UsageError(f"{where} must be {wanted}, got {value!r}.")
    return hint(value)


def _built(where: str, kind: type, table: object) -> Any:
    values = _values(where, kind, table)
    needed = [each.name for each in fields(kind) if each.default is MISSING and each.default_factory is MISSING]
    missing = [name for name in needed if name not in values]
    if missing:
        raise UsageError(f"{where} lacks {' and '.join(missing)}.")
    try:
        return kind(**values)
    except IspNasError as error:
        raise UsageError(f"{where}: {error}") from None
