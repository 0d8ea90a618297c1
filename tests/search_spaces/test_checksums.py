"""A change of what was written is found; what is older than checksums is read as it stands."""

import json

import pytest

from search_spaces.system import checksums


def test_an_object_is_read_as_it_was_written_or_refused() -> None:
    written = json.dumps(checksums.summed({"a": (1, 2.5), 3: None}))
    assert checksums.without_sum(json.loads(written)) == {"a": [1, 2.5], "3": None}
    with pytest.raises(ValueError, match="not as it was written"):
        checksums.without_sum(json.loads(written.replace("2.5", "2.25")))


@pytest.mark.parametrize("older", [{"a": 1}, [1], "a", None], ids=repr)
def test_what_has_no_checksum_is_returned_as_it_is(older: object) -> None:
    assert checksums.without_sum(older) == older


def test_a_line_is_split_into_what_was_signed_and_its_checksum() -> None:
    content = b'{"a": 1}'
    checksum = checksums.chained("", content)
    line = checksums.signed(content, checksum)
    assert json.loads(line) == {"a": 1, "checksum": checksum}
    assert checksums.split(line) == (content, checksum)
    assert checksums.split(content) == (content, None)
    assert checksums.chained(checksum, content) != checksum
