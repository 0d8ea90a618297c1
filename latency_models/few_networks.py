"""Fits for a device of which only a handful of whole networks was timed. Two ways, and which of them is to be trusted.

`adapted`: other devices' predictors, each part of a time multiplied by a factor, with a start and a launch of its own.
`tied`: a roofline of eight coefficients, many of the usual ones held at one another, and what networks alike share.
`blended`: both, each by how far off it is on networks left out.

Coefficients are fitted as logarithms, each held near its prior as firmly as its spread between devices says, and never
farther than three spreads: nothing comes out as zero, which a search would find, and what no network speaks of keeps
its prior.
"""

from collections.abc import Callable, Mapping, Sequence
from math import exp, log, sqrt
from statistics import median
from typing import Any

from latency_models.kernels import COMPUTING_CLASSES, MOVING_CLASSES, Network
from latency_models.likeness import fit_likeness, place_of
from latency_models.measured_range import Range, range_of
from latency_models.predictor import IO, START, Core, Interval, Parts, Predictor, Transfer
from latency_models.roofline import GROUPED, Layout, total_amounts
from latency_models.samples import Sample, rounded

NO_INTERVAL = Interval("assumed", 0.0, 0.0, 0.0, 0.0, 0.0, "not judged on its own")
# How far measured networks are off on average, as a logarithm, whatever the coefficients; and the farthest that a
# coefficient goes from its prior, in spreads. Found on phones' GPUs and CPUs and on NPUs, k = 5 to 40: half or twice
# changes little.
ADAPTED_NOISE, TIED_NOISE, FARTHEST = 0.12, 0.07, 3.0
# How far apart devices are in one class of kernels once their common level is gone, and in their starts.
CLASS_SPREAD, LEAST_SPREAD, MOST_SPREAD, START_SPREAD = 0.5, 0.3, 1.0, 1.0
# What a target's own start is of its fastest network, and its launches of a network, before anything is known.
OWN_SHARE, OWN_SPREAD = 0.001, 2.0
# No source is trusted as if it were closer than this to its target, as a logarithm.
LEAST_DEVIATION, TRUST = 0.05, 1.0
# To which power errors on networks left out tell which of two fits is right.
SHARPNESS = 3

# The tied coefficients: what each costs before anything is known, in ms when a GMAC of a convolution takes one.
# Only ratios matter, and they are held weakly: the fit starts from the level of what was measured.
TIED_PRIOR = {"fixed_ms": 0.1, "kernel_ms": 0.01, "io_ms_per_mb": 0.004, "mb": 0.004, "conv": 1.0, "conv_1x1": 1.0,
              "depthwise": 4.0, GROUPED: 2.0}  # fmt: skip
TIED_SPREAD = 1.2
TIES = {"transpose_conv": "conv", "fully_connected": "conv_1x1"}
FEWEST_TIED = 2 * len(TIED_PRIOR)


def fit_logs(shares: Any, spreads: Sequence[float], noise: float) -> list[float]:
    """Return by what to multiply each coefficient's prior.

    `shares` [networks, coefficients]: what each has of the measured time at its prior. Minimises
    Σ_networks (log Σ_c share·m_c / noise)² + Σ_c (log m_c / spread_c)² over multiples m within FARTHEST spreads.
    """
    import numpy as np
    from scipy.optimize import least_squares

    a, spread = np.asarray(shares, float), np.asarray(spreads, float)

    def residuals(logs: Any) -> Any:
        return np.concatenate([np.log(a @ np.exp(logs)) / noise, logs / spread])

    def slopes(logs: Any) -> Any:
        parts = a * np.exp(logs)
        return np.vstack([parts / parts.sum(axis=1, keepdims=True) / noise, np.diag(1 / spread)])

    solution = least_squares(residuals, np.zeros(len(spread)), slopes, method="lm", xtol=1e-12, ftol=1e-12)
    multiples: list[float] = np.exp(np.clip(solution.x, -FARTHEST * spread, FARTHEST * spread)).tolist()
    return multiples


class SourceDevices:
    """Predictors of other devices, with what they say of networks, each asked once."""

    def __init__(self, predictors: Sequence[Predictor]) -> None:
        self.predictors = tuple(predictors)
        self._parts: dict[int, tuple[Network, list[Parts]]] = {}

    def parts(self, network: Network) -> list[Parts]:
        """Return what the start and each class of kernels take, per source."""
        known = self._parts.get(id(network))
        if known is None:
            known = self._parts[id(network)] = (network, [_parts(each, network) for each in self.predictors])
        return known[1]


