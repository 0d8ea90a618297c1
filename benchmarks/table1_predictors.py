"""Judge predictors of few costs on the nine rows of Table 1 by leaving one row out, beside the built-in device.

    python benchmarks/table1_predictors.py [--out results/latency/table1.json]

A predictor has four costs, each a multiple of what the device assumes: start with input and output, traffic of maps,
arithmetic (taps and MACs, padded to lanes), and the launch of each kernel, for kernels run one after the other. Its
hypotheses are discrete: whether depth-to-space, concatenations and activations are fused away, whose ratio of taps to
MACs holds (the device's assumption, that of thin to wide networks on a measured NPU, or the classes of six measured
NPUs), whether rebuilt networks count as much as the two that are described completely, and whether errors count by
their squares or, beyond three percent, by themselves.

`best`: the hypothesis that leave-one-out likes best of all, which is flattered by being chosen so. `chosen inside`: for
every row left out the hypothesis is chosen by leaving rows out of the other eight, which is what a user would get.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from itertools import product
from math import exp, fsum, log
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from latency_models import accuracy
from latency_models.device import Device, load_device
from latency_models.kernels import Kernel
from latency_models.predictor import Core
from latency_models.roofline import Coefficients, kernel_amounts
from nas import provenance

NPUS = ("galaxy-s24-npu", "snapdragon-8-elite-gen-5-npu", "qcs8550-npu", "qcs8275-npu", "sa8295p-npu", "iq-9075-npu")
DESCRIBED = ("smallnet", "csanet")  # the report or their code gives every layer
COSTS = ("start", "launch", "traffic", "work")
# How far a cost goes from its assumption and rows are off, as logarithms, and from where errors count by themselves.
SPREAD, NOISE, REBUILT_NOISE, LINEAR_FROM = 0.4, 0.2, 0.4, 0.03
# Taps by MACs on a measured NPU: networks of 16 channels reach 0.9 TMAC/s and wide ones 5.6 (AI Hub, Galaxy S24).
THIN_TO_WIDE = 16 * (5.6 / 0.9 - 1)


class Hypothesis(NamedTuple):
    """What is taken to be true of the device and of the rows."""

    fused: tuple[str, ...]  # operations that cost nothing
    ratio: str  # "assumed", "thin to wide" or "six NPUs"
    is_equal: bool  # rebuilt networks count as much as described ones
    is_squared: bool  # errors count by their squares


FUSIBLE = ("DEPTH_TO_SPACE", "CONCATENATION", "activation")
HYPOTHESES = [
    Hypothesis(tuple(op for op, is_fused in zip(FUSIBLE, chosen, strict=True) if is_fused), ratio, equal, squared)
    for chosen, ratio, equal, squared in product(
        list(product((False, True), repeat=3)), ("assumed", "thin to wide", "six NPUs"), (True, False), (True, False)
    )
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    command = " ".join(["python", "benchmarks/table1_predictors.py", *sys.argv[1:]])
    text = json.dumps({"provenance": provenance.collect() | {"command": command}, **judge()}, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


def judge() -> dict[str, Any]:
    device = load_device("dimensity-1000-plus")
    measured = np.array([m.runtime_ms for m in device.measurements])
    labels = [m.label for m in device.measurements]
    held = {h.label: h.predicted_ms for h in device.held_out}
    parts = {h: amounts(device, h) for h in HYPOTHESES}
    foreseen = {h: leave_out(parts[h], measured, labels, h, range(len(labels))) for h in HYPOTHESES}
    best = min(HYPOTHESES, key=lambda h: accuracy.mape(foreseen[h], list(measured)))
    inside = [chosen_inside(parts, measured, labels, row) for row in range(len(labels))]
    traffic = [traffic_mb(m.network.kernels) for m in device.measurements]
    return {
        "built-in device": figures([held[label] for label in labels], measured, labels),
        "four costs, best": figures(foreseen[best], measured, labels) | {"hypothesis": best._asdict()},
        "four costs, chosen inside": figures([ms for ms, _ in inside], measured, labels)
        | {"chosen": [h._asdict() for _, h in inside]},
        "hypotheses": len(HYPOTHESES),
        "error of all hypotheses": [
            float(np.quantile([accuracy.mape(f, list(measured)) for f in foreseen.values()], q)) for q in (0, 0.5, 1)
        ],
        "order by traffic of maps alone": {
            "kendall": accuracy.kendall(traffic, list(measured)),
            "spearman": accuracy.spearman(traffic, list(measured)),
        },
        "median of the others": accuracy.mape(accuracy.medians_of_the_others(list(measured)), list(measured)),
    }


def traffic_mb(kernels: Sequence[Kernel]) -> float:
    """Return the megabytes of maps that kernels read and write."""
    return fsum(k.input_elements + k.output_elements for k in kernels) * 2 / 1e6


def figures(predicted: Sequence[float], measured: Any, labels: Sequence[str]) -> dict[str, Any]:
    times = list(map(float, measured))
    errors = {label: p / t - 1 for label, p, t in zip(labels, predicted, times, strict=True)}
    return {
        "mape": accuracy.mape(predicted, times),
        "kendall": accuracy.kendall(predicted, times),
        "spearman": accuracy.spearman(predicted, times),
        "errors": {label: round(float(error), 4) for label, error in errors.items()},
    }


def amounts(device: Device, hypothesis: Hypothesis) -> Any:
    """Return what start, launch, traffic and arithmetic of each row take before anything is fitted: [rows, costs]."""
    assert isinstance(device.predictor.core, Core)
    layout, costs = device.predictor.core.layout, prior(device, hypothesis.ratio)
    rows = []
    for m in device.measurements:
        io_mb = (m.network.input_elements + m.network.output_elements) * layout.io_bytes_per_element / 1e6
        row = dict.fromkeys(COSTS, 0.0) | {"start": costs["fixed_ms"] + io_mb * costs["io_ms_per_mb"]}
        for kernel in m.network.kernels:
            if kernel.tflite_op in hypothesis.fused or kernel.cls in hypothesis.fused:
                continue
            for name, amount in kernel_amounts(kernel, layout).items():
                row[cost_of(name)] += amount * costs[name]
        rows.append([row[name] for name in COSTS])
    return np.array(rows)


def cost_of(coefficient: str) -> str:
    if coefficient == "kernel_ms":
        return "launch"
    return "traffic" if coefficient.endswith("_per_mb") else "work"


def prior(device: Device, ratio: str) -> Coefficients:
    """Return the device's assumptions, with the ratios of arithmetic that the hypothesis takes from measured NPUs."""
    costs = {name: assumption.value for name, assumption in device.method.prior.items()}  # type: ignore[union-attr]
    if ratio == "thin to wide":
        for cls in ("conv", "conv_1x1", "transpose_conv"):
            costs[f"{cls}_ms_per_gmac"] = costs[f"{cls}_ms_per_gtap"] / THIN_TO_WIDE
    if ratio == "six NPUs":
        cores = [load_device(name).predictor.core for name in NPUS]
        for cls in ("conv_1x1", "depthwise"):
            logs = [
                log(core.coefficients[f"{cls}_ms_per_gmac"] / core.coefficients["conv_ms_per_gmac"])
                for core in cores
                if isinstance(core, Core)
            ]
            relative = exp(fsum(logs) / len(logs))
            costs |= {
                n: relative * costs["conv" + n.removeprefix(cls)] for n in costs if n.startswith(f"{cls}_ms_per_g")
            }
    return costs


