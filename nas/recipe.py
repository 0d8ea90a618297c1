"""How a candidate is trained: loss, learning rate, batch, patch. Plain data, read and checked before anything runs."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from search_spaces.errors import UnknownNameError, UsageError

# The keys of `nas.losses.LOSSES`, repeated so that checking a recipe does not load JAX; a test holds them equal.
LOSS_NAMES = ("l1", "charbonnier", "mse", "smooth_l1", "ssim", "ms_ssim")


@dataclass(frozen=True)
class Recipe:
    """Adam with a cosine decay to zero over `horizon` steps.

    Searches train briefly, so the learning rate is above the challenge's (1e-4 … 1e-3, report §4): over 300 steps,
    3e-3 gave Smallnet and CSANet the best validation PSNR of 1e-3, 3e-3 and 1e-2 on the demo set and on real pairs.
    Patches of 64 gave the PSNR of patches of 128 in a third of the time on a CPU.
    """

    loss: dict[str, float] = field(default_factory=lambda: {"l1": 1.0})
    learning_rate: float = 3e-3
    batch: int = 4
    patch: int = 64  # pixels of the mosaic
    horizon: int = 1000  # steps after which the learning rate is zero: the top rung of a search

    def __post_init__(self) -> None:
        _check_loss(self.loss)
        if not (math.isfinite(self.learning_rate) and 0 < self.learning_rate <= 1):
            raise UsageError(f"The learning rate must lie in (0, 1], got {self.learning_rate}.")
        if self.batch < 1:
            raise UsageError(f"The batch needs at least one pair, got {self.batch}.")
        if self.patch < 16 or self.patch % 4:
            raise UsageError(f"The patch must be a multiple of 4 of at least 16 pixels, got {self.patch}.")
        if self.horizon < 1:
            raise UsageError(f"Training needs at least one step, got {self.horizon}.")

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as plain data."""
        return asdict(self)


def _check_loss(loss: dict[str, float]) -> None:
    for name, weight in loss.items():
        if name not in LOSS_NAMES:
            raise UnknownNameError("loss", name, LOSS_NAMES)
        if not (math.isfinite(weight) and weight >= 0):
            raise UsageError(f"The weight of loss {name} must be zero or more, got {weight}.")
    if not any(loss.values()):
        raise UsageError("At least one loss needs a weight above zero.")


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
