"""Our CPU forms of slow operations compute what XLA's own operations compute, gradients included."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array, lax

from search_spaces import jax_ops
from search_spaces.ops import POOLS

LAYOUT = ("NHWC", "HWIO", "NHWC")
H, W, C, FILTERS = 6, 5, 3, 2
TOLERANCE = 2e-5  # of values of order one, summed over at most 81 taps in another order


@pytest.fixture(params=["cpu", "gpu"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The form that is used on this backend; both are plain XLA and run on any machine."""
    monkeypatch.setattr(jax, "default_backend", lambda: request.param)
    return request.param


def normal(*shape: int, seed: int) -> Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def assert_same(ours: Callable[..., Array], reference: Callable[..., Array], *inputs: Array) -> None:
    """Compare values, and the gradients of a random projection of them."""

    def run(function: Callable[..., Array]) -> tuple[Array, ...]:
        value, pull_back = jax.vjp(function, *inputs)
        return (value, *pull_back(normal(*value.shape, seed=9)))

    with jax.default_matmul_precision("highest"):
        mine, theirs = jax.jit(lambda: (run(ours), run(reference)))()
    for name, a, b in zip(
        ("value", "gradient of x", "gradient of w", "gradient of b")[: 1 + len(inputs)], mine, theirs, strict=True
    ):
        assert a.shape == b.shape
        largest = float(jnp.abs(a - b).max())
        assert largest < TOLERANCE, f"{name} differs by {largest}"


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("size", [1, 3, 5, 9])
def test_depthwise_convolution_is_xlas(form: str, size: int, dilation: int) -> None:
    def reference(x: Array, kernel: Array) -> Array:
        return lax.conv_general_dilated(
            x,
            kernel,
            (1, 1),
            "SAME",
            rhs_dilation=(dilation, dilation),
            dimension_numbers=LAYOUT,
            feature_group_count=C,
        )

    x, kernel = normal(2, H, W, C, seed=0), normal(size, size, 1, C, seed=1)
    assert_same(lambda x, k: jax_ops.depthwise_conv(x, k, dilation=dilation), reference, x, kernel)


@pytest.mark.parametrize("map_size", [(H, W), (2, 2), (1, 8)])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 9])
def test_convolution_is_xlas(form: str, size: int, stride: int, map_size: tuple[int, int]) -> None:
    def reference(x: Array, kernel: Array) -> Array:
        return lax.conv_general_dilated(x, kernel, (stride, stride), "SAME", dimension_numbers=LAYOUT)

    x, kernel = normal(2, *map_size, C, seed=0), normal(size, size, C, FILTERS, seed=1)
    assert_same(lambda x, k: jax_ops.conv(x, k, stride=stride), reference, x, kernel)


@pytest.mark.parametrize(("size", "channels", "pixels"), [(3, 8, 2**15), (5, 7, 2**18), (9, 7, 2**12)])
def test_a_map_is_unfolded_up_to_a_size(size: int, channels: int, pixels: int) -> None:
    kernel = (size, size, channels, 16)
    assert jax_ops._unfolds((4, pixels // 4, 1, channels), kernel)
    assert not jax_ops._unfolds((4, pixels // 4 + 1, 1, channels), kernel)


def test_a_convolution_that_is_not_unfolded_is_xlas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax_ops, "_unfolds", lambda *_: False)

    def reference(x: Array, kernel: Array) -> Array:
        return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=LAYOUT)

    x, kernel = normal(2, H, W, C, seed=0), normal(3, 3, C, FILTERS, seed=1)
    assert_same(lambda x, k: jax_ops.conv(x, k, stride=1), reference, x, kernel)


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 9])
def test_transposed_convolution_is_the_gradient_of_a_same_convolution(form: str, size: int, stride: int) -> None:
    def reference(x: Array, kernel: Array) -> Array:
        def convolution(large: Array) -> Array:
            return lax.conv_general_dilated(large, kernel, (stride, stride), "SAME", dimension_numbers=LAYOUT)

        return jax.vjp(convolution, jnp.zeros((2, H * stride, W * stride, FILTERS)))[1](x)[0]

    x, kernel = normal(2, H, W, C, seed=0), normal(size, size, FILTERS, C, seed=1)
    assert_same(lambda x, k: jax_ops.transpose_conv(x, k, stride=stride), reference, x, kernel)


def test_scaling_and_adding_channels_are_broadcasting() -> None:
    x, per_channel = normal(2, H, W, C, seed=0), normal(C, seed=1)
    assert_same(jax_ops.scale_channels, lambda x, s: x * s, x, per_channel)
    assert_same(jax_ops.add_channels, lambda x, b: x + b, x, per_channel)


@pytest.mark.parametrize("function", POOLS)
def test_pooling_is_xlas_window_reduction(form: str, function: str) -> None:
    def reference(x: Array) -> Array:
        window = ((1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        if function == "max":
            return lax.reduce_window(x, -jnp.inf, lax.max, *window)
        return lax.reduce_window(x, 0.0, lax.add, *window) / 4

    assert_same(lambda x: jax_ops.pool(x, function=function), reference, normal(2, 6, 8, C, seed=0))


def test_equal_maxima_share_the_gradient() -> None:
    def total(x: Array) -> Array:
        return jax_ops.pool(x, function="max").sum()

    gradient = jax.grad(total)(jnp.ones((1, 2, 2, 1)))
    assert float(gradient.sum()) == pytest.approx(1)
    assert (np.asarray(gradient) > 0).all()


@pytest.mark.parametrize("size", [(6, 5), (1, 4), (2, 1)])
def test_enlarging_is_jaxs_bilinear_resize(form: str, size: tuple[int, int]) -> None:
    h, w = size

    def reference(x: Array) -> Array:
        return jax.image.resize(x, (2, 2 * h, 2 * w, C), "bilinear")

    assert_same(jax_ops.enlarge, reference, normal(2, h, w, C, seed=0))


def test_the_mean_of_a_map_is_numpys(form: str) -> None:
    assert_same(jax_ops.map_mean, lambda x: x.mean(axis=(1, 2), keepdims=True), normal(2, H, W, C, seed=0))


def test_an_instance_norm_is_numpys(form: str) -> None:
    def ours(x: Array, gamma: Array, beta: Array) -> Array:
        return jax_ops.instance_norm(x, gamma, beta, 1e-3)

    def reference(x: Array, gamma: Array, beta: Array) -> Array:
        mean, variance = x.mean((1, 2), keepdims=True), x.var((1, 2), keepdims=True)
        return gamma * (x - mean) / jnp.sqrt(variance + 1e-3) + beta

    assert_same(ours, reference, normal(2, H, W, C, seed=0), normal(C, seed=1), normal(C, seed=2))


def test_a_gate_is_broadcasting(form: str) -> None:
    assert_same(jax_ops.gate, lambda x, a: x * a, normal(2, H, W, C, seed=0), normal(2, 1, 1, C, seed=1))


def test_a_map_that_two_read_is_computed_once() -> None:
    def read_twice(x: Array) -> Array:
        return jnp.concatenate([y := jax_ops.materialize(jnp.maximum(2 * x, 0)), -y], 1)

    program = jax.jit(read_twice).lower(jnp.ones((4, 4, 4, 4))).compile().as_text()
    assert program is not None
    assert program.count(" maximum(") == 1
