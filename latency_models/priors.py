"""Choose the known devices a new device starts from: those that explain its first measurements best."""

from collections.abc import Mapping, Sequence

from latency_models.calibration import logs_left_out
from latency_models.few_networks import SourceDevices, adapted
from latency_models.predictor import Predictor
from latency_models.samples import Sample
from search_spaces.errors import DeviceError, MeasurementError

# More sources than this have never been better, and each is kept in the device's file.
MOST_SOURCES = 5
# So much smaller errors have to be for one source more.
WORTH_ONE_MORE = 0.98


def choose_sources(samples: Sequence[Sample], devices: Mapping[str, Predictor]) -> dict[str, Predictor]:
    """Return the devices to start from, the best first: ranked alone, then taken together while that helps.

    A device that cannot price the networks is no source. Raises MeasurementError where none can.
    """
    errors = {name: error for name, each in devices.items() if (error := _error(samples, [each])) is not None}
    if not errors:
        raise MeasurementError(
            "No known device prices these networks, so none can be started from; measure more networks "
            "(isp-nas latency measure), or name a device by --prior to see what it lacks."
        )
    ranked = sorted(errors, key=lambda name: (errors[name], name))
    best, chosen = errors[ranked[0]], 1
    for count in range(2, min(MOST_SOURCES, len(ranked)) + 1):
        error = _error(samples, [devices[name] for name in ranked[:count]])
        if error is not None and error < WORTH_ONE_MORE * best:
            best, chosen = error, count
    return {name: devices[name] for name in ranked[:chosen]}


def _error(samples: Sequence[Sample], predictors: Sequence[Predictor]) -> float | None:
    """Return the mean error on networks left out, as a logarithm; None where a predictor cannot price them."""
    sources = SourceDevices(predictors)
    try:
        logs = logs_left_out(samples, lambda some: adapted(some, sources))
    except DeviceError:
        return None
    return sum(map(abs, logs)) / len(logs)
