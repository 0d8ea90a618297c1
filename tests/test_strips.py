"""Every row is worked on once, however many cores there are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas import strips


@pytest.mark.parametrize("cores", [1, 2, 7])
@given(st.integers(0, 10 * strips.ROWS))
def test_every_row_is_worked_on_once_and_strips_begin_at_even_rows(cores: int, height: int) -> None:
    seen = np.zeros(height, int)

    def work(rows: slice) -> None:
        assert rows.start % 2 == 0
        assert rows.stop - rows.start <= strips.ROWS
        seen[rows] += 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strips, "usable_cores", lambda: cores)
        strips.in_strips(height, work)
    assert (seen == 1).all()


def test_what_a_thread_raises_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strips, "usable_cores", lambda: 2)

    def work(rows: slice) -> None:
        if rows.start:
            raise ValueError("the second strip")

    with pytest.raises(ValueError, match="the second strip"):
        strips.in_strips(2 * strips.ROWS, work)
