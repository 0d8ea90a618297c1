"""Where little is left to train: duplicates, small spaces, and limits of runtime and memory."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from flow import (
    TINY_SIZE,
    InlineWorker,
    assert_whole,
    make_study,
    optuna_trials,
    records,
    search,
    write_delegate,
    write_space,
)
from inline_runs import BUDGET, INSTALLED, Run, sampler_of, tiny
from optuna.trial import TrialState

from latency_models.delegate import load_delegate
from latency_models.device import load_device
from latency_models.kernels import network
from latency_models.memory import peak_bytes
from nas.defaults import DEFAULT_DEVICE
from nas.search import driver as search_module
from nas.search import proposals
from nas.search import study as studies
from nas.search.optuna_sampler import expected_trials
from nas.search.samplers import SAMPLERS, require_sampler
from nas.search.session import few_pairs
from search_spaces.designs import DESIGNS
from search_spaces.errors import UsageError
from search_spaces.networks import build_graph
from search_spaces.spec import ArchSpec

pytestmark = pytest.mark.usefixtures("few_proposals")


def verdicts(folder: Path) -> Counter[str]:
    return Counter(r["verdict"] for r in records(folder) if r["event"] == "asked")


def test_duplicates_are_not_trained_twice_and_cost_no_budget(tmp_path: Path) -> None:
    budget = TINY_SIZE - 3
    worker = InlineWorker()
    search(make_study(tmp_path / "s", space=tiny(tmp_path), sampler="random"), budget, workers=[worker])
    assert verdicts(tmp_path / "s")["duplicate"] > 0, "nothing was proposed twice: this run shows nothing"
    trained_to = Counter((job.spec, job.steps) for job in worker.jobs)
    assert max(trained_to.values()) == 1
    opened = assert_whole(tmp_path / "s", budget=budget)
    assert len({c.spec for c in opened.trained()}) == budget


def test_a_duplicate_is_told_to_optuna_with_the_result_of_the_first(tmp_path: Path) -> None:
    search(make_study(tmp_path / "s", space=tiny(tmp_path), sampler="random"), TINY_SIZE - 3)
    trials = expected_trials(studies.load(tmp_path / "s"))
    repeats = [c for c in studies.load(tmp_path / "s").candidates.values() if c.duplicate_of is not None]
    assert repeats
    for repeat in repeats:
        assert trials[repeat.trial].state == TrialState.COMPLETE
        assert trials[repeat.trial].values == trials[repeat.duplicate_of].values


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search that sooner gives up hope that anything is new in a small space; the way it ends is the same."""
    monkeypatch.setattr(search_module, "PATIENCE", 5)
    monkeypatch.setattr(search_module, "RANDOM_TRIES", 200)
    monkeypatch.setattr(proposals, "MOST_PRICED", 100)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("sampler", INSTALLED)
def test_a_tiny_space_ends_with_exhausted(tmp_path: Path, sampler: str) -> None:
    said: list[str] = []
    study = make_study(tmp_path / "s", space=tiny(tmp_path), sampler=sampler)
    assert search(study, 100, on_message=said.append).exhausted
    assert any("exhausted" in line for line in said)
    assert_whole(tmp_path / "s", budget=TINY_SIZE)


@pytest.mark.usefixtures("impatient")
def test_a_space_that_is_wholly_over_the_limit_ends_and_trains_nothing(tmp_path: Path) -> None:
    worker = InlineWorker()
    assert search(make_study(tmp_path / "s", space=tiny(tmp_path), max_runtime_ms=1.0), 5, workers=[worker]).exhausted
    assert worker.jobs == []


# Over the limit, not runnable


# Of the networks that a phone can run, few are as fast as 90 ms, and a sampler that learns finds them; to one that does
# not, hundreds would be proposed for every one that is trained.
LIMITS_MS = dict.fromkeys(INSTALLED, 150.0) | {"model": 90.0, "tpe": 90.0}


def limit_ms(run: Run) -> float:
    return LIMITS_MS[sampler_of(run)]


