"""Compare the measured peak memory of training and evaluation with the estimate of nas.train.memory.

    python benchmarks/training_memory.py [--out benchmarks/training_memory.json]

Each case runs in a fresh process with an empty compile cache, and counts what its resident memory rose above the level
after the imports. Judging is of eight pairs of 256×256 at a time.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

from nas import provenance
from search_spaces.system.machine import usable_cores

DESIGN_NAMES = ("smallnet", "csanet")
PATCHES, BATCHES = (64, 256), (4, 32)
STEPS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--case", nargs=4, metavar=("WHAT", "DESIGN", "BATCH", "PATCH"), help="measure one, here")
    options = parser.parse_args()
    if options.case:
        what, name, batch, patch = options.case
        print(json.dumps(measure(what, name, int(batch), int(patch))))
        return
    made_by = provenance.collect() | {"command": " ".join(["python", *sys.argv])}
    report = {"provenance": made_by, "cores": usable_cores(), "cases": every_case()}
    text = json.dumps(report, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


def every_case() -> list[dict[str, Any]]:
    training = [("train", *case) for case in product(DESIGN_NAMES, BATCHES, PATCHES)]
    return [in_fresh_process(*case) for case in [*training, *(("judge", name, 8, 256) for name in DESIGN_NAMES)]]


def in_fresh_process(*case: object) -> dict[str, Any]:
    command = [sys.executable, __file__, "--case", *map(str, case)]
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"ISP_NAS_CACHE": cache}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def measure(what: str, name: str, batch: int, patch: int) -> dict[str, Any]:
    from nas import backend

    backend.prepare()
    import numpy as np

    from nas.data.pairs import PairSet
    from nas.data.raw_format import RawFormat
    from nas.train import evaluation, loop
    from nas.train.memory import PROCESS_BYTES, judging_bytes, training_bytes
    from nas.train.recipe import Recipe
    from search_spaces.designs import DESIGNS
    from search_spaces.networks import build_graph

    spec = DESIGNS[name].spec
    graph, recipe = build_graph(spec), Recipe(batch=batch, patch=patch, total_steps=STEPS)
    rng, shape = np.random.default_rng(0), (batch, patch, patch)
    raw, rgb = (rng.integers(0, 255, s, dtype=t) for s, t in ((shape, np.uint16), ((*shape, 3), np.uint8)))
    pairs = PairSet(raw, rgb, tuple(map(str, range(batch))), RawFormat())
    state = loop.start(graph, seed=0, spec_hash=spec.hash)
    begun = peak_bytes()
    if what == "train":
        loop.train(graph, state, pairs, recipe=recipe, steps=STEPS, seed=0)
        estimate = training_bytes(graph, recipe) + PROCESS_BYTES
    else:
        evaluation.judge(graph, state.parameters, pairs)
        estimate = judging_bytes(graph, evaluation.judged_at_once(pairs)) + PROCESS_BYTES
    rose = peak_bytes() - begun
    case = {"what": what, "design": name, "batch": batch, "patch": patch}
    return case | {"measured_bytes": rose, "estimated_bytes": estimate, "measured_to_estimated": rose / estimate}


def peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


if __name__ == "__main__":
    main()
