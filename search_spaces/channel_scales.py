"""Scale the channels of a network so that each fills the range of its map; the network computes the same.

An 8-bit map has one step for all of its channels, so a channel that is a hundred times smaller than the largest has two
or three values left. What makes it can be scaled up, and what reads it scaled down: exact for convolutions, and through
whatever keeps a positive factor (ReLU, PReLU, pooling, shuffles). Channels that are added up or laid behind one another
share a factor; in front of and behind a tanh, and at input and output, it is one.

Source: Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", arXiv 1906.04721,
section 4.1, which equalises ranges of kernels; here those of maps on real pictures.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.cluster.hierarchy import DisjointSet

from search_spaces.activations import ENTRIES
from search_spaces.graph import INPUT, Graph, Node
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
    Pool,
    Resize,
    Scale,
    Subtract,
    TransposeConv,
)

# Larger factors would rest on a channel's few largest values; 64 was no better than 16 on three networks.
LARGEST_FACTOR = 16.0
_FIXED = ("", 0)  # whose factor is one

Array = np.ndarray[Any, Any]
Weights = Mapping[str, Array]
Channel = tuple[str, int]  # a node's name, or the input, and the number of a channel of its map
Scales = Mapping[str, Float[Array, " c"]]


def channel_scales(
    graph: Graph, low: Mapping[str, Array], high: Mapping[str, Array], rounded: Collection[str]
) -> dict[str, Float[Array, " c"]]:
    """Return the factor of every channel of every map.

    `low` and `high` are each channel's extremes by map; `rounded` are the maps that a file has, whose ranges count.
    """
    widths = {name: np.maximum(high[name], 0) - np.minimum(low[name], 0) for name in rounded}
    scales = {name: np.ones(shape[3], np.float32) for name, shape in graph.shapes.items()}
    channels = _joined(graph)
    for group in channels.subsets():
        if _FIXED in group:
            continue
        factor = _factor([(widths[name], number) for name, number in group if name in rounded])
        for name, number in group:
            scales[name][number] = factor
    return scales


def _factor(members: list[tuple[Array, int]]) -> np.float32:
    """Return the largest factor with which no channel exceeds its map's range."""
    room = [float(widths.max() / widths[number]) for widths, number in members if widths[number] > 0]
    return np.float32(min([LARGEST_FACTOR, *room]) if room else 1)


def scaled(graph: Graph, weights: Weights, scales: Scales) -> dict[str, Array]:
    """Return weights with which every map has its channels times these factors, and the output is the same.

    A map without factors keeps its channels.
    """
    factors = {name: np.ones(shape[3], np.float32) for name, shape in graph.shapes.items()} | dict(scales)
    result = dict(weights)
    for node in graph.nodes:
        of_input, of_map = factors[node.inputs[0]], factors[node.name]
        for name, factor in _factors(node, of_input, of_map).items():
            key = f"{node.name}/{name}"
            if key in weights:
                result[key] = (weights[key] * factor).astype(np.float32)
    return result


def _factors(node: Node, of_input: Array, of_map: Array) -> dict[str, Array]:
    """Return by what each weight of a node is multiplied."""
    if isinstance(node.op, Conv):
        return {"kernel": of_map / of_input[:, None], "bias": of_map}
    if isinstance(node.op, TransposeConv):
        return {"kernel": of_map[:, None] / of_input, "bias": of_map}
    if isinstance(node.op, DepthwiseConv):
        return {"kernel": of_map / of_input, "bias": of_map}
    return {"gamma": of_map, "beta": of_map} if isinstance(node.op, InstanceNorm) else {}


def _joined(graph: Graph) -> DisjointSet:
    """Return the channels of all maps, those of one factor together."""
    width = {name: shape[3] for name, shape in graph.shapes.items()}
    channels = DisjointSet([_FIXED, *((name, number) for name in width for number in range(width[name]))])
    for a, b in (*_fixed(INPUT, width[INPUT]), *_fixed(graph.output, width[graph.output])):
        channels.merge(a, b)
    for node in graph.nodes:
        for a, b in _rule(node, width):
            channels.merge(a, b)
    return channels


def _rule(node: Node, width: Mapping[str, int]) -> Iterator[tuple[Channel, Channel]]:
    """Yield which channels of a node's inputs and map have one factor."""
    op, made = node.op, node.name
    if isinstance(op, Conv | DepthwiseConv | TransposeConv):
        return
    if isinstance(op, InstanceNorm):  # not quite without scale: a small number is added to the variance
        yield from _fixed(node.inputs[0], width[node.inputs[0]])
    elif isinstance(op, Concat):
        yield from _behind_one_another(node, width)
    elif isinstance(op, DepthToSpace):
        source, channels = node.inputs[0], width[made]
        yield from (((source, number), (made, number % channels)) for number in range(width[source]))
    elif isinstance(op, Multiply):  # a factor of the first alone; the second is a gate
        yield from _same(node.inputs[0], made, width)
        yield from _fixed(node.inputs[1], width[node.inputs[1]])
    elif _keeps_factors(node):
        for source in node.inputs:
            yield from _same(source, made, width)
    else:
        for name in (*node.inputs, made):
            yield from _fixed(name, width[name])


def _keeps_factors(node: Node) -> bool:
    if isinstance(node.op, Activation):
        return ENTRIES[node.op.function].is_homogeneous
    if isinstance(node.op, Affine):
        return not node.op.offset
    return isinstance(node.op, Add | Subtract | Pool | Resize | Scale | GlobalMean)


def _fixed(name: str, width: int) -> Iterator[tuple[Channel, Channel]]:
    return (((name, number), _FIXED) for number in range(width))


def _same(a: str, b: str, width: Mapping[str, int]) -> Iterator[tuple[Channel, Channel]]:
    return (((a, number), (b, number)) for number in range(width[b]))


def _behind_one_another(node: Node, width: Mapping[str, int]) -> Iterator[tuple[Channel, Channel]]:
    sources = ((source, number) for source in node.inputs for number in range(width[source]))
    return ((source, (node.name, number)) for number, source in enumerate(sources))
