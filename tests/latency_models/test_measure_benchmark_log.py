"""Logs of benchmark_model: what is read from them, and which of them are refused."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latency_models.measure.benchmark_log import LogResult, is_benchmark_log, parse_benchmark_log
from search_spaces.errors import MeasurementError

# The grammar of each dialect with figures of our own. A: TensorFlow 1.10–2.0, B: to 2.17, C: since 2.20,
# D: Android's log, E: LiteRT's tool for compiled models and its litert-benchmark, in milliseconds.
RUNNING = "Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150 seconds."
A = "Average inference timings in us: Warmup: 82100.5, Init: 7310, no stats: 61040.2\n"
B = f"""STARTING!
Log parameter values verbosely: [0]
Num threads: [4]
Graph: [/data/local/tmp/smallnet.tflite]
#threads used for CPU inference: [4]
Loaded model /data/local/tmp/smallnet.tflite
The input model file size (MB): 0.0206
Initialized session in 12.5ms.
{RUNNING}
count=7 first=81004 curr=72118 min=71800 max=81004 avg=74002.1 std=2900

{RUNNING}
count=50 first=61200 curr=61050 min=60800 max=62400 avg=61040.2 std=310

Inference timings in us: Init: 12500, First inference: 81004, Warmup (avg): 74002.1, Inference (avg): 61040.2
Memory footprint delta from the start of the tool (MB): init=3.1 overall=9.7
"""
C = f"""INFO: STARTING!
INFO: Log parameter values verbosely: [0]
INFO: Graph: [eds.tflite]
INFO: {RUNNING}
INFO: count=1 curr=1957602 p5=1957602 median=1957602 p95=1957602

INFO: {RUNNING}
INFO: count=50 first=1849964 curr=1840143 min=1838588 max=1872566 avg=1.86127e+06 std=2565 p5=1838753 \
median=1839807 p95=1847415

INFO: Inference timings in us: Init: 5579, First inference: 1957602, Warmup (avg): 1.9576e+06, \
Inference (avg): 1.86127e+06
"""
E = """INFO: [litert/tools/benchmark_litert_model.cc:140] Loading model from: nets\\smallnet.tflite
VERBOSE: Replacing 6 out of 6 node(s) with delegate (DispatchDelegate) node, yielding 1 partitions for subgraph 0.
INFO: count=9 first=9125 curr=8950 min=8910 max=9125 avg=8961.4 std=41 p5=8911 median=8951 p95=9100

INFO: count=120 first=8815 curr=8842 min=8790 max=9002 avg=8849.13 std=23 p5=8801 median=8843.5 p95=8991

INFO: [litert/tools/benchmark_litert_model.h:93]
========== BENCHMARK RESULTS ==========
INFO: [litert/tools/benchmark_litert_model.h:94] Model initialization: 23.73 ms
INFO: [litert/tools/benchmark_litert_model.h:96] Warmup (first):       9.12 ms
INFO: [litert/tools/benchmark_litert_model.h:98] Warmup (avg):         8.96 ms (9 runs)
INFO: [litert/tools/benchmark_litert_model.h:100] Inference (avg):      8.85 ms (120 runs)
INFO: [litert/tools/benchmark_litert_model.h:104] Inference (min):      8.79 ms
INFO: [litert/tools/benchmark_litert_model.h:106] Inference (max):      9.00 ms
INFO: [litert/tools/benchmark_litert_model.h:108] Inference (std):      0.02
INFO: [litert/tools/benchmark_litert_model.h:115] Throughput:           944.63 MB/s
======================================
"""
E_PYTHON = """2026-05-04 09:12:01 INFO benchmark_litert_model: Model:           out/smallnet.tflite
2026-05-04 09:12:01 INFO benchmark_litert_model: Accelerators:    {accelerators}
2026-05-04 09:12:01 INFO benchmark_litert_model: Num threads:     2
2026-05-04 09:12:03 INFO benchmark_litert_model: Running 5 warmup iterations...

========================================
 BENCHMARK RESULTS
