"""Predict milliseconds from kernels, with interval and warnings.

    T = start + scale · Σ_kernels roofline_k · residual_k + launch · kernels

`Core` prices kernels: a roofline, and the learned residual where there was enough data. `Transfer` prices them by the
predictors of other devices, each class of kernels times a factor of its own, with a start and a launch of its own, for
a device of which little was measured. `Calibration` is what only whole networks tell, `Likeness` what measured networks
like this one took beyond the sum of their kernels. `Interval` is how far off networks were that the fit had not seen,
wider the further a network is beyond everything measured, and by what its kernels outside may be off.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import exp, log
from typing import NamedTuple

from latency_models.families import Kinship
from latency_models.kernels import COMPUTING_CLASSES, Kernel, Network
from latency_models.likeness import Likeness
from latency_models.measured_range import Outside, Range, noticed_size, outside, sentences
from latency_models.residual import Corrector, Residual
from latency_models.roofline import Coefficients, Layout, kernel_amounts, overhead_amounts, time_ms, work_of
from search_spaces.errors import DeviceError

# The width of an interval beyond what was measured, where measurements do not tell: with the distance's root.
ASSUMED_GROWTH = 0.5
# So many kernels' times are remembered, a few hundred bytes each.
MOST_PRICED = 100_000


# A matrix product is a convolution of one tap over one pixel.
MATRIX, ONE_TAP = "fully_connected_", "conv_1x1_"


class UnpricedKernelError(DeviceError):
    """A kernel of a class that the device was not measured with."""

    def __init__(self, kernel: Kernel, why: str) -> None:
        super().__init__(f'{kernel.tflite_op} "{kernel.name}" cannot be priced: {why}')
        self.kernel = kernel


# What a time is made of, by name: the two of a start, a kernel's launch and traffic, and classes for the rest.
START, IO, LAUNCH, TRAFFIC = "start", "io", "launch", "traffic"
Parts = dict[str, float]


def part_of(coefficient: str, kernel: Kernel) -> str:
    """Return which part of a kernel's time a coefficient tells."""
    if coefficient == "kernel_ms":
        return LAUNCH
    if coefficient.endswith("mb") and kernel.cls in COMPUTING_CLASSES:
        return TRAFFIC
    return work_of(kernel)


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

    @cached_property
    def _costs(self) -> Coefficients:
        """The coefficients, and for a matrix product that was never measured those of the convolution that it is."""
        stand_ins = {
            f"{MATRIX}{n.removeprefix(ONE_TAP)}": c for n, c in self.coefficients.items() if n.startswith(ONE_TAP)
        }
        return {**stand_ins, **self.coefficients}

    def _plain_ms(self, kernel: Kernel) -> float:
        try:
            return time_ms(kernel_amounts(kernel, self.layout), self._costs)
        except DeviceError as error:
            raise UnpricedKernelError(kernel, str(error)) from None

    def start_parts(self, network: Network) -> Parts:
        """Return what the start, and what carrying input and output takes."""
        amounts = overhead_amounts(network, self.layout)
        return {
            START: amounts["fixed_ms"] * self.coefficients["fixed_ms"],
            IO: amounts["io_ms_per_mb"] * self.coefficients["io_ms_per_mb"],
        }

    @cached_property
    def _parted(self) -> dict[Hashable, Parts]:
        return {}

    def kernel_parts(self, kernels: Sequence[Kernel]) -> list[Parts]:
        """Return what of each kernel's time is its launch, its traffic and its arithmetic."""
        known = self._parted
        if len(known) > MOST_PRICED:
            known.clear()
        for kernel, ms in zip(kernels, self.kernels_ms(kernels), strict=True):
            if kernel.figures not in known:
                known[kernel.figures] = self._parts(kernel, ms)
        return [known[kernel.figures] for kernel in kernels]

    def _parts(self, kernel: Kernel, ms: float) -> Parts:
        parts: Parts = {}
        for name, amount in kernel_amounts(kernel, self.layout).items():
            part = part_of(name, kernel)
            parts[part] = parts.get(part, 0.0) + amount * self._costs[name]
        plain = sum(parts.values())
        # What the residual says of a kernel it says of all its parts.
        return {name: part * ms / plain for name, part in parts.items()} if plain else {work_of(kernel): ms}

    def _price(self, kernels: Sequence[Kernel]) -> list[float]:
        times = [self._plain_ms(kernel) for kernel in kernels]
        if self._corrector is None:
            return times
        return [t * factor for t, factor in zip(times, self._corrector.factors(kernels), strict=True)]


