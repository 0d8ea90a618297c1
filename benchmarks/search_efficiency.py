"""Compare samplers by simulated searches on a table of trained networks, at equal cost in seconds of training.

    python benchmarks/search_efficiency.py --table results/table/sensor-pairs.jsonl \
        --out results/search_efficiency/sensor-pairs.jsonl
    python benchmarks/search_efficiency.py --out results/search_efficiency/sensor-pairs.jsonl --table-only

The tool's own driver searches with one worker under a clock that only training moves. A network of the table has the
PSNR and the seconds that were measured for it; any other has what a forest learned from the table says of it
(`surrogate_error` of a row: how far that is off for networks left out, in dB and as Spearman's rho). So what is found
here is as good as the forest: these figures rank samplers, real searches measure networks.

Every row is one search: the score of what would be exported, by the best score at the top rung, and the hypervolume
of what was trained, at each of `at_s`. `prior` is the model with what it learned on other pairs; the table of the very
pairs is never among them. Rows are appended as they come; the same command goes on where it stopped.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
from training_recipes import provenance_of_rows, read

from latency_models.device import load_device
from nas.data.pairs import DataConfig
from nas.defaults import DEFAULT_DEVICE
from nas.search import driver as driver_module
from nas.search import prior as prior_module
from nas.search import study as studies
from nas.search.budget import Budget
from nas.search.driver import Search
from nas.search.policy import Situation
from nas.search.proposals import variation
from nas.search.score import final_score
from nas.search.study import StudyRecord
from nas.search.study_config import StudyConfig
from nas.search.surrogate import features
from nas.train.job import Job, Outcome
from nas.train.recipe import Recipe
from nas.train.workers import Worker
from search_spaces.networks import build_graph
from search_spaces.space import load_space
from search_spaces.spec import GENES, ArchSpec

TREES = 200
FOLDS = 10
# The corner from which hypervolume is measured: nothing of worth is slower or worse.
WORST_MS, QUANTILE_OF_WORST_DB = 100.0, 0.1
POPULATION, TOURNAMENT = 20, 5
KEY = ("table", "sampler", "seed", "budget_s")


@dataclass(frozen=True)
class Sampler:
    """How a simulated search proposes: the driver's own sampler, with what replaces its small changes."""

    name: str
    with_prior: bool = False
    variation: "Callable[[Situation], ArchSpec | None] | None" = None
    peer: str | None = None  # of benchmarks/peer_sampler.py, which proposes instead
    objective: str = "score"


def no_variation(_: Situation) -> None:
    """TPE alone."""


def aged_evolution(now: Situation) -> ArchSpec | None:
    """Regularised evolution (Real et al. 2019): the best of a few of the youngest, changed a little."""
    standing = now.study.at_rung(0)[-POPULATION:]
    if len(standing) < TOURNAMENT:
        return None
    rng = np.random.default_rng([now.study.config.seed, len(now.study.candidates)])
    chosen = [standing[i] for i in rng.choice(len(standing), TOURNAMENT, replace=False)]
    return variation(now.space, rng, max(chosen, key=lambda c: c.score(0)).spec)


SAMPLERS = {
    "random": Sampler("random"),
    "tpe": Sampler("tpe", variation=no_variation),
    "tpe + variations": Sampler("tpe"),
    "nsga2": Sampler("nsga2"),
    "regularised evolution": Sampler("random", variation=aged_evolution),
    "model": Sampler("model"),
    "model with prior": Sampler("model", with_prior=True),
    "tpe + variations, front": Sampler("tpe", objective="pareto"),
    "model, front": Sampler("model", objective="pareto"),
    "model with prior, front": Sampler("model", with_prior=True, objective="pareto"),
    "Optuna's GP": Sampler("random", peer="optuna-gp"),
    "SMAC3": Sampler("random", peer="smac"),
}


