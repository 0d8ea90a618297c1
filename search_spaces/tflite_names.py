"""Rename the tensors of a .tflite file after the network's nodes, so that a phone's profile can be read.

The converter joins the names of all that it fused and repeats them for every constant; a file is a tenth smaller
without that, and what `layer_errors` compares has the same name on both sides.
"""

from collections.abc import Mapping, Sequence

from search_spaces.graph import INPUT
from search_spaces.tflite_file import FileGraph, pack, parse, read_graph


def named_after_nodes(content: bytes, nodes: Sequence[str]) -> bytes:
    """Return the file with maps called after the nodes that make them, in whose scopes TensorFlow was told of them.

    The last map that a node makes has its name, those before "name/1", …; a constant has the name of its first reader.
    """
    model = parse(content)
    tensors = model.subgraphs[0].tensors
    for index, name in tensor_names(read_graph(content), nodes).items():
        tensors[index].name = name.encode()
    return pack(model)


def tensor_names(graph: FileGraph, nodes: Sequence[str]) -> dict[int, str]:
    """Return what every tensor of a file is called by `named_after_nodes`, by its position."""
    return _names(graph, {name: order for order, name in enumerate(nodes)})


def _names(graph: FileGraph, order: Mapping[str, int]) -> dict[int, str]:
    names = _map_names(_owners(graph, order))
    names[graph.inputs[0]] = INPUT
    for node in reversed(graph.nodes):  # a weight that is unpacked first is named after what reads it unpacked
        for position, index in enumerate(node.inputs):
            if index >= 0 and index not in names and node.outputs[0] in names:
                names[index] = f"{names[node.outputs[0]]}:{position}"
    return names


def _owners(graph: FileGraph, order: Mapping[str, int]) -> dict[int, str]:
    """Return the node that makes each map, maps in the order in which they are made."""
    owners = {graph.inputs[0]: INPUT}
    last = max(order, key=lambda name: order[name])
    output = graph.tensors[graph.outputs[0]].name
    for node in graph.nodes:
        read = [index for index in node.inputs if index in owners]
        for index in node.outputs if read else ():  # others prepare weights
            name = graph.tensors[index].name
            scopes = [part for part in _scopes(name) if part in order]
            if name.startswith(output):  # what is made of the output for another type of it has its name, too
                scopes = [last]
            owners[index] = max(scopes, key=lambda scope: order[scope], default=owners[read[0]])
    return owners


def _scopes(name: str) -> list[str]:
    """Return the scopes that a joined name tells of: "a/Relu;b/Conv2D" of a and b."""
    return [part.partition("/")[0] for part in name.split(";")]


def _map_names(owners: Mapping[int, str]) -> dict[int, str]:
    names: dict[int, str] = {}
    for owner in dict.fromkeys(owners.values()):
        *inner, final = (index for index, made_by in owners.items() if made_by == owner)
        names |= {index: f"{owner}/{number}" for number, index in enumerate(inner, start=1)} | {final: owner}
    return names
