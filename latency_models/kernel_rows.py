"""Networks in a device's file: one list of numbers per kernel under a common heading.

Only what a predictor reads is kept. Names of layers and maps are not, so a measured network that came from somebody's
own file says nothing of it but its shapes.
"""

from typing import Any

from latency_models.json_readers import refuse
from latency_models.kernels import Kernel, Network

# In this order in every row.
FIELDS = ("cls", "tflite_op", "macs", "input_elements", "output_elements", "weight_elements", "cin", "cout", "kernel",
          "stride", "height", "width", "dilation", "groups", "dtype")  # fmt: skip
TEXTS = ("cls", "tflite_op", "dtype")


def to_data(network: Network) -> dict[str, Any]:
    """Return a network as plain data."""
    rows = [[getattr(kernel, field) for field in FIELDS] for kernel in network.kernels]
    return {"input_elements": network.input_elements, "output_elements": network.output_elements, "kernels": rows}


def kernels_from_rows(where: str, rows: object) -> tuple[Kernel, ...]:
    """Read back the kernels that `to_data` wrote; raise DeviceError for a row that is none."""
    if not isinstance(rows, list) or not rows:
        refuse(where, "a list of kernels with one or more", rows)
    return tuple(_kernel(f"{where}[{index}]", row, index) for index, row in enumerate(rows))


def _kernel(where: str, row: object, index: int) -> Kernel:
    if not isinstance(row, list) or len(row) != len(FIELDS) or not all(map(_fits, FIELDS, row)):
        refuse(where, f"the {len(FIELDS)} values {', '.join(FIELDS)}", row)
    return Kernel(name=f"{index}", nodes=(), reads=(), makes="", **dict(zip(FIELDS, row, strict=True)))


def _fits(field: str, value: Any) -> bool:
    return isinstance(value, str) if field in TEXTS else type(value) is int and value >= 0
