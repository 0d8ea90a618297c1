"""Files of other tools and of people: what they are is told by their content, and what is wrong by their name."""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latency_models.measure.importing import import_files
from latency_models.measurements import Conditions, Timing, read_measurements, write_measurements
from search_spaces.errors import MeasurementError

NOTHING = Conditions()
USERS = Conditions(device="Pixel 4", precision="fp16", threads=8, date="2026-05-04")
LOG = """STARTING!
Log parameter values verbosely: [0]
Num threads: [4]
Graph: [/data/local/tmp/{network}.tflite]
{delegation}
count=1 curr=90000

count=50 first={us} curr={us} min={us} max={us} avg={us} std=9 p5={us} median={us} p95={us}

Inference timings in us: Init: 12500, First inference: 90000, Warmup (avg): 90000, Inference (avg): {us}
"""
GPU = "Use gpu: [1]\nReplacing 6 out of 6 node(s) with delegate (TfLiteGpuDelegateV2) node, yielding 1 partitions."
PARTLY = "Use gpu: [1]\nReplacing 4 out of 6 node(s) with delegate (TfLiteGpuDelegateV2) node, yielding 3 partitions."
XNNPACK = "INFO: Created TensorFlow Lite XNNPACK delegate for CPU."
LATENCY = {"avg_ms": 23.69, "median_ms": 20.52, "p5_ms": 16.47, "p95_ms": 34.83, "std_ms": 8.63, "num_runs": 50}
LITERT = {"model": "out/smallnet.tflite", "accelerators": ["CPU"], "fully_accelerated": True, "num_threads": 2}


def log(network: str = "smallnet", delegation: str = GPU, us: int = 61250) -> str:
    return LOG.format(network=network, delegation=delegation, us=us)


def litert(latency: Mapping[str, Any] | None = None, **changes: Any) -> str:
    return json.dumps({**LITERT, "latency": LATENCY | (latency or {}), **changes})


def read(tmp_path: Path, text: str | bytes, name: str = "some", **options: Any) -> tuple[Timing, ...]:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return import_files([path], **{"defaults": NOTHING, **options})


def test_a_log_gives_the_conditions_that_it_tells_and_the_user_the_others(tmp_path: Path) -> None:
    (timing,) = read(tmp_path, log(), "run.log", defaults=USERS)
    assert timing == Timing(
        "smallnet",
        61.25,
        low_ms=61.25,
        high_ms=61.25,
        runs=50,
        nodes=6,
        delegated_nodes=6,
        partitions=1,
        source="run.log",
        conditions=replace(USERS, runtime="benchmark_model", delegate="gpu", flags="--use_gpu=1", threads=4),
    )


def test_the_json_of_litert_benchmark_is_in_milliseconds(tmp_path: Path) -> None:
    (timing,) = read(tmp_path, litert(), "result.json")
    assert timing == Timing(
        "smallnet",
        20.52,
        low_ms=16.47,
        high_ms=34.83,
        runs=50,
        source="result.json",
        conditions=Conditions(runtime="litert-benchmark", delegate="cpu", threads=2),
    )


def test_our_own_csv_keeps_what_its_rows_tell(tmp_path: Path) -> None:
    text = "network,runtime_ms,device,threads,source\nsmallnet,61,,1,by hand\ncsanet,90,Pixel 6,,\n"
    smallnet, csanet = read(tmp_path, text, "mine.csv", defaults=USERS)
    assert smallnet == Timing("smallnet", 61.0, source="by hand", conditions=replace(USERS, threads=1))
    assert csanet == Timing("csanet", 90.0, source="mine.csv", conditions=replace(USERS, device="Pixel 6"))


@pytest.mark.parametrize("name", ["a.log", "a.txt", "a.csv", "a.json", "a"])
def test_the_name_of_a_file_does_not_matter(tmp_path: Path, name: str) -> None:
    for text, runtime_ms in ((log(), 61.25), (litert(), 20.52), ("network,runtime_ms\nsmallnet,9\n", 9.0)):
        (timing,) = read(tmp_path, text, name)
        assert (timing.runtime_ms, timing.source) == (runtime_ms, name)


