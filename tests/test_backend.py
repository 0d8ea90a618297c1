"""Flags that an XLA does not know are left out, and finding out costs one start of JAX."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from nas import backend

KNOWN, UNKNOWN = ("--xla_one=1", "--xla_two=2"), "--xla_of_another_version=1"


class Starts:
    """Stands in for starting XLA; counts how often that was done."""

    def __init__(self) -> None:
        self.flags: list[list[str]] = []

    def survives(self, flags: Sequence[str]) -> bool:
        self.flags.append(list(flags))
        return UNKNOWN not in flags


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Starts:
    made = Starts()
    monkeypatch.setattr(backend, "_survives", made.survives)
    monkeypatch.setenv("ISP_NAS_CACHE", str(tmp_path))
    return made


def test_flags_that_are_known_are_tried_once_and_together(starts: Starts) -> None:
    assert backend._known(KNOWN) == backend._known(KNOWN) == list(KNOWN)
    assert starts.flags == [list(KNOWN)]


def test_an_unknown_flag_is_left_out_and_the_others_stay(starts: Starts) -> None:
    for _ in range(2):
        assert backend._known((KNOWN[0], UNKNOWN, KNOWN[1])) == list(KNOWN)
    assert len(starts.flags) == 1 + 3


def test_one_unknown_flag_is_tried_once(starts: Starts) -> None:
    assert backend._known([UNKNOWN]) == backend._known([UNKNOWN]) == []
    assert starts.flags == [[UNKNOWN]]


def test_a_damaged_memory_is_made_anew(starts: Starts, tmp_path: Path) -> None:
    memory = tmp_path / "xla-flags.json"
    memory.write_text("{")
    assert backend._known(KNOWN) == list(KNOWN)
    assert len(json.loads(memory.read_text())) == len(KNOWN)


def test_xla_itself_refuses_a_flag_that_is_none() -> None:
    assert not backend._survives([UNKNOWN])
