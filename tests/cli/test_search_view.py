"""What a search shows: it fits 80×24, is quiet when told so, and its log file has every message whole."""

import io
import re
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flow import TINY_TRAINING, made_up, refusal, search_in_process, write_space
from made_up_study import made_up_study
from rich.console import Group

from nas.cli.console import Console
from nas.cli.search import Voice, _read_first
from nas.cli.search_log import SearchLog
from nas.cli.search_view import SearchView, lines_of
from nas.search.study import StudyRecord
from search_spaces.errors import UsageError

DATED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d  \S")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyRecord:
    return made_up_study(tmp_path_factory.mktemp("view") / "s", 100)


def terminal() -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, force_terminal=True, color_system=None, width=80, height=24), file


def training(study: StudyRecord, count: int) -> Any:
    running = [
        SimpleNamespace(candidate=c, rung=1, seed=None, steps_per_s=12.5, worker=SimpleNamespace(step=20, place=None))
        for c in study.trained()[:count]
    ]
    return SimpleNamespace(study=study, running=running, source=None)


def test_the_moving_part_fits_a_small_terminal_whatever_trains(study: StudyRecord) -> None:
    console, file = terminal()
    console.print(Group(*lines_of(training(study, 40), 24)))
    lines = file.getvalue().splitlines()
    assert len(lines) <= 20
    assert max(map(len, lines)) <= 80
    assert lines[-1].startswith("and ")
    words = " ".join(lines)
    for name in ("stopped earlier", "duplicates", "over the limit", "best score", "compiling"):
        assert name in words


def test_an_event_takes_one_line_of_a_terminal_and_is_whole_elsewhere(tmp_path: Path) -> None:
    message = "Trial 3 failed: " + "out of memory, " * 20 + "\nand more"
    console, file = terminal()
    with SearchLog(tmp_path / "log") as log:
        SearchView(console, log).on_message(message)
    (line,) = file.getvalue().splitlines()
    assert len(line) == 80
    assert line.endswith("…")
    logged = (tmp_path / "log").read_text("utf-8")
    assert all(part in logged for part in message.splitlines())
    plain = Console(file=io.StringIO(), width=80)
    SearchView(plain).on_message(message.partition("\n")[0])
    assert plain.file.getvalue() == message.partition("\n")[0] + "\n"  # type: ignore[attr-defined]


def searched(tmp_path: Path, *more: object) -> Any:
    space = write_space(tmp_path / "tiny.toml")
    return search_in_process(
        "--budget", 3, "--data", tmp_path / "pairs", "--space", space, "--results", tmp_path / "r", "--study", "s",
        "--workers", 1, *TINY_TRAINING, *more, run=made_up,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, tiny_pairs: Path) -> Path:
    (tmp_path / "pairs").symlink_to(tiny_pairs)
    return tmp_path


def test_a_quiet_search_prints_its_result_alone_and_the_log_file_has_the_rest(folder: Path) -> None:
    log = folder / "search.log"
    log.write_text("mine\n")
    done = searched(folder, "--quiet", "--log-file", log)
    assert done.returncode == 0, done.stderr
    assert "Trial 0" not in done.stdout
    assert "Study s in" not in done.stdout
    assert "3 trained" in done.stdout
    assert "Pareto front at" in done.stdout
    first, *lines = log.read_text("utf-8").splitlines()
    assert first == "mine"
    assert all(DATED.match(line) for line in lines)
    for text in ("Study s in", "Trial 0 at 2 steps", "3 trained"):
        assert any(text in line for line in lines), text


def test_a_log_file_that_cannot_be_written_is_refused_before_anything_begins(folder: Path) -> None:
    sentence = refusal(searched(folder, "--log-file", folder / "nowhere" / "log"))
    assert "The log file" in sentence
    assert not (folder / "r").exists()


def test_a_full_disk_stops_the_log_and_not_the_search(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    log = SearchLog(Path("/dev/full"))
    for _ in range(2):
        log.write("a message")
    assert "is not written any more (No space left on device)" in log.problem
    with pytest.raises(UsageError, match="cannot be written"):
        SearchLog(tmp_path / "nowhere" / "log")


def test_what_is_said_while_pairs_are_read_comes_after_the_bar(capsys: pytest.CaptureFixture[str]) -> None:
    voice = Voice(Console(), SearchLog(None), quiet=False)
    with suppress(UsageError), _read_first(voice) as (say, read):
        say("There are only 8 training pairs.")
        read(1, 2)
        assert capsys.readouterr().out == "", "it would stand behind the bar"
        raise UsageError("damaged")
    assert capsys.readouterr().out == "There are only 8 training pairs.\n"
