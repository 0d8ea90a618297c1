"""A study is trained on CPUs or on GPUs: figures of the two are never mixed."""

from pathlib import Path

import pytest
from flow import TINY_TRAINING, in_process, refusal, search_in_process, snapshot, write_space

from nas import backend
from nas.search import study as studies


@pytest.fixture
def started(tiny_pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The options of a study of one candidate that was trained on this machine's CPU."""
    monkeypatch.chdir(tmp_path)
    space = write_space(Path("tiny.toml"))
    options = ["--study", "s", "--space", space, "--data", tiny_pairs, *TINY_TRAINING]
    done = search_in_process(*options, "--budget", 1)
    assert done.returncode == 0, done.stderr
    return options


def test_records_say_what_the_study_was_trained_on(started: list[object]) -> None:
    study = studies.load(Path("results/s"))
    assert (study.sessions[0].backend, study.backend) == ("cpu", "cpu")


def test_a_study_of_a_cpu_is_not_continued_on_a_gpu(started: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "expected", lambda: "gpu")
    before = snapshot(Path("results"))
    sentence = refusal(in_process("search", *started, "--budget", 2, "--workers", 1))
    assert "What study s was trained on is cpu, and this machine trains on gpu" in sentence
    assert "JAX_PLATFORMS=cpu" in sentence
    assert snapshot(Path("results")) == before


def test_another_backend_than_the_study_s_is_refused_on_a_cluster_too(started: list[object]) -> None:
    pytest.importorskip("distributed")
    sentence = refusal(in_process("search", *started, "--budget", 2, "--cluster", ":0", "--backend", "gpu"))
    assert "was trained on cpu so far, and --backend is gpu" in sentence


def test_a_backend_that_this_machine_lacks_is_for_others(tiny_pairs: Path, tmp_path: Path) -> None:
    options = ("--data", tiny_pairs, "--results", tmp_path / "r", "--budget", 1, "--backend", "gpu")
    sentence = refusal(in_process("search", *options, "--workers", 1))
    assert "--backend is gpu, and this machine trains on cpu" in sentence
    assert not (tmp_path / "r").exists()


def test_records_from_before_do_not_tell_and_refuse_nothing(tmp_path: Path) -> None:
    from made_up_study import made_up_study

    assert made_up_study(tmp_path / "s", 20).backend is None
