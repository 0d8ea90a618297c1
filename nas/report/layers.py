"""Where a network spends its milliseconds: one row per kernel, what the device runs as one piece."""

from typing import Any

from latency_models.device import Device
from latency_models.kernels import kernels
from latency_models.memory import peak_activation_bytes
from latency_models.predictor import Prediction
from nas.report.data import Layers
from search_spaces.errors import DeviceError
from search_spaces.graph import Graph
from search_spaces.networks import build_graph
from search_spaces.spec import ArchSpec


def runtime_fields(predicted: Prediction | None) -> dict[str, float | None]:
    """Return a predicted runtime under the names that programs rely on; None where there is none."""
    return {
        "runtime_ms": predicted.runtime_ms if predicted else None,
        "runtime_low_ms": predicted.low_ms if predicted else None,
        "runtime_high_ms": predicted.high_ms if predicted else None,
    }


def layer_rows(graph: Graph, predicted: Prediction | None) -> list[dict[str, Any]]:
    """Return one row per kernel."""
    return [
        {
            "layer": kernel.name,
            "nodes": list(kernel.nodes),
            "op": kernel.tflite_op,
            "output": [kernel.height, kernel.width, kernel.cout],
            "parameters": kernel.weight_elements,
            "macs": kernel.macs,
            "runtime_ms": predicted.kernels_ms[kernel.name] if predicted else None,
        }
        for kernel in kernels(graph)
    ]


def layers_of(target: str, spec: ArchSpec, device: Device | None) -> Layers:
    """Return the layers of a network with the milliseconds of each, as `isp-nas show` tells them."""
    graph = build_graph(spec)
    predicted, note = _predicted(graph, device)
    return Layers(
        target,
        layer_rows(graph, predicted),
        **runtime_fields(predicted),
        fixed_ms=predicted.fixed_ms if predicted else None,
        parameters=graph.parameters,
        macs=graph.macs,
        peak_activation_bytes=peak_activation_bytes(graph),
        note=note,
    )


def _predicted(graph: Graph, device: Device | None) -> tuple[Prediction | None, str]:
    if device is None:
        return None, "The study's device is not to be found, so that its milliseconds are not known."
    refused = device.unsupported(graph)
    if refused:
        return None, f"{device.name} cannot run it: {'; '.join(refused)}."
    try:
        return device.predict(graph), ""
    except DeviceError as error:
        return None, str(error)
