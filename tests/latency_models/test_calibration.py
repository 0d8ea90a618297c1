"""Fitting a predictor: that it finds the truth where there is one, and says how good it is where it had not looked."""

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from math import exp, log

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_device import LAYOUT, truth_ms

from latency_models import probes
from latency_models.calibration import (
    FEWEST_TO_TRANSFER,
    fit_measured,
    fit_transfer,
    leave_families_out,
)
from latency_models.kernels import Network, network
from latency_models.measured_range import range_of
from latency_models.predictor import Core, Predictor, Transfer, assumed_interval
from latency_models.predictor_file import predictor_to_data, read_predictor
from latency_models.residual import Corrector
from latency_models.roofline import total_amounts
from latency_models.samples import Sample
from search_spaces.designs import DESIGNS
from search_spaces.errors import DeviceError, MeasurementError
from search_spaces.networks import build_graph
from search_spaces.space import load_space

SPACE = load_space("mai21")
BYTES = {"io_bytes": 4, "map_bytes": 4}


def samples(
    count: int, networks: int, *, speed: float = 1.0, noise: float = 0.0, largest_side: int | None = None
) -> list[Sample]:
    rng = random.Random(0)
    return [
        Sample(seen, truth_ms(seen, speed=speed) * exp(rng.gauss(0, noise)), probe.family, probe.name)
        for probe, seen in planned(count, networks, largest_side)
    ]


@cache
def planned(count: int, networks: int, largest_side: int | None) -> list[tuple[probes.Probe, Network]]:
    made = [*probes.plan(count, largest_side=largest_side), *probes.candidates(SPACE, networks)]
    return [(probe, network(probe.graph)) for probe in made]


def errors(predictor: Predictor, tested: Sequence[Sample]) -> list[float]:
    return [abs(predictor.predict(s.network).runtime_ms / s.runtime_ms - 1) for s in tested]


def unseen(count: int, *, speed: float = 1.0) -> list[Sample]:
    rng = random.Random(99)
    specs = [SPACE.sample(lambda _, values, __: rng.choice(values)) for _ in range(count)]
    graphs = [build_graph(spec) for spec in specs]
    return [Sample(network(g), truth_ms(network(g), speed=speed), "unseen") for g in graphs]


@pytest.fixture(scope="module")
def measured() -> list[Sample]:
    return samples(160, 24, noise=0.01)


@pytest.fixture(scope="module")
def fitted(measured: list[Sample]) -> Predictor:
    return fit_measured(measured, **BYTES)[0]


def test_a_device_that_is_a_roofline_is_found_from_noisy_probes(fitted: Predictor) -> None:
    assert max(errors(fitted, unseen(20))) < 0.05


def test_probes_of_small_maps_foresee_full_hd_where_the_device_is_a_roofline() -> None:
    small = samples(160, 0, largest_side=480)
    assert max(max(kernel.height for kernel in s.network.kernels) for s in small) <= 480
    predictor, _ = fit_measured(small, **BYTES)
    relative_errors = errors(predictor, unseen(20))
    assert sum(relative_errors) / len(relative_errors) < 0.05


def test_held_out_networks_were_foreseen_without_their_family(measured: list[Sample]) -> None:
    seen_families: list[set[str]] = []

    def spy(some: Sequence[Sample]) -> Predictor:
        seen_families.append({s.family for s in some})
        return Predictor(Core(LAYOUT, _prices(measured)), assumed_interval(1.0, "none"))

    held = leave_families_out(measured, spy)
    judged = {s.family for s in measured if s.is_network}
    assert {h.family for h in held} == judged
    for families in seen_families:
        assert judged - families, "every fold leaves out some family whole"
    assert all(any(h.family not in families for families in seen_families) for h in held)


def _prices(measured: Sequence[Sample]) -> dict[str, float]:
    return dict.fromkeys({name for s in measured for name in total_amounts(s.network, LAYOUT)}, 1.0)


def test_the_interval_holds_about_four_fifths_of_the_networks_that_a_fit_had_not_seen(measured: list[Sample]) -> None:
    rng = random.Random(5)
    noisy = [s._replace(runtime_ms=s.runtime_ms * exp(rng.gauss(0, 0.15))) for s in measured]
    predictor, held = fit_measured(noisy, **BYTES)
    low, high = exp(predictor.interval.low), exp(predictor.interval.high)
    inside = sum(low <= h.measured_ms / h.predicted_ms <= high for h in held) / len(held)
    assert 0.75 <= inside <= 0.95
    assert predictor.interval.low90 <= predictor.interval.low < predictor.interval.high <= predictor.interval.high90