========================================
Model initialization:  3.20 ms
Warmup (first):        28.68 ms
Warmup (avg):          24.56 ms (5 runs)
Inference (avg):       23.69 ms (50 runs)
Inference (min):       16.43 ms
Inference (max):       36.43 ms
Inference (median):    20.52 ms
Inference (std):       8.63 ms
Inference (p5):        16.47 ms
Inference (p95):       34.83 ms
Fully accelerated:     {fully}
========================================
"""
LOGCAT = (
    "05-30 15:16:45.362  3380  3381 I tflite  : ",
    "07-08 15:34:26.201 I/tflite  ( 5395): ",
    "I/tflite  ( 5395): ",
)


def asking(delegate: str, *told: str, log: str = B) -> str:
    """The log of a run that was asked to use `delegate`, with what the runtime told of it."""
    lines = log.splitlines()
    return "\n".join([*lines[:4], f"Use {delegate}: [1]", *told, *lines[4:]]) + "\n"


def replacing(nodes: str, delegate: str, partitions: int = 1, subgraph: int = 0) -> str:
    return (
        f"VERBOSE: Replacing {nodes} node(s) with delegate ({delegate}) node, yielding {partitions} partitions "
        f"for subgraph {subgraph}."
    )


def parse(text: str, **options: Any) -> LogResult:
    (result,) = parse_benchmark_log(text, **options)
    return result


def test_dialect_a_gives_the_mean_without_statistics() -> None:
    assert parse(A) == LogResult(runtime_ms=61.0402, statistic="mean")
    assert parse(A.replace("no stats", "Inference")).runtime_ms == 61.0402


def test_dialect_b_gives_the_second_count_which_is_the_timed_one() -> None:
    assert parse(B) == LogResult(
        runtime_ms=61.0402,
        statistic="mean",
        runs=50,
        std_ms=0.31,
        model="/data/local/tmp/smallnet.tflite",
        threads=4,
        delegate="cpu",
    )


def test_dialect_c_gives_the_median_and_its_range_and_reads_e_notation() -> None:
    result = parse(C)
    assert (result.runtime_ms, result.statistic) == (1839.807, "median")
    assert (result.low_ms, result.high_ms, result.runs) == (1838.753, 1847.415, 50)
    assert (result.model, result.threads) == ("eds.tflite", None)


@pytest.mark.parametrize("prefix", LOGCAT)
@pytest.mark.parametrize("log", [A, B, C], ids="ABC")
def test_dialect_d_is_what_it_is_without_the_prefix_of_androids_log(prefix: str, log: str) -> None:
    lines = [line.removeprefix("INFO: ") for line in log.splitlines()]
    assert parse("\r\n".join(f"{prefix}{line}" for line in lines)) == parse(log)


def test_dialect_e_counts_in_microseconds_and_concludes_in_milliseconds() -> None:
    result = parse(E)
    assert (result.runtime_ms, result.statistic, result.runs, result.std_ms) == (8.8435, "median", 120, 0.023)
    assert (result.model, result.delegate, result.delegated_nodes) == ("nets\\smallnet.tflite", "npu", 6)
    assert result.tool == "LiteRT benchmark_model"
    without_counts = "".join(line for line in E.splitlines(keepends=True) if "count=" not in line)
    assert parse(without_counts).runtime_ms == 8.85
    assert parse(without_counts).std_ms == 0.02


def test_the_python_tool_tells_a_median_in_milliseconds() -> None:
    result = parse(E_PYTHON.format(accelerators="CPU", fully="True"))
    assert result == LogResult(
        20.52,
        "median",
        50,
        16.47,
        34.83,
        8.63,
        model="out/smallnet.tflite",
        threads=2,
        delegate="cpu",
        tool="litert-benchmark",
    )


def test_e_notation_is_not_cut_at_its_e() -> None:
    slow = B.replace("61040.2", "1.86104e+06")
    assert parse(slow).runtime_ms == 1861.04
    with pytest.raises(MeasurementError, match="ends before its result"):
        parse("Inference timings in us: Init: 5, First inference: 6, Warmup (avg): 7, Inference (avg): 2.95034e+")


def test_runs_that_all_took_the_same_time_have_that_mean() -> None:
    text = "count=1 curr=540\n\ncount=20 curr=500(all same)\n\nInference timings in us: Inference (avg): 500\n"
    result = parse(text)
    assert (result.runtime_ms, result.statistic, result.runs) == (0.5, "mean", 20)
    newer = parse(text.replace("(all same)", "(all same) p5=500 median=500 p95=500"))
    assert (newer.runtime_ms, newer.statistic) == (0.5, "median")


def test_a_warm_up_of_one_run_is_not_the_result() -> None:
    text = "count=1 curr=3500391\n\ncount=50 first=9 curr=9 min=8 max=10 avg=9.1 std=1\n\n"
    assert (
        parse(text + "Inference timings in us: Warmup (avg): 3.50039e+06, Inference (avg): 9.1\n").runtime_ms == 0.0091
    )


def test_two_results_in_one_text_are_both_read() -> None:
    first, second = parse_benchmark_log(B + C)
    assert (first, second) == (parse(B), parse(C))
    assert [r.runtime_ms for r in parse_benchmark_log(A + A.replace("61040.2", "9000"))] == [61.0402, 9.0]
    python = E_PYTHON.format(accelerators="CPU", fully="True")
    assert parse_benchmark_log(python + E + python) == (parse(python), parse(E), parse(python))


def test_what_stderr_wrote_before_the_start_belongs_to_the_run_that_follows() -> None:
    gpu = f"{replacing('6 out of 6', 'TfLiteGpuDelegateV2')}\n" + asking("gpu")
    cpu, other = parse_benchmark_log(B + gpu)
    assert (cpu.delegate, other.delegate) == ("cpu", "gpu")


def test_each_run_needs_a_result_of_its_own() -> None:
    cut = "".join(B.splitlines(keepends=True)[:8])
    with pytest.raises(MeasurementError, match=r"log of smallnet\.tflite ends before its result"):
        parse_benchmark_log(cut + C)
    with pytest.raises(MeasurementError, match=r"log of smallnet\.tflite ends before its result"):
        parse_benchmark_log(C + cut)


@pytest.mark.parametrize("lines", range(1, len(B.splitlines()) - 1))
def test_a_log_cut_after_any_line_before_its_result_is_refused(lines: int) -> None:
    with pytest.raises(MeasurementError, match="ends before its result"):
        parse("".join(B.splitlines(keepends=True)[:lines]))


def test_a_run_without_a_timed_run_is_refused() -> None:
    text = "count=0\n\ncount=0\n\nInference timings in us: Init: 9, First inference: 0, Inference (avg): -nan\n"
    with pytest.raises(MeasurementError, match=r"counts no timed run \(count=0\).*without --dry_run"):
        parse(text)
    with pytest.raises(MeasurementError, match="counts no timed run"):
        parse("Inference (avg):      0.00 ms (0 runs)\n")


@pytest.mark.parametrize("number", ["0", "-5", "nan", "-nan", "inf"])
def test_a_time_that_is_no_positive_number_is_refused(number: str) -> None:
    with pytest.raises(MeasurementError, match="as its avg, which is no time of a network"):
        parse(A.replace("61040.2", number))


def test_means_that_disagree_are_refused() -> None:
    with pytest.raises(MeasurementError, match=r"tells two means, 61\.0402 and 74\.0021 ms"):
        parse(B.replace("Inference (avg): 61040.2", "Inference (avg): 74002.1"))
    # Milliseconds where microseconds stand in the counts, and the other way round.
    with pytest.raises(MeasurementError, match=r"tells two means, 8\.84913 and 8849\.13 ms"):
        parse(E.replace("Inference (avg):      8.85", "Inference (avg):      8849.13"))


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
    told = (replacing("31 out of 31", "TfLiteNnapiDelegate"), left)  # NNAPI claims them, then cannot
    for text in (
        asking("NNAPI", left),
        asking("nnapi ", *told),
        asking("NNAPI", replacing("9 out of 9", "TfLiteXNNPackDelegate"), left),
    ):
        with pytest.raises(MeasurementError, match=r"nnapi did not run smallnet\.tflite, the CPU did"):
            parse(text, allow_partial=allow_partial)
    with pytest.raises(MeasurementError, match="gpu did not run"):
        parse(asking("gpu", "WARN: GPU acceleration is unsupported on this platform."), allow_partial=allow_partial)


@pytest.mark.parametrize(
    ("told", "part"),
    [
        ([replacing("60 out of 80", "TfLiteNnapiDelegate", 3)], "60 of 80 nodes"),
        (["Replacing 60 node(s) with delegate (TfLiteNnapiDelegate) node, yielding 3 partitions."], "a part"),
        ([PARTLY.format("NNAPI", 44)], "a part"),
    ],
    ids=["counted", "of unknown number", "in words"],
)
def test_a_partial_delegation_is_refused_unless_it_is_allowed(told: list[str], part: str) -> None:
    with pytest.raises(MeasurementError, match=f"nnapi ran only {part} of smallnet.tflite and the CPU the rest"):
        parse(asking("NNAPI", *told))
    assert parse(asking("NNAPI", *told), allow_partial=True).delegate == "nnapi"


def test_an_allowed_partial_delegation_comes_with_its_counts() -> None:
    words = PARTLY.format("NNAPI", 2)
    told = (
        replacing("60 out of 80", "TfLiteNnapiDelegate", 5),
        words,
        replacing("18 out of 20", "TfLiteXNNPackDelegate", 3),
    )
    result = parse(asking("NNAPI", *told), allow_partial=True)
    assert (result.delegate, result.nodes, result.delegated_nodes, result.partitions) == ("nnapi", 80, 60, 5)
    assert parse(asking("NNAPI", words), allow_partial=True).partitions == 2


def test_nodes_are_counted_over_all_subgraphs_and_once_where_applied_twice() -> None:
    told = [replacing("3 out of 4", "TfLiteGpuDelegateV2", 2), replacing("4 out of 4", "TfLiteGpuDelegateV2")]
    assert parse(asking("gpu", *told)).nodes == 4
    told.append(replacing("2 out of 3", "TfLiteGpuDelegateV2", 2, subgraph=1))
    with pytest.raises(MeasurementError, match="gpu ran only 6 of 7 nodes"):
        parse(asking("gpu", *told))


def test_a_delegate_whose_part_is_not_told_is_refused_unless_it_is_allowed() -> None:
    with pytest.raises(
        MeasurementError, match=r"neuron was asked for but nothing tells whether it took all of smallnet.*2>&1"
    ):
        parse(asking("neuron"))
    result = parse(asking("neuron"), allow_partial=True)
    assert (result.delegate, result.nodes) == ("neuron", None)


@pytest.mark.parametrize(
    ("asked", "told", "delegate"),
    [
        ("gpu", replacing("6 out of 6", "TfLiteGpuDelegateV2"), "gpu"),
        ("gpu", WHOLE.format("GPU"), "gpu"),
        ("gpu ", "Applied GPU delegate, and the model graph will be completely executed w/ the delegate.", "gpu"),
        ("neuron", replacing("6 out of 6", "TFLiteNeuronDelegate"), "neuron"),
        ("caching", replacing("6 out of 6", "TfLiteXNNPackDelegate"), "xnnpack"),
        ("xnnpack", "INFO: Created TensorFlow Lite XNNPACK delegate for CPU.", "xnnpack"),
        ("caching", "External delegate path: [/vendor/libvx.so]\n" + replacing("6 out of 6", "VxDelegate"), "vx"),
    ],
)
def test_a_delegate_that_took_all_is_named(asked: str, told: str, delegate: str) -> None:
    assert parse(asking(asked, *told.splitlines())).delegate == delegate


def test_what_xnnpack_leaves_is_run_by_the_same_cpu_and_is_no_partial_delegation() -> None:
    result = parse(asking("xnnpack", replacing("51 out of 56", "TfLiteXNNPackDelegate", 11)))
    assert (result.delegate, result.nodes, result.delegated_nodes, result.partitions) == ("xnnpack", 56, 51, 11)


def test_of_two_delegates_the_one_that_took_all_counts() -> None:
    told = (
        replacing("49 out of 49", "TfLiteGpuDelegateV2"),
        "Though NNAPI delegate is explicitly applied, the model graph will not be executed by the delegate.",
    )
    assert parse(asking("gpu", "Use NNAPI: [1]", *told)).delegate == "gpu"


def test_fully_accelerated_says_nothing_while_the_cpu_may_help() -> None:
    # litert-benchmark says so too of a network that XNNPACK ran.
    assert parse(E_PYTHON.format(accelerators="NPU", fully="True")).delegate == "npu"
    with pytest.raises(MeasurementError, match=r"nothing tells whether it took all.*--require_full_delegation"):
        parse(E_PYTHON.format(accelerators="NPU | CPU", fully="True"))
    with pytest.raises(MeasurementError, match="npu ran only a part"):
        parse(E_PYTHON.format(accelerators="NPU | CPU", fully="False"))


def test_flags_that_decide_what_a_time_means_are_kept_as_on_the_command_line() -> None:
    told = [
        "Min num runs: [100]",
        "Use NNAPI: [1]",
        "NNAPI accelerator name: [mtk-neuron]",
        "NNAPI accelerators available: [mtk-neuron,nnapi-reference]",
        "Disable NNAPI cpu: [0]",
        "Allow fp16 in NNAPI: [1]",
        replacing("6 out of 6", "TfLiteNnapiDelegate"),
    ]
    flags = parse(asking("xnnpack", *told)).flags
    assert flags == (
        "--use_xnnpack=1 --use_nnapi=1 --nnapi_accelerator_name=mtk-neuron --disable_nnapi_cpu=0 --nnapi_allow_fp16=1"
    )
    everything = parse(asking("xnnpack", *told, "GPU backend: []").replace("verbosely: [0]", "verbosely: [1]")).flags
    assert everything == flags.replace(" --disable_nnapi_cpu=0", "")  # a default, or given? Only the default is silent.


@pytest.mark.parametrize("told", ["-1", "0", "", ":4", "4" * 400])
def test_a_number_of_threads_that_is_none_is_not_known(told: str) -> None:
    assert parse(B.replace("[4]", f"[{told}]")).threads is None


def test_the_version_of_the_runtime_is_read_where_it_is_told() -> None:
    assert parse("INFO: TensorFlow Lite version 2.17.0\n" + B).runtime_version == "2.17.0"
    assert parse(B).runtime_version == ""


@pytest.mark.parametrize("text", ["", "hello\n", "network,runtime_ms\nsmallnet,61\n", "\n\n"])
def test_a_text_that_is_no_log_is_refused(text: str) -> None:
    assert not is_benchmark_log(text)
    with pytest.raises(MeasurementError, match="Not a log of benchmark_model"):
        parse_benchmark_log(text)


def test_a_log_is_known_by_any_of_its_lines() -> None:
    for line in (*B.splitlines()[:4], *C.splitlines()[-1:], *E.splitlines()[:2], A, "Benchmarking failed."):
        assert is_benchmark_log(line)


def six_digits(value: float) -> str:
    """As C++ streams print by default: 123457, 1.23457e+06."""
    return f"{value:.6g}"


@given(
    st.integers(1, 10**10),
    st.integers(1, 10**10),
    st.integers(0, 10**9),
    st.integers(2, 10**5),
    st.integers(1, 64),
    st.sampled_from(["", "INFO: ", "\tINFO: ", *LOGCAT]),
    st.text("abc/_.-19", min_size=1).map(lambda s: f"/{s}.tflite"),
)
def test_the_figures_of_any_log_come_back(
    median: int, low: int, std: int, runs: int, threads: int, prefix: str, model: str
) -> None:
    avg, high = median * 1.25, median * 2
    lines = [
        "STARTING!",
        "Log parameter values verbosely: [0]",
        f"Num threads: [{threads}]",
        f"Graph: [{model}]",
        "count=1 curr=1",
        f"count={runs} first={low} curr={low} min={low} max={high} avg={six_digits(avg)} std={std} p5={low} "
        f"median={median} p95={high}",
        f"Inference timings in us: Init: 1, First inference: 1, Warmup (avg): 1, Inference (avg): {six_digits(avg)}",
    ]
    result = parse("\n".join(prefix + line for line in lines))
    assert result == LogResult(
        median / 1000, "median", runs, low / 1000, high / 1000, std / 1000, model, threads, "cpu"
    )


@given(st.text(), st.sampled_from([B, C, E]), st.data())
def test_a_damaged_log_gives_an_error_or_a_positive_time(noise: str, log: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(log)))
    end = data.draw(st.integers(start, len(log)))
    with suppress(MeasurementError):
        assert all(result.runtime_ms > 0 for result in parse_benchmark_log(log[:start] + noise + log[end:]))


DIALECTS = {
    "time": "07-08 15:34:26.201 I/tflite  ( 5395): {}",
    "brief": "I/tflite  ( 5395): {}",
    "tag": "I/tflite  : {}",
    "process": "I( 5395) {}  (tflite)",
    "threadtime": "05-30 15:16:45.362  3380  3380 I tflite  : {}",
    "zone": "05-30 15:16:45.362 +0200  3380  3380 I tflite  : {}",
    "year": "2024-05-30 15:16:45.362  3380  3380 I tflite  : {}",
    "epoch": "      1527693405.362  3380  3380 I tflite  : {}",
    "colour": "\x1b[38;5;40m05-30 15:16:45.362  3380  3380 I tflite  : {}\x1b[0m",
    "Android Studio": "2024-03-02 11:07:41.204 20711-20711 tflite                  org.tflite.benchmark        I  {}",
    "older Android Studio": "2021-03-02 11:07:41.204 20711-20711/org.tflite.benchmark I/tflite: {}",
}
PLAIN = """STARTING!
Num threads: [4]
Graph: [/data/local/tmp/net.tflite]
Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
count=50 first=41230 curr=40818 min=39168 max=45353 avg=41230.5 std=310
Inference timings in us: Init: 21084, First inference: 57722, Warmup (avg): 43292, Inference (avg): 41230.5
"""


@pytest.mark.parametrize("dialect", DIALECTS)
def test_logs_are_read_in_every_form_of_logcat(dialect: str) -> None:
    text = "\n".join(DIALECTS[dialect].format(line) for line in PLAIN.splitlines())
    assert parse_benchmark_log(text) == parse_benchmark_log(PLAIN)


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
