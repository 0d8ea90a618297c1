"""Compare training recipes: the quality of networks after so many steps, by recipe, data and seed.

    python benchmarks/training_recipes.py --data demo --recipes adam muon --networks smallnet csanet \
        --steps 300 900 --seeds 1 2 3 --out results/training/designs.jsonl

Every row is a training of its own, whose learning rate falls over its steps, judged on all validation pairs with
the weights that would be exported. Rows are appended as they come, each with what made it; the same command goes on
where it stopped, and trains nothing twice. `--table` prints means and standard deviations over seeds. Members of
`mai21` are called `member-1`, `member-2`, … as in `isp-nas audit`.
"""

import argparse
import itertools
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nas import backend, provenance
from nas.train.recipe import HARDWARE_RECIPE, Recipe
from search_spaces.designs import DESIGNS
from search_spaces.space import load_space
from search_spaces.spec import ArchSpec

ADAM = Recipe(batch=4, patch=64)  # the default until Muon came
MUON = Recipe(**HARDWARE_RECIPE["cpu"])
ONE_RATE = replace(MUON, full_rate_steps=0)  # however long a training is
HE = replace(ONE_RATE, vector_rate=0.1, initialiser="he")  # the first of Muon's, from which most of the tries began
RECIPES: dict[str, Recipe] = {
    "adam": ADAM,
    "adam-average": replace(ADAM, average_share=0.1),
    "adam-16x32": replace(ADAM, average_share=0.1, batch=16, patch=32),
    "muon": MUON,
    "muon-branches": replace(ONE_RATE, reparameterise=True),
    "muon-v0.1": replace(ONE_RATE, vector_rate=0.1),
    "muon-v0.1-0.03": replace(ONE_RATE, vector_rate=0.1, learning_rate=0.03),
    "muon-v0.2-0.03": replace(ONE_RATE, vector_rate=0.2, learning_rate=0.03),
    "muon-he-v0.1": HE,
    "muon-he-v0.3": replace(HE, vector_rate=0.3),
    "muon-he-v1": replace(HE, vector_rate=1.0),
    "muon-he-v0.1-0.01": replace(HE, learning_rate=0.01),
    "muon-he-v0.1-0.03": replace(HE, learning_rate=0.03),
    "muon-he-v0.1-4x64": replace(HE, batch=4, patch=64),
    "muon-0.02": ONE_RATE,
    "muon-4x64": replace(ONE_RATE, batch=4, patch=64),
    "muon-0.01": replace(ONE_RATE, learning_rate=0.01),
    "muon-0.005": replace(ONE_RATE, learning_rate=0.005),
    "muon-clip": replace(ONE_RATE, clip_norm=1.0),
}
KEY = ("network", "spec", "data", "recipe", "steps", "seed")
Train = Callable[[ArchSpec, str, int, int], dict[str, Any]]


def main() -> None:
    parser = rows_parser(__doc__, [n for n, d in DESIGNS.items() if d.variant_of is None], [300, 900], [1, 2, 3])
    parser.add_argument("--recipes", nargs="+", default=["adam", "muon"], choices=RECIPES)
    options = parser.parse_args()

    def train(spec: ArchSpec, recipe: str, steps: int, seed: int) -> dict[str, Any]:
        return trained(spec, options.data, RECIPES[recipe].scaled(steps), seed)

    if not options.table:
        train_all(options, options.recipes, train)
    sys.stdout.write(table(read(options.out)))


