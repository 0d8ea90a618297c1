"""How long a search may run: wall-clock time, or a number of trained candidates."""

import re
from dataclasses import dataclass

from search_spaces.errors import UsageError

_UNITS_S = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_PART = re.compile(r"(\d+(?:\.\d+)?)([dhms])")


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
    parts = _PART.findall(text)
    seconds = sum(float(number) * _UNITS_S[unit] for number, unit in parts)
    if parts and "".join(number + unit for number, unit in parts) == text and seconds > 0:
        return Budget(seconds=seconds)
    if re.fullmatch(r"\d+", text) and int(text) > 0:
        return Budget(candidates=int(text))
    raise UsageError(
        f'A budget is a time above zero such as "5m" or "8h", or a number of candidates such as "200"; got "{text}".'
    )


def duration(seconds: float) -> str:
    """Return seconds in the two largest units that matter: 45 s, 4 min 30 s, 7 h 05 min."""
    s = max(0, round(seconds))
    if s < 60:
        return f"{s} s"
    if s < 3600:
        return f"{s // 60} min {s % 60:02d} s"
    return f"{s // 3600} h {s % 3600 // 60:02d} min"
