"""What lies outside what was measured is named, and widens the interval by its share of the time."""

from math import log

import pytest

from latency_models.device import load_device
from latency_models.kernels import Kernel, Network, network
from latency_models.measured_range import INHERITED_OFF, KIND_OFF, OPERATION_OFF, outside, range_of
from latency_models.predictor import Core, Prediction, Predictor, assumed_interval
from latency_models.roofline import CLASS_COEFFICIENTS, Layout
from search_spaces.designs import DESIGNS
from search_spaces.networks import build_graph

LAYOUT = Layout(1, 4, 4, 1)
COSTS = {"fixed_ms": 0.01, "io_ms_per_mb": 0.0, "kernel_ms": 0.001} | {
    name: 1.0 for needed in CLASS_COEFFICIENTS.values() for name in needed
}
BASE = Kernel("k", ("k",), "conv", "CONV_2D", 10**8, 10**6, 10**6, 10**4, 32, 32, 3, 1, 64, 64, (), "k")
SMALL = BASE._replace(macs=10**6, cin=8, cout=8, input_elements=10**4, output_elements=10**4)
DEPTHWISE = BASE._replace(cls="depthwise", tflite_op="DEPTHWISE_CONV_2D", kernel=5, macs=10**7)
KNOWN = Network((BASE, SMALL, DEPTHWISE), 10, 10)


def predicted(*kernels: Kernel) -> Prediction:
    predictor = Predictor(Core(LAYOUT, COSTS), assumed_interval(1.2, "a test"), range=range_of([KNOWN]))
    named = tuple(k._replace(name=f"{k.name}{n}") for n, k in enumerate(kernels))
    return predictor.predict(Network(named, 10, 10))


def width(prediction: Prediction) -> float:
    return log(prediction.high_ms / prediction.low_ms)


@pytest.mark.parametrize(
    ("kernel", "sentence"),
    [
        (DEPTHWISE._replace(kernel=7), "of kernel side 7 was never measured, only 5"),
        (DEPTHWISE._replace(kernel=3), "of kernel side 3 was never measured, only 5"),
        (BASE._replace(groups=4), "of 4 groups was never measured, only 1"),
        (BASE._replace(stride=4), "of stride 4 was never measured, only 1"),
        (BASE._replace(dilation=2), "of dilation 2 was never measured, only 1"),
        (BASE._replace(cin=128), "of 128 channels per group was never measured, only 8 to 32"),
        (BASE._replace(cin=2), "of 2 channels per group was never measured, only 8 to 32"),
        (BASE._replace(cout=256), "of 256 channels was never measured, only 8 to 32"),
        (BASE._replace(cls="memory", tflite_op="POW", macs=0), "was never measured here"),
    ],
)
def test_a_kernel_outside_is_named_with_the_figure_and_widens_the_interval(kernel: Kernel, sentence: str) -> None:
    prediction = predicted(kernel)
    assert any(sentence in flag and '"k0"' in flag for flag in prediction.flags), prediction.flags
    assert width(prediction) > 2 * width(predicted(BASE))
    assert prediction.low_ms < prediction.runtime_ms < prediction.high_ms


def test_every_figure_outside_is_named_and_they_widen_together() -> None:
    known = range_of([KNOWN])
    side, stride = DEPTHWISE._replace(kernel=7), DEPTHWISE._replace(stride=4)
    both = outside(DEPTHWISE._replace(kernel=7, stride=4), known)
    assert both.why == f"{outside(side, known).why}; {outside(stride, known).why}"
    assert KIND_OFF < both.off < KIND_OFF**2


def test_a_kernel_inside_says_nothing() -> None:
    assert predicted(BASE, SMALL, DEPTHWISE).flags == ()


def test_an_unknown_operation_is_as_wide_as_such_operations_have_been_off() -> None:
    assert outside(BASE._replace(tflite_op="SOFTMAX", cls="activation"), range_of([KNOWN])).off == OPERATION_OFF
    assert outside(DEPTHWISE._replace(kernel=7), range_of([KNOWN])).off == KIND_OFF


def test_the_interval_grows_by_the_share_of_what_is_outside() -> None:
    odd = BASE._replace(groups=4)
    alone, among = predicted(odd), predicted(odd, *[BASE] * 30)
    assert width(predicted(BASE)) < width(among) < width(alone)


@pytest.mark.parametrize("count", [1, 20, 60, 300])
def test_equal_layers_beyond_count_together_however_many_there_are(count: int) -> None:
    # Sixty layers take 1.7 % of the time each; none of them was worth a word where each was judged alone.
    large = BASE._replace(macs=10 * BASE.macs, input_elements=10**7, output_elements=10**7)
    prediction = predicted(*[large] * count)
    assert prediction.extrapolation == pytest.approx(10.0, rel=0.1)
    assert "times larger than anything measured" in prediction.flags[0]


