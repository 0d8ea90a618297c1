"""Compare the published designs after equal training with the order of Table 1.

`benchmarks/design_comparison.py` trains them and writes one `results/designs/<name>.json`; `isp-nas designs` reads
these files. What is derived in a file (means, rank correlations) follows from its runs, and a test holds that.
"""

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict  # that of typing tells pydantic too little before Python 3.12

from nas.audit.rank_agreement import FEWEST_TO_RANK
from nas.train.ranges import Decibels, Finite, Number, Seconds, Ssim, Steps
from search_spaces.designs import DESIGNS, Design
from search_spaces.errors import StudyError
from search_spaces.system import stored
from search_spaces.system.file_errors import listed

FOLDER = "designs"  # below the results folder
SCHEMA = 1
QUALITIES = ("val_psnr_db", "val_ssim", "test_psnr_db", "test_ssim")
RANKED = ("val_psnr_db", "test_psnr_db")


@dataclass(frozen=True)
class Run:
    """One design trained from one seed: either its figures or the reason why there are none."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    design: str
    hash: str  # of the genes that were trained
    seed: Number
    failure: str | None = None
    val_psnr_db: Decibels | None = None
    val_ssim: Ssim | None = None
    test_psnr_db: Decibels | None = None  # None also where the data has no test pairs
    test_ssim: Ssim | None = None
    train_s: Seconds | None = None  # compiling and validation included; None where training was broken off meanwhile


@dataclass(frozen=True)
class Comparison:
    """Designs trained alike: the same pairs, recipe, steps and seeds for every one."""

    label: str
    pairs: dict[str, int]  # how many, by split
    data_identity: str
    recipe: dict[str, Any]
    seeds: tuple[int, ...]
    runs: tuple[Run, ...]
    provenance: dict[str, Any]

    @property
    def steps(self) -> int:
        """The training steps of every run."""
        return int(self.recipe["horizon"])

    def runs_of(self, design: Design) -> list[Run]:
        """Return the runs of a design; those of other genes under its name are of another network."""
        return [run for run in self.runs if (run.design, run.hash) == (design.name, design.spec.hash)]

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as plain data, what follows from its runs included."""
        return {
            "schema": SCHEMA,
            "label": self.label,
            "provenance": self.provenance,
            "data": {"pairs": self.pairs, "identity": self.data_identity},
            "recipe": self.recipe,
            "steps": self.steps,
            "seeds": list(self.seeds),
            "designs": summaries(self.runs),
            "rank_correlation": {quality: rank_correlation(self.runs, quality) for quality in RANKED},
            "runs": [asdict(run) for run in self.runs],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Comparison":
        """Read what `to_dict` wrote; raise ValueError where it is something else, or its means are not of its runs."""
        if data["schema"] != SCHEMA:
            raise ValueError(f"schema {data['schema']}, wanted {SCHEMA}")
        read = _FILE.read(dict(data))
        made = cls(
            label=read["label"],
            pairs=read["data"]["pairs"],
            data_identity=read["data"]["identity"],
            recipe=read["recipe"],
            seeds=tuple(read["seeds"]),
            runs=tuple(read["runs"]),
            provenance=read["provenance"],
        )
        if (summaries(made.runs), made.recipe.get("horizon")) != (read["designs"], read["steps"]):
            raise ValueError("its means and steps are not those of its runs and recipe")
        return made


class _Data(TypedDict):
    pairs: dict[str, Number]
    identity: str


@with_config(ConfigDict(extra="forbid"))
class _File(TypedDict):
    """What `to_dict` writes."""

    schema: int
    label: str
    provenance: dict[str, Any]
    data: _Data
    recipe: dict[str, Any]
    steps: Steps
    seeds: list[Number]
    designs: dict[str, dict[str, dict[str, Finite] | None]]
    rank_correlation: dict[str, dict[str, Finite] | None]
    runs: list[Run]


_FILE: stored.Schema[_File] = stored.Schema(_File)


def read_comparisons(results: Path) -> dict[str, Comparison]:
    """Return the comparisons kept in `results`, by file name; raise StudyError for a file that is none."""
    return {path.name: _read(path) for path in listed(results / FOLDER, StudyError) if path.suffix == ".json"}


def _read(path: Path) -> Comparison:
    try:
        return Comparison.from_dict(stored.parse_json(stored.read_bytes(path)))
    except OSError as error:
        raise StudyError(f"{path} cannot be read ({error.strerror}); restore it or move it away.") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StudyError(f"{path} is no comparison of designs ({error}); restore it or move it away.") from None


def summaries(runs: Iterable[Run]) -> dict[str, dict[str, dict[str, float] | None]]:
    """Return every quality's mean and spread over the seeds, by design.

    None where a seed failed: a mean over the seeds that happened to work would flatter the design.
    """
    by_design: dict[str, list[Run]] = {}
    for run in runs:
        by_design.setdefault(run.design, []).append(run)
    return {name: {quality: _spread(of_one, quality) for quality in QUALITIES} for name, of_one in by_design.items()}


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return mean, least and greatest value."""
    return {"mean": statistics.fmean(values), "min": min(values), "max": max(values)}


def _spread(runs: Sequence[Run], quality: str) -> dict[str, float] | None:
    values = list(_values(runs, quality))
    return spread(values) if runs and len(values) == len(runs) else None


def _values(runs: Iterable[Run], quality: str) -> Iterator[float]:
    return (value for run in runs if (value := getattr(run, quality)) is not None)


def mean(runs: Sequence[Run], quality: str) -> float | None:
    """Return the mean of a quality over a design's runs; None where one of them has no number."""
    spread_of_runs = _spread(runs, quality)
    return spread_of_runs["mean"] if spread_of_runs else None


def rank_correlation(runs: Iterable[Run], quality: str) -> dict[str, float] | None:
    """Return how far designs are ordered as Table 1's PSNR orders them, with two-sided p-values.

    Readings of one design as another network share a row of Table 1 and are left out. None where fewer than three
    designs have a number, or where all have the same: there is no order then.
    """
    means = {name: of_one[quality] for name, of_one in summaries(runs).items()}
    ours = {
        name: spread_of_runs["mean"]
        for name, spread_of_runs in means.items()
        if spread_of_runs and _is_a_first_reading(name)
    }
    published = [DESIGNS[name].table1.psnr_db for name in ours]
    if len(ours) < FEWEST_TO_RANK or len(set(ours.values())) == 1 or len(set(published)) == 1:
        return None
    from scipy import stats

    spearman, kendall = (f(list(ours.values()), published) for f in (stats.spearmanr, stats.kendalltau))
    return {
        "designs": len(ours),
        "spearman": float(spearman.statistic),
        "spearman_p": float(spearman.pvalue),
        "kendall": float(kendall.statistic),
        "kendall_p": float(kendall.pvalue),
    }


def _is_a_first_reading(name: str) -> bool:
    return name in DESIGNS and DESIGNS[name].variant_of is None


def correlation_text(correlation: Mapping[str, float] | None) -> str:
    """Return a rank correlation for people."""
    if correlation is None:
        return "too few designs to rank"
    return (
        f"Spearman {correlation['spearman']:+.2f} (p = {correlation['spearman_p']:.2f}), "
        f"Kendall {correlation['kendall']:+.2f} (p = {correlation['kendall_p']:.2f}), "
        f"{correlation['designs']:.0f} designs"
    )
