"""GPUs of a machine, told by made-up device files: one process for each, pinned to it and to its share of memory."""

import os
from pathlib import Path

import pytest

from nas.train import gpus, workers
from nas.train.gpus import local_gpus, shares_of_gpus
from nas.train.job import Job, JobFailure
from nas.train.recipe import Recipe
from nas.train.workers import Worker, default_workers, local_workers, result_of
from search_spaces.spec import ArchSpec


@pytest.fixture(autouse=True)
def _four_cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("nvidia0", "nvidia1", "nvidia2", "nvidia3", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()
    monkeypatch.setattr(gpus, "DEVICES", tmp_path)
    monkeypatch.setattr(gpus, "_models", lambda: {"1": "H200"})
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("XLA_PYTHON_CLIENT_MEM_FRACTION", raising=False)


def test_every_card_that_the_system_shows_is_one() -> None:
    assert local_gpus() == ["0", "1", "2", "3"]
    assert default_workers("gpu", None) == 4


@pytest.mark.parametrize(
    ("visible", "expected"),
    [("2,3", ["2", "3"]), ("GPU-a1, GPU-b2", ["GPU-a1", "GPU-b2"]), ("0,-1,2", ["0"]), ("", []), ("-1", [])],
)
def test_a_choice_of_the_user_is_kept(visible: str, expected: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert local_gpus() == expected


def test_workers_are_spread_evenly_and_divide_the_memory_of_a_card() -> None:
    shares = shares_of_gpus(6, ["0", "1", "2", "3"])
    assert [share.device for share in shares] == ["0", "1", "2", "3", "0", "1"]
    assert [round(share.memory_share, 3) for share in shares] == [0.45, 0.45, 0.9, 0.9, 0.45, 0.45]
    assert str(shares[1]) == "GPU 1, H200"


def test_a_share_that_the_user_set_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.3")
    assert shares_of_gpus(1, ["0"])[0].environment["XLA_PYTHON_CLIENT_MEM_FRACTION"] == "0.3"


def environment(_: Job) -> JobFailure:
    """Stand in for a training: tell what the process was pinned to, and whether that came before JAX."""
    import sys

    names = ("CUDA_VISIBLE_DEVICES", "XLA_PYTHON_CLIENT_MEM_FRACTION")
    return JobFailure(f"{' '.join(os.environ[name] for name in names)} {'jax' in sys.modules}")


def test_processes_are_pinned_each_to_its_card(tmp_path: Path) -> None:
    made = local_workers(2, "gpu", lambda **where: Worker(environment, **where))
    job = Job(ArchSpec(), 1, tmp_path / "none", tmp_path, Recipe(), 0)
    futures = [worker.submit(job) for worker in made]
    try:
        assert [result_of(future) for future in futures] == [JobFailure(f"{n} 0.900 False") for n in (0, 1)]
        assert [worker.place and worker.place.processor for worker in made] == ["GPU 0", "GPU 1, H200"]
    finally:
        for worker in made:
            worker.close(kill=True)


def test_a_single_card_is_left_to_jax_and_cores_are_shared_as_before(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    (alone,) = local_workers(1, "gpu", Worker)
    assert alone.place is not None
    assert (alone.place.backend, alone.place.processor) == ("gpu", "GPU 3")
    assert alone._gpu is None
    monkeypatch.setattr(workers, "shares_of_cores", lambda count: [[n] for n in range(count)])
    assert [worker._cores for worker in local_workers(2, "cpu", Worker)] == [[0], [1]]
