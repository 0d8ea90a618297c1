"""The challenge's score: Table 1, and the bends of the formula."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.search.score import final_score
from search_spaces.designs import DESIGNS, Design

# Source: Ignatov et al., arXiv 2105.07809, Table 1: PSNR in dB, runtime in ms, final score.
TABLE_1 = {
    "dh_isp": (23.20, 61.0, 25.98),
    "AIISP": (23.73, 90.8, 25.91),
    "Tuned U-Net": (23.30, 78.0, 25.74),
    "ENERZAI": (22.97, 65.0, 25.67),
    "isp_forever": (22.78, 77.0, 25.24),
    "NOAHTCV": (23.08, 94.5, 25.19),
    "ACVLab": (22.03, 76.3, 24.5),
    "CVML": (22.84, 167.0, 23.5),
    "ENERZAI*": (23.41, 231.0, 23.39),
    "EdS": (23.23, 1861.0, 22.4),
}
psnr = st.floats(0, 100)
runtimes = st.floats(0, 10_000)


@pytest.mark.parametrize(("psnr_db", "runtime_ms", "score"), TABLE_1.values(), ids=TABLE_1)
def test_the_formula_reproduces_every_row_of_table_1(psnr_db: float, runtime_ms: float, score: float) -> None:
    # The table prints two decimals of a score whose inputs it has rounded too.
    assert final_score(psnr_db, runtime_ms) == pytest.approx(score, abs=0.006)


@pytest.mark.parametrize("design", DESIGNS.values(), ids=DESIGNS)
def test_a_designs_own_row_is_one_of_the_table(design: Design) -> None:
    row = design.table1
    assert (row.psnr_db, row.runtime_ms, row.score) == TABLE_1[design.team]


@given(psnr, st.floats(0, 30))
def test_nothing_is_gained_below_30_ms(psnr_db: float, runtime_ms: float) -> None:
    assert final_score(psnr_db, runtime_ms) == final_score(psnr_db, 30) == pytest.approx(psnr_db + 3.4)


@given(psnr, st.floats(5000, 1e9))
def test_nothing_is_lost_beyond_5_s(psnr_db: float, runtime_ms: float) -> None:
    assert final_score(psnr_db, runtime_ms) == final_score(psnr_db, 5000) == pytest.approx(psnr_db - 2.4)


def test_the_two_slopes_meet_at_200_ms() -> None:
    assert final_score(23.0, 200) == pytest.approx(23.0)
    assert final_score(23.0, 200 + 1e-6) == pytest.approx(final_score(23.0, 200 - 1e-6), abs=1e-6)


def test_one_db_is_worth_50_ms_below_200_ms_and_2_s_above() -> None:
    assert final_score(23.0, 100) == pytest.approx(final_score(24.0, 150))
    assert final_score(23.0, 1000) == pytest.approx(final_score(24.0, 3000))


@given(psnr, runtimes, runtimes)
def test_a_slower_network_never_scores_more(psnr_db: float, a: float, b: float) -> None:
    fast, slow = sorted((a, b))
    assert final_score(psnr_db, slow) <= final_score(psnr_db, fast)
