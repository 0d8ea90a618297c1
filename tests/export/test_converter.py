"""The files of one precision are one network: the twin, the deploy file and the one for any size."""

from pathlib import Path

import numpy as np
import pytest
from lowering_cases import random_weights

from nas.data.pairs import PairSet, open_prepared
from nas.export.converter import Converter, calibration_index, has_single_pixels
from nas.export.options import ExportOptions
from nas.tflite.interpreter import TfliteModel
from nas.train.evaluation import network_input
from search_spaces import lower_tf
from search_spaces.designs import DESIGNS
from search_spaces.errors import ExportError
from search_spaces.graph import Graph
from search_spaces.networks import build_graph
from search_spaces.precision import PRECISIONS
from search_spaces.spec import ArchSpec

SMALL = ArchSpec(width=4, depth=0)
SIZE = (64, 96)


def pair_sized(spec: ArchSpec) -> Graph:
    return build_graph(spec, (1, 32, 32, 4))


def pairs_of(train: PairSet, raw: np.ndarray) -> PairSet:
    return PairSet(raw, train.rgb[: len(raw)], train.names[: len(raw)], train.format)


@pytest.fixture(scope="module")
def train(prepared_tiny: Path) -> PairSet:
    return open_prepared(prepared_tiny, "train")


def converter(train: PairSet, spec: ArchSpec = SMALL, **options: object) -> Converter:
    graph = pair_sized(spec)
    return Converter(graph, random_weights(graph), train, ExportOptions(size=SIZE, **options))  # type: ignore[arg-type]


def test_the_files_have_the_sizes_that_were_asked_for(train: PairSet) -> None:
    files = converter(train, dynamic=True).convert(PRECISIONS["int8"])
    assert files.dynamic is not None
    assert TfliteModel(files.twin).input_shape == (1, 32, 32, 4)
    assert TfliteModel(files.deploy).input_shape == (1, 32, 48, 4)
    assert TfliteModel(files.dynamic, input_shape=(1, 10, 12, 4)).output_shape == (1, 20, 24, 3)
    assert converter(train).convert(PRECISIONS["fp32"]).dynamic is None


def test_ranges_are_those_of_training_pairs(train: PairSet) -> None:
    model = TfliteModel(converter(train).convert(PRECISIONS["int8"]).twin)
    brightest = train.raw.max() / train.format.white_level
    assert model.input.scale * 255 == pytest.approx(brightest, rel=1e-3)


def test_calibration_takes_pairs_from_all_over_the_set_and_no_more_than_there_are(train: PairSet) -> None:
    assert calibration_index(train, 3).tolist() == [0, 3, 7]
    assert calibration_index(train, 1).tolist() == [0]
    assert calibration_index(train, 1000).tolist() == list(range(len(train)))


@pytest.mark.parametrize("value", [0, 512])
def test_mosaics_of_one_value_calibrate_nothing(train: PairSet, value: int) -> None:
    flat = pairs_of(train, np.full_like(train.raw, value))
    with pytest.raises(ExportError, match=f"Every value of the 8 mosaics for calibration is {value}"):
        converter(flat).convert(PRECISIONS["int8"])
    converter(flat).convert(PRECISIONS["fp16"])  # needs none


def test_no_mosaics_calibrate_nothing(train: PairSet) -> None:
    with pytest.raises(ExportError, match="no training pair to calibrate with"):
        converter(pairs_of(train, train.raw[:0])).convert(PRECISIONS["int16"])


# Of a picture of 32×32 the lowest map is one pixel, of which the mean is itself.
DEEP = DESIGNS["tuned-unet"].spec.with_genes(levels=4, depth=1, attention="channel", width=4)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_network_whose_lowest_map_is_one_pixel_of_the_pairs_is_right_at_any_size(
    train: PairSet, precision: str
) -> None:
    cropped = PairSet(train.raw[:, :32, :32], train.rgb[:, :32, :32], train.names, train.format)
    graph = build_graph(DEEP, (1, 16, 16, 4))
    assert (has_single_pixels(graph), has_single_pixels(pair_sized(DESIGNS["csanet"].spec))) == (True, False)
    weights, options = random_weights(graph), ExportOptions(size=(64, 96))
    files = Converter(graph, weights, cropped, options).convert(PRECISIONS[precision])
    assert TfliteModel(files.twin).input_shape == (1, 16, 16, 4)
    x = np.concatenate([np.tile(network_input(cropped, np.arange(k, k + 1)), (1, 2, 1, 1)) for k in range(3)], axis=2)
    expected = lower_tf.predict(graph.at(options.packed_shape), weights, x)
    apart = np.abs(TfliteModel(files.deploy)(x) - expected).mean() / np.ptp(expected)
    assert apart < (1e-3 if precision.startswith("fp") else 0.05)
