"""Condense a table of trained networks into the prior that a search starts from.

    python benchmarks/condense_table.py --table results/table/demo.jsonl --data demo \
        --out nas/search/priors/demo.json.gz

Of each network that trained from the first seed: the genes that differ from their defaults, and PSNR in dB at the last
of the steps. The pairs' identity comes along, so that a search on the same pairs leaves the table out.
"""

import argparse
import gzip
import json
from pathlib import Path
from typing import Any

from training_recipes import read

from nas.data.pairs import DataConfig, identity
from nas.defaults import DEFAULT_DATA
from search_spaces.spec import GENES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    data = DEFAULT_DATA if options.data == "demo" else DataConfig(options.data)
    rows = [row for row in read(options.table) if row["seed"] == 1 and "psnr_db" in row]
    content = {
        "data_fingerprint": identity(data),
        "steps": rows[0]["steps"][-1],
        "commit": rows[0]["made_by"]["commit"],
        "networks": [condensed(row) for row in rows],
    }
    options.out.parent.mkdir(exist_ok=True)
    # Without name and time in the header, equal tables make equal files.
    with gzip.GzipFile(filename="", mode="wb", fileobj=options.out.open("wb"), mtime=0) as file:
        file.write(json.dumps(content, separators=(",", ":")).encode())


def condensed(row: dict[str, Any]) -> dict[str, Any]:
    genes = {name: value for name, value in row["genes"].items() if value != GENES[name].default}
    return {"genes": genes, "psnr_db": round(row["psnr_db"][-1], 3)}


if __name__ == "__main__":
    main()
