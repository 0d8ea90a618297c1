"""Find the layer at which a quantised file loses the picture.

The file is run with every map kept, and so is the float network; map by map the signal is compared with what rounding
added. The layer to name is the one behind which the ratio falls most below that of what the layer reads.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nas.export.converter import Converted
from nas.tflite.interpreter import TfliteModel
from nas.train.checkpoint import Arrays
from search_spaces.graph import INPUT, Graph

_LEAST_RATIO, _WORST_DB = 1e-10, -100.0  # also where the error is no number

Array = np.ndarray[Any, Any]
Maps = Mapping[str, Array]


@dataclass(frozen=True)
class LayerError:
    """One layer and the ratio of signal to rounding error, in dB, of what it reads and of what it makes."""

    node: str
    kind: str
    before_db: float
    after_db: float

    @property
    def fall_db(self) -> float:
        """By how much the layer makes the ratio worse."""
        return self.before_db - self.after_db

    def __str__(self) -> str:
        return (
            f'the error enters at "{self.node}" ({self.kind}), where signal to rounding error falls from '
            f"{self.before_db:.1f} to {self.after_db:.1f} dB"
        )


def file_maps(converted: Converted, x: Array) -> dict[str, Array]:
    """Return the maps of a twin for an input [1, h, w, 4] in [0, 1], by the names of their nodes."""
    return TfliteModel(converted.twin, keep_maps=True).maps(converted.levels.counts(x))


def half_maps(graph: Graph, weights: Arrays, x: Array) -> dict[str, Array]:
    """Return the maps of the network as a phone that computes in half precision has them."""
    from search_spaces import lower_tf

    return lower_tf.predict_maps(graph, weights, x, half=True)


def worst_layer(graph: Graph, expected: Maps, maps: Maps, *, best_db: float) -> LayerError:
    """Return the layer behind which the ratio falls most, the first of equals.

    No ratio counts as better than `best_db`: from the exact input to the first rounded map it would always fall most.
    Maps that are missing were fused into the next one.
    """
    ratios = {INPUT: best_db}
    layers = []
    for node in graph.nodes:
        before = min(ratios[name] for name in node.inputs)
        compared = node.name in maps and node.name in expected
        ratios[node.name] = min(best_db, snr_db(expected[node.name], maps[node.name])) if compared else before
        kind = getattr(node.op, "function", node.op.kind)
        layers.append(LayerError(node.name, kind, before, ratios[node.name]))
    return max(layers, key=lambda layer: layer.fall_db)


def snr_db(expected: Array, actual: Array) -> float:
    """Return the variance of a map [n, h, w, c] over the mean square of what was added to it, in dB; +inf for nothing.

    Variance is over pixels, channel by channel: a channel that is large everywhere tells nothing. A map of one pixel is
    judged by its channels, one of one value by that.
    """
    noise = float(np.mean((expected - actual) ** 2))
    if not noise:
        return float("inf")
    within = float(np.var(expected, axis=(0, 1, 2)).mean())
    signal = within or float(np.var(expected)) or float(np.mean(expected**2)) or 1.0
    ratio = signal / noise
    return float(10 * np.log10(ratio)) if ratio > _LEAST_RATIO else _WORST_DB
