"""The driver: decide what to train next, hand it to a worker, record what came of it, tell Optuna.

Every decision is a function of the study's records, so a search that was killed goes on as if it had not been,
and one worker with one seed repeats a run exactly (under a budget that counts candidates; a budget in seconds
ends where the clock says).
"""

import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from latency_models.device import Device
from latency_models.kernels import network
from latency_models.memory import peak_activation_bytes
from latency_models.predictor import Prediction
from nas.search import finals, pareto, successive_halving
from nas.search.budget import Budget
from nas.search.constraints import Limits
from nas.search.optuna_database import DatabaseFile
from nas.search.optuna_sampler import Proposal, Proposer
from nas.search.prior import prior
from nas.search.proposals import Cost, Known, Proposals, random_member, variation
from nas.search.study import Candidate, Study
from nas.train.job import Job, Outcome
from nas.train.workers import JobFailure, Worker, result_of
from search_spaces.designs import DESIGNS, Design
from search_spaces.errors import StudyError
from search_spaces.graph import Graph
from search_spaces.networks import build_graph
from search_spaces.ops import Activation
from search_spaces.space import SearchSpace
from search_spaces.spec import ArchSpec

# Published designs may use this share of the budget before anything new is tried.
DESIGN_SHARE = 0.25
# A sampler that repeats itself this often in a row is helped by random draws; when those find nothing new either,
# the space is exhausted for all practical purposes.
PATIENCE = 50
RANDOM_TRIES = 2000
# Of how many candidates changes are tried.
ELITE = 5
POLL_S = 0.2
# Finals are planned from the seconds that steps took before, and begin a tenth earlier than these would ask for.
FINALS_MARGIN = 1.1
# When the first so many candidates all fail, the cause is not in them.
FATAL_FAILURES = 3


@cache
def _structure(spec: ArchSpec) -> str:
    """Return the structure of a network; the designs are looked up before every decision, and built once."""
    return build_graph(spec).structure


def _twin(graph: Graph) -> str:
    """Return the structure with a ReLU for every ReLU6.

    Maps of pictures in [0, 1] stay below six: Smallnet with either gave the same figures to the last digit.
    """
    if not any(isinstance(node.op, Activation) and node.op.function == "relu6" for node in graph.nodes):
        return graph.structure
    nodes = (
        replace(node, op=replace(node.op, function="relu"))
        if isinstance(node.op, Activation) and node.op.function == "relu6"
        else node
        for node in graph.nodes
    )
    return replace(graph, nodes=tuple(nodes)).structure


class Work(NamedTuple):
    """One thing to train: a candidate to a rung, or from a seed to the final steps."""

    candidate: Candidate
    rung: int
    seed: int | None = None  # of a final; its rung is the one above the ladder


@dataclass
class InFlight:
    """A candidate that is being trained, where, and to which rung."""

    candidate: Candidate
    rung: int
    seed: int | None
    slot: Worker
    future: "Future[Outcome | JobFailure]"


