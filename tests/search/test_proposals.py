"""What is proposed next: within the limits, never what was seen, better than chance, and repeatable."""

import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import optuna
import pytest
from flow import few_to_choose_from

from latency_models.device import load_device
from nas.defaults import DEFAULT_DEVICE
from nas.search.constraints import Limits
from nas.search.improvement import OfFront, OfScore, corner_of, expected_improvement
from nas.search.optuna_sampler import ModelSampler
from nas.search.prior import TABLES, best_networks, prior, standardised, table_names, table_size
from nas.search.proposals import (
    CENTRES,
    CHOSEN_PER_POOL,
    FAR,
    MOST_PRICED,
    RANDOM,
    VARIATIONS,
    WORKERS_PER_BATCH,
    Cost,
    Known,
    Proposals,
    genes_apart,
)
from nas.search.score import final_score
from nas.search.surrogate import (
    LATE_DB,
    Result,
    Surrogate,
    features,
    predicted_seconds,
    structure,
)
from search_spaces.designs import DESIGNS
from search_spaces.graph import Graph
from search_spaces.networks import build_graph
from search_spaces.space import load_space
from search_spaces.spec import ArchSpec

SPACE, DEVICE = load_space("mai21"), load_device(DEFAULT_DEVICE)
FIRST, FINAL = 300, 8100


def members(count: int, seed: int = 0) -> list[ArchSpec]:
    rng = random.Random(seed)
    return [SPACE.sample(lambda _, values, __: rng.choice(values)) for _ in range(count)]


def truth(spec: ArchSpec) -> float:
    """A made-up quality: wide and deep is better, ReLU bodies suffer, a long skip helps."""
    graph = build_graph(spec)
    return 20 + 1.5 * structure(graph)[0] + 0.8 * (spec.long_skip == "concat") - 0.7 * (spec.activation == "relu")


def price_under(limit_ms: float | None) -> "object":
    def price(spec: ArchSpec) -> Cost | None:
        graph = build_graph(spec)
        if DEVICE.unsupported(graph):
            return None
        runtime_ms = DEVICE.predict(graph).runtime_ms
        excess = Limits(limit_ms, None).excess(runtime_ms=runtime_ms, peak_memory_mb=0.0)
        return Cost(runtime_ms, excess.violation if excess else 0.0)

    return price


def known(specs: Sequence[ArchSpec]) -> list[Known]:
    price = price_under(None)
    costs = [(spec, price(spec)) for spec in specs]  # type: ignore[operator]
    return [Known(spec, cost.runtime_ms, {FIRST: truth(spec)}, 5.0) for spec, cost in costs if cost is not None]


def proposals(limit_ms: float | None = None, **options: object) -> Proposals:
    return Proposals(SPACE, price_under(limit_ms), seed=0, steps=FINAL, **options)  # type: ignore[arg-type]


def never(_: Graph) -> bool:
    return False


# The model


def test_features_tell_networks_apart_and_are_of_one_length() -> None:
    rows = np.array([features(spec) for spec in members(50)])
    assert rows.shape[0] == 50
    assert np.isfinite(rows).all()
    assert len({row.tobytes() for row in rows}) == len({build_graph(spec).structure for spec in members(50)})


@pytest.mark.parametrize(("name", "field"), [("smallnet", 2 + 2 * 2 * 2 + 2 * 2)])
def test_the_receptive_field_is_what_kernels_reach(name: str, field: float) -> None:
    # Smallnet: 3×3 kernels one after another on maps of half the mosaic's size.
    graph = build_graph(DESIGNS[name].spec)
    count = sum(key.endswith("/kernel") for key in graph.parameter_shapes)
    assert 2 ** (2 * (structure(graph)[2] + 2)) == pytest.approx(2 + count * 2 * 2), field


def test_the_model_orders_networks_it_has_not_seen() -> None:
    from scipy.stats import spearmanr

    seen, unseen = members(60), members(60, seed=1)
    model = Surrogate([Result(spec, {FIRST: truth(spec)}) for spec in seen], steps=FINAL)
    mean, deviation = model.predict(unseen)
    assert spearmanr(mean, [truth(spec) for spec in unseen]).statistic > 0.8
    assert (deviation > 0).all()


