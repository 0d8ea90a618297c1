"""Provenance of a result: command, commit, versions, machine, date. Recorded, never compared."""

import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from search_spaces.system import machine
from search_spaces.system.printable import printable

PACKAGES = (
    "isp-nas",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "optuna",
    "numpy",
    "tensorflow-cpu",
    "tensorflow",
    "ai-edge-litert",
)


def collect() -> dict[str, object]:
    """Return what a reader needs to judge or repeat a result; what cannot be known is left out."""
    return {
        "command": printable(" ".join(["isp-nas", *sys.argv[1:]])),
        "commit": _commit(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "machine": machine.described(),
        "versions": {name: v for name in PACKAGES if (v := _version(name))},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Return the commit of the checkout this code runs from; None for an installed wheel."""
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        return None
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"], cwd=root, capture_output=True, text=True, check=False
    )
    return described.stdout.strip() or None
