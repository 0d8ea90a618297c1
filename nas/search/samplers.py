"""Samplers by name, and which class of Optuna's each is, without importing Optuna."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

from search_spaces.errors import UnknownNameError, UsageError

# With budgets of tens to hundreds of candidates Optuna's default population of 50 is no better than random.
NSGA2_POPULATION = 20


@dataclass(frozen=True)
class Sampler:
    """What proposes the next candidate."""

    optuna: str | None  # a class of optuna.samplers; None: the model of `nas.search.proposals`
    options: Mapping[str, Any] = field(default_factory=dict)
    notes: str | None = None  # how the keys begin of what it keeps with a trial, which a search that goes on needs
    is_varied: bool = False  # every second proposal is a small change of one of the best instead
    needs: str | None = None  # a package that is not among our dependencies

    @property
    def is_model(self) -> bool:
        """Whether proposals come from our own model of the results, which may have a prior."""
        return self.optuna is None

    @property
    def is_installed(self) -> bool:
        """Whether what it needs is there."""
        return self.needs is None or find_spec(self.needs) is not None


DEFAULT_SAMPLER = "model"
SAMPLERS = {
    "model": Sampler(None),
    "tpe": Sampler("TPESampler", is_varied=True),
    "random": Sampler("RandomSampler"),
    "gp": Sampler("GPSampler", needs="torch"),
    "nsga2": Sampler("NSGAIISampler", {"population_size": NSGA2_POPULATION}, notes="NSGAIISampler:"),
}


def require_sampler(name: str) -> None:
    """Raise an error where there is no such sampler, or what it needs is not installed."""
    if name not in SAMPLERS:
        raise UnknownNameError("sampler", name, SAMPLERS)
    sampler = SAMPLERS[name]
    if not sampler.is_installed:
        raise UsageError(f'The sampler "{name}" needs the package {sampler.needs}; run `pip install {sampler.needs}`.')
