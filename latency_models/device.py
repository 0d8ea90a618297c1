"""A device: what is known of it, and how long it takes for a network.

A device is one JSON file: its conditions, what was measured and where, by which method a predictor was made of
that, the predictor, how good it was on networks left out, and the operations that its delegate accepts. The user's own
files, in ./devices or the user's data folder, hide built-in ones of the same name. Predicts without TensorFlow or JAX.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from math import exp
from pathlib import Path
from typing import Any

from latency_models import calibration
from latency_models.delegate import DelegateTable, load_delegate
from latency_models.fallback import Assumption, Fallback, predict_partial
from latency_models.json_readers import (
    Reader,
    check_keys,
    count,
    list_of,
    number,
    one_of,
    optional,
    positive,
    read_json,
    record,
    refuse,
    text,
)
from latency_models.kernel_rows import kernels_from_rows, to_data
from latency_models.kernels import Network, network
from latency_models.measurements import Conditions
from latency_models.methods import Assumed, Fitted, Transferred
from latency_models.other_probes import probe_like
from latency_models.predictor import Prediction, Predictor, UnpricedKernelError
from latency_models.predictor_file import predictor_to_data, read_layout, read_predictor
from latency_models.roofline import CLASS_COEFFICIENTS, OVERHEADS
from latency_models.samples import HeldOut, Sample
from latency_models.support import Refusal, Support, support
from search_spaces.designs import find_design
from search_spaces.errors import DeviceError, IspNasError, UnknownNameError
from search_spaces.graph import Graph
from search_spaces.networks import build_graph
from search_spaces.ops import Shape
from search_spaces.spec import ArchSpec
from search_spaces.system import named_files
from search_spaces.system.arguments import checked

BUILTIN = Path(__file__).parent / "devices"
SCHEMA = 2


@dataclass(frozen=True)
class Measured:
    """One network that was timed on the device, or one kernel of a profiled run."""

    label: str
    network: Network
    runtime_ms: float
    family: str
    whole: bool = True  # False: a kernel's share of a profiled run
    low_ms: float | None = None
    high_ms: float | None = None
    runs: int | None = None
    as_written: Mapping[str, Any] | None = None  # as the file has it, where that is a design or genes

    @property
    def sample(self) -> Sample:
        """What a fit reads of it."""
        return Sample(self.network, self.runtime_ms, self.family, self.label, self.whole)


@dataclass(frozen=True)
class Device:
    """A device as its file describes it."""

    name: str
    title: str
    conditions: Conditions
    source: str
    measurements: tuple[Measured, ...]
    method: Assumed | Fitted | Transferred
    predictor: Predictor
    held_out: tuple[HeldOut, ...]  # what fits that left them out said of the measured networks
    delegate: DelegateTable  # what the delegate accepts
    fallback: Fallback | None  # what it costs where the delegate does not take a kernel; None: not known
    limits: tuple[str, ...]  # what the predictions cannot promise
    digest: str  # tells that the file was edited: twelve hex digits over its content

    def support(self, network: Network) -> Support:
        """Return how far the device's delegate takes a network."""
        return support(network, self.delegate)

    def unsupported(self, graph: Graph) -> tuple[str, ...]:
        """Return the kernels of `graph` that fall to another processor, each with the reason; none where none does."""
        support = self.support(network(graph))
        return () if support.is_whole else refusal_texts(support.refused)

    def refusal(self, network: Network, *, allow_fallback: bool = False) -> str | None:
        """Return why a network is not to be run on the device, in one sentence; None where it is."""
        return self._refusal(self.support(network), allow_fallback=allow_fallback)

    def _refusal(self, support: Support, *, allow_fallback: bool) -> str | None:
        if support.is_whole or (allow_fallback and support.status == "partial"):
            return None
        reasons = "; ".join(refusal_texts(support.refused))
        return f"{self.name} runs this network only in part ({support.status}): {reasons}"

    def predict(self, graph: Graph, *, allow_fallback: bool = False) -> Prediction:
        """Return the time of `graph` at its own input shape.

        Raises DeviceError where the delegate runs only a part of it, unless `allow_fallback`, or a coefficient is
        missing.
        """
        return self.predict_network(network(graph), allow_fallback=allow_fallback)

    def predict_network(self, network: Network, *, allow_fallback: bool = False) -> Prediction:
        """Return the time of a network as the device sees it; raises as `predict` does."""
        try:
            return self._predicted(network, allow_fallback=allow_fallback)
        except UnpricedKernelError as error:
            probe = probe_like(error.kernel)
            measure = (
                f" One to measure is the probe {probe} (isp-nas latency probe writes such files)." if probe else ""
            )
            raise DeviceError(f"{self.name}: {error}{measure}") from None

    def _predicted(self, network: Network, *, allow_fallback: bool) -> Prediction:
        support = self.support(network)
        if support.is_whole:
            return self.predictor.predict(network)
        refused = self._refusal(support, allow_fallback=allow_fallback)
        if refused:
            raise DeviceError(f"{refused}. Choose other operations, a device whose delegate takes them, or pay for it.")
        if self.fallback is None:
            raise DeviceError(
                f"{self.name} does not tell what operations cost that fall to the CPU; measure such networks, or add "
                '"fallback" to its file.'
            )
        return predict_partial(network, support, self.predictor, self.fallback)


