"""Measure how far a kernel is from everything measured, and how much its price may be off for that.

A roofline holds its sign beyond the largest kernel; it knows nothing of a kernel of another kind. Implementations are
chosen by the operation and by a few figures: side, stride, dilation and groups of the kernel, channels per group and
channels made. Each operation has its own range of them. Outside, a price may be off by the factors below, and the
network's interval grows by that kernel's share: what is a detail of a network stays one.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from latency_models.kernels import COMPUTING_CLASSES, Kernel, Network

# Kernels outside that take less of a network's time than this, all together, are not worth a sentence.
NOTICED_SHARE = 0.02
# By how much single operations were off that were never measured, or of a side or number of groups that never was: the
# farthest of each. Source: predicted by measured time of held-out operations on one x86 core through LiteRT, softmax
# 0.32, strided slice 0.12, power 0.08; depthwise 7×7 0.07, grouped convolutions 0.13 and 0.33.
OPERATION_OFF, KIND_OFF = 12.5, 14.0
# What devices are apart in a class of kernels once both are at one level: twice the spread that fits of few networks
# take for it (latency_models.few_networks), as a factor.
INHERITED_OFF = 2.7
# Fewer values than this are read and written in no time; what was timed on no more has not been timed on maps.
FEWEST_OF_A_MAP = 25_000
# Of these a delegate may have one implementation per value; of the others one for all, which fits some better.
KINDS: Mapping[str, Callable[[Kernel], int]] = {
    "kernel side": lambda k: k.kernel,
    "stride": lambda k: k.stride,
    "dilation": lambda k: k.dilation,
    "groups": lambda k: k.groups,
}
CHANNELS: Mapping[str, Callable[[Kernel], int]] = {
    "channels per group": lambda k: k.cin // k.groups if k.cls != "depthwise" else 1,
    "channels": lambda k: k.cout,
}
INHERITED = "and others of its class were timed on other devices alone, and its price is theirs"
VALUES = "values"  # read and written
SHRINKS = "shrinks"
# Figures that few kernels have, and whose implementations are apart; None for all others, and where none was measured,
# none counts. On one x86 core through LiteRT a depth multiplier of 8 took 3.6 times as long as was predicted, a
# concatenation of maps of one channel 15 times, and a bilinear resize to fewer pixels a third.
FEW_CHANNELS = 4
PECULIAR: Mapping[str, Callable[[Kernel], int | None]] = {
    "channels made of each": lambda k: k.cout // k.cin if k.cls == "depthwise" and k.cout > k.cin else None,
    "channels of a part": lambda k: k.cin if k.tflite_op == "CONCATENATION" and k.cin < FEW_CHANNELS else None,
    SHRINKS: lambda k: 1 if k.tflite_op.startswith("RESIZE") and k.input_elements > k.output_elements else None,
}
Bounds = tuple[int, int]


class Range(NamedTuple):
    """The largest kernel of each class that was measured, which operations were, and the figures of each."""

    macs: Mapping[str, int]
    elements: Mapping[str, int]
    operations: tuple[str, ...]
    figures: Mapping[str, Mapping[str, Bounds]] = {}  # by operation; none in files of earlier versions
    inherited: tuple[str, ...] = ()  # classes of which other devices alone tell


class Outside(NamedTuple):
    """How far a kernel is outside a range."""

    size: float = 1.0  # times larger than the largest measured one of its class
    off: float = 1.0  # the price may be divided by this or multiplied with it
    why: str = ""  # the figures outside; empty where there is none


def elements(kernel: Kernel) -> int:
    """Return how many values a kernel reads and writes."""
    return kernel.input_elements + kernel.output_elements + kernel.weight_elements


def is_map(kernel: Kernel) -> bool:
    """Tell whether a kernel reads or writes more than a few values."""
    return elements(kernel) >= FEWEST_OF_A_MAP


def operation(kernel: Kernel) -> str:
    """Return under which name a kernel's figures are kept: convolutions of one tap are a kind of their own."""
    return f"{kernel.tflite_op} 1x1" if kernel.cls == "conv_1x1" else kernel.tflite_op


def range_of(networks: Sequence[Network]) -> Range:
    """Return the range of kernels that these networks have."""
    macs: dict[str, int] = {}
    sizes: dict[str, int] = {}
    figures: dict[str, dict[str, Bounds]] = {}
    different = {kernel.figures: kernel for network in networks for kernel in network.kernels}
    for kernel in different.values():
        macs[kernel.cls] = max(macs.get(kernel.cls, 0), kernel.macs)
        sizes[kernel.cls] = max(sizes.get(kernel.cls, 0), elements(kernel))
        known = figures.setdefault(operation(kernel), {})
        for name, value in _figures(kernel):
            low, high = known.get(name, (value, value))
            known[name] = (min(low, value), max(high, value))
    for known in figures.values():
        if known[VALUES][1] >= FEWEST_OF_A_MAP:  # how much larger maps may be is a matter of their class
            del known[VALUES]
    operations = sorted({kernel.tflite_op for kernel in different.values()})
    ordered = {name: figures[name] for name in sorted(figures)}
    return Range(dict(sorted(macs.items())), dict(sorted(sizes.items())), tuple(operations), ordered)


