"""The command in a fork of this process, which has loaded what most commands need: it starts five times as quickly.

Where the start of the command itself is what is tried, as by signals, the installed one is run, see `condition_run.py`.
"""

import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path

POLL_S = 0.02


# What most commands import, and nothing that starts threads.
LOADED = (
    "numpy",
    "PIL.Image",
    "rich.console",
    "rich.table",
    "rich.progress",
    "tomli_w",
    "nas.cli.main",
    "nas.search.study",
)


@cache
def _load() -> None:
    for module in LOADED:
        import_module(module)


def run(
    command: Path, arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str], longest_s: float
) -> tuple[int | None, str, str]:
    """Return exit code, output and error output of a command; no exit code where it did not end in time."""
    _load()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if child == 0:
            _become(command, arguments, cwd, env, out.fileno(), err.fileno())
        code = _waited_for(child, longest_s)
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read().decode(errors="replace"))
        return code, texts[0], texts[1]


def _become(command: Path, arguments: Sequence[str], cwd: Path, env: Mapping[str, str], out: int, err: int) -> None:
    """Be the command and never return."""
    code: object = 1
    try:
        os.setsid()
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(env)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(err, 2)
        sys.modules["__main__"].__file__ = str(command)  # which workers import again
        sys.argv = [str(command), *arguments]
        from nas.cli.main import main

        main()
    except SystemExit as left:
        code = left.code
    except BaseException:  # as Python itself would say it
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 0)


def _waited_for(child: int, longest_s: float) -> int | None:
    until = time.monotonic() + longest_s
    while time.monotonic() < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(POLL_S)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None
