"""Default training recipes, by hardware."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nas.data.pairs import DataConfig, find_pairs
from nas.defaults import DEFAULT_DATA
from nas.train.recipe import HARDWARE_RECIPE, Recipe

# What held until Muon came, with Adam; runs that were begun then go on so.
_BEFORE_MUON: dict[str, dict[str, Any]] = {"cpu": {"batch": 4, "patch": 64}, "gpu": {"batch": 16, "patch": 128}}


def default_recipe(hardware: str, data: DataConfig, begun: Mapping[str, Any] | None = None) -> Recipe:
    """Return what trains on these pairs where nothing else is asked for; a batch is no larger than there are pairs.

    `begun` is the stored recipe of a run that goes on: where it knows nothing of Muon, the defaults were Adam's then,
    and where it knows nothing of `full_rate_steps`, one rate was for all lengths.
    Raises DataError where there are no pairs.
    """
    if begun is not None and "vector_rate" not in begun:
        return Recipe(**_BEFORE_MUON[hardware])
    recipe = Recipe(**HARDWARE_RECIPE[hardware])
    if begun is not None and "full_rate_steps" not in begun:
        recipe = replace(recipe, full_rate_steps=0)
    if data == DEFAULT_DATA:  # has enough, and may not have been built yet
        return recipe
    return replace(recipe, batch=min(recipe.batch, len(find_pairs(data)["train"])))
