"""A device that a roofline describes, so that tests know what a fit must find."""

from pathlib import Path

from latency_models import probes
from latency_models.kernels import Network, network
from latency_models.measurements import Conditions, Timing, write_measurements
from latency_models.roofline import Layout, time_ms, total_amounts
from search_spaces.designs import DESIGNS
from search_spaces.networks import build_graph

LAYOUT = Layout(16, 4, 4, 1, 8.0, True, ())
CONDITIONS = Conditions(
    device="Made-up phone",
    soc="Chip",
    os="Android 15",
    runtime="benchmark_model",
    delegate="xnnpack",
    precision="fp32",
    threads=1,
    date="2026-11-20T10:00:00+00:00",
)


def truth_ms(seen: Network, *, speed: float = 1.0) -> float:
    """A made-up device that a roofline describes: 30 GMAC/s, 10 GB/s, half of it beyond 8 MB of cache."""
    costs = {"fixed_ms": 0.2, "io_ms_per_mb": 0.05, "kernel_ms": 0.01}
    by_unit = {"gmac": 33.0, "gtap": 60.0, "spilled_mb": 0.1, "per_mb": 0.1}
    amounts = total_amounts(seen, LAYOUT)
    costs |= {name: next(c for unit, c in by_unit.items() if unit in name) for name in amounts if name not in costs}
    return time_ms(amounts, costs) / speed


def timings(probe_count: int = 150, *, designs: bool = True) -> list[Timing]:
    """Return timings of probes, and of the designs, whose names say what they are."""
    planned = [(probe.name, network(probe.graph)) for probe in probes.plan(probe_count)] if probe_count else []
    if designs:
        planned += [(name, network(build_graph(design.spec))) for name, design in DESIGNS.items()]
    return [Timing(name, truth_ms(seen), runs=50, source="a test", conditions=CONDITIONS) for name, seen in planned]


def write_timings(path: Path, probe_count: int = 150, *, designs: bool = True) -> Path:
    """Write such timings as a file of measurements."""
    write_measurements(path, timings(probe_count, designs=designs))
    return path
