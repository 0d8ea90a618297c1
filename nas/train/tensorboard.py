"""Write losses, qualities and pictures of a training for TensorBoard."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nas.train.history import Validation

SCALARS_FOLDER = "tensorboard"


class Scalars:
    """Writes one run's events; those of steps after `first` that an earlier call wrote are hidden by TensorBoard."""

    def __init__(self, folder: Path, *, first: int) -> None:
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(folder / SCALARS_FOLDER), purge_step=first + 1 if first else None)

    def losses(self, step: int, losses: Mapping[str, float]) -> None:
        """Add the losses of a training step."""
        for name, value in losses.items():
            self._writer.add_scalar(f"train/{name}", value, step)

    def validation(self, seen: Validation) -> None:
        """Add what a validation found."""
        for name in ("psnr_db", "ssim"):
            self._writer.add_scalar(f"validation/{name}", getattr(seen, name), seen.step)
        self._writer.add_scalar("train/learning_rate", seen.learning_rate, seen.step)
        self._writer.flush()

    def picture(self, step: int, rgb: np.ndarray[Any, Any]) -> None:
        """Add a picture, uint8 [h, w, 3]."""
        self._writer.add_image("validation/patches", rgb, step, dataformats="HWC")

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()