def refusal_texts(refused: Sequence[Refusal]) -> tuple[str, ...]:
    """Return why kernels are refused, those of one reason in one phrase."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for refusal in refused:
        groups.setdefault((refusal.op, refusal.condition, refusal.remedy), []).append(refusal.kernel)
    return tuple(
        f'{op} ("{names[0]}"{f" and {len(names) - 1} more" if len(names) > 1 else ""}): {condition}; {remedy}'
        for (op, condition, remedy), names in groups.items()
    )


def device_names() -> dict[str, Path]:
    """Return every device's name with its file; the user's own hide built-in ones of the same name."""
    return named_files.names("devices", BUILTIN, ".json")


def builtin_devices() -> dict[str, Path]:
    """Return the name of every built-in device with its file, whatever the user's own are called."""
    return {path.stem: path for path in sorted(BUILTIN.glob("*.json"))}


def device_path(name: str) -> Path:
    """Return the file of the device called `name`, or `name` itself where it is the path of a .json file.

    Raises UnknownNameError with the nearest known name, or UsageError where a path does not exist.
    """
    return named_files.find("devices", name, BUILTIN, ".json")


@checked
def load_device(name: str | Path) -> Device:
    """Return the device called `name`, or described by the .json file at that path.

    Raises UnknownNameError for a name nobody has, DeviceError with file and key for a file that is not a device.
    """
    path = device_path(str(name))
    data = read_json(path)
    values = _read_device(str(path), data)
    if values["name"] != path.stem:
        refuse(f"{path}: name", f'"{path.stem}", as the file is called', values["name"])
    del values["schema"]
    device = Device(**values, digest=_digest(data))
    return replace(device, predictor=_with_kin(device, device.predictor))


def _with_kin(device: Device, predictor: Predictor) -> Predictor:
    """Return the predictor with the networks that were measured; a transferred one has them in its file."""
    if isinstance(device.method, Transferred) or not all(m.sample.is_network for m in device.measurements):
        return predictor
    return calibration.with_kin(predictor, [m.network for m in device.measurements])


def refit(device: Device) -> tuple[Predictor, tuple[HeldOut, ...]]:
    """Return the predictor and the held-out networks that its measurements and method give: what its file stores."""
    predictor, held_out = device.method.fit([measured.sample for measured in device.measurements])
    return _with_kin(device, predictor), held_out


def summary(predictor: Predictor, held_out: Sequence[HeldOut]) -> dict[str, Any]:
    """Return how good predictions of networks left out were, beside always guessing the median of the others."""
    from latency_models import accuracy  # loads NumPy and SciPy, which a search does without

    predicted, measured = [h.predicted_ms for h in held_out], [h.measured_ms for h in held_out]
    low, high = exp(predictor.interval.low), exp(predictor.interval.high)
    figures = {
        "networks": len(held_out),
        "families": len({h.family for h in held_out}),
        "mape": accuracy.mape(predicted, measured),
        "within_10_percent": accuracy.within(predicted, measured),
        "spearman": accuracy.spearman(predicted, measured) if len(set(predicted)) > 1 < len(set(measured)) else None,
        "coverage_80": accuracy.coverage([p * low for p in predicted], [p * high for p in predicted], measured),
        "median_of_the_others_mape": accuracy.mape(accuracy.medians_of_the_others(measured), measured)
        if len(measured) > 1
        else None,
    }
    return {
        name: value if value is None or isinstance(value, int) else float(f"{value:.6g}")
        for name, value in figures.items()
    }


