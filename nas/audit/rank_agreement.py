"""Measure how well short training ranks networks as long training does.

Every function is pure and takes matrices [networks, seeds]: what a rung gave, and what the long training gave, the
truth. A rank correlation of 1 means the same order, 0 none at all. Two ways to take it: over the means of all seeds,
which says what the training length loses, and with one seed against the others, which says what a search meets, for
it trains every candidate once. The ceiling is what the long training itself reaches in the second way: no shorter one
can be asked for more.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

Values = Float[np.ndarray, "*more n"]
ByNetwork = Float[np.ndarray, " networks"]
BySeed = Float[np.ndarray, "networks seeds"]
Statistic = Callable[[Values, Values], Float[np.ndarray, "*more"]]

FEWEST_TO_RANK = 3
RESAMPLES = 2000
BOOTSTRAP_SEED = 0
COVERAGE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A coefficient and the interval that a bootstrap over networks gives it; None where there is no order."""

    value: float | None
    low: float | None
    high: float | None


def spearman(x: Values, y: Values) -> Float[np.ndarray, "*more"]:
    """Return Spearman's ρ along the last axis; NaN where all of one side is equal.

    Source: Pearson's coefficient of the ranks, equal values sharing their mean rank.
    """
    from scipy.stats import rankdata

    a, b = (_centred(rankdata(values, axis=-1)) for values in (x, y))
    return _ratio((a * b).sum(-1), np.sqrt((a * a).sum(-1) * (b * b).sum(-1)))


def kendall(x: Values, y: Values) -> Float[np.ndarray, "*more"]:
    """Return Kendall's τ-b along the last axis; NaN where all of one side is equal.

    Source: Kendall 1945, "The treatment of ties in ranking problems": Σ sign·sign over the pairs, divided by the root
    of how many pairs each side tells apart.
    """
    a, b = (np.sign(values[..., :, None] - values[..., None, :]) for values in (x, y))
    of_pairs = (-2, -1)
    return _ratio((a * b).sum(of_pairs), np.sqrt((a * a).sum(of_pairs) * (b * b).sum(of_pairs)))


def _centred(ranks: Values) -> Values:
    centred: Values = ranks - ranks.mean(-1, keepdims=True)
    return centred


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    quotient: np.ndarray = np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 0)
    return quotient


def estimate(statistic: Statistic, short: ByNetwork, truth: ByNetwork) -> Estimate:
    """Return a coefficient with its 95 % percentile bootstrap interval over networks.

    Resamples in which all networks are the same have no order and are left out. Source: Efron and Tibshirani 1993,
    "An Introduction to the Bootstrap", chapter 13.
    """
    if len(short) < FEWEST_TO_RANK:
        return Estimate(None, None, None)
    drawn = np.random.default_rng(BOOTSTRAP_SEED).integers(len(short), size=(RESAMPLES, len(short)))
    resampled = statistic(short[drawn], truth[drawn])
    resampled = resampled[np.isfinite(resampled)]
    value = _known(statistic(short, truth))
    if value is None:
        return Estimate(None, None, None)
    low, high = np.quantile(resampled, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return Estimate(value, float(low), float(high))


def one_seed(statistic: Statistic, short: BySeed, truth: BySeed) -> float | None:
    """Return the mean coefficient of one seed's short trainings with the other seeds' truth.

    Never with the truth of the same seed: a ladder as long as the truth is one run with it. None for a single seed.
    """
    seeds = short.shape[1]
    if seeds < 2 or len(short) < FEWEST_TO_RANK:
        return None
    return _known(np.mean([statistic(short[:, seed], np.delete(truth, seed, axis=1).mean(1)) for seed in range(seeds)]))


def _known(value: np.ndarray | np.floating) -> float | None:
    return float(value) if np.isfinite(value) else None


def seed_spread(values: BySeed) -> float | None:
    """Return the standard deviation over seeds, pooled over networks; None for a single seed or no network."""
    return float(np.sqrt(values.var(axis=1, ddof=1).mean())) if len(values) and values.shape[1] > 1 else None


def network_spread(values: BySeed) -> float | None:
    """Return the standard deviation over networks of the means over seeds; None for a single network."""
    return float(values.mean(1).std(ddof=1)) if len(values) > 1 else None


def kept_of_the_best(short: BySeed, truth: BySeed, *, eta: int) -> tuple[float, int]:
    """Return how many of the truly best quarter are in a rung's best 1/eta, a mean over seeds, and their number."""
    n = len(short)
    best = set(_best(truth.mean(1), max(1, n // 4)))
    counts = [len(best & set(_best(scores, max(1, n // eta)))) for scores in short.T]
    return float(np.mean(counts)), len(best)


def regret(rungs: Sequence[BySeed], truth: BySeed, *, eta: int) -> float:
    """Return how much worse the truth of the network is that a ladder chooses than that of the best, a mean over seeds.

    Of all networks the best 1/eta climb each rung, one at least, and the best at the top is chosen.
    """
    of_networks = truth.mean(1)
    chosen = [_climb([rung[:, seed] for rung in rungs], eta) for seed in range(truth.shape[1])]
    return float(np.mean([of_networks.max() - of_networks[network] for network in chosen]))


def _climb(rungs: Sequence[ByNetwork], eta: int) -> int:
    left = list(range(len(rungs[0])))
    for scores in rungs[:-1]:
        left = sorted(left, key=lambda network: -scores[network])[: max(1, len(left) // eta)]
    return max(left, key=lambda network: rungs[-1][network])


def _best(scores: ByNetwork, number: int) -> list[int]:
    return [int(index) for index in np.argsort(-scores, kind="stable")[:number]]
