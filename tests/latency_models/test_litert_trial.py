"""A file is run once apart, and whatever happens there is one sentence here."""

import signal
import sys

import pytest
from tflite_builder import FileBuilder

from latency_models.measure import litert_trial
from search_spaces.errors import MeasurementError, UsageError


def network(name: str = "RELU") -> bytes:
    made = FileBuilder()
    made.op(name, [made.input(1, 4, 4, 4)], (1, 4, 4, 4))
    return made.file()


def test_a_file_that_runs_is_let_through() -> None:
    litert_trial.require_runs(network(), "relu.tflite")


def test_what_litert_refuses_is_its_own_sentence() -> None:
    with pytest.raises(UsageError, match=r"LiteRT cannot run odd\.tflite: .*; make or fetch it again"):
        litert_trial.require_runs(b"\x18\x00\x00\x00TFL3" + bytes(200), "odd.tflite")


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE])
def test_a_signal_there_is_a_sentence_here(monkeypatch: pytest.MonkeyPatch, number: signal.Signals) -> None:
    run = litert_trial.subprocess.run
    dies = [sys.executable, "-c", f"import os; os.kill(os.getpid(), {int(number)})"]
    monkeypatch.setattr(litert_trial.subprocess, "run", lambda _, **options: run(dies, **options))
    with pytest.raises(MeasurementError, match=f"by the signal {number.name} while it ran net"):
        litert_trial.require_runs(network(), "net", MeasurementError)


def test_a_file_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(litert_trial, "LONGEST_S", 0.01)
    with pytest.raises(UsageError, match="did not end"):
        litert_trial.require_runs(network(), "net")
