"""Larger auxiliary head that trains jointly with a small network on the same trunk and is removed at the end.

    stem → body ─┬────────────────────────── head        the small network, its names unchanged
                 └─ residual dense blocks ─ super.head   taken off after joint training

Both heads are trained on one trunk. The larger one is taken off by dropping everything whose name starts with
"super.": what is left is the small network, as any other training would have left it.
Source: ENERZAI Research in Ignatov et al., arXiv 2105.07809 §4.4 and figure 6, for the shared trunk, the blocks and
their removal; Zhang et al. 2018, "Residual Dense Network for Image Super-Resolution", arXiv 1802.08797 §3.2, for the
block. How many blocks and layers the team used is not known; three of four are ours.
"""

from collections.abc import Mapping
from typing import TypeVar

from search_spaces.errors import GraphError
from search_spaces.graph import Graph, GraphBuilder, Node
from search_spaces.ops import Activation, Add, Concat, Conv

PREFIX = "super."
OUTPUT = f"{PREFIX}output"
HEAD_BLOCKS = 3
LAYERS = 4

T = TypeVar("T")


def with_super_head(graph: Graph, *, blocks: int = HEAD_BLOCKS, layers: int = LAYERS) -> Graph:
    """Return `graph` with a second, larger head on its trunk.

    The output is both RGB maps, [n, h, w, 6], that of the small head first. The head is all nodes from the first whose
    name starts with "head" on, and the trunk the one map that this node reads. Raises GraphError where there is no such
    node, or where it reads several maps.
    """
    if blocks < 1 or layers < 1:
        raise GraphError(f"A super-network needs at least one block of one layer, got {blocks} of {layers}.")
    head = _head(graph)
    trunk = head[0].inputs[0]
    g = GraphBuilder(graph.input_shape)
    for node in graph.nodes:
        g.add(node.name, node.op, *node.inputs)
    x = trunk
    for block in range(1, blocks + 1):
        x = _residual_dense_block(g, f"{PREFIX}block{block}", x, channels=graph.shapes[trunk][3], layers=layers)
    renamed = {trunk: x} | {node.name: f"{PREFIX}{node.name}" for node in head}
    for node in head:
        g.add(renamed[node.name], node.op, *(renamed.get(name, name) for name in node.inputs))
    g.add(OUTPUT, Concat(), graph.output, renamed[graph.output])
    return g.build()


def _head(graph: Graph) -> tuple[Node, ...]:
    first = next((number for number, node in enumerate(graph.nodes) if node.name.startswith("head")), None)
    if first is None:
        raise GraphError('A super-network branches off before the node called "head", which this network has not.')
    head = graph.nodes[first:]
    if len(head[0].inputs) != 1:
        raise GraphError(
            f'A super-network branches off the one map before the head, but "{head[0].name}" reads '
            f"{' and '.join(head[0].inputs)}."
        )
    return head


def _residual_dense_block(g: GraphBuilder, name: str, x: str, *, channels: int, layers: int) -> str:
    """Each layer reads all maps before it; a 1×1 convolution fuses them, and the block's input is added."""
    maps = [x]
    for layer in range(1, layers + 1):
        read = x if layer == 1 else g.add(f"{name}.concat{layer}", Concat(), *maps)
        y = g.add(f"{name}.conv{layer}", Conv(channels, 3), read)
        maps.append(g.add(f"{name}.conv{layer}.relu", Activation("relu"), y))
    fused = g.add(f"{name}.fuse", Conv(channels, 1), g.add(f"{name}.concat", Concat(), *maps))
    return g.add(f"{name}.add", Add(), fused, x)


def heads(graph: Graph) -> tuple[Graph, ...]:
    """Return the networks that `graph` holds, each with one RGB output: the small and the larger one, or it alone."""
    if graph.output != OUTPUT:
        return (graph,)
    _, large = graph.nodes[-1].inputs
    small = tuple(node for node in graph.nodes if not node.name.startswith(PREFIX))
    return Graph(graph.input_shape, small), Graph(graph.input_shape, _up_to(graph, large))


def _up_to(graph: Graph, output: str) -> tuple[Node, ...]:
    wanted = {output}
    for node in reversed(graph.nodes):
        if node.name in wanted:
            wanted.update(node.inputs)
    return tuple(node for node in graph.nodes if node.name in wanted)


def detach(arrays: Mapping[str, T]) -> dict[str, T]:
    """Return the arrays of the small network alone."""
    return {name: array for name, array in arrays.items() if not name.startswith(PREFIX)}
