"""Probes of operations that our own networks have not and files of other makers do: one operation each, by name.

`fully_connected-1280-1000`, `grouped-k3-s1-g4-32-64-68x120`, `softmax-16-68x120`: as with `probes`, a name says all.
The files are written operation by operation, for no graph of ours holds them; large kernels of depthwise convolutions
are ordinary probes under a name that a plan does not draw.
"""

import random
import re
from collections.abc import Callable
from functools import cached_property
from math import prod
from typing import Any, NamedTuple

from latency_models import probes
from latency_models.kernels import Kernel, Network
from latency_models.probes import Probe
from latency_models.tflite_network import read_network
from search_spaces.errors import IspNasError
from search_spaces.tflite_file import add_tensor, opcode, pack, schema

Shape = tuple[int, ...]
Figures = dict[str, int]
GROUPED_VERSION = 6  # of CONV_2D. Source: TensorFlow Lite's op_version.cc
SAME, SIZES = 0, ((17, 30), (34, 60), (68, 120), (136, 240), (272, 480))
CHANNELS = (4, 8, 16, 32, 64, 96, 128)
# Networks for 224 pixels have their products and groups on small maps of many channels.
WIDE_SIZES, WIDE_CHANNELS = ((7, 7), (14, 14), (28, 28), (56, 56), (136, 240)), (32, 64, 128, 256)
LARGEST_MAP = 2**22


class Constant(NamedTuple):
    """An input that is part of the file: weights, or numbers that say how an operation works."""

    shape: Shape
    numbers: tuple[int, ...] | None = None  # None: weights, small random values
    value: float | None = None  # the same one throughout


class ProbeOperation(NamedTuple):
    """One operation with all that its file needs."""

    op: str
    reads: Shape
    makes: Shape
    constants: tuple[Constant, ...] = ()
    options: tuple[tuple[str, Any], ...] = ()
    kind: str = ""  # of the options, as the schema calls it
    version: int = 1


class OtherProbe:
    """A probe whose file is written operation by operation."""

    def __init__(self, name: str, operation: ProbeOperation) -> None:
        self.name = self.family = name
        self._operation = operation

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OtherProbe) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)

    @cached_property
    def content(self) -> bytes:
        """The .tflite file."""
        return _file(self._operation)

    @cached_property
    def network(self) -> Network:
        """What a device makes of it."""
        return read_network(self.content)


def _numbers(*values: int) -> Constant:
    return Constant((len(values),), values)


def _fully_connected(f: Figures) -> ProbeOperation:
    weights = (Constant((f["cout"], f["cin"])), Constant((f["cout"],)))
    return ProbeOperation("FULLY_CONNECTED", (1, f["cin"]), (1, f["cout"]), weights, (), "FullyConnected")


