"""How probable it is that one network is faster: what both share cancels, and what is unknown makes it a half."""

from dataclasses import replace
from itertools import combinations
from math import log

import pytest

from latency_models.comparison import Timed, deviation_of_difference_ms, probability_faster
from latency_models.device import Device, load_device
from latency_models.kernels import network
from latency_models.samples import HeldOut
from search_spaces.designs import DESIGNS
from search_spaces.networks import build_graph
from search_spaces.spec import ArchSpec

APU = load_device("dimensity-1000-plus")
CPU = load_device("amd-epyc-genoa-1-thread")


def timed(spec: ArchSpec, device: Device = APU) -> Timed:
    seen = network(build_graph(spec))
    return Timed(seen, device.predict_network(seen))


SMALL, LARGE = timed(DESIGNS["smallnet"].spec), timed(DESIGNS["cvml"].spec)


def test_a_network_is_as_fast_as_itself_and_what_one_gains_the_other_loses() -> None:
    assert probability_faster(SMALL, SMALL) == 0.5
    assert 0.5 < probability_faster(SMALL, LARGE) < 1
    assert probability_faster(SMALL, LARGE) + probability_faster(LARGE, SMALL) == pytest.approx(1)


def test_what_two_networks_have_in_common_is_no_doubt_between_them() -> None:
    spec = DESIGNS["smallnet"].spec
    sibling = timed(ArchSpec.from_dict(spec.to_dict() | {"depth": spec.depth + 1}))
    assert probability_faster(SMALL, sibling) > 0.99  # all that Smallnet has and more
    other = timed(DESIGNS["isp-forever"].spec)
    apart = Timed(
        other.network, replace(sibling.prediction, kernels_ms=dict.fromkeys(other.prediction.kernels_ms, 0.0))
    )
    assert apart.prediction.runtime_ms == sibling.prediction.runtime_ms
    assert probability_faster(SMALL, apart) < 0.8


def test_a_wider_interval_makes_it_less_sure() -> None:
    vague = LARGE._replace(prediction=replace(LARGE.prediction, low_ms=1.0, high_ms=1e4))
    assert 0.5 < probability_faster(SMALL, vague) < probability_faster(SMALL, LARGE)


def test_errors_that_all_networks_share_cancel() -> None:
    shared = [HeldOut(f"{n}", f"{n}", 1, 1.5 * (1 + 0.01 * (n % 2)), 1.0) for n in range(8)]
    apart = [HeldOut(f"{n}", f"{n}", 1, 1.5 if n % 2 else 1 / 1.5, 1.0) for n in range(8)]
    assert probability_faster(SMALL, LARGE, shared) > probability_faster(SMALL, LARGE)
    assert probability_faster(SMALL, LARGE, apart) == pytest.approx(probability_faster(SMALL, LARGE))


def test_the_difference_is_as_sure_as_what_differs_and_the_level() -> None:
    difference = LARGE.prediction.runtime_ms - SMALL.prediction.runtime_ms
    deviation = deviation_of_difference_ms(SMALL, LARGE)
    assert deviation > SMALL.deviation * difference
    assert deviation_of_difference_ms(SMALL, SMALL) == pytest.approx(0)


def test_probabilities_of_networks_left_out_are_as_often_right_as_they_say() -> None:
    # Of a hundred networks at Full HD on a CPU, each foreseen by a fit without its family.
    by_label = {m.label: m.network for m in CPU.measurements}
    whole = [h for h in CPU.held_out if h.label in by_label][::3]
    right, said = 0.0, 0.0
    pairs = [(a, b) for a, b in combinations(whole, 2) if abs(log(a.predicted_ms / b.predicted_ms)) < 0.3]
    for a, b in pairs:
        first, second = (Timed(by_label[h.label], _at(CPU, by_label[h.label], h.predicted_ms)) for h in (a, b))
        probability = probability_faster(first, second, CPU.held_out)
        sure = max(probability, 1 - probability)
        said += sure
        right += (a.measured_ms < b.measured_ms) == (probability > 0.5)
    assert len(pairs) > 50
    assert right / len(pairs) == pytest.approx(said / len(pairs), abs=0.12)


def _at(device: Device, seen: object, runtime_ms: float) -> object:
    prediction = device.predictor.predict(seen)  # type: ignore[arg-type]
    factor = runtime_ms / prediction.runtime_ms
    kernels = {name: ms * factor for name, ms in prediction.kernels_ms.items()}
    return replace(
        prediction, runtime_ms=runtime_ms, low_ms=prediction.low_ms * factor, high_ms=prediction.high_ms * factor,
        kernels_ms=kernels, fixed_ms=prediction.fixed_ms * factor,
    )  # fmt: skip
