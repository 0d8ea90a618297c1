"""The records of a study: what each may hold, and the file that keeps them, one durable line per event.

Every line ends with a checksum over itself and all lines before it, so a line that was changed, removed, repeated or
moved is noticed. Lines from before there were checksums have none; they are read as they stand, but not behind a line
that has one, and the first line that is added covers them, too.
"""

import codecs
import errno
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Annotated, Any, Literal, NotRequired

from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict  # that of typing tells pydantic too little before Python 3.12

from nas.train.ranges import Decibels, Finite, Megabytes, Number, Seconds, Share, Ssim, Steps
from search_spaces.errors import StudyError
from search_spaces.spec import GENES
from search_spaces.system import stored
from search_spaces.system.checksums import Chain

VERDICTS = ("train", "infeasible", "unsupported", "duplicate")
Verdict = Literal["train", "infeasible", "unsupported", "duplicate"]

Runtime = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]

_strictly = with_config(ConfigDict(extra="forbid"))

_GENES = {name: NotRequired[Literal[gene.legal]] for name, gene in GENES.items()}
Genes: Any = _strictly(TypedDict("Genes", _GENES))  # type: ignore[operator]  # made from the table of genes


class Line(TypedDict):
    """What every record holds."""

    elapsed_s: Seconds
    checksum: NotRequired[str]


@_strictly
class DesignsOfSession(TypedDict):
    """The published designs that a search may train, by name, as `nas.search.known_designs` tells them apart."""

    likely: list[str]
    unlikely: list[str]
    refused: list[str]  # by the limits


@_strictly
class SessionLine(Line):
    """A search began, or went on."""

    event: Literal["session"]
    budget: str
    workers: Annotated[int, Field(ge=0, le=10**6)]  # at the beginning: those of a cluster come later
    settings: NotRequired[str]  # the digest of run.toml's settings
    backend: NotRequired[Literal["cpu", "gpu"]]  # on which this machine trains; of its own, a worker elsewhere tells
    designs: NotRequired[DesignsOfSession]
    began: NotRequired[str]  # when this was written, as ISO 8601 with its offset; older records do not say


@_strictly
class AskedLine(Line):
    """A proposal, and what was known of it before any training."""

    event: Literal["asked"]
    trial: Number
    genes: Genes
    verdict: Verdict
    runtime_ms: NotRequired[Runtime]
    runtime_low_ms: NotRequired[Runtime]
    runtime_high_ms: NotRequired[Runtime]
    peak_memory_mb: NotRequired[Megabytes]
    reason: NotRequired[str]
    violation: NotRequired[Annotated[float, Field(ge=0, allow_inf_nan=False)]]
    duplicate_of: NotRequired[Number]
    sampler_notes: NotRequired[dict[str, Any]]


class QualityLine(Line):
    """What a training came to."""

    trial: Number
    steps: Steps
    psnr_db: Decibels
    ssim: Ssim
    loss: Finite
    train_s: Seconds
    compile_s: Seconds
    evaluate_s: Seconds
    memory_mb: NotRequired[Megabytes]
    rate_share: NotRequired[Share]
    worker: NotRequired[Number]  # which of the session's workers trained it; older records do not say
    host: NotRequired[str]  # where, if not on the machine of the search: these three are told together
    backend: NotRequired[str]
    processor: NotRequired[str]


@_strictly
class RungLine(QualityLine):
    """A candidate was trained to a rung."""

    event: Literal["rung"]
    rung: Annotated[int, Field(ge=0, le=1000)]


@_strictly
class FinalLine(QualityLine):
    """A candidate was trained to the final steps from fresh weights."""

    event: Literal["final"]
    seed: Number
    train_psnr_db: NotRequired[Decibels]


@_strictly
class FailedLine(Line):
    """A candidate's training failed."""

    event: Literal["failed"]
    trial: Number
    reason: str


@_strictly
class FinalFailedLine(Line):
    """A final failed."""

    event: Literal["final_failed"]
    trial: Number
    seed: Number
    reason: str


@_strictly
class LostLine(Line):
    """A training was lost with the machine or agent that had it, or stalled; it is tried again."""

    event: Literal["lost"]
    trial: Number
    rung: Annotated[int, Field(ge=0, le=1000)]
    seed: NotRequired[Number]  # of a final
    reason: str
    worker: NotRequired[Number]
    host: NotRequired[str]


@_strictly
class MovedLine(Line):
    """The same pairs lie elsewhere now."""

    event: Literal["moved"]
    source: str


@_strictly
class TestedLine(Line):
    """A candidate was judged on the test pairs; without qualities where there are none."""

    event: Literal["test"]
    trial: Number
    steps: Steps
    seed: NotRequired[Number]
    test_psnr_db: NotRequired[Decibels]
    test_ssim: NotRequired[Ssim]


