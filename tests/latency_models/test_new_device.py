"""Measurements become a device file: which network a timing is of, which families there are, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from made_up_device import CONDITIONS, LAYOUT, timings, truth_ms

from latency_models import new_device
from latency_models.delegate import load_delegate
from latency_models.device import Device, load_device, refit, summary
from latency_models.device_writer import device_text, save_device, text_of
from latency_models.kernels import network
from latency_models.measurements import Timing
from latency_models.methods import Fitted, Transferred
from latency_models.new_device import TABLES, common_conditions, extended, family_of, make_device, measured_of
from latency_models.other_probes import OtherProbe, named, plan
from latency_models.predictor import Core, Predictor, assumed_interval
from latency_models.roofline import total_amounts
from search_spaces.designs import DESIGNS
from search_spaces.errors import DeviceError, MeasurementError, UsageError
from search_spaces.networks import build_graph

NOWHERE = Path("no-folder")


@pytest.fixture(scope="module")
def device() -> Device:
    return make_device("mine", timings(), folder=NOWHERE)


def test_a_device_of_probes_and_networks_foresees_what_it_was_not_fitted_to(device: Device) -> None:
    assert isinstance(device.method, Fitted)
    assert summary(device.predictor, device.held_out)["mape"] < 0.05
    for name in ("smallnet", "csanet"):
        graph = build_graph(DESIGNS[name].spec, (1, 272, 480, 4))
        assert device.predict(graph).runtime_ms == pytest.approx(truth_ms(network(graph)), rel=0.05)


def test_a_saved_device_is_the_same_when_it_is_loaded(device: Device, tmp_path: Path) -> None:
    loaded = load_device(str(save_device(device, tmp_path / "devices")))
    assert replace(loaded, digest="") == replace(device, measurements=loaded.measurements)
    assert [m.sample.runtime_ms for m in loaded.measurements] == [m.runtime_ms for m in device.measurements]
    assert device_text(loaded) == device_text(device)


def test_a_loaded_device_refits_to_its_own_numbers_to_the_last_bit(device: Device, tmp_path: Path) -> None:
    loaded = load_device(str(save_device(device, tmp_path)))
    assert refit(loaded) == (loaded.predictor, loaded.held_out)


def test_a_device_carries_its_provenance(device: Device) -> None:
    assert device.conditions == CONDITIONS
    assert device.title == "Made-up phone, xnnpack, fp32, 1 thread"
    assert device.source == f"{len(device.measurements)} timings: a test"
    assert device.delegate.name == "xnnpack"
    assert device.limits[0].startswith("Nothing larger than maps of")


def test_an_existing_device_is_not_overwritten(device: Device, tmp_path: Path) -> None:
    path = save_device(device, tmp_path)
    before = path.read_bytes()
    with pytest.raises(UsageError, match=r"mine\.json exists already; choose another --name"):
        save_device(device, tmp_path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["", "../x", "a b", ".hidden", "a/b"])
def test_a_name_that_is_no_file_name_is_refused(device: Device, tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="A device's name is made of letters"):
        save_device(replace(device, name=name), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"delegate": "gpu"}, r"need one delegate, got 'gpu', 'xnnpack'; split the file"),
        ({"threads": 4}, r"need one threads, got 1, 4"),
        ({"precision": "fp16"}, r"need one precision, got 'fp16', 'fp32'"),
        ({"binary_sha256": "0" * 64}, r"need one binary_sha256"),
    ],
)
def test_mixed_conditions_are_refused(change: dict[str, object], sentence: str) -> None:
    mixed = [Timing("smallnet", 1.0, conditions=c) for c in (CONDITIONS, replace(CONDITIONS, **change))]
    with pytest.raises(MeasurementError, match=sentence):
        common_conditions(mixed)


def test_dates_may_differ_and_the_last_is_told() -> None:
    dated = [
        Timing("smallnet", 1.0, conditions=replace(CONDITIONS, date=date)) for date in ("2026-01-02", "2026-03-01")
    ]
    assert common_conditions(dated) == replace(CONDITIONS, date="2026-03-01")


def test_a_design_is_known_by_its_name_and_a_probe_by_its_own() -> None:
    design, probe = (measured_of(Timing(name, 3.0), NOWHERE) for name in ("csanet", "conv-k3-s1-4-8-none-34x60"))
    assert design.network == network(build_graph(DESIGNS["csanet"].spec))
    assert [kernel.tflite_op for kernel in probe.network.kernels] == ["CONV_2D"]
    assert (design.family, probe.family) == ("flat-expanded", "conv-k3-s1-4-8-none-34x60")


def test_a_file_that_was_timed_tells_more_than_its_name(tmp_path: Path) -> None:
    from latency_models.measure.models import write_models
    from latency_models.probes import Probe

    graph = build_graph(DESIGNS["smallnet"].spec, (1, 16, 16, 4))
    (path,) = write_models([Probe("csanet", "", graph)], tmp_path)
    measured = measured_of(Timing("csanet", 3.0, model=path.name), tmp_path)
    assert [kernel.tflite_op for kernel in measured.network.kernels] == [k.tflite_op for k in network(graph).kernels]


def test_a_network_that_nothing_tells_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(MeasurementError, match=r'"mystery" is no probe and no published design, and the measurements'):
        measured_of(Timing("mystery", 3.0), tmp_path)
    with pytest.raises(MeasurementError, match=r"its file .*models/mystery\.tflite is not there; put the \.tflite"):
        measured_of(Timing("mystery", 3.0, model="models/mystery.tflite"), tmp_path)


def test_a_torn_file_is_refused_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "x.tflite").write_bytes(b"\0\0\0\0TFL3")
    with pytest.raises(MeasurementError, match=r"x\.tflite: This \.tflite file is damaged"):
        measured_of(Timing("x", 3.0, model="x.tflite"), tmp_path)


def test_a_part_of_a_profile_is_one_kernel_without_start() -> None:
    part = measured_of(Timing("smallnet#1", 3.0), NOWHERE)
    assert not part.whole
    assert len(part.network.kernels) == 1
    with pytest.raises(MeasurementError, match="its network has 5 operations"):
        measured_of(Timing("smallnet#9", 3.0), NOWHERE)


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("candidate-flat-residual_dense-0123456789ab", "flat-residual_dense"),
        ("candidate-unet-0123456789ab", "unet"),
        ("mobilenet_v2_1.0_224", ""),  # its structure has to tell
        ("123", ""),
        ("smallnet", "flat-plain"),
        ("reference-smallnet-68x120", "flat-plain"),
        ("prelu-12-34x60", "prelu-12-34x60"),
    ],
)
def test_siblings_are_told_by_their_names(name: str, family: str) -> None:
    assert family_of(name) == family


def test_a_few_networks_start_from_another_device(device: Device) -> None:
    slower = [replace(t, runtime_ms=3 * t.runtime_ms) for t in timings(0)]
    adapted = make_device("slow", slower, folder=NOWHERE, sources={"mine": device.predictor})
    assert isinstance(adapted.method, Transferred)
    graph = build_graph(DESIGNS["cvml"].spec, (1, 272, 480, 4))
    assert adapted.predict(graph).runtime_ms == pytest.approx(3 * truth_ms(network(graph)), rel=0.15)
    assert "taken over from mine" in adapted.limits[-1]


def test_new_times_are_folded_back_under_a_new_name(device: Device) -> None:
    doubled = [replace(t, runtime_ms=2 * t.runtime_ms) for t in timings(0) if t.network == "cvml"]
    better = extended(device, doubled, name="better", folder=NOWHERE)
    assert better.name == "better"
    assert len(better.measurements) == len(device.measurements)
    (cvml,) = (m for m in better.measurements if m.label == "cvml")
    assert cvml.runtime_ms == doubled[0].runtime_ms
    assert better.predictor != device.predictor


def test_long_rows_of_figures_stand_on_one_line() -> None:
    data = {"rows": [[n / 7 for n in range(30)] for _ in range(3)], "short": {"a": 1}}
    text = text_of(data)
    assert json.loads(text) == data
    assert text.count("\n") == 7
    assert '"short": {"a": 1}' in text


def test_an_unknown_delegate_is_told_and_not_checked() -> None:
    messages: list[str] = []
    strange = [replace(t, conditions=replace(CONDITIONS, delegate="edgetpu")) for t in timings(60)]
    made = make_device("strange", strange, folder=NOWHERE, on_message=messages.append)
    assert made.delegate.name == "unchecked"
    assert any('"edgetpu" takes: support is not checked' in each for each in messages)
    assert any('"edgetpu" takes: support is not checked' in each for each in made.limits)


@pytest.mark.parametrize(("delegate", "table"), [("qnn", "qualcomm-qnn"), ("coreml", "coreml")])
def test_qualcomms_and_apples_delegates_have_tables(delegate: str, table: str) -> None:
    assert TABLES[delegate] == load_delegate(table).name


def test_a_file_that_cannot_be_priced_is_named_and_the_others_are_fitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unpriced(*_: object) -> None:
        raise DeviceError('Operation SVDF, which makes "x", needs a latency rule')

    monkeypatch.setattr(new_device, "read_network", unpriced)
    (tmp_path / "odd.tflite").write_bytes(b"x")
    messages: list[str] = []
    both = [*timings(60), Timing("odd", 3.0, model="odd.tflite", source="a test", conditions=CONDITIONS)]
    made = make_device("mine", both, folder=tmp_path, on_message=messages.append)
    assert len(made.measurements) == len(both) - 1
    assert any(each.startswith("odd is left out: ") and "SVDF" in each for each in messages)


def test_files_that_are_fitted_and_not_judged_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    messages: list[str] = []
    whole = network(build_graph(DESIGNS["smallnet"].spec))
    alone = whole._replace(kernels=whole.kernels[:1])
    monkeypatch.setattr(new_device, "read_network", lambda _: alone)
    (tmp_path / "topk.tflite").write_bytes(b"x")
    make_device(
        "mine",
        [*timings(60), Timing("topk", 3.0, model="topk.tflite", source="a test", conditions=CONDITIONS)],
        folder=tmp_path,
        on_message=messages.append,
    )
    assert any(each.startswith("Not in the table of errors") and "topk" in each for each in messages)


def test_a_handful_without_a_prior_starts_from_the_known_device_that_explains_it(device: Device) -> None:
    messages: list[str] = []
    few = [replace(t, runtime_ms=3 * t.runtime_ms) for t in timings(0)][:8]
    made = make_device("few", few, folder=NOWHERE, known=lambda: {"mine": device.predictor}, on_message=messages.append)
    assert isinstance(made.method, Transferred)
    assert list(made.method.sources) == ["mine"]
    assert any(each.startswith("Started from mine, of 1 built-in devices") for each in messages)


def test_a_file_that_computes_in_other_numbers_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    float_maps = network(build_graph(DESIGNS["smallnet"].spec))
    of_8_bits = float_maps._replace(kernels=tuple(k._replace(traits=("hybrid",)) for k in float_maps.kernels))
    monkeypatch.setattr(new_device, "read_network", lambda _: of_8_bits)
    (tmp_path / "odd.tflite").write_bytes(b"x")
    with pytest.raises(MeasurementError, match=r"computes in floating point with weights of 8 bits, .* is fp32"):
        measured_of(Timing("odd", 3.0, conditions=CONDITIONS), tmp_path)


def test_fewer_than_a_handful_are_told_what_is_enough() -> None:
    with pytest.raises(MeasurementError, match=r"3 measured networks are too few: 5 are enough to start .* 2 more"):
        make_device("few", timings(0)[:3], folder=NOWHERE, known=lambda: {})


def test_a_name_that_nothing_tells_is_left_out_and_a_file_beside_the_measurements_tells(tmp_path: Path) -> None:
    messages: list[str] = []
    mystery = Timing("mystery", 3.0, source="a test", conditions=CONDITIONS)
    made = make_device("mine", [*timings(60), mystery], folder=tmp_path, on_message=messages.append)
    assert "mystery" not in {m.label for m in made.measurements}
    assert any(each.startswith('mystery is left out: Network "mystery" is no probe') for each in messages)
    for place in (tmp_path / "other.tflite", tmp_path / "models" / "mystery.tflite"):
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(b"\0\0\0\0TFL3")
        with pytest.raises(MeasurementError, match=rf"{place.name}: This \.tflite file is damaged"):
            measured_of(replace(mystery, network=place.stem), tmp_path)


def test_what_only_priors_were_timed_with_is_said_and_kept(device: Device, tmp_path: Path) -> None:
    some = [t for t in timings(0) if "depthwise" not in {k.cls for k in measured_of(t, NOWHERE).network.kernels}]
    made = make_device("few", some[:10], folder=NOWHERE, sources={"mine": device.predictor})
    known = made.predictor.range
    assert known is not None
    assert "depthwise" in known.inherited
    assert known.macs["depthwise"] > 0
    probe = measured_of(Timing("depthwise-k5-d1-8-none-34x60", 1.0, conditions=CONDITIONS), NOWHERE).network
    flags = made.predict_network(probe).flags
    assert any("timed on other devices alone" in flag for flag in flags)
    assert load_device(str(save_device(made, tmp_path))).predictor.range == known


def without_class(cls: str) -> Predictor:
    """A predictor of another device that was not measured with kernels of this class."""
    amounts = {name for timing in timings(60) for name in total_amounts(measured_of(timing, NOWHERE).network, LAYOUT)}
    costs = {name: 0.1 for name in amounts if not name.startswith(f"{cls}_ms_per")}
    return Predictor(Core(LAYOUT, costs), assumed_interval(1.5, "made up"))


def test_a_network_that_a_prior_cannot_price_is_named_and_does_not_end_the_rest() -> None:
    said: list[str] = []
    some = timings(0)
    odd = [Timing("depthwise-k5-d1-8-none-34x60", 1.0, conditions=CONDITIONS)]
    device = make_device(
        "mine", [*some, *odd], folder=NOWHERE, sources={"poor": without_class("depthwise")}, on_message=said.append
    )
    assert any(
        s.startswith('depthwise-k5-d1-8-none-34x60 is left out: DEPTHWISE_CONV_2D "op" cannot be priced') for s in said
    )
    assert "depthwise-k5-d1-8-none-34x60" not in {m.label for m in device.measurements}
    with pytest.raises(MeasurementError, match=r"poor cannot price these networks; name another device by --prior"):
        make_device("mine", odd, folder=NOWHERE, sources={"poor": without_class("depthwise")})


def test_operations_that_only_other_networks_have_get_costs_of_their_own() -> None:
    others = [probe for probe in plan(30) if isinstance(probe, OtherProbe)]
    slow = {"SOFTMAX": 9.0}

    def ms(probe: OtherProbe) -> float:
        return truth_ms(probe.network) * slow.get(probe.network.kernels[0].tflite_op, 1.0)

    more = [Timing(probe.name, ms(probe), source="a test", conditions=CONDITIONS) for probe in others]
    device = make_device("mine", [*timings(), *more], folder=NOWHERE)
    for name in ("fully_connected-512-500", "grouped-k3-s1-g4-64-64-40x40", "softmax-16-100x100", "transpose-16-60x60"):
        probe = named(name)
        assert probe is not None
        prediction = device.predict_network(probe.network)
        assert prediction.runtime_ms == pytest.approx(ms(probe), rel=0.25), name
        assert not any("never measured here" in flag for flag in prediction.flags)
