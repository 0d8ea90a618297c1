"""Surrogate model: predict PSNR at the final steps, with uncertainty, from all results so far.

Two models on what is known of a network, its genes and its structure. How much PSNR rises from a rung to the final
steps is a ridge regression on structure, learned from candidates that were judged at several rungs; with it every
candidate's rungs become estimates at the final steps. A Gaussian process over genes and structure smooths these
estimates and extends them to other networks. It is a sum of two: what a short training shows already, and what networks
gain beyond that late, which only long trainings show.

Where a prior is given (a model of networks trained on other pairs), the process models what it leaves open:
own results = a + b · prior + process. The prior is of the final steps: it also says what a network gains late. Where a
network's own rungs are known, all that was seen to help is what all gain: of 28 networks trained over 900 and over 8100
steps, the other data set's late gains said nothing of their own (ρ -0.4 and 0.4; results/table).
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from search_spaces.graph import INPUT, Graph
from search_spaces.networks import build_graph
from search_spaces.ops import Activation, Concat, Conv, DepthwiseConv, GlobalMean, Multiply, Pool, TransposeConv
from search_spaces.spec import GENES, ArchSpec

Vector = np.ndarray[Any, Any]
# Features [n, f] and training steps [n] → PSNR in any unit.
Prior = Callable[[Vector, Vector], Vector]
# Between genes, and between figures of the structure, which all are scaled to a deviation of about one.
STRUCTURE_WEIGHT = 2.0
# The noise of one training, in dB (results/training).
TRAINING_NOISE_DB = 0.15
# By how much networks differ in what they gain late, in dB, and how near two must be to gain the same (as `scaled`
# measures distances). In a search of an hour the squared errors of 35 finals, each foreseen without itself, are so 1.0
# times as large as expected; as noise of single results, of which hundreds cancel out, they were 1.8 times as large.
LATE_DB, LATE_LENGTH = 0.7, 2.0
RIDGE = 3.0  # in results: so many are needed to believe in a slope half
# Hyperparameters are fitted anew when there are so many more results, and to this many of them at most.
REFIT_GROWTH, MOST_FITTED = 1.15, 400
# The process rests on so many results at most, for its cost grows with their cube: half the best, half the last.
MOST_SMOOTHED = 500


@dataclass(frozen=True)
class Result:
    """PSNR in dB of one candidate by training steps."""

    spec: ArchSpec
    psnr_db: Mapping[int, float]
    is_guess: bool = False  # predicted, for a network that is in training


class Surrogate:
    """A model of one study's results; everything in it is a function of these."""

    def __init__(
        self,
        results: Sequence[Result],
        *,
        steps: int,
        prior: Prior | None = None,
        curves: Sequence[Result] | None = None,
    ) -> None:
        """`steps` are those at which PSNR is predicted.

        `curves` are the results from which gains and the kernel are learned, where these are more than `results`.
        """
        self._results, self._steps = results, steps
        self._curves = [r for r in (results if curves is None else curves) if not r.is_guess]
        self._prior = _PriorAt(prior, steps)
        self._x = _features_of(results)
        self._gain = _Gain(self._curves, steps)
        self.at_final = np.array([self._gain.extrapolated(r, max(r.psnr_db)) for r in results])
        self._fit()

    def _fit(self) -> None:
        of_prior = self._prior.final(self._x)
        self._trend = _Trend(of_prior, self.at_final)
        places = _most_telling(self.at_final, MOST_SMOOTHED)
        trainings = [(index, steps) for index in places for steps in _first_and_last(self._results[index])]
        known_db = np.array([self._gain.extrapolated(self._results[index], steps) for index, steps in trainings])
        late = np.array([self._gain.share(steps) for _, steps in trainings])
        rows = np.array([index for index, _ in trainings])
        kernel = _fitted_kernel(self._prior, self._curves[:MOST_FITTED])
        of_network = np.searchsorted(places, rows)
        left_db = known_db - self._trend.of(of_prior)[rows]
        self._process = _Process(kernel, scaled(self._x[places]), of_network, late, left_db)

    def predict(self, specs: Sequence[ArchSpec]) -> tuple[Vector, Vector]:
        """Return means and standard deviations of PSNR in dB at the final steps."""
        x = _features_of_specs(specs)
        mean, deviation = self._process.predict(scaled(x))
        return self._trend.of(self._prior.final(x)) + mean, deviation

    def correlation(self, specs: Sequence[ArchSpec]) -> Vector:
        """Return how far each of the networks [n] says what each other comes to, from 0 to 1, as [n, n]."""
        covariance = self._process.covariance(scaled(_features_of_specs(specs)))
        deviation = np.sqrt(np.diag(covariance))
        correlation: Vector = covariance / np.outer(deviation, deviation)
        return correlation

    def of_results(self) -> Vector:
        """Return the means for the networks of the results themselves."""
        expected: Vector = self._trend.of(self._prior.final(self._x)) + self._process.mean(scaled(self._x))
        return expected


