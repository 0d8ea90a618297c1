"""Searches of a small space by the command, each training over at once."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from flow import TINY_TRAINING, made_up, search_in_process

ROOT = Path(__file__).parents[2]
BUDGET = 3


def search_arguments(options: tuple[str, ...], results: Path, *, budget: int = BUDGET) -> tuple[str, ...]:
    """Return the arguments of a search in which each training is over at once."""
    return ("--workers", "1", "--budget", str(budget), "--results", str(results), *options, *TINY_TRAINING)


def search(options: tuple[str, ...], results: Path, *, budget: int = BUDGET) -> subprocess.CompletedProcess[str]:
    return search_in_process(*search_arguments(options, results, budget=budget))


def made_up_search(options: tuple[str, ...], results: Path, *, budget: int) -> None:
    """Search with made-up qualities in place of training."""
    done = search_in_process(*search_arguments(options, results, budget=budget), run=made_up)
    assert done.returncode == 0, done.stderr


def run(program: list[str], arguments: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """Run a program that stands in for the installed command."""
    helpers = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests" / "helpers")))}
    command = [*program, "search", *arguments]
    return subprocess.run(command, env=helpers, capture_output=True, text=True, timeout=120, check=False)


def until(condition: Callable[[], bool], *, seconds: float) -> None:
    last = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < last, "waited in vain"
        time.sleep(0.05)
