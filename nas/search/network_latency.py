"""Predict the latency of a network on a device, whatever names it: a .tflite file, a design, a trial, a spec file.

What `isp-nas latency predict` and `nas.predict_latency` have in common.
"""

from dataclasses import dataclass
from pathlib import Path

from latency_models.comparison import Timed, probability_faster
from latency_models.device import Device, refusal_texts
from latency_models.file_runtime import FLOATING, kind_of_file, mismatch
from latency_models.kernels import Network, network
from latency_models.predictor import Prediction
from latency_models.support import Support
from latency_models.tflite_network import read_network
from nas.search.network_ref import resolve
from search_spaces.errors import DeviceError, IspNasError, UsageError
from search_spaces.networks import build_graph
from search_spaces.spec import ArchSpec
from search_spaces.system import stored


@dataclass(frozen=True)
class NetworkLatency:
    """A network as a device sees it, and how long that takes."""

    network: Network
    support: Support
    prediction: Prediction

    @property
    def refused(self) -> tuple[str, ...]:
        """The operations that fall to another processor, with the reasons."""
        return refusal_texts(self.support.refused)


def chance_of_less(first: NetworkLatency, second: NetworkLatency, device: Device) -> float:
    """Return how probable it is that the first network takes less time on the device than the second."""
    return probability_faster(
        Timed(first.network, first.prediction), Timed(second.network, second.prediction), device.held_out
    )


def predict_latency(
    name: str,
    device: Device,
    *,
    results: Path,
    study: str | None = None,
    allow_fallback: bool = False,
    shape: tuple[int, ...] | None = None,
) -> NetworkLatency:
    """Return how long a network takes on a device, kernel by kernel; `shape` is of its input, where that is open.

    Raises DeviceError where the device does not run it as a whole, unless `allow_fallback`, or does not know its kind.
    """
    seen = find_network(name, results, study, shape)
    why = mismatch(seen, device) if Path(name).suffix == ".tflite" else None
    if why:
        raise DeviceError(f"{name}: {why}, so that its time is not known. {_otherwise(seen)}")
    try:
        return latency_of(seen, device, allow_fallback=allow_fallback)
    except DeviceError as error:
        raise DeviceError(f"{name}: {error}") from None


def latency_of(seen: Network, device: Device, *, allow_fallback: bool = False) -> NetworkLatency:
    """Return how long a network takes on a device; raises as `predict_latency` does."""
    refusal = device.refusal(seen, allow_fallback=allow_fallback)
    if refusal:
        other = "name another device" if allow_fallback else "give --allow-fallback to price them on the CPU"
        raise DeviceError(f"{refusal}. Change these operations, or {other}.")
    return NetworkLatency(seen, device.support(seen), device.predict_network(seen, allow_fallback=allow_fallback))


def _otherwise(seen: Network) -> str:
    """Say what to do about a file of which the device knows nothing."""
    kind = kind_of_file(seen)
    if kind == FLOATING:
        return "Name its integer file, or a device that was calibrated in floating point."
    return f"Predict its float32 file, or calibrate a device from measurements in {kind}."


def network_of(spec: ArchSpec, shape: tuple[int, ...] | None = None) -> Network:
    """Return the network of these genes for packed RAW [1, height, width, 4], at Full HD unless told otherwise."""
    if shape is None:
        return network(build_graph(spec))
    if len(shape) != 4:
        raise UsageError(f"A network of ours takes [1, height, width, 4], not {list(shape)}; give --size.")
    n, h, w, c = shape
    return network(build_graph(spec, (n, h, w, c)))


def find_network(name: str, results: Path, study: str | None = None, shape: tuple[int, ...] | None = None) -> Network:
    """Return the network that a .tflite file holds, or that a design, trial or spec file names."""
    path = Path(name)
    if path.suffix != ".tflite":
        return network_of(resolve(name, results, study).spec, shape)
    try:
        content = stored.read_bytes(path)
    except OSError as error:
        raise UsageError(f"Cannot read {path}: {error.strerror}; give a .tflite file.") from None
    try:
        return read_network(content, shape)
    except IspNasError as error:
        raise UsageError(f"{path}: {error}") from None
