"""`isp-nas latency …` as people type it: what is printed, what is written, and what a mistake costs (exit code 2)."""

import csv
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from flow import in_process, isp_nas, snapshot
from made_up_device import CONDITIONS, timings, write_timings
from tflite_builder import FileBuilder
from tflite_samples import CONV

from latency_models import calibration
from latency_models.device import BUILTIN, load_device
from latency_models.measure import local
from latency_models.measurements import read_measurements, write_measurements
from search_spaces.designs import DESIGNS
from search_spaces.tflite_resize import dynamic

MODEL = "conv-k3-s1-16-16-relu-34x60"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ISP_NAS_HOME", str(tmp_path / "home"))
    return tmp_path


@pytest.fixture(scope="module", autouse=True)
def _each_fit_once() -> Iterator[None]:
    """The same measurements are fitted once, whatever is then asked of the device."""
    with pytest.MonkeyPatch.context() as patched:
        fit = cache(calibration.fit_measured)
        patched.setattr(calibration, "fit_measured", lambda samples, **options: fit(tuple(samples), **options))
        yield


def printed(*arguments: object) -> Any:
    done = in_process("latency", *arguments, "--format", "json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refused(*arguments: object) -> str:
    done = in_process("latency", *arguments)
    assert done.returncode == 2, done.stdout
    assert done.stderr.startswith("isp-nas: ")
    assert done.stderr.count("\n") == 1, "one sentence"
    return done.stderr


# Predict


def test_a_design_is_predicted_kernel_by_kernel() -> None:
    output = printed("predict", "smallnet")
    assert [kernel["op"] for kernel in output["kernels"]] == ["CONV_2D", "TANH", "CONV_2D", "CONV_2D", "DEPTH_TO_SPACE"]
    assert output["runtime_ms"] == pytest.approx(output["fixed_ms"] + sum(k["runtime_ms"] for k in output["kernels"]))
    assert output["runtime_low_ms"] < output["runtime_ms"] < output["runtime_high_ms"]
    assert (output["device"], output["support"], output["partitions"]) == ("dimensity-1000-plus", "supported", 1)


def test_a_file_is_predicted_as_the_design_that_it_holds(tmp_path: Path) -> None:
    from latency_models.measure.models import write_models
    from latency_models.probes import Probe
    from search_spaces.designs import DESIGNS
    from search_spaces.networks import build_graph

    (path,) = write_models([Probe("net", "", build_graph(DESIGNS["csanet"].spec))], tmp_path)
    file, design = (printed("predict", target) for target in (path, "csanet"))
    assert file["runtime_ms"] == pytest.approx(design["runtime_ms"])
    assert Counter(k["op"] for k in file["kernels"]) == Counter(k["op"] for k in design["kernels"])
    opened = tmp_path / "open.tflite"
    opened.write_bytes(dynamic(path.read_bytes()))  # as `export --dynamic` writes it
    for size in (("--size", "1088x1920"), ("--input-shape", "1x544x960x4")):
        assert printed("predict", opened, *size)["runtime_ms"] == pytest.approx(design["runtime_ms"])
    half = printed("predict", opened, "--size", "544x960")["runtime_ms"]
    assert half == pytest.approx(printed("predict", "csanet", "--size", "544x960")["runtime_ms"])
    assert half < design["runtime_ms"]
    sentence = refused("predict", opened)
    assert "say at which input shape it is to run" in sentence
    assert "--input-shape" in sentence


def small_file(path: Path, *shape: int, head: bool = False) -> Path:
    """A convolution of eight channels for an input of this shape, and perhaps a classifier behind it."""
    b = FileBuilder()
    made = (*shape[:3], 8)
    y = b.op("CONV_2D", [b.input(*shape), b.weights(8, 3, 3, 4), b.weights(8)], made, options=CONV)
    if head:
        y = b.op("MEAN", [y, b.numbers(1, 2)], (shape[0], 8))
        y = b.op("FULLY_CONNECTED", [y, b.weights(10, 8), b.weights(10)], (shape[0], 10))
        y = b.op("SOFTMAX", [y], (shape[0], 10), options={"beta": 1.0})
    path.write_bytes(b.file(y))
    return path


def test_an_open_batch_is_one(tmp_path: Path) -> None:
    fixed = printed("predict", small_file(tmp_path / "fixed.tflite", 1, 32, 32, 4, head=True))
    opened = printed("predict", small_file(tmp_path / "open.tflite", -1, 32, 32, 4, head=True))
    assert opened["runtime_ms"] == fixed["runtime_ms"]
    assert [k["op"] for k in opened["kernels"]] == ["CONV_2D", "MEAN", "FULLY_CONNECTED", "SOFTMAX"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--size", "32x32", "--input-shape", "1x16x16x4"), "not both"),
        (("--input-shape", "1x16xx4"), "must be whole numbers such as 1x224x224x3"),
        (("--input-shape", "1x16x16x3"), "not [1, 16, 16, 3]; give a shape that fits"),
        (("--input-shape", "16x16x4"), "not [16, 16, 4]; give a shape that fits"),
        (("--size", "33x32"), "even height and width"),
    ],
)
def test_a_shape_that_cannot_be_meant_is_one_sentence(tmp_path: Path, options: tuple[str, ...], sentence: str) -> None:
    assert sentence in refused("predict", small_file(tmp_path / "open.tflite", 1, -1, -1, 4), *options)


