"""Summarise the records of an audit: how well each rung predicts the long training.

Pure: from records to figures. `audit.json` holds both, and a test recomputes the one from the other.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from nas.audit import rank_agreement
from nas.audit.rank_agreement import BySeed
from nas.audit.trainings import ENOUGH, AuditPlan, AuditRecord
from nas.search.score import final_score
from nas.search.successive_halving import ETA
from search_spaces.networks import build_graph

SCHEMA = 1
MEASURES = {"spearman": rank_agreement.spearman, "kendall": rank_agreement.kendall}


@dataclass(frozen=True)
class Audited:
    """The records of a plan, its networks with what they are called, and their predicted runtimes (None: unknown)."""

    names: Mapping[str, str]  # by hash
    runtimes_ms: Mapping[str, float | None]
    seeds: tuple[int, ...]
    ladders: tuple[tuple[int, ...], ...]
    steps: int
    records: tuple[AuditRecord, ...]

    @cached_property
    def left_out(self) -> dict[str, str]:
        """Why a network takes no part, by hash: a training of it failed, or is not done."""
        failed = {r.hash: f"seed {r.seed}, {r.horizon} steps: {r.failure}" for r in self.records if r.failure}
        wanted = {(self.steps, self.steps), *((rungs[-1], steps) for rungs in self.ladders for steps in rungs)}
        undone = {
            hash_: "not all of its trainings are done"
            for hash_ in self.names
            if any((hash_, seed, *at) not in self._by_place for seed in self.seeds for at in wanted)
        }
        return {hash_: why for hash_, why in (undone | failed).items() if hash_ in self.names}

    @cached_property
    def hashes(self) -> list[str]:
        """The networks that take part."""
        return [hash_ for hash_ in self.names if hash_ not in self.left_out]

    @cached_property
    def scored(self) -> list[int]:
        """The places in `hashes` of those that have a score: their runtime is known."""
        return [place for place, hash_ in enumerate(self.hashes) if self.runtimes_ms.get(hash_) is not None]

    @cached_property
    def _by_place(self) -> dict[tuple[str, int, int, int], AuditRecord]:
        return {(r.hash, r.seed, r.horizon, r.steps): r for r in self.records}

    def psnr_db(self, total_steps: int, steps: int) -> BySeed:
        """Return the validation PSNR of trainings over `total_steps` at `steps`."""
        at = [[self._by_place[h, seed, total_steps, steps].psnr_db for seed in self.seeds] for h in self.hashes]
        return np.array(at, float).reshape(len(self.hashes), len(self.seeds))

    def score(self, total_steps: int, steps: int) -> BySeed:
        """Return the challenge's score of those that have one."""
        psnr_db = self.psnr_db(total_steps, steps)[self.scored]
        bonus = [final_score(0.0, self.runtimes_ms[self.hashes[place]] or 0.0) for place in self.scored]
        scores: BySeed = psnr_db + np.array(bonus).reshape(-1, 1)
        return scores

    def train_s(self, total_steps: int, steps: int) -> float | None:
        """Return the mean seconds of training until `steps`, from the pace of whole trainings; None if unknown."""
        paces = [self._pace(h, seed, total_steps) for h in self.hashes for seed in self.seeds]
        known = [pace for pace in paces if pace is not None]
        return steps * float(np.mean(known)) if known else None

    def _pace(self, hash_: str, seed: int, total_steps: int) -> float | None:
        timed = [
            (r.train_s, r.steps - r.from_step)
            for r in self.records
            if (r.hash, r.seed, r.horizon) == (hash_, seed, total_steps) and r.train_s is not None
        ]
        steps = sum(n for _, n in timed)
        return sum(seconds for seconds, _ in timed) / steps if steps else None


def audited(plan: AuditPlan, records: Iterable[AuditRecord], runtimes_ms: Mapping[str, float | None]) -> Audited:
    """Return records with what is needed to judge them."""
    names = {network.spec.hash: network.name for network in plan.networks}
    return Audited(names, runtimes_ms, plan.seeds, plan.ladders, plan.steps, tuple(records))


def rung_rows(of: Audited) -> list[dict[str, Any]]:
    """Return one row per ladder and rung, under the names that programs rely on; None stands for unknown."""
    return [_rung_row(of, ladder[-1], steps) for ladder in of.ladders for steps in ladder]


def _rung_row(of: Audited, top: int, steps: int) -> dict[str, Any]:
    psnr_db, score = of.psnr_db(top, steps), of.score(top, steps)
    truth_db, true_score = of.psnr_db(of.steps, of.steps), of.score(of.steps, of.steps)
    count, best = rank_agreement.kept_of_the_best(score, true_score, eta=ETA) if len(score) else (None, 0)
    return {
        "steps": steps,
        "top": top,
        "one_run_with_truth": top == of.steps,
        **_estimates("psnr", psnr_db, truth_db),
        **_estimates("score", score, true_score),
        "psnr_spearman_one_seed": rank_agreement.one_seed(rank_agreement.spearman, psnr_db, truth_db),
        "score_spearman_one_seed": rank_agreement.one_seed(rank_agreement.spearman, score, true_score),
        "best_quarter": best,
        "best_quarter_kept": count,
        "seed_std_db": rank_agreement.seed_spread(psnr_db),
        "network_std_db": rank_agreement.network_spread(psnr_db),
        "train_s": of.train_s(top, steps),
    }