def test_refitting_gives_the_same_numbers_to_the_last_bit(measured: list[Sample], fitted: Predictor) -> None:
    again, _ = fit_measured(list(measured), **BYTES)
    assert predictor_to_data(again) == predictor_to_data(fitted)


def test_a_predictor_is_the_same_after_a_trip_through_json(fitted: Predictor) -> None:
    text = json.dumps(predictor_to_data(fitted))
    back = read_predictor("file", json.loads(text))
    assert back == fitted
    seen = unseen(3)
    assert [back.predict(s.network) for s in seen] == [fitted.predict(s.network) for s in seen]


@pytest.fixture(scope="module")
def quirky() -> list[Sample]:
    """The device runs convolutions of five taps three tenths slower than any roofline of ours says."""
    slowed = []
    for s in samples(300, 0):
        slow = any(k.cls == "conv" and k.kernel == 5 for k in s.network.kernels)
        slowed.append(s._replace(runtime_ms=s.runtime_ms * (1.3 if slow else 1.0)))
    return slowed


@pytest.fixture(scope="module")
def corrected(quirky: list[Sample]) -> Predictor:
    """What was fitted to the quirky device; it holds a residual."""
    predictor, _ = fit_measured(quirky, **BYTES)
    return predictor


def test_a_residual_learns_what_the_roofline_cannot_say(quirky: list[Sample], corrected: Predictor) -> None:
    assert isinstance(corrected.core, Core)
    assert corrected.core.residual is not None
    plain = replace(corrected, core=replace(corrected.core, residual=None))
    fives = [s for s in quirky if s.label.startswith("conv-k5")]
    assert sum(errors(corrected, fives)) < 0.6 * sum(errors(plain, fives))


def test_the_residual_fades_far_outside_what_was_measured(quirky: list[Sample], corrected: Predictor) -> None:
    assert isinstance(corrected.core, Core)
    assert corrected.core.residual is not None
    inside = next(s for s in quirky if s.label.startswith("conv-k5")).network.kernels[0]
    far = inside._replace(
        macs=inside.macs * 10**6,
        input_elements=inside.input_elements * 10**6,
        output_elements=inside.output_elements * 10**6,
        height=inside.height * 10**3,
        width=inside.width * 10**3,
    )
    near, away = Corrector(corrected.core.residual).factors([inside, far])
    assert abs(log(away)) < 0.01 < abs(log(near))


def test_too_few_measurements_say_how_many_are_missing(measured: list[Sample]) -> None:
    with pytest.raises(MeasurementError, match=r"needs \d+ measurements, got 12: \d+ are missing.*--prior"):
        fit_measured(measured[:12], **BYTES)


# Few networks, another device known


def test_a_few_networks_adapt_another_devices_predictor(fitted: Predictor) -> None:
    few = samples(0, 10, speed=2.5)
    adapted, held = fit_transfer(few, [fitted])
    assert len(held) == 10
    assert max(errors(adapted, unseen(15, speed=2.5))) < 0.06


def test_two_sources_are_averaged_at_the_targets_level(fitted: Predictor) -> None:
    slower, _ = fit_measured(samples(160, 24, speed=0.25), **BYTES)
    adapted, _ = fit_transfer(samples(0, 10), [fitted, slower])
    assert isinstance(adapted.core, Transfer)
    inner = adapted.core.sources[0].core  # the sources' share of the blend, beside the fit without a prior
    assert isinstance(inner, Transfer)
    assert inner.weights[0] / inner.weights[1] == pytest.approx(4.0, rel=0.15)
    assert sum(inner.weights) == pytest.approx(0.5 + 0.125, rel=0.15)
    assert max(errors(adapted, unseen(15))) < 0.06


def test_a_transfer_needs_a_handful_of_networks(fitted: Predictor) -> None:
    with pytest.raises(MeasurementError, match=rf"needs {FEWEST_TO_TRANSFER} measured networks, got 3: 2 are missing"):
        fit_transfer(samples(0, 3), [fitted])


