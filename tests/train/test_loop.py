"""Training goes on bit for bit, compiles once for all recipes of a shape, and stops when the loss leaves the road."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nas.data.pairs import PairSet, open_prepared
from nas.data.raw_format import RawFormat
from nas.train import branches, checkpoint, muon
from nas.train.checkpoint import Arrays, Checkpoint
from nas.train.loop import CALMER, CHECK_EVERY, DIVERGED, LossWatch, start, train
from nas.train.recipe import INITIALISERS, LossPhase, Recipe
from nas.train.step import StepPlan, compiled_step, executable
from search_spaces import lower_flax
from search_spaces.errors import TrainingError
from search_spaces.networks import build_graph
from search_spaces.ops import Conv
from search_spaces.spec import ArchSpec

# Every kind of trained array: kernels of all three convolutions, biases, and PReLU's slopes.
SPEC = ArchSpec(width=4, scale=4, attention="spatial", activation="prelu")
GRAPH = build_graph(SPEC)
RECIPE = Recipe(batch=2, patch=32, total_steps=12)
SEED = 0
TOO_HIGH = 0.3  # a learning rate at which RECIPE diverges; a third of it does not


@pytest.fixture(scope="module")
def pairs(prepared_tiny: Path) -> PairSet:
    return open_prepared(prepared_tiny, "train")


def fresh(seed: int = SEED) -> Checkpoint:
    return start(GRAPH, seed=seed, spec_hash=SPEC.hash)


def run(state: Checkpoint, pairs: PairSet, steps: int, recipe: Recipe = RECIPE) -> Checkpoint:
    return train(GRAPH, state, pairs, recipe=recipe, steps=steps, seed=SEED).checkpoint


@pytest.fixture(scope="module")
def straight(pairs: PairSet) -> Checkpoint:
    """Twelve steps without a stop."""
    return run(fresh(), pairs, 12)


def arrays_of(state: Checkpoint) -> Arrays:
    parts = ("parameters", "first_moment", "second_moment", "average", "discriminator", "discriminator_second_moment")
    return {f"{part}:{name}": array for part in parts for name, array in getattr(state, part).items()}


def differing(a: Checkpoint, b: Checkpoint) -> list[str]:
    mine, theirs = arrays_of(a), arrays_of(b)
    assert mine.keys() == theirs.keys()
    return [name for name in mine if not np.array_equal(mine[name], theirs[name], equal_nan=True)]


# The same bits


@pytest.mark.parametrize("first", [5, 10])
def test_training_continues_bit_for_bit_from_a_file(
    pairs: PairSet, straight: Checkpoint, tmp_path: Path, first: int
) -> None:
    checkpoint.save(run(fresh(), pairs, first), tmp_path / "state")
    continued = run(checkpoint.load(tmp_path / "state"), pairs, 12)
    assert differing(continued, straight) == []
    assert (continued.step, continued.spec_hash) == (12, SPEC.hash)
    assert (continued.first_loss, continued.loss) == (straight.first_loss, straight.loss)


def test_the_same_seed_trains_the_same_network(pairs: PairSet, straight: Checkpoint) -> None:
    assert differing(run(fresh(), pairs, 12), straight) == []


def test_training_moves_every_array(straight: Checkpoint) -> None:
    assert len(differing(straight, fresh())) == 3 * len(GRAPH.parameter_shapes)


def test_the_first_state_is_a_function_of_the_seed() -> None:
    assert differing(fresh(), fresh()) == []
    assert differing(fresh(), fresh(SEED + 1)) == [
        f"parameters:{name}" for name in GRAPH.parameter_shapes if name.endswith("/kernel")
    ]
    assert {name: array.shape for name, array in fresh().parameters.items()} == GRAPH.parameter_shapes
    assert fresh().step == 0


def test_a_state_that_is_far_enough_is_not_trained(straight: Checkpoint, pairs: PairSet) -> None:
    trained = train(GRAPH, straight, pairs, recipe=RECIPE, steps=12, seed=SEED)
    assert trained.checkpoint is straight
    assert (trained.train_s, trained.compile_s) == (0.0, 0.0)


# Progress and ends


def test_the_tick_tells_steps_and_losses(pairs: PairSet, straight: Checkpoint) -> None:
    ticks: list[tuple[int, dict[str, float]]] = []
    recipe = replace(RECIPE, loss={"l1": 1.0, "mse": 2.0})
    trained = train(
        GRAPH,
        fresh(),
        pairs,
        recipe=recipe,
        steps=12,
        seed=SEED,
        tick=lambda step, terms: ticks.append((step, {**terms})),
    )
    assert [step for step, _ in ticks] == [CHECK_EVERY, 12]
    assert ticks[-1][1] == trained.terms
    assert trained.terms["loss"] == trained.checkpoint.loss
    for _, terms in ticks:
        assert terms["loss"] == pytest.approx(terms["l1"] + 2 * terms["mse"], rel=1e-5)


def test_the_loss_falls_on_the_tiny_pairs(pairs: PairSet) -> None:
    trained = run(fresh(), pairs, 150, replace(RECIPE, total_steps=150, learning_rate=1e-2))
    assert trained.loss < 0.6 * trained.first_loss


def test_a_loss_that_is_no_number_ends_the_training(pairs: PairSet) -> None:
    state = fresh()
    state.parameters["head/kernel"][0, 0, 0, 0] = np.nan
    with pytest.raises(TrainingError, match=r"not a number by step 10; a smaller learning rate may help"):
        run(state, pairs, 12)


def test_a_learning_rate_that_is_far_too_high_is_told_as_divergence(pairs: PairSet) -> None:
    with pytest.raises(TrainingError, match=r"The loss diverged: .* at step \d+, .* at the start"):
        run(fresh(), pairs, 12, replace(RECIPE, learning_rate=1.0))


def test_a_training_that_diverges_goes_on_at_a_lower_rate_and_says_so(pairs: PairSet, tmp_path: Path) -> None:
    high = replace(RECIPE, learning_rate=TOO_HIGH)
    calm = run(fresh(), pairs, 12, high)
    assert calm.rate_share == CALMER
    by_hand = run(fresh(), pairs, 12, replace(RECIPE, learning_rate=TOO_HIGH * CALMER))
    for name, value in by_hand.parameters.items():
        np.testing.assert_allclose(calm.parameters[name], value, rtol=1e-3, atol=1e-5)
    checkpoint.save(calm, tmp_path / "state")
    assert checkpoint.load(tmp_path / "state").rate_share == CALMER


def test_divergence_is_measured_from_the_first_loss_of_all_even_after_a_restart(
    pairs: PairSet, straight: Checkpoint
) -> None:
    longer = replace(RECIPE, total_steps=24)
    with pytest.raises(TrainingError, match="diverged"):
        run(replace(straight, first_loss=straight.loss / (2 * DIVERGED)), pairs, 13, longer)


def test_the_watch_looks_now_and_then_and_at_the_end() -> None:
    watch = LossWatch(math.inf, math.nan)
    seen: list[tuple[int, float]] = []
    for step in range(1, 13):
        terms = {"loss": jnp.asarray(13.0 - step)}
        watch.see(step, terms, lambda step, terms: seen.append((step, terms["loss"])), last=step == 12)
    assert seen == [(10, 7.5), (12, 1.5)]  # means of 12 … 3 and of 2, 1
    assert (watch.first, watch.latest) == (12.0, 1.5)


@pytest.mark.parametrize(("loss", "diverged"), [(DIVERGED * 0.99, False), (DIVERGED * 1.01, True)])
def test_a_mean_loss_of_three_times_the_first_is_the_bound(loss: float, diverged: bool) -> None:
    watch = LossWatch(1.0, math.nan)
    if not diverged:
        watch.see(1, {"loss": jnp.asarray(loss)}, None, last=True)
        assert watch.latest == pytest.approx(loss)
        return
    with pytest.raises(TrainingError, match="diverged"):
        watch.see(1, {"loss": jnp.asarray(loss)}, None, last=True)


def test_a_dark_first_batch_of_fine_tuning_is_no_divergence() -> None:
    watch = LossWatch(math.inf, math.nan, begins_trained=True)
    for step in range(1, 41):  # ten scenes, the first a third of the mean, and one look at bright ones alone
        loss = 0.01 if step % 10 == 1 else 0.033 if step <= 20 else 0.11 if step <= 30 else 0.03
        watch.see(step, {"loss": jnp.asarray(loss)}, None, last=False)
    assert watch.first == pytest.approx(0.0307)
    watch.see(50, {"loss": jnp.asarray(0.12)}, None, last=False)
    with pytest.raises(TrainingError, match="diverged"):
        watch.see(60, {"loss": jnp.asarray(0.12)}, None, last=False)


def test_a_divergence_that_a_lower_rate_does_not_mend_says_that_it_was_tried(pairs: PairSet) -> None:
    with pytest.raises(TrainingError, match=r"at the start\. So it did at 0\.33 of the rate\."):
        run(fresh(), pairs, 12, replace(RECIPE, learning_rate=1.0))


# Phases

PHASED = replace(RECIPE, phases=(LossPhase(6, {"l1": 1.0, "mse": 4.0}),))


def test_a_phase_takes_over_at_its_step(pairs: PairSet) -> None:
    assert differing(run(fresh(), pairs, 6, PHASED), run(fresh(), pairs, 6)) == []
    by_hand = run(run(fresh(), pairs, 6), pairs, 12, replace(RECIPE, loss=PHASED.phases[0].loss))
    assert differing(run(fresh(), pairs, 12, PHASED), by_hand) == []
    assert differing(by_hand, run(fresh(), pairs, 12)) != []


@pytest.mark.parametrize("first", [4, 6, 9])
def test_phased_training_continues_bit_for_bit(pairs: PairSet, first: int) -> None:
    straight = run(fresh(), pairs, 12, PHASED)
    continued = run(run(fresh(), pairs, first, PHASED), pairs, 12, PHASED)
    assert differing(continued, straight) == []


def test_losses_of_another_scale_are_no_divergence(pairs: PairSet) -> None:
    louder = replace(RECIPE, phases=(LossPhase(6, {"l1": 100.0}),))
    straight = run(fresh(), pairs, 12, louder)
    assert straight.first_loss > 30 * run(fresh(), pairs, 6).first_loss
    watch = LossWatch(1.0, 0.5)
    watch.expect_another_scale()
    watch.see(1, {"loss": jnp.asarray(50.0)}, None, last=True)
    assert watch.first == pytest.approx(100.0)
    with pytest.raises(TrainingError, match="diverged"):
        watch.see(2, {"loss": jnp.asarray(100.0 * DIVERGED * 1.01)}, None, last=True)


# Optimisers, clipping, averages and precision


def test_decaying_weights_shrink_kernels_alone(pairs: PairSet) -> None:
    one = {"recipe": replace(RECIPE, learning_rate=0.01), "steps": 1, "seed": SEED}
    decayed = replace(one["recipe"], optimiser="adamw", weight_decay=0.5)
    plain = train(GRAPH, fresh(), pairs, **one).checkpoint.parameters
    parameters = train(GRAPH, fresh(), pairs, **{**one, "recipe": decayed}).checkpoint.parameters
    for name, value in fresh().parameters.items():
        wanted = plain[name] - (0.01 * 0.5 * value if name.endswith("/kernel") else 0)
        np.testing.assert_allclose(parameters[name], wanted, rtol=1e-5, atol=1e-7)


def test_clipped_gradients_have_the_norm_of_the_recipe(pairs: PairSet) -> None:
    def gradients(recipe: Recipe) -> Arrays:  # Adam's first moment after one step is 0.1 of the gradient
        return {name: value / 0.1 for name, value in run(fresh(), pairs, 1, recipe).first_moment.items()}

    def norm(arrays: Arrays) -> float:
        return math.sqrt(sum(float(np.sum(np.square(value, dtype=np.float64))) for value in arrays.values()))

    plain = gradients(RECIPE)
    bound = norm(plain) / 4
    clipped = gradients(replace(RECIPE, clip_norm=bound))
    assert norm(clipped) == pytest.approx(bound, rel=1e-4)
    np.testing.assert_allclose(clipped["head/kernel"], plain["head/kernel"] / 4, rtol=1e-3, atol=1e-7)
    assert norm(gradients(replace(RECIPE, clip_norm=4 * norm(plain)))) == pytest.approx(norm(plain), rel=1e-4)


def test_the_average_follows_the_weights_by_its_rule(pairs: PairSet) -> None:
    averaging = replace(RECIPE, ema=0.5)
    wanted = fresh().parameters
    for step in range(12):
        decay = min(0.5, (1 + step) / (10 + step))
        now = run(fresh(), pairs, step + 1).parameters
        wanted = {name: decay * value + (1 - decay) * now[name] for name, value in wanted.items()}
    state = run(fresh(), pairs, 12, averaging)
    assert differing(replace(state, average={}), run(fresh(), pairs, 12)) == []  # what is averaged is not disturbed
    for name, value in wanted.items():
        np.testing.assert_allclose(state.weights[name], value, rtol=1e-4, atol=1e-6)


def test_an_average_over_a_share_weighs_late_steps_alone(pairs: PairSet) -> None:
    wanted = fresh().parameters
    for step in range(12):
        weight = 1 / (1 + 0.5 * step)  # the first step replaces the random start
        now = run(fresh(), pairs, step + 1).parameters
        wanted = {name: value + weight * (now[name] - value) for name, value in wanted.items()}
    state = run(fresh(), pairs, 12, replace(RECIPE, average_share=0.5))
    for name, value in wanted.items():
        np.testing.assert_allclose(state.weights[name], value, rtol=1e-4, atol=1e-6)


def test_muon_moves_kernels_by_the_rate_and_the_rest_as_adam_does(pairs: PairSet) -> None:
    rate = 0.01
    moved = run(fresh(), pairs, 1, replace(RECIPE, optimiser="muon", learning_rate=rate, vector_rate=0.5))
    by_adam = run(fresh(), pairs, 1, replace(RECIPE, learning_rate=rate / 2))
    kinds = muon.kernels(GRAPH, batch=RECIPE.batch, patch=RECIPE.patch)
    assert kinds
    for name, first in fresh().parameters.items():
        if name not in kinds:
            np.testing.assert_allclose(moved.parameters[name], by_adam.parameters[name], rtol=1e-4, atol=1e-7)
        elif kinds[name] is Conv:
            step = (moved.parameters[name] - first).reshape(-1, first.shape[3])
            most = 1 + len(muon.PATTERNS) if branches.has(first.shape) else 1
            assert 0.5 * rate < np.linalg.norm(step, 2) < 2 * most * rate, name
            assert not moved.second_moment[name].any(), name


@pytest.mark.parametrize(
    "changed",
    [
        {"ema": 0.9, "clip_norm": 0.1},
        {"optimiser": "muon", "vector_rate": 0.1, "average_share": 0.1},
        {"optimiser": "adamw", "weight_decay": 0.01, "warmup": 4},
        {"schedule": "step", "drop_every": 5, "drop_factor": 0.5},
        {"precision": "bfloat16"},
    ],
    ids=lambda changed: "-".join(changed),
)
def test_every_kind_of_training_continues_bit_for_bit_from_a_file(
    pairs: PairSet, tmp_path: Path, changed: dict[str, Any]
) -> None:
    recipe = replace(RECIPE, **changed)
    straight = run(fresh(), pairs, 12, recipe)
    checkpoint.save(run(fresh(), pairs, 7, recipe), tmp_path / "state")
    assert differing(run(checkpoint.load(tmp_path / "state"), pairs, 12, recipe), straight) == []


def test_half_precision_trains_nearly_the_same_and_keeps_whole_weights(pairs: PairSet, straight: Checkpoint) -> None:
    half = run(fresh(), pairs, 12, replace(RECIPE, precision="bfloat16"))
    assert half.loss == pytest.approx(straight.loss, rel=0.05)
    assert differing(half, straight) != []
    assert {value.dtype for value in half.parameters.values()} == {np.dtype(np.float32)}
    as_half = half.parameters["head/kernel"].astype(jnp.bfloat16).astype(np.float32)
    assert not np.array_equal(as_half, half.parameters["head/kernel"])  # small changes are not rounded away


# First weights


def test_every_initialiser_of_a_recipe_starts_a_training() -> None:
    assert INITIALISERS == lower_flax.INITIALISERS
    states = {name: start(GRAPH, seed=SEED, spec_hash=SPEC.hash, initialiser=name) for name in INITIALISERS}
    assert differing(states["he"], fresh()) == []
    assert set(differing(states["xavier"], fresh())) == {
        f"parameters:{name}" for name in GRAPH.parameter_shapes if name.endswith("/kernel")
    }


def test_the_bits_of_the_mosaic_do_not_matter(pairs: PairSet, straight: Checkpoint) -> None:
    """The same light told with 14 bits and a black level trains the same network, but for rounding."""
    raw_format = RawFormat(bits=14, black=8192, white=8192 + 4 * 1023, packing=pairs.format.packing)
    wider = PairSet(np.asarray(pairs.raw) * np.uint16(4) + np.uint16(8192), pairs.rgb, pairs.names, raw_format)
    other = run(fresh(), wider, 12)
    assert other.loss == pytest.approx(straight.loss, rel=1e-3)


def test_a_loss_of_weight_zero_changes_nothing(pairs: PairSet, straight: Checkpoint) -> None:
    silent = replace(RECIPE, loss={"l1": 1.0, "ssim": 0.0})
    assert differing(run(fresh(), pairs, 12, silent), straight) == []


def test_the_loss_is_the_weighted_sum_of_the_recipes(pairs: PairSet, straight: Checkpoint) -> None:
    doubled = run(fresh(), pairs, 12, replace(RECIPE, loss={"l1": 2.0}))
    assert doubled.first_loss == pytest.approx(2 * straight.first_loss)


# Compiling


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """One entry per program that XLA was asked for, "hit" where the persistent cache had it."""
    events: list[str] = []

    def listen(event: str, **_: object) -> None:
        if event == "/jax/compilation_cache/compile_requests_use_cache":
            events.append("asked")
        if event == "/jax/compilation_cache/cache_hits":
            events[-1] = "hit"

    least = jax.config.jax_persistent_cache_min_compile_time_secs
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.monitoring.register_event_listener(listen)
    yield events
    jax.monitoring.unregister_event_listener(listen)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", least)


def test_recipes_that_differ_in_numbers_alone_share_one_program(compilations: list[str]) -> None:
    graph = build_graph(ArchSpec(width=4, depth=0))
    recipe = replace(RECIPE, batch=1, patch=16, loss={"l1": 1.0, "charbonnier": 0.5})
    compiled_step(graph, StepPlan.of(recipe))
    compilations.clear()
    numbers = {"learning_rate": 0.5}, {"loss": {"charbonnier": 0.1, "l1": 3.0}}, {"total_steps": 10_000}, {"warmup": 5}
    for changed in numbers:
        executable.cache_clear()  # as in another process
        compiled_step(graph, StepPlan.of(replace(recipe, **changed)))
    assert compilations == ["hit"] * 4
    compiled_step(graph, StepPlan.of(replace(recipe, loss={"charbonnier": 1.0})))
    assert compilations[4:] == ["asked"]  # another loss is another program: the counting works


def test_a_network_is_compiled_once_in_a_process(compilations: list[str]) -> None:
    graph, plan = build_graph(ArchSpec(width=4, depth=0)), StepPlan.of(replace(RECIPE, batch=1, patch=16))
    first, _ = compiled_step(graph, plan)
    compilations.clear()
    again, _ = compiled_step(build_graph(ArchSpec(width=4, depth=0)), plan)
    assert again is first
    assert compilations == []


def test_the_whole_of_training_compiles_nothing_but_the_step(
    pairs: PairSet, straight: Checkpoint, compilations: list[str]
) -> None:
    executable.cache_clear()  # as in another process
    train(GRAPH, fresh(), pairs, recipe=replace(RECIPE, learning_rate=1e-4), steps=2, seed=SEED)
    assert compilations == ["hit"]
