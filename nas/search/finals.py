"""The finals of a search: which networks train to the final steps, from which seeds, and the verdict.

Short rungs tell which networks are worth a long training, and are wrong often enough that the choice between the best
found and the best published design must not rest on them. So a share of the budget trains a few of both alike, from
fresh weights: first each once, then the best of either kind from further seeds. Pure functions of what is known so far.
"""

import math
import statistics
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from nas.search.candidate import FULL_FINALS, CandidateRecord
from nas.search.improvement import OfFront, Vector, corner_of
from nas.search.score import final_score
from nas.search.study import StudyRecord

SEEDS = FULL_FINALS  # from which the two who are compared are trained
FEWEST_SEEDS, MOST_SEEDS = 2, 5  # without which nothing is known of the noise, and where time is left
MOST_FOUND, MOST_DESIGNS = 4, 2


@dataclass(frozen=True)
class Contender:
    """A candidate that could be in the finals; scores are the challenge's."""

    trial: int
    is_design: bool
    expected: float  # score at the final steps as predicted, or at the highest rung; higher is better
    reached: int  # the highest rung; 0 for all where a model predicts what is expected from any rung
    seconds: float  # that one final takes
    scores: Mapping[int, float]  # of finals that are done, by seed
    taken: frozenset[int] = frozenset()  # seeds that are in training, or failed
    is_predicted: bool = False  # whether `expected` is of the final steps
    preference: int = 0  # of its kind the highest come first, of equal ones the highest `expected`


def contenders_of(
    study: StudyRecord,
    *,
    seconds: Callable[[CandidateRecord], float] = lambda _: 0.0,
    taken: Iterable[tuple[int, int]] = (),
    expected_db: Mapping[int, float] | None = None,
) -> list[Contender]:
    """Return who is in the finals of a study or may come next; `taken` are (trial, seed) in training now.

    `expected_db` is PSNR at the final steps by trial, where a model predicts it from any rung; else the highest rung
    counts.
    """
    busy: dict[int, set[int]] = {}
    for trial, seed in taken:
        busy.setdefault(trial, set()).add(seed)
    if expected_db:
        chosen = _foremost(study, busy, expected_db)
    else:
        chosen = [(candidate, 0) for candidate in _eligible(study, busy)]
    return [
        Contender(
            c.trial,
            c.name is not None,
            _expected(c, expected_db or {}),
            0 if expected_db else max(c.rungs),
            seconds(c),
            c.final_scores(),
            frozenset(busy.get(c.trial, ())) | c.final_failures.keys(),
            is_predicted=bool(expected_db),
            preference=preference,
        )
        for c, preference in chosen
    ]


def _point(candidate: CandidateRecord, expected_db: Mapping[int, float]) -> tuple[float, float]:
    """Return PSNR in dB as it is expected, and the runtime in ms."""
    assert candidate.highest is not None
    assert candidate.runtime_ms is not None
    return expected_db.get(candidate.trial, candidate.highest.psnr_db), candidate.runtime_ms


def _expected(candidate: CandidateRecord, expected_db: Mapping[int, float]) -> float:
    return final_score(*_point(candidate, expected_db))


def _foremost(
    study: StudyRecord, busy: Container[int], expected_db: Mapping[int, float]
) -> list[tuple[CandidateRecord, int]]:
    """Return the candidates that have finals, and of the others the best of either kind, with their preferences."""
    trained = [c for c in study.trained() if not c.failure]
    ranked = sorted(trained, key=lambda c: -_expected(c, expected_db))
    within = [c for c in trained if c.finals or c.final_failures or c.trial in busy]
    untried = [c for c in ranked if c not in within]
    found, designs = ([c for c in untried if (c.name is not None) is kind] for kind in (False, True))
    preferences: dict[int, int] = {}
    if study.config.objective == "pareto" and found:
        corner = corner_of(*_columns(trained, expected_db))
        found = [*islice(_widening(within, found, expected_db, corner), MOST_FOUND)]
        preferences = {c.trial: MOST_FOUND - place for place, c in enumerate(found)}
        leader = next((c for c in ranked if c.name is None and c in within), None)
        preferences |= {leader.trial: MOST_FOUND + 1} if leader else {}
    within += found[:MOST_FOUND] + designs[:MOST_DESIGNS]
    return [(c, preferences.get(c.trial, 0)) for c in sorted(within, key=lambda c: c.trial)]


