"""Check whether the declared Bayer pattern fits the data, and whether the data has a Bayer pattern at all.

*Pattern.* Each of the four places of the 2×2 tile is averaged over 8×8 px and freed of luminance; so are R, G and
B of the target. A place that is really red then rises and falls with the target's red. Evidence adds up over
pairs, so grey scenes merely add none. On real and simulated pairs the right pattern scores 0.64–0.78, the best
wrong one 0.07 or less.

*Quad-Bayer.* Sensors such as the IMX586 put one filter over 2×2 px; such a mosaic repeats every 4 px, and means of
its 16 places differ where those of a Bayer mosaic agree.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Float, UInt8, UInt16

from nas.data.check.alignment import block_mean
from nas.data.raw_format import PATTERNS

PLACES = tuple(product((0, 1), repeat=2))
BLOCK = 8  # px
QUAD_FROM = 0.5
PERIODIC_FROM = 1e-3  # variance of place means relative to the signal; mosaics have 0.09, grey images 0.00002
TILES_TO_TELL_A_QUAD = 256
FILTERS_DIFFER = 4.0  # times as much as the px under one of them
GREENS_DIFFER = 1.5  # times as unlike as the other two places: they are no greens
GREENS_ALIKE = 0.05  # of the level: below, noise decides
FAR_FROM_GREY = 0.4  # of the logarithm of red over blue: one is half again as bright as the other
NEARER = 1 / 3
GREEN_TWICE = np.array([0.25, 0.5, 0.25], np.float32)


@dataclass(frozen=True)
class ColourEvidence:
    """Sums over pairs: covariances of places with colours, their variances, and the two kinds of period."""

    covariance: Float[np.ndarray, "4 3"]
    place_variance: Float[np.ndarray, "4"]
    colour_variance: Float[np.ndarray, "3"]
    period_2: float
    period_4: float

    def __add__(self, other: "ColourEvidence") -> "ColourEvidence":
        return ColourEvidence(
            self.covariance + other.covariance,
            self.place_variance + other.place_variance,
            self.colour_variance + other.colour_variance,
            self.period_2 + other.period_2,
            self.period_4 + other.period_4,
        )


def no_evidence() -> ColourEvidence:
    """The sum over no pairs."""
    return ColourEvidence(np.zeros((4, 3)), np.zeros(4), np.zeros(3), 0.0, 0.0)


def colour_evidence(raw: UInt16[np.ndarray, "h w"], rgb: UInt8[np.ndarray, "h w 3"], *, black: int) -> ColourEvidence:
    """What one pair says about the colour filters."""
    signal = np.maximum(raw.astype(np.float32) - black, 0)
    places = np.stack([block_mean(signal[row::2, column::2], BLOCK // 2) for row, column in PLACES], axis=-1)
    place = _chroma(np.sqrt(places), np.full(4, 0.25, np.float32))
    colour = _chroma(block_mean(rgb, BLOCK), GREEN_TWICE)
    blocks = max(1, len(place))
    period_2, period_4 = _periods(signal)
    return ColourEvidence(
        place.T @ colour / blocks, (place**2).sum(0) / blocks, (colour**2).sum(0) / blocks, period_2, period_4
    )


def _chroma(levels: Float[np.ndarray, "h w c"], weights: Float[np.ndarray, " c"]) -> Float[np.ndarray, "h*w c"]:
    """Divide each channel by its mean, take away the luminance, and centre."""
    flat = levels.reshape(-1, levels.shape[-1])
    balanced = flat / (flat.mean(0, keepdims=True) + 1e-6) if len(flat) else flat
    chroma = balanced - (balanced @ weights)[:, None]
    centred: Float[np.ndarray, "n c"] = chroma - chroma.mean(0, keepdims=True) if len(flat) else chroma
    return centred


def _periods(signal: Float[np.ndarray, "h w"]) -> tuple[float, float]:
    """Variance of the means of the 16 places of a 4×4 tile: what a 2×2 tile explains, and the rest."""
    rows, columns = signal.shape[0] // 4, signal.shape[1] // 4
    if not rows * columns or not signal.any():
        return 0.0, 0.0
    means = signal[: rows * 4, : columns * 4].reshape(rows, 4, columns, 4).mean(axis=(0, 2))
    means = means / signal.mean()
    bayer = means.reshape(2, 2, 2, 2).mean(axis=(0, 2))
    return float(bayer.var()), float((means - np.tile(bayer, (2, 2))).var())


def is_quad(colours: ColourEvidence, *, pairs: int = 1) -> bool:
    """Whether one colour filter covers 2×2 px; `colours` is the evidence of so many pairs."""
    periodic = (colours.period_2 + colours.period_4) / max(1, pairs)
    return quad_share(colours) > QUAD_FROM and periodic > PERIODIC_FROM


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
    as_told, exchanged = abs(gains + colours), abs(gains - colours)
    return bool(as_told > FAR_FROM_GREY and exchanged < NEARER * as_told)


def _above_black(raw: UInt16[np.ndarray, "h w"], black: Sequence[float]) -> Float[np.ndarray, "h w"]:
    rows, columns = raw.shape[0] // 2 * 2, raw.shape[1] // 2 * 2
    signal = raw[:rows, :columns].astype(np.float32)
    for (row, column), level in zip(PLACES, black, strict=True):
        signal[row::2, column::2] -= np.float32(level)
    above: Float[np.ndarray, "h w"] = np.maximum(signal, 0, out=signal)
    return above


def pattern_scores(evidence: ColourEvidence) -> dict[str, float]:
    """Mean correlation of the four places with the colours each pattern gives them, −1 … 1; 0 without evidence."""
    scale = np.sqrt(np.outer(evidence.place_variance, evidence.colour_variance))
    correlation = np.divide(evidence.covariance, scale, out=np.zeros((4, 3)), where=scale > 1e-12)
    return {
        pattern: float(np.mean([correlation[place, "RGB".index(letter)] for place, letter in enumerate(pattern)]))
        for pattern in PATTERNS
    }


def quad_share(evidence: ColourEvidence) -> float:
    """Share of the periodic differences that needs a tile of 4×4: about 0 for Bayer, about 1 for Quad-Bayer."""
    total = evidence.period_2 + evidence.period_4
    return evidence.period_4 / total if total else 0.0
