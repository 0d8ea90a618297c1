"""How a candidate is trained: losses, learning rate, batch, patch. Plain data, checked before anything runs."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from search_spaces.errors import UnknownNameError, UsageError

# The keys of `nas.losses.LOSSES`, repeated so that checking a recipe does not load JAX; a test holds them equal.
LOSS_NAMES = ("l1", "charbonnier", "mse", "smooth_l1", "ssim", "ms_ssim", "colour", "tv")
# Terms of the challenge's teams that a recipe may name and that training refuses until they exist.
LOSSES_TO_COME = ("vgg", "texture")
OPTIMISERS = ("adam",)
SCHEDULES = ("cosine", "constant", "exponential")
INITIALISERS = ("he", "xavier")
FLIPS = ("none", "horizontal", "both")


@dataclass(frozen=True)
class LossPhase:
    """Losses with weights that take over at a step and hold until the next phase."""

    from_step: int
    loss: dict[str, float]


@dataclass(frozen=True)
class Recipe:
    """Adam with a cosine decay to zero over `horizon` steps, unless another schedule is asked for.

    Searches train briefly, so the learning rate is above the challenge's (1e-4 … 1e-3, report §4): over 300 steps,
    3e-3 gave Smallnet and CSANet the best validation PSNR of 1e-3, 3e-3 and 1e-2 on the demo set and on real pairs.
    Patches of 64 gave the PSNR of patches of 128 in a third of the time on a CPU.
    """

    loss: dict[str, float] = field(default_factory=lambda: {"l1": 1.0})
    learning_rate: float = 3e-3
    batch: int = 4
    patch: int = 64  # pixels of the mosaic
    horizon: int = 1000  # steps after which the learning rate is the final one: the top rung of a search
    phases: tuple[LossPhase, ...] = ()  # what follows `loss`, in order
    optimiser: str = "adam"
    schedule: str = "cosine"
    final_learning_rate: float = 0.0  # at the horizon; a constant schedule has none
    initialiser: str = "he"
    flip: str = "both"  # none, horizontal (left and right), or both directions
    rotate: bool = True  # by 90, 180 and 270 degrees

    def __post_init__(self) -> None:
        _check_loss(self.loss)
        _check_phases(self.phases, self.horizon)
        if not (math.isfinite(self.learning_rate) and 0 < self.learning_rate <= 1):
            raise UsageError(f"The learning rate must lie in (0, 1], got {self.learning_rate}.")
        if self.batch < 1:
            raise UsageError(f"The batch needs at least one pair, got {self.batch}.")
        if self.patch < 16 or self.patch % 4:
            raise UsageError(f"The patch must be a multiple of 4 of at least 16 pixels, got {self.patch}.")
        if self.horizon < 1:
            raise UsageError(f"Training needs at least one step, got {self.horizon}.")
        for name, legal in _NAMED.items():
            if getattr(self, name) not in legal:
                raise UnknownNameError(name, getattr(self, name), legal)
        _check_final_rate(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as plain data, to be read back by `from_dict`."""
        return {**asdict(self), "phases": [asdict(phase) for phase in self.phases]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Recipe":
        """Read what `to_dict` wrote, now or before a field existed: a missing one has its default.

        Raises UnknownNameError for a key that no recipe has.
        """
        known = [f.name for f in fields(cls)]
        for name in data:
            if name not in known:
                raise UnknownNameError("key of a recipe:", name, known)
        return cls(**{**data, "phases": tuple(LossPhase(**phase) for phase in data.get("phases", ()))})

    def changed(self, **options: Any) -> "Recipe":
        """Return this recipe with some fields changed.

        Another loss is that of the whole training; another learning rate takes the final one along in proportion.
        """
        if "loss" in options:
            options = {"phases": (), **options}
        if "learning_rate" in options and self.final_learning_rate:
            share = self.final_learning_rate / self.learning_rate
            options = {"final_learning_rate": share * options["learning_rate"], **options}
        return replace(self, **options)

    def scaled(self, steps: int) -> "Recipe":
        """Return this recipe for another number of steps, its phases taking the same shares of them.

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
            following = max(number, min(phase.from_step * steps // self.horizon, following - 1))
            starts.append(following)
        starts.reverse()
        phases = tuple(replace(p, from_step=start) for p, start in zip(self.phases, starts, strict=True))
        return replace(self, horizon=steps, phases=phases)

    def during(self, step: int) -> "Recipe":
        """Return this recipe with the losses of `step` for the whole training."""
        started = [phase.loss for phase in self.phases if phase.from_step <= step]
        return replace(self, loss=started[-1] if started else self.loss, phases=())

    def require_available(self) -> None:
        """Raise UsageError where a loss takes part that cannot be computed yet."""
        require_available(name for loss in self._losses() for name, weight in loss.items() if weight > 0)

    def _losses(self) -> list[dict[str, float]]:
        return [self.loss, *(phase.loss for phase in self.phases)]


_NAMED = {"optimiser": OPTIMISERS, "schedule": SCHEDULES, "initialiser": INITIALISERS, "flip": FLIPS}


def require_available(losses: Iterable[str]) -> None:
    """Raise UsageError where one of the named losses cannot be computed yet."""
    named = set(losses)
    missing = [name for name in LOSSES_TO_COME if name in named]
    if missing:
        raise UsageError(
            f"{'Loss' if len(missing) == 1 else 'Losses'} {' and '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not available yet; choose another loss with --loss "
            f"(of {', '.join(LOSS_NAMES)}) or another recipe."
        )


def _check_loss(loss: dict[str, float]) -> None:
    for name, weight in loss.items():
        if name not in (*LOSS_NAMES, *LOSSES_TO_COME):
            raise UnknownNameError("loss", name, (*LOSS_NAMES, *LOSSES_TO_COME))
        if not (math.isfinite(weight) and weight >= 0):
            raise UsageError(f"The weight of loss {name} must be zero or more, got {weight}.")
    if not any(loss.values()):
        raise UsageError("At least one loss needs a weight above zero.")


def _check_phases(phases: tuple[LossPhase, ...], horizon: int) -> None:
    after = 0
    for phase in phases:
        _check_loss(phase.loss)
        if not after < phase.from_step < horizon:
            raise UsageError(
                f"The from_step of a phase must lie after {after}, where the phase before starts, and before the end "
                f"at {horizon}; got {phase.from_step}."
            )
        after = phase.from_step


def _check_final_rate(recipe: Recipe) -> None:
    final = recipe.final_learning_rate
    if recipe.schedule == "constant" and final:
        raise UsageError(f"A constant schedule takes no final_learning_rate, got {final}; leave it out.")
    if not (math.isfinite(final) and 0 <= final <= recipe.learning_rate):
        raise UsageError(
            f"The final_learning_rate must lie in [0, {recipe.learning_rate}], the learning rate, got {final}."
        )
    if recipe.schedule == "exponential" and not final:
        raise UsageError("An exponential schedule needs a final_learning_rate above zero, got 0.")


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
    require_available(name for name, weight in loss.items() if weight > 0)
    return loss
