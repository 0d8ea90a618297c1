"""Operations to be lowered, and networks of one operation with random weights."""

import os
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from search_spaces.activations import TFLITE_OPS
from search_spaces.graph import INPUT, Graph, GraphBuilder, Shape
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
    Subtract,
    TransposeConv,
)
from search_spaces.space import load_space
from search_spaces.spec import ArchSpec
from search_spaces.system.atomic_write import write_durably

EVEN: Shape = (1, 6, 10, 4)
ODD: Shape = (1, 7, 9, 4)
LEVELLED: Shape = (1, 32, 48, 4)  # its photograph is 64×96: sides that four levels can halve
# Means in two steps: rows, then columns.
INSTANCE_NORM_FILE_OPS = (
    *("MEAN", "MEAN", "SUB"),
    *("MUL", "MEAN", "MEAN", "ADD", "RSQRT"),
    *("MUL", "MUL", "ADD"),
)


@dataclass(frozen=True)
class Case:
    """A small network around one operation, and the operations that the file must hold, in order."""

    op: Op
    build: Callable[[GraphBuilder, Op], object]
    file_ops: tuple[str, ...]
    input_shape: Shape = EVEN


def alone(g: GraphBuilder, op: Op) -> None:
    g.add("op", op, INPUT)


def then_rgb(g: GraphBuilder, op: Op) -> None:
    g.add("rgb", Conv(3, 1), g.add("op", op, INPUT))


def shuffled(g: GraphBuilder, op: Op) -> None:
    g.add("op", op, g.add("wide", Conv(12, 1), INPUT))


def standing_alone(g: GraphBuilder, op: Op) -> None:
    """After a transposed convolution, which takes no activation along."""
    g.add("op", op, g.add("up", TransposeConv(3), INPUT))


def behind_a_convolution(g: GraphBuilder, op: Op) -> None:
    g.add("op", op, g.add("conv", Conv(3), INPUT))


def behind_an_unbiased_enlargement(g: GraphBuilder, op: Op) -> None:
    g.add("op", op, g.add("up", TransposeConv(3, use_bias=False), INPUT))


def behind_a_tanh(g: GraphBuilder, op: Op) -> None:
    """Where nothing before takes it along."""
    g.add("op", op, g.add("tanh", Activation("tanh"), g.add("conv", Conv(3), INPUT)))


def with_input(g: GraphBuilder, op: Op) -> None:
    g.add("rgb", Conv(3, 1), g.add("op", op, g.add("other", Conv(4), INPUT), INPUT))


def gated(g: GraphBuilder, op: Op) -> None:
    """One value per channel from the mean of the map."""
    g.add("rgb", Conv(3, 1), g.add("op", op, INPUT, g.add("mean", GlobalMean(), INPUT)))


def of_the_map(g: GraphBuilder, op: Op) -> None:
    g.add("rgb", Conv(3, 1), g.add("product", Multiply(), INPUT, g.add("op", op, INPUT)))


def of_three(g: GraphBuilder, op: Op) -> None:
    maps = (g.add("a", Conv(5), INPUT), INPUT, g.add("b", Conv(2, 1), INPUT))
    g.add("rgb", Conv(3, 1), g.add("op", op, *maps))


