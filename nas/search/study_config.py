"""The settings of a study, as run.toml holds them."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from hashlib import sha256
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from nas.data.pairs import DataConfig
from nas.data.raw_format import RawFormat
from nas.train.ranges import Number, Steps
from nas.train.recipe import Recipe, require_whole, stored_name
from search_spaces.system import stored

Limit = Annotated[float, Field(gt=0, le=1e12, allow_inf_nan=False)]


@dataclass(frozen=True)
class StudyConfig:
    """The settings that make two runs the same study. Fixed when the study is created."""

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    name: str
    data: DataConfig
    data_fingerprint: str
    device: str
    device_digest: str
    space: str
    space_digest: str
    objective: Annotated[str, Field(pattern="^(score|pareto)$")]
    sampler: str
    seed: Number
    rungs: tuple[Steps, ...]
    recipe: Recipe
    max_runtime_ms: Limit | None = None
    max_memory_mb: Limit | None = None  # of maps at once, float32, at Full HD
    allow_fallback: bool = False  # networks of which the delegate runs only a part are priced, not refused
    final_steps: Steps | None = None  # how long finals train the best candidates and designs; None: no finals
    final_share: Annotated[float, Field(ge=0, lt=1)] = 0.0  # of a budget in time, kept for the finals
    prior: tuple[str, ...] = ()  # tables of other pairs that the sampler "model" begins with, as in nas.search.prior
    vgg: str | None = None  # SHA-256 of VGG-19's weights, where the loss vgg takes part

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain data, None left out (TOML has no null)."""
        lists = {"data": self.data.to_dict(), "rungs": list(self.rungs), "prior": list(self.prior)}
        return without_none({**asdict(self), **lists, "recipe": self.recipe.to_dict()})

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "StudyConfig":
        """Read what `to_dict` wrote; raise ValueError or an IspNasError where it is not that."""
        read: StudyConfig = _SETTINGS.read(data)
        require_whole(data["recipe"])
        read.data.validate()
        if list(read.rungs) != sorted({*read.rungs}) or not read.rungs:
            raise ValueError(f"rungs are rising numbers of steps, got {', '.join(map(str, read.rungs))}")
        return read


_SETTINGS: stored.Schema[StudyConfig] = stored.Schema(
    StudyConfig,
    known=[stored_name(f.name) for kind in (StudyConfig, Recipe, DataConfig, RawFormat) for f in fields(kind)],
)


def without_none(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table, and those in it, without what is None: TOML has no null, and records leave it out."""
    present = {name: value for name, value in data.items() if value is not None}
    return {name: without_none(value) if isinstance(value, Mapping) else value for name, value in present.items()}


def digest(settings: Mapping[str, Any]) -> str:
    """Return by what records know the settings with which they were made."""
    return sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
