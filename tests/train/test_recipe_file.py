"""Recipes are data: every built-in one is whole, the user's own come first, and a bad one is one sentence."""

import json
import re
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from flow import in_process, refusal

from nas import backend
from nas.train.default_recipe import HARDWARE_RECIPE
from nas.train.recipe import LossPhase, Recipe
from nas.train.recipe_file import BUILTIN, load_recipe, recipe_for, recipe_names
from nas.train.registry import LOSSES
from search_spaces.designs import DESIGNS
from search_spaces.errors import UnknownNameError, UsageError
from search_spaces.spec import ArchSpec

# What the report gives for each team. A setting that is not here is unknown and must be marked as ours.
# Source: arXiv 2105.07809 §4.1–4.9; losses by their terms, in the order in which they take part.
GIVEN: dict[str, dict[str, Any]] = {
    "smallnet": {"terms": [{"l1"}, {"l1", "vgg"}], "optimiser": "adam", "learning_rate": 1e-4, "batch": 4},
    "csanet": {
        "terms": [{"charbonnier", "vgg", "ssim"}],
        "optimiser": "adam",
        "learning_rate": 5e-4,
        "final_learning_rate": 1e-5,
        "batch": 100,
        "steps": 100_000,
        "flip": "horizontal",
        "rotate": False,
    },
    "tuned-unet": {"terms": [{"mse", "ssim"}], "optimiser": "adam", "learning_rate": 1e-4},
    "enerzai-dense": {"terms": [{"charbonnier", "ms_ssim"}], "optimiser": "adam", "learning_rate": 1e-3, "batch": 4},
    "isp-forever": {"terms": [{"l1", "ssim", "vgg"}], "optimiser": "adam", "learning_rate": 1e-4, "batch": 16},
    "noahtcv": {"terms": [{"l1", "ssim"}], "optimiser": "adam", "learning_rate": 1e-4, "initialiser": "xavier"},
    "acvlab": {"terms": [{"vgg", "ssim", "smooth_l1"}]},
    "cvml": {"terms": [{"l1", "ssim"}], "optimiser": "adam", "learning_rate": 1e-4, "steps": 1_000_000},
    "enerzai-esrgan": {"terms": [{"ms_ssim", "l1"}]},
    "eds": {"terms": [{"vgg", "texture", "colour", "tv"}], "optimiser": "adam", "steps": 33_000},
}
# What nobody does who does not say so.
SPECIAL = {"warmup", "drop_every", "drop_factor", "weight_decay", "clip_norm", "ema", "precision", "vgg_layer"}
SPECIAL |= {"vector_rate", "average_share", "reparameterise", "full_rate_steps"}
SETTINGS = {f.name for f in fields(Recipe)} - {"total_steps", "phases", "loss"} - SPECIAL | {"steps"}

every_design = pytest.mark.parametrize("name", GIVEN)


def setting(recipe: Recipe, name: str) -> Any:
    return recipe.total_steps if name == "steps" else getattr(recipe, name)


def test_the_built_in_recipes_are_those_of_the_ten_designs() -> None:
    assert {path.stem for path in BUILTIN.glob("*.toml")} == set(GIVEN)
    assert {design.variant_of or name for name, design in DESIGNS.items()} == set(GIVEN)
    assert {recipe_for("report", design.spec).name for design in DESIGNS.values()} == set(GIVEN)


@every_design
def test_a_recipe_holds_what_the_report_gives(name: str) -> None:
    published = load_recipe(str(BUILTIN / f"{name}.toml"))
    given = {key: value for key, value in GIVEN[name].items() if key != "terms"}
    assert {key: setting(published.recipe, key) for key in given} == given
    losses = [published.recipe.loss, *(phase.loss for phase in published.recipe.phases)]
    assert [set(loss) for loss in losses] == GIVEN[name]["terms"]
    assert published.title
    assert published.team
    assert re.search(r"arXiv 2105\.07809 §4\.\d", published.source)


