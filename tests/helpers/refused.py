"""A search that has to be refused."""

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

from flow import in_process, refusal


def refused_search(*options: object, run: Callable[..., CompletedProcess[str]] = in_process) -> str:
    """Return why a new search is refused; fail where it leaves anything behind."""
    sentence = refusal(run("search", *options))
    assert list(Path.cwd().iterdir()) == []
    return sentence
