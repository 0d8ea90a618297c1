"""Simulate the mosaic a phone's sensor would have recorded of a finished photograph.

The steps of a camera's pipeline are undone in reverse order, then noise is added:

    sRGB 8 bits ─ tone curve⁻¹ ─ gamma⁻¹ ─ colour matrix⁻¹ ─ gain, white balance⁻¹ ─ lens ─ mosaic ─ noise ─ 10 bits

Source of the steps and of all ranges unless said otherwise: Brooks et al., "Unprocessing Images for Learned Raw
Denoising", CVPR 2019, section 3. Every function is pure; what is random comes from a seed.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Float32, Shaped, UInt8, UInt16
from scipy import ndimage

from nas.data.raw_format import RawFormat

# sRGB → camera, linear. Rows sum to 1, so grey stays grey before white balance; no entry is negative, so a colour
# inside sRGB stays between 0 and 1. Ours: the strength of the mixing is that of a phone sensor under daylight (its
# inverse has 1.9, 1.7 and 1.7 on the diagonal), not a measurement of any one camera.
SRGB_TO_CAMERA = np.array([[0.58, 0.34, 0.08], [0.13, 0.72, 0.15], [0.04, 0.30, 0.66]])

# One camera that keeps its white balance and exposure nearly still. What no network can know from a patch is an error
# that all networks share: with the paper's ranges (1.9–2.4, 1.5–1.9, a deviation of 0.1) and its noise every network
# of 16 channels ended at 25.1 ± 0.2 dB, and the set did not tell networks apart.
RED_GAINS = (2.05, 2.15)
BLUE_GAINS = (1.65, 1.75)
BRIGHTNESS_MEAN, BRIGHTNESS_DEVIATION = 0.8, 0.01  # of the inverse of the digital gain
LENS_BLUR = 0.5  # px, standard deviation: a phone's lens is less sharp than the camera that took the target
HIGHLIGHTS_FROM = 0.9  # above this grey level, undoing gains fades out so that white stays white

# Shot noise is drawn between these, log-uniformly: base sensitivity in daylight. The paper has 1e-4 to 0.012.
SHOT_NOISE = (1e-5, 3e-4)
# log(read) = 2.18·log(shot) + 1.20 ± 0.26: the paper's fit over the cameras of the Darmstadt set.
READ_SLOPE, READ_INTERCEPT, READ_DEVIATION = 2.18, 1.20, 0.26

NOISE_STREAM = 1  # apart from the numbers that draw the exposure


@dataclass(frozen=True)
class Exposure:
    """How one photograph was taken: gains the camera applied, and noise variances at a signal of 1 and of 0."""

    red_gain: float
    blue_gain: float
    digital_gain: float
    shot_noise: float
    read_noise: float


def draw_exposure(seed: int) -> Exposure:
    """Draw gains and noise for one scene."""
    rng = np.random.default_rng(seed)
    shot = np.exp(rng.uniform(*np.log(SHOT_NOISE)))
    read = np.exp(READ_SLOPE * np.log(shot) + READ_INTERCEPT + READ_DEVIATION * rng.standard_normal())
    return Exposure(
        red_gain=float(rng.uniform(*RED_GAINS)),
        blue_gain=float(rng.uniform(*BLUE_GAINS)),
        digital_gain=float(1 / max(0.5, rng.normal(BRIGHTNESS_MEAN, BRIGHTNESS_DEVIATION))),
        shot_noise=float(shot),
        read_noise=float(read),
    )


def undo_tone_curve(display: Float[np.ndarray, "*s"]) -> Float[np.ndarray, "*s"]:
    """Invert the smoothstep 3x² − 2x³ on [0, 1]: y ↦ 1/2 − sin(asin(1 − 2y)/3)."""
    linear: Float[np.ndarray, "*s"] = 0.5 - np.sin(np.arcsin(1 - 2 * np.clip(display, 0, 1)) / 3)
    return linear


def undo_gamma(encoded: Float[np.ndarray, "*s"]) -> Float[np.ndarray, "*s"]:
    """Expand a gamma of 1/2.2."""
    linear: Float[np.ndarray, "*s"] = np.maximum(encoded, 1e-8) ** 2.2
    return linear


@lru_cache(maxsize=1)
def linear_levels() -> Float32[np.ndarray, "256"]:
    """Linear light of each of the 256 levels of a finished photograph."""
    return undo_gamma(undo_tone_curve(np.arange(256) / 255)).astype(np.float32)


def undo_gains(camera: Float[np.ndarray, "h w 3"], exposure: Exposure) -> Float[np.ndarray, "h w 3"]:
    """Divide by white balance and digital gain, sparing highlights (section 3.4): a white sky stays saturated."""
    gains = np.array([exposure.red_gain, 1, exposure.blue_gain], camera.dtype) * camera.dtype.type(
        exposure.digital_gain
    )
    grey = camera.mean(axis=-1, keepdims=True)
    highlight = (np.maximum(grey - HIGHLIGHTS_FROM, 0) / (1 - HIGHLIGHTS_FROM)) ** 2
    undone: Float[np.ndarray, "h w 3"] = camera * np.maximum(highlight + (1 - highlight) / gains, 1 / gains)
    return undone


def blur(image: Float[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w 3"]:
    """Spread light as the lens does: a normal point spread function of LENS_BLUR."""
    spread: Float[np.ndarray, "h w 3"] = ndimage.gaussian_filter(image, (LENS_BLUR, LENS_BLUR, 0), mode="mirror")
    return spread


def mosaic_of(image: Shaped[np.ndarray, "h w 3"], fmt: RawFormat) -> Shaped[np.ndarray, "h w"]:
    """Keep, at each pixel, the one colour that the filter array lets through."""
    mosaic = np.empty(image.shape[:2], image.dtype)
    for row, colours in enumerate(fmt.tile()):
        for column, colour in enumerate(colours):
            mosaic[row::2, column::2] = image[row::2, column::2, colour]
    return mosaic


def add_noise(mosaic: Float[np.ndarray, "h w"], exposure: Exposure, *, seed: int) -> Float[np.ndarray, "h w"]:
    """Add normal noise of variance read + shot·signal (section 3.1)."""
    deviation = np.sqrt(exposure.read_noise + exposure.shot_noise * mosaic)
    return mosaic + deviation * np.random.default_rng([seed, NOISE_STREAM]).standard_normal(mosaic.shape, np.float32)


def quantise(signal: Float[np.ndarray, "h w"], fmt: RawFormat) -> UInt16[np.ndarray, "h w"]:
    """Write a signal in [0, 1] as whole numbers from the black to the white level.

    Noise below black is kept as far as the pedestal reaches; with a black level of 0 it is cut, as in files of
    cameras that subtract black themselves.
    """
    values: Float[np.ndarray, "h w"] = fmt.black + signal * (fmt.white_level - fmt.black)
    whole: UInt16[np.ndarray, "h w"] = np.clip(np.rint(values), 0, fmt.white_level).astype(np.uint16)
    return whole


def capture(photo: UInt8[np.ndarray, "h w 3"], fmt: RawFormat, *, seed: int) -> UInt16[np.ndarray, "h w"]:
    """Record a finished photograph as a noisy mosaic; equal arguments give equal bits."""
    exposure = draw_exposure(seed)
    camera = linear_levels()[photo] @ SRGB_TO_CAMERA.T.astype(np.float32)
    mosaic = mosaic_of(blur(undo_gains(camera, exposure)), fmt)
    return quantise(add_noise(mosaic, exposure, seed=seed), fmt)
