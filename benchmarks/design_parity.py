"""Measure how far Flax, TensorFlow and the .tflite file of every design differ, at pair size and at Full HD.

    python benchmarks/design_parity.py --weights FOLDER [--seed 0] [--out benchmarks/design_parity.json]

FOLDER is a work folder of `benchmarks/design_comparison.py`: weights are trained ones, for fresh ones make outputs in
which little can go wrong. Input is uniform noise and validation pairs of the demo set, at Full HD laid side by side.
Every figure is the largest difference over all pixels, relative to the output's range (1 at least).
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from nas import backend, provenance
from nas.data.cache import cache_dir
from nas.data.pairs import DataConfig, PairSet, open_prepared, prepare
from nas.export.verify import Difference, full_size_input
from nas.tflite.interpreter import TfliteModel
from nas.train.checkpoint import load
from nas.train.evaluation import network_input
from nas.train.run_folder import CHECKPOINT_FILE
from search_spaces import lower_flax, lower_tf
from search_spaces.designs import DESIGNS, Design
from search_spaces.graph import FULL_HD, Graph
from search_spaces.networks import build_graph

PATCHES = 4
Array = np.ndarray[Any, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    backend.prepare()
    made_by = provenance.collect()
    made_by["command"] = " ".join(["python", "benchmarks/design_parity.py", "--weights", "FOLDER"])
    pairs = open_prepared(prepare(DataConfig("demo"), cache_dir() / "pairs"), "val")
    results = {}
    for design in DESIGNS.values():
        weights = load(options.weights / f"{design.name}-{options.seed}" / CHECKPOINT_FILE).weights
        results[design.name] = differences(design, weights, pairs)
        print(design.name, json.dumps(results[design.name]), file=sys.stderr)
    text = json.dumps({"provenance": made_by, "differences": results}, indent=1) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text, "utf-8")


def differences(design: Design, weights: dict[str, Array], pairs: PairSet) -> dict[str, float]:
    """Return the differences of one design, `<where>_<input>_<a>_<b>`."""
    _, h, w = pairs.raw.shape
    twin, deploy = build_graph(design.spec, (1, h // 2, w // 2, 4)), build_graph(design.spec, FULL_HD)
    real = network_input(pairs, np.arange(PATCHES))
    noise = np.random.default_rng(0).random(real.shape, np.float32)
    pair_sized = {"real": real, "noise": noise}
    full_sized = {
        "real": full_size_input(deploy, pairs),
        "noise": np.random.default_rng(0).random(FULL_HD, np.float32),
    }
    return {**_compare("pair", twin, weights, pair_sized), **_compare("full_hd", deploy, weights, full_sized)}


def _compare(where: str, graph: Graph, weights: dict[str, Array], inputs: dict[str, Array]) -> dict[str, float]:
    model = TfliteModel(lower_tf.to_tflite(graph, weights))
    flax = lower_flax.jit_apply(graph)
    by_name: dict[str, Callable[[Array], Array]] = {
        "flax": lambda x: np.asarray(flax(weights, x)),  # type: ignore[arg-type]  # NumPy arrays will do
        "tf": lambda x: lower_tf.predict(graph, weights, x),
        "file": model,
    }
    figures = {}
    for name, images in inputs.items():
        made = {by: np.concatenate([run(x[None]) for x in images]) for by, run in by_name.items()}
        for a, b in (("flax", "tf"), ("flax", "file"), ("tf", "file")):
            figures[f"{where}_{name}_{a}_{b}"] = Difference.between(made[a], made[b]).largest
    return figures


if __name__ == "__main__":
    main()