class Peer:
    """Another tool's sampler in a process of its own, which is told every result at the first rung.

    What the limits refuse, or has failed, it is told as the worst so far.
    """

    def __init__(self, name: str, folder: Path, seed: int) -> None:
        command = [str(folder / name / "bin" / "python"), str(Path(__file__).with_name("peer_sampler.py")), name]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._space, self._proposed, self._reported = load_space("mai21"), list[int](), set[int]()
        genes = {n: {"values": len(self._space.values(n)), "ordered": gene.ordered} for n, gene in GENES.items()}
        self._send({"genes": genes, "seed": seed})

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def propose(self, now: Situation) -> ArchSpec:
        self._send(list(self._news(now.study)))
        assert self._process.stdout is not None
        positions = json.loads(self._process.stdout.readline())
        self._proposed.append(len(now.study.candidates))
        return self._space.sample(lambda name, values, _: values[positions[name]])

    def _send(self, message: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()

    def _news(self, study: StudyRecord) -> Iterator[dict[str, Any]]:
        scores = [c.score(0) for c in study.trained()]
        for trial, candidate in study.candidates.items():
            judged = candidate if candidate.duplicate_of is None else study.candidates[candidate.duplicate_of]
            if trial in self._reported or not scores or (judged.verdict == "train" and not judged.is_finished):
                continue
            self._reported.add(trial)
            number = self._proposed.index(trial) if trial in self._proposed else None
            positions = {n: self._space.values(n).index(v) for n, v in candidate.genes.items()}
            yield {"number": number, "positions": positions, "score": judged.score(0) if judged.rungs else min(scores)}


class Truth:
    """What training a network comes to: measured where the table has it, else as a forest says."""

    def __init__(self, rows: Sequence[dict[str, Any]]) -> None:
        from sklearn.ensemble import ExtraTreesRegressor

        self.steps = tuple(rows[0]["steps"])
        rows = [r for r in rows if r["seed"] == 1 and "psnr_db" in r and tuple(r["steps"]) == self.steps]
        self._x = np.array([features(ArchSpec.from_dict(r["genes"])) for r in rows])
        self._y = np.array([[*r["psnr_db"], *np.log(self._seconds(r))] for r in rows])
        self._forest = ExtraTreesRegressor(TREES, min_samples_leaf=2, random_state=1, n_jobs=1).fit(self._x, self._y)
        self._known = {r["structure"]: y for r, y in zip(rows, self._y, strict=True)}
        self.worst_db = float(np.quantile(self._y[:, len(self.steps) - 1], QUANTILE_OF_WORST_DB))

    @staticmethod
    def _seconds(row: dict[str, Any]) -> list[float]:
        return [*row["train_s"], row["compile_s"], statistics.fmean(row["judge_s"])]

    def of(self, spec: ArchSpec) -> np.ndarray[Any, Any]:
        """Return PSNR at each of `steps`, then seconds of training to each from the one before, compiling, judging."""
        known = self._known.get(build_graph(spec).structure)
        y = self._forest.predict(features(spec)[None])[0] if known is None else known
        return np.concatenate([y[: len(self.steps)], np.exp(y[len(self.steps) :])])

    def psnr_db(self, spec: ArchSpec) -> float:
        return float(self.of(spec)[len(self.steps) - 1])

    def error(self) -> dict[str, float]:
        """Return how far the forest is off for networks left out, at the last of the steps."""
        from scipy.stats import spearmanr
        from sklearn.base import clone
        from sklearn.model_selection import cross_val_predict

        last = self._y[:, len(self.steps) - 1]
        predicted = cross_val_predict(clone(self._forest), self._x, last, cv=FOLDS)
        return {
            "median_db": float(np.median(np.abs(predicted - last))),
            "spearman": float(spearmanr(predicted, last).statistic),
            "networks": len(last),
        }


class SimulatedWorker(Worker):
    """A worker that looks up what training comes to, and moves the clock by what it would take."""

    def __init__(self, truth: Truth, clock: SimpleNamespace) -> None:
        super().__init__()
        self._truth, self._clock = truth, clock

    def start(self) -> None:
        """Start nothing."""

    def submit(self, job: Job) -> "Future[Any]":
        at, count = self._truth.steps.index(job.steps), len(self._truth.steps)
        of = self._truth.of(job.spec)
        train_s, compile_s, judge_s = of[count + at], of[2 * count], of[2 * count + 1]
        self._clock.now += train_s + compile_s + judge_s
        psnr_db = float(of[at])
        done: Future[Any] = Future()
        done.set_result(
            Outcome(
                job.steps, psnr_db, psnr_db / 50, 1 / psnr_db, float(train_s), float(compile_s), float(judge_s), 0.0
            )
        )
        return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path)
    own = [name for name, sampler in SAMPLERS.items() if sampler.peer is None]
    parser.add_argument("--samplers", nargs="+", default=own, choices=SAMPLERS)
    parser.add_argument("--budget-s", type=float, default=600.0, help="seconds of one core")
    parser.add_argument("--repetitions", type=int, default=30)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--table-only", action="store_true", help="print what the file holds and search nothing")
    parser.add_argument("--peers", type=Path, help="folder of the peers' Pythons, as peer_sampler.py makes them")
    options = parser.parse_args()
    if not options.table_only:
        search_all(options)
    sys.stdout.write(table(read(options.out)))


