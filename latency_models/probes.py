"""Choose small networks to measure on a device: one operation each at many sizes, and whole candidates.

A probe's name says all of it, `conv-k3-s1-16-24-relu-272x480`, so that a log that a person brings from a phone needs
nothing beside it. `plan` draws from a pool of what the space's networks are made of: first every kind of operation over
all sizes, then, one after the other, whatever a roofline fitted to the probes so far would be least sure of. That
depends on what the probes compute and move and not on how long they take, so it is planned before anything is measured.
"""

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from latency_models.kernels import COMPUTING_CLASSES, Network, network
from latency_models.roofline import Layout, total_amounts
from search_spaces.activations import ACTIVATIONS
from search_spaces.designs import DESIGNS
from search_spaces.graph import FULL_HD, INPUT, Graph, GraphBuilder
from search_spaces.networks import build_graph
from search_spaces.ops import (
    Activation,
    Add,
    Concat,
    Conv,
    DepthToSpace,
    DepthwiseConv,
    GlobalMean,
    InstanceNorm,
    Multiply,
    Op,
    Pool,
    Resize,
    Subtract,
    TransposeConv,
)
from search_spaces.space import SearchSpace
from search_spaces.spec import ArchSpec

# Packed Full HD and what networks that halve it see, down to the fifth time; the largest is the photograph itself.
SIDES = ((34, 60), (68, 120), (136, 240), (272, 480), (544, 960), (1088, 1920))
# How often each is drawn: time is decided where maps are large.
SIDE_WEIGHTS = (1.0, 1.5, 2.0, 2.5, 2.5, 0.8)
TARGET_SHARE = 0.2
CHANNELS = (3, 4, 6, 8, 12, 16, 20, 24, 32, 48, 64, 96, 128, 192, 256)
# A larger map is probed on a strip of the picture as tall as it is.
LARGEST_MAP = 2**25
LARGEST_MACS = 2_500_000_000
POOL, STRATIFIED, RIDGE = 3000, 100, 1e-3
# Costs by which a plan weighs probes before anything is known, in ms: the order of one core of a CPU. Only their ratios
# matter, and these only in so far as they say what dominates a probe.
PLANNED_GMAC, PLANNED_MB, PLANNED_KERNEL, PLANNED_START = 35.0, 0.1, 0.003, 0.003
_PLAN_LAYOUT = Layout(16, 4, 4, 1, 8.0, True, ())

# Operations with one input and no choice but channels, and those with two.
POINTWISE: dict[str, Op] = {
    **{function: Activation(function) for function in ACTIVATIONS},
    "depth_to_space": DepthToSpace(2),
    "resize": Resize(),
    "max_pool": Pool("max"),
    "average_pool": Pool("average"),
    "mean": GlobalMean(),
    "norm": InstanceNorm(),
}
JOINT: dict[str, Op] = {"add": Add(), "subtract": Subtract(), "multiply": Multiply(), "concat": Concat()}
# How often each kind is drawn; an activation is one of eight.
KINDS = {"conv": 30, "conv1": 10, "depthwise": 8, "transposed": 10, "gate": 2, **dict.fromkeys(ACTIVATIONS, 1.2),
         "depth_to_space": 4, "resize": 4, "max_pool": 1.5, "average_pool": 1.5, "mean": 2, "norm": 3,
         "add": 3, "subtract": 1, "multiply": 2, "concat": 4}  # fmt: skip


@dataclass(frozen=True)
class Probe:
    """A network to be timed: one operation (or one and what it needs to have two inputs), or a whole candidate."""

    name: str
    family: str  # networks that know each other; a probe of one operation is its own
    graph: Graph


def reference(h: int, w: int) -> Probe:
    """Return Smallnet for a packed mosaic of that size, to which other networks are compared while they are timed."""
    spec = DESIGNS["smallnet"].spec
    return Probe(f"reference-smallnet-{h}x{w}", family(spec), build_graph(spec, (1, h, w, 4)))


def named(name: str) -> Probe | None:
    """Return the probe of that name; None where it is the name of none."""
    if match := re.fullmatch(rf"reference-smallnet-{_SIZE}", name):
        return reference(int(match["h"]), int(match["w"]))
    for pattern, make in _GRAMMAR:
        if match := re.fullmatch(pattern, name):
            return _probe(name, *make(match.groupdict()))
    return None