def device_to_data(device: Device) -> dict[str, Any]:
    """Return a device as plain data, to be read back by `load_device`."""
    return {
        "schema": SCHEMA,
        "name": device.name,
        "title": device.title,
        "conditions": {field.name: getattr(device.conditions, field.name) for field in fields(Conditions)},
        "source": device.source,
        "method": _method_to_data(device.method),
        "held_out": [list(vars(held).values()) for held in device.held_out],
        "limits": list(device.limits),
        "delegate": device.delegate.name,
        "fallback": device.fallback and {name: vars(cost) for name, cost in vars(device.fallback).items()},
        "measurements": [_measured_to_data(measured) for measured in device.measurements],
        "predictor": predictor_to_data(
            device.predictor if isinstance(device.method, Transferred) else replace(device.predictor, kinship=None)
        ),
    }


def _method_to_data(method: Assumed | Fitted | Transferred) -> dict[str, Any]:
    match method:
        case Assumed():
            return {
                "kind": "assumed",
                "layout": method.layout._asdict() | {"own_ops": list(method.layout.own_ops)},
                "prior": {name: vars(assumption) for name, assumption in method.prior.items()},
                "shrinkage": vars(method.shrinkage),
                "interval": vars(method.interval),
            }
        case Fitted():
            return {"kind": "fitted", **vars(method)}
        case Transferred():
            sources = {name: predictor_to_data(predictor) for name, predictor in method.sources.items()}
            return {"kind": "transferred", "sources": sources}


def _measured_to_data(measured: Measured) -> dict[str, Any]:
    if measured.as_written is not None:
        return {**measured.as_written, "runtime_ms": measured.runtime_ms}
    values = {name: getattr(measured, name) for name in _STATED}
    return {"label": measured.label, **values, **to_data(measured.network)}


_STATED = ("runtime_ms", "low_ms", "high_ms", "runs", "family", "whole")


def _digest(data: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:12]


def _read_spec(where: str, value: object) -> tuple[str, ArchSpec]:
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


def _read_measured(where: str, value: object) -> Measured:
    """Read a design or genes with a size, or kernels row by row."""
    if isinstance(value, dict) and "kernels" in value:
        return _read_kernels(where, value)
    readers = {"network": _read_spec, "input_shape": _read_shape, "runtime_ms": positive}
    values = record(readers)(where, value)
    label, spec = values["network"]
    try:
        seen = network(build_graph(spec, values["input_shape"]))
    except IspNasError as error:
        raise DeviceError(f"{where}.input_shape: {error}") from None
    assert isinstance(value, dict)
    return Measured(label, seen, values["runtime_ms"], family=label, as_written=value)


def _read_kernels(where: str, value: object) -> Measured:
    readers = {
        "label": text,
        "runtime_ms": positive,
        "low_ms": optional(positive),
        "high_ms": optional(positive),
        "runs": optional(count),
        "family": text,
        "whole": one_of(True, False),
        "input_elements": count,
        "output_elements": count,
        "kernels": kernels_from_rows,
    }
    values = record(readers)(where, value)
    seen = Network(values.pop("kernels"), values.pop("input_elements"), values.pop("output_elements"))
    return Measured(network=seen, **values)


def _read_assumption(read_value: Reader) -> Reader:
    return lambda where, value: Assumption(**record({"value": read_value, "note": text})(where, value))