def test_the_model_knows_what_it_was_told_and_how_short_that_training_was() -> None:
    specs = members(30)
    results = [Result(spec, {FIRST: truth(spec), FINAL: truth(spec) + 2}) for spec in specs[:15]]
    results += [Result(spec, {FIRST: truth(spec)}) for spec in specs[15:]]
    model = Surrogate(results, steps=FINAL)
    rise = [model.at_final[n] - truth(spec) for n, spec in enumerate(specs)]
    assert rise[:15] == pytest.approx([2.0] * 15)
    assert np.mean(rise[15:]) == pytest.approx(2.0, abs=0.5)  # learned from the others
    _, deviation = model.predict(specs)
    assert deviation[:15].mean() < deviation[15:].mean()


def test_short_trainings_do_not_tell_what_comes_late_however_many_there_are() -> None:
    base = DESIGNS["smallnet"].spec
    near = [base, *SPACE.neighbours(base)]
    narrower = [next(spec for spec in near if spec.width < base.width)]

    def deviation(long: int) -> float:
        results = [
            Result(spec, {FIRST: truth(spec), **({FINAL: truth(spec)} if n < long else {})})
            for n, spec in enumerate(near)
            if spec != narrower[0]
        ]
        return float(Surrogate(results, steps=FINAL).predict(narrower)[1][0])

    assert deviation(0) > 0.9 * LATE_DB
    assert deviation(len(near)) < 0.7 * deviation(0)


def test_a_prior_that_is_right_makes_few_results_tell_more() -> None:
    from scipy.stats import spearmanr

    seen, unseen = members(8), members(60, seed=1)
    index = {features(spec).tobytes(): truth(spec) for spec in [*seen, *unseen]}
    results = [Result(spec, {FIRST: truth(spec)}) for spec in seen]
    truths = [truth(spec) for spec in unseen]

    def order(prior_: object) -> float:
        model = Surrogate(results, steps=FINAL, prior=prior_)  # type: ignore[arg-type]
        return float(spearmanr(model.predict(unseen)[0], truths).statistic)

    assert order(lambda x, _: np.array([index[row.tobytes()] / 3 for row in x])) > max(0.95, order(None))


def test_a_prior_that_is_wrong_is_outvoted() -> None:
    from scipy.stats import spearmanr

    seen, unseen = members(80), members(60, seed=1)
    model = Surrogate(
        [Result(spec, {FIRST: truth(spec)}) for spec in seen],
        steps=FINAL,
        prior=lambda x, _: -x[:, 0] + np.sin(9 * x[:, 1]),
    )
    assert spearmanr(model.predict(unseen)[0], [truth(spec) for spec in unseen]).statistic > 0.7


def test_what_takes_longer_is_foreseen_to_take_longer() -> None:
    specs = members(40)
    seconds = [float(np.exp(structure(build_graph(spec))[0])) for spec in specs]
    predicted = predicted_seconds(specs[30:], specs[:30], seconds[:30])
    assert np.corrcoef(np.log(predicted), np.log(seconds[30:]))[0, 1] > 0.9


def test_improvement_is_expected_of_the_better_and_of_the_less_known() -> None:
    gain = expected_improvement(np.array([1.0, 2.0, 1.0]), np.array([0.1, 0.1, 2.0]), best=1.5)
    assert gain[1] == pytest.approx(0.5, abs=1e-3)
    assert gain[0] < 1e-6 < gain[2]


# Proposals


@pytest.fixture
def few() -> Iterator[None]:
    """Few networks to choose from, where the choice itself is not looked at."""
    with few_to_choose_from():
        yield


@pytest.mark.usefixtures("few")
def test_proposals_are_a_function_of_seed_number_and_results() -> None:
    results = known(members(12))
    first = [proposals().propose(n, results, [], never) for n in range(12, 15)]
    assert first == [proposals().propose(n, results, [], never) for n in range(12, 15)]
    assert len(set(first)) > 1


@pytest.mark.usefixtures("few")
def test_what_was_seen_is_not_proposed_again() -> None:
    results = known(members(12))
    seen = {build_graph(k.spec).structure for k in results}
    for number in range(12, 20):
        spec = proposals().propose(number, results, [], lambda graph: graph.structure in seen)
        assert spec is not None
        assert build_graph(spec).structure not in seen
        seen.add(build_graph(spec).structure)


