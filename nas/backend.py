"""Set JAX up before its first import: compiler flags that help on this machine, the compile cache, and malloc.

On CPUs, jaxlib 0.10 sends convolutions to a library (YNN) that is slower in training than Eigen's own: a step of
five 3×3 convolutions of 32 channels takes 990 ms with it and 390 ms without (2 cores, batch 8, 128×128). At LLVM's
lower level steps are as fast and compile in four fifths of the time. Without the pass that expands barriers, which runs
before fusion, `optimization_barrier` keeps XLA from computing a map again in everything that reads it (see
search_spaces.jax_ops): steps take a tenth less, and up to a third in networks with instance normalisation. With
XLA's multi-output fusion networks would compile in four fifths of the time, but designs take up to a third longer per
step.
An XLA that does not know a flag ends the process, so flags are tried in a process of their own first and the answers
are remembered per jaxlib version.
"""

import ctypes
import json
import os
import platform
import subprocess
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from nas.data.cache import cache_dir
from search_spaces.system import stored
from search_spaces.system.atomic_write import write_durably

CPU_FLAGS = (
    "--xla_cpu_experimental_ynn_fusion_type=LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT",
    "--xla_cpu_use_fusion_emitters=false",
)
# These would reach the code for GPUs, too.
CPU_ONLY_FLAGS = ("--xla_backend_optimization_level=1", "--xla_disable_hlo_passes=cse_barrier_expander")
CACHE_LIMIT_BYTES = 2 * 1024**3


def prepare(*, processes: int = 1) -> None:
    """Set the environment that JAX reads; safe to call often, useless once JAX is imported.

    Flags that the user set in XLA_FLAGS win; ISP_NAS_XLA_FLAGS=off adds none. Where several processes will share a
    GPU, none of them may take most of its memory at the start, as JAX does by default.
    """
    if processes > 1:
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if os.environ.get("ISP_NAS_XLA_FLAGS") != "off":
        os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *_wanted_flags()]).strip()
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache_dir() / "xla"))
    os.environ.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", str(CACHE_LIMIT_BYTES))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
    # Where compiled code cannot be kept, it is compiled again, and who waits for a search has no use for the warning.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")
    _keep_freed_memory()


def expected() -> str:
    """Return "gpu" where JAX will find an NVIDIA card, else "cpu", without loading JAX or touching the card."""
    from importlib.metadata import entry_points

    hidden = os.environ.get("JAX_PLATFORMS", "") == "cpu" or os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    if hidden or not Path("/dev/nvidiactl").exists():
        return "cpu"
    return "gpu" if any("cuda" in entry.name for entry in entry_points(group="jax_plugins")) else "cpu"


def _keep_freed_memory() -> None:
    """Let glibc keep what a training step frees, for the next step.

    Otherwise the maps of a large batch are given back and fetched again page by page at every step, which takes longer
    than computing them. One arena for all threads, since others are too small for such maps.
    """
    if not sys.platform.startswith("linux") or platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    for option, value in (_MMAP_THRESHOLD, _TRIM_THRESHOLD, _ARENA_MAX):
        libc.mallopt(option, value)


# malloc.h of glibc: the option's number, and what we set it to.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = (-1, 2**31 - 1), (-3, 2**30), (-8, 1)


def _wanted_flags() -> list[str]:
    given = os.environ.get("XLA_FLAGS", "")
    wanted = (*CPU_FLAGS, *(CPU_ONLY_FLAGS if expected() == "cpu" else ()))
    return _known([flag for flag in wanted if flag.partition("=")[0] not in given])


def _known(flags: Sequence[str]) -> list[str]:
    """Return the flags that this XLA knows.

    A process that starts JAX takes seconds, so new flags are tried together, and singly only where one is unknown.
    """
    memory = cache_dir() / "xla-flags.json"
    known = _read(memory)
    keys = {flag: f"{version('jaxlib')} {flag}" for flag in flags}
    untried = [flag for flag in flags if keys[flag] not in known]
    if untried:
        together = _survives(untried)
        known |= {keys[flag]: together or (len(untried) > 1 and _survives([flag])) for flag in untried}
        with suppress(OSError):  # as `_read`
            write_durably(memory, json.dumps(known, indent=1).encode())
    return [flag for flag in flags if known[keys[flag]]]


def _read(memory: Path) -> dict[str, bool]:
    try:
        return {str(k): bool(v) for k, v in stored.parse_json(stored.read_bytes(memory)).items()}
    except (OSError, ValueError, AttributeError):
        return {}  # a memory that is missing or damaged only costs the trial again


def _survives(flags: Sequence[str]) -> bool:
    """Tell whether XLA starts with `flags`, in a process of its own because an unknown flag aborts."""
    environment = os.environ | {"XLA_FLAGS": " ".join(flags), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", "import jax; jax.devices()"]
    return subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 0
