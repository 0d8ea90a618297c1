"""Predict the runtime of a .tflite file, only on devices measured in the numeric type the file computes in.

What a device takes in half precision says nothing of 8-bit integers, which run on other units or at another rate. The
card of an export and `isp-nas latency predict` both ask here, so that they say the same of one file.
"""

import re
from collections import Counter

from latency_models.device import Device
from latency_models.kernels import Network
from latency_models.predictor import Prediction
from latency_models.tflite_network import read_network

FLOATING, HYBRID = "floating point", "floating point with weights of 8 bits"
_KINDS = {"float32": FLOATING, "float16": FLOATING, "int8": "int8", "uint8": "int8", "int16": "int16"}


def kind_of_file(network: Network) -> str:
    """Return in which numbers a network of a file computes: those of most of its multiply-accumulates."""
    amounts: Counter[str] = Counter()
    for kernel in network.kernels:
        # Where nothing multiplies, what moves most decides; it counts next to nothing otherwise.
        kind = HYBRID if "hybrid" in kernel.traits else _KINDS.get(kernel.dtype, FLOATING)
        amounts[kind] += kernel.macs * 10**6 + kernel.output_elements
    return max(amounts, key=amounts.__getitem__, default=FLOATING)


def kind_of_device(device: Device) -> str:
    """Return in which numbers a device was measured; floating point where it does not say."""
    return kind_of_precision(device.conditions.precision)


def kind_of_precision(precision: str) -> str:
    """Return in which numbers was computed what is called so: fp32 and fp16 are one kind."""
    integer = re.match(r"u?(int8|int16)\b", precision.lower())
    return integer[1] if integer else FLOATING


def mismatch(network: Network, device: Device) -> str | None:
    """Say why the times of a device do not hold for the network of a file; None where they do."""
    file, measured = kind_of_file(network), kind_of_device(device)
    if file == measured:
        return None
    how = f"was calibrated in {measured}" if device.conditions.precision else "does not tell its precision"
    return f"{device.name} {how}, and the file computes in {file}"


def predict_file(content: bytes, device: Device) -> tuple[Prediction | None, str | None]:
    """Return how long a device takes for a file, or why nobody knows.

    Raises ExportError for bytes that are no .tflite, DeviceError for an operation without a rule.
    """
    network = read_network(content)
    why = mismatch(network, device)
    if why is None and device.refusal(network):
        why = f"{device.name} does not run the whole file"
    return (None, why) if why else (device.predict_network(network), None)
