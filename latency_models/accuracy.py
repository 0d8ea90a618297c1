"""Accuracy of predicted against measured times, with the same figures for every predictor and device.

Quality inside a search is rank correlation; quality of the number that is printed is the relative error; the
worth of an interval is how often the measured time lies in it. All of them mean something only over
networks that were not used for the fit.
"""

from collections.abc import Sequence

import numpy as np

from search_spaces.errors import UsageError

Times = Sequence[float]


def mape(predicted: Times, measured: Times) -> float:
    """Return the mean of |predicted − measured| / measured; 0.1 is ten percent."""
    return float(np.mean(_relative_errors(predicted, measured)))


def within(predicted: Times, measured: Times, *, share: float = 0.10) -> float:
    """Return which part of the predictions, 0 to 1, is at most `share` of the measured time away from it."""
    return float(np.mean(_relative_errors(predicted, measured) <= share))


def spearman(predicted: Times, measured: Times) -> float:
    """Return Spearman's rank correlation ρ, −1 to 1; needs two or more different times on each side."""
    from scipy import stats  # a second of imports, which a list of devices has no use for

    _check_ranks(predicted, measured)
    return float(stats.spearmanr(predicted, measured).statistic)


def kendall(predicted: Times, measured: Times) -> float:
    """Return Kendall's rank correlation τ-b, −1 to 1; needs two or more different times on each side."""
    from scipy import stats

    _check_ranks(predicted, measured)
    return float(stats.kendalltau(predicted, measured).statistic)


def coverage(low: Times, high: Times, measured: Times) -> float:
    """Return which part of the measured times, 0 to 1, lies in its interval, the ends included."""
    _check_lengths(low, measured)
    _check_lengths(high, measured)
    times = np.asarray(measured)
    return float(np.mean((np.asarray(low) <= times) & (times <= np.asarray(high))))


def medians_of_the_others(measured: Times) -> list[float]:
    """Return for each time the median of all the others: what guessing without looking at the network gives."""
    times = np.asarray(measured, dtype=np.float64)
    return [float(np.median(np.delete(times, index))) for index in range(len(times))]


def _relative_errors(predicted: Times, measured: Times) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    _check_lengths(predicted, measured)
    times = np.asarray(measured, dtype=np.float64)
    if not (times > 0).all():
        raise UsageError(f"Measured times must be positive, got {min(measured)}; leave failed measurements out.")
    return np.abs(np.asarray(predicted, dtype=np.float64) - times) / times


def _check_lengths(predicted: Times, measured: Times) -> None:
    if len(predicted) != len(measured) or not len(measured):
        raise UsageError(
            f"Accuracy needs one predicted time per measured one and at least one, got {len(predicted)} "
            f"and {len(measured)}."
        )


def _check_ranks(predicted: Times, measured: Times) -> None:
    _check_lengths(predicted, measured)
    if len(set(predicted)) < 2 or len(set(measured)) < 2:
        raise UsageError("A rank correlation needs two or more different times on each side; measure more networks.")
