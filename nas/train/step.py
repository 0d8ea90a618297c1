"""One step of training as a compiled function: state and batch in, state and losses out.

What may change without another compilation is traced: learning rate, weights of losses, RAW levels, bound of the
gradients' norm, decays, and the weights of VGG-19. What changes the computation is a `StepPlan`.
"""

import operator
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Float, UInt8, UInt16

from nas.data.raw_format import RawFormat
from nas.train import branches, muon
from nas.train.checkpoint import Arrays, Checkpoint
from nas.train.losses import adversarial, perceptual
from nas.train.losses.vgg_weights import weight_shapes
from nas.train.micro_batch import images_at_once
from nas.train.recipe import Recipe
from nas.train.registry import LOSSES
from nas.train.vectors import VectorLayout
from search_spaces import lower_flax, lower_quantised
from search_spaces.auxiliary_head import heads
from search_spaces.graph import Graph
from search_spaces.quantised_maps import QuantisedMaps

ADAM = optax.scale_by_adam()
# The moving average follows the weights closely at first: its decay is min(ema, (1 + steps) / (10 + steps)), the rule
# of TensorFlow's ExponentialMovingAverage. Without it, the average would remember the random start for long.
_AVERAGE_LAG = 9.0

# So many compiled steps stay in a process, a few MB each: what a worker trains before it is replaced.
EXECUTABLES = 25

Terms = dict[str, Float[Array, ""]]
TOTAL = "loss"  # the weighted sum, beside the terms of which it is made


# What a step changes of a network, by the rule that moves it: kernels that Muon orthogonalises, and what is Adam's:
# other kernels, which may decay, and all the rest.
MUON, KERNELS, REST = "muon", "kernels", "rest"
Vectors = dict[str, Float[Array, "_"]]


class State(NamedTuple):
    """What a step changes, a network's arrays as vectors (`_layout`); empty where the recipe has no use for it."""

    parameters: Vectors
    adam: optax.ScaleByAdamState  # Muon's momentum is among its first moments; of its second ones there are none
    average: Vectors  # the weights' moving average
    discriminator: lower_flax.Parameters
    discriminator_adam: optax.ScaleByAdamState | None


@dataclass(frozen=True)
class StepPlan:
    """What a step computes; two recipes of one plan share one executable."""

    losses: tuple[str, ...]
    batch: int
    patch: int
    orthogonalises: bool  # Muon moves the kernels
    decays_weights: bool
    clips: bool
    averages: bool
    reparameterises: bool
    precision: str
    vgg_layer: str | None  # None where the loss vgg takes no part
    quantised: QuantisedMaps | None = None  # what is rounded as in an int8 file, in quantisation-aware training

    @classmethod
    def of(cls, recipe: Recipe, quantised: QuantisedMaps | None = None) -> "StepPlan":
        """Return the plan of a recipe's present losses."""
        active = tuple(sorted(name for name, weight in recipe.loss.items() if weight > 0))
        layer = recipe.vgg_layer if "vgg" in active else None
        return cls(
            losses=active,
            batch=recipe.batch,
            patch=recipe.patch,
            orthogonalises=recipe.optimiser == "muon",
            decays_weights=recipe.weight_decay > 0,
            clips=recipe.clip_norm > 0,
            averages=recipe.averages,
            reparameterises=recipe.reparameterise and quantised is None,
            precision=recipe.precision,
            vgg_layer=layer,
            quantised=quantised,
        )


@dataclass(frozen=True)
class Constants:
    """What a step reads besides state and batch: float32 numbers, and VGG-19's weights where its loss takes part."""

    weights: Mapping[str, Any]  # of the losses
    black: Any
    span: Any  # from black to white
    weight_decay: Any
    clip_norm: Any
    vector_rate: Any
    average: tuple[Any, Any, Any]  # of the weights' average: the largest decay, and what it grows with
    vgg: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, recipe: Recipe, raw: RawFormat, vgg_arrays: Arrays) -> "Constants":
        """Return the constants of a recipe's present losses on pairs of this format."""
        weights = {name: np.float32(recipe.loss[name]) for name in StepPlan.of(recipe).losses}
        numbers = (raw.black, raw.white_level - raw.black, recipe.weight_decay, recipe.clip_norm, recipe.vector_rate)
        black, span, weight_decay, clip_norm, vector_rate = map(np.float32, numbers)
        most, lead, lag = map(np.float32, _average_rule(recipe))
        return cls(weights, black, span, weight_decay, clip_norm, vector_rate, (most, lead, lag), vgg_arrays)


