"""What native code prints is shown where nobody else says what failed."""

import os

import pytest

from search_spaces.errors import ExportError
from search_spaces.system.native_stderr import quiet


@pytest.mark.parametrize(("error", "is_shown"), [(ExportError("a sentence"), False), (RuntimeError("a bug"), True)])
def test_lines_of_a_library_do_not_stand_before_a_sentence(
    capfd: pytest.CaptureFixture[str], error: Exception, is_shown: bool
) -> None:
    @quiet()
    def fail() -> None:
        os.write(2, b"Traceback of a library\n")
        raise error

    with pytest.raises(type(error)):
        fail()
    assert ("Traceback of a library" in capfd.readouterr().err) == is_shown
