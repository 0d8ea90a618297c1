"""Studies of any size whose records are made up: nothing is trained, and no device is asked."""

import random
from pathlib import Path
from typing import Any

from flow import make_study

from nas.search.study import StudyRecord
from search_spaces.designs import DESIGNS
from search_spaces.space import load_space

RUNGS = (10, 30, 90)
FINAL_STEPS = 270
# A name that would be markup, a control character, or wider than any column where it is not escaped.
HOSTILE = "<script>alert(1)</script>[bold]x[/bold]\"'</script><!--\u202egnp.exe\u2028\x1b[31m&amp;" + "w" * 200


def made_up_study(folder: Path, trials: int, *, seed: int = 0, reason: str = "", **changes: Any) -> StudyRecord:
    """Write a study of so many proposals: designs first, a tenth over the limit, a few repeats, failures and finals.

    `reason` is what failures and refusals say.
    """
    rng = random.Random(seed)
    study = make_study(folder, **{"rungs": RUNGS, "final_steps": FINAL_STEPS, "max_runtime_ms": 100.0} | changes)
    study.append("session", budget="1 h 00 min", workers=2, began="2026-01-01T10:00:00+00:00")
    space = load_space("mai21")
    designs = [design.spec for design in DESIGNS.values()][: trials // 4]
    for trial in range(trials):
        spec = designs[trial] if trial < len(designs) else space.sample(lambda _, values, __: rng.choice(values))
        _append(study, trial, spec.to_dict(), rng, reason)
    for candidate in sorted(study.at_rung(2), key=lambda c: -c.score(2))[:2] + study.designs[:1]:
        for number in (1, 2):
            _spend(study, 9.0)
            quality = _quality(rng, 2.0, number % 2)
            if study.config.final_steps and candidate.rungs:
                study.append("final", trial=candidate.trial, seed=number, steps=study.config.final_steps, **quality)
    study.close()
    return study


def _append(study: StudyRecord, trial: int, genes: dict[str, Any], rng: random.Random, reason: str) -> None:
    ms = rng.uniform(30, 110)
    runtime = {"runtime_ms": ms, "runtime_low_ms": ms / 1.5, "runtime_high_ms": ms * 1.5, "peak_memory_mb": 50.0}
    _spend(study, 0.5)
    if trial % 25 == 24:
        verdict = {"verdict": "duplicate", "duplicate_of": 0}
    elif ms > 100:
        verdict = {
            "verdict": "infeasible",
            "reason": reason or f"predicted {ms:.1f} ms is over the limit of 100 ms",
            "violation": ms - 100,
        }
    else:
        verdict = {"verdict": "train"}
    study.append("asked", trial=trial, genes=genes, **runtime, **verdict)
    if verdict["verdict"] != "train":
        return
    if trial % 40 == 39:
        study.append("failed", trial=trial, reason=reason or "The loss is not finite.")
        return
    for rung, steps in enumerate(RUNGS):
        _spend(study, 3.0)
        study.append("rung", trial=trial, rung=rung, steps=steps, **_quality(rng, rung / 2, trial % 2))
        if rng.random() < 0.6:
            return


def _spend(study: StudyRecord, seconds: float) -> None:
    study.elapsed_s += seconds


def _quality(rng: random.Random, gain: float, worker: int) -> dict[str, Any]:
    psnr = rng.uniform(24, 30) + gain
    return {"psnr_db": psnr, "ssim": psnr / 40, "loss": 0.03, "train_s": 2.0, "compile_s": 0.7, "evaluate_s": 0.1,
            "worker": worker}  # fmt: skip