def test_a_transfer_survives_json(fitted: Predictor) -> None:
    adapted, _ = fit_transfer(samples(0, 8, speed=3.0), [fitted])
    assert read_predictor("file", json.loads(json.dumps(predictor_to_data(adapted)))) == adapted


# What a prediction says of itself


def test_the_parts_of_a_prediction_add_up(fitted: Predictor) -> None:
    for s in unseen(5):
        p = fitted.predict(s.network)
        assert p.runtime_ms == pytest.approx(p.fixed_ms + sum(p.kernels_ms.values()))
        assert p.low_ms < p.runtime_ms < p.high_ms
        assert not p.assumed_interval


def test_a_network_beyond_what_was_measured_says_by_how_much_and_widens_its_interval() -> None:
    small, _ = fit_measured(samples(160, 0, largest_side=120), **BYTES)
    inside = network(build_graph(DESIGNS["smallnet"].spec, (1, 68, 120, 4)))
    outside = network(build_graph(DESIGNS["smallnet"].spec))
    near, far = small.predict(inside), small.predict(outside)
    assert near.extrapolation == 1.0
    assert near.flags == ()
    assert far.extrapolation > 2
    assert "times larger than anything measured" in far.flags[0]
    assert log(far.high_ms / far.low_ms) > 1.3 * log(near.high_ms / near.low_ms)


@pytest.fixture(scope="module")
def narrow() -> Predictor:
    """What was fitted to measurements without any TANH and any transposed convolution."""

    def is_known(s: Sample) -> bool:
        return all(k.tflite_op != "TANH" and k.cls != "transpose_conv" for k in s.network.kernels)

    return fit_measured([s for s in samples(200, 0) if is_known(s)], **BYTES)[0]


def test_an_operation_that_was_never_measured_is_named(narrow: Predictor) -> None:
    prediction = narrow.predict(network(build_graph(DESIGNS["smallnet"].spec)))
    assert any(flag.startswith("TANH was never measured") for flag in prediction.flags)


def test_a_class_that_was_never_measured_is_an_error_and_not_zero(narrow: Predictor) -> None:
    with pytest.raises(DeviceError, match="needs the coefficient transpose_conv_ms_per_"):
        narrow.predict(network(build_graph(DESIGNS["csanet"].spec)))


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10_000))
def test_every_member_of_the_space_is_priced(fitted: Predictor, seed: int) -> None:
    rng = random.Random(seed)
    spec = SPACE.sample(lambda _, values, __: rng.choice(values))
    prediction = fitted.predict(network(build_graph(spec)))
    assert 0 < prediction.low_ms < prediction.runtime_ms < prediction.high_ms < float("inf")


def test_the_range_holds_the_largest_kernel_of_each_class() -> None:
    seen = network(build_graph(DESIGNS["smallnet"].spec))
    known = range_of([seen])
    assert known.macs["conv"] == max(k.macs for k in seen.kernels)
    assert known.operations == ("CONV_2D", "DEPTH_TO_SPACE", "TANH")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda d: d["core"]["layout"].update(lane=0), r"core\.layout\.lane must be a whole number"),
        (lambda d: d["core"]["coefficients"].update(conv_ms_per_mb=-1), r"coefficients\.conv_ms_per_mb must be"),
        (lambda d: d["interval"].update(kind="sure"), r"interval\.kind must be 'assumed', 'measured'"),
        (lambda d: d["calibration"].pop("scale"), r"calibration\.scale is missing"),
        (lambda d: d.update(extra=1), r"extra is not a known key"),
        (lambda d: d["range"].update(operations="all"), r"range\.operations must be a list"),
    ],
)
def test_a_damaged_predictor_is_refused_by_the_place(fitted: Predictor, change: object, sentence: str) -> None:
    data = json.loads(json.dumps(predictor_to_data(fitted)))
    change(data)  # type: ignore[operator]
    with pytest.raises(DeviceError, match=sentence):
        read_predictor("x.json: predictor", data)


def test_a_tree_that_would_walk_in_circles_is_refused(corrected: Predictor) -> None:
    data = json.loads(json.dumps(predictor_to_data(corrected)))
    tree = data["core"]["residual"]["trees"][0]
    tree[2][0] = 0  # the root's left child is the root
    with pytest.raises(DeviceError, match=r"trees\[0\] must be five lists"):
        read_predictor("x.json: predictor", data)
