"""The folder of an export: names of its files, and whether they may be written there."""

import os
from pathlib import Path

from nas.tflite.input_contract import CARD_FILE
from search_spaces.errors import ExportError
from search_spaces.precision import PRECISIONS

CARD_TEXT_FILE = "card.md"
PATCHES_FILE = "patches.png"


def model_file(precision: str, *, dynamic: bool = False) -> str:
    """Return the name of a file: the challenge's model.tflite and model_none.tflite, others with their precision."""
    return f"model{'' if precision == 'fp32' else f'_{precision}'}{'_none' if dynamic else ''}.tflite"


def require_place(out: Path) -> None:
    """Raise ExportError where an export cannot be written into `out`, before hours are spent on it."""
    refuse_overwriting(out)
    nearest = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not nearest.is_dir():
        raise ExportError(f"{nearest} is a file, wanted a folder; name another with --out.")
    if not os.access(nearest, os.W_OK):
        raise ExportError(f"Nothing can be written into {nearest}; name another folder with --out.")


def refuse_overwriting(out: Path) -> None:
    """Raise ExportError where `out` holds a file that an export writes."""
    files = [model_file(name, dynamic=dynamic) for name in PRECISIONS for dynamic in (False, True)]
    for name in (*files, CARD_FILE, CARD_TEXT_FILE, PATCHES_FILE):
        if (out / name).exists():
            raise ExportError(f"{out / name} exists and is not overwritten; name another folder with --out.")
