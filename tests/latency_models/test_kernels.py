"""A graph becomes the kernels that a device runs."""

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latency_models.kernels import COMPUTING_CLASSES, MOVING_CLASSES, RULES, STEPS, Kernel, kernels
from search_spaces.activations import ACTIVATIONS, FUSED, TFLITE_OPS
from search_spaces.designs import DESIGNS
from search_spaces.errors import DeviceError
from search_spaces.graph import INPUT, Graph, GraphBuilder
from search_spaces.networks import build_graph
from search_spaces.ops import (
    OPS,
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
    Shape,
    Subtract,
    TransposeConv,
)
from search_spaces.space import load_space
from search_spaces.spec import ArchSpec

SMALL: Shape = (1, 8, 16, 4)
SPACE = load_space("mai21")
specs = st.builds(lambda data: SPACE.sample(lambda _, values, __: data.draw(st.sampled_from(values))), st.data())


def chain(*ops: Op) -> Graph:
    g = GraphBuilder(SMALL)
    x = INPUT
    for index, op in enumerate(ops):
        x = g.add(f"n{index}", op, x)
    return g.build()


def tflite_ops(graph: Graph) -> list[str]:
    return [kernel.tflite_op for kernel in kernels(graph)]


@pytest.mark.parametrize("op", OPS.values(), ids=OPS)
def test_every_operation_has_a_rule(op: type[Op]) -> None:
    assert (op in RULES) != (op in STEPS)


@pytest.mark.parametrize("function", ACTIVATIONS)
def test_every_activation_has_a_tflite_operation(function: str) -> None:
    assert tflite_ops(chain(DepthToSpace(2), Activation(function))) == ["DEPTH_TO_SPACE", TFLITE_OPS[function]]


def test_an_operation_without_a_rule_is_refused_by_name() -> None:
    @dataclass(frozen=True)
    class Blur(Op):
        kind = "blur"

        def output_shape(self, *inputs: Shape) -> Shape:
            return inputs[0]

    with pytest.raises(
        DeviceError,
        match=r'Node "n1" needs a latency rule for operation "blur"; rules exist for activation, add, affine',
    ):
        kernels(chain(Conv(4), Blur()))


@pytest.mark.parametrize("function", FUSED)
@pytest.mark.parametrize(
    ("op", "tflite_op"),
    [
        (Conv(8), "CONV_2D"),
        (Conv(8, 1), "CONV_2D"),
        (DepthwiseConv(3), "DEPTHWISE_CONV_2D"),
        (Pool("max"), "MAX_POOL_2D"),
        (Pool("average"), "AVERAGE_POOL_2D"),
        (Scale(), "MUL"),
    ],
)
def test_relu_costs_nothing_behind_a_convolution_a_pool_and_a_factor(op: Op, tflite_op: str, function: str) -> None:
    (kernel,) = kernels(chain(op, Activation(function)))
    assert kernel.tflite_op == tflite_op
    assert kernel.nodes == ("n0", "n1")
    assert kernel.fused == function
    assert kernel._replace(nodes=("n0",), makes="n0", fused="none") == kernels(chain(op))[0]


@pytest.mark.parametrize("op", [Add(), Subtract(), Multiply()], ids=["add", "subtract", "multiply"])
def test_relu_costs_nothing_behind_add_subtract_and_multiply(op: Op) -> None:
    g = GraphBuilder(SMALL)
    g.add("join", op, INPUT, g.add("mask", Conv(4), INPUT))
    g.add("relu", Activation("relu"), "join")
    assert [kernel.nodes for kernel in kernels(g.build())] == [("mask",), ("join", "relu")]


