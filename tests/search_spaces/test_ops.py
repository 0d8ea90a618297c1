"""Every operation says what comes out, what it learns and what it costs; the figures here are counted by hand."""

import json
from dataclasses import dataclass

import pytest

from search_spaces.activations import ACTIVATIONS
from search_spaces.errors import GraphError, UnknownNameError
from search_spaces.ops import (
    OPS,
    POOLS,
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
    ParameterShapes,
    Pool,
    Resize,
    Scale,
    Shape,
    Subtract,
    TransposeConv,
    op_from_dict,
)

MAP: Shape = (1, 6, 10, 4)


@dataclass(frozen=True)
class Case:
    op: Op
    inputs: tuple[Shape, ...]
    output: Shape
    parameters: ParameterShapes
    macs: int


CASES = {
    "conv 3×3": Case(Conv(8), (MAP,), (1, 6, 10, 8), {"kernel": (3, 3, 4, 8), "bias": (8,)}, 17_280),
    "conv 1×1": Case(Conv(2, 1), ((1, 1, 1, 32),), (1, 1, 1, 2), {"kernel": (1, 1, 32, 2), "bias": (2,)}, 64),
    "conv, even size halved": Case(
        Conv(8, 5, stride=2), (MAP,), (1, 3, 5, 8), {"kernel": (5, 5, 4, 8), "bias": (8,)}, 12_000
    ),
    "conv, odd size halved": Case(
        Conv(8, 3, stride=2), ((1, 7, 9, 4),), (1, 4, 5, 8), {"kernel": (3, 3, 4, 8), "bias": (8,)}, 5_760
    ),
    "depthwise, dilated": Case(
        DepthwiseConv(5, dilation=2),
        ((1, 6, 10, 32),),
        (1, 6, 10, 32),
        {"kernel": (5, 5, 1, 32), "bias": (32,)},
        48_000,
    ),
    "depthwise without bias": Case(DepthwiseConv(3, use_bias=False), (MAP,), MAP, {"kernel": (3, 3, 1, 4)}, 2_160),
    "transposed": Case(TransposeConv(3), ((1, 4, 5, 8),), (1, 8, 10, 3), {"kernel": (3, 3, 3, 8), "bias": (3,)}, 4_320),
    "transposed without bias": Case(
        TransposeConv(2, 5, stride=4, use_bias=False), ((1, 4, 5, 8),), (1, 16, 20, 2), {"kernel": (5, 5, 2, 8)}, 8_000
    ),
    "depth to space by 2": Case(DepthToSpace(), ((2, 4, 5, 12),), (2, 8, 10, 3), {}, 0),
    "depth to space by 3": Case(DepthToSpace(3), ((1, 4, 5, 9),), (1, 12, 15, 1), {}, 0),
    **{f: Case(Activation(f), (MAP,), MAP, {"alpha": (4,)} if f == "prelu" else {}, 0) for f in ACTIVATIONS},
    **{f"{f} pool": Case(Pool(f), ((2, 6, 10, 4),), (2, 3, 5, 4), {}, 0) for f in POOLS},
    "resize": Case(Resize(), ((2, 6, 10, 4),), (2, 12, 20, 4), {}, 0),
    "affine": Case(Affine(0.5, -2.0), (MAP,), MAP, {}, 0),
    "scale": Case(Scale(), (MAP,), MAP, {"factor": (1,)}, 0),
    "instance norm": Case(InstanceNorm(), ((2, 6, 10, 5),), (2, 6, 10, 5), {"gamma": (5,), "beta": (5,)}, 0),
    "add": Case(Add(), (MAP, MAP), MAP, {}, 0),
    "subtract": Case(Subtract(), (MAP, MAP), MAP, {}, 0),
    "multiply by a map": Case(Multiply(), (MAP, MAP), MAP, {}, 0),
    "multiply by one value per channel": Case(Multiply(), (MAP, (1, 1, 1, 4)), MAP, {}, 0),
    "concat of three": Case(Concat(), (MAP, (1, 6, 10, 7), MAP), (1, 6, 10, 15), {}, 0),
    "global mean": Case(GlobalMean(), ((3, 6, 10, 4),), (3, 1, 1, 4), {}, 0),
}

