"""Train many networks of `mai21` alike and tabulate their quality, as data for priors and proposals.

    python benchmarks/candidate_table.py --data demo --out results/table/demo.jsonl --candidates 1000

A third are random members, a third small changes of published designs, a third small changes of the best so far, all
within a runtime. Every row is one network from one seed, trained by the default recipe over the last of `--steps`, and
judged at each. Rows are appended as they come; the same command goes on where it stopped. `--seeds 3` trains the
first `--repeated` candidates from more seeds. `--of TABLE --best 24` trains the best of another table instead, and
the best design, from `--first-seed` on, and then small changes of whatever was best so trained: over more steps it
tells how far short training is to be trusted, and what gains late. `--origins published` leaves only those of that
table which come from there; `--candidates 0` ends with them. `--study FOLDER` takes in what a study trained over as
many steps.
"""

import argparse
import json
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from training_recipes import provenance_of_rows, read

from latency_models.device import load_device
from nas import backend
from nas.defaults import DEFAULT_DATA, DEFAULT_DEVICE
from nas.search.candidate import Rung
from nas.search.score import final_score
from nas.search.study import StudyRecord, load
from nas.train.recipe import HARDWARE_RECIPE, Recipe
from search_spaces.designs import DESIGNS
from search_spaces.graph import Graph
from search_spaces.networks import build_graph
from search_spaces.space import load_space
from search_spaces.spec import GENES, ArchSpec, Value

BEST, MEAN_CHANGES = 15, 2
MANY = 40  # of the best, whose genes are mixed
ORIGINS = ("random", "design", "evolved")
SPACE, DEVICE = load_space("mai21"), load_device(DEFAULT_DEVICE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="demo")
    parser.add_argument("--label", help="what the provenance calls the data; else the name of its folder")
    parser.add_argument("--candidates", type=int, default=1000)
    parser.add_argument("--steps", nargs="+", type=int, default=[300, 900, 2700])
    parser.add_argument("--max-runtime", type=float, default=200.0, help="ms; beyond 200 the score falls by steps")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--repeated", type=int, default=100)
    parser.add_argument("--of", type=Path, help="another table")
    parser.add_argument("--best", type=int, default=24, help="how many of it, by score at its last steps")
    parser.add_argument("--origins", nargs="+", help="only those of it that come from there")
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--study", type=Path, help="folder of a study on the same pairs")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    backend.prepare()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    label = options.label or Path(options.data).name
    made_by = provenance_of_rows({options.data: label})
    table = Table(options.data, tuple(options.steps), options.max_runtime, options.out, made_by)
    if options.study:
        table.take_in(load(options.study))
        return
    if options.of:
        of = [row for row in read(options.of) if not options.origins or row["origin"] in options.origins]
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            table.best_of(of, options.best, seed)
        table.evolve(options.candidates, options.first_seed)
        return
    table.first_seed(options.candidates)
    for seed in range(2, options.seeds + 1):
        table.again(seed, options.repeated)


