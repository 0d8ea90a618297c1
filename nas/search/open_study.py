"""Open a study: reconcile the user's options with the settings the study was started with.

Options that were not given come from the study where it exists, from the defaults where it does not. An option that
was given and differs is refused by name: a study whose settings change half-way compares nothing.
"""

import math
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from latency_models.device import Device, load_device
from nas import backend, provenance
from nas.data.cache import cache_dir
from nas.data.pairs import DataConfig, Progress, identity, prepare
from nas.defaults import DEFAULT_DATA, DEFAULT_DEVICE, DEFAULT_SPACE
from nas.search import study
from nas.search.budget import Budget
from nas.search.samplers import DEFAULT_SAMPLER, SAMPLERS, require_sampler
from nas.search.study import StudyRecord
from nas.search.study_config import StudyConfig
from nas.search.successive_halving import FINAL_SHARE, OBJECTIVES, check_ladder, default_final_steps, default_ladder
from nas.train.default_recipe import default_recipe
from nas.train.fit import check_fits
from nas.train.losses import vgg_weights
from nas.train.recipe import Recipe
from search_spaces.errors import StudyError, UnknownNameError, UsageError
from search_spaces.space import SearchSpace, load_space
from search_spaces.system.named_files import expanded

PRIORS = ("auto", "none")
BACKENDS = ("cpu", "gpu")


@dataclass(frozen=True)
class SearchOptions:
    """The options of `isp-nas search`; None where the user said nothing."""

    study: str | None = None
    data: DataConfig | None = None
    device: str | None = None
    space: str | None = None
    objective: str | None = None
    sampler: str | None = None
    seed: int | None = None
    rungs: tuple[int, ...] | None = None
    final_steps: int | None = None  # 0: no finals
    final_share: float | None = None
    prior: str | tuple[str, ...] | None = None  # auto: what was learned on other pairs; none: nothing; or these tables
    max_runtime_ms: float | None = None  # infinite: no limit, whatever a file of options says
    max_memory_mb: float | None = None
    allow_fallback: bool | None = None
    loss: dict[str, float] | None = None
    learning_rate: float | None = None
    batch: int | None = None
    patch: int | None = None
    precision: str | None = None
    reparameterise: bool | None = None
    vgg_file: Path | None = None  # of the weights of VGG-19; None: Keras's own copy, where they are needed
    recipe: Recipe | None = None  # what the fields of the recipe above change; None: what suits the hardware
    backend: str | None = None  # what networks are trained on, cpu or gpu; None: what this machine has
    recorded: Mapping[str, str] = field(default_factory=dict)  # what data, device, space and vgg have to contain

    def __post_init__(self) -> None:
        if self.backend is not None and self.backend not in BACKENDS:
            raise UnknownNameError("backend", self.backend, BACKENDS)
        if self.objective is not None and self.objective not in OBJECTIVES:
            raise UnknownNameError("objective", self.objective, OBJECTIVES)
        if self.sampler is not None:
            require_sampler(self.sampler)
        if isinstance(self.prior, str) and self.prior not in PRIORS:
            raise UnknownNameError("prior", self.prior, PRIORS)
        if self.seed is not None and self.seed < 0:
            raise UsageError(f"A seed is zero or more, got {self.seed}.")
        if self.max_runtime_ms is not None and not self.max_runtime_ms > 0:
            raise UsageError(f"The largest runtime must be above zero milliseconds, got {self.max_runtime_ms:g}.")
        if self.max_memory_mb is not None and not self.max_memory_mb > 0:
            raise UsageError(f"The largest memory must be above zero megabytes, got {self.max_memory_mb:g}.")
        if self.rungs is not None:
            check_ladder(self.rungs)
        if self.final_steps is not None and self.final_steps < 0:
            raise UsageError(f"Finals train for some steps, or for 0 where there are none, got {self.final_steps}.")
        if self.final_share is not None and not 0 < self.final_share < 1:
            raise UsageError(f"The finals' share of the budget lies between 0 and 1, got {self.final_share:g}.")


@dataclass(frozen=True)
class SearchContext:
    """Everything a search runs on."""

    study: StudyRecord
    space: SearchSpace
    device: Device
    pairs: Path  # decoded training and validation pairs
    vgg_file: Path | None
    is_new: bool


def open_study(options: SearchOptions, results: Path, budget: Budget, *, read: Progress | None = None) -> SearchContext:
    """Continue the study that was asked for, or start it; `read` follows the decoding of its pairs.

    Raises StudyError where the study was started with other data, device, space or settings. Nothing is written
    into `results` before every input has been read and found good.
    """
    name = options.study or default_name(options)
    if not name[:1].isalnum() or not all(map(_may_be_in_a_name, name)):
        raise UsageError(f'A study\'s name is made of letters, digits, ".", "-" and "_"; got "{name}".')
    folder = results / name
    if study.exists(folder):
        return _continue(folder, options, read)
    return _start(folder, options, budget, read)


