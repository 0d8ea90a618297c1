"""Fits to a handful of networks: nothing becomes zero, a start of one's own is found, and priors are chosen."""

import random
from dataclasses import replace
from math import exp

import pytest

from latency_models.calibration import fit_measured, fit_tied, fit_transfer, left_out
from latency_models.few_networks import FARTHEST, MOST_SPREAD, SourceDevices, adapted, tied
from latency_models.kernels import Kernel, Network
from latency_models.predictor import LAUNCH, Predictor, Transfer
from latency_models.predictor_file import predictor_to_data, read_predictor
from latency_models.priors import choose_sources
from latency_models.roofline import Layout, time_ms, total_amounts
from latency_models.samples import Sample

LAYOUT = Layout(1, 4, 4, 1, None, False, (), grouped=True)
# Milliseconds per unit of an accelerator and of another one that computes as it does, and of a third that does not.
FAST = {"fixed_ms": 0.5, "kernel_ms": 0.005, "io_ms_per_mb": 0.02, "mb": 0.002, "conv": 0.3, "conv_1x1": 0.4,
        "depthwise": 1.5, "grouped": 3.0}  # fmt: skip
OTHER = FAST | {"conv": 6.0, "conv_1x1": 1.0, "depthwise": 0.5, "mb": 0.05, "fixed_ms": 0.01}


def kernel(cls: str, side: int, cin: int, cout: int, taps: int = 1, groups: int = 1) -> Kernel:
    op = {"depthwise": "DEPTHWISE_CONV_2D", "memory": "ADD"}.get(cls, "CONV_2D")
    per = 1 if cls == "depthwise" else cin // groups
    macs = 0 if cls == "memory" else side * side * cout * taps * taps * per
    weights = 0 if cls == "memory" else taps * taps * per * cout
    return Kernel(
        "k", ("k",), cls, op, macs, side * side * cin, side * side * cout, weights, cin, cout, taps, 1, side, side,
        (), "k", groups=groups,
    )  # fmt: skip


def drawn(rng: random.Random, classes: tuple[str, ...]) -> Network:
    kernels = []
    for n in range(rng.randint(8, 40)):
        cls, side, c = rng.choice(classes), rng.choice((14, 28, 56, 112)), rng.choice((16, 32, 64, 128))
        taps = 3 if cls in ("conv", "depthwise") else 1
        kernels.append(kernel(cls, side, c, c, taps)._replace(name=f"{n}", makes=f"{n}"))
    return Network(tuple(kernels), 224 * 224 * 3, 1000)


def truth_ms(network: Network, costs: dict[str, float]) -> float:
    from latency_models.few_networks import _untied

    return time_ms(total_amounts(network, LAYOUT), _untied(costs))


CLASSES = ("conv", "conv_1x1", "depthwise", "memory")


def samples(
    count: int, costs: dict[str, float], *, seed: int = 0, noise: float = 0.05, classes: tuple[str, ...] = CLASSES
) -> list[Sample]:
    rng = random.Random(seed)
    nets = [drawn(rng, classes) for _ in range(count)]
    return [
        Sample(n, truth_ms(n, costs) * exp(rng.gauss(0, noise)), f"family {i % 7}", f"net {i}")
        for i, n in enumerate(nets)
    ]


@pytest.fixture(scope="module")
def source() -> Predictor:
    return fit_tied(samples(24, FAST), io_bytes=4, map_bytes=4)[0]


@pytest.fixture(scope="module")
def unlike() -> Predictor:
    return fit_tied(samples(24, OTHER), io_bytes=4, map_bytes=4)[0]


def error(predictor: Predictor, tested: list[Sample]) -> float:
    return sum(abs(predictor.predict(s.network).runtime_ms / s.runtime_ms - 1) for s in tested) / len(tested)


def _ms(predictor: Predictor, one: Kernel) -> float:
    _, (ms,) = predictor.times_ms(Network((one,), 10, 10))
    return ms