def _parts(source: Predictor, network: Network) -> Parts:
    start, kernels = source.parts_ms(network)
    totals = dict(start)
    for parts in kernels:
        for name, ms in parts.items():
            totals[name] = totals.get(name, 0.0) + ms
    return totals


def adapted(samples: Sequence[Sample], sources: SourceDevices) -> Predictor:
    """Bring every source to the target's level by the median ratio, average them, and fit a factor per class."""
    import numpy as np

    of_sources = [sources.parts(s.network) for s in samples]
    levels, trust = _levels(samples, of_sources)
    weights = [rounded(level * share) for level, share in zip(levels, trust, strict=True)]
    names = sorted({name for t in of_sources for parts in t for name in parts})
    averages = [_averaged(t, weights) for t in of_sources]
    start, launch = _own_prior(samples)
    shares = [
        [average.get(name, 0.0) / s.runtime_ms for name in names]
        + [start / s.runtime_ms, launch * len(s.network.kernels) / s.runtime_ms]
        for s, average in zip(samples, averages, strict=True)
    ]
    spreads = [*(_spread(name, of_sources, levels) for name in names), OWN_SPREAD, OWN_SPREAD]
    *factors, own_start, own_launch = fit_logs(np.array(shares), spreads, ADAPTED_NOISE)
    core = Transfer(
        sources.predictors,
        tuple(weights),
        {name: rounded(x) for name, x in zip(names, factors, strict=True)},
        rounded(start * own_start),
        rounded(launch * own_launch),
    )
    return Predictor(core, NO_INTERVAL, range=_joint_range(samples, sources.predictors))


def _levels(samples: Sequence[Sample], of_sources: Sequence[Sequence[Parts]]) -> tuple[list[float], list[float]]:
    """Return by what each source's times are to be multiplied, and how much each is to be trusted, in all one.

    Trust is inverse to the variance of what a source leaves of the target's times once both are at one level.
    """
    levels, trust = [], []
    for parts in zip(*of_sources, strict=True):
        logs = [log(s.runtime_ms / sum(each.values())) for s, each in zip(samples, parts, strict=True)]
        middle = median(logs)
        variance = sum((x - middle) ** 2 for x in logs) / len(logs)
        levels.append(exp(middle))
        trust.append(1 / (variance + LEAST_DEVIATION**2) ** TRUST)
    return levels, [each / sum(trust) for each in trust]


def _averaged(of_sources: Sequence[Parts], weights: Sequence[float]) -> Parts:
    names = {name for parts in of_sources for name in parts}
    return {name: sum(w * parts.get(name, 0.0) for w, parts in zip(weights, of_sources, strict=True)) for name in names}


def _own_prior(samples: Sequence[Sample]) -> tuple[float, float]:
    """Return what the target's own start and launch take before anything is known, in ms."""
    fastest = min(s.runtime_ms for s in samples)
    return OWN_SHARE * fastest, OWN_SHARE * median(s.runtime_ms / len(s.network.kernels) for s in samples)


def _spread(name: str, of_sources: Sequence[Sequence[Parts]], levels: Sequence[float]) -> float:
    """Return how far the sources are apart in a part of the time, as a logarithm, once brought to one level."""
    if name in (START, IO):
        return START_SPREAD
    logs = []
    for networks in of_sources:
        times = [level * parts[name] for level, parts in zip(levels, networks, strict=True) if parts.get(name)]
        if len(times) > 1:
            middle = sum(map(log, times)) / len(times)
            logs.append(sqrt(sum((log(t) - middle) ** 2 for t in times) / (len(times) - 1)))
    return min(MOST_SPREAD, max(LEAST_SPREAD, median(logs))) if logs else CLASS_SPREAD


def _joint_range(samples: Sequence[Sample], sources: Sequence[Predictor]) -> Range:
    """Return the sizes that the target has seen, and the kinds of kernels that it or a source has.

    Of classes that the target has not seen at all, sizes and kinds are those of the sources, and said to be.
    """
    own = range_of([s.network for s in samples])
    known = [source.range for source in sources if source.range]
    figures = {name: dict(bounds) for name, bounds in own.figures.items()}
    for each in known:
        for name, bounds in each.figures.items():
            mine = figures.setdefault(name, {})
            for figure, (low, high) in bounds.items():
                least, most = mine.get(figure, (low, high))
                mine[figure] = (min(least, low), max(most, high))
    return Range(
        _with_inherited(own.macs, [each.macs for each in known]),
        _with_inherited(own.elements, [each.elements for each in known]),
        tuple(sorted({*own.operations, *(name for each in known for name in each.operations)})),
        {name: figures[name] for name in sorted(figures)},
        tuple(sorted({cls for each in known for cls in each.elements} - own.elements.keys())),
    )


