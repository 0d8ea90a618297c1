"""Logs of benchmark_model in each of its dialects."""

from typing import Any

from latency_models.measure.benchmark_log import LogResult, parse_benchmark_log

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


def asking(delegate: str, *messages: str, log: str = B) -> str:
    """The log of a run that was asked to use `delegate`, with what the runtime told of it."""
    lines = log.splitlines()
    return "\n".join([*lines[:4], f"Use {delegate}: [1]", *messages, *lines[4:]]) + "\n"


def replacing(nodes: str, delegate: str, partitions: int = 1, subgraph: int = 0) -> str:
    return (
        f"VERBOSE: Replacing {nodes} node(s) with delegate ({delegate}) node, yielding {partitions} partitions "
        f"for subgraph {subgraph}."
    )


def parse(text: str, **options: Any) -> LogResult:
    (result,) = parse_benchmark_log(text, **options)
    return result


DIALECTS = {
    "time": "07-08 15:34:26.201 I/tflite  ( 5395): {}",
    "brief": "I/tflite  ( 5395): {}",
    "tag": "I/tflite  : {}",
    "process": "I( 5395) {}  (tflite)",
    "threadtime": "05-30 15:16:45.362  3380  3380 I tflite  : {}",
    "zone": "05-30 15:16:45.362 +0200  3380  3380 I tflite  : {}",
    "year": "2024-05-30 15:16:45.362  3380  3380 I tflite  : {}",
    "thread": "I( 5395: 5402) {}",
    "monotonic": "      117.362  3380  3380 I tflite  : {}",
    "long": "[ 07-08 15:34:26.201  5395: 5402 I/tflite   ]\n{}\n",
    "epoch": "      1527693405.362  3380  3380 I tflite  : {}",
    "colour": "\x1b[38;5;40m05-30 15:16:45.362  3380  3380 I tflite  : {}\x1b[0m",
    "Android Studio": "2024-03-02 11:07:41.204 20711-20711 tflite                  org.tflite.benchmark        I  {}",
    "Android Studio, compact": "11:07:41.204  I  {}",
    "Android Studio without date and package": "11:07:41.204 20711-20711 tflite                  I  {}",
    "Android Studio without tag": "2024-03-02 11:07:41.204 20711-20711 org.tflite.benchmark        I  {}",
    "older Android Studio without package": "2021-03-02 11:07:41.204 20711-20711 I/tflite: {}",
    "older Android Studio": "2021-03-02 11:07:41.204 20711-20711/org.tflite.benchmark I/tflite: {}",
}
PLAIN = """STARTING!
Num threads: [4]
Graph: [/data/local/tmp/net.tflite]
Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
count=50 first=41230 curr=40818 min=39168 max=45353 avg=41230.5 std=310
Inference timings in us: Init: 21084, First inference: 57722, Warmup (avg): 43292, Inference (avg): 41230.5
"""
