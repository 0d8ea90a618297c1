"""Try optimisers, schedules and targets that the product does not have beside its default recipe.

    python benchmarks/training_tries.py --data demo --tries muon soap schedule-free --networks smallnet \
        --steps 900 --seeds 1 2 --out results/training/tries-demo.jsonl

Same losses, patches, first weights and averaging as the default recipe; what a try changes is in TRIES. Rows are those
of `training_recipes.py` (the same command goes on where it stopped; `--table` prints means). `muon-distilled` needs one
long training of `--teacher` first, which is made once per call.
"""

import argparse
import sys
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from training_recipes import Train, prepared_pairs, read, rows_parser, table, train_all

from nas.data.batches import Batches, BatchSpec
from nas.data.pairs import PairSet, open_prepared
from nas.train import loop, muon, step
from nas.train.evaluation import Evaluator
from nas.train.recipe import HARDWARE_RECIPE, Recipe
from nas.train.schedules import learning_rates
from search_spaces.designs import DESIGNS
from search_spaces.graph import Graph
from search_spaces.networks import build_graph
from search_spaces.ops import DepthwiseConv
from search_spaces.spec import ArchSpec

Arrays = Mapping[str, Any]
DEFAULT = Recipe(**HARDWARE_RECIPE["cpu"])
STABLE_SHARE = 0.8  # of the steps of warm-up–stable–decay, before the rate falls in a line
SOAP_DECAY = 0.95  # of moments, preconditioners and momentum: Vyas et al. 2024 (arXiv 2409.11321)
BASIS_EVERY = 10  # steps between two turns of SOAP's bases


@dataclass(frozen=True)
class Try:
    """How a training differs from the default recipe."""

    optimiser: Callable[[Graph, Recipe], optax.GradientTransformation]
    rates: Callable[[Recipe], np.ndarray[Any, Any]]
    interpolates: float = 0.0  # gradients are taken at this share of the average: schedule-free
    average_share: float = DEFAULT.average_share
    distils: bool = False


def main() -> None:
    parser = rows_parser(__doc__, ["smallnet", "csanet", "isp-forever"], [900], [1, 2])
    parser.add_argument("--tries", nargs="+", default=list(TRIES), choices=TRIES)
    parser.add_argument("--teacher", default="isp-forever", help="the design whose pictures `distilled` learns from")
    parser.add_argument("--teacher-steps", type=int, default=8100)
    options = parser.parse_args()
    if not options.table:
        train_all(options, options.tries, training_of(options))
    sys.stdout.write(table(read(options.out)))


def training_of(options: argparse.Namespace) -> Train:
    """Return what trains a network; the teacher is trained when its pictures are first needed."""
    prepared = prepared_pairs(options.data)
    pairs, judged = open_prepared(prepared, "train"), open_prepared(prepared, "val")

    @cache
    def taught() -> PairSet:
        return with_targets_of(options.teacher, options.teacher_steps, pairs)

    def train(spec: ArchSpec, name: str, steps: int, seed: int) -> dict[str, Any]:
        tried = TRIES[name]
        return trained(spec, tried, DEFAULT.scaled(steps), taught() if tried.distils else pairs, judged, seed)

    return train


def trained(spec: ArchSpec, tried: Try, recipe: Recipe, pairs: PairSet, judged: PairSet, seed: int) -> dict[str, Any]:
    """Train over the recipe's total steps; judge the averaged weights."""
    recipe = replace(recipe, average_share=tried.average_share)
    graph, plan = build_graph(spec), step.StepPlan.of(recipe)
    optimiser, constants = tried.optimiser(graph, recipe), step.Constants.of(recipe, pairs.format, {})
    first = loop.start(graph, seed=seed, spec_hash=spec.hash, initialiser=recipe.initialiser).parameters
    parameters = {name: jnp.asarray(value) for name, value in first.items()}
    state = parameters, optimiser.init(parameters), {name: value.copy() for name, value in parameters.items()}
    rates, count = tried.rates(recipe), recipe.total_steps
    begun = time.perf_counter()
    one_step = jax.jit(partial(moved, graph, plan, optimiser, tried.interpolates))
    with Batches(
        pairs, BatchSpec(recipe.batch, recipe.patch, recipe.flip, recipe.rotate), seed=seed, first=0, last=count
    ) as batches:
        for number, batch in batches:
            state = one_step(state, *batch, rates[number], np.int32(number + 1), constants)
    average = jax.device_get(jax.block_until_ready(state)[2])
    seconds = time.perf_counter() - begun
    quality = Evaluator(graph, judged).quality(average)
    # Compiling is within `train_s` here: the loop is not the product's.
    return {"psnr_db": quality.psnr_db, "ssim": quality.ssim, "train_s": seconds}


