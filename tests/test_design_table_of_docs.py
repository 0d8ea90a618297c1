"""The table of docs/designs.md is printed from the same rows that `isp-nas designs` shows."""

import subprocess
import sys
from pathlib import Path

from written_comparison import run_of, write_comparison

from search_spaces.design_files import stored_files
from search_spaces.designs import DESIGNS

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "design_table.py"


def printed(results: Path) -> list[list[str]]:
    done = subprocess.run(
        [sys.executable, SCRIPT, "--results", results], capture_output=True, text=True, check=True, timeout=60
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_every_design_has_a_row_with_as_many_cells_as_headings(tmp_path: Path) -> None:
    write_comparison(tmp_path)
    headings, _, *rows = printed(tmp_path)
    assert [row[0].strip("~") for row in rows] == list(DESIGNS)
    assert {len(row) for row in rows} == {len(headings)}
    assert headings[-1] == "demo, 2000 steps: dB / SSIM"
    for row, design in zip(rows, DESIGNS.values(), strict=True):
        size_kb = stored_files()[design.name].tflite_bytes / 1e3
        assert row[3] == f"{size_kb:.1f} ({design.table1.size_kb})"
        published = f"{design.table1.psnr_db:.2f} / {design.table1.ssim:.3f}"
        assert row[6:8] == [f"{design.table1.runtime_ms:g}", published]
        assert row[8].startswith("20.12 / 0.")
    assert [row[5] for row in rows][:3] == ["58.3", "92.7", "101.4"]  # of fits without that row
    assert {row[0].strip("~") for row in rows if row[5] == "—"} == {"eds", "enerzai-esrgan-large", "eds-shuffle"}


def test_seeds_are_shown_with_their_spread_a_failure_as_such_and_the_unknown_as_a_dash(tmp_path: Path) -> None:
    smallnet, csanet = DESIGNS["smallnet"], DESIGNS["csanet"]
    write_comparison(tmp_path, "seeds", runs=[run_of(smallnet, seed=s, psnr_db=20.0 + s) for s in (0, 1)])
    write_comparison(tmp_path, "torn", runs=[run_of(smallnet, psnr_db=None), run_of(csanet)])
    shown = {row[0]: row[-2:] for row in printed(tmp_path)[2:]}
    assert shown["smallnet"][0].startswith("20.50 (20.00–21.00) / 0.")
    assert shown["smallnet"][1] == "failed"
    assert shown["csanet"][0] == "—"
    assert shown["csanet"][1].startswith("20.12 / 0.")
