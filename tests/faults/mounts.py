"""Real mounts for a condition: a place that may only be read, and a disk with little room, as the kernel gives them.

Calls made to fail (failing_disk.c) miss what does not pass the C library, such as maps of files; here nothing is.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

KIB = 1024
AMPLE = "1g"


@cache
def can_mount() -> bool:
    """Tell whether this user may mount."""
    if sys.platform != "linux" or os.getuid() or not shutil.which("mount"):
        return False
    with tempfile.TemporaryDirectory() as name:
        if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", name], capture_output=True, check=False).returncode:
            return False
        _mount("umount", name)
        return True


@contextmanager
def read_only(place: Path) -> Iterator[None]:
    """Let a folder be read and not written while the block runs."""
    place.mkdir(exist_ok=True)
    _mount("mount", "--bind", str(place), str(place))
    try:
        _mount("mount", "-o", "remount,ro,bind", str(place))
        yield
    finally:
        _mount("umount", "--lazy", str(place))


@contextmanager
def small_disk(place: Path) -> Iterator[None]:
    """Let a folder, which is empty, be a disk of its own."""
    _mount("mount", "-t", "tmpfs", "-o", f"size={AMPLE}", "tmpfs", str(place))
    try:
        yield
    finally:
        _mount("umount", "--lazy", str(place))


def leave_room(place: Path, size_kib: int | None) -> None:
    """Leave so much room on a small disk; None: ample."""
    disk = os.statvfs(place)
    used = (disk.f_blocks - disk.f_bfree) * disk.f_frsize
    size = AMPLE if size_kib is None else str(used + size_kib * KIB)
    _mount("mount", "-o", f"remount,size={size}", str(place))


def _mount(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
