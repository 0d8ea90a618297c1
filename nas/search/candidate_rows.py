"""A study's candidates as rows: compared at equal steps, with the front marked."""

import math
from typing import Any

from nas.search import pareto, verdicts
from nas.search.candidate import CandidateRecord
from nas.search.study import StudyRecord
from search_spaces.errors import UsageError
from search_spaces.networks import build_graph


def choose_rung(study: StudyRecord, steps: int | None) -> int:
    """Return the rung to compare at: the one of `steps`, or the highest that three candidates reached.

    Raises UsageError where the study has no such rung, StudyError where nothing is trained.
    """
    if steps is None:
        return study.comparison_rung(finals=study.config.objective == "score")  # a front of finalists is none
    highest = study.highest_rung()
    ladder = study.ladder
    if steps not in ladder[: highest + 1]:
        known = ", ".join(map(str, ladder[: highest + 1]))
        raise UsageError(f"No candidate of study {study.config.name} was judged at {steps} steps; known: {known}.")
    return ladder.index(steps)


def best(study: StudyRecord) -> tuple[CandidateRecord, int]:
    """Return the best candidate and the rung whose figures are told of it: its longest training."""
    candidate = study.best()
    return candidate, longest_rung(study, candidate)


def longest_rung(study: StudyRecord, candidate: CandidateRecord) -> int:
    """Return the rung of a trained candidate's longest training, the one above the ladder where it has finals."""
    return study.final_rung if candidate.finals else max(candidate.rungs)


def rows(study: StudyRecord, rung: int, *, everything: bool = True, trial: int | None = None) -> list[dict[str, Any]]:
    """Return one row per candidate that reached `rung`, fastest first; `on_front` marks the Pareto front.

    Without `everything`, only those on the front, or with `trial` that one: what a row tells of a network costs a
    millisecond.
    """
    candidates = study.at_rung(rung)
    ranks = pareto.ranks([(c.at(rung).psnr_db, c.runtime_ms or 0.0) for c in candidates])
    chosen = ((c, rank == 0) for c, rank in zip(candidates, ranks, strict=True) if trial in (None, c.trial))
    half_db = verdicts.half_width_db(study, study.ladder[rung])
    made = [{**row(c, rung, half_db), "on_front": on_front} for c, on_front in chosen if everything or on_front]
    return sorted(made, key=lambda r: (r["runtime_ms"], r["trial"]))


def row(candidate: CandidateRecord, rung: int, half_width_db: float | None) -> dict[str, Any]:
    """Return what is known of a candidate at a rung, under the names that programs rely on.

    `half_width_db` is half of the interval of one training's PSNR (see `nas.search.verdicts`).
    """
    graph = build_graph(candidate.spec)
    return {
        "trial": candidate.trial,
        "name": candidate.name,
        **quality(candidate, rung, half_width_db),
        "runtime_ms": candidate.runtime_ms,
        "runtime_low_ms": candidate.runtime_low_ms,
        "runtime_high_ms": candidate.runtime_high_ms,
        "score": candidate.score(rung),
        "parameters": graph.parameters,
        "macs": graph.macs,
        "steps": candidate.at(rung).steps,
        "hash": candidate.spec.hash,
        "spec": candidate.spec.to_dict(),
    }


def quality(candidate: CandidateRecord, rung: int, half_width_db: float | None) -> dict[str, Any]:
    """Return what a candidate came to at a rung, with the interval of its PSNR; `half_width_db` as in `row`."""
    reached = candidate.at(rung)
    seeds = 1 if rung in candidate.rungs else len(candidate.finals)
    return {
        "psnr_db": reached.psnr_db,
        "psnr_half_width_db": None if half_width_db is None else half_width_db / math.sqrt(seeds),
        "seeds": seeds,
        "ssim": reached.ssim,
    }
