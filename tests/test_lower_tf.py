"""One network three times: Flax, TensorFlow and the .tflite file answer alike, and the file's operations are known."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import jax
import numpy as np
import pytest

from nas.litert import TfliteModel
from search_spaces import lower_flax, lower_tf
from search_spaces.designs import DESIGNS
from search_spaces.graph import INPUT, Graph, GraphBuilder, Shape
from search_spaces.networks import build_graph
from search_spaces.ops import (
    ACTIVATIONS,
    OPS,
    Activation,
    Add,
    Affine,
    Concat,
    Conv,
    DepthToSpace,
    DepthwiseConv,
    GlobalMean,
    InstanceNorm,
    Multiply,
    Op,
    Pool,
    Resize,
    Scale,
    Subtract,
    TransposeConv,
)
from search_spaces.space import load_space
from search_spaces.spec import ArchSpec
from search_spaces.tflite_file import op_counts, read_ops, separate_transpose_conv_activations

EVEN: Shape = (1, 6, 10, 4)
ODD: Shape = (1, 7, 9, 4)
# Float32 sums in another order; weights below keep values of order one.
TOLERANCE = 2e-5
# Of the range of the output, for whole networks: sums of sums, and norms that divide by small deviations.
RANGE_TOLERANCE = 1e-4
LEVELLED: Shape = (1, 32, 48, 4)  # its photograph is 64×96: sides that four levels can halve


@dataclass(frozen=True)
class Case:
    """A small network around one operation, and the operations that the file must hold, in order."""

    op: Op
    build: Callable[[GraphBuilder, Op], object]
    file_ops: tuple[str, ...]
    input_shape: Shape = EVEN


def alone(g: GraphBuilder, op: Op) -> None:
    g.add("op", op, INPUT)


def then_rgb(g: GraphBuilder, op: Op) -> None:
    g.add("rgb", Conv(3, 1), g.add("op", op, INPUT))


def shuffled(g: GraphBuilder, op: Op) -> None:
    g.add("op", op, g.add("wide", Conv(12, 1), INPUT))


def standing_alone(g: GraphBuilder, op: Op) -> None:
    """After a transposed convolution, which takes no activation along."""
    g.add("op", op, g.add("up", TransposeConv(3), INPUT))


def behind_a_convolution(g: GraphBuilder, op: Op) -> None:
    g.add("op", op, g.add("conv", Conv(3), INPUT))


def behind_an_unbiased_enlargement(g: GraphBuilder, op: Op) -> None:
    g.add("op", op, g.add("up", TransposeConv(3, use_bias=False), INPUT))


def behind_a_tanh(g: GraphBuilder, op: Op) -> None:
    """Where nothing before takes it along."""
    g.add("op", op, g.add("tanh", Activation("tanh"), g.add("conv", Conv(3), INPUT)))


def with_input(g: GraphBuilder, op: Op) -> None:
    g.add("rgb", Conv(3, 1), g.add("op", op, g.add("other", Conv(4), INPUT), INPUT))


def gated(g: GraphBuilder, op: Op) -> None:
    """One value per channel from the mean of the map."""
    g.add("rgb", Conv(3, 1), g.add("op", op, INPUT, g.add("mean", GlobalMean(), INPUT)))


def of_the_map(g: GraphBuilder, op: Op) -> None:
    g.add("rgb", Conv(3, 1), g.add("product", Multiply(), INPUT, g.add("op", op, INPUT)))


def of_three(g: GraphBuilder, op: Op) -> None:
    maps = (g.add("a", Conv(5), INPUT), INPUT, g.add("b", Conv(2, 1), INPUT))
    g.add("rgb", Conv(3, 1), g.add("op", op, *maps))


ACTIVATION_FILE_OPS = {
    "relu": "RELU",
    "relu6": "RELU6",
    "leaky_relu": "LEAKY_RELU",
    "prelu": "PRELU",
    "tanh": "TANH",
    "sigmoid": "LOGISTIC",
    "elu": "ELU",
    "hard_swish": "HARD_SWISH",
}
# Means in two steps: rows, then columns.
INSTANCE_NORM_FILE_OPS = (
    *("MEAN", "MEAN", "SUB"),
    *("MUL", "MEAN", "MEAN", "ADD", "RSQRT"),
    *("MUL", "MUL", "ADD"),
)
CASES = {
    **{f"conv {k}×{k}": Case(Conv(3, k), alone, ("CONV_2D",)) for k in (1, 3, 5, 7)},
    "conv by 2, even size": Case(Conv(3, 3, stride=2), alone, ("CONV_2D",), EVEN),
    "conv by 2, odd size": Case(Conv(3, 3, stride=2), alone, ("CONV_2D",), ODD),
    "conv 4×4 by 2": Case(Conv(3, 4, stride=2), alone, ("CONV_2D",), EVEN),
    "depthwise": Case(DepthwiseConv(3), then_rgb, ("DEPTHWISE_CONV_2D", "CONV_2D")),
    "depthwise, dilated": Case(DepthwiseConv(5, dilation=2), then_rgb, ("DEPTHWISE_CONV_2D", "CONV_2D"), ODD),
    "depthwise without bias": Case(DepthwiseConv(3, use_bias=False), then_rgb, ("DEPTHWISE_CONV_2D", "CONV_2D")),
    "transposed": Case(TransposeConv(3), alone, ("TRANSPOSE_CONV",)),
    "transposed 2×2": Case(TransposeConv(3, 2), alone, ("TRANSPOSE_CONV",)),
    "transposed 4×4": Case(TransposeConv(3, 4), alone, ("TRANSPOSE_CONV",), ODD),
    "transposed 5×5 by 4": Case(TransposeConv(3, 5, stride=4), alone, ("TRANSPOSE_CONV",)),
    "transposed without bias": Case(TransposeConv(3, use_bias=False), alone, ("TRANSPOSE_CONV",), ODD),
    "depth to space": Case(DepthToSpace(), shuffled, ("CONV_2D", "DEPTH_TO_SPACE")),
    **{
        function: Case(Activation(function), standing_alone, ("TRANSPOSE_CONV", name))
        for function, name in ACTIVATION_FILE_OPS.items()
    },
    "max pool": Case(Pool("max"), then_rgb, ("MAX_POOL_2D", "CONV_2D")),
    "average pool": Case(Pool("average"), then_rgb, ("AVERAGE_POOL_2D", "CONV_2D")),
    "resize": Case(Resize(), then_rgb, ("RESIZE_BILINEAR", "CONV_2D"), ODD),
    "affine": Case(Affine(0.58, 0.5), behind_a_tanh, ("CONV_2D", "TANH", "MUL", "ADD")),
    "affine as a bias": Case(Affine(0.58, 0.5), behind_an_unbiased_enlargement, ("TRANSPOSE_CONV",)),
    "scale": Case(Scale(), behind_a_tanh, ("CONV_2D", "TANH", "MUL")),
    "scale behind a convolution": Case(Scale(), behind_a_convolution, ("CONV_2D",)),
    "instance norm": Case(InstanceNorm(), behind_a_convolution, ("CONV_2D", *INSTANCE_NORM_FILE_OPS), ODD),
    "add": Case(Add(), with_input, ("CONV_2D", "ADD", "CONV_2D")),
    "subtract": Case(Subtract(), with_input, ("CONV_2D", "SUB", "CONV_2D")),
    "multiply by a map": Case(Multiply(), with_input, ("CONV_2D", "MUL", "CONV_2D")),
    "multiply by one value per channel": Case(Multiply(), gated, ("MEAN", "MUL", "CONV_2D")),
    "concat": Case(Concat(), of_three, ("CONV_2D", "CONV_2D", "CONCATENATION", "CONV_2D")),
    "global mean": Case(GlobalMean(), of_the_map, ("MEAN", "MUL", "CONV_2D")),
}
RANDOM_SEEDS = range(12)


def random_weights(graph: Graph, seed: int = 0) -> dict[str, np.ndarray]:
    """Weights of a trained network's size: kernels scaled by their fan-in, slopes of either sign."""
    rng = np.random.default_rng(seed)
    scales = {
        name: (2 / np.prod(shape[:-1])) ** 0.5 if name.endswith("/kernel") else 0.5
        for name, shape in graph.parameter_shapes.items()
    }
    return {name: (rng.normal(size=s) * scales[name]).astype(np.float32) for name, s in graph.parameter_shapes.items()}


