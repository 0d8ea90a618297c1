"""The proposals of a study as rows: what each is, and what it came to at every number of training steps."""

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from nas.search import pareto, verdicts
from nas.search.candidate import CandidateRecord
from nas.search.candidate_rows import quality
from nas.search.score import final_score
from nas.search.study import StudyRecord
from search_spaces.networks import build_graph

MOST_FINALISTS = 8
_RUNTIMES_DRAWN = 240
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_MOST_TRIALS_NAMED = 12


def candidate_rows(study: StudyRecord) -> list[dict[str, Any]]:
    """Return one row per proposal, by trial."""
    marks = _marks(study)
    return [_row(candidate, marks[candidate.trial]) for candidate in study.candidates.values()]


def _row(candidate: CandidateRecord, marks: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """Return what is known of a proposal; `at` holds by training steps what `isp-nas pareto --steps` tells."""
    spec = candidate.spec
    graph = build_graph(spec) if marks else None
    return {
        "trial": candidate.trial,
        "name": candidate.name,
        "network": spec.description,
        "hash": spec.hash,
        "verdict": candidate.verdict,
        "reason": candidate.failure or candidate.reason,
        "duplicate_of": candidate.duplicate_of,
        "runtime_ms": candidate.runtime_ms,
        "runtime_low_ms": candidate.runtime_low_ms,
        "runtime_high_ms": candidate.runtime_high_ms,
        "peak_memory_mb": candidate.peak_memory_mb,
        "parameters": graph.parameters if graph else None,
        "macs": graph.macs if graph else None,
        "genes": dict(spec.active_genes),
        "at": marks,
        "history": [asdict(rung) for rung in candidate.rungs.values()],
        "finals": [{"seed": seed, **asdict(final)} for seed, final in candidate.finals.items()],
    }


def _marks(study: StudyRecord) -> dict[int, dict[int, dict[str, Any]]]:
    """Return by trial and training steps what a candidate was worth there, and whether it was on the front."""
    marks: dict[int, dict[int, dict[str, Any]]] = defaultdict(dict)
    for rung, steps in enumerate(study.ladder):
        reached, half_db = study.at_rung(rung), verdicts.half_width_db(study, steps)
        points = [(c.at(rung).psnr_db, c.runtime_ms or 0.0) for c in reached]
        for candidate, rank in zip(reached, pareto.ranks(points), strict=True):
            marks[candidate.trial][steps] = {
                **quality(candidate, rung, half_db),
                "score": candidate.score(rung),
                "on_front": rank == 0,
            }
    return marks


def score_offsets(runtimes_ms: Sequence[float]) -> list[tuple[float, float]]:
    """Return what the challenge's score adds to PSNR over the range of some runtimes: lines of equal score."""
    known = [ms for ms in runtimes_ms if ms > 0]
    if not known:
        return []
    low, high = math.log(min(known) / 2), math.log(max(known) * 2)
    grid = [math.exp(low + (high - low) * i / (_RUNTIMES_DRAWN - 1)) for i in range(_RUNTIMES_DRAWN)]
    return [(ms, final_score(0.0, ms)) for ms in grid]


def finalists(study: StudyRecord) -> list[int]:
    """Return the trials whose learning curves are drawn: those with finals, else the best at the highest rung.

    Those come first that are compared, by their scores, then those of fewer finals than that needs.
    """
    if not study.trained():
        return []
    within = study.at_rung(study.final_rung)
    if within:
        compared = {c.trial for c in study.compared()}
        ranked = sorted(within, key=lambda c: (c.trial not in compared, -c.score(study.final_rung)))
        return [c.trial for c in ranked]
    rung = study.highest_rung()
    ranked = sorted(study.at_rung(rung), key=lambda c: -c.score(rung))
    return [c.trial for c in ranked[:MOST_FINALISTS]]


def refused_by_reason(study: StudyRecord) -> list[dict[str, Any]]:
    """Count what was not trained by its reason, the most frequent first; only numbers may differ within one."""
    groups: dict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
    for candidate in study.candidates.values():
        for kind, reason in _reasons(candidate):
            groups[kind, _NUMBER.sub("…", reason)].append((candidate.trial, reason))
    counted = (
        {
            "kind": kind,
            "reason": _in_common([reason for _, reason in members]),
            "count": len(members),
            "trials": [trial for trial, _ in members[:_MOST_TRIALS_NAMED]],
        }
        for (kind, _), members in groups.items()
    )
    return sorted(counted, key=lambda row: (-row["count"], row["kind"], row["reason"]))


def _in_common(reasons: Sequence[str]) -> str:
    """Return reasons that differ in numbers alone as one: numbers that all have stay, others become dots."""
    numbers = zip(*(_NUMBER.findall(reason) for reason in reasons), strict=True)
    shown = iter([each[0] if len(set(each)) == 1 else "…" for each in numbers])
    return _NUMBER.sub(lambda _: next(shown), reasons[0])


KINDS = {
    "infeasible": "over a limit",
    "unsupported": "not runnable on the device",
    "duplicate": "a repeat of a network asked for before",
}


def _reasons(candidate: CandidateRecord) -> list[tuple[str, str]]:
    reasons = [("training failed", candidate.failure)] if candidate.failure else []
    if candidate.verdict in KINDS:
        repeated = "" if candidate.duplicate_of is None else "its result is shared"
        reasons.append((KINDS[candidate.verdict], candidate.reason or repeated))
    reasons += [("a final failed", reason) for reason in candidate.final_failures.values()]
    return reasons
