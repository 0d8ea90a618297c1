"""History of a long training: one line per validation, from which best step and plateau are computed.

The lines are JSON in `history.jsonl`, each with a checksum, rewritten whole each time: a crash leaves those before the
last stretch, and the stretch that is trained again writes the same ones but for the seconds and the checksums.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import ConfigDict

from nas.train.ranges import Seconds, Steps
from search_spaces.errors import StudyError
from search_spaces.system import stored
from search_spaces.system.atomic_write import write_durably
from search_spaces.system.checksums import Chain
from search_spaces.system.file_errors import cause

HISTORY_FILE = "history.jsonl"


@dataclass(frozen=True)
class Validation:
    """What a network was worth on the validation pairs after a step."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    step: Steps
    psnr_db: float
    ssim: float
    losses: dict[str, float]  # means over the last training steps, "loss" being their weighted sum
    learning_rate: float
    train_s: Seconds  # of the steps since the validation before
    waited_s: Seconds  # of these, for batches


_VALIDATION: stored.Schema[Validation] = stored.Schema(Validation)


def read(folder: Path, *, until: int) -> list[Validation]:
    """Return the validations of a run up to step `until`; raise StudyError where the file is damaged."""
    path = folder / HISTORY_FILE
    if not path.exists():
        return []
    try:
        lines = list(_validations(stored.read_bytes(path)))
    except (OSError, ValueError) as error:
        raise StudyError(
            f"{path} cannot be read ({cause(error)}); remove it, and the training goes on from its last state."
        ) from None
    return [line for line in lines if line.step <= until]


def _validations(content: bytes) -> Iterator[Validation]:
    """Yield what the lines hold; raise ValueError where one is none, or not as it was written."""
    chain = Chain()
    for line in content.splitlines():
        try:
            record, chain = chain.follow(line)
        except ValueError:
            raise ValueError("a line is not as it was written") from None
        yield _VALIDATION.read_json(record)


def write(folder: Path, validations: Sequence[Validation]) -> None:
    """Replace a run's history; OSError where the disk does not take it."""
    lines, chain = [], Chain()
    for each in validations:
        line, chain = chain.add(json.dumps(asdict(each)).encode())
        lines.append(line)
    write_durably(folder / HISTORY_FILE, b"".join(lines))


def best(validations: Sequence[Validation]) -> Validation | None:
    """Return the validation of the highest PSNR, the earliest among equals; None where there is none."""
    able = [each for each in validations if math.isfinite(each.psnr_db)]
    return max(able, key=lambda each: (each.psnr_db, -each.step), default=None)


def stands_still(validations: Sequence[Validation], patience: int | None) -> bool:
    """Tell whether the last `patience` validations brought nothing better than the one before them."""
    if patience is None or len(validations) <= patience:
        return False
    best_so_far = best(validations)
    return best_so_far is None or best_so_far in validations[: len(validations) - patience]
