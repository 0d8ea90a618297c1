"""Check a whole data set before training, and report what would spoil it.

Every file is read once and measured, then faults are looked for over the whole set:

    find_pairs ─► measurement (one pair) ─► evidence (all pairs) ─► findings ─► CheckReport
"""

import re
from collections import defaultdict
from dataclasses import asdict, dataclass
from functools import reduce
from operator import add
from typing import Any

import numpy as np

from nas.data.check.cfa import no_evidence, pattern_scores
from nas.data.check.evidence import Evidence
from nas.data.check.findings import judge
from nas.data.check.levels import VALUES, Levels, levels_of
from nas.data.check.measurement import Measurement, Unreadable, measure_all
from nas.data.check.problems import ALL_PAIRS, Problem, of_pairs
from nas.data.decode import read_raw, read_rgb
from nas.data.layout import Pair, Split
from nas.data.pairs import SPLITS, DataConfig, Progress, find_pairs
from search_spaces.errors import DataError


@dataclass(frozen=True)
class CheckReport:
    """What was found in a set of pairs; `ok` when nothing forbids training on it."""

    source: str
    counts: dict[str, int]  # pairs in each split
    readable: int
    size: tuple[int, int] | None  # (height, width) of the first readable pair
    raw: Levels
    rgb_range: tuple[int, int] | None
    shift: tuple[float, float] | None  # median (dy, dx) in px of targets against mosaics; None: cannot tell
    aligned_by: int  # pairs with enough texture to have a say in that
    pattern_scores: dict[str, float]
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """Whether there is no error; warnings may remain."""
        return all(problem.severity != "error" for problem in self.problems)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-ready values."""
        return {"ok": self.ok, **asdict(self), "problems": [asdict(problem) for problem in self.problems]}


def check(config: DataConfig, *, progress: Progress | None = None) -> CheckReport:
    """Read every file of a set and report its faults; raises `DataError` only where the files form no pairs."""
    splits = find_pairs(config)
    pairs = [(split, pair) for split in SPLITS for pair in splits[split]]
    counts: dict[str, int] = {split: len(splits[split]) for split in SPLITS}
    if _swapped(pairs[0][1]):
        return _report(config, counts, [], [_swapped_folders(pairs[0])], np.zeros(VALUES, np.int64))
    measured: list[Measurement] = []
    unreadable: list[Unreadable] = []
    values = np.zeros(VALUES, np.int64)
    for done, result in enumerate(measure_all(pairs, config.raw), start=1):
        if isinstance(result, Unreadable):
            unreadable.append(result)
        else:
            measured.append(result[0])
            values += result[1]
        if progress is not None:
            progress(done, len(pairs))
    return _report(config, counts, measured, _by_cause(unreadable, len(pairs)), values)


def _report(
    config: DataConfig,
    counts: dict[str, int],
    measured: list[Measurement],
    problems: list[Problem],
    values: np.ndarray[Any, np.dtype[np.int64]],
) -> CheckReport:
    levels = levels_of(values, config.raw)
    colours = reduce(add, (m.colours for m in measured), no_evidence())
    evidence = Evidence(measured, levels, colours, config.raw)
    ranges = [m.rgb_range for m in measured]
    return CheckReport(
        source=config.source,
        counts=counts,
        readable=len(measured),
        size=measured[0].size if measured else None,
        raw=levels,
        rgb_range=(min(low for low, _ in ranges), max(high for _, high in ranges)) if ranges else None,
        shift=evidence.shift,
        aligned_by=sum(bool(m.match and m.match.trusted) for m in measured),
        pattern_scores=pattern_scores(colours),
        problems=(*problems, *judge(evidence)),
    )


def _swapped(pair: Pair) -> bool:
    """Whether the first mosaic would do as a target and its target as a mosaic."""
    try:
        read_raw(pair.rgb)
        read_rgb(pair.raw)
    except DataError:
        return False
    return True


def _swapped_folders(first: tuple[Split, Pair]) -> Problem:
    split, pair = first
    return Problem(
        "error",
        ALL_PAIRS,
        f"the two folders are swapped: {split}/{pair.raw.parent.name} holds colour images and "
        f"{split}/{pair.rgb.parent.name} mosaics",
        "exchange --raw-dir and --rgb-dir, or rename the folders",
    )


def _by_cause(unreadable: list[Unreadable], total: int) -> list[Problem]:
    """Return one error for each cause; a single file is named with its path."""
    causes: dict[str, list[Unreadable]] = defaultdict(list)
    for each in unreadable:
        causes[_without_paths(each)].append(each)
    return [
        of_pairs(
            "error", [m.name for m in members], total, *_cause_and_cure(members[0].why if len(members) == 1 else said)
        )
        for said, members in causes.items()
    ]


def _without_paths(each: Unreadable) -> str:
    said = each.why
    for path in (each.pair.raw, each.pair.rgb):
        said = re.sub(rf' (?:at|in) "{re.escape(str(path))}"', "", said)
        said = said.replace(f'"{path}"', path.parent.name + "/")
    return said


def _cause_and_cure(sentence: str) -> tuple[str, str]:
    """Split an error into what is wrong and what to do: our errors put the latter behind the last semicolon."""
    what, _, what_to_do = sentence.rpartition("; ")
    return what, what_to_do.rstrip(".")
