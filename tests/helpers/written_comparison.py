"""Comparisons of the designs, written as their benchmark writes them."""

import json
from pathlib import Path

from nas.audit.design_comparison import Comparison, Run
from search_spaces.designs import DESIGNS, Design


def run_of(design: Design, *, seed: int = 0, psnr_db: float | None = 20.125) -> Run:
    if psnr_db is None:
        return Run(design.name, design.spec.hash, seed, failure="The loss was not a number by step 50.")
    return Run(design.name, design.spec.hash, seed, None, psnr_db, 0.75, psnr_db + 1, 0.5, 60.0)


def write_comparison(results: Path, name: str = "demo", *, steps: int = 2000, runs: list[Run] | None = None) -> None:
    made = [run_of(design) for design in DESIGNS.values()] if runs is None else runs
    compared = Comparison(name, {"train": 8, "val": 4, "test": 2}, "0", {"horizon": steps}, (0,), tuple(made), {})
    path = results / "designs" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(compared.to_dict()), "utf-8")
