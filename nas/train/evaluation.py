"""Evaluate a network on pairs: mean PSNR and SSIM of a whole set, compiled once per shape."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nas.data.pairs import DataConfig, PairSet, find_pairs, load_split
from nas.data.raw_format import pack
from nas.train import checkpoint, metrics
from nas.train.step import EXECUTABLES
from search_spaces import lower_flax, lower_quantised
from search_spaces.graph import Graph
from search_spaces.networks import build_graph
from search_spaces.quantised_maps import QuantisedMaps
from search_spaces.spec import ArchSpec

# Validation runs this many pixels of the mosaic at once: eight pairs of the challenge's size.
# After fewer steps a network may still be as it began; above so many dB it shows more than a colour.
BROKEN_FROM, BROKEN_BELOW_DB = 100, 20.0
EVALUATION_PIXELS = 8 * 256 * 256


@dataclass(frozen=True)
class Quality:
    """Mean PSNR in dB and SSIM over a set of pairs."""

    psnr_db: float
    ssim: float


class Evaluator:
    """A network compiled to be judged on one set of pairs, again and again with other weights."""

    def __init__(self, graph: Graph, pairs: PairSet, quantised: QuantisedMaps | None = None) -> None:
        """With `quantised` the network is judged as an int8 file computes it."""
        self._pairs = pairs
        self._batch, h, w = judged_at_once(pairs)
        self._network = executable(graph, (self._batch, h // 2, w // 2, 4), quantised)

    def quality(self, parameters: checkpoint.Arrays) -> Quality:
        """Return the mean quality over all pairs, each at its full size."""
        network = partial(self._network, jax.tree.map(jnp.asarray, parameters))
        return quality_of(network, self._pairs, batch=self._batch)

    def outputs(self, parameters: checkpoint.Arrays, index: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return what the network makes of some pairs, float32 [n, h, w, 3]."""
        network = partial(self._network, jax.tree.map(jnp.asarray, parameters))
        filled = np.resize(index, -(-len(index) // self._batch) * self._batch)  # repeats some, to keep the shape
        parts = filled.reshape(-1, self._batch)
        made = [np.asarray(network(network_input(self._pairs, part))) for part in parts]
        return np.concatenate(made)[: len(index)]


@lru_cache(maxsize=EXECUTABLES)
def executable(
    graph: Graph, packed: tuple[int, int, int, int], quantised: QuantisedMaps | None = None
) -> Callable[..., jax.Array]:
    """Compile a network for batches of that shape; kept like the compiled steps, and for the same reason."""
    ranges = quantised.first_logarithms if quantised else {}
    shapes = graph.parameter_shapes | {name: value.shape for name, value in ranges.items()}
    weights = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}
    x = jax.ShapeDtypeStruct(packed, jnp.float32)
    jitted: Any = lower_quantised.jit_apply(graph, quantised) if quantised else lower_flax.jit_apply(graph)
    network: Callable[..., jax.Array] = jitted.lower(weights, x).compile()
    return network


def is_broken(quality: Quality, steps: int, pairs: PairSet) -> bool:
    """Tell whether what came of a training is worth less than pictures of one colour, the mean of all targets."""
    return steps >= BROKEN_FROM and quality.psnr_db < BROKEN_BELOW_DB and quality.psnr_db < flat_psnr_db(pairs)


def worth_nothing(quality: Quality, steps: int) -> str:
    """Say that a training came to nothing."""
    return (
        f"Training broke the network: after {steps} steps it makes pictures that are worth less than one colour, "
        f"{quality.psnr_db:.2f} dB; a smaller learning rate may help."
    )


def flat_psnr_db(pairs: PairSet) -> float:
    """Return the mean PSNR in dB of pictures of one colour, the mean of all targets."""
    colour = np.mean([target.mean((0, 1)) for target in pairs.rgb], axis=0) / 255
    errors = [float(((target / np.float32(255) - colour) ** 2).mean()) for target in pairs.rgb]
    return float(np.mean([-10 * math.log10(max(error, 1e-10)) for error in errors]))


def judge(graph: Graph, parameters: checkpoint.Arrays, pairs: PairSet) -> Quality:
    """Return the mean quality of a network over all pairs, each at its full size."""
    return Evaluator(graph, pairs).quality(parameters)


def judged_at_once(pairs: PairSet) -> tuple[int, int, int]:
    """Return the shape [n, h, w] of the mosaics that are judged together."""
    _, h, w = pairs.raw.shape
    return min(len(pairs), max(1, EVALUATION_PIXELS // (h * w))), h, w


def quality_of(network: Callable[[np.ndarray[Any, Any]], object], pairs: PairSet, *, batch: int) -> Quality:
    """Judge anything that turns packed RAW float32[batch, h/2, w/2, 4] into RGB [batch, h, w, 3]."""
    psnr: list[float] = []
    ssim: list[float] = []
    for first in range(0, len(pairs), batch):
        # The last batch borrows earlier pairs to keep its shape; they are judged once.
        index = np.arange(first, first + batch) % len(pairs)
        real = min(batch, len(pairs) - first)
        judged = _metrics()(jnp.asarray(network(network_input(pairs, index))), targets(pairs, index))
        psnr += np.asarray(judged[0])[:real].tolist()
        ssim += np.asarray(judged[1])[:real].tolist()
    return Quality(float(np.mean(psnr)), float(np.mean(ssim)))


def picture_quality(predicted: np.ndarray[Any, Any], target: np.ndarray[Any, Any]) -> Quality:
    """Return the quality of one picture [1, h, w, 3]; its SSIM is NaN where a side is shorter than the window."""
    pictures = jnp.asarray(predicted), jnp.asarray(target)
    if min(target.shape[1:3]) < metrics.WINDOW:
        return Quality(float(metrics.psnr_db(*pictures)[0]), math.nan)
    psnr, ssim = _metrics()(*pictures)
    return Quality(float(psnr[0]), float(ssim[0]))


@cache
def _metrics() -> Callable[..., tuple[jax.Array, jax.Array]]:
    return jax.jit(lambda predicted, target: (metrics.psnr_db(predicted, target), metrics.ssim(predicted, target)))


def network_input(pairs: PairSet, index: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return packed RAW in [0, 1] as networks read it, float32 [n, h/2, w/2, 4]."""
    raw: np.ndarray[Any, Any] = pack(pairs.raw[index], pairs.format).astype(np.float32)
    black, white = pairs.format.black, pairs.format.white_level
    return (raw - np.float32(black)) / np.float32(white - black)


def targets(pairs: PairSet, index: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the target photographs in [0, 1], float32 [n, h, w, 3]."""
    rgb: np.ndarray[Any, Any] = pairs.rgb[index].astype(np.float32)
    return rgb / np.float32(255)


def judge_on_test(spec: ArchSpec, trained: Path, data: DataConfig) -> dict[str, float | None]:
    """Return `test_psnr_db` and `test_ssim` of a trained network; None where the data has no test pairs."""

    if not find_pairs(data)["test"]:
        return {"test_psnr_db": None, "test_ssim": None}
    quality = judge(build_graph(spec), checkpoint.load(trained).weights, load_split(data, "test"))
    return {"test_psnr_db": quality.psnr_db, "test_ssim": quality.ssim}
