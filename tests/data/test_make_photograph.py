"""Of made photographs every shift is known: what is kept lies right, and what must not be kept is dropped."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from dng import Camera
from photographed import FMT, Photographed, View, photograph
from PIL import Image

from nas.data.camera_raw import Mosaic, read_mosaic
from nas.data.make.development import develop
from nas.data.make.one_phase import in_phase, phase_offset, with_levels, without_black
from nas.data.make.patch_judging import BLURRED, CLIPPED, MOTION, UNSURE, measure_maps
from nas.data.make.photograph import Made, MakeSettings, make
from nas.data.make.sources import Photograph
from nas.data.make.target_picture import read_embedded
from nas.data.raw_format import PATTERNS
from search_spaces.errors import DataError

PATCH = 64
SETTINGS = MakeSettings("folder", patch=PATCH, raw=FMT)
SIZE = (480, 660)
SMALL = (320, 448)


pytestmark = pytest.mark.usefixtures("one_core_of_opencv")


@dataclass(frozen=True)
class Result:
    truth: Photographed
    made: Made
    residual_px: np.ndarray

    def here(self, row: int, column: int) -> tuple[slice, slice]:
        return slice(row, row + PATCH), slice(column, column + PATCH)


def write(folder: Path, truth: Photographed, picture: np.ndarray | None = None) -> Photograph:
    Image.fromarray(truth.mosaic).save(folder / "a.png")
    Image.fromarray(truth.picture if picture is None else picture).save(folder / "b.png")
    return Photograph("a.png", folder / "a.png", folder / "b.png")


def result(folder: Path, truth: Photographed) -> Result:
    made = make(write(folder, truth), SETTINGS)
    return Result(truth, made, truth.residual_px(made.alignment.full()))


@pytest.fixture(
    scope="module",
    params=[
        View(degrees=8, scale=1.15, shot_noise=3e-4),
        View(degrees=-8, scale=0.85, distortion=0.02, gain=0.8, parallax=(-6.0, 8.0)),
    ],
    ids=["turned, nearer, noisy", "turned back, farther, bent"],
)
def aligned(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Result:
    return result(tmp_path_factory.mktemp("aligned"), photograph(*SIZE, view=request.param, seed=3))


def test_kept_patches_lie_where_they_should(aligned: Result) -> None:
    shifts = np.concatenate(
        [
            aligned.residual_px[aligned.here(k.row, k.column)].ravel()
            for k in aligned.made.judgements
            if k.reason is None
        ]
    )
    assert np.median(shifts) <= 0.2
    assert np.percentile(shifts, 95) <= 0.6


def test_what_moved_or_is_clipped_is_dropped(aligned: Result) -> None:
    truth = aligned.truth
    bad = {
        (each.row, each.column): each.reason
        for each in aligned.made.judgements
        if max(
            truth.moved[aligned.here(each.row, each.column)].mean(),
            truth.clipped[aligned.here(each.row, each.column)].mean(),
        )
        > 0.05
    }
    assert len(bad) >= 5
    assert None not in bad.values()
    assert {MOTION, CLIPPED, UNSURE} & set(bad.values())


def test_most_of_what_is_good_is_kept(aligned: Result) -> None:
    inside = cv2.resize(
        aligned.made.alignment.inside.astype(np.uint8),
        aligned.truth.mosaic.shape[::-1],
        interpolation=cv2.INTER_NEAREST,
    )
    good = [
        each.reason
        for each in aligned.made.judgements
        for here in [aligned.here(each.row, each.column)]
        if inside[here].all()
        and not (
            aligned.truth.moved[here].any() or aligned.truth.clipped[here].any() or aligned.truth.hidden[here].any()
        )
    ]
    assert len(good) >= 15
    assert good.count(None) >= 0.6 * len(good), Counter(good)


def test_noise_in_the_dark_is_not_taken_for_motion() -> None:
    rng = np.random.default_rng(0)
    dark, bright = np.full((200, 100), 40.0), np.full((200, 200), 180.0)
    shown = np.hstack([dark, bright]) + cv2.GaussianBlur(rng.normal(0, 90, (200, 300)), (0, 0), 4)
    deviation = np.hstack([dark * 0 + 18, bright * 0 + 2])  # a tone curve raises noise in the dark
    noisy, clean = (np.clip(x, 0, 255).astype(np.uint8) for x in (shown + rng.normal(0, deviation), shown))
    mosaic = np.zeros((400, 600), np.uint16)
    still = measure_maps(mosaic, noisy, SimpleNamespace(matched=clean), 0, 1023)  # type: ignore[arg-type]
    assert still.unlike.mean() < 0.01
    moved = measure_maps(mosaic, noisy, SimpleNamespace(matched=np.roll(clean, 9, 0)), 0, 1023)  # type: ignore[arg-type]
    assert moved.unlike[:, 110:].mean() > 0.2


def test_mosaics_are_those_of_the_sensor_bit_for_bit(aligned: Result) -> None:
    for cut in aligned.made.cuts:
        row, column = cut.judgement.row, cut.judgement.column
        assert row % 2 == column % 2 == 0
        np.testing.assert_array_equal(cut.mosaic, aligned.truth.mosaic[aligned.here(row, column)])


def test_what_is_measured_of_a_patch_is_kept_with_it(aligned: Result) -> None:
    for each in aligned.made.judgements:
        if each.reason is None and each.shift is not None:
            assert max(map(abs, each.shift)) <= 0.75
            assert each.correlation is not None
            assert 0.5 <= each.correlation <= 1


def test_a_target_out_of_focus_is_dropped_as_that(tmp_path: Path) -> None:
    made = make(write(tmp_path, photograph(*SMALL, view=View(blur=3.0), seed=3)), SETTINGS)
    reasons = Counter(each.reason for each in made.judgements)
    assert reasons[BLURRED] > 5
    assert reasons[None] == 0


def test_a_picture_turned_by_a_quarter_is_turned_back_and_told(tmp_path: Path) -> None:
    truth = photograph(*SMALL, seed=3)
    made = make(write(tmp_path, truth, np.rot90(truth.picture, -1)), SETTINGS)
    assert len(made.cuts) > 3
    assert any("turned by 90°" in note for note in made.notes)


def test_a_target_of_16_bits_gives_the_same_pairs_to_a_rounding(tmp_path: Path) -> None:
    """Its grey is rounded otherwise, so a place differs by hundredths of a pixel."""
    truth = photograph(*SMALL, seed=3)
    eight = make(write(tmp_path, truth), SETTINGS)
    cv2.imwrite(str(tmp_path / "b.png"), truth.picture[..., ::-1].astype(np.uint16) * 257)
    sixteen = make(Photograph("a.png", tmp_path / "a.png", tmp_path / "b.png"), SETTINGS)
    assert [c.judgement.row for c in sixteen.cuts] == [c.judgement.row for c in eight.cuts]
    for one, other in zip(eight.cuts, sixteen.cuts, strict=True):
        assert np.abs(one.target.astype(int) - other.target).mean() < 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda p: p[:, ::-1], "The target is mirrored"),
        (lambda p: np.roll(np.rot90(p, 1), 3, axis=0)[::-1], "mirrored"),
        (lambda _: photograph(*SMALL, seed=77).picture, "do not show the same scene"),
        (lambda p: np.full_like(p, 200), "shows too little"),
        (lambda p: cv2.resize(p, None, fx=0.3, fy=0.3, interpolation=cv2.INTER_AREA), "0.3. px for one"),
    ],
)
def test_pictures_that_cannot_be_targets_are_refused_by_what_is_wrong(tmp_path: Path, change, said: str) -> None:
    truth = photograph(*SMALL, seed=3)
    with pytest.raises(DataError, match=f"(?i){said}"):
        make(write(tmp_path, truth, np.ascontiguousarray(change(truth.picture))), SETTINGS)


def test_a_rendering_of_libraw_lies_on_its_mosaic_as_it_is(tmp_path: Path) -> None:
    truth = photograph(258, 322, seed=3)
    Camera("BGGR", white_balance=(2, 1, 2)).write(tmp_path / "a.dng", truth.mosaic)
    made = make(Photograph("a.dng", tmp_path / "a.dng"), MakeSettings("libraw", patch=PATCH))
    assert made.agreeing is None
    assert made.begins == (1, 1)
    assert len(made.cuts) > 3
    for cut in made.cuts:
        row, column = cut.judgement.row + 1, cut.judgement.column + 1
        np.testing.assert_array_equal(cut.mosaic, truth.mosaic[row : row + PATCH, column : column + PATCH])
        assert cut.judgement.shift is None or max(map(abs, cut.judgement.shift)) <= 0.5


def test_the_picture_inside_of_a_raw_is_aligned_with_it(tmp_path: Path) -> None:
    truth = photograph(*SMALL, seed=3, view=View(degrees=0.5, scale=1.03))
    Camera().write_with_preview(tmp_path / "a.dng", truth.mosaic, truth.picture)
    made = make(Photograph("a.dng", tmp_path / "a.dng"), MakeSettings("embedded", patch=PATCH))
    assert len(made.cuts) > 3
    assert made.scale == pytest.approx(1.03, abs=0.01)
    Camera().write(tmp_path / "b.dng", truth.mosaic)
    with pytest.raises(DataError, match="has no picture inside"):
        make(Photograph("b.dng", tmp_path / "b.dng"), MakeSettings("embedded", patch=PATCH))


def test_the_largest_picture_inside_of_a_raw_is_taken_and_a_small_one_is_refused(tmp_path: Path) -> None:
    truth = photograph(*SMALL, seed=3)
    small, larger = truth.picture[:80, :112], truth.picture[16:-16, 16:-16]
    Camera().write_with_jpegs(tmp_path / "a.dng", truth.mosaic, [jpeg(small), jpeg(larger), jpeg(small)])
    pixels = read_embedded(tmp_path / "a.dng").pixels
    assert pixels.shape == larger.shape
    assert np.abs(pixels.astype(int) - larger).mean() < 8
    reduced = cv2.resize(truth.picture, None, fx=0.3, fy=0.3, interpolation=cv2.INTER_AREA)
    Camera().write_with_jpegs(tmp_path / "b.dng", truth.mosaic, [jpeg(reduced)])
    with pytest.raises(DataError, match=r"0.3. px for one of the mosaic"):
        make(Photograph("b.dng", tmp_path / "b.dng"), MakeSettings("embedded", patch=PATCH))


def test_a_crop_inside_of_a_raw_is_laid_on_the_mosaic(tmp_path: Path) -> None:
    truth = photograph(*SMALL, seed=3)
    top, left = 24, 8
    Camera(orientation=6).write_with_jpegs(tmp_path / "a.dng", truth.mosaic, [jpeg(truth.picture[top:-8, left:-24])])
    made = make(Photograph("a.dng", tmp_path / "a.dng"), MakeSettings("embedded", patch=PATCH))
    assert len(made.cuts) > 3
    # LibRaw marks what has no mark with the RAW's orientation: the picture is turned clockwise.
    turned = made.alignment.full()
    assert made.degrees == pytest.approx(90 - View().degrees, abs=2)
    height = truth.picture.shape[0] - top - 8
    field = np.stack([turned[..., 1] + left, height - 1 - turned[..., 0] + top], axis=-1)
    shifts = [
        truth.residual_px(field)[c.judgement.row :, c.judgement.column :][:PATCH, :PATCH].ravel() for c in made.cuts
    ]
    assert np.median(np.concatenate(shifts)) < 0.5


@pytest.mark.parametrize(
    ("spoil", "said"),
    [(lambda data: data[: len(data) // 2], "is damaged"), (lambda data: bytes(len(data)), "is damaged or of a kind")],
    ids=["half", "zeros"],
)
def test_a_damaged_picture_inside_of_a_raw_is_refused(
    tmp_path: Path, spoil: Callable[[bytes], bytes], said: str
) -> None:
    truth = photograph(*SMALL, seed=3)
    content, size = jpeg(truth.picture)
    Camera().write_with_jpegs(tmp_path / "a.dng", truth.mosaic, [(spoil(content), size)])
    with pytest.raises(DataError, match=f'The picture inside of ".*a.dng" {said}'):
        read_embedded(tmp_path / "a.dng")


def test_a_target_in_black_and_white_teaches_no_colours(tmp_path: Path) -> None:
    truth = photograph(*SMALL, seed=3)
    grey = np.repeat(truth.picture[..., 1:2], 3, axis=2)
    with pytest.raises(DataError, match="black and white"):
        make(write(tmp_path, truth, grey), SETTINGS)


def jpeg(picture: np.ndarray) -> tuple[bytes, tuple[int, int]]:
    file = BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(file, "JPEG", quality=95)
    return file.getvalue(), picture.shape[:2]


@pytest.mark.parametrize("target", ["embedded", "libraw"])
def test_a_mosaic_alone_has_no_picture_of_its_own(tmp_path: Path, target: str) -> None:
    photo = write(tmp_path, photograph(128, 128, seed=3))
    with pytest.raises(DataError, match="is a mosaic alone"):
        make(Photograph("a.png", photo.raw), MakeSettings(target, patch=PATCH, raw=FMT))


# Phases, levels


@pytest.mark.parametrize(("pattern", "wanted"), list(product(PATTERNS, PATTERNS)))
def test_a_mosaic_of_any_phase_is_cropped_to_the_one_that_is_wanted(pattern: str, wanted: str) -> None:
    letters = np.array(list(pattern)).reshape(2, 2)
    colours = np.tile(letters, (4, 5))
    values = np.arange(80, dtype=np.uint16).reshape(8, 10)
    places = dict(zip(("00", "01", "10", "11"), (1.0, 2.0, 3.0, 4.0), strict=True))
    mosaic, (row, column) = in_phase(Mosaic(values, pattern, tuple(places.values()), 1023.0), wanted)
    assert "".join(colours[row : row + 2, column : column + 2].ravel()) == wanted == mosaic.pattern
    assert (row, column) == phase_offset(pattern, wanted)
    assert mosaic.values.shape == (8 - 2 * row, 10 - 2 * column)
    np.testing.assert_array_equal(
        mosaic.values, values[row : row + mosaic.values.shape[0], column : column + mosaic.values.shape[1]]
    )
    assert mosaic.black[0] == places[f"{row}{column}"]


def test_levels_by_hand_are_of_all_places_or_of_each() -> None:
    mosaic = Mosaic(np.zeros((4, 4), np.uint16), "RGGB", (60.0, 61.0, 62.0, 63.0), 1023.0)
    assert with_levels(mosaic, None, None) == mosaic
    assert with_levels(mosaic, 64, 1000).black == (64.0,) * 4
    by_tile = with_levels(mosaic, (1, 2, 3, 4.5), None)
    assert (by_tile.black, by_tile.white) == ((1.0, 2.0, 3.0, 4.5), 1023.0)
    assert in_phase(by_tile, "BGGR")[0].black == (4.5, 3.0, 2.0, 1.0), "they move with the phase"


def test_black_is_subtracted_from_each_place_by_its_own_level() -> None:
    values = np.array([[60, 70], [50, 1023]], np.uint16)
    mosaic = without_black(Mosaic(values, "RGGB", (60.0, 61.0, 62.0, 63.0), 1023.0))
    assert mosaic.values.tolist() == [[0, 9], [0, 960]]
    assert (mosaic.black, mosaic.white) == ((0.0,) * 4, 960.0)
    assert values.tolist() == [[60, 70], [50, 1023]]


def test_a_mosaic_is_developed_evenly_whatever_its_black_levels(tmp_path: Path) -> None:
    flat = np.full((64, 64), 300, np.uint16)
    flat[0::2, 0::2] += 40
    grey = develop(flat, (104.0, 64.0, 64.0, 64.0), 1023.0)
    assert np.ptp(grey) == 0
    Camera(black=(104, 64, 64, 64)).write(tmp_path / "a.dng", flat)
    read = read_mosaic(tmp_path / "a.dng", FMT)
    assert np.ptp(develop(read.values, read.black, read.white)) == 0
