"""The cards of a study's exports: what each precision lost."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nas.report.data import Precisions
from nas.search.study import StudyRecord
from nas.tflite.input_contract import CARD_FILE
from search_spaces.errors import UsageError
from search_spaces.system import checksums, stored
from search_spaces.system.file_errors import listed

FIELDS = ("precision", "file", "refused", "size_bytes", "val_psnr_db", "val_ssim", "drop_db", "max_drop_db",
          "test_psnr_db", "runtime_ms", "runtime_low_ms", "runtime_high_ms", "local_runtime_ms")  # fmt: skip
_ABOUT = ("target", "hash", "steps", "trained_by", "device")


def precisions(study: StudyRecord, exports: Sequence[Path] = ()) -> Precisions:
    """Return the cards in `exports`, folders or card.json files; without, those beside the study and in its folder.

    Raises UsageError for a card that was named and cannot be read, or is of a network that the study does not have.
    """
    known = {c.spec.hash for c in study.trained()}
    cards = [_read(path) for path in exports]
    for card in cards:
        if card["hash"] not in known:
            raise UsageError(f"{card['path']} is of network {card['hash']}, which the study has not trained.")
    if not exports:
        cards = [
            readable for path in _nearby(study.folder) if (readable := _readable(path)) and readable["hash"] in known
        ]
    if cards:
        return Precisions([_row(card, study) for card in cards])
    name = study.folder.name
    return Precisions(
        note="No export of a network of this study was found in its folder. Make one with `isp-nas export best "
        f"--study {name} --precision fp32,fp16,int8 --out FOLDER`, and name it here: `isp-nas report --export FOLDER`."
    )


def _nearby(folder: Path) -> Iterator[Path]:
    inside = (path / CARD_FILE for path in listed(folder))
    yield from sorted(path for path in (folder / CARD_FILE, *inside) if path.is_file())


def _readable(path: Path) -> dict[str, Any] | None:
    try:
        return _read(path)
    except UsageError:
        return None  # of another tool, or damaged: it was not asked for


def _read(path: Path) -> dict[str, Any]:
    file = path / CARD_FILE if path.is_dir() else path
    try:
        card = checksums.without_sum(stored.parse_json(stored.read_bytes(file)))
    except OSError as error:
        raise UsageError(f"{file} cannot be read ({error.strerror}); name the folder of an export.") from None
    except ValueError as error:
        raise UsageError(f"{file} is no card of an export ({error}); name the folder of an export.") from None
    if not (isinstance(card, dict) and isinstance(card.get("hash"), str) and _are_rows(card.get("precisions"))):
        raise UsageError(f"{file} is no card of an export; name the folder of an export.")
    return card | {"path": str(path)}


def _are_rows(rows: object) -> bool:
    return isinstance(rows, list) and all(isinstance(row, dict) and "precision" in row for row in rows)


def _row(card: dict[str, Any], study: StudyRecord) -> dict[str, Any]:
    about = {name: card.get(name) for name in _ABOUT}
    files = [{name: each.get(name) for name in FIELDS} for each in card["precisions"]]
    return {"path": card["path"], **about, "is_best": card["hash"] == study.best().spec.hash, "precisions": files}