def test_proposals_find_more_than_chance_does() -> None:
    """Ten proposals after ten random members, against forty random members, from two seeds."""
    ours, chance = [], []
    for seed in range(2):
        results = known(members(10, seed))
        maker = Proposals(SPACE, price_under(None), seed=seed, steps=FINAL)  # type: ignore[arg-type]
        for number in range(10, 20):
            spec = maker.propose(number, results, [], never)
            assert spec is not None
            results += known([spec])
        ours.append(max(final_score(k.psnr_db[FIRST], k.runtime_ms) for k in results))
        chance.append(max(final_score(k.psnr_db[FIRST], k.runtime_ms) for k in known(members(40, seed + 100))))
    assert np.mean(ours) > np.mean(chance), (ours, chance)


def test_how_long_a_network_was_trained_does_not_decide_how_good_it_is_held_for() -> None:
    """Each tripling of steps brings about half of what the one before brought; most were stopped on the way."""
    rng = np.random.default_rng(0)
    curve = {300: 0.0, 900: 0.9, 2700: 1.45, FINAL: 1.7}
    ends = [300] * 12 + [900] * 12 + [2700] * 6 + [FINAL] * 2
    offsets = rng.normal(0, 0.3, len(ends))
    results = [
        Result(spec, {at: 30 + offset + db for at, db in curve.items() if at <= end})
        for spec, offset, end in zip(members(len(ends)), offsets, ends, strict=True)
    ]
    model = Surrogate(results, steps=FINAL)
    errors = model.at_final - (30 + offsets + curve[FINAL])
    by_end = [abs(float(np.mean([e for e, at in zip(errors, ends, strict=True) if at == end]))) for end in curve]
    assert max(by_end) < 0.15


@pytest.mark.parametrize("limit_ms", [55.0, 50.0])
def test_tight_limits_are_walked_to(limit_ms: float) -> None:
    """Not one of the designs is as fast, and random members hardly ever are."""
    maker = proposals(limit_ms)
    for number in range(3):
        spec = maker.propose(number, [], [], never)
        assert spec is not None
        assert DEVICE.predict(build_graph(spec)).runtime_ms <= limit_ms
    assert maker.priced < 3 * (MOST_PRICED + VARIATIONS + RANDOM), "it walked to the end and found too few"


def test_a_limit_out_of_reach_is_told_with_the_least_that_can_be_met() -> None:
    maker = proposals(5.0)
    assert maker.propose(0, [], [], never) is None
    nearest = maker.nearest()
    assert nearest is not None
    assert 5 < nearest.runtime_ms < 60


def test_a_front_is_widened_at_both_ends() -> None:
    results = known(members(20))
    maker = proposals(objective="pareto")
    proposed = [maker.propose(number, results, [], never) for number in range(20, 32)]
    runtimes = [DEVICE.predict(build_graph(spec)).runtime_ms for spec in proposed if spec]
    assert max(runtimes) > 1.3 * min(runtimes)


FRONT = [(30.0, 50.0), (31.0, 40.0), (33.0, 80.0), (32.0, 85.0), (24.0, 30.0), (20.0, 200.0)]  # dB, ms


def area(points: Sequence[tuple[float, float]]) -> float:
    """The area between a front and its corner, by adding up thin slices of time."""
    worst, slowest = corner_of(*zip(*FRONT, strict=True))  # type: ignore[arg-type]
    width = 0.05
    starts = np.arange(0, slowest, width)
    best = [max([db for db, ms in points if ms <= start + 1e-9] + [worst]) for start in starts]
    return float(np.sum(np.array(best) - worst) * width)


@pytest.mark.parametrize(("mean_db", "runtime_ms"), [(32.0, 60.0), (24.0, 20.0), (34.0, 120.0), (30.0, 90.0)])
def test_what_a_network_adds_to_the_front_is_what_many_draws_add_on_average(mean_db: float, runtime_ms: float) -> None:
    front = OfFront(*zip(*FRONT, strict=True))  # type: ignore[arg-type]
    (added,) = front.expected(np.array([mean_db]), np.array([1.5]), np.array([runtime_ms]))
    drawn = np.random.default_rng(0).normal(mean_db, 1.5, 400)
    mean = np.mean([area([*FRONT, (db, runtime_ms)]) for db in drawn]) - area(FRONT)
    assert added == pytest.approx(mean, rel=0.15, abs=0.5)


