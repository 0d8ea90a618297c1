"""Search on agents that are killed, stopped and cut off, and prove by the records that nothing was lost or done twice.

    python benchmarks/cluster_chaos.py --candidates 60 --agents 4 --every 20 --work FOLDER \\
        --out benchmarks/cluster_chaos.json

Everything is as in a real search but for the training itself, which waits a while, checks that the state it was given
is the one of the rung below, and returns a quality that depends on the network and the steps alone. So an undisturbed
search with the same seed has the same candidates and the same figures, whoever trained them and however often.

    agent       kill -9 of an agent, its training process dies with it
    training    kill -9 of a training process
    stop        SIGSTOP of an agent, as a machine that hangs: lost once no heartbeat came for long enough
    driver      kill -9 of the search; the same command continues, and agents find it again
    leave       SIGTERM of an agent
"""

import argparse
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

# What else is needed is imported where it is: the training processes of agents import this file.
from nas.train import checkpoint
from nas.train.job import Job, JobFailure, Outcome

if TYPE_CHECKING:
    from nas.search.study import StudyRecord

RUNGS = (10, 30, 90)
BLOWS = ("agent", "training", "driver", "stop", "leave")
LOST_AFTER_S = 5.0
_ME = Path(__file__).resolve()


def stand_in(job: Job, *, seconds: float) -> Outcome | JobFailure:
    """Do all that a training does with its state, and none of the computing."""
    before = checkpoint.load(job.checkpoint).step if job.checkpoint.exists() else 0
    if before < job.begins_at:
        return JobFailure(f"It began at {before} where a state of step {job.begins_at} was to come.")
    time.sleep(seconds)
    arrays = {"weights": np.full(1000, job.steps, np.float32)}
    checkpoint.save(checkpoint.Checkpoint(job.steps, job.spec.hash, arrays, arrays, arrays, loss=1.0), job.checkpoint)
    quality = psnr_db(job.spec.hash, job.steps)
    return Outcome(job.steps, quality, quality / 50, 1 / quality, seconds, 0.0, 0.0, 100.0)


def psnr_db(spec_hash: str, steps: int) -> float:
    """Return the quality of a network, which rises with its steps."""
    return 20 + 2 * (int(spec_hash, 16) % 1000) / 1000 + steps / 100


# The processes


def drive(folder: Path, pairs: Path, port: int, candidates: int) -> None:
    """Search, as `isp-nas search --cluster` does, on a study that exists."""
    from latency_models.device import load_device
    from nas.cluster.address import Address
    from nas.search import study as studies
    from nas.search.budget import Budget
    from nas.search.cluster import ClusterOptions, open_hub
    from nas.search.driver import Search
    from nas.search.open_study import SearchContext
    from search_spaces.space import load_space

    study = studies.load(folder)
    device, space = load_device(study.config.device), load_space(study.config.space)
    context = SearchContext(study, space, device, pairs, None, is_new=False)
    say = partial(print, flush=True)
    hub = open_hub(ClusterOptions(Address("127.0.0.1", port), backend="cpu", lost_after_s=LOST_AFTER_S), context, say)
    Search(study, space, device, Budget(candidates=candidates), pairs, [], say, source=hub).run()


def agree(port: int, seconds: float) -> None:
    """Be an agent, as `isp-nas worker` is, whose training process loads no JAX."""
    import asyncio

    from nas.cluster import agents
    from nas.cluster.address import Address
    from nas.cluster.agent import Agent
    from nas.cluster.agent_files import agent_files
    from nas.train.workers import Equipment, Worker

    say = partial(print, flush=True)
    options = agents.AgentOptions(Address("127.0.0.1", port), workers=1, patience_s=60)
    worker = Worker(partial(stand_in, seconds=seconds))
    with agent_files() as files:
        agent = Agent(0, worker, files, Equipment("cpu", "stand-in", None), None, say)
        asyncio.run(agents.serve([agent], options, say))


# The blows


