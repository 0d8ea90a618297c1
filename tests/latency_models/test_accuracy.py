"""Accuracy figures against answers worked out by hand."""

import pytest

from latency_models.accuracy import coverage, kendall, mape, spearman, within
from search_spaces.errors import UsageError

MEASURED = [100.0, 50.0, 200.0, 10.0]
PREDICTED = [110.0, 40.0, 200.0, 11.5]  # off by 10, 20, 0 and 15 percent


def test_mape_is_the_mean_relative_error() -> None:
    assert mape(PREDICTED, MEASURED) == pytest.approx((0.10 + 0.20 + 0.0 + 0.15) / 4)


def test_within_counts_the_bound_itself() -> None:
    assert within(PREDICTED, MEASURED) == 0.5
    assert within(PREDICTED, MEASURED, share=0.15) == 0.75
    assert within([1.0], [1.0], share=0.0) == 1.0


def test_rank_correlations_see_order_alone() -> None:
    assert spearman([1, 2, 3], [10, 200, 3000]) == pytest.approx(1.0)
    assert kendall([1, 2, 3], [3000, 200, 10]) == pytest.approx(-1.0)
    # One neighbouring pair of four swapped: ρ = 1 − 6·2/(4·15) = 0.8, τ = (5 − 1)/6.
    assert spearman([1, 2, 3, 4], [1, 3, 2, 4]) == pytest.approx(0.8)
    assert kendall([1, 2, 3, 4], [1, 3, 2, 4]) == pytest.approx(4 / 6)


def test_coverage_counts_the_ends_of_an_interval() -> None:
    assert coverage([1, 1, 3, 4], [2, 2, 9, 5], [1, 2, 2, 6]) == 0.5


@pytest.mark.parametrize("figure", [mape, within, spearman, kendall])
def test_unequal_or_empty_lists_are_refused(figure: object) -> None:
    for predicted, measured in (([1.0], [1.0, 2.0]), ([], [])):
        with pytest.raises(UsageError, match="one predicted time per measured one"):
            figure(predicted, measured)  # type: ignore[operator]
    with pytest.raises(UsageError, match="one predicted time"):
        coverage([1.0], [2.0, 3.0], [1.0])


@pytest.mark.parametrize("measured", [[0.0, 1.0], [float("nan"), 1.0]])
def test_a_failed_measurement_is_refused(measured: list[float]) -> None:
    with pytest.raises(UsageError, match="must be positive"):
        mape([1.0, 1.0], measured)


@pytest.mark.parametrize("figure", [spearman, kendall])
def test_ranks_of_equal_times_are_refused_instead_of_nan(figure: object) -> None:
    with pytest.raises(UsageError, match="two or more different"):
        figure([1.0, 1.0], [1.0, 2.0])  # type: ignore[operator]
