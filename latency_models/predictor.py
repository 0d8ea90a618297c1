"""Predict milliseconds from kernels, with interval and warnings.

    T = start + scale · Σ_kernels roofline_k · residual_k + launch · kernels

`Core` prices kernels: a roofline, and the learned residual where there was enough data. `Transfer` prices them by the
predictors of other devices, each class of kernels times a factor of its own, for a device of which little was measured.
`Calibration` is what only whole networks tell. `Interval` is how far off networks were that the fit had not seen,
wider the further a network is beyond everything measured.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import exp, log
from typing import NamedTuple

from latency_models.kernels import COMPUTING_CLASSES, Kernel, Network
from latency_models.residual import Corrector, Residual
from latency_models.roofline import Coefficients, Layout, kernel_amounts, overhead_amounts, time_ms

# A kernel that takes less of the network's time than this does not make the whole an extrapolation.
NOTICED_SHARE = 0.02
# So many kernels' times are remembered, a few hundred bytes each.
MOST_PRICED = 100_000


@dataclass(frozen=True)
class Prediction:
    """How long a network takes: the expected time, its 80 % interval, where the time goes, and what to know about it.

    Always low_ms ≤ runtime_ms ≤ high_ms and fixed_ms + Σ kernels_ms = runtime_ms.
    """

    runtime_ms: float
    low_ms: float
    high_ms: float
    assumed_interval: bool  # True: the width is a stated assumption, not seen on held-out measurements
    kernels_ms: dict[str, float]  # by kernel name, in the order of computation
    fixed_ms: float  # starting the network and carrying its input and output
    flags: tuple[str, ...] = ()  # sentences that whoever reads the figure must know
    extrapolation: float = 1.0  # how many times larger than anything measured; 1 inside


class Calibration(NamedTuple):
    """What whole networks take beyond the sum of their kernels."""

    scale: float = 1.0
    start_ms: float = 0.0
    launch_ms: float = 0.0  # per kernel


class Interval(NamedTuple):
    """How far measured times lie from predicted ones, as logarithms of their ratio."""

    kind: str  # "measured" on held-out networks, or "assumed"
    low: float  # 10 % of the networks took less than exp(low) times the prediction
    high: float
    low90: float  # 5 %
    high90: float
    growth: float  # the width is multiplied by (how many times beyond what was measured) ** growth
    note: str


class Range(NamedTuple):
    """The largest kernel of each class that was measured, and which operations were measured at all."""

    macs: Mapping[str, int]
    elements: Mapping[str, int]
    operations: tuple[str, ...]


@dataclass(frozen=True)
class Core:
    """A device's own roofline and residual."""

    layout: Layout
    coefficients: Coefficients
    residual: Residual | None = None

    @cached_property
    def _corrector(self) -> Corrector | None:
        return Corrector(self.residual) if self.residual else None

    @cached_property
    def _priced(self) -> dict[Hashable, float]:
        """The times of kernels that were asked for before: a search meets the same few ten thousand again and again."""
        return {}

    def start_ms(self, network: Network) -> float:
        """Return what the network takes before and after its kernels."""
        return time_ms(overhead_amounts(network, self.layout), self.coefficients)

    def kernels_ms(self, kernels: Sequence[Kernel]) -> list[float]:
        """Return each kernel's time; raise DeviceError where a coefficient is missing."""
        known = self._priced
        keys = [kernel.figures for kernel in kernels]
        new = {key: kernel for key, kernel in zip(keys, kernels, strict=True) if key not in known}
        if new:
            if len(known) > MOST_PRICED:
                known.clear()
                new = dict(zip(keys, kernels, strict=True))
            known.update(zip(new, self._price(list(new.values())), strict=True))
        return [known[key] for key in keys]

    def _price(self, kernels: Sequence[Kernel]) -> list[float]:
        times = [time_ms(kernel_amounts(kernel, self.layout), self.coefficients) for kernel in kernels]
        if self._corrector is None:
            return times
        return [t * factor for t, factor in zip(times, self._corrector.factors(kernels), strict=True)]


