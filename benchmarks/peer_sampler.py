"""Other tools' samplers behind one interface, each in a Python of its own: started by `search_efficiency.py`.

    python -m venv peers/smac && peers/smac/bin/pip install smac
    python -m venv peers/optuna-gp && peers/optuna-gp/bin/pip install optuna torch

It reads a line of JSON with the genes and a seed, then one per proposal with what came of networks since: which of its
own proposals it was (null: a published design), positions of its genes' values, and the score. It answers each with a
line: the positions of the next network. Nothing of isp-nas is imported here.
"""

import json
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

# Networks of SMAC3's initial design: a quarter of the 40 that a budget of 600 s trains, as it allows itself. Its usual
# ten per gene would be all of the search.
SMAC_DESIGN = 10
Genes = Mapping[str, Mapping[str, Any]]  # by name: how many "values" there are, and whether they are "ordered"


class OptunaGP:
    """Optuna's Gaussian process, which needs PyTorch."""

    def __init__(self, genes: Genes, seed: int) -> None:
        import optuna
        from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._distributions: dict[str, BaseDistribution] = {
            name: IntDistribution(0, gene["values"] - 1)
            if gene["ordered"]
            else CategoricalDistribution([*range(gene["values"])])
            for name, gene in genes.items()
        }
        self._study = optuna.create_study(direction="maximize", sampler=optuna.samplers.GPSampler(seed=seed))
        self._trials: list[Any] = []

    def ask(self) -> dict[str, int]:
        self._trials.append(self._study.ask(self._distributions))
        return {name: int(value) for name, value in self._trials[-1].params.items()}

    def tell(self, number: int | None, positions: Mapping[str, int], score: float) -> None:
        import optuna

        if number is None:
            known = optuna.trial.create_trial(params=dict(positions), distributions=self._distributions, value=score)
            self._study.add_trial(known)
        else:
            self._study.tell(self._trials[number], score)


def _trained_elsewhere(config: Any, seed: int) -> float:
    raise NotImplementedError(f"{config} from seed {seed} is trained by the search")


class Smac:
    """SMAC3's default for mixed spaces: a random forest and log expected improvement (Lindauer et al. 2022)."""

    def __init__(self, genes: Genes, seed: int) -> None:
        from ConfigSpace import Categorical, ConfigurationSpace, Integer
        from smac import HyperparameterOptimizationFacade, Scenario

        free = {name: gene for name, gene in genes.items() if gene["values"] > 1}
        self._fixed = {name: 0 for name in genes if name not in free}
        self._space = ConfigurationSpace(seed=seed)
        for name, gene in free.items():
            count = gene["values"]
            self._space.add(Integer(name, (0, count - 1)) if gene["ordered"] else Categorical(name, [*range(count)]))
        scenario = Scenario(
            self._space, n_trials=100_000, deterministic=True, seed=seed, output_directory=tempfile.mkdtemp()
        )
        facade = HyperparameterOptimizationFacade
        design = facade.get_initial_design(scenario, n_configs=SMAC_DESIGN)
        self._facade = facade(scenario, _trained_elsewhere, initial_design=design, overwrite=True, logging_level=50)
        self._infos: list[Any] = []

    def ask(self) -> dict[str, int]:
        self._infos.append(self._facade.ask())
        return self._fixed | {name: int(value) for name, value in dict(self._infos[-1].config).items()}

    def tell(self, number: int | None, positions: Mapping[str, int], score: float) -> None:
        from ConfigSpace import Configuration
        from smac.runhistory.dataclasses import TrialInfo, TrialValue

        if number is None:
            free = {name: at for name, at in positions.items() if name not in self._fixed}
            info = TrialInfo(Configuration(self._space, free), seed=0)
        else:
            info = self._infos[number]
        self._facade.tell(info, TrialValue(cost=-score, time=1.0))


PEERS = {"optuna-gp": OptunaGP, "smac": Smac}


def main() -> None:
    started = json.loads(sys.stdin.readline())
    out, sys.stdout = sys.stdout, sys.stderr  # what a library prints is no answer
    peer: Any = PEERS[sys.argv[1]](started["genes"], started["seed"])
    for line in sys.stdin:
        for each in json.loads(line):
            peer.tell(each["number"], each["positions"], each["score"])
        out.write(json.dumps(peer.ask()) + "\n")
        out.flush()


if __name__ == "__main__":
    main()
