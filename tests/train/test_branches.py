"""Kernels as sums of branches: folded exactly, invisible outside a training state, and trained like any kernel."""

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nas.data.pairs import PairSet, open_prepared
from nas.train import branches, checkpoint, loop
from nas.train.candidate import evaluate
from nas.train.evaluation import Evaluator
from nas.train.job import Job
from nas.train.memory import training_bytes
from nas.train.recipe import Recipe
from search_spaces import jax_ops, lower_flax
from search_spaces.designs import DESIGNS
from search_spaces.networks import build_graph
from search_spaces.spec import ArchSpec

SPEC = ArchSpec(depth=1, width=8, block="residual")
GRAPH = build_graph(SPEC)
RECIPE = Recipe(batch=4, patch=32, total_steps=12, optimiser="muon", learning_rate=0.02, reparameterise=True)


@pytest.fixture
def pairs(prepared_tiny: Path) -> PairSet:
    return open_prepared(prepared_tiny, "train")


def filled(seed: int = 0) -> dict[str, np.ndarray]:
    """Return parameters whose branches all add something."""
    rng = np.random.default_rng(seed)
    shapes = GRAPH.parameter_shapes | branches.shapes(GRAPH)
    return {name: rng.normal(size=shape, scale=0.1).astype(np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize("side", [3, 5])
def test_a_folded_kernel_computes_the_sum_of_its_branches(side: int) -> None:
    rng = np.random.default_rng(0)
    sizes = {"k/kernel": (side, side, 4, 6)}
    sizes |= {f"k/kernel~{branch}": shape for branch, shape in branches._shapes((side, side, 4, 6)).items()}
    p = {name: rng.normal(size=size).astype(np.float32) for name, size in sizes.items()}
    x = jnp.asarray(rng.normal(size=(2, 12, 12, 4)), jnp.float32)

    def conv(map_: jax.Array, kernel: np.ndarray) -> jax.Array:
        return jax_ops.conv(map_, jnp.asarray(kernel), stride=1)

    sums = conv(x, p["k/kernel"])
    for name, pattern in branches.PATTERNS.items():
        ones = conv(x, p[f"k/kernel~{name}"])
        sums += jax_ops.depthwise_conv(ones, jnp.tile(pattern[:, :, None, None], (1, 1, 1, 6)), dilation=1)
    sums += conv(conv(x, p["k/kernel~expand"]), p["k/kernel~squeeze"])
    (folded,) = branches.fold(p).values()
    assert folded.shape == (side, side, 4, 6)
    np.testing.assert_allclose(conv(x, folded), sums, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", DESIGNS)
def test_folded_parameters_are_those_of_the_graph(name: str) -> None:
    graph = build_graph(DESIGNS[name].spec)
    plain = lower_flax.init_parameters(graph, 0)
    started = branches.fold(plain | branches.start(graph, seed=0))
    assert started.keys() == plain.keys()
    assert all(np.array_equal(started[key], plain[key]) for key in plain)  # branches begin by adding nothing


def test_parameters_without_branches_are_left_as_they_are() -> None:
    plain = lower_flax.init_parameters(GRAPH, 0)
    assert branches.fold(plain) == plain


def test_every_branch_is_trained_and_none_is_judged(pairs: PairSet) -> None:
    state = loop.start(GRAPH, seed=0, spec_hash="")
    done = loop.train(GRAPH, state, pairs, recipe=RECIPE, steps=12, seed=0).checkpoint
    first = branches.start(GRAPH, seed=0)
    assert first
    assert all(not np.array_equal(done.parameters[name], value) for name, value in first.items())
    assert done.weights.keys() == GRAPH.parameter_shapes.keys()
    assert np.isfinite(Evaluator(GRAPH, pairs).quality(done.weights).psnr_db)


@pytest.mark.parametrize("options", [{}, {"average_share": 0.5}, {"optimiser": "adamw", "weight_decay": 0.01}])
def test_a_training_in_two_parts_is_the_training_in_one(
    options: dict[str, object], pairs: PairSet, tmp_path: Path
) -> None:
    recipe = replace(RECIPE, **options)  # type: ignore[arg-type]
    state = loop.start(GRAPH, seed=0, spec_hash="")
    straight = loop.train(GRAPH, state, pairs, recipe=recipe, steps=12, seed=0).checkpoint
    half = loop.train(GRAPH, state, pairs, recipe=recipe, steps=5, seed=0).checkpoint
    checkpoint.save(half, tmp_path / "half")
    resumed = checkpoint.load(tmp_path / "half")
    other = loop.train(GRAPH, resumed, pairs, recipe=recipe, steps=12, seed=0).checkpoint
    for part in ("parameters", "first_moment", "second_moment", "average"):
        ours, theirs = getattr(straight, part), getattr(other, part)
        assert ours.keys() == theirs.keys()
        assert all(np.array_equal(ours[name], theirs[name]) for name in ours), part


def test_weights_that_are_given_are_where_branches_begin(pairs: PairSet) -> None:
    given = replace(loop.start(GRAPH, seed=0, spec_hash=""), parameters=branches.fold(filled()))
    recipe = replace(RECIPE, learning_rate=1e-30)
    moved = loop.train(GRAPH, given, pairs, recipe=recipe, steps=1, seed=0).checkpoint
    for name, value in given.parameters.items():
        np.testing.assert_array_equal(moved.weights[name], value)


def test_a_search_s_candidate_trains_so(prepared_tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    outcome = evaluate(Job(SPEC, 12, path, prepared_tiny, RECIPE, 0))
    assert (
        outcome.psnr_db
        == Evaluator(GRAPH, open_prepared(prepared_tiny, "val")).quality(checkpoint.load(path).weights).psnr_db
    )
    assert any(branches.MARK in name for name in checkpoint.load(path).parameters)


def test_memory_knows_of_the_branches() -> None:
    assert training_bytes(GRAPH, RECIPE) > training_bytes(GRAPH, replace(RECIPE, reparameterise=False))
