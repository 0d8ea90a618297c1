"""Format numbers with their units, and read some: counts, milliseconds with their interval, decibels, bytes."""

import re
from collections.abc import Mapping
from math import floor, log10
from typing import Any

from search_spaces.errors import UsageError

_MOST_DECIMALS = 6  # of a time
Row = Mapping[str, Any]


def count(value: float) -> str:
    """Return a count in the unit a person reads: 842, 28.5 k, 3.41 M, 4.65 G; 3.7e+15 above these."""
    if value >= 1e12:
        return f"{value:.2g}"
    rounded = float(f"{value:.3g}") if value >= 1e4 else value
    for limit, least, unit in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e3, 1e4, "k")):
        if rounded >= least:
            return f"{float(f'{rounded / limit:.3g}'):g} {unit}"
    return f"{value:g}"


def runtime(row: Row) -> str:
    """Return the predicted runtime of a row with its interval."""
    if row["runtime_ms"] is None:
        return "—"
    return predicted_with_interval(row["runtime_ms"], row["runtime_low_ms"], row["runtime_high_ms"])


def predicted_with_interval(ms: float, low: float, high: float) -> str:
    """Return a predicted time with its interval: 61.0 (41–92), 1.8 (1.2–2.7)."""
    return f"{predicted_ms(ms)} ({interval_ms(ms, low, high)})"


def milliseconds(ms: float) -> str:
    """Return a time as a person reads it, two digits of it at least: 131, 8.4, 0.35."""
    return f"{ms:.{_decimals(ms)}f}"


def predicted_ms(ms: float) -> str:
    """Return a predicted time: 131.0, 8.4, 0.35."""
    return f"{ms:.{_predicted_decimals(ms)}f}"


def interval_ms(ms: float, low: float, high: float) -> str:
    """Return the interval of a predicted time, with as many digits as it takes to hold the time as it is shown."""
    shown, decimals = round(ms, _predicted_decimals(ms)), _decimals(low)
    while decimals < _MOST_DECIMALS and not round(low, decimals) <= shown <= round(high, decimals):
        decimals += 1
    return f"{low:.{decimals}f}–{high:.{decimals}f}"


def _predicted_decimals(ms: float) -> int:
    return max(1, _decimals(ms))


def _decimals(value: float) -> int:
    """Return behind which decimal a number may be rounded so that two digits of it are left."""
    return min(_MOST_DECIMALS, max(0, 1 - floor(log10(value)))) if value > 0 else 0


_WORDS = {
    "psnr_db": "PSNR dB",
    "psnr_half_width_db": "± dB",
    "ssim": "SSIM",
    "runtime_ms": "predicted ms",
    "runtime_low_ms": "from ms",
    "runtime_high_ms": "to ms",
    "macs": "MACs",
    "test_psnr_db": "PSNR dB, test",
    "test_ssim": "SSIM, test",
    "elapsed_s": "searched s",
    "horizon": "total steps",
    "precision": "dtype",
}
_DIGITS = {"score": 3, "ssim": 4, "test_ssim": 4}


def in_words(name: str) -> str:
    """Return the name of a stored value as a person reads it."""
    return _WORDS.get(name, name.replace("_", " "))


def figure(name: str, value: Any) -> str:
    """Return a stored value, which its name tells the unit of, as a person reads it: `in_words` says what it is."""
    if value is None:
        return "—"
    if name in ("macs", "parameters"):
        return count(value)
    if isinstance(value, float):
        return _fraction(name, value)
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _fraction(name: str, value: float) -> str:
    if name.endswith("_ms"):
        return predicted_ms(value) if name == "runtime_ms" else milliseconds(value)
    digits = 2 if name.endswith("_db") else _DIGITS.get(name)
    return f"{value:.6g}" if digits is None else f"{value:.{digits}f}"


def decibels(loss: float) -> str:
    """Return a loss in dB with its sign, and nothing that rounds to nothing as 0."""
    return "0" if abs(loss) < 5e-4 else f"{loss:+.3f}"


def parse_bytes(text: str) -> int:
    """Read "8GB", "500MB" or a number of bytes; raise UsageError for anything else."""
    match = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,3})?) *([KMGT]?)i?B?", text.strip(), re.IGNORECASE)
    if match is None or not float(match[1]) > 0:
        raise UsageError(f'A size is a number with a unit, such as "8GB" or "500MB"; got "{text[:40]}".')
    power = " KMGT".index(match[2].upper() or " ")
    return round(float(match[1]) * 1000.0**power)