@dataclass
class Chaos:
    """A search with its agents, and what is done to them."""

    work: Path
    pairs: Path
    candidates: int
    agents: int
    seconds: float  # of a training
    every_s: float = 0.0  # between blows
    every_trainings: int = 1
    most_blows: int = 10**9
    blows: Sequence[str] = BLOWS
    seed: int = 0
    limit_s: float = 600.0
    dealt: Counter[str] = field(default_factory=Counter)
    _agents: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _stopped: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def run(self) -> float:
        """Search to the end among blows; return the seconds that it took."""
        self._port, begun, rng = free_port(), time.monotonic(), random.Random(self.seed)
        self._driver = self._start("drive", self.work / "study", self.pairs, self._port, self.candidates)
        self._agents = [self._new_agent() for _ in range(self.agents)]
        following, trained, turn = begun + self.every_s, 1, 0
        try:
            while self._driver.poll() is None:
                if time.monotonic() - begun > self.limit_s:
                    raise TimeoutError(f"no end after {self.limit_s:.0f} s; see {self.work}/*.log")
                is_due = turn < self.most_blows and time.monotonic() >= following and self._trained() >= trained
                if is_due and self._driver.poll() is None:
                    self._deal(self.blows[turn % len(self.blows)], rng)
                    following, turn = time.monotonic() + self.every_s, turn + 1
                    trained = self._trained() + self.every_trainings
                time.sleep(0.05)
        finally:
            self._end()
        if self._driver.returncode:
            raise RuntimeError(f"the search ended with {self._driver.returncode}; see {self.work}/*.log")
        return time.monotonic() - begun

    def _trained(self) -> int:
        records = self.work / "study" / "records.jsonl"
        return records.read_bytes().count(b'"event": "rung"') if records.exists() else 0

    def _deal(self, blow: str, rng: random.Random) -> None:
        self.dealt[blow] += 1
        if blow == "driver":
            self._driver.kill()
            self._driver.wait()
            self._driver = self._start("drive", self.work / "study", self.pairs, self._port, self.candidates)
            return
        victim = self._agents[rng.randrange(len(self._agents))]
        if blow == "training":
            for child in _children(victim.pid):
                os.kill(child, signal.SIGKILL)
            return
        victim.send_signal({"agent": signal.SIGKILL, "stop": signal.SIGSTOP, "leave": signal.SIGTERM}[blow])
        self._agents.remove(victim)
        self._stopped.append(victim)
        self._agents.append(self._new_agent())

    def _new_agent(self) -> "subprocess.Popen[bytes]":
        return self._start("agree", self._port, self.seconds)

    def _start(self, part: str, *arguments: object) -> "subprocess.Popen[bytes]":
        with (self.work / f"{part}-{time.monotonic_ns()}.log").open("wb") as log:
            command = [sys.executable, str(_ME), "--part", part, *map(str, arguments)]
            environment = os.environ | {"PYTHONPATH": str(_ME.parents[1])}
            return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)

    def _end(self) -> None:
        """End everything that was started here, and by its number alone."""
        for process in (self._driver, *self._stopped, *self._agents):
            if process.poll() is None and process is not self._driver:
                process.send_signal(signal.SIGCONT)
                try:
                    process.wait(0.5 if process in self._stopped else 10)
                except subprocess.TimeoutExpired:
                    process.kill()
            elif process.poll() is None:
                process.kill()
            process.wait()