@every_design
def test_what_the_report_leaves_open_is_marked_as_ours_and_nothing_else(name: str) -> None:
    published = load_recipe(str(BUILTIN / f"{name}.toml"))
    weighted = {"loss"} if len(GIVEN[name]["terms"][0]) > 1 else set()  # the report gives no weight anywhere
    changed = {"phases"} if published.recipe.phases else set()
    layer = {"vgg_layer"} if published.recipe.uses("vgg") else set()  # "VGG-19 features" is all that it says
    assert set(published.ours) == SETTINGS - set(GIVEN[name]) | weighted | changed | layer
    assert len(set(published.ours)) == len(published.ours)


@every_design
def test_every_setting_is_written_down(name: str) -> None:
    """A recipe in a file says everything, so that a new default of ours does not change it."""
    text = (BUILTIN / f"{name}.toml").read_text("utf-8")
    assert [key for key in sorted(SETTINGS | {"loss"}) if not re.search(rf"^{key} = ", text, re.MULTILINE)] == []


@every_design
def test_a_recipe_survives_plain_data(name: str) -> None:
    recipe = load_recipe(name).recipe
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


# Places


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ISP_NAS_HOME", str(tmp_path / "home"))
    return tmp_path


MINE = "loss = { l1 = 1 }\nsteps = 7\n"


