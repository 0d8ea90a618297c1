"""The wheel, the pins, and the files about the project agree with the code and with each other."""

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    out = tmp_path_factory.mktemp("wheel")
    source = tmp_path_factory.mktemp("source") / "isp-nas"
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True)
    for name in listed.stdout.decode().splitlines():  # a copy, so that building leaves nothing in the checkout
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    return zipfile.ZipFile(next(out.glob("*.whl")))


def test_the_wheel_holds_exactly_the_three_packages(wheel: zipfile.ZipFile) -> None:
    tops = {name.partition("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"nas", "search_spaces", "latency_models"}


def test_every_module_and_data_file_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    packed = set(wheel.namelist())
    for package in ("nas", "search_spaces", "latency_models"):
        files = [p for suffix in ("*.py", "*.toml", "*.json") for p in (ROOT / package).rglob(suffix)]
        missing = {str(p.relative_to(ROOT)) for p in files} - packed
        assert not missing
    assert "search_spaces/mai21.toml" in packed
    assert "search_spaces/design_files.json" in packed
    for templates in ("nas/report/templates", "nas/data/make/templates"):
        assert {f"{templates}/{path.name}" for path in (ROOT / templates).iterdir()} <= packed
    assert "latency_models/devices/dimensity-1000-plus.json" in packed


def test_the_wheel_names_its_command_and_its_gpu_extra(wheel: zipfile.ZipFile) -> None:
    info = next(name for name in wheel.namelist() if name.endswith("/entry_points.txt"))
    assert "isp-nas = nas.cli.main:main" in wheel.read(info).decode()
    metadata = wheel.read(info.replace("entry_points.txt", "METADATA")).decode()
    assert "Provides-Extra: cuda" in metadata
    assert "License-Expression: Apache-2.0" in metadata


def test_the_pins_are_names_and_versions_alone() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert lines
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line) for line in lines)


def test_pre_commit_runs_checks_of_the_ci_script_as_it_runs_them() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    entries = [hook["entry"] for repo in config["repos"] for hook in repo["hooks"]]
    assert entries
    assert not [entry for entry in entries if f'"{entry.removeprefix(".venv/bin/")}"' not in script]


def test_the_container_is_built_by_a_command_of_the_readme() -> None:
    (run,) = re.findall(r"^RUN (.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert run.replace(" --no-cache-dir", "") in (ROOT / "README.md").read_text()


def test_the_readme_names_only_files_that_exist() -> None:
    links = re.findall(r"\]\(([^)]+)\)", (ROOT / "README.md").read_text())
    assert links
    assert not [link for link in links if not (ROOT / link.partition("#")[0]).exists()]


def test_the_citation_names_the_version_of_the_package() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
