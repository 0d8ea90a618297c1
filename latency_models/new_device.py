"""Make a device from measurements: match the kernels of each timed network, choose a method, write the file.

The features of a network are read from its .tflite file, the very one that was timed; where that is not at hand, from
its name, if that is a probe's or a published design's.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path

from latency_models import probes
from latency_models.delegate import load_delegate
from latency_models.device import Device, Fitted, Measured, Transferred, refit
from latency_models.kernels import Network, network
from latency_models.measurements import Conditions, Timing
from latency_models.predictor import Predictor
from latency_models.tflite_network import read_network
from search_spaces.designs import DESIGNS
from search_spaces.errors import IspNasError, MeasurementError
from search_spaces.networks import build_graph

# What a map's element takes inside the network, by what the device computes in.
BYTES = {"fp32": 4, "fp16": 2, "int16": 2, "int8": 1}
IO_BYTES = 4
# The table of operations that goes with a delegate as measurements name it.
DEFAULT_TABLE = "xnnpack"
TABLES = {"xnnpack": "xnnpack", "cpu": "xnnpack", "gpu": "tflite-gpu", "nnapi": "nnapi", "neuron": "mediatek-neuron"}


def make_device(
    name: str,
    timings: Sequence[Timing],
    *,
    folder: Path,
    title: str = "",
    sources: Mapping[str, Predictor] | None = None,
    delegate_table: str | None = None,
) -> Device:
    """Return the device that these timings describe, fitted, with networks held out.

    `folder` is where the file of measurements lies, to which models are relative; `sources` are predictors of other
    devices to start from. Raises MeasurementError where conditions are mixed, a network is unknown, or measurements
    are too few.
    """
    conditions = common_conditions(timings)
    measured = tuple(measured_of(timing, folder) for timing in timings)
    method = Transferred(sources) if sources else Fitted(BYTES.get(conditions.precision, IO_BYTES), IO_BYTES)
    device = Device(
        name=name,
        title=title or _title(conditions, name),
        conditions=conditions,
        source=_source(timings),
        measurements=measured,
        method=method,
        predictor=None,  # type: ignore[arg-type]  # fitted in the next line
        held_out=(),
        delegate=load_delegate(delegate_table or TABLES.get(conditions.delegate, DEFAULT_TABLE)),
        fallback=None,
        limits=_limits(measured, method),
        digest="",
    )
    predictor, held_out = refit(device)
    return replace(device, predictor=predictor, held_out=held_out)


def extended(device: Device, timings: Sequence[Timing], *, name: str, folder: Path) -> Device:
    """Return a device of another name that knows these timings, too; those of networks it had replace the old ones."""
    new = {timing.network: measured_of(timing, folder) for timing in timings}
    kept = [measured for measured in device.measurements if measured.label not in new]
    longer = replace(
        device,
        name=name,
        source=f"{device.source}; {_source(timings)}",
        measurements=(*kept, *new.values()),
        conditions=replace(device.conditions, date=max(timing.conditions.date for timing in timings)),
    )
    predictor, held_out = refit(longer)
    return replace(longer, predictor=predictor, held_out=held_out)


def common_conditions(timings: Sequence[Timing]) -> Conditions:
    """Return the conditions that all timings share, dated by the last; raise MeasurementError where they differ."""
    first = timings[0].conditions
    for field in fields(Conditions):
        found = {getattr(timing.conditions, field.name) for timing in timings}
        if field.name != "date" and len(found) > 1:
            listed = ", ".join(sorted(map(repr, found)))
            raise MeasurementError(
                f"Measurements of one device need one {field.name}, got {listed}; split the file by it."
            )
    return replace(first, date=max(timing.conditions.date for timing in timings))


def measured_of(timing: Timing, folder: Path) -> Measured:
    """Return a timing with the kernels of its network; raise MeasurementError where nothing tells them."""
    name, _, part = timing.network.partition("#")
    seen, family = _network(name, folder / timing.model if timing.model else None)
    if part:
        seen = _one_kernel(seen, int(part), timing.network)
    return Measured(
        label=timing.network,
        network=seen,
        runtime_ms=timing.runtime_ms,
        family=f"{family}#{part}" if part else family,
        whole=not part,
        low_ms=timing.low_ms,
        high_ms=timing.high_ms,
        runs=timing.runs,
    )


def _network(name: str, path: Path | None) -> tuple[Network, str]:
    """Return the network of a timing and its family, from its file or else from its name."""
    if path is not None and path.is_file():
        try:
            return read_network(path.read_bytes()), family_of(name)
        except IspNasError as error:
            raise MeasurementError(f"{path}: {error}") from None
    probe = probes.named(name)
    if probe:
        return network(probe.graph), probe.family
    if name in DESIGNS:
        return network(build_graph(DESIGNS[name].spec)), probes.family(DESIGNS[name].spec)
    where = f"its file {path} is not there" if path else "the measurements name no file of it"
    raise MeasurementError(
        f'Network "{name}" is no probe and no published design, and {where}; give the .tflite that was timed in the '
        "column model."
    )


def _one_kernel(seen: Network, index: int, label: str) -> Network:
    if index >= len(seen.kernels):
        raise MeasurementError(
            f"{label}: its network has {len(seen.kernels)} operations; give the file that was profiled."
        )
    return Network((seen.kernels[index],), seen.input_elements, seen.output_elements)


def family_of(name: str) -> str:
    """Return which networks `name` is a sibling of: candidates carry it, files that people name begin alike."""
    if name in DESIGNS:
        return probes.family(DESIGNS[name].spec)
    if probe := probes.named(name):
        return probe.family
    if name.startswith("candidate-"):
        return name.removeprefix("candidate-").rpartition("-")[0]
    beginning = re.match(r"[A-Za-z]+", name)
    return beginning[0] if beginning else name


def _title(conditions: Conditions, name: str) -> str:
    device = conditions.device or conditions.soc or name
    threads = f", {conditions.threads} thread{'s' if conditions.threads != 1 else ''}" if conditions.threads else ""
    return (
        f"{device}, {conditions.delegate or 'unknown delegate'}, {conditions.precision or 'unknown precision'}{threads}"
    )


def _source(timings: Sequence[Timing]) -> str:
    sources = dict.fromkeys(timing.source for timing in timings if timing.source)
    return f"{len(timings)} timings: {'; '.join(sources) or 'source not told'}"


def _limits(measured: Sequence[Measured], method: Fitted | Transferred) -> tuple[str, ...]:
    largest = max(kernel.height * kernel.width for m in measured for kernel in m.network.kernels)
    limits = [f"Nothing larger than maps of {largest / 1e6:.2f} million pixels was measured."]
    if isinstance(method, Transferred):
        limits.append(
            f"{len(measured)} networks were measured; the rest is taken over from {', '.join(method.sources)}."
        )
    return tuple(limits)
