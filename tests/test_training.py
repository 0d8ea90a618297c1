"""Training goes on bit for bit, compiles once for all recipes of a shape, and stops when the loss leaves the road."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nas import checkpoint, training
from nas.checkpoint import Arrays, Checkpoint
from nas.data.pairs import PairSet, open_prepared
from nas.data.raw_format import RawFormat
from nas.recipe import INITIALISERS, SCHEDULES, LossPhase, Recipe
from nas.training import CHECK_EVERY, DIVERGED, LossWatch, compiled_step, learning_rates, start, train
from search_spaces import lower_flax
from search_spaces.errors import TrainingError, UsageError
from search_spaces.networks import build_graph
from search_spaces.spec import ArchSpec

# Every kind of trained array: kernels of all three convolutions, biases, and PReLU's slopes.
SPEC = ArchSpec(width=4, scale=4, attention="spatial", activation="prelu")
GRAPH = build_graph(SPEC)
RECIPE = Recipe(batch=2, patch=32, horizon=12)
SEED = 0


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
    parts = {"parameters": state.parameters, "first": state.first_moment, "second": state.second_moment}
    return {f"{part}:{name}": array for part, arrays in parts.items() for name, array in arrays.items()}


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
    told: list[tuple[int, float]] = []
    train(GRAPH, fresh(), pairs, recipe=RECIPE, steps=12, seed=SEED, tick=lambda step, loss: told.append((step, loss)))
    assert [step for step, _ in told] == [CHECK_EVERY, 12]
    assert told[-1][1] == straight.loss
    assert all(math.isfinite(loss) for _, loss in told)


def test_the_loss_falls_on_the_tiny_pairs(pairs: PairSet) -> None:
    trained = run(fresh(), pairs, 150, replace(RECIPE, horizon=150, learning_rate=1e-2))
    assert trained.loss < 0.6 * trained.first_loss


def test_a_loss_that_is_no_number_ends_the_training(pairs: PairSet) -> None:
    state = fresh()
    state.parameters["head/kernel"][0, 0, 0, 0] = np.nan
    with pytest.raises(TrainingError, match=r"not a number by step 10; a smaller learning rate may help"):
        run(state, pairs, 12)


def test_a_learning_rate_that_is_far_too_high_is_told_as_divergence(pairs: PairSet) -> None:
    with pytest.raises(TrainingError, match=r"The loss diverged: .* at step \d+, .* at the start"):
        run(fresh(), pairs, 12, replace(RECIPE, learning_rate=1.0))


def test_divergence_is_measured_from_the_first_loss_of_all_even_after_a_restart(
    pairs: PairSet, straight: Checkpoint
) -> None:
    longer = replace(RECIPE, horizon=24)
    with pytest.raises(TrainingError, match="diverged"):
        run(replace(straight, first_loss=straight.loss / (2 * DIVERGED)), pairs, 13, longer)


def test_the_watch_looks_now_and_then_and_at_the_end() -> None:
    watch = LossWatch(math.inf, math.nan)
    seen: list[tuple[int, float]] = []
    for step in range(1, 13):
        watch.see(step, jnp.asarray(13.0 - step), lambda *told: seen.append(told), last=step == 12)
    assert seen == [(10, 7.5), (12, 1.5)]  # means of 12 … 3 and of 2, 1
    assert (watch.first, watch.latest) == (12.0, 1.5)


@pytest.mark.parametrize(("loss", "diverged"), [(DIVERGED * 0.99, False), (DIVERGED * 1.01, True)])
def test_a_mean_loss_of_three_times_the_first_is_the_bound(loss: float, diverged: bool) -> None:
    watch = LossWatch(1.0, math.nan)
    if not diverged:
        watch.see(1, jnp.asarray(loss), None, last=True)
        assert watch.latest == pytest.approx(loss)
        return
    with pytest.raises(TrainingError, match="diverged"):
        watch.see(1, jnp.asarray(loss), None, last=True)


# Learning rates, losses and levels


def test_learning_rates_fall_along_a_cosine_from_the_recipes_to_nearly_zero() -> None:
    rates = learning_rates(Recipe(learning_rate=0.01, horizon=100))
    wanted = 0.01 * (1 + np.cos(np.pi * np.arange(100) / 100)) / 2
    np.testing.assert_allclose(rates, wanted, rtol=1e-4, atol=1e-9)


def test_rates_end_where_the_recipe_says() -> None:
    assert set(training.SCHEDULES) == set(SCHEDULES)
    for schedule, final, middle in (("cosine", 1e-5, 0.5 * (5e-4 + 1e-5)), ("exponential", 1e-5, np.sqrt(5e-4 * 1e-5))):
        recipe = Recipe(learning_rate=5e-4, final_learning_rate=final, schedule=schedule, horizon=10_000)
        rates = learning_rates(recipe)
        assert rates[0] == pytest.approx(5e-4)
        assert rates[5000] == pytest.approx(middle, rel=1e-3)
        assert rates[-1] == pytest.approx(final, rel=1e-3)
        assert (np.diff(rates) <= 0).all()
    constant = learning_rates(Recipe(learning_rate=5e-4, schedule="constant", horizon=10))
    np.testing.assert_array_equal(constant, np.full(10, 5e-4, np.float32))


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
    watch.see(1, jnp.asarray(50.0), None, last=True)
    assert watch.first == pytest.approx(100.0)
    with pytest.raises(TrainingError, match="diverged"):
        watch.see(2, jnp.asarray(100.0 * DIVERGED * 1.01), None, last=True)


def test_a_loss_to_come_is_refused_before_a_step(pairs: PairSet) -> None:
    with pytest.raises(UsageError, match="Losses vgg and tv are not available yet"):
        run(fresh(), pairs, 12, replace(RECIPE, loss={"l1": 1.0, "tv": 1.0, "vgg": 1.0}))


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
    told = RawFormat(bits=14, black=8192, white=8192 + 4 * 1023, packing=pairs.format.packing)
    wider = PairSet(np.asarray(pairs.raw) * np.uint16(4) + np.uint16(8192), pairs.rgb, pairs.names, told)
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
    compiled_step(graph, recipe)
    compilations.clear()
    for changed in ({"learning_rate": 0.5}, {"loss": {"charbonnier": 0.1, "l1": 3.0}}, {"horizon": 10_000}):
        compiled_step(graph, replace(recipe, **changed))
    assert compilations == ["hit", "hit", "hit"]
    compiled_step(graph, replace(recipe, loss={"charbonnier": 1.0}))
    assert compilations[3:] == ["asked"]  # another loss is another program: the counting works


def test_the_whole_of_training_compiles_nothing_but_the_step(
    pairs: PairSet, straight: Checkpoint, compilations: list[str]
) -> None:
    train(GRAPH, fresh(), pairs, recipe=replace(RECIPE, learning_rate=1e-4), steps=2, seed=SEED)
    assert compilations == ["hit"]