def test_the_corner_lies_a_little_beyond_the_front_whatever_else_was_trained() -> None:
    assert corner_of([24.0, 33.0, 31.0, 10.0], [30.0, 80.0, 40.0, 500.0]) == pytest.approx((23.1, 85.0))
    assert corner_of([30.0, 20.0], [50.0, 100.0]) == pytest.approx((29.0, 55.0)), "a front of one network"
    assert corner_of([30.0], [50.0]) == (30.0, 50.0)


def test_parents_of_a_front_are_its_members_and_not_always_the_same_ones_first() -> None:
    front = OfFront(*zip(*FRONT, strict=True))  # type: ignore[arg-type]
    ranked = [front.ranked(np.random.default_rng(seed)) for seed in range(10)]
    assert {frozenset(each[:3]) for each in ranked} == {frozenset({1, 2, 4})}
    assert len({each[0] for each in ranked}) > 1


def test_for_the_score_the_best_score_is_to_be_exceeded() -> None:
    score = OfScore([30.0, 31.0], [50.0, 150.0])
    assert score.ranked(np.random.default_rng(0)) == [0, 1]
    sure = score.expected(np.array([31.0, 29.0]), np.array([1e-9, 1e-9]), np.array([50.0, 50.0]))
    assert sure == pytest.approx([1.0, 0.0])


def test_what_is_in_training_is_not_asked_for_twice() -> None:
    results = known(members(12))
    alone = proposals().propose(12, results, [], never)
    assert alone is not None
    beside = proposals().propose(12, results, [alone], lambda graph: graph.structure == build_graph(alone).structure)
    assert beside != alone


