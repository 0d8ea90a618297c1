"""Print the README's table of the designs as Markdown, from the files that `isp-nas designs` reads.

python benchmarks/design_table.py [--results results] [--device NAME]
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nas.comparison import Comparison, correlation_text, rank_correlation, spread, variant_of
from nas.design_table import UNSURE, Sources, is_unsure, read_sources, row
from nas.tables import count, runtime
from search_spaces.designs import DESIGNS, Design
from search_spaces.errors import IspNasError

HEADINGS = ("design", "team", "params", "MACs", "file kB (published)", "predicted ms", "published ms", "Table 1 dB")
UNKNOWN = "—"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--device")
    options = parser.parse_args(arguments)
    try:
        sys.stdout.write(markdown(read_sources(options.results, options.device)))
    except IspNasError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def markdown(sources: Sources) -> str:
    compared = list(sources.comparisons.values())
    headings = [*HEADINGS, *(heading(one) for one in compared)]
    lines = [headings, ["---"] * 2 + ["---:"] * (len(headings) - 2)]
    lines += [cells(design, row(design, sources), compared) for design in DESIGNS.values()]
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return table + "".join(f"\n{note}\n" for note in notes(compared))


def heading(compared: Comparison) -> str:
    return f"{compared.label}, {compared.steps} steps, dB"


def cells(design: Design, found: dict[str, Any], compared: Sequence[Comparison]) -> list[str]:
    size = UNKNOWN if found["tflite_bytes"] is None else f"{found['tflite_bytes'] / 1e3:.1f}"
    return [
        f"{UNSURE if is_unsure(design.confidence) else ''}{design.name}",
        # A star would begin emphasis; a variant is the same team's design read in another way.
        design.team.replace("*", "\\*") if variant_of(design) is None else f"as {variant_of(design)}",
        count(found["parameters"]),
        count(found["macs"]),
        f"{size} ({design.table1.size_kb})",
        runtime(found),
        f"{design.table1.runtime_ms:g}",
        f"{design.table1.psnr_db:.2f}",
        *(quality(design, one) for one in compared),
    ]


def quality(design: Design, compared: Comparison) -> str:
    """Return the mean over the seeds, with the least and greatest where there are several; "failed" where one did."""
    runs = compared.runs_of(design)
    values = [run.val_psnr_db for run in runs if run.val_psnr_db is not None]
    if not runs or len(values) < len(runs):
        return "failed" if runs else UNKNOWN
    found = spread(values)
    several = f" ({found['min']:.2f}–{found['max']:.2f})" if len(values) > 1 else ""
    return f"{found['mean']:.2f}{several}"


def notes(compared: Sequence[Comparison]) -> list[str]:
    orders = [
        f"{one.label}, {one.steps} steps, seeds {', '.join(map(str, one.seeds))}, {one.pairs['train']} training and "
        f"{one.pairs['val']} validation pairs: order of PSNR against Table 1's: "
        f"{correlation_text(rank_correlation(one.runs, 'val_psnr_db'))}."
        for one in compared
    ]
    unsure = any(is_unsure(design.confidence) for design in DESIGNS.values())
    return orders + ([f"{UNSURE}: low confidence in the structure."] if unsure else [])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
