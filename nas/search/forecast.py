"""Predict what every candidate will come to at the final steps, from what is known at one rung.

A rung's own PSNR holds the luck of one training, and favours networks that train fast. The model of all results
(`nas.search.surrogate`) weighs it with those of similar networks, and adds what networks of such a structure still gain
from there on. All candidates of a rung are predicted from no more than that rung, so that one which climbed on is
compared with the others as they are.
"""

from collections.abc import Mapping

from nas.search.candidate import Candidate
from nas.search.study import Study
from nas.search.surrogate import Prior, Result, Surrogate

# With fewer candidates at a rung, its own figures say as much.
FEWEST = 8


class Forecast:
    """Predictions for the candidates of one study; each is a function of the study's records."""

    def __init__(self, study: Study, prior: Prior | None) -> None:
        """`prior` is that of `nas.search.surrogate`."""
        self._study, self._prior = study, prior
        self._known: dict[int, tuple[tuple[int, ...], dict[int, float]]] = {}  # by rung, with what it rests on

    def __call__(self, rung: int) -> Mapping[int, float]:
        """Return PSNR in dB at the final steps by trial for all who reached `rung`; empty where these are few."""
        reached = tuple(len(self._study.at_rung(each)) for each in range(self._study.final_rung))
        if self._known.get(rung, ((), {}))[0] != reached:
            self._known[rung] = reached, self._predicted(rung)
        return self._known[rung][1]

    def _predicted(self, rung: int) -> dict[int, float]:
        standing = self._study.at_rung(rung)
        if len(standing) < FEWEST:
            return {}
        model = Surrogate(
            [_result(candidate, rung) for candidate in standing],
            steps=self._study.ladder[-1],
            prior=self._prior,
            curves=[_result(candidate, self._study.final_rung) for candidate in self._study.trained()],
        )
        means, _ = model.predict([candidate.spec for candidate in standing])
        return {candidate.trial: float(mean) for candidate, mean in zip(standing, means, strict=True)}


def _result(candidate: Candidate, highest: int) -> Result:
    return Result(candidate.spec, {r.steps: r.psnr_db for rung, r in candidate.rungs.items() if rung <= highest})
