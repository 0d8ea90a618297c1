"""How numbers are shown to a person."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.units import interval_ms, milliseconds, predicted_ms, predicted_with_interval

TIMES = st.floats(1e-3, 1e5)


@pytest.mark.parametrize(
    ("ms", "shown"), [(0.0, "0"), (0.0043, "0.0043"), (0.35, "0.35"), (8.42, "8.4"), (31.4, "31"), (13_500.0, "13500")]
)
def test_a_time_keeps_two_digits(ms: float, shown: str) -> None:
    assert milliseconds(ms) == shown


@pytest.mark.parametrize(
    ("ms", "low", "high", "shown"),
    [
        (61.0, 40.7, 91.5, "61.0 (41–92)"),
        (1.8, 1.2, 2.7, "1.8 (1.2–2.7)"),
        (0.35, 0.23, 0.53, "0.35 (0.23–0.53)"),
        (45.3, 45.2, 45.4, "45.3 (45.2–45.4)"),
    ],
)
def test_a_predicted_time_is_shown_with_as_many_digits_as_it_needs(
    ms: float, low: float, high: float, shown: str
) -> None:
    assert predicted_with_interval(ms, low, high) == shown


@given(TIMES, st.floats(1, 3), st.floats(1, 3))
def test_an_interval_holds_its_time_as_both_are_shown(ms: float, below: float, above: float) -> None:
    low, high = map(float, interval_ms(ms, ms / below, ms * above).split("–"))
    assert low <= float(predicted_ms(ms)) <= high
