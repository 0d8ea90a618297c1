"""Tell how probable it is that one network is faster than another on a device, both only predicted.

What both networks have in common, equal kernels and the start, takes the same time in both and decides nothing. So the
rests are compared, whose logarithms of measured by predicted time are taken as normal. A part of a network is farther
off than the whole, in which errors cancel: with the root of its share. Errors that all networks of a device have in
common, as networks left out tell, cancel too.
"""

from collections import Counter
from collections.abc import Sequence
from math import erf, log, sqrt
from statistics import fmean
from typing import NamedTuple

from latency_models.kernels import Network
from latency_models.predictor import Prediction
from latency_models.samples import HeldOut

# An interval of 80 % of a normal distribution reaches so many deviations to either side.
DEVIATIONS_80 = 1.28155
# A part is at most so many times farther off than the whole network.
FARTHEST_PART = 3.0
# Order and alignment of maps, which no model here sees, can turn networks round that are nearly equal.
SUREST = 0.995
NOTHING_MS = 1e-9
LEAST_DEVIATION = 0.01
# Fewer networks left out tell nothing of what errors have in common.
FEWEST_HELD_OUT = 5


class Timed(NamedTuple):
    """A network with its predicted time on a device."""

    network: Network
    prediction: Prediction

    @property
    def deviation(self) -> float:
        """How far off the time may be, as the standard deviation of its logarithm."""
        return log(self.prediction.high_ms / self.prediction.low_ms) / (2 * DEVIATIONS_80)


def probability_faster(a: Timed, b: Timed, held_out: Sequence[HeldOut] = ()) -> float:
    """Return how probable it is that `a` takes less time than `b`; a half where they are predicted to be equal."""
    first, second = _rests(a, b, held_out)
    if min(first.ms, second.ms) <= NOTHING_MS:
        lead = second.ms - first.ms
        probability = 0.5 if abs(lead) <= NOTHING_MS else float(lead > 0)
    else:
        deviation = sqrt(first.deviation**2 + second.deviation**2)
        probability = (1 + erf(log(second.ms / first.ms) / deviation / sqrt(2))) / 2
    return min(SUREST, max(1 - SUREST, probability))


def deviation_of_difference_ms(a: Timed, b: Timed, held_out: Sequence[HeldOut] = ()) -> float:
    """Return the standard deviation of the difference of both times: of what differs, and of the level of both."""
    level = min(a.deviation, b.deviation) * (a.prediction.runtime_ms - b.prediction.runtime_ms)
    return sqrt(level**2 + sum((rest.ms * rest.deviation) ** 2 for rest in _rests(a, b, held_out)))


class _Rest(NamedTuple):
    """What a network has and the other has not."""

    ms: float
    deviation: float  # of the logarithm


def _rests(a: Timed, b: Timed, held_out: Sequence[HeldOut]) -> tuple[_Rest, _Rest]:
    common_ms, share_left = _common_ms(a, b), sqrt(_kept_share(held_out))

    def rest(timed: Timed) -> _Rest:
        ms = max(0.0, timed.prediction.runtime_ms - common_ms)
        share = max(ms / timed.prediction.runtime_ms, FARTHEST_PART**-2)
        return _Rest(ms, max(timed.deviation * share_left / sqrt(share), LEAST_DEVIATION))

    return rest(a), rest(b)


def _common_ms(a: Timed, b: Timed) -> float:
    """Return what the start and kernels that both networks have take, in the cheaper of the two."""
    left: Counter[object] = Counter(kernel.figures for kernel in b.network.kernels)
    total = min(a.prediction.fixed_ms, b.prediction.fixed_ms)
    for kernel, ms in zip(a.network.kernels, a.prediction.kernels_ms.values(), strict=True):
        if left[kernel.figures] > 0:
            left[kernel.figures] -= 1
            total += ms
    return min(total, a.prediction.runtime_ms, b.prediction.runtime_ms)


def _kept_share(held_out: Sequence[HeldOut]) -> float:
    """Return which part of two errors' variance is left in their difference: one where errors have nothing in common.

    Of networks of different families; what all errors share is their mean.
    """
    if len(held_out) < FEWEST_HELD_OUT:
        return 1.0
    logs = [log(h.measured_ms / h.predicted_ms) for h in held_out]
    middle, around_one = fmean(logs), fmean(x * x for x in logs)
    return min(1.0, fmean((x - middle) ** 2 for x in logs) / around_one) if around_one else 1.0
