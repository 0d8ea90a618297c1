"""What a folder of a training run is worth when a part of it was lost, or its pairs have changed."""

import shutil
from pathlib import Path

import pytest
from flow import in_process, refusal, truncate

from nas.data.pairs import DataConfig
from nas.search.network_ref import resolve
from nas.train import long_run
from nas.train.recipe import Recipe
from nas.train.run_folder import BEST_FILE, CHECKPOINT_FILE, TrainingRun
from search_spaces.errors import StudyError
from search_spaces.spec import ArchSpec

SPEC = ArchSpec(width=4, depth=0)
RECIPE = Recipe(batch=2, patch=32, total_steps=8)


@pytest.fixture(scope="module")
def trained(tiny_pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run, with its pairs beside it."""
    root = tmp_path_factory.mktemp("trained")
    pairs = shutil.copytree(tiny_pairs, root / "pairs")
    long_run.run(TrainingRun(root / "run", SPEC, DataConfig(str(pairs)), RECIPE, seed=0, validate_every=4))
    return root / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may damage."""
    return shutil.copytree(trained, tmp_path / "run")


@pytest.mark.parametrize("damage", [Path.unlink, truncate])
def test_the_best_state_is_taken_where_the_last_one_is_lost(run: Path, damage: object) -> None:
    whole = resolve(str(run), run).trained
    damage(run / CHECKPOINT_FILE)  # type: ignore[operator]
    best = resolve(str(run), run).trained
    assert (best.path, best.steps) == (whole.path, whole.steps)


def test_a_damaged_best_state_is_not_replaced_by_the_last(run: Path) -> None:
    truncate(run / BEST_FILE)
    with pytest.raises(StudyError, match=r"best\.safetensors cannot be read"):
        resolve(str(run), run)


def test_a_run_without_any_state_says_what_to_do(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (CHECKPOINT_FILE, BEST_FILE):
        (run / name).unlink()
    monkeypatch.chdir(run.parent)
    sentence = refusal(in_process("export", "run", "--out", "out"))
    assert "The training run run has no checkpoint" in sentence
    assert "give the command that started it again" in sentence


def test_a_run_whose_pairs_have_changed_is_not_exported(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    root = shutil.copytree(trained.parent, tmp_path / "moved")
    settings = root / "run" / "training.toml"
    settings.write_text(settings.read_text().replace(str(trained.parent), str(root)))
    first = sorted((root / "pairs").rglob("*.png"))[0]
    first.unlink()
    for twin in (root / "pairs").rglob(first.name):
        twin.unlink()
    sentence = refusal(in_process("export", root / "run", "--size", "64x64", "--out", "out"))
    assert "are not those that training run run" in sentence
    assert not Path("out").exists()