def test_a_matrix_product_that_was_never_measured_has_a_price_and_says_so(tmp_path: Path) -> None:
    output = printed("predict", small_file(tmp_path / "head.tflite", 1, 32, 32, 4, head=True))
    assert any(flag.startswith("FULLY_CONNECTED was never measured here") for flag in output["flags"])
    assert any(flag.startswith("SOFTMAX was never measured here") for flag in output["flags"])
    product = next(k["runtime_ms"] for k in output["kernels"] if k["op"] == "FULLY_CONNECTED")
    assert product > 0
    assert output["runtime_high_ms"] > 1.5 * output["runtime_ms"] + 11 * product


def test_a_kernel_without_a_price_is_named_with_file_and_probe(tmp_path: Path) -> None:
    data = json.loads((BUILTIN / "dimensity-1000-plus.json").read_text("utf-8"))
    for costs in (data["method"]["prior"], data["predictor"]["core"]["coefficients"]):
        for name in [name for name in costs if name.startswith("transpose_conv_")]:
            del costs[name]
    measured = [{"network": "smallnet", "input_shape": [1, 64, 64, 4], "runtime_ms": 1.0}]
    (tmp_path / "poor.json").write_text(json.dumps(data | {"name": "poor", "measurements": measured}), "utf-8")
    b = FileBuilder()
    inputs = [b.numbers(1, 64, 64, 8), b.weights(8, 4, 4, 4), b.input(1, 32, 32, 4)]
    b.op("TRANSPOSE_CONV", inputs, (1, 64, 64, 8), options={"strideH": 2, "strideW": 2})
    (tmp_path / "up.tflite").write_bytes(b.file())
    sentence = refused("predict", tmp_path / "up.tflite", "--device", tmp_path / "poor.json")
    assert 'up.tflite: poor: TRANSPOSE_CONV "t3" cannot be priced: ' in sentence
    assert "the probe transposed-k4-4-8-32x32" in sentence


def test_the_table_fits_eighty_columns_and_says_how_good_the_device_is() -> None:
    done = in_process("latency", "predict", "csanet")
    assert done.returncode == 0
    assert all(len(line) <= 80 for line in done.stdout.splitlines())
    assert "80 % interval assumed" in done.stdout
    assert "20.0 % (9 networks" in " ".join(done.stdout.split())


