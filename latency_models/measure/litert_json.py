"""Parse the --result_json of `litert-benchmark` from the ai-edge-litert wheel: one run, in milliseconds. Pure."""

from collections.abc import Mapping
from math import inf
from typing import Any

from latency_models.measure.benchmark_log import LITERT_PYTHON_TOOL, LogResult
from latency_models.measure.delegation import Delegation, accelerated, require_delegated
from search_spaces.errors import MeasurementError
from search_spaces.system import stored


def parse_litert_json(text: str, *, allow_partial: bool = False) -> LogResult:
    """Return the result in `text`; raise MeasurementError where it is none, or not the accelerator's time."""
    data = _object(text)
    latency = data["latency"]
    delegation = _delegation(data)
    model = str(data.get("model", ""))
    require_delegated(delegation, model or "the network", allow_partial=allow_partial)
    return LogResult(
        runtime_ms=_time(latency, "median_ms"),
        statistic="median",
        runs=_whole(latency, "num_runs"),
        low_ms=_time(latency, "p5_ms"),
        high_ms=_time(latency, "p95_ms"),
        model=model,
        threads=_whole(data, "num_threads"),
        delegate=delegation.delegate,
        tool=LITERT_PYTHON_TOOL,
    )


def _object(text: str) -> dict[str, Any]:
    try:
        data = stored.parse_json(text)
    except ValueError as error:
        raise MeasurementError(
            f"This is no whole JSON ({error}); give the file as litert-benchmark wrote it."
        ) from None
    if not isinstance(data, dict) or not isinstance(data.get("latency"), dict):
        raise MeasurementError(
            'This JSON is not what litert-benchmark writes for --result_json: it has no "latency"; '
            "give that, a log, or a CSV of measurements."
        )
    return data


def _delegation(data: Mapping[str, Any]) -> Delegation:
    accelerators, fully = data.get("accelerators"), data.get("fully_accelerated")
    if not isinstance(accelerators, list) or not accelerators or not all(isinstance(a, str) for a in accelerators):
        raise MeasurementError(f'accelerators must be a list such as ["GPU"], got {accelerators!r}; measure again.')
    return accelerated(accelerators, fully=fully, line=f"fully_accelerated: {fully}")


def _whole(data: Mapping[str, Any], key: str) -> int | None:
    value = data.get(key)
    return value if type(value) is int and value > 0 else None


def _time(latency: Mapping[str, Any], key: str) -> float:
    value = latency.get(key)
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < inf:
        return float(value)
    raise MeasurementError(f"latency.{key} must be a finite number > 0, got {value!r}; measure again with more runs.")
