"""Measure the quality of a .tflite file by running it with LiteRT on real pictures beside the trained network.

Each converted precision is run twice. Its twin, at the pairs' size, over all validation and test pairs; the deploy
file on one full-size mosaic, made of validation pairs laid side by side, for which there is a target, too.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from nas.data.pairs import DataConfig, PairSet, find_pairs, load_split
from nas.export.converter import Converted
from nas.tflite.interpreter import TfliteModel
from nas.tflite.tensor_encoding import TensorEncoding
from nas.train.checkpoint import Arrays
from nas.train.evaluation import Quality, judge, network_input, picture_quality, quality_of, targets
from search_spaces import lower_flax
from search_spaces.errors import ExportError
from search_spaces.graph import Graph
from search_spaces.input_levels import InputLevels
from search_spaces.ops import Shape

Array = np.ndarray[Any, Any]
NetworkFn = Callable[[Array], Array]

PARITY_PATCHES = 8
TIMED_RUNS, TIMED_S = 5, 10.0  # of the deploy file on this machine: a median of so many, unless it takes too long
# Float32 rounding between two orders of summation stays two decades below this; a wrong kernel layout, padding or
# pixel order is decades above.
MAX_DIFFERENCE = 1e-4
# At full size LiteRT's own operations are less exact: its MEAN over half a million pixels is off by up to 1.5e-5 where
# TensorFlow sums in blocks. The designs stay below 3e-5 (benchmarks/design_parity.json); what is wrong is far above.
MAX_DEPLOY_DIFFERENCE = 1e-3
# A rounded file at another size is off by what the twin is off by, but for borders and the seams of the tiles
# (measured up to 1.2 times on three designs); a wrong shape or stride is off by a hundred times that.
MAX_DEPLOY_RATIO = 3.0


@dataclass(frozen=True)
class Difference:
    """How far two pictures are apart, relative to the range of the expected one, taken as at least 1: RGB in [0, 1]."""

    largest: float
    mean: float

    @classmethod
    def between(cls, expected: Array, actual: Array) -> "Difference":
        """Compare two pictures, or batches of them."""
        span = max(1.0, float(np.ptp(expected)))
        apart = np.abs(expected - actual)
        return cls(float(apart.max()) / span, float(apart.mean()) / span)


@dataclass(frozen=True)
class Judged:
    """What one file is worth; qualities are of the twin but for `full_size`."""

    val: Quality
    test: Quality | None  # None where the data has no test pairs
    full_size: Quality
    drop_db: float  # of the file against the trained network, on the validation pairs
    full_size_drop_db: float
    half_drop_db: float | None  # of the network with every map rounded to half precision; only for fp16
    twin: Difference
    deploy: Difference
    input: TensorEncoding
    output: TensorEncoding
    local_runtime_ms: float

    @property
    def drops(self) -> dict[str, float]:
        """What is lost in dB, by where."""
        by_place = {"on the validation pairs": self.drop_db, "at full size": self.full_size_drop_db}
        half = {} if self.half_drop_db is None else {"with every map in half precision": self.half_drop_db}
        return by_place | half

    @property
    def worst_drop(self) -> tuple[str, float]:
        """Where most is lost, and how much; a NaN is worst."""
        return max(self.drops.items(), key=lambda drop: math.inf if math.isnan(drop[1]) else drop[1])

    @property
    def worst_drop_db(self) -> float:
        """The largest of the drops; NaN where any is."""
        return self.worst_drop[1]


class FileVerifier:
    """The trained network's own answers, and the comparison of files with them."""

    def __init__(self, graph: Graph, deploy_shape: Shape, weights: Arrays, val: PairSet, data: DataConfig) -> None:
        """Judge by the pairs of `val`; `graph` is at their size and reads values in [0, 1]."""
        self.graph, self.weights, self.val, self._data = graph, weights, val, data
        self._deploy = graph.at(deploy_shape)

    @cached_property
    def trained(self) -> Quality:
        """The quality of the network in Flax on the validation pairs."""
        return judge(self.graph, self.weights, self.val)

    @cached_property
    def patches(self) -> Array:
        """Some validation inputs, float32 [n, h/2, w/2, 4] in [0, 1]."""
        return network_input(self.val, np.arange(min(PARITY_PATCHES, len(self.val))))

    @cached_property
    def _expected(self) -> Array:
        return self._flax(self.patches)

    @cached_property
    def _flax(self) -> NetworkFn:
        """The network in Flax, of values in [0, 1]."""
        network = lower_flax.jit_apply(self.graph)
        return lambda x: np.asarray(network(self.weights, x))  # type: ignore[arg-type]  # NumPy arrays will do

    @cached_property
    def _full_size(self) -> tuple[Array, Array, Array]:
        """Input, TensorFlow's answer and target at full size."""
        from search_spaces import lower_tf

        x = full_size_input(self._deploy, self.val)
        return x, lower_tf.predict(self._deploy, self.weights, x), _full_size_target(self._deploy, self.val)

    def judge(self, converted: Converted, on_message: Callable[[str], None]) -> Judged:
        """Run the files of one precision; raise ExportError where the deploy or dynamic file is not the twin's."""
        twin = TfliteModel(converted.twin)
        answers = _reading_values(twin, converted)
        of_twin = Difference.between(self._expected, np.concatenate([answers(x[None]) for x in self.patches]))
        _require_agreement(converted, of_twin, "the trained network on real patches", MAX_DIFFERENCE)
        on_message(f"Judging {converted.precision.name} on {len(self.val)} validation pairs …")
        val = quality_of(answers, self.val, batch=1)
        self._check_dynamic(converted, of_twin)
        deploy, of_deploy, full_size, runtime_ms = self._run_deploy(converted, of_twin)
        expected_full = picture_quality(self._full_size[1], self._full_size[2])
        return Judged(
            val=val,
            test=test_quality(answers, self._data),
            full_size=full_size,
            drop_db=self.trained.psnr_db - val.psnr_db,
            full_size_drop_db=expected_full.psnr_db - full_size.psnr_db,
            half_drop_db=self._half_drop_db(converted.levels) if converted.precision.name == "fp16" else None,
            twin=of_twin,
            deploy=of_deploy,
            input=deploy.input,
            output=deploy.output,
            local_runtime_ms=runtime_ms,
        )

    def input_drop_db(self, levels: InputLevels, encoding: TensorEncoding) -> float | None:
        """Return what the network loses by an input rounded as a file takes it; None where it takes real values."""
        if not encoding.is_whole:
            return None

        def of_rounded(x: Array) -> Array:
            return self._flax(levels.values(encoding.decode(encoding.encode(levels.counts(x)))))

        return self.trained.psnr_db - quality_of(of_rounded, self.val, batch=1).psnr_db

    def _run_deploy(self, converted: Converted, of_twin: Difference) -> tuple[TfliteModel, Difference, Quality, float]:
        model = _loaded(converted)
        if (model.input_shape, model.output_shape) != (self._deploy.input_shape, self._deploy.output_shape):
            raise _wrong(
                f"maps {model.input_shape} to {model.output_shape}, wanted {self._deploy.input_shape} to "
                f"{self._deploy.output_shape}"
            )
        x, expected, target = self._full_size
        output = _reading_values(model, converted)(x)
        difference = Difference.between(expected, output)
        _require_as_twin(converted, difference, of_twin, "TensorFlow at full size")
        return model, difference, picture_quality(output, target), model.runtime_ms(runs=TIMED_RUNS, budget_s=TIMED_S)

    def _check_dynamic(self, converted: Converted, of_twin: Difference) -> None:
        """Run the file for any size at one that is neither the twin's nor the deploy file's."""
        from search_spaces import lower_tf

        if converted.dynamic is None:
            return
        x = np.concatenate([self.patches[:1], self.patches[-1:]], axis=2)
        model = TfliteModel(converted.dynamic, input_shape=x.shape)
        output = _reading_values(model, converted)(x)
        n, h, w, c = x.shape
        expected = lower_tf.predict(self.graph.at((n, h, w, c)), self.weights, x)
        _require_as_twin(converted, Difference.between(expected, output), of_twin, "TensorFlow at another size")

    def _half_drop_db(self, levels: InputLevels) -> float:
        """Return what the network loses with its maps, and its input as the file reads it, in half precision."""
        from search_spaces import lower_tf

        def halved(x: Array) -> Array:
            rounded = levels.values(levels.counts(x).astype(np.float16))
            return lower_tf.predict_maps(self.graph, self.weights, rounded, half=True)[self.graph.output]

        return self.trained.psnr_db - quality_of(halved, self.val, batch=1).psnr_db


