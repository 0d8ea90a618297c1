"""Remove the values of genes whose networks the device never runs, before a search begins.

No value may lead to a file that the phone's delegate refuses, and a proposal that is refused tells nothing. So members
that the device runs are drawn, and each value is given to them in turn: a value with which the device refuses all of
them is left out, with the reason. What is refused only beside other values stays, and is decided candidate by
candidate.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from latency_models.device import Device
from latency_models.kernels import network
from search_spaces.errors import UsageError
from search_spaces.networks import build_graph
from search_spaces.space import SearchSpace
from search_spaces.spec import ArchSpec, Value

# So many members that the device runs; found among so many drawn.
MEMBERS, MOST_DRAWN = 24, 4000
SEED = 0


@dataclass(frozen=True)
class LeftOut:
    """A value that no member of the space may have on this device."""

    gene: str
    value: Value
    reason: str

    @property
    def sentence(self) -> str:
        """What a person reads."""
        return f"{self.gene} = {self.value} is left out: {self.reason}."


def runnable(space: SearchSpace, device: Device, *, allow_fallback: bool) -> tuple[SearchSpace, tuple[LeftOut, ...]]:
    """Return the space without the values whose members `device` always refuses, and these.

    Raises UsageError where the device runs nothing of this space.
    """
    bases = _run_by(space, device, allow_fallback)
    left_out = tuple(_refused(space, device, allow_fallback, bases))
    gone = {(each.gene, each.value) for each in left_out}
    choices = {g: tuple(v for v in values if (g, v) not in gone) for g, values in space.choices.items()}
    return replace(space, choices=choices), left_out


def _run_by(space: SearchSpace, device: Device, allow_fallback: bool) -> list[ArchSpec]:
    """Return members that the device runs; raise UsageError where none is found."""
    rng, members = random.Random(SEED), list[ArchSpec]()
    reason: str | None = None
    for _ in range(MOST_DRAWN):
        spec = space.sample(lambda _, values, __: rng.choice(values))
        refusal = device.refusal(network(build_graph(spec)), allow_fallback=allow_fallback)
        if refusal is None:
            members.append(spec)
        reason = refusal or reason
        if len(members) == MEMBERS:
            break
    if not members:
        raise UsageError(
            f"{device.name} runs none of {MOST_DRAWN} networks of space {space.name}: {reason}. Choose another device "
            f"or space{'' if allow_fallback else ', or give --allow-fallback'}."
        )
    return members


def _refused(space: SearchSpace, device: Device, allow_fallback: bool, bases: list[ArchSpec]) -> Iterator[LeftOut]:
    for gene, values in space.choices.items():
        for value in values:
            reason = _always(_with(bases, gene, value), device, allow_fallback)
            if reason:
                yield LeftOut(gene, value, reason)


def _with(bases: list[ArchSpec], gene: str, value: Value) -> Iterator[ArchSpec]:
    """Yield the members with that value, where it has an effect."""
    changed = (base.with_genes(**{gene: value}) for base in bases)
    return (spec for spec in changed if spec.active_genes.get(gene) == value)


def _always(specs: Iterator[ArchSpec], device: Device, allow_fallback: bool) -> str | None:
    """Return why each of the networks is refused; None as soon as one is not, or where there is none."""
    reason = None
    for spec in specs:
        reason = device.refusal(network(build_graph(spec)), allow_fallback=allow_fallback)
        if reason is None:
            return None
    return reason
