"""Decide on a proposal before any training: it repeats a network, the device refuses it, or it is trained.

Pure functions of the records and of the device, which tells what a network costs.
"""

from dataclasses import asdict, replace
from functools import cache
from typing import Any

from latency_models.device import Device
from latency_models.kernels import network
from latency_models.memory import peak_bytes
from latency_models.predictor import Prediction
from nas.search.candidate import CandidateRecord
from nas.search.constraints import Limits
from nas.search.proposals import Cost
from nas.search.study import StudyRecord
from search_spaces.graph import Graph
from search_spaces.networks import build_graph
from search_spaces.ops import Activation
from search_spaces.spec import ArchSpec


@cache
def structure_of(spec: ArchSpec) -> str:
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


class Admission:
    """The networks that a study knows, by structure: two specs may still mean one network."""

    def __init__(self, study: StudyRecord, device: Device) -> None:
        self._study, self._device = study, device
        self._first_of: dict[str, CandidateRecord] = {}
        self._twins: dict[str, CandidateRecord] = {}
        for candidate in study.candidates.values():
            self.add(candidate)

    @property
    def limits(self) -> Limits:
        """The limits of the study."""
        return Limits(self._study.config.max_runtime_ms, self._study.config.max_memory_mb)

    def add(self, candidate: CandidateRecord) -> None:
        """Take a new candidate into account."""
        self._first_of.setdefault(structure_of(candidate.spec), candidate)
        if candidate.verdict == "train":
            self._twins.setdefault(_twin(build_graph(candidate.spec)), candidate)

    def known(self, spec: ArchSpec) -> CandidateRecord | None:
        """Return the first candidate that is this network."""
        return self._first_of.get(structure_of(spec))

    def is_known(self, graph: Graph) -> bool:
        """Tell whether a network was asked for before, or one that computes the same in all likelihood."""
        return self._same_as(graph) is not None

    def _same_as(self, graph: Graph) -> CandidateRecord | None:
        """Return the first candidate that is this network, or else one that is trained and computes the same."""
        return self._first_of.get(graph.structure) or self._twins.get(_twin(graph))

    def judge(self, spec: ArchSpec) -> dict[str, Any]:
        """Return the verdict on a proposal, with what is predicted of it, as the records have them."""
        known = self._same_as(build_graph(spec))
        return self.judge_new(spec) if known is None else self._repeat(known)

    def judge_new(self, spec: ArchSpec) -> dict[str, Any]:
        """Whether a network never seen before is worth training: can the device run it, fast enough, in memory?"""
        on_device = network(build_graph(spec))
        allow_fallback = self._study.config.allow_fallback
        refused = self._device.refusal(on_device, allow_fallback=allow_fallback)
        if refused:
            return {"verdict": "unsupported", "reason": refused}
        prediction = self._device.predict_network(on_device, allow_fallback=allow_fallback)
        return self._within_limits(prediction, peak_bytes(on_device) / 1e6)

    def price(self, spec: ArchSpec) -> Cost | None:
        """Return what a network costs, None where the device cannot run it."""
        judged = self.judge_new(spec)
        if judged["verdict"] == "unsupported":
            return None
        return Cost(judged["runtime_ms"], judged.get("violation", 0.0), judged["peak_memory_mb"])

    def _repeat(self, known: CandidateRecord) -> dict[str, Any]:
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
        excess = self.limits.excess(runtime_ms=prediction.runtime_ms, peak_memory_mb=peak_memory_mb)
        return predicted | ({"verdict": "infeasible", **asdict(excess)} if excess else {"verdict": "train"})
