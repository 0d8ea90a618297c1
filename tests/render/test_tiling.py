"""Tiles cover every pixel, what they count adds up to one, and together they make what the whole picture makes."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from isp_builder import isp
from tiled_rendering import EVERYTHING, ROUNDING, mosaic_of, rendered, renderer
from trunk_chains import CHAINS

from nas.data.camera_raw import Mosaic
from nas.render.tile_plan import MEMORY_FACTOR, lay_out
from nas.render.tiling import Axis, Overlap, blend, cut, evened, inexact, padded, step
from nas.tflite.receptive_field import ReceptiveField
from search_spaces.errors import UsageError

LOCAL = ReceptiveField(reach=4, period=1, global_ops=(), unknown_op=None, bytes_per_pixel=100.0)
FULL_HD, PHOTO = (544, 960), (1512, 2016)


@dataclass(frozen=True)
class BatchSpec:
    """An axis to be cut. Tests cut it, not the strategy: what checks shapes draws by chance, and a strategy may not."""

    size: int
    period: int
    margin: int
    ramp: int
    room: int  # periods that a tile may step

    @property
    def overlap(self) -> Overlap:
        return Overlap(self.margin, self.ramp)

    @property
    def tile(self) -> int:
        return (-(-self.overlap.total // self.period) + self.room) * self.period

    def axis(self) -> Axis:
        return cut(self.size, self.tile, overlap=self.overlap, period=self.period)


CUTS = st.builds(
    BatchSpec,
    size=st.integers(1, 1000),
    period=st.sampled_from([1, 2, 3, 8]),
    margin=st.integers(0, 40),
    ramp=st.integers(1, 20),
    room=st.integers(1, 40),
)


@given(CUTS)
def test_tiles_begin_at_multiples_of_the_period_and_end_with_the_picture(drawn: BatchSpec) -> None:
    axis, period = drawn.axis(), drawn.period
    assert axis.starts[0] == 0
    assert axis.starts[-1] + axis.tile == axis.size
    assert all(start % period == 0 for start in axis.starts)
    gaps = np.diff(axis.starts)
    assert (gaps > 0).all()
    assert (gaps <= axis.tile - axis.overlap.total).all(), "two neighbours share less than the overlap"


@given(CUTS, st.sampled_from([1, 2]))
def test_what_tiles_count_adds_up_to_one_everywhere_and_margins_count_nothing(drawn: BatchSpec, scale: int) -> None:
    axis = drawn.axis()
    total = np.zeros(scale * axis.size)
    for index, (start, weights) in enumerate(zip(axis.starts, axis.weights(scale=scale), strict=True)):
        assert weights.shape == (scale * axis.tile,)
        assert weights.min() >= 0
        total[scale * start : scale * (start + axis.tile)] += weights
        margin = scale * axis.overlap.margin
        assert index == 0 or not weights[:margin].any()
        assert index == len(axis.starts) - 1 or not weights[len(weights) - margin :].any()
    np.testing.assert_allclose(total, 1, atol=1e-6)


@given(CUTS)
def test_no_fewer_tiles_would_do(drawn: BatchSpec) -> None:
    axis, period = drawn.axis(), drawn.period
    fewer = len(axis.starts) - 1
    reached = axis.tile + (fewer - 1) * step(axis.overlap, axis.tile, period)
    assert fewer == 0 or reached < axis.size


@given(CUTS)
def test_evened_tiles_are_as_many_and_not_larger(drawn: BatchSpec) -> None:
    tile = evened(drawn.size, drawn.tile, overlap=drawn.overlap, period=drawn.period)
    assert tile <= drawn.tile
    assert tile % drawn.period == 0
    assert len(cut(drawn.size, tile, overlap=drawn.overlap, period=drawn.period).starts) <= len(drawn.axis().starts)


@given(st.integers(1, 500), st.integers(1, 60), st.sampled_from([1, 2, 8]))
def test_padding_is_the_least_with_which_tiles_end_flush(size: int, tiles: int, period: int) -> None:
    tile = tiles * period
    whole = padded(size, tile, period)
    assert whole >= max(size, tile)
    assert (whole - tile) % period == 0
    assert whole - max(size, tile) < period


def test_blending_is_the_formula_in_another_order() -> None:
    rng = np.random.default_rng(0)
    tile, picture = rng.random((70, 30, 3), np.float32), rng.random((100, 80, 3), np.float32)
    rows, columns = rng.random(70, np.float32), rng.random(30, np.float32)
    wanted = picture.copy()
    wanted[10:80, 20:50] += tile * (rows[:, None] * columns)[..., None]
    blend(tile, picture[10:80, 20:50], rows=rows, columns=columns)
    np.testing.assert_allclose(picture, wanted, rtol=1e-6)


# Which tiles


def test_a_file_of_one_size_cuts_a_photo_into_tiles_of_it() -> None:
    layout = lay_out(PHOTO, LOCAL, fixed=FULL_HD, most_bytes=EVERYTHING)
    assert (layout.rows.tile, layout.columns.tile) == FULL_HD
    assert (len(layout.rows.starts), len(layout.columns.starts)) == (3, 3)
    assert layout.note is None


def test_a_picture_of_the_files_own_size_is_one_tile_and_a_smaller_one_is_padded() -> None:
    own = lay_out(FULL_HD, LOCAL, fixed=FULL_HD, most_bytes=EVERYTHING)
    smaller = lay_out((100, 101), LOCAL, fixed=FULL_HD, most_bytes=EVERYTHING)
    assert (own.tiles, smaller.tiles) == (1, 1)
    assert (smaller.rows.size, smaller.columns.size) == FULL_HD
    assert smaller.note is None


def test_a_file_of_open_size_takes_the_whole_picture_at_a_multiple_of_its_period() -> None:
    layout = lay_out((1511, 2017), replace(LOCAL, period=8), fixed=(None, None), most_bytes=EVERYTHING)
    assert (layout.tiles, layout.rows.tile, layout.columns.tile) == (1, 1512, 2024)


@given(st.integers(64, 3000), st.integers(64, 3000), st.floats(1e6, 1e9))
def test_tiles_of_a_file_of_open_size_fit_into_memory(rows: int, columns: int, most_bytes: float) -> None:
    layout = lay_out((rows, columns), LOCAL, fixed=(None, None), most_bytes=most_bytes)
    assert LOCAL.bytes_per_pixel is not None
    assert layout.rows.tile * layout.columns.tile * LOCAL.bytes_per_pixel * MEMORY_FACTOR <= most_bytes


@pytest.mark.parametrize(
    ("field", "size", "says"),
    [
        (replace(LOCAL, global_ops=("MEAN",)), PHOTO, "MEAN sees the whole map"),
        (replace(LOCAL, global_ops=("MEAN",)), (100, 100), "the reflected border counts"),
        (replace(LOCAL, reach=None, unknown_op="CUSTOM"), PHOTO, "How far CUSTOM sees is not known"),
        (replace(LOCAL, reach=300), PHOTO, "sees 300 packed pixels to each side, more than its input of 544×960"),
    ],
)
def test_what_cannot_be_exact_is_said_and_blended(field: ReceptiveField, size: tuple[int, int], says: str) -> None:
    layout = lay_out(size, field, fixed=FULL_HD, most_bytes=EVERYTHING)
    assert layout.note is not None
    assert says in layout.note
    if layout.tiles > 1:
        assert layout.rows.overlap == inexact(FULL_HD[0])


def test_a_mean_over_the_map_is_no_reason_for_a_note_where_the_picture_goes_through_whole() -> None:
    field = replace(LOCAL, global_ops=("MEAN",))
    assert lay_out(PHOTO, field, fixed=(None, None), most_bytes=EVERYTHING).note is None


def test_a_file_too_small_for_tiles_that_overlap_is_refused() -> None:
    with pytest.raises(UsageError, match="input of 16 packed pixels is too small for overlapping tiles"):
        lay_out(PHOTO, replace(LOCAL, period=16), fixed=(16, 16), most_bytes=EVERYTHING)


# What they make


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(layers=CHAINS, rows=st.integers(60, 130), columns=st.integers(60, 130), batch=st.sampled_from([1, 3]))
def test_tiles_of_any_chain_of_layers_make_what_the_whole_picture_makes(
    tmp_path: Path, layers: list[str], rows: int, columns: int, batch: int
) -> None:
    tiling = renderer(tmp_path / "tile.tflite", isp(64, 80, layers, batch=batch))
    mosaic = mosaic_of(rows, columns)
    layout, made = rendered(tiling, mosaic)
    assume(layout.note is None)
    whole_file = isp(layout.rows.size, layout.columns.size, layers)
    whole_layout, whole = rendered(renderer(tmp_path / "whole.tflite", whole_file), mosaic)
    assert whole_layout.tiles == 1
    assert made.shape == (2 * rows, 2 * columns, 3)
    np.testing.assert_allclose(made, whole, atol=ROUNDING)


@pytest.mark.parametrize("size", [(100, 140), (101, 77), (48, 33)])
def test_tiles_within_memory_make_what_the_same_file_makes_of_the_whole(tmp_path: Path, size: tuple[int, int]) -> None:
    content = isp(-1, -1, ("conv 3", "tanh", "conv 5", "depthwise 3"))
    mosaic = mosaic_of(*size)
    whole_layout, whole = rendered(renderer(tmp_path / "isp.tflite", content), mosaic)
    layout, made = rendered(renderer(tmp_path / "isp.tflite", content, most_bytes=1), mosaic)
    assert whole_layout.tiles == 1
    assert (layout.tiles > 1) == (max(size) > 64)
    np.testing.assert_allclose(made, whole, atol=ROUNDING)


def test_without_margins_seams_would_show(tmp_path: Path) -> None:
    by = renderer(tmp_path / "tile.tflite", isp(64, 64, ("conv 3", "conv 5")))
    mosaic = mosaic_of(100, 100)
    layout, made = rendered(by, mosaic)
    bare = replace(layout, rows=replace(layout.rows, overlap=Overlap(0, 1)))
    assert np.abs(by.rgb(mosaic, bare, finish=np.array) - made).max() > 10 * ROUNDING


def test_tiles_that_differ_blend_without_a_step(tmp_path: Path) -> None:
    """A mean over the map makes each tile of this picture brighter or darker than its neighbour."""
    by = renderer(tmp_path / "tile.tflite", isp(64, 64, ("conv 1",), is_global=True))
    rise = np.linspace(0, 1023, 400)[:, None] * np.ones((1, 128))
    mosaic = Mosaic(rise.astype(np.uint16), "RGGB", (0.0,) * 4, 1023.0)
    layout, made = rendered(by, mosaic)
    assert layout.note is not None
    assert len(layout.rows.starts) > 2
    bare = replace(layout, rows=replace(layout.rows, overlap=Overlap(layout.rows.overlap.total // 2, 1)))
    hard = by.rgb(mosaic, bare, finish=np.array)
    steps = [np.abs(np.diff(picture[::2], axis=0)).mean(axis=(1, 2)).max() for picture in (made, hard)]
    assert steps[0] < steps[1] / 3
