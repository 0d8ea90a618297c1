"""Every operation and every design in every precision: it converts, runs, and answers as in float32 up to rounding.

Ratios are the variance of the float32 answer over the mean square of what rounding added, in dB.
"""

import numpy as np
import pytest
from lowered_designs import design, snr_db
from lowering_cases import CASES, built, random_weights, spread_input, tflite

from nas.tflite.interpreter import TfliteModel
from search_spaces import lower_tf
from search_spaces.activations import FUSED
from search_spaces.designs import DESIGNS
from search_spaces.errors import ExportError
from search_spaces.graph import INPUT, GraphBuilder, Shape
from search_spaces.ops import Activation, Conv, GlobalMean, Multiply, TransposeConv
from search_spaces.precision import unconvertible
from search_spaces.tflite_file import op_counts, read_graph, read_ops
from search_spaces.tflite_resize import dynamic, resized

ROUNDED = ("fp16", "int8", "int16")
INTEGER_TYPES = {"int8": {"int8", "int32"}, "int16": {"int16", "int8", "int32", "int64"}}
# One operation rounds two or three maps. Float16 has 11 significant bits, 66 dB; int8 values spread over a range with
# tails keep about 42 dB each; the 8-bit weights of int16 leave about 45.
OPERATION_DB = {"fp16": 60.0, "int8": 33.0, "int16": 40.0}
# Tens of roundings, one after the other and through attention: ten of one size cost 10 dB. Weights are made up.
DESIGN_DB = {"fp16": 55.0, "int8": 20.0, "int16": 30.0}
WIDER: Shape = (1, 32, 96, 4)

# What int16 writes where it has no form of its own.
INT16_FORMS = {
    "depth to space": {"CONV_2D": 1, "TRANSPOSE_CONV": 1},
    "prelu": {"TRANSPOSE_CONV": 1, "MUL": 2, "RELU": 1, "ADD": 1},
    "elu": {"TRANSPOSE_CONV": 1, "MUL": 2, "RELU": 1, "EXP": 1, "SUB": 1, "ADD": 1},
    "hard_swish": {"TRANSPOSE_CONV": 1, "MUL": 2, "ADD": 1},
    "global mean": {"MEAN": 2, "MUL": 1, "CONV_2D": 1},
}


def assert_near(expected: np.ndarray, actual: np.ndarray, least_db: float) -> None:
    ratio = snr_db(expected, actual)
    assert ratio >= least_db, f"{ratio:.1f} dB, wanted {least_db}"


def rounded(name: str, precision: str) -> bytes:
    graph = built(CASES[name])
    calibration = [spread_input(graph.input_shape, 2)]
    return tflite(graph, random_weights(graph), precision=precision, calibration=calibration)


# All of today; what is new is refused in integers until its `is_integer` brings it here.
CONVERTIBLE = [(n, p) for n, case in CASES.items() for p in ROUNDED if not unconvertible(built(case), p)]


@pytest.mark.parametrize(("name", "precision"), CONVERTIBLE)
def test_an_operation_answers_as_in_float32_up_to_rounding(name: str, precision: str) -> None:
    graph = built(CASES[name])
    x = spread_input(graph.input_shape, 2)
    expected = lower_tf.predict(graph, random_weights(graph), x)
    assert_near(expected, TfliteModel(rounded(name, precision))(x), OPERATION_DB[precision])


@pytest.mark.parametrize(("name", "precision"), [(n, p) for n, p in CONVERTIBLE if p in INTEGER_TYPES])
def test_an_integer_file_computes_in_integers_alone(name: str, precision: str) -> None:
    assert {tensor.dtype for tensor in read_graph(rounded(name, precision)).tensors} <= INTEGER_TYPES[precision]


@pytest.mark.parametrize("name", INT16_FORMS)
def test_what_int16_has_no_form_of_is_written_in_other_operations(name: str) -> None:
    counts = op_counts(rounded(name, "int16"))
    assert {op: n for op, n in counts.items() if op != "QUANTIZE"} == INT16_FORMS[name]


@pytest.mark.parametrize("function", FUSED)
@pytest.mark.parametrize("precision", ROUNDED)
def test_a_transposed_convolution_never_takes_its_activation_along(precision: str, function: str) -> None:
    g = GraphBuilder((1, 6, 10, 4))
    g.add("f", Activation(function), g.add("up", TransposeConv(3), INPUT))
    graph, weights, x = g.build(), random_weights(g.build()), spread_input((1, 6, 10, 4), 8)
    content = lower_tf.to_tflite(graph, weights, precision=precision, calibration=[x])
    up, activation = (op for op in read_ops(content) if op.name != "DEQUANTIZE")
    assert (up.name, up.fused_activation, up.version) == ("TRANSPOSE_CONV", "none", 3)
    assert activation.name == function.upper()
    assert_near(lower_tf.predict(graph, weights, x), TfliteModel(content)(x), OPERATION_DB[precision])


