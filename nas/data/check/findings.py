"""Find the measurements that mean training on these pairs would be wasted.

Each judge looks for one fault, known from real data sets, and says what it is, in which pairs, and what to do. What can
differ from pair to pair is judged pair by pair: a mean over a set hides that a third of it is cut elsewhere. An *error*
spoils the training or makes its result untrue; a *warning* costs a little or may be meant.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from nas.data.check.cfa import ColourEvidence, is_quad, pattern_scores
from nas.data.check.levels import Levels
from nas.data.check.measurement import Measurement
from nas.data.check.near_duplicates import candidates, show_one_scene
from nas.data.check.problems import ALL_PAIRS, Problem, Severity, error_if_many, listed, of_pairs
from nas.data.layout import SPLITS
from nas.data.raw_format import RawFormat

SIDE_MULTIPLE = 32  # U-Nets of the built-in space halve the packed mosaic up to four times more
MOSTLY_SATURATED = 0.5
SHIFT_FROM_PX = 1.0
LEAST_TRUSTED_PAIRS = 3
UNLIKE_BELOW = 0.3  # correlation of edges at the best shift; the pairs of the real set have 0.77 or more
PATTERN_MARGIN = 0.15
PATTERN_NEEDS = 0.2  # below, colours of mosaic and target hardly move together and no pattern is believed
# A pair is believed alone where its colours say it clearly; none of 477 real pairs speaks for a wrong pattern then.
PAIR_MARGIN, PAIR_NEEDS, PAIR_COLOURFUL_FROM = 0.3, 0.45, 0.045
NEARLY_ALL = 0.8
COLOURFUL_FROM = 0.02  # deviation of the target's chroma, relative to its mean
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


def judge(evidence: Evidence) -> list[Problem]:
    """Collect what every judge finds, errors first."""
    if not evidence.pairs:
        return []
    found = [problem for on_progress in JUDGES for problem in on_progress(evidence)]
    return sorted(found, key=lambda problem: problem.severity != "error")


def _grouped(
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


def _sizes(evidence: Evidence) -> Iterator[Problem]:
    first = evidence.pairs[0]
    for size in sorted({m.size for m in evidence.pairs} - {first.size}):
        yield from _grouped(
            evidence,
            "error",
            [m for m in evidence.pairs if m.size == size],
            f"{_by(size)} px, while {first.name} has {_by(first.size)}",
            "cut all pairs to one size",
        )


def _multiples(evidence: Evidence) -> Iterator[Problem]:
    odd = sorted({m.size for m in evidence.pairs if m.size[0] % SIDE_MULTIPLE or m.size[1] % SIDE_MULTIPLE})
    if odd:
        yield Problem(
            "warning",
            ALL_PAIRS,
            f"{_by(odd[0])} px, which the deep U-Nets of the built-in space cannot halve often enough",
            f"give `isp-nas search` --crop {SIDE_MULTIPLE}, unless --space has fewer levels",
        )


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}×{size[1]}"


def _white_level(evidence: Evidence) -> Iterator[Problem]:
    fmt, top = evidence.format, evidence.levels.maximum
    above = [m for m in evidence.pairs if m.raw_maximum > fmt.white_level]
    yield from _grouped(
        evidence,
        "error",
        above,
        f"raw values above the white level {fmt.white_level}; the largest is {top}, which needs {top.bit_length()} "
        f"bits, and {fmt.bits} are declared",
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
        return
    coarse = [m for m in evidence.pairs if m.raw_step > 1]
    yield from _grouped(
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


def _black_level(evidence: Evidence) -> Iterator[Problem]:
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
        yield from _grouped(
            evidence,
            None,
            raised,
            f"raw values reach down to {least:g} only, though the target is black somewhere; a black level of "
            f"{fmt.black} is declared, and other pairs keep to it",
            "take the black level off, or train on pairs of one black level at a time",
        )


def _exposure(evidence: Evidence) -> Iterator[Problem]:
    """Pairs whose mosaic is far brighter or darker beside its target than those of the rest."""
    known = [m for m in evidence.pairs if not (m.raw_constant or m.rgb_constant)]
    if len(known) < LEAST_FOR_MEDIAN:
        return
    off = {m.name: m.exposure - float(np.median([n.exposure for n in known])) for m in known}
    for sign, how in ((1, "brighter"), (-1, "darker")):
        members = [m for m in known if sign * off[m.name] > EXPOSURE_STOPS]
        times = 2 ** float(np.median([sign * off[m.name] for m in members])) if members else 1.0
        scaled = times >= 2**SCALED_STOPS
        yield from _grouped(
            evidence,
            None if scaled else "warning",
            members,
            f"the mosaic is about {times:.2g} times {how} beside its target than in the other pairs: another bit "
            "depth, another exposure, or a target that was edited",
            "store all mosaics at one scale, and leave out what was edited",
        )


def _white_balance(evidence: Evidence) -> Iterator[Problem]:
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
    yield from _grouped(
        evidence,
        "warning",
        off,
        "red or blue of mosaic and target stand in another relation than in the other pairs: another white balance, "
        "or exchanged channels",
        "look at these targets; leave them out where their colours are wrong",
    )


def _poor_targets(evidence: Evidence) -> Iterator[Problem]:
    """Targets that say less than a photograph does: greys, or a few levels."""
    shown = [m for m in evidence.pairs if not m.rgb_constant]
    yield from _grouped(
        evidence,
        None,
        [m for m in shown if m.rgb_grey],
        "the target is grey: its three channels are the same",
        "give the photograph in colour, or leave the pair out",
    )
    few = [m for m in shown if m.rgb_levels < FEWEST_LEVELS and m.rgb_range[1] - m.rgb_range[0] >= EIGHT_BITS / 2]
    levels = sorted({m.rgb_levels for m in few})
    yield from _grouped(
        evidence,
        None,
        few,
        f"the target has {_range_of(levels)} different values of its channels: it was reduced to a palette or to fewer "
        "bits",
        "give the photograph as it was stored first, or leave the pair out",
    )


def _range_of(numbers: Sequence[int]) -> str:
    return f"{numbers[0]} to {numbers[-1]}" if len(numbers) > 1 else "".join(map(str, numbers))


def _blank_parts(evidence: Evidence) -> Iterator[Problem]:
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
        yield from _grouped(
            evidence,
            None,
            members,
            f"up to {max(shares):.0%} of the rows of the {which} are one value, where the {other} shows something",
            "copy the file from the source again, or leave the pair out",
        )


def _saturation(evidence: Evidence) -> Iterator[Problem]:
    clipped = [m for m in evidence.pairs if m.saturated_share > MOSTLY_SATURATED]
    most = max((m.saturated_share for m in clipped), default=0.0)
    up_to = "" if len(clipped) == 1 else "up to "
    yield from _grouped(
        evidence, "warning", clipped, f"{up_to}{most:.0%} of the mosaic is saturated", "leave the pair out"
    )


def _constant(evidence: Evidence) -> Iterator[Problem]:
    both = [m for m in evidence.pairs if m.raw_constant and m.rgb_constant]
    yield from _grouped(evidence, "warning", both, "mosaic and target are (almost) constant", "leave the pair out")
    raws = [m for m in evidence.pairs if m.raw_constant and not m.rgb_constant]
    rgbs = [m for m in evidence.pairs if m.rgb_constant and not m.raw_constant]
    for members, which, other in ((raws, "mosaic", "target"), (rgbs, "target", "mosaic")):
        # One mosaic clipped to white beside a finished sky, or noise in the dark beside a black target, is no damage.
        yield from _grouped(
            evidence,
            None,
            members,
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
    found: dict[tuple[str, str], list[tuple[Measurement, Measurement]]] = defaultdict(list)
    for what, groups in (("mosaic", alike_raw), ("target", alike_rgb)):
        for first, *others in groups.values():
            for m in others:
                found[_relation(m, first), what].append((m, first))
    for (relation, what), copied in found.items():
        severity, sentence, to_do = _COPIES[relation]
        firsts = listed(dict.fromkeys(first.name for _, first in copied))
        said = sentence.format(what=what, others=firsts, other="mosaics" if what == "target" else "targets")
        yield from _grouped(evidence, severity, [m for m, _ in copied], said, to_do)


_COPIES: dict[str, tuple[Severity, str, str]] = {
    "leak": (
        "error",
        "leak: its {what} is a copy of that of {others}, which is in another split",
        "keep it in one split only, or the result is better than the network",
    ),
    "twice": ("warning", "its {what} is a copy of that of {others}", "keep one of the two pairs"),
    "mistake": (
        "error",
        "its {what} is a copy of that of {others}, and their {other} differ",
        "look for a mistake in the numbering of files",
    ),
}


def _relation(m: Measurement, first: Measurement) -> str:
    if m.split != first.split:
        return "leak"
    return "twice" if m.raw_digest == first.raw_digest and m.rgb_digest == first.rgb_digest else "mistake"


def _scenes_in_two_splits(evidence: Evidence) -> Iterator[Problem]:
    """Targets of two splits that show one scene without being copies."""
    shown = {split: [m for m in evidence.pairs if m.split == split and m.thumbnail is not None] for split in SPLITS}
    pairs: list[tuple[Measurement, Measurement]] = []
    for number, split in enumerate(SPLITS[1:], start=1):
        seen = [m for other in SPLITS[:number] for m in shown[other]]
        thumbnails = [[m.thumbnail for m in each if m.thumbnail is not None] for each in (shown[split], seen)]
        pairs += [(shown[split][row], seen[column]) for row, column in candidates(*thumbnails)]
    copies = {(m.name, n.name) for m, n in pairs if m.rgb_digest == n.rgb_digest or m.raw_digest == n.raw_digest}
    leaks = [(m, n) for m, n in pairs if (m.name, n.name) not in copies and show_one_scene(m.pair.rgb, n.pair.rgb)]
    yield from _grouped(
        evidence,
        None,
        [m for m, _ in leaks],
        f"leak: the target shows the scene of {listed(dict.fromkeys(n.name for _, n in leaks))}, which is in another "
        "split",
        "keep all pictures of a scene in one split, or the result is better than the network",
    )


def _alignment(evidence: Evidence) -> Iterator[Problem]:
    if evidence.is_quad_bayer:  # its edges are not those of a Bayer mosaic
        return
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
    off = [m for m in evidence.pairs if m.match and m.match.trusted and _apart(m.match.shift, shift) >= SHIFT_FROM_PX]
    shifts = listed(dict.fromkeys(f"({m.match.shift[0]:g}, {m.match.shift[1]:g})" for m in off if m.match))
    yield from _grouped(
        evidence, None, off, f"the target lies off its mosaic by (dy, dx) = {shifts} px", "align it again"
    )


def _apart(shift: tuple[float, float], other: tuple[float, float]) -> float:
    return max(abs(shift[0] - other[0]), abs(shift[1] - other[1]))


def _partners(evidence: Evidence) -> Iterator[Problem]:
    if evidence.is_quad_bayer:  # its edges are not those of a Bayer mosaic
        return
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
    yield from _grouped(
        evidence,
        None,
        unlike,
        "mosaic and target have no structure in common",
        "look at both files; scenes may be numbered differently in the two folders",
    )


def _pattern(evidence: Evidence) -> Iterator[Problem]:
    quads = [m for m in evidence.pairs if is_quad(m.colours)]
    if evidence.is_quad_bayer or quads:
        yield from _grouped(
            evidence,
            "error" if evidence.is_quad_bayer else None,
            evidence.pairs if evidence.is_quad_bayer else quads,
            "a Quad-Bayer mosaic: one colour covers 2×2 px, where a Bayer pattern has all three",
            "have the sensor binned (half size), or remosaic it to a Bayer pattern first",
        )
        return
    declared = evidence.format.pattern
    votes = {m.name: vote for m in evidence.pairs if (vote := pair_pattern(m.colours, declared))}
    if len(set(votes.values()) | {declared}) > 1:  # a mixed set: pairs that say it less clearly are believed, too
        votes |= {m.name: vote for m in evidence.pairs if (vote := pair_pattern(m.colours, declared, clearly=False))}
    others = sorted({vote for vote in votes.values() if vote != declared})
    for pattern in others:
        members = [m for m in evidence.pairs if votes.get(m.name) == pattern]
        if len(members) >= NEARLY_ALL * len(votes):
            yield _other_pattern(evidence, pattern)
        else:
            yield from _grouped(evidence, None, members, *_other_phase(pattern, declared))
    if not others:
        yield from _pattern_of_sum(evidence)


def _other_phase(pattern: str, declared: str) -> tuple[str, str]:
    """Return what is wrong with pairs that do not share the phase of the set, and how to cut them."""
    rows, columns = (
        (a - b) % 2 for a, b in zip(*(divmod(name.index("R"), 2) for name in (pattern, declared)), strict=True)
    )
    where = " and ".join(name for name, odd in (("row", rows), ("column", columns)) if odd)
    swapped = ", or red and blue of these targets are exchanged" if _is_mirrored(pattern, declared) else ""
    return (
        f"the mosaic looks like {pattern}, and {declared} is declared: it begins at an odd {where} of the sensor"
        f"{swapped}",
        f"cut mosaic and target one {where} later, so that every crop begins at an even row and column of the sensor"
        + (", or store the targets as RGB" if swapped else ""),
    )


def _is_mirrored(pattern: str, declared: str) -> bool:
    """Whether one pattern is the other with red and blue exchanged."""
    return pattern == declared.translate(str.maketrans("RB", "BR"))


def _other_pattern(evidence: Evidence, best: str) -> Problem:
    scores, declared = pattern_scores(evidence.colours), evidence.format.pattern
    told = (
        f"the Bayer pattern looks like {best} (score {scores[best]:.2f}), and {declared} is declared "
        f"({scores[declared]:.2f})"
    )
    cure = f"give --pattern {best}, or cut the mosaics on whole tiles"
    if _is_mirrored(best, declared):
        told += "; targets whose red and blue are exchanged (BGR, as OpenCV writes them) look the same"
        cure += "; where skies are orange in the targets, store them as RGB instead"
    return Problem("error", ALL_PAIRS, told, cure)


def _pattern_of_sum(evidence: Evidence) -> Iterator[Problem]:
    """Judge all pairs together where none says it clearly."""
    scores, declared = pattern_scores(evidence.colours), evidence.format.pattern
    best = max(scores, key=lambda pattern: scores[pattern])
    if scores[best] >= PATTERN_NEEDS and scores[best] - scores[declared] > PATTERN_MARGIN:
        yield _other_pattern(evidence, best)
    elif scores[best] < PATTERN_NEEDS and _colourful(evidence):
        yield Problem(
            "warning",
            ALL_PAIRS,
            "targets are colourful, yet the mosaic's colours do not follow them under any Bayer pattern",
            "check that the raw files are mosaics, neither demosaiced nor grey",
        )


def pair_pattern(colours: ColourEvidence, declared: str, *, clearly: bool = True) -> str | None:
    """Return the pattern that one pair speaks for rather than for the declared one, or None."""
    scores = pattern_scores(colours)
    best = max(scores, key=scores.__getitem__)
    needs, margin = (PAIR_NEEDS, PAIR_MARGIN) if clearly else (PATTERN_NEEDS, PATTERN_MARGIN)
    least = PAIR_COLOURFUL_FROM if clearly else COLOURFUL_FROM
    beyond = best == declared or scores[best] - scores[declared] >= margin
    return best if scores[best] >= needs and beyond and colours.colour_variance.max() >= least**2 else None


def _colourful(evidence: Evidence) -> bool:
    return bool((evidence.colours.colour_variance / len(evidence.pairs)).max() > COLOURFUL_FROM**2)


JUDGES: tuple[Callable[[Evidence], Iterator[Problem]], ...] = (
    _sizes,
    _multiples,
    _white_level,
    _bit_depth,
    _black_level,
    _exposure,
    _white_balance,
    _pattern,
    _partners,
    _alignment,
    _copies,
    _scenes_in_two_splits,
    _constant,
    _blank_parts,
    _poor_targets,
    _saturation,
)
