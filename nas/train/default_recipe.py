"""Default training recipes, by hardware."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nas.data.pairs import DataConfig, find_pairs
from nas.defaults import DEFAULT_DATA
from nas.train.recipe import DEFAULTS, Recipe

# On a CPU many small patches: as many pixels as four of 64, but of four times as many pairs. After 2700 steps CSANet
# gained 2.8 dB on real pairs, ISP-forever 1.3 and Smallnet 0.3, at the same time per step (results/training/README.md).
# A GPU would be idle during most of such a step.
HARDWARE_RECIPE: dict[str, dict[str, Any]] = {
    "cpu": {**DEFAULTS, "batch": 16, "patch": 32},
    "gpu": {**DEFAULTS, "batch": 16, "patch": 128},
}
# What held until Muon came, with Adam; runs that were begun then go on so.
_BEFORE_MUON: dict[str, dict[str, Any]] = {"cpu": {"batch": 4, "patch": 64}, "gpu": {"batch": 16, "patch": 128}}


def default_recipe(hardware: str, data: DataConfig, begun: Mapping[str, Any] | None = None) -> Recipe:
    """Return what trains on these pairs where nothing else is asked for; a batch is no larger than there are pairs.

    `begun` is the stored recipe of a run that goes on: where it knows nothing of Muon, the defaults were Adam's then.
    Raises DataError where there are no pairs.
    """
    if begun is not None and "vector_rate" not in begun:
        return Recipe(**_BEFORE_MUON[hardware])
    recipe = Recipe(**HARDWARE_RECIPE[hardware])
    if data == DEFAULT_DATA:  # has enough, and may not have been built yet
        return recipe
    return replace(recipe, batch=min(recipe.batch, len(find_pairs(data)["train"])))
