"""Convert a network to the files of one precision: twin at pair size, deploy file, and optionally any size.

The twin is converted (and calibrated) by TensorFlow; the other two are the twin with other shapes, so that what is
judged on the pairs is, weight by weight and range by range, what goes on the phone.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from nas.data.pairs import PairSet, evenly
from nas.export.integers.calibration import PICTURES, Calibrated, CalibratedNetwork
from nas.export.options import ExportOptions
from nas.tflite.input_contract import Contract, embed_contract
from nas.train.checkpoint import Arrays
from nas.train.evaluation import network_input
from search_spaces.errors import ExportError
from search_spaces.graph import INPUT, Graph
from search_spaces.input_levels import InputLevels, fold_raw_levels
from search_spaces.precision import Precision
from search_spaces.quantised_maps import Range
from search_spaces.tflite_counts import add_count_input
from search_spaces.tflite_resize import dynamic, resized

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class FineTuned:
    """Weights and ranges of quantisation-aware training, which take the place of the trained ones in int8."""

    weights: Arrays
    ranges: Mapping[str, tuple[float, float]]  # of the maps of these nodes; of the input for values in [0, 1]
    steps: int
    folder: str  # of the run


@dataclass(frozen=True)
class Converted:
    """The files of one precision and the network that they hold."""

    precision: Precision
    io: str
    levels: InputLevels
    graph: Graph  # at pair size, reading what the file reads
    twin: bytes
    deploy: bytes
    dynamic: bytes | None
    exact: Arrays  # weights of float32 that compute what the file does before rounding, channel by channel
    fine_tuned: FineTuned | None = None


class Converter:
    """Makes files of one trained network."""

    def __init__(
        self,
        graph: Graph,
        weights: Arrays,
        train: PairSet,
        options: ExportOptions,
        fine_tuned: FineTuned | None = None,
    ) -> None:
        """`graph` is at the size of the pairs and reads values in [0, 1]; int8 takes what was `fine_tuned` for it."""
        self._graph, self._weights, self._train, self._options = graph, weights, train, options
        self._fine_tuned = fine_tuned
        self._levels = options.levels(train.format)
        self._tiles = 2 if has_single_pixels(graph) else 1

    def convert(self, precision: Precision) -> Converted:
        """Return the files of one precision; raise ExportError where they cannot be made."""
        io = self._options.io_of(precision)
        tuned = self._fine_tuned if precision.name == "int8" else None
        held = self._held(precision, tuned)
        graph, weights = fold_raw_levels(self._graph, held.weights, self._levels, fold=precision.is_calibrated)
        twin = self._twin(graph, weights, precision, io, self._ranges(held.ranges))
        if io == "int16" and not self._levels.is_normalized:
            twin = add_count_input(twin)
        twin = embed_contract(twin, Contract(self._train.format, self._levels.black, self._levels.white))
        deploy = resized(twin, self._options.packed_shape)
        at_any_size = dynamic(twin) if self._options.dynamic else None
        return Converted(precision, io, self._levels, graph, twin, deploy, at_any_size, held.exact, tuned)

    def _held(self, precision: Precision, tuned: FineTuned | None) -> Calibrated:
        """Return what the file of this precision holds; training for it has rounded weights as the converter does."""
        if tuned:
            return Calibrated(tuned.weights, tuned.weights, tuned.ranges)
        if not precision.is_calibrated:
            return Calibrated(self._weights, self._weights, {})
        return self.calibration.int8 if precision.name == "int8" else self.calibration.int16

    @cached_property
    def calibration(self) -> CalibratedNetwork:
        """What the calibration pictures tell; found once for all precisions."""
        looked_at = self._calibrating[evenly(len(self._calibrating), PICTURES)]
        return CalibratedNetwork(self._graph, self._weights, network_input(self._train, looked_at))

    @cached_property
    def _calibrating(self) -> Array:
        """Which training pairs calibrate; raises ExportError where they tell nothing."""
        index = calibration_index(self._train, self._options.calibration)
        _require_variety(self._train, index)
        return index

    def _ranges(self, ranges: Mapping[str, Range]) -> dict[str, Range]:
        """Return these ranges, that of the input in what the file reads."""
        if INPUT not in ranges:
            return dict(ranges)
        low, high = map(float, self._levels.counts(np.array(ranges[INPUT])))
        return {**ranges, INPUT: (min(low, 0.0), high)}

    def _twin(self, graph: Graph, weights: Arrays, precision: Precision, io: str, ranges: Mapping[str, Range]) -> bytes:
        from search_spaces import lower_tf

        n, h, w, c = graph.input_shape
        converted = lower_tf.to_tflite(
            graph.at((n, h * self._tiles, w * self._tiles, c)),
            weights,
            precision=precision.name,
            io=io,
            calibration=list(self._calibration()) if precision.is_calibrated else (),
            ranges=ranges,
        )
        return converted if self._tiles == 1 else resized(converted, graph.input_shape)

    def _calibration(self) -> Iterator[Array]:
        """Yield training inputs [1, h, w, 4]."""
        for number in self._calibrating:
            x = self._levels.counts(network_input(self._train, np.array([number])))
            yield np.tile(x, (1, self._tiles, self._tiles, 1))


def has_single_pixels(graph: Graph) -> bool:
    """Tell whether a map, means apart, has a side of one pixel: the converter leaves out what is idle there."""
    n, h, w, c = graph.input_shape
    doubled = graph.at((n, 2 * h, 2 * w, c)).shapes
    return any(1 in shape[1:3] and shape != doubled[name] for name, shape in graph.shapes.items())


def calibration_index(train: PairSet, count: int) -> Array:
    """Return which training pairs calibrate, at most `count`."""
    return evenly(len(train), count)


def _require_variety(train: PairSet, index: Array) -> None:
    if not len(index):
        raise ExportError("There is no training pair to calibrate with; add pairs, or leave out int8 and int16.")
    lowest, highest = (int(end(train.raw[index])) for end in (np.min, np.max))
    if lowest == highest:
        raise ExportError(
            f"Every value of the {len(index)} mosaics for calibration is {lowest}, which tells no ranges; look at the "
            "pairs with `isp-nas data check`, or leave out int8 and int16."
        )