def test_relu_stays_an_operation_behind_transposed_convolution_concat_and_shuffle() -> None:
    assert tflite_ops(chain(TransposeConv(4), Activation("relu"))) == ["TRANSPOSE_CONV", "RELU"]
    assert tflite_ops(chain(DepthToSpace(2), Activation("relu6"))) == ["DEPTH_TO_SPACE", "RELU6"]
    g = GraphBuilder(SMALL)
    g.add("relu", Activation("relu"), g.add("concat", Concat(), INPUT, INPUT))
    assert tflite_ops(g.build()) == ["CONCATENATION", "RELU"]


@pytest.mark.parametrize("line", [Scale(), Affine(0.58, 0.5)], ids=["factor", "line"])
@pytest.mark.parametrize(
    "op", [Conv(4), DepthwiseConv(3), DepthwiseConv(3, use_bias=False), TransposeConv(4)], ids=lambda op: op.kind
)
def test_a_factor_or_line_costs_nothing_behind_a_linear_convolution(op: Op, line: Op) -> None:
    (kernel,) = kernels(chain(op, line))
    assert kernel.nodes == ("n0", "n1")
    assert kernel._replace(nodes=("n0",), makes="n0") == kernels(chain(op))[0]


def test_a_line_gives_a_transposed_convolution_the_bias_that_it_lacks() -> None:
    bare, factor, line = (
        kernels(chain(TransposeConv(3, use_bias=False), *after))[0] for after in ((), (Scale(),), (Affine(0.58, 0.5),))
    )
    assert (bare.version, bare.biased, bare.weight_elements) == (1, False, 108)
    assert (factor.version, factor.biased, factor.weight_elements) == (1, False, 108)
    assert (line.version, line.biased, line.weight_elements) == (3, True, 111)


def test_a_depthwise_convolution_always_has_a_bias_in_the_file() -> None:
    biased, bare = kernels(chain(DepthwiseConv(3)))[0], kernels(chain(DepthwiseConv(3, use_bias=False)))[0]
    assert biased == bare
    assert (bare.biased, bare.weight_elements) == (True, 40)


@pytest.mark.parametrize(
    ("op", "version"),
    [
        (Conv(4), 1),
        (DepthwiseConv(3), 1),
        (DepthwiseConv(3, dilation=2), 2),
        (TransposeConv(4), 3),
        (Resize(), 3),
        (Pool("max"), 1),
        (GlobalMean(), 1),
        (DepthToSpace(2), 1),
    ],
    ids=lambda value: getattr(value, "kind", str(value)),
)
def test_a_kernel_is_of_the_version_that_the_converter_writes(op: Op, version: int) -> None:
    assert kernels(chain(op))[0].version == version


def test_operations_of_one_kind_have_the_highest_version_among_them() -> None:
    # A file holds one code, with one version, per kind of operation.
    assert [k.version for k in kernels(chain(DepthwiseConv(3), DepthwiseConv(5, dilation=2), Conv(4)))] == [2, 2, 1]
    assert [k.version for k in kernels(chain(TransposeConv(4, use_bias=False), TransposeConv(3)))] == [3, 3]


def test_dilation_is_told() -> None:
    assert [kernel.dilation for kernel in kernels(chain(DepthwiseConv(5, dilation=2), DepthwiseConv(5)))] == [2, 1]


def test_a_map_that_is_read_twice_comes_from_memory_once() -> None:
    g = GraphBuilder(SMALL)
    g.add("square", Multiply(), INPUT, INPUT)
    (square,) = kernels(g.build())
    assert (square.reads, square.input_elements) == ((INPUT,), 512)


def test_a_factor_is_an_operation_behind_anything_else() -> None:
    assert tflite_ops(chain(Conv(4), Activation("relu"), Scale())) == ["CONV_2D", "MUL"]
    assert tflite_ops(chain(Activation("tanh"), Scale())) == ["TANH", "MUL"]
    g = GraphBuilder(SMALL)
    conv = g.add("conv", Conv(4), INPUT)
    g.add("sum", Add(), g.add("factor", Scale(), conv), conv)
    assert tflite_ops(g.build()) == ["CONV_2D", "MUL", "ADD"]


