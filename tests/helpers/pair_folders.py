"""Folders of pairs in each layout, of random pixels."""

from pathlib import Path

import numpy as np
from PIL import Image

from nas.data.pairs import DataConfig

CHALLENGE = ("mediatek_raw", "fujifilm")


def write_pair(folder: Path, name: str, *, layout: tuple[str, str] = CHALLENGE, seed: int = 0, side: int = 8) -> None:
    rng = np.random.default_rng(seed)
    raw = rng.integers(0, 1024, (side, side), dtype=np.uint16)
    rgb = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
    for kind, image, suffix in zip(
        layout, (raw, rgb), (".png", ".jpg" if layout[1] == "canon" else ".png"), strict=True
    ):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / kind / f"{name}{suffix}")


def write_flat(root: Path, count: int = 20, *, layout: tuple[str, str] = CHALLENGE) -> DataConfig:
    for number in range(count):
        write_pair(root, str(number), layout=layout, seed=number)
    return DataConfig(str(root))


def write_splits(root: Path, **counts: int) -> DataConfig:
    for split, count in counts.items():
        for number in range(count):
            write_pair(root / split, str(number), seed=1000 * len(split) + number)
    return DataConfig(str(root))


def file_of(config: DataConfig, kind: str, name: str = "1.png") -> Path:
    return Path(config.source) / "train" / kind / name
