"""The file of `isp-nas search --log-file`: every message with its date, whole however narrow the terminal is."""

from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import IO

from nas.cli.console import text_of
from search_spaces.errors import UsageError


class SearchLog:
    """A file that messages are appended to; without a path, nothing."""

    def __init__(self, path: Path | None) -> None:
        """Open the file; raise UsageError where it cannot be written. What it holds already stays."""
        self._path, self._file = path, self._opened(path)
        self.problem = ""  # why nothing is written any more

    def _opened(self, path: Path | None) -> IO[bytes] | None:
        if path is None:
            return None
        try:
            return path.open("ab", buffering=0)  # nothing may be left to be written when it is closed
        except OSError as error:
            raise UsageError(
                f"The log file {path} cannot be written ({error.strerror}); name another one with --log-file."
            ) from None

    def write(self, message: str) -> None:
        """Append the lines of a message; a full disk stops the log and not the search."""
        if self._file is None:
            return
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        lines = "".join(f"{now}  {line}\n" for line in text_of(message).splitlines() if line.strip())
        try:
            self._file.write(lines.encode("utf-8", errors="backslashreplace"))
        except OSError as error:
            self.problem = f"The log file {self._path} is not written any more ({error.strerror})."
            self._file.close()
            self._file = None

    def __enter__(self) -> "SearchLog":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()
