"""A super-network shares the trunk of a small one, is taken off at its threshold, and leaves an ordinary checkpoint."""

import json
import math
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flow import COMMAND, in_process, refusal

from nas.data.pairs import DataConfig, PairSet, open_prepared
from nas.search.network_ref import resolve
from nas.train import checkpoint, history, run_folder
from nas.train import long_run as long_training
from nas.train.checkpoint import ALONE, JOINT, Arrays, Checkpoint
from nas.train.loop import start, train
from nas.train.recipe import Recipe
from nas.train.run_folder import SuperNetwork, TrainingRun
from search_spaces import lower_flax, lower_tf
from search_spaces.auxiliary_head import PREFIX, detach, heads, with_super_head
from search_spaces.designs import DESIGNS
from search_spaces.errors import GraphError
from search_spaces.graph import INPUT, Graph, Node
from search_spaces.networks import build_graph
from search_spaces.ops import Concat, Conv
from search_spaces.spec import ArchSpec

SIZE = (2, 8, 8, 4)
# Each way in which a flat network can end.
SPECS = {
    "shuffle": ArchSpec(width=4, depth=1),
    "transposed, from the input too": ArchSpec(
        width=4, depth=0, output_upsampler="transposed", output_activation="sigmoid", global_residual="transposed"
    ),
    "refined, concat skip, R/4": ArchSpec(width=4, scale=4, depth=1, long_skip="concat", refine_width=4),
}
FLAT = {name: design.spec for name, design in DESIGNS.items() if design.spec.topology == "flat"}
every_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
every_flat_design = pytest.mark.parametrize("spec", [*SPECS.values(), *FLAT.values()], ids=[*SPECS, *FLAT])


def image() -> np.ndarray:
    return np.random.default_rng(0).random(SIZE, np.float32)


def weights_of(graph: Graph, weights: Arrays) -> dict[str, jax.Array]:
    return {name: jnp.asarray(weights[name]) for name in graph.parameter_shapes}


# The graph


@every_flat_design
def test_the_joint_network_puts_out_both_pictures_and_keeps_every_name(spec: ArchSpec) -> None:
    graph = build_graph(spec, SIZE)
    joint = with_super_head(graph)
    assert joint.output_shape == (*graph.output_shape[:3], 6)
    assert detach(joint.parameter_shapes) == graph.parameter_shapes
    assert joint.nodes[: len(graph.nodes)] == graph.nodes
    small, large = heads(joint)
    assert small == graph
    assert large.output_shape == graph.output_shape
    assert set(small.parameter_shapes) | set(large.parameter_shapes) == set(joint.parameter_shapes)


@every_spec
def test_the_small_half_computes_exactly_what_the_detached_network_computes(spec: ArchSpec) -> None:
    """The joint graph as a whole runs in TensorFlow, its halves in Flax."""
    graph = build_graph(spec, SIZE)
    joint = with_super_head(graph)
    weights = start(joint, seed=3, spec_hash="").parameters
    both = lower_tf.predict(joint, weights, image())
    np.testing.assert_array_equal(both[..., :3], lower_tf.predict(graph, detach(weights), image()))
    alone = lower_flax.init_parameters(graph, 3)
    assert detach(weights).keys() == alone.keys()
    assert all(np.array_equal(weights[name], alone[name]) for name in alone)
    for half, network in zip((both[..., :3], both[..., 3:]), heads(joint), strict=True):
        answer = lower_flax.jit_apply(network)(weights_of(network, weights), jnp.asarray(image()))
        np.testing.assert_allclose(answer, half, atol=1e-5)
    assert np.abs(both[..., :3] - both[..., 3:]).max() > 1e-3


@every_spec
def test_gradients_reach_the_trunk_from_both_heads(spec: ArchSpec) -> None:
    joint = with_super_head(build_graph(spec, SIZE))
    weights, x = start(joint, seed=1, spec_hash="").parameters, jnp.asarray(image())
    small, large = heads(joint)
    shared = small.parameter_shapes.keys() & large.parameter_shapes.keys()
    assert shared
    assert shared == {name for name in small.parameter_shapes if not name.startswith(("head", "rgb", "input"))}
    for network in (small, large):
        slopes = jax.jit(jax.grad(lambda p, net=network: jnp.mean(lower_flax.apply(net, p, x) ** 2)))
        gradient = slopes(weights_of(network, weights))
        assert [name for name in shared if float(jnp.abs(gradient[name]).max()) == 0] == []


