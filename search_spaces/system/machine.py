"""Facts about this machine: processor, cores, peak memory of the process."""

import os
import platform
import sys
from pathlib import Path


def described() -> str:
    """Return the system, the cores and the processor of this machine in one line."""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {processor()}"


def host() -> str:
    """Return this machine's name in its network, without the domain."""
    return platform.node().partition(".")[0] or "unknown"


def usable_cores() -> int:
    """Return the processor cores that this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows bind no process to cores
        return os.cpu_count() or 1


def peak_memory_mb() -> float | None:
    """Return the highest resident memory of this process so far, in MB; None where the system does not tell."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)  # bytes on macOS, kilobytes on Linux


def processor() -> str:
    """Return the processor's name as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown processor"
    )
