"""An export is written when the file does what the network does, and otherwise not at all."""

import math
from pathlib import Path

import numpy as np
import pytest

from latency_models.device import load_device
from nas import checkpoint, export, training
from nas.data.pairs import DataConfig
from nas.litert import TfliteModel
from nas.target import Target, TrainedState
from search_spaces.errors import ExportError
from search_spaces.graph import FULL_HD
from search_spaces.networks import build_graph
from search_spaces.spec import ArchSpec

SPEC = ArchSpec(width=4, depth=0)


@pytest.fixture
def target(tmp_path: Path, tiny_pairs: Path) -> Target:
    path = tmp_path / "state.safetensors"
    checkpoint.save(training.start(build_graph(SPEC), seed=0, spec_hash=SPEC.hash), path)
    return Target("a test", SPEC, None, None, TrainedState(path, 0, 0, DataConfig(str(tiny_pairs)), "a test"))


def distorted(by: float, *, at_full_size: bool) -> type[TfliteModel]:
    """Return an interpreter whose outputs are off by a constant, at one of the two sizes."""

    class Distorted(TfliteModel):
        def __call__(self, x: np.ndarray) -> np.ndarray:
            wrong = (self.input_shape == FULL_HD) == at_full_size
            return super().__call__(x) + (by if wrong else 0.0)

    return Distorted


@pytest.mark.parametrize("by", [0.02, math.nan])
@pytest.mark.parametrize("at_full_size", [False, True], ids=["twin", "deploy"])
def test_a_file_that_disagrees_is_not_written(
    target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: float, at_full_size: bool
) -> None:
    monkeypatch.setattr(export, "TfliteModel", distorted(by, at_full_size=at_full_size))
    with pytest.raises(ExportError, match="nothing was written"):
        export.export(target, tmp_path / "out", load_device("dimensity-1000-plus"))
    assert not (tmp_path / "out").exists()


def test_an_export_holds_the_file_the_card_and_the_picture_and_is_not_overwritten(
    target: Target, tmp_path: Path
) -> None:
    device = load_device("dimensity-1000-plus")
    card = export.export(target, tmp_path / "out", device)
    written = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert written.keys() == {"model.tflite", "card.json", "patches.png"}
    assert card.size_bytes == len(written["model.tflite"])
    assert card.val_psnr_db == pytest.approx(card.trained_val_psnr_db, abs=1e-3)
    with pytest.raises(ExportError, match="exists and is not overwritten"):
        export.export(target, tmp_path / "out", device)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == written


def test_a_difference_is_relative_to_a_range_of_at_least_one() -> None:
    flat, wide = np.full((1, 2, 2, 3), 0.5), np.linspace(0, 10, 12).reshape(1, 2, 2, 3)
    assert export.largest_difference(flat, flat + 0.01) == pytest.approx(0.01)
    assert export.largest_difference(wide, wide + 0.01) == pytest.approx(0.001)
