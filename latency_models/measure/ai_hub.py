"""Read JSON of Qualcomm AI Hub: profiles of jobs, and the tables of its public models. Pure.

A profile (`ProfileJob.download_profile()`) is in microseconds; its estimated time is the fastest of the runs, so the
median of all runs is taken where they are listed. It names neither network nor device. Several profiles may stand in a
list, or in an object by the networks' names. Tables of models (`inference_time_milliseconds`) name device, precision
and runtime; those of other runtimes than TensorFlow Lite are of other files and are left out.

Source: qai_hub client, and quic/ai-hub-models (perf of v0.30 to v0.46).
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from math import inf
from statistics import median, quantiles
from typing import Any

from latency_models.measure.delegation import Delegation, Extent, require_delegated
from latency_models.measurements import Conditions, Timing
from search_spaces.errors import MeasurementError

RUNTIME = "TensorFlow Lite on Qualcomm AI Hub"
_UNITS = {"NPU": "qnn", "GPU": "gpu", "CPU": "cpu"}
_PRECISIONS = {"float": "fp16", "fp32": "fp32", "fp16": "fp16"}  # a float file computes in fp16 on the NPU
_TIMES = {
    "inference_time_milliseconds": 1.0,
    "inferencetimemilliseconds": 1.0,
    "inference_time_ms": 1.0,
    "inference_time": 1000.0,
}
FEWEST_QUANTILES = 20


def is_ai_hub(data: object) -> bool:
    """Tell whether a JSON value is of AI Hub."""
    return any(True for _ in _profiles(data, "")) or any(True for _ in _entries(data, {}))


def parse_ai_hub(data: object, *, allow_partial: bool = False) -> tuple[Timing, ...]:
    """Return every timing in a JSON value of AI Hub; one of a profile without a name has an empty network.

    Raises MeasurementError where a time is none, or not the accelerator's.
    """
    timings = [_of_profile(name, profile, allow_partial=allow_partial) for name, profile in _profiles(data, "")]
    rows = [(facts, row) for facts, row in _entries(data, {}) if _is_tflite(facts)]
    timings += [_of_table(facts, row, allow_partial=allow_partial) for facts, row in rows]
    if not timings:
        raise MeasurementError("No time of it is of TensorFlow Lite; give a profile of a .tflite file.")
    return tuple(timings)


def _profiles(data: object, name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the profiles in a value, each with the name it stands under."""
    if isinstance(data, list):
        for each in data:
            yield from _profiles(each, name)
    elif isinstance(data, dict):
        own = next((data[key] for key in ("model_name", "model", "name") if isinstance(data.get(key), str)), name)
        if isinstance(data.get("execution_summary"), dict):
            yield own, data
            return
        for key, each in data.items():
            if isinstance(each, dict | list):
                yield from _profiles(each, own if key in ("profile", "results", "result") else key)


def _of_profile(name: str, profile: Mapping[str, Any], *, allow_partial: bool) -> Timing:
    summary = profile["execution_summary"]
    layers = profile.get("execution_detail")
    units = (
        Counter(str(layer.get("compute_unit", "")).upper() for layer in layers if isinstance(layer, dict))
        if isinstance(layers, list)
        else Counter()
    )
    where = name or "the network"
    delegation = _delegation(units)
    require_delegated(delegation, where, allow_partial=allow_partial)
    times = summary.get("all_inference_times")
    runs = sorted(_ms(t, 1000.0, where) for t in times) if isinstance(times, list) else []
    tenths = quantiles(runs, n=10) if len(runs) >= FEWEST_QUANTILES else []
    return Timing(
        network=name.removesuffix(".tflite"),
        runtime_ms=median(runs) if runs else _ms(summary.get("estimated_inference_time"), 1000.0, where),
        statistic="median" if runs else "minimum",
        low_ms=tenths[0] if tenths else None,
        high_ms=tenths[-1] if tenths else None,
        runs=len(runs) or None,
        nodes=delegation.nodes,
        delegated_nodes=delegation.delegated_nodes,
        conditions=Conditions(runtime=RUNTIME, delegate=delegation.delegate),
    )


