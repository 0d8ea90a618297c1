"""Losses with a network of their own: VGG-19's weights come from a file, the discriminator is trained alongside."""

import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import h5py
import jax.numpy as jnp
import numpy as np
import pytest
from flow import in_process, refusal, search_in_process

from nas.data.pairs import PairSet, open_prepared
from nas.train import checkpoint, step
from nas.train.checkpoint import Checkpoint
from nas.train.evaluation import network_input, targets
from nas.train.loop import LossWatch, start, train
from nas.train.losses import adversarial, perceptual, vgg_weights
from nas.train.memory import training_bytes
from nas.train.recipe import LossPhase, Recipe
from search_spaces import lower_flax
from search_spaces.errors import TrainingError
from search_spaces.networks import build_graph
from search_spaces.spec import ArchSpec

SPEC = ArchSpec(width=4, depth=0)
GRAPH = build_graph(SPEC)
SHALLOW = "relu2_1"  # what is tested here does not depend on the layer, and this one costs little
VGG = Recipe(batch=2, patch=16, total_steps=12, loss={"l1": 1.0, "vgg": 1e-6}, vgg_layer=SHALLOW)
TEXTURE = Recipe(batch=2, patch=32, total_steps=12, loss={"l1": 1.0, "texture": 0.1}, learning_rate=1e-3)
DISCRIMINATOR = ("discriminator", "discriminator_first_moment", "discriminator_second_moment")
SEED = 0


@pytest.fixture(scope="module")
def pairs(prepared_tiny: Path) -> PairSet:
    return open_prepared(prepared_tiny, "train")


def write_weights(path: Path, *, seed: int) -> Path:
    """A file as Keras publishes it, with weights drawn by chance."""
    rng = np.random.default_rng(seed)
    with h5py.File(path, "w") as file:
        for name, shape in vgg_weights.weight_shapes("relu5_4").items():
            scale = np.sqrt(2 / np.prod(shape[:-1])) if len(shape) > 1 else 10.0
            file[name] = (scale * rng.standard_normal(shape, dtype=np.float32)).astype(np.float32)
    return path


THIN_BLOCKS = tuple((count, 4) for count, _ in vgg_weights._BLOCKS)
THIN_CONVOLUTIONS = tuple((8, side, stride) for _, side, stride in adversarial._CONVOLUTIONS)


@pytest.fixture(scope="module")
def vgg_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a VGG-19 that is thin."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(vgg_weights, "_BLOCKS", THIN_BLOCKS)
        return write_weights(tmp_path_factory.mktemp("vgg") / "vgg19.h5", seed=0)


# The same plan stands for another program beside judges of a few filters, so these are kept by themselves.
thin_executable = lru_cache(maxsize=None)(step.executable.__wrapped__)


@pytest.fixture
def thin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Judges of a few filters: training beside them does not depend on how many they have, and takes less time."""
    monkeypatch.setattr(adversarial, "_CONVOLUTIONS", THIN_CONVOLUTIONS)
    monkeypatch.setattr(vgg_weights, "_BLOCKS", THIN_BLOCKS)
    monkeypatch.setattr(step, "executable", thin_executable)


def run(pairs: PairSet, steps: int, recipe: Recipe, *, state: Checkpoint | None = None, **more: Any) -> Checkpoint:
    fresh = start(GRAPH, seed=SEED, spec_hash=SPEC.hash)
    return train(GRAPH, state or fresh, pairs, recipe=recipe, steps=steps, seed=SEED, **more).checkpoint


def differing(a: Checkpoint, b: Checkpoint) -> list[str]:
    parts = ("parameters", "first_moment", "second_moment", *DISCRIMINATOR)
    return [
        f"{part}:{name}"
        for part in parts
        for name in getattr(a, part).keys() | getattr(b, part).keys()
        if not np.array_equal(getattr(a, part).get(name, np.nan), getattr(b, part).get(name, np.nan))
    ]


# VGG-19


@pytest.mark.usefixtures("thin")
def test_the_first_loss_is_what_the_features_say(pairs: PairSet, vgg_file: Path) -> None:
    """One step on the whole of one pair: the term is that of the untrained network's output."""
    one = PairSet(pairs.raw[:1], pairs.rgb[:1], pairs.names[:1], pairs.format)
    side = int(pairs.raw.shape[1])
    recipe = replace(VGG, batch=1, patch=side, flip="none", rotate=False, loss={"vgg": 1.0})
    fresh = start(GRAPH, seed=SEED, spec_hash=SPEC.hash)
    trained = train(GRAPH, fresh, one, recipe=recipe, steps=1, seed=SEED, vgg_file=vgg_file)
    index = np.zeros(1, int)
    parameters = {name: jnp.asarray(value) for name, value in fresh.parameters.items()}
    output = lower_flax.apply(GRAPH, parameters, jnp.asarray(network_input(one, index)))
    weights = {k: jnp.asarray(v) for k, v in vgg_weights.read_weights(vgg_file, layer=SHALLOW).items()}
    wanted = perceptual.perceptual(output, jnp.asarray(targets(one, index)), weights=weights, layer=SHALLOW)
    assert trained.terms["vgg"] == pytest.approx(float(wanted), rel=1e-4)