CASES = {
    **{f"conv {k}×{k}": Case(Conv(3, k), alone, ("CONV_2D",)) for k in (1, 3, 5, 7)},
    "conv by 2, even size": Case(Conv(3, 3, stride=2), alone, ("CONV_2D",), EVEN),
    "conv by 2, odd size": Case(Conv(3, 3, stride=2), alone, ("CONV_2D",), ODD),
    "conv 4×4 by 2": Case(Conv(3, 4, stride=2), alone, ("CONV_2D",), EVEN),
    "depthwise": Case(DepthwiseConv(3), then_rgb, ("DEPTHWISE_CONV_2D", "CONV_2D")),
    "depthwise, dilated": Case(DepthwiseConv(5, dilation=2), then_rgb, ("DEPTHWISE_CONV_2D", "CONV_2D"), ODD),
    "depthwise without bias": Case(DepthwiseConv(3, use_bias=False), then_rgb, ("DEPTHWISE_CONV_2D", "CONV_2D")),
    "transposed": Case(TransposeConv(3), alone, ("TRANSPOSE_CONV",)),
    "transposed 2×2": Case(TransposeConv(3, 2), alone, ("TRANSPOSE_CONV",)),
    "transposed 4×4": Case(TransposeConv(3, 4), alone, ("TRANSPOSE_CONV",), ODD),
    "transposed 5×5 by 4": Case(TransposeConv(3, 5, stride=4), alone, ("TRANSPOSE_CONV",)),
    "transposed without bias": Case(TransposeConv(3, use_bias=False), alone, ("TRANSPOSE_CONV",), ODD),
    "depth to space": Case(DepthToSpace(), shuffled, ("CONV_2D", "DEPTH_TO_SPACE")),
    **{
        function: Case(Activation(function), standing_alone, ("TRANSPOSE_CONV", name))
        for function, name in TFLITE_OPS.items()
    },
    "max pool": Case(Pool("max"), then_rgb, ("MAX_POOL_2D", "CONV_2D")),
    "average pool": Case(Pool("average"), then_rgb, ("AVERAGE_POOL_2D", "CONV_2D")),
    "resize": Case(Resize(), then_rgb, ("RESIZE_BILINEAR", "CONV_2D"), ODD),
    "affine": Case(Affine(0.58, 0.5), behind_a_tanh, ("CONV_2D", "TANH", "MUL", "ADD")),
    "affine as a bias": Case(Affine(0.58, 0.5), behind_an_unbiased_enlargement, ("TRANSPOSE_CONV",)),
    "scale": Case(Scale(), behind_a_tanh, ("CONV_2D", "TANH", "MUL")),
    "scale behind a convolution": Case(Scale(), behind_a_convolution, ("CONV_2D",)),
    "instance norm": Case(InstanceNorm(), behind_a_convolution, ("CONV_2D", *INSTANCE_NORM_FILE_OPS), ODD),
    "add": Case(Add(), with_input, ("CONV_2D", "ADD", "CONV_2D")),
    "subtract": Case(Subtract(), with_input, ("CONV_2D", "SUB", "CONV_2D")),
    "multiply by a map": Case(Multiply(), with_input, ("CONV_2D", "MUL", "CONV_2D")),
    "multiply by one value per channel": Case(Multiply(), gated, ("MEAN", "MUL", "CONV_2D")),
    "concat": Case(Concat(), of_three, ("CONV_2D", "CONV_2D", "CONCATENATION", "CONV_2D")),
    "global mean": Case(GlobalMean(), of_the_map, ("MEAN", "MUL", "CONV_2D")),
}


def random_weights(graph: Graph, seed: int = 0) -> dict[str, np.ndarray]:
    """Weights of a trained network's size: kernels scaled by their fan-in, slopes of either sign."""
    rng = np.random.default_rng(seed)
    scales = {
        name: (2 / np.prod(shape[:-1])) ** 0.5 if name.endswith("/kernel") else 0.5
        for name, shape in graph.parameter_shapes.items()
    }
    return {name: (rng.normal(size=s) * scales[name]).astype(np.float32) for name, s in graph.parameter_shapes.items()}


def random_member(seed: int) -> ArchSpec:
    """Return a network of the whole space; one seed is one network in every test, so that it is converted once."""
    rng = random.Random(seed)
    return load_space("mai21").sample(lambda _, values, __: rng.choice(values))


def spread_input(shape: Shape, span: float) -> np.ndarray:
    """Values around zero, wide enough to reach both ends of every activation where `span` is large."""
    return np.random.default_rng(1).uniform(-span, span, shape).astype(np.float32)


def built(case: Case) -> Graph:
    g = GraphBuilder(case.input_shape)
    case.build(g, case.op)
    return g.build()


def tflite(
    graph: Graph,
    weights: Mapping[str, np.ndarray],
    *,
    precision: str = "fp32",
    calibration: Sequence[np.ndarray] = (),
) -> bytes:
    """Return the file of a network; what a process of this test session has converted before is not converted again."""
    from search_spaces import lower_tf

    digest = sha256(repr((graph, precision, len(calibration), sorted(weights))).encode())
    for array in (*(weights[name] for name in sorted(weights)), *calibration):
        digest.update(np.ascontiguousarray(array))
    path = Path(os.environ["ISP_NAS_CACHE"]) / "converted by tests" / digest.hexdigest()
    if not path.exists():
        content = lower_tf.to_tflite(graph, weights, precision=precision, calibration=calibration)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, content)
    return path.read_bytes()
