"""Logs of benchmark_model: which delegate ran a network, in whole or in part, and when that cannot be told."""

import pytest
from benchmark_logs import E_PYTHON, PLAIN, A, B, asking, parse, replacing

from latency_models.measure.benchmark_log import parse_benchmark_log
from search_spaces.errors import MeasurementError

WHOLE = "Explicitly applied {} delegate, and the model graph will be completely executed by the delegate."
PARTLY = (
    "Explicitly applied {} delegate, and the model graph will be partially executed by the delegate "
    "w/ {} delegate kernels."
)
PROFILE = """Operator-wise Profiling Info for Regular Benchmark Runs:
============================== Run Order ==============================
Timings (microseconds): count=50 first=164033 curr=158560 min=146535 max=166638 avg=158715 std=2931
"""


@pytest.mark.parametrize(
    "text",
    [B + PROFILE, PROFILE, PROFILE + A, asking("gpu", "Enable op profiling: [1]"), asking("gpu", "use_profiler: [1]")],
    ids=["after the result", "alone", "before the result", "by its flag", "by LiteRT's flag"],
)
def test_the_time_of_a_profiled_run_is_refused(text: str) -> None:
    with pytest.raises(MeasurementError, match=r"was profiled, which makes it slower.*without --enable_op_profiling"):
        parse(text)


def test_a_run_that_was_told_not_to_profile_is_read() -> None:
    assert parse(B.replace("Num threads", "Enable op profiling: [0]\nNum threads")).runtime_ms == 61.0402


FAILED = """ERROR: NN API returned error ANEURALNETWORKS_OP_FAILED at line 3779 while completing NNAPI compilation.
ERROR: Node number 24 (TfLiteNnapiDelegate) failed to prepare.
ERROR: Restored original execution plan after delegate application failure.
Failed to apply NNAPI delegate.
Benchmarking failed.
"""


@pytest.mark.parametrize("allow_partial", [False, True])
def test_a_failed_run_is_refused_with_its_reason(allow_partial: bool) -> None:
    for text in (FAILED, B + "Benchmarking failed.\n", asking("nnapi", *FAILED.splitlines()[:3])):
        with pytest.raises(MeasurementError, match="benchmark_model failed on"):
            parse(text, allow_partial=allow_partial)
    with pytest.raises(MeasurementError, match='"Failed to apply GPU delegate'):
        parse("Graph: [x.tflite]\nBenchmarking failed.\nFailed to apply GPU delegate.\n")


@pytest.mark.parametrize("allow_partial", [False, True])
def test_a_network_left_to_the_cpu_is_always_refused(allow_partial: bool) -> None:
    left = "Though NNAPI delegate is explicitly applied, the model graph will not be executed by the delegate."
    lines = (replacing("31 out of 31", "TfLiteNnapiDelegate"), left)  # NNAPI claims them, then cannot
    for text in (
        asking("NNAPI", left),
        asking("nnapi ", *lines),
        asking("NNAPI", replacing("9 out of 9", "TfLiteXNNPackDelegate"), left),
    ):
        with pytest.raises(MeasurementError, match=r"nnapi did not run smallnet\.tflite, the CPU did"):
            parse(text, allow_partial=allow_partial)
    with pytest.raises(MeasurementError, match="gpu did not run"):
        parse(asking("gpu", "WARN: GPU acceleration is unsupported on this platform."), allow_partial=allow_partial)


@pytest.mark.parametrize(
    ("lines", "part"),
    [
        ([replacing("60 out of 80", "TfLiteNnapiDelegate", 3)], "60 of 80 nodes"),
        (["Replacing 60 node(s) with delegate (TfLiteNnapiDelegate) node, yielding 3 partitions."], "a part"),
        ([PARTLY.format("NNAPI", 44)], "a part"),
    ],
    ids=["counted", "of unknown number", "in words"],
)
def test_a_partial_delegation_is_refused_unless_it_is_allowed(lines: list[str], part: str) -> None:
    with pytest.raises(MeasurementError, match=f"nnapi ran only {part} of smallnet.tflite and the CPU the rest"):
        parse(asking("NNAPI", *lines))
    assert parse(asking("NNAPI", *lines), allow_partial=True).delegate == "nnapi"


def test_an_allowed_partial_delegation_comes_with_its_counts() -> None:
    words = PARTLY.format("NNAPI", 2)
    lines = (
        replacing("60 out of 80", "TfLiteNnapiDelegate", 5),
        words,
        replacing("18 out of 20", "TfLiteXNNPackDelegate", 3),
    )
    result = parse(asking("NNAPI", *lines), allow_partial=True)
    assert (result.delegate, result.nodes, result.delegated_nodes, result.partitions) == ("nnapi", 80, 60, 5)
    assert parse(asking("NNAPI", words), allow_partial=True).partitions == 2


