"""What one look at one pair says: everything that `nas.data.check.report` judges, in a single reading."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from jaxtyping import Int, UInt8, UInt16

from nas.data.check.alignment import Match, match
from nas.data.check.cfa import ColourEvidence, colour_evidence
from nas.data.check.levels import VALUES
from nas.data.decode import PAIRS_IN_FLIGHT, read_pair, workers
from nas.data.layout import Pair, Split
from nas.data.raw_format import RawFormat
from search_spaces.errors import DataError

NEARLY_CONSTANT_RAW = 0.001  # of the range from black to white: deviation below which a mosaic shows nothing
NEARLY_CONSTANT_RGB = 0.5  # of 255


@dataclass(frozen=True)
class Measurement:
    """The numbers of one pair; pixels are not kept."""

    split: Split
    pair: Pair
    size: tuple[int, int]
    raw_digest: bytes
    rgb_digest: bytes
    raw_maximum: int
    saturated_share: float
    raw_constant: bool
    rgb_constant: bool
    rgb_range: tuple[int, int]
    match: Match | None
    colours: ColourEvidence

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
            raw, rgb = read_pair(pair)
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
        saturated_share=float((raw >= fmt.white_level).mean()),
        raw_constant=bool(_place_deviation(raw) < NEARLY_CONSTANT_RAW * (fmt.white_level - fmt.black)),
        rgb_constant=bool(rgb.std(axis=(0, 1)).max() < NEARLY_CONSTANT_RGB),
        rgb_range=(int(rgb.min()), int(rgb.max())),
        match=match(raw, rgb),
        colours=colour_evidence(raw, rgb, black=fmt.black),
    )


def _digest(image: UInt16[np.ndarray, "h w"] | UInt8[np.ndarray, "h w 3"]) -> bytes:
    return blake2b(image.tobytes(), digest_size=16).digest()


def _place_deviation(raw: UInt16[np.ndarray, "h w"]) -> float:
    """The largest deviation within one place of the tile: a mosaic of a grey card is constant too."""
    return max(float(raw[row::2, column::2].std()) for row in (0, 1) for column in (0, 1))