def _first_and_last(result: Result) -> list[int]:
    """Return the steps at which a result says most: of its shortest and its longest training, if they are two."""
    return sorted({min(result.psnr_db), max(result.psnr_db)})


class _Process:
    """A Gaussian process of PSNR at the final steps: what short trainings show, and what comes late.

    What comes late, beyond what all gain, is a process of its own, of which a training shows as large a share as it is
    long. So networks that were trained briefly, however many, do not tell how good their like become.
    """

    def __init__(self, kernel: Any, x: Vector, rows: Vector, late: Vector, left_db: Vector) -> None:
        """`kernel` is that of short trainings; `x` [k, f] are networks, and `rows` [n] tells of which a training is.

        `late` [n] is the share of what comes late that it shows, from 0 to 1, and `left_db` [n] what it came to.
        """
        from scipy.linalg import cho_factor, cho_solve

        self._kernel, self._x, self._rows = kernel, x, rows
        self._long = np.flatnonzero(late)  # only these say something of what comes late
        self._late, self._long_x = late[self._long], x[rows[self._long]]
        covariance = kernel(x)[np.ix_(rows, rows)]
        if len(self._long):
            covariance[np.ix_(self._long, self._long)] += np.outer(self._late, self._late) * _of_late(self._long_x)
        self._factor = cho_factor(covariance + TRAINING_NOISE_DB**2 * np.eye(len(rows)), lower=True)
        self._weights = cho_solve(self._factor, left_db)

    def mean(self, x: Vector) -> Vector:
        """Return what is expected of networks at the final steps, [m]."""
        mean: Vector = self._with_known(x) @ self._weights
        return mean

    def predict(self, x: Vector) -> tuple[Vector, Vector]:
        """Return what is expected of networks at the final steps, and how sure it is: two of [m]."""
        from scipy.linalg import solve_triangular

        across = self._with_known(x)
        explained = solve_triangular(self._factor[0], across.T, lower=True)
        variance = self._kernel.diag(x) + LATE_DB**2 - np.sum(explained**2, axis=0)
        return across @ self._weights, np.sqrt(np.maximum(variance, 0.0))

    def covariance(self, x: Vector) -> Vector:
        """Return the covariance of networks at the final steps before anything is known, [m, m]."""
        covariance: Vector = self._kernel(x) + _of_late(x)
        return covariance

    def _with_known(self, x: Vector) -> Vector:
        across: Vector = self._kernel(x, self._x)[:, self._rows]
        if len(self._long):
            across[:, self._long] += self._late * _of_late(x, self._long_x)
        return across


def _of_late(a: Vector, b: Vector | None = None) -> Vector:
    from sklearn.gaussian_process.kernels import Matern

    covariance: Vector = LATE_DB**2 * Matern(LATE_LENGTH, nu=2.5)(a, b)
    return covariance


def _features_of(results: Sequence[Result]) -> Vector:
    return _features_of_specs([r.spec for r in results])


def _features_of_specs(specs: Sequence[ArchSpec]) -> Vector:
    return np.array([features(spec) for spec in specs]).reshape(len(specs), -1)


class _PriorAt:
    """What the prior says of networks at the steps that a model is asked about; zeros without one."""

    def __init__(self, prior: Prior | None, steps: int) -> None:
        self._prior, self._final = prior, steps

    def final(self, x: Vector) -> Vector:
        return self._at(x, np.full(len(x), self._final))

    def first(self, results: Sequence[Result]) -> Vector:
        """Return the prior at the steps of every result's first rung."""
        return self._at(_features_of(results), np.array([min(r.psnr_db) for r in results]))

    def _at(self, x: Vector, steps: Vector) -> Vector:
        return np.zeros(len(x)) if self._prior is None else self._prior(x, steps)


def _first_db(results: Sequence[Result]) -> Vector:
    return np.array([r.psnr_db[min(r.psnr_db)] for r in results])


class _Trend:
    """a + b · prior, with b drawn towards what equal spreads would give where results are few."""

    def __init__(self, prior: Vector, results: Vector) -> None:
        spread = float(np.std(prior))
        if not spread:
            self._a, self.slope = float(np.mean(results)), 0.0
            return
        expected = float(np.std(results)) / spread if len(results) > 2 else 1.0
        centred, weight = prior - prior.mean(), RIDGE * spread**2
        slope = float((centred @ (results - results.mean()) + weight * expected) / (centred @ centred + weight))
        self.slope = max(0.0, slope)
        self._a = float(results.mean() - self.slope * prior.mean())

    def of(self, prior: Vector) -> Vector:
        return self._a + self.slope * prior


