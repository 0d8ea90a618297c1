"""Estimate the memory of a network's training and evaluation, and refuse what does not fit this machine.

Asked before anything is compiled, because a process that runs out of memory is killed without a word and a whole
machine may be slowed to a halt before. Backpropagation keeps every map of the forward pass; the gradients of maps come
and go like the maps of a forward pass, so their peak is that of the maps on a phone. XLA keeps copies beside them:
unfolded for matrix products, padded, and masks of activations.

    training = 1.7 · (Σ maps + peak of maps) + pictures + 4 · parameters (they, their gradients and Adam's two moments)
               maps of the images taken at once (see nas.train.micro_batch);
               once more the parameters where these are a part
    judging  = max(peak of maps, 5 · output)        prediction, target and what PSNR and SSIM keep
    needed   = max(training, judging) + PROCESS_BYTES

Measured with jaxlib 0.10.2 on 2 CPU cores, fresh processes, resident memory at its peak less that after the imports
(`python benchmarks/training_memory.py`, figures beside it), divided by `needed`:

    training, batch × patch   4 × 64   4 × 256   32 × 64   32 × 256     judging 8 × 256
    Smallnet                    0.42      0.50      0.45       0.60                0.49
    CSANet                      0.84      1.03      0.85       1.13                0.58

Between two runs the figures differ by up to a tenth. Small cases stay below 1 because a process is allowed for whole.

XLA's plans for a step spread by a factor of three around that rule, so what is near the bound may fit after all, or
fail after all. GPUs have not been measured; their libraries ask for scratch memory of their own.
"""

import logging
import os
from functools import cache
from math import prod
from pathlib import Path

from latency_models.memory import peak_activation_bytes
from nas.train import branches
from nas.train.losses.vgg_weights import weight_shapes
from nas.train.micro_batch import images_at_once
from nas.train.recipe import Recipe
from search_spaces.errors import TooLargeError
from search_spaces.graph import Graph

# What compiling adds to a process; measured 150 MB for Smallnet and 270 MB for CSANet, and allocators keep more.
PROCESS_BYTES = 350_000_000
FLOAT_BYTES = 4
# Weights, their gradients, Adam's first and second moments.
ARRAYS_PER_PARAMETER = 4
# Maps and their copies: XLA's plans for a step of the twelve designs and six random members of the space (batches of 2
# and 4, patches of 64 and 128; jaxlib 0.10.2 on a CPU) were 1.0 to 3.2 times Σ maps + peak of maps, 1.9 in the middle;
# with this factor every plan is within twice the estimate.
COPIES_OF_MAPS = 1.7
# RAW and RGB in bytes per pixel of the mosaic: of the batch as integers, of the images taken at once as floats, too.
STORED_BYTES_PER_PIXEL, FLOAT_BYTES_PER_PIXEL = 2 + 3, 4 + 12
# What networks that judge keep of every pixel of a batch, and how often their weights are there: XLA's plan for a step
# of a small network over batches of 4 and 8 and patches of 64 and 128, less the network's own. VGG-19's kernels are
# kept in another order, too; the discriminator has gradients and two moments.
VGG_BYTES_PER_PIXEL, VGG_COPIES = 1600, 2
TEXTURE_BYTES_PER_PIXEL, TEXTURE_COPIES = 300, 5
# Prediction, target, and three maps of their size that XLA plans for PSNR and SSIM.
MAPS_TO_JUDGE = 5

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")


def training_bytes(graph: Graph, recipe: Recipe) -> int:
    """Return about how many bytes one training step takes, without the process around it."""
    at_once = images_at_once(graph, batch=recipe.batch, patch=recipe.patch)
    at = graph.at(_packed(at_once, recipe.patch, recipe.patch))
    map_bytes = FLOAT_BYTES * sum(map(prod, at.shapes.values()))
    maps = round(COPIES_OF_MAPS * (map_bytes + peak_activation_bytes(at, bytes_per_element=FLOAT_BYTES)))
    pictures = (STORED_BYTES_PER_PIXEL * recipe.batch + FLOAT_BYTES_PER_PIXEL * at_once) * recipe.patch**2
    arrays = ARRAYS_PER_PARAMETER + recipe.averages + (at_once < recipe.batch)
    parameters = graph.parameters + (sum(map(prod, branches.shapes(graph).values())) if recipe.reparameterise else 0)
    weights = arrays * FLOAT_BYTES * parameters
    return maps + pictures + weights + _bytes_of_networks_that_judge(recipe, at_once)


