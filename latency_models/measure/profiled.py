"""Measurements of single operations from a profile of `benchmark_model`, matched to the profiled network.

A profiled network is slower than it is (one phone took 1.7 times as long), so a profile is no runtime of the network;
it tells how the time divides among operations, which whole-network times then bring to the right level. Only where
operations ran one by one can they be told apart: a delegate is one row of a profile.
"""

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from latency_models.kernels import Network
from latency_models.measure.op_profile import OpTime, parse_op_profile
from latency_models.measurements import Conditions, Timing
from latency_models.tflite_network import read_network
from search_spaces.errors import IspNasError, MeasurementError
from search_spaces.system import stored


def timings_of_profile(text: str, model: Path, *, source: str, conditions: Conditions) -> tuple[Timing, ...]:
    """Return one timing per operation, called `<network>#<position>`.

    Raises MeasurementError where the profile is not of this network.
    """
    content, network = _network(model)
    rows = [row for row in parse_op_profile(text) if not row.internal]
    _check(rows, network, model)
    digest = sha256(content).hexdigest()
    return tuple(
        Timing(
            network=f"{model.stem}#{index}",
            runtime_ms=row.ms_per_run,
            statistic="mean",
            model=str(model),
            model_sha256=digest,
            source=source,
            conditions=replace(conditions),
        )
        for index, row in enumerate(rows)
        if row.ms_per_run > 0  # below the clock's resolution
    )


def _network(model: Path) -> tuple[bytes, Network]:
    try:
        content = stored.read_bytes(model)
    except OSError as error:
        raise MeasurementError(
            f"Cannot read {model}: {error.strerror}; give the .tflite file that was profiled."
        ) from None
    try:
        return content, read_network(content)
    except IspNasError as error:
        raise MeasurementError(f"{model}: {error}") from None


def _check(rows: Sequence[OpTime], network: Network, model: Path) -> None:
    """Raise MeasurementError unless the rows are the network's operations in the order in which they run."""
    profiled, wanted = [row.node_type for row in rows], [kernel.tflite_op for kernel in network.kernels]
    delegate = next((name for name in profiled if "delegate" in name.lower()), None)
    if delegate:
        raise MeasurementError(
            f"The profile holds {delegate} as one operation, which does not tell its parts; profile on the CPU without "
            "a delegate (--use_xnnpack=false)."
        )
    if profiled != wanted:
        index = next(
            (n for n, pair in enumerate(zip(profiled, wanted, strict=False)) if pair[0] != pair[1]), len(wanted)
        )
        got = profiled[index] if index < len(profiled) else "nothing"
        expected_op = wanted[index] if index < len(wanted) else "nothing"
        raise MeasurementError(
            f"The profile is not of {model}: operation {index} is {got}, the file has {expected_op}; name the file "
            "that was profiled."
        )
