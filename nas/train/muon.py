"""Muon: momentum with orthogonalised matrices, for all kernels of a network in a few small products.

A kernel is a matrix from what it reads to one number it makes: height·width·inputs × outputs. Its momentum M is
replaced by (nearly) the nearest matrix of orthonormal columns or rows, so that every direction learns at the same
speed, however small its gradient. Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"
(kellerjordan.github.io/posts/muon), whose quintic Newton–Schulz iteration and coefficients these are.

The centre of a k×k kernel and its Laplacian learn as if each were trained as a 1×1 branch beside the kernel and merged
with it (`nas.train.branches`): what such a branch would be moved by is linear in the kernel's momentum, so it needs no
parameters of its own. results/training/README.md says what that gains.

`optax.contrib.muon` iterates on each kernel alone, and compiles that for each kernel. Here the polynomial is evaluated
on the Gram matrix of the kernel's shorter side, M·p(MᵀM) being the same as the iteration on M. Kernels of about one
size are stacked, zeros beside the smaller ones, and everything is done once for a stack: what is compiled and started
does not grow with the number of kernels.
"""

import math
import operator
from collections.abc import Container, Iterator, Mapping, Sequence
from functools import reduce
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from nas.train import branches
from search_spaces.graph import Graph
from search_spaces.ops import Conv, DepthwiseConv, Op, TransposeConv

MOMENTUM = 0.95
# p(x) = a·x + b·x³ + c·x⁵ of Jordan et al.: five times over, it brings every singular value into about 0.7 … 1.2.
_A, _B, _C = 3.4445, -4.7750, 2.0315
_ITERATIONS = 5
_TINY = 1e-20
# Kernels share a stack where their shorter sides have the same power of two above them, from this one on, and their
# longer sides are of one magnitude. Zeros are cheap to multiply, another stack is dear to compile.
_LEAST_SIDE, _HEIGHTS = 16, 8
# Parts of a k×k kernel that learn as branches of their own.
PATTERNS = {name: branches.PATTERNS[name] for name in ("centre", "laplace")}
# Orthogonalising a kernel may cost this share of computing its gradient and that of its input. Dearer ones (the lowest
# levels of a U-Net, attention on means, whose kernels are used at few positions) are left to Adam.
MOST_COST = 0.3


