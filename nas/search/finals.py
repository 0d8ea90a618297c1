"""The finals of a search: which networks train to the final steps, from which seeds, and the verdict.

Short rungs tell which networks are worth a long training, and are wrong often enough that the choice between the best
found and the best published design must not rest on them. So a share of the budget trains a few of both alike, from
fresh weights: first each once, then the best of either kind from further seeds. Pure functions of what is known so far.
"""

import math
import statistics
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

from latency_models.comparison import Timed, deviation_of_difference_ms, probability_faster
from latency_models.device import load_device
from latency_models.kernels import network
from latency_models.samples import HeldOut
from nas.search.candidate import FULL_FINALS, Candidate, least_finals
from nas.search.known_designs import published_in
from nas.search.score import final_score
from nas.search.study import Study
from search_spaces.errors import IspNasError
from search_spaces.networks import build_graph
from search_spaces.space import load_space

SEEDS = FULL_FINALS  # from which the two who are compared are trained
FEWEST_SEEDS, MOST_SEEDS = 2, 5  # without which nothing is known of the noise, and where time is left
MOST_FOUND, MOST_DESIGNS = 4, 2
CONFIDENCE, DEVIATIONS_95 = 0.95, 1.96
# What seeds make of one network's PSNR: the root mean square of results/training and results/table, both data sets,
# default recipe. 300 steps 0.55 and 0.92, 900 steps 0.17 and 0.73, 2700 steps 0.12 and 0.25, 8100 steps 0.17 and
# 0.19 dB: it falls with the root of the steps. It counts as one more training, as networks differ widely in it.
SEED_DB, SEED_STEPS, SEED_FREEDOM = 0.18, 8100, 1
# Training pairs may be easier than validation pairs for every network alike; what one gains beyond another is not that.
OVERFITTED_DB = 0.5


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


def contenders_of(
    study: Study,
    *,
    seconds: Callable[[Candidate], float] = lambda _: 0.0,
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
    chosen = _eligible(study, busy) if not expected_db else _foremost(study, busy, expected_db)
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
        )
        for c in chosen
    ]


def _expected(candidate: Candidate, expected_db: Mapping[int, float]) -> float:
    assert candidate.highest is not None
    assert candidate.runtime_ms is not None
    return final_score(expected_db.get(candidate.trial, candidate.highest.psnr_db), candidate.runtime_ms)


def _foremost(study: Study, busy: Container[int], expected_db: Mapping[int, float]) -> list[Candidate]:
    """Return the candidates that have finals, and of the others the best of either kind by what is expected."""
    trained = [c for c in study.trained() if not c.failure]
    ranked = sorted(trained, key=lambda c: -_expected(c, expected_db))
    within = [c for c in trained if c.finals or c.final_failures or c.trial in busy]
    untried = [c for c in ranked if c not in within]
    within += [c for c in untried if c.name is None][:MOST_FOUND] + [c for c in untried if c.name][:MOST_DESIGNS]
    return sorted(within, key=lambda c: c.trial)


def _eligible(study: Study, busy: Container[int]) -> list[Candidate]:
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


def seeds_of(study: Study) -> list[int]:
    """Return the seeds of a study's finals, none of which the rungs have seen."""
    return [study.config.seed + number for number in range(1, MOST_SEEDS + 1)]


def verdict_of(study: Study) -> "Verdict | None":
    """Return the verdict of a study, None where it has no finals."""
    if study.config.final_steps is None:
        return None
    finalists = contenders_of(study)
    names = {c.trial: study.candidates[c.trial].name for c in finalists}
    found = verdict(finalists, names, steps=study.config.final_steps)
    found = _with_runtimes(study, found)
    notes = (overfitting(study, found), _of_runtimes(found), _of_dear_designs(study, found), _of_prior(study))
    return replace(found, sentence=" ".join(note for note in (found.sentence, *notes) if note))