def test_a_line_is_a_product_and_a_sum() -> None:
    product, shift = kernels(chain(Activation("tanh"), Affine(0.58, 0.5), Activation("relu")))[1:]
    assert (product.name, product.nodes, product.tflite_op) == ("n1.scaled", (), "MUL")
    assert (shift.name, shift.nodes, shift.tflite_op) == ("n1.shifted", ("n1", "n2"), "ADD")
    assert (product.reads, shift.reads, shift.makes) == (("n0",), ("n1.scaled",), "n2")
    assert {(k.input_elements, k.output_elements, k.cls) for k in (product, shift)} == {(512, 512, "memory")}
    assert (product.weight_elements, shift.weight_elements) == (1, 4)
    assert (product.fused, shift.fused) == ("none", "relu")


def test_an_instance_norm_is_counted_by_hand() -> None:
    # 8×16×4: 512 values, 32 row means, 4 means; gamma and beta of 4 channels each.
    steps = kernels(chain(InstanceNorm(), Activation("relu6")))
    assert [(k.tflite_op, k.input_elements, k.output_elements, k.weight_elements) for k in steps] == [
        ("MEAN", 512, 32, 0),
        ("MEAN", 32, 4, 0),
        ("SUB", 516, 512, 0),
        ("MUL", 512, 512, 0),
        ("MEAN", 512, 32, 0),
        ("MEAN", 32, 4, 0),
        ("ADD", 4, 4, 1),
        ("RSQRT", 4, 4, 0),
        ("MUL", 4, 4, 4),
        ("MUL", 516, 512, 0),
        ("ADD", 512, 512, 4),
    ]
    assert [k.nodes for k in steps] == [*[()] * 10, ("n0", "n1")]
    assert [k.fused for k in steps] == [*["none"] * 10, "relu6"]


def test_pooling_and_enlarging_move_data() -> None:
    pool, resize = kernels(chain(Pool("max"), Resize()))
    assert (pool.cls, pool.tflite_op, pool.kernel, pool.stride) == ("memory", "MAX_POOL_2D", 2, 2)
    assert (pool.input_elements, pool.output_elements) == (512, 128)
    assert (resize.cls, resize.tflite_op) == ("memory", "RESIZE_BILINEAR")
    assert (resize.input_elements, resize.output_elements) == (128, 512)


def test_an_average_pool_has_its_own_operation() -> None:
    assert tflite_ops(chain(Pool("average"))) == ["AVERAGE_POOL_2D"]


def test_only_one_activation_fuses() -> None:
    assert tflite_ops(chain(Conv(4), Activation("relu"), Activation("relu6"))) == ["CONV_2D", "RELU6"]
    assert tflite_ops(chain(Conv(4), Activation("tanh"), Activation("relu"))) == ["CONV_2D", "TANH", "RELU"]


def test_relu_stays_an_operation_where_another_node_reads_the_map_before_it() -> None:
    g = GraphBuilder(SMALL)
    conv = g.add("conv", Conv(4), INPUT)
    g.add("sum", Add(), g.add("relu", Activation("relu"), conv), conv)
    assert tflite_ops(g.build()) == ["CONV_2D", "RELU", "ADD"]


def test_a_strided_convolution_is_counted_by_hand() -> None:
    # 8×16×4 → 4×8×6: 32 output pixels × 9 taps × 4 × 6 = 6912 MACs; 9 × 4 × 6 + 6 = 222 weights.
    counted = Kernel("n0", ("n0",), "conv", "CONV_2D", 6912, 512, 192, 222, 4, 6, 3, 2, 4, 8, (INPUT,), "n0")
    assert kernels(chain(Conv(6, 3, stride=2))) == (counted._replace(biased=True),)


