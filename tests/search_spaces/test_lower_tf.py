"""One network three times: Flax, TensorFlow and the .tflite file answer alike, and the file's operations are known."""

import jax
import numpy as np
import pytest
from lowering_cases import CASES, EVEN, LEVELLED, built, random_member, random_weights, spread_input, tflite

from nas.tflite.interpreter import TfliteModel
from search_spaces import lower_flax, lower_tf
from search_spaces.activations import ACTIVATIONS, FUSED, TFLITE_OPS
from search_spaces.designs import DESIGNS
from search_spaces.errors import ExportError
from search_spaces.graph import INPUT, Graph, GraphBuilder
from search_spaces.networks import build_graph
from search_spaces.ops import (
    OPS,
    Activation,
    Add,
    Conv,
    InstanceNorm,
    Multiply,
    Subtract,
    TransposeConv,
)
from search_spaces.spec import ArchSpec
from search_spaces.tflite_file import op_counts, read_ops, separate_transpose_conv_activations

# Float32 sums in another order; weights below keep values of order one.
TOLERANCE = 2e-5
# Of the range of the output, for whole networks: sums of sums, and norms that divide by small deviations.
RANGE_TOLERANCE = 1e-4


RANDOM_SEEDS = range(8)


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
    answers = {
        "TensorFlow": lower_tf.predict(graph, weights, x),
        "the .tflite file": TfliteModel(tflite(graph, weights))(x),
    }
    assert {answer.shape for answer in (flax, *answers.values())} == {graph.output_shape}
    return flax, answers


def exported(name: str) -> bytes:
    graph = built(CASES[name])
    return tflite(graph, random_weights(graph))


def test_every_operation_and_activation_is_compared() -> None:
    assert {type(case.op) for case in CASES.values()} == set(OPS.values())
    assert set(lower_tf.RULES) == set(OPS.values())
    assert {*lower_tf.ACTIVATION_FUNCTIONS, "prelu"} == set(ACTIVATIONS)


@pytest.mark.parametrize("name", CASES)
def test_an_operation_answers_alike_in_flax_tensorflow_and_the_file(name: str) -> None:
    assert_three_answers_agree(built(CASES[name]), span=8)


@pytest.mark.parametrize("name", CASES)
def test_an_operation_becomes_known_operations_of_the_file(name: str) -> None:
    assert tuple(op.name for op in read_ops(exported(name))) == CASES[name].file_ops


@pytest.mark.parametrize("seed", RANDOM_SEEDS)
def test_a_random_member_of_the_space_answers_alike_everywhere(seed: int) -> None:
    assert_networks_agree(build_graph(random_member(seed), LEVELLED))


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
    assert op_counts(tflite(graph, random_weights(graph))) == {
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


@pytest.mark.parametrize("function", FUSED)
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
    last = read_ops(tflite(graph, random_weights(graph)))[-1]
    assert last.fused_activation == function
    assert last.name == name_in_file
    assert_three_answers_agree(graph, span=8)


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("function", FUSED)
def test_a_transposed_convolution_never_takes_its_activation_along(function: str, use_bias: bool) -> None:
    # Fused, it would be version 4 of the operation, which MediaTek's delegate leaves to the CPU.
    g = GraphBuilder(EVEN)
    g.add("f", Activation(function), g.add("up", TransposeConv(3, use_bias=use_bias), INPUT))
    graph = g.build()
    up, activation = read_ops(tflite(graph, random_weights(graph)))
    assert (up.name, up.fused_activation) == ("TRANSPOSE_CONV", "none")
    assert up.version <= 3
    assert activation.name == TFLITE_OPS[function]
    assert_three_answers_agree(graph, span=8)


def test_two_transposed_convolutions_are_both_separated() -> None:
    spec = ArchSpec(width=4, scale=4, body_upsampler="transposed", output_upsampler="transposed", refine_width=4)
    graph = build_graph(spec, (1, 8, 8, 4))
    ops = read_ops(tflite(graph, random_weights(graph)))
    assert [op.fused_activation for op in ops if op.name == "TRANSPOSE_CONV"] == ["none", "none"]
    assert_three_answers_agree(graph, span=1)


def test_a_file_without_fused_transposed_convolutions_is_left_as_it_is() -> None:
    for name in ("conv 3×3", "transposed"):
        content = exported(name)
        assert separate_transpose_conv_activations(content) is content


def test_the_file_has_the_graphs_shapes() -> None:
    graph = build_graph(DESIGNS["smallnet"].spec, (1, 6, 10, 4))
    model = TfliteModel(tflite(graph, random_weights(graph)))
    assert model.input_shape == (1, 6, 10, 4)
    assert model.output_shape == (1, 12, 20, 3)


def test_an_answer_of_the_file_is_not_overwritten_by_the_next() -> None:
    model = TfliteModel(exported("conv 3×3"))
    first = model(np.zeros(EVEN))
    copy = first.copy()
    model(np.ones(EVEN))
    np.testing.assert_array_equal(first, copy)


def test_converting_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    graph = build_graph(DESIGNS["smallnet"].spec, (1, 6, 10, 4))
    TfliteModel(lower_tf.to_tflite(graph, random_weights(graph)))
    assert capfd.readouterr() == ("", "")


def test_what_stops_the_converter_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stopped:
        def convert(self) -> bytes:
            raise lower_tf.ConverterError("/tmp/x/saved_model.pb; Permission denied\nat line 3")

    with pytest.raises(ExportError, match=r"converter failed \(/tmp/x/saved_model\.pb; Permission denied\)"):
        lower_tf._converted(Stopped())
