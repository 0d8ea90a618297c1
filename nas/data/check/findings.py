"""Find the measurements that mean training on these pairs would be wasted.

Each judge looks for one fault, known from real data sets, and says what it is, in which pairs, and what to do. What can
differ from pair to pair is judged pair by pair: a mean over a set hides that a third of it is cut elsewhere. An *error*
spoils the training or makes its result untrue; a *warning* costs a little or may be meant.
"""

from collections.abc import Callable, Iterator

from nas.data.check import bayer_pattern, partners, values
from nas.data.check.evidence import Evidence, grouped
from nas.data.check.problems import ALL_PAIRS, Problem

SIDE_MULTIPLE = 32  # U-Nets of the built-in space halve the packed mosaic up to four times more


def judge(evidence: Evidence) -> list[Problem]:
    """Collect what every judge finds, errors first."""
    if not evidence.pairs:
        return []
    problems = [problem for judge_kind in JUDGES for problem in judge_kind(evidence)]
    return sorted(problems, key=lambda problem: problem.severity != "error")


def _sizes(evidence: Evidence) -> Iterator[Problem]:
    first = evidence.pairs[0]
    for size in sorted({m.size for m in evidence.pairs} - {first.size}):
        yield from grouped(
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


JUDGES: tuple[Callable[[Evidence], Iterator[Problem]], ...] = (
    _sizes,
    _multiples,
    values.white_level,
    values.bit_depth,
    values.black_level,
    values.exposure,
    values.white_balance,
    bayer_pattern.pattern,
    partners.partners,
    partners.alignment,
    partners.copies,
    partners.scenes_in_two_splits,
    values.constant,
    values.blank_parts,
    values.poor_targets,
    values.saturation,
)