def _with_inherited(own: Mapping[str, int], others: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """Return the largest kernel of each class: the target's where it has any, else that of a source."""
    largest: dict[str, int] = {}
    for other in others:
        for cls, size in other.items():
            largest[cls] = max(size, largest.get(cls, 0))
    return dict(sorted((largest | dict(own)).items()))


def tied(samples: Sequence[Sample], *, io_bytes: int = 4, map_bytes: int = 4) -> Predictor:
    """Fit eight coefficients to whole networks alone, and carry over what networks alike take beyond them."""
    layout = Layout(1, map_bytes, io_bytes, 1, None, False, (), grouped=True)
    rows = [_tied_amounts(s.network, layout) for s in samples]
    level = median(
        s.runtime_ms / sum(TIED_PRIOR[name] * amount for name, amount in row.items())
        for s, row in zip(samples, rows, strict=True)
    )
    shares = [
        [level * TIED_PRIOR[name] * row.get(name, 0.0) / s.runtime_ms for name in TIED_PRIOR]
        for s, row in zip(samples, rows, strict=True)
    ]
    multiples = fit_logs(shares, [TIED_SPREAD] * len(TIED_PRIOR), TIED_NOISE)
    costs = {name: rounded(level * TIED_PRIOR[name] * m) for name, m in zip(TIED_PRIOR, multiples, strict=True)}
    plain = Predictor(Core(layout, _untied(costs)), NO_INTERVAL, range=range_of([s.network for s in samples]))
    times = [(plain.times_ms(s.network), s) for s in samples]
    likeness = fit_likeness(
        [place_of(start, kernels, s.network.kernels) for (start, kernels), s in times],
        [log(s.runtime_ms / (start + sum(kernels))) for (start, kernels), s in times],
    )
    return Predictor(plain.core, NO_INTERVAL, range=plain.range, likeness=likeness)


def _tied_amounts(network: Network, layout: Layout) -> dict[str, float]:
    totals: dict[str, float] = {}
    for name, amount in total_amounts(network, layout).items():
        tie = _tie_of(name)
        totals[tie] = totals.get(tie, 0.0) + amount
    return totals


def _tie_of(name: str) -> str:
    """Return which of the tied coefficients stands for one of the usual ones."""
    if name in TIED_PRIOR:
        return name
    if name.endswith("_ms_per_mb"):
        return "mb"
    work = name.removesuffix("_ms_per_gmac")
    return TIES.get(work, work)


def _untied(costs: dict[str, float]) -> dict[str, float]:
    """Return the coefficients that a roofline has for every class."""
    works = (*COMPUTING_CLASSES, GROUPED)
    names = [
        *("fixed_ms", "io_ms_per_mb", "kernel_ms"),
        *(f"{work}_ms_per_gmac" for work in works),
        *(f"{cls}_ms_per_mb" for cls in (*COMPUTING_CLASSES, *MOVING_CLASSES)),
    ]
    return {name: costs[_tie_of(name)] for name in names}


Fit = Callable[[Sequence[Sample]], Predictor]
Judge = Callable[[Sequence[Sample], Fit], Sequence[float]]  # the logarithms by which fits missed what they left out


def blended(samples: Sequence[Sample], sources: SourceDevices, judge: Judge) -> Predictor:
    """Return what the sources and the eight coefficients say together, each by how far off it was on networks left out.

    Weights are inverse to a power of the mean errors.
    """
    prior, own = adapted(samples, sources), tied(samples)
    errors = [_mean_error(judge(samples, fit)) for fit in (lambda some: adapted(some, sources), tied)]
    weight = rounded(errors[1] ** SHARPNESS / (errors[0] ** SHARPNESS + errors[1] ** SHARPNESS))
    core = Transfer((prior, own), (weight, rounded(1 - weight)), {})
    return Predictor(core, NO_INTERVAL, range=prior.range)


def _mean_error(logs: Sequence[float]) -> float:
    """Return the mean distance; of fits that nothing judges, the same for all."""
    return max(sum(map(abs, logs)) / len(logs), 1e-3) if logs else 1.0