jax.tree_util.register_dataclass(Constants)


def _average_rule(recipe: Recipe) -> tuple[float, float, float]:
    """Return (most, lead, lag) of the decay min(most, (lead + steps) / (lag + steps)).

    A share s of all steps comes of steps / (1/s + steps): the weight of a step is then 1 / (1 + s·steps), the
    polynomial-decay averaging of Shamir and Zhang 2013 (arXiv 1212.1824).
    """
    if recipe.average_share:
        return 1.0, 0.0, 1 / recipe.average_share
    return recipe.ema, 1.0, 1.0 + _AVERAGE_LAG


def state_of(graph: Graph, checkpoint: Checkpoint, plan: StepPlan) -> State:
    """Put a checkpoint, which must be `ready` for the plan, on the device."""
    critic = "texture" in plan.losses
    layout = _layout(graph, plan)
    moments = _vectors(layout, checkpoint.first_moment), _but_muon(_vectors(layout, checkpoint.second_moment))
    of_critic = checkpoint.discriminator_first_moment, checkpoint.discriminator_second_moment
    return State(
        _vectors(layout, checkpoint.parameters),
        _adam(checkpoint.step, *moments),
        _vectors(layout, checkpoint.average) if plan.averages else {},
        _on_device(checkpoint.discriminator) if critic else {},
        _adam(checkpoint.discriminator_step, *map(_on_device, of_critic)) if critic else None,
    )


@lru_cache(maxsize=EXECUTABLES)
def _layout(graph: Graph, plan: StepPlan) -> VectorLayout:
    """Return the vectors of a network's arrays, branches and ranges of quantised maps included.

    Kept, as tracing a step asks for it several times, and each stretch of training twice.
    """
    ranges = plan.quantised.first_logarithms if plan.quantised else {}
    shapes = graph.parameter_shapes | {name: value.shape for name, value in ranges.items()}
    shapes |= branches.shapes(graph) if plan.reparameterises else {}
    of_muon = muon.kernels(graph, batch=plan.batch, patch=plan.patch) if plan.orthogonalises else {}
    vectors: dict[str, dict[str, tuple[int, ...]]] = {MUON: {}, KERNELS: {}, REST: {}}
    for name, shape in shapes.items():
        kernel = branches.kernel_of(name)
        vector = MUON if kernel in of_muon else KERNELS if kernel.endswith("/kernel") else REST
        vectors[vector][name] = shape
    return VectorLayout({vector: within for vector, within in vectors.items() if within})


def ready(graph: Graph, checkpoint: Checkpoint, plan: StepPlan, *, seed: int) -> Checkpoint:
    """Return the checkpoint with what the plan needs and no step has made yet: branches, average, discriminator."""
    if plan.reparameterises and not branches.shapes(graph).keys() <= checkpoint.parameters.keys():
        checkpoint = _with_branches(checkpoint, branches.start(graph, seed=seed))
    if plan.averages and not checkpoint.average:
        checkpoint = replace(checkpoint, average={name: value.copy() for name, value in checkpoint.parameters.items()})
    if "texture" in plan.losses and not checkpoint.discriminator:
        fresh = adversarial.init_discriminator(seed, patch=plan.patch)
        zeros = [{name: np.zeros_like(value) for name, value in fresh.items()} for _ in range(2)]
        checkpoint = replace(
            checkpoint,
            discriminator=fresh,
            discriminator_first_moment=zeros[0],
            discriminator_second_moment=zeros[1],
            discriminator_step=0,
        )
    return checkpoint


def _with_branches(checkpoint: Checkpoint, fresh: Arrays) -> Checkpoint:
    zeros = [{name: np.zeros_like(value) for name, value in fresh.items()} for _ in range(2)]
    return replace(
        checkpoint,
        parameters=checkpoint.parameters | fresh,
        first_moment=checkpoint.first_moment | zeros[0],
        second_moment=checkpoint.second_moment | zeros[1],
        average=checkpoint.average | fresh if checkpoint.average else {},
    )


