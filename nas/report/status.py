"""How studies stand: whether a search runs, how much of its budget is used, and what is best so far."""

import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nas.report.study_report import best_row, verdict
from nas.search import study as studies
from nas.search import workers_file
from nas.search.budget import read_budget
from nas.search.standing import counts
from nas.search.study import RECORDS_FILE, StudyRecord
from search_spaces.errors import IspNasError
from search_spaces.system import folder_lock


@dataclass(frozen=True)
class Clock:
    """What time it is, and whether a search runs: what the records cannot say."""

    now_s: float  # since 1970
    running: bool


def clock_of(folder: Path) -> Clock:
    """Look at the clock and at the study's lock."""
    return Clock(time.time(), folder_lock.is_held(folder))


def status(study: StudyRecord, clock: Clock) -> dict[str, Any]:
    """Return how a study stands, under the names that programs rely on."""
    judged = verdict(study)
    elapsed_s = _elapsed_s(study, clock)
    return {
        "study": study.folder.name,
        "folder": str(study.folder),
        "running": clock.running,
        "budget": _budget(study),
        "budget_share": _share(study, elapsed_s),
        "elapsed_s": elapsed_s,
        "sessions": len(study.sessions),
        "workers": study.last_workers,
        "crew": workers_file.read(study.folder, clock.now_s) if clock.running else None,
        "hosts": _hosts(study),
        "losses": len(study.losses),
        "silent_s": _age_s(study.folder, clock, study),
        "counts": counts(study, [c.trial for c in study.waiting.values()] if clock.running else ()),
        "begun": sorted(study.waiting) if clock.running else [],  # trials that have not come to their first rung
        "train_s": study.train_s,
        "compile_s": study.compile_s,
        "best": best_row(study),
        "verdict": judged.to_dict() if judged else None,
    }


def _hosts(study: StudyRecord) -> dict[str, dict[str, int]]:
    """Return the trainings and losses of every machine that records name."""
    lost = Counter(loss.host for loss in study.losses if loss.host is not None)
    return {
        host: {"trainings": study.trainings_on[host], "losses": lost[host]}
        for host in sorted({*study.trainings_on, *lost})
    }


def _budget(study: StudyRecord) -> str | None:
    return study.sessions[-1].budget if study.sessions else None


def _elapsed_s(study: StudyRecord, clock: Clock) -> float:
    """Return the seconds searched: while a search runs, up to now."""
    if not (clock.running and study.sessions and study.sessions[-1].began):
        return study.elapsed_s
    last = study.sessions[-1]
    assert last.began is not None
    since_s = datetime.fromtimestamp(clock.now_s, UTC) - datetime.fromisoformat(last.began)
    return max(study.elapsed_s, last.elapsed_s + since_s.total_seconds())


def _share(study: StudyRecord, elapsed_s: float) -> float | None:
    """Return how much of the last budget is used, None before any search."""
    if not study.sessions:
        return None
    budget = read_budget(study.sessions[-1].budget)
    if budget.candidates is not None:
        return min(1.0, study.finished / budget.candidates)
    return min(1.0, elapsed_s / budget.seconds) if budget.seconds else None


def _age_s(folder: Path, clock: Clock, study: StudyRecord | None) -> float | None:
    """Return the seconds since the last record, None without records.

    Once a search has ended, by what its records say: a copied file may have another time. While it runs, and where
    older records do not say when they began, by the file's time.
    """
    last = study.sessions[-1] if study and study.sessions else None
    try:
        written_s = (folder / RECORDS_FILE).stat().st_mtime
        if study and last and last.began and not clock.running:
            written_s = datetime.fromisoformat(last.began).timestamp() + study.elapsed_s - last.elapsed_s
    except OSError:
        return None
    return max(0.0, clock.now_s - written_s)


def listing(results: Path) -> list[dict[str, Any]]:
    """Return one row per study in a folder, the one used last first; a damaged one says what is wrong with it."""
    return [_listed(results / name) for name in reversed(studies.names(results))]


def _listed(folder: Path) -> dict[str, Any]:
    clock = clock_of(folder)
    row: dict[str, Any] = {"study": folder.name, "running": clock.running}
    try:
        study = studies.load(folder)
    except IspNasError as error:
        return row | {"age_s": _age_s(folder, clock, None)} | dict.fromkeys(LISTED) | {"problem": str(error)}
    best = best_row(study) or {}
    return row | {
        "age_s": _age_s(folder, clock, study),
        "budget": _budget(study),
        "elapsed_s": _elapsed_s(study, clock),
        "trained": len(study.trained()),
        "trial": best.get("trial"),
        "name": best.get("name"),
        "score": best.get("score"),
        "psnr_db": best.get("psnr_db"),
        "runtime_ms": best.get("runtime_ms"),
        "device": study.config.device,
        "problem": None,
    }


LISTED = ("budget", "elapsed_s", "trained", "trial", "name", "score", "psnr_db", "runtime_ms", "device")
