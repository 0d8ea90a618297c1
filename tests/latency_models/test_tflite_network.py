"""Any .tflite file of known operations becomes the kernels that a device runs, whoever made the file."""

import subprocess
import sys
from contextlib import suppress
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from litert_reading import Build, litert, written
from tflite_builder import FileBuilder
from tflite_samples import CONV, MAP, POOL, sample

from latency_models.delegate import TRAITS
from latency_models.kernels import COMPUTING_CLASSES, MOVING_CLASSES, Kernel
from latency_models.tflite_network import read_network
from latency_models.tflite_rules import RULES
from search_spaces.errors import DeviceError, ExportError, IspNasError
from search_spaces.graph import INPUT
from search_spaces.tflite_file import read_graph


def kernels(build: Build) -> tuple[Kernel, ...]:
    return read_network(written(build)).kernels


# Every operation


@pytest.mark.parametrize("name", RULES)
def test_every_operation_is_one_kernel_of_the_size_that_litert_makes(name: str) -> None:
    content = sample(name)
    (kernel,) = read_network(content).kernels
    runtime = litert(content)
    runtime.allocate_tensors()
    (made, *_) = runtime.get_output_details()
    outputs = len(read_graph(content).nodes[0].outputs)
    assert kernel.tflite_op == name
    assert kernel.cls in (*COMPUTING_CLASSES, *MOVING_CLASSES)
    assert (kernel.macs > 0) == (kernel.cls in COMPUTING_CLASSES)
    assert kernel.output_elements == prod(made["shape"]) * outputs
    assert kernel.makes_dtype == np.dtype(made["dtype"]).name


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "float16"])
def test_maps_of_every_type_are_told(dtype: str) -> None:
    (kernel,) = read_network(sample("ADD", dtype)).kernels
    assert (kernel.dtype, kernel.makes_dtype, kernel.traits) == (dtype, dtype, ())


def test_what_changes_the_type_tells_both() -> None:
    (to_eight_bits,), (to_floats,) = (read_network(sample(name)).kernels for name in ("QUANTIZE", "DEQUANTIZE"))
    assert (to_eight_bits.dtype, to_eight_bits.makes_dtype) == ("float32", "int8")
    assert (to_floats.dtype, to_floats.makes_dtype) == ("int8", "float32")


# Counted by hand


