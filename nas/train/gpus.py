"""The GPUs of this machine, without loading CUDA, and how training processes share them."""

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

# What processes on one card may take of its memory together; the driver and CUDA's own state need the rest.
SHARE_OF_CARD = 0.9
DEVICES = Path("/dev")
_ANSWERS_S = 20.0


@dataclass(frozen=True)
class GpuShare:
    """A part of one card, for one process."""

    device: str  # as CUDA_VISIBLE_DEVICES names it: an index, or a UUID
    memory_share: float
    model: str = ""

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables that pin a process to it; a memory share that the user set wins."""
        name = "XLA_PYTHON_CLIENT_MEM_FRACTION"
        return {"CUDA_VISIBLE_DEVICES": self.device, name: os.environ.get(name, f"{self.memory_share:.3f}")}

    def __str__(self) -> str:
        return f"GPU {self.device}" + (f", {self.model}" if self.model else "")


def local_gpus() -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; none where there are none.

    That variable where it is set, up to the first name that hides what follows, as CUDA reads it; else one number for
    each card that the system shows.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        names: list[str] = []
        for name in (part.strip() for part in visible.split(",")):
            if name in ("", "-1"):
                break
            names.append(name)
        return names
    return [str(number) for number in range(_cards())]


def _cards() -> int:
    try:
        return sum(re.fullmatch(r"nvidia\d+", entry.name) is not None for entry in DEVICES.iterdir())
    except OSError:
        return 0


def shares_of_gpus(workers: int, gpus: Sequence[str]) -> list[GpuShare]:
    """Spread workers evenly over cards; those on one card divide its memory."""
    on_card = [len(range(number, workers, len(gpus))) for number in range(len(gpus))]
    models = _models()
    return [
        GpuShare(gpus[card], SHARE_OF_CARD / on_card[card], models.get(gpus[card], ""))
        for card in (number % len(gpus) for number in range(workers))
    ]


@cache
def _models() -> dict[str, str]:
    """Return the cards' names by index and by UUID, as far as nvidia-smi tells."""
    try:
        process = subprocess.run(
            ["nvidia-smi", "--query-gpu=index,uuid,name", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            check=True,
            timeout=_ANSWERS_S,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    rows = (line.split(", ", 2) for line in process.splitlines() if line.count(", ") >= 2)
    return {key: name for index, uuid, name in rows for key in (index, uuid)}
