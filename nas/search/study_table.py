"""The [study] table of a run.toml as options of a search: another study started with them is equal to the first.

Read strictly, for people edit such files: every key and the kind of every value is checked, and an error names both.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, get_type_hints

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict

from nas.data.pairs import DataConfig
from nas.data.raw_format import RawFormat
from nas.search.open_study import SearchOptions
from nas.search.study_config import StudyConfig
from nas.train.recipe import Recipe
from search_spaces.errors import UsageError
from search_spaces.system import stored

# Under which names the table tells the content of what a study was started with.
CONTENTS = {"data_fingerprint": "data", "device_digest": "device", "space_digest": "space", "vgg": "vgg"}
# What a StudyConfig holds, none of it needed: what a table leaves out is as in a search without it.
_Some = with_config(ConfigDict(extra="forbid", allow_inf_nan=False))(
    TypedDict("_Some", get_type_hints(StudyConfig, include_extras=True), total=False)  # type: ignore[operator]
)
_TABLE: stored.Schema[dict[str, Any]] = stored.Schema(
    _Some, known=[each.name for kind in (StudyConfig, Recipe, DataConfig, RawFormat) for each in fields(kind)]
)


def of_table(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a SearchOptions that a [study] table means; "recorded" holds what contents it tells.

    Raises UsageError for a key that no study has, and for a value of another kind or out of its range.
    """
    try:
        read = _TABLE.read(table)
    except ValueError as error:
        raise UsageError(f"In [study], {error}.") from None
    known = {each.name for each in fields(SearchOptions)}
    options = {name: value for name, value in read.items() if name in known}
    if "name" in read:
        options["study"] = read["name"]
    if "rungs" in read:
        options.setdefault("final_steps", 0)  # a study without finals says nothing of them
    if not options.get("final_share"):
        options.pop("final_share", None)
    return options | {"recorded": {what: read[name] for name, what in CONTENTS.items() if name in read}}
