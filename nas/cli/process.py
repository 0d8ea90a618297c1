"""The command as a process: its standard streams, and how it ends where something is wrong."""

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TextIO

import typer

from nas import launch
from search_spaces.errors import IspNasError
from search_spaces.system.file_errors import sentence
from search_spaces.system.printable import printable

_LINE_END = "\n"
_STDERR = 2  # its descriptor


def run(app: typer.Typer) -> None:
    """Run a command line and leave; what the user can mend is one sentence and exit code 2."""
    _open_missing_streams()
    try:
        launch.loaded()
        code = app(standalone_mode=False)
    except IspNasError as error:
        if "--debug" in sys.argv:
            raise
        code = _complain(str(error))
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:  # whoever read our output has seen enough
        _drop(sys.stdout)
        code = 0
    except OSError as error:
        if "--debug" in sys.argv:
            raise
        code = _complain(sentence(error))
    except UnicodeEncodeError as error:
        if "--debug" in sys.argv or error.reason != "surrogates not allowed":
            raise
        code = _complain(
            f'"{_around(error)}" is no text in UTF-8, so that no file can hold it; rename what is called so.'
        )
    except Exception as error:
        # The option parser's own complaints carry their sentence in `format_message`; the rest are bugs.
        if not hasattr(error, "format_message"):
            raise
        code = _complain(error.format_message())  # empty where the parser has just shown the help
    code = _flushed(code if isinstance(code, int) else 0)
    launch.leaving()
    sys.exit(code)


def _complain(text: str) -> int:
    if text:
        with suppress(OSError):  # there is nobody else to tell
            sys.stderr.write(f"isp-nas: {printable(text.strip(_LINE_END))}\n")  # one line, whatever names hold
    return 2


def _open_missing_streams() -> None:
    """Give the standard streams that were closed a place, or the next file to be opened would be one of them."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        pass
    os.close(descriptor)
    sys.stdout, sys.stderr = (s or Path(os.devnull).open("w", encoding="utf-8") for s in (sys.stdout, sys.stderr))  # noqa: SIM115 (until the end)


def _flushed(code: int) -> int:
    """Write what is still unwritten and return the exit code; one that says that all went well needs all of it."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            _drop(stream)
        except OSError as error:
            # Where the command failed, that was said, perhaps of this very stream.
            code = code or _complain(sentence(error, path="<stdout>", action="write to"))
            _drop(stream)
    return code


def _around(error: UnicodeEncodeError) -> str:
    """Return the part of a text that cannot be written: the name of a file, with what stands beside it in the text."""
    start, end = (error.object.rfind('"', 0, error.start) + 1, error.object.find('"', error.end))
    return error.object[max(start, error.start - 60) : end if 0 <= end < error.end + 60 else error.end + 60]


def _drop(stream: TextIO) -> None:
    """Have what is still unwritten go nowhere, or Python complains of it while it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
