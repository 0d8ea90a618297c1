"""Make a device from measurements: match the kernels of each timed network, choose a method, write the file.

The features of a network are read from its .tflite file, the very one that was timed; where that is not at hand, from
its name, if that is a probe's or a published design's.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path

from latency_models import calibration, probes
from latency_models.delegate import delegate_names, load_delegate
from latency_models.device import Device, Measured, refit
from latency_models.families import families
from latency_models.few_networks import FEWEST_TIED
from latency_models.file_runtime import kind_of_file, kind_of_precision
from latency_models.kernels import Network, network
from latency_models.measurements import MODELS_FOLDER, Conditions, Timing
from latency_models.methods import Fitted, Transferred
from latency_models.other_probes import OtherProbe, any_named
from latency_models.predictor import Predictor
from latency_models.priors import choose_sources
from latency_models.samples import HeldOut
from latency_models.support import NOT_CHECKED, UNCHECKED
from latency_models.tflite_network import read_network
from search_spaces.designs import DESIGNS
from search_spaces.errors import DeviceError, IspNasError, MeasurementError
from search_spaces.networks import build_graph
from search_spaces.system import stored
from search_spaces.system.file_errors import acting_on

# What a map's element takes inside the network, by what the device computes in.
BYTES = {"fp32": 4, "fp16": 2, "int16": 2, "int8": 1}
IO_BYTES = 4
# The table of operations that goes with a delegate as measurements name it; of others nothing is known.
TABLES = {
    "xnnpack": "xnnpack",
    "cpu": "xnnpack",
    "gpu": "tflite-gpu",
    "nnapi": "nnapi",
    "neuron": "mediatek-neuron",
    "qnn": "qualcomm-qnn",
    "coreml": "coreml",
}
OnMessage = Callable[[str], None]
Sources = Mapping[str, Predictor]


def make_device(
    name: str,
    timings: Sequence[Timing],
    *,
    folder: Path,
    title: str = "",
    sources: Mapping[str, Predictor] | None = None,
    known: Callable[[], Sources] | None = None,
    delegate_table: str | None = None,
    on_message: OnMessage = lambda _: None,
) -> Device:
    """Return the device that these timings describe, fitted, with networks held out.

    `folder` is where the file of measurements lies, to which models are relative; `sources` are predictors of other
    devices to start from, `known` gives those to choose from where none is named and the measurements are too few.
    What has to be known of how it was made is handed to `on_message`, sentence by sentence. Raises MeasurementError
    where conditions are mixed, a network is unknown, or measurements are too few.
    """
    conditions = common_conditions(timings)
    measured = _with_families(_all_measured(timings, folder, on_message))
    plain = Fitted(BYTES.get(conditions.precision, IO_BYTES), IO_BYTES)
    if not sources and known:
        sources = _chosen(measured, known, plain, on_message)
    if sources:
        measured = _priced(measured, sources, on_message)
    method = Transferred(sources) if sources else plain
    table = delegate_table or TABLES.get(conditions.delegate, UNCHECKED)
    unchecked: tuple[str, ...] = ()
    if table == UNCHECKED:
        delegate = f'"{conditions.delegate}"' if conditions.delegate else "that the measurements do not name"
        unchecked = (f"Nothing is known of what the delegate {delegate} takes: {NOT_CHECKED}.",)
        on_message(
            f"{unchecked[0]} Name its table by --ops, where there is one ({', '.join(sorted(delegate_names()))})."
        )
    device = Device(
        name=name,
        title=title or _title(conditions, name),
        conditions=conditions,
        source=_source(timings),
        measurements=measured,
        method=method,
        predictor=None,  # type: ignore[arg-type]  # fitted in the next line
        held_out=(),
        delegate=load_delegate(table),
        fallback=None,
        limits=(*_limits(measured, method), *unchecked),
        digest="",
    )
    predictor, held_out = refit(device)
    _tell_probes(measured, held_out, on_message)
    return replace(device, predictor=predictor, held_out=held_out)


def _tell_probes(measured: Sequence[Measured], held_out: Sequence[HeldOut], on_message: OnMessage) -> None:
    """Name the files that are fitted and not judged: with fewer than two kernels that compute they count as probes."""
    judged = {each.label for each in held_out}
    names = [m.label for m in measured if m.sample.whole and m.label not in judged and not any_named(m.label)]
    if names and judged:
        on_message(
            f"Not in the table of errors, as probes of one or two operations and no networks: {', '.join(names)}."
        )


def _all_measured(timings: Sequence[Timing], folder: Path, on_message: OnMessage) -> list[Measured]:
    """Return every timing with its kernels; one whose kernels are not known or have no price is named and left out."""
    measured, reasons = [], []
    for timing in timings:
        try:
            measured.append(measured_of(timing, folder))
        except MeasurementError as error:
            reasons.append(f"{timing.network} is left out: {error}")
            on_message(reasons[-1])
    if not measured:
        raise MeasurementError(f"No network of the measurements can be priced. {reasons[0]}")
    return measured


def _chosen(
    measured: Sequence[Measured], known: Callable[[], Sources], plain: Fitted, on_message: OnMessage
) -> Sources:
    """Return the known devices to start from; none where the measurements are enough alone."""
    samples = [m.sample for m in measured]
    if not all(s.whole for s in samples) or calibration.is_roofline(samples, plain.bytes_per_element):
        return {}
    if len(samples) < calibration.FEWEST_TO_TRANSFER:
        raise MeasurementError(
            f"{len(samples)} measured networks are too few: {calibration.FEWEST_TO_TRANSFER} are enough to start from "
            f"a built-in device, {FEWEST_TIED} for a fit of their own; measure "
            f"{calibration.FEWEST_TO_TRANSFER - len(samples)} more."
        )
    devices = known()
    chosen = choose_sources(samples, devices)
    on_message(
        f"Started from {', '.join(chosen)}, of {len(devices)} built-in devices what explains the measurements best."
    )
    return chosen


def _priced(measured: Sequence[Measured], sources: Sources, on_message: OnMessage) -> tuple[Measured, ...]:
    """Return the networks that every source can price; each of the others is named and left out."""
    priced = []
    for each in measured:
        try:
            for source in sources.values():
                source.parts_ms(each.network)
        except DeviceError as error:
            on_message(f"{each.label} is left out: {error}")
        else:
            priced.append(each)
    if not priced:
        raise MeasurementError(f"{', '.join(sources)} cannot price these networks; name another device by --prior.")
    return tuple(priced)


def _with_families(measured: Sequence[Measured]) -> tuple[Measured, ...]:
    """Give networks that nothing but their file tells of a family by structure."""
    whole = {m.label.partition("#")[0]: m for m in measured if m.whole}
    families_given = {label: m.family for label, m in whole.items() if m.family}
    family_of = families({label: m.network for label, m in whole.items()}, families_given)

    def family(m: Measured) -> str:
        name, _, part = m.label.partition("#")
        return m.family or (f"{family_of.get(name, name)}#{part}" if part else family_of[name])

    return tuple(replace(m, family=family(m)) for m in measured)


def extended(device: Device, timings: Sequence[Timing], *, name: str, folder: Path) -> Device:
    """Return a device of another name that knows these timings, too; those of networks it had replace the old ones."""
    new = {timing.network: measured_of(timing, folder) for timing in timings}
    others = [measured for measured in device.measurements if measured.label not in new]
    both = _with_families([*others, *new.values()])
    longer = replace(
        device,
        name=name,
        source=f"{device.source}; {_source(timings)}",
        measurements=both,
        conditions=replace(device.conditions, date=max(timing.conditions.date for timing in timings)),
    )
    predictor, held_out = refit(longer)
    return replace(longer, predictor=predictor, held_out=held_out)


class UnpricedNetworkError(MeasurementError):
    """A network that was timed and has operations or sizes that cannot be priced."""


def common_conditions(timings: Sequence[Timing]) -> Conditions:
    """Return the conditions that all timings share, dated by the last; raise MeasurementError where they differ."""
    first = timings[0].conditions
    for field in fields(Conditions):
        values = {getattr(timing.conditions, field.name) for timing in timings}
        if field.name != "date" and len(values) > 1:
            listed = ", ".join(sorted(map(repr, values)))
            raise MeasurementError(
                f"Measurements of one device need one {field.name}, got {listed}; split the file by it."
            )
    return replace(first, date=max(timing.conditions.date for timing in timings))


def measured_of(timing: Timing, folder: Path) -> Measured:
    """Return a timing with the kernels of its network, its family empty where its name is none of ours.

    Raises MeasurementError where nothing tells the kernels, UnpricedNetworkError where one is of no known operation.
    """
    name, _, part = timing.network.partition("#")
    seen, family = _network(name, _file_of(name, timing.model, folder))
    computed, precision = kind_of_file(seen), timing.conditions.precision
    if precision and computed != kind_of_precision(precision):
        raise UnpricedNetworkError(
            f"Its file computes in {computed}, and the precision of the measurements is {precision}."
        )
    if part:
        seen = _one_kernel(seen, int(part), timing.network)
    return Measured(
        label=timing.network,
        network=seen,
        runtime_ms=timing.runtime_ms,
        family=f"{family}#{part}" if part and family else family,
        whole=not part,
        low_ms=timing.low_ms,
        high_ms=timing.high_ms,
        runs=timing.runs,
    )


def _file_of(name: str, model: str, folder: Path) -> Path | None:
    """Return the file that was timed: as the measurements name it, else one of that name beside them."""
    if model:
        return folder / model
    beside = (folder / f"{name.removesuffix('.tflite')}.tflite", folder / MODELS_FOLDER / f"{name}.tflite")
    return next((path for path in beside if path.exists()), None)


def _network(name: str, path: Path | None) -> tuple[Network, str]:
    """Return the network of a timing and its family, from its file or else from its name."""
    if path is not None and path.exists():
        try:
            with acting_on(path, "read", MeasurementError):
                content = stored.read_bytes(path)
            return read_network(content), family_of(name)
        except DeviceError as error:
            raise UnpricedNetworkError(f"{path}: {error}") from None
        except IspNasError as error:
            raise MeasurementError(f"{path}: {error}") from None
    if probe := any_named(name):
        return probe.network if isinstance(probe, OtherProbe) else network(probe.graph), probe.family
    if name in DESIGNS:
        return network(build_graph(DESIGNS[name].spec)), probes.family(DESIGNS[name].spec)
    where = f"its file {path} is not there" if path else "the measurements name no file of it"
    raise MeasurementError(
        f'Network "{name}" is no probe and no published design, and {where}; put the .tflite that was timed beside '
        "the measurements, or its path into the column model."
    )


def _one_kernel(seen: Network, index: int, label: str) -> Network:
    if index >= len(seen.kernels):
        raise MeasurementError(
            f"{label}: its network has {len(seen.kernels)} operations; give the file that was profiled."
        )
    return Network((seen.kernels[index],), seen.input_elements, seen.output_elements)


def family_of(name: str) -> str:
    """Return which networks one of ours is a sibling of; nothing for others, whose structure has to tell."""
    if name in DESIGNS:
        return probes.family(DESIGNS[name].spec)
    if probe := any_named(name):
        return probe.family
    if name.startswith("candidate-"):
        return name.removeprefix("candidate-").rpartition("-")[0]
    return ""


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
