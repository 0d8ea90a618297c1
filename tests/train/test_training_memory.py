"""How much memory training will take, what the machine has, and what happens where that is not enough."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
from flow import snapshot

from nas.data.pairs import DataConfig
from nas.train import candidate, loop, memory, micro_batch
from nas.train import long_run as long_training
from nas.train.job import Job
from nas.train.memory import PROCESS_BYTES, judging_bytes, machine_bytes, require_memory, training_bytes
from nas.train.recipe import Recipe
from nas.train.run_folder import TrainingRun
from nas.train.step import StepPlan, compiled_step
from nas.train.workers import JobFailure, run_job
from search_spaces.designs import DESIGNS
from search_spaces.errors import TrainingError
from search_spaces.graph import INPUT, GraphBuilder
from search_spaces.networks import build_graph
from search_spaces.ops import Conv
from search_spaces.spec import ArchSpec

SPEC = ArchSpec(width=4, depth=0)
RECIPE = Recipe(batch=2, patch=32, total_steps=9)
JUDGED = (2, 64, 64)
BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "training_memory.json"


# The estimate


def test_training_of_one_convolution_is_counted_by_hand() -> None:
    g = GraphBuilder((1, 8, 8, 4))
    g.add("conv", Conv(6, 3), INPUT)
    # 2 × 16×16 packed pixels: input 4 and output 6 channels of 4 bytes, kept once and alive at once, all that 1.7
    # times; 21 bytes for each of 2 × 32×32 pixels of pictures; 9·4·6 + 6 = 222 weights four times.
    assert training_bytes(g.build(), RECIPE) == 17 * 2 * (2 * 16 * 16 * 10 * 4) // 10 + 2 * 32 * 32 * 21 + 222 * 16


def test_judging_a_wide_network_takes_its_maps_and_a_narrow_one_the_pictures() -> None:
    wide, narrow = (build_graph(ArchSpec(width=width, depth=0)) for width in (48, 4))
    # 2 × 32×32 packed pixels: input 4 and stem 48, then 48 and 12; or five pictures of 3 channels at 64×64.
    assert judging_bytes(wide, JUDGED) == 2 * 32 * 32 * (48 + 12) * 4
    assert judging_bytes(narrow, JUDGED) == 5 * 2 * 64 * 64 * 3 * 4


@pytest.mark.parametrize("name", DESIGNS)
def test_training_takes_more_for_a_larger_batch_or_patch(name: str) -> None:
    graph = build_graph(DESIGNS[name].spec)
    estimate = training_bytes(graph, RECIPE)
    assert estimate < training_bytes(graph, replace(RECIPE, batch=4)) < 2 * estimate
    assert estimate < training_bytes(graph, replace(RECIPE, patch=64)) < 4 * estimate


@pytest.mark.parametrize("name", DESIGNS)
def test_the_estimate_is_near_what_xla_plans_for_a_step(name: str) -> None:
    graph, recipe = build_graph(DESIGNS[name].spec), Recipe(batch=2, patch=64, total_steps=1)
    step, _ = compiled_step(graph, StepPlan.of(recipe))
    plan = step.memory_analysis()  # type: ignore[attr-defined]  # a compiled function
    planned = plan.temp_size_in_bytes + plan.argument_size_in_bytes
    assert 0.5 < planned / training_bytes(graph, recipe) < 2, f"{planned} bytes planned"


def test_the_committed_measurements_are_of_this_estimate_and_within_its_tolerance(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    report = json.loads(BENCHMARK.read_text())
    monkeypatch.setattr(micro_batch, "usable_cores", lambda: report["cores"])
    for case in report["cases"]:
        graph = build_graph(DESIGNS[case["design"]].spec)
        batch, patch = case["batch"], case["patch"]
        if case["what"] == "train":
            estimate = training_bytes(graph, Recipe(batch=batch, patch=patch)) + PROCESS_BYTES
        else:
            estimate = judging_bytes(graph, (batch, patch, patch)) + PROCESS_BYTES
        assert case["estimated_bytes"] == estimate
        assert case["measured_to_estimated"] == pytest.approx(case["measured_bytes"] / estimate)
        assert 0.3 < case["measured_to_estimated"] < 1.2


# The refusal


def test_a_batch_taken_in_parts_needs_the_maps_of_one_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(micro_batch, "usable_cores", lambda: 1)
    graph = build_graph(DESIGNS["smallnet"].spec)
    one, many = (training_bytes(graph, Recipe(batch=batch, patch=128)) for batch in (1, 16))
    assert many - one == 15 * 128**2 * 5 + graph.parameters * 4  # integers of pictures, and the sum of the gradients


def test_what_just_fits_is_not_refused() -> None:
    graph = build_graph(SPEC)
    needed = max(training_bytes(graph, RECIPE), judging_bytes(graph, JUDGED)) + PROCESS_BYTES
    require_memory(graph, RECIPE, judged=JUDGED, available=needed)
    with pytest.raises(TrainingError):
        require_memory(graph, RECIPE, judged=JUDGED, available=needed - 1)


def test_training_that_does_not_fit_is_refused_with_what_it_takes_and_what_to_do() -> None:
    graph, recipe = build_graph(DESIGNS["csanet"].spec), Recipe(batch=512, patch=256, total_steps=1)
    needed = (training_bytes(graph, recipe) + PROCESS_BYTES) / 1e9
    with pytest.raises(TrainingError) as refused:
        require_memory(graph, recipe, judged=JUDGED, available=500_000_000)
    assert str(refused.value) == (
        f"Training with batch 512 and patch 256 would take about {needed:.2f} GB of memory, this machine has 0.50 GB; "
        "choose a smaller --batch or --patch (of a search: in another --study)."
    )


def test_pairs_that_are_too_large_to_judge_are_named_and_no_batch_is_blamed() -> None:
    with pytest.raises(
        TrainingError, match=r"Judging 1 of the pairs of 12000×16000 at once.*crop the pairs"
    ) as refused:
        require_memory(build_graph(SPEC), RECIPE, judged=(1, 12_000, 16_000), available=1_000_000_000)
    assert "--batch" not in str(refused.value)


def test_where_nothing_is_known_nothing_is_refused_and_that_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    memory._note_that_nothing_is_known.cache_clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            require_memory(build_graph(SPEC), replace(RECIPE, batch=10**6), judged=JUDGED, available=None)
    assert [record.getMessage() for record in caplog.records] == [
        "This machine does not tell how much memory it has, so no network is refused for needing too much."
    ]


# Before anything is trained


@pytest.fixture
def job(prepared_tiny: Path, tmp_path: Path) -> Job:
    return Job(SPEC, 3, tmp_path / "state.safetensors", prepared_tiny, RECIPE, seed=0)


def test_a_candidate_that_does_not_fit_is_refused_before_it_is_trained(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "train", lambda *_, **__: pytest.fail("it was trained"))
    with pytest.raises(TrainingError, match=r"Training with batch 2 and patch 32 would take about 0\.35 GB"):
        candidate.evaluate(job, available=lambda: 1)
    assert not job.checkpoint.exists()


def test_a_worker_fails_such_a_candidate_alone(job: Job) -> None:
    result = run_job(replace(job, recipe=Recipe(batch=10**7, patch=64, total_steps=9)))
    assert isinstance(result, JobFailure)
    assert "choose a smaller --batch or --patch" in result.reason
    assert not result.fatal


def test_a_long_training_that_does_not_fit_is_refused_and_leaves_nothing(tiny_pairs: Path, tmp_path: Path) -> None:
    long_run = TrainingRun(tmp_path / "run", SPEC, DataConfig(str(tiny_pairs)), RECIPE, seed=0)
    with pytest.raises(TrainingError, match="choose a smaller --batch or --patch"):
        long_training.run(long_run, available=lambda: 1)
    assert snapshot(tmp_path / "run") == {}


# What the machine has


def test_this_machine_tells_what_it_has() -> None:
    available = machine_bytes()
    assert available is not None
    assert 10**8 < available < 10**14


def control_group(tmp_path: Path, limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "memory.max").write_text(f"{limit}\n")
    (tmp_path / "cgroup").write_text("4:memory:/old\n0::/own\n")
    monkeypatch.setattr(memory, "CGROUPS", tmp_path)
    monkeypatch.setattr(memory, "OWN_CGROUP", tmp_path / "cgroup")


@pytest.fixture
def on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jax.default_backend", lambda: "cpu")


@pytest.fixture
def a_small_machine(on_a_cpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sysconf", {"SC_PHYS_PAGES": 1000, "SC_PAGE_SIZE": 4096}.__getitem__)


@pytest.mark.usefixtures("a_small_machine")
@pytest.mark.parametrize(("limit", "counted"), [("10000", 10_000), ("5000000", 4_096_000), ("max", 4_096_000)])
def test_the_limit_of_a_container_counts_where_it_is_less_than_the_machine_has(
    limit: str, counted: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    control_group(tmp_path, limit, monkeypatch)
    assert machine_bytes() == counted


@pytest.mark.usefixtures("on_a_cpu")
def test_a_machine_that_tells_nothing_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "OWN_CGROUP", tmp_path / "none")
    monkeypatch.delattr("os.sysconf")
    assert machine_bytes() is None


class Card:
    """A graphics card as JAX shows one."""

    def __init__(self, stats: dict[str, int] | None) -> None:
        self._stats = stats

    def memory_stats(self) -> dict[str, int] | None:
        return self._stats


@pytest.mark.parametrize(
    ("stats", "had"), [({"bytes_limit": 1000, "bytes_in_use": 300}, 1000), ({}, None), (None, None)]
)
def test_a_graphics_card_has_jaxs_share_of_it(
    stats: dict[str, int] | None, had: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    monkeypatch.setattr("jax.local_devices", lambda: [Card(stats)])
    assert machine_bytes() == had


def test_pairs_get_what_training_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = build_graph(SPEC)
    needed = training_bytes(graph, RECIPE) + PROCESS_BYTES
    for known, left in ((needed + 5, 5), (needed - 5, 0), (None, None)):
        monkeypatch.setattr(memory, "host_bytes", lambda known=known: known)
        assert memory.bytes_beside_training(graph, RECIPE) == left
