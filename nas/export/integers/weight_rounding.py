"""Round kernels to the 255 values of an integer file so that what they compute changes least.

Rounded each by itself, weights err independently; but what they multiply is alike: neighbouring pixels of a picture
are nearly equal, so that the errors' sum shifts whole regions. Here weights are rounded one after the other, and what
one is off by is made up for by those that are not rounded yet, in the way that changes the products least, given the
means of x·xᵀ on real pictures. Of several steps for a channel, the one of the least error is taken.

Source: Frantar et al. 2023, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers", arXiv
2210.17323, section 3 (its second and third step, without blocks).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from nas.train.checkpoint import Arrays
from search_spaces.graph import Graph
from search_spaces.lower_quantised import WEIGHT_STEPS
from search_spaces.ops import Conv, DepthwiseConv, Op

# Added to the diagonal of the means, as a share of its own mean: what the pictures do not show still counts a little.
_DAMPING = 1e-3
# Steps that are tried, as shares of the one that reaches the largest weight; smaller ones cut it off.
_SHARES = (1.0, 0.95, 0.9, 0.8)
_LEAST = 1e-12

Array = np.ndarray[Any, Any]


def rounded(graph: Graph, weights: Arrays, moments: Mapping[str, Float[Array, "g d d"]]) -> Arrays:
    """Return weights whose kernels have only values that an integer file has: 127 steps on either side of 0.

    `moments` are those of `map_samples.MapSamples`. The largest weight of every channel is 127 steps, so that the
    converter, which takes its step from it, finds the same values.
    """
    result = dict(weights)
    for node in graph.nodes:
        if node.name in moments:
            key = f"{node.name}/kernel"
            result[key] = _rounded_kernel(node.op, weights[key], moments[node.name])
    return result


def _rounded_kernel(op: Op, kernel: Array, moments: Float[Array, "g d d"]) -> Array:
    """Round a kernel as g matrices of d rows, whose columns multiply the same; scales belong to output channels."""
    if isinstance(op, Conv):  # HWIO
        return _rounded_matrix(kernel.reshape(-1, kernel.shape[3]), moments[0], 1).reshape(kernel.shape)
    if isinstance(op, DepthwiseConv):  # HW1C: a matrix for each channel
        columns = kernel.reshape(-1, kernel.shape[3])
        each = [_rounded_matrix(columns[:, c : c + 1], moments[c], 1) for c in range(columns.shape[1])]
        return np.concatenate(each, axis=1).reshape(kernel.shape)
    k, _, made, read = kernel.shape  # HWOI: the taps of an output channel share a scale
    matrix = kernel.transpose(3, 2, 0, 1).reshape(read, made * k * k)
    return _rounded_matrix(matrix, moments[0], k * k).reshape(read, made, k, k).transpose(2, 3, 1, 0)


def _rounded_matrix(matrix: Float[Array, "d n"], moments: Float[Array, "d d"], sharing: int) -> Float[Array, "d n"]:
    """Round the columns, of which `sharing` neighbours have one step."""
    factor = _upper_factor(moments)
    largest = np.abs(matrix).max(0).reshape(-1, sharing).max(1)
    best, least = _plain(matrix, largest, sharing), np.full(len(largest), np.inf)
    for share in _SHARES:
        tried = _compensated(matrix, np.repeat(share * largest / WEIGHT_STEPS, sharing), factor)
        error = _errors(tried - matrix, moments).reshape(-1, sharing).sum(1)
        better = (error < least) & _reaches_its_ends(tried, share * largest, sharing)
        best = np.where(np.repeat(better, sharing), tried, best)
        least = np.where(better, error, least)
    return best.astype(np.float32)


def _plain(matrix: Array, largest: Array, sharing: int) -> Array:
    step = np.repeat(np.maximum(largest, _LEAST) / WEIGHT_STEPS, sharing)
    return np.rint(matrix / step) * step


def _reaches_its_ends(tried: Array, end: Array, sharing: int) -> Array:
    reached = np.abs(tried).max(0).reshape(-1, sharing).max(1)
    near: Array = np.isclose(reached, end, rtol=0.5 / WEIGHT_STEPS)
    return near & (end > 0)


def _errors(apart: Float[Array, "d n"], moments: Float[Array, "d d"]) -> Float[Array, " n"]:
    errors: Array = np.einsum("dn,dn->n", apart, moments @ apart)
    return errors


def _upper_factor(moments: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """Return U with UᵀU = H⁻¹ of the damped means H; row i tells how later weights make up for weight i."""
    exact = moments.astype(np.float64)
    damped = exact + np.eye(len(exact)) * (_DAMPING * np.trace(exact) / len(exact) + _LEAST)
    lower: Array = np.linalg.cholesky(np.linalg.inv(damped))
    return lower.T


def _compensated(matrix: Float[Array, "d n"], step: Float[Array, " n"], factor: Float[Array, "d d"]) -> Array:
    left, result = matrix.astype(np.float64), np.zeros(matrix.shape)
    step = np.maximum(step, _LEAST)
    for row in range(len(left)):
        result[row] = np.clip(np.rint(left[row] / step), -WEIGHT_STEPS, WEIGHT_STEPS) * step
        off = (left[row] - result[row]) / factor[row, row]
        left[row + 1 :] -= factor[row, row + 1 :, None] * off
    return result
