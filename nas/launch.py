"""Ctrl-C while the command is being loaded or ends: it leaves at once and quietly, as it does in between.

Loading takes half a second, in which `main` cannot catch anything yet, so this is the first thing that the package
does, and it imports next to nothing. Before it there is Python's own start, of which nobody but Python knows.
"""

import os
import signal
import sys

INTERRUPTED = 130
_COMMANDS = ("isp-nas", "isp-nas.exe", "__main__.py")


def _leave(_: int, __: object) -> None:
    os._exit(INTERRUPTED)  # nothing has begun that would need an end, or all has come to it


_is_command = bool(sys.argv) and os.path.basename(sys.argv[0]) in _COMMANDS  # noqa: PTH119 (pathlib takes 20 ms)


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
