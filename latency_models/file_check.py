"""Check whether any .tflite file runs on a device as it is, and say what would have to change.

What the device's delegate refuses comes from its table; what costs time or fails before that, open sizes, another batch
or rank, conversions at the file's ends, from the file itself.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from latency_models.device import Device
from latency_models.kernels import Network
from latency_models.support import NOT_CHECKED, UNCHECKED, Support
from latency_models.tflite_network import read_any_network
from latency_models.tflite_shapes import UnknownSizeError
from search_spaces.tflite_file import FileGraph, read_graph

FLOATS = ("float32", "float16")
# Beyond so many names a person is not helped by more.
SHOWN_NAMES = 3
_TRY_IT = "run the file on the device, or calibrate it with --ops and the table of its delegate"


@dataclass(frozen=True)
class Finding:
    """One thing about a file: how bad, where, what it is, and what to change."""

    severity: Literal["error", "warning"]
    name: str  # of the operation or of the file's input or output
    what: str
    what_to_do: str


@dataclass(frozen=True)
class FileCheck:
    """What a file is on a device."""

    status: str  # as Support has it, or "unknown" where its sizes are open
    partitions: int | None
    delegated: int | None
    kernels: int | None
    findings: tuple[Finding, ...]

    @property
    def is_fit(self) -> bool:
        """Whether the delegate runs the whole file."""
        return not any(finding.severity == "error" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Return the check as `isp-nas check --format json` and card.json have it."""
        return asdict(self) | {"fit": self.is_fit, "findings": [asdict(finding) for finding in self.findings]}


def check_file(content: bytes, device: Device, *, sizes: tuple[int, ...] | None = None) -> FileCheck:
    """Return what `device` makes of a .tflite file; `sizes` stands for open sizes of its input.

    Raises ExportError where the bytes are no .tflite or damaged, DeviceError for sizes that do not fit the file.
    """
    graph = read_graph(content)
    problems = [*_interface(graph), *_sizes(graph)]
    is_open = any(-1 in graph.tensors[index].shape for index in graph.inputs)
    try:
        network = None if is_open and sizes is None else read_any_network(content, sizes or _fixed_shape(graph))
    except UnknownSizeError as error:
        network = None
        problems.append(Finding("error", "sizes", error.condition, "convert the network with fixed sizes"))
    if network is None:
        return FileCheck("unknown", None, None, None, (*problems, *_unlisted(device, read_any_network(content))))
    support = device.support(network)
    if support.status == UNCHECKED:
        problems.append(Finding("warning", device.name, f"nothing is known of its delegate, so {NOT_CHECKED}", _TRY_IT))
    problems += _refused(device, support)
    problems += _conversions(network, support)
    return FileCheck(support.status, support.partitions, support.delegated, support.kernels, tuple(problems))


def _fixed_shape(graph: FileGraph) -> tuple[int, ...] | None:
    """Return the shape of the first input, from which sizes follow that are open further inside."""
    return graph.tensors[graph.inputs[0]].shape if graph.inputs else None


def _interface(graph: FileGraph) -> Iterator[Finding]:
    """Yield what is unusual at the file's ends: number, rank and batch of inputs and outputs."""
    for end, indices in (("input", graph.inputs), ("output", graph.outputs)):
        if len(indices) != 1:
            yield Finding("warning", end, f"the file has {len(indices)} {end}s", f"make one {end} of them for an ISP")
        for index in indices:
            tensor = graph.tensors[index]
            if len(tensor.shape) != 4:
                yield Finding(
                    "error", tensor.name, f"{end} of rank {len(tensor.shape)}", "give it 4: [1, h, w, channels]"
                )
            elif tensor.shape[0] not in (1, -1):
                yield Finding(
                    "error", tensor.name, f"{end} with a batch of {tensor.shape[0]}", "convert with a batch of 1"
                )


def _sizes(graph: FileGraph) -> Iterator[Finding]:
    for index in graph.inputs:
        tensor = graph.tensors[index]
        if -1 in tensor.shape:
            shape = ", ".join("?" if size < 0 else str(size) for size in tensor.shape)
            yield Finding(
                "error",
                tensor.name,
                f"sizes are open: [{shape}]",
                "convert with the sizes that the phone uses, for delegates take fixed ones (--size tells this check)",
            )


def _refused(device: Device, support: Support) -> Iterator[Finding]:
    """Yield what the delegate does not take, one finding per operation and reason."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for refusal in support.refused:
        groups.setdefault((refusal.op, refusal.condition, refusal.remedy), []).append(refusal.kernel)
    for (op, condition, remedy), names in groups.items():
        # On a CPU what the delegate leaves stays and costs a little at most; but no CPU knows a custom operation.
        is_lost = not support.is_whole or op.startswith("CUSTOM")
        severity: Literal["error", "warning"] = "error" if is_lost else "warning"
        where = f"{op} {_listed(names)}".rstrip()
        yield Finding(severity, where, f"{device.delegate.name} does not take it: {condition}", remedy)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    return ", ".join(names[:SHOWN_NAMES]) + more


def _unlisted(device: Device, network: Network) -> Iterator[Finding]:
    """Yield operations that the delegate does not know, whatever the sizes are."""
    support = device.support(network)
    refused = tuple(refusal for refusal in support.refused if refusal.op not in device.delegate.ops)
    yield from _refused(device, replace(support, refused=refused))


def _conversions(network: Network, support: Support) -> Iterator[Finding]:
    """Yield conversions between floats and integers at the ends, and what several partitions cost."""
    conversions = [kernel for kernel in network.kernels if kernel.tflite_op in ("QUANTIZE", "DEQUANTIZE")]
    inside = {kernel.dtype for kernel in network.kernels if kernel not in conversions}
    # A QUANTIZE from uint8 to int8 is the whole-number input of a camera, and costs next to nothing.
    ends = [kernel for kernel in conversions if {kernel.dtype, kernel.makes_dtype} & set(FLOATS)]
    if ends and not inside & set(FLOATS):
        yield Finding(
            "warning",
            ", ".join(f"{kernel.tflite_op} {kernel.name}" for kernel in ends),
            "the file converts floats at its ends and computes in integers between",
            "export it with integer input and output, which the camera has anyway",
        )
    if support.partitions > 1:
        yield Finding(
            "warning",
            "partitions",
            f"the delegate gets the file in {support.partitions} pieces",
            "every change to the CPU and back copies maps; mend what is refused above",
        )
