"""Numeric precisions of .tflite files, and which networks can be converted to them.

Four precisions: fp32; fp16, whose weights are half-precision and whose maps may be where the runtime can; int8, with
8-bit maps and weights; int16, with 16-bit maps and 8-bit weights. The integer ones are calibrated: ranges of maps come
from pictures. Knows no converter: what TensorFlow's can do was measured once and is a table here, which tests hold
against it, so that a network that cannot be exported is known before it is trained.
"""

from dataclasses import dataclass

from search_spaces.activations import ACTIVATIONS, ENTRIES
from search_spaces.errors import UnknownNameError
from search_spaces.graph import Graph, Node
from search_spaces.ops import OPS, Activation

FLOAT = "float32"


@dataclass(frozen=True)
class Precision:
    """How a file stores and computes numbers."""

    name: str
    title: str
    io_types: tuple[str, ...]  # what input and output can be; the first unless asked otherwise
    max_drop_db: float  # how much PSNR a file may lose against the trained network
    best_snr_db: float  # what rounding alone leaves of a map that is spread evenly over its range

    @property
    def is_calibrated(self) -> bool:
        """Whether ranges of maps are needed."""
        return self.name.startswith("int")


# Float32 has no allowance of its own: it agrees to rounding, or the conversion is wrong. 6.02·bits + 1.76 dB is what a
# uniform quantiser leaves of a sine; int16 has weights of 8 bits.
PRECISIONS = {
    precision.name: precision
    for precision in (
        Precision("fp32", "float32", (FLOAT,), 0.001, 140.0),
        Precision("fp16", "weights float16, maps float16 where the runtime can", (FLOAT,), 0.1, 72.0),
        Precision("int8", "maps and weights int8", ("int8", "uint8", FLOAT), 0.5, 50.0),
        Precision("int16", "maps int16, weights int8", ("int16", FLOAT), 0.1, 50.0),
    )
}

# What TensorFlow 2.21 makes integers of: kinds of operations, and functions of activations. In int16 it refuses
# DEPTH_TO_SPACE, PRELU, ELU and HARD_SWISH, in int8 it leaves ELU in float32; there `lower_tf` writes other operations
# with the same answer.
_INTEGERS = frozenset(name for table in (OPS, ENTRIES) for name, each in table.items() if each.is_integer)
_FLOATS = frozenset({*OPS, *ACTIVATIONS})
CONVERTED = {"fp32": _FLOATS, "fp16": _FLOATS, "int8": _INTEGERS, "int16": _INTEGERS}


def find_precision(name: str) -> Precision:
    """Return the precision called `name`; raise UnknownNameError where there is none."""
    if name not in PRECISIONS:
        raise UnknownNameError("precision", name, PRECISIONS)
    return PRECISIONS[name]


def unconvertible(graph: Graph, precision: str) -> tuple[str, ...]:
    """Return the operations that cannot be converted to a precision, each with the first node that has it.

    Empty where the whole network can. Costs nothing: no converter is loaded. Raises UnknownNameError for a precision
    that does not exist.
    """
    known = CONVERTED[find_precision(precision).name]
    first: dict[str, str] = {}
    for node in graph.nodes:
        if _name(node) not in known:
            first.setdefault(_name(node), node.name)
    return tuple(f'{op} (node "{node}") has no known form in {precision}' for op, node in first.items())


def _name(node: Node) -> str:
    return node.op.function if isinstance(node.op, Activation) else node.op.kind