def test_csv_has_a_row_per_kernel() -> None:
    rows = list(csv.DictReader(in_process("latency", "predict", "smallnet", "--format", "csv").stdout.splitlines()))
    assert [row["op"] for row in rows] == ["CONV_2D", "TANH", "CONV_2D", "CONV_2D", "DEPTH_TO_SPACE"]


def test_what_the_delegate_does_not_take_is_refused_or_priced() -> None:
    assert "runs this network only in part (partial): RSQRT" in refused("predict", "eds")
    output = printed("predict", "eds", "--allow-fallback")
    assert output["support"] == "partial"
    assert output["partitions"] == 10
    assert "kernels fall to the CPU" in output["flags"][0]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "are not a .tflite file"),
        (b"PK\3\4 not a model at all", "are not a .tflite file"),
        (b"\x1c\0\0\0TFL3" + bytes(30), ""),
    ],
)
def test_a_file_that_is_no_network_is_one_sentence(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "x.tflite").write_bytes(content)
    sentence = refused("predict", tmp_path / "x.tflite")
    assert "x.tflite: " in sentence
    assert reason in sentence


def test_a_file_that_is_not_there_is_one_sentence() -> None:
    assert "Cannot read gone.tflite" in refused("predict", "gone.tflite")
    assert 'Unknown network "smallnett"' in refused("predict", "smallnett")
    assert 'Unknown device "mars"' in refused("predict", "smallnet", "--device", "mars")


def test_two_networks_are_compared_by_a_probability() -> None:
    comparison = printed("predict", "smallnet", "--against", "csanet")["against"]
    assert comparison["network"] == "csanet"
    assert 0.5 < comparison["probability_faster"] < 1
    back = printed("predict", "csanet", "--against", "smallnet")["against"]
    assert back["probability_faster"] == pytest.approx(1 - comparison["probability_faster"])
    done = in_process("latency", "predict", "csanet", "--against", "smallnet")
    assert "It is faster than smallnet (58.9 (39–88) ms) with a probability of" in " ".join(done.stdout.split())
    assert 'Unknown network "nothing"' in refused("predict", "csanet", "--against", "nothing")


# Devices


def test_devices_are_listed_with_their_accuracy_and_a_damaged_one_hides_no_other(tmp_path: Path) -> None:
    (tmp_path / "devices").mkdir()
    (tmp_path / "devices" / "broken.json").write_text("{")
    rows = {row["name"]: row for row in printed("devices")}
    assert "is not a readable JSON file" in rows["broken"]["problem"]
    apu = rows["dimensity-1000-plus"]
    assert apu["mape"] == pytest.approx(0.2, abs=0.01)
    assert apu["median_of_the_others_mape"] == pytest.approx(0.276, abs=0.001)
    assert apu["path"] == "built in"


# Calibrate


def test_measurements_become_a_device_that_predicts(tmp_path: Path) -> None:
    output = printed("calibrate", write_timings(tmp_path / "m.csv"), "--name", "mine")
    assert output["path"] == "devices/mine.json"
    assert output["mape"] < 0.05
    groups = [row["group"] for row in output["held_out"]]
    assert groups[0] == "all"
    assert "family unet" in groups
    assert any(group.startswith("maps up to") for group in groups)
    assert printed("predict", "smallnet", "--device", "mine")["assumed_interval"] is False
    assert {row["name"] for row in printed("devices")} == {"mine", *(path.stem for path in BUILTIN.glob("*.json"))}


def test_what_a_prior_rests_on_already_is_not_counted_twice(tmp_path: Path) -> None:
    printed("calibrate", write_timings(tmp_path / "m.csv"), "--name", "mine")
    done = in_process("latency", "calibrate", tmp_path / "m.csv", "--name", "again", "--prior", "mine")
    assert done.returncode == 2
    assert "are those of mine already" in done.stderr.replace("\n", " ")
    assert not (tmp_path / "devices" / "again.json").exists()


