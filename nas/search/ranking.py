"""Which candidates of a rung deserve to climb: the order in which successive halving takes them."""

from collections.abc import Callable, Iterable, Mapping

from nas.search.study import StudyRecord
from nas.search.successive_halving import AtRung, best_first


class Ranking:
    """The candidates of one study at each rung, best first; sorted again only when something was reached since."""

    def __init__(self, study: StudyRecord, forecast: Callable[[int], Mapping[int, float]]) -> None:
        """`forecast` returns PSNR in dB at the final steps by trial, predicted from a rung; empty where nothing is."""
        self._study, self._forecast = study, forecast
        self._known: dict[int, tuple[tuple[int, ...], list[int]]] = {}  # by rung, with what it rests on

    def __call__(self, rung: int) -> Iterable[int]:
        """Return the trials that reached `rung`, by prediction where there is one, else by the rung's own figures."""
        if self._study.config.objective == "score" and not self._forecast(rung):
            return (trial for _, trial in self._study.ranked[rung])  # which the study keeps in order
        rests_on = self._study.counts
        if self._known.get(rung, ((), []))[0] != rests_on:
            self._known[rung] = rests_on, self._sorted(rung)
        return self._known[rung][1]

    def _sorted(self, rung: int) -> list[int]:
        expected_db = self._forecast(rung)
        reached = (
            AtRung(c.trial, expected_db.get(c.trial, c.rungs[rung].psnr_db), c.runtime_ms)
            for c in self._study.at_rung(rung)
            if c.runtime_ms is not None
        )
        return best_first(reached, self._study.config.objective)