def spread_input(shape: Shape, span: float) -> np.ndarray:
    """Values around zero, wide enough to reach both ends of every activation where `span` is large."""
    return np.random.default_rng(1).uniform(-span, span, shape).astype(np.float32)


def assert_three_answers_agree(graph: Graph, *, span: float) -> None:
    """Compare single operations: values of order one."""
    flax, others = three_answers(graph, spread_input(graph.input_shape, span))
    assert_close(flax, others, TOLERANCE * max(1.0, float(np.abs(flax).max())))


def assert_networks_agree(graph: Graph) -> None:
    """Compare whole networks, as shares of the range that they put out."""
    flax, others = three_answers(graph, spread_input(graph.input_shape, 1))
    assert np.isfinite(flax).all()
    assert_close(flax, others, RANGE_TOLERANCE * float(np.ptp(flax)))


def assert_close(flax: np.ndarray, others: dict[str, np.ndarray], tolerance: float) -> None:
    for name, answer in others.items():
        largest = float(np.abs(answer - flax).max())
        assert largest <= tolerance, f"Flax and {name} differ by {largest}, allowed are {tolerance}"


def three_answers(graph: Graph, x: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    weights = random_weights(graph)
    with jax.default_matmul_precision("highest"):
        flax = np.asarray(lower_flax.jit_apply(graph)(weights, x))
    content = lower_tf.to_tflite(graph, weights)
    answers = {"TensorFlow": lower_tf.predict(graph, weights, x), "the .tflite file": TfliteModel(content)(x)}
    assert {answer.shape for answer in (flax, *answers.values())} == {graph.output_shape}
    return flax, answers


def built(case: Case) -> Graph:
    g = GraphBuilder(case.input_shape)
    case.build(g, case.op)
    return g.build()


@cache
def exported(name: str) -> bytes:
    graph = built(CASES[name])
    return lower_tf.to_tflite(graph, random_weights(graph))


def test_every_operation_and_activation_is_compared() -> None:
    assert {type(case.op) for case in CASES.values()} == set(OPS.values())
    assert set(ACTIVATION_FILE_OPS) == set(ACTIVATIONS)
    assert set(lower_tf.RULES) == set(OPS.values())
    assert {*lower_tf.ACTIVATION_FUNCTIONS, "prelu"} == set(ACTIVATIONS)


@pytest.mark.parametrize("name", CASES)
def test_an_operation_answers_alike_in_flax_tensorflow_and_the_file(name: str) -> None:
    assert_three_answers_agree(built(CASES[name]), span=8)


@pytest.mark.parametrize("name", CASES)
def test_an_operation_becomes_known_operations_of_the_file(name: str) -> None:
    assert tuple(op.name for op in read_ops(exported(name))) == CASES[name].file_ops


def random_member(seed: int) -> ArchSpec:
    rng = random.Random(seed)
    return load_space("mai21").sample(lambda _, values, __: rng.choice(values))


@pytest.mark.parametrize("seed", RANDOM_SEEDS)
def test_a_random_member_of_the_space_answers_alike_everywhere(seed: int) -> None:
    spec = random_member(seed)
    side = max(16, spec.size_multiple)
    assert_networks_agree(build_graph(spec, (1, side, side * 3 // 2, 4)))


@pytest.mark.parametrize("name", DESIGNS)
def test_a_design_answers_alike_everywhere(name: str) -> None:
    assert_networks_agree(build_graph(DESIGNS[name].spec, LEVELLED))


def test_a_norm_of_a_flat_map_is_its_beta() -> None:
    # Variance zero: nothing but epsilon is divided by.
    g = GraphBuilder(EVEN)
    g.add("norm", InstanceNorm(), g.add("conv", Conv(3, 1), INPUT))
    graph = g.build()
    weights, x = random_weights(graph), np.full(graph.input_shape, 0.75, np.float32)
    flax = np.asarray(lower_flax.jit_apply(graph)(weights, x))
    others = {"TensorFlow": lower_tf.predict(graph, weights, x)}
    assert_close(flax, others, TOLERANCE)
    np.testing.assert_allclose(flax[0, 0, 0], weights["norm/beta"], atol=1e-5)


def test_the_file_of_csanet_holds_the_published_operations() -> None:
    graph = build_graph(DESIGNS["csanet"].spec, (1, 16, 16, 4))
    # Source: the team's own TensorFlow code converted; see search_spaces/designs.py.
    assert op_counts(lower_tf.to_tflite(graph, random_weights(graph))) == {
        "CONV_2D": 15,
        "LOGISTIC": 5,
        "MUL": 4,
        "CONCATENATION": 3,
        "DEPTHWISE_CONV_2D": 2,
        "ADD": 2,
        "MEAN": 2,
        "TRANSPOSE_CONV": 1,
        "DEPTH_TO_SPACE": 1,
    }


@pytest.mark.parametrize("function", ["relu", "relu6"])
@pytest.mark.parametrize(
    ("name", "name_in_file"),
    [
        ("conv 3×3", "CONV_2D"),
        ("depthwise", "DEPTHWISE_CONV_2D"),
        ("add", "ADD"),
        ("subtract", "SUB"),
        ("multiply by a map", "MUL"),
        ("affine", "ADD"),
        ("instance norm", "ADD"),
    ],
)
def test_what_can_take_an_activation_along_does(name: str, name_in_file: str, function: str) -> None:
    g = GraphBuilder(EVEN)
    op = CASES[name].op
    first, second = (g.add(f"tanh{k}", Activation("tanh"), g.add(f"conv{k}", Conv(3, k), INPUT)) for k in (1, 3))
    reads = (first, second) if isinstance(op, Add | Subtract | Multiply) else (g.add("sum", Add(), first, second),)
    g.add("f", Activation(function), g.add("op", op, *reads))
    graph = g.build()
    last = read_ops(lower_tf.to_tflite(graph, random_weights(graph)))[-1]
    assert last.fused_activation == function
    assert last.name == name_in_file
    assert_three_answers_agree(graph, span=8)


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("function", ["relu", "relu6"])
def test_a_transposed_convolution_never_takes_its_activation_along(function: str, use_bias: bool) -> None:
    # Fused, it would be version 4 of the operation, which MediaTek's delegate leaves to the CPU.
    g = GraphBuilder(EVEN)
    g.add("f", Activation(function), g.add("up", TransposeConv(3, use_bias=use_bias), INPUT))
    graph = g.build()
    up, activation = read_ops(lower_tf.to_tflite(graph, random_weights(graph)))
    assert (up.name, up.fused_activation) == ("TRANSPOSE_CONV", "none")
    assert up.version <= 3
    assert activation.name == ACTIVATION_FILE_OPS[function]
    assert_three_answers_agree(graph, span=8)


def test_two_transposed_convolutions_are_both_separated() -> None:
    spec = ArchSpec(width=4, scale=4, body_upsampler="transposed", output_upsampler="transposed", refine_width=4)
    graph = build_graph(spec, (1, 8, 8, 4))
    ops = read_ops(lower_tf.to_tflite(graph, random_weights(graph)))
    assert [op.fused_activation for op in ops if op.name == "TRANSPOSE_CONV"] == ["none", "none"]
    assert_three_answers_agree(graph, span=1)


def test_a_file_without_fused_transposed_convolutions_is_left_as_it_is() -> None:
    for name in ("conv 3×3", "transposed"):
        content = exported(name)
        assert separate_transpose_conv_activations(content) is content


def test_the_file_has_the_graphs_shapes() -> None:
    graph = build_graph(DESIGNS["smallnet"].spec, (1, 6, 10, 4))
    model = TfliteModel(lower_tf.to_tflite(graph, random_weights(graph)))
    assert model.input_shape == (1, 6, 10, 4)
    assert model.output_shape == (1, 12, 20, 3)


def test_an_answer_of_the_file_is_not_overwritten_by_the_next() -> None:
    model = TfliteModel(exported("conv 3×3"))
    first = model(np.zeros(EVEN))
    kept = first.copy()
    model(np.ones(EVEN))
    np.testing.assert_array_equal(first, kept)


def test_converting_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    graph = build_graph(DESIGNS["smallnet"].spec, (1, 6, 10, 4))
    TfliteModel(lower_tf.to_tflite(graph, random_weights(graph)))
    assert capfd.readouterr() == ("", "")
