"""Provenance of a result: command, commit, versions, machine, date. Recorded, never compared."""

import platform
import subprocess
import sys
from datetime import UTC, datetime
from hashlib import sha256
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


def code_digest() -> str:
    """Return a name for the code of our packages as it lies on disk: the same where trainings come out the same."""
    content = sha256()
    for package in ("nas", "search_spaces", "latency_models"):
        root = Path(__file__).parents[1] / package
        for path in sorted(root.rglob("*.py")):
            content.update(f"{package}/{path.relative_to(root).as_posix()}\0".encode())
            content.update(path.read_bytes())
    return content.hexdigest()[:16]


def training_versions() -> dict[str, str]:
    """Return the versions of what training computes with."""
    return {name: v for name in ("jax", "jaxlib", "flax", "optax", "numpy") if (v := _version(name))}


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
