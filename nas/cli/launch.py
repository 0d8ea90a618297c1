"""Ctrl-C while the command is being loaded: it ends at once and quietly, as later on.

Loading takes half a second, in which `main` cannot catch anything yet.
"""

import os
import signal
import sys
from pathlib import Path
from types import FrameType

INTERRUPTED = 130
_COMMANDS = ("isp-nas", "isp-nas.exe", "__main__.py")


def _leave(_: int, __: FrameType | None) -> None:
    os._exit(INTERRUPTED)  # nothing has begun that would need an end


def loading() -> None:
    """Let Ctrl-C end the process at once, where this is the command and not a program that imports it."""
    if Path(sys.argv[0]).name in _COMMANDS and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)


def loaded() -> None:
    """Let Ctrl-C raise KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)