def test_a_detail_beyond_does_not_make_the_whole_an_extrapolation() -> None:
    tiny = SMALL._replace(macs=2 * BASE.macs // 10**3, output_elements=SMALL.output_elements, groups=1)
    assert predicted(tiny, *[BASE] * 50).extrapolation == 1.0


def test_the_default_device_says_that_it_extrapolates() -> None:
    device = load_device("dimensity-1000-plus")
    spec = DESIGNS["smallnet"].spec
    inside = device.predict(build_graph(spec))
    far = device.predict_network(network(build_graph(spec, (1, 2 * 544, 2 * 960, 4))))
    assert inside.flags == ()
    assert far.extrapolation > 1.5
    assert "times larger than anything measured" in far.flags[0]
    assert width(far) > width(inside)


def test_what_was_timed_on_a_few_values_has_not_been_timed_on_maps() -> None:
    few = BASE._replace(cls="memory", tflite_op="RSQRT", macs=0, input_elements=8, output_elements=8, weight_elements=0)
    known = range_of([Network((BASE, few), 10, 10)])
    assert outside(few, known).off == 1.0
    assert outside(few._replace(input_elements=900, output_elements=900), known).off == 1.0
    beyond = outside(few._replace(input_elements=10**6, output_elements=10**6), known)
    assert beyond.off == OPERATION_OFF
    assert beyond.why == "of 2000000 values was never measured, only 16"


CONCAT = BASE._replace(cls="memory", tflite_op="CONCATENATION", macs=0, cin=1)
RESIZE = BASE._replace(cls="memory", tflite_op="RESIZE_BILINEAR", macs=0, output_elements=10**5)


@pytest.mark.parametrize(
    ("odd", "usual", "sentence"),
    [
        (DEPTHWISE._replace(cout=256), DEPTHWISE, "of 8 channels made of each was never measured"),
        (CONCAT, CONCAT._replace(cin=16), "of 1 channels of a part was never measured"),
        (RESIZE, RESIZE._replace(output_elements=10**7), "to fewer pixels was never measured"),
    ],
)
def test_what_is_computed_otherwise_is_told_where_it_was_never_measured(
    odd: Kernel, usual: Kernel, sentence: str
) -> None:
    known = range_of([Network((BASE, usual), 10, 10)])
    assert outside(usual, known).off == 1.0
    beyond = outside(odd, known._replace(elements={}, macs={}))
    assert beyond.off >= KIND_OFF
    assert sentence in beyond.why.split("; ")
    assert outside(odd, range_of([Network((BASE, usual, odd), 10, 10)])).off == 1.0


def test_a_class_that_only_other_devices_were_timed_with_widens_the_interval() -> None:
    own = range_of([KNOWN])
    inherited = outside(DEPTHWISE, own._replace(inherited=("depthwise",)))
    assert inherited.off == INHERITED_OFF
    assert "on other devices alone" in inherited.why
    assert outside(DEPTHWISE, own).off == 1.0


def test_a_detail_far_beyond_does_not_widen_the_rest() -> None:
    huge = SMALL._replace(macs=10**6 * BASE.macs, cout=8)
    assert width(predicted(huge)) <= 2 * log(100) + width(predicted(BASE))
    tiny = SMALL._replace(cls="memory", tflite_op="ADD", macs=0, output_elements=10**9)
    known = Network((BASE, SMALL._replace(cls="memory", tflite_op="ADD", macs=0)), 10, 10)
    predictor = Predictor(Core(LAYOUT, COSTS), assumed_interval(1.2, "a test"), range=range_of([known]))
    prediction = predictor.predict(Network((tiny, *[BASE._replace(name=f"k{n}") for n in range(200)]), 10, 10))
    share = prediction.kernels_ms[tiny.name] / prediction.runtime_ms
    assert prediction.high_ms <= prediction.runtime_ms * ((1 - share) * 1.2 + share * 100) * (1 + 1e-9)


def test_roots_of_variances_tell_no_price_of_maps() -> None:
    device = load_device("amd-epyc-genoa-1-thread")
    root = BASE._replace(cls="memory", tflite_op="RSQRT", macs=0, weight_elements=0)
    like = root._replace(tflite_op="SUB")
    times = [device.predict_network(Network((k._replace(name="k"),), 10, 10)).runtime_ms for k in (root, like)]
    assert times[0] < 10 * times[1]
