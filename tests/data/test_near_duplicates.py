"""Tests of what is taken for one scene in two splits."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nas.data.check.alignment import alike_by_tiles, edge_match
from nas.data.check.near_duplicates import SAME_BY_TILES_FROM, SAME_FROM, show_one_scene
from nas.data.demo.scene import draw_scene

SIDE = 256


def write(path: Path, picture: np.ndarray) -> Path:
    Image.fromarray(np.round(255 * np.clip(picture, 0, 1)).astype(np.uint8)).save(path)
    return path


def under_a_dark_edge(above: np.ndarray, seed: int) -> np.ndarray:
    """Return a scene above a dark, bent roof, which is the same for all but for the noise."""
    down, right = np.mgrid[:SIDE, :SIDE] / SIDE
    roof = down > 0.45 + 0.3 * (right - 0.3) ** 2
    noise = np.random.default_rng(seed).normal(0, 0.01, above.shape)
    return np.where(roof[..., None], 0.02, 0.45 + 0.4 * (above - 0.5)) + noise


@pytest.fixture(scope="module")
def scenes() -> list[np.ndarray]:
    return [draw_scene(seed)[:SIDE, :SIDE] / 255 for seed in (3, 4)]


def test_two_scenes_that_share_a_strong_edge_are_two(tmp_path: Path, scenes: list[np.ndarray]) -> None:
    first, second = (write(tmp_path / f"{place}.png", under_a_dark_edge(of, place)) for place, of in enumerate(scenes))
    match = edge_match(*(np.asarray(Image.open(path), float)[::2, ::2].mean(axis=-1) for path in (first, second)))
    assert match is not None
    assert (match.is_plane, match.correlation >= SAME_FROM) == (True, True)  # alike as wholes
    assert not show_one_scene(first, second)


@pytest.mark.parametrize(
    "again",
    [
        lambda scene: 0.6 * scene + np.random.default_rng(0).normal(0, 0.02, scene.shape),
        lambda scene: np.roll(scene, (9, -14), (0, 1)),
        lambda scene: np.clip(1.5 * scene, 0, 1),
    ],
    ids=["darker with noise", "moved", "brighter"],
)
def test_a_scene_taken_again_is_one(
    tmp_path: Path, scenes: list[np.ndarray], again: Callable[[np.ndarray], np.ndarray]
) -> None:
    first, second = write(tmp_path / "a.png", scenes[0]), write(tmp_path / "b.png", again(scenes[0]))
    assert show_one_scene(first, second)
    assert not show_one_scene(first, write(tmp_path / "c.png", scenes[1]))


def test_nothing_is_alike_by_tiles_where_little_overlaps() -> None:
    flat = np.full((16, 16), 7.0)
    assert alike_by_tiles(flat, flat, (30.0, 0.0)) < SAME_BY_TILES_FROM
