"""Input and output of a fit: measured networks, and the predictions for them of fits without them."""

from dataclasses import dataclass
from typing import NamedTuple

from latency_models.kernels import COMPUTING_CLASSES, Network

# With so many kernels that compute, a measured model counts as a whole network; a probe has one or none.
NETWORK_KERNELS = 2


class Sample(NamedTuple):
    """One measured network, or one kernel inside a profiled one."""

    network: Network
    runtime_ms: float
    family: str  # networks that know each other: left out together
    label: str = ""
    whole: bool = True  # False: a kernel's share of a profiled run, without start and I/O

    @property
    def is_network(self) -> bool:
        """Whether this is a network of several layers, not a probe."""
        return self.whole and sum(k.cls in COMPUTING_CLASSES for k in self.network.kernels) >= NETWORK_KERNELS


@dataclass(frozen=True)
class HeldOut:
    """One network as a predictor that had not seen its family foresaw it."""

    label: str
    family: str
    pixels: int  # of its largest map
    measured_ms: float
    predicted_ms: float
    beyond: float = 1.0  # how many times larger than anything that fit had seen


def rounded(value: float) -> float:
    """Keep six significant digits, so that a refit gives the same figures on every machine."""
    return float(f"{value:.6g}")