@pytest.mark.usefixtures("thin")
def test_training_by_features_continues_bit_for_bit_from_a_file(pairs: PairSet, vgg_file: Path, tmp_path: Path) -> None:
    phased = replace(VGG, loss={"l1": 1.0}, phases=(LossPhase(4, dict(VGG.loss)),))
    straight = run(pairs, 12, phased, vgg_file=vgg_file)
    checkpoint.save(run(pairs, 7, phased, vgg_file=vgg_file), tmp_path / "state")
    continued = run(pairs, 12, phased, state=checkpoint.load(tmp_path / "state"), vgg_file=vgg_file)
    assert differing(continued, straight) == []
    assert differing(straight, run(pairs, 12, replace(phased, phases=()))) != []


@pytest.mark.usefixtures("thin")
def test_other_weights_of_vgg_share_the_executable_and_train_otherwise(
    pairs: PairSet, vgg_file: Path, tmp_path: Path
) -> None:
    other = write_weights(tmp_path / "other.h5", seed=1)
    first = run(pairs, 2, VGG, vgg_file=vgg_file)
    compiled = thin_executable.cache_info().misses
    assert differing(first, run(pairs, 2, VGG, vgg_file=other)) != []
    assert thin_executable.cache_info().misses == compiled


SHORT_TRAINING = ("--steps", 4, "--batch", 2, "--patch", 16, "--loss", "l1=1,vgg=1e-6", "--format", "json")


@pytest.mark.usefixtures("thin")
def test_a_run_tells_which_weights_took_part_and_does_not_go_on_with_others(
    tiny_pairs: Path, tmp_path: Path, vgg_file: Path
) -> None:
    command = ("train", "smallnet", "--data", tiny_pairs, "--out", tmp_path / "run", *SHORT_TRAINING)
    done = in_process(*command, "--vgg-weights", vgg_file)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["recipe"]["loss"] == {"l1": 1.0, "vgg": 1e-6}
    assert vgg_weights.weights_digest(vgg_file) in (tmp_path / "run" / "training.toml").read_text("utf-8")
    other = write_weights(tmp_path / "other.h5", seed=1)
    assert "holds a training run with other vgg;" in refusal(in_process(*command, "--vgg-weights", other))


@pytest.mark.parametrize("command", [("train", "smallnet"), ("search", "--budget", 1, "--rungs", 2), ("audit",)])
def test_without_weights_nothing_is_trained_and_the_way_to_them_is_told(
    tiny_pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[object, ...]
) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    options = ("--data", tiny_pairs, "--results", tmp_path / "results", "--loss", "l1=1,vgg=0.1", "--batch", 2)
    more = ("--steps", 2) if command[0] == "train" else ()
    sentence = refusal(in_process(*command, *options, *more, "--patch", 32))
    assert "needs the weights of VGG-19" in sentence
    assert not (tmp_path / "results").exists()


@pytest.mark.usefixtures("thin")
def test_weights_that_nothing_would_read_are_refused(tiny_pairs: Path, tmp_path: Path, vgg_file: Path) -> None:
    command = ("train", "smallnet", "--steps", 2, "--data", tiny_pairs, "--out", tmp_path / "run")
    sentence = refusal(in_process(*command, "--vgg-weights", vgg_file))
    assert "is for the loss vgg, which takes no part" in sentence
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("thin")
def test_a_search_trains_by_features(tiny_pairs: Path, tmp_path: Path, vgg_file: Path) -> None:
    options = ("--data", tiny_pairs, "--results", tmp_path, "--batch", 2, "--patch", 32, "--rungs", "2")
    arguments = ("--budget", 1, "--study", "by-features", "--loss", "l1=1,vgg=1e-6", *options)
    done = search_in_process(*arguments, "--vgg-weights", vgg_file)
    assert done.returncode == 0, done.stderr
    assert vgg_weights.weights_digest(vgg_file) in (tmp_path / "by-features" / "run.toml").read_text("utf-8")
    other = write_weights(tmp_path / "other.h5", seed=1)
    sentence = refusal(search_in_process(*arguments, "--vgg-weights", other))
    assert f"VGG-19 in {other} has content" in sentence
    assert "started with other settings" in sentence


# The discriminator


