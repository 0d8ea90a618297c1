"""Results as plain objects for programs: of a study candidates, the front, the best one and the verdict; of one network
what training came to, and how long it takes.

The same figures as the commands show.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import Any

from nas.search import candidate_rows, verdicts
from nas.search import study as studies
from nas.search.verdicts import Verdict
from search_spaces.errors import UsageError


@dataclass(frozen=True)
class Candidate:
    """A trained network of a study, as it was at one number of training steps."""

    study: str  # the study's folder
    trial: int
    name: str | None  # of a published design
    steps: int  # it was trained for when these figures were taken
    psnr_db: float  # on the validation pairs; the mean over `seeds` trainings
    psnr_half_width_db: float | None  # half of its interval of 95 %; None where no network was trained twice
    seeds: int
    ssim: float
    score: float  # the challenge's, higher is better
    runtime_ms: float
    runtime_low_ms: float
    runtime_high_ms: float
    parameters: int
    macs: int
    on_front: bool  # nothing else at these steps is both better and faster
    hash: str
    spec: Mapping[str, Any]  # the genes


class Candidates(list[Candidate]):
    """A list of candidates, fastest first."""

    def __getitem__(self, key: Any) -> Any:
        """Return one of them, or by a slice several, which are such a list, too."""
        found = super().__getitem__(key)
        return Candidates(found) if isinstance(key, slice) else found

    def to_pandas(self) -> Any:
        """Return the list as a table.

        Returns:
            A pandas.DataFrame with a row per candidate, its columns the fields of `Candidate`.

        Raises:
            UsageError: pandas is not installed.
        """
        try:
            pandas = import_module("pandas")
        except ImportError:
            raise UsageError("pandas is not installed; run `pip install pandas`, or use the list itself.") from None
        return pandas.DataFrame([vars(each) for each in self], columns=[field.name for field in fields(Candidate)])


@dataclass(frozen=True)
class SearchProgress:
    """How far a search is."""

    elapsed_s: float  # earlier sessions included
    share: float  # of the budget, from 0 to 1
    trained: int  # candidates that reached the first rung
    training: tuple[int, ...]  # trials in training now
    best_score: float | None  # None before the first rung is reached


@dataclass(frozen=True)
class Trained:
    """What training one network to the end came to; figures are of the validation pairs."""

    folder: Path  # of the run, which `export` takes
    hash: str
    steps: int
    psnr_db: float
    ssim: float
    best_step: int | None  # of the state that is exported
    best_psnr_db: float | None


@dataclass(frozen=True)
class Latency:
    """How long a network takes on a device."""

    device: str
    runtime_ms: float
    runtime_low_ms: float  # of an interval of 80 %
    runtime_high_ms: float
    interval_is_assumed: bool  # its width was stated, not seen on measurements
    fixed_ms: float  # start, input and output
    kernels_ms: Mapping[str, float]
    on_cpu: tuple[str, ...]  # operations that the delegate leaves to the CPU, with reasons
    notes: tuple[str, ...]  # what whoever reads the figures must know
    probability_faster: float | None = None  # that it is faster than the network that was named beside it


class Study:
    """What a study on disk holds as of when it was loaded."""

    def __init__(self, record: studies.StudyRecord) -> None:
        self._study = record

    @property
    def name(self) -> str:
        """The study's name."""
        return self._study.config.name

    @property
    def folder(self) -> Path:
        """Where the study lives."""
        return self._study.folder

    @property
    def settings(self) -> dict[str, Any]:
        """What the study was started with, as its run.toml has it."""
        return self._study.config.to_dict()

    @property
    def ladder(self) -> tuple[int, ...]:
        """The training steps at which candidates are compared, those of the finals last."""
        return self._study.ladder

    def candidates(self, steps: int | None = None) -> Candidates:
        """Return every candidate that was trained this far, fastest first.

        Args:
            steps: One of `ladder`; by default what `isp-nas pareto` compares at.

        Returns:
            The candidates, their figures those after `steps`.

        Raises:
            UsageError: No candidate was trained for so many steps.
            StudyError: The study has no trained candidate.

        Example:
            >>> study = nas.load_study("results/phone")
            >>> len(study.candidates(steps=2))
            4
        """
        return self._at(candidate_rows.choose_rung(self._study, steps))

    def front(self, steps: int | None = None) -> Candidates:
        """Return the Pareto front: the candidates that no other is both better and faster than.

        Args:
            steps: One of `ladder`; by default what `isp-nas pareto` compares at.

        Returns:
            The candidates of the front, fastest first.

        Raises:
            UsageError: No candidate was trained for so many steps.
            StudyError: The study has no trained candidate.

        Example:
            >>> nas.load_study("results/phone").front()[0].on_front
            True
        """
        return self._at(candidate_rows.choose_rung(self._study, steps), everything=False)

    def best(self) -> Candidate:
        """Return the best candidate, which is what `isp-nas export best` exports.

        Returns:
            The candidate with its figures after the longest training that was compared.

        Raises:
            StudyError: The study has no trained candidate.

        Example:
            >>> best = nas.load_study("results/phone").best()
            >>> best.runtime_low_ms < best.runtime_ms < best.runtime_high_ms
            True
        """
        candidate, rung = candidate_rows.best(self._study)
        (best,) = self._at(rung, trial=candidate.trial)
        return best

    def verdict(self) -> Verdict | None:
        """Return whether the best network found beats the best published design.

        Returns:
            The verdict with its sentence and interval; None for a study without finals.

        Example:
            >>> nas.load_study("results/phone").verdict().outcome in ("beats", "ties", "loses", "undecided")
            True
        """
        return verdicts.verdict_of(self._study)

    def _at(self, rung: int, *, everything: bool = True, trial: int | None = None) -> Candidates:
        rows = candidate_rows.rows(self._study, rung, everything=everything, trial=trial)
        return Candidates(Candidate(study=str(self._study.folder), **row) for row in rows)

    def __repr__(self) -> str:
        return f"Study({str(self.folder)!r}, {len(self._study.trained())} candidates trained)"
