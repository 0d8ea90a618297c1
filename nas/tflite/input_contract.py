"""The RAW format a network reads, and whether values are normalised in the file or before it.

An exported file tells, and the card beside it. A file without either is taken to be as the user says.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from nas.data.encodings import INPUT_BITS, NORMALIZED
from nas.data.raw_format import RawFormat
from search_spaces.errors import ExportError, UnknownNameError, UsageError
from search_spaces.system import checksums, stored
from search_spaces.tflite_metadata import read_metadata, with_metadata

CARD_FILE = "card.json"
METADATA = "isp_nas_raw"  # the entry of a file in which it says what it reads
# What data raises that is not what was written here.
_UNREADABLE = (
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    IndexError,
    OverflowError,
    RecursionError,
    ZeroDivisionError,
    UsageError,
)
# What levels at the input may be: counts that float32 holds exactly, and shares of one.
MOST_LEVEL, LEAST_EXTENT = 2.0**24, 2.0**-10


@dataclass(frozen=True)
class Contract:
    """What RAW a network reads: the format it was trained on, and what black and white are at its input."""

    format: RawFormat
    black: float = 0.0
    white: float = 1.0

    def affine(self, black: float, white: float) -> tuple[float, float]:
        """Return gain and offset that turn values between these levels into what the network reads."""
        gain = (self.white - self.black) / (white - black)
        return gain, self.black - black * gain


def contract_of(fmt: RawFormat, input_kind: str) -> Contract:
    """Return the contract of a file for one of the kinds of input.

    Counts of more bits than the network was trained on are the same light in finer steps.

    Raises UsageError for a format or an input that no network can have.
    """
    if input_kind not in INPUT_BITS:
        raise UnknownNameError("input", input_kind, INPUT_BITS)
    fmt.validate()
    bits = INPUT_BITS[input_kind]
    if bits is None:
        return Contract(fmt)
    finer = 2.0 ** (bits - fmt.bits)
    is_full_scale = fmt.white_level == 2**fmt.bits - 1
    return Contract(fmt, fmt.black * finer, 2.0**bits - 1 if is_full_scale else fmt.white_level * finer)


class Reading(NamedTuple):
    """What RAW a network reads, and what mosaics mean that do not say so themselves."""

    contract: Contract
    raw_format: RawFormat  # of mosaics that name no format of their own
    assumed: str | None  # what nobody told and was assumed, in one sentence


def embed_contract(content: bytes, contract: Contract) -> bytes:
    """Return a .tflite file that says itself what RAW it reads, wherever its card is."""
    return with_metadata(content, METADATA, json.dumps(_to_data(contract)).encode())


def _to_data(contract: Contract) -> dict[str, Any]:
    fmt = asdict(contract.format) | {"white": contract.format.white_level}
    return {"raw": fmt, "input_levels": {"black": contract.black, "white": contract.white}}


def read_contract(model: Path, raw: Mapping[str, Any], *, input_kind: str | None) -> Reading:
    """Return what RAW a network reads.

    `raw` are the fields of RawFormat that the user gave. The file tells what it reads, or the card beside it; without
    either it is as the user says. Raises UsageError for a card that does not tell or is of other files, and for options
    that contradict it.
    """
    contract_found = _described(model) or _card(model)
    if contract_found is None:
        contract = contract_of(RawFormat(**raw), input_kind or NORMALIZED)
        return Reading(contract, contract.format, _assumed(contract.format, raw, input_kind))
    # The network's white level is one of its bits.
    given = replace(contract_found.format, **({"white": None, **raw} if "bits" in raw else raw))
    given.validate()
    if given.packing != contract_found.format.packing:
        raise UsageError(_contradiction("--packing", given.packing, contract_found.format.packing))
    if input_kind is not None and contract_of(contract_found.format, input_kind) != contract_found:
        raise UsageError(
            _contradiction("--input", input_kind, f"black {contract_found.black:g} and white {contract_found.white:g}")
        )
    return Reading(contract_found, given, None)


def _contradiction(option: str, given: str, carded: str) -> str:
    return f"{option} belongs to the network, and its file or {CARD_FILE} says {carded}, not {given}; leave it out."


def _assumed(fmt: RawFormat, raw: Mapping[str, Any], input_kind: str | None) -> str | None:
    """Say what was assumed of a file that nobody described; None where everything was said."""
    levels = {"bits": fmt.bits, "black": fmt.black, "white": fmt.white_level}
    values = {**levels, "pattern": fmt.pattern, "packing": fmt.packing}
    said = {*raw, *(("input",) if input_kind else ())}
    open_ones = {name: value for name, value in {"input": NORMALIZED, **values}.items() if name not in said}
    if not open_ones:
        return None
    listed = ", ".join(f"--{name} {value}" for name, value in open_ones.items())
    return f"Neither the network's file nor a {CARD_FILE} tells what it reads; assumed: {listed}."


def _described(model: Path) -> Contract | None:
    """Return what a file says of itself; None where it says nothing, or is no file that can be read."""
    try:
        data = read_metadata(stored.read_bytes(model), METADATA)
        return None if data is None else _read(stored.parse_json(data))
    except (OSError, ExportError):  # whoever runs the file says so better
        return None
    except _UNREADABLE as error:
        raise UsageError(
            f"Cannot read from {model} what RAW it takes ({type(error).__name__}: {error}); export it again."
        ) from None


def _card(model: Path) -> Contract | None:
    path = model.with_name(CARD_FILE)
    if not path.exists():
        return None
    try:
        card = _load_card(path)
        contract = _read(card)
        files = _files(card)
    except (OSError, *_UNREADABLE) as error:
        raise UsageError(
            f"Cannot read from {path} what RAW the network was trained on ({type(error).__name__}: {error}); export "
            "again, or move the card away and give --bits, --black, --white, --pattern and --packing."
        ) from None
    _refuse_other_files(model, files)
    return contract


def _read(data: Mapping[str, Any]) -> Contract:
    levels = data.get("input_levels", {"black": 0.0, "white": 1.0})  # cards of before had normalised inputs alone
    fmt = RawFormat(**(data["raw"] if "raw" in data else data["data"]["raw"]))
    fmt.validate()
    contract = Contract(fmt, float(levels["black"]), float(levels["white"]))
    if not contract.black < contract.white:
        raise ValueError("input levels of which white is not above black")
    if max(-contract.black, contract.white) > MOST_LEVEL or contract.white - contract.black < LEAST_EXTENT:
        raise ValueError(f"input levels from {contract.black:g} to {contract.white:g}, which no float32 can tell apart")
    return contract


def _files(card: Mapping[str, Any]) -> dict[str, str]:
    """Return the hashes of the files that a card describes, with their names; none of a card of before."""
    files = [file for file in card.get("precisions", ()) if file.get("sha256")]
    dynamic = {file["dynamic_sha256"]: file["dynamic_file"] for file in files if file.get("dynamic_sha256")}
    return {file["sha256"]: file["file"] for file in files} | dynamic


def is_carded(model: Path) -> bool:
    """Tell whether the card beside a file describes exactly it, so that it is as an export wrote it."""
    try:
        files = _files(_load_card(model.with_name(CARD_FILE)))
        return hashlib.sha256(stored.read_bytes(model)).hexdigest() in files
    except (OSError, *_UNREADABLE):
        return False


def _load_card(path: Path) -> Any:
    return checksums.without_sum(stored.parse_json(stored.read_bytes(path)))


def _refuse_other_files(model: Path, files: Mapping[str, str]) -> None:
    if not files or not model.exists() or hashlib.sha256(stored.read_bytes(model)).hexdigest() in files:
        return
    raise UsageError(
        f"{model} is none of the files that {CARD_FILE} beside it describes ({', '.join(files.values())}), or was "
        "changed since; move it to a folder of its own and say what it reads by --input, --bits, --black, --white, "
        "--pattern and --packing."
    )