@dataclass(frozen=True)
class Transfer:
    """Other devices' predictors, averaged, each part of a time multiplied by what the target's timings gave."""

    sources: tuple["Predictor", ...]
    weights: tuple[float, ...]  # target's time by source's, times how much of the average a source is
    factors: Mapping[str, float]  # by part: START, IO, LAUNCH, TRAFFIC, classes; one where nothing was measured
    own_start_ms: float = 0.0  # what the target takes to start beyond its sources
    own_launch_ms: float = 0.0  # and per kernel

    def parts_ms(self, network: Network) -> tuple[Parts, list[Parts]]:
        """Return the parts of the start and of each kernel; raise DeviceError where a source lacks a coefficient."""
        of_sources = [source.parts_ms(network) for source in self.sources]
        start = _averaged([parts for parts, _ in of_sources], self.weights)
        start = {name: ms * self._factor(name, START) for name, ms in start.items()}
        start[START] = start.get(START, 0.0) + self.own_start_ms
        per_kernel = zip(*(kernels for _, kernels in of_sources), strict=True)
        kernels = [
            self._factored(_averaged(parts, self.weights), kernel)
            for parts, kernel in zip(per_kernel, network.kernels, strict=True)
        ]
        return start, kernels

    def _factored(self, parts: Parts, kernel: Kernel) -> Parts:
        work = work_of(kernel)
        factored = {name: ms * self._factor(name, work, kernel.cls) for name, ms in parts.items()}
        factored[LAUNCH] = factored.get(LAUNCH, 0.0) + self.own_launch_ms
        return factored

    def _factor(self, *names: str) -> float:
        """Return the factor of the first name that has one: files of earlier versions have them by class alone."""
        return next((self.factors[name] for name in names if name in self.factors), 1.0)


def _averaged(parts: Sequence[Parts], weights: Sequence[float]) -> Parts:
    total: Parts = {}
    for weight, each in zip(weights, parts, strict=True):
        for name, ms in each.items():
            total[name] = total.get(name, 0.0) + weight * ms
    return total


