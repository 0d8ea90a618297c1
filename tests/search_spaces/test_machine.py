"""Facts about the machine: measured where the system tells them, unknown where it does not."""

import sys

import pytest

from search_spaces.system.machine import peak_memory_mb


def test_peak_memory_is_that_of_this_process() -> None:
    held = bytearray(50_000_000)
    peak = peak_memory_mb()
    assert peak is not None
    assert len(held) / 1e6 < peak < 1e6


def test_peak_memory_is_unknown_on_a_system_that_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resource", None)  # as on Windows: importing it fails
    assert peak_memory_mb() is None
