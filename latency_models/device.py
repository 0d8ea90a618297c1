"""What is known of a device, and its answer to the question how long a network takes on it.

A device is one JSON file: its conditions, what was measured and where, what was assumed, the coefficients
fitted to both, the operations that its delegate accepts. The user's own files, in ./devices or the user's
data folder, hide built-in ones of the same name. Predicts without loading NumPy.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latency_models.device_file import (
    Reader,
    check_keys,
    count,
    list_of,
    number,
    one_of,
    positive,
    read_json,
    record,
    refuse,
    text,
    texts,
)
from latency_models.features import Kernel, kernels
from latency_models.predictor import (
    CLASS_COEFFICIENTS,
    OVERHEADS,
    Coefficients,
    Layout,
    Row,
    fit,
    kernel_amounts,
    overhead_amounts,
    time_ms,
    total_amounts,
)
from search_spaces import places
from search_spaces.designs import find_design
from search_spaces.errors import DeviceError, IspNasError
from search_spaces.graph import Graph
from search_spaces.networks import build_graph
from search_spaces.ops import Shape
from search_spaces.spec import ArchSpec

BUILTIN = Path(__file__).parent / "devices"
SCHEMA = 1


@dataclass(frozen=True)
class Prediction:
    """How long a network takes: the expected time, an interval around it, and where the time goes.

    Always low_ms ≤ runtime_ms ≤ high_ms and fixed_ms + Σ kernels_ms = runtime_ms.
    """

    runtime_ms: float
    low_ms: float
    high_ms: float
    assumed_interval: bool  # True: the width is a stated assumption, not seen on held-out measurements
    kernels_ms: dict[str, float]  # by kernel name, in the order of computation
    fixed_ms: float  # starting the network and carrying its input and output


@dataclass(frozen=True)
class Measurement:
    """One network that was timed on the device."""

    label: str
    spec: ArchSpec
    input_shape: Shape
    runtime_ms: float

    def graph(self) -> Graph:
        """Return the network at the size at which it was timed."""
        return build_graph(self.spec, self.input_shape)


@dataclass(frozen=True)
class Assumption:
    """A coefficient before any measurement, and where it comes from."""

    value: float
    note: str


@dataclass(frozen=True)
class Interval:
    """The interval of a prediction: the time divided by and multiplied with `factor`."""

    kind: str
    factor: float
    note: str


@dataclass(frozen=True)
class Device:
    """A device as its file describes it."""

    name: str
    title: str
    soc: str
    delegate: str
    precision: str
    source: str
    measurements: tuple[Measurement, ...]
    prior: Mapping[str, Assumption]
    shrinkage: Assumption  # how firmly `fit` holds coefficients to the prior
    fitted: Coefficients
    interval: Interval
    layout: Layout
    supported_ops: Mapping[str, str]  # TFLite name → the condition under which the delegate accepts it
    limits: tuple[str, ...]  # what the predictions cannot promise
    digest: str  # tells that the file was edited: twelve hex digits over its content

    def unsupported(self, graph: Graph) -> tuple[str, ...]:
        """Return the TFLite operations of `graph` that the delegate does not accept, each with the reason."""
        return self._unsupported(kernels(graph))

    def predict(self, graph: Graph) -> Prediction:
        """Return the time of `graph` at its own input shape.

        Raises DeviceError where the delegate does not accept an operation or a coefficient is missing.
        """
        parts = kernels(graph)
        refused = self._unsupported(parts)
        if refused:
            raise DeviceError(
                f"{self.name} cannot run this network: {'; '.join(refused)}. "
                "Choose other operations, or a device whose delegate accepts them."
            )
        fixed_ms = time_ms(overhead_amounts(graph, self.layout), self.fitted)
        kernels_ms = {k.name: time_ms(kernel_amounts(k, self.layout), self.fitted) for k in parts}
        runtime_ms = fixed_ms + sum(kernels_ms.values())
        factor = self.interval.factor
        assumed = self.interval.kind == "assumed"
        return Prediction(runtime_ms, runtime_ms / factor, runtime_ms * factor, assumed, kernels_ms, fixed_ms)

    def _unsupported(self, parts: Iterable[Kernel]) -> tuple[str, ...]:
        first: dict[str, str] = {}
        for part in parts:
            if part.tflite_op not in self.supported_ops:
                first.setdefault(part.tflite_op, part.name)
        return tuple(
            f'{op} (node "{name}") is not accepted by the {self.delegate} delegate' for op, name in first.items()
        )


def device_names() -> dict[str, Path]:
    """Return every device's name with its file; the user's own hide built-in ones of the same name."""
    return places.names("devices", BUILTIN, ".json")


def device_path(name: str) -> Path:
    """Return the file of the device called `name`, or `name` itself where it is the path of a .json file.

    Raises UnknownNameError with the nearest known name, or UsageError where a path does not exist.
    """
    return places.find("devices", name, BUILTIN, ".json")


def load_device(name: str) -> Device:
    """Return the device called `name`, or described by the .json file at that path.

    Raises UnknownNameError for a name nobody has, DeviceError with file and key for a file that is not a device.
    """
    path = device_path(name)
    data = read_json(path)
    values = _read_device(str(path), data)
    if values["name"] != path.stem:
        refuse(f"{path}: name", f'"{path.stem}", as the file is called', values["name"])
    check_keys(f"{path}: fitted", values["fitted"], values["prior"])
    del values["schema"]
    return Device(**values, digest=_digest(data))


def refit(device: Device) -> dict[str, float]:
    """Return the coefficients that `device`'s own measurements and prior give: what its file stores as fitted."""
    rows = [_row(measurement.graph(), measurement.runtime_ms, device.layout) for measurement in device.measurements]
    prior = {name: assumption.value for name, assumption in device.prior.items()}
    return fit(rows, prior, shrinkage=device.shrinkage.value)


