"""Write losses, qualities and pictures of a training for TensorBoard.

Events are written as they come, not by the thread of tensorboardX's own SummaryWriter: where the disk is full, that
one ends with a traceback on the terminal, and training waits for it without end.
"""

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from nas.train.history import Validation
from search_spaces.errors import StudyError
from search_spaces.system.file_errors import acting_on

SCALARS_FOLDER = "tensorboard"


class Scalars:
    """Writes one run's events; those of steps after `first` that an earlier call wrote are hidden by TensorBoard.

    Raises StudyError where the disk does not take them.
    """

    def __init__(self, folder: Path, *, first: int) -> None:
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.record_writer import RecordWriter

        # TensorBoard reads the files of a folder in the order of their seconds.
        name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}.{os.getpid()}"
        self._path, self._event = folder / SCALARS_FOLDER / name, Event
        with acting_on(self._path, "write", StudyError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = RecordWriter(str(self._path))
        self._write(file_version="brain.Event:2")
        if first:
            self._write(step=first + 1, session_log=SessionLog(status=SessionLog.START))

    def losses(self, step: int, losses: Mapping[str, float]) -> None:
        """Add the losses of a training step."""
        self._scalars(step, {f"train/{name}": value for name, value in losses.items()})

    def validation(self, seen: Validation) -> None:
        """Add what a validation found, and have everything so far on the disk."""
        scalars = {f"validation/{name}": getattr(seen, name) for name in ("psnr_db", "ssim")}
        self._scalars(seen.step, {**scalars, "train/learning_rate": seen.learning_rate})
        self._acted(self._writer.flush)

    def picture(self, step: int, rgb: np.ndarray[Any, Any]) -> None:
        """Add a picture, uint8 [h, w, 3]."""
        from tensorboardX.summary import image

        self._write(step=step, summary=image("validation/patches", rgb, dataformats="HWC"))

    def close(self) -> None:
        """Write what is left."""
        self._acted(self._writer.close)

    def _scalars(self, step: int, values: Mapping[str, float]) -> None:
        from tensorboardX.summary import scalar

        for name, value in values.items():
            self._write(step=step, summary=scalar(name, value))

    def _write(self, **event: Any) -> None:
        self._acted(self._writer.write, self._event(wall_time=time.time(), **event).SerializeToString())

    def _acted(self, act: Any, *arguments: Any) -> None:
        try:
            with acting_on(self._path, "write", StudyError):
                act(*arguments)
        except StudyError:
            with suppress(OSError):  # closed, it has nothing left that Python would try to write at its end
                self._writer.close()
            raise
