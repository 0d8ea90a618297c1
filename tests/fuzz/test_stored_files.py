"""Mutated files of the kinds that isp-nas keeps or is configured by, through the commands that read them.

Beyond what every command holds: a study's records and a checkpoint are read as they were written or refused.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from flow import in_process, made_up, make_study, write_device, write_space
from hypothesis import given
from hypothesis import strategies as st
from isp_builder import isp
from mutations import count, flipped, holds, lines, manifest, toml, tries

from latency_models.delegate import BUILTIN as DELEGATES
from nas.search import study as studies
from nas.search.study import StudyRecord
from nas.train import checkpoint
from nas.train.job import Job
from nas.train.recipe_file import BUILTIN as RECIPES
from search_spaces.designs import DESIGNS
from search_spaces.errors import StudyError

TRIALS = 4
CSV = (
    "network,runtime_ms,runs,delegate,precision,soc\nreference-a,12.5,50,xnnpack,fp32,one\nb,3.25,10,xnnpack,fp32,one\n"
)
LOG = """STARTING!
Log parameter values verbosely: [0]
Graph: [net.tflite]
Loaded model net.tflite
Inference timings in us: Init: 1500, First inference: 20900, Warmup (avg): 20100.5, Inference (avg): 19876.3
Timings (microseconds): count=50 first=20900 curr=19800 min=19700 max=21000 avg=19876.3 std=120
"""
CONFIG = 'data = "nowhere"\nseed = 3\nrungs = [10, 30]\nmax-runtime = 60.5\nobjective = "pareto"\nloss = { l1 = 1.0 }\n'


@pytest.fixture(autouse=True)
def place(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("place")
    monkeypatch.chdir(folder)
    return folder


def searched(folder: Path) -> StudyRecord:
    """A study with trained candidates, as its records tell; no checkpoint lies beside them."""
    study = make_study(folder)
    runtimes = {"runtime_ms": 61.0, "runtime_low_ms": 50.0, "runtime_high_ms": 70.0}
    for trial, design in enumerate([*DESIGNS.values()][:TRIALS]):
        study.append("asked", trial=trial, genes=design.spec.to_dict(), verdict="train", **runtimes)
        outcome = made_up(Job(design.spec, 10, Path("none"), Path("none"), study.config.recipe, 0))
        study.append("rung", trial=trial, rung=0, **vars(outcome))
    study.close()
    return study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return searched(tmp_path_factory.mktemp("results") / "tiny").folder


@tries(300)
@given(data=st.data())
def test_records(place: Path, study: Path, data: st.DataObject) -> None:
    results = shutil.copytree(study.parent, place / "results", dirs_exist_ok=True)
    whole = (study / studies.RECORDS_FILE).read_bytes()
    mutated = data.draw(lines(whole))
    (results / "tiny" / studies.RECORDS_FILE).write_bytes(mutated)
    done = holds("pareto", "--format", "json", "--all")
    if done.returncode == 0 and not whole.startswith(mutated):  # cut short, it is what a crash leaves
        unharmed = in_process("pareto", "--format", "json", "--all", "--results", study.parent)
        assert json.loads(done.stdout) == json.loads(unharmed.stdout), mutated


@tries(100)
@given(data=st.data())
def test_records_of_before_there_were_checksums(place: Path, study: Path, data: st.DataObject) -> None:
    results = shutil.copytree(study.parent, place / "results", dirs_exist_ok=True)
    records = [json.loads(line) for line in (study / studies.RECORDS_FILE).read_bytes().splitlines()]
    plain = b"".join(json.dumps({k: v for k, v in t.items() if k != "checksum"}).encode() + b"\n" for t in records)
    (results / "tiny" / studies.RECORDS_FILE).write_bytes(data.draw(lines(plain)))
    holds("pareto", "--format", "json", "--all")


@tries(150)
@given(data=st.data())
@pytest.mark.parametrize("command", [("pareto",), ("show", "best")], ids=["pareto", "show"])
def test_settings_of_a_study(place: Path, study: Path, command: tuple[str, ...], data: st.DataObject) -> None:
    results = shutil.copytree(study.parent, place / "results", dirs_exist_ok=True)
    text = (study / studies.RUN_FILE).read_text()
    (results / "tiny" / studies.RUN_FILE).write_bytes(data.draw(toml(text)))
    holds(*command)


@tries(150)
@given(data=st.data())
def test_devices(place: Path, data: st.DataObject) -> None:
    (place / "net.tflite").write_bytes(isp(16, 16))
    device = write_device(place / "phone.json")
    device.write_bytes(data.draw(manifest(device.read_text())))
    holds("latency", "predict", "net.tflite", "--device", device)


@tries(100)
@given(data=st.data())
def test_delegates(place: Path, data: st.DataObject) -> None:
    (place / "delegates").mkdir(exist_ok=True)
    (place / "net.tflite").write_bytes(isp(16, 16))
    name = json.loads(write_device(place / "phone.json").read_text())["delegate"]
    (place / "delegates" / f"{name}.json").write_bytes(data.draw(manifest((DELEGATES / f"{name}.json").read_text())))
    holds("check", "net.tflite", "--device", "phone.json")


@tries(100)
@given(data=st.data())
def test_spaces(place: Path, data: st.DataObject) -> None:
    space = write_space(place / "mine.toml")
    space.write_bytes(data.draw(toml(space.read_text())))
    holds("space", "mine.toml")


@tries(100)
@given(data=st.data())
def test_recipes(place: Path, data: st.DataObject) -> None:
    given = data.draw(st.sampled_from(sorted(RECIPES.glob("*.toml"))))
    (place / "mine.toml").write_bytes(data.draw(toml(given.read_text())))
    holds("train", "smallnet", "--recipe", "mine.toml", "--data", "nowhere")


@tries(100)
@given(data=st.data())
@pytest.mark.parametrize("suffix", [".json", ".toml"])
def test_specs(place: Path, suffix: str, data: st.DataObject) -> None:
    import tomli_w

    genes = DESIGNS["smallnet"].spec.to_dict()
    text = json.dumps({"spec": genes}) if suffix == ".json" else tomli_w.dumps({"spec": genes})
    (place / f"net{suffix}").write_bytes(data.draw((manifest if suffix == ".json" else toml)(text)))
    holds("show", f"net{suffix}")


@tries(100)
@given(data=st.data())
def test_files_of_options(place: Path, data: st.DataObject) -> None:
    (place / "mine.toml").write_bytes(data.draw(toml(CONFIG)))
    holds("search", "--config", "mine.toml", "--budget", 1, "--data", "nowhere")


@tries(150)
@given(data=st.data())
@pytest.mark.parametrize("text", [CSV, LOG], ids=["csv", "log"])
def test_measurements(place: Path, text: str, data: st.DataObject) -> None:
    (place / "given.txt").write_bytes(data.draw(flipped(text.encode())))
    (place / "read.csv").unlink(missing_ok=True)
    holds("latency", "import", "given.txt", "--out", "read.csv")


@tries(60)
@given(data=st.data())
def test_files_of_litert_benchmark(place: Path, data: st.DataObject) -> None:
    document = {
        "model": "net.tflite",
        "num_threads": 4,
        "accelerators": ["CPU"],
        "fully_accelerated": True,
        "latency": {"median_ms": 3.5, "p5_ms": 3.25, "p95_ms": 4.0, "num_runs": 50},
    }
    (place / "given.json").write_bytes(data.draw(manifest(json.dumps(document))))
    (place / "read.csv").unlink(missing_ok=True)
    holds("latency", "import", "given.json", "--out", "read.csv")


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("state") / "state.safetensors"
    arrays = {"a": np.arange(12, dtype=np.float32).reshape(3, 4)}
    checkpoint.save(checkpoint.Checkpoint(3, "0" * 12, arrays, arrays, arrays, loss=0.5), path)
    return path


@tries(200)
@given(data=st.data())
def test_checkpoints(place: Path, state: Path, data: st.DataObject) -> None:
    """Read as they were written, or refused: no byte of one is without a checksum."""
    count()
    (place / "state.safetensors").write_bytes(data.draw(flipped(state.read_bytes())))
    try:
        read = checkpoint.load(place / "state.safetensors")
    except StudyError:
        return
    np.testing.assert_equal(vars(read), vars(checkpoint.load(state)))