def _estimates(of_what: str, short: BySeed, truth: BySeed) -> dict[str, float | None]:
    row: dict[str, float | None] = {}
    for name, statistic in MEASURES.items():
        for part, value in asdict(rank_agreement.estimate(statistic, short.mean(1), truth.mean(1))).items():
            row[f"{of_what}_{name}" + ("" if part == "value" else f"_{part}")] = value
    return row


def ladder_rows(of: Audited) -> list[dict[str, Any]]:
    """Return one row per ladder: what it costs per network, and how good the one is that it chooses."""
    return [_ladder_row(of, ladder) for ladder in of.ladders]


def _ladder_row(of: Audited, ladder: Sequence[int]) -> dict[str, Any]:
    scores, truth = [of.score(ladder[-1], steps) for steps in ladder], of.score(of.steps, of.steps)
    return {
        "ladder": list(ladder),
        "one_run_with_truth": ladder[-1] == of.steps,
        "steps_per_network": _steps_per_network(ladder),
        "score_regret": rank_agreement.regret(scores, truth, eta=ETA) if len(truth) else None,
    }


def _steps_per_network(ladder: Sequence[int]) -> float:
    """Return the training steps that a candidate costs on average where the best 1/η of every rung climb."""
    before = [0, *ladder]
    return sum((steps - before[rung]) * (1 / ETA) ** rung for rung, steps in enumerate(ladder))


def truth(of: Audited) -> dict[str, Any]:
    """Return the long training's own figures: how far one seed of it agrees with the others is the ceiling."""
    psnr_db, score = of.psnr_db(of.steps, of.steps), of.score(of.steps, of.steps)
    return {
        "steps": of.steps,
        "networks": len(of.hashes),
        "networks_scored": len(of.scored),
        "psnr_spearman_one_seed": rank_agreement.one_seed(rank_agreement.spearman, psnr_db, psnr_db),
        "psnr_kendall_one_seed": rank_agreement.one_seed(rank_agreement.kendall, psnr_db, psnr_db),
        "score_spearman_one_seed": rank_agreement.one_seed(rank_agreement.spearman, score, score),
        "seed_std_db": rank_agreement.seed_spread(psnr_db),
        "network_std_db": rank_agreement.network_spread(psnr_db),
        "train_s": of.train_s(of.steps, of.steps),
    }


def derived(of: Audited) -> dict[str, Any]:
    """Return everything that follows from the records."""
    return {
        "left_out": [{"name": of.names[hash_], "reason": why} for hash_, why in of.left_out.items()],
        "truth": truth(of),
        "rungs": rung_rows(of),
        "ladders": ladder_rows(of),
    }


def to_dict(of: Audited, plan: AuditPlan, described: Mapping[str, Any]) -> dict[str, Any]:
    """Return an audit as plain data: `described` (data, device, provenance), figures, and the records behind them."""
    return {
        "schema": SCHEMA,
        **described,
        "recipe": {name: value for name, value in plan.recipe.to_dict().items() if name != "horizon"},
        "steps": of.steps,
        "seeds": list(of.seeds),
        **derived(of),
        "networks": [_network_row(of, network.spec) for network in plan.networks],
        "records": [asdict(record) for record in of.records],
    }


def _network_row(of: Audited, spec: Any) -> dict[str, Any]:
    graph = build_graph(spec)
    return {
        "name": of.names[spec.hash],
        "hash": spec.hash,
        "parameters": graph.parameters,
        "macs": graph.macs,
        "runtime_ms": of.runtimes_ms.get(spec.hash),
        "spec": spec.to_dict(),
    }


def from_dict(data: Mapping[str, Any]) -> Audited:
    """Read the records of what `to_dict` wrote; what is derived is not taken from there."""
    return Audited(
        names={n["hash"]: n["name"] for n in data["networks"]},
        runtimes_ms={n["hash"]: n["runtime_ms"] for n in data["networks"]},
        seeds=tuple(data["seeds"]),
        ladders=tuple(tuple(row["ladder"]) for row in data["ladders"]),
        steps=data["steps"],
        records=tuple(AuditRecord(**record) for record in data["records"]),
    )


def notes(of: Audited) -> list[str]:
    """Return what a reader must know beside the figures, one sentence each."""
    lines = [f"{of.names[hash_]} takes no part ({why})" for hash_, why in of.left_out.items()]
    if len(of.hashes) < ENOUGH:
        lines.append(f"{len(of.hashes)} networks: a rank correlation over fewer than {ENOUGH} says little")
    if len(of.scored) < len(of.hashes):
        without = [of.names[h] for place, h in enumerate(of.hashes) if place not in of.scored]
        lines.append(f"without a predicted runtime, and so without a score: {', '.join(without)}")
    if any(ladder[-1] == of.steps for ladder in of.ladders):
        lines.append(
            f"*: one run with the {of.steps} steps themselves, so both share their luck, except where one seed is "
            "compared with the others"
        )
    if len(of.seeds) == 1:
        lines.append("one seed: luck and structure cannot be told apart")
    return lines
