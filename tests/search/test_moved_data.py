"""Pairs that were moved are found again; pairs that were changed are not taken for those that were trained on."""

import json
import shutil
from pathlib import Path

import pytest
from flow import TINY_TRAINING, in_process, search_in_process, write_space


@pytest.fixture
def pairs(tiny_pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study of one candidate on pairs of its own; the working directory is where it lies."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_pairs, tmp_path / "pairs")
    search(tmp_path / "pairs", 1)
    return tmp_path / "pairs"


def search(data: Path, budget: int) -> None:
    space = write_space(Path("tiny.toml"))
    done = search_in_process("--study", "s", "--space", space, "--data", data, "--budget", budget, *TINY_TRAINING)
    assert done.returncode == 0, done.stderr


def test_after_a_search_on_moved_pairs_every_command_finds_them(pairs: Path) -> None:
    there = pairs.rename(pairs.with_name("elsewhere"))
    assert "elsewhere" not in Path("results/s/run.toml").read_text()
    search(there, 2)
    output = json.loads(in_process("best", "--format", "json").stdout)
    assert 0 < output["test_psnr_db"] < 60


def test_changed_pairs_are_not_reported_as_those_of_the_study(pairs: Path) -> None:
    for kind in ("mediatek_raw", "fujifilm"):
        (pairs / "val" / kind / "0.png").unlink()
    done = in_process("best")
    assert done.returncode == 2
    assert "are not those that study s was trained on" in done.stderr