def test_what_was_imported_is_what_the_file_of_measurements_holds(tmp_path: Path) -> None:
    timings = read(tmp_path, log() + log("csanet"), "run.log", defaults=USERS)
    write_measurements(tmp_path / "out.csv", timings)
    assert read_measurements(tmp_path / "out.csv") == timings
    write_measurements(tmp_path / "out.csv", timings, extend=True)
    assert read_measurements(tmp_path / "out.csv") == timings


def test_several_files_and_folders_are_read_and_repeats_merged(tmp_path: Path) -> None:
    read(tmp_path, log(us=60000), "runs/b/2.TXT")
    read(tmp_path, log(us=62000), "runs/1.log")
    read(tmp_path, litert(), "runs/b/c/3.json")
    read(tmp_path, "network,runtime_ms\ncsanet,90\n", "more.csv")
    (tmp_path / "runs" / "smallnet.tflite").write_bytes(b"\xff")
    gpu, cpu, csanet = import_files([tmp_path / "runs", tmp_path / "more.csv"], defaults=NOTHING)
    assert (gpu.runtime_ms, gpu.runs, gpu.source) == (61.0, 100, "1.log; 2.TXT")
    assert (cpu.source, csanet.network) == ("3.json", "csanet")


def test_repeats_that_disagree_are_refused_with_both_files(tmp_path: Path) -> None:
    read(tmp_path, log(), "runs/1.log")
    read(tmp_path, log(us=90000), "runs/2.log")
    with pytest.raises(MeasurementError, match=r"61\.25 ms \(.*1\.log\) and 90 ms \(.*2\.log\)"):
        import_files([tmp_path / "runs"], defaults=NOTHING)


def test_a_folder_without_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MeasurementError, match=r"holds no file that ends with \.txt, \.log, \.csv, \.json"):
        import_files([tmp_path], defaults=NOTHING)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is none of a log of benchmark_model, JSON of litert-benchmark or Qualcomm AI Hub, or a CSV"),
        (b"Dear colleague,\nsmallnet took 61 ms.\n", "is none of a log"),
        (b"smallnet took 61 ms\n", "is none of a log"),
        (b"network" * 30_000, "is none of a log"),
        (b"Though it rained, we measured.", "is none of a log"),
        (b"TFL3\xff\xfe\x00", "is not UTF-8 text"),
        (b"{", "This is no whole JSON"),
        (b'{"latency": 5}', "not what litert-benchmark writes"),
        (b"STARTING!\n", "ends before its result"),
        (b"Device,Model,Time\nPixel,smallnet,61\n", 'misses the unit of its column "Time"'),
        (b"node type, first, avg_ms, %, cdf%, mem KB, times called, name\nCONV_2D, 1, 1, 9%, 9%, 0, 1, a\n", "profile"),
        (b"node type, count, avg_ms, avg %, cdf %, mem KB, times called\nCONV_2D, 1, 1, 9%, 9%, 0, 1\n", "profile"),
    ],
    ids=range(12),
)
def test_a_file_that_tells_no_time_is_refused_by_its_name(tmp_path: Path, content: bytes, sentence: str) -> None:
    with pytest.raises(MeasurementError, match=rf"some\.csv.*({sentence})"):
        read(tmp_path, content, "some.csv")


def test_all_files_that_cannot_be_imported_are_named_at_once(tmp_path: Path) -> None:
    for name, text in {"a.log": log(us=0), "b.log": log(), "c.log": log(delegation=PARTLY)}.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(MeasurementError) as raised:
        import_files([tmp_path], defaults=NOTHING)
    message = str(raised.value)
    assert message.startswith("2 of 3 files cannot be imported")
    assert [f"{name}.log: " in message for name in "abc"] == [True, False, True]


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MeasurementError, match=r"gone\.log cannot be read \(No such file"):
        import_files([tmp_path / "gone.log"], defaults=NOTHING)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_what_windows_redirects_to_a_file_is_read(tmp_path: Path, encoding: str) -> None:
    (timing,) = read(tmp_path, log().replace("\n", "\r\n").encode(encoding))
    assert timing.runtime_ms == 61.25


