"""Measure a predictor's error on three phones' GPUs, from public timings of 102 networks; no phone is needed.

    python benchmarks/phone_latency.py FOLDER [--draws 20] [--out benchmarks/phone_latency.json]

FOLDER holds `cnn_gpu_ops_us.csv` and `cnn_end_to_end_us.csv`: per-operation and whole-model GPU times in microseconds
of a Pixel 4, a Galaxy S10 and an iPhone 7 (Li et al., ICPE 2023; qed-usc/mobile-ml-benchmark, MIT). The product does
not need them and they are not part of it.

`operations`: the operations of ten networks and the times of these ten are known (about 540 rows), the other 92 are
foreseen; `unseen_families` are those of them whose family none of the ten has.
`few networks`: k networks were timed as a whole, the other two phones' predictors (each fitted to the operations of 50
networks) are known, and 52 networks that no fit has seen are foreseen, on the target or on the sources. The k are among
the 50. With `--sources whole` the sources know the times of 50 whole networks alone, as the built-in devices do.
`CPU`: the same for CPU cores of these phones, with all three GPUs known: `alone` is the fit of
eight coefficients without any prior.
Means over phones and draws of the mean relative error, and of the share within ten percent.
"""

import argparse
import csv
import json
import random
import re
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from latency_models import accuracy
from latency_models.calibration import fit_measured, fit_tied, fit_transfer
from latency_models.kernels import Kernel, Network
from latency_models.predictor import Predictor
from latency_models.samples import Sample
from nas import provenance
from search_spaces.errors import DeviceError

PHONES = ("pixel4", "s10", "iphone7")
CPU_CORES = ("pixel4|1large", "s10|1large", "iphone7|1large")
KNOWN_MODELS, SOURCE_MODELS = 10, 50
FEW = (5, 10, 20, 40)
FP16, FP32 = 2, 4
INPUT_ELEMENTS, OUTPUT_ELEMENTS = 224 * 224 * 3, 1000
# Networks that know each other beyond a common beginning of their names.
FAMILIES = {"mobilenetb": "mobilenet", "fdmobilenet": "mobilenet", "mobilenetvb": "mobilenetv", "resnetbc": "resnet",
            "preresnetbc": "preresnet", "seresnet": "seresnet", "sepreresnet": "preresnet"}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--only", choices=("operations", "few_networks"))
    parser.add_argument("--sources", choices=("operations", "whole"), default="operations")
    parser.add_argument("--few", type=int, nargs="+", default=FEW)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    data = read(options.folder)
    few = partial(few_networks, few=options.few, by=options.sources)
    parts: dict[str, Callable[[Data, int], dict[str, Any]]] = {"operations": operations, "few_networks": few}
    results: dict[str, Any] = {}
    for name, judge in parts.items():
        if options.only in (None, name):
            results |= {name: judge(data, options.draws)}
    command = " ".join(["python", "benchmarks/phone_latency.py", "FOLDER", *sys.argv[2:]])
    text = json.dumps(
        {"provenance": provenance.collect() | {"command": command}, **results}, indent=1, ensure_ascii=False
    )
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


class Data:
    """Kernels by network, their times and the networks' by phone, in milliseconds."""

    def __init__(self) -> None:
        self.kernels: dict[str, list[Kernel]] = defaultdict(list)
        self.kernel_ms: dict[tuple[str, str], list[float]] = defaultdict(list)
        self.network_ms: dict[tuple[str, str], float] = {}

    @property
    def models(self) -> list[str]:
        return sorted(self.kernels)

    def operations(self, phone: str, models: Sequence[str]) -> list[Sample]:
        """Return every operation of these networks as a profiled kernel."""
        return [
            Sample(Network((kernel,), 1, 1), ms, family(model), f"{model}#{n}", whole=False)
            for model in models
            for n, (kernel, ms) in enumerate(zip(self.kernels[model], self.kernel_ms[phone, model], strict=True))
        ]

    def whole(self, phone: str, models: Sequence[str]) -> list[Sample]:
        """Return these networks as they were timed whole."""
        return [
            Sample(
                Network(tuple(self.kernels[model]), INPUT_ELEMENTS, OUTPUT_ELEMENTS),
                self.network_ms[phone, model],
                family(model),
                model,
            )
            for model in models
        ]


def read(folder: Path) -> Data:
    data = Data()
    with (folder / "cnn_gpu_ops_us.csv").open() as file:
        for row in csv.DictReader(file):
            data.kernels[row["model"]].append(kernel(row))
            for phone in PHONES:
                data.kernel_ms[phone, row["model"]].append(float(row[f"{phone}|gpu|float"]) / 1e3)
    with (folder / "cnn_end_to_end_us.csv").open() as file:
        for row in csv.DictReader(file):
            for phone in PHONES:
                data.network_ms[phone, row["model"]] = float(row[f"{phone}|gpu|float|mean"]) / 1e3
            for core in CPU_CORES:
                data.network_ms[core, row["model"]] = float(row[f"{core}|float|mean"]) / 1e3
    return data


