"""What tests of the command share."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run where nothing is, so that whatever they leave is seen."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)


@pytest.fixture
def pairs(tiny_pairs: Path, tmp_path: Path) -> Path:
    """Good pairs that a test may spoil."""
    return shutil.copytree(tiny_pairs, tmp_path / "pairs")