def test_a_partial_delegation_is_refused_unless_it_is_allowed(tmp_path: Path) -> None:
    npu = litert(accelerators=["NPU", "CPU"], fully_accelerated=False)
    for text in (log(delegation=PARTLY), npu, litert(accelerators=["NPU", "CPU"])):
        with pytest.raises(MeasurementError, match=r"some: .*(gpu|npu) (ran only|was asked for)"):
            read(tmp_path, text)
    (timing,) = read(tmp_path, log(delegation=PARTLY), allow_partial=True)
    assert (timing.nodes, timing.delegated_nodes, timing.partitions) == (6, 4, 3)
    (timing,) = read(tmp_path, npu, allow_partial=True)
    assert timing.conditions.delegate == "npu"


@pytest.mark.parametrize(
    ("delegation", "wanted", "delegate"),
    [
        (GPU, "gpu", "gpu"),
        (GPU, "npu", "gpu"),
        (XNNPACK, "cpu", "xnnpack"),
        ("", "xnnpack", "cpu"),
        (GPU.replace("TfLiteGpuDelegateV2", "DispatchDelegate").replace("gpu", "x"), "neuron", "neuron"),
    ],
)
def test_a_log_may_name_more_or_less_exactly_what_the_user_expects(
    tmp_path: Path, delegation: str, wanted: str, delegate: str
) -> None:
    (timing,) = read(tmp_path, log(delegation=delegation), defaults=Conditions(delegate=wanted))
    assert timing.conditions.delegate == delegate


@pytest.mark.parametrize(("delegation", "wanted"), [(XNNPACK, "npu"), ("", "gpu"), (GPU, "cpu"), (GPU, "nnapi")])
def test_a_log_of_another_delegate_than_expected_is_refused(tmp_path: Path, delegation: str, wanted: str) -> None:
    with pytest.raises(MeasurementError, match=rf"some: The log tells that \w+ ran the network, not {wanted}"):
        read(tmp_path, log(delegation=delegation), defaults=Conditions(delegate=wanted))


def test_a_result_without_a_name_is_called_as_its_file(tmp_path: Path) -> None:
    result = "Inference timings in us: Init: 9, Warmup (avg): 9, Inference (avg): 9000\n"
    (timing,) = read(tmp_path, result, "smallnet.log", defaults=Conditions(delegate="gpu"))
    assert (timing.network, timing.runtime_ms, timing.conditions.delegate) == ("smallnet", 9.0, "gpu")
    with pytest.raises(MeasurementError, match=r"smallnet\.log: It holds several results"):
        read(tmp_path, result * 2, "smallnet.log")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latency": {"median_ms": 0.0}}, r"latency\.median_ms must be a finite number > 0, got 0\.0"),
        ({"latency": {"median_ms": True}}, r"latency\.median_ms must be a finite number > 0, got True"),
        ({"latency": {"median_ms": float("nan")}}, r".*NaN is no number"),
        ({"latency": {"p95_ms": "9"}}, r"latency\.p95_ms must be"),
        ({"accelerators": "CPU"}, r"accelerators must be a list"),
        ({"accelerators": []}, r"accelerators must be a list"),
    ],
)
def test_wrong_values_in_json_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(MeasurementError, match=rf"result\.json: {message}"):
        read(tmp_path, litert(**changes), "result.json")


AI_BENCHMARK = (
    'Model,"Average time, ms",Data type,Acceleration,Phone\nsmallnet.tflite,61.2,FP16,TFLite GPU delegate,Pixel 4\n'
)


