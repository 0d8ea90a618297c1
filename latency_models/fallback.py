"""Runtime of a network that the delegate runs only in part.

What the delegate leaves runs on the CPU, and every map that one side makes and the other reads is carried over, at the
price of the network's own input and output. Of such networks hardly anything is measured, so the costs are stated
assumptions and the interval is wide: this orders networks, and shows what an operation that is not taken costs.
"""

from dataclasses import dataclass, replace

from latency_models.kernels import Kernel, Network
from latency_models.measured_range import elements
from latency_models.predictor import Core, Prediction, Predictor
from latency_models.support import Support
from search_spaces.errors import DeviceError

FLOAT_BYTES = 4


@dataclass(frozen=True)
class Assumption:
    """A figure before any measurement, and where it comes from."""

    value: float
    note: str


@dataclass(frozen=True)
class Fallback:
    """What kernels cost beside the delegate."""

    ms_per_mb: Assumption  # of float32 maps and weights
    ms_per_gmac: Assumption
    factor: Assumption  # the time is divided by it and multiplied with it


def predict_partial(network: Network, support: Support, predictor: Predictor, costs: Fallback) -> Prediction:
    """Return the time of a network that falls apart into `support.partitions` on the delegate and the rest beside them.

    Raises DeviceError where the delegate takes nothing or the device's predictor has no cost of I/O of its own.
    """
    if not support.delegated:
        raise DeviceError("The delegate takes nothing of this network; measure it on the CPU and use that device.")
    if not isinstance(predictor.core, Core):
        raise DeviceError("A device adapted from others does not tell what carrying maps to the CPU costs; measure it.")
    whole = predictor.predict(network)
    outside = set(support.fallback)
    times = {
        kernel.name: _beside_ms(kernel, costs) if index in outside else whole.kernels_ms[kernel.name]
        for index, kernel in enumerate(network.kernels)
    }
    fixed_ms = whole.fixed_ms + _carried_ms(network, outside, support.partitions, predictor.core)
    runtime_ms = fixed_ms + sum(times.values())
    flag = (
        f"{len(outside)} of {len(network.kernels)} kernels fall to the CPU, in {support.partitions} partitions; their "
        "costs are assumptions"
    )
    return replace(
        whole,
        runtime_ms=runtime_ms,
        low_ms=runtime_ms / costs.factor.value,
        high_ms=runtime_ms * costs.factor.value,
        assumed_interval=True,
        kernels_ms=times,
        fixed_ms=fixed_ms,
        flags=(flag, *whole.flags),
    )


def _beside_ms(kernel: Kernel, costs: Fallback) -> float:
    traffic = elements(kernel) * FLOAT_BYTES / 1e6 * costs.ms_per_mb.value
    return traffic + kernel.macs / 1e9 * costs.ms_per_gmac.value


def _carried_ms(network: Network, outside: set[int], partitions: int, core: Core) -> float:
    """Return what carrying maps across takes, each once per direction, and starting every partition but the first."""
    made_outside = {kernel.makes: index in outside for index, kernel in enumerate(network.kernels)}
    sizes = {kernel.makes: kernel.output_elements for kernel in network.kernels}
    crossing = {
        name
        for index, kernel in enumerate(network.kernels)
        for name in kernel.reads
        if name in made_outside and made_outside[name] != (index in outside)
    }
    mb = sum(sizes[name] for name in crossing) * core.layout.io_bytes_per_element / 1e6
    costs = core.coefficients
    return mb * costs["io_ms_per_mb"] + (partitions - 1) * costs["fixed_ms"]
