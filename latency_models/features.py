"""Which kernels does a device run for a network?

The first step of every prediction: a graph becomes the operations of the exported .tflite file, activations
that TFLite fuses counted with the operation before them, and each kernel says how much it computes and moves.
Which TFLite operation comes out of which graph operation is held against real conversions by
`tests/test_latency_tflite_ops.py`. Speaks of no device: `predictor` turns kernels into milliseconds.
"""

from collections import Counter
from collections.abc import Callable
from math import prod
from typing import Any, NamedTuple

from search_spaces.errors import DeviceError
from search_spaces.graph import Graph, Node
from search_spaces.ops import (
    Activation,
    Add,
    Concat,
    Conv,
    DepthToSpace,
    DepthwiseConv,
    GlobalMean,
    Multiply,
    Op,
    TransposeConv,
)

# Classes whose time is arithmetic and traffic, and classes whose time is traffic alone.
COMPUTING_CLASSES = ("conv_1x1", "conv", "depthwise", "transpose_conv")
MOVING_CLASSES = ("memory", "activation")

FUSED_ACTIVATIONS = ("relu", "relu6")
ACTIVATION_OPS = {
    "relu": "RELU",
    "relu6": "RELU6",
    "leaky_relu": "LEAKY_RELU",
    "prelu": "PRELU",
    "tanh": "TANH",
    "sigmoid": "LOGISTIC",
    "elu": "ELU",
    "hard_swish": "HARD_SWISH",
}


class Kernel(NamedTuple):
    """One kernel as a device runs it: an operation with the activation fused into it.

    A named tuple, not a dataclass: a search makes millions of them, and they are built five times faster.
    """

    name: str  # the node that the kernel starts with
    nodes: tuple[str, ...]  # every node that it computes
    cls: str  # one of COMPUTING_CLASSES or MOVING_CLASSES
    tflite_op: str  # the operation's name in a .tflite file
    macs: int
    input_elements: int  # over all inputs
    output_elements: int
    weight_elements: int
    cin: int  # channels of the first input
    cout: int
    kernel: int  # side of the square of taps; 1 without taps
    stride: int  # of a transposed convolution: the enlargement
    height: int  # of the output
    width: int
    reads: tuple[str, ...]  # names of the maps that it reads
    makes: str  # name of the map that it leaves behind


class Form(NamedTuple):
    """What a device makes of one graph operation."""

    cls: str
    tflite_op: str
    kernel: int = 1
    stride: int = 1
    takes_activation: bool = False  # TFLite fuses a following relu or relu6 into it


def _conv(op: Conv) -> Form:
    return Form("conv_1x1" if op.kernel == 1 else "conv", "CONV_2D", op.kernel, op.stride, takes_activation=True)


def _depthwise_conv(op: DepthwiseConv) -> Form:
    return Form("depthwise", "DEPTHWISE_CONV_2D", op.kernel, takes_activation=True)


def _transpose_conv(op: TransposeConv) -> Form:
    # Its activation stays an operation of its own: search_spaces.tflite_file separates what the converter fused.
    return Form("transpose_conv", "TRANSPOSE_CONV", op.kernel, op.stride)


def _activation(op: Activation) -> Form:
    return Form("activation", ACTIVATION_OPS[op.function])


RULES: dict[type[Op], Callable[[Any], Form]] = {
    Conv: _conv,
    DepthwiseConv: _depthwise_conv,
    TransposeConv: _transpose_conv,
    Activation: _activation,
    DepthToSpace: lambda _: Form("memory", "DEPTH_TO_SPACE"),
    Add: lambda _: Form("memory", "ADD", takes_activation=True),
    Multiply: lambda _: Form("memory", "MUL", takes_activation=True),
    Concat: lambda _: Form("memory", "CONCATENATION"),
    GlobalMean: lambda _: Form("memory", "MEAN"),
}


def kernels(graph: Graph) -> tuple[Kernel, ...]:
    """Return the kernels of `graph` in the order in which they finish; raise DeviceError for an op without a rule."""
    return tuple(_kernel(graph, form, nodes) for form, nodes in _fused(graph))


def _fused(graph: Graph) -> list[tuple[Form, tuple[Node, ...]]]:
    """Group nodes into kernels. An activation joins the operation before it only if nobody else reads that map."""
    reads = Counter(name for node in graph.nodes for name in node.inputs)
    groups: dict[str, tuple[Form, tuple[Node, ...]]] = {}  # by the map that the kernel makes
    for node in graph.nodes:
        before = groups.get(node.inputs[0])
        if before and before[0].takes_activation and reads[node.inputs[0]] == 1 and _can_be_fused(node.op):
            form, nodes = groups.pop(node.inputs[0])
            groups[node.name] = (form._replace(takes_activation=False), (*nodes, node))
        else:
            groups[node.name] = (_form(node), (node,))
    return list(groups.values())


def _can_be_fused(op: Op) -> bool:
    return isinstance(op, Activation) and op.function in FUSED_ACTIVATIONS


def _form(node: Node) -> Form:
    rule = RULES.get(type(node.op))
    if rule is None:
        known = ", ".join(sorted(op.kind for op in RULES))
        raise DeviceError(
            f'Node "{node.name}" needs a latency rule for operation "{node.op.kind}"; rules exist for {known}. '
            "Add one to RULES in latency_models/features.py."
        )
    return rule(node.op)


def _kernel(graph: Graph, form: Form, nodes: tuple[Node, ...]) -> Kernel:
    first = nodes[0]
    inputs = graph.input_shapes(first)
    batch, height, width, cout = graph.shapes[nodes[-1].name]
    return Kernel(
        name=first.name,
        nodes=tuple([node.name for node in nodes]),
        cls=form.cls,
        tflite_op=form.tflite_op,
        macs=batch * first.op.macs(*inputs),
        input_elements=sum(map(prod, inputs)),
        output_elements=batch * height * width * cout,
        weight_elements=sum(map(prod, first.op.parameter_shapes(*inputs).values())),  # relu and relu6 have none
        cin=inputs[0][3],
        cout=cout,
        kernel=form.kernel,
        stride=form.stride,
        height=height,
        width=width,
        reads=first.inputs,
        makes=nodes[-1].name,
    )
