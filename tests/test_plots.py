"""Pictures of fronts: no name covers another, crowds are drawn again, and names from outside are text."""

import random
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nas import plots
from nas.data.pairs import open_prepared
from nas.plots import PlotPoint, save_front

HOSTILE = "$\\frac{x$ <b>[bold]\u202e" + "w" * 200


def point(trial: int, ms: float, psnr_db: float, *, on_front: bool = False, name: str | None = None) -> PlotPoint:
    return PlotPoint(trial, name, psnr_db, ms, ms / 1.5, ms * 1.5, on_front, 0.1)


def scattered(seed: int) -> list[PlotPoint]:
    rng = random.Random(seed)
    return [point(i, rng.uniform(40, 100), rng.uniform(30, 33)) for i in range(150)]


def crowd(start: int, count: int) -> list[PlotPoint]:
    return [point(500 + i, 60 + i / 2, 33.2 + 0.03 * i, on_front=True) for i in range(start, start + count)]


DESIGNS = [point(700, 62, 33.0, name=HOSTILE), point(701, 92, 31, name="csanet"), point(702, 92.5, 31, name="noahtcv")]
PICTURES = {
    "few": [*crowd(0, 2), *DESIGNS],
    "crowded": [*scattered(0), *crowd(0, 9), *DESIGNS],
    "very crowded": [*scattered(1), *crowd(0, 30), *DESIGNS],
    "one": [point(0, 60, 30, on_front=True)],
}


def drawn(dots: list[PlotPoint], path: Path) -> Any:
    """Draw a front and return its figure."""
    from matplotlib import pyplot as plt

    figures: list[Any] = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(plt, "close", figures.append)
        save_front(path, dots, title=f"{HOSTILE}: 3 on the front", interval="interval assumed")
    plt.close("all")
    return figures[0]


def labels(figure: Any) -> list[Any]:
    axes = figure.axes[0]
    return [text for each in (axes, *axes.child_axes) for text in each.texts]


@pytest.mark.parametrize("name", PICTURES)
def test_no_name_covers_another_and_all_lie_in_the_picture(name: str, tmp_path: Path) -> None:
    figure = drawn(PICTURES[name], tmp_path / "front.png")
    boxes = [text.get_window_extent() for text in labels(figure)]
    assert boxes
    for one, other in combinations(boxes, 2):
        assert not one.overlaps(other)
    assert all(figure.bbox.padded(1).containsx(b.x0) and figure.bbox.padded(1).containsx(b.x1) for b in boxes)


def test_a_crowd_is_named_in_an_inset_that_covers_no_candidate(tmp_path: Path) -> None:
    dots = PICTURES["crowded"]
    figure = drawn(dots, tmp_path / "front.svg")
    (axes,) = figure.axes
    (inset,) = axes.child_axes
    named = {text.get_text() for text in inset.texts}
    assert named >= {str(dot.trial) for dot in crowd(0, 9)}
    box = inset.get_window_extent()
    places = axes.transData.transform([(d.runtime_ms, d.psnr_db) for d in dots])
    assert not any(box.contains(x, y) for x, y in places)
    ours, theirs = (
        [text.get_window_extent() for axis in (of.xaxis, of.yaxis) for text in axis.get_ticklabels() if text.get_text()]
        for of in (inset, axes)
    )
    assert not any(one.overlaps(other) for one in ours for other in theirs)


def test_points_apart_need_no_inset(tmp_path: Path) -> None:
    figure = drawn(PICTURES["few"], tmp_path / "front.pdf")
    assert not figure.axes[0].child_axes
    assert "csanet" in {text.get_text() for text in labels(figure)}


def test_letters_can_be_read_where_a_picture_is_600_pixels_wide(tmp_path: Path) -> None:
    figure = drawn(PICTURES["crowded"], tmp_path / "front.png")
    with Image.open(tmp_path / "front.png") as picture:
        shrunk = 600 / picture.width
    heights = [text.get_fontsize() / 72 * 130 * shrunk for text in labels(figure)]
    assert min(heights) >= 9


@pytest.mark.usefixtures("drawn_patches")
def test_patches_are_drawn_one_row_each_whatever_their_names(prepared_tiny: Path, tmp_path: Path) -> None:
    pairs = replace(open_prepared(prepared_tiny, "val"), names=(HOSTILE,) * 4)
    index = np.array([0, 2])
    plots.save_patches(tmp_path / "patches.png", pairs, index, pairs.rgb[index] / 255)
    with Image.open(tmp_path / "patches.png") as picture:
        rows = np.asarray(picture.convert("RGB"))
    assert rows.shape == (600, 900, 3)
    assert all(np.ptp(row) > 100 for row in np.split(rows, 2))
