"""Find what an integer file of a trained network holds, from calibration pictures.

trained weights ─ look at the maps ─► equal channels (int8) ─► ranges of maps (int8) ─► rounded kernels
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float

from nas.export.integers.map_ranges import chosen_ranges, rounded_maps
from nas.export.integers.map_samples import MapSamples, look_at
from nas.export.integers.weight_rounding import rounded
from nas.train.checkpoint import Arrays
from search_spaces.channel_scales import Scales, channel_scales, scaled
from search_spaces.graph import Graph
from search_spaces.quantised_maps import Range

PICTURES = 24  # are enough to look at; the ranges of all values come from every calibration picture

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Calibrated:
    """What goes into an integer file."""

    exact: Arrays  # weights of float32 with which the network computes what it was trained to
    weights: Arrays  # the same, kernels rounded
    ranges: Mapping[str, Range]  # of maps that are rounded over less than all of their values
    scales: Scales = field(default_factory=dict)  # by which `exact` has the channels of the trained network's maps


class CalibratedNetwork:
    """A trained network and what calibration pictures tell of it."""

    def __init__(self, graph: Graph, weights: Arrays, inputs: Float[Array, "n h w 4"]) -> None:
        """`inputs` are packed RAW in [0, 1]."""
        self._graph, self._weights, self._inputs = graph, weights, inputs

    @cached_property
    def _samples(self) -> MapSamples:
        return look_at(self._graph, self._weights, self._inputs)

    @cached_property
    def int16(self) -> Calibrated:
        """Of maps with 16 bits nothing is lost: only kernels are rounded."""
        return Calibrated(self._weights, rounded(self._graph, self._weights, self._samples.moments), {})

    @cached_property
    def int8(self) -> Calibrated:
        """Weights with equal channels, narrower ranges, and rounded kernels."""
        samples = self._samples
        scales = channel_scales(self._graph, samples.low, samples.high, rounded_maps(self._graph))
        exact, seen = scaled(self._graph, self._weights, scales), samples.scaled(self._graph, scales)
        ranges = chosen_ranges(self._graph, exact, seen)
        return Calibrated(exact, rounded(self._graph, exact, seen.moments), ranges, scales)