@dataclass(frozen=True)
class Predictor:
    """Everything that turns a network into a time on one device under one set of conditions."""

    core: Core | Transfer
    interval: Interval
    calibration: Calibration = field(default_factory=Calibration)
    range: Range | None = None  # None: nothing tells where knowledge ends
    likeness: Likeness | None = None  # None: too much or too little was measured for it
    kinship: Kinship | None = None  # None: single kernels were measured, or nothing tells which networks were

    @cached_property
    def _outside(self) -> dict[Hashable, Outside]:
        return {}

    def times_ms(self, network: Network) -> tuple[float, list[float]]:
        """Return what the start and each kernel take; raise DeviceError where a coefficient is missing."""
        if isinstance(self.core, Core) and self.likeness is None:  # as a search asks thousands of times
            start_ms, times = self.core.start_ms(network), self.core.kernels_ms(network.kernels)
            scale, more_ms, launch_ms = self.calibration
            return more_ms + scale * start_ms, [scale * t + launch_ms for t in times]
        start, kernels = self.parts_ms(network)
        return sum(start.values()), [sum(parts.values()) for parts in kernels]

    def parts_ms(self, network: Network) -> tuple[Parts, list[Parts]]:
        """Return the parts of the start and of each kernel, as networks like this one had them."""
        start, kernels = self._parts_alone(network)
        if self.likeness is None:
            return start, kernels
        factor = self.likeness.factor(sum(start.values()), [sum(p.values()) for p in kernels], network.kernels)
        return _times(start, factor), [_times(parts, factor) for parts in kernels]

    def _parts_alone(self, network: Network) -> tuple[Parts, list[Parts]]:
        if isinstance(self.core, Transfer):
            start, kernels = self.core.parts_ms(network)
        else:
            start, kernels = self.core.start_parts(network), self.core.kernel_parts(network.kernels)
        scale, more_ms, launch_ms = self.calibration
        start, kernels = _times(start, scale), [_times(parts, scale) for parts in kernels]
        start[START] = start.get(START, 0.0) + more_ms
        for parts in kernels:
            parts[LAUNCH] = parts.get(LAUNCH, 0.0) + launch_ms
        return start, kernels

    def predict(self, network: Network) -> Prediction:
        """Return the network's time; raise DeviceError where a coefficient is missing."""
        start_ms, times = self.times_ms(network)
        runtime_ms = start_ms + sum(times)
        outside = self._where(network.kernels)
        beyond = noticed_size(outside, times, runtime_ms)
        low, high, unlike = self._sides(network)
        odd = [(t, each) for t, each in zip(times, outside, strict=True) if each != _INSIDE]
        least = sum(t * (1 - self._farther(low, each) / each.off) for t, each in odd)
        most = sum(t * (self._farther(high, each) * each.off - 1) for t, each in odd)
        return Prediction(
            runtime_ms=runtime_ms,
            low_ms=(runtime_ms - least) * exp(low),
            high_ms=(runtime_ms + most) * exp(high),
            assumed_interval=self.interval.kind == "assumed",
            kernels_ms={k.name: t for k, t in zip(network.kernels, times, strict=True)},
            fixed_ms=start_ms,
            flags=(*sentences(network.kernels, outside, times, runtime_ms, beyond), *unlike),
            extrapolation=beyond,
        )

    def _sides(self, network: Network) -> tuple[float, float, tuple[str, ...]]:
        """Return the interval as logarithms, and what must be said of it: wider for a network that is like none."""
        low, high = self.interval.low, self.interval.high
        if self.kinship is None:
            return low, high, ()
        wider = min(low, self.kinship.low), max(high, self.kinship.high)
        if wider == (low, high) or self.kinship.knows(network):
            return low, high, ()
        return *wider, (UNLIKE,)

    def _farther(self, side: float, where: Outside) -> float:
        """Return how many times one side of the interval, a logarithm, is farther for a part so far outside."""
        if where.size <= 1.0:
            return 1.0
        return exp(max(-FARTHEST, min(FARTHEST, float(where.size**self.interval.growth) * side)) - side)

    def _where(self, kernels: Sequence[Kernel]) -> list[Outside]:
        """Return how far each kernel is outside what was measured; remembered, as prices are."""
        if self.range is None:
            return [_INSIDE] * len(kernels)
        known = self._outside
        if len(known) > MOST_PRICED:
            known.clear()
        places = []
        for kernel in kernels:
            key = kernel.figures
            if key not in known:
                known[key] = outside(kernel, self.range)
            places.append(known[key])
        return places


_INSIDE = Outside()
UNLIKE = (
    "no network like this one was timed, here or on the devices from which this one starts: its interval is as wide as "
    "such networks were off"
)
FARTHEST = log(100)  # a part is off by so much at most for its size: beyond that nobody knows anything of it


def _times(parts: Parts, factor: float) -> Parts:
    return {name: ms * factor for name, ms in parts.items()}


def assumed_interval(factor: float, note: str) -> Interval:
    """Return an interval of the time divided by and multiplied with `factor`."""
    return Interval("assumed", -log(factor), log(factor), -log(factor), log(factor), ASSUMED_GROWTH, note)
