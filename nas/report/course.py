"""The course of a search, from its records: what was best when, and where the time went."""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from nas.report.data import Anytime, Row, Spending
from nas.search.score import final_score

_SECONDS = ("train_s", "compile_s", "evaluate_s")
TRAININGS = ("rung", "final")
Corner = tuple[float, float]  # PSNR in dB, runtime in ms


def corner_of(events: Iterable[Row], runtimes_ms: Mapping[int, float]) -> Corner | None:
    """Return the lowest PSNR (dB) of any training and the greatest runtime (ms), None before anything is trained."""
    trainings = [event for event in events if event["event"] in TRAININGS]
    if not trainings:
        return None
    return min(e["psnr_db"] for e in trainings), max(runtimes_ms[e["trial"]] for e in trainings)


def anytime(events: Sequence[Row], runtimes_ms: Mapping[int, float], corner: Corner | None = None) -> Anytime:
    """Return the best score and the hypervolume after every training that changed one of them.

    A candidate counts as it was at its longest training so far; of several finals the mean counts. The hypervolume is
    the area, in dB · ms, between the front and a corner: by default the one of `corner_of`.
    """
    trainings = [event for event in events if event["event"] in TRAININGS]
    corner = corner or corner_of(trainings, runtimes_ms)
    if not trainings or corner is None:
        return Anytime()
    standing, finals_db = _Standing(corner), defaultdict[int, list[float]](list)
    rows: list[Row] = []
    finished: set[int] = set()
    for event in trainings:
        trial = event["trial"]
        finished.add(trial)
        if event["event"] == "final":
            finals_db[trial].append(event["psnr_db"])
        standing.put(trial, fmean(finals_db[trial] or [event["psnr_db"]]), runtimes_ms[trial])
        row = {"score": standing.score, "hypervolume": standing.hypervolume}
        if not rows or any(rows[-1][name] != value for name, value in row.items()):
            rows.append({"elapsed_s": event["elapsed_s"], "candidates": len(finished), **row})
    last = {"elapsed_s": trainings[-1]["elapsed_s"], "candidates": len(finished)}
    rows.append({**rows[-1], **last})
    return Anytime(rows, *corner)


class _Standing:
    """Qualities that change one by one, with the best score and the area under their front."""

    def __init__(self, corner: Corner) -> None:
        self._corner = corner
        self._points: dict[int, tuple[float, float]] = {}  # (ms, PSNR) by trial
        self._front: list[tuple[float, float]] = []  # by rising runtime and PSNR
        self.score = float("-inf")
        self.hypervolume = 0.0

    def put(self, trial: int, psnr_db: float, runtime_ms: float) -> None:
        before = self._points.get(trial)
        self._points[trial] = point = runtime_ms, psnr_db
        if before is not None and before[1] > psnr_db:  # seeds differ: a mean may fall
            self._front = []
            for each in self._points.values():
                self._add(each)
            self.score = max(final_score(psnr, ms) for ms, psnr in self._points.values())
        else:
            self._add(point)
            self.score = max(self.score, final_score(psnr_db, runtime_ms))
        self.hypervolume = self._area()

    def _add(self, point: tuple[float, float]) -> None:
        place = bisect_left(self._front, point)
        if place and self._front[place - 1][1] >= point[1]:
            return
        if place < len(self._front) and self._front[place][0] == point[0] and self._front[place][1] >= point[1]:
            return
        self._front = [each for each in self._front if not (each[0] >= point[0] and each[1] <= point[1])]
        insort(self._front, point)

    def _area(self) -> float:
        lowest_db, slowest_ms = self._corner
        ends = [ms for ms, _ in self._front[1:]] + [slowest_ms]
        return sum((end - ms) * (psnr - lowest_db) for (ms, psnr), end in zip(self._front, ends, strict=True))


def spending(events: Sequence[Row], *, final_rung: int) -> Spending:
    """Return where the workers' time went: training, compiling, judging, and the rest, which they waited."""
    trainings = [event for event in events if event["event"] in TRAININGS]
    worker_s = sum(workers * seconds for workers, seconds in _sessions(events))
    parts = {name: sum(e[name] for e in trainings) for name in _SECONDS}
    by_rung = _grouped(trainings, lambda e: (e.get("rung", final_rung), e["steps"]), ("rung", "steps"))
    waits = _waits(events, final_rung)
    return Spending(
        worker_s=worker_s,
        **parts,
        waiting_s=max(0.0, worker_s - sum(parts.values())),
        by_rung=[{**row, "waiting_s": waits and waits[row["rung"]]} for row in by_rung],
        by_worker=_by_worker(events),
        note=_worker_note(trainings),
    )


def _waits(events: Iterable[Row], final_rung: int) -> Mapping[int, float] | None:
    """Return by rung the seconds that workers waited before its trainings; None where records do not name workers."""
    waits: dict[int, float] = defaultdict(float)
    free_s: dict[int, float] = {}  # since when each worker has had no work
    began_s = 0.0
    for event in events:
        if event["event"] == "session":
            free_s, began_s = {}, event["elapsed_s"]
        elif event["event"] in TRAININGS:
            if "worker" not in event:
                return None
            worker, busy_s = event["worker"], sum(event[name] for name in _SECONDS)
            begun_s = event["elapsed_s"] - busy_s
            waits[event.get("rung", final_rung)] += max(0.0, begun_s - free_s.get(worker, began_s))
            free_s[worker] = event["elapsed_s"]
    return waits


def _sessions(events: Sequence[Row]) -> list[tuple[int, float]]:
    """Return the workers of each session and the seconds up to its last record."""
    sessions: list[tuple[int, float]] = []
    for place, event in enumerate(events):
        if event["event"] == "session":
            rest = events[place + 1 :]
            end = next((i for i, e in enumerate(rest) if e["event"] == "session"), len(rest))
            last = max((e["elapsed_s"] for e in rest[:end]), default=event["elapsed_s"])
            sessions.append((event["workers"], last - event["elapsed_s"]))
    return sessions


def _grouped(trainings: Iterable[Row], key: Any, names: Sequence[str]) -> list[Row]:
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for event in trainings:
        groups[key(event)].append(event)
    return [
        {
            **dict(zip(names, group_key, strict=True)),
            "trainings": len(members),
            **{name: sum(e[name] for e in members) for name in _SECONDS},
        }
        for group_key, members in sorted(groups.items())
    ]


def _by_worker(events: Sequence[Row]) -> list[Row]:
    """Return the seconds of each worker, over all sessions; what an older session says nothing of is left out."""
    known = [e for e in events if e["event"] in TRAININGS and "worker" in e]
    available: dict[int, float] = defaultdict(float)
    for workers, seconds in _sessions(events):
        for worker in range(workers):
            available[worker] += seconds
    rows = _grouped(known, lambda e: (e["worker"],), ("worker",))
    return [
        {**row, "waiting_s": max(0.0, available[row["worker"]] - sum(row[name] for name in _SECONDS))} for row in rows
    ]


def _worker_note(trainings: Sequence[Row]) -> str:
    unknown = sum("worker" not in event for event in trainings)
    if not unknown:
        return ""
    return f"Of {unknown} of {len(trainings)} trainings the records do not tell which worker did them."