class Table:
    """The rows of one data set, in the order in which they were made."""

    def __init__(
        self, source: str, steps: Sequence[int], max_runtime_ms: float, path: Path, made_by: dict[str, Any]
    ) -> None:
        self._source, self._steps, self._path, self._made_by = source, steps, path, made_by
        self._max_runtime_ms = max_runtime_ms
        self.rows = read(path)
        self._seen = {row["structure"] for row in self.rows}

    def first_seed(self, candidates: int) -> None:
        designs = [design.spec for design in DESIGNS.values() if design.variant_of is None]
        while (number := sum(row["seed"] == 1 for row in self.rows)) < candidates:
            if number < len(designs):
                self._train(designs[number], "published", 1)
            else:
                origin = ORIGINS[number % len(ORIGINS)]
                self._train(self._fresh(origin, random.Random(number)), origin, 1)

    def again(self, seed: int, candidates: int) -> None:
        self._train_missing([row for row in self.rows if row["seed"] == 1][:candidates], seed)

    def best_of(self, rows: Sequence[dict[str, Any]], count: int, seed: int) -> None:
        """Train the best networks of another table, in turns from the best on, and the best design."""
        first = {row["spec"]: row for row in reversed(rows) if "psnr_db" in row}
        known = sorted(first.values(), key=lambda r: -score(r))
        best_design = [row for row in known if row["origin"] == "published"][:1]
        chosen = [*best_design, *known[:count]]
        self._train_missing(chosen, seed)

    def _train_missing(self, rows: Sequence[dict[str, Any]], seed: int) -> None:
        """Train the networks of rows from a seed, each once."""
        done = {row["spec"] for row in self.rows if row["seed"] == seed}
        for row in {row["spec"]: row for row in rows}.values():
            if row["spec"] not in done:
                self._train(ArchSpec.from_dict(row["genes"]), row["origin"], seed)

    def take_in(self, study: StudyRecord) -> None:
        """Add what a study trained over as many steps: its rungs where the last one is that long, and its finals."""
        for candidate in study.trained():
            trainings: list[tuple[int, tuple[Rung, ...]]] = [(seed, (f,)) for seed, f in candidate.finals.items()]
            if study.config.rungs[-1] == self._steps[-1] == max(r.steps for r in candidate.rungs.values()):
                trainings.append((study.config.seed, tuple(r for _, r in sorted(candidate.rungs.items()))))
            for seed, stops in trainings:
                known = (candidate.spec.hash, seed) in {(row["spec"], row["seed"]) for row in self.rows}
                if stops[-1].steps == self._steps[-1] and not known:
                    self._append(candidate.spec, "search", seed, row_of(stops))

    def evolve(self, candidates: int, seed: int) -> None:
        """Train small changes of the best, and mixtures of many of the best, until there are so many networks."""
        while (number := sum(row["seed"] == seed for row in self.rows)) < candidates:
            origin = ("evolved", "recombined")[number % 2]
            self._train(self._fresh(origin, random.Random(number)), origin, seed)

    def _fresh(self, origin: str, rng: random.Random) -> ArchSpec:
        for spec in self._proposals(origin, rng):
            graph = build_graph(spec)
            if graph.structure not in self._seen and runtime_ms(graph) <= self._max_runtime_ms:
                return spec
        raise AssertionError("proposals never end")

    def _proposals(self, origin: str, rng: random.Random) -> Iterator[ArchSpec]:
        parents = [design.spec for design in DESIGNS.values() if design.variant_of is None]
        if origin in ("evolved", "recombined"):
            known = sorted((r for r in self.rows if "psnr_db" in r), key=lambda r: -score(r))
            parents = [ArchSpec.from_dict(row["genes"]) for row in known[: BEST if origin == "evolved" else MANY]]
        while True:
            if origin == "random":
                yield SPACE.sample(lambda _, values, __: rng.choice(values))
            elif origin == "recombined":
                genes: dict[str, Value] = {name: SPACE.genes_of(rng.choice(parents))[name] for name in GENES}
                yield SPACE.variation(ArchSpec(**genes), 2, rng.choice)  # type: ignore[arg-type]
            else:
                changes = 1 + min(5, int(rng.expovariate(1 / MEAN_CHANGES)))
                yield SPACE.variation(rng.choice(parents), changes, rng.choice)

    def _train(self, spec: ArchSpec, origin: str, seed: int) -> None:
        self._append(spec, origin, seed, trained(build_graph(spec), spec, self._source, self._steps, seed))

    def _append(self, spec: ArchSpec, origin: str, seed: int, training: dict[str, Any]) -> None:
        graph = build_graph(spec)
        row = {"spec": spec.hash, "genes": spec.to_dict(), "structure": graph.structure, "origin": origin, "seed": seed}
        row |= {"runtime_ms": runtime_ms(graph), "macs": graph.macs, "parameters": graph.parameters}
        row |= training | {"made_by": self._made_by}
        with self._path.open("a") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
        self.rows.append(row)
        self._seen.add(graph.structure)
        sys.stderr.write(f"{len(self.rows)} {origin} {row.get('psnr_db', row.get('failure'))}\n")


def row_of(stops: Sequence[Rung]) -> dict[str, Any]:
    return {
        "steps": [stop.steps for stop in stops],
        "psnr_db": [stop.psnr_db for stop in stops],
        "ssim": [stop.ssim for stop in stops],
        "train_s": [stop.train_s for stop in stops],
        "compile_s": sum(stop.compile_s for stop in stops),
        "judge_s": [stop.evaluate_s for stop in stops],
        "rate_share": stops[-1].rate_share,
    }


def score(row: dict[str, Any]) -> float:
    return final_score(row["psnr_db"][-1], row["runtime_ms"])


def runtime_ms(graph: Graph) -> float:
    return DEVICE.predict(graph, allow_fallback=True).runtime_ms


def trained(graph: Graph, spec: ArchSpec, source: str, steps: Sequence[int], seed: int) -> dict[str, Any]:
    """Return PSNR and SSIM at each of `steps`, and the seconds that compiling, training and judging took."""
    from nas.data.cache import cache_dir
    from nas.data.demo.demo_set import demo_folder
    from nas.data.pairs import open_prepared, prepare
    from nas.train import loop
    from nas.train.evaluation import Evaluator
    from search_spaces.errors import TrainingError

    if source == "demo":
        demo_folder()
    prepared = prepare(replace(DEFAULT_DATA, source=source), cache_dir() / "pairs")
    pairs, val = open_prepared(prepared, "train"), open_prepared(prepared, "val")
    recipe = Recipe(**HARDWARE_RECIPE["cpu"]).scaled(steps[-1])
    state = loop.start(graph, seed=seed, spec_hash=spec.hash, initialiser=recipe.initialiser)
    begun = time.perf_counter()
    judge = Evaluator(graph, val)
    compile_s, train_s, judge_s, qualities = time.perf_counter() - begun, [], [], []
    for until in steps:
        try:
            done = loop.train(graph, state, pairs, recipe=recipe, steps=until, seed=seed)
        except TrainingError as error:
            return {"failure": str(error), "steps": list(steps)}
        state, compile_s, begun = done.checkpoint, compile_s + done.compile_s, time.perf_counter()
        qualities.append(judge.quality(state.weights))
        train_s.append(done.train_s)
        judge_s.append(time.perf_counter() - begun)
    return {
        "steps": list(steps),
        "psnr_db": [q.psnr_db for q in qualities],
        "ssim": [q.ssim for q in qualities],
        "train_s": train_s,
        "compile_s": compile_s,
        "judge_s": judge_s,
        "rate_share": state.rate_share,
    }


if __name__ == "__main__":
    main()
