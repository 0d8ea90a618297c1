"""Limits on a network's cost, and how far a network exceeds them.

The last question before a candidate is trained. How far over the limits it lies is what Optuna learns from: a search
that only knew "too large" would not know which way to go.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Excess:
    """That a network is over a limit; see `Limits.excess` for the unit of `violation`, which is above zero."""

    violation: float
    reason: str


@dataclass(frozen=True)
class Limits:
    """The largest predicted runtime and the largest peak of maps at Full HD; None where there is no limit."""

    max_runtime_ms: float | None = None
    max_memory_mb: float | None = None

    def excess(self, *, runtime_ms: float, peak_memory_mb: float) -> Excess | None:
        """Return how far over the limits a network is, None where it is within both.

        Where runtime is the only limit the violation is in ms, as in every study before there was another. Otherwise
        ms and MB have to be added: each excess then counts as a share of its limit, 0.5 being half as much again, so
        that neither unit outweighs the other. All violations of one study have the same unit.
        """
        time, memory = _over(runtime_ms, self.max_runtime_ms), _over(peak_memory_mb, self.max_memory_mb)
        reasons = []
        if time:
            reasons.append(f"predicted {runtime_ms:.1f} ms is over the limit of {self.max_runtime_ms:g} ms")
        if memory:
            reasons.append(f"{peak_memory_mb:.1f} MB of maps at once are over the limit of {self.max_memory_mb:g} MB")
        if not reasons:
            return None
        if self.max_memory_mb is None:
            return Excess(time, reasons[0])
        return Excess(time / (self.max_runtime_ms or 1.0) + memory / self.max_memory_mb, " and ".join(reasons))


def _over(value: float, limit: float | None) -> float:
    return 0.0 if limit is None else max(0.0, value - limit)
