"""Roofline model of kernel times whose costs are all non-negative.

    t_ms = fixed_ms + io_ms_per_mb · (input + output MB) + Σ_kernels [ kernel_ms + compute + taps + traffic + spill ]

    compute = padded GMAC · <class>_ms_per_gmac
    taps    = padded Gtap · <class>_ms_per_gtap             what each tap costs however few channels it reads; a
                                                            depthwise convolution reads one always: its are its MACs
    traffic = MB read and written · <class>_ms_per_mb       MB = 10⁶ bytes: every input, output and weight once
    spill   = MB beyond the cache · <class>_ms_per_spilled_mb

Hardware works on lanes of channels: on 16 lanes a convolution to 17 channels takes the time of one to 32. So channels
are rounded up to the layout's lanes before MACs are counted, and a convolution of few channels pays for its taps: the
width efficiency cin / (cin + c₀) is the two costs' ratio, c₀ = ms_per_gtap / ms_per_gmac. Compute and traffic add up:
every map is taken to go out to memory and come back, which is so for Full-HD maps of megabytes.

A device's layout says which of these it tells apart: taps, spill, and the operations whose traffic has a cost of its
own (`tanh_ms_per_mb`) instead of its class's, and convolutions in groups (`grouped_ms_per_gmac`).
What an amount is counted for needs a coefficient; a missing one is an
error, for unknown is never zero.

The time is linear in the coefficients, so they are fitted by non-negative least squares on relative errors, held near
a prior as long as there are few measurements.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from math import sqrt
from typing import NamedTuple

from latency_models.kernels import COMPUTING_CLASSES, MOVING_CLASSES, Kernel, Network
from search_spaces.errors import DeviceError

# Milliseconds per unit, by coefficient: the three below, then per class those of CLASS_COEFFICIENTS.
Coefficients = Mapping[str, float]
Amounts = dict[str, float]
OVERHEADS = ("fixed_ms", "io_ms_per_mb", "kernel_ms")
GROUPED = "grouped"


class Layout(NamedTuple):
    """How a device holds and computes maps."""

    lane: int  # output channels that are computed at once
    bytes_per_element: int  # inside the network
    io_bytes_per_element: int  # of the network's input and output
    input_lane: int | None = None  # input channels that are computed at once; None: as `lane`
    cache_mb: float | None = None  # beyond which traffic costs more; None: not told apart
    taps: bool = False  # taps have a cost of their own
    own_ops: tuple[str, ...] = ()  # TFLite operations whose traffic has a cost of its own
    grouped: bool = False  # convolutions in groups have a cost of their own


class MeasuredRow(NamedTuple):
    """One measured network: how much of each coefficient's unit it has, and how long it took."""

    amounts: Amounts
    runtime_ms: float


# What each class needs beside the overheads: traffic always, arithmetic where it computes.
CLASS_COEFFICIENTS: dict[str, tuple[str, ...]] = {
    **{cls: (f"{cls}_ms_per_mb", f"{cls}_ms_per_gmac") for cls in COMPUTING_CLASSES},
    **{cls: (f"{cls}_ms_per_mb",) for cls in MOVING_CLASSES},
}


def overhead_amounts(network: Network, layout: Layout) -> Amounts:
    """Return one start and the megabytes that enter and leave the network."""
    elements = network.input_elements + network.output_elements
    return {"fixed_ms": 1.0, "io_ms_per_mb": elements * layout.io_bytes_per_element / 1e6}


def kernel_amounts(kernel: Kernel, layout: Layout) -> Amounts:
    """Return one launch, the padded GMACs and Gtaps where the class computes, and the megabytes moved and spilled."""
    mb = (kernel.input_elements + kernel.output_elements + kernel.weight_elements) * layout.bytes_per_element / 1e6
    traffic = kernel.tflite_op.lower() if kernel.tflite_op in layout.own_ops else kernel.cls
    amounts = {"kernel_ms": 1.0, f"{traffic}_ms_per_mb": mb}
    if layout.cache_mb is not None:
        amounts[f"{kernel.cls}_ms_per_spilled_mb"] = max(0.0, mb - layout.cache_mb)
    if kernel.cls in COMPUTING_CLASSES:
        read = _inputs_per_output(kernel)
        gtaps = kernel.macs / read * _up(kernel.cout, layout.lane) / kernel.cout / 1e9
        work = work_of(kernel) if layout.grouped else kernel.cls
        amounts[f"{work}_ms_per_gmac"] = gtaps * _up(read, layout.input_lane or layout.lane if read > 1 else 1)
        if layout.taps and kernel.cls != "depthwise":
            amounts[f"{work}_ms_per_gtap"] = gtaps
    return amounts


def work_of(kernel: Kernel) -> str:
    """Return by which rate a kernel computes: its class, but convolutions in groups are computed otherwise."""
    return GROUPED if kernel.groups > 1 else kernel.cls


def _inputs_per_output(kernel: Kernel) -> int:
    """Return how many input channels each tap of an output channel reads: one where channels are apart."""
    return 1 if kernel.cls == "depthwise" else kernel.cin // kernel.groups


def _up(count: int, lane: int) -> int:
    return -(-count // lane) * lane


def total_amounts(network: Network, layout: Layout) -> Amounts:
    """Return the amounts of a whole network: what one measurement tells about the coefficients."""
    total = overhead_amounts(network, layout)
    for kernel in network.kernels:
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


def _lacking(name: str, coefficients: Iterable[str]) -> DeviceError:
    kind = re.sub(r"_ms_per_\w+$", "", name)
    known = sorted({re.sub(r"_ms_per_\w+$", "", other) for other in coefficients} - {*OVERHEADS, "io"})
    return DeviceError(
        f"This network needs the coefficient {name}, and the device was measured with kernels of {', '.join(known)} "
        f"alone. Measure networks with kernels of {kind} and calibrate again, or choose a network without them."
    )


def fit(rows: Sequence[MeasuredRow], prior: Coefficients, *, shrinkage: float) -> dict[str, float]:
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