def moved(
    graph: Graph, plan: step.StepPlan, optimiser: optax.GradientTransformation, interpolates: float,
    state: tuple[Any, Any, Any], raw: Any, rgb: Any, rate: Any, count: Any, constants: step.Constants,
) -> tuple[Any, Any, Any]:  # fmt: skip
    """One step; `interpolates` is β of Defazio et al. 2024 (arXiv 2405.15682), whose x is the average."""
    parameters, memory, average = state
    at = jax.tree.map(lambda z, x: (1 - interpolates) * z + interpolates * x, parameters, average)
    held = step.State(step._layout(graph, plan).joined(at, jnp), step.ADAM.init({}), {}, {}, None)
    gradients = step._mean_gradients(graph, plan, held, raw, rgb, constants).gradients
    updates, memory = optimiser.update(gradients, memory, parameters)
    parameters = jax.tree.map(lambda p, u: p - rate * u, parameters, updates)
    return parameters, memory, step._averaged(average, parameters, count, constants)


# Optimisers: kernels as matrices, Adam at the recipe's share of the rate for the rest.


def with_adam_for_the_rest(
    names: Collection[str], recipe: Recipe, for_kernels: optax.GradientTransformation
) -> optax.GradientTransformation:
    rest = optax.chain(optax.scale_by_adam(), optax.scale(recipe.vector_rate))
    parts = {"kernels": for_kernels, "rest": rest}
    return optax.partition(parts, lambda tree: {name: "kernels" if name in names else "rest" for name in tree})


def as_matrices(inner: optax.GradientTransformation, kinds: Mapping[str, Any]) -> optax.GradientTransformation:
    """Let an optimiser see kernels as matrices of what is read × what is made."""

    def seen(tree: Any) -> dict[str, Any]:
        return {name: muon._matrix(kinds[name], value) if is_array(value) else value for name, value in tree.items()}

    def init(tree: Any) -> Any:
        return inner.init(seen(tree))

    def update(gradients: Any, memory: Any, parameters: Any = None) -> tuple[Any, Any]:
        updates, memory = inner.update(seen(gradients), memory, seen(parameters))
        back = {
            name: muon._tensor(kinds[name], value, gradients[name].shape) if is_array(value) else value
            for name, value in updates.items()
        }
        return back, memory

    return optax.GradientTransformation(init, update)


def is_array(value: Any) -> bool:
    return hasattr(value, "shape")  # optax.partition masks what belongs to others


def own_muon(graph: Graph, recipe: Recipe) -> optax.GradientTransformation:
    kinds = muon.kernels(graph, batch=recipe.batch, patch=recipe.patch)

    def init(tree: Any) -> Any:
        return jax.tree.map(jnp.zeros_like, tree)

    def update(gradients: Any, memory: Any, _: Any = None) -> tuple[Any, Any]:
        memory = jax.tree.map(step._mixed, memory, gradients)
        ahead = jax.tree.map(step._mixed, memory, gradients)
        own = {name: value for name, value in ahead.items() if is_array(value)}
        return {**ahead, **muon.directions(kinds, own)}, memory

    return with_adam_for_the_rest(kinds, recipe, optax.GradientTransformation(init, update))


def soap_transformation(scale: float) -> optax.GradientTransformation:
    """Adam in the eigenbases of Shampoo's preconditioners, turned by one QR step every BASIS_EVERY steps."""

    def init(tree: Any) -> Any:
        def of(matrix: Any) -> dict[str, Any]:
            rows, columns = matrix.shape
            zeros = jnp.zeros_like(matrix)
            return {
                "left": jnp.zeros((rows, rows)), "right": jnp.zeros((columns, columns)),
                "left_basis": jnp.eye(rows), "right_basis": jnp.eye(columns), "mean": zeros, "square": zeros,
            }  # fmt: skip

        return jnp.int32(0), {name: of(value) for name, value in tree.items() if is_array(value)}

    def update(gradients: Any, memory: Any, _: Any = None) -> tuple[Any, Any]:
        count, parts = memory
        updates = dict(gradients)
        changed = {}
        for name, part in parts.items():
            updates[name], changed[name] = soap_step(gradients[name], part, count)
            updates[name] = scale * updates[name]
        return updates, (count + 1, changed)

    return optax.GradientTransformation(init, update)


