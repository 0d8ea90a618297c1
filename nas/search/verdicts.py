"""The verdict of a search: whether the best network found beats the best published design, and what limits that.

Both were trained alike in the finals. What a person must know to act on it follows the verdict: what predicted runtimes
leave open, which networks overfit, which designs were not trained, and why.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

from latency_models.comparison import Timed, deviation_of_difference_ms, probability_faster
from latency_models.device import load_device
from latency_models.kernels import network
from latency_models.samples import HeldOut
from nas.search.candidate import least_finals
from nas.search.finals import FEWEST_SEEDS, Contender, contenders_of, leaders_of
from nas.search.known_designs import published_in
from nas.search.score import final_score
from nas.search.study import StudyRecord
from search_spaces.errors import IspNasError
from search_spaces.networks import build_graph
from search_spaces.space import load_space

CONFIDENCE, DEVIATIONS_95 = 0.95, 1.96
# What seeds make of one network's PSNR: the root mean square of results/training and results/table, both data sets,
# default recipe. 300 steps 0.55 and 0.92, 900 steps 0.17 and 0.73, 2700 steps 0.12 and 0.25, 8100 steps 0.17 and
# 0.19 dB: it falls with the root of the steps. It counts as one more training, as networks differ widely in it.
SEED_DB, SEED_STEPS, SEED_FREEDOM = 0.18, 8100, 1
# Training pairs may be easier than validation pairs for every network alike; what one gains beyond another is not that.
OVERFITTED_DB = 0.5
# Unless all gain so much: finalists of the demo set gain −0.4 to 0, of 90 pairs of real sensors 1.2 to 2.4 dB, of four
# of these pairs 2.8 to 5.7.
ALL_OVERFITTED_DB = 2.6


def verdict_of(study: StudyRecord) -> "Verdict | None":
    """Return the verdict of a study, None where it has no finals."""
    if study.config.final_steps is None:
        return None
    finalists = contenders_of(study)
    names = {c.trial: study.candidates[c.trial].name for c in finalists}
    result = verdict(finalists, names, steps=study.config.final_steps)
    result = _with_runtimes(study, result)
    left = left_designs(study)
    if result.design is None and not left.are_trainable and study.trained():
        result = replace(result, sentence=_without_designs(study))
    notes = (
        overfitting(study, result),
        _of_runtimes(result),
        _of_shorter_designs(study, result),
        _of_prior(study, left),
        _of_left_designs(left),
    )
    return replace(result, sentence=" ".join(note for note in (result.sentence, *notes) if note))


@dataclass(frozen=True)
class LeftDesigns:
    """The published designs that a search did not train, by the reason; names."""

    far: tuple[str, ...]  # far behind on other pairs
    late: tuple[str, ...]  # there was no budget for them
    over: tuple[str, ...]  # the limits
    are_trainable: bool  # whether any design is within the limits: one of these, or one that was trained


def left_designs(study: StudyRecord) -> LeftDesigns:
    """Return the designs of the space that the device runs and the search did not train.

    Records of earlier versions do not tell which of them were far behind on other pairs: all are late then.
    """
    tried, over, unsupported = (
        {c.name for c in study.designs if c.verdict == verdict} for verdict in ("train", "infeasible", "unsupported")
    )
    kinds = _recorded_kinds(study) or {"likely": _published(study), "unlikely": (), "refused": ()}
    far, late = (
        tuple(name for name in kinds[kind] if name not in tried | over | unsupported) for kind in ("unlikely", "likely")
    )
    all_over = tuple(dict.fromkeys([*kinds["refused"], *sorted(filter(None, over))]))
    return LeftDesigns(far, late, all_over, bool(far or late or tried))


def _recorded_kinds(study: StudyRecord) -> Mapping[str, Sequence[str]]:
    """Return the names of designs by what was expected of them, as the last session wrote it; empty where none did."""
    return next((s.designs for s in reversed(study.sessions) if s.designs is not None), {})


def _published(study: StudyRecord) -> list[str]:
    with suppress(IspNasError):  # a space or a device that is no longer where it was
        space, device = load_space(study.config.space), load_device(study.config.device)
        allowed = study.config.allow_fallback
        runs = (
            d for d in published_in(space) if not device.refusal(network(build_graph(d.spec)), allow_fallback=allowed)
        )
        return [design.name for design in runs]
    return []


def _with_runtimes(study: StudyRecord, result: "Verdict") -> "Verdict":
    """Return the verdict with what predicted runtimes leave open of it; as it is where the device is not as it was."""
    if result.found is None or result.design is None:
        return result
    with suppress(IspNasError):
        device = load_device(study.config.device)
        if device.digest == study.config.device_digest:
            pair = [network(build_graph(study.candidates[trial].spec)) for trial in (result.found, result.design)]
            ours, theirs = (Timed(seen, device.predict_network(seen)) for seen in pair)
            faster = probability_faster(ours, theirs, device.held_out)
            half = DEVIATIONS_95 * score_deviation(ours, theirs, device.held_out)
            return replace(result, probability_faster=faster, runtime_half_width=half)
    return result


def score_deviation(a: Timed, b: Timed, held_out: Sequence[HeldOut]) -> float:
    """Return by how much predicted runtimes leave the difference of two scores open, as a standard deviation."""
    difference_ms = deviation_of_difference_ms(a, b, held_out)
    fast, slow = sorted(each.prediction.runtime_ms for each in (a, b))
    # Per millisecond, where the score is steepest between both; it is flat below 30 ms.
    steps = [final_score(0.0, at) - final_score(0.0, at + difference_ms) for at in (fast, slow)]
    return max(steps)


def _of_runtimes(result: "Verdict") -> str:
    if result.runtime_half_width is None or result.probability_faster is None:
        return ""
    return (
        f"Runtimes are predicted: they add ± {result.runtime_half_width:.2f} to that, and trial {result.found} is "
        f"faster than {result.design_name} with a probability of {100 * result.probability_faster:.0f} %."
    )


def overfitting(study: StudyRecord, result: "Verdict") -> str:
    """Say by how much the best found fits its training pairs better than the design does, or all finalists do."""
    compared = [trial for trial in (result.found, result.design) if trial is not None]
    gaps = [gap for trial in compared if (gap := study.candidates[trial].fitted_db) is not None]
    if gaps and min(gaps) >= ALL_OVERFITTED_DB:
        return (
            f"Networks overfit these pairs: training pairs come out {min(gaps):.1f} dB better than validation pairs or "
            "more; more training pairs would help, or validation pairs like them."
        )
    if len(gaps) < 2 or gaps[0] - gaps[1] < OVERFITTED_DB:
        return ""
    ours, theirs = gaps
    return (
        f"Trial {result.found} overfits: its lead of training pairs over validation pairs is {ours - theirs:.1f} dB "
        f"larger than that of {result.design_name}; more pairs or a smaller network would help."
    )


def _of_shorter_designs(study: StudyRecord, result: "Verdict") -> str:
    """Name the designs that may be better than the one compared, and were not in the finals.

    They were ahead of it when both were trained alike, or are about as good on other pairs.
    """
    if result.design is None:
        return ""
    compared, steps = study.candidates[result.design], study.config.rungs
    shorter = {c.name: c for c in study.designs if not c.finals and not c.failure and c.rungs}
    ahead = {
        name: f"{name} was ahead of it after {steps[rung]} steps"
        for name, c in shorter.items()
        if (rung := min(len(c.rungs), len(compared.rungs)) - 1) >= 0 and c.score(rung) > compared.score(rung)
    }
    likely = _recorded_kinds(study).get("likely", ()) if study.config.prior else ()
    alike = ", ".join(name for name in likely if name in shorter and name not in ahead)
    sentences = [f"{' and '.join(ahead.values())}, and not trained to {result.steps} steps."] if ahead else []
    if alike:
        sentences.append(f"About as good on other pairs, but not trained to {result.steps} steps: {alike}.")
    return " ".join(sentences)


def _of_prior(study: StudyRecord, left: LeftDesigns) -> str:
    names = ", ".join(study.config.prior)
    if not names or len(study.designs) == len(study.candidates):
        return ""
    far = f" Not trained, because far behind there: {', '.join(left.far)}." if left.far else ""
    return f"Proposals used a prior from other pairs ({names}).{far}"


def _of_left_designs(left: LeftDesigns) -> str:
    late = f"Designs that the budget left no room for: {', '.join(left.late)}." if left.late else ""
    over = f"Designs over the limits: {', '.join(left.over)}." if left.over else ""
    return " ".join(filter(None, (late, over)))


def _without_designs(study: StudyRecord) -> str:
    """Return the verdict of a search in which no design could take part."""
    rung = study.comparison_rung()
    best, steps = study.best(), study.ladder[rung]
    return (
        "Nothing was compared: no published design is within the limits and in the space. The best network found is "
        f"trial {best.trial}, with a score of {best.score(rung):.2f} at {steps} steps."
    )


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
    finalist, design = _compared(contenders)
    if finalist is None or design is None:
        return _undecided(finalist, design, names, steps)
    rivals = [c for c in contenders if not c.is_design and c.scores]
    ours, theirs = _unflattered(finalist, rivals), list(design.scores.values())
    again = sum(len(c.scores) >= FEWEST_SEEDS for c in rivals)
    of_one = _half_width_of_one([list(c.scores.values()) for c in contenders], steps, comparisons=again)
    half = None if of_one is None else of_one * math.sqrt(1 / len(ours) + 1 / len(theirs))
    difference, seeds = statistics.fmean(ours) - statistics.fmean(theirs), min(len(ours), len(theirs))
    if half is None or min(len(finalist.scores), len(design.scores)) < FEWEST_SEEDS:
        outcome = "undecided"
    else:
        outcome = "ties" if abs(difference) <= half else "beats" if difference > 0 else "loses"
    name = names[design.trial] or f"trial {design.trial}"
    interval = "" if half is None else f" ± {half:.2f}"
    fresh = "fresh " if len(ours) < len(finalist.scores) else ""
    sentence = _SENTENCES[outcome].format(
        trial=finalist.trial,
        name=name,
        by=f"{abs(difference):.2f}{interval}",
        signed=f"{difference:+.2f}{interval}",
        how=f"{seeds} {fresh}seed{'s' * (seeds > 1)}, {steps} steps",
    )
    return Verdict(outcome, steps, finalist.trial, design.trial, name, difference, half, seeds, sentence)


def _compared(contenders: Sequence[Contender]) -> tuple[Contender | None, Contender | None]:
    """Return the best found and the best design among those that were trained often enough."""
    counts = [[len(c.scores) for c in contenders if c.is_design is kind] for kind in (False, True)]
    leaders = leaders_of([c for c in contenders if len(c.scores) >= least_finals(*counts)])
    of_kind = {leader.is_design: leader for leader in leaders}
    return of_kind.get(False), of_kind.get(True)


def _unflattered(finalist: Contender, rivals: Sequence[Contender]) -> list[float]:
    """Return the scores of the best found that did not choose it: all but the first where there were rivals."""
    scores = [finalist.scores[seed] for seed in sorted(finalist.scores)]
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
    finalist: Contender | None, design: Contender | None, names: Mapping[int, str | None], steps: int
) -> Verdict:
    missing = " and ".join(
        text for text, each in (("no network found", finalist), ("no published design", design)) if each is None
    )
    sentence = (
        f"Nothing was compared: {missing} was trained to {steps} steps in the finals. "
        "A longer --budget or a larger --final-share may suffice, or another --study with fewer --final-steps."
    )
    name = names[design.trial] if design else None
    first, second = (each.trial if each else None for each in (finalist, design))
    return Verdict("undecided", steps, first, second, name, None, None, 0, sentence)


def half_width_db(study: StudyRecord, steps: int | None = None) -> float | None:
    """Return half of the interval of 95 % of one training's PSNR, from what finals differ by from seed to seed.

    After fewer `steps` it is larger by the root of how many times fewer they are, as `SEED_DB` has it. That of a mean
    of n finals is √n times smaller. None where no network was trained to the final steps twice.
    """
    finalists, finally_ = study.at_rung(study.final_rung), study.config.final_steps or SEED_STEPS
    groups = [[final.psnr_db for final in c.finals.values()] for c in finalists]
    half = _half_width_of_one(groups, finally_)
    return None if half is None else half * math.sqrt(max(1.0, finally_ / (steps or finally_)))


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
