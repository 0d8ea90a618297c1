"""Choose the patches of an aligned photograph that teach a network something true, and say why others do not.

Everything is measured at half the mosaic's size between its grey picture and the camera's, which has been moved and
toned to fit; the shift that remains is measured as `isp-nas data check` does.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Int32, UInt8, UInt16

from nas.data.check.alignment import TEXTURED_FROM, match
from nas.data.check.measurement import CURVE
from nas.data.make.dense_alignment import Alignment

# Shares of a patch from which it is dropped.
MOST_CLIPPED = 0.02
MOST_UNSURE = 0.05
MOST_UNLIKE = 0.015  # what moved, and what only one of the two sees
UNSURE_FROM_PX = 1.0  # disagreement of the two directions
LEAST_CORRELATION = 0.5  # of edges
MOST_SHIFT_PX = 0.75
LEAST_SHARPNESS = 0.5  # of one of the two against the other
LEAST_SIGNAL = 0.1  # of the edges' variance, where all of it could be noise
LEAST_DEVIATION = 1.5  # of 255: below, a patch shows nothing
NEARLY_WHITE = 0.985  # of the range from black to white
WHITE_TARGET = 253
# Of the windows in which the two are compared.
WINDOW = 11  # px of the grey picture
LEAST_LOCAL_CORRELATION = 0.5
NOISE_TIMES = 1.5  # a window shows something from so many times the noise
LEAST_CONTRAST = 5.0  # of 255
MOST_DIFFERENCE = 28.0  # of 255, between the means of a window
# Noise is measured in so many groups of pixels of about one brightness, by the mean of a window of double pixels.
LEVELS, LEVEL_WINDOW = 16, 9
FINE, COARSE = 0.7, 5.0  # px of the grey picture: what is sharper than these; a blur of some pixels spares the coarser

ROW_TRIES = 32  # heights at which the first row of patches is tried

Half = tuple[slice, slice]

OUTSIDE, CLIPPED, UNSURE, MOTION, UNLIKE, SHIFTED, BLURRED, FLAT = REASONS = (
    "outside",
    "clipped",
    "unsure",
    "motion",
    "unlike",
    "shifted",
    "blurred",
    "flat",
)
WORDS = {
    OUTSIDE: "outside of the target",
    CLIPPED: "clipped to white",
    UNSURE: "the two directions of the match disagree",
    MOTION: "something moved, is hidden or is badly blurred in one of the two",
    UNLIKE: "low correlation",
    SHIFTED: "a shift remains",
    BLURRED: "one of the two is out of focus",
    FLAT: "shows nothing",
}


@dataclass(frozen=True)
class Judgement:
    """What one patch measures; `reason` says why it is dropped, None where it is kept."""

    row: int  # of the mosaic in its phase
    column: int
    reason: str | None
    disagreement_px: float | None = None
    shift: tuple[float, float] | None = None  # (down, right) px that remain; None: too little texture to tell
    correlation: float | None = None
    sharpness: float | None = None
    exposure: float | None = None  # log2 of mosaic against target, as `data check` has it


@dataclass(frozen=True)
class Maps:
    """What is known of each pixel of the grey picture."""

    alignment: Alignment
    white: Bool[np.ndarray, "h w"]  # where the mosaic is clipped
    unlike: Bool[np.ndarray, "h w"]  # where the two show different things
    fine: "Band"
    coarse: "Band"


@dataclass(frozen=True)
class Band:
    """Edges sharper than a scale, of the mosaic's grey picture and of the camera's, and the variance of noise there."""

    mosaic: Float32[np.ndarray, "h w"]
    picture: Float32[np.ndarray, "h w"]
    noise: Float32[np.ndarray, "h w"]

    @classmethod
    def of(
        cls,
        grey: UInt8[np.ndarray, "h w"],
        picture: UInt8[np.ndarray, "h w"],
        noise: Float32[np.ndarray, "h w"],
        blur: float,
    ) -> "Band":
        """Take the edges sharper than `blur`, a deviation in pixels of the grey picture."""
        kernel = cv2.getGaussianKernel(2 * round(4 * blur) + 1, blur)
        inverse = -(kernel @ kernel.T)
        inverse[len(kernel) // 2, len(kernel) // 2] += 1
        return cls(_edges(grey, blur), _edges(picture, blur), np.float32((inverse**2).sum()) * noise**2)


def positions(inside: Bool[np.ndarray, "h w"], *, patch: int, stride: int) -> Iterator[tuple[int, int]]:
    """Yield where patches begin, in px of the mosaic, on whole tiles: rows of which each begins where most fit.

    `inside` says of every pixel of the grey picture, half as large, whether the target shows it. Of a target that is
    turned or smaller than the mosaic, one grid in the middle would spend most of its patches on the edges.
    """
    side, step = patch // 2, stride // 2
    height, width = inside.shape
    if min(height, width) < side:
        return
    # Of each pixel, how many of those above it are outside.
    above = np.vstack([np.zeros((1, width), np.int32), np.cumsum(~inside, axis=0, dtype=np.int32)])
    middle = (height - side) % step // 2
    firsts = {middle, *range(0, min(step, height - side + 1), max(1, step // ROW_TRIES))}
    begins = {first: list(_rows(above, first, side, step)) for first in firsts}
    best = max(firsts, key=lambda first: (sum(count for *_, count in begins[first]), -abs(first - middle)))
    for row, column, _ in begins[best]:
        yield from ((2 * row, 2 * each) for each in range(column % step, width - side + 1, step))


def _rows(above: Int32[np.ndarray, "h1 w"], first: int, side: int, step: int) -> Iterator[tuple[int, int, int]]:
    """Yield for each row of patches from `first` on where it begins, one column of it, and how many are inside."""
    height, width = above.shape[0] - 1, above.shape[1]
    for row in range(first, height - side + 1, step):
        begin, length = _longest(above[row + side] == above[row])
        if length < side:
            begin, length, count = 0, width, 0
        else:
            count = (length - side) // step + 1
        yield row, begin + (length - side) % step // 2, count


def _longest(covered: Bool[np.ndarray, " w"]) -> tuple[int, int]:
    """Return where the longest run of true begins, and its length."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], covered, [False]]).astype(np.int8)))
    if not len(edges):
        return 0, 0
    lengths = edges[1::2] - edges[::2]
    longest = int(np.argmax(lengths))
    return int(edges[2 * longest]), int(lengths[longest])


