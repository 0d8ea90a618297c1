"""Networks measured on a phone that is a folder."""

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from fake_adb import SERIAL

from latency_models.measure.android import measure_on_phone
from latency_models.measure.benchmark_setup import BenchmarkSetup
from latency_models.measure.phone_bench import Failure
from latency_models.measurements import Timing

Networks = Callable[..., list[Path]]
RUN = "benchmark_model --graph"
GONE = {"stderr": f"error: device '{SERIAL}' not found"}


def no_sleep(seconds: float) -> None:
    """Wait as long as a test can."""


def measured(paths: Sequence[Path], setup: BenchmarkSetup, **options: object) -> list[Timing | Failure]:
    with closing(measure_on_phone(paths, setup, **{"sleep": no_sleep, **options})) as outcomes:
        return list(outcomes)


def times_ms(outcomes: Sequence[Timing | Failure]) -> dict[str, float]:
    return {outcome.network: outcome.runtime_ms for outcome in outcomes if isinstance(outcome, Timing)}


def reasons(outcomes: Sequence[Timing | Failure]) -> dict[str, str]:
    return {outcome.network: outcome.reason for outcome in outcomes if isinstance(outcome, Failure)}
