"""Load a recipe from a TOML file or by name, with its source.

A recipe file is TOML: the fields of `Recipe`, its length called `steps`, and where they come from. Those of the
challenge's teams are built in, one for each design; the user's own, in `recipes/` of the working directory or of the
data folder, are found first.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas import backend
from nas.train.recipe import HARDWARE_RECIPE, MUON, LossPhase, Recipe
from search_spaces.designs import DESIGNS, design_name
from search_spaces.errors import UnknownNameError, UsageError
from search_spaces.spec import ArchSpec
from search_spaces.system import named_files, stored

BUILTIN = Path(__file__).parent / "recipes"
REPORT = "report"  # the recipe that is called like the design


@dataclass(frozen=True)
class PublishedRecipe:
    """A recipe with its origin; `ours` names the settings that the source does not give and that we chose.

    Where `loss` or `phases` is named, the terms are the source's and the weights and their steps are ours, unless the
    comment beside them says otherwise.
    """

    name: str
    title: str
    team: str
    source: str
    ours: tuple[str, ...]
    recipe: Recipe

    def origin(self) -> dict[str, Any]:
        """Return where the recipe comes from and which settings are ours, as plain data."""
        return {name: value for name, value in vars(self).items() if name != "recipe"}


def recipe_names() -> dict[str, Path]:
    """Return every known recipe with its file."""
    return named_files.names("recipes", BUILTIN, ".toml")


def recipe_for(name: str, spec: ArchSpec) -> PublishedRecipe:
    """Return the recipe called `name` or in that file; "report" means the one called like the design that `spec` is."""
    if name != REPORT:
        return load_recipe(name)
    design = design_name(spec)
    if design is None:
        raise UsageError(
            f"--recipe {REPORT} is the recipe of a published design, which this network is not; "
            f"name one of {', '.join(sorted(recipe_names()))}, or a .toml file."
        )
    return load_recipe(DESIGNS[design].variant_of or design)


def load_recipe(name: str) -> PublishedRecipe:
    """Read the recipe called `name`, or the TOML file at that path.

    Raises UnknownNameError for a name nobody has, UsageError for a file that is not a recipe.
    """
    path = named_files.find("recipes", name, BUILTIN, ".toml")
    try:
        data = stored.parse_toml(stored.read_bytes(path))
    except OSError as error:
        raise UsageError(f"The recipe {path} cannot be read ({error.strerror}).") from None
    except ValueError as error:
        raise UsageError(f"{path} is not readable TOML: {error}.") from None
    return _parse(data, path)


# Readers of one value: each returns it, or raises TypeError saying what is allowed.


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a string in quotes")
    return value


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("a whole number")
    return value


def _number(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError("a number")
    return float(value)


def _switch(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError("true or false")
    return value


def _weights(value: object) -> dict[str, float]:
    try:
        if isinstance(value, dict) and value:
            return {name: _number(weight) for name, weight in value.items()}
    except TypeError:
        pass
    raise TypeError("weights by name, such as { l1 = 1.0, ssim = 0.2 }")


def _names(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise TypeError('a list of names, such as ["batch", "patch"]')
    return tuple(value)


def _phases(value: object) -> tuple[LossPhase, ...]:
    wanted = "tables [[phases]], each with from_step, a whole number, and loss"
    if not isinstance(value, list):
        raise TypeError(wanted)
    for phase in value:
        if not isinstance(phase, dict) or phase.keys() != {"from_step", "loss"}:
            raise TypeError(wanted)
    return tuple(LossPhase(_named(_whole, phase, "from_step"), _named(_weights, phase, "loss")) for phase in value)


def _named(read: Callable[[object], Any], table: Mapping[str, object], key: str) -> Any:
    try:
        return read(table[key])
    except TypeError as error:
        raise TypeError(f"tables whose {key} is {error}") from None


_ORIGIN: dict[str, Callable[[object], Any]] = {"title": _text, "team": _text, "source": _text, "ours": _names}
_SETTINGS: dict[str, Callable[[object], Any]] = {
    "loss": _weights,
    "phases": _phases,
    "optimiser": _text,
    "vector_rate": _number,
    "learning_rate": _number,
    "full_rate_steps": _whole,
    "schedule": _text,
    "final_learning_rate": _number,
    "warmup": _whole,
    "drop_every": _whole,
    "drop_factor": _number,
    "weight_decay": _number,
    "clip_norm": _number,
    "ema": _number,
    "average_share": _number,
    "precision": _text,
    "vgg_layer": _text,
    "batch": _whole,
    "steps": _whole,
    "patch": _whole,
    "initialiser": _text,
    "flip": _text,
    "rotate": _switch,
    "reparameterise": _switch,
}
_REQUIRED = ("loss", "steps")


def _parse(data: Mapping[str, Any], path: Path) -> PublishedRecipe:
    known = _ORIGIN | _SETTINGS
    for name in data:
        if name not in known:
            raise UnknownNameError(f"key in {path}:", name, known)
    for name in _REQUIRED:
        if name not in data:
            raise UsageError(f"{path} lacks the key {name}; a recipe needs {' and '.join(_REQUIRED)}.")
    values = {name: _value(known[name], name, value, path) for name, value in data.items()}
    for name in values.get("ours", ()):
        if name not in _SETTINGS:
            raise UnknownNameError(f"name under ours in {path}:", name, _SETTINGS)
    title, team, source = (values.get(name, "") for name in ("title", "team", "source"))
    recipe = _recipe({name: value for name, value in values.items() if name in _SETTINGS}, path)
    return PublishedRecipe(path.stem, title, team, source, values.get("ours", ()), recipe)


def _value(read: Callable[[object], Any], name: str, value: object, path: Path) -> Any:
    try:
        return read(value)
    except TypeError as error:
        raise UsageError(f"{path}: {name} must be {error}, got {value!r}.") from None


def _recipe(settings: dict[str, Any], path: Path) -> Recipe:
    total_steps = settings.pop("steps")
    # What a file leaves out is as in the default recipe; beside another optimiser, as it was when that was the default.
    others = HARDWARE_RECIPE[backend.expected()] if settings.get("optimiser", MUON) == MUON else {}
    if "learning_rate" in settings:  # is meant for as many steps as the file has
        others = {**others, "full_rate_steps": 0}
    try:
        return Recipe(**others | settings, total_steps=total_steps)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
