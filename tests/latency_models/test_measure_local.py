"""Timing on this machine: ratios to a reference, and what is kept of them. Needs TensorFlow's converter (seconds)."""

from dataclasses import replace
from itertools import chain, repeat
from pathlib import Path
from statistics import median

import pytest

from latency_models import probes
from latency_models.measure import local
from latency_models.measure.local import (
    FEWEST_PAIRS,
    LoadedModel,
    LocalOptions,
    here,
    measure_here,
    pair_ratio,
    record_reference,
)
from latency_models.measure.models import write_models
from latency_models.measurements import Failure, Timing
from latency_models.probes import Probe
from search_spaces.errors import MeasurementError

OPTIONS = LocalOptions()
NAMES = ("conv-k3-s1-16-16-relu-68x120", "conv-k3-s1-16-256-relu-68x120")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    made = [probes.named(name) for name in NAMES]
    return write_models([probe for probe in made if probe], tmp_path_factory.mktemp("models"))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TURN_S": 0.002, "WARM_UP_S": 0.01, "RECORD_TURNS": 5, "LONGEST_S": 0.5}.items():
        monkeypatch.setattr(local, name, value)


def test_sixteen_times_the_filters_take_far_longer_than_one_on_a_busy_machine_too(models: list[Path]) -> None:
    narrow, wide = (LoadedModel(path.stem, path.read_bytes(), OPTIONS) for path in models)
    measured = pair_ratio(wide, narrow)
    assert measured.ratio > 3
    assert measured.low <= measured.ratio <= measured.high
    assert measured.pairs >= FEWEST_PAIRS


def test_turns_of_equal_length_follow_from_the_shortest_run_of_the_warm_up(models: list[Path]) -> None:
    runs = chain([0.25, 0.02, 0.2], repeat(0.01))  # the first ones disturbed

    class Disturbed(LoadedModel):
        def seconds(self, runs_wanted: int) -> float:
            return next(runs) if runs_wanted else 0.0

    assert Disturbed("x", models[0].read_bytes(), OPTIONS).runs_per_turn == round(local.TURN_S / 0.01)


class Scripted(LoadedModel):
    """A model whose turns take what a list says."""

    def __init__(self, seconds: list[float]) -> None:
        self.name, self._left = "scripted", iter(seconds)

    def turn(self) -> float:
        return next(self._left)


def test_a_machine_that_slows_down_does_not_change_a_ratio() -> None:
    slowdown = [1.0 + 0.1 * n for n in range(200)]  # both are slower from turn to turn
    reference = Scripted([0.010 * s for s in slowdown[::2]])
    model = Scripted([0.030 * s for s in slowdown[1::2]])
    assert pair_ratio(model, reference).ratio == pytest.approx(3.0, rel=0.001)


def test_one_disturbed_turn_in_five_does_not_change_a_ratio() -> None:
    model = Scripted([0.03 if n % 5 else 0.3 for n in range(100)])
    assert pair_ratio(model, Scripted([0.01] * 101)).ratio == pytest.approx(3.0)


def test_pairs_go_on_until_the_median_is_sure() -> None:
    steady = pair_ratio(Scripted([0.03] * 100), Scripted([0.01] * 101))
    shaky = pair_ratio(Scripted([0.02 + 0.02 * (n % 2) for n in range(100)]), Scripted([0.01] * 101))
    assert steady.pairs == FEWEST_PAIRS
    assert shaky.pairs > 2 * FEWEST_PAIRS


def test_the_references_recorded_time_is_the_median_of_its_turns() -> None:
    assert median(record_reference(Scripted([0.01, 0.02, 0.09] * 50))) == pytest.approx(20)


@pytest.mark.usefixtures("quick")
def test_what_is_measured_carries_its_conditions_and_its_file(models: list[Path]) -> None:
    reference, timing = list(measure_here(models[1:], models[:1], OPTIONS))
    assert isinstance(reference, Timing)
    assert isinstance(timing, Timing)
    assert (reference.network, timing.network) == NAMES
    assert (reference.statistic, timing.statistic) == ("median", "pair_ratio")
    assert timing.low_ms is not None
    assert timing.high_ms is not None
    assert timing.low_ms <= timing.runtime_ms <= timing.high_ms
    assert len(timing.model_sha256) == len(timing.conditions.binary_sha256) == 64
    assert (timing.conditions.delegate, timing.conditions.threads, timing.conditions.runtime) == (
        "xnnpack",
        1,
        "LiteRT",
    )


@pytest.mark.usefixtures("quick")
def test_what_is_known_is_not_timed_again_and_the_reference_keeps_its_milliseconds(models: list[Path]) -> None:
    conditions = here(OPTIONS)
    known = [Timing(NAMES[0], 1000.0, conditions=conditions), Timing(NAMES[1], 5.0, conditions=conditions)]
    assert list(measure_here(models[1:], models[:1], OPTIONS, known=known)) == []
    (again,) = measure_here(models[1:], models[:1], OPTIONS, known=known[:1])
    assert isinstance(again, Timing)
    assert again.runtime_ms > 3000  # in the unit of a reference that is said to take a second


@pytest.mark.usefixtures("quick")
def test_times_under_other_conditions_are_not_known(models: list[Path]) -> None:
    other = replace(here(OPTIONS), threads=2)
    outcomes = list(
        measure_here(models[1:], models[:1], OPTIONS, known=[Timing(name, 5.0, conditions=other) for name in NAMES])
    )
    assert len(outcomes) == 2


@pytest.mark.usefixtures("quick")
def test_a_damaged_file_is_a_failure_with_its_reason_and_the_others_go_on(models: list[Path], tmp_path: Path) -> None:
    torn = tmp_path / "torn.tflite"
    torn.write_bytes(models[0].read_bytes()[:200])
    _, failure, timing = measure_here([torn, models[1]], models[:1], OPTIONS)
    assert isinstance(failure, Failure)
    assert failure.network == "torn"
    assert failure.reason.startswith("LiteRT cannot run torn:")
    assert isinstance(timing, Timing)


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(MeasurementError, match=r"Cannot read .*gone\.tflite"):
        list(measure_here([], [tmp_path / "gone.tflite"], OPTIONS))


def test_files_that_are_there_are_kept(models: list[Path]) -> None:
    before = models[0].stat().st_mtime_ns
    probe = probes.named(NAMES[0])
    assert probe is not None
    assert write_models([probe], models[0].parent) == [models[0]]
    assert models[0].stat().st_mtime_ns == before


def test_the_plain_kernels_can_be_asked_for(models: list[Path]) -> None:
    assert here(LocalOptions(xnnpack=False)).delegate == "cpu"
    assert LoadedModel("plain", models[0].read_bytes(), LocalOptions(xnnpack=False)).seconds(1) > 0


def test_references_are_one_network_at_three_sizes() -> None:
    references = local.reference_probes()
    assert all(isinstance(probe, Probe) for probe in references)
    assert len({probe.graph.structure for probe in references}) == 1
    assert len({probe.graph.input_shape for probe in references}) == 3
