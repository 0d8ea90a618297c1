"""Learning rates are what the recipe says, step by step."""

from dataclasses import replace

import numpy as np
import pytest

from nas.train.recipe import Recipe
from nas.train.registry import SCHEDULES, Schedule
from nas.train.schedules import learning_rates
from search_spaces.errors import UsageError


def needed(schedule: Schedule) -> dict[str, float]:
    """What a recipe has to say with a schedule."""
    drops = {"drop_every": 3, "drop_factor": 0.5} if schedule.drops else {}
    return drops | ({"final_learning_rate": 1e-4} if schedule.final == "needed" else {})


every_schedule = pytest.mark.parametrize("name", SCHEDULES)


@every_schedule
def test_rates_begin_at_the_recipes_and_lie_between_it_and_zero(name: str) -> None:
    rates = learning_rates(Recipe(learning_rate=0.01, total_steps=20, schedule=name, **needed(SCHEDULES[name])))
    assert rates[0] == pytest.approx(0.01)
    assert ((rates > 0) & (rates <= 0.01 * (1 + 1e-6))).all()


@every_schedule
def test_a_schedule_is_refused_what_it_does_not_take_or_lacks(name: str) -> None:
    schedule = SCHEDULES[name]
    if schedule.final == "none":
        with pytest.raises(UsageError, match=f"{name} schedule takes no final_learning_rate"):
            Recipe(schedule=name, final_learning_rate=1e-5, **needed(schedule))
    for lacking in needed(schedule):
        with pytest.raises(UsageError, match=f"{name} schedule needs .*{lacking}"):
            Recipe(schedule=name, **{given: value for given, value in needed(schedule).items() if given != lacking})
    if not schedule.drops:
        with pytest.raises(UsageError, match=f"schedule drops, this one is {name}"):
            Recipe(schedule=name, drop_every=5, drop_factor=0.5, **needed(schedule))


def test_learning_rates_fall_along_a_cosine_from_the_recipes_to_nearly_zero() -> None:
    rates = learning_rates(Recipe(learning_rate=0.01, total_steps=100))
    wanted = 0.01 * (1 + np.cos(np.pi * np.arange(100) / 100)) / 2
    np.testing.assert_allclose(rates, wanted, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize(
    ("schedule", "middle"), [("cosine", 0.5 * (5e-4 + 1e-5)), ("exponential", np.sqrt(5e-4 * 1e-5))]
)
def test_rates_end_where_the_recipe_says(schedule: str, middle: float) -> None:
    recipe = Recipe(learning_rate=5e-4, final_learning_rate=1e-5, schedule=schedule, total_steps=10_000)
    rates = learning_rates(recipe)
    assert rates[0] == pytest.approx(5e-4)
    assert rates[5000] == pytest.approx(middle, rel=1e-3)
    assert rates[-1] == pytest.approx(1e-5, rel=1e-3)
    assert (np.diff(rates) <= 0).all()


@every_schedule
def test_rates_of_a_longer_training_are_lower_by_the_root_of_its_length(name: str) -> None:
    recipe = Recipe(learning_rate=0.01, total_steps=20, schedule=name, **needed(SCHEDULES[name]))
    rates, lower = (learning_rates(replace(recipe, full_rate_steps=steps)) for steps in (0, 5))
    np.testing.assert_allclose(lower, rates / 2, rtol=0.01)


def test_a_constant_rate_stays() -> None:
    constant = learning_rates(Recipe(learning_rate=5e-4, schedule="constant", total_steps=10))
    np.testing.assert_array_equal(constant, np.full(10, 5e-4, np.float32))


def test_a_step_schedule_drops_when_and_by_how_much_the_recipe_says() -> None:
    recipe = Recipe(learning_rate=8e-3, schedule="step", drop_every=4, drop_factor=0.5, total_steps=10)
    wanted = [8e-3] * 4 + [4e-3] * 4 + [2e-3] * 2
    np.testing.assert_allclose(learning_rates(recipe), wanted, rtol=1e-6)


@every_schedule
def test_a_warm_up_rises_in_a_line_and_the_schedule_takes_the_rest(name: str) -> None:
    settings = {"learning_rate": 0.01, "schedule": name, **needed(SCHEDULES[name])}
    rates = learning_rates(Recipe(**settings, warmup=5, total_steps=25))
    np.testing.assert_allclose(rates[:5], [0.002, 0.004, 0.006, 0.008, 0.01], rtol=1e-6)
    np.testing.assert_allclose(rates[5:], learning_rates(Recipe(**settings, total_steps=20)), rtol=1e-6)
