"""Logs of benchmark_model: what is read from them, and which of them are refused."""

from contextlib import suppress

import pytest
from benchmark_logs import DIALECTS, E_PYTHON, LOGCAT, PLAIN, A, B, C, E, asking, parse, replacing
from hypothesis import given
from hypothesis import strategies as st

from latency_models.measure.benchmark_log import LogResult, is_benchmark_log, parse_benchmark_log
from search_spaces.errors import MeasurementError


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
    begun = "Inference timings in us: Init: 5, First inference: 6, Warmup (avg): 7, Inference (avg): "
    for cut in ("2.95034e+", "41,230.5", "41.230,5"):
        with pytest.raises(MeasurementError, match=r"no number as the tool writes it .*LC_ALL=C"):
            parse(begun + cut)


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


@pytest.mark.parametrize("dialect", DIALECTS)
def test_logs_are_read_in_every_form_of_logcat(dialect: str) -> None:
    text = "\n".join(DIALECTS[dialect].format(line) for line in PLAIN.splitlines())
    assert parse_benchmark_log(text) == parse_benchmark_log(PLAIN)