def test_results_of_ai_benchmark_are_read_under_its_headings(tmp_path: Path) -> None:
    (timing,) = read(tmp_path, AI_BENCHMARK, "typed.csv", defaults=Conditions(runtime="AI Benchmark", soc="SD855"))
    assert timing == Timing(
        "smallnet",
        61.2,
        statistic="mean",
        source="typed.csv",
        conditions=Conditions(device="Pixel 4", soc="SD855", runtime="AI Benchmark", delegate="gpu", precision="fp16"),
    )


@pytest.mark.parametrize(
    ("heading", "typed", "statistic"),
    [
        ("Average time, ms", "61.2", "mean"),
        ("Avg inference time (ms)", "61.2", "mean"),
        ("Median, ms", "61.2", "median"),
        ("Median time (s)", "0.0612", "median"),
        ("Latency [µs]", "61200", "mean"),
        ("time_in_ms", "61.2", "mean"),
        ("runtime_ms", "61.2", "mean"),
    ],
)
def test_typed_times_come_in_units_and_statistics(tmp_path: Path, heading: str, typed: str, statistic: str) -> None:
    (timing,) = read(tmp_path, AI_BENCHMARK.replace("Average time, ms", heading).replace("61.2", typed))
    assert timing.runtime_ms == pytest.approx(61.2)
    assert timing.statistic == statistic


@pytest.mark.parametrize(
    ("typed", "delegate"),
    [("NNAPI, mtk-mdla", "nnapi"), ("CPU (4 threads)", "cpu"), ("Neuron", "neuron"), ("ArmNN", "armnn")],
)
def test_typed_delegates_are_called_as_in_logs(tmp_path: Path, typed: str, delegate: str) -> None:
    (timing,) = read(tmp_path, AI_BENCHMARK.replace("TFLite GPU delegate", f'"{typed}"'))
    assert timing.conditions.delegate == delegate


def test_a_heading_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MeasurementError, match=r'some has an unknown column "Acceleratoin"; known: '):
        read(tmp_path, AI_BENCHMARK.replace("Acceleration", "Acceleratoin"))


def test_models_beside_a_csv_are_named_from_where_the_result_is_written(tmp_path: Path) -> None:
    text = "network,runtime_ms,model\nsmallnet,61,nets/smallnet.tflite\n"
    (timing,) = read(tmp_path, text, "old/mine.csv", folder=tmp_path / "new")
    assert timing.model == "../old/nets/smallnet.tflite"


