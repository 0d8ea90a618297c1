"""PSNR, SSIM and MS-SSIM are those of the challenge, that is of TensorFlow; a few values are known without it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf

from nas.train import metrics

SHAPE = (3, 24, 31, 3)
# Compiled: every single operation would be compiled apart otherwise.
psnr_db, ssim = jax.jit(metrics.psnr_db), jax.jit(metrics.ssim)


def random_images(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(SHAPE, np.float32)


def smooth_images(seed: int) -> np.ndarray:
    phase = np.random.default_rng(seed).uniform(0, 6, (*SHAPE[:1], 1, 1, *SHAPE[3:]))
    rows, columns = np.mgrid[: SHAPE[1], : SHAPE[2]]
    return (0.5 + 0.4 * np.sin(rows[..., None] / 7 + columns[..., None] / 9 + phase)).astype(np.float32)


def constant_images(level: float) -> np.ndarray:
    return np.full(SHAPE, level, np.float32)


PAIRS = {
    "random": (random_images(0), random_images(1)),
    "random, alike": (random_images(0), np.clip(random_images(0) + 0.02 * random_images(1), 0, 1)),
    "smooth": (smooth_images(0), smooth_images(1)),
    "smooth with noise": (smooth_images(0) + 0.05 * (random_images(2) - 0.5), smooth_images(0)),
    "constant": (constant_images(0.4), constant_images(0.6)),
    "constant against random": (constant_images(0.5), random_images(1)),
    "black against white": (constant_images(0.0), constant_images(1.0)),
    "black against black and a little": (constant_images(0.0), constant_images(0.001)),
}


@pytest.mark.parametrize(("predicted", "target"), PAIRS.values(), ids=PAIRS)
def test_psnr_is_tensorflows(predicted: np.ndarray, target: np.ndarray) -> None:
    ours = psnr_db(jnp.asarray(predicted), jnp.asarray(target))
    theirs = tf.image.psnr(predicted, target, max_val=1.0).numpy()
    np.testing.assert_allclose(ours, theirs, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", PAIRS)
def test_ssim_is_tensorflows(name: str) -> None:
    predicted, target = PAIRS[name]
    ours = ssim(jnp.asarray(predicted), jnp.asarray(target))
    theirs = tf.image.ssim(predicted, target, max_val=1.0).numpy()
    # Where both are flat, variances are differences of nearly equal numbers, and float32 keeps four digits of the
    # result in TensorFlow and here alike.
    np.testing.assert_allclose(ours, theirs, atol=2e-4 if name == "constant" else 1e-5, rtol=0)


SIZES = {"one window": (11, 11), "oblong": (24, 31), "patch": (64, 64), "odd": (177, 203)}


@pytest.mark.parametrize("side", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("amount", [0.0, 0.02, 0.3])
def test_ssim_is_tensorflows_at_every_size(side: tuple[int, int], amount: float) -> None:
    target = scenes(0, side)
    predicted = noisy(target, amount)
    theirs = tf.image.ssim(predicted, target, max_val=1.0).numpy()
    np.testing.assert_allclose(ssim(jnp.asarray(predicted), jnp.asarray(target)), theirs, atol=1e-4, rtol=0)


def test_the_ssim_of_flat_images_is_that_of_their_means() -> None:
    wanted = (2 * 0.4 * 0.6 + 1e-4) / (0.4**2 + 0.6**2 + 1e-4)
    np.testing.assert_allclose(ssim(*map(jnp.asarray, PAIRS["constant"])), wanted, atol=2e-4)


@pytest.mark.parametrize("difference_db", [(0.1, 20.0), (0.01, 40.0), (1e-3, 60.0)], ids=str)
def test_a_constant_difference_has_a_known_psnr(difference_db: tuple[float, float]) -> None:
    difference, db = difference_db
    target = jnp.full(SHAPE, 0.5)
    np.testing.assert_allclose(psnr_db(target + difference, target), db, atol=1e-2)


def test_a_perfect_image_has_a_hundred_db_and_an_ssim_of_one() -> None:
    images = jnp.asarray(random_images(0))
    np.testing.assert_allclose(psnr_db(images, images), 100.0, atol=1e-4)
    np.testing.assert_allclose(ssim(images, images), 1.0, atol=1e-6)


def test_what_leaves_the_range_is_clipped_before_psnr() -> None:
    target = jnp.asarray(random_images(0)).round()
    beyond = jnp.where(target > 0.5, 1.7, -0.3)
    np.testing.assert_allclose(psnr_db(beyond, target), 100.0, atol=1e-4)


def test_images_are_judged_one_by_one() -> None:
    predicted, target = (jnp.asarray(image) for image in PAIRS["smooth with noise"])
    target = target.at[1].set(1.0)
    for metric in (psnr_db, ssim):
        alone = [float(metric(predicted[i : i + 1], target[i : i + 1])[0]) for i in range(len(predicted))]
        np.testing.assert_allclose(metric(predicted, target), alone, rtol=1e-5)
        assert len(set(alone)) == len(alone)


def test_an_image_of_one_window_has_the_ssim_of_its_definition() -> None:
    x, y = (np.random.default_rng(seed).random((11, 11)) for seed in (0, 1))
    offsets = np.arange(11) - 5
    line = np.exp(-(offsets**2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2
    mx, my = (window * x).sum(), (window * y).sum()
    vx, vy = (window * (x - mx) ** 2).sum(), (window * (y - my) ** 2).sum()
    covariance = (window * (x - mx) * (y - my)).sum()
    wanted = (2 * mx * my + 1e-4) * (2 * covariance + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4))
    images = (jnp.asarray(image[None, :, :, None], jnp.float32) for image in (x, y))
    np.testing.assert_allclose(ssim(*images), wanted, atol=1e-5)


# MS-SSIM


def scenes(seed: int, side: tuple[int, int]) -> np.ndarray:
    """Waves of many lengths, so that every scale has something to compare."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: side[0], : side[1]] / 16
    phases = rng.uniform(0, 6, (4, 2, 1, 1, 3))
    waves = [
        np.sin(2.0**i * rows[..., None] + p) * np.sin(2.0**i * columns[..., None] + q)
        for i, (p, q) in enumerate(phases)
    ]
    return np.stack([0.5 + 0.1 * sum(waves), 0.5 + 0.2 * waves[1]], axis=0).astype(np.float32).reshape(2, *side, 3)


