"""How much each gene decides whether a candidate is among the best: Optuna's PED-ANOVA over the first rung.

Source: Watanabe et al., PED-ANOVA, IJCAI 2023. It tells, of each gene on its own, by how much its values among the best
tenth differ from those among all.
"""

import warnings
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

from nas.search.candidate import CandidateRecord
from nas.search.study import StudyRecord
from search_spaces.spec import GENES

optuna.logging.set_verbosity(optuna.logging.ERROR)

FEWEST = 10  # candidates from which anything can be said
BEST_SHARE = 0.1


class _Choices(CategoricalDistribution):
    """Values of a gene, which all trials share: Optuna copies them with every trial, which takes most of the time."""

    def __deepcopy__(self, _: object) -> "_Choices":
        return self


def gene_importances(study: StudyRecord) -> dict[str, float]:
    """Return by gene its share of importance, the greatest first; empty where too few candidates were trained."""
    trained = study.trained()
    if len(trained) < FEWEST:
        return {}
    genes = [_genes(candidate) for candidate in trained]
    values = {name: sorted({each[name] for each in genes}) for name in GENES}
    distributions = {name: _Choices(each) for name, each in values.items() if len(each) > 1}
    if not distributions:
        return {}
    made = optuna.create_study(direction="maximize")
    made.add_trials([_trial(c.score(0), each, distributions) for c, each in zip(trained, genes, strict=True)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the method is experimental
        evaluator = PedAnovaImportanceEvaluator(target_quantile=max(BEST_SHARE, 3 / len(trained)))
        importances = get_param_importances(made, evaluator=evaluator)
    return {name: float(share) for name, share in importances.items()}


def _genes(candidate: CandidateRecord) -> dict[str, str]:
    """Return all genes as text; one without an effect has a value that no other has."""
    active = candidate.spec.active_genes
    return {name: str(active.get(name, "no effect")) for name in GENES}


def _trial(score: float, genes: dict[str, str], distributions: dict[str, Any]) -> optuna.trial.FrozenTrial:
    params = {name: genes[name] for name in distributions}
    return optuna.trial.create_trial(value=score, params=params, distributions=distributions)
