"""Measure the prediction error for Full-HD networks on a machine timed with `isp-nas latency measure`.

    isp-nas latency measure --out cpu                                       # probes and 40 networks
    isp-nas latency measure --out cpu --probes 0 --candidates 72 --seed 1   # 60 more networks, in the same unit
    isp-nas latency measure --out again --probes 0 --candidates 12          # the designs once more
    python benchmarks/latency_cpu.py cpu/measurements.csv --again again/measurements.csv [--out FILE]

`unseen_families`: every network was foreseen by a fit to all probes and to networks of other families.
`size_split`: all networks at Full HD foreseen by a fit to probes alone none of whose maps is larger than 480×272.
`probes_alone`: the same with all probes and no network.
`repeat_noise`: the designs' times in units of the reference's, this time against the first: what no predictor can beat.
`candidates_s`: seconds of one core to draw, build and price 10 000 random members of mai21.
"""

import argparse
import json
import random
import sys
import time
from collections.abc import Sequence
from math import exp
from pathlib import Path
from typing import Any

from latency_models import accuracy
from latency_models.calibration import fit_measured, held_out
from latency_models.kernels import network
from latency_models.measurements import Timing, read_measurements
from latency_models.new_device import measured_of
from latency_models.predictor import Predictor
from latency_models.samples import HeldOut, Sample
from nas import provenance
from search_spaces.networks import build_graph
from search_spaces.space import load_space

SMALL_PIXELS = 480 * 272
CANDIDATES = 10_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measurements", type=Path)
    parser.add_argument("--again", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    timings = read_measurements(options.measurements)
    samples = [measured_of(timing, options.measurements.parent).sample for timing in timings]
    report: dict[str, Any] = {"provenance": made_by(timings)}
    predictor, held = fit_measured(samples, io_bytes=4, map_bytes=4)
    report["unseen_families"] = figures(held, predictor) | {"by_family": by_family(held)}
    report["probes_alone"] = judged([s for s in samples if not s.is_network], samples)
    report["size_split"] = judged([s for s in samples if is_small(s)], samples)
    report["candidates_s"] = seconds_for_candidates(predictor)
    if options.again:
        report["repeat_noise"] = noise(timings, read_measurements(options.again))
    text = json.dumps(report, indent=1, ensure_ascii=False)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


def made_by(timings: Sequence[Timing]) -> dict[str, Any]:
    command = " ".join(
        ["python", "benchmarks/latency_cpu.py", *(Path(a).name if "/" in a else a for a in sys.argv[1:])]
    )
    dates = sorted(timing.conditions.date for timing in timings)
    facts = {"command": command, "timings": len(timings), "first_timing": dates[0], "last_timing": dates[-1]}
    return provenance.collect() | facts | {"conditions": vars(timings[0].conditions)}


def is_small(sample: Sample) -> bool:
    """Whether no map of a probe, input included, has more pixels than 480×272."""
    if sample.is_network:
        return False
    sides = [k.height * k.width * (k.stride**2 if k.cls in ("conv", "conv_1x1") else 1) for k in sample.network.kernels]
    return max(sides) <= SMALL_PIXELS


def judged(known: Sequence[Sample], samples: Sequence[Sample]) -> dict[str, Any]:
    """Return how a fit to `known` foresees all whole networks but the references, which are small."""
    predictor, _ = fit_measured(known, io_bytes=4, map_bytes=4)
    networks = [s for s in samples if s.is_network and not s.label.startswith("reference-")]
    return figures([held_out(predictor, s) for s in networks], predictor) | {"fitted_to": len(known)}


def figures(held: Sequence[HeldOut], predictor: Predictor) -> dict[str, Any]:
    predicted, measured = [h.predicted_ms for h in held], [h.measured_ms for h in held]
    widths = [h.beyond**predictor.interval.growth for h in held]
    low = [p * exp(w * predictor.interval.low) for p, w in zip(predicted, widths, strict=True)]
    high = [p * exp(w * predictor.interval.high) for p, w in zip(predicted, widths, strict=True)]
    return {
        "networks": len(held),
        "mape": accuracy.mape(predicted, measured),
        "within_10_percent": accuracy.within(predicted, measured),
        "spearman": accuracy.spearman(predicted, measured),
        "coverage_80": accuracy.coverage(low, high, measured),
        "largest_error": max(abs(p / m - 1) for p, m in zip(predicted, measured, strict=True)),
        "measured_ms": [min(measured), max(measured)],
    }


def by_family(held: Sequence[HeldOut]) -> dict[str, dict[str, float]]:
    families = sorted({h.family for h in held})
    groups = {family: [h for h in held if h.family == family] for family in families}
    return {
        family: {
            "networks": len(group),
            "mape": accuracy.mape([h.predicted_ms for h in group], [h.measured_ms for h in group]),
        }
        for family, group in groups.items()
    }


def seconds_for_candidates(predictor: Predictor) -> float:
    space, rng = load_space("mai21"), random.Random(0)
    begun = time.process_time()
    for _ in range(CANDIDATES):
        predictor.predict(network(build_graph(space.sample(lambda _, values, __: rng.choice(values)))))
    return time.process_time() - begun


def noise(first: Sequence[Timing], second: Sequence[Timing]) -> dict[str, float]:
    """Return how far two runs are apart, each in the unit of its own reference's recorded time."""
    scale = {name: old / new for name, old, new in pairs(first, second) if name == "reference-smallnet-544x960"}
    unit = scale["reference-smallnet-544x960"]
    apart = [abs(new * unit / old - 1) for name, old, new in pairs(first, second) if not name.startswith("reference-")]
    return {"networks": len(apart), "mean": sum(apart) / len(apart), "largest": max(apart), "unit": unit}


def pairs(first: Sequence[Timing], second: Sequence[Timing]) -> list[tuple[str, float, float]]:
    old = {timing.network: timing.runtime_ms for timing in first}
    return [(t.network, old[t.network], t.runtime_ms) for t in second if t.network in old]


if __name__ == "__main__":
    main()
