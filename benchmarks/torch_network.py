"""Build a graph in PyTorch with the weights of its JAX twin, for comparison in benchmarks/train_step.py.

PyTorch is an optional dependency of the benchmarks (`pip install ".[benchmark]"`); the product never imports it.
Maps are NCHW in channels-last memory, PyTorch's fastest layout for convolutions. What TensorFlow's padding needs beyond
PyTorch's own is done as its users would: symmetric padding inside the convolution, the rest by a pad or a crop.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from search_spaces.graph import INPUT, Graph, Node
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

Tensor = Any  # torch is not there when types are checked


class TorchNetwork(torch.nn.Module):  # type: ignore[misc]  # torch is not there when types are checked
    """Computes a graph on NCHW maps; raises KeyError for an operation that has no rule here."""

    def __init__(self, graph: Graph, parameters: Mapping[str, np.ndarray[Any, Any]]) -> None:
        super().__init__()
        self.graph = graph
        self.rules = [_rule(graph, node) for node in graph.nodes]
        self.weights = torch.nn.ParameterDict(
            {_key(name): torch.nn.Parameter(_to_torch(graph, name, value)) for name, value in parameters.items()}
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return RGB [n, 3, 2h, 2w] for packed RAW [n, 4, h, w]."""
        maps = {INPUT: x}
        for node, rule in zip(self.graph.nodes, self.rules, strict=True):
            weights = {name: self.weights[_key(f"{node.name}/{name}")] for name in _parameters(self.graph, node)}
            maps[node.name] = rule(weights, *(maps[name] for name in node.inputs))
        return maps[self.graph.output]


def _key(name: str) -> str:
    return name.replace(".", "_").replace("/", "__")  # PyTorch forbids dots in names


def _parameters(graph: Graph, node: Node) -> list[str]:
    return list(node.op.parameter_shapes(*graph.input_shapes(node)))


def _to_torch(graph: Graph, name: str, value: np.ndarray[Any, Any]) -> Tensor:
    """Return one array in PyTorch's layout; channels that a shuffle reads are put in the order of PyTorch's."""
    node = next(n for n in graph.nodes if n.name == name.rpartition("/")[0])
    block = _shuffled_by(graph, node)
    if block:
        value = value[..., _shuffle_order(value.shape[-1], block)]
    if value.ndim == 4:
        # HWIO → OIHW, HW1C → C1HW, and HWOI (transposed) → IOHW: the same permutation.
        return torch.from_numpy(value.transpose(3, 2, 0, 1).copy()).to(memory_format=torch.channels_last)
    return torch.from_numpy(value.copy())


def _shuffled_by(graph: Graph, node: Node) -> int:
    """Return the block of the depth-to-space that follows behind activations alone, 0 where there is none."""
    for reader in graph.readers(node.name):
        if isinstance(reader.op, DepthToSpace):
            return reader.op.block
        if isinstance(reader.op, Activation):
            return _shuffled_by(graph, reader)
    return 0


def _shuffle_order(channels: int, block: int) -> np.ndarray[Any, Any]:
    """TensorFlow's depth-to-space reads channel (i·b + j)·c + k, PyTorch's pixel_shuffle k·b² + i·b + j."""
    return np.arange(channels).reshape(block**2, channels // block**2).T.reshape(-1)


def _same_padding(size: int, kernel: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    reach = (kernel - 1) * dilation + 1
    total = max((-(-size // stride) - 1) * stride + reach - size, 0)
    return total // 2, total - total // 2


def _conv(graph: Graph, node: Node) -> Callable[..., Tensor]:
    op = node.op
    assert isinstance(op, Conv | DepthwiseConv)
    _, h, w, c = graph.input_shapes(node)[0]
    stride, dilation = getattr(op, "stride", 1), getattr(op, "dilation", 1)
    groups = c if isinstance(op, DepthwiseConv) else 1
    (top, bottom), (left, right) = (_same_padding(size, op.kernel, stride, dilation) for size in (h, w))
    if (top, left) == (bottom, right):
        return lambda p, x: F.conv2d(x, p["kernel"], p.get("bias"), stride, (top, left), dilation, groups)
    return lambda p, x: F.conv2d(
        F.pad(x, (left, right, top, bottom)), p["kernel"], p.get("bias"), stride, 0, dilation, groups
    )


def _transpose_conv(graph: Graph, node: Node) -> Callable[..., Tensor]:
    op = node.op
    assert isinstance(op, TransposeConv)
    _, h, w, _ = graph.output_shape if node.name == graph.output else graph.shapes[node.name]
    total = max(op.kernel - op.stride, 0)
    if total % 2 == 0:
        return lambda p, x: F.conv_transpose2d(x, p["kernel"], p.get("bias"), op.stride, total // 2)
    before = total // 2
    return lambda p, x: F.conv_transpose2d(x, p["kernel"], p.get("bias"), op.stride)[
        :, :, before : before + h, before : before + w
    ]


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid}


def _plain(function: Callable[..., Tensor]) -> Callable[[Graph, Node], Callable[..., Tensor]]:
    return lambda _, __: lambda _, *inputs: function(*inputs)


def _depth_to_space(_: Graph, node: Node) -> Callable[..., Tensor]:
    assert isinstance(node.op, DepthToSpace)
    block = node.op.block
    return lambda _, x: F.pixel_shuffle(x, block)


def _activation(_: Graph, node: Node) -> Callable[..., Tensor]:
    assert isinstance(node.op, Activation)
    function = ACTIVATIONS[node.op.function]
    return lambda _, x: function(x)


RULES: dict[type[Op], Callable[[Graph, Node], Callable[..., Tensor]]] = {
    Conv: _conv,
    DepthwiseConv: _conv,
    TransposeConv: _transpose_conv,
    DepthToSpace: _depth_to_space,
    Activation: _activation,
    Add: _plain(lambda a, b: a + b),
    Multiply: _plain(lambda a, b: a * b),
    Concat: _plain(lambda *maps: torch.cat(maps, 1)),
    GlobalMean: _plain(lambda x: x.mean((2, 3), keepdim=True)),
}


def _rule(graph: Graph, node: Node) -> Callable[..., Tensor]:
    return RULES[type(node.op)](graph, node)
