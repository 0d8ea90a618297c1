"""The roofline: amounts, times, and a fit that knows how little it knows."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latency_models.kernels import COMPUTING_CLASSES, MOVING_CLASSES, Kernel, network
from latency_models.roofline import (
    CLASS_COEFFICIENTS,
    OVERHEADS,
    Layout,
    MeasuredRow,
    fit,
    kernel_amounts,
    overhead_amounts,
    time_ms,
    total_amounts,
)
from search_spaces.designs import DESIGNS
from search_spaces.errors import DeviceError
from search_spaces.networks import build_graph

LAYOUT = Layout(lane=16, bytes_per_element=2, io_bytes_per_element=4)
PRIOR = {"fixed_ms": 2.0, "io_ms_per_mb": 1.0, "kernel_ms": 0.5}


def kernel(cls: str = "conv", *, macs: int = 1_000_000_000, cin: int = 16, cout: int = 16, groups: int = 1) -> Kernel:
    return Kernel(
        "k", ("k",), cls, "CONV_2D", macs, 300_000, 150_000, 50_000, cin, cout, 3, 1, 1, 1, ("input",), "k",
        groups=groups,
    )  # fmt: skip


def test_a_kernel_is_one_launch_its_traffic_and_its_effective_work() -> None:
    assert kernel_amounts(kernel(), LAYOUT) == {"kernel_ms": 1.0, "conv_ms_per_mb": 1.0, "conv_ms_per_gmac": 1.0}
    assert kernel_amounts(kernel("memory", macs=0), LAYOUT) == {"kernel_ms": 1.0, "memory_ms_per_mb": 1.0}


def test_full_hd_io_is_33_megabytes() -> None:
    # 544·960·4 values in and 1088·1920·3 out, four bytes each: 8.36 + 25.07 MB.
    seen = network(build_graph(DESIGNS["smallnet"].spec))
    assert overhead_amounts(seen, LAYOUT)["io_ms_per_mb"] == pytest.approx(8.36 + 25.07, abs=0.01)


@pytest.mark.parametrize(
    ("cls", "cin", "cout", "groups", "padding"),
    [
        ("conv", 16, 32, 1, 1),
        ("conv", 4, 16, 1, 4),
        ("conv", 4, 3, 1, 4 * 16 / 3),
        ("conv_1x1", 17, 16, 1, 32 / 17),
        ("depthwise", 4, 4, 1, 4),
        ("transpose_conv", 8, 8, 1, 4),
        ("conv", 64, 64, 4, 1),
        ("conv", 64, 64, 8, 2),
    ],
)
def test_channels_are_computed_in_whole_lanes(cls: str, cin: int, cout: int, groups: int, padding: float) -> None:
    one = kernel(cls, cin=cin, cout=cout, groups=groups)
    assert kernel_amounts(one, LAYOUT)[f"{cls}_ms_per_gmac"] == pytest.approx(padding)
    assert kernel_amounts(one, LAYOUT._replace(lane=1))[f"{cls}_ms_per_gmac"] == pytest.approx(1.0)


def test_input_lanes_may_differ_from_output_lanes() -> None:
    one = kernel(cin=5, cout=17)
    amounts = kernel_amounts(one, LAYOUT._replace(lane=16, input_lane=4))
    assert amounts["conv_ms_per_gmac"] == pytest.approx(8 / 5 * 32 / 17)


def test_a_tap_costs_the_same_however_few_channels_it_reads() -> None:
    layout = LAYOUT._replace(taps=True, input_lane=1)
    narrow, wide = kernel(cin=4, macs=10**9), kernel(cin=64, macs=16 * 10**9)
    assert (
        kernel_amounts(narrow, layout)["conv_ms_per_gtap"] == kernel_amounts(wide, layout)["conv_ms_per_gtap"] == 0.25
    )
    assert "depthwise_ms_per_gtap" not in kernel_amounts(kernel("depthwise"), layout)  # it would be its MACs again


def test_traffic_beyond_the_cache_is_counted_apart_and_within_it_not_at_all() -> None:
    assert kernel_amounts(kernel(), LAYOUT._replace(cache_mb=0.25))["conv_ms_per_spilled_mb"] == 0.75
    assert kernel_amounts(kernel(), LAYOUT._replace(cache_mb=4.0))["conv_ms_per_spilled_mb"] == 0.0


def test_an_operation_with_a_cost_of_its_own_is_not_charged_its_class() -> None:
    moved = kernel("activation", macs=0)._replace(tflite_op="TANH")
    assert "tanh_ms_per_mb" in kernel_amounts(moved, LAYOUT._replace(own_ops=("TANH",)))
    assert "activation_ms_per_mb" in kernel_amounts(moved, LAYOUT._replace(own_ops=("ELU",)))


def test_a_network_is_the_sum_of_its_kernels_and_overheads() -> None:
    seen = network(build_graph(DESIGNS["csanet"].spec, (1, 32, 32, 4)))
    prices = {name: 1.0 + index for index, name in enumerate(total_amounts(seen, LAYOUT))}
    apart = [overhead_amounts(seen, LAYOUT), *(kernel_amounts(part, LAYOUT) for part in seen.kernels)]
    whole = time_ms(total_amounts(seen, LAYOUT), prices)
    assert whole == pytest.approx(sum(time_ms(amounts, prices) for amounts in apart))


def test_every_class_moves_and_computing_classes_compute() -> None:
    assert set(CLASS_COEFFICIENTS) == {*COMPUTING_CLASSES, *MOVING_CLASSES}
    assert {cls for cls, names in CLASS_COEFFICIENTS.items() if len(names) == 2} == set(COMPUTING_CLASSES)
    assert not set(OVERHEADS) & {name for names in CLASS_COEFFICIENTS.values() for name in names}


def test_a_class_without_a_coefficient_is_an_error_not_zero() -> None:
    with pytest.raises(DeviceError, match="needs the coefficient conv_ms_per_mb, and the device was measured with"):
        time_ms(kernel_amounts(kernel(), LAYOUT), PRIOR)
    with pytest.raises(DeviceError, match="needs the coefficient conv_ms_per_mb"):
        fit([MeasuredRow({"conv_ms_per_mb": 1.0}, 3.0)], PRIOR, shrinkage=0.1)


def test_without_measurements_the_fit_is_the_prior() -> None:
    assert fit([], PRIOR, shrinkage=0.1) == PRIOR


def test_measurements_that_the_prior_explains_change_nothing() -> None:
    amounts = {"fixed_ms": 1.0, "io_ms_per_mb": 33.0, "kernel_ms": 5.0}
    assert fit([MeasuredRow(amounts, time_ms(amounts, PRIOR))], PRIOR, shrinkage=0.1) == pytest.approx(PRIOR)


def test_a_cost_that_no_network_has_stays_at_its_prior() -> None:
    fitted = fit([MeasuredRow({"fixed_ms": 1.0}, 4.0)], PRIOR, shrinkage=0.1)
    assert fitted["fixed_ms"] > PRIOR["fixed_ms"]
    assert fitted["kernel_ms"] == PRIOR["kernel_ms"]


def test_one_row_and_one_cost_follow_the_closed_form() -> None:
    # min (2u/4 − 1)² + λ(u − 1)² over the multiple u of the prior: u = (0.5 + λ) / (0.25 + λ).
    fitted = fit([MeasuredRow({"fixed_ms": 1.0}, 4.0)], {"fixed_ms": 2.0}, shrinkage=0.05)
    assert fitted["fixed_ms"] == pytest.approx(2.0 * 0.55 / 0.30, rel=1e-5)


def test_costs_never_become_negative() -> None:
    # The second row is far faster although it has more kernels; plain least squares would pay for kernels.
    rows = [
        MeasuredRow({"fixed_ms": 1.0, "kernel_ms": 1.0}, 9.0),
        MeasuredRow({"fixed_ms": 1.0, "kernel_ms": 20.0}, 3.0),
    ]
    fitted = fit(rows, {"fixed_ms": 2.0, "kernel_ms": 0.5}, shrinkage=1e-6)
    assert fitted["kernel_ms"] == 0.0
    assert fitted["fixed_ms"] > 0


def test_a_prior_of_zero_stays_zero() -> None:
    assert fit([MeasuredRow({"fixed_ms": 1.0}, 4.0)], {"fixed_ms": 0.0}, shrinkage=0.1) == {"fixed_ms": 0.0}


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(0.25, 4.0), min_size=3, max_size=3))
def test_many_measurements_outweigh_the_prior(multiples: list[float]) -> None:
    truth = {name: value * m for (name, value), m in zip(PRIOR.items(), multiples, strict=True)}
    amounts = [{"fixed_ms": 1.0, "io_ms_per_mb": float(i % 7), "kernel_ms": float(i % 11)} for i in range(77)]
    rows = [MeasuredRow(a, time_ms(a, truth)) for a in amounts]
    assert fit(rows, PRIOR, shrinkage=1e-6) == pytest.approx(truth, rel=0.01)
