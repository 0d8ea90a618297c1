"""Print all that a person reads: whole, and without anything in it that a terminal would obey.

Names come from files that others wrote. Rich's markup in them is escaped by `plain` where they are put into a line;
control characters and marks of direction are made visible here, whatever the line.
"""

import re
import shlex
import sys
from typing import IO, Any, cast

from rich import console, markup
from rich.errors import MarkupError
from rich.text import Text

from search_spaces.errors import UsageError
from search_spaces.system.file_errors import sentence
from search_spaces.system.printable import printable


def plain(text: object) -> str:
    """Return what came from outside as part of a line with markup: shown as it is, doing nothing."""
    return markup.escape(printable(text))


def typed(path: object) -> str:
    """Return a path as part of a line with markup that a person copies: quoted, and neither an option nor the home."""
    name = str(path)
    return plain(shlex.quote(f"./{name}" if name.startswith(("-", "~")) else name))


# Every style that our own lines use; what looks like another tag came from outside and is shown as it is.
_STYLES = {"bold", "dim", "italic", "red", "green", "yellow", "bold red", "/", "/bold", "/dim", "/red", "/italic"}
_TAG = re.compile(r"(\\*)\[([^\[\]]*)\]")


def ours(text: str) -> str:
    """Return a line with markup in which only our own styles are tags, and hidden characters are visible."""
    return _TAG.sub(_escaped_unless_ours, printable(text, keep="\n"))


def _escaped_unless_ours(match: re.Match[str]) -> str:
    backslashes, tag = match.groups()
    return match[0] if len(backslashes) % 2 or tag in _STYLES else f"{backslashes}\\[{tag}]"


def text_of(line: str) -> str:
    """Return what a line with markup shows; markup that does not fit together is shown as it is."""
    try:
        return markup.render(ours(line)).plain
    except MarkupError:
        return printable(line, keep="\n")


class Console(console.Console):
    """A console that shows hidden characters by their numbers and never writes half of a text."""

    def __init__(self, *, stderr: bool = False, **options: Any) -> None:
        super().__init__(stderr=stderr, **({"file": _Whole(stderr=stderr)} | options))

    def render_str(self, text: str, **options: Any) -> Text:
        """Make a line of a string with markup; our own lines hold no control character but the line's end."""
        if not (self._markup if options.get("markup") is None else options["markup"]):
            return super().render_str(printable(text, keep="\n"), **options)
        try:
            return super().render_str(ours(text), **options)
        except MarkupError:  # a name that looks like one of our own tags
            return super().render_str(printable(text, keep="\n"), **options | {"markup": False})

    def print_command(self, line: str) -> None:
        """Print a line with a command in one piece, to be copied, however narrow the terminal is."""
        self.print(line, highlight=False, soft_wrap=True)


class _Whole:
    """Standard output or error as it is at the moment, written to the end."""

    def __init__(self, *, stderr: bool) -> None:
        self._stderr = stderr

    @property
    def _stream(self) -> IO[str]:
        return sys.stderr if self._stderr else sys.stdout

    def write(self, text: str) -> int:
        write_whole(self._stream, text)
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def print_out(text: str) -> None:
    """Write a text for a program to standard output, all of it."""
    write_whole(sys.stdout, text)


def write_whole(stream: IO[str], text: str) -> None:
    """Write all of a text; raises UsageError where it cannot be written, BrokenPipeError where nobody reads it.

    An unbuffered stream writes as much as there is room for, and Python tells nobody of the rest.
    """
    raw = getattr(stream, "buffer", None)
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        stream.flush()
        if raw is None:
            stream.write(text)
        else:
            rest = memoryview(text.encode(encoding, errors="backslashreplace"))
            while rest:
                rest = rest[cast(int, raw.write(rest)) :]
            raw.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UsageError(sentence(error, path=getattr(stream, "name", "<stdout>"), action="write to")) from None
