"""Audits of four networks by made-up trainings, and how their figures are read."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flow import InlineWorker, in_process

from nas.cli import audit as audit_table
from nas.train.job import Job, Outcome
from nas.train.workers import JobFailure
from search_spaces.designs import DESIGNS

NETWORKS = ("smallnet", "acvlab", "enerzai-dense", "enerzai-esrgan")
SPECS = tuple(DESIGNS[name].spec for name in NETWORKS)
LADDERS = ("--rungs", "2,4", "--rungs", "2,4,8", "--steps", "8", "--batch", "2", "--patch", "16")


def use(monkeypatch: pytest.MonkeyPatch, run: Callable[[Job], Outcome | JobFailure]) -> list[InlineWorker]:
    made: list[InlineWorker] = []

    def worker() -> InlineWorker:
        made.append(InlineWorker(run))
        return made[-1]

    monkeypatch.setattr(audit_table, "Worker", worker)
    return made


def ask(pairs: Path, out: Path, *more: object, targets: tuple[str, ...] = NETWORKS) -> Any:
    return in_process("audit", *targets, "--data", pairs, "--out", out, *LADDERS, *more)


def audit_json(out: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((out / "audit.json").read_text("utf-8"))
    return document


def figures(out: Path) -> dict[str, Any]:
    """Return what an audit found, without when and where."""
    return {name: value for name, value in audit_json(out).items() if name != "provenance"}


def assert_close(actual: Any, wanted: Any) -> None:
    if isinstance(wanted, dict):
        assert actual.keys() == wanted.keys()
        for name in wanted:
            assert_close(actual[name], wanted[name])
    elif isinstance(wanted, list):
        assert len(actual) == len(wanted)
        for one, other in zip(actual, wanted, strict=True):
            assert_close(one, other)
    else:
        assert actual == (pytest.approx(wanted) if isinstance(wanted, float) else wanted)