class CannotRunError(ExportError):
    """LiteRT has no room for a file on this machine, so nobody knows what it is worth."""


def _loaded(converted: Converted) -> TfliteModel:
    """Return the deploy file, ready to run; raise CannotRunError where LiteRT has no room for it on this machine."""
    try:
        return TfliteModel(converted.deploy)
    except RuntimeError as error:
        name = converted.precision.name
        raise CannotRunError(
            f"LiteRT cannot run the {name} file at this size on this machine's CPU ({error}), so it was neither judged "
            f"nor written; choose a smaller --size, or leave out {name}"
        ) from None


def _reading_values(model: TfliteModel, converted: Converted) -> NetworkFn:
    """Return the file as a function of values in [0, 1], whatever it reads."""
    return lambda x: model(converted.levels.counts(x))


def _require_agreement(converted: Converted, difference: Difference, what: str, largest: float) -> None:
    """Hold float32 to rounding; other precisions are held to what they lose."""
    if converted.precision.name == "fp32" and not difference.largest <= largest:  # a NaN is no agreement either
        raise _wrong(f"differs by {difference.largest:.2e} from {what}, more than {largest:g}")


def _require_as_twin(converted: Converted, difference: Difference, of_twin: Difference, what: str) -> None:
    _require_agreement(converted, difference, what, MAX_DEPLOY_DIFFERENCE)
    allowed = MAX_DEPLOY_RATIO * of_twin.mean + MAX_DIFFERENCE
    if not difference.mean <= allowed:
        raise _wrong(
            f"in {converted.precision.name} differs by {difference.mean:.2e} on average from {what}, more "
            f"than {allowed:.2e}"
        )


