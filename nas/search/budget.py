"""The budget of a search: wall-clock time, or a number of trained candidates."""

import re
from dataclasses import dataclass

from search_spaces.errors import UsageError

_UNITS_S = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_TOLD_S = {"h": 3600, "min": 60, "s": 1}
_NUMBER = r"[0-9]{1,10}(?:\.[0-9]{1,3})?"
_TIME = re.compile("".join(f"(?:({_NUMBER}){unit})?" for unit in _UNITS_S))
_COUNT = re.compile(r"[0-9]{1,10}")


@dataclass(frozen=True)
class Budget:
    """Seconds of searching or trained candidates, over the whole study and all its restarts."""

    seconds: float | None = None
    candidates: int | None = None

    def __str__(self) -> str:
        return f"{self.candidates} candidates" if self.candidates is not None else duration(self.seconds or 0)


def parse_budget(text: str) -> Budget:
    """Read `90s`, `5m`, `1h30m`, `2d`, or a number of candidates such as `200`; raise UsageError otherwise."""
    text = text.strip().lower()
    time = _TIME.fullmatch(text)
    seconds = sum(float(n or 0) * unit for n, unit in zip(time.groups(), _UNITS_S.values(), strict=True)) if time else 0
    if seconds > 0:
        return Budget(seconds=seconds)
    if _COUNT.fullmatch(text) and int(text) > 0:
        return Budget(candidates=int(text))
    wanted = 'a time above zero such as "5m" or "8h", or a number of candidates such as "200"'
    raise UsageError(f'A budget is {wanted}; got "{text[:40]}".')


def read_budget(text: str) -> Budget:
    """Return the budget that `str` made a text of, as records hold it; times are rounded there."""
    if text.endswith(" candidates"):
        return Budget(candidates=int(text.removesuffix(" candidates")))
    return Budget(seconds=sum(float(n) * _TOLD_S[unit] for n, unit in re.findall(r"([0-9]+) (s|min|h)", text)))


def duration(seconds: float) -> str:
    """Return seconds in the two largest units that matter: 45 s, 4 min 30 s, 7 h 05 min."""
    s = max(0, round(seconds))
    if s < 60:
        return f"{s} s"
    if s < 3600:
        return f"{s // 60} min {s % 60:02d} s"
    return f"{s // 3600} h {s % 3600 // 60:02d} min"
