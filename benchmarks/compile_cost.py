"""Measure what compiling costs a search and its share of training time.

    python benchmarks/compile_cost.py [--members 4] [--out benchmarks/compile_cost.json]

For designs and random members of `mai21` (batch and patch of a search on a CPU): seconds from a graph to the
executables of the training step and of judging, first with an empty persistent cache (cold), then in a second process
that finds it filled (warm), and the milliseconds of a training step. Each in a process of its own, since JAX remembers
what it compiled.

`share` is compiling over training for a candidate under each default ladder: all are compiled once, cold, and train to
the first rung, a third of them to the second, and so on; one that climbs finds its executable in the process or in the
cache. It is an estimate from means, not a search of a hundred candidates.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nas import provenance
from nas.search.budget import Budget
from nas.search.successive_halving import ETA, default_ladder
from search_spaces.designs import DESIGNS
from search_spaces.space import load_space
from search_spaces.spec import ArchSpec

SMALL = ("smallnet", "csanet", "enerzai-dense", "acvlab", "cvml", "isp-forever")
BUDGETS = {
    "5m": Budget(seconds=300),
    "1h": Budget(seconds=3600),
    "100 candidates": Budget(candidates=100),
    "8h": Budget(seconds=8 * 3600),
}
PAIRS = (8, 128, 128, 4)  # judged at once: eight packed pairs of the challenge's size
STEPS = 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(ArchSpec.from_dict(json.loads(options.measure)))))
        return
    cases = [case(name, spec) for name, spec in networks(options.members, options.seed).items()]
    made_by = provenance.collect() | {"command": " ".join(["python", *sys.argv]), "load_average": os.getloadavg()}
    report = {"provenance": made_by, "mean": means(cases), "share": shares(means(cases)), "cases": cases}
    text = json.dumps(report, indent=1, ensure_ascii=False)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


def networks(members: int, seed: int) -> dict[str, ArchSpec]:
    import random

    space, rng = load_space("mai21"), random.Random(seed)
    drawn = {f"member {n}": space.sample(lambda _, values, __: rng.choice(values)) for n in range(members)}
    return {name: DESIGNS[name].spec for name in SMALL} | drawn


def case(name: str, spec: ArchSpec) -> dict[str, Any]:
    """Measure one network twice, the second time with the cache that the first has filled."""
    with tempfile.TemporaryDirectory() as cache:
        cold, warm = (in_a_process(spec, Path(cache)) for _ in range(2))
    row = {"network": name, "spec": spec.hash} | {f"cold_{k}": v for k, v in cold.items()}
    row |= {f"warm_{k}": v for k, v in warm.items() if k != "step_ms"}
    sys.stderr.write(f"{name}: cold {cold['step_s'] + cold['judge_s']:.2f} s, step {cold['step_ms']:.1f} ms\n")
    return row | {"step_ms": min(cold["step_ms"], warm["step_ms"])}


def in_a_process(spec: ArchSpec, cache: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--measure", json.dumps(spec.to_dict())]
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(cache)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    seconds: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return seconds


def measure(spec: ArchSpec) -> dict[str, float]:
    from nas import backend

    backend.prepare()
    import jax
    import numpy as np

    from nas.data.raw_format import RawFormat
    from nas.train import evaluation, loop
    from nas.train.recipe import HARDWARE_RECIPE, Recipe
    from nas.train.step import Constants, StepPlan, compiled_step, ready, state_of
    from search_spaces.networks import build_graph

    jax.block_until_ready(jax.numpy.zeros(1) + 1)  # starting JAX is no cost of a candidate
    graph, recipe = build_graph(spec), Recipe(**HARDWARE_RECIPE["cpu"])
    plan = StepPlan.of(recipe)
    step, step_s = compiled_step(graph, plan)
    begun = time.perf_counter()
    evaluation.executable(graph, PAIRS)
    judge_s = time.perf_counter() - begun
    state = state_of(graph, ready(graph, loop.start(graph, seed=0, spec_hash=""), plan, seed=0), plan)
    n, patch = recipe.batch, recipe.patch
    batch = np.full((n, patch // 2, patch // 2, 4), 99, np.uint16), np.full((n, patch, patch, 3), 99, np.uint8)
    constants, times = Constants.of(recipe, RawFormat(), {}), []
    for _ in range(STEPS):
        begun = time.perf_counter()
        state, _ = step(state, *batch, np.float32(1e-4), constants)
        jax.block_until_ready(state)
        times.append(1e3 * (time.perf_counter() - begun))
    return {"step_s": step_s, "judge_s": judge_s, "step_ms": statistics.median(times)}


def means(cases: Sequence[dict[str, Any]]) -> dict[str, float]:
    numbers = [name for name in cases[0] if name not in ("network", "spec")]
    return {name: statistics.mean(each[name] for each in cases) for name in numbers}


def shares(mean: dict[str, float]) -> dict[str, dict[str, Any]]:
    """Return seconds of training and compiling per candidate, and their ratio, by budget."""
    compile_s = mean["cold_step_s"] + mean["cold_judge_s"]
    by_network: dict[str, dict[str, Any]] = {}
    for name, budget in BUDGETS.items():
        ladder = default_ladder(budget, "cpu")
        steps = sum((b - a) / ETA**n for n, (a, b) in enumerate(zip((0, *ladder[:-1]), ladder, strict=True)))
        train_s = steps * mean["step_ms"] / 1e3
        row = {"rungs": ladder, "compile_s": compile_s, "train_s": train_s}
        by_network[name] = row | {"compile_to_train": compile_s / train_s}
    return by_network


if __name__ == "__main__":
    main()