def test_a_row_that_is_far_off_is_named(tmp_path: Path) -> None:
    rows = write_timings(tmp_path / "m.csv").read_text().splitlines(keepends=True)
    heading, cells = rows[0].strip().split(","), [row.strip().split(",") for row in rows[1:]]
    at = heading.index("runtime_ms")
    for row in cells:
        if row[0] == "smallnet":
            row[at] = str(20 * float(row[at]))
    (tmp_path / "odd.csv").write_text("\n".join(",".join(row) for row in (heading, *cells)) + "\n")
    done = in_process("latency", "calibrate", tmp_path / "odd.csv", "--name", "odd")
    assert done.returncode == 0, done.stderr
    assert "Look at smallnet: " in done.stdout
    output = printed("calibrate", tmp_path / "m.csv", "--name", "right")
    assert {each["network"] for each in output["foreseen"]} >= {"smallnet"}
    assert "messages" in output


def test_a_handful_starts_from_built_in_devices_and_never_from_ones_own(tmp_path: Path) -> None:
    rows = write_timings(tmp_path / "m.csv").read_text().splitlines(keepends=True)
    networks = [row for row in rows[1:] if row.split(",")[0] in DESIGNS][:8]
    (tmp_path / "few.csv").write_text(rows[0] + "".join(networks))
    for name in ("first", "second"):
        done = in_process("latency", "calibrate", tmp_path / "few.csv", "--name", name)
        assert done.returncode == 0, done.stderr
        assert "Started from" in done.stderr
        assert "first" not in done.stderr.replace("measurements best", "")


def test_a_device_may_be_saved_for_all_folders(tmp_path: Path) -> None:
    output = printed("calibrate", write_timings(tmp_path / "m.csv"), "--name", "mine", "--user-wide")
    assert Path(output["path"]) == tmp_path / "home" / "devices" / "mine.json"


def test_a_name_that_is_taken_is_refused_before_the_fit(tmp_path: Path) -> None:
    (tmp_path / "devices").mkdir()
    (tmp_path / "devices" / "mine.json").write_text("precious")
    assert "exists already; choose another --name" in refused("calibrate", "not-even-there.csv", "--name", "mine")
    assert (tmp_path / "devices" / "mine.json").read_text() == "precious"


def test_too_few_measurements_say_how_many_are_missing_and_leave_nothing(tmp_path: Path) -> None:
    write_timings(tmp_path / "m.csv", 3, designs=False)
    before = snapshot(tmp_path)
    sentence = refused("calibrate", "m.csv", "--name", "mine")
    assert "3 measured networks are too few: 5 are enough to start from a built-in device" in sentence
    assert snapshot(tmp_path) == before


def test_a_few_networks_and_a_known_device_are_enough(tmp_path: Path) -> None:
    printed("calibrate", write_timings(tmp_path / "m.csv"), "--name", "known")
    slower = [replace(t, runtime_ms=3 * t.runtime_ms) for t in timings(0)]
    write_measurements(tmp_path / "few.csv", slower)
    output = printed("calibrate", "few.csv", "--name", "slow", "--prior", "known")
    assert output["networks"] == len(slower)
    known, slow = (printed("predict", "csanet", "--device", name)["runtime_ms"] for name in ("known", "slow"))
    assert slow == pytest.approx(3 * known, rel=0.1)


def test_the_table_of_held_out_accuracy_fits_eighty_columns(tmp_path: Path) -> None:
    done = in_process("latency", "calibrate", write_timings(tmp_path / "m.csv"), "--name", "mine")
    assert done.returncode == 0, done.stderr
    assert all(len(line) <= 80 for line in done.stdout.splitlines())
    assert "Saved as devices/mine.json; use it by --device mine." in " ".join(done.stdout.split())


# Probe, measure, validate


