"""Pictures of fronts: no name covers another, crowds are drawn again, and names from outside are text."""

import random
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

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


def test_points_apart_need_no_inset(tmp_path: Path) -> None:
    figure = drawn(PICTURES["few"], tmp_path / "front.pdf")
    assert not figure.axes[0].child_axes
    assert "csanet" in {text.get_text() for text in labels(figure)}


def test_letters_can_be_read_where_a_picture_is_600_pixels_wide(tmp_path: Path) -> None:
    from PIL import Image

    figure = drawn(PICTURES["crowded"], tmp_path / "front.png")
    with Image.open(tmp_path / "front.png") as picture:
        shrunk = 600 / picture.width
    heights = [text.get_fontsize() / 72 * 130 * shrunk for text in labels(figure)]
    assert min(heights) >= 9