def _grouped(f: Figures) -> ProbeOperation:
    k, s, h, w = f["k"], f["s"], f["h"], f["w"]
    options = (("padding", SAME), ("strideH", s), ("strideW", s), ("dilationHFactor", 1), ("dilationWFactor", 1))
    weights = (Constant((f["cout"], k, k, f["cin"] // f["g"])), Constant((f["cout"],)))
    makes = (1, -(-h // s), -(-w // s), f["cout"])
    return ProbeOperation("CONV_2D", (1, h, w, f["cin"]), makes, weights, options, "Conv2D", GROUPED_VERSION)


def _map(f: Figures) -> Shape:
    return (1, f["h"], f["w"], f["c"])


def _slice(f: Figures) -> ProbeOperation:
    numbers = (_numbers(0, 0, 0, 0), _numbers(1, f["h"], f["w"], f["c"]), _numbers(1, 2, 2, 1))
    return ProbeOperation(
        "STRIDED_SLICE", _map(f), (1, -(-f["h"] // 2), -(-f["w"] // 2), f["c"]), numbers, (), "StridedSlice"
    )


def _nearest(f: Figures) -> ProbeOperation:
    h, w = 2 * f["h"], 2 * f["w"]
    return ProbeOperation(
        "RESIZE_NEAREST_NEIGHBOR", _map(f), (1, h, w, f["c"]), (_numbers(h, w),), (), "ResizeNearestNeighbor"
    )


def _transpose(f: Figures) -> ProbeOperation:
    return ProbeOperation("TRANSPOSE", _map(f), (1, f["c"], f["h"], f["w"]), (_numbers(0, 3, 1, 2),), (), "Transpose")


def _softmax(f: Figures) -> ProbeOperation:
    return ProbeOperation("SOFTMAX", _map(f), _map(f), (), (("beta", 1.0),), "Softmax")


def _pad(f: Figures) -> ProbeOperation:
    around = Constant((4, 2), (0, 0, 1, 1, 1, 1, 0, 0))
    return ProbeOperation("PAD", _map(f), (1, f["h"] + 2, f["w"] + 2, f["c"]), (around,), (), "Pad")


def _pow(f: Figures) -> ProbeOperation:
    return ProbeOperation("POW", _map(f), _map(f), (Constant((1,), value=0.45),), (), "Pow")


def _divide(f: Figures) -> ProbeOperation:
    return ProbeOperation("DIV", _map(f), _map(f), (Constant((1,), value=1.7),), (), "Div")


_SIZE = r"(?P<h>\d+)x(?P<w>\d+)"
ON_MAPS: dict[str, Callable[[Figures], ProbeOperation]] = {
    "softmax": _softmax,
    "strided_slice": _slice,
    "transpose": _transpose,
    "resize_nearest": _nearest,
    "pad": _pad,
    "pow": _pow,
    "divide": _divide,
}
_GRAMMAR: tuple[tuple[str, Callable[[Figures], ProbeOperation]], ...] = (
    (r"fully_connected-(?P<cin>\d+)-(?P<cout>\d+)", _fully_connected),
    (rf"grouped-k(?P<k>\d+)-s(?P<s>\d+)-g(?P<g>\d+)-(?P<cin>\d+)-(?P<cout>\d+)-{_SIZE}", _grouped),
    *((rf"{name}-(?P<c>\d+)-{_SIZE}", make) for name, make in ON_MAPS.items()),
)


def named(name: str) -> OtherProbe | None:
    """Return the probe of that name; None where it is the name of none."""
    for pattern, make in _GRAMMAR:
        if match := re.fullmatch(pattern, name):
            figures = {key: int(value) for key, value in match.groupdict().items()}
            if min(figures.values()) < 1 or figures.get("cin", 0) % figures.get("g", 1):
                return None
            return OtherProbe(name, make(figures))
    return None


def any_named(name: str) -> Probe | OtherProbe | None:
    """Return the probe of that name, of either kind."""
    return probes.named(name) or named(name)


# Drawn in this order, over and over.
KINDS = ("fully_connected", "grouped", "strided_slice", "softmax", "depthwise", "transpose", "resize_nearest", "pad",
         "pow", "divide")  # fmt: skip


def plan(count: int, *, seed: int = 0, largest_side: int | None = None) -> tuple[Probe | OtherProbe, ...]:
    """Return `count` different probes, every kind in turn over all sizes."""
    rng = random.Random(f"others {seed}")
    chosen: dict[str, Probe | OtherProbe] = {}
    turn = 0
    while len(chosen) < count:
        name = _drawn_name(KINDS[turn % len(KINDS)], rng, largest_side or max(SIZES[-1]))
        turn += 1
        if name not in chosen and (probe := any_named(name)):
            chosen[name] = probe
    return tuple(chosen.values())


def _drawn_name(kind: str, rng: random.Random, largest_side: int) -> str:
    if kind == "fully_connected":
        return f"{kind}-{rng.choice((64, 256, 512, 1280, 2048))}-{rng.choice((10, 64, 256, 1000))}"
    if kind == "grouped":
        h, w = rng.choice([size for size in WIDE_SIZES if max(size) <= largest_side] or WIDE_SIZES[:1])
        c, k = rng.choice([c for c in WIDE_CHANNELS if c * h * w <= LARGEST_MAP]), rng.choice((1, 3, 3, 5))
        return f"grouped-k{k}-s{rng.choice((1, 1, 2))}-g{rng.choice((2, 4, 8, 32))}-{c}-{c}-{h}x{w}"
    half = 2 if kind == "resize_nearest" else 1  # its output is the larger
    h, w = rng.choice([size for size in SIZES if max(size) * half <= largest_side] or SIZES[:1])
    c = rng.choice([c for c in CHANNELS if c * h * w <= LARGEST_MAP])
    if kind == "depthwise":
        return f"depthwise-k{rng.choice((7, 9, 11))}-d1-{c}-{rng.choice(('none', 'relu'))}-{h}x{w}"
    return f"{kind}-{c}-{h}x{w}"


# By which probe an operation is measured where a file has it.
_PROBE_OF = {
    "SOFTMAX": "softmax",
    "STRIDED_SLICE": "strided_slice",
    "TRANSPOSE": "transpose",
    "PAD": "pad",
    "POW": "pow",
    "RESIZE_NEAREST_NEIGHBOR": "resize_nearest",
    "DIV": "divide",
}


def probe_like(kernel: Kernel) -> str | None:
    """Return the name of the probe that measures what a kernel is; None where there is none for its operation."""
    h, w = kernel.height, kernel.width
    match kernel.cls:
        case "fully_connected":
            name = f"fully_connected-{kernel.cin}-{kernel.cout}"
        case "depthwise":
            name = f"depthwise-k{kernel.kernel}-d{kernel.dilation}-{kernel.cout}-none-{h}x{w}"
        case "transpose_conv":
            name = f"transposed-k{kernel.kernel}-{kernel.cin}-{kernel.cout}-{h // 2}x{w // 2}"
        case "conv" | "conv_1x1":
            size = f"{kernel.cin}-{kernel.cout}-{h * kernel.stride}x{w * kernel.stride}"
            kind = f"grouped-k{kernel.kernel}-s{kernel.stride}-g{kernel.groups}-{size}"
            plain = f"conv-k{kernel.kernel}-s{kernel.stride}-{kernel.cin}-{kernel.cout}-none-"
            name = kind if kernel.groups > 1 else f"{plain}{h * kernel.stride}x{w * kernel.stride}"
        case _:
            kind = _PROBE_OF.get(kernel.tflite_op, kernel.tflite_op.lower())
            name = f"{kind}-{kernel.cin}-{h}x{w}"
    return name if _is_probe(name) else None


def _is_probe(name: str) -> bool:
    try:
        return any_named(name) is not None
    except IspNasError:  # sizes that no graph of ours can have
        return False


def _file(operation: ProbeOperation) -> bytes:
    """Return the .tflite file of one operation."""
    kinds = schema()
    model, graph, op = kinds.ModelT(), kinds.SubGraphT(), kinds.OperatorT()
    model.version, model.operatorCodes, model.buffers, model.subgraphs = 3, [], [kinds.BufferT()], [graph]
    graph.tensors, graph.operators = [], [op]
    read = add_tensor(graph, b"input", kinds.TensorType.FLOAT32, operation.reads)
    constants = [_constant(model, graph, number, each) for number, each in enumerate(operation.constants)]
    made = add_tensor(graph, b"output", kinds.TensorType.FLOAT32, operation.makes)
    graph.inputs, graph.outputs = [read], [made]
    op.opcodeIndex = opcode(model, operation.op, operation.version)
    op.inputs, op.outputs = [read, *constants], [made]
    if operation.kind:
        op.builtinOptionsType = getattr(kinds.BuiltinOptions, f"{operation.kind}Options")
        op.builtinOptions = getattr(kinds, f"{operation.kind}OptionsT")()
        for name, value in operation.options:
            setattr(op.builtinOptions, name, value)
    return pack(model)


def _constant(model: Any, graph: Any, number: int, constant: Constant) -> int:
    """Add a constant to a file and return its index; weights keep maps near one."""
    import numpy as np

    if constant.numbers is not None:
        values, kind = np.array(constant.numbers, np.int32), schema().TensorType.INT32
    else:
        drawn = np.random.default_rng(number).standard_normal(constant.shape) / max(1, prod(constant.shape[1:])) ** 0.5
        same = None if constant.value is None else np.full(constant.shape, constant.value)
        values, kind = (drawn if same is None else same).astype(np.float32), schema().TensorType.FLOAT32
    index: int = add_tensor(graph, f"constant{number}".encode(), kind, constant.shape)
    buffer = schema().BufferT()
    buffer.data = np.frombuffer(values.tobytes(), np.uint8)
    graph.tensors[index].buffer = len(model.buffers)
    model.buffers.append(buffer)
    return index
