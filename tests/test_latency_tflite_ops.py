"""The kernels that are priced are the operations of the exported file. Needs TensorFlow's converter (seconds)."""

import importlib
from collections import Counter
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from latency_models.device import load_device
from latency_models.features import ACTIVATION_OPS, kernels
from search_spaces.designs import DESIGNS
from search_spaces.networks import build_graph
from search_spaces.spec import ArchSpec
from search_spaces.tflite_file import op_counts, read_ops

SIZE = (1, 32, 32, 4)
# Every activation once, and over all of them every block, attention, skip and upsampler.
SPECS = {
    **{name: design.spec for name, design in DESIGNS.items()},
    "relu": ArchSpec(depth=1, block="residual", attention="dual", output_upsampler="transposed", refine_width=4),
    "relu6": ArchSpec(activation="relu6", output_upsampler="transposed", refine_width=4, output_activation="sigmoid"),
    "leaky_relu": ArchSpec(activation="leaky_relu", stem_depth=2, stem_activation="leaky_relu", attention="spatial"),
    "prelu": ArchSpec(activation="prelu", stem_activation="prelu", depth=2, block="residual", attention="channel"),
    "tanh": ArchSpec(activation="tanh", scale=4, body_upsampler="depth_to_space", long_skip="concat"),
    "elu": ArchSpec(activation="elu", scale=4, body_upsampler="transposed", block="expanded", long_skip="add"),
    "hard_swish": ArchSpec(activation="hard_swish", block="expanded", attention="spatial", refine_width=8),
    "transposed": ArchSpec(scale=4, depth=0, output_upsampler="transposed", output_activation="relu"),
}


# What the conditions in the device's file allow, operation by operation.
HIGHEST_VERSION = {"CONV_2D": 3, "TRANSPOSE_CONV": 3, "MEAN": 2, "LEAKY_RELU": 1, "PRELU": 1}


@pytest.fixture(scope="module")
def exported() -> Callable[[str], bytes]:
    lower_tf = importlib.import_module("search_spaces.lower_tf")

    @cache
    def export(name: str) -> bytes:
        graph = build_graph(SPECS[name], SIZE)
        rng = np.random.default_rng(0)
        weights = {k: rng.normal(size=shape).astype(np.float32) for k, shape in graph.parameter_shapes.items()}
        content: bytes = lower_tf.to_tflite(graph, weights)
        return content

    return export


@pytest.mark.parametrize("name", SPECS)
def test_kernels_are_the_operations_of_the_exported_file(name: str, exported: Callable[[str], bytes]) -> None:
    counted = Counter(kernel.tflite_op for kernel in kernels(build_graph(SPECS[name], SIZE)))
    assert dict(counted) == op_counts(exported(name))


@pytest.mark.parametrize("name", SPECS)
def test_exported_operations_meet_the_delegates_conditions(name: str, exported: Callable[[str], bytes]) -> None:
    for op in read_ops(exported(name)):
        assert op.version <= HIGHEST_VERSION.get(op.name, op.version), op
        assert op.name not in ("CONCATENATION", "TRANSPOSE_CONV") or op.fused_activation == "none", op


def test_the_specs_above_hold_every_activation_that_stands_alone() -> None:
    used = {kernel.tflite_op for spec in SPECS.values() for kernel in kernels(build_graph(spec, SIZE))}
    assert set(ACTIVATION_OPS.values()) <= used


def test_the_operations_that_a_device_accepts_exist_in_tflite() -> None:
    operators = vars(importlib.import_module("ai_edge_litert.schema_py_generated").BuiltinOperator)
    assert [op for op in load_device("dimensity-1000-plus").supported_ops if op not in operators] == []