def measure_maps(
    mosaic: UInt16[np.ndarray, "h w"],
    grey: UInt8[np.ndarray, "h2 w2"],
    alignment: Alignment,
    black: float,
    white: float,
) -> Maps:
    """Measure a whole photograph."""
    limit = np.uint16(black + NEARLY_WHITE * (white - black))
    tiles = mosaic >= limit
    clipped = tiles[0::2, 0::2] | tiles[0::2, 1::2] | tiles[1::2, 0::2] | tiles[1::2, 1::2]
    noise = _noise(grey)
    return Maps(
        alignment,
        clipped,
        _unlike(grey, alignment.matched, noise),
        Band.of(grey, alignment.matched, noise, FINE),
        Band.of(grey, alignment.matched, noise, COARSE),
    )


def _unlike(
    grey: UInt8[np.ndarray, "h w"], other: UInt8[np.ndarray, "h w"], noise: Float32[np.ndarray, "h w"]
) -> Bool[np.ndarray, "h w"]:
    """Where windows of the two differ in level, or in what they show."""
    a, b = grey.astype(np.float32), other.astype(np.float32)
    mean_a, mean_b = _mean(a), _mean(b)
    variance_a, variance_b = (np.maximum(_mean(x * x) - m * m, 0) for x, m in ((a, mean_a), (b, mean_b)))
    covariance = _mean(a * b) - mean_a * mean_b
    variance_a = np.maximum(variance_a - noise**2, 0)  # it widens the variance of the mosaic, not the covariance
    contrast = np.maximum(LEAST_CONTRAST, NOISE_TIMES * noise) ** 2
    shows_something = np.maximum(variance_a, variance_b) > contrast
    correlation = covariance / np.sqrt(np.maximum(variance_a, 1) * np.maximum(variance_b, 1))
    different: Bool[np.ndarray, "h w"] = (shows_something & (correlation < LEAST_LOCAL_CORRELATION)) | (
        np.abs(mean_a - mean_b) > MOST_DIFFERENCE
    )
    return different