def _read_prior(where: str, value: object) -> dict[str, Assumption]:
    """Read every overhead, and all or none of what a class needs."""
    present = value.keys() if isinstance(value, dict) else ()
    # A class cost of zero would be an unknown one; fixed costs may really be nothing.
    readers = dict.fromkeys(OVERHEADS, _read_assumption(number))
    for needed in CLASS_COEFFICIENTS.values():
        if any(name in present for name in needed):
            readers |= dict.fromkeys(needed, _read_assumption(positive))
    extra = [name for name in present if name.endswith(("_ms_per_gtap", "_ms_per_spilled_mb"))]
    fields: dict[str, Assumption] = record(readers | dict.fromkeys(extra, _read_assumption(positive)))(where, value)
    return fields


def _read_factor(where: str, value: object) -> float:
    factor = number(where, value)
    return factor if factor >= 1 else refuse(where, "a number ≥ 1", value)


def _read_assumed(where: str, value: object) -> Assumed:
    readers = {
        "layout": read_layout,
        "prior": _read_prior,
        "shrinkage": _read_assumption(positive),
        "interval": _read_assumption(_read_factor),
    }
    return Assumed(**record(readers)(where, value))


def _read_fitted(where: str, value: object) -> Fitted:
    return Fitted(**record({"bytes_per_element": count, "io_bytes_per_element": count})(where, value))


def _read_transferred(where: str, value: object) -> Transferred:
    if not isinstance(value, dict):
        refuse(where, "an object", value)
    check_keys(where, value, {"sources": None})
    sources = value["sources"] if isinstance(value["sources"], dict) else {}
    if not sources:
        refuse(f"{where}.sources", "an object of predictors with one or more", value["sources"])
    return Transferred({name: read_predictor(f"{where}.sources.{name}", each) for name, each in sources.items()})


_METHODS: dict[str, Callable[[str, object], Any]] = {
    "assumed": _read_assumed,
    "fitted": _read_fitted,
    "transferred": _read_transferred,
}


def _read_method(where: str, value: object) -> Assumed | Fitted | Transferred:
    if not isinstance(value, dict):
        refuse(where, "an object", value)
    kind: str = one_of(*_METHODS)(f"{where}.kind", value.get("kind"))
    method: Assumed | Fitted | Transferred = _METHODS[kind](where, {k: v for k, v in value.items() if k != "kind"})
    return method


def _read_text_or_nothing(where: str, value: object) -> str:
    return value if isinstance(value, str) else refuse(where, "a string, which may be empty", value)


def _read_conditions(where: str, value: object) -> Conditions:
    names = [field.name for field in fields(Conditions)]
    readers = dict.fromkeys(names, _read_text_or_nothing) | {"threads": optional(count)}
    return Conditions(**record(readers)(where, value))


def _read_held_out(where: str, value: object) -> tuple[HeldOut, ...]:
    readers = {
        "label": text,
        "family": text,
        "pixels": count,
        "measured_ms": positive,
        "predicted_ms": positive,
        "beyond": positive,
    }
    rows = list_of(_read_row(tuple(readers)))(where, value)
    return tuple(HeldOut(**record(readers)(f"{where}[{index}]", row)) for index, row in enumerate(rows))


def _read_row(names: Sequence[str]) -> Reader:
    def read(where: str, value: object) -> dict[str, Any]:
        if not isinstance(value, list) or len(value) != len(names):
            refuse(where, f"the {len(names)} values {', '.join(names)}", value)
        return dict(zip(names, value, strict=True))

    return read


def _read_delegate(where: str, value: object) -> DelegateTable:
    name = text(where, value)
    try:
        return load_delegate(name)
    except UnknownNameError as error:
        raise DeviceError(f"{where}: {error}") from None


def _read_fallback(where: str, value: object) -> Fallback:
    costs = _read_assumption(positive)
    readers = {"ms_per_mb": costs, "ms_per_gmac": costs, "factor": _read_assumption(_read_factor)}
    return Fallback(**record(readers)(where, value))


# What a device file holds, key by key.
_read_device = record(
    {
        "schema": one_of(SCHEMA),
        "name": text,
        "title": text,
        "conditions": _read_conditions,
        "source": text,
        "method": _read_method,
        "held_out": _read_held_out,
        "limits": list_of(text),
        "delegate": _read_delegate,
        "fallback": optional(_read_fallback),
        "measurements": list_of(_read_measured),
        "predictor": read_predictor,
    }
)
