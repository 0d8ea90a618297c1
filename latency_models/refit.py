"""Fit a device again: `python -m latency_models.refit NAME_OR_PATH > fitted.json`.

Prints the device's file with the predictor and the held-out networks that its own measurements and method give, so that
measurements and assumptions can be edited by hand; how well held-out networks were foreseen goes to the error
stream. Writes no file; do not redirect into the file that is read, which the shell empties first. For a
built-in device what is printed is its file, and a test holds that.
"""

import sys
from dataclasses import replace

from latency_models.device import Device, load_device, refit
from latency_models.device_writer import device_text
from search_spaces.errors import IspNasError


def refitted(name: str) -> Device:
    """Return the device with what its measurements and method give."""
    device = load_device(name)
    predictor, held_out = refit(device)
    return replace(device, predictor=predictor, held_out=held_out)


def fit_report(device: Device) -> str:
    """Return one line per held-out network: measured, as a fit without its family foresaw it, and the error."""
    return "\n".join(
        f"{held.label}: measured {held.measured_ms:.1f} ms, foreseen {held.predicted_ms:.1f} ms "
        f"({held.predicted_ms / held.measured_ms - 1:+.1%})"
        for held in device.held_out
    )


def main(arguments: list[str]) -> int:
    """Print the refitted file and the report; return the exit code."""
    if len(arguments) != 1:
        print("Usage: python -m latency_models.refit NAME_OR_PATH", file=sys.stderr)
        return 2
    try:
        device = refitted(arguments[0])
    except IspNasError as error:
        print(error, file=sys.stderr)
        return 2
    print(device_text(device))
    print(fit_report(device), file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
