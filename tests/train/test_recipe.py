"""A recipe is checked before anything runs."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.train.recipe import LossPhase, Recipe, parse_loss
from nas.train.registry import LOSSES
from search_spaces.errors import UnknownNameError, UsageError

weights = st.dictionaries(st.sampled_from([*LOSSES]), st.floats(1e-6, 1e6), min_size=1)


@given(weights)
def test_a_written_loss_is_read_back(loss: dict[str, float]) -> None:
    assert parse_loss(",".join(f"{name}={weight!r}" for name, weight in loss.items())) == loss


@pytest.mark.parametrize(
    ("text", "loss"),
    [
        ("l1", {"l1": 1.0}),
        ("l1=1,ssim=0.2", {"l1": 1.0, "ssim": 0.2}),
        (" charbonnier , ssim=1e-1 ", {"charbonnier": 1.0, "ssim": 0.1}),
        ("l1=1,ssim=0", {"l1": 1.0, "ssim": 0.0}),
    ],
)
def test_a_loss_is_read(text: str, loss: dict[str, float]) -> None:
    assert parse_loss(text) == loss


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("l2", 'Unknown loss "l2".*Did you mean "l1"'),
        ("", 'Unknown loss ""'),
        ("l1,", 'Unknown loss ""'),
        ("l1=much", r'written name=weight, such as "l1=1,ssim=0\.2"; got "l1=much"'),
        ("l1=-1", r"weight of loss l1 must be zero or more, got -1\.0"),
        ("l1=nan", "weight of loss l1 must be zero or more, got nan"),
        ("ssim=inf", "weight of loss ssim must be zero or more, got inf"),
        ("l1=0", "At least one loss needs a weight above zero"),
    ],
)
def test_a_loss_that_makes_no_sense_says_why(text: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        parse_loss(text)


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ({"learning_rate": 0.0}, r"learning rate must lie in \(0, 1\], got 0\.0"),
        ({"learning_rate": 1.5}, r"got 1\.5"),
        ({"learning_rate": float("nan")}, "got nan"),
        ({"learning_rate": float("inf")}, "got inf"),
        ({"optimiser": "adamw"}, r"AdamW needs a weight_decay above zero, such as 1e-4, got 0\.0"),
        ({"weight_decay": 0.1}, 'Only the optimiser "adamw" decays weights, this one is adam; got 0\\.1'),
        ({"clip_norm": -1.0}, r"clip_norm must be zero .* or more, got -1\.0"),
        ({"ema": 1.0}, r"ema, must lie in \[0, 1\), got 1\.0"),
        ({"vector_rate": 0.5}, 'Only the optimiser "muon" has a vector_rate, this one is adam'),
        ({"optimiser": "muon", "vector_rate": 0.0}, r"vector_rate is a share .* in \(0, 1\], got 0\.0"),
        ({"average_share": 1.0}, r"average_share must lie in \[0, 1\), got 1\.0"),
        ({"ema": 0.9, "average_share": 0.1}, "averaged by ema or by average_share, not by both"),
        ({"warmup": 1000}, "warmup must be shorter than the 1000 steps, got 1000"),
        ({"warmup": -1}, "got -1"),
        ({"schedule": "step"}, r"step schedule needs drop_every .* got drop_every 0 and drop_factor 0\.0"),
        ({"drop_every": 5, "drop_factor": 0.5}, "Only a step schedule drops, this one is cosine"),
        ({"precision": "float16"}, 'Unknown dtype "float16"'),
        ({"vgg_layer": "relu9_9"}, 'Unknown vgg_layer "relu9_9"'),
        ({"loss": {"texture": 1.0}, "patch": 16}, "texture judges patches of 32 pixels or more, got 16"),
        ({"batch": 0}, "batch needs at least one pair, got 0"),
        ({"patch": 12}, "multiple of 4 of at least 16 pixels, got 12"),
        ({"patch": 18}, "multiple of 4 of at least 16 pixels, got 18"),
        ({"total_steps": 0}, "takes 1 to 100000000 steps, got 0"),
        ({"loss": {}}, "At least one loss"),
        ({"loss": {"l1": -1.0}}, "zero or more"),
    ],
)
def test_a_setting_out_of_range_says_what_is_in_range(setting: dict[str, object], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        Recipe(**setting)


def test_the_smallest_recipe_is_allowed() -> None:
    assert Recipe(learning_rate=1.0, batch=1, patch=16, total_steps=1).patch == 16


def test_an_unknown_loss_in_a_recipe_is_an_unknown_name() -> None:
    with pytest.raises(UnknownNameError, match=f"known: {', '.join(sorted(LOSSES))}"):
        Recipe(loss={"psnr": 1.0})


def test_a_recipe_survives_json() -> None:
    recipe = Recipe(loss={"l1": 1.0, "ssim": 0.2}, learning_rate=1e-4, batch=2, patch=64, total_steps=50)
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


# Phases, schedules and what was stored before they existed

PHASED = Recipe(loss={"l1": 1.0}, total_steps=1000, phases=(LossPhase(800, {"l1": 1.0, "ssim": 0.1}),))


def test_the_losses_of_a_step_are_those_of_its_phase() -> None:
    assert [PHASED.during(step).loss for step in (0, 799)] == [{"l1": 1.0}] * 2
    assert [PHASED.during(step).loss for step in (800, 999)] == [{"l1": 1.0, "ssim": 0.1}] * 2
    assert PHASED.during(900).phases == ()


@given(st.integers(3, 100_000), st.data())
def test_phases_keep_their_shares_and_their_order_at_any_length(steps: int, data: st.DataObject) -> None:
    starts = sorted(data.draw(st.sets(st.integers(1, 999), min_size=1, max_size=2)))
    recipe = Recipe(phases=tuple(LossPhase(start, {"l1": 1.0}) for start in starts))
    scaled = recipe.scaled(steps)
    assert scaled.total_steps == steps
    for before, after in zip(recipe.phases, scaled.phases, strict=True):
        assert abs(after.from_step / steps - before.from_step / 1000) <= 2 / steps
    assert recipe.scaled(1000) == recipe


def test_a_recipe_is_not_scaled_to_fewer_steps_than_phases() -> None:
    with pytest.raises(UsageError, match="2 phases needs at least 2 steps, got 1"):
        PHASED.scaled(1)
    assert PHASED.scaled(2).phases[0].from_step == 1


def test_another_loss_is_that_of_the_whole_training() -> None:
    assert PHASED.changed(loss={"mse": 2.0}) == Recipe(loss={"mse": 2.0}, total_steps=1000)
    assert PHASED.changed(batch=2).phases == PHASED.phases


def test_a_recipe_stored_before_a_field_existed_means_what_it_meant() -> None:
    old = {"loss": {"l1": 1.0}, "learning_rate": 3e-3, "batch": 4, "patch": 64, "horizon": 900}
    assert Recipe.from_dict(old) == Recipe(total_steps=900)
    with pytest.raises(UnknownNameError, match=r'Unknown key of a recipe: "bach".*Did you mean "batch"'):
        Recipe.from_dict(old | {"bach": 4})


def test_a_phased_recipe_survives_json() -> None:
    assert Recipe.from_dict(json.loads(json.dumps(PHASED.to_dict()))) == PHASED


def test_another_length_scales_warm_up_and_drops() -> None:
    recipe = Recipe(total_steps=1000, warmup=100, schedule="step", drop_every=300, drop_factor=0.1).scaled(100)
    assert (recipe.warmup, recipe.drop_every) == (10, 30)
    assert Recipe(total_steps=1000, schedule="step", drop_every=300, drop_factor=0.1).scaled(2).drop_every == 1


def test_a_loss_that_takes_over_later_is_used() -> None:
    recipe = Recipe(phases=(LossPhase(10, {"l1": 1.0, "vgg": 0.1, "tv": 0.0}),))
    assert [recipe.uses(name) for name in ("l1", "vgg", "tv", "ssim")] == [True, True, False, False]


def test_longer_trainings_take_a_lower_rate_unless_a_rate_is_asked_for() -> None:
    recipe = Recipe(learning_rate=0.02, full_rate_steps=2000)
    assert [recipe.scaled(steps).peak_rate for steps in (1, 2000, 8000)] == [0.02, 0.02, 0.01]
    assert recipe.changed(batch=2).scaled(8000).peak_rate == 0.01
    assert recipe.changed(learning_rate=0.02).scaled(8000).peak_rate == 0.02
    assert Recipe(learning_rate=0.02).scaled(8000).peak_rate == 0.02