def noisy(images: np.ndarray, amount: float) -> np.ndarray:
    noise = np.random.default_rng(9).standard_normal(images.shape)
    return (images + amount * noise).astype(np.float32)


LARGE = {"the least for five scales": (161, 161), "even": (176, 176), "odd and oblong": (177, 203), "large": (256, 192)}
ms_ssim = jax.jit(metrics.ms_ssim)


@pytest.mark.parametrize("side", LARGE.values(), ids=LARGE)
@pytest.mark.parametrize("amount", [0.0, 0.02, 0.3])
def test_ms_ssim_is_tensorflows_on_large_images(side: tuple[int, int], amount: float) -> None:
    target = scenes(0, side)
    predicted = noisy(target, amount)
    ours = ms_ssim(jnp.asarray(predicted), jnp.asarray(target))
    theirs = tf.image.ssim_multiscale(predicted, target, max_val=1.0).numpy()
    np.testing.assert_allclose(ours, theirs, atol=1e-4, rtol=0)


def test_ms_ssim_is_tensorflows_where_a_contrast_is_negative() -> None:
    target = scenes(0, (176, 176))
    theirs = tf.image.ssim_multiscale(1 - target, target, max_val=1.0).numpy()
    np.testing.assert_allclose(ms_ssim(jnp.asarray(1 - target), jnp.asarray(target)), theirs, atol=1e-4)
    assert theirs.min() == 0


@pytest.mark.parametrize(
    ("side", "scales"),
    [(11, 1), (20, 1), (21, 2), (40, 2), (41, 3), (64, 3), (81, 4), (128, 4), (160, 4), (161, 5), (1088, 5)],
)
def test_small_images_have_fewer_scales_whose_weights_sum_to_one(side: int, scales: int) -> None:
    assert metrics.scale_count(side) == scales
    if side > 200:
        return
    target = scenes(0, (side, side))
    predicted = noisy(target, 0.05)
    weights = np.array(metrics.SCALE_WEIGHTS[:scales])
    theirs = tf.image.ssim_multiscale(predicted, target, 1.0, power_factors=(weights / weights.sum()).tolist()).numpy()
    np.testing.assert_allclose(ms_ssim(jnp.asarray(predicted), jnp.asarray(target)), theirs, atol=1e-4)


def test_the_least_contrast_stands_in_for_whatever_is_below() -> None:
    target = jnp.asarray(scenes(0, (16, 16)))
    np.testing.assert_allclose(metrics.ms_ssim(1 - target, target, least_contrast=0.25), 0.25, atol=1e-6)
