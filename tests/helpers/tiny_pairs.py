"""Pairs in the challenge's layout, small enough to train on in seconds: colour gradients and what a sensor saw."""

from pathlib import Path

import numpy as np
from PIL import Image

TINY_PAIRS = {"train": 8, "val": 4, "test": 2}
TINY_SIDE = 64  # pixels of the mosaic
GAMMA = 2.2


def write_tiny_pairs(root: Path) -> None:
    rng = np.random.default_rng(0)
    for split, count in TINY_PAIRS.items():
        for number in range(count):
            rgb = colour_gradients(rng)
            for kind, image in (("mediatek_raw", mosaic(rgb, rng)), ("fujifilm", rgb)):
                (root / split / kind).mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(root / split / kind / f"{number}.png")


def colour_gradients(rng: np.random.Generator) -> np.ndarray:
    """Each channel rises in a direction of its own; one edge crosses them."""
    rows, columns = np.mgrid[:TINY_SIDE, :TINY_SIDE] / TINY_SIDE
    slope = rng.uniform(-0.4, 0.4, (2, 3))
    image = rng.uniform(0.3, 0.7, 3) + (rows[..., None] - 0.5) * slope[0] + (columns[..., None] - 0.5) * slope[1]
    image = np.where((rows + columns > rng.uniform(0.5, 1.5))[..., None], image, image * 0.6)
    return (np.clip(image, 0, 1) * 255).round().astype(np.uint8)


def mosaic(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What an RGGB sensor of ten bits would have seen, noise included."""
    linear = (rgb / 255) ** GAMMA + rng.normal(0, 0.005, rgb.shape)
    raw = np.empty(rgb.shape[:2])
    for channel, row, column in ((0, 0, 0), (1, 0, 1), (1, 1, 0), (2, 1, 1)):
        raw[row::2, column::2] = linear[row::2, column::2, channel]
    return (np.clip(raw, 0, 1) * 1023).round().astype(np.uint16)
