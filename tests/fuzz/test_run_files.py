"""Mutated files that commands keep for their own next start, and tables and reports that people bring along.

What is read back is what was written, or it is refused or made again; nothing but what a command itself made is
removed for it.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from dng import Camera, noise, write_mosaic
from flow import InlineWorker, in_process, made_up, make_study, search, snapshot
from hypothesis import given
from hypothesis import strategies as st
from made_up_card import card
from made_up_study import made_up_study
from mutations import count, flipped, holds, lines, manifest, toml, tries
from photographed import FMT, photograph
from PIL import Image
from written_comparison import write_comparison

from nas.cli import audit as audit_table
from nas.data import pairs as prepared
from nas.data.make.assembly import AssemblySettings
from nas.data.make.capture_time import taken_at
from nas.data.make.maker import make_pairs
from nas.data.make.photograph import MakeSettings
from nas.data.make.target_picture import read_embedded, read_picture
from nas.data.pairs import DataConfig
from nas.export import folder as export_folder
from nas.render.made import RenderNotes
from nas.search import study as studies
from nas.search.optuna_database import DatabaseFile
from nas.train import checkpoint, history, run_folder
from nas.train.history import Validation
from nas.train.recipe import Recipe
from nas.train.run_folder import TrainingRun
from search_spaces.designs import DESIGNS
from search_spaces.errors import DataError, IspNasError, StudyError

SMALLNET = DESIGNS["smallnet"].spec


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("place")
    monkeypatch.chdir(folder)
    return folder


# A training run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_pairs: Path) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    folder.mkdir()
    run_folder.claim(TrainingRun(folder, SMALLNET, DataConfig(str(tiny_pairs)), Recipe(total_steps=30), 0))
    arrays = {"a": np.arange(12, dtype=np.float32).reshape(3, 4)}
    for name in (run_folder.CHECKPOINT_FILE, run_folder.BEST_FILE):
        checkpoint.save(checkpoint.Checkpoint(20, SMALLNET.hash, arrays, arrays, arrays), folder / name)
    validations = [
        Validation(step, 20 + step / 8, 0.5, {"loss": 0.25, "l1": 0.25}, 0.001, 1.5, 0.25) for step in (10, 20)
    ]
    history.write(folder, validations)
    return folder


@tries(100)
@given(data=st.data())
def test_settings_of_a_training(place: Path, run: Path, data: st.DataObject) -> None:
    shutil.copytree(run, place / "run", dirs_exist_ok=True)
    text = (run / run_folder.TRAINING_FILE).read_text()
    (place / "run" / run_folder.TRAINING_FILE).write_bytes(data.draw(toml(text)))
    holds("show", "run")


@tries(100)
@given(data=st.data())
def test_history_of_a_training(place: Path, run: Path, data: st.DataObject) -> None:
    """What a best is found by: as it was written as far as it goes, or refused."""
    count()
    whole = (run / history.HISTORY_FILE).read_bytes()
    (place / history.HISTORY_FILE).write_bytes(data.draw(lines(whole)))
    try:
        read = history.read(place, until=20)
    except StudyError:
        return
    assert read == history.read(run, until=20)[: len(read)]


# Decoded pairs


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory, tiny_pairs: Path) -> Path:
    return prepared.prepare(DataConfig(str(tiny_pairs)), tmp_path_factory.mktemp("cache"))


@tries(100)
@given(data=st.data())
def test_decoded_pairs(place: Path, cache: Path, tiny_pairs: Path, data: st.DataObject) -> None:
    count()
    folder = shutil.copytree(cache, place / cache.name, dirs_exist_ok=True)
    name = data.draw(st.sampled_from(sorted(path.name for path in cache.iterdir() if path.is_file())))
    whole = (cache / name).read_bytes()
    mutated = data.draw(
        st.one_of(manifest(whole.decode()), flipped(whole)) if name.endswith(".json") else flipped(whole)
    )
    (folder / name).write_bytes(mutated)
    refusal = None
    try:
        assert prepared.prepare(DataConfig(str(tiny_pairs)), place) == folder
        for split in ("train", "val"):
            mine, theirs = prepared.open_prepared(folder, split), prepared.open_prepared(cache, split)
            np.testing.assert_array_equal(mine.raw, theirs.raw)
            np.testing.assert_array_equal(mine.rgb, theirs.rgb)
            assert (mine.names, mine.format) == (theirs.names, theirs.format)
    except DataError as error:
        refusal = str(error)
    assert refusal is None or str(folder) in refusal


# Pairs that are made


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs, and the folder that was made of them."""
    root = tmp_path_factory.mktemp("photographs")
    (root / "phone").mkdir()
    for number in range(2):
        Camera().write(root / "phone" / f"{number}.dng", photograph(258, 322, seed=60 + number).mosaic)
    made(root / "phone", root / "out")
    return root


