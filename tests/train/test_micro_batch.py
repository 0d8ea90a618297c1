"""A batch taken a few images at a time is the same step, and how many that are follows from the network."""

from collections.abc import Iterator
from dataclasses import replace

import jax
import numpy as np
import pytest

from nas.data.raw_format import RawFormat
from nas.train import loop, micro_batch
from nas.train import step as train_step
from nas.train.losses import adversarial
from nas.train.micro_batch import images_at_once
from nas.train.recipe import Recipe
from nas.train.registry import LOSSES
from nas.train.step import Constants, State, StepPlan
from search_spaces.designs import DESIGNS
from search_spaces.networks import build_graph
from search_spaces.spec import ArchSpec

SPEC = ArchSpec(width=4, attention="channel", normalisation="instance")
RECIPE = Recipe(batch=6, patch=64, total_steps=9)
# All at once, for each is told apart: a step of its own for every loss is mostly the compiler's time. Multi-scale SSIM
# needs patches so large that it is a test of its own.
PIXEL = {name: 1.0 for name, loss in LOSSES.items() if loss.function and name != "ms_ssim"}
# Gradients are sums of some thousand float32 terms in another order.
RELATIVE = 2e-4


@pytest.fixture(autouse=True)
def one_core(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(micro_batch, "usable_cores", lambda: 1)
    yield
    train_step.executable.cache_clear()  # steps of another discriminator and of parts of other sizes are nobody else's


def after_a_step(recipe: Recipe, at_once: int, monkeypatch: pytest.MonkeyPatch) -> tuple[State, dict[str, float]]:
    monkeypatch.setattr(train_step, "images_at_once", lambda *_, **__: at_once)
    graph, plan = build_graph(SPEC), StepPlan.of(recipe)
    start = train_step.ready(graph, loop.start(graph, seed=0, spec_hash=""), plan, seed=0)
    state = train_step.state_of(graph, start, plan)
    rng, half = np.random.default_rng(0), recipe.patch // 2
    raw = rng.integers(0, 1024, (recipe.batch, half, half, 4), dtype=np.uint16)
    rgb = rng.integers(0, 256, (recipe.batch, recipe.patch, recipe.patch, 3), dtype=np.uint8)
    train_step.executable.cache_clear()
    step, _ = train_step.compiled_step(graph, plan)
    state, terms = step(state, raw, rgb, np.float32(1e-3), Constants.of(recipe, RawFormat(), {}))
    return state, {name: float(value) for name, value in terms.items()}


def assert_near(moments: object, expected: object) -> None:
    """Compare; a bias in front of an instance norm has a gradient of zero, and so only rounding."""
    ours, theirs = (np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]) for tree in (moments, expected))
    np.testing.assert_allclose(ours, theirs, rtol=RELATIVE, atol=RELATIVE * float(np.abs(theirs).max()))


def test_a_batch_in_parts_is_the_same_step(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = replace(RECIPE, loss=PIXEL, clip_norm=1.0)
    (whole, terms), (parts, terms_of_parts) = (after_a_step(recipe, n, monkeypatch) for n in (6, 2))
    assert terms.keys() >= PIXEL.keys()
    assert terms_of_parts == pytest.approx(terms, rel=1e-5)
    assert_near(parts.adam.mu, whole.adam.mu)


def test_a_batch_in_parts_is_the_same_step_of_the_discriminator(monkeypatch: pytest.MonkeyPatch) -> None:
    thin = tuple((4, side, stride) for _, side, stride in adversarial._CONVOLUTIONS)
    monkeypatch.setattr(adversarial, "_CONVOLUTIONS", thin)
    recipe = replace(RECIPE, batch=2, patch=32, loss={"l1": 1.0, "texture": 0.1}, clip_norm=1.0)
    (whole, terms), (parts, terms_of_parts) = (after_a_step(recipe, n, monkeypatch) for n in (2, 1))
    assert terms_of_parts == pytest.approx(terms, rel=1e-5)
    assert_near(parts.adam.mu, whole.adam.mu)
    assert whole.discriminator_adam is not None
    assert parts.discriminator_adam is not None
    assert_near(parts.discriminator_adam.mu, whole.discriminator_adam.mu)


def test_ms_ssim_in_parts_is_the_same_step(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = replace(RECIPE, patch=176, batch=2, loss={"ms_ssim": 1.0})
    (_, whole), (_, parts) = (after_a_step(recipe, n, monkeypatch) for n in (2, 1))
    assert parts == pytest.approx(whole, rel=1e-5)


def test_few_weights_take_one_image_and_many_take_more() -> None:
    small, large = (build_graph(DESIGNS[name].spec) for name in ("smallnet", "tuned-unet"))
    assert images_at_once(small, batch=16, patch=128) == 1
    assert images_at_once(large, batch=16, patch=128) == 8


def test_a_batch_of_a_search_is_one_pass() -> None:
    assert images_at_once(build_graph(DESIGNS["smallnet"].spec), batch=4, patch=64) == 4


def test_more_cores_take_more_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(micro_batch, "usable_cores", lambda: 4)
    assert images_at_once(build_graph(DESIGNS["smallnet"].spec), batch=16, patch=128) == 4


def test_a_batch_without_a_fitting_divisor_is_one_pass() -> None:
    assert images_at_once(build_graph(DESIGNS["smallnet"].spec), batch=7, patch=64) == 7


def test_a_graphics_card_takes_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(micro_batch.backend, "expected", lambda: "gpu")
    assert images_at_once(build_graph(DESIGNS["smallnet"].spec), batch=16, patch=128) == 16