def test_probes_are_written_with_names_that_say_what_they_are(tmp_path: Path) -> None:
    output = printed("probe", "--out", "probes", "--probes", "3", "--candidates", "0")
    assert sorted(path.name for path in (tmp_path / "probes").iterdir()) == sorted(output["models"])
    assert all(name.endswith(".tflite") for name in output["models"])


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TURN_S": 0.002, "WARM_UP_S": 0.01, "RECORD_TURNS": 5, "LONGEST_S": 0.3}.items():
        monkeypatch.setattr(local, name, value)
    monkeypatch.setattr(local, "REFERENCE_SIDES", ((34, 60),))


@pytest.mark.usefixtures("quick")
def test_measuring_here_goes_on_where_it_was_broken_off(tmp_path: Path) -> None:
    command = ("measure", "--out", "m", "--candidates", "0", "--probes")
    assert printed(*command, 1)["timed"] == 2  # and the reference
    first = read_measurements(tmp_path / "m" / "measurements.csv")
    assert printed(*command, 2)["timed"] == 3
    assert read_measurements(tmp_path / "m" / "measurements.csv")[:2] == first
    assert all((tmp_path / "m" / timing.model).is_file() for timing in first)


@pytest.mark.usefixtures("quick")
def test_own_files_can_be_timed_and_one_that_is_damaged_is_told(tmp_path: Path) -> None:
    (tmp_path / "torn.tflite").write_bytes(b"\x1c\0\0\0TFL3")
    done = in_process("latency", "measure", "torn.tflite", "--out", "m", "--format", "json")
    assert done.returncode == 2  # nothing that was asked for has a time
    output = json.loads(done.stdout)
    assert output["timed"] == 1  # the reference
    assert output["failures"][0]["network"] == "torn"


def test_a_phone_needs_the_users_program(tmp_path: Path) -> None:
    (tmp_path / "x.tflite").write_bytes(b"x")
    assert "give your build of it by --binary" in refused("measure", "x.tflite", "--out", "m", "--adb", "any")


# Import


def test_logs_become_a_file_of_measurements(tmp_path: Path) -> None:
    (tmp_path / "run.txt").write_text(LOG)
    output = printed("import", "run.txt", "--out", "m.csv", "--device", "My phone")
    assert output == {"measurements": "m.csv", "read": 1, "held": 1}
    (timing,) = read_measurements(tmp_path / "m.csv")
    assert (timing.network, timing.runtime_ms) == ("smallnet", pytest.approx(61.5))
    assert timing.conditions.device == "My phone"
    assert "exists and holds other measurements" in refused(
        "import", "run.txt", "--out", write_timings(tmp_path / "n.csv")
    )


LOG = """STARTING!
Graph: [/data/local/tmp/smallnet.tflite]
Num threads: [4]
INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
count=9 first=70000 curr=61000 min=60900 max=70000 avg=62100 std=2800
Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
count=50 first=61200 curr=61700 min=60800 max=62900 avg=61500 std=320
Inference timings in us: Init: 5579, First inference: 70000, Warmup (avg): 62100, Inference (avg): 61500
"""
PROFILE = """Operator-wise Profiling Info for Regular Benchmark Runs:
============================== Run Order ==============================
\t             [node type]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  [mem KB]\t[times called]\t[Name]
\t                 CONV_2D\t   10.100\t   10.000\t 25.000%\t 25.000%\t     0.000\t        1\t[a]:0
\t                    TANH\t    5.100\t    5.000\t 12.500%\t 37.500%\t     0.000\t        1\t[b]:1
\t                 CONV_2D\t   12.100\t   12.000\t 30.000%\t 67.500%\t     0.000\t        1\t[c]:2
\t                 CONV_2D\t   11.100\t   11.000\t 27.500%\t 95.000%\t     0.000\t        1\t[d]:3
\t          DEPTH_TO_SPACE\t    2.100\t    2.000\t  5.000%\t100.000%\t     0.000\t        1\t[e]:4
"""


