"""Learning rates are what the recipe says, step by step."""

import numpy as np
import pytest

from nas.train.recipe import SCHEDULES as NAMES
from nas.train.recipe import Recipe
from nas.train.schedules import SCHEDULES, learning_rates


def test_every_schedule_of_a_recipe_has_a_rule() -> None:
    assert tuple(SCHEDULES) == NAMES


def test_learning_rates_fall_along_a_cosine_from_the_recipes_to_nearly_zero() -> None:
    rates = learning_rates(Recipe(learning_rate=0.01, horizon=100))
    wanted = 0.01 * (1 + np.cos(np.pi * np.arange(100) / 100)) / 2
    np.testing.assert_allclose(rates, wanted, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize(
    ("schedule", "middle"), [("cosine", 0.5 * (5e-4 + 1e-5)), ("exponential", np.sqrt(5e-4 * 1e-5))]
)
def test_rates_end_where_the_recipe_says(schedule: str, middle: float) -> None:
    recipe = Recipe(learning_rate=5e-4, final_learning_rate=1e-5, schedule=schedule, horizon=10_000)
    rates = learning_rates(recipe)
    assert rates[0] == pytest.approx(5e-4)
    assert rates[5000] == pytest.approx(middle, rel=1e-3)
    assert rates[-1] == pytest.approx(1e-5, rel=1e-3)
    assert (np.diff(rates) <= 0).all()


def test_a_constant_rate_stays() -> None:
    constant = learning_rates(Recipe(learning_rate=5e-4, schedule="constant", horizon=10))
    np.testing.assert_array_equal(constant, np.full(10, 5e-4, np.float32))


def test_a_step_schedule_drops_when_and_by_how_much_the_recipe_says() -> None:
    recipe = Recipe(learning_rate=8e-3, schedule="step", drop_every=4, drop_factor=0.5, horizon=10)
    wanted = [8e-3] * 4 + [4e-3] * 4 + [2e-3] * 2
    np.testing.assert_allclose(learning_rates(recipe), wanted, rtol=1e-6)


@pytest.mark.parametrize("schedule", NAMES)
def test_a_warm_up_rises_in_a_line_and_the_schedule_takes_the_rest(schedule: str) -> None:
    more = {"step": {"drop_every": 3, "drop_factor": 0.5}, "exponential": {"final_learning_rate": 1e-4}}
    settings = {"learning_rate": 0.01, "schedule": schedule, **more.get(schedule, {})}
    rates = learning_rates(Recipe(**settings, warmup=5, horizon=25))
    np.testing.assert_allclose(rates[:5], [0.002, 0.004, 0.006, 0.008, 0.01], rtol=1e-6)
    np.testing.assert_allclose(rates[5:], learning_rates(Recipe(**settings, horizon=20)), rtol=1e-6)
