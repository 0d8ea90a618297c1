"""Measure one pair: everything that `nas.data.check.report` judges, in a single reading."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from jaxtyping import Float, Int, UInt8, UInt16

from nas.data.check.alignment import Match, match
from nas.data.check.cfa import ColourEvidence, colour_evidence
from nas.data.check.levels import VALUES
from nas.data.check.near_duplicates import middle, thumbnail
from nas.data.decode import workers
from nas.data.layout import Pair, Split
from nas.data.pair_reading import PAIRS_IN_FLIGHT, read_pair
from nas.data.raw_format import RawFormat
from search_spaces.errors import DataError

NEARLY_CONSTANT_RAW = 0.001  # of the range from black to white: deviation below which a mosaic shows nothing
NEARLY_CONSTANT_RGB = 0.5  # of 255
# Of rows: so far apart are the values of what shows something, and so bright is a target that is clipped to white.
VISIBLE_RAW, VISIBLE_RGB, WHITE_RGB = 0.05, 25, 250
DARKEST_PERCENT = 0.1
VALUES_TO_TELL_A_STEP = 16
# Slope of log2 of the mosaic's mean over log2 of the target's: 1.52 on the 477 pairs of four GoPro cameras, whose
# exposures then lie within 0.7 stops of their median.
CURVE = 1.5


@dataclass(frozen=True)
class Measurement:
    """The numbers of one pair; pixels are not kept."""

    split: Split
    pair: Pair
    size: tuple[int, int]
    raw_digest: bytes
    rgb_digest: bytes
    raw_maximum: int
    raw_step: int  # greatest common divisor of the mosaic's values; 1 where there are too few to tell
    darkest: tuple[float, float]  # the 0.1th percentile of mosaic and target
    exposure: float  # log2 of the mosaic's mean against the target's, freed of the display curve
    white_balance: tuple[float, float]  # log2 of red and of blue against green, mosaic against target
    saturated_share: float
    raw_constant: bool
    rgb_constant: bool
    rgb_range: tuple[int, int]
    rgb_grey: bool  # all channels are the same
    rgb_levels: int  # how many different values the channels have
    blank_share: tuple[float, float]  # of the rows: one value alone in the mosaic, or in the target, and not in both
    match: Match | None
    colours: ColourEvidence
    thumbnail: Float[np.ndarray, "t t"] | None = None  # of the target, to find the same scene in another split

    @property
    def name(self) -> str:
        """Split and name, as problems name it."""
        return f"{self.split}/{self.pair.name}"


@dataclass(frozen=True)
class Unreadable:
    """A pair that could not be read, and why."""

    split: Split
    pair: Pair
    why: str

    @property
    def name(self) -> str:
        """Split and name, as problems name it."""
        return f"{self.split}/{self.pair.name}"


Counts = Int[np.ndarray, "65536"]


def measure_all(
    pairs: Sequence[tuple[Split, Pair]], fmt: RawFormat
) -> Iterator[tuple[Measurement, Counts] | Unreadable]:
    """Read and measure every pair in threads; yields in order, with how often each raw value occurs."""

    def measure_one(item: tuple[Split, Pair]) -> tuple[Measurement, Counts] | Unreadable:
        split, pair = item
        try:
            raw, rgb = read_pair(pair, fmt)
        except DataError as error:
            return Unreadable(split, pair, str(error))
        return measure(split, pair, raw, rgb, fmt), np.bincount(raw.ravel(), minlength=VALUES)

    with ThreadPoolExecutor(workers()) as pool:
        for start in range(0, len(pairs), PAIRS_IN_FLIGHT):
            yield from pool.map(measure_one, pairs[start : start + PAIRS_IN_FLIGHT])


def measure(
    split: Split, pair: Pair, raw: UInt16[np.ndarray, "h w"], rgb: UInt8[np.ndarray, "h w 3"], fmt: RawFormat
) -> Measurement:
    """Measure one decoded pair."""
    return Measurement(
        split=split,
        pair=pair,
        size=(raw.shape[0], raw.shape[1]),
        raw_digest=_digest(raw),
        rgb_digest=_digest(rgb),
        raw_maximum=int(raw.max()),
        raw_step=_step(raw),
        # Of the target its brightest colour: a red object has no blue and is not black.
        darkest=(float(np.percentile(raw, DARKEST_PERCENT)), float(np.percentile(rgb.max(axis=-1), DARKEST_PERCENT))),
        exposure=float(np.log2(_signal(raw, fmt).mean() + 0.5) - CURVE * np.log2(rgb.mean() + 0.5)),
        white_balance=_white_balance(raw, rgb, fmt),
        saturated_share=float((raw >= fmt.white_level).mean()),
        raw_constant=bool(_place_deviation(raw) < NEARLY_CONSTANT_RAW * (fmt.white_level - fmt.black)),
        rgb_constant=bool(rgb.std(axis=(0, 1)).max() < NEARLY_CONSTANT_RGB),
        rgb_range=(int(rgb.min()), int(rgb.max())),
        rgb_grey=bool((np.ptp(rgb, axis=-1) <= 1).all()),
        rgb_levels=int(np.count_nonzero(np.bincount(rgb.ravel()))),
        blank_share=_blank_share(raw, rgb, fmt),
        match=match(raw, rgb),
        colours=colour_evidence(raw, rgb, black=fmt.black),
        thumbnail=thumbnail(middle(rgb)),
    )


def _signal(raw: UInt16[np.ndarray, "h w"], fmt: RawFormat) -> Float[np.ndarray, "h w"]:
    signal: Float[np.ndarray, "h w"] = np.maximum(raw.astype(np.float32) - np.float32(fmt.black), 0)
    return signal


def _step(raw: UInt16[np.ndarray, "h w"]) -> int:
    values = np.unique(raw)
    return int(np.gcd.reduce(values)) if len(values) >= VALUES_TO_TELL_A_STEP else 1


def _white_balance(
    raw: UInt16[np.ndarray, "h w"], rgb: UInt8[np.ndarray, "h w 3"], fmt: RawFormat
) -> tuple[float, float]:
    signal, colours = _signal(raw, fmt), fmt.pattern
    places = {(row, column): signal[row::2, column::2].mean() for row in (0, 1) for column in (0, 1)}
    mosaic = [np.mean([v for (r, c), v in places.items() if colours[2 * r + c] == letter]) for letter in "RGB"]
    ratios = np.log2(np.array(mosaic) + 0.5) - CURVE * np.log2(rgb.mean(axis=(0, 1)) + 0.5)
    return float(ratios[0] - ratios[1]), float(ratios[2] - ratios[1])


def _blank_share(
    raw: UInt16[np.ndarray, "h w"], rgb: UInt8[np.ndarray, "h w 3"], fmt: RawFormat
) -> tuple[float, float]:
    """Return which share of the rows is of one value in the mosaic or in the target, and not in the other.

    What is clipped to white in one of the two is no fault.
    """
    of_raw, of_rgb = np.ptp(raw, axis=1), np.ptp(rgb, axis=(1, 2))
    raw_blank = (of_raw == 0) & (raw[:, 0] < fmt.white_level) & (of_rgb > VISIBLE_RGB)
    rgb_blank = (of_rgb == 0) & (rgb[:, 0, 0] < WHITE_RGB) & (of_raw > VISIBLE_RAW * (fmt.white_level - fmt.black))
    return float(raw_blank.mean()), float(rgb_blank.mean())


def _digest(image: UInt16[np.ndarray, "h w"] | UInt8[np.ndarray, "h w 3"]) -> bytes:
    return blake2b(image.tobytes(), digest_size=16).digest()


def _place_deviation(raw: UInt16[np.ndarray, "h w"]) -> float:
    """The largest deviation within one place of the tile: a mosaic of a grey card is constant too."""
    return max(float(raw[row::2, column::2].std()) for row in (0, 1) for column in (0, 1))
