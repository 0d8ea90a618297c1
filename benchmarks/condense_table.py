"""Condense a table of trained networks into the prior that a search starts from.

    python benchmarks/condense_table.py --table results/table/demo.jsonl --longer results/table/demo-8100.jsonl \
        --data demo --out nas/search/priors/demo.json.gz

Of each network that trained from the first seed: the genes that differ from their defaults, and PSNR in dB at the last
of the steps; of the longer trainings, which are fewer, the mean over all seeds. The pairs' identity comes along, so
that a search on the same pairs leaves the table out.
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
from search_spaces.spec import GENES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--longer", type=Path, help="table of trainings of more steps")
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
    if options.longer:
        content["longer"] = longer(read(options.longer))
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


def condensed(genes: dict[str, Any], psnr_db: float) -> dict[str, Any]:
    changed = {name: value for name, value in genes.items() if value != GENES[name].default}
    return {"genes": changed, "psnr_db": round(psnr_db, 3)}


if __name__ == "__main__":
    main()
