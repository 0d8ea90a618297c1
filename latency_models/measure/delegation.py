"""Read from a runtime's log how much of a network its delegate took: all, a part, nothing, or unknown.

A delegate that refuses operations leaves them to the CPU, and the tool prints a time all the same. XNNPACK is
no accelerator: what it leaves runs on the same CPU, so a network of which it took a part was still timed on the CPU.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import PureWindowsPath

from search_spaces.errors import MeasurementError

CPU_DELEGATES = ("cpu", "xnnpack", "ynnpack")


class Extent(IntEnum):
    """How much of a network a delegate took."""

    NONE = 0
    PART = 1
    UNKNOWN = 2
    ALL = 3


@dataclass(frozen=True)
class Delegation:
    """A delegate and what it took; what the log does not tell is None or empty."""

    delegate: str
    extent: Extent
    nodes: int | None = None  # of the network
    delegated_nodes: int | None = None
    partitions: int | None = None
    line: str = ""  # of the log, that tells the extent


_APPLIED = re.compile(
    r"(?:Explicitly applied|Applied) (\S+) delegate"
    r"(?:\.|, and the model graph will be (completely|\w+) executed(?:.* w/ (\d{1,9}) delegate kernels)?)"
)
_REFUSED = re.compile(
    r"Though (\S+) delegate is explicitly applied, the model graph will not be executed"
    r"|(\S+) acceleration is unsupported on this platform"
)
_REPLACED = re.compile(
    r"Replacing (\d{1,9})(?: out of (\d{1,9}))? node\(s\) with delegate \(([^)]*)\) node, "
    r"yielding (\d{1,9}) partitions(?: for subgraph (\d+))?"
)
_DELEGATED = re.compile(
    r"(\S+) delegate: (?P<taken>\d{1,9}) nodes delegated out of (?P<nodes>\d{1,9}) nodes with (?P<parts>\d{1,9}) "
)
_CREATED = re.compile(r"^(?:INFO: )?(\w+) delegate created\.?$|Created TensorFlow Lite delegate for (\w+)\.$")
_CREATED_XNNPACK = "Created TensorFlow Lite XNNPACK delegate"
_ACCELERATORS = re.compile(r"Accelerators: +([A-Z]+(?: \| [A-Z]+)*)$")
_FULLY = re.compile(r"Fully accelerated: +(True|False)$")
_ASKED = re.compile(r"Use ([\w ]+?) ?: \[(?:1|true)\]", re.IGNORECASE)
_NO_DELEGATES = ("caching", "profiler", *CPU_DELEGATES)  # of what the tool can be told to use
_ASKED_EXTERNAL = re.compile(r"External delegate path ?: \[(.+)\]")
_LIBRARIES = ("qnn", "neuron", "hexagon", "armnn", "edgetpu", "gpu")  # by what their files are called
_REFERENCE = re.compile(r"NNAPI accelerator name ?: \[nnapi-reference\]")  # which computes on the CPU
_OTHER_NAMES = {"ml_drift_cl": "gpu", "ml_drift_webgpu": "gpu", "dispatch": "npu", "stable_delegate": "external"}


def read_delegation(lines: Sequence[str]) -> Delegation | None:
    """Return the delegate of one run by its log, None where that names none.

    Where several are named, the accelerator that took the most. Of one delegate the worst that is said counts:
    NNAPI can claim all nodes and still leave the network to the CPU.
    """
    delegations = _named([*_announced(lines), *_replaced(lines), *_tried(lines), *_asked(lines)])
    accelerators = [one for one in delegations if one.delegate not in CPU_DELEGATES]
    if accelerators:
        return max(_judged(accelerators), key=lambda one: one.extent)
    if delegations:
        largest = max(_judged(delegations), key=lambda one: one.extent)
        return largest if largest.extent is Extent.NONE else replace(largest, extent=Extent.ALL)
    return None


def delegate_name(runtime_name: str) -> str:
    """Return our name of what the runtime calls `runtime_name`: "TfLiteGpuDelegateV2" is "gpu"."""
    name = re.sub(r"^tflite|delegate(v\d+)?$", "", runtime_name.lower())
    return _OTHER_NAMES.get(name, name)


def accelerated(accelerators: Sequence[str], *, fully: bool | None, line: str = "") -> Delegation:
    """Return what `litert-benchmark` tells of a run: it tries its accelerators in this order.

    It calls a network fully accelerated where XNNPACK took what the accelerator did not, so that says nothing
    once the CPU is among them.
    """
    name = delegate_name(accelerators[0])
    if name == "cpu":
        return Delegation(name, Extent.ALL, line=line)
    alone = "CPU" not in accelerators
    extent = Extent.PART if fully is False else Extent.ALL if fully and alone else Extent.UNKNOWN
    return Delegation(name, extent, line=line)


def require_delegated(delegation: Delegation, name: str, *, allow_partial: bool) -> None:
    """Raise MeasurementError unless the delegate ran all of the network `name`.

    `allow_partial` lets pass what it ran in part, or perhaps; never what it did not run.
    """
    delegate = delegation.delegate
    if delegation.extent is Extent.NONE:
        raise MeasurementError(
            f'{delegate} did not run {name}, the CPU did ("{delegation.line}"); use a network or a delegate for '
            "which it does, or measure the CPU without it."
        )
    if delegation.extent is Extent.PART and not allow_partial:
        part = f"{delegation.delegated_nodes} of {delegation.nodes} nodes" if delegation.nodes else "a part"
        raise MeasurementError(
            f"{delegate} ran only {part} of {name} and the CPU the rest; use a network that it takes whole, or "
            "allow a partial delegation to keep the time with its counts of nodes."
        )
    if delegation.extent is Extent.UNKNOWN and not delegation.line:
        raise MeasurementError(
            f"{delegate} was asked for but nothing tells that it was created or took anything of {name}; keep the "
            "whole output, stderr too (2>&1), and look for what it says of the delegate."
        )
    if delegation.extent is Extent.UNKNOWN and not allow_partial:
        raise MeasurementError(
            f"{delegate} was asked for but nothing tells whether it took all of {name}; keep the whole output, "
            "stderr too (2>&1), or require full delegation (--require_full_delegation)."
        )


def _judged(delegations: Sequence[Delegation]) -> list[Delegation]:
    """Return one verdict per delegate."""
    names = dict.fromkeys(one.delegate for one in delegations)  # a set that keeps the order of the log
    return [_verdict([one for one in delegations if one.delegate == name]) for name in names]


def _verdict(delegations: Sequence[Delegation]) -> Delegation:
    worst = min(
        [one for one in delegations if one.extent is not Extent.UNKNOWN] or delegations, key=lambda one: one.extent
    )
    counted = next((one for one in delegations if one.delegated_nodes is not None), worst)
    return replace(counted, extent=worst.extent, line=worst.line)


def _announced(lines: Iterable[str]) -> list[Delegation]:
    """Return what the tool concludes in words."""
    delegations = []
    for line in lines:
        if match := _REFUSED.search(line):
            delegations.append(Delegation(delegate_name(match[1] or match[2]), Extent.NONE, line=line))
        elif match := _APPLIED.search(line):
            extent = {None: Extent.UNKNOWN, "completely": Extent.ALL}.get(match[2], Extent.PART)
            kernels = int(match[3]) if match[3] else None
            delegations.append(Delegation(delegate_name(match[1]), extent, partitions=kernels, line=line))
        elif _REFERENCE.match(line):
            delegations.append(Delegation("nnapi", Extent.NONE, line=line))
        elif match := _DELEGATED.search(line):
            taken, nodes, partitions = (int(match[name]) for name in ("taken", "nodes", "parts"))
            extent = Extent.ALL if taken == nodes else Extent.PART if taken else Extent.NONE
            delegations.append(Delegation(delegate_name(match[1]), extent, nodes, taken, partitions, line))
        elif match := _CREATED.search(line):
            delegations.append(Delegation(delegate_name(match[1] or match[2]), Extent.UNKNOWN, line=line))
        elif _CREATED_XNNPACK in line:
            delegations.append(Delegation("xnnpack", Extent.UNKNOWN, line=line))
    return delegations


def _replaced(lines: Iterable[str]) -> list[Delegation]:
    """Return how many nodes each delegate took, over all subgraphs; of one replaced twice the last counts."""
    last: dict[tuple[str, str | None], re.Match[str]] = {}
    for line in lines:
        if match := _REPLACED.search(line):
            last[delegate_name(match[3]), match[5]] = match
    names = dict.fromkeys(name for name, _ in last)
    return [_counted(name, [match for (other, _), match in last.items() if other == name]) for name in names]


def _counted(delegate: str, subgraphs: Sequence[re.Match[str]]) -> Delegation:
    delegated = sum(int(match[1]) for match in subgraphs)
    partitions = sum(int(match[4]) for match in subgraphs)
    if all(match[2] for match in subgraphs):
        nodes = sum(int(match[2]) for match in subgraphs)
        extent = Extent.ALL if delegated == nodes else Extent.PART if delegated else Extent.NONE
    else:  # older runtimes do not tell the sum; where all is delegated there is one partition
        whole = Extent.ALL if partitions == len(subgraphs) else Extent.PART
        nodes, extent = None, whole if delegated else Extent.NONE
    return Delegation(delegate, extent, nodes, delegated, partitions, subgraphs[0].string)


def _tried(lines: Iterable[str]) -> list[Delegation]:
    """Return what `litert-benchmark` was told to use; its result alone does not name it."""
    accelerators, fully = None, None
    for line in lines:
        accelerators = _ACCELERATORS.search(line) or accelerators
        fully = _FULLY.search(line) or fully
    if not accelerators:
        return []
    line = (fully or accelerators).string
    return [accelerated(accelerators[1].split(" | "), fully=fully and fully[1] == "True", line=line)]


def _asked(lines: Iterable[str]) -> list[Delegation]:
    """Return the delegates that the tool was told to use."""
    requested = [delegate_name(match[1].replace(" ", "_")) for line in lines if (match := _ASKED.match(line))]
    external = [_of_library(match[1]) for line in lines if (match := _ASKED_EXTERNAL.match(line))]
    return [Delegation(name, Extent.UNKNOWN) for name in (*requested, *external) if name not in _NO_DELEGATES]


def _of_library(path: str) -> str:
    """Return the delegate that a library holds, by the name of its file."""
    name = PureWindowsPath(path).name.lower()  # splits at either kind of slash
    return next((known for known in _LIBRARIES if known in name), "external")


def _named(delegations: list[Delegation]) -> list[Delegation]:
    """Call an external delegate what it calls itself, where it does."""
    own = {one.delegate for one in delegations} - {"external", *CPU_DELEGATES}
    if len(own) != 1:
        return delegations
    name = own.pop()
    return [replace(one, delegate=name) if one.delegate == "external" else one for one in delegations]