def test_blocks_and_layers_are_what_was_asked_for() -> None:
    joint = with_super_head(build_graph(ArchSpec(width=4), SIZE), blocks=2, layers=3)
    shapes = {name: shape for name, shape in joint.parameter_shapes.items() if name.startswith(f"{PREFIX}block")}
    dense = {f"conv{layer}": (3, 3, 4 * layer, 4) for layer in (1, 2, 3)} | {"fuse": (1, 1, 16, 4)}
    assert shapes == {
        f"{PREFIX}block{block}.{name}/{part}": shape if part == "kernel" else (4,)
        for block in (1, 2)
        for name, shape in dense.items()
        for part in ("kernel", "bias")
    }


def test_a_network_without_a_super_network_is_its_own_only_head() -> None:
    graph = build_graph(ArchSpec(), SIZE)
    assert heads(graph) == (graph,)


def test_what_cannot_be_joined_says_why() -> None:
    headless = Graph(SIZE, (Node("conv", Conv(3), (INPUT,)),))
    with pytest.raises(GraphError, match='before the node called "head", which this network has not'):
        with_super_head(headless)
    forked = Graph(SIZE, (Node("conv", Conv(3), (INPUT,)), Node("head", Concat(), ("conv", INPUT))))
    with pytest.raises(GraphError, match='"head" reads conv and input'):
        with_super_head(forked)
    with pytest.raises(GraphError, match="at least one block of one layer, got 0 of 4"):
        with_super_head(build_graph(ArchSpec(), SIZE), blocks=0)


# Training

SPEC = ArchSpec(width=4, depth=1)
GRAPH = build_graph(SPEC)
JOINED = with_super_head(GRAPH, blocks=1, layers=1)


@pytest.fixture(scope="module")
def pairs(prepared_tiny: Path) -> PairSet:
    return open_prepared(prepared_tiny, "train")


def test_the_joint_loss_is_the_sum_over_both_heads(pairs: PairSet) -> None:
    recipe = Recipe(batch=2, patch=32, total_steps=4)

    def first_loss(graph: Graph) -> float:
        state = start(JOINED, seed=0, spec_hash=SPEC.hash)
        own = {name: state.parameters[name] for name in graph.parameter_shapes}
        zeros = {name: np.zeros_like(value) for name, value in own.items()}
        state = replace(state, parameters=own, first_moment=zeros, second_moment=dict(zeros))
        return train(graph, state, pairs, recipe=recipe, steps=1, seed=0).checkpoint.loss

    alone = [first_loss(network) for network in heads(JOINED)]
    assert first_loss(JOINED) == pytest.approx(sum(alone), rel=1e-5)


@pytest.fixture(scope="module")
def short() -> Iterator[None]:
    """Stretches of four steps of twenty; what was compiled for one run serves the next."""
    least = jax.config.jax_persistent_cache_min_compile_time_secs
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_folder, "LEAST_STRETCH", 4)
        patch.setattr(run_folder, "STRETCHES", 5)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        yield
    jax.config.update("jax_persistent_cache_min_compile_time_secs", least)


def long_run(folder: Path, pairs: Path, detach_at_db: float) -> TrainingRun:
    recipe = Recipe(batch=2, patch=32, total_steps=20, learning_rate=1e-2)
    return TrainingRun(folder, SPEC, DataConfig(str(pairs)), recipe, 0, SuperNetwork(detach_at_db, blocks=1, layers=1))


def state_of(run: TrainingRun) -> Checkpoint:
    return checkpoint.load(run.folder / "checkpoint.safetensors")


def same(a: Checkpoint, b: Checkpoint) -> bool:
    values = [(s.step, s.phase, s.detached_step, s.detached_psnr_db, s.first_loss, s.loss) for s in (a, b)]
    arrays = [s.parameters | {f"mu {n}": v for n, v in s.first_moment.items()} for s in (a, b)]
    return (
        values[0] == values[1]
        and arrays[0].keys() == arrays[1].keys()
        and all(np.array_equal(arrays[0][name], arrays[1][name]) for name in arrays[0])
    )


