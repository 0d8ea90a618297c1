"""Which measurements mean that training on these pairs would be wasted?

Each judge looks for one fault, known from real data sets, and says what it is and what to do. An *error* spoils
the training or makes its result untrue; a *warning* costs a little or may be meant.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nas.data.check.cfa import ColourEvidence, pattern_scores, quad_share
from nas.data.check.levels import Levels
from nas.data.check.measurement import Measurement
from nas.data.raw_format import RawFormat

Severity = Literal["error", "warning"]

ALL_PAIRS = "all pairs"
SIDE_MULTIPLE = 32  # U-Nets of the built-in space halve the packed mosaic up to four times more
MOSTLY_SATURATED = 0.5
SHIFT_FROM_PX = 1.0
LEAST_TRUSTED_PAIRS = 3
UNLIKE_BELOW = 0.1  # correlation of edges at the best shift; the pairs of the real set have 0.77 or more
PATTERN_MARGIN = 0.15
PATTERN_NEEDS = 0.2  # below, colours of mosaic and target hardly move together and no pattern is believed
COLOURFUL_FROM = 0.02  # deviation of the target's chroma, relative to its mean
QUAD_FROM = 0.5
PERIODIC_FROM = 1e-3  # variance of place means relative to the signal; mosaics have 0.09, grey images 0.00002
BLACK_MARGIN = 0.02  # of the range


@dataclass(frozen=True)
class Problem:
    """One fault: how bad, where, what it is, and what to do about it."""

    severity: Severity
    name: str  # "train/12", or "all pairs"
    what: str
    what_to_do: str


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
        periodic = (self.colours.period_2 + self.colours.period_4) / max(1, len(self.pairs))
        return quad_share(self.colours) > QUAD_FROM and periodic > PERIODIC_FROM


def judge(evidence: Evidence) -> list[Problem]:
    """Collect what every judge finds, errors first."""
    if not evidence.pairs:
        return []
    found = [problem for look in JUDGES for problem in look(evidence)]
    return sorted(found, key=lambda problem: problem.severity != "error")


def _sizes(evidence: Evidence) -> Iterator[Problem]:
    first = evidence.pairs[0]
    for m in evidence.pairs:
        if m.size != first.size:
            yield Problem(
                "error",
                m.name,
                f"{_by(m.size)} px, while {first.name} has {_by(first.size)}",
                "cut all pairs to one size",
            )


def _multiples(evidence: Evidence) -> Iterator[Problem]:
    odd = sorted({m.size for m in evidence.pairs if m.size[0] % SIDE_MULTIPLE or m.size[1] % SIDE_MULTIPLE})
    if odd:
        yield Problem(
            "warning",
            ALL_PAIRS,
            f"{_by(odd[0])} px, which the deep U-Nets of the built-in space cannot halve often enough",
            f"crop all to multiples of {SIDE_MULTIPLE}, which `isp-nas search` needs unless --space has fewer levels",
        )


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}×{size[1]}"


def _white_level(evidence: Evidence) -> Iterator[Problem]:
    fmt, top = evidence.format, evidence.levels.maximum
    above = [m for m in evidence.pairs if m.raw_maximum > fmt.white_level]
    if above:
        yield Problem(
            "error",
            above[0].name if len(above) == 1 else ALL_PAIRS,
            f"{len(above)} pairs hold raw values above the white level {fmt.white_level}; the largest is {top}, which "
            f"needs {top.bit_length()} bits, and {fmt.bits} are declared",
            "give the sensor's bit depth with --bits, or its white level",
        )


def _bit_depth(evidence: Evidence) -> Iterator[Problem]:
    fmt, levels = evidence.format, evidence.levels
    if levels.step > 1:
        yield Problem(
            "warning",
            ALL_PAIRS,
            f"every raw value is a multiple of {levels.step}: values seem to be scaled up from fewer bits",
            "store the mosaic as the sensor wrote it and give that bit depth with --bits",
        )
    elif levels.maximum < 2 ** (fmt.bits - 1):
        yield Problem(
            "warning",
            ALL_PAIRS,
            f"the largest raw value, {levels.maximum}, needs {levels.bits_observed} bits, and {fmt.bits} are declared",
            f"give --bits {max(9, levels.bits_observed)} if that is the sensor's depth; dark scenes alone are no fault",
        )


def _black_level(evidence: Evidence) -> Iterator[Problem]:
    fmt, seen = evidence.format, evidence.levels.black_estimate
    if seen - fmt.black > BLACK_MARGIN * (fmt.white_level - fmt.black):
        yield Problem(
            "warning",
            ALL_PAIRS,
            f"even the darkest 0.1 % of raw values reach {seen}, and a black level of {fmt.black} is declared",
            "give the sensor's black level with --black, unless no scene holds anything dark",
        )


def _saturation(evidence: Evidence) -> Iterator[Problem]:
    for m in evidence.pairs:
        if m.saturated_share > MOSTLY_SATURATED:
            yield Problem(
                "warning", m.name, f"{m.saturated_share:.0%} of the mosaic is saturated", "leave the pair out"
            )


def _constant(evidence: Evidence) -> Iterator[Problem]:
    for m in evidence.pairs:
        if m.raw_constant and m.rgb_constant:
            yield Problem("warning", m.name, "mosaic and target are (almost) constant", "leave the pair out")
        elif m.raw_constant or m.rgb_constant:
            which, other = ("mosaic", "target") if m.raw_constant else ("target", "mosaic")
            # A mosaic clipped to white beside a finished sky, or noise in the dark beside a black target, is no damage.
            yield Problem(
                "warning",
                m.name,
                f"the {which} is (almost) constant and the {other} is not",
                "look at both files; leave the pair out if one is damaged",
            )


def _copies(evidence: Evidence) -> Iterator[Problem]:
    """Equal pixels in two pairs; constant images are equal by nature and reported as such."""
    alike_raw, alike_rgb = defaultdict(list), defaultdict(list)
    for m in evidence.pairs:
        if not m.raw_constant:
            alike_raw[m.raw_digest].append(m)
        if not m.rgb_constant:
            alike_rgb[m.rgb_digest].append(m)
    for what, groups in (("mosaic", alike_raw), ("target", alike_rgb)):
        for first, *others in groups.values():
            for m in others:
                yield _copy(what, m, first)


def _copy(what: str, m: Measurement, first: Measurement) -> Problem:
    if m.split != first.split:
        return Problem(
            "error",
            m.name,
            f"leak: its {what} is a copy of that of {first.name}, which is in another split",
            "keep it in one split only, or the result is better than the network",
        )
    if m.raw_digest == first.raw_digest and m.rgb_digest == first.rgb_digest:
        return Problem("warning", m.name, f"its {what} is a copy of that of {first.name}", "keep one of the two pairs")
    other = "mosaics" if what == "target" else "targets"
    return Problem(
        "error",
        m.name,
        f"its {what} is a copy of that of {first.name}, and their {other} differ",
        "look for a mistake in the numbering of files",
    )


def _alignment(evidence: Evidence) -> Iterator[Problem]:
    shift = evidence.shift
    if shift is None:
        yield Problem(
            "warning",
            ALL_PAIRS,
            "too few pairs have texture in common to tell whether mosaics and targets are aligned",
            "look at a few pairs by eye",
        )
        return
    if max(map(abs, shift)) >= SHIFT_FROM_PX:
        yield Problem(
            "error",
            ALL_PAIRS,
            f"targets lie off their mosaics by (dy, dx) = ({shift[0]:g}, {shift[1]:g}) px in the median",
            "cut the targets that far down and right of where they are cut now",
        )
    for m in evidence.pairs:
        if m.match and m.match.trusted and _apart(m.match.shift, shift) >= SHIFT_FROM_PX:
            dy, dx = m.match.shift
            yield Problem(
                "warning", m.name, f"the target lies off its mosaic by (dy, dx) = ({dy:g}, {dx:g}) px", "align it again"
            )


def _apart(shift: tuple[float, float], other: tuple[float, float]) -> float:
    return max(abs(shift[0] - other[0]), abs(shift[1] - other[1]))


def _partners(evidence: Evidence) -> Iterator[Problem]:
    textured = [m for m in evidence.pairs if m.match]
    unlike = [m for m in textured if m.match and m.match.correlation < UNLIKE_BELOW]
    if len(unlike) > len(textured) / 2:
        yield Problem(
            "error",
            ALL_PAIRS,
            f"in {len(unlike)} of {len(textured)} pairs with texture, mosaic and target have no structure in common",
            "check that both folders number the same scenes alike",
        )
        return
    for m in unlike:
        yield Problem("warning", m.name, "mosaic and target have no structure in common", "look at both files")


def _pattern(evidence: Evidence) -> Iterator[Problem]:
    if evidence.is_quad_bayer:
        yield Problem(
            "error",
            ALL_PAIRS,
            "a Quad-Bayer mosaic: one colour covers 2×2 px, where a Bayer pattern has all three",
            "have the sensor binned (half size), or remosaic it to a Bayer pattern first",
        )
        return
    scores = pattern_scores(evidence.colours)
    declared = evidence.format.pattern
    best = max(scores, key=lambda pattern: scores[pattern])
    if scores[best] >= PATTERN_NEEDS and scores[best] - scores[declared] > PATTERN_MARGIN:
        yield Problem(
            "error",
            ALL_PAIRS,
            f"the Bayer pattern looks like {best} (score {scores[best]:.2f}), and {declared} is declared "
            f"({scores[declared]:.2f})",
            f"give --pattern {best}, or cut the mosaics on whole tiles",
        )
    elif scores[best] < PATTERN_NEEDS and _colourful(evidence):
        yield Problem(
            "warning",
            ALL_PAIRS,
            "targets are colourful, yet the mosaic's colours do not follow them under any Bayer pattern",
            "check that the raw files are mosaics, neither demosaiced nor grey",
        )


def _colourful(evidence: Evidence) -> bool:
    return bool((evidence.colours.colour_variance / len(evidence.pairs)).max() > COLOURFUL_FROM**2)


JUDGES: tuple[Callable[[Evidence], Iterator[Problem]], ...] = (
    _sizes,
    _multiples,
    _white_level,
    _bit_depth,
    _black_level,
    _pattern,
    _partners,
    _alignment,
    _copies,
    _constant,
    _saturation,
)