@pytest.mark.parametrize("seed", range(6))
def test_no_class_is_priced_at_zero_however_little_its_networks_say(source: Predictor, seed: int) -> None:
    # Depthwise kernels that cost nothing on the target: non-negative least squares gave them exactly 0 ms.
    target = samples(5, FAST | {"depthwise": 1e-9, "conv_1x1": 1e-9}, seed=50 + seed, noise=0.3)
    core = adapted(target, SourceDevices([source])).core
    assert isinstance(core, Transfer)
    assert min(core.factors.values()) >= exp(-FARTHEST * MOST_SPREAD) * 0.999
    for cls in CLASSES:
        priced = _ms(adapted(target, SourceDevices([source])), kernel(cls, 56, 64, 64, 3 if cls != "memory" else 1))
        assert priced > 0


def test_a_class_that_no_network_speaks_of_keeps_its_prior(source: Predictor) -> None:
    target = samples(8, {name: 3 * cost for name, cost in FAST.items()}, seed=9, classes=("conv", "memory"), noise=0.0)
    core = adapted(target, SourceDevices([source])).core
    assert isinstance(core, Transfer)
    assert core.factors.get("depthwise", 1.0) == 1.0
    assert core.weights[0] == pytest.approx(3.0, rel=0.2)


def test_a_start_and_a_launch_that_no_source_has_are_found(source: Predictor) -> None:
    costs = FAST | {"fixed_ms": 8.0, "kernel_ms": 0.2}
    adapted_to, _ = fit_transfer(samples(10, costs, seed=3, noise=0.0), [source])
    assert error(adapted_to, samples(15, costs, seed=77, noise=0.0)) < 0.06


def test_an_unlike_source_does_not_spoil_what_the_networks_say_alone(unlike: Predictor) -> None:
    known, tested = samples(20, FAST, seed=5), samples(15, FAST, seed=78)
    blended, _ = fit_transfer(known, [unlike])
    assert error(blended, tested) < 1.3 * error(tied(known), tested) + 0.01


def test_twenty_networks_without_a_prior_are_fitted_by_few_coefficients() -> None:
    predictor, held = fit_measured(samples(20, FAST), io_bytes=4, map_bytes=4)
    assert len(held) == 20
    assert predictor.likeness is not None
    assert error(predictor, samples(15, FAST, seed=79)) < 0.08


def test_what_networks_alike_share_is_carried_over() -> None:
    # A kind of network runs a third faster than its kernels say, as whole networks of one kind do.
    known = [s._replace(runtime_ms=s.runtime_ms * (0.67 if n % 2 else 1.0)) for n, s in enumerate(samples(20, FAST))]
    predictor = tied(known)
    plain = replace(predictor, likeness=None)
    assert error(predictor, known) < 0.5 * error(plain, known)


def test_the_interval_of_a_handful_is_wider_than_its_outermost_errors() -> None:
    predictor, held = fit_tied(samples(16, FAST, noise=0.1), io_bytes=4, map_bytes=4)
    assert predictor.interval.low < 0 < predictor.interval.high
    assert predictor.interval.high == pytest.approx(-predictor.interval.low)
    assert predictor.interval.high90 > predictor.interval.high
    assert len(held) == 16


def test_the_prior_is_the_device_that_explains_the_measurements(source: Predictor, unlike: Predictor) -> None:
    target = samples(6, {name: 2 * cost for name, cost in FAST.items()}, seed=21)
    assert next(iter(choose_sources(target, {"unlike": unlike, "like": source}))) == "like"


def test_transfers_and_likenesses_survive_their_file(source: Predictor) -> None:
    adapted_to, _ = fit_transfer(samples(6, FAST, seed=31), [source])
    assert read_predictor("file", predictor_to_data(adapted_to)) == adapted_to


def test_a_file_of_an_earlier_version_has_no_start_of_its_own(source: Predictor) -> None:
    data = predictor_to_data(source)
    old = {
        "core": {"sources": [data], "weights": [1.0], "factors": {"start": 2.0, "conv": 3.0}},
        "calibration": data["calibration"],
        "interval": data["interval"],
        "range": None,
    }
    read = read_predictor("file", old)
    seen = samples(1, FAST)[0].network
    (start, kernels), (plain, before) = read.parts_ms(seen), source.parts_ms(seen)
    assert sum(start.values()) == pytest.approx(2 * sum(plain.values()))
    for k, after, parts in zip(seen.kernels, kernels, before, strict=True):
        if k.cls == "conv":
            assert sum(after.values()) == pytest.approx(3 * sum(parts.values()))
            assert after[LAUNCH] == pytest.approx(3 * parts[LAUNCH])


