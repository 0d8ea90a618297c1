"""Measure the values of the raw data: range, bit depth, black level, saturation."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from nas.data.raw_format import RawFormat

PERCENTILES = (0.1, 1.0, 50.0, 99.0, 99.9)
BLACK_PERCENTILE = 0.1
VALUES = 2**16


@dataclass(frozen=True)
class Levels:
    """The raw values of all pairs taken together."""

    minimum: int
    maximum: int
    percentiles: dict[str, int]
    bits_observed: int  # needed by the largest value
    black_estimate: int  # the 0.1th percentile: an upper bound where no scene holds anything black
    saturated_share: float
    step: int  # greatest common divisor of all values: 64 where 10 bits were stored shifted up by 6


def levels_of(counts: Int[np.ndarray, "65536"], fmt: RawFormat) -> Levels:
    """Summarise how often each value occurs."""
    values = np.flatnonzero(counts)
    if not len(values):
        return Levels(0, 0, {}, 0, 0, 0.0, 1)
    top = int(values[-1])
    return Levels(
        minimum=int(values[0]),
        maximum=top,
        percentiles={f"{percent:g}": _percentile(counts, percent) for percent in PERCENTILES},
        bits_observed=top.bit_length(),
        black_estimate=_percentile(counts, BLACK_PERCENTILE),
        saturated_share=float(counts[fmt.white_level :].sum() / counts.sum()),
        step=max(1, int(np.gcd.reduce(values))),
    )


def _percentile(counts: Int[np.ndarray, "65536"], percent: float) -> int:
    running = np.cumsum(counts)
    return int(np.searchsorted(running, percent / 100 * running[-1]))
