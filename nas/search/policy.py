"""Decide what a search does next: resume what was interrupted, climb a rung, try something new, or train a final.

Pure functions of a `Situation`: the records, the budget, what is training now, and how long the search has lasted. So a
search that was killed goes on as if it had not been, and one worker with one seed repeats a run exactly.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from nas.search import finals, pareto, successive_halving
from nas.search.budget import Budget, duration
from nas.search.candidate import CandidateRecord
from nas.search.proposals import Known, variation
from nas.search.samplers import SAMPLERS
from nas.search.study import StudyRecord
from nas.train.job import Begun
from search_spaces.errors import StudyError
from search_spaces.networks import build_graph
from search_spaces.space import SearchSpace
from search_spaces.spec import ArchSpec

# Published designs may use this share of the budget before anything new is tried; those that are not expected to be the
# best one begin only as far as the first rungs of all take that share of it.
DESIGN_SHARE, UNLIKELY_SHARE = 0.25, 0.05
# Of how many candidates changes are tried.
ELITE = 5
# Finals are planned from the seconds that steps took before, and begin a tenth earlier than these would ask for.
FINALS_MARGIN = 1.1
FINALS_STRETCH = 1.5
# Before these, so much of the time goes to finals of the best found so far. Of networks that short rungs hold for
# equal, some gain a whole dB more than others until the final steps, and so do networks like them: that has to be
# learned while there is time to go on from it. On the sensor pairs the scores of 29 networks after 300, 900 and 2700
# steps tell those after 8100 equally well, by Spearman's ρ of 0.75 to 0.77 (results/table).
EARLY_SHARE = 0.35
# When the first so many candidates all fail, the cause is not in them.
FATAL_FAILURES = 3


class Work(NamedTuple):
    """One thing to train: a candidate to a rung, or from a seed to the final steps."""

    candidate: CandidateRecord
    rung: int
    seed: int | None = None  # of a final; its rung is the one above the ladder


@dataclass(frozen=True)
class Situation:
    """Everything that a decision rests on."""

    study: StudyRecord
    space: SearchSpace
    budget: Budget
    training: tuple[Work, ...]  # now
    elapsed_s: float  # earlier sessions included
    # The trials that reached a rung, in the order in which they deserve to climb.
    ranking: Callable[[int], Iterable[int]]
    workers: int = 1
    exhausted: bool = False  # nothing new is left in the space
    finals_began: bool = False  # in this session
    members: dict[int, bool] = field(default_factory=dict)  # whether a trial's network is one of the space; filled here
    # PSNR in dB at the final steps by trial, predicted from what is known at a rung; empty where nothing predicts it.
    forecast: Callable[[int], Mapping[int, float]] = lambda _: {}

    # The budget

    @property
    def remaining_s(self) -> float:
        """Seconds of budget left; infinite under a budget that counts candidates."""
        return math.inf if self.budget.seconds is None else self.budget.seconds - self.elapsed_s

    @cached_property
    def search_left_s(self) -> float:
        """Seconds left to search in: those of the finals are kept back."""
        return self.remaining_s - self._kept_for_finals()

    @property
    def used(self) -> int:
        """Candidates that count against the budget: finished, failed, or being trained for the first time."""
        return self.study.finished + sum(not work.candidate.is_finished for work in self.training)

    @property
    def may_ask(self) -> bool:
        """Whether the budget has room for one more candidate."""
        if self.exhausted:
            return False
        return self.budget.candidates is None or self.used < self.budget.candidates

    @property
    def may_begin(self) -> bool:
        """Whether one more candidate may be asked for, and would reach the first rung."""
        return self.may_ask and self.fits(None, 0)

    def fits(self, candidate: CandidateRecord | None, rung: int) -> bool:
        """Tell whether training to `rung` is likely to end within the budget."""
        return self.budget.seconds is None or self._expected_s(candidate, rung) <= self.search_left_s

    def _expected_s(self, candidate: CandidateRecord | None, rung: int) -> float:
        """Seconds to `rung`: from the candidate's own speed, else from the others' mean at the first rung."""
        ladder = self.study.config.rungs
        if candidate is not None and candidate.highest is not None:
            past = candidate.highest
            return self._step_s(candidate) * (ladder[rung] - past.steps) + past.evaluate_s
        return self.study.first_rung_s

    def _step_s(self, candidate: CandidateRecord) -> float:
        """Seconds of one training step; the slowest rung counts, as one trained before a crash took no time at all."""
        ladder = (0, *self.study.config.rungs)
        return max(r.train_s / (r.steps - ladder[r.rung]) for r in candidate.rungs.values())

    # Rungs

    @cached_property
    def busy(self) -> set[int]:
        """The trials in training."""
        return {work.candidate.trial for work in self.training}

    def interrupted(self) -> Work | None:
        """A candidate that was asked for before a crash and never reached the first rung."""
        busy = self.busy
        return next((Work(c, 0) for c in self.study.waiting.values() if c.trial not in busy), None)

    def begun(self, begun: Begun) -> Work | None:
        """What a worker had begun when it lost the search, where that is the next thing to do for its candidate."""
        candidate = self.study.candidate_of(begun.state)
        if candidate is None or candidate.verdict != "train" or candidate.failure:
            return None
        return next((work for work in self._nexts(candidate) if self._is_of(work, begun)), None)

    def _nexts(self, candidate: CandidateRecord) -> Iterator[Work]:
        """Yield the next rung of a candidate, and its finals that are not done, unless they are in training."""
        rung = len(candidate.rungs)
        if rung < self.study.final_rung and candidate.trial not in self.busy:
            yield Work(candidate, rung)
        if not self.study.config.final_steps or not rung:
            return
        training = {work.seed for work in self.training if work.candidate is candidate}
        for seed in finals.seeds_of(self.study):
            if seed not in training | candidate.finals.keys() | candidate.final_failures.keys():
                yield Work(candidate, self.study.final_rung, seed)

    def _is_of(self, work: Work, begun: Begun) -> bool:
        study, (candidate, rung, seed) = self.study, work
        state = study.checkpoint(candidate) if seed is None else study.final_checkpoint(candidate, seed)
        return begun == Begun(state.name, study.ladder[rung])

    def promotion(self) -> Work | None:
        """The next rung of the candidate that deserves it most."""
        candidates = self.study.candidates
        climbers = successive_halving.promotions(
            self.ranking,
            [len(ranked) for ranked in self.study.ranked],
            has_ended=lambda trial: bool(candidates[trial].failure),
            is_above=lambda trial, rung: rung + 1 in candidates[trial].rungs,
            is_busy=self.busy.__contains__,
            draining=not self.may_begin,
            capped=bool(self._expected_finally),
        )
        chosen = (Work(candidates[trial], rung) for trial, rung in climbers)
        return next((work for work in chosen if self.fits(work.candidate, work.rung)), None)

    # Published designs

    def may_begin_design(self, spec: ArchSpec, *, is_likely: bool) -> bool:
        """Whether one more published design may be asked for; `is_likely`: it may be the best one."""
        if self.budget.candidates is not None:
            begun = sum(c.verdict == "train" for c in self.study.designs)
            share = DESIGN_SHARE if is_likely else UNLIKELY_SHARE
            return self.may_ask and begun < max(1, share * self.budget.candidates)
        return self._design_time_left() if is_likely else self._has_time_for_unlikely(spec)

    def _has_time_for_unlikely(self, spec: ArchSpec) -> bool:
        """Tell whether a design's first rung fits; what it costs is guessed by operations, from those of the others."""
        spent = sum(c.rungs[0].seconds for c in self.study.designs if c.rungs)
        trained = self.study.trained()
        if not trained:
            return True
        macs = sum(build_graph(c.spec).macs for c in trained) / len(trained)
        expected = self.study.first_rung_s * build_graph(spec).macs / macs
        return spent + expected <= UNLIKELY_SHARE * (self.budget.seconds or math.inf)

    def design_start(self, candidate: CandidateRecord | None) -> Work | None:
        """The first rung of a design, where it was not there yet."""
        starts = candidate is not None and not candidate.rungs and self._may_climb(candidate, 0)
        return Work(candidate, 0) if candidate and starts else None

    def design_climb(self, designs: Sequence[CandidateRecord]) -> Work | None:
        """The next rung of one of these designs, best first.

        So that even a short search starts from the whole known landscape, and a longer one compares it to the end.
        """
        started = [c for c in designs if c.rungs and not c.failure]
        if self.study.config.final_steps:  # the finals need the best design; the others climb where they deserve to
            started = sorted(started, key=lambda c: -c.score(0))[:1]
        for candidate in started:
            rung = len(candidate.rungs)
            if 0 < rung < len(self.study.config.rungs) and self._may_climb(candidate, rung):
                return Work(candidate, rung)
        return None

    def _may_climb(self, candidate: CandidateRecord, rung: int) -> bool:
        free = candidate.verdict == "train" and not candidate.failure and candidate.trial not in self.busy
        return free and self._design_time_left() and self.fits(candidate, rung)

    def _design_time_left(self) -> bool:
        if self.budget.seconds is None:
            return True
        spent = sum(rung.seconds for c in self.study.designs for rung in c.rungs.values())
        return spent < DESIGN_SHARE * self.budget.seconds

    # Finals

    def final(self) -> Work | None:
        """The next final; under a budget that counts candidates, none before the last rung in flight is in."""
        if not self.study.config.final_steps:
            return None
        climbing = any(work.seed is None for work in self.training)
        if climbing and (self.budget.seconds is None or (self.exhausted and self.search_left_s > 0)):
            return None  # what is in training may yet be the best
        chosen = finals.next_final(
            self._contenders(),
            finals.seeds_of(self.study),
            left_s=self.remaining_s / FINALS_MARGIN,
            workers=self.workers,
        )
        return None if chosen is None else Work(self.study.candidates[chosen.trial], self.study.final_rung, chosen.seed)

    def early_final(self) -> Work | None:
        """A final of the best found so far, while the search goes on; only where a model learns from it."""
        if self.budget.seconds is None or not self.study.config.final_steps or not self._expected_finally:
            return None
        chosen = finals.early_final(self._contenders(), finals.seeds_of(self.study))
        if chosen is None:
            return None
        final, seconds = chosen
        running = sum(self._final_s(work.candidate) for work in self.training if work.seed is not None)
        share = EARLY_SHARE * self.workers * self.elapsed_s
        if self.study.finals_s + running + seconds > share or seconds > self.search_left_s:
            return None
        return Work(self.study.candidates[final.trial], self.study.final_rung, final.seed)

    @property
    def _expected_finally(self) -> Mapping[int, float]:
        """PSNR in dB at the final steps by trial, from everything that is known."""
        return self.forecast(self.study.final_rung)

    def _contenders(self) -> list[finals.Contender]:
        taken = [(work.candidate.trial, work.seed) for work in self.training if work.seed is not None]
        contenders = finals.contenders_of(
            self.study, seconds=self._final_s, taken=taken, expected_db=self._expected_finally
        )
        if self.budget.seconds is None:
            return contenders
        room_s = FINALS_STRETCH * self._finals_share_s * self.workers
        return finals.affordable(contenders, room_s / FINALS_MARGIN)

    @property
    def _finals_share_s(self) -> float:
        """Seconds of the budget that are the finals'."""
        return self.study.config.final_share * (self.budget.seconds or 0.0)

    def _final_s(self, candidate: CandidateRecord) -> float:
        """Seconds of one final of a candidate."""
        assert self.study.config.final_steps is not None
        assert candidate.highest is not None
        step_s = self._step_s(candidate) or max(map(self._step_s, self.study.trained()))
        past = candidate.highest
        return step_s * self.study.config.final_steps + past.evaluate_s + past.compile_s

    def unfit_finals(self) -> str:
        """Say that the finals do not fit into their share of the budget; nothing where they do."""
        if self.budget.seconds is None or not self.study.config.final_steps:
            return ""
        least_s = finals.least_s(self._contenders())
        if least_s <= self._finals_share_s:
            return ""
        return (
            f"Finals of {self.study.config.final_steps} steps do not fit into their share of the budget, "
            f"{duration(self._finals_share_s)}: the first training takes {duration(least_s)}. Nothing will be "
            "compared; give a longer --budget, a larger --final-share, or another --study with fewer --final-steps."
        )

    def _kept_for_finals(self) -> float:
        """Seconds that the finals will take, up to their share of the budget; all once they have begun.

        Half as much again where that is what two rounds take: one training of each decides nothing.
        """
        if self.budget.seconds is None or not self.study.config.final_steps:
            return 0.0
        if self.finals_began:  # what is found from now on could not take part
            return math.inf
        if not self.study.trained():  # however large their share is, they need somebody to train
            return 0.0
        share = self._finals_share_s
        contenders = self._contenders()
        if finals.least_s(contenders) > share:  # not even one final of each kind would fit
            return 0.0
        planned = FINALS_MARGIN * finals.plan_s(contenders, workers=self.workers)
        rounds = FINALS_MARGIN * finals.rounds_s(contenders, workers=self.workers)
        return min(planned, rounds if share < rounds <= FINALS_STRETCH * share else share)

    # What proposals rest on

    def results(self) -> list[Known]:
        """Return what was trained so far, as the model of proposals reads it."""
        finished = [c for c in self.study.trained() if not c.failure]
        return [Known(c.spec, c.runtime_ms or math.inf, c.psnr_by_steps, self._first_s(c)) for c in finished]

    def _first_s(self, candidate: CandidateRecord) -> float:
        """Return what the first rung cost; 0 where it does not count, or was trained before a crash."""
        first = candidate.rungs[0]
        return first.seconds if self.budget.seconds is not None and first.train_s > 0 else 0.0

    def starting(self) -> list[ArchSpec]:
        """Return the networks that are trained for the first time now."""
        return [work.candidate.spec for work in self.training if not work.candidate.is_finished]

    def variation(self) -> ArchSpec | None:
        """For every second proposal beside TPE a small change of one of the best; None leaves it to the sampler.

        From tens of results TPE learns next to nothing about forty genes, and draws most of them at random; what is
        good is found near what is good. Source: Real et al. 2019, "Regularized Evolution for Image Classifier
        Architecture Search", arXiv 1802.01548; with the best kept instead of the youngest, for budgets are small.
        """
        number = len(self.study.candidates)
        parents = self._elite() if SAMPLERS[self.study.config.sampler].is_varied and number % 2 else []
        if not parents:
            return None
        rng = np.random.default_rng([self.study.config.seed, number])
        parent = parents[rng.integers(len(parents))]
        return variation(self.space, rng, parent.spec)

    def _elite(self) -> list[CandidateRecord]:
        """The best few at the first rung, where all were trained alike: by score, or by front after front."""
        standing = [c for c in self.study.at_rung(0) if self._is_member(c)]
        if self.study.config.objective == "score":
            standing.sort(key=lambda c: -c.score(0))
        else:
            ranked = pareto.ranks([(c.rungs[0].psnr_db, c.runtime_ms or math.inf) for c in standing])
            standing = [c for _, c in sorted(zip(ranked, standing, strict=True), key=lambda pair: pair[0])]
        return standing[:ELITE]

    def _is_member(self, candidate: CandidateRecord) -> bool:
        if candidate.trial not in self.members:
            self.members[candidate.trial] = self.space.contains(candidate.spec)
        return self.members[candidate.trial]

    # The end

    def require_hope(self) -> None:
        """Raise StudyError where the first candidates all failed: nothing more is worth trying."""
        failures = [c.failure for c in self.study.failed if not c.rungs]
        if len(failures) >= FATAL_FAILURES and not self.study.trained():
            raise StudyError(
                f"The first {len(failures)} candidates all failed, the last one because: {failures[-1]} "
                "Nothing more is tried; mend the cause and start a new study."
            )
