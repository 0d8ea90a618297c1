"""Remember the pictures that a run has made, so that the same command continues one that was killed.

Before a picture gets its name, a line in the folder says what it is made of and how its bytes sum up. A picture that
is there with just these bytes is whole and is not made again; any other file is somebody else's and stays.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from search_spaces.errors import ExportError
from search_spaces.system import stored
from search_spaces.system.atomic_write import clear_left_behind
from search_spaces.system.file_errors import acting_on

NOTES_FILE = ".isp-nas-render.jsonl"


@dataclass(frozen=True)
class RenderNotes:
    """The notes of a folder, for runs of one network with the same settings."""

    folder: Path
    how: str  # names the network and the settings
    known: Mapping[str, str]  # by output and input: the hash of the picture

    @classmethod
    def read(cls, folder: Path, settings: Mapping[str, Any]) -> "RenderNotes":
        """Read the notes of earlier runs; lines that are none, as a killed run may leave, say nothing."""
        if (folder / NOTES_FILE).exists():
            clear_left_behind(folder)
        how = sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()
        known = {}
        try:
            lines = stored.read_bytes(folder / NOTES_FILE).decode("utf-8", errors="replace").splitlines()
        except OSError:
            lines = []
        for line in lines:
            try:
                note = stored.parse_json(line)
                if note["how"] == how:
                    known[str(note["key"])] = str(note["sha256"])
            except (ValueError, KeyError, TypeError):
                continue
        return cls(folder, how, known)

    def has(self, output: Path, source: Path) -> bool:
        """Tell whether `output` is the whole picture that these settings make of `source` as it is now."""
        digest = self.known.get(self._key(output, source))
        if digest is None or not output.is_file():
            return False
        with acting_on(output, "read", ExportError):
            return sha256(output.read_bytes()).hexdigest() == digest

    def note(self, output: Path, source: Path, content: bytes) -> None:
        """Say what is about to be written to `output`."""
        line = {"how": self.how, "key": self._key(output, source), "sha256": sha256(content).hexdigest()}
        with acting_on(self.folder / NOTES_FILE, "write", ExportError):
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / NOTES_FILE).open("ab") as file:
                # The line before may have been torn by a kill.
                file.write(b"\n" + json.dumps(line).encode() + b"\n")

    def _key(self, output: Path, source: Path) -> str:
        status = source.stat()
        where = os.path.relpath(output, self.folder)
        return json.dumps([where, os.fsdecode(source.absolute()), status.st_size, status.st_mtime_ns])
