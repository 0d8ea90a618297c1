"""The history of a training is what was written, as far as it goes, or it is refused."""

from pathlib import Path

import pytest

from nas.train import history
from nas.train.history import Validation
from search_spaces.errors import StudyError

SEEN = [Validation(step, 20 + step / 8, 0.5, {"loss": 0.25}, 0.001, 1.5, 0.25) for step in (10, 20, 30)]


@pytest.fixture
def lines(tmp_path: Path) -> list[bytes]:
    history.write(tmp_path, SEEN)
    return (tmp_path / history.HISTORY_FILE).read_bytes().splitlines(keepends=True)


def read_lines(folder: Path, *lines: bytes) -> list[Validation]:
    (folder / history.HISTORY_FILE).write_bytes(b"".join(lines))
    return history.read(folder, until=100)


def test_what_was_written_is_read_up_to_a_step(tmp_path: Path, lines: list[bytes]) -> None:
    assert read_lines(tmp_path, *lines) == SEEN
    assert history.read(tmp_path, until=20) == SEEN[:2] == read_lines(tmp_path, *lines[:2])


def test_a_changed_missing_or_exchanged_line_is_found(tmp_path: Path, lines: list[bytes]) -> None:
    better = lines[0].replace(b"21.25", b"29.25")
    for wrong in ([better, *lines[1:]], lines[1:], [lines[1], lines[0]], [lines[0], *lines]):
        with pytest.raises(StudyError, match="a line is not as it was written"):
            read_lines(tmp_path, *wrong)


def test_lines_of_before_checksums_are_read_but_not_behind_one(tmp_path: Path, lines: list[bytes]) -> None:
    plain = [line.partition(b', "checksum"')[0] + b"}\n" for line in lines]
    assert read_lines(tmp_path, *plain) == SEEN
    with pytest.raises(StudyError, match="a line is not as it was written"):
        read_lines(tmp_path, lines[0], plain[1])
    with pytest.raises(StudyError, match="step should be greater than or equal to 1"):
        read_lines(tmp_path, plain[0].replace(b'"step": 10', b'"step": -1'))
