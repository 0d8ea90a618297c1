"""How long do these kernels take? A roofline whose costs are all known to be at least zero.

    t_ms = fixed_ms + io_ms_per_mb · (input + output MB) + Σ_kernels [ kernel_ms + compute + traffic ]

    compute = effective GMAC · <class>_ms_per_gmac      effective GMAC = MACs / 10⁹ / eff
    traffic = MB read and written · <class>_ms_per_mb   MB = 10⁶ bytes: every input, output and weight once

An NPU works on lanes of channels: a convolution of 4 → 3 channels takes the time of lane → lane. So
eff = cin / ⌈cin⌉ · cout / ⌈cout⌉ with ⌈·⌉ rounded up to the lane; a depthwise convolution has one such factor,
its channels being the same on both sides. Compute and traffic add up: every map is taken to go out to
memory and come back, which is so for Full-HD maps of megabytes.

The time is linear in the coefficients, so they are fitted by non-negative least squares, held near stated
assumptions as long as there are few measurements.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import prod, sqrt
from typing import NamedTuple

from latency_models.features import COMPUTING_CLASSES, MOVING_CLASSES, Kernel
from search_spaces.errors import DeviceError
from search_spaces.graph import Graph

# Milliseconds per unit, by coefficient: the three below, then per class `<class>_ms_per_gmac` and `<class>_ms_per_mb`.
Coefficients = Mapping[str, float]
Amounts = dict[str, float]
OVERHEADS = ("fixed_ms", "io_ms_per_mb", "kernel_ms")


class Layout(NamedTuple):
    """How a device holds maps."""

    lane: int  # channels that are computed at once
    bytes_per_element: int  # inside the network
    io_bytes_per_element: int  # of the network's input and output


class Row(NamedTuple):
    """One measured network: how much of each coefficient's unit it has, and how long it took."""

    amounts: Amounts
    runtime_ms: float


# What each class needs beside the overheads: traffic always, arithmetic where it computes.
CLASS_COEFFICIENTS: dict[str, tuple[str, ...]] = {
    **{cls: (f"{cls}_ms_per_mb", f"{cls}_ms_per_gmac") for cls in COMPUTING_CLASSES},
    **{cls: (f"{cls}_ms_per_mb",) for cls in MOVING_CLASSES},
}


def overhead_amounts(graph: Graph, layout: Layout) -> Amounts:
    """Return one start and the megabytes that enter and leave the network."""
    elements = prod(graph.input_shape) + prod(graph.output_shape)
    return {"fixed_ms": 1.0, "io_ms_per_mb": elements * layout.io_bytes_per_element / 1e6}


def kernel_amounts(kernel: Kernel, layout: Layout) -> Amounts:
    """Return one launch, the effective GMACs where the class computes, and the megabytes moved."""
    elements = kernel.input_elements + kernel.output_elements + kernel.weight_elements
    traffic, *compute = CLASS_COEFFICIENTS[kernel.cls]
    amounts = {"kernel_ms": 1.0, traffic: elements * layout.bytes_per_element / 1e6}
    if compute:
        amounts[compute[0]] = effective_gmacs(kernel, layout.lane)
    return amounts


def effective_gmacs(kernel: Kernel, lane: int) -> float:
    """Return the MACs in 10⁹ as if every channel count were rounded up to the lane."""
    padding = -(-kernel.cout // lane) * lane / kernel.cout
    if kernel.cls != "depthwise":
        padding *= -(-kernel.cin // lane) * lane / kernel.cin
    return kernel.macs * padding / 1e9


def total_amounts(graph: Graph, kernels: Iterable[Kernel], layout: Layout) -> Amounts:
    """Return the amounts of a whole network: what one measurement tells about the coefficients."""
    total = overhead_amounts(graph, layout)
    for kernel in kernels:
        for name, amount in kernel_amounts(kernel, layout).items():
            total[name] = total.get(name, 0.0) + amount
    return total


def time_ms(amounts: Amounts, coefficients: Coefficients) -> float:
    """Return Σ amount · coefficient; raise DeviceError where a coefficient is missing, for unknown is never zero."""
    total = 0.0
    try:
        for name, amount in amounts.items():
            total += amount * coefficients[name]
    except KeyError as missing:
        raise _lacking(missing.args[0], coefficients) from None
    return total


def _lacking(name: str, coefficients: Coefficients) -> DeviceError:
    return DeviceError(
        f"This network needs the coefficient {name}, and the device has only {', '.join(coefficients)}. "
        "Add it to the device's file, or choose a network without kernels of this class."
    )


def fit(rows: Sequence[Row], prior: Coefficients, *, shrinkage: float) -> dict[str, float]:
    """Return coefficients ≥ 0 that minimise Σ_rows (t̂/t − 1)² + shrinkage · Σ_coefficients (c/prior − 1)².

    A row counts by its relative error, a coefficient by how far it is from its prior in relation to it; a prior
    of zero stays zero. The sum over rows grows with them, so many measurements outweigh the prior. Six
    significant digits are kept, so that a refit gives the same numbers whichever linear algebra is underneath.
    """
    import numpy as np  # here, not above: a search predicts and never fits
    from scipy.optimize import nnls

    for name in {name for row in rows for name in row.amounts} - prior.keys():
        raise _lacking(name, prior)
    # Unknowns are multiples of the prior: A holds each coefficient's share of the measured time, and wants 1.
    shares = [[row.amounts.get(name, 0.0) * prior[name] / row.runtime_ms for name in prior] for row in rows]
    system = np.vstack([np.reshape(shares, (len(rows), len(prior))), sqrt(shrinkage) * np.eye(len(prior))])
    wanted = np.concatenate([np.ones(len(rows)), np.full(len(prior), sqrt(shrinkage))])
    multiples, _ = nnls(system, wanted)
    return {name: float(f"{prior[name] * m:.6g}") for name, m in zip(prior, multiples, strict=True)}
