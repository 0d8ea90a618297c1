"""How busy one driver keeps a thousand workers: a search in simulated time, with the driver's own work in real time.

    python benchmarks/cluster_driver.py --trainings 6000 --out benchmarks/cluster_driver.json

The workers are stand-ins: a training is over --rung-s simulated seconds after it was handed out, and its quality
depends on the network and the steps. All else is real: proposals, prices, decisions, records written and checked, and
Optuna's database. The simulated clock stands while nothing is to be done, and moves on by the CPU time that the driver
takes. How often it waits for the disk to keep a record is counted and not simulated: on a disk that takes 1 ms for
that, it comes to 2 ms per training. A worker is idle from the end of one training until it has the next:

    busy = rung seconds × trainings / (rung seconds × trainings + idle seconds)

over all trainings but each worker's first.
"""

import argparse
import heapq
import json
import os
import time
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from latency_models.device import load_device
from nas import provenance
from nas.data.pairs import DataConfig
from nas.defaults import DEFAULT_DEVICE
from nas.search import study as studies
from nas.search.budget import Budget
from nas.search.driver import Search
from nas.search.samplers import SAMPLERS
from nas.search.study import StudyRecord
from nas.search.study_config import StudyConfig
from nas.train.job import Job, JobFailure, Outcome
from nas.train.recipe import Recipe
from nas.train.worker import TrainingWorker
from search_spaces.space import load_space

RUNGS = (10, 30, 90)


class Disk:
    """Counts how often a record waits for the disk, which is no work of the driver's core."""

    def __init__(self) -> None:
        self.syncs, self._fsync = 0, os.fsync
        os.fsync = self._counted  # type: ignore[assignment]

    def _counted(self, file: Any) -> None:
        self.syncs += 1
        self._fsync(file)


@dataclass
class Simulation:
    """Simulated time, and what ends when."""

    rung_s: float
    disk: Disk = field(default_factory=Disk)
    now_s: float = 0.0
    idle_s: float = 0.0
    trainings: int = 0
    ends: list[tuple[float, int, "StandIn", "Future[Outcome | JobFailure]", Outcome]] = field(default_factory=list)
    _numbers: Any = field(default_factory=count)

    def __post_init__(self) -> None:
        self._spent_s = self.spent_s

    @property
    def spent_s(self) -> float:
        """What the driver has taken of its core so far."""
        return time.process_time()

    def pass_time(self) -> None:
        """Let the simulated clock see what the driver took."""
        spent_s = self.spent_s
        self.now_s, self._spent_s = self.now_s + spent_s - self._spent_s, spent_s

    def finish(self) -> None:
        """Go on to the next end of a training, and to all that have passed by then."""
        self.pass_time()
        self.now_s = max(self.now_s, self.ends[0][0])
        while self.ends and self.ends[0][0] <= self.now_s:
            ended_s, _, worker, future, outcome = heapq.heappop(self.ends)
            worker.free_since_s = ended_s
            future.set_result(outcome)


class StandIn(TrainingWorker):
    """A worker whose trainings take simulated time."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation, self.free_since_s = simulation, -1.0

    @property
    def step(self) -> int:
        return 0

    def start(self) -> None:
        pass

    def submit(self, job: Job) -> "Future[Outcome | JobFailure]":
        simulation, future = self._simulation, Future[Outcome | JobFailure]()
        simulation.pass_time()
        if self.free_since_s >= 0:
            simulation.idle_s += simulation.now_s - self.free_since_s
            simulation.trainings += 1
        psnr = 20 + 2 * (int(job.spec.hash, 16) % 1000) / 1000 + job.spec.depth / 4 + job.steps / 100
        outcome = Outcome(job.steps, psnr, psnr / 50, 1 / psnr, simulation.rung_s, 0.0, 0.0, 100.0)
        entry = (simulation.now_s + simulation.rung_s, next(simulation._numbers), self, future, outcome)
        heapq.heappush(simulation.ends, entry)
        return future

    def recycle(self) -> None:
        pass

    def close(self, *, kill: bool = False) -> None:
        pass


class SimulatedSearch(Search):
    """A search that does not wait, and stops after so many trainings."""

    simulation: Simulation
    limit: int
    marks: list[dict[str, float]]

    def _collect(self) -> None:
        self.simulation.finish()
        done = [flight for flight in self.running if flight.future.done()]
        for flight in done:
            self.running.remove(flight)
            self._take(flight, flight.future.result())
        if self.simulation.trainings // 1000 > len(self.marks):
            self.simulation.pass_time()
            figures = {"trainings": self.simulation.trainings, "trials": len(self.study.candidates)}
            self.marks.append({**figures, "spent_s": self.simulation.spent_s, "idle_s": self.simulation.idle_s})
            print(self.marks[-1], flush=True)
        if self.simulation.trainings >= self.limit:
            raise KeyboardInterrupt


def new_study(folder: Path, sampler: str) -> StudyRecord:
    config = StudyConfig(
        name=folder.name, data=DataConfig("nowhere"), data_fingerprint="0", device=DEFAULT_DEVICE,
        device_digest=load_device(DEFAULT_DEVICE).digest, space="mai21", space_digest=load_space("mai21").digest,
        objective="score", sampler=sampler, seed=0, rungs=RUNGS, recipe=Recipe(total_steps=RUNGS[-1]),
    )  # fmt: skip
    return studies.create(folder, config, provenance={})


def simulate(folder: Path, *, workers: int, rung_s: float, trainings: int, sampler: str) -> dict[str, Any]:
    study = new_study(folder, sampler)
    simulation = Simulation(rung_s)
    search = SimulatedSearch(
        study, load_space("mai21"), load_device(DEFAULT_DEVICE), Budget(candidates=10**9), Path("nowhere"),
        [StandIn(simulation) for _ in range(workers)],
    )  # fmt: skip
    search.simulation, search.limit, search.marks = simulation, trainings, []
    begun = simulation.spent_s
    with suppress(KeyboardInterrupt):
        search.run()
    spent_s = simulation.spent_s - begun
    busy = rung_s * simulation.trainings / (rung_s * simulation.trainings + simulation.idle_s)
    return {
        "sampler": sampler, "workers": workers, "rung_s": rung_s, "trainings": simulation.trainings,
        "trials": len(study.candidates), "busy": busy, "driver_s": spent_s,
        "ms_per_training": 1000 * spent_s / (simulation.trainings + workers),
        "syncs_per_training": simulation.disk.syncs / (simulation.trainings + workers),
        "marks": search.marks,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--rung-s", type=float, default=60.0)
    parser.add_argument("--trainings", type=int, default=10_000)
    parser.add_argument("--sampler", action="append", choices=SAMPLERS)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = []
    for sampler in options.sampler or ["random"]:
        with TemporaryDirectory() as folder:
            rows.append(
                simulate(
                    Path(folder) / "study",
                    workers=options.workers,
                    rung_s=options.rung_s,
                    trainings=options.trainings,
                    sampler=sampler,
                )
            )
        print(json.dumps(rows[-1], indent=1), flush=True)
    if options.out:
        command = f"python benchmarks/cluster_driver.py --workers {options.workers} --rung-s {options.rung_s:g}"
        command += f" --trainings {options.trainings}" + "".join(f" --sampler {name}" for name in options.sampler or ())
        options.out.write_text(
            json.dumps({"provenance": {**provenance.collect(), "command": command}, "runs": rows}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