def _with_runtimes(study: Study, found: "Verdict") -> "Verdict":
    """Return the verdict with what predicted runtimes leave open of it; as it is where the device is not as it was."""
    if found.found is None or found.design is None:
        return found
    with suppress(IspNasError):
        device = load_device(study.config.device)
        if device.digest == study.config.device_digest:
            pair = [network(build_graph(study.candidates[trial].spec)) for trial in (found.found, found.design)]
            ours, theirs = (Timed(seen, device.predict_network(seen)) for seen in pair)
            faster = probability_faster(ours, theirs, device.held_out)
            half = DEVIATIONS_95 * score_deviation(ours, theirs, device.held_out)
            return replace(found, probability_faster=faster, runtime_half_width=half)
    return found


def score_deviation(a: Timed, b: Timed, held_out: Sequence[HeldOut]) -> float:
    """Return by how much predicted runtimes leave the difference of two scores open, as a standard deviation."""
    difference_ms = deviation_of_difference_ms(a, b, held_out)
    fast, slow = sorted(each.prediction.runtime_ms for each in (a, b))
    # Per millisecond, where the score is steepest between both; it is flat below 30 ms.
    steps = [final_score(0.0, at) - final_score(0.0, at + difference_ms) for at in (fast, slow)]
    return max(steps)


def _of_runtimes(found: "Verdict") -> str:
    if found.runtime_half_width is None or found.probability_faster is None:
        return ""
    return (
        f"Runtimes are predicted: they add ± {found.runtime_half_width:.2f} to that, and trial {found.found} is faster "
        f"than {found.design_name} with a probability of {100 * found.probability_faster:.0f} %."
    )


def overfitting(study: Study, found: "Verdict") -> str:
    """Say by how much the best found fits its training pairs better than the design does; nothing where it does not."""
    if found.found is None or found.design is None:
        return ""
    ours, theirs = (study.candidates[trial].fitted_db for trial in (found.found, found.design))
    if ours is None or theirs is None or ours - theirs < OVERFITTED_DB:
        return ""
    return (
        f"Trial {found.found} overfits: its lead of training pairs over validation pairs is {ours - theirs:.1f} dB "
        f"larger than that of {found.design_name}; more pairs or a smaller network would help."
    )


def _of_dear_designs(study: Study, found: "Verdict") -> str:
    """Name the designs that were ahead of the one compared when both were trained alike, and were not in the finals."""
    if found.design is None:
        return ""
    compared, steps = study.candidates[found.design], study.config.rungs
    told = [
        f"{c.name} was ahead of it after {steps[rung]} steps"
        for c in study.designs
        if not c.finals and not c.failure and (rung := min(len(c.rungs), len(compared.rungs)) - 1) >= 0
        if c.score(rung) > compared.score(rung)
    ]
    return f"{' and '.join(told)}, and not trained to {found.steps} steps." if told else ""


def _of_prior(study: Study) -> str:
    names, untried = ", ".join(study.config.prior), _untried_designs(study)
    if not names:
        return ""
    left = f"; far behind there and not trained here: {', '.join(untried)}" if untried else ""
    return f"Proposals began with what was learned on other pairs ({names}){left}."


def _untried_designs(study: Study) -> list[str]:
    """Return the published designs of the space that the search left for a longer one."""
    tried = {candidate.name for candidate in study.designs}
    with suppress(IspNasError):  # a space that is no longer where it was
        return [design.name for design in published_in(load_space(study.config.space)) if design.name not in tried]
    return []


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
    leaders = _leaders(contenders) or entrants[:2]
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
        kept = SEEDS if waiting not in entrants[:2] else 0
        return sum(c.seconds * _missing(c, seeds[:kept]) for c in entrants[:2]), 1
    best = max(statistics.fmean(c.scores.values()) for c in leaders if not c.is_design)
    if not waiting.is_predicted or waiting.is_design or waiting.expected <= best:
        return sum(c.seconds * _missing(c, seeds[:SEEDS]) for c in leaders), 1
    of_design = sum(c.seconds * _missing(c, seeds[:FEWEST_SEEDS]) for c in leaders if c.is_design)
    return waiting.seconds + of_design, FEWEST_SEEDS