def test_nodes_are_counted_over_all_subgraphs_and_once_where_applied_twice() -> None:
    lines = [replacing("3 out of 4", "TfLiteGpuDelegateV2", 2), replacing("4 out of 4", "TfLiteGpuDelegateV2")]
    assert parse(asking("gpu", *lines)).nodes == 4
    lines.append(replacing("2 out of 3", "TfLiteGpuDelegateV2", 2, subgraph=1))
    with pytest.raises(MeasurementError, match="gpu ran only 6 of 7 nodes"):
        parse(asking("gpu", *lines))


CREATED = "NEURON delegate created."


def test_a_delegate_whose_part_is_not_told_is_refused_unless_it_is_allowed() -> None:
    with pytest.raises(
        MeasurementError, match=r"neuron was asked for but nothing tells whether it took all of smallnet.*2>&1"
    ):
        parse(asking("neuron", CREATED))
    result = parse(asking("neuron", CREATED), allow_partial=True)
    assert (result.delegate, result.nodes) == ("neuron", None)


@pytest.mark.parametrize("allow_partial", [False, True])
@pytest.mark.parametrize(
    ("flag", "text"),
    [
        ("gpu", ""),
        ("gpu", "INFO: Created TensorFlow Lite XNNPACK delegate for CPU."),
        ("gpu", "GPU delegate konnte nicht erstellt werden"),
        ("Hexagon", "Failed to fetch Hexagon NN version."),
        ("EdgeTPU", "Unable to open EdgeTPU device; running on the CPU instead"),
        ("NPU", "WARNING: No accelerator registered for NPU; falling back to CPU"),
        ("NNAPI", "ERROR: Could not find the specified NNAPI accelerator: mtk-apu. Must be one of: {nnapi-reference}"),
        ("NNAPI", "NNAPI accelerator name: [nnapi-reference]"),
        ("caching", "External delegate path: [/d/libQnnTFLiteDelegate.so]"),
        ("caching", "External delegate path: [/d/libx.so]\ndlopen failed: library libx.so not found"),
        ("gpu", "INFO: TfLiteGpuDelegateV2 delegate: 0 nodes delegated out of 64 nodes with 0 partitions."),
        ("gpu", "Replacing 0 node(s) with delegate (TfLiteGpuDelegateV2) node, yielding 0 partitions."),
    ],
)
def test_a_delegate_of_which_nothing_tells_that_it_ran_is_refused_even_in_part(
    flag: str, text: str, allow_partial: bool
) -> None:
    with pytest.raises(MeasurementError):
        parse(asking(flag, *text.splitlines()), allow_partial=allow_partial)


@pytest.mark.parametrize(
    ("flag", "text", "delegate"),
    [
        ("gpu", replacing("6 out of 6", "TfLiteGpuDelegateV2"), "gpu"),
        ("gpu", WHOLE.format("GPU"), "gpu"),
        ("gpu ", "Applied GPU delegate, and the model graph will be completely executed w/ the delegate.", "gpu"),
        ("neuron", replacing("6 out of 6", "TFLiteNeuronDelegate"), "neuron"),
        ("caching", replacing("6 out of 6", "TfLiteXNNPackDelegate"), "xnnpack"),
        ("xnnpack", "INFO: Created TensorFlow Lite XNNPACK delegate for CPU.", "xnnpack"),
        ("caching", "External delegate path: [/d/libQnnTFLiteDelegate.so]\n" + WHOLE.format("EXTERNAL"), "qnn"),
        ("gpu", "INFO: TfLiteGpuDelegateV2 delegate: 6 nodes delegated out of 6 nodes with 1 partitions.", "gpu"),
        ("caching", "External delegate path: [/vendor/libvx.so]\n" + replacing("6 out of 6", "VxDelegate"), "vx"),
    ],
)
def test_a_delegate_that_took_all_is_named(flag: str, text: str, delegate: str) -> None:
    assert parse(asking(flag, *text.splitlines())).delegate == delegate


def test_what_xnnpack_leaves_is_run_by_the_same_cpu_and_is_no_partial_delegation() -> None:
    result = parse(asking("xnnpack", replacing("51 out of 56", "TfLiteXNNPackDelegate", 11)))
    assert (result.delegate, result.nodes, result.delegated_nodes, result.partitions) == ("xnnpack", 56, 51, 11)


def test_of_two_delegates_the_one_that_took_all_counts() -> None:
    lines = (
        replacing("49 out of 49", "TfLiteGpuDelegateV2"),
        "Though NNAPI delegate is explicitly applied, the model graph will not be executed by the delegate.",
    )
    assert parse(asking("gpu", "Use NNAPI: [1]", *lines)).delegate == "gpu"