def _children(process: int) -> list[int]:
    """Return the training processes of an agent: its children that are not Python's resource tracker."""
    try:
        children = [int(text) for text in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
        return [pid for pid in children if b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes()]
    except OSError:
        return []


def free_port() -> int:
    """Return a port that nobody listens at now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


# What the records say


def new_study(folder: Path) -> "StudyRecord":
    """Start a study whose proposals do not depend on results, so that any order of these has the same candidates."""
    from latency_models.device import load_device
    from nas.data.pairs import DataConfig
    from nas.defaults import DEFAULT_DEVICE
    from nas.search import study as studies
    from nas.search.study_config import StudyConfig
    from nas.train.recipe import Recipe
    from search_spaces.space import load_space

    config = StudyConfig(
        name=folder.name, data=DataConfig("nowhere"), data_fingerprint="0", device=DEFAULT_DEVICE,
        device_digest=load_device(DEFAULT_DEVICE).digest, space="mai21", space_digest=load_space("mai21").digest,
        objective="score", sampler="random", seed=0, rungs=RUNGS, recipe=Recipe(total_steps=RUNGS[-1]),
    )  # fmt: skip
    return studies.create(folder, config, provenance={})


def require_nothing_lost(folder: Path, undisturbed: Path, candidates: int) -> dict[str, Any]:
    """Raise AssertionError unless a study has what the undisturbed one has; return what the records tell of the way."""
    from nas.search import study as studies

    disturbed, calm = studies.load(folder), studies.load(undisturbed)
    assert [c.genes for c in disturbed.candidates.values()] == [c.genes for c in calm.candidates.values()]
    assert disturbed.finished == calm.finished == candidates, (disturbed.finished, calm.finished)
    assert not disturbed.failed, [c.failure for c in disturbed.failed]
    events = Counter(record["event"] for record in studies.events(folder))
    rungs = [(r["trial"], r["rung"]) for r in studies.events(folder) if r["event"] == "rung"]
    assert len(rungs) == len(set(rungs)), "a rung was recorded twice"
    for candidate in disturbed.candidates.values():
        for reached in candidate.rungs.values():
            assert reached.psnr_db == psnr_db(candidate.spec.hash, reached.steps), candidate.trial
            state = checkpoint.load(disturbed.checkpoint(candidate))
            assert state.step == max(r.steps for r in candidate.rungs.values()), candidate.trial
    return {
        "candidates": candidates,
        "trainings": len(rungs),
        "lost": events["lost"],
        "sessions": events["session"],
        "best": disturbed.best().trial,
        "best_undisturbed": calm.best().trial,
    }


def undisturbed(folder: Path, candidates: int) -> Path:
    """Search in this process, one training after the other."""
    from concurrent.futures import Future

    from latency_models.device import load_device
    from nas.search.budget import Budget
    from nas.search.driver import Search
    from nas.train.workers import Worker
    from search_spaces.space import load_space

    class Inline(Worker):
        def start(self) -> None:
            pass

        def submit(self, job: Job) -> "Future[Outcome | JobFailure]":
            future: Future[Outcome | JobFailure] = Future()
            future.set_result(stand_in(job, seconds=0))
            return future

    study = new_study(folder)
    device, space = load_device(study.config.device), load_space(study.config.space)
    Search(study, space, device, Budget(candidates=candidates), Path("nowhere"), [Inline()]).run()
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--candidates", type=int, default=60)
    parser.add_argument("--agents", type=int, default=4)
    parser.add_argument("--every", type=float, default=20.0, help="seconds between blows")
    parser.add_argument("--seconds", type=float, default=8.0, help="of a training")
    parser.add_argument("--work", type=Path, required=True, help="an empty folder")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    from nas.data.pairs import DataConfig, prepare

    pairs = prepare(DataConfig("demo"), options.work / "pairs")
    new_study(options.work / "study").close()
    chaos = Chaos(options.work, pairs, options.candidates, options.agents, options.seconds, options.every, limit_s=7200)
    took_s = chaos.run()
    counts = require_nothing_lost(
        options.work / "study", undisturbed(options.work / "calm", options.candidates), options.candidates
    )
    counts |= {
        "blows": dict(chaos.dealt),
        "seconds": took_s,
        "seconds_of_a_training": options.seconds,
        "agents": options.agents,
    }
    command = f"python benchmarks/cluster_chaos.py --candidates {options.candidates} --agents {options.agents}"
    command += f" --every {options.every:g} --seconds {options.seconds:g} --work FOLDER"
    from nas import provenance

    text = json.dumps({"provenance": {**provenance.collect(), "command": command}, **counts}, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--part"]:
        if sys.argv[2] == "drive":
            drive(Path(sys.argv[3]), Path(sys.argv[4]), int(sys.argv[5]), int(sys.argv[6]))
        else:
            agree(int(sys.argv[3]), float(sys.argv[4]))
    else:
        main()
