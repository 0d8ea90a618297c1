"""Kernels trained as sums of branches and folded into one kernel everywhere else.

Linear re-parameterisation: a k×k kernel is trained as itself + a 1×1 kernel at its centre + a 1×1 expansion followed by
a k×k squeeze + 1×1 kernels times fixed derivatives (Sobel in both directions, Laplace). All of it is linear, so the sum
is a k×k kernel again. Sources: Zhang et al. 2021 (ECBSR, doi 10.1145/3474085.3475291), Bhardwaj et al. 2021 (SESR,
arXiv 2103.09404, whose merging of kernels instead of maps keeps a step at its cost), Hu et al. 2022 (arXiv 2204.00826).

Branches are parameters beside the kernel, called `<kernel>~<branch>`. They live in a training state alone: `fold` makes
of them what the network's graph, its judging and its file know.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from search_spaces.graph import Graph
from search_spaces.ops import Conv

MARK = "~"
EXPAND, SQUEEZE = "expand", "squeeze"
# Channels of an expansion, as a multiple of the larger of its two sides: ECBSR's own choice.
EXPANSION = 2
_SOBEL = np.array([[1, 0, -1], [2, 0, -2], [1, 0, -1]], np.float32)
_LAPLACE = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]], np.float32)
_CENTRE = np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]], np.float32)
# What a 1×1 kernel is multiplied by, at the centre of the whole kernel. Of a spectral norm of about one each, so that
# one learning rate moves all branches alike.
PATTERNS: dict[str, np.ndarray[Any, Any]] = {
    "centre": _CENTRE,
    "across": _SOBEL / 4,
    "down": _SOBEL.T / 4,
    "laplace": _LAPLACE / 4,
}

Shapes = dict[str, tuple[int, ...]]


def shapes(graph: Graph) -> Shapes:
    """Return the shapes of all branches: those of the graph's odd-sized convolutions larger than 1×1."""
    kernels: Shapes = {}
    for node in graph.nodes:
        if isinstance(node.op, Conv) and has(shape := graph.parameter_shapes[f"{node.name}/kernel"]):
            kernels |= {f"{node.name}/kernel{MARK}{branch}": size for branch, size in _shapes(shape).items()}
    return kernels


def has(kernel: tuple[int, ...]) -> bool:
    """Tell whether a kernel of this shape has branches: one of an odd side above 1."""
    return kernel[0] > 1 and kernel[0] % 2 == 1


def _shapes(kernel: tuple[int, ...]) -> Shapes:
    side, _, inputs, outputs = kernel
    between = EXPANSION * max(inputs, outputs)
    ones = dict.fromkeys(PATTERNS, (1, 1, inputs, outputs))
    return {**ones, EXPAND: (1, 1, inputs, between), SQUEEZE: (side, side, between, outputs)}


def kernel_of(name: str) -> str:
    """Return the kernel that a branch belongs to; any other name is returned as it is."""
    return name.partition(MARK)[0]


def start(graph: Graph, *, seed: int) -> dict[str, np.ndarray[Any, Any]]:
    """Return branches that add nothing yet, so that a network starts as it would without them.

    The expansion is drawn at random, since the gradient of either factor of a product of zeros is zero.
    """
    return {name: _first(name, shape, seed) for name, shape in shapes(graph).items()}


def _first(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray[Any, Any]:
    if not name.endswith(MARK + EXPAND):
        return np.zeros(shape, np.float32)
    drawn: np.ndarray[Any, Any] = np.random.default_rng([seed, *name.encode()]).standard_normal(shape)
    return (drawn / math.sqrt(shape[2])).astype(np.float32)


def fold(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters with every kernel's branches added to it; arrays are NumPy's or JAX's."""
    return {name: _folded(name, parameters) for name in parameters if MARK not in name}


def _folded(name: str, parameters: Mapping[str, Any]) -> Any:
    kernel = parameters[name]
    if name + MARK + EXPAND not in parameters:
        return kernel
    for branch, pattern in PATTERNS.items():
        kernel = kernel + within(pattern, kernel.shape[0])[:, :, None, None] * parameters[name + MARK + branch]
    return kernel + parameters[name + MARK + EXPAND][0, 0] @ parameters[name + MARK + SQUEEZE]


def within(pattern: np.ndarray[Any, Any], side: int) -> np.ndarray[Any, Any]:
    """Return a 3×3 pattern in the middle of a window of that side."""
    return np.pad(pattern, (side - 3) // 2)
