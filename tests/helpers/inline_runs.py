"""Searches that nothing disturbs, one per sampler."""

from pathlib import Path

from flow import InlineWorker, write_space

from nas.search import study as studies
from nas.search.samplers import SAMPLERS

INSTALLED = [name for name, sampler in SAMPLERS.items() if sampler.is_installed]
BUDGET = 12  # enough for TPE to leave its random start
Run = tuple[Path, InlineWorker]


def sampler_of(run: Run) -> str:
    return studies.load(run[0]).config.sampler


def tiny(tmp_path: Path) -> Path:
    return write_space(tmp_path / "tiny.toml")