def _widening(
    entered: Sequence[CandidateRecord],
    untried: Sequence[CandidateRecord],
    expected_db: Mapping[int, float],
    corner: tuple[float, float],
) -> Iterator[CandidateRecord]:
    """Yield whoever is expected to have the best score, if none of those found has, then what adds most to the front.

    Each with those before it on the front. `untried` are ranked by what is expected, the best first.
    """
    chosen, left = list(entered), list(untried)
    while left:
        best = max((_expected(c, expected_db) for c in chosen if c.name is None), default=-math.inf)
        if _expected(left[0], expected_db) > best:
            place = 0
        else:
            psnr_db, runtime_ms = _columns(left, expected_db)
            front = OfFront(*_columns(chosen, expected_db), corner)
            place = int(np.argmax(front.expected(psnr_db, np.zeros(len(left)), runtime_ms)))
        chosen.append(left.pop(place))
        yield chosen[-1]


def _columns(candidates: Sequence[CandidateRecord], expected_db: Mapping[int, float]) -> tuple[Vector, Vector]:
    points = np.array([_point(candidate, expected_db) for candidate in candidates])
    return points[:, 0], points[:, 1]


def _eligible(study: StudyRecord, busy: Container[int]) -> list[CandidateRecord]:
    """Return the candidates that have finals, and of the others those among which the next ones must be."""
    within = {c.trial: c for c in study.at_rung(study.final_rung)}
    counts = {True: 0, False: 0}  # of designs and of others
    for rung in range(study.final_rung - 1, -1, -1):
        if counts[True] >= MOST_DESIGNS and counts[False] >= MOST_FOUND:
            break
        for candidate in study.at_rung(rung):
            if len(candidate.rungs) == rung + 1 and not candidate.failure:
                counts[candidate.name is not None] += 1
                within[candidate.trial] = candidate
    within |= {c.trial: c for c in study.trained() if c.trial in busy or c.final_failures}
    return [c for _, c in sorted(within.items()) if not c.failure]


def affordable(contenders: Sequence[Contender], seconds: float) -> list[Contender]:
    """Leave out networks that cannot be compared in that time, where others of their kind can.

    A comparison takes two trainings of either side; the other side's cheapest network stands for it. A design that is
    dear to train would keep the finals from comparing anything with the others.
    """

    def compared_s(contender: Contender) -> float:
        opposite = [c.seconds for c in contenders if c.is_design is not contender.is_design]
        return FEWEST_SEEDS * (contender.seconds + min(opposite, default=0.0))

    fitting = [c for c in contenders if c.scores or c.taken or compared_s(c) <= seconds]
    kinds = {c.is_design for c in fitting}
    return [c for c in contenders if c in fitting or c.is_design not in kinds]


def seeds_of(study: StudyRecord) -> list[int]:
    """Return the seeds of a study's finals, none of which the rungs have seen."""
    return [study.config.seed + number for number in range(1, MOST_SEEDS + 1)]


@dataclass(frozen=True)
class Final:
    """One training of the finals."""

    trial: int
    seed: int


def next_final(
    contenders: Sequence[Contender], seeds: Sequence[int], *, left_s: float, workers: int = 1
) -> Final | None:
    """Return the next final that fits into the seconds that are left, None where none does or all are done.

    The best found and the best design come first, then further ones as far as two more trainings for either leader
    remain possible, or one for a network that is predicted to be better than the best found; then the leaders from
    further seeds. A second network of a kind waits for the first of the other.
    """
    entrants = _entrants(contenders)
    # Where nobody has a score yet, idle workers train the first two from further seeds.
    leaders = leaders_of(contenders) or entrants[:2]
    for waiting in sorted(entrants, key=lambda c: _is_ahead(c, entrants)):
        if waiting.scores or waiting.taken:
            continue
        reserved_s, rounds = _reserved(waiting, entrants, leaders, seeds)
        if waiting.seconds + reserved_s <= workers * left_s and rounds * waiting.seconds <= left_s:
            return Final(waiting.trial, seeds[0])
    affordable = (f for f, seconds in _repeats(leaders, seeds) if seconds <= left_s)
    return next(affordable, None)


