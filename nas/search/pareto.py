"""Non-dominated points in quality (more is better) and runtime (less is better)."""

from bisect import bisect_left
from collections.abc import Sequence

# (psnr_db, runtime_ms)
Point = tuple[float, float]


def dominates(a: Point, b: Point) -> bool:
    """Tell whether `a` is at least as good as `b` in both and better in one."""
    return a[0] >= b[0] and a[1] <= b[1] and a != b


def ranks(points: Sequence[Point]) -> list[int]:
    """Return each point's non-domination rank: 0 on the front, 1 on the front without those, and so on.

    By rising runtime a point can only be dominated by one already placed, and of a front only its best quality matters.
    That falls from front to front, so the first front that does not dominate is found by halving.
    """
    order = sorted(range(len(points)), key=lambda i: (points[i][1], -points[i][0]))
    bests: list[Point] = []  # the point of the best quality in each front
    ranks_by_place = [0] * len(points)
    for index in order:
        point = points[index]
        rank = bisect_left(bests, True, key=lambda best: not dominates(best, point))
        if rank == len(bests):
            bests.append(point)
        bests[rank] = point  # no worse than the one before it, which would dominate it
        ranks_by_place[index] = rank
    return ranks_by_place