@pytest.mark.usefixtures("thin")
def test_the_discriminator_learns_beside_the_network(pairs: PairSet) -> None:
    one, twelve = run(pairs, 1, TEXTURE), run(pairs, 12, TEXTURE)
    assert one.discriminator.keys() == twelve.discriminator.keys() != set()
    moved = [name for name, value in one.discriminator.items() if not np.array_equal(value, twelve.discriminator[name])]
    assert moved == list(one.discriminator)
    assert (one.discriminator_step, twelve.discriminator_step) == (1, 12)


@pytest.mark.usefixtures("thin")
def test_the_discriminators_judgement_changes_the_network(pairs: PairSet) -> None:
    plain = run(pairs, 12, replace(TEXTURE, loss={"l1": 1.0}))
    assert differing(replace(run(pairs, 12, TEXTURE), **{part: {} for part in DISCRIMINATOR}), plain) != []


@pytest.mark.usefixtures("thin")
def test_a_discriminator_that_learns_is_no_divergence() -> None:
    """The network's adversarial loss rises then; what diverges is judged without it, and told with it."""
    watch = LossWatch(0.5, 0.5, adversarial=2.0)
    terms = {"loss": jnp.asarray(30.4), "l1": jnp.asarray(0.4), "texture": jnp.asarray(15.0)}
    watch.see(10, terms, None, last=False)
    assert watch.latest == pytest.approx(0.4, rel=1e-4)
    assert watch.terms["loss"] == pytest.approx(30.4)
    with pytest.raises(TrainingError, match="diverged"):
        watch.see(20, {**terms, "loss": jnp.asarray(32.0)}, None, last=False)
    with pytest.raises(TrainingError, match="not a number"):
        watch.see(30, {**terms, "loss": jnp.asarray(np.nan), "texture": jnp.asarray(np.nan)}, None, last=False)


@pytest.mark.usefixtures("thin")
def test_training_judges_divergence_without_the_adversary(pairs: PairSet) -> None:
    trained = run(pairs, 1, replace(TEXTURE, loss={"l1": 1.0, "texture": 1.0}))
    alone = run(pairs, 1, replace(TEXTURE, loss={"l1": 1.0}))
    assert trained.first_loss == pytest.approx(alone.first_loss, rel=1e-4)


@pytest.mark.usefixtures("thin")
@pytest.mark.parametrize("first", [3, 5, 9, 10])
def test_adversarial_training_continues_bit_for_bit_from_a_file(pairs: PairSet, tmp_path: Path, first: int) -> None:
    """Also where the discriminator begins at step 4, and pauses from step 9."""
    plain = {"l1": 1.0}
    recipe = replace(TEXTURE, loss=plain, phases=(LossPhase(4, dict(TEXTURE.loss)), LossPhase(9, plain)))
    straight = run(pairs, 12, recipe)
    assert straight.discriminator_step == 5
    checkpoint.save(run(pairs, first, recipe), tmp_path / "state")
    continued = run(pairs, 12, recipe, state=checkpoint.load(tmp_path / "state"))
    assert differing(continued, straight) == []
    assert continued.discriminator_step == 5


@pytest.mark.usefixtures("thin")
def test_all_terms_of_a_team_train_together_and_the_result_is_exported_without_them(
    tiny_pairs: Path, tmp_path: Path, vgg_file: Path
) -> None:
    """EdS's recipe on a small network: content, texture, colour and variation."""
    options = ("--recipe", "eds", "--steps", 4, "--batch", 2, "--patch", 32,
               "--data", tiny_pairs, "--results", tmp_path)  # fmt: skip
    done = in_process("train", "smallnet", *options, "--vgg-weights", vgg_file, "--format", "json")
    assert done.returncode == 0, done.stderr
    folder = Path(json.loads(done.stdout)["folder"])
    (line,) = (folder / "history.jsonl").read_text("utf-8").splitlines()
    assert json.loads(line)["losses"].keys() == {"loss", "colour", "texture", "tv", "vgg"}
    state = checkpoint.load(folder / "checkpoint.safetensors")
    assert state.discriminator
    assert not any("discriminator" in name or "conv1_1" in name for name in state.weights)


# Memory


@pytest.mark.parametrize(
    "recipe",
    [
        replace(VGG, batch=4, patch=64, vgg_layer="relu5_4"),
        replace(VGG, batch=4, patch=64, vgg_layer="relu2_1"),
        replace(TEXTURE, batch=4, patch=64),
        replace(TEXTURE, batch=4, patch=64, ema=0.9, loss={"l1": 1.0}),
    ],
    ids=["vgg", "shallow", "texture", "average"],
)
def test_the_memory_estimate_is_near_what_xla_plans(recipe: Recipe) -> None:
    compiled, _ = step.compiled_step(GRAPH, step.StepPlan.of(recipe))
    plan = compiled.memory_analysis()  # type: ignore[attr-defined]  # a compiled function
    planned = plan.temp_size_in_bytes + plan.argument_size_in_bytes
    assert 0.5 < planned / training_bytes(GRAPH, recipe) < 2, f"{planned} bytes planned"
