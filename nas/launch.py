"""Ctrl-C while the command is being loaded or ends: it leaves at once and quietly, as it does in between.

Loading takes half a second, in which `main` cannot catch anything yet, so this is the first thing that the package
does, and it imports next to nothing. Before it there is Python's own start, of which nobody but Python knows.
"""

import os
import signal
import sys
from itertools import pairwise

INTERRUPTED = 130
_COMMANDS = ("isp-nas", "isp-nas.exe")


def _leave(_: int, __: object) -> None:
    os._exit(INTERRUPTED)  # nothing has begun that would need an end, or all has come to it


def _is_our_command() -> bool:
    """Tell whether this process is `isp-nas` or `python -m nas`, and no program that imports `nas`."""
    started = sys.argv[0] if sys.argv else ""
    if started == "-m":  # as it reads while Python looks for the package that `-m` names
        return ("-m", "nas") in pairwise(sys.orig_argv)
    return os.path.basename(started) in _COMMANDS  # noqa: PTH119 (pathlib takes 20 ms)


_is_command = _is_our_command()


def loading() -> None:
    """Let Ctrl-C end the process at once, where this is the command and not a program that imports it."""
    if _is_command and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)


def loaded() -> None:
    """Let Ctrl-C raise KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def leaving() -> None:
    """As `loading`, once all is said: Python would complain of its own end being broken off."""
    loading()
