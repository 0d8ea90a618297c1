"""Which published designs a search trains, and in which order.

A design costs as much as several new networks, the largest as much as twenty, so a search that has a prior begins with
those that may be the best design on its pairs, and spends on the others no more than a small share of its budget.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas.search.prior import prior, spread_db
from nas.search.proposals import Price
from nas.search.score import final_score
from nas.search.surrogate import Prior, features
from search_spaces.designs import DESIGNS, Design
from search_spaces.space import SearchSpace
from search_spaces.spec import ArchSpec

# A design that other pairs show so far below the best one, in score, is not expected to be the best here: of those
# within 3 of the best one on the demo set of results/table, none is more than 0.5 nearer to it on the sensor pairs.
LIKELY_WITHIN = 1.0


@dataclass(frozen=True)
class KnownDesigns:
    """The designs of a space: those that may be the best one, and the others, either in order of their worth.

    Those that the limits refuse come last, as asking for them costs nothing.
    """

    likely: tuple[Design, ...]
    unlikely: tuple[Design, ...] = ()
    refused: tuple[Design, ...] = ()

    def names(self) -> dict[str, list[str]]:
        """Return the names of each kind, as the records of a session have them."""
        return {kind: [design.name for design in designs] for kind, designs in vars(self).items()}

    @property
    def all(self) -> tuple[Design, ...]:
        """All designs, the likely ones first."""
        return self.likely + self.unlikely + self.refused


def published_in(space: SearchSpace) -> list[Design]:
    """Return the published designs that are members of a space, other readings of the same one left out."""
    return [d for d in DESIGNS.values() if d.variant_of is None and space.contains(d.spec)]


def designs_of(space: SearchSpace, tables: Sequence[str], price: Price, *, steps: int) -> KnownDesigns:
    """Return the designs of a space but other readings of the same one; without a prior, all may be the best.

    `tables` are those that the prior was learned from, `price` tells a network's runtime, `steps` are those
    after which the best is looked for.
    """
    by_report = sorted(published_in(space), key=lambda d: -d.table1.score)
    learned = prior(tables)
    if learned is None:
        return KnownDesigns(tuple(by_report))
    scores = {d.name: _expected_score(d.spec, learned, steps, spread_db(tables), price) for d in by_report}
    refused = tuple(d for d in by_report if scores[d.name] == -math.inf)
    ranked = sorted((d for d in by_report if d not in refused), key=lambda d: -scores[d.name])
    least = max(scores.values(), default=0.0) - LIKELY_WITHIN
    likely = [d for d in ranked if scores[d.name] >= least]
    return KnownDesigns(tuple(likely), tuple(ranked[len(likely) :]), refused)


def _expected_score(spec: ArchSpec, learned: Prior, steps: int, unit_db: float, price: Price) -> float:
    """Return the score that the prior expects, up to a constant; -inf for a network that the limits refuse."""
    cost = price(spec)
    if cost is None or cost.excess > 0:
        return -math.inf
    return final_score(unit_db * float(learned(features(spec)[None], np.array([steps]))[0]), cost.runtime_ms)