def _probe(name: str, h: int, w: int, channels: int, op: Op, more: str) -> Probe:
    g = GraphBuilder((1, h, w, channels))
    if more in ("joint", "gate"):
        beside: Op = Activation("relu") if more == "joint" else GlobalMean()
        g.add("op", op, INPUT, g.add("beside", beside, INPUT))
    else:
        last = g.add("op", op, INPUT)
        if more != "none":
            g.add("activation", Activation(more), last)
    return Probe(name, name, g.build())


_SIZE = r"(?P<h>\d+)x(?P<w>\d+)"
_ACT = r"(?P<act>none|relu)"
_Made = tuple[int, int, int, Op, str]


def _at(f: dict[str, Any], channels: str, op: Op, more: str) -> _Made:
    return int(f["h"]), int(f["w"]), int(f[channels]), op, more


_GRAMMAR: tuple[tuple[str, Callable[[dict[str, Any]], _Made]], ...] = (
    (
        rf"conv-k(?P<k>\d+)-s(?P<s>\d+)-(?P<cin>\d+)-(?P<cout>\d+)-{_ACT}-{_SIZE}",
        lambda f: _at(f, "cin", Conv(int(f["cout"]), int(f["k"]), int(f["s"])), f["act"]),
    ),
    (
        rf"depthwise-k(?P<k>\d+)-d(?P<d>\d+)-(?P<c>\d+)-{_ACT}-{_SIZE}",
        lambda f: _at(f, "c", DepthwiseConv(int(f["k"]), int(f["d"])), f["act"]),
    ),
    (
        rf"transposed-k(?P<k>\d+)-(?P<cin>\d+)-(?P<cout>\d+)-{_SIZE}",
        lambda f: _at(f, "cin", TransposeConv(int(f["cout"]), int(f["k"]), 2), "none"),
    ),
    (rf"gate-(?P<c>\d+)-{_SIZE}", lambda f: _at(f, "c", Multiply(), "gate")),
    *((rf"{name}-(?P<c>\d+)-{_SIZE}", lambda f, op=op: _at(f, "c", op, "none")) for name, op in POINTWISE.items()),
    *((rf"{name}-(?P<c>\d+)-{_SIZE}", lambda f, op=op: _at(f, "c", op, "joint")) for name, op in JOINT.items()),
)


