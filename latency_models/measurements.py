"""What was measured: one network's time on one device, and all that decides what the figure means.

A file of measurements is a CSV, one row per network, that people may write by hand: see `COLUMNS`. Times are
milliseconds throughout; sources in other units are converted where they are read.
"""

from dataclasses import dataclass, fields

STATISTICS = ("median", "mean", "pair_ratio")


@dataclass(frozen=True)
class Conditions:
    """Under which a time was taken; two times compare only where all but the date agree. Empty: not known."""

    device: str = ""  # what people call it: "Pixel 4", "AMD EPYC (Zen 4), 2 cores"
    soc: str = ""
    os: str = ""
    runtime: str = ""  # "LiteRT", "benchmark_model", "AI Benchmark"
    runtime_version: str = ""
    binary_sha256: str = ""  # of the runtime's binary: builds of one version differ by a factor
    delegate: str = ""  # "cpu", "xnnpack", "gpu", "nnapi", "neuron", …
    flags: str = ""  # that the binary was given, in one line
    precision: str = ""  # in which the device computed: "fp32", "fp16", "int8", …
    threads: int | None = None
    date: str = ""  # ISO 8601


@dataclass(frozen=True)
class Timing:
    """One network that was timed."""

    network: str  # the name of a design, or of the .tflite file without its suffix
    runtime_ms: float  # by `statistic`
    statistic: str = "median"  # one of STATISTICS
    low_ms: float | None = None  # 10 % of the runs were faster (5 % where the source tells only that)
    high_ms: float | None = None  # 10 % (or 5 %) were slower
    runs: int | None = None  # timed, without warm-up
    model: str = ""  # path of the .tflite file, relative to the file of measurements; empty: not at hand
    model_sha256: str = ""
    nodes: int | None = None  # of the network in the runtime
    delegated_nodes: int | None = None  # of them that the delegate took
    partitions: int | None = None  # that the delegate made of them
    source: str = ""  # the command or file that the figure is from
    conditions: Conditions = Conditions()


# The columns of a CSV: what a Timing holds, then its conditions. Only network and runtime_ms are needed.
COLUMNS = tuple(field.name for part in (Timing, Conditions) for field in fields(part) if field.name != "conditions")
