"""What RAW does a network read: which format was it trained on, and are values normalised in the file or before it?

The card beside an exported file tells. A file without a card is taken to be as the user says.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nas.data.raw_format import RawFormat
from search_spaces.errors import UnknownNameError, UsageError

CARD_FILE = "card.json"
NORMALIZED = "normalized"
# What the input of a file may hold: values from black to white as 0 … 1, or counts of so many bits.
INPUT_BITS = {NORMALIZED: None, "raw10": 10, "raw12": 12, "raw14": 14}


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


def read_contract(model: Path, raw: Mapping[str, Any], *, input_kind: str | None) -> tuple[Contract, RawFormat]:
    """Return what RAW a network reads, and what mosaics mean that do not say so themselves.

    `raw` are the fields of RawFormat that the user gave. The card beside the file tells what the network reads; without
    one it is as the user says. Raises UsageError for a card that does not tell, and for options that contradict it.
    """
    card = _card(model)
    if card is None:
        contract = contract_of(RawFormat(**raw), input_kind or NORMALIZED)
        return contract, contract.format
    # The card's white level is one of the card's bits.
    told = replace(card.format, **({"white": None, **raw} if "bits" in raw else raw))
    told.validate()
    if told.packing != card.format.packing:
        raise UsageError(_contradiction("--packing", told.packing, card.format.packing))
    if input_kind is not None and contract_of(card.format, input_kind) != card:
        raise UsageError(_contradiction("--input", input_kind, f"black {card.black:g} and white {card.white:g}"))
    return card, told


def _contradiction(option: str, given: str, carded: str) -> str:
    return f"{option} belongs to the network, and its {CARD_FILE} says {carded}, not {given}; leave it out."


def _card(model: Path) -> Contract | None:
    path = model.with_name(CARD_FILE)
    if not path.exists():
        return None
    try:
        card = json.loads(path.read_text("utf-8"))
        levels = card.get("input_levels", {"black": 0.0, "white": 1.0})  # cards of before had normalised inputs alone
        fmt = RawFormat(**(card["raw"] if "raw" in card else card["data"]["raw"]))
        fmt.validate()
        contract = Contract(fmt, float(levels["black"]), float(levels["white"]))
        if not contract.black < contract.white:
            raise ValueError("input levels of which white is not above black")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, UsageError) as error:
        raise UsageError(
            f"Wanted {path} to tell what RAW the network was trained on, got {type(error).__name__}: {error}; export "
            "again, or move the card away and give --bits, --black, --white, --pattern and --packing."
        ) from None
    return contract