def early_final(contenders: Sequence[Contender], seeds: Sequence[int]) -> tuple[Final, float] | None:
    """Return the final that tells a running search most, with its seconds: of the best found that has none yet.

    The best design comes after the first one found, so that there is something to compare with.
    """
    found, designs = ([c for c in contenders if c.is_design is kind] for kind in (False, True))
    has_begun = [any(c.scores or c.taken for c in kind) for kind in (found, designs)]
    of = designs if has_begun == [True, False] else found
    untried = [c for c in of if not c.scores and not c.taken]
    if not untried:
        return None
    first = max(untried, key=lambda c: (c.expected, -c.trial))
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
    ranked = sorted(contenders, key=lambda c: (-c.reached, -c.expected, c.trial))
    found = [c for c in ranked if not c.is_design][:MOST_FOUND]
    designs = [c for c in ranked if c.is_design][:MOST_DESIGNS]
    turns = [each for pair in zip(found, designs, strict=False) for each in pair]
    return turns + found[len(designs) :] + designs[len(found) :]


def _is_ahead(contender: Contender, entrants: Sequence[Contender]) -> bool:
    """Tell whether more of this one's kind than of the other take part already: whoever is best changes meanwhile."""
    ours, theirs = (
        sum(bool(c.scores or c.taken) for c in entrants if (c.is_design is contender.is_design) is same)
        for same in (True, False)
    )
    return ours > theirs


def _leaders(entrants: Sequence[Contender]) -> list[Contender]:
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