@pytest.fixture(scope="module", params=INSTALLED)
def limited(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A search with a limit that a good part of the proposals miss."""
    folder, worker = tmp_path_factory.mktemp("limited") / "s", InlineWorker()
    search(make_study(folder, sampler=request.param, max_runtime_ms=LIMITS_MS[request.param]), BUDGET, workers=[worker])
    return folder, worker


def test_a_search_with_a_limit_uses_its_budget_whatever_the_sampler(limited: Run) -> None:
    assert_whole(limited[0], budget=BUDGET)


def test_a_candidate_over_the_limit_is_never_trained(limited: Run) -> None:
    folder, worker = limited
    over = {c.spec for c in studies.load(folder).candidates.values() if c.verdict == "infeasible"}
    assert over, "nothing was over the limit: this run shows nothing"
    assert not over & {job.spec for job in worker.jobs}
    assert all(c.runtime_ms is not None and c.runtime_ms <= limit_ms(limited) for c in studies.load(folder).trained())


def test_an_infeasible_candidate_is_told_pruned_with_its_violation_and_never_failed(limited: Run) -> None:
    trials = expected_trials(studies.load(limited[0]))
    for candidate in studies.load(limited[0]).candidates.values():
        trial = trials[candidate.trial]
        constraint = trial.constraint
        if candidate.verdict == "infeasible":
            assert trial.state == TrialState.PRUNED
            assert constraint == pytest.approx(candidate.runtime_ms - limit_ms(limited))
            assert constraint > 0
        elif candidate.verdict == "unsupported":
            assert (trial.state, constraint) == (TrialState.PRUNED, 1)
        else:
            assert trial.state == TrialState.COMPLETE
            assert constraint == 0


# Over the limit of memory


LIMIT_MB = 60.0  # Smallnet takes 66.8, CSANet 83.6
LIMITS_MB = dict.fromkeys(INSTALLED, 120.0) | {"model": LIMIT_MB, "tpe": LIMIT_MB}


def limit_mb(run: Run) -> float:
    return LIMITS_MB[sampler_of(run)]


@pytest.fixture(scope="module", params=INSTALLED)
def cramped(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A search with limits of memory and runtime, each of which a good part of the proposals miss."""
    folder, worker = tmp_path_factory.mktemp("cramped") / "s", InlineWorker()
    limits = {"max_memory_mb": LIMITS_MB[request.param], "max_runtime_ms": LIMITS_MS[request.param]}
    search(make_study(folder, sampler=request.param, **limits), BUDGET, workers=[worker])
    return folder, worker


def test_a_candidate_whose_maps_do_not_fit_is_never_trained(cramped: Run) -> None:
    folder, worker = cramped
    candidates = studies.load(folder).candidates.values()
    too_large = [c for c in candidates if c.verdict == "infeasible" and c.runtime_ms <= limit_ms(cramped)]
    assert too_large, "none was only too large: this run shows nothing"
    over = {c.spec for c in candidates if c.verdict == "infeasible"}
    assert not over & {job.spec for job in worker.jobs}
    assert_whole(folder, budget=BUDGET)
    for candidate in studies.load(folder).trained():
        assert candidate.peak_memory_mb is not None
        assert candidate.peak_memory_mb <= limit_mb(cramped)
        assert candidate.runtime_ms <= limit_ms(cramped)


def test_two_limits_reach_optuna_as_one_sum_of_shares(cramped: Run) -> None:
    trials = expected_trials(studies.load(cramped[0]))
    for candidate in studies.load(cramped[0]).candidates.values():
        if candidate.verdict == "unsupported":
            continue  # refused before either limit was looked at
        constraint = trials[candidate.trial].constraint
        slow, large = candidate.runtime_ms / limit_ms(cramped) - 1, candidate.peak_memory_mb / limit_mb(cramped) - 1
        assert constraint == pytest.approx(max(0, slow) + max(0, large))
        wanted = TrialState.PRUNED if candidate.verdict == "infeasible" else TrialState.COMPLETE
        assert trials[candidate.trial].state == wanted


def test_a_published_design_that_does_not_fit_is_named_with_the_reason(tmp_path: Path) -> None:
    said: list[str] = []
    search(make_study(tmp_path / "s", max_memory_mb=LIMIT_MB), 5, on_message=said.append)
    assert "smallnet is left out: 66.8 MB of maps at once are over the limit of 60 MB." in said


@pytest.mark.usefixtures("impatient")
def test_a_limit_of_memory_out_of_reach_ends_the_search_and_tells_the_nearest(tmp_path: Path) -> None:
    ended = search(make_study(tmp_path / "s", space=tiny(tmp_path), max_memory_mb=1.0), 5)
    members = [ArchSpec(width=w, depth=d) for w in (4, 8) for d in (0, 1)]  # activations change no map
    least = min(peak_bytes(network(build_graph(spec))) / 1e6 for spec in members)
    assert ended.unmet.startswith("No network of the space is within the limits: of ")
    assert ended.unmet.endswith("MB of maps at once. Raise --max-memory, or widen the space.")
    nearest_mb = float(ended.unmet.split(" MB of maps")[0].split()[-1])
    assert least <= nearest_mb < least + 0.1, "a limit of that figure lets the nearest one in"


@pytest.mark.parametrize("sampler", INSTALLED)
def test_a_tight_limit_is_met_whatever_the_sampler(
    tmp_path: Path, sampler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not one of the designs is as fast, and random members hardly ever are."""
    monkeypatch.setattr(search_module, "PATIENCE", 5)
    monkeypatch.setattr(search_module, "RANDOM_TRIES", 5)
    worker = InlineWorker()
    ended = search(make_study(tmp_path / "s", sampler=sampler, max_runtime_ms=50.0), 2, workers=[worker])
    assert (ended.exhausted, ended.unmet) == (False, "")
    trained = studies.load(tmp_path / "s").trained()
    assert len(trained) == 2
    assert max(c.runtime_ms for c in trained) <= 50.0


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("sampler", INSTALLED)
def test_twins_are_trained_once_whatever_the_sampler(tmp_path: Path, sampler: str) -> None:
    """ReLU and ReLU6 give the same figures to the last digit."""
    genes = 'name = "twins"\n[genes]\nwidth = [4, 8]\ndepth = [1]\nactivation = ["relu", "relu6"]\n'
    study = make_study(tmp_path / "s", space=write_space(tmp_path / "twins.toml", genes), sampler=sampler)
    search(study, 10)
    trained = [c.spec for c in studies.load(tmp_path / "s").trained()]
    assert len({replace(spec, activation="relu").hash for spec in trained}) == len(trained) == 2


def test_records_made_before_memory_was_known_are_continued(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    search(make_study(folder, max_runtime_ms=90.0), 5)
    run, lines = folder / studies.RUN_FILE, folder / studies.RECORDS_FILE
    assert "max_memory_mb" not in run.read_text()
    newer = ("peak_memory_mb", "checksum")
    old = [{name: v for name, v in record.items() if name not in newer} for record in records(folder)]
    lines.write_text("".join(json.dumps(record) + "\n" for record in old))
    search(studies.load(folder), 8)
    assert records(folder)[: len(old)] == old
    assert_whole(folder, budget=8)


def test_an_unsupported_design_is_named_as_left_out_and_not_trained(tmp_path: Path) -> None:
    table = load_delegate(str(write_delegate(tmp_path / "narrow.json", without="MEAN")))
    less = replace(load_device(DEFAULT_DEVICE), delegate=table)
    said: list[str] = []
    worker = InlineWorker()
    search(make_study(tmp_path / "s"), BUDGET, workers=[worker], device=less, on_message=said.append)
    assert any(line.startswith("csanet is left out: ") and "MEAN" in line for line in said)
    assert DESIGNS["csanet"].spec not in {job.spec for job in worker.jobs}
    (left_out,) = (c for c in studies.load(tmp_path / "s").candidates.values() if c.name == "csanet")
    assert left_out.verdict == "unsupported"
    trial = list(optuna_trials(tmp_path / "s"))[left_out.trial]
    assert trial.state == TrialState.PRUNED
    assert all(constraint > 0 for constraint in trial.constraints.values())


def test_a_sampler_whose_package_is_missing_is_refused_before_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SAMPLERS, "gp", replace(SAMPLERS["gp"], needs="no_such_package"))
    with pytest.raises(UsageError, match="needs the package no_such_package; run `pip install no_such_package`"):
        require_sampler("gp")


def test_few_pairs_are_told() -> None:
    assert list(few_pairs(16, 8)) == []
    assert "only 4 training pairs" in next(few_pairs(4, 8))
    assert "only 2 validation pairs" in list(few_pairs(4, 2))[1]
