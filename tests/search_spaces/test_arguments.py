"""Arguments of public functions are held to their annotations."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np
import pytest

from search_spaces.errors import UnknownNameError, UsageError
from search_spaces.system.arguments import checked, require_types, require_types_of


@dataclass(frozen=True)
class Inner:
    share: float = 0.5


@dataclass(frozen=True)
class Outer:
    name: str = "x"
    inner: Inner = Inner()


class Settings(TypedDict, total=False):
    rate: float
    flag: bool


@checked
def function(
    where: str | Path,
    count: int | None = None,
    *,
    sizes: Sequence[int] = (),
    names: str | Iterable[str] = (),
    shares: Mapping[str, float] | None = None,
    pair: tuple[int, int] = (1, 2),
    made: Outer | None = None,
    call: Callable[[int], None] | None = None,
    **settings: Unpack[Settings],
) -> dict[str, Any]:
    return {"where": where, "count": count, "sizes": sizes, "names": names, "settings": settings}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"where": 3}, "where must be a string or a path, got 3 (int)."),
        ({"count": "3"}, "count must be a whole number or None, got '3' (str)."),
        ({"count": True}, "count must be a whole number or None, got True (bool)."),
        ({"count": 2.5}, "count must be a whole number or None, got 2.5 (float)."),
        ({"sizes": "1,2"}, "sizes must be a sequence, each a whole number, got '1,2' (str)."),
        ({"sizes": 3}, "sizes must be a sequence, each a whole number, got 3 (int)."),
        ({"sizes": [1, 2.5]}, "sizes must be a sequence, each a whole number, got [1, 2.5] (list)."),
        ({"names": 4}, "names must be a string or a sequence, each a string, got 4 (int)."),
        ({"shares": {"a": "b"}}, "shares must be a mapping from names to a number or None, got {'a': 'b'} (dict)."),
        ({"pair": (1,)}, "pair must be a tuple of a whole number and a whole number, got (1,) (tuple)."),
        ({"made": "outer"}, "made must be an Outer or None, got 'outer' (str)."),
        ({"call": 4}, "call must be a function or None, got 4 (int)."),
        ({"rate": "3e-2"}, "rate must be a number, got '3e-2' (str)."),
        ({"flag": "yes"}, "flag must be True or False, got 'yes' (str)."),
    ],
)
def test_an_argument_of_another_type_is_named_with_what_it_may_be(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        function(**{"where": "here", **given})
    assert str(caught.value) == sentence


def test_what_is_right_passes_unchanged() -> None:
    names = iter(["a"])
    got = function(Path("here"), 3, sizes=[1, 2], names=names, rate=1, flag=None, unknown=4)  # type: ignore[call-arg,typeddict-item]
    assert got["names"] is names
    assert (got["where"], got["sizes"]) == (Path("here"), [1, 2])
    assert got["settings"] == {"rate": 1, "flag": None, "unknown": 4}, "what is unknown is the function's to judge"


def test_values_of_numpy_are_python_s() -> None:
    got = function("here", np.int64(3), sizes=np.array([1, 2]), rate=np.float32(0.5))  # type: ignore[arg-type,typeddict-item]
    assert (got["count"], got["sizes"], got["settings"]) == (3, [1, 2], {"rate": 0.5})
    assert type(got["count"]) is int


def test_a_long_value_and_its_control_characters_stay_out_of_the_message() -> None:
    with pytest.raises(UsageError) as caught:
        function("here", count="\x1b[31m" * 50)  # type: ignore[arg-type]
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 120


def test_fields_of_a_dataclass_and_of_those_in_it_are_checked() -> None:
    require_types(Outer())
    with pytest.raises(UsageError, match="share must be a number, got 'a'"):
        require_types(Outer(inner=Inner("a")))  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match='Unknown field of Inner: "shares"; known: share'):
        require_types_of(Inner, {"shares": 1.0})