@pytest.mark.usefixtures("short")
def test_the_super_network_goes_at_the_first_stretch_above_the_threshold(tiny_pairs: Path, tmp_path: Path) -> None:
    never = long_run(tmp_path / "never", tiny_pairs, 99.0)
    finished = long_training.run(never)
    assert finished.detached_step == 10  # half of the steps
    assert math.isfinite(finished.detached_psnr_db)
    at_once = long_training.run(long_run(tmp_path / "at-once", tiny_pairs, 1.0))
    assert (at_once.detached_step, at_once.detached_psnr_db > 1) == (4, True)
    between = (at_once.detached_psnr_db + finished.detached_psnr_db) / 2
    assert at_once.detached_psnr_db < between, "the larger head did not learn"
    later = long_training.run(long_run(tmp_path / "later", tiny_pairs, between))
    assert later.detached_step in (8, 10)
    assert later.detached_psnr_db > between


@pytest.mark.usefixtures("short")
def test_what_is_left_is_an_ordinary_checkpoint_of_the_small_network(tiny_pairs: Path, tmp_path: Path) -> None:
    run = long_run(tmp_path / "run", tiny_pairs, 99.0)
    finished = long_training.run(run)
    left = state_of(run)
    assert {name: value.shape for name, value in left.parameters.items()} == GRAPH.parameter_shapes
    assert left.first_moment.keys() == left.second_moment.keys() == GRAPH.parameter_shapes.keys()
    assert (left.step, left.phase, left.detached_step) == (20, ALONE, 10)
    assert long_training.run(run).quality.psnr_db == finished.quality.psnr_db  # nothing left to do
    target = resolve(str(run.folder), tmp_path)
    assert target.trained.load().parameters.keys() == GRAPH.parameter_shapes.keys()


class Killed(Exception):
    pass


def ended(run: TrainingRun) -> tuple[float, float, int, float]:
    """Run to the end; return what came of it, without how long compiling took."""
    finished = long_training.run(run)
    return finished.quality.psnr_db, finished.quality.ssim, finished.detached_step, finished.detached_psnr_db