def test_a_transposed_convolution_is_counted_by_hand() -> None:
    # 8×16×4 → 16×32×3: 128 input pixels × 9 × 4 × 3 = 13 824 MACs; 9 × 4 × 3 + 3 = 111 weights.
    counted = Kernel(
        "n0", ("n0",), "transpose_conv", "TRANSPOSE_CONV", 13824, 512, 1536, 111, 4, 3, 3, 2, 16, 32, (INPUT,), "n0"
    )
    assert kernels(chain(TransposeConv(3))) == (counted._replace(biased=True, version=3),)


def test_memory_kernels_count_every_input() -> None:
    g = GraphBuilder(SMALL)
    gate = g.add("mean", GlobalMean(), INPUT)
    g.add("concat", Concat(), g.add("gated", Multiply(), INPUT, gate), INPUT)
    mean, gated, concat = kernels(g.build())
    assert (mean.input_elements, mean.output_elements) == (512, 4)
    assert (gated.input_elements, gated.output_elements) == (516, 512)
    assert (concat.input_elements, concat.output_elements, concat.cout) == (1024, 1024, 8)
    assert {kernel.cls for kernel in (mean, gated, concat)} == {"memory"}


def test_a_kernel_reads_what_its_first_node_reads_and_makes_the_map_of_its_last() -> None:
    g = GraphBuilder(SMALL)
    conv = g.add("conv", Conv(4), INPUT)
    g.add("relu", Activation("relu"), g.add("sum", Add(), conv, INPUT))
    assert [(kernel.reads, kernel.makes) for kernel in kernels(g.build())] == [
        ((INPUT,), "conv"),
        (("conv", INPUT), "relu"),
    ]


def test_prelu_slopes_are_weights() -> None:
    assert kernels(chain(Activation("prelu")))[0].weight_elements == 4


def test_a_batch_multiplies_work_and_maps_but_not_weights() -> None:
    one, two = kernels(chain(Conv(6)))[0], kernels(chain(Conv(6)).at((2, 8, 16, 4)))[0]
    assert (two.macs, two.input_elements, two.output_elements) == (2 * one.macs, 1024, 2 * one.output_elements)
    assert two.weight_elements == one.weight_elements


def test_smallnet_is_five_kernels() -> None:
    assert tflite_ops(build_graph(DESIGNS["smallnet"].spec)) == [
        "CONV_2D",
        "TANH",
        "CONV_2D",
        "CONV_2D",
        "DEPTH_TO_SPACE",
    ]


def constants_beside_parameters(graph: Graph, parts: tuple[Kernel, ...]) -> int:
    """Biases of zeros, numbers of a line, a norm's epsilon; less the factors that vanish in a convolution's kernel."""
    ops = {node.name: node.op for node in graph.nodes}
    worked_in = {name for part in parts for name in part.nodes[1:]}
    extra = {
        Affine: lambda name: 1 + graph.shapes[name][3],
        InstanceNorm: lambda _: 1,
        Scale: lambda name: -1 if name in worked_in else 0,
    }
    extra |= {DepthwiseConv: lambda name: 0 if ops[name].use_bias else graph.shapes[name][3]}
    return sum(extra[type(op)](name) for name, op in ops.items() if type(op) in extra)


@settings(deadline=None, max_examples=50)
@given(specs)
def test_kernels_hold_every_node_once_and_all_work_of_any_member(spec: ArchSpec) -> None:
    graph = build_graph(spec, (1, 16, 32, 4))
    parts = kernels(graph)
    assert sorted(name for part in parts for name in part.nodes) == sorted(node.name for node in graph.nodes)
    made = {INPUT}
    for part in parts:
        assert made.issuperset(part.reads), part
        made.add(part.makes)
    assert graph.output in made
    assert sum(part.macs for part in parts) == graph.macs
    assert sum(part.weight_elements for part in parts) == graph.parameters + constants_beside_parameters(graph, parts)
    assert all(part.cls in (*COMPUTING_CLASSES, *MOVING_CLASSES) for part in parts)
    assert all((part.macs > 0) == (part.cls in COMPUTING_CLASSES) for part in parts)