def made(raw: Path, out: Path) -> None:
    settings = MakeSettings("libraw", patch=64, raw=FMT)
    make_pairs(raw, "libraw", out, settings, AssemblySettings(val=0.3, test=0.3), workers=1)


@tries(40)
@given(data=st.data())
def test_what_making_pairs_goes_on_from(place: Path, photographs: Path, data: st.DataObject) -> None:
    """It goes on and ends with the same pairs, or says which file is in its way."""
    count()
    shutil.rmtree(place / "out", ignore_errors=True)
    out = shutil.copytree(photographs / "out", place / "out")
    kinds = ("*.json", "photographs/*/*.json", "photographs/*/*.npz", "*.csv", "../pairs.csv")
    files = [sorted((out / ".isp-nas-make").glob(kind)) for kind in kinds]
    path = data.draw(st.sampled_from([path for of_kind in files for path in of_kind[:2]]))
    whole = path.read_bytes()
    path.write_bytes(
        data.draw(st.one_of(flipped(whole), *([manifest(whole.decode())] if path.suffix == ".json" else [])))
    )
    before = snapshot(out)
    try:
        made(photographs / "phone", out)
    except IspNasError:
        return
    pictures = {name: content for name, content in before.items() if name.endswith(".png")}
    assert {name: content for name, content in snapshot(out).items() if name in pictures} == pictures
    assert sorted(snapshot(out)) == sorted(before)


TABLE = (
    "raw,rgb,split,black,white,bits,pattern\n"
    "raw/0.png,rgb/0.png,train,0,1023,10,RGGB\nraw/1.png,rgb/1.png,val,0,1023,10,RGGB\n"
)


@tries(150)
@given(data=st.data())
def test_tables_of_pairs(place: Path, data: st.DataObject) -> None:
    for name in ("0", "1"):
        if not (place / "rgb" / f"{name}.png").exists():
            write_mosaic(place / "raw" / f"{name}.png", noise(32, 32, seed=int(name)))
            (place / "rgb").mkdir(exist_ok=True)
            Image.effect_noise((32, 32), 40).convert("RGB").save(place / "rgb" / f"{name}.png")
    (place / "pairs.csv").write_bytes(data.draw(flipped(TABLE.encode())))
    holds("data", "check", "pairs.csv")