def default_name(options: SearchOptions) -> str:
    """Return the name of a study from its data, device and space."""
    source = expanded((options.data or DEFAULT_DATA).source)
    parts = (source.resolve().name if source != Path("demo") else "demo", options.device, options.space)
    defaults = ("pairs", DEFAULT_DEVICE, DEFAULT_SPACE)
    named = (Path(part or default).stem for part, default in zip(parts, defaults, strict=True))
    # A folder may be called anything; a name of its own has to begin with a letter or digit.
    spaced = ("".join(c if _may_be_in_a_name(c) else " " for c in part) for part in named)
    name = "-".join(re.sub(" +", "_", part) for part in spaced)
    return name if name[:1].isalnum() else f"data{name}"


def _may_be_in_a_name(character: str) -> bool:
    """Whether a character is a letter, a mark of one or a digit of any script, or one of ".-_"."""
    return character.isalnum() or character in "._-" or unicodedata.category(character).startswith("M")


def _start(folder: Path, options: SearchOptions, budget: Budget, read: Progress | None) -> SearchContext:
    data = anywhere(options.data or DEFAULT_DATA)
    _build_demo(data, read)
    device = load_device(options.device or DEFAULT_DEVICE)
    _require_fallback_costs(device, options)
    space = load_space(options.space or DEFAULT_SPACE)
    hardware = options.backend or backend.expected()
    rungs, final_steps = _ladder(options, budget, hardware)
    recipe = (options.recipe or default_recipe(hardware, data)).changed(
        **_recipe_options(options), total_steps=rungs[-1]
    )
    fingerprint = identity(data)
    config = StudyConfig(
        name=folder.name,
        data=data,
        data_fingerprint=fingerprint,
        device=options.device or DEFAULT_DEVICE,
        device_digest=device.digest,
        space=options.space or DEFAULT_SPACE,
        space_digest=space.digest,
        objective=options.objective or "score",
        sampler=options.sampler or DEFAULT_SAMPLER,
        seed=options.seed or 0,
        rungs=rungs,
        final_steps=final_steps or None,
        final_share=options.final_share or FINAL_SHARE,
        prior=_prior(options, fingerprint),
        recipe=recipe,
        max_runtime_ms=_limit(options.max_runtime_ms),
        max_memory_mb=_limit(options.max_memory_mb),
        allow_fallback=bool(options.allow_fallback),
        vgg=_vgg(recipe, options),
    )
    _require_recorded(options, config)
    pairs = prepare(data, cache_dir() / "pairs", progress=read)
    check_fits(config.recipe, pairs, multiple=space.size_multiple, of=f"space {space.name}")
    return SearchContext(
        study.create(folder, config, provenance=provenance.collect()),
        space,
        device,
        pairs,
        options.vgg_file,
        is_new=True,
    )


def _limit(value: float | None) -> float | None:
    return None if value == math.inf else value


def _require_recorded(options: SearchOptions, config: StudyConfig) -> None:
    """Raise StudyError where anything is no longer what it was when the study was started that is to be repeated."""
    now = {
        "data": (config.data_fingerprint, config.data.source),
        "device": (config.device_digest, config.device),
        "space": (config.space_digest, config.space),
        "vgg": (config.vgg or "", str(options.vgg_file or "Keras's cache")),
    }
    changed = [_changed(what, then, *now[what], of="the file of --config") for what, then in options.recorded.items()]
    differences = [text for text in changed if text]
    if differences:
        raise StudyError(
            f"A search with these settings would not equal the first: {'; '.join(differences)}. Restore what has "
            "changed, or give it as an option."
        )


def _ladder(options: SearchOptions, budget: Budget, hardware: str) -> tuple[tuple[int, ...], int]:
    """Return the steps of the rungs, and of the finals, which are longer; 0: no finals."""
    rungs = options.rungs or default_ladder(budget, hardware)
    if options.final_steps is None:
        return rungs, default_final_steps(budget, rungs)
    if not options.final_steps:
        return rungs, 0
    shorter = tuple(steps for steps in rungs if steps < options.final_steps)
    if not shorter or (options.rungs and shorter != rungs):
        longest = rungs[-1] if options.rungs else rungs[0]
        raise UsageError(f"--final-steps must exceed the longest rung, {longest} steps; got {options.final_steps}.")
    return shorter, options.final_steps


def _prior(options: SearchOptions, fingerprint: str) -> tuple[str, ...]:
    """Return the tables that the study's proposals begin with."""
    if options.prior == "none" or not SAMPLERS[options.sampler or DEFAULT_SAMPLER].is_model:
        return ()
    from nas.search.prior import known_tables, table_names

    if not isinstance(options.prior, tuple):
        return table_names(fingerprint)
    for name in options.prior:
        if name not in known_tables():
            raise UnknownNameError("table of a prior:", name, known_tables())
    return options.prior