# (operation, its inputs, what the refusal must say)
REFUSALS = {
    "conv of nothing": (Conv(8), (), "conv takes one input, got 0"),
    "conv of two maps": (Conv(8), (MAP, MAP), "conv takes one input, got 2"),
    "depthwise of two maps": (DepthwiseConv(), (MAP, MAP), "depthwise_conv takes one input, got 2"),
    "transposed of two maps": (TransposeConv(3), (MAP, MAP), "transpose_conv takes one input, got 2"),
    "activation of two maps": (Activation("relu"), (MAP, MAP), "activation takes one input, got 2"),
    "mean of two maps": (GlobalMean(), (MAP, MAP), "global_mean takes one input, got 2"),
    "shuffle of too few channels": (DepthToSpace(3), (MAP,), r"channels divisible by 9, got 4"),
    "shuffle of two maps": (DepthToSpace(), (MAP, MAP), "depth_to_space takes one input, got 2"),
    "pool of two maps": (Pool("max"), (MAP, MAP), "pool takes one input, got 2"),
    "pool of an odd height": (Pool("max"), ((1, 7, 10, 4),), "pool needs even sides, got 7×10"),
    "pool of an odd width": (Pool("average"), ((1, 6, 9, 4),), "pool needs even sides, got 6×9"),
    "resize of two maps": (Resize(), (MAP, MAP), "resize takes one input, got 2"),
    "affine of two maps": (Affine(1.0, 0.0), (MAP, MAP), "affine takes one input, got 2"),
    "scale of two maps": (Scale(), (MAP, MAP), "scale takes one input, got 2"),
    "norm of two maps": (InstanceNorm(), (MAP, MAP), "instance_norm takes one input, got 2"),
    "sum of one": (Add(), (MAP,), "add takes two inputs, got 1"),
    "sum of two sizes": (Add(), (MAP, (1, 6, 9, 4)), r"one shape, got \(1, 6, 10, 4\) and \(1, 6, 9, 4\)"),
    "difference of one": (Subtract(), (MAP,), "subtract takes two inputs, got 1"),
    "difference of two sizes": (Subtract(), (MAP, (1, 1, 1, 4)), r"one shape, got \(1, 6, 10, 4\) and \(1, 1, 1, 4\)"),
    "product of three": (Multiply(), (MAP, MAP, MAP), "multiply takes two inputs, got 3"),
    "product with other channels": (Multiply(), (MAP, (1, 1, 1, 3)), r"or \(1, 1, 1, 4\), got \(1, 1, 1, 3\)"),
    "concat of one": (Concat(), (MAP,), r"two or more maps of one size, got \[\(1, 6, 10, 4\)\]"),
    "concat of two sizes": (Concat(), (MAP, (1, 3, 5, 4)), "two or more maps of one size"),
}


def test_every_operation_activation_and_pool_is_counted_and_can_refuse() -> None:
    assert {type(case.op) for case in CASES.values()} == set(OPS.values())
    assert {type(op) for op, _, _ in REFUSALS.values()} == set(OPS.values())
    assert {case.op.function for case in CASES.values() if isinstance(case.op, Activation)} == set(ACTIVATIONS)
    assert {case.op.function for case in CASES.values() if isinstance(case.op, Pool)} == set(POOLS)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_shapes_parameters_and_macs_are_those_counted_by_hand(case: Case) -> None:
    assert case.op.output_shape(*case.inputs) == case.output
    assert case.op.parameter_shapes(*case.inputs) == case.parameters
    assert case.op.macs(*case.inputs) == case.macs


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_an_operation_survives_json(case: Case) -> None:
    assert op_from_dict(json.loads(json.dumps(case.op.to_dict()))) == case.op


@pytest.mark.parametrize(("op", "inputs", "complaint"), REFUSALS.values(), ids=REFUSALS)
def test_inputs_that_do_not_fit_are_refused(op: Op, inputs: tuple[Shape, ...], complaint: str) -> None:
    with pytest.raises(GraphError, match=complaint):
        op.output_shape(*inputs)


def test_an_unknown_activation_names_the_nearest_one() -> None:
    with pytest.raises(UnknownNameError, match=r'Unknown activation "relu7".*Did you mean "relu'):
        Activation("relu7")


def test_an_unknown_pool_names_the_nearest_one() -> None:
    with pytest.raises(UnknownNameError, match=r'Unknown pool "averge"; known: average, max\. Did you mean "average"'):
        Pool("averge")


def test_a_refused_scale_asks_for_no_parameters() -> None:
    with pytest.raises(GraphError, match="scale takes one input, got 2"):
        Scale().parameter_shapes(MAP, MAP)


def test_an_unknown_operation_names_the_nearest_one() -> None:
    with pytest.raises(UnknownNameError, match=r'Unknown operation "convv".*Did you mean "conv"'):
        op_from_dict({"kind": "convv", "filters": 8})


def test_an_operation_without_a_kind_is_unknown() -> None:
    with pytest.raises(UnknownNameError, match="Unknown operation"):
        op_from_dict({"filters": 8})
