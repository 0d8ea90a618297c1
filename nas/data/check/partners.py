"""Judge whether pairs belong together and stay apart: copies, leaks between splits, alignment, wrong partners."""

from collections import defaultdict
from collections.abc import Iterator

from nas.data.check.evidence import Evidence, grouped
from nas.data.check.measurement import Measurement
from nas.data.check.near_duplicates import UPRIGHT, candidates, show_one_scene
from nas.data.check.problems import ALL_PAIRS, Problem, Severity, listed
from nas.data.layout import SPLITS

SHIFT_FROM_PX = 1.0
UNLIKE_BELOW = 0.3  # correlation of edges at the best shift; the pairs of the real set have 0.77 or more


def copies(evidence: Evidence) -> Iterator[Problem]:
    """Equal pixels in two pairs; constant images are equal by nature and reported as such."""
    alike_raw, alike_rgb = defaultdict(list), defaultdict(list)
    for m in evidence.pairs:
        if not m.raw_constant:
            alike_raw[m.raw_digest].append(m)
        if not m.rgb_constant:
            alike_rgb[m.rgb_digest].append(m)
    alike: dict[tuple[str, str], list[tuple[Measurement, Measurement]]] = defaultdict(list)
    for what, groups in (("mosaic", alike_raw), ("target", alike_rgb)):
        for first, *others in groups.values():
            for m in others:
                alike[_relation(m, first), what].append((m, first))
    for (relation, what), copied in alike.items():
        severity, sentence, to_do = _COPIES[relation]
        firsts = listed(dict.fromkeys(first.name for _, first in copied))
        said = sentence.format(what=what, others=firsts, other="mosaics" if what == "target" else "targets")
        yield from grouped(evidence, severity, [m for m, _ in copied], said, to_do)


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


def scenes_in_two_splits(evidence: Evidence) -> Iterator[Problem]:
    """Targets of two splits that show one scene without being copies."""
    shown = {split: [m for m in evidence.pairs if m.split == split and m.thumbnail is not None] for split in SPLITS}
    pairs: list[tuple[Measurement, Measurement, int]] = []
    for number, split in enumerate(SPLITS[1:], start=1):
        seen = [m for other in SPLITS[:number] for m in shown[other]]
        thumbnails = [[m.thumbnail for m in each if m.thumbnail is not None] for each in (shown[split], seen)]
        pairs += [(shown[split][row], seen[column], turn) for row, column, turn in candidates(*thumbnails)]
    told = {(m.name, n.name) for m, n, _ in pairs if m.rgb_digest == n.rgb_digest or m.raw_digest == n.raw_digest}
    for is_turned, how in ((False, ""), (True, ", turned or mirrored")):
        leaks = [
            (m, n)
            for m, n, turn in pairs
            if (turn != UPRIGHT) == is_turned and (m.name, n.name) not in told
            if show_one_scene(m.pair.rgb, n.pair.rgb, turn)
        ]
        told |= {(m.name, n.name) for m, n in leaks}
        yield from grouped(
            evidence,
            None,
            [m for m, _ in leaks],
            f"leak: the target shows the scene of {listed(dict.fromkeys(n.name for _, n in leaks))}{how}, which is in "
            "another split",
            "keep all pictures of a scene in one split, or the result is better than the network",
        )


def alignment(evidence: Evidence) -> Iterator[Problem]:
    """Targets that do not lie on their mosaics."""
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
    yield from grouped(
        evidence, None, off, f"the target lies off its mosaic by (dy, dx) = {shifts} px", "align it again"
    )


def _apart(shift: tuple[float, float], other: tuple[float, float]) -> float:
    return max(abs(shift[0] - other[0]), abs(shift[1] - other[1]))


def partners(evidence: Evidence) -> Iterator[Problem]:
    """Mosaics and targets that do not show the same scene."""
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
    yield from grouped(
        evidence,
        None,
        unlike,
        "mosaic and target have no structure in common",
        "look at both files; scenes may be numbered differently in the two folders",
    )
