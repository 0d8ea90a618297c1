"""How a device's predictor is made of its measurements: by assumptions, by these alone, or from other devices."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from latency_models import calibration
from latency_models.fallback import Assumption
from latency_models.measured_range import range_of
from latency_models.predictor import Core, Predictor, assumed_interval
from latency_models.roofline import Layout, MeasuredRow, fit, total_amounts
from latency_models.samples import HeldOut, Sample


class Method(Protocol):
    """How a predictor is made of measurements."""

    def fit(self, samples: Sequence[Sample]) -> tuple[Predictor, tuple[HeldOut, ...]]:
        """Return the predictor and the measurements as fits without their families foresaw them."""


@dataclass(frozen=True)
class Assumed:
    """Few measurements, and assumptions that hold the rest."""

    layout: Layout
    prior: Mapping[str, Assumption]
    shrinkage: Assumption  # how firmly coefficients are held to the prior
    interval: Assumption  # the time is divided by it and multiplied with it

    def fit(self, samples: Sequence[Sample]) -> tuple[Predictor, tuple[HeldOut, ...]]:
        """Return the predictor; every measurement is foreseen by a fit of the others."""
        return self._fitted(samples), calibration.leave_families_out(samples, self._fitted)

    def _fitted(self, samples: Sequence[Sample]) -> Predictor:
        rows = [MeasuredRow(total_amounts(sample.network, self.layout), sample.runtime_ms) for sample in samples]
        prior = {name: assumption.value for name, assumption in self.prior.items()}
        core = Core(self.layout, fit(rows, prior, shrinkage=self.shrinkage.value))
        interval = assumed_interval(self.interval.value, self.interval.note)
        return Predictor(core, interval, range=range_of([sample.network for sample in samples]))


@dataclass(frozen=True)
class Fitted:
    """Enough measurements to go by them alone."""

    bytes_per_element: int
    io_bytes_per_element: int

    def fit(self, samples: Sequence[Sample]) -> tuple[Predictor, tuple[HeldOut, ...]]:
        """Return the predictor, and networks as fits without their families foresaw them."""
        return calibration.fit_measured(samples, io_bytes=self.io_bytes_per_element, map_bytes=self.bytes_per_element)


@dataclass(frozen=True)
class Transferred:
    """A few whole networks, and predictors of other devices to start from."""

    sources: Mapping[str, Predictor]

    def fit(self, samples: Sequence[Sample]) -> tuple[Predictor, tuple[HeldOut, ...]]:
        """Return the predictor; every network is foreseen by a fit without its family."""
        return calibration.fit_transfer(samples, list(self.sources.values()))
