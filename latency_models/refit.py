"""Fit a device's coefficients anew: `python -m latency_models.refit NAME_OR_PATH > fitted.json`.

Prints the device's file with the coefficients that its own measurements and prior give, so that
measurements and assumptions can be edited by hand; how well the fit meets the measurements goes to the error
stream. Writes no file; do not redirect into the file that is read, which the shell empties first. For a
built-in device what is printed is its file, and a test holds that.
"""

import json
import sys
from dataclasses import replace

from latency_models.device import Device, device_path, load_device, refit
from latency_models.device_file import read_json
from search_spaces.errors import IspNasError


def refitted_json(name: str) -> str:
    """Return the text of the device's file with `fitted` computed from its measurements and prior."""
    data = read_json(device_path(name))
    data["fitted"] = refit(load_device(name))
    return json.dumps(data, indent=2, ensure_ascii=False)


def fit_report(device: Device) -> str:
    """Return one line per measurement: measured, as the coefficients have it, and the error between them."""
    lines = []
    for measurement in device.measurements:
        fitted_ms = device.predict(measurement.graph()).runtime_ms
        error = fitted_ms / measurement.runtime_ms - 1
        lines.append(
            f"{measurement.label}: measured {measurement.runtime_ms:.1f} ms, fitted {fitted_ms:.1f} ms ({error:+.1%})"
        )
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Print the refitted file and the report; return the exit code."""
    if len(arguments) != 1:
        print("Usage: python -m latency_models.refit NAME_OR_PATH", file=sys.stderr)
        return 2
    try:
        device = load_device(arguments[0])
        print(refitted_json(arguments[0]))
        print(fit_report(replace(device, fitted=refit(device))), file=sys.stderr)
    except IspNasError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
