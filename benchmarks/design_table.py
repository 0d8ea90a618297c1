"""Print the table of docs/designs.md as Markdown, from the files that `isp-nas designs` reads.

python benchmarks/design_table.py [--results results] [--device NAME]
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from latency_models import accuracy
from latency_models.device import Device
from nas.audit.design_comparison import Comparison, correlation_text, rank_correlation, spread
from nas.cli.designs import UNSURE, RowSources, is_unsure, read_sources, row
from nas.units import count, runtime
from search_spaces.designs import DESIGNS, Design
from search_spaces.errors import IspNasError

HEADINGS = (
    "design", "team", "params", "file kB (published)", "predicted ms", "left out ms", "published ms",
    "Table 1: dB / SSIM",
)  # fmt: skip
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


def markdown(sources: RowSources) -> str:
    compared = list(sources.comparisons.values())
    headings = [*HEADINGS, *(heading(one) for one in compared)]
    lines = [headings, ["---"] * 2 + ["---:"] * (len(headings) - 2)]
    lines += [cells(design, row(design, sources), compared) for design in DESIGNS.values()]
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return table + "".join(f"\n{note}\n" for note in [*notes(compared), *order_notes(sources.device)])


def order_notes(device: Device) -> list[str]:
    """Return how the runtimes of designs that were left out of the fit compare with those that were published."""
    held = [h for h in device.held_out if h.label in DESIGNS]
    if len(held) < 2:
        return []
    predicted, measured = [h.predicted_ms for h in held], [h.measured_ms for h in held]
    return [
        f"left out ms: as a fit without that row predicts it; {100 * accuracy.mape(predicted, measured):.1f} % off on "
        f"average, Kendall's τ {accuracy.kendall(predicted, measured):.2f}, Spearman's ρ "
        f"{accuracy.spearman(predicted, measured):.2f}."
    ]


def heading(compared: Comparison) -> str:
    return f"{compared.label}, {compared.steps} steps: dB / SSIM"


def cells(design: Design, comparison: dict[str, Any], compared: Sequence[Comparison]) -> list[str]:
    size = UNKNOWN if comparison["tflite_bytes"] is None else f"{comparison['tflite_bytes'] / 1e3:.1f}"
    return [
        f"{UNSURE if is_unsure(design.confidence) else ''}{design.name}",
        # A star would begin emphasis; a variant is the same team's design read in another way.
        design.team.replace("*", "\\*") if design.variant_of is None else f"as {design.variant_of}",
        count(comparison["parameters"]),
        f"{size} ({design.table1.size_kb})",
        runtime(comparison),
        UNKNOWN if comparison["left_out_ms"] is None else f"{comparison['left_out_ms']:.1f}",
        f"{design.table1.runtime_ms:g}",
        f"{design.table1.psnr_db:.2f} / {design.table1.ssim:.3f}",
        *(quality(design, one) for one in compared),
    ]


def quality(design: Design, compared: Comparison) -> str:
    """Return the means over the seeds, with the least and greatest where there are several; "failed" where one did."""
    runs = compared.runs_of(design)
    psnr = [run.val_psnr_db for run in runs if run.val_psnr_db is not None]
    ssim = [run.val_ssim for run in runs if run.val_ssim is not None]
    if not runs or len(psnr) < len(runs):
        return "failed" if runs else UNKNOWN
    return f"{_with_spread(psnr, 2)} / {_with_spread(ssim, 3)}"


def _with_spread(values: Sequence[float], digits: int) -> str:
    mean_and_range = spread(values)
    several = f" ({mean_and_range['min']:.{digits}f}–{mean_and_range['max']:.{digits}f})" if len(values) > 1 else ""
    return f"{mean_and_range['mean']:.{digits}f}{several}"


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
