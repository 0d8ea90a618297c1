import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.data.demo.sensor import (
    BLUE_GAINS,
    RED_GAINS,
    SHOT_NOISE,
    SRGB_TO_CAMERA,
    Exposure,
    add_noise,
    capture,
    draw_exposure,
    linear_levels,
    mosaic_of,
    quantise,
    undo_gains,
    undo_tone_curve,
)
from nas.data.raw_format import PATTERNS, RawFormat

NEUTRAL = Exposure(red_gain=2.0, blue_gain=1.6, digital_gain=1.0, shot_noise=1e-3, read_noise=1e-5)


def test_the_tone_curve_is_undone() -> None:
    x = np.linspace(0, 1, 101)
    np.testing.assert_allclose(undo_tone_curve(3 * x**2 - 2 * x**3), x, atol=1e-7)


def test_linear_levels_rise_from_black_to_white() -> None:
    levels = linear_levels()
    assert levels[0] < 1e-6
    assert levels[255] == pytest.approx(1)
    assert (np.diff(levels) > 0).all()


def test_the_colour_matrix_keeps_grey_and_the_unit_range() -> None:
    np.testing.assert_allclose(SRGB_TO_CAMERA.sum(axis=1), 1)
    assert (SRGB_TO_CAMERA >= 0).all()


def test_undone_gains_divide_mid_tones_and_spare_white() -> None:
    grey = undo_gains(np.full((1, 1, 3), 0.5), NEUTRAL)
    np.testing.assert_allclose(grey[0, 0], [0.25, 0.5, 0.3125])
    np.testing.assert_allclose(undo_gains(np.ones((1, 1, 3)), NEUTRAL), 1)


@given(st.integers(0, 2**31))
def test_exposures_stay_in_the_papers_ranges(seed: int) -> None:
    exposure = draw_exposure(seed)
    assert RED_GAINS[0] <= exposure.red_gain <= RED_GAINS[1]
    assert BLUE_GAINS[0] <= exposure.blue_gain <= BLUE_GAINS[1]
    assert SHOT_NOISE[0] * 0.999 <= exposure.shot_noise <= SHOT_NOISE[1] * 1.001
    assert 0 < exposure.read_noise < exposure.shot_noise
    assert 0.7 < exposure.digital_gain <= 2


def test_noise_has_the_variance_of_the_model() -> None:
    for signal in (0.0, 0.1, 0.8):
        noisy = add_noise(np.full((400, 400), signal), NEUTRAL, seed=0)
        assert noisy.mean() == pytest.approx(signal, abs=5e-4)
        assert noisy.var() == pytest.approx(1e-5 + 1e-3 * signal, rel=0.03)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_each_pixel_keeps_the_colour_of_its_filter(pattern: str) -> None:
    image = np.broadcast_to(np.arange(3), (4, 6, 3))
    mosaic = mosaic_of(image, RawFormat(pattern=pattern))
    assert ["RGB"[int(c)] for c in mosaic[:2, :2].ravel()] == list(pattern)
    np.testing.assert_array_equal(mosaic[2:, 2:4], mosaic[:2, :2])


def test_values_run_from_the_black_to_the_white_level() -> None:
    fmt = RawFormat(bits=12, black=256, white=4000)
    values = quantise(np.array([[-1.0, 0.0, 0.5, 1.0, 2.0, 0.0]]), fmt)
    assert values.tolist() == [[0, 256, 2128, 4000, 4000, 256]]


def test_a_capture_is_a_function_of_its_seed() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    first, again, other = (capture(photo, RawFormat(), seed=seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_grey_card_is_greenest_on_the_sensor() -> None:
    mosaic = capture(np.full((64, 64, 3), 128, np.uint8), RawFormat(), seed=0)
    red, green, blue = mosaic[::2, ::2].mean(), mosaic[::2, 1::2].mean(), mosaic[1::2, 1::2].mean()
    assert red < blue < green
    exposure = draw_exposure(0)
    assert green / red == pytest.approx(exposure.red_gain, rel=0.05)
    assert green / blue == pytest.approx(exposure.blue_gain, rel=0.05)