def _figures(kernel: Kernel) -> Iterable[tuple[str, int]]:
    """Yield what decides how a kernel is computed; of one that only moves data that is its side and stride."""
    for name, read in KINDS.items():
        yield name, read(kernel)
    yield VALUES, elements(kernel)
    for name, peculiarity in PECULIAR.items():
        if (value := peculiarity(kernel)) is not None:
            yield name, value
    if kernel.cls in COMPUTING_CLASSES:
        for name, read in CHANNELS.items():
            yield name, read(kernel)


def outside(kernel: Kernel, known: Range) -> Outside:
    """Return how far a kernel is outside what was measured."""
    size = size_beyond(kernel, known)
    if kernel.tflite_op not in known.operations:
        return Outside(size, OPERATION_OFF, "was never measured here; it is priced as operations of its class are")
    bounds = known.figures.get(operation(kernel))
    if bounds is None:
        return Outside(size, KIND_OFF, "was never measured of one tap") if known.figures else Outside(size)
    unmeasured = [*_unmeasured(kernel, known, bounds)]
    return Outside(size, _together([off for off, _ in unmeasured]), "; ".join(why for _, why in unmeasured))


def _unmeasured(kernel: Kernel, known: Range, bounds: Mapping[str, Bounds]) -> Iterator[tuple[float, str]]:
    """Yield by what factor a kernel may be off for each of its figures that is outside, and which that is."""
    if kernel.cls in known.inherited:
        yield INHERITED_OFF, INHERITED
    for name, value in _figures(kernel):
        low, high = bounds.get(name, (value, value))
        if name in PECULIAR and name not in bounds:
            yield KIND_OFF, f"{_peculiarity(name, value)} was never measured"
        elif not (low <= value <= high or (name == VALUES and value < FEWEST_OF_A_MAP)):
            measured = f"{low}" if low == high else f"{low} to {high}"
            yield _off(name, value, low, high), f"of {_counted(value, name)} was never measured, only {measured}"


def _off(name: str, value: int, low: int, high: int) -> float:
    beyond = max(value / max(high, 1), low / max(value, 1))
    if name == VALUES:
        return OPERATION_OFF
    if name in CHANNELS:
        return beyond
    return max(KIND_OFF, beyond**2 if name == "kernel side" else beyond)


def _together(factors: Sequence[float]) -> float:
    """Return by what factor a price may be off for several reasons, none of which says anything of another."""
    return round(math.exp(math.hypot(*map(math.log, factors))), 6)


def _peculiarity(name: str, value: int) -> str:
    return "to fewer pixels" if name == SHRINKS else f"of {value} {name}"


def _counted(value: int, name: str) -> str:
    return f"{name} {value}" if name in ("kernel side", "stride", "dilation") else f"{value} {name}"


def size_beyond(kernel: Kernel, known: Range) -> float:
    """Return how many times larger a kernel is than the largest measured one of its class; 1 at least."""
    factors = [1.0]
    if known.elements.get(kernel.cls):
        factors.append(elements(kernel) / known.elements[kernel.cls])
    if kernel.cls in COMPUTING_CLASSES and known.macs.get(kernel.cls):
        factors.append(kernel.macs / known.macs[kernel.cls])
    return max(factors)


def noticed_size(outside: Sequence[Outside], times: Sequence[float], runtime_ms: float) -> float:
    """Return how far beyond a network is: as far as kernels are that together take more than the noticed share."""
    share = 0.0
    for size, ms in sorted(((each.size, ms) for each, ms in zip(outside, times, strict=True)), reverse=True):
        share += ms * size
        if size <= 1.0 or share > NOTICED_SHARE * runtime_ms:
            return max(1.0, size)
    return 1.0


def sentences(
    kernels: Sequence[Kernel], outside: Sequence[Outside], times: Sequence[float], runtime_ms: float, beyond: float
) -> tuple[str, ...]:
    """Return what must be said of kernels outside what was measured: the largest first, then each figure once."""
    lines: list[str] = []
    if beyond > 1.0:
        names = [k.name for k, each in zip(kernels, outside, strict=True) if each.size >= beyond]
        more = f" and {len(names) - 1} more are" if len(names) > 1 else " is"
        lines.append(f'extrapolates: kernel "{names[0]}"{more} {beyond:.1f} times larger than anything measured')
    groups: dict[tuple[str, str], list[tuple[str, float]]] = {}
    for kernel, each, ms in zip(kernels, outside, times, strict=True):
        if each.why:
            groups.setdefault((kernel.tflite_op, each.why), []).append((kernel.name, ms * each.off))
    all_together = sum(ms for group in groups.values() for _, ms in group)
    if all_together > NOTICED_SHARE * runtime_ms:
        lines += [_sentence(op, why, [name for name, _ in group]) for (op, why), group in sorted(groups.items())]
    else:  # an operation that was never measured is always worth a sentence
        lines += [_sentence(op, why, [n for n, _ in g]) for (op, why), g in sorted(groups.items()) if "here" in why]
    return tuple(lines)


def _sentence(op: str, why: str, names: Sequence[str]) -> str:
    where = f' ("{names[0]}"{f" and {len(names) - 1} more" if len(names) > 1 else ""})'
    return f"{op} {why}{where}"
