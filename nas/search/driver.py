"""The driver: hand out what the policy decides, record what came of it, tell Optuna.

Every decision is one of `nas.search.policy`, a function of the study's records, so a search that was killed goes on as
if it had not been, and one worker with one seed repeats a run exactly (under a budget that counts candidates; a budget
in seconds ends where the clock says).
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from latency_models.device import Device
from nas import backend
from nas.search.admission import Admission, structure_of
from nas.search.budget import Budget
from nas.search.candidate import CandidateRecord
from nas.search.forecast import Forecast
from nas.search.in_flight import InFlight
from nas.search.jobs import job_of
from nas.search.known_designs import designs_of
from nas.search.optuna_database import DatabaseFile
from nas.search.optuna_sampler import Proposer
from nas.search.policy import UNLIKELY_SHARE, Situation, Work
from nas.search.prior import best_networks, prior
from nas.search.proposals import Proposals, random_member
from nas.search.ranking import Ranking
from nas.search.samplers import SAMPLERS
from nas.search.stalls import StallWatch
from nas.search.study import StudyRecord
from nas.search.waiting import HeldWork, SearchClock
from nas.search.workers_file import WorkersFile, rows
from nas.train.job import JobFailure, Outcome
from nas.train.worker import TrainingWorker, WorkerSource
from nas.train.workers import result_of
from search_spaces.errors import StudyError
from search_spaces.networks import build_graph
from search_spaces.space import SearchSpace
from search_spaces.spec import ArchSpec

# A sampler that repeats itself this often in a row is helped by random draws; when those find nothing new either,
# the space is exhausted for all practical purposes.
PATIENCE, RANDOM_TRIES = 50, 2000
POLL_S = 0.2
# A candidate that is lost so often in a row, without a result in between, is taken to be the cause.
MOST_LOSSES = 3


@dataclass
class Search:
    """One session of searching on a study."""

    study: StudyRecord
    space: SearchSpace
    device: Device
    budget: Budget
    data: Path
    workers: list[TrainingWorker]
    on_message: Callable[[str], None] = lambda _: None  # one line per event that a person wants to read
    on_progress: Callable[["Search"], None] = lambda _: None  # called a few times a second
    vgg_file: Path | None = None  # of the weights of VGG-19; None: Keras's own copy, where they are needed
    source: WorkerSource | None = None  # of workers that come later
    stall_s: float | None = None  # a training without a step for so long is lost; None: as nas.search.stalls says
    running: list[InFlight] = field(default_factory=list)
    exhausted: bool = False
    unmet: str = ""  # what is to be said where nothing is within the limits
    _finals_began: bool = False  # in this session
    _deaths: set[tuple[int, int, int | None]] = field(default_factory=set)  # work whose process died once
    _held: HeldWork = field(default_factory=HeldWork)
    _numbers: dict[TrainingWorker, int] = field(default_factory=dict)  # of all workers of this session
    _members: dict[int, bool] = field(default_factory=dict)  # whether a trial's network is one of the space
    _forecast: Callable[[int], Mapping[int, float]] = lambda _: {}

    def run(self) -> None:
        """Search until the budget is spent, the space is exhausted, or Ctrl-C.

        Raises StudyError where the first candidates all fail: something is wrong that no search can mend.
        """
        with self._session():
            while True:
                self._fill()
                if not self.running and not self._waits_for_workers:
                    self._tell_too_large()
                    self.on_progress(self)  # as it stands at the end
                    return
                self._collect()

    @contextmanager
    def _session(self) -> Iterator[None]:
        # Looked up at each call: in simulations the module's `time` is another one.
        self._clock = SearchClock(self.study.elapsed_s, lambda: time.monotonic())
        self._stalls, self._workers_file = StallWatch(self.stall_s), WorkersFile(self.study.folder)
        for worker in self.workers:
            worker.start()
        self._admission = Admission(self.study, self.device)
        self._designs = designs_of(
            self.space, self.study.config.prior, self._admission.price, steps=self.study.ladder[-1]
        )
        self._open_proposer()
        self._record(
            "session",
            budget=str(self.budget),
            workers=len(self.workers),
            backend=backend.expected() if self.workers else None,
            settings=self.study.settings_digest,
            designs=self._designs.names(),
            began=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        self._tell_designs()
        try:
            yield
        except BaseException:
            self._close(kill=True)
            raise
        self._close(kill=False)

    def _open_proposer(self) -> None:
        config = self.study.config
        learned = prior(config.prior)
        if SAMPLERS[config.sampler].is_model:  # Optuna's are told of the first rung alone: promotion is the plain rule
            self._forecast = Forecast(self.study, learned)
        self._ranking = Ranking(self.study, self._forecast)
        self._proposals = Proposals(
            self.space,
            self._admission.price,
            seed=config.seed,
            steps=self.study.ladder[-1],
            objective=config.objective,
            prior=learned,
            examples=best_networks(config.prior),
        )
        self._proposal: tuple[int, ArchSpec | None] = -1, None
        self.proposer = Proposer(self.study, self.space, self._proposed)
        self._database = DatabaseFile(self.study, self.on_message)
        if self.study.candidates:
            self._database.write()

    def _tell_designs(self) -> None:
        if self._designs.unlikely and not self.study.candidates:
            names = ", ".join(design.name for design in self._designs.unlikely)
            self.on_message(
                f"Designs far below the best on other pairs get {UNLIKELY_SHARE:.0%} of the budget at most: {names}."
            )

    def _close(self, *, kill: bool) -> None:
        for worker in self.workers:
            worker.close(kill=kill)
        if self.source is not None:
            self.source.close(over=not kill)
        self._workers_file.remove()
        self._database.write()
        self.study.close()

    def numbered(self) -> list[tuple[TrainingWorker, int]]:
        """Return the workers that are here, with the numbers that records give them."""
        return [(worker, self._numbers[worker]) for worker in self.workers if worker in self._numbers]

    @property
    def elapsed_s(self) -> float:
        """Seconds of searching in this study, earlier sessions included."""
        return self._clock.elapsed_s

    @property
    def remaining_s(self) -> float:
        """Seconds of budget left; infinite under a budget that counts candidates."""
        return self.now.remaining_s

    @property
    def used(self) -> int:
        """Candidates that count against the budget."""
        return self.now.used

    @property
    def now(self) -> Situation:
        """What a decision rests on at this moment."""
        return self._situation(self._held.works)

    def _situation(self, held: Sequence[Work]) -> Situation:
        return Situation(
            self.study,
            self.space,
            self.budget,
            (*(each.work for each in self.running), *held),
            self.elapsed_s,
            self._ranking,
            workers=max(1, len(self.workers)),
            exhausted=self.exhausted,
            finals_began=self._finals_began,
            members=self._members,
            forecast=self._forecast,
        )

    def _fill(self) -> None:
        """Give every free worker something to do, as long as there is something."""
        self._welcome()
        taken = {id(f.worker) for f in self.running}
        is_more = True
        free = [each for each in self.workers if id(each) not in taken]
        for worker in sorted(free, key=lambda each: each.has_begun is None):
            work = self._begun_by(worker) or self._held.take_for(worker)
            while work is None and is_more:
                work = self._next_work()
                is_more = work is not None
                if work is not None and not self._held.fits(work, worker):
                    self._held.works.append(work)
                    work = None
            if work is not None:
                self._submit(worker, work)
        if not self.workers and not self._held.works and (work := self._next_work()) is not None:
            self._held.works.append(work)  # for whoever comes

    def _begun_by(self, worker: TrainingWorker) -> Work | None:
        """Return what a worker that came back has begun already, where that is still to be done."""
        begun, worker.has_begun = worker.has_begun, None
        if begun is None or self.now.remaining_s <= 0:
            return None
        work = self._situation(()).begun(begun)  # what is held back for somebody may be its own
        self._held.works[:] = [held for held in self._held.works if held != work]
        return work

    def _welcome(self) -> None:
        """Take in the workers that came, and forget those that left."""
        self.workers[:] = [each for each in self.workers if not each.has_left]
        if self.source is not None:
            self.workers += self.source.arrived()
            if self._clock.stand(still=not (self.workers or self.running)):
                self.on_message("No worker is here; the search waits for one, and its budget with it.")
        for worker in self.workers:
            self._numbers.setdefault(worker, len(self._numbers))

    @property
    def _waits_for_workers(self) -> bool:
        return bool(self._held.possible(self.workers)) and self.source is not None and self.now.remaining_s > 0

    def _tell_too_large(self) -> None:
        if self._held.works and self.workers and self.now.remaining_s > 0:
            trials = ", ".join(str(work.candidate.trial) for work in self._held.works)
            self.on_message(
                f"Trials {trials} need more memory than any worker here has; the same command goes on with them where "
                "a larger one is."
            )

    def _next_work(self) -> Work | None:
        now = self.now
        if now.remaining_s <= 0:
            return None
        if now.search_left_s > 0:
            work = now.interrupted() or self._design() or self.now.early_final() or self.now.promotion() or self._new()
            if work is not None:
                return work
        # What no worker here can train does not keep the finals waiting.
        final = self._situation(self._held.possible(self.workers)).final()
        self._finals_began |= final is not None
        return final

    def _submit(self, worker: TrainingWorker, work: Work) -> None:
        worker.recycle()
        job = job_of(self.study, work, data=self.data, vgg_file=self.vgg_file, on_message=self.on_message)
        self.running.append(InFlight(*work, worker, worker.submit(job), job.steps))

    def _design(self) -> Work | None:
        """The next published design at the first rung; when all were there, the next rung of one, best first."""
        now = self.now
        for design in self._designs.all:
            candidate = self._admission.known(design.spec)
            is_likely = design not in self._designs.unlikely
            if candidate is None and now.may_begin_design(design.spec, is_likely=is_likely):
                candidate, now = self._ask(design.spec), self.now
            start = now.design_start(candidate)
            if start is not None:
                return start
        known = (self._admission.known(design.spec) for design in self._designs.all)
        return now.design_climb([candidate for candidate in known if candidate is not None])

    def _new(self) -> Work | None:
        if not self.now.may_begin:
            return None
        candidate = self._ask_until_new()
        if candidate is None:
            if self.now.search_left_s <= 0:
                return None  # the time was up before anything new was found
            self.exhausted = True
            self.unmet = "" if self.study.verdicts["train"] else self._proposals.unmet(self._admission.limits)
            if not self.unmet:
                self.on_message("The space is exhausted: every further proposal is a duplicate or refused.")
            return self.now.promotion()  # now that nothing new will come, the best climb
        return Work(candidate, 0)

    def _ask_until_new(self) -> CandidateRecord | None:
        """Ask until a proposal is new and feasible; help with random draws where the sampler repeats itself."""
        if SAMPLERS[self.study.config.sampler].is_model:
            return self._ask() if self._proposed() else self._ask_at_random()
        for _ in range(PATIENCE):
            if self.now.search_left_s <= 0:
                return None
            candidate = self._ask(self.now.variation())
            if candidate.verdict == "train":
                return candidate
        # Where limits refuse nearly all of the space, chance finds no member, and walking towards them does.
        return self._ask_at_random() or (self._ask(spec) if (spec := self._proposed()) else None)

    def _proposed(self) -> ArchSpec | None:
        """Return what the model of all results so far proposes next, asked once for each trial."""
        number = len(self.study.candidates)
        if self._proposal[0] != number:
            self._proposal = number, self._propose(number)
        return self._proposal[1]

    def _propose(self, number: int) -> ArchSpec | None:
        now = self.now
        return self._proposals.propose(number, now.results(), now.starting(), self._admission.is_known)

    def _ask_at_random(self) -> CandidateRecord | None:
        """Ask for the first random member that is new and feasible; those that are not leave no trace."""
        rng = np.random.default_rng([self.study.config.seed, len(self.study.candidates)])
        refused: set[str] = set()
        for _ in range(RANDOM_TRIES):
            spec = random_member(self.space, rng)
            structure = structure_of(spec)
            if structure in refused or self._admission.is_known(build_graph(spec)):
                continue
            if self._admission.judge_new(spec)["verdict"] == "train":
                return self._ask(spec)
            refused.add(structure)
        return None

    def _ask(self, spec: ArchSpec | None = None) -> CandidateRecord:
        """Ask for one proposal, judge it before any training, record and settle what can be settled now."""
        proposal = self.proposer.ask(spec)
        notes = {"sampler_notes": proposal.notes} if proposal.notes else {}
        self._record(
            "asked", trial=proposal.trial, genes=proposal.genes, **notes, **self._admission.judge(proposal.spec)
        )
        candidate = self.study.candidates[proposal.trial]
        self._admission.add(candidate)
        self.proposer.constrain(candidate)
        repeated = candidate.duplicate_of
        original = None if repeated is None else self.study.candidates[repeated]
        if candidate.verdict in ("infeasible", "unsupported") or (original and original.is_finished):
            self.proposer.tell(candidate, original)
        if candidate.name and candidate.verdict != "train":
            self.on_message(f"{candidate.name} is left out: {candidate.reason}.")
        return candidate

    def _collect(self) -> None:
        """Wait until something finished, or for a moment, and take in what did."""
        if self.running:
            wait([f.future for f in self.running], timeout=POLL_S, return_when=FIRST_COMPLETED)
        else:
            time.sleep(POLL_S)
        self.on_progress(self)
        self._workers_file.write_if_due(self.source, lambda: rows(self.numbered(), self.running))
        self._look_after_silent()
        for finished in [f for f in self.running if f.future.done()]:
            self.running.remove(finished)
            self._take(finished, result_of(finished.future))

    def _look_after_silent(self) -> None:
        """End processes that show no sign of life, and give up trainings that do not move."""
        working = [f for f in self.running if not f.future.done()]
        for flight in working:
            if flight.first is None and flight.step:
                flight.first = flight.step, time.monotonic()
            if flight.worker.is_silent:
                self.on_message(f"The worker of trial {flight.candidate.trial} shows no sign of life and is ended.")
                flight.worker.close(kill=True)
        for stalled, reason in list(self._stalls.stalled(working)):
            if not stalled.future.done():
                self.running.remove(stalled)
                stalled.worker.close(kill=True)
                self._take(stalled, JobFailure(f"It stalled: {reason}.", lost=True))

    def _take(self, finished: InFlight, result: Outcome | JobFailure) -> None:
        candidate = finished.candidate
        if isinstance(result, JobFailure) and result.fatal:
            raise StudyError(f"{result.reason} Mend this; the same command continues.")
        if isinstance(result, JobFailure) and result.returned:
            self._give_back(finished, result)
            return
        if isinstance(result, JobFailure) and result.died and self._is_first_death(finished):
            return
        if isinstance(result, JobFailure) and result.lost:
            if self._is_to_be_found_again(finished, result):
                return
            result = replace(result, reason=f"It was lost {MOST_LOSSES} times, at last so: {result.reason}")
        if finished.seed is not None:
            self._take_final(finished, finished.seed, result)
            return
        if isinstance(result, JobFailure):
            finished.worker.close(kill=True)
            self._record("failed", trial=candidate.trial, reason=result.reason)
            self.on_message(f"Trial {candidate.trial} failed: {result.reason}")
            self.now.require_hope()
        else:
            self._record("rung", trial=candidate.trial, rung=finished.rung, **self._where(finished), **asdict(result))
            self.on_message(candidate.summary(finished.rung))
            if len(self.study.trained()) == 1 and (unfit := self.now.unfit_finals()):
                self.on_message(unfit)
        if finished.rung == 0:
            self._tell_all(candidate)

    def _where(self, finished: InFlight) -> dict[str, Any]:
        """Return what records tell of a worker: its number, and where it is unless it is a part of this machine."""
        place = finished.worker.place
        return {"worker": self._numbers[finished.worker]} | ({} if place is None else asdict(place))

    def _give_back(self, finished: InFlight, result: JobFailure) -> None:
        """Take work back that a worker could not do, which is no fault of the candidate: another one gets it."""
        trial = finished.candidate.trial
        if result.needs_bytes is not None:
            self._held.needs(trial, result.needs_bytes)
        waits = self._held.is_too_large(finished.work, self.workers)
        what = "waits for a larger worker" if waits else "is given to another worker"
        self.on_message(f"Trial {trial} {what}: {result.reason}")

    def _is_to_be_found_again(self, finished: InFlight, result: JobFailure) -> bool:
        """Record that work was lost, and tell whether it is to be tried again, from the last state that is here."""
        candidate = finished.candidate
        place = finished.worker.place
        self._record(
            "lost",
            trial=candidate.trial,
            rung=finished.rung,
            seed=finished.seed,
            reason=result.reason,
            worker=self._numbers[finished.worker],
            host=None if place is None else place.host,
        )
        if candidate.losses >= MOST_LOSSES:
            return False
        self.on_message(f"Trial {candidate.trial} was lost and is tried again: {result.reason}")
        return True

    def _is_first_death(self, finished: InFlight) -> bool:
        """Tell whether a candidate's process died for the first time; nothing is recorded then, and it is tried again.

        Somebody may have killed it, or others have taken the memory. A second death at the same work is its own.
        """
        work = finished.candidate.trial, finished.rung, finished.seed
        if work in self._deaths:
            return False
        self._deaths.add(work)
        finished.worker.close(kill=True)
        self.on_message(
            f"The process that trained trial {finished.candidate.trial} died; the candidate is tried again."
        )
        return True

    def _take_final(self, finished: InFlight, seed: int, result: Outcome | JobFailure) -> None:
        trial = finished.candidate.trial
        if isinstance(result, JobFailure):
            finished.worker.close(kill=True)
            self._record("final_failed", trial=trial, seed=seed, reason=result.reason)
            self.on_message(f"Final of trial {trial} from seed {seed} failed: {result.reason}")
            return
        self._record("final", trial=trial, seed=seed, **self._where(finished), **asdict(result))
        score = finished.candidate.final_scores()[seed]
        label = f" {finished.candidate.name}" if finished.candidate.name else ""
        self.on_message(f"Final of trial {trial}{label} from seed {seed}: {result.psnr_db:.2f} dB, score {score:.3f}")

    def _tell_all(self, candidate: CandidateRecord) -> None:
        """Tell Optuna of a candidate and of every proposal that repeated it meanwhile."""
        self.proposer.tell(candidate)
        for repeat in self.study.repeats.get(candidate.trial, ()):  # those asked for from now on are told at once
            self.proposer.tell(repeat, candidate)

    def _record(self, event: str, **values: Any) -> None:
        self.study.elapsed_s = self.elapsed_s
        self.study.append(event, **values)
        self._database.write_if_due()