def draw(rng: random.Random) -> Probe | None:
    """Return a probe drawn at random; None where what was drawn is too large for a probe."""
    kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
    h, w = rng.choices(SIDES, SIDE_WEIGHTS)[0]
    probe = named(_drawn_name(kind, rng, h, w))
    assert probe is not None, kind
    largest = max(h * w * c for _, h, w, c in probe.graph.shapes.values())
    if largest > LARGEST_MAP:
        strip = 2 ** (-(-largest // LARGEST_MAP) - 1).bit_length()
        probe = named(re.sub(rf"{h}x{w}$", f"{h}x{w // strip // 2 * 2}", probe.name)) if w // strip >= 8 else None
    return probe if probe and probe.graph.macs <= LARGEST_MACS else None


def _drawn_name(kind: str, rng: random.Random, h: int, w: int) -> str:
    c, act = _channels(rng, h, w), rng.choice(("none", "relu"))
    match kind:
        case "conv":
            kernel, stride = rng.choice(((3, 1), (3, 1), (3, 1), (5, 1), (9, 1), (3, 2), (4, 2)))
            return f"conv-k{kernel}-s{stride}-{c}-{_channels(rng, h, w)}-{act}-{h}x{w}"
        case "conv1":
            return f"conv-k1-s1-{c}-{_channels(rng, h, w)}-{act}-{h}x{w}"
        case "depthwise":
            return f"depthwise-k{rng.choice((3, 5))}-d{rng.choice((1, 1, 2))}-{c}-{act}-{h}x{w}"
        case "transposed":
            return f"transposed-k{rng.choice((2, 3, 4))}-{c}-{_channels(rng, h, w)}-{h}x{w}"
        case "depth_to_space":
            return f"{kind}-{4 * rng.choice((3, 4, 8, 16))}-{h}x{w}"
    return f"{kind}-{c}-{h}x{w}"


def _channels(rng: random.Random, h: int, w: int) -> int:
    return rng.choice([c for c in CHANNELS if c * h * w <= LARGEST_MAP])


def plan(count: int, *, seed: int = 0, largest_side: int | None = None) -> tuple[Probe, ...]:
    """Return `count` different probes: a stratified start, then the least certain of the pool one after the other.

    At least a fifth have an input of the target's pixels or more, unless `largest_side` keeps them smaller.
    """
    import numpy as np

    pool = _pool(random.Random(seed), max(POOL, 3 * count), largest_side)
    chosen = _stratified(pool, min(count, STRATIFIED))
    rows = _rows([network(probe.graph) for probe in pool])
    covariance = np.linalg.inv(RIDGE * np.eye(rows.shape[1]) + rows[chosen].T @ rows[chosen])
    left = set(range(len(pool))) - set(chosen)
    worth = np.array([KINDS[_kind(probe)] for probe in pool])
    large = {index for index, probe in enumerate(pool) if _is_large(probe)}
    while len(chosen) < count:
        missing = left & large if len(large.intersection(chosen)) < TARGET_SHARE * (len(chosen) + 1) else set()
        index = _least_certain(sorted(missing or left), rows, covariance, worth)
        x = covariance @ rows[index]
        covariance -= np.outer(x, x) / (1 + rows[index] @ x)  # Sherman and Morrison 1950
        chosen.append(index)
        left.remove(index)
    return tuple(pool[index] for index in chosen)


def _pool(rng: random.Random, count: int, largest_side: int | None) -> list[Probe]:
    probes: dict[str, Probe] = {}
    while len(probes) < count:
        probe = draw(rng)
        if probe and (largest_side is None or _largest_side(probe) <= largest_side):
            probes[probe.name] = probe
    return list(probes.values())


def _largest_side(probe: Probe) -> int:
    return max(max(h, w) for _, h, w, _ in probe.graph.shapes.values())


def _stratified(pool: Sequence[Probe], count: int) -> list[int]:
    """Return indices that take every operation and size in turn."""
    strata: dict[tuple[str, int], list[int]] = {}
    for index, probe in enumerate(pool):
        strata.setdefault((_kind(probe), probe.graph.input_shape[1]), []).append(index)
    order = sorted(strata.values(), key=lambda indices: indices[0])
    rounds = (indices[turn] for turn in range(count) for indices in order if turn < len(indices))
    return [index for index, _ in zip(rounds, range(count), strict=False)]


def _rows(networks: Sequence[Network]) -> Any:
    """Return what share of a probe's planned time each cost has: [probes, costs]."""
    import numpy as np

    own = tuple(sorted({k.tflite_op for n in networks for k in n.kernels if k.cls not in COMPUTING_CLASSES}))
    amounts = [total_amounts(n, _PLAN_LAYOUT._replace(own_ops=own)) for n in networks]
    names = sorted({name for each in amounts for name in each})
    costs = np.array([_planned_cost(name) for name in names])
    priced = np.array([[each.get(name, 0.0) for name in names] for each in amounts]) * costs
    return priced / priced.sum(axis=1, keepdims=True)


def _planned_cost(name: str) -> float:
    by_unit = {"gmac": PLANNED_GMAC, "gtap": PLANNED_GMAC, "mb": PLANNED_MB, "fixed_ms": PLANNED_START}
    return next((cost for unit, cost in by_unit.items() if name.endswith(unit)), PLANNED_KERNEL)


def _least_certain(able: Sequence[int], rows: Any, covariance: Any, worth: Any) -> int:
    """Return the index whose planned time has the largest variance.

    Variance counts by how much of a network's time its kind takes, for which the pool's frequencies stand.
    """
    import numpy as np

    x = rows[able]
    return able[int((worth[able] * np.einsum("ij,jk,ik->i", x, covariance, x)).argmax())]


def _kind(probe: Probe) -> str:
    kind = probe.name.split("-")[0]
    return "conv1" if probe.name.startswith("conv-k1-") else kind


def _is_large(probe: Probe) -> bool:
    """Whether the picture is as tall as the target's; a strip of it counts."""
    return probe.graph.input_shape[1] >= 544


def candidates(space: SearchSpace, count: int, *, seed: int = 0) -> Iterator[Probe]:
    """Yield the published designs and then random members of the space at Full HD, `count` in all."""
    rng, seen = random.Random(seed), set[str]()
    for name, design in list(DESIGNS.items())[:count]:
        graph = build_graph(design.spec)
        seen.add(graph.structure)
        yield Probe(name, family(design.spec), graph)
    left = count - len(DESIGNS)
    while left > 0:
        spec = space.sample(lambda _, values, __: rng.choice(values))
        graph = build_graph(spec, FULL_HD)
        if graph.structure not in seen and graph.macs <= 25e9:
            seen.add(graph.structure)
            left -= 1
            yield Probe(f"candidate-{family(spec)}-{spec.hash}", family(spec), graph)


def family(spec: ArchSpec) -> str:
    """Return which networks an architecture is a sibling of: its topology, and the block of flat bodies."""
    if spec.topology != "flat":
        return spec.topology
    return f"flat-{spec.block if spec.depth else 'none'}"