def _on_device(arrays: Arrays) -> lower_flax.Parameters:
    # Arrays are put on the device as they are: any arithmetic here would be compiled for every new shape.
    return {name: jnp.asarray(value) for name, value in arrays.items()}


def _vectors(layout: VectorLayout, arrays: Arrays) -> Vectors:
    return _on_device(layout.joined(arrays, np))


def _adam(step: int, first: lower_flax.Parameters, second: lower_flax.Parameters) -> optax.ScaleByAdamState:
    return optax.ScaleByAdamState(count=jnp.asarray(np.int32(step)), mu=first, nu=second)


def stored(graph: Graph, plan: StepPlan, checkpoint: Checkpoint, state: State, *, step: int) -> Checkpoint:
    """Return the checkpoint after the steps that led to `state`."""
    layout = _layout(graph, plan)
    changed: dict[str, Any] = {
        "parameters": layout.split(_to_numpy(state.parameters)),
        "first_moment": layout.split(_to_numpy(state.adam.mu)),
        "second_moment": checkpoint.second_moment | layout.split(_to_numpy(state.adam.nu)),
    }
    if state.average:
        changed["average"] = layout.split(_to_numpy(state.average))
    if state.discriminator_adam is not None:
        changed |= {
            "discriminator": _to_numpy(state.discriminator),
            "discriminator_first_moment": _to_numpy(state.discriminator_adam.mu),
            "discriminator_second_moment": _to_numpy(state.discriminator_adam.nu),
            "discriminator_step": int(state.discriminator_adam.count),
        }
    return replace(checkpoint, step=step, **changed)


def _to_numpy(tree: Any) -> Arrays:
    return {name: np.asarray(value) for name, value in tree.items()}


CompiledStep = Callable[..., tuple[State, Terms]]


def compiled_step(graph: Graph, plan: StepPlan) -> tuple[CompiledStep, float]:
    """Return the executable of one step and the seconds that compiling, or fetching it from the cache, took.

    It is called with (state, raw, rgb, learning rate, constants), and the state that it is given is used up.
    """
    begun = time.perf_counter()
    step = executable(graph, plan)
    return step, time.perf_counter() - begun


@lru_cache(maxsize=EXECUTABLES)
def executable(graph: Graph, plan: StepPlan) -> CompiledStep:
    """Compile one step, or fetch it from the persistent cache.

    Kept: a candidate climbs in the process that trained it before, and a long training comes here at every stretch.
    """
    step: CompiledStep = (
        jax.jit(partial(_step, graph, plan), donate_argnums=0).lower(*step_shapes(graph, plan)).compile()
    )
    return step


def step_shapes(graph: Graph, plan: StepPlan) -> tuple[Any, ...]:
    """Return the shapes of what the step reads, as JAX describes arrays."""
    n, half = plan.batch, plan.patch // 2
    f32: Callable[[tuple[int, ...]], Any] = partial(jax.ShapeDtypeStruct, dtype=jnp.float32)
    parameters = {vector: f32((size,)) for vector, size in _layout(graph, plan).sizes.items()}
    discriminator = _discriminator_shapes(plan)
    state = State(
        parameters,
        optax.ScaleByAdamState(jax.ShapeDtypeStruct((), jnp.int32), parameters, _but_muon(parameters)),
        parameters if plan.averages else {},
        discriminator,
        jax.eval_shape(ADAM.init, discriminator) if discriminator else None,
    )
    raw = jax.ShapeDtypeStruct((n, half, half, 4), jnp.uint16)
    rgb = jax.ShapeDtypeStruct((n, plan.patch, plan.patch, 3), jnp.uint8)
    features = {name: f32(shape) for name, shape in weight_shapes(plan.vgg_layer).items()} if plan.vgg_layer else {}
    one = f32(())
    constants = Constants(dict.fromkeys(plan.losses, one), one, one, one, one, one, (one, one, one), features)
    return state, raw, rgb, f32(()), constants


def _discriminator_shapes(plan: StepPlan) -> dict[str, Any]:
    if "texture" not in plan.losses:
        return {}
    shapes = adversarial.parameter_shapes(plan.patch)
    return {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}


