"""A file's maps are called as the network's nodes, so that a phone's profile can be read."""

import numpy as np
import pytest
from lowering_cases import random_weights

from search_spaces import lower_tf
from search_spaces.designs import DESIGNS
from search_spaces.graph import INPUT
from search_spaces.networks import build_graph
from search_spaces.tflite_file import FileGraph, read_graph

SIDE = 32


def converted(name: str, precision: str, io: str | None = None) -> FileGraph:
    graph = build_graph(DESIGNS[name].spec, (1, SIDE, SIDE, 4))
    x = np.random.default_rng(0).random((2, 1, SIDE, SIDE, 4), np.float32)
    return read_graph(lower_tf.to_tflite(graph, random_weights(graph), precision=precision, io=io, calibration=x))


def test_a_map_has_the_name_of_the_last_node_that_was_fused_into_it() -> None:
    made = [converted("smallnet", "int8").tensors[n.outputs[0]].name for n in converted("smallnet", "int8").nodes]
    assert made == ["stem1", "stem1.tanh", "block1.conv.relu", "head.relu", "shuffle"]


@pytest.mark.parametrize("io", [None, "uint8", "float32"])
def test_input_and_output_are_called_after_the_ends_of_the_network_whatever_their_type(io: str | None) -> None:
    file = converted("smallnet", "int8", io)
    assert [file.tensors[index].name for index in (*file.inputs, *file.outputs)] == [INPUT, "shuffle"]


@pytest.mark.parametrize("precision", ["fp16", "int8", "int16"])
@pytest.mark.parametrize("name", ["csanet", "enerzai-esrgan", "eds"])
def test_every_name_is_one_maps_and_every_node_that_can_be_read_is_there(name: str, precision: str) -> None:
    file = converted(name, precision)
    names = [tensor.name for tensor in file.tensors]
    assert len(set(names)) == len(names)
    nodes = [node.name for node in build_graph(DESIGNS[name].spec, (1, SIDE, SIDE, 4)).nodes]
    fused = set(nodes) - set(names)
    # Only what a later operation takes along is missing: convolutions before their activation.
    assert all(f"{node}.relu" in nodes for node in fused), fused
