"""Measure a five-minute search on this machine: candidates, overhead, compile share, memory, time to resume.

    python benchmarks/search_budget.py [--budget 5m] [--out benchmarks/search_budget.json]

Runs the installed `isp-nas search` on the built-in data in a temporary folder, with an empty compile cache, and
reads its records. Goals on 2 CPU cores: 15 candidates beyond the enqueued designs, under 10 % of the budget outside
training, judging and compiling, under 4 GB, and a resumed study's next candidate within 15 s of the shell prompt.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from nas import provenance
from nas.search.budget import parse_budget
from nas.search.study import StudyRecord, load

COMMAND = Path(sys.executable).with_name("isp-nas")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budget", default="5m")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = measure(options.budget, Path(folder))
    text = json.dumps(report, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


def measure(budget: str, folder: Path) -> dict[str, Any]:
    made_by = provenance.collect() | {"command": " ".join(["python", *sys.argv])}
    environment = os.environ | {"ISP_NAS_CACHE": str(folder / "cache")}
    demo_s, _ = timed(["data", "check", "demo"], folder, environment)
    wall_s, memory_mb = timed(["search", "--budget", budget], folder, environment)
    study = load(next((folder / "results").iterdir()))
    row = figures(study)
    extended = parse_budget(budget).seconds or 0
    resume_s = resume(study, folder, environment, extended * 2)
    return {
        "provenance": made_by,
        "budget": budget,
        "demo_build_and_check_s": demo_s,
        "wall_s": wall_s,
        "peak_memory_mb": memory_mb,
        **row,
        "resume_to_next_candidate_s": resume_s,
    }


def timed(arguments: list[str], folder: Path, environment: dict[str, str]) -> tuple[float, float]:
    """Run a command; return its wall seconds and the highest sum of its processes' resident memory, in MB."""
    begun = time.perf_counter()
    process = subprocess.Popen([str(COMMAND), *arguments], cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, resident_mb(process.pid))
        time.sleep(0.5)
    if process.returncode:
        raise SystemExit(f"isp-nas {' '.join(arguments)} ended with {process.returncode}")
    return time.perf_counter() - begun, peak


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process and its descendants, in MB (Linux)."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0.0
    own = next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")), 0) / 1e3
    return own + sum(resident_mb(int(child)) for child in children)


def figures(study: StudyRecord) -> dict[str, Any]:
    rungs = [rung for candidate in study.trained() for rung in candidate.rungs.values()]
    train, compiling = sum(r.train_s for r in rungs), sum(r.compile_s for r in rungs)
    judging = sum(r.evaluate_s for r in rungs)
    return {
        "candidates": len(study.trained()),
        "beyond_designs": sum(c.name is None for c in study.trained()),
        "failed": sum(bool(c.failure) for c in study.candidates.values()),
        "at_rungs": {steps: len(study.at_rung(rung)) for rung, steps in enumerate(study.config.rungs)},
        "elapsed_s": study.elapsed_s,
        "train_s": train,
        "judge_s": judging,
        "compile_s": compiling,
        "overhead_s": study.elapsed_s - train - judging - compiling,
        "overhead_share": (study.elapsed_s - train - judging - compiling) / study.elapsed_s,
        "compile_share": compiling / study.elapsed_s,
        "worker_memory_mb": max((r.memory_mb for r in rungs if r.memory_mb is not None), default=None),
    }


def resume(study: StudyRecord, folder: Path, environment: dict[str, str], seconds: float) -> float:
    """Return the seconds from the shell prompt until training goes on: to the next rung, less that rung's own work."""
    old = reached(study)
    begun = time.perf_counter()
    command = [str(COMMAND), "search", "--budget", f"{seconds:.0f}s"]
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    while not (new := reached(load(study.folder)).keys() - old.keys()):
        time.sleep(0.05)
    waited = time.perf_counter() - begun
    process.terminate()
    process.wait()
    return waited - reached(load(study.folder))[new.pop()]


def reached(study: StudyRecord) -> dict[tuple[int, int], float]:
    """Return the seconds of every rung that was reached, by trial and rung."""
    return {(c.trial, rung): r.seconds for c in study.candidates.values() for rung, r in c.rungs.items()}


if __name__ == "__main__":
    main()
