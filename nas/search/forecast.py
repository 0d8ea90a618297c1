"""Predict what every candidate will come to at the final steps, from what is known at one rung.

A rung's own PSNR holds the luck of one training, and favours networks that train fast. The model of all results
(`nas.search.surrogate`) weighs it with those of similar networks, and adds what networks of such a structure still gain
from there on. All candidates of a rung are predicted from no more than that rung, so that one which climbed on is
compared with the others as they are.
"""

from collections.abc import Mapping

from nas.search.candidate import CandidateRecord
from nas.search.study import StudyRecord
from nas.search.surrogate import Prior, Result, Surrogate

# With fewer candidates at a rung, its own figures say as much.
FEWEST = 8


class Forecast:
    """Predictions for the candidates of one study; each is a function of the study's records."""

    def __init__(self, study: StudyRecord, prior: Prior | None) -> None:
        """`prior` is that of `nas.search.surrogate`."""
        self._study, self._prior = study, prior
        self._known: dict[int, tuple[tuple[int, ...], dict[int, float]]] = {}  # by rung, with what it rests on

    def __call__(self, rung: int) -> Mapping[int, float]:
        """Return PSNR in dB at the final steps by trial, for all who reached `rung`; empty where these are few.

        At the rung of the finals: for all who were trained, from everything that is known of them.
        """
        rests_on = self._study.counts
        if self._known.get(rung, ((), {}))[0] != rests_on:
            self._known[rung] = rests_on, self._predicted(rung)
        return self._known[rung][1]

    def _predicted(self, rung: int) -> dict[int, float]:
        ladder, rungs = self._study.ladder, self._study.config.rungs
        standing, steps = self._study.trained(), ladder[-1]
        if rung < len(rungs):
            standing, steps = self._study.at_rung(rung), rungs[rung]
        if len(standing) < FEWEST:
            return {}
        model = Surrogate(
            [_result(candidate, steps) for candidate in standing],
            steps=ladder[-1],
            prior=self._prior,
            curves=[_result(candidate, ladder[-1]) for candidate in self._study.trained()],
        )
        return {c.trial: float(psnr_db) for c, psnr_db in zip(standing, model.of_results(), strict=True)}


def _result(candidate: CandidateRecord, most_steps: int) -> Result:
    return Result(candidate.spec, {at: db for at, db in candidate.psnr_by_steps.items() if at <= most_steps})
