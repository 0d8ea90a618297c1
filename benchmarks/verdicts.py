"""Train again, from other seeds, the two networks that the verdict of a search compares: does it hold?

    python benchmarks/verdicts.py --data demo --out results/verdicts/demo.jsonl results/demo-dimensity-1000-plus-mai21 …

A row per study: settings of the search, its verdict, and PSNR in dB and scores of both from `--seeds` that neither
rungs nor finals have seen, trained by the default recipe over the finals' steps and judged on the same pairs. A verdict
holds where "beats" is a difference above zero in the mean, "loses" one below, and "ties" one within the two intervals
together; "undecided" claims nothing. Rows are appended as they come; the same command goes on where it stopped.
`--table` prints what the file holds.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from candidate_table import trained
from scipy.stats import t as student_t
from training_recipes import provenance_of_rows, read

from nas import backend
from nas.search.score import final_score
from nas.search.study import StudyRecord, load
from nas.search.verdicts import Verdict, verdict_of
from search_spaces.networks import build_graph


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="*", type=Path)
    parser.add_argument("--data", help="the pairs of the studies")
    parser.add_argument("--label", help="what rows call the pairs; else the name of their folder")
    parser.add_argument("--seeds", nargs="+", type=int, default=[101, 102, 103])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--table", action="store_true", help="print what the file holds and train nothing")
    options = parser.parse_args()
    if not options.table:
        train_all(options)
    sys.stdout.write(table(read(options.out)))


def train_all(options: argparse.Namespace) -> None:
    backend.prepare()
    label = options.label or Path(options.data).name
    options.out.parent.mkdir(parents=True, exist_ok=True)
    made_by = provenance_of_rows({options.data: label})
    for study in map(load, options.studies):
        verdict = verdict_of(study)
        if verdict is None or verdict.found is None or verdict.design is None:
            continue
        key = {"data": label, "seed": study.config.seed, "settings": study.settings_digest, "seeds": options.seeds}
        finalist = study.candidates[verdict.found].spec.hash  # another commit finds another one from the same seed
        if any(key.items() <= row.items() and row["again"]["found"]["spec"] == finalist for row in read(options.out)):
            continue
        row = key | searched(study, verdict) | compared(study, verdict, options, label)
        with options.out.open("a") as file:
            file.write(json.dumps(row | {"made_by": made_by}, ensure_ascii=False) + "\n")


def searched(study: StudyRecord, verdict: Verdict) -> dict[str, Any]:
    """Return how a study was searched, and its verdict without its prose."""
    plain = verdict.to_dict()
    del plain["sentence"]
    return {
        "budget": study.sessions[-1].budget,
        "workers": study.sessions[-1].workers,
        "rungs": list(study.config.rungs),
        "prior": list(study.config.prior),
        "trained": len(study.trained()),
        "compile_s": round(study.compile_s, 1),
        "train_s": round(study.train_s, 1),
        "genes": study.candidates[verdict.found or 0].spec.to_dict(),
        "verdict": plain,
    }


def compared(study: StudyRecord, verdict: Verdict, options: argparse.Namespace, label: str) -> dict[str, Any]:
    """Return what both networks come to from the seeds of the options; what another row has trained is read from it."""
    known = {
        (row["data"], row["verdict"]["steps"], *row["seeds"], again["spec"]): again["psnr_db"]
        for row in read(options.out)
        for again in row["again"].values()
    }
    rows = {}
    for name, trial in (("found", verdict.found), ("design", verdict.design)):
        candidate = study.candidates[trial or 0]
        graph, spec = build_graph(candidate.spec), candidate.spec
        assert candidate.runtime_ms is not None
        if (psnr_db := known.get((label, verdict.steps, *options.seeds, spec.hash))) is None:
            trainings = [trained(graph, spec, options.data, [verdict.steps], seed) for seed in options.seeds]
            psnr_db = [training["psnr_db"][-1] for training in trainings]
        score = [final_score(each, candidate.runtime_ms) for each in psnr_db]
        rows[name] = {"spec": spec.hash, "psnr_db": psnr_db, "score": score}
        sys.stderr.write(f"{study.config.name} {name}: {psnr_db}\n")
    return {"again": rows}


def difference(row: dict[str, Any]) -> tuple[float, float]:
    """Return the difference of mean scores, and the half width of its interval of 95 %."""
    ours, theirs = row["again"]["found"]["score"], row["again"]["design"]["score"]
    error = (statistics.variance(ours) / len(ours) + statistics.variance(theirs) / len(theirs)) ** 0.5
    return statistics.fmean(ours) - statistics.fmean(theirs), float(
        student_t.ppf(0.975, len(ours) + len(theirs) - 2)
    ) * error


def holds(row: dict[str, Any]) -> str:
    (again, half), outcome = difference(row), row["verdict"]["outcome"]
    if outcome == "undecided":  # it claims nothing
        return "–"
    if outcome == "ties":
        return "yes" if abs(again) <= half + row["verdict"]["half_width"] else "no"
    return "yes" if (again > 0) == (outcome == "beats") else "no"


def table(rows: Sequence[dict[str, Any]]) -> str:
    lines = [f"{'pairs':<14}{'seed':>5}{'budget':>13}{'trained':>9}  {'verdict':<22}{'trained again':<18}{'holds':>6}"]
    for row in sorted(rows, key=lambda row: (row["data"], row["budget"], row["seed"])):
        verdict, (again, half) = row["verdict"], difference(row)
        verdict_text = (
            f"{verdict['outcome']} {verdict['difference']:+.2f} ± {verdict['half_width'] or float('nan'):.2f}"
        )
        lines.append(
            f"{row['data']:<14}{row['seed']:>5}{row['budget']:>13}{row['trained']:>9}  {verdict_text:<22}"
            + f"{again:+.2f} ± {half:.2f}".ljust(18)
            + holds(row).rjust(6)
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