@pytest.mark.parametrize("precision", ROUNDED)
@pytest.mark.parametrize("name", DESIGNS)
def test_a_design_answers_as_in_float32_up_to_rounding_at_every_size(name: str, precision: str) -> None:
    graph, weights, calibration = design(name)
    twin = tflite(graph, weights, precision=precision, calibration=calibration)
    assert_near(
        lower_tf.predict(graph, weights, calibration[0]), TfliteModel(twin)(calibration[0]), DESIGN_DB[precision]
    )
    x = np.concatenate([calibration[0], calibration[1]], axis=2)
    expected = lower_tf.predict(graph.at(WIDER), weights, x)
    wider = TfliteModel(resized(twin, WIDER))
    assert wider.output_shape == graph.at(WIDER).output_shape
    assert_near(expected, wider(x), DESIGN_DB[precision])
    assert_near(expected, TfliteModel(dynamic(twin), input_shape=WIDER)(x), DESIGN_DB[precision])


@pytest.mark.parametrize("precision", ["int8", "int16"])
def test_a_mean_over_a_large_map_does_not_overflow(precision: str) -> None:
    # LiteRT sums in 32 bits: half a million 16-bit values leave them, and the mean came out as half a range too low.
    g = GraphBuilder((1, 16, 16, 4))
    g.add("gated", Multiply(), INPUT, g.add("mean", GlobalMean(), INPUT))
    graph, x = g.build(), np.random.default_rng(0).random((1, 544, 960, 4), np.float32)
    twin = lower_tf.to_tflite(graph, {}, precision=precision, calibration=[x[:, :16, :16]])
    answer = TfliteModel(resized(twin, x.shape))(x)
    assert np.abs(answer - x * x.mean((1, 2), keepdims=True)).max() < 0.01


@pytest.mark.parametrize("precision", ROUNDED)
def test_layers_with_equal_biases_keep_their_own(precision: str) -> None:
    # In int16 the converter gave both the bias of the first, in the scale of the first.
    g = GraphBuilder((1, 8, 8, 4))
    g.add("b", Conv(4), g.add("a", Conv(4), INPUT))
    graph, x = g.build(), spread_input((1, 8, 8, 4), 2)
    weights = random_weights(graph) | {name: np.full(4, 0.5, np.float32) for name in ("a/bias", "b/bias")}
    weights["a/kernel"] *= 10
    content = lower_tf.to_tflite(graph, weights, precision=precision, calibration=[x])
    assert_near(lower_tf.predict(graph, weights, x), TfliteModel(content)(x), OPERATION_DB[precision])


@pytest.mark.parametrize(
    ("precision", "io", "types"),
    [
        ("int8", None, ("int8", "int8")),
        ("int8", "uint8", ("uint8", "uint8")),
        ("int8", "float32", ("float32", "float32")),
        ("int16", None, ("int16", "int16")),
        ("int16", "float32", ("float32", "float32")),
        ("fp16", None, ("float32", "float32")),
    ],
)
def test_input_and_output_have_the_type_that_was_asked_for(
    precision: str, io: str | None, types: tuple[str, str]
) -> None:
    graph, weights, calibration = design("smallnet")
    content = lower_tf.to_tflite(graph, weights, precision=precision, io=io, calibration=calibration)
    model = TfliteModel(content)
    assert (model.input.dtype, model.output.dtype) == types
    assert_near(lower_tf.predict(graph, weights, calibration[0]), model(calibration[0]), DESIGN_DB[precision])


def test_weights_of_8_bits_have_a_scale_for_every_channel() -> None:
    for precision in ("int8", "int16"):
        kernels = [t for t in read_graph(rounded("conv 3×3", precision)).tensors if len(t.shape) == 4 and t.is_constant]
        assert [(tensor.dtype, len(tensor.scales)) for tensor in kernels] == [("int8", 3)]


def test_a_half_precision_file_holds_half_the_bytes_and_says_that_it_may_be_computed_so() -> None:
    g = GraphBuilder((1, 8, 8, 4))
    g.add("b", Conv(32), g.add("a", Conv(32), INPUT))
    graph = g.build()
    plain = lower_tf.to_tflite(graph, random_weights(graph))
    half = lower_tf.to_tflite(graph, random_weights(graph), precision="fp16")
    assert len(half) < 0.6 * len(plain)
    assert (b"reduced_precision_support" in half, b"fp16accfp16" in half) == (True, True)
    assert b"reduced_precision_support" not in plain


def test_rounding_every_map_to_half_precision_shows_what_a_phone_would_lose() -> None:
    graph, weights, calibration = design("csanet")
    x = calibration[0]
    plain, half = (lower_tf.predict_maps(graph, weights, x, half=half) for half in (False, True))
    assert plain.keys() == half.keys() == {INPUT, *(node.name for node in graph.nodes)}
    assert all((value == value.astype(np.float16)).all() for value in half.values())
    assert 40 < snr_db(plain[graph.output], half[graph.output]) < 90


def test_a_network_that_has_no_form_in_a_precision_is_not_converted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lower_tf, "unconvertible", lambda _, precision: (f"relu has no form in {precision}",))
    graph, weights, calibration = design("smallnet")
    with pytest.raises(ExportError, match="relu has no form in int8; choose another precision"):
        lower_tf.to_tflite(graph, weights, precision="int8", calibration=calibration)


def test_converting_to_integers_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    graph, weights, calibration = design("smallnet")
    for precision in ROUNDED:
        TfliteModel(lower_tf.to_tflite(graph, weights, precision=precision, io="float32", calibration=calibration))
    lower_tf.predict_maps(graph, weights, calibration[0], half=True)
    assert capfd.readouterr() == ("", "")
