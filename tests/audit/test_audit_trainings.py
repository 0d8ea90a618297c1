"""Audits whose trainings are real, and audits whose trainings fail."""

from pathlib import Path

import pytest
from audits import NETWORKS, SPECS, ask, audit_json, use
from flow import made_up, refusal

from nas import backend
from nas.audit import trainings as audit
from nas.defaults import DEFAULT_DATA
from nas.train.default_recipe import default_recipe
from nas.train.job import Job, Outcome
from nas.train.workers import JobFailure, run_job

# Trainings that are real


@pytest.fixture(scope="module")
def trained(tiny_pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An audit that the command made in a process beside it."""
    out = tmp_path_factory.mktemp("trained") / "a"
    done = ask(tiny_pairs, out, "--seeds", "1", "--workers", "1")
    assert done.returncode == 0, done.stderr
    return out


def test_the_command_trains_in_a_process_judges_and_keeps_no_checkpoint(trained: Path) -> None:
    document = audit_json(trained)
    assert document["left_out"] == []
    assert all(record["train_s"] > 0 and record["psnr_db"] > 0 for record in document["records"])
    assert not list(trained.glob("runs/*/*.safetensors"))


def test_a_rung_is_what_the_search_trains_in_its_place(trained: Path, prepared_tiny: Path, tmp_path: Path) -> None:
    recipe = default_recipe(backend.expected(), DEFAULT_DATA).changed(batch=2, patch=16).scaled(4)
    wanted = [run_job(Job(SPECS[0], steps, tmp_path / "c", prepared_tiny, recipe, 0)) for steps in (2, 4)]
    records = [r for r in audit_json(trained)["records"] if (r["hash"], r["horizon"]) == (SPECS[0].hash, 4)]
    assert [r["psnr_db"] for r in records] == pytest.approx([w.psnr_db for w in wanted], abs=1e-4)  # type: ignore[union-attr]


def test_what_was_trained_but_not_recorded_before_a_kill_has_no_made_up_duration(
    trained: Path, tiny_pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = use(monkeypatch, run_job)

    def killed(path: Path, _: object) -> None:
        if path.name == "4.json":
            raise KeyboardInterrupt
        original(path, _)  # type: ignore[arg-type]

    original = audit.save
    with monkeypatch.context() as patched:
        patched.setattr(audit, "save", killed)
        assert ask(tiny_pairs, tmp_path / "a", "--seeds", "1").returncode == 130
    assert ask(tiny_pairs, tmp_path / "a", "--seeds", "1").returncode == 0
    assert workers[1].jobs[0].steps == 4
    records = audit_json(tmp_path / "a")["records"]
    assert [r["train_s"] for r in records if r["train_s"] is None] == [None]
    assert [r["psnr_db"] for r in records] == pytest.approx(
        [r["psnr_db"] for r in audit_json(trained)["records"]], abs=1e-4
    )


def test_a_rung_added_below_a_checkpoint_is_trained_from_the_start(
    tiny_pairs: Path, prepared_tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, run_job)
    assert ask(tiny_pairs, tmp_path / "a", "--seeds", "1").returncode == 0
    assert ask(tiny_pairs, tmp_path / "a", "--seeds", "1", "--rungs", "1,8").returncode == 0
    added = [r for r in audit_json(tmp_path / "a")["records"] if r["steps"] == 1]
    assert [(r["horizon"], r["from_step"]) for r in added] == [(8, 0)] * len(NETWORKS)


# What fails


def failing(job: Job) -> Outcome | JobFailure:
    fails = job.spec == SPECS[1] and job.recipe.total_steps == 4 and job.steps == 4
    return JobFailure("The loss diverged.") if fails else made_up(job)


def test_a_failed_training_is_recorded_with_its_reason_and_leaves_its_network_out(
    tiny_pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = use(monkeypatch, failing)
    done = ask(tiny_pairs, tmp_path / "a", targets=(*NETWORKS, "isp-forever"))
    assert done.returncode == 0, done.stderr
    document = audit_json(tmp_path / "a")
    assert document["left_out"] == [{"name": "acvlab", "reason": "seed 0, 4 steps: The loss diverged."}]
    assert "Acvlab takes no part (seed 0, 4 steps: The loss diverged.)" in " ".join(done.stdout.split())
    assert document["truth"]["networks"] == 4
    (failed,) = [r for r in document["records"] if r["failure"]]
    assert (failed["hash"], failed["psnr_db"]) == (SPECS[1].hash, None)
    assert [job.steps for worker in workers for job in worker.jobs if job.spec == SPECS[1]] == [2, 4]  # no more of it
    workers.clear()
    assert ask(tiny_pairs, tmp_path / "a", targets=(*NETWORKS, "isp-forever")).returncode == 0
    assert workers[0].jobs == []


def test_where_all_networks_fail_there_are_no_figures_and_no_crash(
    tiny_pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, lambda _: JobFailure("The loss diverged."))
    done = ask(tiny_pairs, tmp_path / "a", "--plot", tmp_path / "a.png")
    assert done.returncode == 0, done.stderr
    assert {row["psnr_spearman"] for row in audit_json(tmp_path / "a")["rungs"]} == {None}


def test_a_failure_that_every_network_would_share_ends_the_audit(
    tiny_pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, lambda _: JobFailure("No space left on device", fatal=True))
    assert refusal(ask(tiny_pairs, tmp_path / "a")) == "No space left on device"
