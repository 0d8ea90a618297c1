"""Training settings as plain data, validated before anything runs: losses, learning rate, batch, patch."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, ClassVar

from nas.data.flips import FLIPS
from nas.train.registry import LOSSES, SCHEDULES
from search_spaces.errors import UnknownNameError, UsageError
from search_spaces.initialisers import INITIALISERS

MUON = "muon"
OPTIMISERS = ("adam", "adamw", MUON)
MOST_STEPS = 100_000_000  # the learning rates of all steps are kept
DTYPES = ("float32", "bfloat16")
# The layers of VGG-19 whose output may be compared, each behind the rectifier of its convolution, the shallowest first.
VGG_LAYERS = tuple(f"relu{block}_{n}" for block, count in enumerate((2, 2, 4, 4, 4), 1) for n in range(1, count + 1))

# How search, train and audit train unless something else is asked for; the fields of `Recipe` have the values that held
# before these existed, which is what older studies mean.
#
# Muon (`nas.train.muon`) because it shows early what a network is worth. results/training/README.md compares it with
# Adam and these values with others: at a rate of 0.03 small networks gain a little more, but CSANet stayed 2.7 dB
# behind on real pairs from three trainings of four (2700 steps); with Xavier's first kernels instead of He's, and three
# tenths of the rate instead of one for Adam's share, all four networks tried gained on both data sets. A rate for 900
# steps is too much for 24 300: lowered by the root of the length, twelve of sixteen trainings of eight designs gained,
# by 1.7 dB in the median on real pairs and 5.3 at most, and 0.8 was the most that one lost.
DEFAULTS: dict[str, Any] = {
    "optimiser": MUON,
    "learning_rate": 2e-2,
    "full_rate_steps": 2000,
    "vector_rate": 0.3,
    "average_share": 0.1,
    "initialiser": "xavier",
}

# On a CPU many small patches: as many pixels as four of 64, but of four times as many pairs. After 2700 steps CSANet
# gained 2.8 dB on real pairs, ISP-forever 1.3 and Smallnet 0.3, at the same time per step (results/training/README.md).
# A GPU would be idle during most of such a step.
HARDWARE_RECIPE: dict[str, dict[str, Any]] = {
    "cpu": {**DEFAULTS, "batch": 16, "patch": 32},
    "gpu": {**DEFAULTS, "batch": 16, "patch": 128},
}


_STORED_AS = {"total_steps": "horizon"}


def stored_name(field_name: str) -> str:
    """Return what files and messages call a field of a recipe."""
    return _STORED_AS.get(field_name, field_name)


@dataclass(frozen=True)
class LossPhase:
    """Losses with weights that take over at a step and hold until the next phase."""

    from_step: int
    loss: dict[str, float]


@dataclass(frozen=True)
class Recipe:
    """Adam with a cosine decay to zero over `total_steps`, unless something else is asked for (see `DEFAULTS`)."""

    __pydantic_config__: ClassVar = {"extra": "forbid", "allow_inf_nan": False, "alias_generator": stored_name}

    loss: dict[str, float] = field(default_factory=lambda: {"l1": 1.0})
    learning_rate: float = 3e-3
    # Of trainings of up to so many steps; longer ones take less by the root of how much longer they are. 0: all alike.
    full_rate_steps: int = 0
    batch: int = 4
    patch: int = 64  # pixels of the mosaic
    total_steps: int = 1000  # steps after which the learning rate is the final one: the top rung of a search
    phases: tuple[LossPhase, ...] = ()  # what follows `loss`, in order
    optimiser: str = "adam"
    # Of muon: the rate of what it leaves to Adam (biases, slopes, normalisations), as a share of the learning rate.
    vector_rate: float = 1.0
    schedule: str = "cosine"
    final_learning_rate: float = 0.0  # at the last step; constant and step schedules have none
    warmup: int = 0  # steps over which the learning rate first rises, in a line from zero; the schedule follows
    drop_every: int = 0  # of a step schedule: after so many steps the rate is multiplied by drop_factor, and again
    drop_factor: float = 0.0
    weight_decay: float = 0.0  # of AdamW, on kernels alone
    clip_norm: float = 0.0  # gradients whose joint norm is larger are scaled down to it; 0: never
    ema: float = 0.0  # decay of the moving average of the weights, which is what is judged and kept; 0: no average
    average_share: float = 0.0  # average over about the last so many of all steps done, instead of a fixed decay
    precision: str = "float32"  # of maps and products; weights, their moments and losses are always float32
    vgg_layer: str = "relu5_4"  # whose features the loss vgg compares
    initialiser: str = "he"
    flip: str = "both"  # none, horizontal (left and right), or both directions
    rotate: bool = True  # by 90, 180 and 270 degrees
    reparameterise: bool = False  # train every kernel as a sum of branches (`nas.train.branches`)

    def __post_init__(self) -> None:
        _check_loss(self.loss)
        _check_phases(self.phases, self.total_steps)
        if not (math.isfinite(self.learning_rate) and 0 < self.learning_rate <= 1):
            raise UsageError(f"The learning rate must lie in (0, 1], got {self.learning_rate}.")
        if self.batch < 1:
            raise UsageError(f"The batch needs at least one pair, got {self.batch}.")
        if self.patch < 16 or self.patch % 4:
            raise UsageError(f"The patch must be a multiple of 4 of at least 16 pixels, got {self.patch}.")
        if not 1 <= self.total_steps <= MOST_STEPS:
            raise UsageError(f"Training takes 1 to {MOST_STEPS} steps, got {self.total_steps}.")
        for name, legal in _NAMED.items():
            if getattr(self, name) not in legal:
                raise UnknownNameError(_CALLED.get(name, name), getattr(self, name), legal)
        _check_rates(self)
        _check_optimiser(self)
        _check_patch(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as plain data, to be read back by `from_dict`."""
        data = {**asdict(self), "phases": [asdict(phase) for phase in self.phases]}
        return {stored_name(name): value for name, value in data.items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Recipe":
        """Read what `to_dict` wrote, now or before a field existed: a missing one has its default.

        Raises UnknownNameError for a key that no recipe has.
        """
        known = {stored_name(f.name): f.name for f in fields(cls)}
        for name in data:
            if name not in known:
                raise UnknownNameError("key of a recipe:", name, known)
        values = {known[name]: value for name, value in data.items()}
        return cls(**{**values, "phases": tuple(LossPhase(**phase) for phase in data.get("phases", ()))})

    def changed(self, **options: Any) -> "Recipe":
        """Return this recipe with some fields changed.

        Another loss is that of the whole training; another learning rate holds for any number of steps, and takes the
        final one along in proportion.
        """
        if "loss" in options:
            options = {"phases": (), **options}
        if "learning_rate" in options:
            options = {"full_rate_steps": 0, **options}
        if "learning_rate" in options and self.final_learning_rate:
            share = self.final_learning_rate / self.learning_rate
            options = {"final_learning_rate": share * options["learning_rate"], **options}
        return replace(self, **options)

    def scaled(self, steps: int) -> "Recipe":
        """Return this recipe for another number of steps: phases, warm-up and drops take the same shares of them.

        Raises UsageError where the steps are too few for every phase to have one.
        """
        count = len(self.phases)
        if count and steps <= count:
            raise UsageError(
                f"A recipe of {count + 1} phases needs at least {count + 1} steps, got {steps}; give more."
            )
        starts: list[int] = []
        following = steps
        for number, phase in zip(range(count, 0, -1), reversed(self.phases), strict=True):
            following = max(number, min(phase.from_step * steps // self.total_steps, following - 1))
            starts.append(following)
        starts.reverse()
        phases = tuple(replace(p, from_step=start) for p, start in zip(self.phases, starts, strict=True))
        warmup = self.warmup * steps // self.total_steps
        drop_every = max(1, self.drop_every * steps // self.total_steps) if self.drop_every else 0
        return replace(self, total_steps=steps, phases=phases, warmup=warmup, drop_every=drop_every)

    def during(self, step: int) -> "Recipe":
        """Return this recipe with the losses of `step` for the whole training."""
        started = [phase.loss for phase in self.phases if phase.from_step <= step]
        return replace(self, loss=started[-1] if started else self.loss, phases=())

    @property
    def peak_rate(self) -> float:
        """The learning rate behind the warm-up: lower for trainings of more than `full_rate_steps`."""
        if not self.full_rate_steps:
            return self.learning_rate
        return self.learning_rate * min(1.0, math.sqrt(self.full_rate_steps / self.total_steps))

    @property
    def averages(self) -> bool:
        """Whether a moving average of the weights is what is judged and kept."""
        return self.ema > 0 or self.average_share > 0

    def uses(self, loss: str) -> bool:
        """Tell whether this loss takes part at any step."""
        return any(losses.get(loss, 0) > 0 for losses in (self.loss, *(phase.loss for phase in self.phases)))


_CALLED = {"precision": "dtype"}  # fields that options call otherwise
# The keys of a recipe in the order in which they came to be: what has one of a line has all of the lines above it.
GENERATIONS = (
    ("loss", "learning_rate", "batch", "patch", "horizon"),
    ("phases", "optimiser", "schedule", "final_learning_rate", "initialiser", "flip", "rotate"),
    ("warmup", "drop_every", "drop_factor", "weight_decay", "clip_norm", "ema", "precision", "vgg_layer"),
    ("vector_rate", "average_share"),
    ("reparameterise",),
    ("full_rate_steps",),
)


def require_whole(data: Mapping[str, Any]) -> None:
    """Raise ValueError where a stored recipe lacks a key that it had when it was written.

    A recipe from before a key existed lacks it rightly, and means its default.
    """
    newest = max((n for n, names in enumerate(GENERATIONS) if any(name in data for name in names)), default=0)
    for name in (name for names in GENERATIONS[: newest + 1] for name in names):
        if name not in data:
            raise ValueError(f'the key "{name}" of the recipe is missing')


_NAMED = {
    "optimiser": OPTIMISERS,
    "schedule": tuple(SCHEDULES),
    "initialiser": INITIALISERS,
    "flip": FLIPS,
    "precision": DTYPES,
    "vgg_layer": VGG_LAYERS,
}


def _check_loss(loss: dict[str, float]) -> None:
    for name, weight in loss.items():
        if name not in LOSSES:
            raise UnknownNameError("loss", name, LOSSES)
        if not (math.isfinite(weight) and weight >= 0):
            raise UsageError(f"The weight of loss {name} must be zero or more, got {weight}.")
    if not any(loss.values()):
        raise UsageError("At least one loss needs a weight above zero.")


def _check_phases(phases: tuple[LossPhase, ...], total_steps: int) -> None:
    after = 0
    for phase in phases:
        _check_loss(phase.loss)
        if not after < phase.from_step < total_steps:
            raise UsageError(
                f"The from_step of a phase must lie after {after}, where the phase before starts, and before the end "
                f"at {total_steps}; got {phase.from_step}."
            )
        after = phase.from_step


def _check_rates(recipe: Recipe) -> None:
    final, schedule = recipe.final_learning_rate, SCHEDULES[recipe.schedule]
    if schedule.final == "none" and final:
        raise UsageError(f"The {recipe.schedule} schedule takes no final_learning_rate, got {final}; leave it out.")
    if not (math.isfinite(final) and 0 <= final <= recipe.learning_rate):
        raise UsageError(
            f"The final_learning_rate must lie in [0, {recipe.learning_rate}], the learning rate, got {final}."
        )
    if schedule.final == "needed" and not final:
        raise UsageError(f"The {recipe.schedule} schedule needs a final_learning_rate above zero, got 0.")
    if recipe.full_rate_steps < 0:
        raise UsageError(f"The full_rate_steps are zero (one rate for all) or more, got {recipe.full_rate_steps}.")
    if not 0 <= recipe.warmup < recipe.total_steps:
        raise UsageError(f"The warmup must be shorter than the {recipe.total_steps} steps, got {recipe.warmup}.")
    drops = f"drop_every {recipe.drop_every} and drop_factor {recipe.drop_factor}"
    if schedule.drops and not (recipe.drop_every >= 1 and 0 < recipe.drop_factor < 1):
        raise UsageError(
            f"The {recipe.schedule} schedule needs drop_every of one or more and drop_factor in (0, 1), got {drops}."
        )
    if not schedule.drops and (recipe.drop_every or recipe.drop_factor):
        dropping = " or ".join(name for name, each in SCHEDULES.items() if each.drops)
        raise UsageError(f"Only a {dropping} schedule drops, this one is {recipe.schedule}; leave out {drops}.")


def _check_optimiser(recipe: Recipe) -> None:
    decay = recipe.weight_decay
    if recipe.optimiser == "adamw" and not (math.isfinite(decay) and decay > 0):
        raise UsageError(f"AdamW needs a weight_decay above zero, such as 1e-4, got {decay}.")
    if recipe.optimiser != "adamw" and decay:
        raise UsageError(f'Only the optimiser "adamw" decays weights, this one is {recipe.optimiser}; got {decay}.')
    if not (math.isfinite(recipe.clip_norm) and recipe.clip_norm >= 0):
        raise UsageError(f"The clip_norm must be zero (no clipping) or more, got {recipe.clip_norm}.")
    if not 0 < recipe.vector_rate <= 1:
        raise UsageError(f"The vector_rate is a share of the learning rate in (0, 1], got {recipe.vector_rate}.")
    if recipe.optimiser != "muon" and recipe.vector_rate != 1:
        raise UsageError(f'Only the optimiser "muon" has a vector_rate, this one is {recipe.optimiser}; leave it out.')
    if not 0 <= recipe.average_share < 1:
        raise UsageError(f"The average_share must lie in [0, 1), got {recipe.average_share}.")
    if recipe.ema and recipe.average_share:
        raise UsageError("Weights are averaged by ema or by average_share, not by both; leave one of them out.")
    if not 0 <= recipe.ema < 1:
        raise UsageError(f"The decay of the weights' average, ema, must lie in [0, 1), got {recipe.ema}.")


def _check_patch(recipe: Recipe) -> None:
    for name, loss in LOSSES.items():
        if recipe.uses(name) and recipe.patch < loss.least_patch:
            raise UsageError(
                f"The loss {name} judges patches of {loss.least_patch} pixels or more, got {recipe.patch}; "
                "choose a larger --patch."
            )


def parse_loss(text: str) -> dict[str, float]:
    """Read `l1=1,ssim=0.2` (or `l1`, weight one); raise UsageError for anything else."""
    loss: dict[str, float] = {}
    for part in text.split(","):
        name, given, weight = part.strip().partition("=")
        if name in loss:
            raise UsageError(f'Loss {name} is named twice in "{text}"; give it one weight.')
        try:
            loss[name] = float(weight) if given else 1.0
        except ValueError:
            raise UsageError(f'A loss is written name=weight, such as "l1=1,ssim=0.2"; got "{text}".') from None
    _check_loss(loss)
    return loss
