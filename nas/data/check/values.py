"""Judge the values of mosaics and targets: levels, exposure, white balance, and pictures that show nothing."""

from collections.abc import Iterator, Sequence

import numpy as np

from nas.data.check.evidence import Evidence, grouped
from nas.data.check.problems import ALL_PAIRS, Problem

MOSTLY_SATURATED = 0.5
BLACK_MARGIN = 0.02  # of the range
DARK_TARGET = 6  # of 255: a target this dark somewhere shows what is black in the mosaic, too
EXPOSURE_STOPS, SCALED_STOPS = 1.5, 1.75  # off the median; real pairs lie within 0.7
# Stops off the median: in any pair, and in a group of pairs, which is so far off beside the median pair. 477 real pairs
# of four cameras lie within 1.7 stops; of them 2 %, and of 208 made ones 3 %, are as far off as a group may not be.
WHITE_BALANCE_STOPS, GROUP_STOPS, GROUP_TIMES = 3.0, 0.7, 8.0
LEAST_GROUP, GROUP_SHARE = 3, 0.08
LEAST_FOR_MEDIAN = 8
EIGHT_BITS = 255
FEWEST_LEVELS = 20  # of a target that has dark and bright places
BLANK_SHARE = 0.03  # of the rows


def white_level(evidence: Evidence) -> Iterator[Problem]:
    """Values above the white level."""
    fmt, top = evidence.format, evidence.levels.maximum
    above = [m for m in evidence.pairs if m.raw_maximum > fmt.white_level]
    yield from grouped(
        evidence,
        "error",
        above,
        f"raw values above the white level {fmt.white_level}; the largest is {top}, which needs {top.bit_length()} "
        f"bits, and {fmt.bits} are declared",
        "give the sensor's bit depth with --bits, or its white level",
    )


def bit_depth(evidence: Evidence) -> Iterator[Problem]:
    """Values that were scaled up, or that need fewer bits than declared."""
    fmt, levels = evidence.format, evidence.levels
    if levels.step > 1:
        yield Problem(
            "warning",
            ALL_PAIRS,
            f"every raw value is a multiple of {levels.step}: values seem to be scaled up from fewer bits",
            "store the mosaic as the sensor wrote it and give that bit depth with --bits",
        )
        return
    coarse = [m for m in evidence.pairs if m.raw_step > 1]
    yield from grouped(
        evidence,
        None,
        coarse,
        f"every raw value is a multiple of {min((m.raw_step for m in coarse), default=0)}, which those of other pairs "
        "are not: these seem to be scaled up from fewer bits",
        "store every mosaic as the sensor wrote it",
    )
    if levels.maximum == EIGHT_BITS:
        yield Problem(
            "error",
            ALL_PAIRS,
            f"raw values end at {EIGHT_BITS}, the largest of 8 bits, and {fmt.bits} are declared: they seem to be "
            "rescaled, and what the sensor told between is lost",
            "store the mosaic as the sensor wrote it, as a 16-bit grey PNG",
        )
    elif levels.maximum < 2 ** (fmt.bits - 1):
        yield Problem(
            "warning",
            ALL_PAIRS,
            f"the largest raw value, {levels.maximum}, needs {levels.bits_observed} bits, and {fmt.bits} are declared",
            f"give --bits {max(9, levels.bits_observed)} if that is the sensor's depth; dark scenes alone are no fault",
        )


def black_level(evidence: Evidence) -> Iterator[Problem]:
    """Values that do not reach down to the black level."""
    fmt, seen = evidence.format, evidence.levels.black_estimate
    if seen - fmt.black > BLACK_MARGIN * (fmt.white_level - fmt.black):
        yield Problem(
            "warning",
            ALL_PAIRS,
            f"even the darkest 0.1 % of raw values reach {seen}, and a black level of {fmt.black} is declared",
            "give the sensor's black level with --black, unless no scene holds anything dark",
        )
        return
    margin = fmt.black + BLACK_MARGIN * (fmt.white_level - fmt.black)
    raised = [m for m in evidence.pairs if m.darkest[1] <= DARK_TARGET and m.darkest[0] > margin]
    if len(raised) > 1:  # haze over a single dark scene is no fault
        least = min(m.darkest[0] for m in raised)
        yield from grouped(
            evidence,
            None,
            raised,
            f"raw values reach down to {least:g} only, though the target is black somewhere; a black level of "
            f"{fmt.black} is declared, and other pairs keep to it",
            "take the black level off, or train on pairs of one black level at a time",
        )


