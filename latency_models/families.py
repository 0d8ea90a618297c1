"""Group networks into families of one structure, whatever they are called.

Sizes of one network differ in widths, depth and resolution, and share which operations follow which. So a network is
the set of its runs of three operations, each with its side and stride, and two networks are of one family where most of
their runs are common.
"""

from collections.abc import Mapping

from latency_models.kernels import COMPUTING_CLASSES, Kernel, Network

RUN = 3
# The share of common runs from which two networks are siblings. Of 23 public networks it joins ResNet-50, ResNet-101
# and their wide form, ResNeXt-50 and -101, the two EfficientNets and the small two of QuickSRNet, and no others.
ALIKE = 0.75
Runs = frozenset[tuple[str, ...]]


def families(networks: Mapping[str, Network], known: Mapping[str, str]) -> dict[str, str]:
    """Return a family for every label in `networks`: as `known` says, else by structure.

    A family found by structure is called by the known one it joins, or else by its first label.
    """
    runs = {label: _runs(network) for label, network in networks.items()}
    found = {label: known[label] for label in networks if label in known}
    for label in sorted(networks.keys() - known.keys()):
        alike = {other: _common(runs[label], runs[other]) for other in found}
        nearest = max(alike, key=lambda other: alike[other], default=None)
        found[label] = found[nearest] if nearest is not None and alike[nearest] >= ALIKE else label
    return found


def _runs(network: Network) -> Runs:
    steps = ["", *map(_step, network.kernels), ""]
    return frozenset(tuple(steps[n : n + RUN]) for n in range(max(1, len(steps) - RUN + 1)))


def _step(kernel: Kernel) -> str:
    if kernel.cls not in COMPUTING_CLASSES:
        return kernel.tflite_op
    return f"{kernel.tflite_op} {kernel.kernel} {kernel.stride} {kernel.groups > 1}"


def _common(a: Runs, b: Runs) -> float:
    return len(a & b) / len(a | b)
