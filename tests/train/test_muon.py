"""Muon's steps: against Optax's own on plain convolutions, and what they are made for on every kind of kernel."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from nas.train import branches, muon
from search_spaces.designs import DESIGNS
from search_spaces.networks import build_graph
from search_spaces.ops import Conv, DepthwiseConv, TransposeConv

CPU_BATCH, CPU_PATCH = 4, 64
# Kernels that are higher than wide, wider than high, and of Gram matrices padded and not.
SHAPES = {"high": (3, 3, 16, 16), "wide": (1, 1, 5, 12), "square": (1, 1, 8, 8), "narrow": (3, 3, 4, 3)}


def _noise(shape: tuple[int, ...], seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng([seed, *shape]).standard_normal(shape), jnp.float32)


def _matrix_of_conv(kernel: jax.Array) -> np.ndarray:
    return np.asarray(kernel).reshape(-1, kernel.shape[3])


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels move as wholes alone."""
    monkeypatch.setattr(muon, "PATTERNS", {})


def _moved_by_optax(momentum: dict[str, jax.Array]) -> dict[str, jax.Array]:
    dimensions = optax.contrib.MuonDimensionNumbers(reduction_axis=(0, 1, 2), output_axis=3)
    every = dict.fromkeys(momentum, dimensions)
    theirs = optax.contrib.muon(-1.0, beta=0.0, nesterov=False, muon_weight_dimension_numbers=every)
    moved: dict[str, jax.Array] = theirs.update(momentum, theirs.init(momentum), momentum)[0]
    return moved


@pytest.mark.usefixtures("whole")
def test_convolutions_move_as_in_optax() -> None:
    momentum = {name: _noise(shape) for name, shape in SHAPES.items()}
    ours, expected = muon.directions(dict.fromkeys(SHAPES, Conv), momentum), _moved_by_optax(momentum)
    for name in SHAPES:
        np.testing.assert_allclose(ours[name], expected[name], atol=2e-4, err_msg=name)


def test_parts_of_a_kernel_move_as_branches_beside_it_would() -> None:
    momentum = {name: _noise(shape) for name, shape in (SHAPES | {"five": (5, 5, 6, 4)}).items()}
    ours, expected = muon.directions(dict.fromkeys(momentum, Conv), momentum), _moved_by_optax(momentum)
    for name in momentum:
        assert branches.has(momentum[name].shape) == (name in ("high", "narrow", "five"))
        for pattern in muon.PATTERNS.values() if branches.has(momentum[name].shape) else ():
            placed = branches.within(pattern, momentum[name].shape[0])[:, :, None, None]
            # The gradient of a 1×1 kernel times a pattern, which is added to the kernel.
            _, gradient = jax.vjp(lambda one, placed=placed: placed * one, jnp.zeros((1, 1, *momentum[name].shape[2:])))
            expected[name] += placed * _moved_by_optax({"branch": gradient(momentum[name])[0]})["branch"]
        np.testing.assert_allclose(ours[name], expected[name], atol=1e-3, err_msg=name)


def test_parts_of_a_kernel_that_is_trained_with_branches_move_once() -> None:
    kernel = _noise((3, 3, 16, 16))
    beside = {f"k{branches.MARK}{name}": _noise(shape) for name, shape in branches._shapes(kernel.shape).items()}
    momentum = {"k": kernel, **beside}
    moved = muon.directions(dict.fromkeys(momentum, Conv), momentum)
    for name, step in moved.items():
        largest = np.linalg.svd(_matrix_of_conv(step), compute_uv=False)[0]
        rows, columns = _matrix_of_conv(step).shape
        assert largest < 1.3 * max(1, columns / rows) ** 0.5, f"{name} has parts of its own"


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_a_step_does_not_depend_on_the_size_of_the_gradient(scale: float) -> None:
    momentum = {"high": _noise(SHAPES["high"])}
    one = muon.directions({"high": Conv}, momentum)["high"]
    other = muon.directions({"high": Conv}, {"high": scale * momentum["high"]})["high"]
    np.testing.assert_allclose(one, other, atol=1e-3)


def test_a_gradient_of_zero_moves_nothing() -> None:
    kinds = {"conv": Conv, "depthwise": DepthwiseConv, "up": TransposeConv}
    momentum = {name: jnp.zeros((2, 2, 1, 4)) for name in kinds}
    for name, step in muon.directions(kinds, momentum).items():
        assert np.all(np.asarray(step) == 0), name


@pytest.mark.usefixtures("whole")
def test_singular_values_come_near_one() -> None:
    # One strong direction and many weak ones: what a plain gradient step would hardly move.
    u, _, v = np.linalg.svd(_matrix_of_conv(_noise(SHAPES["high"])), full_matrices=False)
    weak = (u * np.geomspace(1, 0.05, 16)) @ v
    step = muon.directions({"k": Conv}, {"k": jnp.asarray(weak.reshape(SHAPES["high"]), jnp.float32)})["k"]
    values = np.linalg.svd(_matrix_of_conv(step), compute_uv=False)
    assert values.min() > 0.6, values
    assert values.max() < 1.3, values


def test_each_channel_of_a_depthwise_kernel_moves_by_one() -> None:
    step = muon.directions({"k": DepthwiseConv}, {"k": _noise((3, 3, 1, 6))})["k"]
    np.testing.assert_allclose(np.sqrt(np.sum(np.asarray(step) ** 2, (0, 1, 2))), np.ones(6), rtol=1e-5)


def test_a_transposed_kernel_is_orthogonal_from_its_inputs_on() -> None:
    step = np.asarray(muon.directions({"k": TransposeConv}, {"k": _noise((2, 2, 3, 8))})["k"])  # HWOI
    values = np.linalg.svd(step.transpose(3, 0, 1, 2).reshape(8, 12), compute_uv=False)
    np.testing.assert_allclose(values, np.full(8, np.sqrt(12 / 8)), rtol=0.35)


@pytest.mark.parametrize("name", DESIGNS)
def test_orthogonalising_costs_a_fraction_of_the_gradient_in_every_design(name: str) -> None:
    graph = build_graph(DESIGNS[name].spec)
    kinds = muon.kernels(graph, batch=CPU_BATCH, patch=CPU_PATCH)
    at = graph.at((CPU_BATCH, CPU_PATCH // 2, CPU_PATCH // 2, 4))
    sides = [muon._sides(kind, at.parameter_shapes[kernel]) for kernel, kind in kinds.items()]
    cost = sum(muon.orthogonalising_flops(rows, columns) for rows, columns in sides)
    assert 0 < cost < muon.MOST_COST * 6 * at.macs, f"{cost / (6 * at.macs):.3f}"


def test_kernels_of_few_uses_are_left_to_adam() -> None:
    graph = build_graph(DESIGNS["tuned-unet"].spec)
    kinds = muon.kernels(graph, batch=CPU_BATCH, patch=CPU_PATCH)
    kernels = [name for name in graph.parameter_shapes if name.endswith("/kernel")]
    left = [graph.parameter_shapes[name] for name in kernels if name not in kinds]
    assert any(shape[3] == 256 for shape in left)
    assert kinds, "the upper levels are Muon's"
