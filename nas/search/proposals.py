"""Propose what to train next by a model: of small changes of the best, crossings and random members within the limits,
the one with the largest expected improvement.

PSNR is what a model predicts (`nas.search.surrogate`); runtime is known and never modelled. Where the limits refuse
nearly everything, candidates are walked towards them: of each refused one's small changes, those that exceed the limits
less.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from nas.search.constraints import Limits
from nas.search.improvement import IMPROVEMENTS, Improvement
from nas.search.surrogate import Prior, Result, Surrogate, predicted_seconds
from search_spaces.graph import Graph
from search_spaces.networks import build_graph
from search_spaces.space import SearchSpace
from search_spaces.spec import ArchSpec, Value

PARENTS = 10
# Of the first few parents every change of one gene is looked at: what has an effect on PSNR may be any one of forty.
# These are priced once, as the best seldom change.
CENTRES = 2
# A model and a pool take some tenths of a second: of so many networks in training one is finished meanwhile at most.
WORKERS_PER_BATCH = 4
VARIATIONS, CROSSINGS, RANDOM = 60, 30, 15
# Of a pool of these at most so many are chosen together; for more it is drawn larger.
CHOSEN_PER_POOL = 80
MEAN_CHANGES = 2
# Every so many proposals one is made that differs from all centres in so many genes at least: of small changes alone, a
# search of 150 networks came to try 129 with the first activation of the design that it began with, and ended 0.5 dB
# below what networks with another one, and with attention, are known to reach on those pairs.
ELSEWHERE, FAR = 4, 4
# With fewer members within the limits than this, more are looked for by walking; so many networks are priced at most.
FEWEST_WITHIN, MOST_PRICED = 12, 1500
WALKERS = 12


@dataclass(frozen=True)
class Cost:
    """What is known of a network before training: predicted runtime, and how far it is over the limits (0: within)."""

    runtime_ms: float
    excess: float
    memory_mb: float = 0.0  # of maps at once

    @property
    def description(self) -> str:
        """The cost in words, rounded up: a limit of these figures lets the network in."""
        runtime_ms, memory_mb = (math.ceil(value * 10) / 10 for value in (self.runtime_ms, self.memory_mb))
        return f"{runtime_ms:.1f} ms and {memory_mb:.1f} MB of maps at once"


# None: the device cannot run it at all.
Price = Callable[[ArchSpec], Cost | None]


@dataclass(frozen=True)
class Known:
    """A candidate that was trained: PSNR by training steps, and what is known of its costs."""

    spec: ArchSpec
    runtime_ms: float
    psnr_db: dict[int, float]
    seconds: float  # that its first rung took, compiling and judging included; 0: unknown, or of no account


def variation(space: SearchSpace, rng: np.random.Generator, parent: ArchSpec) -> ArchSpec:
    """Return the parent with a gene or a few changed, MEAN_CHANGES of them on average."""
    changes = int(rng.geometric(1 / MEAN_CHANGES))
    return space.variation(parent, changes, lambda values: values[int(rng.integers(len(values)))])


def random_member(space: SearchSpace, rng: np.random.Generator) -> ArchSpec:
    """Return a member of the space whose genes are drawn evenly."""
    return space.sample(lambda _, values, __: values[int(rng.integers(len(values)))])


def _of_far_ones(gain: Any, pool: Sequence[ArchSpec], centres: Sequence[ArchSpec]) -> Any:
    """Return the gains with nothing left of networks near a centre; as they are where all are near."""
    far = np.array([all(genes_apart(spec, centre) >= FAR for centre in centres) for spec in pool])
    return np.where(far, gain, -1.0) if far.any() else gain


def genes_apart(a: ArchSpec, b: ArchSpec) -> int:
    """Return in how many genes two networks differ."""
    ours, theirs = a.to_dict(), b.to_dict()
    return sum(ours[name] != theirs[name] for name in ours)


class Proposals:
    """Proposes members of a space; every proposal is a function of seed, number and results."""

    def __init__(
        self,
        space: SearchSpace,
        price: Price,
        *,
        seed: int,
        steps: int,
        objective: str = "score",
        prior: Prior | None = None,
        examples: Sequence[ArchSpec] = (),
    ) -> None:
        """`steps` are those at which PSNR is predicted; `prior` is that of `nas.search.surrogate`.

        `examples` are networks that were good on other pairs: they are looked at, and crossed with the best.
        """
        self._prior = prior
        self._examples = [spec for spec in examples if space.contains(spec)]
        self._space, self._price, self._seed, self._steps, self._objective = space, price, seed, steps, objective
        self._ahead: list[ArchSpec] = []  # chosen beside the last one from the same pool
        self._costs: dict[ArchSpec, Cost | None] = {}
        self._inside: dict[ArchSpec, bool] = {}

    def propose(
        self, number: int, known: Sequence[Known], running: Sequence[ArchSpec], seen: Callable[[Graph], bool]
    ) -> ArchSpec | None:
        """Return the next network, None where none was found that was not `seen` and is within the limits.

        Where many are `running`, one model and one pool serve several proposals: see WORKERS_PER_BATCH.
        """
        while self._ahead:
            ahead = self._ahead.pop(0)
            if not seen(build_graph(ahead)):
                return ahead
        rng, count = np.random.default_rng([self._seed, number]), 1 + len(running) // WORKERS_PER_BATCH
        if len(known) < 2:
            return self._drawn_blindly(rng, known, count, seen)
        model = self._model(known, running)
        expected_db = [*map(float, model.of_results())][: len(known)]  # those in training come after
        improvement = IMPROVEMENTS[self._objective](expected_db, [k.runtime_ms for k in known])
        parents = self._parents(known, improvement.ranked(rng))
        pool = self._pool(rng, parents, seen, count)
        if not pool:
            return None
        gain = self._gain(pool, known, model, improvement)
        if number % ELSEWHERE == ELSEWHERE - 1:
            gain = _of_far_ones(gain, pool, parents[:CENTRES])
        first, *self._ahead = self._apart(pool, gain, model, count)
        return first

    def _drawn_blindly(
        self, rng: np.random.Generator, known: Sequence[Known], count: int, seen: Callable[[Graph], bool]
    ) -> ArchSpec | None:
        """Return a network of the pool by chance, for want of results; keep others for the workers beside."""
        pool = self._pool(rng, [k.spec for k in known if self._contains(k.spec)], seen, count)
        if not pool:
            return None
        first = pool.pop(int(rng.integers(len(pool))))
        self._ahead = [pool[index] for index in rng.permutation(len(pool))[: count - 1]]
        return first

    def _apart(self, pool: Sequence[ArchSpec], gain: Any, model: Surrogate, count: int) -> list[ArchSpec]:
        """Return so many of the pool, best first, each counting less the more it is like one that was chosen before."""
        chosen: list[int] = []
        likeness = model.correlation(pool) if count > 1 else None
        for _ in range(min(count, len(pool))):
            best = int(np.argmax(gain))
            chosen.append(best)
            if likeness is not None:
                gain = gain * np.clip(1 - likeness[best], 0, 1)
                gain[chosen] = -1.0
        return [pool[index] for index in chosen]

    def _parents(self, known: Sequence[Known], ranked: Sequence[int]) -> list[ArchSpec]:
        """Return the first members of a ranking."""
        members = (known[index].spec for index in ranked if self._contains(known[index].spec))
        return list(islice(members, PARENTS))

    def _contains(self, spec: ArchSpec) -> bool:
        if spec not in self._inside:
            self._inside[spec] = self._space.contains(spec)
        return self._inside[spec]

    def _model(self, known: Sequence[Known], running: Sequence[ArchSpec]) -> Surrogate:
        """Return the model of all results; what is in training counts as its prediction."""
        results = [Result(k.spec, k.psnr_db) for k in known]
        model = Surrogate(results, steps=self._steps, prior=self._prior)
        if not running:
            return model
        means, _ = model.predict(running)
        lies = [Result(spec, {self._steps: float(m)}, is_guess=True) for spec, m in zip(running, means, strict=True)]
        return Surrogate([*results, *lies], steps=self._steps, prior=self._prior)

    def _gain(
        self, pool: Sequence[ArchSpec], known: Sequence[Known], model: Surrogate, improvement: Improvement
    ) -> Any:
        """Return the expected improvement per second (Snoek et al. 2012) of each of the pool."""
        costs = (self._cost(spec) for spec in pool)
        runtime_ms = np.array([cost.runtime_ms for cost in costs if cost is not None])
        gain = improvement.expected(*model.predict(pool), runtime_ms)
        timed = [k for k in known if k.seconds > 0]
        if not timed:
            return gain
        return gain / predicted_seconds(pool, [k.spec for k in timed], [k.seconds for k in timed])

    def _pool(
        self, rng: np.random.Generator, parents: Sequence[ArchSpec], seen: Callable[[Graph], bool], count: int
    ) -> list[ArchSpec]:
        """Return new members within the limits, each structure once, to choose `count` of."""
        drawn: dict[str, ArchSpec] = {}
        for spec in self._drawn(rng, parents, math.ceil(count / CHOSEN_PER_POOL)):
            drawn.setdefault(build_graph(spec).structure, spec)
        within = [spec for spec in drawn.values() if not seen(build_graph(spec)) and self._is_within(spec)]
        if len(within) < FEWEST_WITHIN:
            within += self._walked(rng, [*drawn.values()], lambda g: seen(g) or g.structure in drawn)
        return within

    def _drawn(self, rng: np.random.Generator, parents: Sequence[ArchSpec], times: int = 1) -> Iterator[ArchSpec]:
        for parent in parents[: CENTRES * times]:
            yield from self._space.neighbours(parent)
        for _ in range(VARIATIONS * times if parents else 0):
            yield variation(self._space, rng, parents[int(rng.integers(len(parents)))])
        for _ in range(CROSSINGS * times if len(parents) > 1 else 0):
            first, second = rng.choice(len(parents), 2, replace=False)
            yield self._crossing(rng, parents[first], parents[second])
        yield from self._examples
        for _ in range(CROSSINGS * times if parents and self._examples else 0):
            first, second = int(rng.integers(len(parents))), int(rng.integers(len(self._examples)))
            yield self._crossing(rng, parents[first], self._examples[second])
        for _ in range(times * (RANDOM if parents else RANDOM + VARIATIONS)):
            yield random_member(self._space, rng)

    def _crossing(self, rng: np.random.Generator, first: ArchSpec, second: ArchSpec) -> ArchSpec:
        """Return each gene from either parent."""
        ours, theirs = self._space.genes_of(first), self._space.genes_of(second)
        mixed: dict[str, Value] = {name: (ours, theirs)[int(rng.integers(2))][name] for name in ours}
        return ArchSpec(**mixed)  # type: ignore[arg-type]

    def _walked(
        self, rng: np.random.Generator, starts: Sequence[ArchSpec], seen: Callable[[Graph], bool]
    ) -> list[ArchSpec]:
        """Return members within the limits that small changes lead to from the nearest refused ones."""
        walkers = sorted(starts, key=self._excess)[:WALKERS]
        members: dict[str, ArchSpec] = {}
        for priced in range(MOST_PRICED):
            if not walkers or len(members) >= FEWEST_WITHIN:
                break
            place = priced % len(walkers)
            changed = variation(self._space, rng, walkers[place])
            if self._excess(changed) <= self._excess(walkers[place]):
                walkers[place] = changed
            graph = build_graph(changed)
            if self._is_within(changed) and not seen(graph):
                members.setdefault(graph.structure, changed)
        return list(members.values())

    @property
    def priced(self) -> int:
        """How many networks were priced so far."""
        return len(self._costs)

    def unmet(self, limits: Limits) -> str:
        """Say which network is nearest to limits that none is within; nothing where one is, or none can run at all."""
        nearest = self.nearest()
        if nearest is None or nearest.excess == 0:
            return ""
        options = {"--max-runtime": limits.max_runtime_ms, "--max-memory": limits.max_memory_mb}
        raised = " and ".join(option for option, limit in options.items() if limit is not None)
        return (
            f"No network of the space is within the limits: of {self.priced} that were priced, the nearest takes "
            f"{nearest.description}. Raise {raised}, or widen the space."
        )

    def nearest(self) -> Cost | None:
        """Return the cost of the priced network that exceeds the limits least; None where none can run."""
        return min(
            (c for c in self._costs.values() if c is not None), key=lambda c: (c.excess, c.runtime_ms), default=None
        )

    def _excess(self, spec: ArchSpec) -> float:
        cost = self._cost(spec)
        return np.inf if cost is None else cost.excess

    def _is_within(self, spec: ArchSpec) -> bool:
        return self._excess(spec) == 0

    def _cost(self, spec: ArchSpec) -> Cost | None:
        if spec not in self._costs:
            self._costs[spec] = self._price(spec)
        return self._costs[spec]
