"""What is over a limit, and by how much."""

import pytest

from nas.search.constraints import Limits

BOTH = Limits(max_runtime_ms=100.0, max_memory_mb=50.0)


@pytest.mark.parametrize("limits", [Limits(), Limits(100.0), Limits(None, 50.0), BOTH])
def test_what_just_keeps_the_limits_is_within_them(limits: Limits) -> None:
    assert limits.excess(runtime_ms=100.0, peak_memory_mb=50.0) is None


def test_without_limits_nothing_is_too_much() -> None:
    assert Limits().excess(runtime_ms=1e9, peak_memory_mb=1e9) is None


def test_where_runtime_is_the_only_limit_the_violation_is_in_ms() -> None:
    excess = Limits(100.0).excess(runtime_ms=130.0, peak_memory_mb=1e9)
    assert excess is not None
    assert excess.violation == pytest.approx(30)
    assert excess.reason == "predicted 130.0 ms is over the limit of 100 ms"


def test_memory_counts_as_a_share_of_its_limit() -> None:
    excess = Limits(None, 50.0).excess(runtime_ms=1e9, peak_memory_mb=75.0)
    assert excess is not None
    assert excess.violation == pytest.approx(0.5)
    assert excess.reason == "75.0 MB of maps at once are over the limit of 50 MB"


@pytest.mark.parametrize(
    ("runtime_ms", "peak_memory_mb", "violation"), [(130, 10, 0.3), (10, 75, 0.5), (130, 75, 0.8), (100.1, 50, 0.001)]
)
def test_under_two_limits_the_shares_add_up_and_what_is_within_one_makes_up_for_nothing(
    runtime_ms: float, peak_memory_mb: float, violation: float
) -> None:
    excess = BOTH.excess(runtime_ms=runtime_ms, peak_memory_mb=peak_memory_mb)
    assert excess is not None
    assert excess.violation == pytest.approx(violation)


def test_the_reason_names_every_limit_that_is_missed_and_no_other() -> None:
    both, slow = (BOTH.excess(runtime_ms=130, peak_memory_mb=mb) for mb in (75, 10))
    assert both is not None
    assert slow is not None
    assert " ms and 75.0 MB of maps at once are over the limit of 50 MB" in both.reason
    assert "MB" not in slow.reason


def test_a_network_that_is_further_over_has_a_larger_violation() -> None:
    far, near = (BOTH.excess(runtime_ms=ms, peak_memory_mb=75) for ms in (180, 120))
    assert far is not None
    assert near is not None
    assert far.violation > near.violation