def leave_out(rows: Any, measured: Any, labels: Sequence[str], h: Hypothesis, among: Sequence[int]) -> list[float]:
    """Return each row of `among` as the others of them foresee it."""
    held_out = []
    for row in among:
        others = [other for other in among if other != row]
        multiples = fit(rows[others], measured[others], [labels[other] for other in others], h)
        held_out.append(float(rows[row] @ multiples))
    return held_out


def chosen_inside(
    parts: dict[Hypothesis, Any], measured: Any, labels: Sequence[str], row: int
) -> tuple[float, Hypothesis]:
    """Return a row as foreseen by the hypothesis that the other rows choose, and that hypothesis."""
    others = [other for other in range(len(labels)) if other != row]

    def error(h: Hypothesis) -> float:
        return accuracy.mape(leave_out(parts[h], measured, labels, h, others), list(measured[others]))

    best = min(HYPOTHESES, key=error)
    multiples = fit(parts[best][others], measured[others], [labels[other] for other in others], best)
    return float(parts[best][row] @ multiples), best


def fit(rows: Any, measured: Any, labels: Sequence[str], h: Hypothesis) -> Any:
    """Return the multiples of the costs that minimise Σ loss(log t̂/t) / noise² + Σ (log multiple)² / spread²."""
    noise = np.array([NOISE if h.is_equal or label in DESCRIBED else REBUILT_NOISE for label in labels])
    shares = rows / measured[:, None]
    level = 1 / np.median(shares.sum(axis=1))
    logs = np.zeros(rows.shape[1])
    for _ in range(40):
        parts = level * shares * np.exp(logs)
        errors = np.log(parts.sum(axis=1))
        slopes = parts / parts.sum(axis=1, keepdims=True)
        linear = np.minimum(1.0, LINEAR_FROM / np.maximum(np.abs(errors), 1e-9))
        weights = (np.ones_like(errors) if h.is_squared else linear) / noise**2
        curvature = slopes.T @ (slopes * weights[:, None]) + np.eye(len(logs)) / SPREAD**2
        step = np.linalg.solve(curvature, slopes.T @ (weights * errors) + logs / SPREAD**2)
        logs = logs - np.clip(step, -0.7, 0.7)
    return level * np.exp(logs)


if __name__ == "__main__":
    main()
