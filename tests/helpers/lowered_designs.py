"""Designs with random weights, and how far two outputs are apart."""

from functools import cache

import numpy as np
from lowering_cases import LEVELLED, random_weights

from search_spaces.designs import DESIGNS
from search_spaces.graph import Graph
from search_spaces.networks import build_graph


def snr_db(expected: np.ndarray, actual: np.ndarray) -> float:
    assert actual.shape == expected.shape
    return float(10 * np.log10(expected.var() / max(float(np.mean((actual - expected) ** 2)), 1e-30)))


@cache
def design(name: str) -> tuple[Graph, dict[str, np.ndarray], np.ndarray]:
    graph = build_graph(DESIGNS[name].spec, LEVELLED)
    return graph, random_weights(graph), np.random.default_rng(1).random((8, *LEVELLED), np.float32)
