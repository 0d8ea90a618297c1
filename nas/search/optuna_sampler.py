"""Optuna's part: propose genes and learn from results.

Optuna works in memory. What it holds is derived: `expected_trials` says, from the study's records, which trials it must
hold when a search goes on. `nas.search.optuna_database` writes the same for other tools to read.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from nas.search.candidate import CandidateRecord
from nas.search.samplers import SAMPLERS
from nas.search.score import final_score
from nas.search.study import StudyRecord
from nas.search.successive_halving import OBJECTIVES
from search_spaces.errors import StudyError
from search_spaces.space import SearchSpace
from search_spaces.spec import GENES, ArchSpec, Value

optuna.logging.set_verbosity(optuna.logging.ERROR)

CONSTRAINT = "runtime_over_limit"  # the name that databases hold; memory over its limit is part of the value

Propose = Callable[[], ArchSpec | None]


class ModelSampler(optuna.samplers.BaseSampler):
    """Optuna's face of a model of the results: it suggests the genes of what `propose` returns.

    Where nothing is proposed, genes are drawn at random.
    """

    def __init__(
        self,
        propose: Propose,
        parameters: Callable[[ArchSpec], dict[str, Any]],
        distributions: dict[str, BaseDistribution],
        seed: int,
    ) -> None:
        """`parameters` maps a network to values of the `distributions`."""
        self._propose, self._parameters, self._distributions = propose, parameters, distributions
        self._random = optuna.samplers.RandomSampler(seed=seed)

    def infer_relative_search_space(
        self,
        study: optuna.Study,  # noqa: ARG002 (Optuna's interface)
        trial: FrozenTrial,  # noqa: ARG002
    ) -> dict[str, BaseDistribution]:
        """Return the distributions of all genes: they are chosen together."""
        return {name: each for name, each in self._distributions.items() if not each.single()}

    def sample_relative(
        self,
        study: optuna.Study,  # noqa: ARG002 (Optuna's interface)
        trial: FrozenTrial,  # noqa: ARG002
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, Any]:
        """Return the genes of the next proposal."""
        spec = self._propose()
        chosen = {} if spec is None else self._parameters(spec)
        return {name: chosen[name] for name in search_space if name in chosen}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draw one gene at random."""
        return self._random.sample_independent(study, trial, param_name, param_distribution)


@dataclass(frozen=True)
class Proposal:
    """What Optuna asks to be tried: genes as drawn, and the network they mean."""

    trial: int
    genes: dict[str, Value]
    spec: ArchSpec
    notes: dict[str, Any]  # what the sampler keeps with the trial, such as its generation


