"""A phone that is a folder, behind an adb that answers here."""

import os
from pathlib import Path

import fake_adb
import pytest
from fake_adb import FakePhone
from measured_phone import Networks

from latency_models.measure import adb
from latency_models.measure.benchmark_setup import BenchmarkSetup


@pytest.fixture
def phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakePhone:
    fake, path = fake_adb.install(tmp_path, os.environ["PATH"])
    monkeypatch.setenv("PATH", path)
    monkeypatch.setattr(adb, "subprocess", fake_adb.answer_here(fake))
    monkeypatch.delenv("ANDROID_SERIAL", raising=False)
    return fake


@pytest.fixture
def setup(tmp_path: Path) -> BenchmarkSetup:
    """The GPU, by a program that lies in a folder whose name needs quoting."""
    folder = tmp_path / "the user's $tools"
    folder.mkdir()
    (folder / "benchmark_model").write_bytes(fake_adb.elf())
    return BenchmarkSetup(folder / "benchmark_model", delegate="gpu")


@pytest.fixture
def networks(tmp_path: Path) -> Networks:
    def make(*names: str) -> list[Path]:
        folder = tmp_path / "my models"
        folder.mkdir(exist_ok=True)
        paths = [folder / f"{name}.tflite" for name in names]
        for path in paths:
            path.write_bytes(b"TFL3" + path.name.encode())
        return paths

    return make


@pytest.fixture
def untouched(phone: FakePhone):
    """The phone holds after the test what it held before, and nothing of ours runs on it."""
    before = phone.stored()
    yield
    assert phone.stored() == before
    assert not phone.running()
