"""Prior knowledge of networks from trainings on other pairs.

The package carries tables of networks of `mai21` that were trained alike on two sets of pairs
(`results/table`, condensed by `benchmarks/condense_table.py`). A regression forest learns from each, by the features of
`nas.search.surrogate`, how far above or below the others a network comes out; its unit is the table's own spread.
Some networks were trained for longer, too: what they gained beyond that, a ridge regression says of others.
Tables of the very pairs that are searched are left out: handing out what was found on them before would be no search.
"""

import gzip
import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from nas.search.surrogate import Prior, Vector, features
from search_spaces.spec import ArchSpec

TABLES = Path(__file__).parent / "priors"
TREES, LEAF = 100, 2
EXAMPLES = 15  # of a table's best networks, and of those trained for longer, that a search looks at
LATE_RIDGE = 10.0  # by leaving one out on the sensor pairs
# What comes out far below the others is below them; how far depends on chance more than on the network.
LOWEST = -3.0


def known_tables() -> list[str]:
    """Return the names of all tables."""
    return sorted(path.name.removesuffix(".json.gz") for path in TABLES.glob("*.json.gz"))


def table_names(fingerprint: str) -> tuple[str, ...]:
    """Return the tables from which a search on pairs of this fingerprint may learn."""
    return tuple(name for name in known_tables() if _table(name)["data_fingerprint"] != fingerprint)


def table_size(name: str) -> int:
    """Return how many networks a table holds."""
    return len(_table(name)["networks"])


def best_networks(names: Sequence[str], count: int = EXAMPLES) -> list[ArchSpec]:
    """Return so many of the best networks of each table, and as many of those that it trained for longer."""
    ranked = [
        sorted(networks, key=lambda each: -each["psnr_db"])[:count]
        for name in names
        for networks in (_table(name)["networks"], _table(name).get("longer", {}).get("networks", []))
    ]
    return list(dict.fromkeys(ArchSpec.from_dict(each["genes"]) for networks in ranked for each in networks))


def design_psnr_db(name: str, steps: int) -> dict[str, float]:
    """Return PSNR in dB of published designs on a table's pairs, by name, after about so many training steps.

    Of the lengths of training that the table has it is the nearest; a design that was not trained so long gains what
    the others do.
    """
    stages = _table(name)["designs"]  # the shortest first
    nearest = min(stages, key=lambda stage: abs(math.log(steps / stage["steps"])))
    known: dict[str, float] = {}
    for stage in stages[: stages.index(nearest) + 1]:
        measured = stage["psnr_db"]
        gained = [psnr_db - known[design] for design, psnr_db in measured.items() if design in known]
        gain = statistics.median(gained) if gained else 0.0
        known = {design: psnr_db + gain for design, psnr_db in known.items()} | measured
    return known


def prior(names: Sequence[str]) -> Prior | None:
    """Return the mean of what the tables say of features [n, f] at training steps [n]; None without a table."""
    if not names:
        return None
    tables = [_Model(name) for name in names]
    return lambda x, steps: np.mean([table.predict(x, steps) for table in tables], axis=0)


class _Model:
    """What one table says: of its own steps by a forest, and of longer training by what is gained late."""

    def __init__(self, name: str) -> None:
        self._forest, self._late, self._known = _forest(name), _late(name), dict[bytes, tuple[float, float]]()
        table = _table(name)
        self._short, self._long = table["steps"], table.get("longer", {}).get("steps", 0)

    def predict(self, x: Vector, steps: Vector) -> Vector:
        fresh = {row.tobytes(): row for row in x if row.tobytes() not in self._known}
        if fresh:
            rows = np.array([*fresh.values()])
            self._known.update(
                zip(fresh, zip(_mean_of(self._forest, rows), self._late(rows), strict=True), strict=True)
            )
        both = np.array([self._known[row.tobytes()] for row in x])
        of_table: Vector = both[:, 0] + self._share(steps) * both[:, 1]
        return of_table

    def _share(self, steps: Vector) -> Vector:
        """Return how much of the late gain there is after so many steps: in proportion to their logarithm."""
        if not self._long:
            return np.zeros(len(steps))
        share: Vector = np.clip(np.log(steps / self._short) / np.log(self._long / self._short), 0, 1)
        return share


@cache
def _table(name: str) -> dict[str, Any]:
    with gzip.open(TABLES / f"{name}.json.gz", "rt", encoding="utf-8") as file:
        table: dict[str, Any] = json.load(file)
    return table


@cache
def _forest(name: str) -> Any:
    from sklearn.ensemble import ExtraTreesRegressor

    networks = _table(name)["networks"]
    forest = ExtraTreesRegressor(TREES, min_samples_leaf=LEAF, random_state=0, n_jobs=1)
    return forest.fit(_features_of(networks), standardised(_psnr_db(networks)))


def _mean_of(forest: Any, x: Vector) -> Vector:
    """Return what the forest predicts, without its own way of doing it, which takes 70 ms for a single row."""
    rows = np.ascontiguousarray(x, np.float32)
    predicted: Vector = np.mean([tree.tree_.predict(rows)[:, 0] for tree in forest.estimators_], axis=0)
    return predicted


@cache
def _late(name: str) -> Callable[[Vector], Vector]:
    """Return what tells how much more than others a network gains after the table's steps, in the table's unit."""
    from sklearn.linear_model import Ridge

    longer = _table(name).get("longer", {}).get("networks", [])
    if not longer:
        return lambda x: np.zeros(len(x))
    x = _features_of(longer)
    gained = _psnr_db(longer) / _spread_db(_psnr_db(_table(name)["networks"])) - _mean_of(_forest(name), x)
    fitted = Ridge(LATE_RIDGE).fit(x, gained - gained.mean())
    return lambda x: np.clip(fitted.predict(x), gained.min() - gained.mean(), gained.max() - gained.mean())


def _features_of(networks: Sequence[Mapping[str, Any]]) -> Vector:
    return np.array([features(ArchSpec.from_dict(each["genes"])) for each in networks])


def _psnr_db(networks: Sequence[Mapping[str, Any]]) -> Vector:
    return np.array([each["psnr_db"] for each in networks])


def standardised(psnr_db: Vector) -> Vector:
    """Return by how many spreads each is above the median, no less than LOWEST."""
    scaled: Vector = np.maximum((psnr_db - np.median(psnr_db)) / _spread_db(psnr_db), LOWEST)
    return scaled


def _spread_db(psnr_db: Vector) -> float:
    """Return the distance of quartiles in a normal distribution's standard deviations."""
    low, high = np.percentile(psnr_db, [25, 75])
    return max(1e-6, float(high - low) / 1.35)
