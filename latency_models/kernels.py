"""Translate a network's graph into the kernels a device runs.

The first step of every prediction: a graph becomes the operations of the exported .tflite file, activations
that TFLite fuses counted with the operation before them, what is several operations there split into them, and
each kernel says how much it computes and moves.
Which TFLite operation comes out of which graph operation is held against real conversions by
`tests/latency_models/test_tflite_ops.py`. Speaks of no device: `predictor` turns kernels into milliseconds.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

from search_spaces.activations import FUSED, TFLITE_OPS
from search_spaces.errors import DeviceError
from search_spaces.graph import Graph, Node
from search_spaces.ops import (
    Activation,
    Add,
    Affine,
    Concat,
    Conv,
    DepthToSpace,
    DepthwiseConv,
    GlobalMean,
    InstanceNorm,
    Multiply,
    Op,
    Pool,
    Resize,
    Scale,
    Shape,
    Subtract,
    TransposeConv,
)

# Classes whose time is arithmetic and traffic, and classes whose time is traffic alone.
COMPUTING_CLASSES = ("conv_1x1", "conv", "depthwise", "transpose_conv", "fully_connected")
MOVING_CLASSES = ("memory", "activation")

# Kernels of so many operations and sizes are remembered, under a kilobyte each.
REMEMBERED = 50_000


class Kernel(NamedTuple):
    """One kernel as a device runs it: an operation with the activation fused into it.

    A named tuple, not a dataclass: a search makes millions of them, and they are built five times faster.
    """

    name: str  # the node that the kernel starts with; `<node>.<step>` where a node is several kernels
    nodes: tuple[str, ...]  # every node that is finished with it
    cls: str  # one of COMPUTING_CLASSES or MOVING_CLASSES
    tflite_op: str  # the operation's name in a .tflite file
    macs: int
    input_elements: int  # over all maps read; one that is read twice, as by x · x, comes from memory once
    output_elements: int
    weight_elements: int  # constants read at run time; a factor worked into a convolution's kernel adds none
    cin: int  # channels of the first input; of a matrix product the values that are summed
    cout: int
    kernel: int  # side of the square of taps; 1 without taps
    stride: int  # of a transposed convolution: the enlargement
    height: int  # of the output
    width: int
    reads: tuple[str, ...]  # the maps it reads
    makes: str  # the map it makes, under the name of the last of `nodes`, or its own between the steps of a node
    # What delegates ask for before they accept an operation.
    version: int = 1  # of the operation in a .tflite file
    biased: bool = False  # it reads a bias
    fused: str = "none"  # the activation inside it
    dtype: str = "float32"  # of the maps
    dilation: int = 1
    groups: int = 1  # of a convolution; a depthwise one has as many as channels, which is not said here
    rank: int = 4  # dimensions of the largest map read or made
    makes_dtype: str = "float32"
    traits: tuple[str, ...] = ()  # what is out of the ordinary, see delegate.TRAITS

    @property
    def figures(self) -> tuple[object, ...]:
        """All that decides how long it takes: two kernels of the same figures take the same time."""
        return self[2:14], self.dilation, self.groups


class Network(NamedTuple):
    """A network as a device sees it: the kernels in order, and what enters and leaves."""

    kernels: tuple[Kernel, ...]
    input_elements: int
    output_elements: int


class Form(NamedTuple):
    """What a device makes of a graph operation that is one kernel."""

    cls: str
    tflite_op: str
    kernel: int = 1
    stride: int = 1
    takes_activation: bool = False  # TFLite fuses a following relu or relu6 into it
    takes_line: bool = False  # the converter works a following factor, or factor and offset, into its weights
    version: int = 1
    biased: bool = False
    gains_bias: bool = False  # the bias is the converter's: the graph has none
    fused: str = "none"
    dilation: int = 1
    traits: tuple[str, ...] = ()


class Step(NamedTuple):
    """One kernel of a graph operation that is several: all of them move data and compute next to nothing."""

    tflite_op: str
    reads: tuple[str, ...]  # X is the map that the operation reads, the others are made by steps before
    makes: str
    shape: Shape  # of the map made
    weights: int = 0


Group = tuple[Form, tuple[Node, ...]]  # nodes that are one kernel, or the kernels of one node
X = "x"
BIASED_TRANSPOSE_CONV = 3  # the version of TRANSPOSE_CONV that has a bias


def _conv(op: Conv) -> Form:
    cls = "conv_1x1" if op.kernel == 1 else "conv"
    return Form(cls, "CONV_2D", op.kernel, op.stride, takes_activation=True, takes_line=True, biased=True)


def _depthwise_conv(op: DepthwiseConv) -> Form:
    # A bias of zeros is written where the graph has none; dilation is what version 2 brought.
    form = Form("depthwise", "DEPTHWISE_CONV_2D", op.kernel, takes_activation=True, takes_line=True, biased=True)
    return form._replace(version=2 if op.dilation > 1 else 1, dilation=op.dilation, gains_bias=not op.use_bias)


def _transpose_conv(op: TransposeConv) -> Form:
    # Its activation stays an operation of its own: search_spaces.tflite_file separates what the converter fused.
    form = Form("transpose_conv", "TRANSPOSE_CONV", op.kernel, op.stride, takes_line=True)
    return form._replace(version=BIASED_TRANSPOSE_CONV, biased=True) if op.use_bias else form


def _activation(op: Activation) -> Form:
    return Form("activation", TFLITE_OPS[op.function])


def _pool(op: Pool) -> Form:
    return Form(
        "memory", {"max": "MAX_POOL_2D", "average": "AVERAGE_POOL_2D"}[op.function], 2, 2, takes_activation=True
    )


RULES: dict[type[Op], Callable[[Any], Form]] = {
    Conv: _conv,
    DepthwiseConv: _depthwise_conv,
    TransposeConv: _transpose_conv,
    Activation: _activation,
    Pool: _pool,
    Resize: lambda _: Form("memory", "RESIZE_BILINEAR", version=3, traits=("half_pixel_centers",)),
    DepthToSpace: lambda _: Form("memory", "DEPTH_TO_SPACE"),
    Scale: lambda _: Form("memory", "MUL", takes_activation=True),
    Add: lambda _: Form("memory", "ADD", takes_activation=True),
    Subtract: lambda _: Form("memory", "SUB", takes_activation=True),
    Multiply: lambda _: Form("memory", "MUL", takes_activation=True),
    Concat: lambda _: Form("memory", "CONCATENATION"),
    GlobalMean: lambda _: Form("memory", "MEAN"),
}


def _affine(shape: Shape) -> tuple[Step, ...]:
    return (Step("MUL", (X,), "scaled", shape, 1), Step("ADD", ("scaled",), "shifted", shape, shape[3]))


def _instance_norm(shape: Shape) -> tuple[Step, ...]:
    """As `lower_tf` writes it: means in two stages, the variance of the centred map, one line per channel."""
    n, h, _, c = shape
    rows, one = (n, h, 1, c), (n, 1, 1, c)
    return (
        Step("MEAN", (X,), "rows", rows),
        Step("MEAN", ("rows",), "mean", one),
        Step("SUB", (X, "mean"), "centred", shape),
        Step("MUL", ("centred",), "squares", shape),
        Step("MEAN", ("squares",), "rows2", rows),
        Step("MEAN", ("rows2",), "var", one),
        Step("ADD", ("var",), "safe", one, 1),
        Step("RSQRT", ("safe",), "rsqrt", one),
        Step("MUL", ("rsqrt",), "slope", one, c),
        Step("MUL", ("centred", "slope"), "sloped", shape),
        Step("ADD", ("sloped",), "shifted", shape, c),
    )


STEPS: dict[type[Op], Callable[[Shape], tuple[Step, ...]]] = {Affine: _affine, InstanceNorm: _instance_norm}
# Where a node is several kernels, the last of them is an ADD and takes an activation as every ADD does.
_LAST_STEP = Form("memory", "ADD", takes_activation=True)


def kernels(graph: Graph) -> tuple[Kernel, ...]:
    """Return the kernels of `graph` in the order in which they finish; raise DeviceError for an op without a rule."""
    made: list[Kernel] = []
    for form, nodes in _levelled(_fused(graph)):
        op = type(nodes[0].op)
        made += _step_kernels(graph, form, op, nodes) if op in STEPS else [_kernel(graph, form, nodes)]
    return tuple(made)


def network(graph: Graph) -> Network:
    """Return what a device makes of `graph` at its own input shape; raise DeviceError for an op without a rule."""
    return Network(kernels(graph), prod(graph.input_shape), prod(graph.output_shape))


def _levelled(groups: Sequence[Group]) -> Sequence[Group]:
    """Give operations of one name one version, the highest: a file says the version once for all of them."""
    highest: dict[str, int] = {}
    for form, _ in groups:
        if form.version > highest.get(form.tflite_op, 1):
            highest[form.tflite_op] = form.version
    if not highest:
        return groups
    return [
        (form._replace(version=highest[form.tflite_op]), nodes) if form.tflite_op in highest else (form, nodes)
        for form, nodes in groups
    ]


def _fused(graph: Graph) -> list[Group]:
    """Group nodes into kernels. A node joins the one before it only if nobody else reads the map between them."""
    reads = Counter(name for node in graph.nodes for name in node.inputs)
    groups: dict[str, Group] = {}  # by the map that the kernel makes
    for node in graph.nodes:
        before = groups.get(node.inputs[0])
        if before and reads[node.inputs[0]] == 1 and _joins(node.op, before[0]):
            form, nodes = groups.pop(node.inputs[0])
            groups[node.name] = (_joined(form, node.op), (*nodes, node))
        else:
            groups[node.name] = (_form(node), (node,))
    return list(groups.values())


def _joins(op: Op, before: Form) -> bool:
    if isinstance(op, Activation):
        return before.takes_activation and op.function in FUSED
    return isinstance(op, Scale | Affine) and before.takes_line


def _joined(form: Form, op: Op) -> Form:
    if isinstance(op, Activation):
        return form._replace(fused=op.function, takes_activation=False, takes_line=False)
    if isinstance(op, Affine) and not form.biased:  # a transposed convolution: the offset becomes its bias
        return form._replace(version=BIASED_TRANSPOSE_CONV, biased=True, gains_bias=True)
    return form


def _form(node: Node) -> Form:
    if type(node.op) in STEPS:
        return _LAST_STEP
    rule = RULES.get(type(node.op))
    if rule is None:
        known = ", ".join(sorted(op.kind for op in (*RULES, *STEPS)))
        raise DeviceError(
            f'Node "{node.name}" needs a latency rule for operation "{node.op.kind}"; rules exist for {known}. '
            "Add one to RULES in latency_models/kernels.py."
        )
    return rule(node.op)


def _kernel(graph: Graph, form: Form, nodes: tuple[Node, ...]) -> Kernel:
    first, last = nodes[0], nodes[-1].name
    reads = tuple(dict.fromkeys(first.inputs))
    shapes = tuple([graph.shapes[name] for name in reads])
    sized = _sized(first.op, graph.input_shapes(first), shapes, graph.shapes[last], form)
    return Kernel(first.name, tuple([node.name for node in nodes]), *sized[2:14], reads, last, *sized[16:])


@lru_cache(maxsize=REMEMBERED)
def _sized(op: Op, inputs: tuple[Shape, ...], reads: tuple[Shape, ...], made: Shape, form: Form) -> Kernel:
    """Return a kernel but for names. Remembered: a search meets the same operations at the same few sizes."""
    batch, height, width, cout = made
    weights = sum([prod(shape) for shape in op.parameter_shapes(*inputs).values()])
    return Kernel(
        name="",
        nodes=(),
        cls=form.cls,
        tflite_op=form.tflite_op,
        macs=batch * op.macs(*inputs),
        input_elements=sum([prod(shape) for shape in reads]),
        output_elements=batch * height * width * cout,
        weight_elements=weights + (cout if form.gains_bias else 0),
        cin=inputs[0][3],
        cout=cout,
        kernel=form.kernel,
        stride=form.stride,
        height=height,
        width=width,
        reads=(),
        makes="",
        version=form.version,
        biased=form.biased,
        fused=form.fused,
        dilation=form.dilation,
        traits=form.traits,
    )


def _step_kernels(graph: Graph, form: Form, op: type[Op], nodes: tuple[Node, ...]) -> list[Kernel]:
    first, last = nodes[0].name, nodes[-1].name
    made = []
    for part, sized in _sized_steps(STEPS[op], graph.input_shapes(nodes[0])[0]):
        name = f"{first}.{part.makes}"
        reads = tuple([nodes[0].inputs[0] if read == X else f"{first}.{read}" for read in part.reads])
        made.append(Kernel(name, (), *sized[2:14], reads, name))
    made[-1] = made[-1]._replace(nodes=tuple([node.name for node in nodes]), makes=last, fused=form.fused)
    return made


@lru_cache(maxsize=REMEMBERED)
def _sized_steps(steps: Callable[[Shape], tuple[Step, ...]], shape: Shape) -> list[tuple[Step, Kernel]]:
    """Return each step of an operation with its kernel but for names."""
    parts = steps(shape)
    shapes = {X: shape} | {part.makes: part.shape for part in parts}
    return [(part, _sized_step(part, shapes)) for part in parts]


def _sized_step(part: Step, shapes: Mapping[str, Shape]) -> Kernel:
    return Kernel(
        name="",
        nodes=(),
        cls="memory",
        tflite_op=part.tflite_op,
        macs=0,
        input_elements=sum([prod(shapes[read]) for read in part.reads]),
        output_elements=prod(part.shape),
        weight_elements=part.weights,
        cin=shapes[part.reads[0]][3],
        cout=part.shape[3],
        kernel=1,
        stride=1,
        height=part.shape[1],
        width=part.shape[2],
        reads=(),
        makes="",
    )