def search_all(options: argparse.Namespace) -> None:
    label = options.table.stem
    truth = Truth(read(options.table))
    error = truth.error()
    done = {tuple(row[name] for name in KEY) for row in read(options.out)}
    made_by = provenance_of_rows({})
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for seed in range(options.repetitions):
        for name in options.samplers:
            wanted = {"table": label, "sampler": name, "seed": seed, "budget_s": options.budget_s}
            if tuple(wanted.values()) in done:
                continue
            row = wanted | searched(truth, SAMPLERS[name], label, seed, options.budget_s, options.peers)
            with options.out.open("a") as file:
                file.write(json.dumps(row | {"surrogate_error": error, "made_by": made_by}, ensure_ascii=False) + "\n")
            sys.stderr.write(f"{name} seed {seed}: {row['score'][-1]:.3f}\n")


def searched(
    truth: Truth, sampler: Sampler, label: str, seed: int, budget_s: float, peers: Path | None = None
) -> dict[str, Any]:
    """Search once; return what was reached at each twentieth of the budget."""
    clock = SimpleNamespace(now=0.0)
    clock.monotonic = lambda: clock.now
    others = [name for name in prior_names() if name != label] if sampler.with_prior else []
    with tempfile.TemporaryDirectory() as folder:
        study = make_study(Path(folder) / "study", truth, sampler, seed, tuple(others))
        search = Search(
            study,
            load_space("mai21"),
            load_device(DEFAULT_DEVICE),
            Budget(seconds=budget_s),
            Path("nowhere"),
            [SimulatedWorker(truth, clock)],
        )
        with (
            Peer(sampler.peer, peers, seed) if sampler.peer and peers else nullcontext() as peer,
            mock.patch.object(driver_module, "time", clock),
            mock.patch.object(Situation, "variation", _variation(sampler, peer)),
        ):
            search.run()
        at_s = [budget_s * part / 20 for part in range(1, 21)]
        reached = list(anytime(study, truth, at_s))
        count = len(study.trained())
    return {
        "at_s": at_s,
        "score": [s for s, _ in reached],
        "hypervolume": [h for _, h in reached],
        "trained": count,
        "priors": others,
    }


def _variation(sampler: Sampler, peer: Peer | None) -> "Callable[[Situation], ArchSpec | None]":
    if peer is not None:
        return lambda now: peer.propose(now)
    return sampler.variation or Situation.variation


def prior_names() -> tuple[str, ...]:
    return prior_module.table_names("")