@dataclass
class Search:
    """One session of searching on a study."""

    study: Study
    space: SearchSpace
    device: Device
    budget: Budget
    data: Path
    slots: list[Worker]
    say: Callable[[str], None] = lambda _: None  # one line per event that a person wants to read
    look: Callable[["Search"], None] = lambda _: None  # called a few times a second
    vgg_file: Path | None = None  # of the weights of VGG-19; None: Keras's own copy, where they are needed
    running: list[InFlight] = field(default_factory=list)
    exhausted: bool = False
    _kept_s: float = 0.0  # of the budget, for the finals; as of the latest decision
    _finals_began: bool = False  # in this session
    _deaths: set[tuple[int, int, int | None]] = field(default_factory=set)  # work whose process died once
    _twins: set[str] = field(default_factory=set)
    _members: dict[int, bool] = field(default_factory=dict)  # whether a trial's network is one of the space

    def run(self) -> None:
        """Search until the budget is spent, the space is exhausted, or Ctrl-C.

        Raises StudyError where the first candidates all fail: something is wrong that no search can mend.
        """
        with self._session():
            while True:
                self._fill()
                if not self.running:
                    return
                self._collect()

    @contextmanager
    def _session(self) -> Iterator[None]:
        self._begun, self._before = time.monotonic(), self.study.elapsed_s
        for unfinished in (self.study.folder / "checkpoints").glob(".*.tmp"):
            unfinished.unlink()  # what a kill in the middle of a write left
        for slot in self.slots:
            slot.start()
        self._open_proposer()
        self._record("session", budget=str(self.budget), workers=len(self.slots), settings=self.study.settings_digest)
        try:
            yield
        except BaseException:
            self._close(kill=True)
            raise
        self._close(kill=False)

    def _open_proposer(self) -> None:
        config = self.study.config
        self._proposals = Proposals(
            self.space,
            self._price,
            seed=config.seed,
            steps=self.study.ladder[-1],
            objective=config.objective,
            prior=prior(config.prior),
        )
        self._proposal: tuple[int, ArchSpec | None] = -1, None
        self.proposer = Proposer(self.study, self.space, self._proposed)
        self._database = DatabaseFile(self.study, self.say)
        if self.study.candidates:
            self._database.write()

    def _close(self, *, kill: bool) -> None:
        for slot in self.slots:
            slot.close(kill=kill)
        self._database.write()
        self.study.close()

    @property
    def elapsed_s(self) -> float:
        """Seconds of searching in this study, earlier sessions included."""
        return self._before + time.monotonic() - self._begun

    @property
    def remaining_s(self) -> float:
        """Seconds of budget left; infinite under a budget that counts candidates."""
        return float("inf") if self.budget.seconds is None else self.budget.seconds - self.elapsed_s

    @property
    def used(self) -> int:
        """Candidates that count against the budget: finished, failed, or being trained for the first time."""
        return self.study.finished + sum(not f.candidate.is_finished for f in self.running)

    def _fill(self) -> None:
        """Give every free slot something to do, as long as there is something."""
        taken = {id(f.slot) for f in self.running}
        for slot in (s for s in self.slots if id(s) not in taken):
            work = self._next_work()
            if work is None:
                return
            self._submit(slot, work)

    def _next_work(self) -> Work | None:
        if self.remaining_s <= 0:
            return None
        self._kept_s = self._kept_for_finals()
        if self._search_left_s > 0:
            found = self._interrupted() or self._design() or self._promotion() or self._new()
            if found is not None:
                return Work(*found)
        return self._final()

    def _final(self) -> Work | None:
        """The next final; under a budget that counts candidates, none before the last rung in flight is in."""
        if not self.study.config.final_steps:
            return None
        climbing = any(f.seed is None for f in self.running)
        if climbing and (self.budget.seconds is None or (self.exhausted and self._search_left_s > 0)):
            return None  # what is in training may yet be the best
        left_s = self.remaining_s / FINALS_MARGIN
        chosen = finals.next_final(
            self._contenders(), finals.seeds_of(self.study), left_s=left_s, workers=len(self.slots)
        )
        if chosen is None:
            return None
        self._finals_began = True
        return Work(self.study.candidates[chosen.trial], self.study.final_rung, chosen.seed)

    def _contenders(self) -> list[finals.Contender]:
        taken = [(f.candidate.trial, f.seed) for f in self.running if f.seed is not None]
        return finals.contenders_of(self.study, seconds=self._final_s, taken=taken)

    def _final_s(self, candidate: Candidate) -> float:
        """Seconds of one final of a candidate."""
        assert self.study.config.final_steps is not None
        assert candidate.highest is not None
        step_s = self._step_s(candidate) or max(map(self._step_s, self.study.trained()))
        past = candidate.highest
        return step_s * self.study.config.final_steps + past.evaluate_s + past.compile_s

    @property
    def _search_left_s(self) -> float:
        """Seconds left to search in."""
        return self.remaining_s - self._kept_s

    def _kept_for_finals(self) -> float:
        """Seconds that the finals will take, up to their share of the budget; all once they have begun."""
        if self.budget.seconds is None or not self.study.config.final_steps:
            return 0.0
        if self._finals_began:  # what is found from now on could not take part
            return math.inf
        kept = self.study.config.final_share * self.budget.seconds
        if not self.study.trained():
            return kept
        contenders = self._contenders()
        if finals.least_s(contenders) > kept:  # not even one final of each kind would fit
            return 0.0
        return min(kept, FINALS_MARGIN * finals.plan_s(contenders, workers=len(self.slots)))

    def _submit(self, slot: Worker, work: Work) -> None:
        slot.recycle()
        self.running.append(InFlight(*work, slot, slot.submit(self._job(work))))

    def _job(self, work: Work) -> Job:
        config, spec = self.study.config, work.candidate.spec
        if work.seed is None:
            path = self.study.checkpoint(work.candidate)
            return Job(spec, config.rungs[work.rung], path, self.data, config.recipe, config.seed, self.vgg_file)
        assert config.final_steps is not None
        path = self.study.final_checkpoint(work.candidate, work.seed)
        return Job(
            spec, config.final_steps, path, self.data, config.recipe.scaled(config.final_steps), work.seed,
            self.vgg_file, save_every=config.rungs[-1],
        )  # fmt: skip

    def _interrupted(self) -> tuple[Candidate, int] | None:
        """A candidate that was asked for before a crash and never reached the first rung."""
        busy = self._busy
        waiting = (c for c in self.study.waiting.values() if c.trial not in busy)
        return next(((candidate, 0) for candidate in waiting), None)

    @property
    def _busy(self) -> set[int]:
        return {f.candidate.trial for f in self.running}

    def _design(self) -> tuple[Candidate, int] | None:
        """The next published design at the first rung; when all were there, the next rung of one, best first.

        So that even a short search starts from the whole known landscape, and a longer one compares it to the end.
        """
        return next(self._design_starts(), None) or next(self._design_climbs(), None)

    def _design_starts(self) -> Iterator[tuple[Candidate, int]]:
        for design in self._designs:
            candidate = self._known(design)
            if candidate is None and self._room_for_a_design():
                candidate = self._ask(design.spec)
            if candidate and not candidate.rungs and self._may_climb(candidate, 0):
                yield candidate, 0

    def _design_climbs(self) -> Iterator[tuple[Candidate, int]]:
        started = [c for c in map(self._known, self._designs) if c and c.rungs and not c.failure]
        if self.study.config.final_steps:  # the finals need the best design; the others climb where they deserve to
            started = sorted(started, key=lambda c: -c.score(0))[:1]
        for candidate in started:
            rung = len(candidate.rungs)
            if 0 < rung < len(self.study.config.rungs) and self._may_climb(candidate, rung):
                yield candidate, rung

    def _known(self, design: Design) -> Candidate | None:
        return self._first_of.get(_structure(design.spec))

    def _may_climb(self, candidate: Candidate, rung: int) -> bool:
        free = candidate.verdict == "train" and not candidate.failure and candidate.trial not in self._busy
        return free and self._design_time_left() and self._fits(candidate, rung)

    @cached_property
    def _designs(self) -> list[Design]:
        """The designs of the space, the best of the challenge first; other readings of the same design are left out."""
        members = [d for d in DESIGNS.values() if d.variant_of is None and self.space.contains(d.spec)]
        return sorted(members, key=lambda d: -d.table1.score)

    def _room_for_a_design(self) -> bool:
        if self.budget.candidates is None:
            return self._design_time_left()
        asked = sum(c.verdict == "train" for c in self.study.designs)
        return self._may_ask and asked < max(1, DESIGN_SHARE * self.budget.candidates)

    def _design_time_left(self) -> bool:
        if self.budget.seconds is None:
            return True
        spent = sum(rung.seconds for c in self.study.designs for rung in c.rungs.values())
        return spent < DESIGN_SHARE * self.budget.seconds

    def _promotion(self) -> tuple[Candidate, int] | None:
        climbers = successive_halving.promotions(
            [self._standing(c) for c in self.study.trained()],
            rungs=len(self.study.config.rungs),
            objective=self.study.config.objective,
            draining=not self._may_ask or not self._fits(None, 0),
        )
        chosen = ((self.study.candidates[trial], rung) for trial, rung in climbers)
        return next((work for work in chosen if self._fits(*work)), None)

    def _standing(self, candidate: Candidate) -> successive_halving.Standing:
        assert candidate.runtime_ms is not None
        return successive_halving.Standing(
            candidate.trial,
            candidate.runtime_ms,
            {rung: reached.psnr_db for rung, reached in candidate.rungs.items()},
            busy=candidate.trial in self._busy,
            ended=bool(candidate.failure),
        )

    @property
    def _may_ask(self) -> bool:
        """Whether the budget has room for one more candidate."""
        if self.exhausted:
            return False
        return self.budget.candidates is None or self.used < self.budget.candidates

    def _new(self) -> tuple[Candidate, int] | None:
        if not self._may_ask or not self._fits(None, 0):
            return None
        candidate = self._ask_until_new()
        if candidate is None:
            self.exhausted = True
            self.say(f"The space is exhausted: every further proposal is a duplicate or refused{self._nearest()}.")
            return self._promotion()  # now that nothing new will come, the best climb
        return candidate, 0

    def _ask_until_new(self) -> Candidate | None:
        """Ask until a proposal is new and feasible; help with random draws where the sampler repeats itself."""
        if self.study.config.sampler == "model":
            return self._ask() if self._proposed() else self._ask_at_random()
        for _ in range(PATIENCE):
            if self._search_left_s <= 0:
                return None
            candidate = self._ask(self._variation())
            if candidate.verdict == "train":
                return candidate
        return self._ask_at_random()

    def _proposed(self) -> ArchSpec | None:
        """Return what the model of all results so far proposes next, asked once for each trial."""
        number = len(self.study.candidates)
        if self._proposal[0] != number:
            self._proposal = number, self._propose(number)
        return self._proposal[1]

    def _propose(self, number: int) -> ArchSpec | None:
        finished = [c for c in self.study.trained() if not c.failure]
        trained = [Known(c.spec, c.runtime_ms or math.inf, self._results(c), self._seconds(c)) for c in finished]
        starting = [f.candidate.spec for f in self.running if not f.candidate.is_finished]
        return self._proposals.propose(number, trained, starting, self._is_known)

    def _is_known(self, graph: Graph) -> bool:
        """Tell whether a network was asked for before, or one that computes the same in all likelihood."""
        return graph.structure in self._first_of or _twin(graph) in self._twins  # in this order: the first fills both

    def _seconds(self, candidate: Candidate) -> float:
        """Return what the first rung cost; 0 where it does not count, or was trained before a crash."""
        first = candidate.rungs[0]
        return first.seconds if self.budget.seconds is not None and first.train_s > 0 else 0.0

    def _results(self, candidate: Candidate) -> dict[int, float]:
        reached = [*candidate.rungs.values(), *([candidate.longest] if candidate.longest else [])]
        return {each.steps: each.psnr_db for each in reached}

    def _price(self, spec: ArchSpec) -> Cost | None:
        judged = self._judge_new(spec)
        if judged["verdict"] == "unsupported":
            return None
        return Cost(judged["runtime_ms"], judged.get("violation", 0.0), judged["peak_memory_mb"])

    def _variation(self) -> ArchSpec | None:
        """For every second proposal beside TPE a small change of one of the best; None leaves it to the sampler.

        From tens of results TPE learns next to nothing about forty genes, and draws most of them at random; what is
        good is found near what is good. Source: Real et al. 2019, "Regularized Evolution for Image Classifier
        Architecture Search", arXiv 1802.01548; with the best kept instead of the youngest, for budgets are small.
        """
        asked = len(self.study.candidates)
        parents = self._elite() if self.study.config.sampler == "tpe" and asked % 2 else []
        if not parents:
            return None
        rng = np.random.default_rng([self.study.config.seed, asked])
        parent = parents[rng.integers(len(parents))]
        return variation(self.space, rng, parent.spec)

    def _elite(self) -> list[Candidate]:
        """The best few at the first rung, where all were trained alike: by score, or by front after front."""
        standing = [c for c in self.study.at_rung(0) if self._is_member(c)]
        if self.study.config.objective == "score":
            standing.sort(key=lambda c: -c.score(0))
        else:
            ranked = pareto.ranks([(c.rungs[0].psnr_db, c.runtime_ms or math.inf) for c in standing])
            standing = [c for _, c in sorted(zip(ranked, standing, strict=True), key=lambda pair: pair[0])]
        return standing[:ELITE]

    def _is_member(self, candidate: Candidate) -> bool:
        if candidate.trial not in self._members:
            self._members[candidate.trial] = self.space.contains(candidate.spec)
        return self._members[candidate.trial]

    def _ask_at_random(self) -> Candidate | None:
        """Ask for the first random member that is new and feasible; those that are not leave no trace."""
        rng = np.random.default_rng([self.study.config.seed, len(self.study.candidates)])
        refused: set[str] = set()
        for _ in range(RANDOM_TRIES):
            spec = random_member(self.space, rng)
            structure = _structure(spec)
            if structure in refused or structure in self._first_of:
                continue
            if self._judge_new(spec)["verdict"] == "train":
                return self._ask(spec)
            refused.add(structure)
        return None

    def _nearest(self) -> str:
        """Say which refused proposal came nearest to each limit: a limit may be out of reach."""
        limits = self._limits
        nearest = self._proposals.nearest()
        if nearest is not None and nearest.excess > 0:
            return f"; of {self._proposals.priced} networks priced, the nearest to the limits takes {nearest.told}"
        refused = [c for c in self.study.candidates.values() if c.verdict == "infeasible"]
        slow = [c.runtime_ms for c in refused if c.runtime_ms and c.runtime_ms > (limits.max_runtime_ms or math.inf)]
        large = [
            c.peak_memory_mb
            for c in refused
            if c.peak_memory_mb and c.peak_memory_mb > (limits.max_memory_mb or math.inf)
        ]
        return (f"; the fastest one over the limit was predicted at {min(slow):.1f} ms" if slow else "") + (
            f"; the smallest one over the limit takes {min(large):.1f} MB" if large else ""
        )

    def _ask(self, spec: ArchSpec | None = None) -> Candidate:
        """Ask for one proposal, judge it before any training, record and settle what can be settled now."""
        proposal = self.proposer.ask(spec)
        notes = {"sampler_notes": proposal.notes} if proposal.notes else {}
        self._record("asked", trial=proposal.trial, genes=proposal.genes, **notes, **self._judge(proposal))
        candidate = self.study.candidates[proposal.trial]
        self._first_of.setdefault(_structure(candidate.spec), candidate)
        if candidate.verdict == "train":
            self._twins.add(_twin(build_graph(candidate.spec)))
        self.proposer.constrain(candidate)
        original = self._original(candidate)
        if candidate.verdict in ("infeasible", "unsupported") or (original and original.is_finished):
            self.proposer.tell(candidate, original)
        if candidate.name and candidate.verdict != "train":
            self.say(f"{candidate.name} is left out: {candidate.reason}.")
        return candidate

    def _judge(self, proposal: Proposal) -> dict[str, Any]:
        known = self._first_of.get(_structure(proposal.spec))
        return self._judge_new(proposal.spec) if known is None else self._repeat(known)

    @cached_property
    def _first_of(self) -> dict[str, Candidate]:
        """The first candidate of each network, by structure: two specs may still mean one network."""
        first: dict[str, Candidate] = {}
        for candidate in self.study.candidates.values():
            graph = build_graph(candidate.spec)  # once for both: this is what continuing a long study waits for
            first.setdefault(graph.structure, candidate)
            if candidate.verdict == "train":
                self._twins.add(_twin(graph))
        return first

    def _judge_new(self, spec: ArchSpec) -> dict[str, Any]:
        """Whether a network never seen before is worth training: can the device run it, fast enough, in memory?"""
        graph = build_graph(spec)
        refused = self.device.refusal(network(graph), allow_fallback=self.study.config.allow_fallback)
        if refused:
            return {"verdict": "unsupported", "reason": refused}
        prediction = self.device.predict(graph, allow_fallback=self.study.config.allow_fallback)
        return self._within_limits(prediction, peak_activation_bytes(graph) / 1e6)

    def _repeat(self, known: Candidate) -> dict[str, Any]:
        """A proposal seen before: trained ones count as duplicates, others are refused again for the same reason."""
        names = ("runtime_ms", "runtime_low_ms", "runtime_high_ms", "peak_memory_mb")
        predicted = {name: getattr(known, name) for name in names}
        if known.verdict in ("infeasible", "unsupported"):
            return predicted | {"verdict": known.verdict, "reason": known.reason, "violation": known.violation}
        original = known.trial if known.duplicate_of is None else known.duplicate_of
        return predicted | {"verdict": "duplicate", "duplicate_of": original}

    def _within_limits(self, prediction: Prediction, peak_memory_mb: float) -> dict[str, Any]:
        predicted = {
            "runtime_ms": prediction.runtime_ms,
            "runtime_low_ms": prediction.low_ms,
            "runtime_high_ms": prediction.high_ms,
            "peak_memory_mb": peak_memory_mb,
        }
        excess = self._limits.excess(runtime_ms=prediction.runtime_ms, peak_memory_mb=peak_memory_mb)
        return predicted | ({"verdict": "infeasible", **asdict(excess)} if excess else {"verdict": "train"})

    @property
    def _limits(self) -> Limits:
        return Limits(self.study.config.max_runtime_ms, self.study.config.max_memory_mb)

    def _original(self, candidate: Candidate) -> Candidate | None:
        return None if candidate.duplicate_of is None else self.study.candidates[candidate.duplicate_of]

    def _fits(self, candidate: Candidate | None, rung: int) -> bool:
        """Tell whether training to `rung` is likely to end within the budget."""
        if self.budget.seconds is None:
            return True
        return self._expected_s(candidate, rung) <= self._search_left_s

    def _expected_s(self, candidate: Candidate | None, rung: int) -> float:
        """Seconds to `rung`: from the candidate's own speed, else from the others' mean at the first rung."""
        ladder = self.study.config.rungs
        if candidate is not None and candidate.highest is not None:
            past = candidate.highest
            return self._step_s(candidate) * (ladder[rung] - past.steps) + past.evaluate_s
        return self.study.first_rung_s

    def _step_s(self, candidate: Candidate) -> float:
        """Seconds of one training step; the slowest rung counts, as one trained before a crash took no time at all."""
        ladder = (0, *self.study.config.rungs)
        return max(r.train_s / (r.steps - ladder[r.rung]) for r in candidate.rungs.values())

    def _collect(self) -> None:
        """Wait until something finished, or for a moment, and take in what did."""
        wait([f.future for f in self.running], timeout=POLL_S, return_when=FIRST_COMPLETED)
        self.look(self)
        for silent in [f for f in self.running if f.slot.is_silent and not f.future.done()]:
            self.say(f"The worker of trial {silent.candidate.trial} shows no sign of life and is ended.")
            silent.slot.close(kill=True)
        for finished in [f for f in self.running if f.future.done()]:
            self.running.remove(finished)
            self._take(finished, result_of(finished.future))

    def _take(self, finished: InFlight, result: Outcome | JobFailure) -> None:
        candidate = finished.candidate
        if isinstance(result, JobFailure) and result.fatal:
            raise StudyError(f"{result.reason} Mend this; the same command continues.")
        if isinstance(result, JobFailure) and result.died and self._is_first_death(finished):
            return
        if finished.seed is not None:
            self._take_final(finished, finished.seed, result)
            return
        if isinstance(result, JobFailure):
            finished.slot.close(kill=True)
            self._record("failed", trial=candidate.trial, reason=result.reason)
            self.say(f"Trial {candidate.trial} failed: {result.reason}")
            self._give_up_if_hopeless()
        else:
            self._record("rung", trial=candidate.trial, rung=finished.rung, **asdict(result))
            self.say(self._told(candidate, finished.rung))
        if finished.rung == 0:
            self._tell_all(candidate)

    def _is_first_death(self, finished: InFlight) -> bool:
        """Tell whether a candidate's process died for the first time; nothing is recorded then, and it is tried again.

        Somebody may have killed it, or others have taken the memory. A second death at the same work is its own.
        """
        work = finished.candidate.trial, finished.rung, finished.seed
        if work in self._deaths:
            return False
        self._deaths.add(work)
        finished.slot.close(kill=True)
        self.say(f"The process that trained trial {finished.candidate.trial} died; the candidate is tried again.")
        return True

    def _take_final(self, finished: InFlight, seed: int, result: Outcome | JobFailure) -> None:
        trial = finished.candidate.trial
        if isinstance(result, JobFailure):
            finished.slot.close(kill=True)
            self._record("final_failed", trial=trial, seed=seed, reason=result.reason)
            self.say(f"Final of trial {trial} from seed {seed} failed: {result.reason}")
            return
        self._record("final", trial=trial, seed=seed, **asdict(result))
        score = finished.candidate.final_scores()[seed]
        label = f" {finished.candidate.name}" if finished.candidate.name else ""
        self.say(f"Final of trial {trial}{label} from seed {seed}: {result.psnr_db:.2f} dB, score {score:.3f}")

    def _tell_all(self, candidate: Candidate) -> None:
        """Tell Optuna of a candidate and of every proposal that repeated it meanwhile."""
        self.proposer.tell(candidate)
        for repeat in self.study.repeats.get(candidate.trial, ()):  # those asked for from now on are told at once
            self.proposer.tell(repeat, candidate)

    def _told(self, candidate: Candidate, rung: int) -> str:
        reached = candidate.rungs[rung]
        label = f"{candidate.name} " if candidate.name else ""
        calmer = (
            "" if reached.rate_share == 1 else f" at {reached.rate_share:.2g} of the learning rate, having diverged"
        )
        return (
            f"Trial {candidate.trial} {label}at {reached.steps} steps{calmer}: {reached.psnr_db:.2f} dB, "
            f"{candidate.runtime_ms:.1f} ms, score {candidate.score(rung):.3f}  ({candidate.spec.description})"
        )

    def _give_up_if_hopeless(self) -> None:
        failures = [c.failure for c in self.study.failed if not c.rungs]
        if len(failures) >= FATAL_FAILURES and not self.study.trained():
            raise StudyError(
                f"The first {len(failures)} candidates all failed, the last one because: {failures[-1]} "
                "Nothing more is tried; mend the cause and start a new study."
            )

    def _record(self, event: str, **values: Any) -> None:
        self.study.elapsed_s = self.elapsed_s
        self.study.append(event, **values)
        self._database.write_if_due()
