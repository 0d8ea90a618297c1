"""Pairs that many tests of data spoil."""

from pathlib import Path

import pytest
from pair_folders import write_splits

from nas.data.pairs import DataConfig


@pytest.fixture
def two(tmp_path: Path) -> DataConfig:
    """Two training pairs and one each to validate and test on."""
    return write_splits(tmp_path, train=2, val=1, test=1)