def exposure(evidence: Evidence) -> Iterator[Problem]:
    """Pairs whose mosaic is far brighter or darker beside its target than those of the rest."""
    known = [m for m in evidence.pairs if not (m.raw_constant or m.rgb_constant)]
    if len(known) < LEAST_FOR_MEDIAN:
        return
    off = {m.name: m.exposure - float(np.median([n.exposure for n in known])) for m in known}
    for sign, how in ((1, "brighter"), (-1, "darker")):
        members = [m for m in known if sign * off[m.name] > EXPOSURE_STOPS]
        times = 2 ** float(np.median([sign * off[m.name] for m in members])) if members else 1.0
        scaled = times >= 2**SCALED_STOPS
        yield from grouped(
            evidence,
            None if scaled else "warning",
            members,
            f"the mosaic is about {times:.2g} times {how} beside its target than in the other pairs: another bit "
            "depth, another exposure, or a target that was edited",
            "store all mosaics at one scale, and leave out what was edited",
        )


def white_balance(evidence: Evidence) -> Iterator[Problem]:
    """Pairs whose red or blue stand in another relation than in the rest."""
    known = [m for m in evidence.pairs if not (m.raw_constant or m.rgb_constant)]
    if len(known) < LEAST_FOR_MEDIAN:
        return
    balances = np.array([m.white_balance for m in known])
    stops = np.abs(balances - np.median(balances, axis=0))
    group = (stops > np.maximum(GROUP_STOPS, GROUP_TIMES * np.median(stops, axis=0))).any(axis=1)
    far = (stops > WHITE_BALANCE_STOPS).any(axis=1) | (
        group & (group.sum() >= max(LEAST_GROUP, GROUP_SHARE * len(known)))
    )
    off = [m for m, is_far in zip(known, far, strict=True) if is_far]
    yield from grouped(
        evidence,
        "warning",
        off,
        "red or blue of mosaic and target stand in another relation than in the other pairs: another white balance, "
        "or exchanged channels",
        "look at these targets; leave them out where their colours are wrong",
    )


def poor_targets(evidence: Evidence) -> Iterator[Problem]:
    """Targets that say less than a photograph does: greys, or a few levels."""
    shown = [m for m in evidence.pairs if not m.rgb_constant]
    yield from grouped(
        evidence,
        None,
        [m for m in shown if m.rgb_grey],
        "the target is grey: its three channels are the same",
        "give the photograph in colour, or leave the pair out",
    )
    few = [m for m in shown if m.rgb_levels < FEWEST_LEVELS and m.rgb_range[1] - m.rgb_range[0] >= EIGHT_BITS / 2]
    levels = sorted({m.rgb_levels for m in few})
    yield from grouped(
        evidence,
        None,
        few,
        f"the target has {_range_of(levels)} different values of its channels: it was reduced to a palette or to fewer "
        "bits",
        "give the photograph as it was stored first, or leave the pair out",
    )


def _range_of(numbers: Sequence[int]) -> str:
    return f"{numbers[0]} to {numbers[-1]}" if len(numbers) > 1 else "".join(map(str, numbers))


def blank_parts(evidence: Evidence) -> Iterator[Problem]:
    """Parts without anything, beside which the other file shows something: what a broken transfer leaves."""
    for which, other, shares in (
        ("mosaic", "target", [m.blank_share[0] for m in evidence.pairs]),
        ("target", "mosaic", [m.blank_share[1] for m in evidence.pairs]),
    ):
        members = [
            m
            for m, share in zip(evidence.pairs, shares, strict=True)
            if share > BLANK_SHARE and not (m.raw_constant or m.rgb_constant)
        ]
        yield from grouped(
            evidence,
            None,
            members,
            f"up to {max(shares):.0%} of the rows of the {which} are one value, where the {other} shows something",
            "copy the file from the source again, or leave the pair out",
        )


def saturation(evidence: Evidence) -> Iterator[Problem]:
    """Mosaics that are mostly clipped."""
    clipped = [m for m in evidence.pairs if m.saturated_share > MOSTLY_SATURATED]
    most = max((m.saturated_share for m in clipped), default=0.0)
    up_to = "" if len(clipped) == 1 else "up to "
    yield from grouped(
        evidence, "warning", clipped, f"{up_to}{most:.0%} of the mosaic is saturated", "leave the pair out"
    )


def constant(evidence: Evidence) -> Iterator[Problem]:
    """Mosaics and targets without content."""
    both = [m for m in evidence.pairs if m.raw_constant and m.rgb_constant]
    yield from grouped(evidence, "warning", both, "mosaic and target are (almost) constant", "leave the pair out")
    raws = [m for m in evidence.pairs if m.raw_constant and not m.rgb_constant]
    rgbs = [m for m in evidence.pairs if m.rgb_constant and not m.raw_constant]
    for members, which, other in ((raws, "mosaic", "target"), (rgbs, "target", "mosaic")):
        # One mosaic clipped to white beside a finished sky, or noise in the dark beside a black target, is no damage.
        yield from grouped(
            evidence,
            None,
            members,
            f"the {which} is (almost) constant and the {other} is not",
            "look at both files; leave the pair out if one is damaged",
        )