@dataclass(frozen=True)
class Transfer:
    """Other devices' predictors, averaged, each class of kernels times a factor that the target's timings gave."""

    sources: tuple["Predictor", ...]
    weights: tuple[float, ...]  # target's time by source's, divided by the number of sources
    factors: Mapping[str, float]  # by class; "start" for what is no kernel

    def start_ms(self, network: Network) -> float:
        """Return what the network takes before and after its kernels."""
        return self.factors["start"] * sum(
            weight * source.start_ms(network) for weight, source in zip(self.weights, self.sources, strict=True)
        )

    def kernels_ms(self, kernels: Sequence[Kernel]) -> list[float]:
        """Return each kernel's time; raise DeviceError where a source lacks a coefficient."""
        per_source = [source.kernels_ms(kernels) for source in self.sources]
        averaged = [
            sum(w * t for w, t in zip(self.weights, times, strict=True)) for times in zip(*per_source, strict=True)
        ]
        return [
            t * self.factors.get(kernel.cls, self.factors["start"]) for t, kernel in zip(averaged, kernels, strict=True)
        ]


@dataclass(frozen=True)
class Predictor:
    """Everything that turns a network into a time on one device under one set of conditions."""

    core: Core | Transfer
    interval: Interval
    calibration: Calibration = field(default_factory=Calibration)
    range: Range | None = None  # None: nothing tells where knowledge ends

    def start_ms(self, network: Network) -> float:
        """Return what the network takes before and after its kernels."""
        return self.calibration.start_ms + self.calibration.scale * self.core.start_ms(network)

    def kernels_ms(self, kernels: Sequence[Kernel]) -> list[float]:
        """Return each kernel's time as part of a whole network."""
        return [self.calibration.scale * t + self.calibration.launch_ms for t in self.core.kernels_ms(kernels)]

    def predict(self, network: Network) -> Prediction:
        """Return the network's time; raise DeviceError where a coefficient is missing."""
        start_ms, times = self.start_ms(network), self.kernels_ms(network.kernels)
        runtime_ms = start_ms + sum(times)
        beyond, flags = self._beyond(network.kernels, times, runtime_ms)
        width = beyond**self.interval.growth
        return Prediction(
            runtime_ms=runtime_ms,
            low_ms=runtime_ms * exp(width * self.interval.low),
            high_ms=runtime_ms * exp(width * self.interval.high),
            assumed_interval=self.interval.kind == "assumed",
            kernels_ms={k.name: t for k, t in zip(network.kernels, times, strict=True)},
            fixed_ms=start_ms,
            flags=flags,
            extrapolation=beyond,
        )

    def _beyond(
        self, kernels: Sequence[Kernel], times: Sequence[float], runtime_ms: float
    ) -> tuple[float, tuple[str, ...]]:
        """Return how far the network is beyond what was measured, and sentences that say so."""
        if self.range is None:
            return 1.0, ()
        counted = [k for k, t in zip(kernels, times, strict=True) if t > NOTICED_SHARE * runtime_ms]
        factor, kernel = max(
            ((size_beyond(k, self.range), k) for k in counted), key=lambda pair: pair[0], default=(1.0, None)
        )
        unknown = sorted({k.tflite_op for k in kernels} - set(self.range.operations))
        flags = [
            f"{op} was never measured here; it is priced as operations of its class are on average" for op in unknown
        ]
        if factor > 1.0 and kernel is not None:
            flags.insert(0, f'extrapolates: kernel "{kernel.name}" is {factor:.1f} times larger than anything measured')
        return max(1.0, factor), tuple(flags)


def size_beyond(kernel: Kernel, known: Range) -> float:
    """Return how many times larger a kernel is than the largest measured one of its class; 1 at least."""
    factors = [1.0]
    if kernel.cls in known.elements:
        factors.append(elements(kernel) / known.elements[kernel.cls])
    if kernel.cls in COMPUTING_CLASSES and known.macs.get(kernel.cls):
        factors.append(kernel.macs / known.macs[kernel.cls])
    return max(factors)


def elements(kernel: Kernel) -> int:
    """Return how many values a kernel reads and writes."""
    return kernel.input_elements + kernel.output_elements + kernel.weight_elements


def range_of(networks: Sequence[Network]) -> Range:
    """Return the range of kernels that these networks have."""
    macs: dict[str, int] = {}
    sizes: dict[str, int] = {}
    for kernel in (kernel for network in networks for kernel in network.kernels):
        macs[kernel.cls] = max(macs.get(kernel.cls, 0), kernel.macs)
        sizes[kernel.cls] = max(sizes.get(kernel.cls, 0), elements(kernel))
    operations = sorted({kernel.tflite_op for network in networks for kernel in network.kernels})
    return Range(dict(sorted(macs.items())), dict(sorted(sizes.items())), tuple(operations))


def assumed_interval(factor: float, note: str) -> Interval:
    """Return an interval of the time divided by and multiplied with `factor`."""
    return Interval("assumed", -log(factor), log(factor), -log(factor), log(factor), 0.0, note)
