"""Losses and schedules by name, and what each needs, without computing any: a recipe is checked before JAX is loaded.

A new one is an entry here and the function that it names.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pkgutil import resolve_name
from typing import Any, Literal


@dataclass(frozen=True)
class Loss:
    """One loss: on pixels alone by a function, or with a network of its own, which `nas.train.step` brings along."""

    function: str | None  # "module:function" of prediction and target, both [n, h, w, c]
    least_patch: int = 0  # pixels

    @cached_property
    def compute(self) -> Callable[[Any, Any], Any]:
        """The function; imports JAX."""
        assert self.function is not None
        function: Callable[[Any, Any], Any] = resolve_name(self.function)
        return function


LOSSES = {
    "l1": Loss("nas.train.losses.pixel:l1"),
    "charbonnier": Loss("nas.train.losses.pixel:charbonnier"),
    "mse": Loss("nas.train.losses.pixel:mse"),
    "smooth_l1": Loss("nas.train.losses.pixel:smooth_l1"),
    "ssim": Loss("nas.train.losses.pixel:ssim"),
    "ms_ssim": Loss("nas.train.losses.pixel:ms_ssim"),
    "colour": Loss("nas.train.losses.pixel:colour"),
    "tv": Loss("nas.train.losses.pixel:tv"),
    "vgg": Loss(None),  # how small a patch may be depends on the layer
    # Maps of one pixel are zero once normalised, whatever the picture: that is below 17 pixels. From 32 on the
    # discriminator's last maps have four.
    "texture": Loss(None, least_patch=32),
}


@dataclass(frozen=True)
class Schedule:
    """How the learning rate falls, and what a recipe has to say of it."""

    rule: str  # "module:function" of the recipe and the steps after the warm-up; Optax's schedule
    final: Literal["none", "optional", "needed"] = "optional"  # the final_learning_rate
    drops: bool = False  # takes drop_every and drop_factor

    def build(self, recipe: Any, steps: int) -> Any:
        """Return Optax's schedule; imports it."""
        return resolve_name(self.rule)(recipe, steps)


SCHEDULES = {
    "cosine": Schedule("nas.train.schedules:cosine"),
    "constant": Schedule("nas.train.schedules:constant", final="none"),
    "exponential": Schedule("nas.train.schedules:exponential", final="needed"),
    "step": Schedule("nas.train.schedules:step", final="none", drops=True),
}
