"""A graph as Flax trains it: its parameters, its first state, and operations whose answer is known."""

import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from search_spaces import lower_flax
from search_spaces.activations import ACTIVATIONS
from search_spaces.designs import DESIGNS
from search_spaces.graph import INPUT, Graph, GraphBuilder, Shape
from search_spaces.networks import build_graph
from search_spaces.ops import (
    OPS,
    Activation,
    Affine,
    Conv,
    DepthToSpace,
    DepthwiseConv,
    GlobalMean,
    InstanceNorm,
    Op,
    Pool,
    Resize,
    Scale,
    TransposeConv,
)
from search_spaces.space import load_space
from search_spaces.spec import GENES, UPSAMPLERS, ArchSpec

SIZE: Shape = (1, 16, 32, 4)  # its photograph is 32×64: sides that four levels can halve
SPACE = load_space("mai21")
OUTPUT_ACTIVATIONS = GENES["output_activation"].legal


def random_spec(seed: int) -> ArchSpec:
    rng = random.Random(seed)
    return SPACE.sample(lambda _, values, __: rng.choice(values))


SPECS = {
    **{name: design.spec for name, design in DESIGNS.items()},
    **{f"random {n}": random_spec(n) for n in range(12)},
}


def raw(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape, np.float32)


def after_shuffle(function: str) -> Graph:
    """Four channels, spread over 2×2 pixels of three equal channels, then an activation: its answer is plain to see."""
    g = GraphBuilder((1, 1, 1, 4))
    g.add("f", Activation(function), g.add("shuffle", DepthToSpace(), g.add("conv", Conv(12, 1), INPUT)))
    return g.build()


def test_every_operation_and_activation_has_a_rule() -> None:
    assert set(lower_flax.RULES) == set(OPS.values())
    assert {*lower_flax.ACTIVATION_FUNCTIONS, "prelu"} == set(ACTIVATIONS)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_flax_agrees_with_the_graph_on_parameters_and_output(spec: ArchSpec) -> None:
    graph = build_graph(spec, SIZE)
    parameters = lower_flax.init_parameters(graph, 0)
    assert {name: value.shape for name, value in parameters.items()} == graph.parameter_shapes
    assert {value.dtype for value in parameters.values()} == {jnp.dtype("float32")}
    answer = jax.eval_shape(lambda p, x: lower_flax.apply(graph, p, x), parameters, jnp.zeros((3, 32, 48, 4)))
    assert answer.shape == graph.at((3, 32, 48, 4)).output_shape


def test_the_first_state_is_a_function_of_the_seed() -> None:
    graph = build_graph(SPECS["smallnet"], SIZE)
    first, again, other = (lower_flax.init_parameters(graph, seed) for seed in (0, 0, 1))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not any(np.array_equal(first[name], other[name]) for name in first if name.endswith("/kernel"))


@pytest.mark.parametrize("level", [0.5, 0.2])
@pytest.mark.parametrize("upsampler", UPSAMPLERS)
@pytest.mark.parametrize("refine", [0, 4])
@pytest.mark.parametrize("function", OUTPUT_ACTIVATIONS)
def test_where_no_kernel_says_otherwise_the_output_is_at_the_level(
    function: str, refine: int, upsampler: str, level: float
) -> None:
    spec = ArchSpec(width=4, output_activation=function, refine_width=refine, output_upsampler=upsampler)
    graph = build_graph(spec, SIZE)
    parameters = lower_flax.init_parameters(graph, 0, output_level=level)
    silent = {name: np.zeros_like(value) if name.endswith("/kernel") else value for name, value in parameters.items()}
    answer = lower_flax.jit_apply(graph)(silent, raw(*SIZE))
    np.testing.assert_allclose(answer, level, atol=1e-6)


@pytest.mark.parametrize("function", OUTPUT_ACTIVATIONS)
def test_the_mean_output_of_untrained_networks_is_near_mid_grey(function: str) -> None:
    graph = build_graph(DESIGNS["smallnet"].spec.with_genes(output_activation=function), (1, 16, 16, 4))
    network = lower_flax.jit_apply(graph)
    states = (lower_flax.init_parameters(graph, seed) for seed in range(8))
    means = [float(network(state, raw(1, 16, 16, 4)).mean()) for state in states]
    assert np.mean(means) == pytest.approx(0.5, abs=0.2), means