@pytest.fixture(scope="module")
def straight(
    short: None, tiny_pairs: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[float, tuple[tuple[float, float, int, float], Checkpoint]]:
    """Runs that nobody stopped, by their threshold."""
    runs = {at: long_run(tmp_path_factory.mktemp("straight"), tiny_pairs, at) for at in (1.0, 99.0)}
    return {at: (ended(run), state_of(run)) for at, run in runs.items()}


# With a threshold of 99 dB the stretches end at 4, 8 and 10 joined, then at 14, 18 and 20; with 1 dB at 4, then alone.
KILLS = [(99.0, 1, "after"), (99.0, 2, "before"), (99.0, 3, "after"), (99.0, 4, "before"), (99.0, 6, "after"),
         (1.0, 1, "after"), (1.0, 2, "before"), (1.0, 2, "after")]  # fmt: skip


@pytest.mark.parametrize(("threshold", "stretch", "moment"), KILLS)
def test_a_killed_run_ends_as_an_uninterrupted_one(
    straight: dict[float, tuple[Any, Checkpoint]],
    tiny_pairs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    threshold: float,
    stretch: int,
    moment: str,
) -> None:
    broken = long_run(tmp_path / "broken", tiny_pairs, threshold)
    save, saved = long_training._save, []

    def kill(state: Checkpoint, path: Path) -> None:
        saved.append(state)
        if (len(saved), moment) == (stretch, "before"):
            raise Killed
        save(state, path)
        if len(saved) == stretch:
            raise Killed

    monkeypatch.setattr(long_training, "_save", kill)
    with pytest.raises(Killed):
        long_training.run(broken)
    monkeypatch.setattr(long_training, "_save", save)
    assert ended(broken) == straight[threshold][0]
    assert same(state_of(broken), straight[threshold][1])


@pytest.mark.usefixtures("short")
def test_a_joint_state_on_disk_says_so_and_shows_the_small_network(
    tiny_pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = long_run(tmp_path / "run", tiny_pairs, 99.0)
    save = long_training._save

    def kill(state: Checkpoint, path: Path) -> None:
        save(state, path)
        raise Killed

    monkeypatch.setattr(long_training, "_save", kill)
    with pytest.raises(Killed):
        long_training.run(run)
    assert (state_of(run).phase, state_of(run).step) == (JOINT, 4)
    assert any(name.startswith(PREFIX) for name in state_of(run).parameters)
    shown = resolve(str(run.folder), tmp_path).trained
    assert shown.load().parameters.keys() == GRAPH.parameter_shapes.keys()
    assert "stopped before its 20 steps" in shown.origin


def test_a_checkpoint_of_before_super_networks_is_read(tmp_path: Path) -> None:
    from safetensors import safe_open
    from safetensors.numpy import save_file

    path = tmp_path / "state.safetensors"
    checkpoint.save(start(GRAPH, seed=0, spec_hash=SPEC.hash), path)
    with safe_open(path, framework="numpy") as file:
        metadata = {name: file.metadata()[name] for name in ("step", "spec_hash", "first_loss", "loss")}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    save_file(tensors, path, metadata=metadata)
    old = checkpoint.load(path)
    assert (old.phase, old.detached_step) == (ALONE, 0)
    assert math.isnan(old.detached_psnr_db)


# The command


def test_another_topology_and_too_few_steps_are_refused() -> None:
    for name, design in DESIGNS.items():
        if design.spec.topology != "flat":
            refused = refusal(in_process("train", name, "--steps", 4, "--super-network"))
            assert f"of the flat topology only, this one is {design.spec.topology}" in refused
    refused = refusal(in_process("train", "smallnet", "--steps", 1, "--super-network"))
    assert "two steps at least, got 1" in refused


def test_a_threshold_without_a_super_network_or_without_sense_is_refused() -> None:
    assert "--super-network" in refusal(in_process("train", "smallnet", "--steps", 4, "--detach-at", 23))
    for value in (0, -1, "nan", "inf"):
        refused = refusal(in_process("train", "smallnet", "--steps", 4, "--super-network", "--detach-at", value))
        assert "PSNR to detach at must be above zero dB" in refused


def options(pairs: Path, out: Path, *more: object, steps: int = 10) -> tuple[object, ...]:
    return ("train", "smallnet", "--steps", steps, "--batch", 2, "--patch", 32, "--data", pairs, "--out", out,
            "--super-network", "--format", "json", *more)  # fmt: skip


def output_of(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    output: dict[str, Any] = json.loads(done.stdout)
    return output


def test_the_command_tells_when_and_why_the_super_network_went(tiny_pairs: Path, tmp_path: Path) -> None:
    output = output_of(in_process(*options(tiny_pairs, tmp_path / "run", "--detach-at", 99)))["super_network"]
    assert (output["detach_at_db"], output["detached_step"], output["blocks"], output["layers"]) == (99, 5, 3, 4)
    assert output["reason"] == "half of the steps were done, and the threshold of 99 dB was not passed"
    other = output_of(in_process(*options(tiny_pairs, tmp_path / "other", "--detach-at", 1)))["super_network"]
    assert other["reason"] == "the threshold of 1 dB was passed"
    changed = refusal(in_process(*options(tiny_pairs, tmp_path / "run", "--detach-at", 1)))
    assert "other super-network" in changed
    without = [word for word in options(tiny_pairs, tmp_path / "run") if word != "--super-network"]
    assert "other super-network" in refusal(in_process(*without))


def test_a_run_killed_for_good_goes_on(tiny_pairs: Path, tmp_path: Path) -> None:
    """kill -9 while the installed command trains jointly; the same command goes on and ends as if nothing had been.

    What goes on is the same for a network that is trained alone.
    """
    words = options(tiny_pairs, tmp_path / "killed", "--detach-at", 99, "--validate-every", 10, steps=60)
    process = subprocess.Popen([str(COMMAND), *map(str, words)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    path, deadline = tmp_path / "killed" / "checkpoint.safetensors", time.monotonic() + 100
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert checkpoint.load(path).phase == JOINT
    reached = checkpoint.load(path).step
    done = in_process(*words)
    killed = output_of(done)
    assert f"step {reached + 10}/60" in done.stderr
    assert f"step {reached}/60" not in done.stderr
    assert [each.step for each in history.read(path.parent, until=60)] == list(range(10, 61, 10))
    again = options(tiny_pairs, tmp_path / "straight", "--detach-at", 99, "--validate-every", 10, steps=60)
    straight = output_of(in_process(*again))
    assert killed | {"folder": ""} == straight | {"folder": ""}
    assert killed["super_network"]["detached_step"] == 30
    assert same(checkpoint.load(path), checkpoint.load(tmp_path / "straight" / "checkpoint.safetensors"))
