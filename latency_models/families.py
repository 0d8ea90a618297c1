"""Group networks into families of one structure, whatever they are called.

Sizes of one network differ in widths, depth and resolution, and share which operations follow which. So a network is
the set of its runs of three operations, each with its side and stride, and two networks are of one family where most of
their runs are common.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple
from zlib import crc32

from latency_models.kernels import COMPUTING_CLASSES, Kernel, Network

RUN = 3
# The share of common runs from which two networks are siblings. Of 23 public networks it joins ResNet-50, ResNet-101
# and their wide form, ResNeXt-50 and -101, the two EfficientNets and the small two of QuickSRNet, and no others.
ALIKE = 0.75
Runs = frozenset[int]


class Kinship(NamedTuple):
    """Which networks a predictor knows, and how far off it is on those that are like none of them."""

    families: tuple[Runs, ...]
    low: float  # the interval of such a network, as logarithms, as in latency_models.predictor.Interval
    high: float

    def knows(self, network: Network) -> bool:
        """Whether a network is like one that was measured."""
        own = runs_of(network)
        return any(_common(own, each) >= ALIKE for each in self.families)


def distinct(networks: Iterable[Network]) -> tuple[Runs, ...]:
    """Return what some networks are made of, each once."""
    return tuple(dict.fromkeys(map(runs_of, networks)))


def families(networks: Mapping[str, Network], known: Mapping[str, str]) -> dict[str, str]:
    """Return a family for every label in `networks`: as `known` says, else by structure.

    A family found by structure is called by the known one it joins, or else by its first label.
    """
    runs = {label: runs_of(network) for label, network in networks.items()}
    family_of = {label: known[label] for label in networks if label in known}
    for label in sorted(networks.keys() - known.keys()):
        alike = {other: _common(runs[label], runs[other]) for other in family_of}
        nearest = max(alike, key=lambda other: alike[other], default=None)
        family_of[label] = family_of[nearest] if nearest is not None and alike[nearest] >= ALIKE else label
    return family_of


def runs_of(network: Network) -> Runs:
    """Return a network's runs of three operations, each as a number: so short that a device's file can hold them."""
    steps = ["", *map(_step, network.kernels), ""]
    return frozenset(crc32("|".join(steps[n : n + RUN]).encode()) for n in range(max(1, len(steps) - RUN + 1)))


def _step(kernel: Kernel) -> str:
    if kernel.cls not in COMPUTING_CLASSES:
        return kernel.tflite_op
    return f"{kernel.tflite_op} {kernel.kernel} {kernel.stride} {kernel.groups > 1}"


def _common(a: Runs, b: Runs) -> float:
    return len(a & b) / len(a | b)
