"""Translate any .tflite file into the kernels a device runs, whichever tool wrote the file.

Gives the same rows as `kernels.network` does for a graph and its exported file, and a test holds the two
together; so whatever prices, checks or counts a network takes any file of known operations. One rule per TFLite
operation, in `tflite_rules`. Reads the flatbuffer alone: no interpreter, no TensorFlow.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import prod

from latency_models.kernels import Kernel, Network
from latency_models.tflite_rules import RULES, Operation, Rule, Sizes
from latency_models.tflite_shapes import with_input_shape
from search_spaces.errors import DeviceError
from search_spaces.graph import INPUT
from search_spaces.tflite_file import FileGraph, FileNode, read_graph

# Of constants, these are worked out once, when the network is loaded: float16 weights, sparse weights.
UNPACKING = ("DEQUANTIZE", "DENSIFY")
# The class of an operation without a rule: a delegate can be asked about it, and nothing can price it.
UNKNOWN_CLASS = "unknown"
CALLS = ("CALL", "CALL_ONCE", "IF", "WHILE", "STABLEHLO_WHILE", "STABLEHLO_CASE", "STABLEHLO_COMPOSITE")


def read_network(content: bytes, input_shape: Sizes | None = None) -> Network:
    """Return the kernels of a .tflite file, one per operation of its main subgraph, in the order in which they run.

    `input_shape` is the size at which it runs, needed where the file leaves sizes open; it is then as if converted with
    that size. Raises ExportError for bytes
    that are no .tflite or damaged, DeviceError for an operation without a rule and for open sizes.
    """
    graph = with_input_shape(_loaded(read_graph(content)), input_shape, folded=True)
    names = _names(graph)
    return _network(graph, [_kernel(_operation(graph, node), node, names) for node in graph.nodes])


def read_any_network(content: bytes, input_shape: Sizes | None = None) -> Network:
    """Return the kernels of a .tflite file of any operations, to ask a delegate about them.

    One without a rule is of UNKNOWN_CLASS and has no figures. Where no input shape is given, sizes that the file leaves
    open stay open (−1): delegates ask for types, versions and ranks, and figures mean nothing then. Raises ExportError
    for bytes that are no .tflite or damaged, DeviceError for a shape that does not fit the file, UnknownSizeError
    where the other sizes do not follow from it.
    """
    graph = _loaded(read_graph(content))
    if input_shape is not None:
        graph = with_input_shape(graph, input_shape)
    names = _names(graph)
    operations = [(_operation(graph, node), node) for node in graph.nodes]
    return _network(graph, [(_kernel if _has_rule(op) else _unknown)(op, node, names) for op, node in operations])


def _network(graph: FileGraph, kernels: list[Kernel]) -> Network:
    return Network(tuple(kernels), _elements(graph, graph.inputs), _elements(graph, graph.outputs))


def _elements(graph: FileGraph, indices: tuple[int, ...]) -> int:
    return sum([prod(graph.tensors[index].shape) for index in indices])


def _loaded(graph: FileGraph) -> FileGraph:
    """Return the graph as it is once loaded: what unpacks constants is gone, and what it made is a constant."""
    tensors, nodes = list(graph.tensors), []
    for node in graph.nodes:
        if node.op.name in UNPACKING and all(tensors[index].is_constant for index in node.inputs):
            for index in node.outputs:
                tensors[index] = replace(tensors[index], is_constant=True)
        else:
            nodes.append(node)
    return replace(graph, tensors=tuple(tensors), nodes=tuple(nodes))


def _operation(graph: FileGraph, node: FileNode) -> Operation:
    tensors = graph.tensors
    inputs = tuple([None if index < 0 else tensors[index] for index in node.inputs])
    return Operation(node, inputs, tuple([tensors[index] for index in node.outputs]))


def _kernel(op: Operation, node: FileNode, names: Mapping[int, str]) -> Kernel:
    rule = _rule(op)
    read = {node.inputs[position]: tensor for position, tensor in enumerate(op.inputs) if tensor}
    settings = {node.inputs[position] for position in rule.settings if position < len(node.inputs)}
    data = [tensor for index, tensor in read.items() if index not in settings]
    maps = [tensor for tensor in data if not tensor.is_constant]
    work, first, made = rule.work(op), (maps or data or op.outputs)[0], op.outputs[0]
    height, width, cout = _height_width_channels(made.shape)
    return Kernel(
        name=names[node.outputs[0]],
        nodes=(names[node.outputs[0]],),
        cls=work.cls,
        tflite_op=node.op.name,
        macs=work.macs,
        input_elements=sum([prod(tensor.shape) for tensor in maps]),
        output_elements=sum([prod(tensor.shape) for tensor in op.outputs]),
        weight_elements=sum([prod(tensor.shape) for tensor in data if tensor.is_constant]),
        cin=work.cin or _height_width_channels(first.shape)[2],
        cout=cout,
        kernel=work.kernel,
        stride=work.stride,
        height=height,
        width=width,
        reads=tuple(dict.fromkeys([names[index] for index, tensor in read.items() if not tensor.is_constant])),
        makes=names[node.outputs[0]],
        version=node.op.version,
        biased=rule.bias is not None and op.input(rule.bias) is not None,
        fused=node.op.fused_activation,
        dtype=first.dtype,
        dilation=work.dilation,
        groups=work.groups,
        rank=max([len(tensor.shape) for tensor in (*maps, *op.outputs)]),
        makes_dtype=made.dtype,
        traits=tuple(sorted({*rule.traits(op), *_settings_traits(op, rule)})),
    )


def _unknown(op: Operation, node: FileNode, names: Mapping[int, str]) -> Kernel:
    """Return what a file says of an operation without a rule: its name, version, types and ranks."""
    maps = {
        node.inputs[position]: tensor for position, tensor in enumerate(op.inputs) if tensor and not tensor.is_constant
    }
    made = op.outputs[0] if op.outputs else None
    name = names[node.outputs[0]] if made else ""
    tensors = (*maps.values(), *op.outputs)
    height, width, cout = _height_width_channels(made.shape if made else ())
    return Kernel(
        name=name,
        nodes=(name,),
        cls=UNKNOWN_CLASS,
        tflite_op=f"{node.op.name} {node.custom}".rstrip(),
        macs=0,
        input_elements=0,
        output_elements=0,
        weight_elements=0,
        cin=0,
        cout=cout,
        kernel=1,
        stride=1,
        height=height,
        width=width,
        reads=tuple(dict.fromkeys(map(names.__getitem__, maps))),
        makes=name,
        version=node.op.version,
        fused=node.op.fused_activation,
        dtype=tensors[0].dtype if tensors else "",
        rank=max([len(tensor.shape) for tensor in tensors], default=0),
        makes_dtype=made.dtype if made else "",
    )


def _has_rule(op: Operation) -> bool:
    return bool(op.node.op.name in RULES and op.outputs and op.inputs)


def _rule(op: Operation) -> Rule:
    name = op.node.op.name
    if _has_rule(op):
        return RULES[name]
    made = op.outputs[0].name if op.outputs else "nothing"
    if name in CALLS:
        raise DeviceError(
            f'{name} "{made}" runs another subgraph of the file, and how often is not known before it runs; '
            "convert a network without loops and branches."
        )
    label = f'{name} "{op.node.custom}"' if op.node.custom else name
    raise DeviceError(
        f'Operation {label}, which makes "{made}", is none of those that can be priced: nothing says what it costs by '
        "its size; convert the network without it."
    )


def _settings_traits(op: Operation, rule: Rule) -> Iterator[str]:
    if any(tensor and not tensor.is_constant for tensor in map(op.input, rule.settings)):
        yield "dynamic_shape"


def _height_width_channels(shape: Sizes) -> tuple[int, int, int]:
    height, width = shape[-3:-1] if len(shape) > 2 else (1, 1)
    return height, width, shape[-1] if shape else 1


def _names(graph: FileGraph) -> dict[int, str]:
    """Return a name for every tensor that a kernel reads or makes, no two alike; outputs of one operation share it.

    A single input goes by the name that a graph's input has.
    """
    made = [node.outputs for node in graph.nodes if node.outputs]
    often = Counter(graph.tensors[outputs[0]].name for outputs in made)
    names = {index: tensor.name for index, tensor in enumerate(graph.tensors)}
    for outputs in made:
        name = graph.tensors[outputs[0]].name
        names |= dict.fromkeys(
            outputs, name if name not in ("", INPUT) and often[name] == 1 else f"{name}#{outputs[0]}"
        )
    return names | (dict.fromkeys(graph.inputs, INPUT) if len(graph.inputs) == 1 else {})