@pytest.fixture
def smallnet_file(tmp_path: Path) -> Path:
    from latency_models.measure.models import write_models
    from latency_models.probes import Probe
    from search_spaces.designs import DESIGNS
    from search_spaces.networks import build_graph

    graph = build_graph(DESIGNS["smallnet"].spec, (1, 16, 16, 4))
    return write_models([Probe("smallnet", "", graph)], tmp_path / "models")[0]


def test_a_profile_becomes_a_measurement_per_operation(tmp_path: Path, smallnet_file: Path) -> None:
    (tmp_path / "profile.txt").write_text(PROFILE)
    assert "say by --profile-of which .tflite" in refused("import", "profile.txt", "--out", "m.csv")
    printed("import", "profile.txt", "--out", "m.csv", "--profile-of", smallnet_file, "--delegate", "cpu")
    measurements = read_measurements(tmp_path / "m.csv")
    assert [(t.network, t.runtime_ms) for t in measurements] == [
        ("smallnet#0", 10.0),
        ("smallnet#1", 5.0),
        ("smallnet#2", 12.0),
        ("smallnet#3", 11.0),
        ("smallnet#4", 2.0),
    ]
    assert (tmp_path / measurements[0].model).is_file()


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (("TANH", "RELU"), "operation 1 is RELU, the file has TANH"),
        (("TANH", "TfLiteNnapiDelegate"), "TfLiteNnapiDelegate as one operation"),
    ],
)
def test_a_profile_of_another_network_or_of_a_delegate_is_refused(
    tmp_path: Path, smallnet_file: Path, edit: tuple[str, str], sentence: str
) -> None:
    (tmp_path / "profile.txt").write_text(PROFILE.replace(*edit))
    assert sentence in refused("import", "profile.txt", "--out", "m.csv", "--profile-of", smallnet_file)
    assert not (tmp_path / "m.csv").exists()


# The whole


def test_help_answers_without_anything_heavy() -> None:
    done = isp_nas("latency", "--help")
    assert done.returncode == 0
    for command in ("devices", "predict", "probe", "measure", "import", "calibrate", "validate"):
        assert command in done.stdout


def test_conditions_of_the_made_up_device_are_told_by_the_saved_one(tmp_path: Path) -> None:
    printed("calibrate", write_timings(tmp_path / "m.csv"), "--name", "mine")
    assert load_device("mine").conditions == CONDITIONS


# Validate


@pytest.fixture
def study(tmp_path: Path, tiny_pairs: Path) -> str:
    """A study of small networks on a device that was calibrated under the conditions of this machine."""
    from flow import TINY_TRAINING, search_in_process, write_space

    conditions = local.here(local.LocalOptions())
    known = [replace(t, conditions=conditions) for t in timings()]
    known.append(replace(known[0], network="reference-smallnet-34x60", runtime_ms=0.5, model=""))
    write_measurements(tmp_path / "m.csv", known)
    printed("calibrate", "m.csv", "--name", "here")
    space = write_space(tmp_path / "tiny.toml")
    done = search_in_process(
        "--budget", "3", "--data", tiny_pairs, "--space", space, "--device", "here", "--study", "s", *TINY_TRAINING
    )
    assert done.returncode == 0, done.stderr
    return "s"


@pytest.mark.usefixtures("quick")
def test_the_front_is_timed_beside_its_predictions_and_folded_back(study: str, tmp_path: Path) -> None:
    output = printed("validate", "--study", study, "--out", "v", "--most", 2, "--refit", "better")
    first, *_ = output["networks"]
    assert first["error"] == pytest.approx(first["predicted_ms"] / first["measured_ms"] - 1)
    assert output["device"] == "here"
    names = {m.label for m in load_device("better").measurements}
    assert {row["network"] for row in output["networks"]} <= names
    assert load_device("here").digest != load_device("better").digest


@pytest.mark.usefixtures("quick")
def test_times_under_other_conditions_validate_nothing(study: str) -> None:
    assert 'was calibrated with threads "1", this measurement had "2"' in refused(
        "validate", "--study", study, "--out", "v", "--threads", "2"
    )