Record = Annotated[
    SessionLine | AskedLine | RungLine | FinalLine | FailedLine | FinalFailedLine | LostLine | MovedLine | TestedLine,
    Field(discriminator="event"),
]
SCHEMA: stored.Schema[dict[str, Any]] = stored.Schema(Record)

# What a cut leaves of a word or a number.
_CUT_VALUE = re.compile(r"t(ru?)?|f(a(ls?)?)?|n(ul?)?|-|\.|[eE][+-]?")
_BEGINNING = b'{"event": "'


class RecordFile:
    """The file of a study's records: read once, then appended to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._chain = Chain()
        self._size, self._whole = 0, 0  # bytes that were read, and how many of them are whole lines
        self._ends_open = False  # the last line is whole but for its line end
        self._file: IO[bytes] | None = None

    def read(self) -> Iterator[dict[str, Any]]:
        """Yield all records; raise StudyError naming the line that is none. What a crash left of a line is passed over.

        In a file that nobody damaged, only the last line can be unfinished.
        """
        content = self._content()
        *lines, last = content.split(b"\n")
        self._size, self._whole = len(content), len(content) - len(last)
        for number, line in enumerate(lines, start=1):
            yield self._parsed(line, number)
        if last and not _is_torn(last):
            yield self._parsed(last, len(lines) + 1)
            self._whole, self._ends_open = len(content), True

    def _content(self) -> bytes:
        try:
            return stored.read_bytes(self.path)
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise StudyError(f"{self.path} cannot be read ({error.strerror}); mend its permissions.") from None

    def _parsed(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            return self._checked(line)
        except ValueError as error:
            raise self.damage(number, str(error)) from None

    def _checked(self, line: bytes) -> dict[str, Any]:
        """Return the record of a line that is as it was written; raise ValueError where it is not."""
        if b"\r" in line:
            raise ValueError("it has a carriage return, which no record has")
        _, self._chain = self._chain.follow(line)
        if not self._chain.is_signed:
            stored.parse_json(line)  # for keys that are there twice, of which the schema sees the last
        record = SCHEMA.read_json(line)
        record.pop("checksum", None)
        return record

    def append(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Write one record durably and return it as it will be read; raise OSError where the disk does not take it.

        Raises StudyError where the file is no longer the one that was read.
        """
        content = json.dumps(record, ensure_ascii=False, allow_nan=False).encode()
        whole = SCHEMA.read_json(content)  # a record that cannot be read again is never written
        file = self._file = self._file or self._opened()
        line, chain = self._chain.add(content)
        self._write(file, b"\n" + line if self._ends_open else line)
        self._chain, self._ends_open = chain, False
        return whole

    def _write(self, file: IO[bytes], line: bytes) -> None:
        before = file.seek(0, os.SEEK_END)
        try:
            if file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(file.fileno())
        except OSError:
            file.truncate(before)  # what was written of this line is of no use to anybody
            raise

    def _opened(self) -> IO[bytes]:
        """Open for appending behind the last whole line: what a crash left of a line is cut off."""
        file = self.path.open("ab", buffering=0)  # nothing may be left to be written when it is closed
        if os.fstat(file.fileno()).st_size != self._size:
            file.close()
            raise StudyError(f"{self.path} was changed while it was in use; run the same command again.")
        if self._whole < self._size:
            file.truncate(self._whole)
        return file

    def close(self) -> None:
        """Close the file."""
        if self._file:
            self._file.close()
            self._size = self._whole = self.path.stat().st_size if self.path.exists() else 0
            self._file = None

    def damage(self, number: int, why: str) -> StudyError:
        """Return the error that names a damaged line."""
        return StudyError(
            f"Line {number} of {self.path} is damaged ({why}); restore the file, or remove that line and what "
            "follows it."
        )


def _is_torn(last: bytes) -> bool:
    """Tell whether the text behind the last line end is the beginning of one record, which a crash leaves."""
    last = last.rstrip(b"\0")  # a power failure may have kept the length and lost the content
    if b"\r" in last or not (last.startswith(_BEGINNING) or _BEGINNING.startswith(last)):
        return False
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(last)  # the last character may be torn, too
        json.JSONDecoder().raw_decode(text)
    except json.JSONDecodeError as error:
        return _is_cut_at(text, error)
    except (ValueError, RecursionError):
        return False
    return False


def _is_cut_at(text: str, error: json.JSONDecodeError) -> bool:
    """Tell whether what JSON objects to is no more than that the text ends there."""
    rest = text[error.pos :]
    is_within_text = error.msg.startswith("Unterminated string")
    is_within_escape = error.msg.startswith("Invalid \\") and len(rest) < len("\\u0000")
    return not rest or is_within_text or is_within_escape or _CUT_VALUE.fullmatch(rest) is not None
