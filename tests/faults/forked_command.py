"""The command in a fork of this process, which has loaded what most commands need: it starts five times as quickly.

Where the start of the command itself is what is tried, as by signals, the installed one is run, see `condition_run.py`.
"""

import ctypes
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
    command: Path,
    arguments: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    longest_s: float,
    is_stopped_by_modes: bool = False,
) -> tuple[int | None, str, str]:
    """Return exit code, output and error output of a command; no exit code where it did not end in time."""
    _load()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if child == 0:
            if is_stopped_by_modes and os.getuid() == 0:
                give_up_rights()
            _become(command, arguments, cwd, env, out.fileno(), err.fileno())
        code = _waited_for(child, longest_s)
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read().decode(errors="replace"))
        return code, texts[0], texts[1]


_DROP_FROM_BOUNDS = 24  # PR_CAPBSET_DROP of <linux/prctl.h>
_READS_ALL, _LISTS_ALL = 1, 2  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH of <linux/capability.h>
_VERSION_3 = 0x20080522


def give_up_rights() -> None:
    """Have modes stop this process and its children, as `setpriv` does before a command is started."""
    library = ctypes.CDLL(None, use_errno=True)
    for right in (_READS_ALL, _LISTS_ALL):
        if library.prctl(_DROP_FROM_BOUNDS, right, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl")
    header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
    rights = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; twice, the low bits first
    if library.capget(header, rights):
        raise OSError(ctypes.get_errno(), "capget")
    for at in range(3):
        rights[at] &= ~(1 << _READS_ALL | 1 << _LISTS_ALL)
    if library.capset(header, rights):
        raise OSError(ctypes.get_errno(), "capset")


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
