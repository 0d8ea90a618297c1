"""Non-dominated points in quality (more is better) and runtime (less is better)."""

from collections.abc import Sequence

# (psnr_db, runtime_ms)
Point = tuple[float, float]


def dominates(a: Point, b: Point) -> bool:
    """Tell whether `a` is at least as good as `b` in both and better in one."""
    return a[0] >= b[0] and a[1] <= b[1] and a != b


def ranks(points: Sequence[Point]) -> list[int]:
    """Return each point's non-domination rank: 0 on the front, 1 on the front without those, and so on."""
    order = sorted(range(len(points)), key=lambda i: (points[i][1], -points[i][0]))
    fronts: list[list[Point]] = []
    found = [0] * len(points)
    for index in order:  # by rising runtime a point can only be dominated by one already placed
        point = points[index]
        rank = next((r for r, front in enumerate(fronts) if not _any_dominates(front, point)), len(fronts))
        if rank == len(fronts):
            fronts.append([])
        fronts[rank].append(point)
        found[index] = rank
    return found


def _any_dominates(front: list[Point], point: Point) -> bool:
    return any(dominates(other, point) for other in front)