def test_where_many_train_at_once_one_model_serves_several_proposals(monkeypatch: pytest.MonkeyPatch) -> None:
    results, running = known(members(20)), members(16, seed=1)
    maker, fitted = proposals(), []
    monkeypatch.setattr(maker, "_model", lambda *given, made=maker._model: fitted.append(1) or made(*given))
    proposed: list[ArchSpec] = []
    for number in range(10):
        seen = {build_graph(spec).structure for spec in proposed}
        spec = maker.propose(20 + number, results, running, lambda graph, seen=seen: graph.structure in seen)  # type: ignore[misc]
        assert spec is not None
        proposed.append(spec)
    assert len(fitted) == 10 / (1 + len(running) // WORKERS_PER_BATCH)
    assert len({build_graph(spec).structure for spec in proposed}) == 10


def test_what_is_chosen_beside_the_best_is_not_much_like_it() -> None:
    results = known(members(30))
    model = Surrogate([Result(k.spec, k.psnr_db) for k in results], steps=FINAL)
    smallnet = DESIGNS["smallnet"].spec
    pool = [smallnet, smallnet.with_genes(output_activation="sigmoid"), DESIGNS["csanet"].spec]
    assert proposals()._apart(pool, np.array([1.0, 0.95, 0.8]), model, 3) == [pool[0], pool[2], pool[1]]


# Optuna


def test_optuna_asks_the_model() -> None:
    wanted = DESIGNS["smallnet"].spec.with_genes(width=24)
    distributions = {
        "width": optuna.distributions.IntDistribution(0, 9),
        "activation": optuna.distributions.CategoricalDistribution(("relu", "tanh")),
    }
    values = {"width": 4, "activation": "tanh"}
    sampler = ModelSampler(lambda: wanted, lambda spec: values if spec == wanted else {}, distributions, 0)
    trial = optuna.create_study(sampler=sampler).ask()
    assert trial.suggest_int("width", 0, 9) == 4
    assert trial.suggest_categorical("activation", ("relu", "tanh")) == "tanh"


def test_without_a_proposal_optuna_draws_at_random() -> None:
    sampler = ModelSampler(lambda: None, lambda _: {}, {"width": optuna.distributions.IntDistribution(0, 9)}, 0)
    study = optuna.create_study(sampler=sampler)
    assert len({study.ask().suggest_int("width", 0, 9) for _ in range(20)}) > 3


# The prior


def test_a_table_of_the_same_pairs_is_left_out() -> None:
    every = table_names("no such pairs")
    assert sorted(every) == sorted(path.name.removesuffix(".json.gz") for path in TABLES.glob("*.json.gz"))
    assert all(table_size(name) >= 50 for name in every)
    assert prior(()) is None


@pytest.mark.parametrize("name", table_names("no such pairs"))
def test_a_forest_orders_the_designs(name: str) -> None:
    of_table = prior([name])
    assert of_table is not None
    x = np.array([features(DESIGNS[each].spec) for each in ("smallnet", "acvlab")])
    smallnet, acvlab = of_table(x, np.array([900, 900]))
    assert smallnet > acvlab


def test_the_scale_of_a_table_is_its_own() -> None:
    values = np.array([20.0, 25.0, 26.0, 27.0, 28.0, 29.0])
    assert standardised(values) == pytest.approx(standardised(3 * values + 7))
    assert standardised(np.array([0.0, 25.0, 26.0, 27.0, 28.0, 29.0])).min() == -3


def test_every_fourth_proposal_leaves_the_neighbourhood_of_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    parents = [DESIGNS["smallnet"].spec, DESIGNS["smallnet"].spec.with_genes(kernel=5)][:CENTRES]
    monkeypatch.setattr(Proposals, "_parents", lambda *_: parents)
    monkeypatch.setattr(Proposals, "_gain", lambda _, pool, *__: -np.arange(len(pool)) / len(pool))
    maker, results = proposals(), known(members(12))
    made = [maker.propose(number, results, [], never) for number in range(8)]
    nearest = [min(genes_apart(spec, centre) for centre in parents) for spec in made if spec]
    assert min(nearest[3], nearest[7]) >= FAR
    assert max(nearest[:3]) < FAR, "the first of the pool are small changes"


def test_networks_that_were_good_on_other_pairs_are_looked_at_and_crossed_with_the_best() -> None:
    example = DESIGNS["smallnet"].spec.with_genes(stem_activation="prelu", activation="elu", attention="channel")
    maker = proposals(examples=[example, ArchSpec(width=128, depth=8)])
    assert maker._examples == [example], "what the space does not hold is left out"
    drawn = list(maker._drawn(np.random.default_rng(0), [DESIGNS["smallnet"].spec.with_genes(kernel=5)]))
    assert example in drawn
    assert any(spec.activation == "elu" and spec.kernel == 5 for spec in drawn)


def test_examples_are_the_best_networks_of_each_table() -> None:
    examples = best_networks(["demo"], 3)
    assert 3 <= len(examples) <= 6
    assert set(examples) <= set(best_networks(["demo", "sensor-pairs"], 3))
    assert best_networks([]) == []


def test_before_any_result_one_pool_serves_many_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    pools, draw = [], Proposals._pool

    def counted(self: Proposals, *arguments: Any) -> list[ArchSpec]:
        pools.append(draw(self, *arguments))
        return pools[-1]

    monkeypatch.setattr(Proposals, "_pool", counted)
    maker, running = proposals(), members(5 * WORKERS_PER_BATCH)
    made = [maker.propose(number, [], running, never) for number in range(6)]
    assert len(set(made)) == 6
    assert len(pools) == 1


def test_many_workers_choose_from_a_larger_pool() -> None:
    maker, rng = proposals(), np.random.default_rng(0)
    assert len(maker._pool(rng, [], never, 10 * CHOSEN_PER_POOL)) > 5 * len(maker._pool(rng, [], never, 1))


def test_a_network_is_built_once_per_proposal() -> None:
    results, model = known(members(60)), proposals(examples=best_networks(["demo"]))
    drawn: set[str] = set()
    build_graph.cache_clear()
    model.propose(0, results, [], lambda g: drawn.add(g.structure) or False)  # type: ignore[func-returns-value]
    built = build_graph.cache_info()
    assert built.misses == built.currsize >= len(drawn) > VARIATIONS
