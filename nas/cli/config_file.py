"""`isp-nas search --config FILE`: the same options from a TOML file; what the command line gives wins.

budget = "8h"                 options by their names, at the top of the file
device = "my-phone"
max-runtime = 60

[study]                       what a study was started with: every study's run.toml is such a file
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import typer

from nas.cli.command_options import ClusterSettings, SearchRunOptions, StudySettings
from nas.cli.option_groups import options_of
from nas.cli.options import DataOptions, RecipeOptions
from search_spaces.errors import IspNasError, UnknownNameError, UsageError
from search_spaces.system import stored

if TYPE_CHECKING:
    from nas.search import open_study

STUDY, PROVENANCE = "study", "provenance"
# What a type of option is called, and the TOML values that it takes; every other type takes text.
KINDS: dict[type, tuple[str, tuple[type, ...]]] = {
    int: ("a whole number", (int,)),
    float: ("a number", (int, float)),
    bool: ("true or false", (bool,)),
}
GROUPS = (SearchRunOptions, ClusterSettings, DataOptions, StudySettings, RecipeOptions)
COUNTS = ("budget", "workers")  # text that may be a number


@dataclass(frozen=True)
class ConfigFile:
    """What a file says beside options: what a study was started with."""

    path: Path
    study: Mapping[str, Any] = field(default_factory=dict)


def read_config(ctx: typer.Context, value: str | None) -> ConfigFile | None:
    """Take the options in a file for defaults of the command; return what it says of a study.

    Raises UsageError for a file that cannot be read or a value of another kind, UnknownNameError for an unknown option.
    """
    if value is None:
        return None
    path = Path(value)
    content = _read(path)
    study = content.pop(STUDY) if isinstance(content.get(STUDY), dict) else {}
    content.pop(PROVENANCE, None)
    known = _known()
    options: dict[str, Any] = {}
    for key, given in content.items():
        name = key.replace("-", "_")
        if name not in known:
            raise UnknownNameError(f"option in {path}:", key, [each.replace("_", "-") for each in known])
        options[name] = _as_typed(f"{key} in {path}", name, known[name], given)
    ctx.default_map = options
    return ConfigFile(path, study)


def _known() -> dict[str, type]:
    """Return the options of a search with their types; those of an old name are none of a file's."""
    types: dict[str, type] = {}
    for parameter in (each for group in GROUPS for each in options_of(group)):
        hint, info = get_args(parameter.annotation)
        if not info.hidden:
            types[parameter.name] = next((t for t in get_args(hint) if t is not type(None)), hint)
    return types


def _read(path: Path) -> dict[str, Any]:
    try:
        return stored.parse_toml(stored.read_bytes(path))
    except OSError as error:
        raise UsageError(f"The file of --config, {path}, cannot be read ({error.strerror}); check the path.") from None
    except ValueError as error:  # of TOML, or of UTF-8
        raise UsageError(f"{path} is not valid TOML: {' '.join(str(error).split())}.") from None


def _as_typed(where: str, name: str, kind: type, value: Any) -> Any:
    """Return a value as its option takes it; raise UsageError for one of another kind."""
    if name == "rungs" and isinstance(value, list):
        value = ",".join(map(str, value))
    if name == "loss" and isinstance(value, dict):
        value = ",".join(f"{loss}={weight}" for loss, weight in value.items())
    if name in COUNTS and type(value) is int:
        value = str(value)
    wanted, types = KINDS.get(kind, ("text", (str,)))
    if type(value) not in types:
        raise UsageError(f"{where} must be {wanted}, got {_shown(value)}.")
    return value


def _shown(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def search_options(
    config: ConfigFile | None, given: Mapping[str, Any], data: DataOptions
) -> "open_study.SearchOptions":
    """Return what the command line asks for, and where it says nothing, what a file's study was started with."""
    from nas.search import open_study
    from nas.search.study_table import of_table

    base: dict[str, Any] = {}
    if config and config.study:
        try:
            base = of_table(config.study)
        except IspNasError as error:
            raise UsageError(f"{config.path}: {error}") from None
    options = {name: value for name, value in given.items() if value is not None}
    chosen = data.chosen(base.get("data"))
    changed = {name for name in ("device", "space") if name in options} | (
        {"data"} if chosen != base.get("data") else set()
    )
    recorded = {what: content for what, content in base.pop("recorded", {}).items() if what not in changed}
    return open_study.SearchOptions(**{**base, **options, "data": chosen}, recorded=recorded)
