"""What a file is said to see is what a changed pixel does change, for any chain of layers."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from isp_builder import Trunk, isp, ones
from tflite_builder import FileBuilder
from trunk_chains import CHAINS, DOUBLING, HALVING

from nas.tflite.isp_file import IspFile
from nas.tflite.receptive_field import read_field

SIDE = 96


def seen(model: IspFile, at: int) -> int:
    """Return how far from a changed input pixel an output pixel changes, in input pixels."""
    changed = []
    for value in (1.0, 2.0):
        x = np.ones((1, SIDE, SIDE, 4), np.float32)
        x[0, at, at] = value
        model.run(x, lambda y: changed.append(y.copy()))
    difference = np.argwhere((changed[0] != changed[1]).any(-1)[0]) // 2
    return int(np.abs(difference - at).max())


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(layers=CHAINS, phase=st.integers(0, 7))
def test_nothing_beyond_the_reach_changes_an_output_and_little_is_given_away(
    tmp_path: Path, layers: list[str], phase: int
) -> None:
    path = tmp_path / "isp.tflite"
    path.write_bytes(isp(SIDE, SIDE, layers, weights=ones, squashed=False))
    model = IspFile(path)
    model.allocate(SIDE, SIDE)
    assert model.field.reach is not None
    reached = max(seen(model, SIDE // 2 + shift) for shift in {phase, 0})
    assert reached <= model.field.reach
    # Every layer that halves or doubles may be rounded up by as much as one of its elements.
    given_away = sum(4 for layer in layers if layer in (*HALVING, *DOUBLING)) + 2
    assert model.field.reach <= max(seen(model, SIDE // 2 + shift) for shift in range(8)) + given_away


@pytest.mark.parametrize(
    ("layers", "reach", "period"),
    [
        ((), 1, 1),  # the shuffle: half a pixel
        (("conv 3",), 2, 1),
        (("conv 3", "conv 3", "conv 5"), 5, 1),
        (("conv 3 dilated",), 3, 1),
        (("max pool",), 3, 2),
        (("space to depth",), 3, 2),
        (("pad, conv 3 valid",), 2, 1),
        (("max pool", "conv 3", "max pool", "conv 3"), 13, 4),
    ],
)
def test_known_networks_see_what_can_be_counted_by_hand(layers: tuple[str, ...], reach: int, period: int) -> None:
    field = read_field(isp(SIDE, SIDE, layers))
    assert (field.reach, field.period, field.global_ops, field.unknown_op) == (reach, period, (), None)


def test_a_mean_over_the_map_is_told_and_one_over_channels_is_none() -> None:
    assert read_field(isp(SIDE, SIDE, is_global=True)).global_ops == ("MEAN",)
    b = FileBuilder()
    trunk = Trunk(b, b.input(1, SIDE, SIDE, 4), (1, SIDE, SIDE, 4), ones)
    trunk.op("MEAN", b.numbers(3), shape=(1, SIDE, SIDE, 1), keepDims=1)
    trunk.conv(12, 1)
    trunk.shuffle(2)
    assert read_field(b.file()).global_ops == ()


def test_from_an_unknown_operation_on_nothing_is_known() -> None:
    b = FileBuilder()
    trunk = Trunk(b, b.input(1, SIDE, SIDE, 4), (1, SIDE, SIDE, 4), ones)
    trunk.op("REVERSE_V2", b.numbers(1), shape=trunk.shape)
    trunk.conv(12, 3)
    trunk.shuffle(2)
    field = read_field(b.file())
    assert (field.reach, field.unknown_op, field.bytes_per_pixel) == (None, "REVERSE_V2", None)


def test_a_file_of_open_size_sees_as_far_as_the_same_of_a_fixed_one() -> None:
    layers = ("conv 3", "depthwise 3", "tanh", "conv 5")
    assert read_field(isp(-1, -1, layers)) == read_field(isp(SIDE, SIDE, layers))


def test_memory_grows_with_maps_and_with_taps() -> None:
    narrow, taps = (read_field(isp(SIDE, SIDE, layers)).bytes_per_pixel for layers in (("conv 1",), ("conv 3",)))
    assert narrow is not None
    assert taps == narrow + 9 * 8  # one pointer to each tap of the window
    assert narrow == 4 * (12 + 12)  # before and behind the pixel shuffle, float32