def _bytes_of_networks_that_judge(recipe: Recipe, at_once: int) -> int:
    """Return what VGG-19 and the discriminator take where their losses take part."""
    pixels, total = at_once * recipe.patch**2, 0
    if recipe.uses("vgg"):
        weights = FLOAT_BYTES * sum(map(prod, weight_shapes(recipe.vgg_layer).values()))
        total += VGG_BYTES_PER_PIXEL * pixels + VGG_COPIES * weights
    if recipe.uses("texture"):
        from nas.train.losses.adversarial import parameter_shapes

        weights = FLOAT_BYTES * sum(map(prod, parameter_shapes(recipe.patch).values()))
        total += TEXTURE_BYTES_PER_PIXEL * pixels + TEXTURE_COPIES * weights
    return total


def judging_bytes(graph: Graph, shape: tuple[int, int, int]) -> int:
    """Return about how many bytes judging mosaics of `shape` [n, h, w] at once takes, without the process around it."""
    at = graph.at(_packed(*shape))
    return max(peak_activation_bytes(at), MAPS_TO_JUDGE * FLOAT_BYTES * prod(at.output_shape))


def _packed(n: int, h: int, w: int) -> tuple[int, int, int, int]:
    return (n, h // 2, w // 2, 4)


def require_memory(graph: Graph, recipe: Recipe, *, judged: tuple[int, int, int], available: int | None) -> None:
    """Raise TooLargeError where training, or judging mosaics of shape `judged` at once, needs more than `available`.

    Where the machine does not tell what it has, None, nothing is refused: no estimate could be held against anything.
    That is logged once.
    """
    if available is None:
        _note_that_nothing_is_known()
        return
    training, judging = training_bytes(graph, recipe) + PROCESS_BYTES, judging_bytes(graph, judged) + PROCESS_BYTES
    if training > available:
        raise TooLargeError(
            f"Training with batch {recipe.batch} and patch {recipe.patch} would take about {_gb(training)} of memory, "
            f"this machine has {_gb(available)}; choose a smaller --batch or --patch (of a search: in another "
            "--study).",
            training,
        )
    if judging > available:
        n, h, w = judged
        raise TooLargeError(
            f"Judging {n} of the pairs of {h}×{w} at once would take about {_gb(judging)} of memory, this machine has "
            f"{_gb(available)}; crop the pairs.",
            judging,
        )


def _gb(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.2f} GB"


@cache
def _note_that_nothing_is_known() -> None:
    logging.getLogger(__name__).warning(
        "This machine does not tell how much memory it has, so no network is refused for needing too much."
    )


def machine_bytes() -> int | None:
    """Return how many bytes there are where JAX computes; None where that cannot be found out.

    On a CPU the physical memory, or a container's limit where that is less; on a GPU JAX's own share of its memory.
    What else is running is not asked: a refusal is for good, so it must be the same tomorrow.
    """
    import jax

    if jax.default_backend() == "cpu":
        return host_bytes()
    stats = jax.local_devices()[0].memory_stats() or {}
    return stats.get("bytes_limit")


def host_bytes() -> int | None:
    """Return the bytes of this machine's own memory, or a container's limit where that is less; None where unknown."""
    known = [size for size in (_physical_bytes(), _container_bytes()) if size is not None]
    return min(known, default=None)


def bytes_beside_training(graph: Graph, recipe: Recipe) -> int | None:
    """Return what training leaves of this machine's own memory, for pairs that are kept in it; None where unknown."""
    import jax

    known = host_bytes()
    if known is None or jax.default_backend() != "cpu":
        return known
    return max(0, known - training_bytes(graph, recipe) - PROCESS_BYTES)


def _physical_bytes() -> int | None:
    try:
        pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf, others not these names
        return None
    return pages * size if pages > 0 and size > 0 else None


def _container_bytes() -> int | None:
    """Return the limit of this process's control group; None where it has none, or an old kind."""
    try:
        (own,) = (line[len("0::/") :] for line in OWN_CGROUP.read_text().splitlines() if line.startswith("0::/"))
        return int((CGROUPS / own / "memory.max").read_text())  # "max" is no number: no limit
    except (OSError, ValueError):
        return None