def make_study(folder: Path, truth: Truth, sampler: Sampler, seed: int, priors: tuple[str, ...]) -> StudyRecord:
    config = StudyConfig(
        name=folder.name,
        data=DataConfig("nowhere"),
        data_fingerprint="0",
        device=DEFAULT_DEVICE,
        device_digest=load_device(DEFAULT_DEVICE).digest,
        space="mai21",
        space_digest=load_space("mai21").digest,
        objective=sampler.objective,
        sampler=sampler.name,
        seed=seed,
        rungs=truth.steps,
        recipe=Recipe(total_steps=truth.steps[-1]),
        prior=priors,
    )
    return studies.create(folder, config, provenance={})


def anytime(study: StudyRecord, truth: Truth, at_s: Sequence[float]) -> Iterator[tuple[float, float]]:
    """Yield true score of what would be exported, and hypervolume of what was trained, at each of the times."""
    events = list(trained_in_time(study))
    for until in at_s:
        seen = [(spec, rung, score, ms) for when, spec, rung, score, ms in events if when <= until]
        if not seen:
            yield float("nan"), 0.0
            continue
        best = max(seen, key=lambda each: (each[1], each[2]))
        points = [(truth.psnr_db(spec), ms) for spec, _, _, ms in seen]
        yield final_score(truth.psnr_db(best[0]), best[3]), hypervolume(points, truth.worst_db)


def trained_in_time(study: StudyRecord) -> Iterator[tuple[float, ArchSpec, int, float, float]]:
    now = 0.0
    for line in (study.folder / studies.RECORDS_FILE).read_text().splitlines():
        record = json.loads(line)
        if record["event"] == "rung":
            now += record["train_s"] + record["compile_s"] + record["evaluate_s"]
            candidate = study.candidates[record["trial"]]
            assert candidate.runtime_ms is not None
            yield now, candidate.spec, record["rung"], candidate.score(record["rung"]), candidate.runtime_ms


def hypervolume(points: Sequence[tuple[float, float]], worst_db: float) -> float:
    """Return the area between a front and the corner, in dB · ms."""
    area, best = 0.0, worst_db
    edges = sorted((ms, psnr_db) for psnr_db, ms in points if ms < WORST_MS)
    for ms, psnr_db in edges:
        if psnr_db > best:
            area += (psnr_db - best) * (WORST_MS - ms)
            best = psnr_db
    return area


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return a line per sampler: mean ± standard error of score, after parts of the budget, and of hypervolume."""
    lines = []
    for name, budget in sorted({(row["table"], row["budget_s"]) for row in rows}):
        of = [row for row in rows if (row["table"], row["budget_s"]) == (name, budget)]
        error = of[-1]["surrogate_error"]
        lines.append(
            f"{name}, {budget:.0f} s of one core; the forest is off by {error['median_db']:.2f} dB (median), Spearman "
            f"{error['spearman']:.2f}, {error['networks']} networks"
        )
        lines.append(f"{'sampler':<24}{'runs':>5}{'¼':>16}{'½':>16}{'all':>16}{'hypervolume':>16}{'trained':>9}")
        lines += [line(sampler, [r for r in of if r["sampler"] == sampler]) for sampler in SAMPLERS]
    return "\n".join(lines) + "\n"


def line(sampler: str, rows: Sequence[dict[str, Any]]) -> str:
    if not rows:
        return f"{sampler:<24}{0:>5}"
    cells = [mean_and_error([row["score"][at] for row in rows]) for at in (4, 9, 19)]
    volume = mean_and_error([row["hypervolume"][-1] for row in rows], digits=0)
    trained = statistics.fmean(row["trained"] for row in rows)
    return f"{sampler:<24}{len(rows):>5}" + "".join(f"{c:>16}" for c in (*cells, volume)) + f"{trained:>9.0f}"


def mean_and_error(values: Sequence[float], digits: int = 2) -> str:
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return f"{statistics.fmean(values):.{digits}f} ± {error:.{digits}f}"


if __name__ == "__main__":
    main()