def _row(graph: Graph, runtime_ms: float, layout: Layout) -> Row:
    return Row(total_amounts(graph, kernels(graph), layout), runtime_ms)


def _digest(data: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:12]


def _read_network(where: str, value: object) -> tuple[str, ArchSpec]:
    """Read a published design's name or an object of genes; return a label and the genes."""
    try:
        if isinstance(value, str):
            return value, find_design(value).spec
        if isinstance(value, dict):
            spec = ArchSpec.from_dict(value)
            return spec.description, spec
    except IspNasError as error:
        raise DeviceError(f"{where}: {error}") from None
    return refuse(where, "the name of a design or an object of genes", value)


def _read_shape(where: str, value: object) -> Shape:
    sides = list_of(count)(where, value)
    if len(sides) != 4:
        refuse(where, "[batch, height, width, channels]", value)
    n, h, w, c = sides
    return (n, h, w, c)


def _read_measurement(where: str, value: object) -> Measurement:
    fields = record({"network": _read_network, "input_shape": _read_shape, "runtime_ms": positive})(where, value)
    label, spec = fields["network"]
    measurement = Measurement(label, spec, fields["input_shape"], fields["runtime_ms"])
    try:
        measurement.graph()
    except IspNasError as error:
        raise DeviceError(f"{where}.input_shape: {error}") from None
    return measurement


def _read_coefficients(read_overhead: Reader, read_class: Reader) -> Reader:
    """Return the reader of coefficients: every overhead, and all or none of what a class needs."""

    def read(where: str, value: object) -> dict[str, Any]:
        present = value.keys() if isinstance(value, dict) else ()
        readers = dict.fromkeys(OVERHEADS, read_overhead)
        for needed in CLASS_COEFFICIENTS.values():
            if any(name in present for name in needed):
                readers |= dict.fromkeys(needed, read_class)
        fields: dict[str, Any] = record(readers)(where, value)
        return fields

    return read


def _assumption(read_value: Reader) -> Reader:
    return lambda where, value: Assumption(**record({"value": read_value, "note": text})(where, value))


def _read_factor(where: str, value: object) -> float:
    factor = number(where, value)
    return factor if factor >= 1 else refuse(where, "a number ≥ 1", value)


def _read_interval(where: str, value: object) -> Interval:
    kinds = one_of("assumed", "measured")
    return Interval(**record({"kind": kinds, "factor": _read_factor, "note": text})(where, value))


def _read_layout(where: str, value: object) -> Layout:
    return Layout(**record(dict.fromkeys(Layout._fields, count))(where, value))


# What a device file holds, key by key.
_read_device = record(
    {
        "schema": one_of(SCHEMA),
        "name": text,
        "title": text,
        "soc": text,
        "delegate": text,
        "precision": text,
        "source": text,
        "measurements": list_of(_read_measurement),
        # A class cost of zero would be an unknown one; fixed costs may really be nothing.
        "prior": _read_coefficients(_assumption(number), _assumption(positive)),
        "shrinkage": _assumption(positive),
        "fitted": _read_coefficients(number, number),
        "interval": _read_interval,
        "layout": _read_layout,
        "supported_ops": texts,
        "limits": list_of(text),
    }
)
