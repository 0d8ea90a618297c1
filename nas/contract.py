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
# What the input of a file holds: values from black to white as 0 … 1, or the counts of a sensor of so many bits.
INPUT_BITS = {NORMALIZED: None, "raw10": 10, "raw12": 12, "raw14": 14}


@dataclass(frozen=True)
class Contract:
    """What RAW a network reads: the format it was trained on, and whether its input is normalised or counts."""

    format: RawFormat
    input: str = NORMALIZED

    def validate(self) -> None:
        """Raise UsageError for a format or an input that no network can have."""
        if self.input not in INPUT_BITS:
            raise UnknownNameError("input", self.input, INPUT_BITS)
        self.format.validate()

    def affine(self, black: float, white: float) -> tuple[float, float]:
        """Return gain and offset that turn values between these levels into what the network reads."""
        low, high = self._levels()
        gain = (high - low) / (white - black)
        return gain, low - black * gain

    def _levels(self) -> tuple[float, float]:
        """Return what black and white are at the network's input; counts of other bits than it was trained on scale."""
        bits = INPUT_BITS[self.input]
        if bits is None:
            return 0.0, 1.0
        step = 2.0 ** (bits - self.format.bits)
        return self.format.black * step, (self.format.white_level + 1) * step - 1


def read_contract(model: Path, raw: Mapping[str, Any], *, input_kind: str | None) -> tuple[Contract, RawFormat]:
    """Return what RAW a network reads, and what mosaics mean that do not say so themselves.

    `raw` are the fields of RawFormat that the user gave. The card beside the file tells what the network reads; without
    one it is as the user says. Raises UsageError for a card that does not tell, and for options that contradict it.
    """
    card = _card(model)
    if card is None:
        contract = Contract(RawFormat(**raw), input_kind or NORMALIZED)
        contract.validate()
        return contract, contract.format
    told = replace(card.format, **raw)
    told.validate()
    _require_as_carded("--packing", told.packing, card.format.packing)
    _require_as_carded("--input", input_kind or card.input, card.input)
    return card, told


def _require_as_carded(option: str, given: str, carded: str) -> None:
    if given != carded:
        raise UsageError(
            f"{option} belongs to the network, and its {CARD_FILE} says {carded}, not {given}; leave it out."
        )


def _card(model: Path) -> Contract | None:
    path = model.with_name(CARD_FILE)
    if not path.exists():
        return None
    try:
        card = json.loads(path.read_text("utf-8"))
        contract = Contract(RawFormat(**card["data"]["raw"]), card.get("input", NORMALIZED))
        contract.validate()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, UsageError) as error:
        raise UsageError(
            f"Wanted {path} to tell what RAW the network was trained on, got {type(error).__name__}: {error}; export "
            "again, or move the card away and give --bits, --black, --white, --pattern and --packing."
        ) from None
    return contract