@dataclass(frozen=True)
class Verdict:
    """Whether the best network found beats the best design, trained alike; differences in score."""

    outcome: str  # beats | ties | loses | undecided
    steps: int
    found: int | None  # trials
    design: int | None
    design_name: str | None
    difference: float | None
    half_width: float | None  # of the difference's interval of 95 %; None where no network was trained twice
    seeds: int  # that count, of the one with fewer: not the one that chose the best found among others
    sentence: str
    # Of the predicted runtimes alone; None where the device is no longer the study's.
    probability_faster: float | None = None  # that the best found takes less time than the design
    runtime_half_width: float | None = None  # of the difference's interval of 95 %

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict under the names that programs rely on."""
        return asdict(self)


def verdict(contenders: Sequence[Contender], names: Mapping[int, str | None], *, steps: int) -> Verdict:
    """Compare the best found with the best design: difference of means, and its interval.

    What chose a network flatters it. So where the best found was chosen among several by their first trainings, only
    its further ones count, and the interval is widened (Bonferroni) for each network found that has further ones.
    It is Student's, with the variance between seeds pooled over all networks that were trained more than once, and
    over what is known of it from other data (`SEED_DB`): a moderated t-statistic (Smyth 2004).
    """
    found, design = _compared(contenders)
    if found is None or design is None:
        return _undecided(found, design, names, steps)
    rivals = [c for c in contenders if not c.is_design and c.scores]
    ours, theirs = _unflattered(found, rivals), list(design.scores.values())
    again = sum(len(c.scores) >= FEWEST_SEEDS for c in rivals)
    of_one = _half_width_of_one([list(c.scores.values()) for c in contenders], steps, comparisons=again)
    half = None if of_one is None else of_one * math.sqrt(1 / len(ours) + 1 / len(theirs))
    difference, seeds = statistics.fmean(ours) - statistics.fmean(theirs), min(len(ours), len(theirs))
    if half is None or min(len(found.scores), len(design.scores)) < FEWEST_SEEDS:
        outcome = "undecided"
    else:
        outcome = "ties" if abs(difference) <= half else "beats" if difference > 0 else "loses"
    name = names[design.trial] or f"trial {design.trial}"
    interval = "" if half is None else f" ± {half:.2f}"
    fresh = "fresh " if len(ours) < len(found.scores) else ""
    sentence = _SENTENCES[outcome].format(
        trial=found.trial,
        name=name,
        by=f"{abs(difference):.2f}{interval}",
        signed=f"{difference:+.2f}{interval}",
        how=f"{seeds} {fresh}seed{'s' * (seeds > 1)}, {steps} steps",
    )
    return Verdict(outcome, steps, found.trial, design.trial, name, difference, half, seeds, sentence)


def _compared(contenders: Sequence[Contender]) -> tuple[Contender | None, Contender | None]:
    """Return the best found and the best design among those that were trained often enough."""
    counts = [[len(c.scores) for c in contenders if c.is_design is kind] for kind in (False, True)]
    leaders = _leaders([c for c in contenders if len(c.scores) >= least_finals(*counts)])
    of_kind = {leader.is_design: leader for leader in leaders}
    return of_kind.get(False), of_kind.get(True)


def _unflattered(found: Contender, rivals: Sequence[Contender]) -> list[float]:
    """Return the scores of the best found that did not choose it: all but the first where there were rivals."""
    scores = [found.scores[seed] for seed in sorted(found.scores)]
    return scores[1:] if len(rivals) > 1 and len(scores) > 1 else scores


_MORE = "a longer search or more pairs may find a better one"
_SENTENCES = {
    "beats": "Trial {trial} beats {name}, the best published design, by {by} in score ({how}).",
    "ties": "Nothing found beats {name}, the best published design, beyond the noise: trial {trial} differs from it by "
    f"{{signed}} in score ({{how}}); {_MORE}.",
    "loses": "{name}, the best published design, beats the best network found, trial {trial}, by {by} in score "
    f"({{how}}); {_MORE}.",
    "undecided": "Trial {trial} differs from {name}, the best published design, by {signed} in score ({how}), but one "
    "training of either tells too little of the noise; a longer search trains them from further seeds.",
}


def _undecided(
    found: Contender | None, design: Contender | None, names: Mapping[int, str | None], steps: int
) -> Verdict:
    missing = " and ".join(
        text for text, each in (("no network found", found), ("no published design", design)) if each is None
    )
    sentence = (
        f"Nothing was compared: {missing} was trained to {steps} steps in the finals. "
        "A longer --budget may suffice, or another --study with fewer --final-steps."
    )
    name = names[design.trial] if design else None
    first, second = (each.trial if each else None for each in (found, design))
    return Verdict("undecided", steps, first, second, name, None, None, 0, sentence)


def half_width_db(study: Study) -> float | None:
    """Return half of the interval of 95 % of one training's PSNR, from what finals differ by from seed to seed.

    That of a mean of n finals is √n times smaller. None where no network was trained to the final steps twice.
    """
    finalists = study.at_rung(study.final_rung)
    groups = [[final.psnr_db for final in c.finals.values()] for c in finalists]
    return _half_width_of_one(groups, study.config.final_steps or SEED_STEPS)


def _half_width_of_one(groups: Sequence[Sequence[float]], steps: int, *, comparisons: int = 1) -> float | None:
    """Return half of the interval of one value, by the variance within groups of one network each, pooled.

    None where no group has two: what other data say of the noise only steadies what is seen of it here.
    """
    repeated = [values for values in groups if len(values) > 1]
    freedom = sum(len(values) - 1 for values in repeated)
    if not freedom:
        return None
    from scipy.special import stdtrit  # SciPy's statistics take seconds to load

    squares = sum((len(values) - 1) * statistics.variance(values) for values in repeated)
    squares += SEED_FREEDOM * SEED_DB**2 * max(1.0, SEED_STEPS / steps)
    freedom += SEED_FREEDOM
    quantile = stdtrit(freedom, 1 - (1 - CONFIDENCE) / 2 / max(1, comparisons))
    return float(quantile * math.sqrt(squares / freedom))
