"""Compare quantisation-aware fine-tuning with plain conversion to int8.

    python benchmarks/qat.py --data pairs/ --label my-pairs [--out benchmarks/qat.json]
    python benchmarks/qat.py smallnet csanet results/reference/demo-5m/card.json --data demo --label demo

Every network is trained in float32, and from that one state come: the fp16 and int16 files; the int8 file as a
converter makes it from weights as they are and the ranges of all their maps' values (`plain_int8`, `plain_int16`), and
as `isp-nas export` writes it (`ptq`, `int16`); that after as many more steps in float32 (`longer_ptq`, with `longer`
the network itself); and that after quantisation-aware fine-tuning (`qat`, what `isp-nas export --qat` writes). Each is
judged as a file by LiteRT on the validation pairs. `--optimiser adam` trains as it was done before Muon. Networks are
designs or files with genes; checkpoints stay in --work, and after a stop the same command continues.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from nas import backend, provenance
from nas.data.cache import cache_dir
from nas.data.pairs import DataConfig, PairSet, identity, open_prepared, prepare
from nas.export.converter import Converter, FineTuned
from nas.export.integers.calibration import Calibrated
from nas.export.options import ExportOptions
from nas.search.network_ref import NetworkRef, resolve
from nas.tflite.interpreter import TfliteModel
from nas.train.default_recipe import default_recipe
from nas.train.evaluation import Quality, judge, quality_of
from nas.train.recipe import Recipe
from search_spaces.graph import Graph
from search_spaces.networks import build_graph
from search_spaces.precision import PRECISIONS

NETWORKS = ("smallnet", "csanet", "results/reference/demo-5m/card.json")
OPTIONS = ExportOptions(precisions=("int8",))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    parser.add_argument("--data", required=True)
    parser.add_argument("--label", required=True, help="what the pairs are called; their place is not kept")
    parser.add_argument("--steps", type=int, default=2700)
    parser.add_argument("--optimiser", choices=("muon", "adam"), default="muon")
    parser.add_argument("--more-steps", type=int, default=1000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "isp-nas-qat")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    backend.prepare()
    made_by = provenance.collect()
    question = f"--label {options.label} --steps {options.steps} --optimiser {options.optimiser}"
    made_by["command"] = f"python benchmarks/qat.py {' '.join(options.networks)} --data … {question}"
    data = DataConfig(options.data)
    rows = [row(name, data, seed, options) for seed in options.seeds for name in options.networks]
    report = {
        "provenance": made_by,
        "data": options.label,
        "data_identity": identity(data),
        "steps": options.steps,
        "more_steps": options.more_steps,
        "recipe": recipe_of(data, options.optimiser).to_dict(),
        "calibration": OPTIONS.calibration,
        "rows": rows,
    }
    text = json.dumps(report, indent=1, ensure_ascii=False) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text, "utf-8")


def row(name: str, data: DataConfig, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Train, fine-tune, convert and judge one network from one seed."""
    label = name if "/" not in name else "found"
    folder = options.work / f"{label}-{seed}"
    run = partial(trained, name, data=data, seed=seed, optimiser=options.optimiser)
    start = run(folder / "float", steps=options.steps)
    longer = run(folder / "longer", steps=options.more_steps, init_from=folder / "float")
    tuned = fine_tuned_of(start, folder / "qat", options.more_steps, seed)
    prepared = prepare(data, cache_dir() / "pairs")
    train, val = open_prepared(prepared, "train"), open_prepared(prepared, "val")
    weights = start.trained.load().parameters
    graph = build_graph(start.spec, (1, val.raw.shape[1] // 2, val.raw.shape[2] // 2, 4))
    as_file = partial(judged_as_file, graph, train=train, val=val)
    as_int8 = partial(as_file, precision="int8")
    with as_a_converter_does():
        plain = {f"plain_{precision}": as_file(weights, precision=precision) for precision in ("int8", "int16")}
    qualities = {
        "float": judge(graph, weights, val),
        "fp16": as_file(weights, precision="fp16"),
        **plain,
        "int16": as_file(weights, precision="int16"),
        "ptq": as_int8(weights),
        "longer": judge(graph, longer.trained.load().parameters, val),
        "longer_ptq": as_int8(longer.trained.load().parameters),
        "qat": as_int8(weights, tuned=tuned),
    }
    print(label, seed, {key: round(quality.psnr_db, 3) for key, quality in qualities.items()}, flush=True)
    figures = {key: {"psnr_db": quality.psnr_db, "ssim": quality.ssim} for key, quality in qualities.items()}
    return {"network": label, "hash": start.spec.hash, "spec": start.spec.to_dict(), "seed": seed, **figures}


def trained(
    name: str, folder: Path, *, data: DataConfig, seed: int, steps: int, optimiser: str, init_from: Path | None = None
) -> NetworkRef:
    """Return a network after training in float32, with the recipe of a search; from other weights more gently."""
    from nas.search.network_training import QAT_RATE
    from nas.train.long_run import run
    from nas.train.run_folder import TrainingRun

    recipe = recipe_of(data, optimiser).scaled(steps)
    if init_from:
        recipe = recipe.changed(learning_rate=QAT_RATE * recipe.learning_rate)
    spec = resolve(name, folder / "none").spec
    first = None if init_from is None else str(resolve(str(init_from), folder / "none").trained.path)
    run(TrainingRun(folder, spec, data, recipe, seed, init_from=first))
    return resolve(str(folder), folder / "none")


def fine_tuned_of(start: NetworkRef, folder: Path, steps: int, seed: int) -> FineTuned:
    """Return what `isp-nas train --qat` comes to."""
    from nas.export.qat import fine_tuned, quantisation
    from nas.search.network_training import TrainingRequest, plan_training

    options = TrainingRequest({}, steps=steps, qat=True, seed=seed, out=folder)
    plan_training(start, options, folder / "none").run(quantise=quantisation)
    return fine_tuned(folder, start)


def recipe_of(data: DataConfig, optimiser: str) -> Recipe:
    """Return the recipe of a search, or with Adam what it was before Muon, of as many pixels a step."""
    default = default_recipe("cpu", data)
    if optimiser == "muon":
        return default
    return replace(default, optimiser="adam", learning_rate=3e-3, vector_rate=1.0, initialiser="he")


def judged_as_file(
    graph: Graph,
    weights: Mapping[str, Any],
    *,
    precision: str,
    train: PairSet,
    val: PairSet,
    tuned: FineTuned | None = None,
) -> Quality:
    """Return what LiteRT makes of the validation pairs with the file of a precision."""
    model = TfliteModel(Converter(graph, dict(weights), train, OPTIONS, tuned).convert(PRECISIONS[precision]).twin)
    return quality_of(lambda batch: np.concatenate([model(x[None]) for x in batch]), val, batch=1)


@contextmanager
def as_a_converter_does() -> Iterator[None]:
    """Leave channels as they are, round each weight by itself, and take the ranges of all values."""

    def held(converter: Converter, *_: object) -> Calibrated:
        weights = converter._weights
        return Calibrated(weights, weights, {})

    with patch.object(Converter, "_held", held):
        yield


if __name__ == "__main__":
    main()