class Proposer:
    """Asks Optuna for candidates of one study and tells it the results at the first rung."""

    def __init__(self, study: StudyRecord, space: SearchSpace, propose: Propose = lambda: None) -> None:
        """`propose` is what the sampler "model" asks for its next network."""
        self._propose = propose
        self._config = study.config
        self._space = space
        self._optuna = self._open(study)

    def ask(self, spec: ArchSpec | None = None) -> Proposal:
        """Return the next proposal; with `spec`, that network is the one proposed."""
        self._optuna.sampler = self._sampler(self._asked)
        self._asked += 1
        if spec is not None:
            self._optuna.enqueue_trial(self._parameters(self._space.genes_of(spec)))
        self._trial = self._optuna.ask()
        genes: dict[str, Value] = {}

        def choose(gene: str, values: tuple[Value, ...], ordered: bool) -> Value:
            genes[gene] = self._suggest(gene, values, ordered)
            return genes[gene]

        drawn = self._space.sample(choose)
        return Proposal(self._trial.number, genes, drawn, self._notes())

    def constrain(self, candidate: CandidateRecord) -> None:
        """Tell Optuna, before any result, whether the proposal just asked for is feasible."""
        assert candidate.trial == self._trial.number
        self._trial.set_constraint(CONSTRAINT, _constraint(candidate))

    def tell(self, candidate: CandidateRecord, original: CandidateRecord | None = None) -> None:
        """Tell Optuna what came of a candidate; `original` is the one that a duplicate repeats."""
        expected = expected_of(candidate, self._config.objective, original)
        self._optuna.tell(candidate.trial, expected.values, state=expected.state)

    def _notes(self) -> dict[str, Any]:
        """Return the sampler's own attributes of the trial just asked for; without them NSGA-II forgets generations."""
        prefix = SAMPLERS[self._config.sampler].notes
        if prefix is None:
            return {}
        attributes = self._optuna._storage.get_trial_system_attrs(self._trial._trial_id)
        return {name: value for name, value in attributes.items() if name.startswith(prefix)}

    def _suggest(self, gene: str, values: tuple[Value, ...], ordered: bool) -> Value:
        if ordered:
            return values[self._trial.suggest_int(gene, 0, len(values) - 1)]
        return str(self._trial.suggest_categorical(gene, values))

    def _parameters(self, genes: dict[str, Value]) -> dict[str, Any]:
        """Return genes as Optuna holds them: the position of an ordered value, the value of another."""
        return {n: self._space.values(n).index(v) if GENES[n].ordered else v for n, v in genes.items()}

    @cached_property
    def _distributions(self) -> dict[str, BaseDistribution]:
        def of(name: str) -> BaseDistribution:
            values = self._space.values(name)
            return IntDistribution(0, len(values) - 1) if GENES[name].ordered else CategoricalDistribution(values)

        return {name: of(name) for name in GENES}

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        """Return a sampler whose seed is a function of the study's seed and the trials so far.

        One built with the same seed after a restart would repeat its first proposals.
        """
        seed = int(np.random.SeedSequence([self._config.seed, number]).generate_state(1)[0])
        sampler = SAMPLERS[self._config.sampler]
        if sampler.optuna is None:  # it is the model
            return ModelSampler(
                self._propose, lambda spec: self._parameters(self._space.genes_of(spec)), self._distributions, seed
            )
        made: optuna.samplers.BaseSampler = getattr(optuna.samplers, sampler.optuna)(seed=seed, **sampler.options)
        return made

    def _open(self, study: StudyRecord) -> optuna.Study:
        """Return a study in memory that holds what the records say."""
        made = optuna.create_study(directions=OBJECTIVES[study.config.objective])
        for trial, expected in enumerate(expected_trials(study)):
            try:
                made.add_trial(self._frozen(expected))
            except (KeyError, ValueError):
                raise StudyError(
                    f"Trial {trial} of study {study.config.name} is no member of the space {self._space.name} on this "
                    "device; the records belong to another study."
                ) from None
        self._asked = len(study.candidates)
        return made

    def _frozen(self, expected: "Expected") -> FrozenTrial:
        constraints = {} if expected.constraint is None else {CONSTRAINT: expected.constraint}
        return create_trial(
            state=expected.state,
            values=expected.values,
            params=self._parameters({name: expected.genes.get(name, gene.default) for name, gene in GENES.items()}),
            distributions=self._distributions,
            system_attrs=dict(expected.notes),
            constraints=constraints,
        )


@dataclass(frozen=True)
class Expected:
    """What Optuna must hold about one trial, given the records."""

    genes: dict[str, Value]
    state: TrialState
    values: list[float] | None = None
    constraint: float | None = None
    notes: dict[str, Any] = field(default_factory=dict)


def expected_trials(study: StudyRecord) -> list[Expected]:
    """Return Optuna's trials as the records imply them, in order of their numbers."""
    known = study.candidates
    return [
        replace(
            expected_of(c, study.config.objective, known[c.duplicate_of] if c.duplicate_of is not None else None),
            notes=c.sampler_notes,
        )
        for _, c in sorted(known.items())
    ]


def expected_of(candidate: CandidateRecord, objective: str, original: CandidateRecord | None) -> Expected:
    """Infeasible is PRUNED with its constraint, never FAIL: told FAIL, TPE goes on proposing the same region."""
    judged, constraint = original or candidate, _constraint(candidate)
    if constraint > 0:
        return Expected(candidate.genes, TrialState.PRUNED, constraint=constraint)
    if 0 in judged.rungs:
        return Expected(candidate.genes, TrialState.COMPLETE, _values(judged, objective), constraint)
    state = TrialState.FAIL if judged.failure else TrialState.RUNNING
    return Expected(candidate.genes, state, constraint=constraint)


def _values(judged: CandidateRecord, objective: str) -> list[float]:
    """Return the objectives at the first rung: the one fidelity that every candidate has."""
    assert judged.runtime_ms is not None
    psnr = judged.rungs[0].psnr_db
    return [final_score(psnr, judged.runtime_ms)] if objective == "score" else [psnr, judged.runtime_ms]


def _constraint(candidate: CandidateRecord) -> float:
    """Return how far over the limits; 1 for an operation that the device cannot run, 0 for a feasible one."""
    if candidate.verdict not in ("infeasible", "unsupported"):
        return 0.0
    return candidate.violation if candidate.violation else 1.0
