"""Search space: for each gene the list of values a search may choose, read from a TOML file.

`sample` walks the genes and asks `choose` for each; Optuna, a random generator and Hypothesis all sit
behind the same `choose`, so what one of them can draw, the others can too.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

from search_spaces.errors import UsageError
from search_spaces.spec import GENES, ArchSpec, Gene, Value
from search_spaces.system import named_files, stored
from search_spaces.system.arguments import checked

BUILTIN = Path(__file__).parent
# choose(gene name, values, whether they are ordered) → one of the values
Choose = Callable[[str, tuple[Value, ...], bool], Value]


@dataclass(frozen=True)
class SearchSpace:
    """For each gene the values that a search may give it."""

    name: str
    choices: dict[str, tuple[Value, ...]]

    def __post_init__(self) -> None:
        for name, values in self.choices.items():
            _check_choices(name, values)

    def values(self, gene: str) -> tuple[Value, ...]:
        """Return what `gene` may hold here: its choices, or its default alone."""
        return self.choices.get(gene, (GENES[gene].default,))

    def sample(self, choose: Choose) -> ArchSpec:
        """Return the member that `choose` picks gene by gene, in canonical form."""
        return ArchSpec(**{name: choose(name, self.values(name), gene.ordered) for name, gene in GENES.items()})  # type: ignore[arg-type]

    def contains(self, spec: ArchSpec) -> bool:
        """Tell whether `spec` can be drawn: every active gene holds one of the choices."""
        values = spec.to_dict()
        return all(values[n] in self.values(n) for n, gene in GENES.items() if gene.is_active(values))

    def genes_of(self, spec: ArchSpec) -> dict[str, Value]:
        """Return a drawable set of genes that means `spec`; inactive genes get a value of this space.

        Raises UsageError where `spec` is not a member of this space.
        """
        if not self.contains(spec):
            raise UsageError(f"{spec.description} is not in space {self.name}; widen its choices to include it.")
        values = spec.to_dict()
        return {n: v if v in self.values(n) else self.values(n)[0] for n, v in values.items()}

    def variation(self, spec: ArchSpec, genes: int, choose: Callable[[Sequence[Value]], Value]) -> ArchSpec:
        """Return `spec` with so many of its genes changed, an ordered one to a neighbouring value.

        Only genes that have an effect and more than one choice are changed; which and to what, `choose` picks.
        Raises UsageError where `spec` is not a member of this space.
        """
        values = self.genes_of(spec)
        free: list[Value] = [name for name in spec.active_genes if len(self.values(name)) > 1]
        for _ in range(min(genes, len(free))):
            name = str(choose(free))
            free.remove(name)
            values[name] = choose(_nearest(self.values(name), values[name], ordered=GENES[name].ordered))
        return ArchSpec(**values)  # type: ignore[arg-type]

    def neighbours(self, spec: ArchSpec) -> Iterator[ArchSpec]:
        """Yield every network that differs in one gene from `spec`, in an ordered one by one step.

        Raises UsageError where `spec` is not a member of this space.
        """
        values = self.genes_of(spec)
        for name in spec.active_genes:
            for value in _nearest(self.values(name), values[name], ordered=GENES[name].ordered):
                yield ArchSpec(**values | {name: value})  # type: ignore[arg-type]

    @property
    def raw_size(self) -> int:
        """The number of gene combinations, those that mean the same network counted apart."""
        return prod(len(self.values(name)) for name in GENES)

    @property
    def size(self) -> int:
        """The number of canonical specs, counted exactly; a few of them still mean one network (see `spec`)."""
        return _count(self)

    @property
    def size_multiple(self) -> int:
        """What the sides of pairs and patches must be multiples of, so that every member can be trained on them."""
        deepest = (
            ArchSpec(topology=topology, scale=max(self.values("scale")), levels=max(self.values("levels")))  # type: ignore[arg-type]
            for topology in self.values("topology")
        )
        return max(spec.size_multiple for spec in deepest)

    @property
    def digest(self) -> str:
        """A hash over the choices, by which a study tells that the space was edited."""
        text = json.dumps({name: self.values(name) for name in sorted(GENES)})
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def _nearest(values: tuple[Value, ...], value: Value, *, ordered: bool) -> tuple[Value, ...]:
    """Return what a value may be changed to: its neighbours where there is an order, else any other."""
    if not ordered:
        return tuple(other for other in values if other != value)
    in_order = sorted(values)
    at = in_order.index(value)
    return tuple(in_order[i] for i in (at - 1, at + 1) if 0 <= i < len(in_order))


def _check_choices(name: str, values: tuple[Value, ...]) -> None:
    for value in values:
        GENES[name].check(name, value)
    if not values or len(set(values)) != len(values):
        raise UsageError(f"Gene {name} needs one or more different values, got {list(values)}.")


# What is still open of a gene's condition: alternatives, each the genes it still needs. None: it holds already.
_Open = frozenset[frozenset[tuple[str, tuple[Value, ...]]]] | None


def _count(space: SearchSpace) -> int:
    """Count canonical specs: gene by gene, keeping apart only what makes a difference to conditions of later genes."""
    counts: Counter[tuple[_Open, ...]] = Counter({tuple(map(_nothing_decided, GENES.values())): 1})
    for name, gene in GENES.items():
        following: Counter[tuple[_Open, ...]] = Counter()
        for (condition, *later), number in counts.items():
            values = space.values(name) if condition is None else (gene.default,)
            for value in values:
                following[tuple([_decided(open_, name, value) for open_ in later])] += number
        counts = following
    return counts.total()


def _nothing_decided(gene: Gene) -> _Open:
    return frozenset(frozenset(alternative.items()) for alternative in gene.active_when) if gene.active_when else None


@cache
def _decided(open_: _Open, name: str, value: Value) -> _Open:
    """Return what is open of a condition once `name` is known; an empty set where it cannot hold any more."""
    if open_ is None:
        return None
    possible = [a for a in open_ if all(value in wanted for other, wanted in a if other == name)]
    needed = frozenset(frozenset(need for need in alternative if need[0] != name) for alternative in possible)
    return None if frozenset() in needed else needed


@checked
def load_space(name: str | Path) -> SearchSpace:
    """Return the space called `name`, or read from the TOML file at that path.

    Raises UnknownNameError for a name nobody has, UsageError for a file that is not a space.
    """
    path = named_files.find("spaces", str(name), BUILTIN, ".toml")
    try:
        data = stored.parse_toml(stored.read_bytes(path))
    except OSError as error:
        raise UsageError(f"The space {path} cannot be read ({error.strerror}).") from None
    except ValueError as error:
        raise UsageError(f"{path} is not readable TOML: {error}.") from None
    return _parse(data, path)


def _parse(data: dict[str, Any], path: Path) -> SearchSpace:
    genes = data.get("genes")
    if not isinstance(genes, dict) or not genes:
        raise UsageError(f"{path} needs a [genes] table with a list of values per gene.")
    for name, values in genes.items():
        if name not in GENES:
            ArchSpec.from_dict({name: 0})  # raises with the nearest known gene
        if not isinstance(values, list):
            raise UsageError(f"{path}: gene {name} needs a list of values, got {values!r}.")
    return SearchSpace(str(data.get("name", path.stem)), {name: tuple(values) for name, values in genes.items()})
