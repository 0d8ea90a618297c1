"""Which published designs a search trains, and in which order.

A design costs as much as several new networks, the largest as much as twenty, so a search that has a prior begins with
those that may be the best design on its pairs, and spends on the others no more than a small share of its budget.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from nas.search.prior import design_psnr_db
from nas.search.proposals import Price
from nas.search.score import final_score
from search_spaces.designs import DESIGNS, Design
from search_spaces.space import SearchSpace

# A design that other pairs show so far below the best one, in score, is not expected to be the best here. On both sets
# of results/table, after 8100 and after 24 300 steps, the same four are within this much of the best, which is not the
# same one; the fifth is 1.7 to 2.6 below it.
LIKELY_WITHIN = 1.5


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
    if not tables:
        return KnownDesigns(tuple(by_report))
    known_db = [design_psnr_db(name, steps) for name in tables]
    scores = {d.name: _expected_score(d, [of_table[d.name] for of_table in known_db], price) for d in by_report}
    refused = tuple(d for d in by_report if scores[d.name] == -math.inf)
    ranked = sorted((d for d in by_report if d not in refused), key=lambda d: -scores[d.name])
    least = max(scores.values(), default=0.0) - LIKELY_WITHIN
    likely = [d for d in ranked if scores[d.name] >= least]
    return KnownDesigns(tuple(likely), tuple(ranked[len(likely) :]), refused)


def _expected_score(design: Design, psnr_db: Sequence[float], price: Price) -> float:
    """Return the mean score of a design over other pairs; -inf for one that the limits refuse."""
    cost = price(design.spec)
    if cost is None or cost.excess > 0:
        return -math.inf
    return final_score(statistics.fmean(psnr_db), cost.runtime_ms)
