"""Correct predicted runtimes by what similar networks took beyond the sum of their kernels.

How a device schedules a whole network, what it fuses and what it keeps on the chip, no sum of kernels says; networks of
one kind share it. Where whole networks are all that was measured, the logarithms of measured by predicted time are
carried over to networks that are alike, by a Gaussian process: two networks are alike where start and classes of
kernels take the same shares of their times and the times are near. Far from everything measured it adds nothing.

Source: Rasmussen and Williams 2006, equation 2.25.
"""

from collections.abc import Sequence
from math import exp, log, sqrt
from typing import NamedTuple

from latency_models.kernels import Kernel
from latency_models.roofline import work_of
from latency_models.samples import rounded

# Distances at which likeness fades, how large what is shared is, and how noisy a network's time is, as logarithms.
LENGTH, SHARED, NOISE = 0.3, 0.25, 0.05
# What takes half of a network's time counts as much as a time 2.7 times longer.
SHARE_SCALE, TIME_SCALE = 2.0, 0.5
START = "start"
Place = dict[str, float]


class Likeness(NamedTuple):
    """Measured networks by their places, and how much each says."""

    places: tuple[Place, ...]
    weights: tuple[float, ...]

    def factor(self, start_ms: float, times: Sequence[float], kernels: Sequence[Kernel]) -> float:
        """Return by what the predicted time of a network is to be multiplied."""
        place = place_of(start_ms, times, kernels)
        return exp(sum(w * _alike(place, known) for w, known in zip(self.weights, self.places, strict=True)))


def place_of(start_ms: float, times: Sequence[float], kernels: Sequence[Kernel]) -> Place:
    """Return where a network stands: the roots of the shares of its predicted time, and the time's logarithm."""
    totals = {START: start_ms}
    for kernel, ms in zip(kernels, times, strict=True):
        work = work_of(kernel)
        totals[work] = totals.get(work, 0.0) + ms
    whole = sum(totals.values())
    return {name: SHARE_SCALE * sqrt(ms / whole) for name, ms in totals.items()} | {"log": TIME_SCALE * log(whole)}


def _alike(a: Place, b: Place) -> float:
    distance = sum((a.get(name, 0.0) - b.get(name, 0.0)) ** 2 for name in a.keys() | b.keys())
    return SHARED**2 * exp(-distance / (2 * LENGTH**2))


def fit_likeness(places: Sequence[Place], logs: Sequence[float]) -> Likeness:
    """Return what networks at these places, with these logarithms of measured by predicted time, say of others."""
    import numpy as np

    alike = np.array([[_alike(a, b) for b in places] for a in places])
    weights = np.linalg.solve(alike + NOISE**2 * np.eye(len(places)), np.array(logs))
    rounded_places = tuple({name: rounded(x) for name, x in place.items()} for place in places)
    return Likeness(rounded_places, tuple(map(rounded, weights)))
