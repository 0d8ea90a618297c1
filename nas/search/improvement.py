"""What a proposal is expected to improve: the best score, or the area under the front of PSNR and runtime.

Runtime is known before training and PSNR is predicted with a normal distribution, so both have closed forms.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from nas.search import pareto
from nas.search.score import final_score

Vector = np.ndarray[Any, Any]
Figures = Sequence[float] | Vector
# The corner of the area under the front lies so far beyond its ends, in shares of its extent. With the slowest and the
# worst network that was trained as corner, slow networks would count for more than all that lies between.
BEYOND = 0.1


def expected_improvement(mean: Vector, deviation: Vector, best: Any) -> Vector:
    """Return by how much each candidate is expected to exceed the best (Jones et al. 1998)."""
    from scipy.stats import norm

    deviation = np.maximum(deviation, 1e-9)
    z = (mean - best) / deviation
    improvement: Vector = deviation * (z * norm.cdf(z) + norm.pdf(z))
    return improvement


class Improvement(Protocol):
    """What is to be improved, given what is expected of the networks that were trained.

    What is expected of them counts, not what was seen: the luck of one training is not to be beaten.
    """

    def ranked(self, rng: np.random.Generator) -> list[int]:
        """Return the trained networks by their places, those first of which changes are worth most."""

    def expected(self, mean_db: Vector, deviation_db: Vector, runtime_ms: Vector) -> Vector:
        """Return what each of the candidates [n] is expected to add."""


class OfScore(Improvement):
    """The best score."""

    def __init__(self, psnr_db: Figures, runtime_ms: Figures) -> None:
        self._scores = [final_score(psnr, ms) for psnr, ms in zip(psnr_db, runtime_ms, strict=True)]

    def ranked(self, rng: np.random.Generator) -> list[int]:  # noqa: ARG002 (the interface)
        """Return the best score first."""
        return sorted(range(len(self._scores)), key=lambda index: -self._scores[index])

    def expected(self, mean_db: Vector, deviation_db: Vector, runtime_ms: Vector) -> Vector:
        """Return how far each score is expected to exceed the best."""
        scores = np.array([final_score(psnr, ms) for psnr, ms in zip(mean_db, runtime_ms, strict=True)])
        return expected_improvement(scores, deviation_db, max(self._scores))


def corner_of(psnr_db: Figures, runtime_ms: Figures) -> tuple[float, float]:
    """Return the PSNR (dB) and the runtime (ms) from which the area under the front of these networks is taken.

    A little beyond both ends of the front (Ishibuchi et al. 2018). Where it is a point, the extent of all counts.
    """
    return _corner(
        _front(psnr_db, runtime_ms, pareto.ranks([*zip(psnr_db, runtime_ms, strict=True)])), psnr_db, runtime_ms
    )


def _corner(members: Sequence[tuple[float, float]], psnr_db: Figures, runtime_ms: Figures) -> tuple[float, float]:
    front = np.array(members)
    extent = np.ptp(front, axis=0)
    beyond = BEYOND * np.where(extent > 0, extent, [np.ptp(runtime_ms), np.ptp(psnr_db)])
    return float(front[:, 1].min() - beyond[1]), float(front[:, 0].max() + beyond[0])


def _front(psnr_db: Figures, runtime_ms: Figures, ranks: Sequence[int]) -> list[tuple[float, float]]:
    """Return runtime and PSNR of the networks of rank 0, the fastest first."""
    return sorted((ms, db) for db, ms, rank in zip(psnr_db, runtime_ms, ranks, strict=True) if not rank)


class OfFront(Improvement):
    """The area between the front and a corner, in dB · ms."""

    def __init__(self, psnr_db: Figures, runtime_ms: Figures, corner: tuple[float, float] | None = None) -> None:
        """`corner` is by default the one of `corner_of`."""
        self._ranks = pareto.ranks([*zip(psnr_db, runtime_ms, strict=True)])
        front = _front(psnr_db, runtime_ms, self._ranks)
        worst, slowest = corner or _corner(front, psnr_db, runtime_ms)
        times, levels = zip((0.0, worst), *((ms, max(db, worst)) for ms, db in front), strict=True)
        self._steps = [*pairwise((*times, slowest))]
        self._levels = levels

    def ranked(self, rng: np.random.Generator) -> list[int]:
        """Return front after front, each in a random order: its ends and its middle are to be widened alike."""
        order = rng.permutation(len(self._ranks))
        return sorted(map(int, order), key=lambda index: self._ranks[index])

    def expected(self, mean_db: Vector, deviation_db: Vector, runtime_ms: Vector) -> Vector:
        """Return the expected improvement of the area (Emmerich et al. 2006).

        A network adds to each step of the front that is slower than itself: the step's width times how far its PSNR
        exceeds the step's.
        """
        added = np.zeros(len(mean_db))
        for (begins, ends), level in zip(self._steps, self._levels, strict=True):
            width = np.maximum(0.0, ends - np.maximum(begins, runtime_ms))
            added += width * expected_improvement(mean_db, deviation_db, level)
        return added


IMPROVEMENTS: dict[str, type[OfScore | OfFront]] = {"score": OfScore, "pareto": OfFront}
