"""Everything that was measured on a set of pairs, and the fault of some of them as a problem."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from nas.data.check.cfa import ColourEvidence, is_quad
from nas.data.check.levels import Levels
from nas.data.check.measurement import Measurement
from nas.data.check.problems import Problem, Severity, error_if_many, of_pairs
from nas.data.raw_format import RawFormat

LEAST_TRUSTED_PAIRS = 3


@dataclass(frozen=True)
class Evidence:
    """All that was measured on a set of pairs."""

    pairs: Sequence[Measurement]
    levels: Levels
    colours: ColourEvidence
    format: RawFormat

    @property
    def shift(self) -> tuple[float, float] | None:
        """The median shift (down, right) in px of the target against the mosaic; `None` with too few to tell."""
        shifts = [m.match.shift for m in self.pairs if m.match and m.match.trusted]
        if len(shifts) < min(LEAST_TRUSTED_PAIRS, len(self.pairs)) or not shifts:
            return None
        down, right = np.median(shifts, axis=0)
        return float(down), float(right)

    @property
    def is_quad_bayer(self) -> bool:
        """Whether one colour filter covers 2×2 px."""
        return is_quad(self.colours, pairs=len(self.pairs))


def grouped(
    evidence: Evidence,
    severity: Severity | None,
    members: Sequence[Measurement],
    what: str,
    what_to_do: str,
) -> Iterator[Problem]:
    """Yield the fault of these pairs, if there are any; without a severity, many of them are an error."""
    names, total = [m.name for m in members], len(evidence.pairs)
    if names and severity is None:
        yield error_if_many(names, total, what, what_to_do)
    elif names and severity:
        yield of_pairs(severity, names, total, what, what_to_do)