def _reserved(
    waiting: Contender, entrants: Sequence[Contender], leaders: Sequence[Contender], seeds: Sequence[int]
) -> tuple[float, int]:
    """Return the seconds that must remain where one more network is trained, and how many rounds must fit.

    A second training of the one that may then be the best has to fit, or nothing is known of the noise.
    """
    if not {True, False} <= {c.is_design for c in leaders if c.scores}:
        seed_count = SEEDS if waiting not in entrants[:2] else 0
        return sum(c.seconds * _missing(c, seeds[:seed_count]) for c in entrants[:2]), 1
    best = max(statistics.fmean(c.scores.values()) for c in leaders if not c.is_design)
    if not waiting.is_predicted or waiting.is_design or waiting.expected <= best:
        return sum(c.seconds * _missing(c, seeds[:SEEDS]) for c in leaders), 1
    of_design = sum(c.seconds * _missing(c, seeds[:FEWEST_SEEDS]) for c in leaders if c.is_design)
    return waiting.seconds + of_design, FEWEST_SEEDS


def early_final(contenders: Sequence[Contender], seeds: Sequence[int]) -> tuple[Final, float] | None:
    """Return the final that tells a running search most, with its seconds: of the best found that has none yet.

    The best design comes after the first one found, so that there is something to compare with.
    """
    others, designs = ([c for c in contenders if c.is_design is kind] for kind in (False, True))
    has_begun = [any(c.scores or c.taken for c in kind) for kind in (others, designs)]
    of = designs if has_begun == [True, False] else others
    untried = [c for c in of if not c.scores and not c.taken]
    if not untried:
        return None
    first = max(untried, key=lambda c: (c.preference, c.expected, -c.trial))
    return Final(first.trial, seeds[0]), first.seconds


def plan_s(contenders: Sequence[Contender], *, workers: int = 1) -> float:
    """Return the seconds that the whole finals take from here: never less than two rounds, one after the other."""
    entrants = _entrants(contenders)
    firsts = sum(c.seconds for c in entrants if not c.scores and not c.taken)
    further = max((c.seconds for c in entrants if not c.is_design), default=0.0)
    further += max((c.seconds for c in entrants if c.is_design), default=0.0)
    longest = max((c.seconds for c in entrants), default=0.0)
    return max((firsts + further * (SEEDS - 1)) / workers, 2 * longest)


def rounds_s(contenders: Sequence[Contender], *, workers: int = 1) -> float:
    """Return the seconds in which the first two finalists are trained from two seeds each."""
    one = sum(c.seconds for c in _entrants(contenders)[:2]) / min(workers, 2)
    return 2 * max(one, least_s(contenders))


def least_s(contenders: Sequence[Contender]) -> float:
    """Return the seconds of the longer of the first two finals, without which nothing is compared."""
    return max((c.seconds for c in _entrants(contenders)[:2]), default=0.0)


def _entrants(contenders: Sequence[Contender]) -> list[Contender]:
    """Return the best found and the best design, then the next of either in turns."""
    ranked = sorted(contenders, key=lambda c: (-c.reached, -c.preference, -c.expected, c.trial))
    others = [c for c in ranked if not c.is_design][:MOST_FOUND]
    designs = [c for c in ranked if c.is_design][:MOST_DESIGNS]
    turns = [each for pair in zip(others, designs, strict=False) for each in pair]
    return turns + others[len(designs) :] + designs[len(others) :]


def _is_ahead(contender: Contender, entrants: Sequence[Contender]) -> bool:
    """Tell whether more of this one's kind than of the other take part already: the leader may change during finals."""
    ours, theirs = (
        sum(bool(c.scores or c.taken) for c in entrants if (c.is_design is contender.is_design) is same)
        for same in (True, False)
    )
    return ours > theirs


def leaders_of(entrants: Sequence[Contender]) -> list[Contender]:
    """Return the best found and the best design so far: by mean score of finals."""
    trained = [c for c in entrants if c.scores]
    kinds = ([c for c in trained if c.is_design is kind] for kind in (False, True))
    return [max(each, key=lambda c: (statistics.fmean(c.scores.values()), -c.trial)) for each in kinds if each]


def _repeats(leaders: Sequence[Contender], seeds: Sequence[int]) -> Iterator[tuple[Final, float]]:
    """Yield the leaders from further seeds: both twice, then so that as many count of either in the verdict.

    The design comes first, as the best found may yet change; of the best found the first training may not count.
    """
    turns = [
        (number if leader.is_design else max(FEWEST_SEEDS, number - 1), not leader.is_design, number, leader)
        for leader in leaders
        for number in range(1, len(seeds) + 1)
    ]
    for *_, number, leader in sorted(turns, key=lambda turn: turn[:3]):
        seed = seeds[number - 1]
        if seed not in leader.scores and seed not in leader.taken:
            yield Final(leader.trial, seed), leader.seconds


def _missing(contender: Contender, seeds: Sequence[int]) -> int:
    return sum(seed not in contender.scores and seed not in contender.taken for seed in seeds)
