"""The folder of an export: names of its files, and whether they may be written there."""

import hashlib
import json
import os
import shutil
from pathlib import Path

from nas.tflite.input_contract import CARD_FILE
from search_spaces.errors import ExportError
from search_spaces.precision import PRECISIONS
from search_spaces.system import stored
from search_spaces.system.atomic_write import hidden_name, write_durably
from search_spaces.system.folder_lock import LOCK
from search_spaces.system.work_folder import abandoned, clear_abandoned, give_name

CARD_TEXT_FILE = "card.md"
PATCHES_FILE = "patches.png"
PREFIX = ".export-"  # of work folders
MOVES = "moves.json"  # what is to be moved out of one
_PROCESS_DIGITS = 10


def model_file(precision: str, *, dynamic: bool = False) -> str:
    """Return the name of a file: the challenge's model.tflite and model_none.tflite, others with their precision."""
    return f"model{'' if precision == 'fp32' else f'_{precision}'}{'_none' if dynamic else ''}.tflite"


def require_place(out: Path) -> None:
    """Raise ExportError where an export cannot be written into `out`, before hours are spent on it.

    What an export that was killed left behind is taken away before.
    """
    undo_broken_moves(out)
    refuse_overwriting(out)
    nearest = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not nearest.is_dir():
        raise ExportError(f"{nearest} is a file, wanted a folder; name another with --out.")
    if not os.access(nearest, os.W_OK):
        raise ExportError(f"Nothing can be written into {nearest}; name another folder with --out.")


def publish(folder: Path, out: Path) -> None:
    """Give the files of a work folder their names in `out`: all in one step, or in steps that can be undone.

    A folder that is new or empty is replaced by the work folder. Beside other files they are moved one by one, after a
    list of them was written; where the process ends between, `undo_broken_moves` finds the list.
    """
    if not any(path for path in out.iterdir() if path != folder):
        staged = out.with_name(f"{_staged(out)}{os.getpid():0{_PROCESS_DIGITS}d}")
        folder.rename(staged)  # out of the folder that it replaces
        give_name(staged, out)
        return
    files = [path for path in sorted(folder.iterdir(), key=lambda path: path.name == CARD_FILE) if path.name != LOCK]
    moves = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    write_durably(folder / MOVES, json.dumps(moves).encode())
    for path in files:  # the card closes the set
        path.replace(out / path.name)
    (folder / MOVES).unlink()


def undo_broken_moves(out: Path) -> None:
    """Take away what an export left behind that was killed: its work folder, and files that it had moved already.

    Only files that are byte by byte what it made are removed.
    """
    clear_abandoned(out.parent, _staged(out))
    for folder in abandoned(out, PREFIX):
        moved = {name: out / name for name, digest in _moves(folder).items() if _is_same(out, name, digest)}
        if CARD_FILE not in moved:  # it closes the set, which is complete then
            for path in moved.values():
                path.unlink()
        shutil.rmtree(folder, ignore_errors=True)


def _is_same(out: Path, name: str, digest: object) -> bool:
    path = out / name
    return Path(name).name == name and path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == digest


def _staged(out: Path) -> str:
    whole = hidden_name(out.name, f".export-staged-{'0' * _PROCESS_DIGITS}")  # long names leave room for the number
    return whole[:-_PROCESS_DIGITS]


def _moves(folder: Path) -> dict[str, str]:
    try:
        moves = stored.parse_json(stored.read_bytes(folder / MOVES))
    except (OSError, ValueError):  # killed before it had anything to move
        return {}
    return moves if isinstance(moves, dict) else {}


def refuse_overwriting(out: Path) -> None:
    """Raise ExportError where `out` holds a file that an export writes."""
    files = [model_file(name, dynamic=dynamic) for name in PRECISIONS for dynamic in (False, True)]
    for name in (*files, CARD_FILE, CARD_TEXT_FILE, PATCHES_FILE):
        if (out / name).exists():
            raise ExportError(f"{out / name} exists and is not overwritten; name another folder with --out.")
