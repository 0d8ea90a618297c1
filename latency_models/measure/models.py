"""Write probes and candidates as .tflite files, to be timed on this machine, on a phone, or by a person."""

from collections.abc import Callable, Iterable
from math import prod
from pathlib import Path

import numpy as np

from latency_models import other_probes, probes
from latency_models.other_probes import OtherProbe
from latency_models.probes import Probe
from search_spaces.graph import Graph
from search_spaces.space import load_space
from search_spaces.system.atomic_write import write_durably

Report = Callable[[int, int], None]  # (done, in all)
# For so many probes of our networks' operations there is one of an operation that only other networks have.
PER_OTHER = 10


def planned(
    probe_count: int, candidate_count: int, *, seed: int = 0, largest_side: int | None = None
) -> list[Probe | OtherProbe]:
    """Return what is to be timed: whole networks first, whose times are worth most if there is no time for the rest."""
    whole = list(probes.candidates(load_space("mai21"), candidate_count, seed=seed))
    others = other_probes.plan(probe_count // PER_OTHER, seed=seed, largest_side=largest_side)
    return [*whole, *probes.plan(probe_count, seed=seed, largest_side=largest_side), *others]


def write_models(planned: Iterable[Probe | OtherProbe], folder: Path, *, report: Report | None = None) -> list[Path]:
    """Convert networks into `folder` and return their files; a file that is there is kept, as it was timed perhaps.

    Weights are random: they do not change how long a network takes.
    """
    todo = list(planned)
    paths = [folder / f"{probe.name}.tflite" for probe in todo]
    for done, (probe, path) in enumerate(zip(todo, paths, strict=True)):
        if report:
            report(done, len(todo))
        if not path.exists():
            write_durably(path, probe.content if isinstance(probe, OtherProbe) else _tflite(probe.graph))
    if report:
        report(len(todo), len(todo))
    return paths


def _tflite(graph: Graph) -> bytes:
    from search_spaces import lower_tf  # loads TensorFlow, which takes many seconds

    return lower_tf.to_tflite(graph, random_weights(graph))


def random_weights(graph: Graph) -> dict[str, "np.ndarray[tuple[int, ...], np.dtype[np.float32]]"]:
    """Return weights that keep maps near one, so that no time is spent on infinities."""
    rng = np.random.default_rng(0)
    return {
        name: (rng.standard_normal(shape) / np.sqrt(max(1, prod(shape[:-1])))).astype(np.float32)
        for name, shape in graph.parameter_shapes.items()
    }
