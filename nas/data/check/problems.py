"""Describe faults of pairs: one sentence per kind, with the pairs that have it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]

ALL_PAIRS = "all pairs"
# A single odd pair is a warning; from so many on a training learns from the fault.
MANY_PAIRS, MANY_SHARE = 2, 0.01
SHOWN_NAMES = 5


@dataclass(frozen=True)
class Problem:
    """One fault: how bad, where, what it is, and what to do about it."""

    severity: Severity
    name: str  # "train/12", "18 of 60 pairs" or "all pairs"
    what: str
    what_to_do: str
    names: tuple[str, ...] = ()  # of all pairs that have it; empty where it is said of the whole set

    @property
    def where(self) -> str:
        """The name, and the first of the pairs where it stands for several."""
        return f"{self.name} ({listed(self.names)})" if len(self.names) > 1 else self.name


def listed(names: Iterable[str]) -> str:
    """Return the first names and how many more there are."""
    every = list(names)
    more = len(every) - SHOWN_NAMES
    return ", ".join(every[:SHOWN_NAMES]) + (f", … {more} more" if more > 0 else "")


def are_many(count: int, total: int) -> bool:
    """Whether so many pairs spoil a training."""
    return count >= max(MANY_PAIRS, MANY_SHARE * total)


def of_pairs(severity: Severity, names: Sequence[str], total: int, what: str, what_to_do: str) -> Problem:
    """Return the fault of some pairs of `total`."""
    some = names[0] if len(names) == 1 else f"{len(names)} of {total} pairs"
    name = ALL_PAIRS if len(names) == total else some
    return Problem(severity, name, what, what_to_do, tuple(names))


def error_if_many(names: Sequence[str], total: int, what: str, what_to_do: str) -> Problem:
    """Return a fault that is an error where many pairs have it, else a warning."""
    return of_pairs("error" if are_many(len(names), total) else "warning", names, total, what, what_to_do)
