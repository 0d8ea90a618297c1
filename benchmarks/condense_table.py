"""Condense a table of trained networks into the prior that a search starts from.

    python benchmarks/condense_table.py --table results/table/demo.jsonl --longer results/table/demo-8100.jsonl \
        --designs results/training/demo-2.jsonl --data demo --out nas/search/priors/demo.json.gz

Of each network that trained from the first seed: the genes that differ from their defaults, and PSNR in dB at the last
of the steps; of the longer trainings, which are fewer, the mean over all seeds. Of the published designs the same by
name, at every length of training that there is: `--designs` has those that are longer still. The pairs' identity comes
along, so that a search on the same pairs leaves the table out.
"""

import argparse
import gzip
import json
import statistics
from pathlib import Path
from typing import Any

from training_recipes import read

from nas.data.pairs import DataConfig, identity
from nas.defaults import DEFAULT_DATA
from search_spaces.designs import DESIGNS
from search_spaces.spec import GENES

DEFAULT_RECIPE = "muon"  # as benchmarks/training_recipes.py calls it


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--longer", type=Path, help="table of trainings of more steps")
    parser.add_argument("--designs", type=Path, help="rows of benchmarks/training_recipes.py")
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    data = DEFAULT_DATA if options.data == "demo" else DataConfig(options.data)
    rows = [row for row in read(options.table) if row["seed"] == 1 and "psnr_db" in row]
    content = {
        "data_fingerprint": identity(data),
        "steps": rows[0]["steps"][-1],
        "commit": rows[0]["made_by"]["commit"],
        "networks": [condensed(row["genes"], row["psnr_db"][-1]) for row in rows],
    }
    of_longer = read(options.longer) if options.longer else []
    if of_longer:
        content["longer"] = longer(of_longer)
    content["designs"] = designs([*rows, *of_longer], read(options.designs) if options.designs else [])
    options.out.parent.mkdir(exist_ok=True)
    # Without name and time in the header, equal tables make equal files.
    with gzip.GzipFile(filename="", mode="wb", fileobj=options.out.open("wb"), mtime=0) as file:
        file.write(json.dumps(content, separators=(",", ":")).encode())


def longer(rows: list[dict[str, Any]]) -> dict[str, Any]:
    trained: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if "psnr_db" in row:
            trained.setdefault(row["structure"], []).append(row)
    means = [condensed(of[0]["genes"], statistics.fmean(row["psnr_db"][-1] for row in of)) for of in trained.values()]
    return {"steps": rows[0]["steps"][-1], "networks": means}


def designs(rows: list[dict[str, Any]], of_recipes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what the designs came to, by the length of training; of the default recipe and the latest reading."""
    names = {design.spec.hash: name for name, design in DESIGNS.items()}
    known: dict[int, dict[str, list[float]]] = {}
    trainings = [(row["spec"], row["steps"][-1], row["psnr_db"][-1]) for row in rows if "psnr_db" in row]
    longest = max(steps for _, steps, _ in trainings)
    for row in of_recipes:
        if row["recipe"] == DEFAULT_RECIPE and row["steps"] > longest and "psnr_db" in row:
            trainings.append((row["spec"], row["steps"], row["psnr_db"]))
    for spec, steps, psnr_db in trainings:
        if spec in names:
            known.setdefault(steps, {}).setdefault(names[spec], []).append(psnr_db)
    return [
        {"steps": steps, "psnr_db": {name: round(statistics.fmean(values), 3) for name, values in sorted(of.items())}}
        for steps, of in sorted(known.items())
    ]


def condensed(genes: dict[str, Any], psnr_db: float) -> dict[str, Any]:
    changed = {name: value for name, value in genes.items() if value != GENES[name].default}
    return {"genes": changed, "psnr_db": round(psnr_db, 3)}


if __name__ == "__main__":
    main()