class _Gain:
    """How much PSNR rises with the logarithm of training steps, by structure."""

    def __init__(self, results: Sequence[Result], steps: int) -> None:
        self._steps = steps
        self._base = min((min(r.psnr_db) for r in results), default=steps)
        rows = self._rises(results)
        self._per_e = _default_gain(rows)
        self._coefficients, self._mean = _ridge(rows, self._per_e)

    def extrapolated(self, result: Result, steps: int) -> float:
        """Return PSNR in dB at the final steps of a result that was trained for `steps`."""
        return result.psnr_db[steps] + self._of(result.spec) * _folds(steps, self._steps, self._base)

    def share(self, steps: int) -> float:
        """Return how much of what comes after the first rung is there after `steps`, from 0 to 1."""
        whole = _folds(self._base, self._steps, self._base)
        return _folds(self._base, steps, self._base) / whole if whole else 0.0

    def _of(self, spec: ArchSpec) -> float:
        return max(0.0, self._per_e + float(self._coefficients @ (_structure_of(spec) - self._mean)))

    def _rises(self, results: Sequence[Result]) -> list["_Rise"]:
        return [
            _Rise(r.spec, _folds(first, last, self._base), r.psnr_db[last] - r.psnr_db[first])
            for r in results
            for first, last in pairwise(sorted(r.psnr_db))
        ]


class _Rise(NamedTuple):
    """How much a network gained from one rung to the next."""

    spec: ArchSpec
    folds: float
    db: float


# A fold of e in steps gains so much of what the fold before it gained, counted from the first steps of a ladder: in
# searches of both data sets of results/training a tripling from 300, 900 and 2700 steps brought 0.9, 0.6 and 0.1 to
# 0.2 dB, the last one in finals, from fresh seeds.
DECAY = 0.58


def _folds(first: int, last: int, base: int) -> float:
    """Return how many folds of e lie between two numbers of steps, each counting less than the one before it.

    The first fold from `base` counts about whole.
    """
    early, late = (DECAY ** math.log(max(1.0, at / base)) for at in (first, max(first, last)))
    return float((early - late) / -math.log(DECAY))


def _default_gain(rows: Sequence[_Rise]) -> float:
    """Return the mean rise per fold; without results, one dB for a tripling is as good a guess as any."""
    return float(np.sum([rise for _, _, rise in rows]) + RIDGE) / float(np.sum([f for _, f, _ in rows]) + RIDGE)


def _ridge(rows: Sequence[_Rise], mean_gain: float) -> tuple[Vector, Vector]:
    if len(rows) < 3:
        width = len(_structure_of(ArchSpec()))
        return np.zeros(width), np.zeros(width)
    x = np.array([_structure_of(spec) for spec, _, _ in rows])
    folds, rise = np.array([row[1] for row in rows]), np.array([row[2] for row in rows])
    mean = x.mean(0)
    weighted = (x - mean) * folds[:, None]
    penalty = RIDGE * 4 * np.eye(x.shape[1])
    return np.linalg.solve(weighted.T @ weighted + penalty, weighted.T @ (rise - mean_gain * folds)), mean