def _step(
    graph: Graph,
    plan: StepPlan,
    state: State,
    raw: UInt16[Array, "n h w 4"],
    rgb: UInt8[Array, "n h2 w2 3"],
    rate: Float[Array, ""],
    constants: Constants,
) -> tuple[State, Terms]:
    layout = _layout(graph, plan)
    result = _mean_gradients(graph, plan, state, raw, rgb, constants)
    gradients = layout.joined(result.gradients, jnp)
    parameters, adam = _optimised(graph, plan, state.parameters, state.adam, gradients, rate, constants)
    average = _averaged(state.average, parameters, state.adam.count, constants) if plan.averages else {}
    adam_rate = constants.vector_rate * rate
    critic = _improved_discriminator(state, result.discriminator, adam_rate) if "texture" in plan.losses else ({}, None)
    return State(parameters, adam, average, *critic), result.terms


class StepGradients(NamedTuple):
    """What a pass over images finds, each a mean over them."""

    gradients: lower_flax.Parameters  # of every array
    discriminator: lower_flax.Parameters  # its gradients; empty where it takes no part
    terms: Terms


def _mean_gradients(
    graph: Graph, plan: StepPlan, state: State, raw: Array, rgb: Array, constants: Constants
) -> StepGradients:
    """Take the batch in one pass, or a few images at a time where that is faster."""
    one_pass = partial(_pass, graph, plan, state, constants)
    at_once = images_at_once(graph, batch=plan.batch, patch=plan.patch)
    if at_once == plan.batch:
        return one_pass(raw, rgb)
    passes = plan.batch // at_once
    parts = tuple(array.reshape(passes, at_once, *array.shape[1:]) for array in (raw, rgb))

    def add(total: StepGradients, part: tuple[Array, ...]) -> tuple[StepGradients, None]:
        return jax.tree.map(operator.add, total, one_pass(*part)), None

    nothing = jax.tree.map(jnp.zeros_like, jax.eval_shape(one_pass, *(array[0] for array in parts)))
    total, _ = lax.scan(add, nothing, parts)
    mean: StepGradients = jax.tree.map(lambda value: value / passes, total)
    return mean


def _pass(
    graph: Graph,
    plan: StepPlan,
    state: State,
    constants: Constants,
    raw: UInt16[Array, "n h w 4"],
    rgb: UInt8[Array, "n h2 w2 3"],
) -> StepGradients:
    x = (raw.astype(jnp.float32) - constants.black) / constants.span
    target = rgb.astype(jnp.float32) / 255
    parameters = _layout(graph, plan).split(state.parameters)

    def objective(parameters: lower_flax.Parameters) -> tuple[Float[Array, ""], tuple[Terms, list[Array]]]:
        folded = branches.fold(parameters)
        outputs = [_output(network, plan, folded, x) for network in heads(graph)]
        terms = _sum_of_terms(_terms(plan, y, target, state.discriminator, constants) for y in outputs)
        total = sum((constants.weights[name] * terms[name] for name in plan.losses), start=jnp.zeros(()))
        return total, (terms, outputs)

    (total, (terms, outputs)), gradients = jax.value_and_grad(objective, has_aux=True)(parameters)
    mistakes = _gradients_of_mistakes(state.discriminator, outputs, target) if "texture" in plan.losses else {}
    return StepGradients(gradients, mistakes, {TOTAL: total, **terms})


def _output(graph: Graph, plan: StepPlan, parameters: lower_flax.Parameters, x: Array) -> Array:
    if plan.quantised:
        return lower_quantised.apply(graph, plan.quantised, parameters, x)
    own = {name: parameters[name] for name in graph.parameter_shapes}
    if plan.precision == "float32":
        return lower_flax.apply(graph, own, x)
    rounded = {name: value.astype(jnp.bfloat16) for name, value in own.items()}
    return lower_flax.apply(graph, rounded, x.astype(jnp.bfloat16)).astype(jnp.float32)


def _terms(
    plan: StepPlan, y: Array, target: Array, discriminator: lower_flax.Parameters, constants: Constants
) -> Terms:
    with_networks = {
        "vgg": lambda y, target: perceptual.perceptual(y, target, weights=constants.vgg, layer=plan.vgg_layer or ""),
        "texture": lambda y, _: adversarial.generator_loss(discriminator, y),
    }
    return {name: (with_networks.get(name) or LOSSES[name].compute)(y, target) for name in plan.losses}


