"""A search on a cluster: what it needs of its agents, and the hub that they connect to."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nas import backend, provenance
from nas.cluster.address import Address, parse_address, reachable, require_protected
from nas.cluster.messages import Terms
from nas.data.content import content_of, files_of
from nas.search.open_study import SearchContext
from nas.train.losses import vgg_weights
from nas.train.memory import PROCESS_BYTES, training_bytes
from search_spaces.errors import UsageError
from search_spaces.networks import build_graph
from search_spaces.spec import ArchSpec

if TYPE_CHECKING:
    from nas.cluster.hub import Hub


@dataclass(frozen=True)
class ClusterOptions:
    """Where a search listens for agents, and what it does for them."""

    address: Address
    keys: Path | None = None  # the folder of certificates
    sends_pairs: bool = True  # to agents that do not see them
    backend: str | None = None  # that agents must have; None: that of the study
    lost_after_s: float = 60.0  # without a heartbeat an agent is gone

    def require(self) -> None:
        """Raise UsageError where this cannot be done, before anything is read."""
        from nas.cluster import dask_setup

        require_protected(self.address, self.keys)
        dask_setup.configure()
        dask_setup.security(self.keys)


def cluster_options(
    address: str | None, keys: Path | None, *, sends_pairs: bool = True, backend: str | None = None
) -> ClusterOptions | None:
    """Return the options of a search that listens at HOST:PORT, None without one; raise UsageError for wrong ones."""
    if address is not None:
        return ClusterOptions(parse_address(address), keys, sends_pairs, backend)
    if keys is not None:
        raise UsageError("Certificates (--tls) protect a cluster; give --cluster, too, or leave them out.")
    return None


def open_hub(options: ClusterOptions, context: SearchContext, on_message: Callable[[str], None]) -> "Hub":
    """Listen for agents, and tell how one is started."""
    from nas.cluster.hub import Hub

    vgg_file = vgg_weights.find_weights(context.vgg_file) if context.study.config.vgg else None
    hub = Hub(
        options.address,
        terms_of(options, context, vgg_file),
        pairs=context.pairs,
        vgg_file=vgg_file,
        keys=options.keys,
        on_message=on_message,
        lost_after_s=options.lost_after_s,
    )
    hub.start()
    keys = "" if options.keys is None else " --tls DIR"
    on_message(f"Listening at {hub.address}. On each machine: isp-nas worker {reachable(hub.address)}{keys}")
    if hub.dashboard:
        on_message(f"Dask's dashboard: {hub.dashboard}")
    return hub


def terms_of(options: ClusterOptions, context: SearchContext, vgg_file: Path | None) -> Terms:
    """Return what agents must have to train candidates of a study."""
    config = context.study.config
    return Terms(
        study=config.name,
        code=provenance.code_digest(),
        versions=provenance.training_versions(),
        backend=options.backend or context.study.backend or backend.expected(),
        least_memory_bytes=training_bytes(build_graph(ArchSpec()), config.recipe) + PROCESS_BYTES,
        content=content_of(context.pairs),
        pairs=str(context.pairs),
        files=files_of(context.pairs),
        sends_pairs=options.sends_pairs,
        vgg=config.vgg,
        vgg_bytes=0 if vgg_file is None else vgg_file.stat().st_size,
    )