@pytest.mark.parametrize("depth", [1, 6])
def test_an_untrained_network_neither_dies_nor_explodes(depth: int) -> None:
    graph = build_graph(ArchSpec(depth=depth), (1, 16, 16, 4))
    parameters = lower_flax.init_parameters(graph, 0)
    answer = lower_flax.jit_apply(graph)(parameters, raw(1, 16, 16, 4))
    assert 0.02 < float(answer.std()) < 3


def test_layers_of_one_name_and_shape_start_alike_in_all_networks() -> None:
    short, long = (lower_flax.init_parameters(build_graph(ArchSpec(depth=d), SIZE), 0) for d in (1, 3))
    assert set(short) < set(long)
    assert all(np.array_equal(long[name], value) for name, value in short.items())
    assert not np.array_equal(long["block1.conv/kernel"], long["block2.conv/kernel"])


def test_flax_starts_from_the_same_kernels_as_init_parameters() -> None:
    graph = build_graph(SPECS["csanet"], SIZE)
    module = lower_flax.GraphModule(graph, seed=3)
    of_flax = jax.jit(module.init)(jax.random.key(0), jnp.zeros(SIZE))["params"]
    ours = lower_flax.init_parameters(graph, 3)
    assert of_flax.keys() == ours.keys()
    assert all(np.array_equal(of_flax[name], ours[name]) for name in ours if name != "rgb/bias")


def test_kernels_start_with_the_variance_of_he_et_al() -> None:
    g = GraphBuilder(SIZE)
    g.add("rgb", Conv(3), g.add("up", TransposeConv(64), g.add("conv", Conv(64), INPUT)))
    parameters = lower_flax.init_parameters(g.build(), 0)
    assert float(parameters["conv/kernel"].std()) == pytest.approx((2 / (9 * 4)) ** 0.5, rel=0.1)
    assert float(parameters["up/kernel"].std()) == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.1)


@pytest.mark.parametrize(
    ("function", "answers"),  # for −4, −1, 2 and 8, by each function's own definition
    [
        ("relu", (0, 0, 2, 8)),
        ("relu6", (0, 0, 2, 6)),
        ("leaky_relu", (-0.8, -0.2, 2, 8)),
        ("prelu", (-2, -0.5, 2, 8)),
        ("tanh", (-0.9993293, -0.7615942, 0.9640276, 0.9999998)),
        ("sigmoid", (0.0179862, 0.2689414, 0.8807971, 0.9996647)),
        ("elu", (-0.9816844, -0.6321206, 2, 8)),
        ("hard_swish", (0, -1 / 3, 5 / 3, 8)),
    ],
)
def test_activations_give_known_values_after_a_shuffle_in_known_order(
    function: str, answers: tuple[float, ...]
) -> None:
    graph = after_shuffle(function)
    parameters = lower_flax.init_parameters(graph, 0)
    # Packed channel p goes to the three colours of pixel p, read row by row.
    kernel = np.repeat(np.eye(4, dtype=np.float32), 3, axis=1)[None, None]
    state = parameters | {"conv/kernel": kernel, "conv/bias": np.zeros(12, np.float32)}
    state |= {"f/alpha": np.full(3, 0.5, np.float32)} if function == "prelu" else {}
    x = np.asarray([-4.0, -1.0, 2.0, 8.0], np.float32).reshape(1, 1, 1, 4)
    pixels = np.asarray(lower_flax.jit_apply(graph)(state, x)).reshape(4, 3)
    np.testing.assert_allclose(pixels, np.repeat(np.asarray(answers)[:, None], 3, axis=1), atol=1e-6)


def answer_of(op: Op, x: np.ndarray, **parameters: float) -> np.ndarray:
    """Run one operation alone, each of its parameters the same for all channels."""
    shapes = op.parameter_shapes(x.shape)
    values = {name: jnp.full(shape, parameters[name], jnp.float32) for name, shape in shapes.items()}
    return np.asarray(lower_flax.RULES[type(op)](op, values, jnp.asarray(x, jnp.float32)))


RAMP = np.asarray([[1, 2, 3, 4], [5, 6, 7, 8]], np.float32)[None, :, :, None]