def soap_step(gradient: Any, part: dict[str, Any], count: Any) -> tuple[Any, dict[str, Any]]:
    def mixed(old: Any, new: Any) -> Any:
        return SOAP_DECAY * old + (1 - SOAP_DECAY) * new

    left, right = mixed(part["left"], gradient @ gradient.T), mixed(part["right"], gradient.T @ gradient)
    turns = count % BASIS_EVERY == 0
    left_basis = turned(turns, count, left, part["left_basis"])
    right_basis = turned(turns, count, right, part["right_basis"])
    mean = mixed(part["mean"], gradient)
    own = left_basis.T @ gradient @ right_basis
    square = mixed(part["square"], own**2)
    corrected = 1 - SOAP_DECAY ** (count + 1)
    direction = (left_basis.T @ mean @ right_basis) / corrected / (jnp.sqrt(square / corrected) + 1e-8)
    bases = {"left_basis": left_basis, "right_basis": right_basis}
    return left_basis @ direction @ right_basis.T, {
        "left": left,
        "right": right,
        "mean": mean,
        "square": square,
        **bases,
    }


def turned(turns: Any, count: Any, preconditioner: Any, basis: Any) -> Any:
    def anew(_: Any) -> Any:
        return jnp.linalg.eigh(preconditioner)[1]

    def one_qr_step(_: Any) -> Any:
        return jnp.linalg.qr(preconditioner @ basis)[0]

    return jax.lax.cond(turns, lambda _: jax.lax.cond(count == 0, anew, one_qr_step, None), lambda _: basis, None)


def soap(scale: float) -> Callable[[Graph, Recipe], optax.GradientTransformation]:
    def build(graph: Graph, recipe: Recipe) -> optax.GradientTransformation:
        kinds = muon.kernels(graph, batch=recipe.batch, patch=recipe.patch)
        whole = {
            name: kind for name, kind in kinds.items() if kind is not DepthwiseConv
        }  # those are one matrix a channel
        return with_adam_for_the_rest(whole, recipe, as_matrices(soap_transformation(scale), whole))

    return build


def ademamix(_graph: Graph, _recipe: Recipe) -> optax.GradientTransformation:
    return optax.chain(optax.contrib.scale_by_ademamix(), optax.scale(ADAM_SHARE))


ADAM_SHARE = 3e-3 / DEFAULT.learning_rate  # brings the recipe's rate to the one that Adam had as the default


def constant(recipe: Recipe) -> np.ndarray[Any, Any]:
    return np.full(recipe.total_steps, recipe.learning_rate, np.float32)


def warm_up_stable_decay(recipe: Recipe) -> np.ndarray[Any, Any]:
    share = np.arange(recipe.total_steps) / recipe.total_steps
    return (recipe.learning_rate * np.minimum(1, (1 - share) / (1 - STABLE_SHARE))).astype(np.float32)


def with_targets_of(teacher: str, steps: int, pairs: PairSet) -> PairSet:
    """Return the pairs with the mean of target and the teacher's picture as target."""
    spec, recipe = DESIGNS[teacher].spec, DEFAULT.scaled(steps)
    graph = build_graph(spec)
    first = loop.start(graph, seed=0, spec_hash=spec.hash, initialiser=recipe.initialiser)
    weights = loop.train(graph, first, pairs, recipe=recipe, steps=steps, seed=0).checkpoint.weights
    pictures = 255 * np.clip(Evaluator(graph, pairs).outputs(weights, np.arange(len(pairs))), 0, 1)
    return replace(pairs, rgb=np.round((pairs.rgb + pictures) / 2).astype(np.uint8))


TRIES: dict[str, Try] = {
    "muon": Try(own_muon, learning_rates),
    "muon-schedule-free": Try(own_muon, constant, interpolates=0.9, average_share=0.999),
    "muon-wsd": Try(own_muon, warm_up_stable_decay),
    "muon-distilled": Try(own_muon, learning_rates, distils=True),
    "soap-0.15": Try(soap(0.15), learning_rates),
    "soap-0.5": Try(soap(0.5), learning_rates),
    "ademamix": Try(ademamix, learning_rates),
}


if __name__ == "__main__":
    main()