@given(st.binary() | st.text().map(str.encode))
def test_any_file_gives_timings_or_one_sentence(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(content)
    with pytest.raises(MeasurementError, match=r"any"):
        import_files([path], defaults=NOTHING)


def test_importing_loads_neither_numpy_nor_a_framework() -> None:
    script = (
        "import sys, latency_models.measure.importing; "
        "print({'numpy', 'scipy', 'jax', 'tensorflow', 'ai_edge_litert'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.strip() == "set()"


def test_a_table_with_semicolons_and_decimal_commas_is_read(tmp_path: Path) -> None:
    path = tmp_path / "typed.csv"
    path.write_text('Model;Latency, ms;Acceleration\nsmallnet;30,5;"NNAPI, mtk"\ncsanet;1045;GPU\n', "utf-8")
    timings = import_files([path], defaults=Conditions())
    assert [(t.network, t.runtime_ms, t.conditions.delegate) for t in timings] == [
        ("smallnet", 30.5, "nnapi"),
        ("csanet", 1045.0, "gpu"),
    ]


def by_delegate(timings: tuple[Timing, ...]) -> list[tuple[str, float, str, str, str, int | None]]:
    """What a table of several delegates gives: network, time, delegate, flags, precision, threads."""
    conditions = [(t.network, t.runtime_ms, t.conditions) for t in timings]
    return [(n, ms, c.delegate, c.flags, c.precision, c.threads) for n, ms, c in conditions]


class TestTablesWithAColumnPerDelegate:
    """One row per network, and for each delegate a column of times."""

    def test_each_time_is_one_of_its_columns_delegate(self, tmp_path: Path) -> None:
        text = "network,cpu_ms,TfLiteGpuDelegateV2 (us),NNAPI ms\nsmallnet,30.5,12200,n/a\ncsanet,44,,7\n"
        assert by_delegate(read(tmp_path, text)) == [
            ("smallnet", 30.5, "cpu", "", "", None),
            ("csanet", 44.0, "cpu", "", "", None),
            ("smallnet", 12.2, "gpu", "", "", None),
            ("csanet", 7.0, "nnapi", "", "", None),
        ]

    def test_headings_may_tell_precision_threads_and_interface(self, tmp_path: Path) -> None:
        text = (
            "sep=;\nModel;CPU 4 threads, ms;XNNPACK (x1) ms;OpenCL fp16, ms;OpenGL, ms;NPU (QNN HTP), ms\n"
            "a.tflite;1.030,5;31,5;12,2;20;4,5\n"
        )
        assert by_delegate(read(tmp_path, text)) == [
            ("a", 1030.5, "cpu", "", "", 4),
            ("a", 31.5, "xnnpack", "", "", 1),
            ("a", 12.2, "gpu", "--gpu_backend=cl", "fp16", None),
            ("a", 20.0, "gpu", "--gpu_backend=gl", "", None),
            ("a", 4.5, "qnn", "", "", None),
        ]

    @pytest.mark.parametrize("name", ["Network / latency in ms", "", "model (ms)"])
    def test_the_unit_may_stand_beside_the_networks_name(self, tmp_path: Path, name: str) -> None:
        text = f"{name}\tCPU\tGPU\na\t3,5\t2\n"
        if "ms" in name:
            assert [t.runtime_ms for t in read(tmp_path, text)] == [3.5, 2.0]
        else:
            with pytest.raises(
                MeasurementError, match='some: The unit of its column "CPU" is missing; call it "CPU ms"'
            ):
                read(tmp_path, text)

    def test_the_delegate_that_is_asked_for_is_taken_alone(self, tmp_path: Path) -> None:
        text = "network,XNNPACK ms,GPU ms\na,3,2\n"
        assert by_delegate(read(tmp_path, text, defaults=Conditions(delegate="gpu"))) == [
            ("a", 2.0, "gpu", "", "", None)
        ]
        assert by_delegate(read(tmp_path, text, defaults=Conditions(delegate="cpu"))) == [
            ("a", 3.0, "xnnpack", "", "", None)
        ]
        with pytest.raises(MeasurementError, match="some: It holds no time of delegate nnapi, only of gpu, xnnpack"):
            read(tmp_path, text, defaults=Conditions(delegate="nnapi"))

    def test_quantiles_belong_to_their_times_and_spreads_are_none(self, tmp_path: Path) -> None:
        text = "network,gpu median ms,gpu mean ms,gpu p95 ms,gpu std ms,gpu min ms\na,30,31,35,2,29\n"
        (timing,) = read(tmp_path, text)
        assert (timing.runtime_ms, timing.statistic, timing.low_ms, timing.high_ms) == (30.0, "median", None, 35.0)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("network,gpu ms,metal ms\na,1,2\n", '"gpu ms" and "metal ms" are of one delegate under the same'),
            ("network,cpu ms,gpu ms\na,—,crash\n", "No cell of its columns of delegates holds a time"),
            ("network,cpu ms,gpu ms\na,1,zwei\n", r'column "gpu ms", line 2: runtime_ms must be a finite number'),
            ("network,cpu ms,gpu ms\na,1\n", "Line 2 has 2 cells for 3 columns"),
            ("network,cpu ms,gpu ms\na,1,0\n", r'runtime_ms must be a finite number > 0, got "0"'),
            ("network,cpu ms,colour\na,1,red\n", 'unknown column "colour"'),
        ],
    )
    def test_what_cannot_be_meant_is_refused(self, tmp_path: Path, text: str, message: str) -> None:
        with pytest.raises(MeasurementError, match=message):
            read(tmp_path, text)


