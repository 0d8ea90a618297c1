"""What killed processes leave half-written is cleared by the next one that takes the folder, and nothing else is."""

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace

import pytest

from nas.cli.audit import _only_audit
from nas.search.session import only_search
from nas.train.run_folder import only_training
from search_spaces.system import folder_lock
from search_spaces.system.atomic_write import temporary_of

pytestmark = pytest.mark.skipif(os.name != "posix", reason="elsewhere no process can be asked whether it lives")


@pytest.mark.parametrize(
    "take",
    [only_search, _only_audit, lambda folder: only_training(SimpleNamespace(folder=folder))],
    ids=["search", "audit", "train"],
)
def test_who_takes_a_folder_clears_what_a_killed_process_was_writing_anywhere_below(
    tmp_path: Path, take: Callable[[Path], AbstractContextManager[None]]
) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    inner = tmp_path / "runs" / "0"
    inner.mkdir(parents=True)
    dead = [
        Path(str(temporary_of(f)).replace(f"-{os.getpid()}.", f"-{ended.pid}.")) for f in (tmp_path / "a", inner / "b")
    ]
    living = temporary_of(tmp_path / "c").with_name(
        temporary_of(tmp_path / "c").name.replace(str(os.getpid()), str(os.getppid()))
    )
    theirs = [tmp_path / ".mine.tmp", tmp_path / f".a.another-host-{ended.pid}.tmp", tmp_path / "a"]
    for path in (*dead, living, *theirs):
        path.write_bytes(b"half")
    with take(tmp_path):
        left = {path for path in tmp_path.rglob("*") if path.is_file()} - {tmp_path / folder_lock.LOCK}
    assert left == {living, *theirs}
