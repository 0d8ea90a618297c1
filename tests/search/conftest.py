"""What tests of searches share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from flow import few_to_choose_from, write_space


@pytest.fixture(scope="module")
def options(tiny_pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """What every search of a small space is asked for, but for budget, rungs and results.

    Without a prior, whose forests would take seconds in each process.
    """
    space = write_space(tmp_path_factory.mktemp("space") / "tiny.toml")
    return ("--data", str(tiny_pairs), "--space", str(space), "--study", "s", "--prior", "none")


@pytest.fixture(scope="module")
def few_proposals() -> Iterator[None]:
    """The model chooses among few networks, and what follows is decided alike."""
    with few_to_choose_from():
        yield