def _sum_of_terms(every: Iterable[Terms]) -> Terms:
    return reduce(lambda a, b: jax.tree.map(operator.add, a, b), every)


def _optimised(
    graph: Graph,
    plan: StepPlan,
    parameters: Vectors,
    adam: optax.ScaleByAdamState,
    gradients: Vectors,
    rate: Array,
    constants: Constants,
) -> tuple[Vectors, optax.ScaleByAdamState]:
    """Muon with Adam, Adam, or AdamW: Loshchilov and Hutter 2019 (arXiv 1711.05101), which decays weights itself."""
    if plan.clips:
        gradients, _ = optax.clip_by_global_norm(constants.clip_norm).update(gradients, optax.EmptyState())
    if plan.orthogonalises:
        updates, adam = _muon_updates(graph, plan, adam, gradients, constants)
    else:
        updates, adam = ADAM.update(gradients, adam, parameters)
    if plan.decays_weights:  # biases, slopes and normalisations have few values and are not what overfits
        updates = {v: u if v == REST else u + constants.weight_decay * parameters[v] for v, u in updates.items()}
    return optax.apply_updates(parameters, jax.tree.map(lambda u: -rate * u, updates)), adam


def _muon_updates(
    graph: Graph, plan: StepPlan, moments: optax.ScaleByAdamState, gradients: Vectors, constants: Constants
) -> tuple[Vectors, optax.ScaleByAdamState]:
    """Muon with Nesterov's momentum for kernels, Adam for the rest."""
    of_rest = optax.ScaleByAdamState(moments.count, _but_muon(moments.mu), moments.nu)
    updates, of_rest = ADAM.update(_but_muon(gradients), of_rest)
    steps = {vector: constants.vector_rate * u for vector, u in updates.items()}
    if MUON not in gradients:
        return steps, of_rest
    momentum = _mixed(moments.mu[MUON], gradients[MUON])
    layout = _layout(graph, plan)
    ahead = layout.split({MUON: _mixed(momentum, gradients[MUON])})
    of_kernels = muon.kernels(graph, batch=plan.batch, patch=plan.patch)
    moved = muon.directions({name: of_kernels[branches.kernel_of(name)] for name in ahead}, ahead)
    steps[MUON] = layout.join(MUON, moved, jnp)
    return steps, of_rest._replace(mu=of_rest.mu | {MUON: momentum})


def _but_muon(vectors: Mapping[str, Any]) -> dict[str, Any]:  # of arrays, or of their shapes
    return {vector: values for vector, values in vectors.items() if vector != MUON}


def _mixed(momentum: Array, gradient: Array) -> Array:
    return muon.MOMENTUM * momentum + (1 - muon.MOMENTUM) * gradient


def _averaged(average: Vectors, parameters: Vectors, count: Array, constants: Constants) -> Vectors:
    most, lead, lag = constants.average
    decay = jnp.minimum(most, (lead + count) / (lag + count))
    return {name: decay * value + (1 - decay) * parameters[name] for name, value in average.items()}


def _gradients_of_mistakes(
    discriminator: lower_flax.Parameters, outputs: list[Array], target: Array
) -> lower_flax.Parameters:
    def mistakes(parameters: lower_flax.Parameters) -> Array:
        return reduce(operator.add, (adversarial.discriminator_loss(parameters, y, target) for y in outputs))

    gradients: lower_flax.Parameters = jax.grad(mistakes)(discriminator)
    return gradients


def _improved_discriminator(
    state: State, gradients: lower_flax.Parameters, rate: Array
) -> tuple[lower_flax.Parameters, optax.ScaleByAdamState]:
    """One step of the discriminator on the same batch, at the learning rate that the network's own Adam has."""
    assert state.discriminator_adam is not None
    updates, adam = ADAM.update(gradients, state.discriminator_adam)
    improved: lower_flax.Parameters = optax.apply_updates(
        state.discriminator, jax.tree.map(lambda u: -rate * u, updates)
    )
    return improved, adam
