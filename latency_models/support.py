"""Decide whether a delegate runs a network whole, in part, or not at all.

A delegate takes the kernels that its table accepts; the rest runs on the CPU, and every change between the two costs.
So each network is supported, partial or unsupported, decided before any time is predicted: what runs beside the
delegate is no slow variant of what runs on it.

Source of how kernels are grouped: PartitionGraphIntoIndependentNodeSubsets in TensorFlow Lite's graph_info.cc, greedy
as by default. Groups are formed by what is ready, not by order alone: as long as any kernel of the group's kind can run
it joins, also past kernels of the other kind.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from latency_models.delegate import DelegateTable, Objection
from latency_models.kernels import Kernel, Network

SUPPORTED = "supported"
UNCHECKED = "unchecked"  # also the table of delegates of which nothing is known
NOT_CHECKED = "support is not checked"


class Refusal(NamedTuple):
    """A kernel that the delegate does not take."""

    op: str
    kernel: str
    condition: str  # that failed, in one phrase
    remedy: str

    @property
    def sentence(self) -> str:
        """What a person reads."""
        return f'{self.op} "{self.kernel}": {self.condition}; {self.remedy}'


@dataclass(frozen=True)
class Support:
    """How far a delegate takes a network."""

    status: str  # "supported", "partial", "unsupported", or "unchecked" where nothing is known of the delegate
    refused: tuple[Refusal, ...]  # in the order of computation
    partitions: int  # stretches that the delegate gets, each with its own start and copies
    delegated: int  # kernels in them
    kernels: int
    fallback: tuple[int, ...]  # positions of the kernels outside: refused ones, and what a limit of partitions leaves

    @property
    def is_whole(self) -> bool:
        """Whether the delegate runs the network whole, as far as is known."""
        return self.status in (SUPPORTED, UNCHECKED)


def support(network: Network, table: DelegateTable) -> Support:
    """Return how far the delegate of `table` takes `network`.

    An extension operation counts as refused: the vendor's runtime gets it, and nothing tells what becomes of it there.
    """
    kernels = network.kernels
    objections = [table.objection(kernel) for kernel in kernels]
    refused = tuple([_refusal(k, objection) for k, objection in zip(kernels, objections, strict=True) if objection])
    if not refused:
        whole = UNCHECKED if table.name == UNCHECKED else SUPPORTED
        return Support(whole, (), min(1, len(kernels)), len(kernels), len(kernels), ())
    groups = partitions(kernels, [objection is None for objection in objections])
    taken = sorted(groups, key=len, reverse=True)[: table.max_partitions]
    delegated = {index for group in taken for index in group}
    fallback = tuple([index for index in range(len(kernels)) if index not in delegated])
    status = SUPPORTED if table.loses_nothing else _status(kernels, delegated)
    return Support(status, refused, len(taken), len(delegated), len(kernels), fallback)


def _refusal(kernel: Kernel, objection: Objection) -> Refusal:
    return Refusal(kernel.tflite_op, kernel.name, objection.condition, objection.remedy)


def _status(kernels: Sequence[Kernel], delegated: set[int]) -> str:
    """Partial where something that computes is delegated, or anything where nothing in the network computes."""
    computing = {index for index, kernel in enumerate(kernels) if kernel.macs}
    return "partial" if delegated & (computing or delegated) else "unsupported"


def partitions(kernels: Sequence[Kernel], accepted: Sequence[bool]) -> list[list[int]]:
    """Return the groups of accepted kernels, by position, as TensorFlow Lite forms them.

    Groups of accepted kernels and of others take turns, and a kernel joins the first of its kind in which all that it
    reads is made: with what makes it where both are of one kind, one turn later where they are not.
    """
    turn_of: dict[str, int] = {}  # by the map that a kernel makes
    groups: dict[int, list[int]] = {}
    first = accepted[0] if accepted else True
    for index, (kernel, taken) in enumerate(zip(kernels, accepted, strict=True)):
        turn = max([turn_of.get(name, 0) for name in kernel.reads], default=0)
        if (turn % 2 == 0) != (taken == first):
            turn += 1
        turn_of[kernel.makes] = turn
        if taken:
            groups.setdefault(turn, []).append(index)
    return [groups[turn] for turn in sorted(groups)]
