"""Check whether the declared Bayer pattern fits the data, and whether the data has a Bayer pattern at all.

*Pattern.* Each of the four places of the 2×2 tile is averaged over 8×8 px and freed of luminance; so are R, G and
B of the target. A place that is really red then rises and falls with the target's red. Evidence adds up over
pairs, so grey scenes merely add none. On real and simulated pairs the right pattern scores 0.64–0.78, the best
wrong one 0.07 or less.

*Quad-Bayer.* Sensors such as the IMX586 put one filter over 2×2 px; such a mosaic repeats every 4 px, and means of
its 16 places differ where those of a Bayer mosaic agree.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8, UInt16

from nas.data.colour_filters import BLOCK, PERIODIC_FROM, PLACES, block_mean
from nas.data.raw_format import PATTERNS

QUAD_FROM = 0.5
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