def _require_fallback_costs(device: Device, options: SearchOptions) -> None:
    if options.allow_fallback and device.fallback is None:
        raise UsageError(
            f"{device.name} does not tell what operations cost that fall to the CPU; leave --allow-fallback out, or "
            'add "fallback" to its file.'
        )


def anywhere(data: DataConfig) -> DataConfig:
    """Return `data` with a source that means the same folder from every working directory."""
    return data if data.source == "demo" else replace(data, source=str(expanded(data.source).resolve()))


def _build_demo(data: DataConfig, read: Progress | None) -> None:
    if data.source == "demo":
        from nas.data.demo.demo_set import demo_folder

        demo_folder(progress=read)


def _recipe_options(options: SearchOptions) -> dict[str, Any]:
    names = {f.name for f in fields(Recipe)} & {f.name for f in fields(SearchOptions)}
    return {name: value for name in names if (value := getattr(options, name)) is not None}


def _continue(folder: Path, options: SearchOptions, read: Progress | None) -> SearchContext:
    opened = study.load(folder)
    config = opened.config
    if options.data is not None:  # the same pairs may have moved; whether they are the same is checked below
        config = opened.config = replace(config, data=anywhere(options.data))
    device, space = load_device(options.device or config.device), load_space(options.space or config.space)
    changed = [
        _changed("data", config.data_fingerprint, identity(config.data), config.data.source),
        _changed("device", config.device_digest, device.digest, options.device or config.device),
        _changed("space", config.space_digest, space.digest, options.space or config.space),
        _changed(
            "VGG-19 in", config.vgg or "", _vgg(config.recipe, options) or "", str(options.vgg_file or "Keras's cache")
        ),
        _other_prior(options, config),
        _other_recipe(options, config),
        *(_differs(name, value, config) for name, value in _plain_options(options).items()),
    ]
    differences = [text for text in changed if text]
    if differences:
        raise StudyError(
            f"Study {config.name} was started with other settings: {'; '.join(differences)}. "
            "Continue it as it was started, or start another study with --study NAME."
        )
    _build_demo(config.data, read)
    pairs = prepare(config.data, cache_dir() / "pairs", progress=read)
    return SearchContext(opened, space, device, pairs, options.vgg_file, is_new=False)


def _vgg(recipe: Recipe, options: SearchOptions) -> str | None:
    """Return the digest of VGG-19's weights where they take part, once they have been read and found good."""
    vgg_weights.needed(recipe, options.vgg_file)
    return vgg_weights.used(recipe, options.vgg_file)


# How the command line says that there is none of something; a study says nothing then.
_NONE = {"final_steps": 0, "max_runtime_ms": math.inf, "max_memory_mb": math.inf}


def _changed(what: str, recorded: str, now: str, name: str, *, of: str = "the study") -> str:
    return "" if recorded == now else f"{what} {name} has content {now}, {of} has {recorded}"


def _plain_options(options: SearchOptions) -> dict[str, Any]:
    elsewhere = ("study", "data", "device", "space", "vgg_file", "prior", "recipe", "backend", "recorded")
    names = [f.name for f in fields(SearchOptions) if f.name not in elsewhere]
    given = {name: value for name in names if (value := getattr(options, name)) is not None}
    return {name: None if value == _NONE.get(name) else value for name, value in given.items()}


def _other_prior(options: SearchOptions, config: StudyConfig) -> str:
    if isinstance(options.prior, tuple):
        same = options.prior == config.prior
        return "" if same else f"prior {', '.join(options.prior) or 'none'}, the study has {', '.join(config.prior)}"
    if options.prior in (None, "auto") or not config.prior:  # where nothing was learned elsewhere, auto is none, too
        return ""
    return f"--prior {options.prior}, the study has {', '.join(config.prior)}"


def _other_recipe(options: SearchOptions, config: StudyConfig) -> str:
    """Compare a whole recipe; fields that were given beside it are compared by name."""
    if options.recipe is None:
        return ""
    wanted = options.recipe.changed(**_recipe_options(options), total_steps=config.recipe.total_steps)
    names = [each.name for each in fields(Recipe) if getattr(wanted, each.name) != getattr(config.recipe, each.name)]
    return f"recipe with other {' and '.join(names)}" if names else ""


def _differs(name: str, value: object, config: StudyConfig) -> str:
    recorded = getattr(config.recipe, name) if hasattr(config.recipe, name) else getattr(config, name)
    if recorded == value:
        return ""
    wanted, has = (_written(_NONE.get(name) if each is None else each) for each in (value, recorded))
    return f"--{_flag(name)} {wanted}, the study has {has}"


def _flag(name: str) -> str:
    if name == "precision":
        return "dtype"
    return name.removesuffix("_ms").removesuffix("_mb").replace("_", "-")


def _written(value: object) -> str:
    """Return a setting as it is typed on the command line."""
    if isinstance(value, dict):
        return ",".join(f"{name}={weight:g}" for name, weight in value.items())
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