@tries(100)
@given(data=st.data())
def test_tables_of_photographs(place: Path, data: st.DataObject) -> None:
    for kind in ("phone", "camera"):
        (place / kind).mkdir(exist_ok=True)
        (place / kind / "0.png").write_bytes(b"")
    (place / "match.csv").write_bytes(data.draw(flipped(b"raw,target,scene\n0.png,0.png,a\n1.png,0.png,b\n")))
    command = ("data", "make", "--raw", "phone", "--target", "camera", "--out", "out", "--match", "match.csv")
    holds(*command, "--workers", 1)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Photographs with what tells when they were taken, of 8 and 16 bits, and inside of a RAW."""
    root, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    shown = rng.integers(0, 256, (32, 48, 3), np.uint8)
    exif = Image.Exif()
    exif[274] = 6
    exif.get_ifd(0x8769).update({0x9003: "2026:01:02 03:04:05", 0x9291: "25"})
    Image.fromarray(shown).save(root / "a.jpg", exif=exif)
    Image.fromarray(shown).save(root / "b.tif", exif=exif)
    import cv2

    cv2.imwrite(str(root / "c.png"), shown.astype(np.uint16) * 257)
    Camera().write_with_preview(root / "d.dng", noise(32, 48), shown)
    return {path.name: path.read_bytes() for path in root.iterdir()}


@tries(200)
@given(data=st.data())
def test_photographs(place: Path, pictures: dict[str, bytes], data: st.DataObject) -> None:
    count()
    name = data.draw(st.sampled_from(sorted(pictures)))
    (place / name).write_bytes(data.draw(flipped(pictures[name])))
    taken_at(place / name)
    with suppress(DataError):
        (read_embedded if name.endswith(".dng") else read_picture)(place / name)


# Audits and comparisons


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory, tiny_pairs: Path) -> Path:
    folder = tmp_path_factory.mktemp("audited") / "audit"
    with without_processes():
        done = in_process(*AUDIT, "--data", tiny_pairs, "--out", folder)
    assert done.returncode == 0, done.stderr
    return folder


NETWORKS = ("smallnet", "acvlab", "enerzai-dense", "enerzai-esrgan")
AUDIT = ("audit", *NETWORKS, "--rungs", "2,4", "--steps", 8, "--seeds", 1, "--batch", 2, "--patch", 16)


@contextmanager
def without_processes() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audit_table, "Worker", lambda: InlineWorker(made_up))
        yield


@tries(100)
@given(data=st.data())
def test_audits(place: Path, audited: Path, tiny_pairs: Path, data: st.DataObject) -> None:
    folder = shutil.copytree(audited, place / "audit", dirs_exist_ok=True)
    path = data.draw(st.sampled_from(sorted(path for path in audited.rglob("*.json"))))
    text = path.read_text()
    (folder / path.relative_to(audited)).write_bytes(data.draw(st.one_of(manifest(text), flipped(text.encode()))))
    with without_processes():
        holds(*AUDIT, "--data", tiny_pairs, "--out", folder, "--format", "json")


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> str:
    results = tmp_path_factory.mktemp("compared")
    write_comparison(results)
    return (results / "designs" / "demo.json").read_text()


@tries(100)
@given(data=st.data())
@pytest.mark.parametrize("command", [("designs",), ("designs", "smallnet")], ids=["all", "one"])
def test_comparisons_of_designs(place: Path, comparison: str, command: tuple[str, ...], data: st.DataObject) -> None:
    (place / "results" / "designs").mkdir(parents=True, exist_ok=True)
    mutated = data.draw(st.one_of(manifest(comparison), flipped(comparison.encode())))
    (place / "results" / "designs" / "demo.json").write_bytes(mutated)
    holds(*command)


# Beside a study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results") / "s"
    search(make_study(folder, sampler="random"), 3)
    return folder


@tries(60)
@given(data=st.data())
def test_databases(place: Path, study: Path, data: st.DataObject) -> None:
    """Made again of the records, or left as it is; a damaged one is kept under another name."""
    count()
    shutil.rmtree(place / "s", ignore_errors=True)
    folder = shutil.copytree(study, place / "s")
    whole = (study / studies.DATABASE_FILE).read_bytes()
    mutated = data.draw(flipped(whole))
    (folder / studies.DATABASE_FILE).write_bytes(mutated)
    said: list[str] = []
    DatabaseFile(studies.load(folder), said.append).write()
    if mutated == whole:
        return
    assert said
    assert mutated in {path.read_bytes() for path in folder.iterdir() if path.is_file()} or "rebuilt" in said[0]


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = tmp_path_factory.mktemp("reported") / "results"
    made_up_study(results / "s", 12)
    return results


@tries(25)
@given(data=st.data())
def test_cards_in_reports(place: Path, reported: Path, data: st.DataObject) -> None:
    best = studies.load(reported / "s").best().spec
    (place / "export").mkdir(exist_ok=True)
    text = json.dumps(card(spec=best.to_dict(), hash=best.hash).to_dict())
    (place / "export" / "card.json").write_bytes(data.draw(manifest(text)))
    (place / "page.html").unlink(missing_ok=True)
    command = ("report", "--results", reported, "--photos", 0, "--export", "export", "--out", "page.html")
    holds(*command, "--format", "json")


@tries(60)
@given(data=st.data())
def test_who_works_on_a_study(place: Path, reported: Path, data: st.DataObject) -> None:
    from nas.search import workers_file

    count()
    document = {"workers": [{"worker": 0, "host": "a", "backend": "cpu", "processor": "b", "trial": 3, "rung": 0,
                         "seed": None, "step": 2, "steps": 10, "steps_per_s": 1.5, "seconds": 2.5}],
            "refused": ["c"], "dashboard": None}  # fmt: skip
    (place / workers_file.FILE).write_bytes(data.draw(manifest(json.dumps(document))))
    workers_file.read(place, 0.0)


# What is taken up again


@tries(100)
@given(data=st.data())
def test_notes_of_rendering(place: Path, data: st.DataObject) -> None:
    count()
    (place / "a.png").write_bytes(b"a picture")
    made = RenderNotes.read(place, {"a": 1})
    (place / ".isp-nas-render.jsonl").unlink(missing_ok=True)
    made.note(place / "a.png", place / "a.png", b"another picture")
    notes = place / ".isp-nas-render.jsonl"
    notes.write_bytes(data.draw(lines(notes.read_bytes().strip() + b"\n")))
    assert not RenderNotes.read(place, {"a": 1}).has(place / "a.png", place / "a.png")


@tries(100)
@given(data=st.data())
def test_lists_of_moves(place: Path, data: st.DataObject) -> None:
    """Whatever a list says, what an export did not make stays."""
    count()
    out, work = place / "out", place / "out" / ".export-0"
    work.mkdir(parents=True, exist_ok=True)
    files = {"mine.tflite": b"mine", "model.tflite": b"mine, too"}
    for name, content in files.items():
        (out / name).write_bytes(content)
    document = {"model.tflite": sha256(b"theirs").hexdigest(), "card.md": sha256(b"card").hexdigest()}
    (work / export_folder.MOVES).write_bytes(data.draw(manifest(json.dumps(document))))
    export_folder.undo_broken_moves(out)
    assert {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()} == files


# Reports of other programs


LAYER = {"name": "conv", "type": "CONV_2D", "compute_unit": "NPU", "execution_time": 10}
SUMMARY = {"estimated_inference_time": 4170, "all_inference_times": [4400, 4300, 4170]}
PROFILE = {"smallnet": {"execution_summary": SUMMARY, "execution_detail": [LAYER]}}
OPS = "Operator-wise Profiling Info for Regular Benchmark Runs:\n" + "\n".join(
    "\t".join(("", *(cell.rjust(12) for cell in row)))
    for row in (
        ("=" * 30 + " Run Order " + "=" * 30,),
        ("[node type]", "[first]", "[avg ms]", "[%]", "[cdf%]", "[mem KB]", "[times called]", "[Name]"),
        ("CONV_2D", "0.011", "3.500", "50.000%", "50.000%", "0.000", "1", "[stem/conv, stem/relu]:0"),
        ("DEPTH_TO_SPACE", "0.011", "3.500", "50.000%", "100.000%", "0.000", "1", "[tail]:7"),
    )
)
LOGCAT = "".join(
    f"05-04 09:12:0{second}.123  1234  1234 I tflite  : {line}\n"
    for second, line in enumerate(
        (
            "STARTING!",
            "Graph: [/data/local/tmp/smallnet.tflite]",
            "Explicitly applied GPU delegate, and the model graph will be completely executed by the delegate.",
            "Inference timings in us: Init: 1500, First inference: 209, Warmup (avg): 201.5, Inference (avg): 198.3",
        )
    )
)
WIDE = "Network;CPU fp32 (ms);GPU fp16 (ms)\nsmallnet;12,5;3,25\ncsanet;20,5;7,5\n"
REPORTS: dict[str, tuple[str, Callable[[str], st.SearchStrategy[bytes]]]] = {
    "profile.json": (json.dumps(PROFILE), manifest),
    "ops.txt": (OPS, lambda text: flipped(text.encode())),
    "logcat.txt": (LOGCAT, lambda text: flipped(text.encode())),
    "wide.csv": (WIDE, lambda text: flipped(text.encode())),
}


@tries(100)
@given(data=st.data())
@pytest.mark.parametrize("name", REPORTS)
def test_reports_of_other_programs(place: Path, name: str, data: st.DataObject) -> None:
    text, mutate = REPORTS[name]
    (place / name).write_bytes(data.draw(mutate(text)))
    (place / "read.csv").unlink(missing_ok=True)
    holds("latency", "import", name, "--out", "read.csv")


@tries(40)
@given(data=st.data())
def test_calibrations(place: Path, data: st.DataObject) -> None:
    rows = "".join(f"{name},{20 + 5 * at},fp16\n" for at, name in enumerate(("smallnet", "csanet", "acvlab", "cvml")))
    shutil.rmtree(place / "devices", ignore_errors=True)
    (place / "given.csv").write_bytes(data.draw(flipped(f"network,runtime_ms,precision\n{rows}".encode())))
    holds("latency", "calibrate", "given.csv", "--name", "mine")