def write(path: Path, text: str = MINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_the_users_own_recipe_hides_the_built_in_one(work: Path) -> None:
    write(work / "home" / "recipes" / "smallnet.toml", MINE.replace("7", "8"))
    assert recipe_for("report", DESIGNS["smallnet"].spec).recipe.total_steps == 8
    write(work / "recipes" / "smallnet.toml")
    assert load_recipe("smallnet").recipe.total_steps == 7
    assert recipe_names()["smallnet"] == Path("recipes/smallnet.toml")


def test_a_short_recipe_has_the_defaults_of_training(work: Path) -> None:
    """Those of `isp-nas train` without one; beside another optimiser, its plain values."""
    default = Recipe(**HARDWARE_RECIPE["cpu"], loss={"l1": 1.0}, total_steps=7)
    assert load_recipe(str(write(work / "mine.toml"))).recipe == default
    assert load_recipe(str(write(work / "muon.toml", MINE + 'optimiser = "muon"\n'))).recipe == default
    with_adam = load_recipe(str(write(work / "adam.toml", MINE + 'optimiser = "adam"\n'))).recipe
    assert with_adam == Recipe(loss={"l1": 1.0}, total_steps=7)


def test_the_report_has_no_recipe_for_a_network_that_nobody_published() -> None:
    with pytest.raises(UsageError, match=r"--recipe report is the recipe of a published design.*name one of acvlab"):
        recipe_for("report", ArchSpec(width=4))


def test_an_unknown_recipe_lists_those_that_exist() -> None:
    with pytest.raises(
        UnknownNameError, match=r'Unknown recipe "csnet"; known: acvlab, csanet, .*Did you mean "csanet"'
    ):
        load_recipe("csnet")


# Bad files: the sentence names file, key, value and what is allowed.

BAD = {
    "stesp = 3\nloss = { l1 = 1 }\n": r'Unknown key in {path}: "stesp"; known: .*Did you mean "steps"\?',
    "loss = { l1 = 1 }\n": r"{path} lacks the key steps",
    "steps = 3\n": r"{path} lacks the key loss",
    MINE + 'batch = "four"\n': r"{path}: batch must be a whole number, got 'four'",
    MINE + "batch = 4.5\n": r"{path}: batch must be a whole number, got 4\.5",
    MINE + "batch = true\n": r"{path}: batch must be a whole number, got True",
    MINE + 'learning_rate = "1e-4"\n': r"{path}: learning_rate must be a number, got '1e-4'",
    MINE + 'rotate = "no"\n': r"{path}: rotate must be true or false, got 'no'",
    MINE + "title = 3\n": r"{path}: title must be a string in quotes, got 3",
    MINE + 'ours = "batch"\n': r"{path}: ours must be a list of names.*got 'batch'",
    MINE + 'ours = ["bach"]\n': r'Unknown name under ours in {path}: "bach".*Did you mean "batch"',
    "steps = 3\nloss = 1\n": r"{path}: loss must be weights by name.*got 1",
    'steps = 3\nloss = { l1 = "1" }\n': r"{path}: loss must be weights by name.*got \{{'l1': '1'\}}",
    "steps = 3\nloss = { l1 = -1 }\n": r"{path}: The weight of loss l1 must be zero or more, got -1\.0",
    "steps = 3\nloss = { l1 = 0, ssim = 0 }\n": r"{path}: At least one loss needs a weight above zero",
    "steps = 3\nloss = { l2 = 1 }\n": r'{path}: Unknown loss "l2"; known: .*Did you mean "l1"',
    MINE + "[[phases]]\nfrom_step = 7\nloss = { l1 = 1 }\n": r"{path}: The from_step of a phase .*end at 7; got 7",
    MINE + "[[phases]]\nfrom_step = 4\nloss = { l1 = 1 }\n[[phases]]\nfrom_step = 3\nloss = { ssim = 1 }\n": (
        r"{path}: The from_step of a phase must lie after 4.*got 3"
    ),
    MINE + "[[phases]]\nfrom_step = 3\nloss = { l1 = 0 }\n": r"{path}: At least one loss",
    MINE + "[[phases]]\nfrom_step = 3.5\nloss = { l1 = 1 }\n": r"{path}: phases must be tables whose from_step",
    MINE + "[[phases]]\nfrom = 3\nloss = { l1 = 1 }\n": r"{path}: phases must be tables \[\[phases\]\]",
    MINE + "phases = 3\n": r"{path}: phases must be tables \[\[phases\]\].*got 3",
    MINE + 'schedule = "linear"\n': r'{path}: Unknown schedule "linear"; known: constant, cosine, exponential',
    MINE + 'optimiser = "sgd"\n': r'{path}: Unknown optimiser "sgd"; known: adam',
    MINE + 'initialiser = "xaver"\n': r'{path}: Unknown initialiser "xaver".*Did you mean "xavier"',
    MINE + 'flip = "vertical"\n': r'{path}: Unknown flip "vertical"; known: both, horizontal, none',
    MINE + "final_learning_rate = 1\n": r"{path}: The final_learning_rate must lie in \[0, 0\.02\].*got 1",
    MINE + 'schedule = "constant"\nfinal_learning_rate = 1e-4\n': r"{path}: The constant schedule takes no final",
    MINE + 'schedule = "exponential"\n': r"{path}: The exponential schedule needs a final_learning_rate above zero",
    MINE + "patch = 18\n": r"{path}: The patch must be a multiple of 4 of at least 16 pixels, got 18",
    "steps = 0\nloss = { l1 = 1 }\n": r"{path}: Training takes 1 to 100000000 steps, got 0",
    "loss = {": r"{path} is not readable TOML",
}


@pytest.mark.parametrize(("text", "complaint"), BAD.items())
def test_a_bad_recipe_is_one_sentence(work: Path, text: str, complaint: str) -> None:
    path = write(work / "bad.toml", text)
    sentence = refusal(in_process("train", "smallnet", "--recipe", path))
    assert re.search(complaint.format(path=re.escape(str(path))), sentence), sentence
    assert list(work.iterdir()) == [path]


def test_a_recipe_that_is_no_text_is_refused(work: Path) -> None:
    (work / "bad.toml").write_bytes(b"\xff\xfe")
    assert "not readable TOML" in refusal(in_process("train", "smallnet", "--recipe", "bad.toml"))
    assert "No recipe file at gone.toml" in refusal(in_process("train", "smallnet", "--recipe", "gone.toml"))


@every_design
def test_a_recipe_has_the_reports_terms_and_training_can_compute_them(name: str) -> None:
    recipe = load_recipe(name).recipe
    losses = [set(loss) for loss in (recipe.loss, *(phase.loss for phase in recipe.phases))]
    assert losses == GIVEN[name]["terms"]
    assert set().union(*losses) <= set(LOSSES)


# Training by a recipe

RECIPE = """title = "Mine"
loss = { l1 = 1 }
learning_rate = 1e-3
schedule = "exponential"
final_learning_rate = 1e-4
batch = 2
patch = 16
steps = 10
flip = "horizontal"
rotate = false
[[phases]]
from_step = 5
loss = { l1 = 1, ssim = 0.5 }
"""


def trained(*options: object) -> dict[str, Any]:
    done = in_process("train", "smallnet", "--format", "json", *options)
    assert done.returncode == 0, done.stderr
    output: dict[str, Any] = json.loads(done.stdout)
    return output


def test_training_follows_the_recipe_and_tells_it(work: Path, tiny_pairs: Path) -> None:
    write(work / "recipes" / "smallnet.toml", RECIPE)
    output = trained("--recipe", "report", "--data", tiny_pairs)
    assert Recipe.from_dict(output["recipe"]) == load_recipe("smallnet").recipe
    assert output["steps"] == 10
    assert (output["published_recipe"]["name"], output["published_recipe"]["title"]) == ("smallnet", "Mine")
    assert trained("--recipe", "smallnet", "--data", tiny_pairs) == output  # the same run, which is done


def test_options_go_before_the_recipe_and_steps_scale_its_phases(work: Path, tiny_pairs: Path) -> None:
    write(work / "mine.toml", RECIPE)
    recipe = Recipe.from_dict(
        trained("--recipe", "mine.toml", "--steps", 4, "--batch", 1, "--data", tiny_pairs)["recipe"]
    )
    assert (recipe.total_steps, recipe.batch, recipe.patch) == (4, 1, 16)
    assert recipe.phases == (LossPhase(2, {"l1": 1.0, "ssim": 0.5}),)
    other = Recipe.from_dict(
        trained("--recipe", "mine.toml", "--loss", "mse", "--steps", 1, "--data", tiny_pairs)["recipe"]
    )
    assert (other.loss, other.phases, other.total_steps) == ({"mse": 1.0}, (), 1)


def test_a_training_that_began_before_recipes_had_phases_goes_on(
    work: Path, tiny_pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--steps", 4, "--batch", 2, "--patch", 16, "--data", tiny_pairs)
    with monkeypatch.context() as before_muon:
        before_muon.setitem(HARDWARE_RECIPE, backend.expected(), {"batch": 4, "patch": 64})
        output = trained(*options)
    path = Path(output["folder"]) / "training.toml"
    settings = tomllib.loads(path.read_text("utf-8"))
    old = {"loss", "learning_rate", "batch", "patch", "horizon"}
    settings["recipe"] = {name: settings["recipe"][name] for name in old}
    path.write_text(tomli_w.dumps(settings))
    assert trained(*options) == output
    assert "other recipe" in refusal(in_process("train", "smallnet", *options, "--loss", "mse"))


def test_steps_too_few_for_the_phases_are_refused(work: Path) -> None:
    write(work / "mine.toml", RECIPE)
    sentence = refusal(in_process("train", "smallnet", "--recipe", "mine.toml", "--steps", 1))
    assert "2 phases needs at least 2 steps, got 1" in sentence


def test_a_training_without_steps_or_recipe_is_refused() -> None:
    assert "--steps, or a recipe" in refusal(in_process("train", "smallnet"))


def test_every_field_of_a_recipe_can_be_said_in_a_file(work: Path) -> None:
    said = {
        "loss": {"l1": 1.0, "vgg": 0.01}, "steps": 50, "learning_rate": 1e-3, "full_rate_steps": 9, "batch": 3,
        "patch": 32,
        "optimiser": "adamw", "weight_decay": 1e-4, "schedule": "step", "drop_every": 20, "drop_factor": 0.5,
        "warmup": 5, "clip_norm": 1.0, "ema": 0.99, "precision": "bfloat16", "vgg_layer": "relu3_4",
        "initialiser": "xavier", "flip": "none", "rotate": False, "reparameterise": True, "final_learning_rate": 0.0,
        "phases": [{"from_step": 25, "loss": {"ssim": 1.0}}],
    }  # fmt: skip
    (work / "all.toml").write_text(tomli_w.dumps(said))
    recipe = load_recipe("all.toml").recipe
    other = {"optimiser": "muon", "vector_rate": 0.1, "average_share": 0.1}  # what goes with no AdamW and no ema
    assert {f.name for f in fields(Recipe)} == said.keys() - {"steps"} | {"total_steps"} | other.keys()
    (work / "muon.toml").write_text(tomli_w.dumps({"loss": {"l1": 1.0}, "steps": 50, **other}))
    muon = load_recipe("muon.toml").recipe
    assert {name: setting(muon, name) for name in other} == other
    assert {name: setting(recipe, name) for name in said if name != "phases"} == {
        name: value for name, value in said.items() if name != "phases"
    }
