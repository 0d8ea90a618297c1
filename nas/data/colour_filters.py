"""Tell from a mosaic alone whether its colour filters lie as a Bayer pattern says.

Sensors such as the IMX586 put one filter over 2×2 px; such a mosaic repeats every 4 px, and the px under one filter
agree.
"""

from collections.abc import Sequence
from itertools import product

import numpy as np
from jaxtyping import Float, Shaped, UInt16

PLACES = tuple(product((0, 1), repeat=2))
BLOCK = 8  # px
PERIODIC_FROM = 1e-3  # variance of place means relative to the signal; mosaics have 0.09, grey images 0.00002
TILES_TO_TELL_A_QUAD = 256
FILTERS_DIFFER = 4.0  # times as much as the px under one of them
GREENS_DIFFER = 1.5  # times as unlike as the other two places: they are no greens
GREENS_ALIKE = 0.05  # of the level: below, noise decides
FAR_FROM_GREY = 0.4  # of the logarithm of red over blue: one is half again as bright as the other
NEARER = 1 / 3


def is_quad_mosaic(raw: UInt16[np.ndarray, "h w"], *, black: Sequence[float]) -> bool:
    """Whether one colour filter covers 2×2 px, told from the mosaic alone; `black` is of the 2×2 places.

    The four px under one filter are alike then, and the filters are not; of a mosaic of few tiles nothing is said.
    """
    signal = _above_black(raw, black)
    rows, columns = signal.shape[0] // 4, signal.shape[1] // 4
    if rows * columns < TILES_TO_TELL_A_QUAD or not signal.any():
        return False
    tiles = signal[: rows * 4, : columns * 4].reshape(rows, 2, 2, columns, 2, 2).mean(axis=(0, 3)) / signal.mean()
    filters = tiles.mean(axis=(1, 3))
    inside = float(tiles.var(axis=(1, 3)).mean())
    return float(filters.var()) > max(PERIODIC_FROM, FILTERS_DIFFER * inside)


def greens_lie_as_in(raw: UInt16[np.ndarray, "h w"], pattern: str, *, black: Sequence[float]) -> bool:
    """Whether the two places that are green in a pattern are about as alike as the other two, or more.

    Red and blue of grey things differ on every sensor, greens do not. Which of the two others is red nothing tells.
    """
    signal = _above_black(raw, black)
    places = [block_mean(signal[row::2, column::2], BLOCK // 2) for row, column in PLACES]
    level = np.mean(places) + 1e-6
    on_main, beside = (float(np.abs(places[a] - places[b]).mean() / level) for a, b in ((0, 3), (1, 2)))
    greens, others = (on_main, beside) if pattern[0] == "G" else (beside, on_main)
    return greens <= max(GREENS_DIFFER * others, GREENS_ALIKE)


def looks_exchanged(
    raw: UInt16[np.ndarray, "h w"], pattern: str, *, black: Sequence[float], red_gain: float, blue_gain: float
) -> bool:
    """Whether a picture is far from grey after the camera's white balance, and near it with red and blue exchanged.

    A scene may be as red as that, so this is a reason to look and no more. Gains of zero are none.
    """
    signal = _above_black(raw, black)
    mean = {
        letter: float(signal[row::2, column::2].mean()) for (row, column), letter in zip(PLACES, pattern, strict=True)
    }
    if min(mean["R"], mean["B"], red_gain, blue_gain) <= 0:
        return False
    gains, colours = np.log(red_gain / blue_gain), np.log(mean["R"] / mean["B"])
    as_labelled, exchanged = abs(gains + colours), abs(gains - colours)
    return bool(as_labelled > FAR_FROM_GREY and exchanged < NEARER * as_labelled)


def _above_black(raw: UInt16[np.ndarray, "h w"], black: Sequence[float]) -> Float[np.ndarray, "h w"]:
    rows, columns = raw.shape[0] // 2 * 2, raw.shape[1] // 2 * 2
    signal = raw[:rows, :columns].astype(np.float32)
    for (row, column), level in zip(PLACES, black, strict=True):
        signal[row::2, column::2] -= np.float32(level)
    above: Float[np.ndarray, "h w"] = np.maximum(signal, 0, out=signal)
    return above


def block_mean(image: Shaped[np.ndarray, "h w *c"], side: int) -> Float[np.ndarray, "rows columns *c"]:
    """Average square blocks; what is left over at the lower and right edge is dropped."""
    rows, columns = image.shape[0] // side, image.shape[1] // side
    whole = image[: rows * side, : columns * side].astype(np.float32)
    mean: Float[np.ndarray, "rows columns *c"] = whole.reshape(rows, side, columns, side, *image.shape[2:]).mean(
        axis=(1, 3)
    )
    return mean
