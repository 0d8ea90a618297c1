"""A candidate of a study: one proposal, what training it came to at every rung, and its finals."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from nas.search.score import final_score
from nas.train.job import Outcome
from search_spaces.designs import design_name, may_be_design
from search_spaces.spec import ArchSpec, Value

FULL_FINALS = 3  # trainings of one network, after which further ones change little


@dataclass(frozen=True, kw_only=True)
class Rung(Outcome):
    """What training to one rung came to, or to the final steps, which are the rung above the ladder."""

    rung: int
    worker: int | None = None  # of the session that trained it; None: not known, or the mean of several trainings
    host: str | None = None  # where a cluster or one of several GPUs trained it; None: on the machine of the search
    backend: str | None = None
    processor: str | None = None

    @property
    def seconds(self) -> float:
        """Everything that the rung cost."""
        return self.train_s + self.compile_s + self.evaluate_s


@dataclass
class CandidateRecord:
    """One proposal and what has become of it; `verdict` tells why it is trained or not."""

    trial: int
    genes: dict[str, Value]
    verdict: str  # one of nas.search.records.VERDICTS
    runtime_ms: float | None = None
    runtime_low_ms: float | None = None
    runtime_high_ms: float | None = None
    peak_memory_mb: float | None = None  # None in records made before it was known
    reason: str = ""
    violation: float | None = None  # how far over the limits, in the unit of nas.search.constraints.Limits.excess
    duplicate_of: int | None = None
    sampler_notes: dict[str, Any] = field(default_factory=dict)  # what the sampler keeps with a trial
    rungs: dict[int, Rung] = field(default_factory=dict)
    finals: dict[int, Rung] = field(default_factory=dict)  # trainings from fresh weights to the final steps, by seed
    final_failures: dict[int, str] = field(default_factory=dict)  # reasons, by seed
    failure: str = ""
    losses: int = 0  # in a row, since something last came of it
    asked_s: float = 0.0  # seconds of the search at which it was asked for, and at which something was last known of it
    ended_s: float = 0.0

    @cached_property
    def spec(self) -> ArchSpec:
        """The network that the genes mean."""
        return ArchSpec.from_dict(self.genes)

    @cached_property
    def name(self) -> str | None:
        """The published name, None where this is not a published design."""
        return design_name(self.spec) if may_be_design(self.genes) else None

    @property
    def is_finished(self) -> bool:
        """Whether it has used its share of a budget that counts candidates."""
        return bool(self.rungs or self.failure)

    @property
    def highest(self) -> Rung | None:
        """The longest training so far."""
        return self.rungs[max(self.rungs)] if self.rungs else None

    @property
    def longest(self) -> Rung | None:
        """What a report tells: the mean of the finals where there are any, else the highest rung."""
        return _mean(list(self.finals.values())) if self.finals else self.highest

    @property
    def psnr_by_steps(self) -> dict[int, float]:
        """PSNR in dB by training steps: of the rungs, and the mean of the finals."""
        reached = [*self.rungs.values(), *([self.longest] if self.longest else [])]
        return {each.steps: each.psnr_db for each in reached}

    @property
    def best_seed(self) -> int | None:
        """The seed of the best final, None without finals."""
        return max(self.finals, key=lambda seed: self.finals[seed].psnr_db, default=None)

    @property
    def fitted_db(self) -> float | None:
        """By how many dB training pairs come out better than validation pairs: mean of the finals; None: not known."""
        gaps = [f.train_psnr_db - f.psnr_db for f in self.finals.values() if f.train_psnr_db is not None]
        return statistics.fmean(gaps) if gaps else None

    def at(self, rung: int) -> Rung:
        """Return a rung that this candidate reached; the one above the ladder is the mean of its finals."""
        return self.rungs[rung] if rung in self.rungs else _mean(list(self.finals.values()))

    def score(self, rung: int) -> float:
        """Return the challenge's score at a rung that this candidate reached, as in `at`."""
        assert self.runtime_ms is not None
        return final_score(self.at(rung).psnr_db, self.runtime_ms)

    def summary(self, rung: int) -> str:
        """Return in words what a rung came to; at the first one, with the network."""
        reached = self.rungs[rung]
        label = f"{self.name} " if self.name else ""
        share = reached.rate_share
        calmer = "" if share == 1 else f" at {share:.2g} of the learning rate, having diverged"
        network = f"  ({self.spec.description})" if rung == 0 else ""
        return (
            f"Trial {self.trial} {label}at {reached.steps} steps{calmer}: {reached.psnr_db:.2f} dB, "
            f"{self.runtime_ms:.1f} ms, score {self.score(rung):.3f}{network}"
        )

    def final_scores(self) -> dict[int, float]:
        """Return the challenge's score of every final, by seed."""
        assert self.runtime_ms is not None
        return {seed: final_score(final.psnr_db, self.runtime_ms) for seed, final in self.finals.items()}


def least_finals(*kinds: Sequence[int]) -> int:
    """Return how many finals a network needs to be compared, from the counts of networks found and of designs.

    As many as the best covered of either kind has, up to FULL_FINALS: one lucky training wins nothing.
    """
    return min([FULL_FINALS, *(max(counts) for counts in kinds if any(counts))])


def _mean(finals: list[Rung]) -> Rung:
    means = {
        name: statistics.fmean(getattr(final, name) for final in finals)
        for name in ("psnr_db", "ssim", "loss", "train_s", "compile_s", "evaluate_s")
    }
    return replace(finals[0], **means, worker=None, host=None, backend=None, processor=None)  # type: ignore[arg-type]  # means are of the fields that are floats
