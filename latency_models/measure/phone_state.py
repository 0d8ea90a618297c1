"""Decide whether a phone is fit for timing: temperature, throttling, battery.

A phone that has computed for minutes lowers its clocks, by up to a factor of two: a time taken then is that of the
weather in its case. So every run waits until the phone is cool.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from latency_models.measure.adb import Phone
from search_spaces.errors import MeasurementError

MIN_CHARGE = 15  # percent
POLL_S = 10.0

# One call asks for everything; a phone that lacks one of the services is judged by the others.
_ASK = "dumpsys battery; dumpsys thermalservice; echo low_power: $(settings get global low_power)"
# What `Thermal Status` counts to. Source: PowerManager.THERMAL_STATUS_* of Android 10.
_THROTTLING = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")

OnMessage = Callable[[str], None]
Sleep = Callable[[float], None]


@dataclass(frozen=True)
class PhoneState:
    """What a phone says of its state; None is unknown."""

    battery_c: float | None = None
    charge: float | None = None  # percent
    throttling: int | None = None  # index into the names of Android's thermal status, 0 for none
    saves_power: bool = False

    def too_warm(self, hottest_c: float) -> str:
        """Return why the phone has to cool before it is timed; empty where it has not."""
        if self.throttling:
            names = _THROTTLING[min(self.throttling, len(_THROTTLING) - 1)]
            return f"it throttles ({names})"
        if self.battery_c is not None and self.battery_c > hottest_c:
            return f"its battery has {self.battery_c:.1f} °C, more than {hottest_c:.1f} °C"
        return ""


def parse_state(text: str) -> PhoneState:
    """Read what `dumpsys battery`, `dumpsys thermalservice` and our line about saving power print."""
    throttling = _number(text, "Thermal Status")
    saves_power = _number(text, "low_power") == 1
    if re.search(r"^\s*present: false", text, re.MULTILINE):
        # A board without a battery reports 0 °C and 0 %.
        return PhoneState(throttling=throttling, saves_power=saves_power)
    tenths, level, scale = (_number(text, key) for key in ("temperature", "level", "scale"))
    return PhoneState(
        battery_c=None if tenths is None else tenths / 10,
        charge=None if level is None else 100 * level / (scale or 100),
        throttling=throttling,
        saves_power=saves_power,
    )


def _number(text: str, key: str) -> int | None:
    match = re.search(rf"^\s*{key}:\s*(-?\d+)\s*$", text, re.MULTILINE)
    return int(match[1]) if match else None


def wait_until_fit(phone: Phone, *, hottest_c: float, patience_s: float, on_message: OnMessage, sleep: Sleep) -> None:
    """Return once the phone is cool; raise MeasurementError where it does not cool, or its battery is too low."""
    waited_s = 0.0
    while True:
        state = parse_state(phone.shell(_ASK).text)
        _check_power(phone, state)
        reason = state.too_warm(hottest_c)
        if not reason:
            return
        if waited_s >= patience_s:
            raise MeasurementError(
                f"Phone {phone.serial} did not cool within {patience_s / 60:.0f} minutes: {reason}; "
                "lay it somewhere cool, out of its case, and run the same command again."
            )
        on_message(f"waiting for the phone to cool: {reason}")
        sleep(POLL_S)
        waited_s += POLL_S


def _check_power(phone: Phone, state: PhoneState) -> None:
    if state.charge is not None and state.charge < MIN_CHARGE:
        raise MeasurementError(
            f"The battery of phone {phone.serial} is at {state.charge:.0f} %, and a phone slows down to spare it; "
            f"charge it above {MIN_CHARGE} % and run the same command again."
        )
    if state.saves_power:
        raise MeasurementError(
            f"Phone {phone.serial} saves power, which lowers its clocks; switch battery saver off and run the same "
            "command again."
        )