def rows_parser(
    description: str | None, networks: Sequence[str], steps: Sequence[int], seeds: Sequence[int]
) -> argparse.ArgumentParser:
    """Return the options of a benchmark that makes a row per training, with these defaults."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="demo")
    parser.add_argument("--label", help="what rows call the data; else the name of its folder")
    parser.add_argument("--networks", nargs="+", default=networks)
    parser.add_argument("--steps", nargs="+", type=int, default=steps)
    parser.add_argument("--seeds", nargs="+", type=int, default=seeds)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--table", action="store_true", help="print what the file holds and train nothing")
    return parser


def train_all(options: argparse.Namespace, recipes: Sequence[str], train: Train) -> None:
    """Append the rows that `--out` does not have yet; `train` gets spec, recipe, steps and seed."""
    backend.prepare()
    specs = dict(networks(options.networks))
    done = {key(row) for row in read(options.out)}
    data = options.label or label(options.data)
    made_by = provenance_of_rows({options.data: data})
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for seed, steps, name, recipe in itertools.product(options.seeds, options.steps, specs, recipes):
        wanted = {"network": name, "spec": specs[name].hash, "data": data, "recipe": recipe}
        wanted |= {"steps": steps, "seed": seed}
        if key(wanted) in done:
            continue
        row = wanted | train(specs[name], recipe, steps, seed)
        with options.out.open("a") as file:
            file.write(json.dumps(row | {"load": os.getloadavg()[0], "made_by": made_by}, ensure_ascii=False) + "\n")
        sys.stderr.write(f"{name} {recipe} {steps} steps, seed {seed}: {row.get('psnr_db', row.get('failure'))}\n")


def provenance_of_rows(called: Mapping[str, str]) -> dict[str, Any]:
    """Return what makes the rows, with its command: some of its words called otherwise, and of paths only the name."""
    return provenance.collect() | {"command": without_places(["python", *sys.argv], called)}


def without_places(words: Sequence[str], called: Mapping[str, str]) -> str:
    """Return a command, some of its words called otherwise: where pairs and results lie is nobody's business."""
    return " ".join(called.get(word, Path(word).name if word.startswith("/") else word) for word in words)


def networks(names: Sequence[str]) -> Iterator[tuple[str, ArchSpec]]:
    from nas.audit.trainings import default_networks

    members = {network.name: network.spec for network in default_networks(load_space("mai21"))}
    for name in names:
        yield name, DESIGNS[name].spec if name in DESIGNS else members[name]


def label(data: str) -> str:
    return "demo" if data == "demo" else Path(data).resolve().name


def trained(spec: ArchSpec, source: str, recipe: Recipe, seed: int) -> dict[str, Any]:
    from nas.data.pairs import open_prepared
    from nas.train import loop
    from nas.train.evaluation import Evaluator
    from search_spaces.errors import TrainingError
    from search_spaces.networks import build_graph

    prepared = prepared_pairs(source)
    graph = build_graph(spec)
    state = loop.start(graph, seed=seed, spec_hash=spec.hash, initialiser=recipe.initialiser)
    try:
        done = loop.train(
            graph, state, open_prepared(prepared, "train"), recipe=recipe, steps=recipe.total_steps, seed=seed
        )
    except TrainingError as error:
        return {"failure": str(error)}
    begun = time.perf_counter()
    quality = Evaluator(graph, open_prepared(prepared, "val")).quality(done.checkpoint.weights)
    seconds = {"train_s": done.train_s, "compile_s": done.compile_s, "judge_s": time.perf_counter() - begun}
    return {"psnr_db": quality.psnr_db, "ssim": quality.ssim, **seconds}


def prepared_pairs(source: str) -> Path:
    """Return the folder of the decoded pairs."""
    from nas.data.cache import cache_dir
    from nas.data.demo.demo_set import demo_folder
    from nas.data.pairs import prepare
    from nas.defaults import DEFAULT_DATA

    if source == "demo":
        demo_folder()
    return prepare(replace(DEFAULT_DATA, source=source), cache_dir() / "pairs")


def key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in KEY)


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return a line per network, data and recipe: mean ± standard deviation of PSNR over the seeds, by steps."""
    steps = sorted({row["steps"] for row in rows})
    lines = [f"{'data':<12} {'network':<16} {'recipe':<16}" + "".join(f"{n:>18}" for n in steps)]
    groups = sorted({(row["data"], row["network"], row["recipe"]) for row in rows})
    for group in groups:
        cells = [
            cell([r for r in rows if (r["data"], r["network"], r["recipe"], r["steps"]) == (*group, n)]) for n in steps
        ]
        lines.append(f"{group[0]:<12} {group[1]:<16} {group[2]:<16}" + "".join(f"{text:>18}" for text in cells))
    return "\n".join(lines) + "\n"


def cell(rows: Sequence[dict[str, Any]]) -> str:
    if not rows:
        return ""
    if any("failure" in row for row in rows):
        return f"{sum('failure' in row for row in rows)} of {len(rows)} failed"
    values = [row["psnr_db"] for row in rows]
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.2f}{spread} ({len(values)})"


if __name__ == "__main__":
    main()
