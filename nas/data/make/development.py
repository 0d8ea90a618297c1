"""Develop a mosaic into the grey picture that it is matched by: half size, balanced, as bright as a finished one.

Of every 2×2 tile one pixel is made, so nothing is interpolated: pixel i lies at 2i + 0.5 of the mosaic.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, UInt8, UInt16

GAMMA = 1 / 2.2
WHITE_PERCENTILE = 99.0
SAMPLED_EVERY = 7  # pixels that decide levels; all of 12 megapixels would take longer than the rest
LEAST_SIGNAL = 1e-4  # of the range; a darker picture is noise however much it is brightened


def develop(mosaic: UInt16[np.ndarray, "h w"], black: Sequence[float], white: float) -> UInt8[np.ndarray, "h/2 w/2"]:
    """Return the grey picture of a mosaic of even sides; `black` is of the four places of the tile, row by row."""
    rows, columns = mosaic.shape[0] // 2, mosaic.shape[1] // 2
    grey = np.zeros((rows, columns), np.float32)
    for place, level in enumerate(black):
        signal = mosaic[place // 2 : 2 * rows : 2, place % 2 : 2 * columns : 2].astype(np.float32) - np.float32(level)
        grey += signal * np.float32(0.25 / max(float(signal[::SAMPLED_EVERY].mean()), LEAST_SIGNAL * white))
    return _displayed(grey)


def _displayed(light: Float32[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    top = max(float(np.percentile(light[::SAMPLED_EVERY, ::SAMPLED_EVERY], WHITE_PERCENTILE)), 1e-6)
    scaled = np.clip(light / np.float32(top), 0, 1)
    shown: UInt8[np.ndarray, "h w"] = np.rint(255 * scaled ** np.float32(GAMMA)).astype(np.uint8)
    return shown
