"""The keyword arguments by which programs ask for searches and trainings: what `nas.search` and `nas.train` take."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict

from nas.train.recipe import parse_loss
from search_spaces.errors import UnknownNameError


class TrainingSettings(TypedDict, total=False):
    """How networks are trained, where it is not as the recipe or the study says."""

    loss: str | dict[str, float]  # losses with weights: "l1=1,ssim=0.2"
    learning_rate: float
    batch: int  # patches per step
    patch: int  # pixels of a patch's side
    dtype: str  # float32 or bfloat16
    reparameterise: bool  # train kernels as sums of branches
    vgg_weights: str | Path  # Keras's weights of VGG-19, for the loss vgg


class SearchSettings(TrainingSettings, total=False):
    """What a study is started with, where it is not the default."""

    objective: str  # score or pareto
    sampler: str  # a name of nas.search.samplers
    seed: int
    rungs: Sequence[int]  # training steps per rung
    final_steps: int  # training steps of the finals; 0: no finals
    final_share: float  # of a budget in time
    prior: str  # auto or none
    max_runtime_ms: float
    max_memory_mb: float
    allow_fallback: bool


class TrainSettings(TrainingSettings, total=False):
    """What else a training may be asked for."""

    recipe: str | Path  # a recipe's name or file; "report": that of the published design
    init_from: str | Path  # first weights: a checkpoint or what names one
    validate_every: int  # steps
    patience: int  # validations without a better PSNR after which training ends
    super_network: bool  # train jointly with a larger head at first
    detach_at_db: float
    calibration: int  # training pairs from which fine-tuning for int8 takes its first ranges


_TRAINING = frozenset(TrainingSettings.__annotations__)


def known(settings: Any, group: Any) -> dict[str, Any]:
    """Return settings that were given; raise UnknownNameError for one that the group does not have."""
    names = group.__annotations__
    for name in settings:
        if name not in names:
            raise UnknownNameError("setting", name, names)
    return {name: value for name, value in settings.items() if value is not None}


def beside_training(settings: Any, group: Any) -> dict[str, Any]:
    """Return the settings of a group that are none of `Training`."""
    return {name: value for name, value in known(settings, group).items() if name not in _TRAINING}


def recipe_fields(settings: Any) -> dict[str, Any]:
    """Return training settings under the names that a recipe has for them."""
    given = {name: settings[name] for name in sorted(_TRAINING - {"vgg_weights"}) if settings.get(name) is not None}
    if isinstance(given.get("loss"), str):
        given["loss"] = parse_loss(given["loss"])
    if "dtype" in given:
        given["precision"] = given.pop("dtype")
    return given