def _delegation(units: Counter[str]) -> Delegation:
    """Return which unit ran a network and how much of it; the NPU or GPU where one of them ran any layer."""
    total = sum(units.values())
    unit = next((unit for unit in ("NPU", "GPU") if units[unit]), "CPU" if units["CPU"] else "")
    if not unit:
        return Delegation("qnn", Extent.UNKNOWN)
    extent = Extent.ALL if units[unit] == total else Extent.PART
    return Delegation(_UNITS[unit], extent, total, units[unit], line=", ".join(f"{n} on {u}" for u, n in units.items()))


_FACTS = {"model_id": "network", "model": "network", "device": "device", "device_name": "device", "chipset": "soc",
          "precision": "precision", "runtime": "runtime", "modelid": "network"}  # fmt: skip
# In tables by name, what the key after this one is.
_AFTER = {"precisions": ("precision",), "performance_metrics": ("device", "runtime"), "components": ("network",)}


def _entries(data: object, facts: Mapping[str, str]) -> Iterator[tuple[dict[str, str], Mapping[str, Any]]]:
    """Yield the objects that hold a time, each with what stands above it."""
    if isinstance(data, list):
        for each in data:
            yield from _entries(each, facts)
    elif isinstance(data, dict) and "execution_summary" not in data:
        own = dict(facts) | {
            _FACTS[key.lower()]: value
            for key, value in data.items()
            if key.lower() in _FACTS and isinstance(value, str)
        }
        if any(key.lower() in _TIMES for key in data):
            yield own, data
        for key, each in data.items():
            names = _AFTER.get(key, ()) if isinstance(each, dict) else ()
            for below, more in _named(each, names, own):
                yield from _entries(below, more)


def _named(value: object, names: tuple[str, ...], facts: dict[str, str]) -> Iterator[tuple[object, dict[str, str]]]:
    if not names or not isinstance(value, dict):
        yield value, facts
        return
    for key, each in value.items():
        yield from _named(each, names[1:], facts | {names[0]: key})


def _is_tflite(facts: Mapping[str, str]) -> bool:
    return "tflite" in facts.get("runtime", "tflite").lower()


def _of_table(facts: Mapping[str, str], row: Mapping[str, Any], *, allow_partial: bool) -> Timing:
    name = facts.get("network", "")
    key = next(key for key in row if key.lower() in _TIMES)
    units = _counted_layers(row)
    delegation = (
        _delegation(units)
        if units
        else Delegation(
            _UNITS.get(str(row.get("primary_compute_unit", row.get("primaryComputeUnit", ""))).upper(), ""), Extent.ALL
        )
    )
    require_delegated(delegation, name or "the network", allow_partial=allow_partial)
    precision = facts.get("precision", "").lower().removeprefix("precision_")
    return Timing(
        network=name,
        runtime_ms=_ms(row[key], _TIMES[key.lower()], name or "the network"),
        statistic="minimum",
        nodes=delegation.nodes,
        delegated_nodes=delegation.delegated_nodes,
        conditions=Conditions(
            device=facts.get("device", ""),
            soc=facts.get("soc", ""),
            runtime=RUNTIME,
            delegate=delegation.delegate,
            precision=_PRECISIONS.get(precision, precision),
        ),
    )


def _counted_layers(row: Mapping[str, Any]) -> Counter[str]:
    layer_counts = (row.get(key) for key in ("layer_counts", "layerCounts", "layer_info"))
    layers: dict[str, Any] = next((each for each in layer_counts if isinstance(each, dict)), {})
    counts: Counter[str] = Counter()
    for key, value in layers.items():
        unit = key.lower().removeprefix("layers_on_").upper()
        if unit in _UNITS and isinstance(value, int):
            counts[unit] += value
    return counts


def _ms(value: object, per_ms: float, where: str) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < inf:
        return value / per_ms
    raise MeasurementError(f"AI Hub gives {value!r} as a time of {where}; give the profile of a job that succeeded.")
