"""Ranks by non-domination, against the definition itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.search.pareto import Point, dominates, ranks

# Few values, so that ties in one coordinate and equal points are common.
coordinates = st.integers(0, 5).map(float) | st.floats(0, 100)
clouds = st.lists(st.tuples(coordinates, coordinates), max_size=25)


def peeled(points: list[Point]) -> list[int]:
    """Ranks by the definition: take the front away, and again."""
    rank: dict[int, int] = {}
    level = 0
    while len(rank) < len(points):
        left = [i for i in range(len(points)) if i not in rank]
        front = [i for i in left if not any(dominates(points[j], points[i]) for j in left)]
        rank |= dict.fromkeys(front, level)
        level += 1
    return [rank[i] for i in range(len(points))]


@given(clouds)
def test_ranks_are_those_of_peeling_fronts_off(points: list[Point]) -> None:
    assert ranks(points) == peeled(points)


@given(clouds, st.randoms())
def test_ranks_do_not_depend_on_the_order(points: list[Point], random) -> None:
    order = list(range(len(points)))
    random.shuffle(order)
    ranked = ranks(points)
    assert ranks([points[i] for i in order]) == [ranked[i] for i in order]


@pytest.mark.parametrize(
    ("a", "b", "better"),
    [
        ((24.0, 50.0), (23.0, 60.0), True),
        ((24.0, 50.0), (24.0, 60.0), True),
        ((24.0, 50.0), (23.0, 50.0), True),
        ((24.0, 50.0), (24.0, 50.0), False),
        ((24.0, 60.0), (23.0, 50.0), False),
        ((23.0, 60.0), (24.0, 50.0), False),
    ],
)
def test_more_psnr_in_no_more_time_dominates(a: Point, b: Point, better: bool) -> None:
    assert dominates(a, b) is better


@given(clouds.filter(bool))
def test_the_front_holds_the_best_psnr_and_the_least_runtime(points: list[Point]) -> None:
    front = [point for point, rank in zip(points, ranks(points), strict=True) if rank == 0]
    assert max(p for p, _ in front) == max(p for p, _ in points)
    assert min(r for _, r in front) == min(r for _, r in points)


def test_equal_points_share_the_front() -> None:
    assert ranks([(23.0, 60.0), (23.0, 60.0), (22.0, 60.0)]) == [0, 0, 1]
