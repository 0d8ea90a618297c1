"""Every row is worked on once, however many cores there are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.render import row_threads


@pytest.mark.parametrize("cores", [1, 2, 7])
@given(st.integers(0, 10 * row_threads.ROWS))
def test_every_row_is_worked_on_once_and_strips_begin_at_even_rows(cores: int, height: int) -> None:
    seen = np.zeros(height, int)

    def work(rows: slice) -> None:
        assert rows.start % 2 == 0
        assert rows.stop - rows.start <= row_threads.ROWS
        seen[rows] += 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_threads, "usable_cores", lambda: cores)
        row_threads.in_strips(height, work)
    assert (seen == 1).all()


def test_what_a_thread_raises_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_threads, "usable_cores", lambda: 2)

    def work(rows: slice) -> None:
        if rows.start:
            raise ValueError("the second strip")

    with pytest.raises(ValueError, match="the second strip"):
        row_threads.in_strips(2 * row_threads.ROWS, work)
