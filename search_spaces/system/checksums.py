"""Checksums within JSON: of an object over its other keys, of lines over themselves and all lines before.

A line that was changed, removed, repeated or moved is found by the checksums from there on. What was written before
there were checksums has none and is read as it stands.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

DIGITS = 16
_CHECKSUM = b', "checksum": "'
_ENDING = len(_CHECKSUM) + DIGITS + len(b'"}')


def chained(chain: str, content: bytes) -> str:
    """Return the checksum of an object's text behind lines with the checksum `chain`; "" before the first."""
    return sha256(chain.encode() + content).hexdigest()[:DIGITS]


def signed(content: bytes, checksum: str) -> bytes:
    """Return an object's text with its checksum as the last key."""
    return content[:-1] + _CHECKSUM + checksum.encode() + b'"}'


def split(line: bytes) -> tuple[bytes, str | None]:
    """Return a line as it was before its checksum was added, and the checksum; None where it has none."""
    if line[-_ENDING:].startswith(_CHECKSUM) and line.endswith(b'"}'):
        return line[:-_ENDING] + b"}", line[-2 - DIGITS : -2].decode("latin-1")
    return line, None


@dataclass(frozen=True)
class Chain:
    """Lines one behind the other so far, each with a checksum over itself and all lines before."""

    digest: str = ""
    is_signed: bool = False  # some line had a checksum: all behind it have one

    def follow(self, line: bytes) -> tuple[bytes, "Chain"]:
        """Return what a line told before its checksum, and the chain with it; raise ValueError where it is not next."""
        content, checksum = split(line)
        digest = chained(self.digest, content)
        if checksum is None and self.is_signed:
            raise ValueError("its checksum is missing")
        if checksum is not None and checksum != digest:
            raise ValueError("its checksum is not that of this line behind the ones before it")
        return content, Chain(digest, checksum is not None)

    def add(self, content: bytes) -> tuple[bytes, "Chain"]:
        """Return the line of an object's text, with its checksum, and the chain with it."""
        digest = chained(self.digest, content)
        return signed(content, digest) + b"\n", Chain(digest, is_signed=True)


SHA256 = "sha256"


def summed(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object with a checksum over its keys and values as one more."""
    return {**data, SHA256: _sum(data)}


def without_sum(data: Any) -> Any:
    """Return what was read without its checksum; raise ValueError where it is not what was written."""
    if not isinstance(data, dict) or SHA256 not in data:
        return data
    rest = {name: value for name, value in data.items() if name != SHA256}
    if data[SHA256] != _sum(rest):
        raise ValueError("it is not as it was written")
    return rest


def _sum(data: Mapping[str, Any]) -> str:
    read_back = json.loads(json.dumps(data))  # as it will be read: keys that are numbers are texts then
    return sha256(json.dumps(read_back, sort_keys=True).encode()).hexdigest()