def kernel(row: dict[str, str]) -> Kernel:
    op, side, made = row["operation"], number(row, "Input_shape"), number(row, "Output_shape")
    cin, taps, groups = number(row, "Input_channel"), number(row, "Kernel"), number(row, "Group")
    cout, cls, macs, weights = number(row, "Filter", cin), "memory", 0, 0
    if op.startswith("CONV_2D"):
        cls = "conv_1x1" if taps == 1 else "conv"
        weights = taps * taps * cin // groups * cout + cout
        macs = made * made * taps * taps * cin // groups * cout
    elif op == "DEPTHWISE_CONV_2D":
        cls, cout, groups, weights, macs = "depthwise", cin, 1, taps * taps * cin + cin, made * made * taps * taps * cin
    elif op == "FULLY_CONNECTED":
        cls, side, made, weights, macs = "fully_connected", 1, 1, cin * cout + cout, cin * cout
    elif op == "MEAN":
        made, cout = 1, cin
    name = op.removesuffix("_GROUP")
    return Kernel(
        op, (), cls, name, macs, side * side * cin, made * made * cout, weights, cin, cout, taps,
        number(row, "Stride"), made, made, (), "", groups=groups if cls in ("conv", "conv_1x1") else 1,
    )  # fmt: skip


def number(row: dict[str, str], column: str, otherwise: int = 1) -> int:
    """Return a whole number; `otherwise` where the table has none for this operation."""
    return int(float(row[column])) if row[column] not in ("", "-", "NA") else otherwise


def family(model: str) -> str:
    beginning = re.match(r"[a-z]+", model.split("_")[0])
    name = beginning[0] if beginning else model
    return FAMILIES.get(name, name)


def operations(data: Data, draws: int) -> dict[str, Any]:
    """Return how ten profiled networks tell the times of the others."""
    errors: dict[str, list[dict[str, float]]] = defaultdict(list)
    for draw in range(draws):
        known = random.Random(draw).sample(data.models, KNOWN_MODELS)
        families = {family(model) for model in known}
        others = [model for model in data.models if model not in known]
        for phone in PHONES:
            samples = [*data.operations(phone, known), *data.whole(phone, known)]
            predictor, _ = fit_measured(samples, io_bytes=FP32, map_bytes=FP16)
            foreseen = {s.label: judged(predictor, s) for s in data.whole(phone, others) if able(predictor, s)}
            errors["refused"].append({"networks": len(others) - len(foreseen)})
            errors["rows"].append({"rows": len(samples)})
            errors["all"].append(counted(list(foreseen.values())))
            errors["unseen_families"].append(counted([v for m, v in foreseen.items() if family(m) not in families]))
        print("draw", draw, errors["unseen_families"][-1], file=sys.stderr)
    return {name: mean_of(values) for name, values in errors.items()}


def few_networks(data: Data, draws: int, *, few: Sequence[int], by: str) -> dict[str, Any]:
    """Return how k networks timed whole, with the other phones' predictors, tell those of networks unseen by all."""
    errors: dict[str, list[dict[str, float]]] = defaultdict(list)
    for draw in range(draws):
        rng = random.Random(1000 + draw)
        known = rng.sample(data.models, SOURCE_MODELS)
        others = [model for model in data.models if model not in known]
        sources = {phone: source(data, phone, known, by) for phone in PHONES}
        for phone in PHONES:
            for k in few:
                chosen = rng.sample(known, k)
                predictor, _ = fit_transfer(data.whole(phone, chosen), [sources[p] for p in PHONES if p != phone])
                errors[f"k={k}"].append(with_coverage(predictor, data.whole(phone, others)) | {"networks": len(others)})
        for core, k in product(CPU_CORES, few):
            chosen = rng.sample(known, k)
            mine, tested = data.whole(core, chosen), data.whole(core, others)
            for name, predictor in {
                "": fit_transfer(mine, list(sources.values()))[0],
                " alone": fit_tied(mine, io_bytes=FP32, map_bytes=FP32)[0],
            }.items():
                errors[f"CPU k={k}{name}"].append(with_coverage(predictor, tested) | {"networks": len(tested)})
        print("draw", draw, errors[f"k={few[-1]}"][-1], file=sys.stderr)
    return {name: mean_of(values) for name, values in errors.items()}


def source(data: Data, phone: str, models: Sequence[str], by: str) -> Predictor:
    whole = data.whole(phone, models)
    if by == "whole":  # as the built-in devices are made
        return fit_tied(whole, io_bytes=FP32, map_bytes=FP16)[0]
    return fit_measured([*data.operations(phone, models), *whole], io_bytes=FP32, map_bytes=FP16)[0]


def able(predictor: Predictor, sample: Sample) -> bool:
    """Tell whether the predictor knows every class of kernels; it refuses what it does not."""
    try:
        predictor.predict(sample.network)
    except DeviceError:
        return False
    return True


def judged(predictor: Predictor, sample: Sample) -> tuple[float, float]:
    return predictor.predict(sample.network).runtime_ms, sample.runtime_ms


def figures(predicted: Sequence[float], measured: Sequence[float]) -> dict[str, float]:
    return {
        "mape": accuracy.mape(predicted, measured),
        "within_10_percent": accuracy.within(predicted, measured),
        "spearman": accuracy.spearman(predicted, measured),
    }


def counted(pairs: Sequence[tuple[float, float]]) -> dict[str, float]:
    predicted, measured = zip(*pairs, strict=True)
    return figures(predicted, measured) | {"networks": len(pairs)}


def with_coverage(predictor: Predictor, tested: Sequence[Sample]) -> dict[str, float]:
    """Return the figures, and the share of networks inside the interval that a user is shown."""
    predictions = [predictor.predict(s.network) for s in tested]
    predicted, measured = [p.runtime_ms for p in predictions], [s.runtime_ms for s in tested]
    coverage = accuracy.coverage([p.low_ms for p in predictions], [p.high_ms for p in predictions], measured)
    return figures(predicted, measured) | {"coverage_80": coverage}


def mean_of(values: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.mean(each[name] for each in values) for name in values[0]}


if __name__ == "__main__":
    main()