def _most_telling(at_final: Vector, most: int) -> Vector:
    """Return which results the process rests on, in their order: all, or the last ones and the best of the others."""
    count = len(at_final)
    if count <= most:
        return np.arange(count)
    earlier = count - most // 2
    best = np.argsort(-at_final[:earlier], kind="stable")[: most - most // 2]
    return np.concatenate([np.sort(best), np.arange(earlier, count)])


def _fitted_kernel(prior: _PriorAt, results: Sequence[Result]) -> Any:
    """Return the kernel of what short trainings show, in dB².

    Its three parameters are fitted to what the first results, of a number that grows in steps, gave at their first rung
    alone. No later result changes that: a fit is made once for every size, and a search that was killed makes the same.
    """
    fitted = results[: _size_to_fit(len(results))]
    x, first, of_prior = scaled(_features_of(fitted)), _first_db(fitted), prior.first(fitted)
    left = first - _Trend(of_prior, first).of(of_prior)
    scale = max(0.1, float(np.std(left)))
    return scale**2 * _fitted(x.tobytes(), (left / scale).tobytes(), TRAINING_NOISE_DB / scale, len(fitted))


def _size_to_fit(count: int) -> int:
    size = 8.0
    while size * REFIT_GROWTH <= count:
        size *= REFIT_GROWTH
    return min(count, int(size))


@lru_cache(maxsize=8)
def _fitted(x: bytes, y: bytes, noise: float, count: int) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, DotProduct, Matern

    rows = np.frombuffer(x).reshape(count, -1)
    kernel = ConstantKernel(1.0, (0.05, 20.0)) * Matern(4.0, (1.0, 30.0), nu=2.5)
    kernel += ConstantKernel(0.02, (1e-4, 1.0)) * DotProduct(1.0, "fixed")
    if count < 8:
        return kernel
    process = GaussianProcessRegressor(kernel, alpha=noise**2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a parameter at its bound is what the bound is for
        return process.fit(rows, np.frombuffer(y)).kernel_


def scaled(x: Vector) -> Vector:
    """Return features as the process measures distances between them."""
    weights = np.ones(x.shape[1])
    weights[: len(_structure_of(ArchSpec()))] = STRUCTURE_WEIGHT
    scaled_: Vector = x * weights
    return scaled_


@lru_cache(maxsize=20_000)
def features(spec: ArchSpec) -> Vector:
    """Return what the models know of a network: figures of its structure, then its genes."""
    return np.concatenate([_structure_of(spec), _genes(spec)])


@lru_cache(maxsize=20_000)
def _structure_of(spec: ArchSpec) -> Vector:
    return structure(build_graph(spec))


def _genes(spec: ArchSpec) -> Vector:
    """Return an ordered gene as a number in [0, 1], another as one number per value; inactive ones as zeros."""
    active = spec.active_genes
    return np.array([number for name in GENES for number in _gene(name, active)])


def _gene(name: str, active: Mapping[str, Any]) -> list[float]:
    legal = GENES[name].legal
    if GENES[name].ordered:
        return [legal.index(active[name]) / max(1, len(legal) - 1) if name in active else 0.0]
    return [float(name in active and active[name] == value) for value in legal]


def structure(graph: Graph) -> Vector:
    """Return figures of a network's structure, each of a size of about one."""
    kinds = [type(node.op) for node in graph.nodes]
    convolutions = [node for node in graph.nodes if isinstance(node.op, Conv | DepthwiseConv | TransposeConv)]
    heights = [graph.shapes[node.name][1] for node in convolutions]
    macs = np.array([graph.node_macs(node) for node in convolutions], float)
    _, h, w, _ = graph.shapes[INPUT]
    scale = float(np.sum(macs * np.log2(h / np.array(heights))) / max(1.0, float(macs.sum())))
    field, depth = _paths(graph)
    return np.array(
        [
            math.log10(max(1, graph.macs) / (h * w)) - 3,
            math.log10(max(1, graph.parameters)) - 4,
            math.log2(field) / 2 - 2,
            depth / 10 - 1,
            scale,
            math.log2(max((graph.shapes[node.name][3] for node in convolutions), default=1)) / 2 - 2,
            float(GlobalMean in kinds),
            kinds.count(Activation) / 10 - 1,
            math.log2(1 + kinds.count(Multiply)) / 2,
            math.log2(1 + kinds.count(Concat)) / 2,
            float(Pool in kinds),
        ]
    )


def _paths(graph: Graph) -> tuple[float, int]:
    """Return the receptive field in pixels of the mosaic, and the most convolutions on a path."""
    field, depth = {INPUT: 2.0}, {INPUT: 0}
    full = graph.shapes[INPUT][1]
    for node in graph.nodes:
        seen, before = max(field[i] for i in node.inputs), max(depth[i] for i in node.inputs)
        jump = 2 * full / graph.input_shapes(node)[0][1]  # pixels between neighbours on the map that is read
        if isinstance(node.op, Conv | DepthwiseConv | TransposeConv):
            side = node.op.parameter_shapes(*graph.input_shapes(node))["kernel"][0]
            dilation = getattr(node.op, "dilation", 1)
            seen, before = seen + (side - 1) * dilation * jump, before + 1
        field[node.name], depth[node.name] = seen, before
    return field[graph.output], depth[graph.output]


def predicted_seconds(specs: Sequence[ArchSpec], known: Sequence[ArchSpec], seconds: Sequence[float]) -> Vector:
    """Return what each network's first rung will take, by structure from what others took: ridge on logarithms."""
    y = np.log(np.maximum(seconds, 1e-3))
    x = np.array([_structure_of(spec) for spec in known])
    mean = x.mean(0)
    penalty = RIDGE * np.eye(x.shape[1])
    slopes = np.linalg.solve((x - mean).T @ (x - mean) + penalty, (x - mean).T @ (y - y.mean()))
    x_new = np.array([_structure_of(spec) for spec in specs])
    predicted: Vector = np.exp(y.mean() + (x_new - mean) @ slopes)
    return predicted
