"""Samplers by name, and which class of Optuna's each is, without importing Optuna."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# With budgets of tens to hundreds of candidates Optuna's default population of 50 is no better than random.
NSGA2_POPULATION = 20


@dataclass(frozen=True)
class Sampler:
    """What proposes the next candidate."""

    optuna: str | None  # a class of optuna.samplers; None: the model of `nas.search.proposals`
    options: Mapping[str, Any] = field(default_factory=dict)
    notes: str | None = None  # how the keys begin of what it keeps with a trial, which a search that goes on needs
    is_varied: bool = False  # every second proposal is a small change of one of the best instead

    @property
    def is_model(self) -> bool:
        """Whether proposals come from our own model of the results, which may have a prior."""
        return self.optuna is None


DEFAULT_SAMPLER = "model"
SAMPLERS = {
    "model": Sampler(None),
    "tpe": Sampler("TPESampler", is_varied=True),
    "random": Sampler("RandomSampler"),
    "nsga2": Sampler("NSGAIISampler", {"population_size": NSGA2_POPULATION}, notes="NSGAIISampler:"),
}
