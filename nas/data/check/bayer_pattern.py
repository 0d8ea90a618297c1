"""Judge whether mosaics have the Bayer pattern that is declared: all, some of them, or none."""

from collections.abc import Iterator

from nas.data.check.cfa import ColourEvidence, is_quad, pattern_scores
from nas.data.check.evidence import Evidence, grouped
from nas.data.check.problems import ALL_PAIRS, Problem

PATTERN_MARGIN = 0.15
PATTERN_NEEDS = 0.2  # below, colours of mosaic and target hardly move together and no pattern is believed
# A pair is believed alone where its colours say it clearly; none of 477 real pairs speaks for a wrong pattern then.
PAIR_MARGIN, PAIR_NEEDS, PAIR_COLOURFUL_FROM = 0.3, 0.45, 0.045
NEARLY_ALL = 0.8
COLOURFUL_FROM = 0.02  # deviation of the target's chroma, relative to its mean


def pattern(evidence: Evidence) -> Iterator[Problem]:
    """Mosaics of another Bayer pattern or phase than declared, or of Quad-Bayer sensors."""
    quads = [m for m in evidence.pairs if is_quad(m.colours)]
    if evidence.is_quad_bayer or quads:
        yield from grouped(
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
            yield from grouped(evidence, None, members, *_other_phase(pattern, declared))
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
    what = (
        f"the Bayer pattern looks like {best} (score {scores[best]:.2f}), and {declared} is declared "
        f"({scores[declared]:.2f})"
    )
    cure = f"give --pattern {best}, or cut the mosaics on whole tiles"
    if _is_mirrored(best, declared):
        what += "; targets whose red and blue are exchanged (BGR, as OpenCV writes them) look the same"
        cure += "; where skies are orange in the targets, store them as RGB instead"
    return Problem("error", ALL_PAIRS, what, cure)


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
