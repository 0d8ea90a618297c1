"""Rank correlations against SciPy's, and spreads, survivors and regrets that can be counted by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nas.audit import rank_agreement

# Few different values, so that there are ties.
PAIRS = st.integers(3, 12).flatmap(
    lambda n: st.tuples(*(st.lists(st.integers(0, 5), min_size=n, max_size=n) for _ in range(2)))
)


@given(PAIRS)
def test_the_coefficients_are_scipys_ties_included(pair: tuple[list[int], list[int]]) -> None:
    x, y = (np.array(values, float) for values in pair)
    coefficients = (float(rank_agreement.spearman(x, y)), float(rank_agreement.kendall(x, y)))
    if len(set(pair[0])) == 1 or len(set(pair[1])) == 1:
        assert np.isnan(coefficients).all()
    else:
        wanted = (stats.spearmanr(x, y).statistic, stats.kendalltau(x, y).statistic)
        assert coefficients == pytest.approx(wanted, abs=1e-12)


def test_rows_are_correlated_each_on_its_own() -> None:
    x, y = np.random.default_rng(0).normal(size=(2, 5, 9))
    for statistic in (rank_agreement.spearman, rank_agreement.kendall):
        assert statistic(x, y) == pytest.approx([float(statistic(a, b)) for a, b in zip(x, y, strict=True)])


def test_one_swap_of_neighbours_counts_as_the_textbook_says() -> None:
    x, y = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 3.0, 2.0, 4.0])
    assert rank_agreement.spearman(x, y) == pytest.approx(1 - 6 * 2 / (4 * 15))  # 1 − 6 Σd² / (n (n² − 1))
    assert rank_agreement.kendall(x, y) == pytest.approx((5 - 1) / 6)  # five pairs in order, one not


@pytest.mark.parametrize("statistic", [rank_agreement.spearman, rank_agreement.kendall])
def test_the_same_order_is_1_with_no_doubt_and_the_reverse_is_minus_1(statistic: rank_agreement.Statistic) -> None:
    x = np.arange(12.0)
    assert rank_agreement.estimate(statistic, x, x**3) == rank_agreement.Estimate(*[pytest.approx(1.0)] * 3)
    assert rank_agreement.estimate(statistic, x, -x) == rank_agreement.Estimate(*[pytest.approx(-1.0)] * 3)


def test_the_interval_holds_the_estimate_and_narrows_with_more_networks() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=200)
    y = x + rng.normal(size=200)
    few, many = (rank_agreement.estimate(rank_agreement.spearman, x[:n], y[:n]) for n in (12, 200))
    for estimate in (few, many):
        assert estimate.low is not None
        assert estimate.value is not None
        assert estimate.high is not None
        assert -1 <= estimate.low < estimate.value < estimate.high <= 1
    assert many.high - many.low < (few.high - few.low) / 2  # type: ignore[operator]


def test_the_interval_of_coefficients_covers_the_truth_about_as_often_as_it_says() -> None:
    # Two orders that have nothing to do with each other: the true coefficient is zero.
    rng = np.random.default_rng(2)
    estimates = [rank_agreement.estimate(rank_agreement.kendall, *rng.normal(size=(2, 16))) for _ in range(200)]
    covered = np.mean([e.low <= 0 <= e.high for e in estimates])  # type: ignore[operator]
    assert 0.86 <= covered <= 0.99


@pytest.mark.parametrize("truth", [[1.0, 2.0], [5.0, 5.0, 5.0, 5.0]])
def test_where_there_is_no_order_there_is_no_coefficient(truth: list[float]) -> None:
    short = np.arange(len(truth), dtype=float)
    assert rank_agreement.estimate(rank_agreement.spearman, short, np.array(truth)) == rank_agreement.Estimate(
        None, None, None
    )
    both = np.tile(short[:, None], 2)
    assert rank_agreement.one_seed(rank_agreement.spearman, both, np.array([truth, truth]).T) is None


def test_one_seed_is_compared_with_the_truth_of_the_others_alone() -> None:
    up, down = np.arange(4.0), -np.arange(4.0)
    truth = np.stack([up, down], axis=1)
    assert rank_agreement.one_seed(rank_agreement.spearman, truth, truth) == pytest.approx(
        -1.0
    )  # with its own it would be +1
    assert rank_agreement.one_seed(rank_agreement.spearman, truth[:, ::-1], truth) == pytest.approx(1.0)


def test_one_seed_of_three_is_compared_with_the_mean_of_the_other_two() -> None:
    rng = np.random.default_rng(3)
    short, truth = rng.normal(size=(2, 7, 3))
    wanted = [
        stats.kendalltau(short[:, a], truth[:, [b, c]].mean(1)).statistic
        for a, b, c in [(0, 1, 2), (1, 0, 2), (2, 0, 1)]
    ]
    assert rank_agreement.one_seed(rank_agreement.kendall, short, truth) == pytest.approx(np.mean(wanted))


def test_a_single_seed_has_no_spread_and_no_ceiling() -> None:
    one = np.arange(5.0)[:, None]
    assert rank_agreement.seed_spread(one) is None
    assert rank_agreement.one_seed(rank_agreement.spearman, one, one) is None
    assert rank_agreement.network_spread(one[:1]) is None


def test_the_spread_over_seeds_is_pooled_and_the_one_over_networks_is_of_their_means() -> None:
    values = np.array([[20.0, 22.0], [30.0, 30.0]])
    assert rank_agreement.seed_spread(values) == pytest.approx(1.0)  # variances 2 and 0, their mean 1
    assert rank_agreement.network_spread(values) == pytest.approx(np.std([21.0, 30.0], ddof=1))


def test_survivors_of_the_best_quarter_are_counted_over_seeds() -> None:
    truth = np.tile(np.arange(12.0)[:, None], 2)  # the best quarter: 9, 10, 11
    upside_down = 11 - truth
    assert rank_agreement.kept_of_the_best(truth, truth, eta=3) == (3.0, 3)
    assert rank_agreement.kept_of_the_best(upside_down, truth, eta=3) == (0.0, 3)
    one_of_each = np.stack([truth[:, 0], upside_down[:, 0]], axis=1)
    assert rank_agreement.kept_of_the_best(one_of_each, truth, eta=3) == (1.5, 3)


def test_the_best_third_of_a_rung_is_rounded_down_as_the_search_rounds() -> None:
    truth = np.arange(8.0)[:, None]  # a quarter is two: 6 and 7; a third is two as well
    short = truth.copy()
    short[[5, 6]] = short[[6, 5]]
    assert rank_agreement.kept_of_the_best(short, truth, eta=3) == (1.0, 2)


def test_a_ladder_that_ranks_as_the_truth_does_has_no_regret() -> None:
    truth = np.random.default_rng(4).normal(size=(9, 2))
    truth[:, 1] = truth[:, 0]
    assert rank_agreement.regret([truth, truth, truth], truth, eta=3) == 0


def test_a_ladder_regrets_what_its_first_rung_threw_away() -> None:
    truth = np.arange(9.0)[:, None]
    first = truth.copy()
    first[8] = -1  # the best one looks worst at first; 7, 6 and 5 climb on
    assert rank_agreement.regret([first, truth], truth, eta=3) == pytest.approx(1.0)
    assert rank_agreement.regret([truth, -truth], truth, eta=3) == pytest.approx(
        2.0
    )  # of 8, 7 and 6 it takes the least