def kernels(graph: Graph, *, batch: int, patch: int) -> dict[str, type[Op]]:
    """Return the names of the parameters that Muon moves, each with the kind of operation that it belongs to.

    `patch` is in pixels of the mosaic. All other parameters are Adam's.
    """
    return dict(_kernels(graph.at((batch, patch // 2, patch // 2, 4))))


def _kernels(graph: Graph) -> Iterator[tuple[str, type[Op]]]:
    for node in graph.nodes:
        shapes = graph.input_shapes(node)
        if not isinstance(node.op, Conv | DepthwiseConv | TransposeConv):
            continue
        used_at = shapes[0] if isinstance(node.op, TransposeConv) else node.op.output_shape(*shapes)
        positions = math.prod(used_at[:3])
        rows, columns = _sides(type(node.op), node.op.parameter_shapes(*shapes)["kernel"])
        if orthogonalising_flops(rows, columns) <= MOST_COST * 6 * rows * columns * positions:
            yield f"{node.name}/kernel", type(node.op)


def orthogonalising_flops(rows: int, columns: int) -> int:
    """Return what one step of Muon costs a matrix: two products with its shorter side, and those that the result needs.

    Zeros beside it in a stack are not counted.
    """
    side = min(rows, columns)
    if side == 1:
        return 2 * rows * columns
    return 4 * rows * columns * side + 2 * (4 * _ITERATIONS - 3) * side**3


def _sides(kind: type[Op], shape: Sequence[int]) -> tuple[int, int]:
    if kind is DepthwiseConv:  # each channel is a matrix of its own, of one column
        return shape[0] * shape[1], 1
    inputs = shape[3] if kind is TransposeConv else shape[0] * shape[1] * shape[2]
    return inputs, math.prod(shape) // inputs


def directions(kinds: Mapping[str, type[Op]], momentum: Mapping[str, Array]) -> dict[str, Array]:
    """Return the steps of a learning rate of one: spectral norms of 1, or √(columns / rows) where wider than high.

    The steps of a kernel's parts are added to its own, so that the sum has up to some three times that norm. The factor
    keeps the size of a step in what the layer makes, whatever its shape (Bernstein and Newhouse 2024, arXiv
    2410.21265), and is that of `optax.contrib.muon`.
    """
    matrices = {name: _matrix(kinds[name], momentum[name]) for name in kinds if kinds[name] is not DepthwiseConv}
    parts = list(_parts({name: momentum[name] for name in matrices if kinds[name] is Conv and _is_whole(name, kinds)}))
    orthogonal = [_scaled(matrix) for matrix in _orthogonalised([*matrices.values(), *(part for *_, part in parts)])]
    steps = {name: _normalised(momentum[name]) for name in kinds if kinds[name] is DepthwiseConv}
    for name, matrix in zip(matrices, orthogonal, strict=False):
        steps[name] = _tensor(kinds[name], matrix, momentum[name].shape)
    for (name, pattern, _), matrix in zip(parts, orthogonal[len(matrices) :], strict=True):
        steps[name] += pattern[:, :, None, None] * matrix
    return steps


def _is_whole(name: str, names: Container[str]) -> bool:
    """Tell whether a kernel is trained by itself: one with branches has its parts among them, and a branch has none."""
    return branches.MARK not in name and f"{name}{branches.MARK}{branches.EXPAND}" not in names


def _parts(kernels: Mapping[str, Array]) -> Iterator[tuple[str, np.ndarray[Any, Any], Array]]:
    """Yield the name of each kernel that has parts, with each part: its pattern [k, k], and itself [inputs, outputs].

    Written as a sum of the few taps that are not zero, which joins what reads it; a product would stand alone.
    """
    for name, kernel in kernels.items():
        if branches.has(kernel.shape):
            for pattern in PATTERNS.values():
                placed = branches.within(pattern, kernel.shape[0])
                taps = [placed[y, x] * kernel[y, x] for y, x in zip(*np.nonzero(placed), strict=True)]
                yield name, placed, reduce(operator.add, taps)


def _scaled(matrix: Array) -> Array:
    rows, columns = matrix.shape
    return math.sqrt(max(1, columns / rows)) * matrix


def _normalised(kernel: Float[Array, "k k 1 c"]) -> Float[Array, "k k 1 c"]:
    """Give every channel's kernel a norm of one, which is what orthogonalising a single column comes to."""
    return kernel * jnp.reciprocal(jnp.sqrt(jnp.sum(kernel**2, (0, 1, 2), keepdims=True) + _TINY))


def _matrix(kind: type[Op], kernel: Array) -> Float[Array, "r c"]:
    rows, columns = _sides(kind, kernel.shape)
    if kind is TransposeConv:  # HWOI
        return kernel.transpose(3, 0, 1, 2).reshape(rows, columns)
    return kernel.reshape(rows, columns)


def _tensor(kind: type[Op], matrix: Array, shape: tuple[int, ...]) -> Array:
    if kind is TransposeConv:
        return matrix.reshape(shape[3], *shape[:3]).transpose(1, 2, 3, 0)
    return matrix.reshape(shape)


def _orthogonalised(matrices: Sequence[Float[Array, "_ _"]]) -> list[Float[Array, "_ _"]]:
    """Return the matrices after the Newton–Schulz iteration, those of about one size together."""
    high = [matrix if _is_high(matrix) else matrix.T for matrix in matrices]
    stacks = [(indices, _stacked([high[i] for i in indices])) for indices in _alike([m.shape for m in high])]
    factors = _polynomials([jnp.einsum("nri,nrj->nij", stack, stack) for _, stack in stacks])
    done: dict[int, Array] = {}
    for (indices, stack), factor in zip(stacks, factors, strict=True):
        for index, product in zip(indices, stack @ factor, strict=True):
            own = product[: high[index].shape[0], : high[index].shape[1]]
            done[index] = own if _is_high(matrices[index]) else own.T
    return [done[index] for index in range(len(matrices))]


def _is_high(matrix: Array) -> bool:
    return matrix.shape[0] >= matrix.shape[1]


def _alike(shapes: Sequence[tuple[int, ...]]) -> list[list[int]]:
    """Return the indices of high matrices in groups that share a stack."""
    groups: dict[tuple[int, int], list[int]] = {}
    for index, (rows, columns) in enumerate(shapes):
        padded = max(_LEAST_SIDE, 1 << (columns - 1).bit_length())
        groups.setdefault((padded, math.ceil(math.log(max(rows, padded) / padded, _HEIGHTS))), []).append(index)
    return list(groups.values())


def _stacked(matrices: Sequence[Float[Array, "_ _"]]) -> Float[Array, "n r c"]:
    """Stack matrices; zeros beside one change nothing within it."""
    rows, columns = (max(_LEAST_SIDE, *(matrix.shape[axis] for matrix in matrices)) for axis in (0, 1))
    return jnp.stack([jnp.pad(m, ((0, rows - m.shape[0]), (0, columns - m.shape[1]))) for m in matrices])


def _polynomials(grams: Sequence[Array]) -> list[Array]:
    """Return by what matrices of these Gram matrices [n, s, s] are multiplied: all iterations, and the first division.

    With G = XᵀX, an iteration X ← X·Q, Q = a + b·G + c·G², makes G ← Q·G·Q. A loop, whose body is compiled once.
    """
    squares = [jnp.trace(gram, axis1=1, axis2=2)[:, None, None] + _TINY for gram in grams]
    ones = [jnp.broadcast_to(jnp.eye(gram.shape[1], dtype=gram.dtype), gram.shape) for gram in grams]

    def iterate(_: Any, state: list[tuple[Array, Array]]) -> list[tuple[Array, Array]]:
        factors = [_A * one + _B * g + _C * (g @ g) for one, (g, _) in zip(ones, state, strict=True)]
        return [(q @ g @ q, factor @ q) for q, (g, factor) in zip(factors, state, strict=True)]

    start = [(gram / square, one) for gram, square, one in zip(grams, squares, ones, strict=True)]
    state = lax.fori_loop(0, _ITERATIONS, iterate, start)
    return [factor * jnp.reciprocal(jnp.sqrt(square)) for (_, factor), square in zip(state, squares, strict=True)]
