"""Prior knowledge of networks from trainings on other pairs.

The package carries tables of networks of `mai21` that were trained alike on two sets of pairs
(`results/table`, condensed by `benchmarks/condense_table.py`). A regression forest learns from each, by the features of
`nas.search.surrogate`, how far above or below the others a network comes out; its unit is the table's own spread.
Tables of the very pairs that are searched are left out: handing out what was found on them before would be no search.
"""

import gzip
import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from nas.search.surrogate import Vector, features
from search_spaces.spec import ArchSpec

TABLES = Path(__file__).parent / "priors"
TREES, LEAF = 100, 2
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


def spread_db(names: Sequence[str]) -> float:
    """Return the mean of the tables' units in dB."""
    return float(np.mean([_spread_db(np.array([each["psnr_db"] for each in _table(n)["networks"]])) for n in names]))


def prior(names: Sequence[str]) -> Callable[[Vector], Vector] | None:
    """Return the mean of what the tables' forests predict for features [n, f]; None without a table."""
    forests = [_forest(name) for name in names]
    if not forests:
        return None
    known: dict[bytes, float] = {}

    def predict(x: Vector) -> Vector:
        fresh = {row.tobytes(): row for row in x if row.tobytes() not in known}
        if fresh:
            means = np.mean([forest.predict(np.array([*fresh.values()])) for forest in forests], axis=0)
            known.update(zip(fresh, means, strict=True))
        return np.array([known[row.tobytes()] for row in x])

    return predict


@cache
def _table(name: str) -> dict[str, Any]:
    with gzip.open(TABLES / f"{name}.json.gz", "rt", encoding="utf-8") as file:
        table: dict[str, Any] = json.load(file)
    return table


@cache
def _forest(name: str) -> Any:
    from sklearn.ensemble import ExtraTreesRegressor

    networks = _table(name)["networks"]
    x = np.array([features(ArchSpec.from_dict(each["genes"])) for each in networks])
    forest = ExtraTreesRegressor(TREES, min_samples_leaf=LEAF, random_state=0, n_jobs=1)
    return forest.fit(x, standardised(np.array([each["psnr_db"] for each in networks])))


def standardised(psnr_db: Vector) -> Vector:
    """Return by how many spreads each is above the median, no less than LOWEST."""
    scaled: Vector = np.maximum((psnr_db - np.median(psnr_db)) / _spread_db(psnr_db), LOWEST)
    return scaled


def _spread_db(psnr_db: Vector) -> float:
    """Return the distance of quartiles in a normal distribution's standard deviations."""
    low, high = np.percentile(psnr_db, [25, 75])
    return max(1e-6, float(high - low) / 1.35)
