"""Gather what searches have trained: every rung and every final of their networks, one table per set of pairs.

    python benchmarks/searches_table.py --out results/table/demo-searches.jsonl STUDY…
    python benchmarks/searches_table.py --out results/table/demo-searches.jsonl --agreement

A first kind of row is a study, with its settings and what made it; the others are trainings: the genes that are not the
default ones, the seed, the predicted runtime, PSNR and SSIM at each of `steps`, and seconds. Studies that the table has
are passed over. `--agreement` prints how well the rungs foresee the finals, which are from other seeds.
"""

import argparse
import json
import statistics
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from candidate_table import row_of
from scipy.stats import spearmanr
from training_recipes import read, without_places

from nas.search.candidate import CandidateRecord, Rung
from nas.search.study import RUN_FILE, StudyRecord, load
from search_spaces.networks import build_graph
from search_spaces.spec import GENES

FEWEST = 6  # networks of one study, below which a rank correlation says nothing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="*", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--agreement", action="store_true", help="print what the table says of rungs")
    options = parser.parse_args()
    gather(options.studies, options.out)
    if options.agreement:
        sys.stdout.write(agreement(read(options.out)))


def gather(folders: Sequence[Path], out: Path) -> None:
    known = {row["study"] for row in read(out)}
    with out.open("a") as file:
        for study in map(load, folders):
            made_by = tomllib.loads((study.folder / RUN_FILE).read_text("utf-8"))["provenance"]
            label = f"{study.config.name}@{made_by['commit'][:7]}"
            if label not in known:
                file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows_of(study, label, made_by))


def rows_of(study: StudyRecord, label: str, made_by: dict[str, Any]) -> Iterator[dict[str, Any]]:
    config = study.config
    made_by["command"] = without_places(made_by["command"].split(), {})
    session = study.sessions[-1]
    yield {
        "study": label,
        "seed": config.seed,
        "prior": list(config.prior),
        "budget": session.budget,
        "workers": session.workers,
        "made_by": made_by,
    }
    for candidate in study.trained():
        network = {"study": label, **facts(candidate)}
        yield network | training(config.seed, [rung for _, rung in sorted(candidate.rungs.items())])
        for seed, final in sorted(candidate.finals.items()):
            yield network | training(seed, [final])


def facts(candidate: CandidateRecord) -> dict[str, Any]:
    graph = build_graph(candidate.spec)
    return {
        "trial": candidate.trial,
        "name": candidate.name,
        "spec": candidate.spec.hash,
        "genes": {name: value for name, value in candidate.spec.to_dict().items() if value != GENES[name].default},
        "runtime_ms": candidate.runtime_ms,
        "macs": graph.macs,
        "parameters": graph.parameters,
    }


def training(seed: int, stops: Sequence[Rung]) -> dict[str, Any]:
    row = row_of(stops)
    several = {
        name: [round(value, digits) for value in row[name]]
        for name, digits in (("psnr_db", 4), ("ssim", 5), ("train_s", 2), ("judge_s", 2))
    }
    return {"training_seed": seed, "steps": row["steps"], **several, "compile_s": round(row["compile_s"], 2)}


def agreement(rows: Sequence[dict[str, Any]]) -> str:
    """Return ρ of PSNR between stops: within each study, means over studies weighted by networks."""
    trainings = [row for row in rows if "spec" in row]
    lines = [
        f"{len(rows) - len(trainings)} studies, {len(trainings)} trainings of {len({r['spec'] for r in trainings})} "
        "networks",
        f"{'steps':>6}{'of':>7}{'ρ':>7}{'best third':>12}{'networks':>10}{'studies':>9}",
    ]
    by_study: dict[str, dict[int, dict[str, list[float]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for row in trainings:
        for steps, psnr_db in zip(row["steps"], row["psnr_db"], strict=True):
            by_study[row["study"]][steps][row["spec"]].append(psnr_db)
    stops = sorted({steps for study in by_study.values() for steps in study})
    for at, first in enumerate(stops):
        lines += [line(by_study.values(), first, last) for last in stops[at + 1 :]]
    return "\n".join(each for each in lines if each) + "\n"


def line(studies: Any, first: int, last: int) -> str:
    whole, best, networks = [], [], []
    for study in studies:
        both = [spec for spec in study[last] if spec in study[first]]
        if len(both) < FEWEST:
            continue
        pairs = [(statistics.fmean(study[first][spec]), statistics.fmean(study[last][spec])) for spec in both]
        whole.append(float(spearmanr(pairs).statistic))
        foremost = sorted(pairs, key=lambda pair: -pair[1])[: max(FEWEST, len(pairs) // 3)]
        best.append(float(spearmanr(foremost).statistic))
        networks.append(len(both))
    if not networks:
        return ""
    mean, mean_of_best = (
        sum(n * r for n, r in zip(networks, each, strict=True)) / sum(networks) for each in (whole, best)
    )
    return f"{first:>6}{last:>7}{mean:>7.2f}{mean_of_best:>12.2f}{sum(networks):>10}{len(networks):>9}"


if __name__ == "__main__":
    main()
