"""What a log of `benchmark_model` says: which network took how long, and whether the delegate really ran it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LogResult:
    """One timed run of the tool; what its log did not tell is None or empty."""

    runtime_ms: float  # by `statistic`
    statistic: str  # "median" where the tool tells it (TensorFlow 2.20 and later), else "mean"
    runs: int | None = None  # timed, without warm-up
    low_ms: float | None = None  # 5 % of the runs were faster
    high_ms: float | None = None  # 5 % were slower
    std_ms: float | None = None
    model: str = ""  # path as the tool was given it, on the machine that it ran on
    threads: int | None = None
    delegate: str = ""  # "gpu", "nnapi", "neuron", "xnnpack", …
    nodes: int | None = None  # of the network
    delegated_nodes: int | None = None  # of them that the delegate took
    partitions: int | None = None  # that the delegate made of them
    runtime_version: str = ""
    flags: str = ""  # as command line arguments, in one line


def parse_benchmark_log(text: str, *, allow_partial: bool = False) -> tuple[LogResult, ...]:
    """Return every result in `text`: what the tool printed, or what Android's log holds of it.

    A network of which the delegate took only a part is refused unless `allow_partial`; one that the delegate did
    not run at all is always refused. Raises MeasurementError for whatever cannot be trusted to be the network's time.
    """
    raise NotImplementedError