def profile(units: str = "NPU NPU NPU", times: Any = (4400, 4300, 4170), fastest: Any = 4170) -> dict[str, Any]:
    """A profile of AI Hub, in microseconds."""
    summary = {"estimated_inference_time": fastest} | ({"all_inference_times": list(times)} if times else {})
    return {"execution_summary": summary, "execution_detail": [{"compute_unit": unit} for unit in units.split()]}


class TestJsonOfAiHub:
    """Profiles of jobs, and the tables of public models."""

    def test_a_profile_is_called_as_its_file_and_gives_the_median(self, tmp_path: Path) -> None:
        (timing,) = read(tmp_path, json.dumps(profile()), "smallnet.json", defaults=Conditions(precision="fp16"))
        assert (timing.network, timing.runtime_ms, timing.statistic, timing.runs) == ("smallnet", 4.3, "median", 3)
        assert (timing.nodes, timing.delegated_nodes, timing.conditions.delegate) == (3, 3, "qnn")

    def test_an_estimate_alone_is_the_fastest_of_the_runs(self, tmp_path: Path) -> None:
        (timing,) = read(tmp_path, json.dumps(profile(times=())))
        assert (timing.runtime_ms, timing.statistic) == (4.17, "minimum")

    def test_profiles_by_name_and_in_a_list_are_read(self, tmp_path: Path) -> None:
        both = {"csanet.tflite": profile(), "smallnet": {"profile": profile(units="GPU")}}
        assert [(t.network, t.conditions.delegate) for t in read(tmp_path, json.dumps(both))] == [
            ("csanet", "qnn"),
            ("smallnet", "gpu"),
        ]
        listed = [{"model_name": name, **profile()} for name in both]
        assert [t.network for t in read(tmp_path, json.dumps(listed))] == ["csanet", "smallnet"]
        with pytest.raises(MeasurementError, match="several profiles without the networks' names"):
            read(tmp_path, json.dumps([profile(), profile()]))

    @pytest.mark.parametrize(
        ("document", "message"),
        [
            (profile(units="NPU CPU"), "qnn ran only 1 of 2 nodes"),
            (profile(units=""), "qnn was asked for but nothing tells"),
            (profile(times=(), fastest=None), "AI Hub gives None as a time"),
            (profile(times=(1, "2")), "AI Hub gives '2' as a time"),
        ],
    )
    def test_what_is_no_time_of_the_accelerator_is_refused(
        self, tmp_path: Path, document: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(MeasurementError, match=rf"a\.json: {message}"):
            read(tmp_path, json.dumps(document), "a.json")

    def test_tables_of_models_are_read_by_name_and_as_lists_those_of_tflite_alone(self, tmp_path: Path) -> None:
        layers = {"total": 9, "npu": 9, "gpu": 0, "cpu": 0}
        row = {"inference_time_milliseconds": 1.5, "layer_counts": layers}
        nested = {"performance_metrics": {"Galaxy S24": {"tflite": row, "qnn_dlc": row}, "Galaxy S25": {"tflite": row}}}
        nested = {"precisions": {"float": {"components": {"XLSR": nested}}}}
        timings = read(tmp_path, json.dumps(nested))
        assert [(t.network, t.runtime_ms, t.conditions.device, t.conditions.precision, t.nodes) for t in timings] == [
            ("XLSR", 1.5, "Galaxy S24", "fp16", 9),
            ("XLSR", 1.5, "Galaxy S25", "fp16", 9),
        ]
        (timing,) = read(tmp_path, json.dumps(nested), defaults=Conditions(device="galaxy s25"))
        assert timing.conditions.device == "Galaxy S25"
        told_as = {"precision": "PRECISION_W8A8", "runtime": "RUNTIME_TFLITE", "device": "S24", "metrics": row}
        (timing,) = read(tmp_path, json.dumps({"model_id": "net", "performance_metrics": [told_as]}))
        assert (timing.network, timing.conditions.device, timing.conditions.precision) == ("net", "S24", "w8a8")