def _mean(image: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    mean: Float32[np.ndarray, "h w"] = cv2.blur(image, (WINDOW, WINDOW))
    return mean


def _noise(grey: UInt8[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """The deviation of noise at each pixel, by brightness: in the dark, a tone curve raises it.

    Of places of one brightness most show nothing finer than noise. Source: Donoho and Johnstone, Biometrika 81.
    """
    even = grey[: grey.shape[0] // 2 * 2, : grey.shape[1] // 2 * 2].astype(np.float32)
    a, b, c, d = (even[row::2, column::2] for row in (0, 1) for column in (0, 1))
    detail, level = np.abs(a - b - c + d), cv2.blur((a + b + c + d) / 4, (LEVEL_WINDOW, LEVEL_WINDOW))
    groups = np.array_split(np.argsort(level, axis=None), LEVELS)
    deviations = [float(np.median(detail.flat[group])) / 0.6745 / 2 for group in groups]
    centres = [float(np.median(level.flat[group])) for group in groups]
    everywhere = cv2.blur(grey.astype(np.float32), (2 * LEVEL_WINDOW, 2 * LEVEL_WINDOW))
    noise: Float32[np.ndarray, "h w"] = np.interp(everywhere, centres, deviations).astype(np.float32)
    return noise


def _edges(image: UInt8[np.ndarray, "h w"], blur: float) -> Float32[np.ndarray, "h w"]:
    values = image.astype(np.float32)
    edges: Float32[np.ndarray, "h w"] = values - cv2.GaussianBlur(values, (0, 0), blur)
    return edges


def judge(
    row: int, column: int, mosaic: UInt16[np.ndarray, "p p"], target: UInt8[np.ndarray, "p p 3"], maps: Maps
) -> Judgement:
    """Judge a patch; the first reason to drop it is given."""
    side = mosaic.shape[0] // 2
    here = slice(row // 2, row // 2 + side), slice(column // 2, column // 2 + side)
    reason = _reason_of_maps(here, target, maps)
    if reason is not None:
        return Judgement(row, column, reason)
    matched = match(mosaic, target)
    sharpness = _sharpness(here, maps)  # of target and mosaic
    measured: dict[str, Any] = {
        "disagreement_px": float(np.median(maps.alignment.disagreement_px[here])),
        "shift": matched.shift if matched is not None and matched.is_plane else None,
        "correlation": None if matched is None else matched.correlation,
        "sharpness": sharpness[0],
        "exposure": exposure(mosaic, target),
    }
    if matched is not None and matched.correlation < LEAST_CORRELATION:
        return Judgement(row, column, UNLIKE, **measured)
    if matched is not None and matched.is_plane and max(map(abs, matched.shift)) > MOST_SHIFT_PX:
        return Judgement(row, column, SHIFTED, **measured)
    if matched is not None and min(sharpness) < LEAST_SHARPNESS:
        return Judgement(row, column, BLURRED, **measured)
    if matched is None and target.std(axis=(0, 1)).max() < LEAST_DEVIATION:
        return Judgement(row, column, FLAT, **measured)
    return Judgement(row, column, None, **measured)


def _reason_of_maps(here: Half, target: UInt8[np.ndarray, "p p 3"], maps: Maps) -> str | None:
    if not maps.alignment.inside[here].all():
        return OUTSIDE
    if maps.white[here].mean() > MOST_CLIPPED or (target.min(axis=-1) >= WHITE_TARGET).mean() > MOST_CLIPPED:
        return CLIPPED
    if maps.unlike[here].mean() > MOST_UNLIKE:
        return MOTION
    if (maps.alignment.disagreement_px[here] > UNSURE_FROM_PX).mean() > MOST_UNSURE:
        return UNSURE
    return None


def exposure(mosaic: UInt16[np.ndarray, "p p"], target: UInt8[np.ndarray, "p p 3"]) -> float:
    """Log2 of how bright the mosaic is beside its target, freed of the display curve."""
    return float(np.log2(mosaic.mean() + 0.5) - CURVE * np.log2(target.mean() + 0.5))


def _sharpness(here: Half, maps: Maps) -> tuple[float, float]:
    """How much of the finer edges of the mosaic the target shows, and the reverse, each against the coarser edges.

    1: the two are equally sharp; 0.5: half of the fine edges' strength is lost. Noise, which the mosaic has and the
    target has not, is taken from the mosaic's.
    """
    shown = []
    for band in (maps.fine, maps.coarse):
        a, b = band.mosaic[here], band.picture[here]
        common, all_a, all_b = float((a * b).mean()), float((a * a).mean()), float((b * b).mean())
        signal = max(all_a - float(band.noise[here].mean()), LEAST_SIGNAL * all_a)
        shown.append((max(common, 0) / max(signal, 1e-6), max(common, 0) / max(all_b, 1e-6)))
    (fine_target, fine_mosaic), (coarse_target, coarse_mosaic) = shown
    return fine_target / max(coarse_target, 1e-6), fine_mosaic / max(coarse_mosaic, 1e-6)


__all__ = ["REASONS", "TEXTURED_FROM", "WORDS", "Judgement", "Maps", "exposure", "judge", "measure_maps", "positions"]