def test_networks_that_nothing_could_foresee_are_named_with_the_reason() -> None:
    known = samples(4, FAST, classes=("conv", "memory"))
    alone = samples(1, FAST, seed=8, classes=("depthwise", "conv_1x1"))[0]._replace(family="lonely", label="odd")
    reasons = left_out([*known, alone], [])
    assert "conv_1x1, depthwise were measured in its family lonely alone" in reasons["odd"]


def test_a_family_beside_a_single_other_network_is_no_obstacle(source: Predictor) -> None:
    # Without the family, one network is left, by which nothing can be judged.
    few = [s._replace(family="odd" if n == 0 else "same") for n, s in enumerate(samples(5, FAST))]
    predictor, held = fit_transfer(few, [source])
    assert len(held) == 5
    assert predictor.predict(few[0].network).runtime_ms == pytest.approx(few[0].runtime_ms, rel=0.5)


def of_kind(seed: int, count: int, classes: tuple[str, ...], *, noise: float = 0.02) -> list[Sample]:
    """Return networks that repeat one run of operations, as sizes of one network do."""
    made = []
    for number in range(count):
        rng = random.Random(f"{seed} {number}")
        side, width = rng.choice((14, 28, 56)), rng.choice((16, 32, 64))
        kernels = [
            kernel(cls, side, width, width, 3 if cls in ("conv", "depthwise") else 1)._replace(
                name=f"{n}", makes=f"{n}"
            )
            for n, cls in enumerate(classes * rng.randint(3, 6))
        ]
        net = Network(tuple(kernels), 224 * 224 * 3, 1000)
        runtime = truth_ms(net, FAST) * exp(rng.gauss(0, noise))
        made.append(Sample(net, runtime, f"kind {seed}", f"{seed}-{number}"))
    return made


KNOWN_KINDS = (("conv", "memory"), ("depthwise", "conv_1x1"), ("conv", "conv_1x1", "memory"), ("depthwise", "memory"))
UNKNOWN_KIND = ("conv", "depthwise", "conv", "conv_1x1")


@pytest.fixture(scope="module")
def families() -> list[Sample]:
    return [each for seed, kind in enumerate(KNOWN_KINDS) for each in of_kind(seed, 5, kind)]


def test_an_interval_is_wider_for_a_network_like_none_that_target_or_sources_know(families: list[Sample]) -> None:
    noisy = [s._replace(runtime_ms=s.runtime_ms * exp(0.4 * (-1) ** n)) for n, s in enumerate(families)]
    source = fit_tied(noisy, io_bytes=4, map_bytes=4)[0]
    predictor, _ = fit_transfer(families[::3], [source])
    sibling, stranger = of_kind(0, 9, KNOWN_KINDS[0])[-1], of_kind(9, 1, UNKNOWN_KIND)[0]
    alike, unlike = predictor.predict(sibling.network), predictor.predict(stranger.network)
    assert not any("no network like this one" in flag for flag in alike.flags)
    assert any("no network like this one was timed" in flag for flag in unlike.flags)
    assert unlike.high_ms / unlike.low_ms > 1.2 * alike.high_ms / alike.low_ms
    assert unlike.high_ms / unlike.runtime_ms == pytest.approx(exp(source.interval.high), rel=0.01)


def test_where_networks_left_out_were_new_to_the_sources_their_errors_are_the_interval(families: list[Sample]) -> None:
    source, _ = fit_tied(families, io_bytes=4, map_bytes=4)
    own = [each for seed in range(20, 26) for each in of_kind(seed, 1, UNKNOWN_KIND + ("memory",) * (seed - 19))]
    predictor, _ = fit_transfer(own, [source])
    assert predictor.kinship is not None
    assert (predictor.kinship.low, predictor.kinship.high) == (predictor.interval.low, predictor.interval.high)


def test_what_a_predictor_knows_survives_its_file(families: list[Sample]) -> None:
    source, _ = fit_tied(families, io_bytes=4, map_bytes=4)
    predictor, _ = fit_transfer(families[::4], [source])
    read = read_predictor("file", predictor_to_data(predictor))
    assert read.kinship == predictor.kinship
    stranger = of_kind(9, 1, UNKNOWN_KIND)[0].network
    assert read.predict(stranger) == predictor.predict(stranger)