def convolution(*weights: int, maps: tuple[int, ...] = MAP, **options: int) -> Build:
    shape = (1, *(-(-size // options.get("strideH", 1)) for size in maps[1:3]), weights[0])
    return lambda b: b.op(
        "CONV_2D", [b.input(*maps), b.weights(*weights), b.weights(weights[0])], shape, options={**CONV, **options}
    )


def test_a_convolution_is_counted_by_hand() -> None:
    # 4×6 → 2×3: 6 output pixels × 3×3 taps × 8 × 5 = 2160 MACs; 3×3×8×5 + 5 = 365 weights.
    (kernel,) = kernels(convolution(5, 3, 3, 8, strideH=2, strideW=2, fusedActivationFunction=3))
    assert kernel == Kernel(
        "t3",
        ("t3",),
        "conv",
        "CONV_2D",
        2160,
        192,
        30,
        365,
        8,
        5,
        3,
        2,
        2,
        3,
        (INPUT,),
        "t3",
        biased=True,
        fused="relu6",
    )


def test_groups_dilation_and_oblong_taps_are_told() -> None:
    (grouped,), (dilated,), (oblong,), (pointwise,) = (
        kernels(convolution(6, 3, 3, 4)),
        kernels(convolution(5, 3, 3, 8, dilationHFactor=2, dilationWFactor=2)),
        kernels(convolution(5, 1, 7, 8)),
        kernels(convolution(5, 1, 1, 8)),
    )
    assert (grouped.groups, grouped.macs, grouped.cin) == (2, 24 * 9 * 4 * 6, 8)
    assert (dilated.dilation, dilated.macs) == (2, 24 * 9 * 8 * 5)
    assert (oblong.kernel, oblong.macs, oblong.cls) == (3, 24 * 7 * 8 * 5, "conv")
    assert (pointwise.kernel, pointwise.cls) == (1, "conv_1x1")


def test_a_depthwise_convolution_is_counted_by_hand() -> None:
    # 24 pixels × 9 taps × 8 channels; 9 × 8 + 8 = 80 weights.
    (kernel,) = read_network(sample("DEPTHWISE_CONV_2D")).kernels
    assert (kernel.cls, kernel.macs, kernel.weight_elements, kernel.kernel) == ("depthwise", 1728, 80, 3)


def test_a_transposed_convolution_is_counted_by_hand() -> None:
    # 24 input pixels × 9 taps × 8 × 5; 9 × 8 × 5 + 5 = 365 weights, the output's shape is none of them.
    (kernel,) = read_network(sample("TRANSPOSE_CONV")).kernels
    assert (kernel.macs, kernel.weight_elements, kernel.biased, kernel.version) == (8640, 365, True, 3)
    assert (kernel.cin, kernel.cout, kernel.stride, kernel.height, kernel.width) == (8, 5, 2, 8, 12)


def test_a_fully_connected_layer_has_no_sides() -> None:
    (kernel,) = read_network(sample("FULLY_CONNECTED")).kernels
    assert (kernel.cls, kernel.macs, kernel.weight_elements) == ("fully_connected", 3 * 8 * 5, 45)
    assert (kernel.height, kernel.width, kernel.cin, kernel.cout, kernel.rank) == (1, 1, 8, 5, 2)


def test_a_fully_connected_layer_sums_all_values_of_a_map() -> None:
    (kernel,) = kernels(lambda b: b.op("FULLY_CONNECTED", [b.input(1, 2, 3, 4), b.weights(5, 24), -1], (1, 5)))
    assert (kernel.macs, kernel.cin, kernel.biased, kernel.weight_elements) == (120, 24, False, 120)


@pytest.mark.parametrize("adjoint", [False, True])
def test_a_product_of_maps_is_counted_by_hand(adjoint: bool) -> None:
    left = (2, 8, 3) if adjoint else (2, 3, 8)
    (kernel,) = kernels(
        lambda b: b.op("BATCH_MATMUL", [b.input(*left), b.input(2, 8, 5)], (2, 3, 5), options={"adjX": adjoint})
    )
    assert (kernel.macs, kernel.cin, kernel.cout, kernel.weight_elements) == (2 * 3 * 8 * 5, 8, 5, 0)


def test_a_pool_tells_window_and_stride() -> None:
    (kernel,) = kernels(lambda b: b.op("MAX_POOL_2D", [b.input(*MAP)], (1, 2, 3, 8), options=POOL))
    assert (kernel.cls, kernel.macs, kernel.kernel, kernel.stride) == ("memory", 0, 2, 2)


def test_constants_of_elementwise_operations_are_weights_and_shapes_are_none() -> None:
    added, padded, scaled = kernels(
        lambda b: b.op(
            "MUL",
            [
                b.constant(2.0),
                b.op(
                    "PAD",
                    [b.op("ADD", [b.input(*MAP), b.weights(8)], MAP), b.numbers(0, 0, 1, 1, 1, 1, 0, 0)],
                    (1, 6, 8, 8),
                ),
            ],
            (1, 6, 8, 8),
        )
    )
    assert [kernel.weight_elements for kernel in (added, padded, scaled)] == [8, 0, 1]
    assert (scaled.input_elements, scaled.cin) == (384, 8)


def test_padding_before_a_convolution_stays_a_kernel() -> None:
    def build(b: FileBuilder) -> object:
        padded = b.op("PAD", [b.input(*MAP), b.constant([[0, 0], [1, 1], [1, 1], [0, 0]], "int32")], (1, 6, 8, 8))
        return b.op(
            "CONV_2D", [padded, b.weights(5, 3, 3, 8), b.weights(5)], (1, 4, 6, 5), options={**CONV, "padding": 1}
        )

    assert [kernel.tflite_op for kernel in kernels(build)] == ["PAD", "CONV_2D"]


def test_half_precision_weights_are_neither_kernel_nor_traffic() -> None:
    def build(b: FileBuilder) -> object:
        weights = b.op("DEQUANTIZE", [b.weights(5, 3, 3, 8, dtype="float16")], (5, 3, 3, 8))
        bias = b.op("DEQUANTIZE", [b.weights(5, dtype="float16")], (5,))
        return b.op("CONV_2D", [b.input(*MAP), weights, bias], (1, 4, 6, 5), options=CONV)

    (kernel,) = kernels(build)
    (single,) = kernels(convolution(5, 3, 3, 8))
    assert replaced(kernel) == replaced(single)
    assert kernel.traits == ()


def replaced(kernel: Kernel) -> Kernel:
    return kernel._replace(name="", nodes=(), makes="")


def test_dequantising_a_map_is_a_kernel() -> None:
    assert [kernel.tflite_op for kernel in read_network(sample("DEQUANTIZE")).kernels] == ["DEQUANTIZE"]


# Names and wires


def test_who_reads_any_part_of_a_split_reads_the_split() -> None:
    def build(b: FileBuilder) -> object:
        first = b.op(
            "SPLIT", [b.constant(3, "int32"), b.input(*MAP)], (1, 4, 6, 4), options={"numSplits": 2}, outputs=2
        )
        return b.op("TANH", [first + 1], (1, 4, 6, 4))

    split, tanh = kernels(build)
    assert tanh.reads == (split.makes,)
    assert split.output_elements == 192


def test_maps_of_one_name_or_none_are_told_apart() -> None:
    def build(b: FileBuilder) -> object:
        x = b.input(*MAP)
        for name in ("same", "same", "", INPUT):
            x = b.op("TANH", [x], MAP)
            b.graph.tensors[x].name = name.encode()
        return x

    read = kernels(build)
    assert len({kernel.name for kernel in read}) == len({kernel.makes for kernel in read}) == 4
    assert [kernel.reads for kernel in read] == [(INPUT,), *((kernel.makes,) for kernel in read[:3])]


def test_several_inputs_and_outputs_are_counted() -> None:
    b = FileBuilder()
    total = b.op("ADD", [b.input(*MAP), b.input(*MAP)], MAP)
    network = read_network(b.file(total, b.op("TANH", [total], MAP)))
    assert (network.input_elements, network.output_elements) == (384, 384)
    assert network.kernels[0].reads == ("t0", "t1")


# What is out of the ordinary

ODDITIES: dict[str, Build] = {
    "align_corners": lambda b: b.op(
        "RESIZE_BILINEAR", [b.input(*MAP), b.numbers(8, 12)], (1, 8, 12, 8), options={"alignCorners": True}
    ),
    "half_pixel_centers": lambda b: b.op(
        "RESIZE_BILINEAR", [b.input(*MAP), b.numbers(8, 12)], (1, 8, 12, 8), version=3,
        options={"halfPixelCenters": True},
    ),
    "beta": lambda b: b.op("SOFTMAX", [b.input(*MAP)], MAP, options={"beta": 2.0}),
    "crops": lambda b: b.op(
        "BATCH_TO_SPACE_ND", [b.input(4, 4, 6, 8), b.numbers(2, 2), b.constant([[0, 1], [0, 0]], "int32")],
        (1, 7, 12, 8),
    ),
    "depth_multiplier": lambda b: b.op(
        "DEPTHWISE_CONV_2D", [b.input(*MAP), b.weights(1, 3, 3, 16), b.weights(16)], (1, 4, 6, 16),
        options={**CONV, "depthMultiplier": 2},
    ),
    "dynamic_shape": lambda b: b.op("RESIZE_BILINEAR", [b.input(*MAP), b.input(2, dtype="int32")], (1, 8, 12, 8)),
    "dynamic_weights": lambda b: b.op(
        "CONV_2D", [b.input(*MAP), b.input(5, 3, 3, 8), b.weights(5)], (1, 4, 6, 5), options=CONV
    ),
    "hybrid": lambda b: b.op("FULLY_CONNECTED", [b.input(3, 8), b.weights(5, 8, dtype="int8"), b.weights(5)], (3, 5)),
    "keep_num_dims": lambda b: b.op(
        "FULLY_CONNECTED", [b.input(1, 3, 8), b.weights(5, 8), b.weights(5)], (1, 3, 5), options={"keepNumDims": True}
    ),
    "last_axis": lambda b: b.op(
        "PACK", [b.input(4, 6), b.input(4, 6)], (4, 6, 2), options={"axis": -1, "valuesCount": 2}
    ),
    "many_parts": lambda b: b.op(
        "SPLIT", [b.constant(3, "int32"), b.input(1, 4, 6, 10)], (1, 4, 6, 2), options={"numSplits": 5}, outputs=5
    ),
    "masks": lambda b: b.op(
        "STRIDED_SLICE", [b.input(*MAP), b.numbers(0, 0, 0, 0), b.numbers(1, 4, 6, 8), b.numbers(1, 1, 1, 1)],
        (4, 6, 8), options={"shrinkAxisMask": 1},
    ),
    "rescales": lambda b: b.op(
        "MEAN", [b.input(*MAP, dtype="int8", scale=0.25), b.numbers(1, 2)], (1, 1, 1, 8), dtype="int8",
        options={"keepDims": True},
    ),
    "scalar": lambda b: b.op("SUM", [b.input(3), b.numbers(0)], ()),
    "scale_product": lambda b: b.op(
        "CONV_2D",
        [b.input(*MAP, dtype="uint8"), b.weights(5, 3, 3, 8, dtype="uint8", scale=2.0), b.constant([0] * 5, "int32")],
        (1, 4, 6, 5), dtype="uint8", options=CONV,
    ),
    "single_pixel_pool": lambda b: b.op(
        "MAX_POOL_2D", [b.input(*MAP)], (1, 2, 3, 8), options={**POOL, "filterHeight": 1, "filterWidth": 1}
    ),
    "strided": lambda b: b.op(
        "STRIDED_SLICE", [b.input(*MAP), b.numbers(0, 0, 0, 0), b.numbers(1, 4, 6, 8), b.numbers(1, 2, 1, 1)],
        (1, 2, 6, 8),
    ),
    "symmetric": lambda b: b.op(
        "MIRROR_PAD", [b.input(*MAP), b.constant([[0, 0], [1, 1], [1, 1], [0, 0]], "int32")], (1, 6, 8, 8),
        options={"mode": 1},
    ),
}  # fmt: skip


@pytest.mark.parametrize("trait", TRAITS)
def test_every_oddity_that_a_delegate_may_refuse_is_seen(trait: str) -> None:
    assert kernels(ODDITIES[trait])[-1].traits == (trait,)


# Refused


def test_an_operation_without_a_rule_is_named_with_its_map_and_what_to_do() -> None:
    with pytest.raises(
        DeviceError,
        match=r'SEGMENT_SUM, which makes "t1", is none of those that can be priced',
    ):
        kernels(lambda b: b.op("SEGMENT_SUM", [b.input(*MAP)], MAP))


def test_a_custom_operation_is_refused_by_its_own_name() -> None:
    with pytest.raises(DeviceError, match='Operation CUSTOM "FlexErf", which makes "t1"'):
        kernels(lambda b: b.op("CUSTOM", [b.input(*MAP)], MAP, custom="FlexErf"))


@pytest.mark.parametrize("name", ["WHILE", "IF", "CALL_ONCE"])
def test_a_call_of_another_subgraph_is_refused(name: str) -> None:
    with pytest.raises(DeviceError, match=rf'{name} "t1" runs another subgraph.* without loops and branches'):
        kernels(lambda b: b.op(name, [b.input(*MAP)], MAP))


def test_other_subgraphs_are_not_read() -> None:
    def build(b: FileBuilder) -> object:
        other = FileBuilder()
        other.op("CUSTOM", [other.input(*MAP)], MAP, custom="never run")
        b.model.subgraphs.append(other.graph)
        return b.op("TANH", [b.input(*MAP)], MAP)

    assert [kernel.tflite_op for kernel in kernels(build)] == ["TANH"]


def test_an_operation_of_a_later_schema_is_refused_by_number() -> None:
    def build(b: FileBuilder) -> object:
        made = b.op("TANH", [b.input(*MAP)], MAP)
        b.model.operatorCodes[0].builtinCode = 5000
        return made

    with pytest.raises(DeviceError, match="Operation OPERATOR_5000"):
        kernels(build)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a zip archive", b"\x89PNG\r\n\x1a\n" + bytes(64)])
def test_other_files_are_refused(content: bytes) -> None:
    with pytest.raises(ExportError, match=r"not a \.tflite file: the identifier TFL3 is missing"):
        read_network(content)


def test_a_convolution_whose_weights_are_no_kernel_is_damage() -> None:
    with pytest.raises(ExportError, match="a CONV_2D whose input 1 has 1 dimensions, not 4"):
        kernels(lambda b: b.op("CONV_2D", [b.input(*MAP), b.weights(5), b.weights(5)], (1, 4, 6, 5), options=CONV))


def test_a_map_that_is_read_before_it_is_made_is_damage() -> None:
    def build(b: FileBuilder) -> object:
        x = b.input(*MAP)
        return b.op("TANH", [b.op("TANH", [x + 2], MAP)], MAP)

    with pytest.raises(ExportError, match=r"is damaged \(a TANH reads what no earlier operation makes"):
        kernels(build)


WHOLE = written(convolution(5, 3, 3, 8))


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_a_truncated_file_is_refused_in_one_sentence(share: float) -> None:
    with pytest.raises(ExportError, match=r"is damaged .*; make or fetch it again"):
        read_network(WHOLE[: int(len(WHOLE) * share)])


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_a_damaged_file_is_read_or_refused_and_never_crashes(data: st.DataObject) -> None:
    content = bytearray(WHOLE)
    for place in data.draw(st.lists(st.integers(8, len(WHOLE) - 1), min_size=1, max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    with suppress(IspNasError):
        read_network(bytes(content))


def test_a_file_of_fixed_sizes_takes_its_own_shape_alone() -> None:
    assert read_network(WHOLE, MAP) == read_network(WHOLE)
    with pytest.raises(DeviceError, match="give a shape that fits"):
        read_network(WHOLE, (1, 8, 12, 8))


def test_reading_loads_no_runtime() -> None:
    script = (
        "import sys; from pathlib import Path; from latency_models.tflite_network import read_network; "
        "read_network(sys.stdin.buffer.read()); "
        "print({'tensorflow', 'jax', 'ai_edge_litert.interpreter', 'ai_edge_litert.compiled_model'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], input=WHOLE, capture_output=True, check=True)
    assert done.stdout.decode().strip() == "set()"