def _wrong(what: str) -> ExportError:
    return ExportError(f"The converted file {what}; nothing was written. Please report this network's genes as a bug.")


def full_size_input(graph: Graph, pairs: PairSet) -> Array:
    """Return real patches laid side by side until they fill the deploy input."""
    return _tiled(lambda index: network_input(pairs, index), graph.input_shape, len(pairs))


def _full_size_target(graph: Graph, pairs: PairSet) -> Array:
    return _tiled(lambda index: targets(pairs, index), graph.output_shape, len(pairs))


def _tiled(read: Callable[[Array], Array], shape: Shape, available: int) -> Array:
    _, height, width, _ = shape
    _, h, w, _ = read(np.arange(1)).shape
    rows, columns = -(-height // h), -(-width // w)
    patches = read(np.arange(min(available, rows * columns)))
    index = np.arange(rows * columns).reshape(rows, columns) % len(patches)
    tiled = np.concatenate([np.concatenate(list(patches[row]), axis=1) for row in index], axis=0)
    return np.ascontiguousarray(tiled[None, :height, :width])


def test_quality(network: NetworkFn, data: DataConfig) -> Quality | None:
    """Judge on the test pairs, which no search reads; None where the data has none."""
    if not find_pairs(data)["test"]:
        return None
    return quality_of(network, load_split(data, "test"), batch=1)
