"""Measure how well NPUs of one make predict another with few timed networks, from public timings.

    python benchmarks/npu_latency.py FOLDER [--draws 10] [--out results/latency/npu.json]

FOLDER holds `npu_latency.csv`: what Qualcomm AI Hub measured of 23 public networks on six Snapdragon NPUs
(quic/ai-hub-models v0.46.1, BSD-3-Clause). The networks are rebuilt by `aihub_networks`. Each NPU is the target in
turn: k networks drawn at random were timed on it, the other five are known, and the rest of its networks is foreseen.

`known`: the sources have measured all 23 networks, as the devices that are built in have.
`unseen`: the sources have not measured the networks that are foreseen either, nor any of their families.

Beside them one factor on another NPU's measured times, the best of the five by the k networks, and MACs + intercept.
Means over targets and draws of the mean relative error; `classes_at_zero` counts fits with a factor below a thousandth.
"""

import argparse
import csv
import json
import random
import statistics
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from aihub_networks import FAMILIES, NETWORKS
from phone_latency import with_coverage

from latency_models import accuracy
from latency_models.calibration import fit_tied, fit_transfer
from latency_models.predictor import Predictor, Transfer
from latency_models.samples import Sample
from nas import provenance

FEW = (5, 10)
MAP_BYTES, IO_BYTES = 2, 4
Times = Mapping[str, Mapping[str, float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    times = read(options.folder / "npu_latency.csv")
    figures_by_k = {f"k={k}": judge(times, k, options.draws) for k in FEW}
    command = " ".join(["python", "benchmarks/npu_latency.py", "FOLDER", *sys.argv[2:]])
    seeds = {"draws": options.draws, "seed": "draw · 100 + k"}
    text = json.dumps({"provenance": provenance.collect() | {"command": command} | seeds, **figures_by_k}, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


def read(path: Path) -> dict[str, dict[str, float]]:
    """Return milliseconds by device and network."""
    times: dict[str, dict[str, float]] = defaultdict(dict)
    with path.open() as file:
        for row in csv.DictReader(file):
            times[row["device"]][row["network"]] = float(row["runtime_ms"])
    return dict(times)


BUILT = {name: build() for name, build in NETWORKS.items()}


def samples(times: Mapping[str, float], names: Sequence[str]) -> list[Sample]:
    return [Sample(BUILT[n], times[n], FAMILIES.get(n, n), n) for n in names if n in times]


def judge(times: Times, k: int, draws: int) -> dict[str, Any]:
    rows: dict[str, list[dict[str, float]]] = defaultdict(list)
    whole = {device: fitted(samples(known, list(BUILT))) for device, known in times.items()}
    for target in times:
        others = [device for device in times if device != target]
        full = [whole[device] for device in others]
        for draw in range(draws):
            names = sorted(times[target])
            random.Random(draw * 100 + k).shuffle(names)
            known, tested = names[:k], samples(times[target], names[k:])
            mine = samples(times[target], known)
            rows[f"known: {target}"].append(figures(fit_transfer(mine, full)[0], tested))
            rows["one_factor"].append({"mape": one_factor(times, target, others, known, names[k:])})
            rows["macs_and_intercept"].append({"mape": macs_and_intercept(mine, tested)})
            if draw < draws // 2:
                rows["unseen"].append(unseen(times, others, mine, tested))
        print(target, rows[f"known: {target}"][-1], file=sys.stderr)
    rows["known"] = [row for name, each in rows.items() if name.startswith("known: ") for row in each]
    return {name: {key: statistics.mean(r[key] for r in each) for key in each[0]} for name, each in rows.items()}


def fitted(known: Sequence[Sample]) -> Predictor:
    return fit_tied(known, io_bytes=IO_BYTES, map_bytes=MAP_BYTES)[0]


def unseen(times: Times, others: Sequence[str], mine: Sequence[Sample], tested: Sequence[Sample]) -> dict[str, float]:
    """Judge one family of the tested ones, of which neither the sources nor the target have seen any network."""
    own = {s.family for s in mine}
    out = sorted({s.family for s in tested} - own)
    if not out:
        return figures(fit_transfer(mine, [fitted(samples(times[d], list(BUILT))) for d in others])[0], tested)
    built = [name for name in BUILT if FAMILIES.get(name, name) not in out]
    sources = [fitted(samples(times[device], built)) for device in others]
    return figures(fit_transfer(mine, sources)[0], [s for s in tested if s.family in out])


def figures(predictor: Predictor, tested: Sequence[Sample]) -> dict[str, float]:
    return with_coverage(predictor, tested) | {"classes_at_zero": float(min(all_factors(predictor)) < 1e-3)}


def all_factors(predictor: Predictor) -> list[float]:
    """Return every factor of a transfer, those of transfers inside it too."""
    if not isinstance(predictor.core, Transfer):
        return [1.0]
    inner = [factor for source in predictor.core.sources for factor in all_factors(source)]
    return [*predictor.core.factors.values(), *inner]


def one_factor(times: Times, target: str, others: Sequence[str], known: Sequence[str], tested: Sequence[str]) -> float:
    """Return the error of one factor on the measured times of the source that fits the known networks best."""

    def fit(source: str) -> tuple[float, float]:
        logs = [np.log(times[target][n] / times[source][n]) for n in known if n in times[source]]
        return float(np.std(logs)), float(np.exp(np.median(logs)))

    best = min(others, key=lambda source: fit(source)[0])
    factor, both = fit(best)[1], [n for n in tested if n in times[best]]
    return accuracy.mape([factor * times[best][n] for n in both], [times[target][n] for n in both])


def macs_and_intercept(known: Sequence[Sample], tested: Sequence[Sample]) -> float:
    from scipy.optimize import nnls

    def row(s: Sample) -> list[float]:
        return [1.0, sum(kernel.macs for kernel in s.network.kernels) / 1e9]

    a = np.array([[x / s.runtime_ms for x in row(s)] for s in known])
    costs, _ = nnls(a, np.ones(len(a)))
    return accuracy.mape([float(np.dot(row(s), costs)) for s in tested], [s.runtime_ms for s in tested])


if __name__ == "__main__":
    main()