@pytest.mark.parametrize(
    ("op", "parameters", "answer"),
    [
        (Pool("max"), {}, [[6, 8]]),
        (Pool("average"), {}, [[3.5, 5.5]]),
        (Affine(0.5, -2.0), {}, [[-1.5, -1, -0.5, 0], [0.5, 1, 1.5, 2]]),
        (Scale(), {"factor": -2.0}, [[-2, -4, -6, -8], [-10, -12, -14, -16]]),
        # Centres at quarters between neighbours, edges repeated: rows 1, 2, 4, 5 of the rise of four.
        (
            Resize(),
            {},
            [[row + column for column in (0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3)] for row in (1, 2, 4, 5)],
        ),
        # Mean 4.5, variance 5.25: 2 · (x − 4.5) / √5.25 + 1.
        (
            InstanceNorm(epsilon=0.0),
            {"gamma": 2.0, "beta": 1.0},
            [[1 + 2 * (x - 4.5) / 5.25**0.5 for x in row] for row in ((1, 2, 3, 4), (5, 6, 7, 8))],
        ),
        (
            InstanceNorm(epsilon=3.75),
            {"gamma": 3.0, "beta": 0.0},
            [[x - 4.5 for x in row] for row in ((1, 2, 3, 4), (5, 6, 7, 8))],
        ),
    ],
    ids=lambda value: value.kind if isinstance(value, Op) else "",
)
def test_operations_give_answers_known_by_hand(op: Op, parameters: dict[str, float], answer: list) -> None:
    np.testing.assert_allclose(answer_of(op, RAMP, **parameters)[0, :, :, 0], answer, rtol=1e-5, atol=1e-6)


def test_every_image_and_channel_is_normalised_by_itself() -> None:
    x = np.random.default_rng(0).normal(3, 2, (2, 6, 10, 3)).astype(np.float32) * [1, 10, 100]
    answer = answer_of(InstanceNorm(), x, gamma=1.0, beta=0.0)
    np.testing.assert_allclose(answer.mean((1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(answer.std((1, 2)), 1, atol=1e-3)


def test_norms_and_factors_start_as_if_they_were_not_there() -> None:
    spec = ArchSpec(width=4, block="adaptive_residual", normalisation="instance")
    parameters = lower_flax.init_parameters(build_graph(spec, SIZE), 0)
    for name, start in (("gamma", 1), ("beta", 0), ("factor", 1)):
        values = [value for key, value in parameters.items() if key.endswith(f"/{name}")]
        assert values
        assert all((value == start).all() for value in values)


def test_a_depthwise_kernel_starts_by_its_own_taps() -> None:
    g = GraphBuilder(SIZE)
    g.add("rgb", Conv(3), g.add("dw", DepthwiseConv(5, use_bias=False), g.add("wide", Conv(256), INPUT)))
    values = lower_flax.init_parameters(g.build(), 0)["dw/kernel"]
    assert values.shape == (5, 5, 1, 256)
    assert float(values.std()) == pytest.approx((2 / 25) ** 0.5, rel=0.1)


def test_prelu_learns_one_slope_per_channel_from_a_quarter_on() -> None:
    graph = build_graph(ArchSpec(width=4, activation="prelu"), SIZE)
    parameters = lower_flax.init_parameters(graph, 0)
    np.testing.assert_array_equal(parameters["block1.conv.prelu/alpha"], np.full(4, 0.25, np.float32))


@pytest.mark.parametrize("op", [InstanceNorm(), GlobalMean()], ids=lambda op: type(op).__name__)
def test_means_are_taken_in_full_precision_where_maps_are_not(op: Op) -> None:
    """In bfloat16 a sum of thousands of values near one stops growing at 256."""
    x = jnp.asarray(1 + 0.1 * np.random.default_rng(0).standard_normal((1, 64, 64, 2)), jnp.bfloat16)
    p = {name: jnp.ones(shape) for name, shape in op.parameter_shapes(x.shape).items()}
    whole = lower_flax.RULES[type(op)](op, p, x.astype(jnp.float32))
    half = lower_flax.RULES[type(op)](op, {name: value.astype(jnp.bfloat16) for name, value in p.items()}, x)
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(half, np.float32), np.asarray(whole), rtol=0.01, atol=0.02)
