"""Muon: momentum with orthogonalised matrices, for all kernels of a network in a few small products.

A kernel is a matrix from what it reads to one number it makes: height·width·inputs × outputs. Its momentum M is
replaced by (nearly) the nearest matrix of orthonormal columns or rows, so that every direction learns at the same
speed, however small its gradient. Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"
(kellerjordan.github.io/posts/muon), whose quintic Newton–Schulz iteration and coefficients these are.

The centre of a k×k kernel and its Laplacian learn as if each were trained as a 1×1 branch beside the kernel and merged
with it (`nas.train.branches`): what such a branch would be moved by is linear in the kernel's momentum, so it needs no
parameters of its own. results/training/README.md says what that gains.

`optax.contrib.muon` iterates on each kernel alone, and compiles that for each kernel. Here the polynomial is evaluated
on the Gram matrix of the kernel's shorter side, M·p(MᵀM) being the same as the iteration on M; Gram matrices of about
one size are stacked and iterated together, whatever the kernels' longer sides are.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nas.train import branches
from search_spaces.graph import Graph
from search_spaces.ops import Conv, DepthwiseConv, Op, TransposeConv

MOMENTUM = 0.95
# p(x) = a·x + b·x³ + c·x⁵ of Jordan et al.: five times over, it brings every singular value into about 0.7 … 1.2.
_A, _B, _C = 3.4445, -4.7750, 2.0315
_ITERATIONS = 5
_TINY = 1e-20
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
    """Return what one step of Muon costs a matrix: two products with its shorter side, and the iterations on that."""
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

    The factor keeps the size of a step in what the layer makes, whatever its shape (Bernstein and Newhouse 2024, arXiv
    2410.21265), and is that of `optax.contrib.muon`.
    """
    matrices = {name: _matrix(kinds[name], momentum[name]) for name in kinds if kinds[name] is not DepthwiseConv}
    parts = list(_parts({name: momentum[name].shape for name in matrices if kinds[name] is Conv}))
    of_parts = [jnp.tensordot(pattern, momentum[name], 2) for name, pattern in parts]
    orthogonal = [_scaled(matrix) for matrix in _orthogonalised([*matrices.values(), *of_parts])]
    steps = {name: _normalised(momentum[name]) for name in kinds if kinds[name] is DepthwiseConv}
    for name, matrix in zip(matrices, orthogonal, strict=False):
        steps[name] = _tensor(kinds[name], matrix, momentum[name].shape)
    for (name, pattern), matrix in zip(parts, orthogonal[len(matrices) :], strict=True):
        steps[name] += pattern[:, :, None, None] * matrix
    return steps


def _parts(shapes: Mapping[str, tuple[int, ...]]) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    """Yield each kernel that has parts with the pattern [k, k] of each."""
    for name, shape in shapes.items():
        if branches.has(shape):
            for pattern in PATTERNS.values():
                yield name, branches.within(pattern, shape[0])


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
    by_size: dict[int, list[int]] = {}
    for index, matrix in enumerate(matrices):
        by_size.setdefault(_padded(min(matrix.shape)), []).append(index)
    done: dict[int, Array] = {}
    for size, indices in by_size.items():
        stacked = jnp.stack([_padded_gram(matrices[index], size) for index in indices])
        for index, factor in zip(indices, _polynomial(stacked), strict=True):
            matrix = matrices[index]
            side = min(matrix.shape)
            own = factor[:side, :side]
            done[index] = matrix @ own if _is_high(matrix) else own @ matrix
    return [done[index] for index in range(len(matrices))]


def _padded(side: int) -> int:
    """Return the next power of two, of four at least: zeros around a Gram matrix change nothing within it."""
    return max(4, 1 << (side - 1).bit_length())


def _is_high(matrix: Array) -> bool:
    return matrix.shape[0] >= matrix.shape[1]


def _padded_gram(matrix: Array, size: int) -> Float[Array, "s s"]:
    gram = matrix.T @ matrix if _is_high(matrix) else matrix @ matrix.T
    beyond = size - gram.shape[0]
    return jnp.pad(gram, ((0, beyond), (0, beyond)))


def _polynomial(gram: Float[Array, "k s s"]) -> Float[Array, "k s s"]:
    """Return by what the matrices are multiplied: all iterations, and the first division by the Frobenius norm.

    With G = XᵀX, an iteration X ← X·Q, Q = a + b·G + c·G², makes G ← Q·G·Q.
    """
    square = jnp.trace(gram, axis1=1, axis2=2)[:, None, None] + _TINY
    one = jnp.eye(gram.shape[1], dtype=gram.dtype)
    g, factor = gram / square, jnp.broadcast_to(one, gram.shape)
    for iteration in range(_ITERATIONS):
        q = _A * one + _B * g + _C * (g @ g)
        factor = factor @ q if iteration else q
        if iteration < _ITERATIONS - 1:
            g = q @ g @ q
    inverse: Array = jnp.reciprocal(jnp.sqrt(square))
    return factor * inverse
