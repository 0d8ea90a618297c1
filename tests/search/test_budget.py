"""A budget is a time or a number of candidates, written as people write it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.search.budget import Budget, duration, parse_budget
from search_spaces.errors import UsageError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("5m", 300),
        ("8h", 28_800),
        ("2d", 172_800),
        ("1h30m", 5400),
        ("1d2h3m4s", 93_784),
        ("0.5h", 1800),
        ("1.5m30s", 120),
        (" 5M ", 300),
    ],
)
def test_times_are_read(text: str, seconds: float) -> None:
    assert parse_budget(text) == Budget(seconds=seconds)


@given(st.integers(1, 10**9))
def test_a_number_alone_counts_candidates(count: int) -> None:
    assert parse_budget(str(count)) == Budget(candidates=count)


@pytest.mark.parametrize(
    "text",
    ["", "0", "0s", "0h0m", "-5m", "+5m", "-3", "5 m", "5min", "1h 30m", "2w", "m", "1.5", "1e3", "5m!", "x5m", ".5h"],
)
def test_anything_else_is_refused_with_two_examples(text: str) -> None:
    with pytest.raises(UsageError, match=r'such as "5m" or "8h", or a number of candidates such as "200"; got'):
        parse_budget(text)


@given(st.integers(1, 10**6))
def test_a_time_means_the_same_in_every_unit(count: int) -> None:
    assert parse_budget(f"{count}h") == parse_budget(f"{60 * count}m") == parse_budget(f"{3600 * count}s")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 s"),
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (270, "4 min 30 s"),
        (3599.6, "1 h 00 min"),
        (25_500, "7 h 05 min"),
        (100_000, "27 h 46 min"),
    ],
)
def test_durations_are_told_in_the_two_units_that_matter(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_budget_tells_itself_as_it_was_meant() -> None:
    assert str(parse_budget("90m")) == "1 h 30 min"
    assert str(parse_budget("200")) == "200 candidates"
