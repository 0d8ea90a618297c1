"""All agents of one machine: one for each GPU, or for so many cores, in one light process."""

import asyncio
import signal
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from nas import backend
from nas.cluster import dask_setup
from nas.cluster.address import Address, require_protected
from nas.cluster.agent import Agent, End
from nas.cluster.agent_files import agent_files
from nas.train.memory import host_bytes
from nas.train.workers import Equipment, Worker, default_workers, local_workers
from search_spaces.errors import UsageError

OnMessage = Callable[[str], None]


@dataclass(frozen=True)
class AgentOptions:
    """What `isp-nas worker` was asked for."""

    address: Address
    keys: Path | None = None  # the folder of certificates
    workers: int | None = None  # None: one per GPU, or per core of a CPU
    memory_bytes: int | None = None  # that one training may take; None: all that the machine has
    pairs: tuple[Path, ...] = ()  # folders in which prepared pairs may lie
    patience_s: float = 1800.0


def run_agents(options: AgentOptions, on_message: OnMessage) -> list[End]:
    """Work for a search until it is over; return how each agent came to its end.

    Raises UsageError where the address needs certificates, or they are missing.
    """
    require_protected(options.address, options.keys)
    dask_setup.configure()
    dask_setup.security(options.keys)
    count = options.workers or default_workers(backend.expected(), host_bytes())
    backend.prepare(processes=count)
    workers = local_workers(count, backend.expected(), Worker)
    with ExitStack() as stack:
        for worker in workers:
            stack.callback(worker.close, kill=True)
        on_message(f"Starting {count} training process{'es' * (count > 1)}.")
        started = [worker.equipment() for worker in workers]
        agents = []
        for number, (worker, future) in enumerate(zip(workers, started, strict=True)):
            equipment = _known(future.result())
            files = stack.enter_context(agent_files(options.pairs))
            memory = _least(options.memory_bytes, equipment.memory_bytes)
            agents.append(Agent(number, worker, files, equipment, memory, _prefixed(on_message, number, count)))
        return asyncio.run(serve(agents, options, on_message))


def _known(equipment: Equipment) -> Equipment:
    wanted = backend.expected()
    if equipment.backend != wanted:
        raise UsageError(
            f"JAX computes on {equipment.backend} here, where a {wanted} is; mend its installation, or hide the GPU "
            "with CUDA_VISIBLE_DEVICES set to nothing."
        )
    return equipment


def _least(*sizes: int | None) -> int | None:
    return min((size for size in sizes if size is not None), default=None)


def _prefixed(on_message: OnMessage, number: int, count: int) -> OnMessage:
    return on_message if count == 1 else lambda line: on_message(f"[{number}] {line}")


async def serve(agents: Sequence[Agent], options: AgentOptions, on_message: OnMessage) -> list[End]:
    """Have agents work until each has come to its end; an interrupt makes them leave."""
    leaving: set[asyncio.Task[None]] = set()

    def leave() -> None:
        on_message("Leaving; what is in training goes to another worker.")
        leaving.update(asyncio.ensure_future(agent.leave()) for agent in agents)

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, leave)
    on_message(f"Looking for a search at {options.address}.")
    return await asyncio.gather(
        *(agent.serve(options.address, options.keys, patience_s=options.patience_s) for agent in agents)
    )