def test_fully_accelerated_says_nothing_while_the_cpu_may_help() -> None:
    # litert-benchmark says so too of a network that XNNPACK ran.
    assert parse(E_PYTHON.format(accelerators="NPU", fully="True")).delegate == "npu"
    with pytest.raises(MeasurementError, match=r"nothing tells whether it took all.*--require_full_delegation"):
        parse(E_PYTHON.format(accelerators="NPU | CPU", fully="True"))
    with pytest.raises(MeasurementError, match="npu ran only a part"):
        parse(E_PYTHON.format(accelerators="NPU | CPU", fully="False"))


def test_flags_that_decide_what_a_time_means_are_kept_as_on_the_command_line() -> None:
    lines = [
        "Min num runs: [100]",
        "Use NNAPI: [1]",
        "NNAPI accelerator name: [mtk-neuron]",
        "NNAPI accelerators available: [mtk-neuron,nnapi-reference]",
        "Disable NNAPI cpu: [0]",
        "Allow fp16 in NNAPI: [1]",
        replacing("6 out of 6", "TfLiteNnapiDelegate"),
    ]
    flags = parse(asking("xnnpack", *lines)).flags
    assert flags == (
        "--use_xnnpack=1 --use_nnapi=1 --nnapi_accelerator_name=mtk-neuron --disable_nnapi_cpu=0 --nnapi_allow_fp16=1"
    )
    everything = parse(asking("xnnpack", *lines, "GPU backend: []").replace("verbosely: [0]", "verbosely: [1]")).flags
    assert everything == flags.replace(" --disable_nnapi_cpu=0", "")  # a default, or given? Only the default is silent.


@pytest.mark.parametrize("number", ["-1", "0", "", ":4", "4" * 400])
def test_a_number_of_threads_that_is_none_is_not_known(number: str) -> None:
    assert parse(B.replace("[4]", f"[{number}]")).threads is None


def test_the_version_of_the_runtime_is_read_where_it_is_told() -> None:
    assert parse("INFO: TensorFlow Lite version 2.17.0\n" + B).runtime_version == "2.17.0"
    assert parse(B).runtime_version == ""


@pytest.mark.parametrize(
    "line",
    [
        "Could not create Hexagon delegate: platform may not support delegate or required libraries are missing",
        "ERROR: Failed to create CoreML delegate.",
        "Couldn't load the QNN delegate library libQnnTFLiteDelegate.so",
        "External delegate could not be loaded",
        "ERROR: Failed to apply XNNPACK delegate.",
        "Unable to initialize NNAPI delegate",
        "Neuron delegate creation failed",
        "The EdgeTPU delegate is not available on this device",
        "Delegate 'gpu' couldn't be created",
        "GPU delegate failed to initialise",
        "TfLiteGpuDelegateV2: no OpenCL or OpenGL",
        "GPU delegate is null, skipped",
        "error: loading external delegate libx.so",
        "Falling back to CPU",
        "NNAPI delegate: the driver is missing",
    ],
)
@pytest.mark.parametrize("allow_partial", [False, True])
def test_a_delegate_that_did_not_come_to_be_gives_no_time(line: str, allow_partial: bool) -> None:
    head, tail = PLAIN.split("Running", 1)
    with pytest.raises(MeasurementError, match="failed on net"):
        parse_benchmark_log(f"{head}{line}\nRunning{tail}", allow_partial=allow_partial)


@pytest.mark.parametrize(
    "line",
    [
        "Following operations are not supported by GPU delegate:",
        "Require full delegation: [0]",
        "INFO: Created TensorFlow Lite XNNPACK delegate for CPU.",
        "QNN delegate: no error",
        "Attempting to use a delegate that only supports static-sized tensors with a graph that has open sizes.",
    ],
)
def test_a_line_about_a_delegate_that_ran_is_no_failure(line: str) -> None:
    head, tail = PLAIN.split("Running", 1)
    (result,) = parse_benchmark_log(f"{head}{line}\nRunning{tail}", allow_partial=True)
    assert result.runtime_ms == parse_benchmark_log(PLAIN)[0].runtime_ms


def test_the_gpu_by_opengl_is_another_condition_than_by_opencl() -> None:
    head, tail = PLAIN.split("Running", 1)
    whole = "Explicitly applied GPU delegate, and the model graph will be completely executed by the delegate."
    gpu = f"Use gpu: [1]\n{whole}"
    fallen = "Can not open OpenCL library on this device\nFalling back to OpenGL\nInitialized OpenGL-based API."
    (by_cl,) = parse_benchmark_log(f"{head}{gpu}\nRunning{tail}")
    (by_gl,) = parse_benchmark_log(f"{head}{fallen}\n{gpu}\nRunning{tail}")
    assert "gpu_backend" not in by_cl.flags
    assert by_gl.flags.endswith("--gpu_backend=gl")
