"""Where patches are cut: as many as fit into what the target shows, whatever way it lies."""

from itertools import pairwise

import numpy as np
import pytest

from nas.data.make.patch_judging import positions


def area(height: int, width: int, *, degrees: float = 0.0, share: float = 1.0) -> np.ndarray:
    """A target that is turned and smaller than the mosaic, at half of its size."""
    y, x = np.mgrid[:height, :width] - np.array([height, width]).reshape(2, 1, 1) / 2
    angle = np.deg2rad(degrees)
    across, down = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    return (np.abs(across) < share * width / 2) & (np.abs(down) < share * height / 2)


def inside(shown: np.ndarray, places: list[tuple[int, int]], side: int) -> int:
    return sum(
        bool(shown[row // 2 : row // 2 + side, column // 2 : column // 2 + side].all()) for row, column in places
    )


def test_what_the_target_shows_whole_is_cut_by_a_grid_in_the_middle() -> None:
    rows, columns = (116, 372, 628), (60, 316, 572, 828, 1084)
    corners = list(positions(np.ones((500, 700), bool), patch=256, stride=256))
    assert corners == [(row, column) for row in rows for column in columns]


@pytest.mark.parametrize(("degrees", "share", "least"), [(-7.5, 0.88, 9), (5.0, 0.9, 9), (0.0, 0.7, 6), (45.0, 0.8, 4)])
def test_rows_lie_where_most_patches_fit(degrees: float, share: float, least: int) -> None:
    shown = area(550, 750, degrees=degrees, share=share)
    places = list(positions(shown, patch=256, stride=256))
    assert inside(shown, places, 128) >= least
    assert all(row % 2 == column % 2 == 0 for row, column in places)
    assert len(set(places)) == len(places)
    rows = sorted({row for row, _ in places})
    assert {b - a for a, b in pairwise(rows)} == {256}


@pytest.mark.parametrize("stride", [64, 200, 256])
def test_patches_of_a_row_are_a_stride_apart_and_within_the_mosaic(stride: int) -> None:
    for row, column in positions(area(400, 600, degrees=3, share=0.9), patch=256, stride=stride):
        assert 0 <= row <= 800 - 256
        assert 0 <= column <= 1200 - 256


def test_where_the_target_shows_nothing_or_the_mosaic_is_small_nothing_is_odd() -> None:
    assert len(list(positions(np.zeros((300, 300), bool), patch=256, stride=256))) == 4
    assert list(positions(np.ones((100, 300), bool), patch=256, stride=256)) == []
