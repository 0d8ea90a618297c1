"""How we use Dask: connections, TLS, heartbeats and the notice of who is gone, but none of its running of code.

What executes what it is sent is taken out of both ends, so that a message can only be one of `nas.cluster.messages`.
That narrows a port and does not close it: Dask's own layer still unpickles some of what arrives there.
"""

import logging
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.cluster.keys import AUTHORITY, CERTIFICATE, KEY, missing_extra, require_keys

if TYPE_CHECKING:
    from distributed import Security

# All that agents need of a scheduler, and a scheduler of agents; tasks, functions, plugins and clients are none of it.
SCHEDULER_CALLS = frozenset(
    {"identity", "echo", "connection_stream", "register-worker", "unregister", "heartbeat_worker"}
)
WORKER_CALLS = frozenset({"identity", "echo", "connection_stream", "ping"})
WORKER_STREAM = frozenset({"close", "remove-worker", "refresh-who-has", "worker-status-change"})


def configure() -> None:
    """Set Dask up for this process; raise UsageError where it is not installed."""
    if find_spec("distributed") is None:
        raise missing_extra()
    import dask
    import distributed  # noqa: F401 (sets its loggers up, which we quieten)

    dask.config.set(
        {
            "distributed.worker.profile.enabled": False,
            "distributed.worker.http.routes": [],
            "distributed.scheduler.http.routes": [],
            "distributed.diagnostics.nvml": False,
            "distributed.scheduler.active-memory-manager.start": False,
            "distributed.scheduler.work-stealing": False,
        }
    )
    # Dask gives some a level of their own; what a port is sent by strangers is not worth a traceback.
    noisy = (
        "distributed",
        "distributed.client",
        "tornado",
        "tornado.application",
        "tornado.general",
        "bokeh",
        "asyncio",
    )
    for name in noisy:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def has_dashboard() -> bool:
    """Tell whether Dask's dashboard can be shown."""
    return find_spec("bokeh") is not None


def security(keys: Path | None) -> "Security | None":
    """Return Dask's form of the certificates in a folder; raise UsageError where they are missing or too old."""
    if keys is None:
        return None
    from distributed import Security

    require_keys(keys)
    both = {"cert": str(keys / CERTIFICATE), "key": str(keys / KEY)}
    roles = {f"tls_{role}_{part}": path for role in ("scheduler", "worker", "client") for part, path in both.items()}
    return Security(  # type: ignore[no-untyped-call]
        tls_ca_file=str(keys / AUTHORITY), require_encryption=True, **roles
    )


def only(handlers: dict[str, Any], allowed: frozenset[str]) -> None:
    """Take every handler away that is not allowed."""
    for name in [name for name in handlers if name not in allowed]:
        del handlers[name]
