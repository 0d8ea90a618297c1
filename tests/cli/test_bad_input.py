"""What the installed command says to wrong input: one sentence, exit code 2, and nothing half-written.

One test of each kind starts the command itself; tables of many rows call what it calls.
"""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from flow import (
    TINY_TRAINING,
    in_process,
    isp_nas,
    made_up,
    make_study,
    refusal,
    snapshot,
    truncate,
    write_device,
    write_space,
)
from refused import refused_search

from nas.search import study as studies
from nas.search.study import StudyRecord
from nas.train.job import Job
from search_spaces.designs import DESIGNS

pytestmark = pytest.mark.usefixtures("own_folder")


def test_options_of_raw_without_a_folder_are_refused() -> None:
    assert "name it with --data" in refused_search("--budget", 1, "--bits", 12)


# Options


@pytest.mark.parametrize("budget", ["0", "-1", "abc", "0s", "5x", "1.5", "", "5m 3"])
def test_a_budget_that_is_none_is_refused(budget: str) -> None:
    assert "A budget is a time above zero" in refused_search(f"--budget={budget}")


def test_a_negative_budget_is_refused_as_a_word_of_its_own_too() -> None:
    assert "A budget is a time above zero" in refused_search("--budget", "-1", run=isp_nas)


# One wrong option of a search, and what the sentence must say about it.
WRONG = [
    (("--sampler", "tpee"), 'Did you mean "tpe"?'),
    (("--objective", "scores"), 'Did you mean "score"?'),
    (("--device", "dimensity-1000"), 'Did you mean "dimensity-1000-plus"?'),
    (("--device", "phone.json"), "phone.json"),
    (("--space", "mai2"), 'Did you mean "mai21"?'),
    (("--space", "space.toml"), "space.toml"),
    (("--pattern", "RGBG"), 'Did you mean "RGGB"?'),
    (("--packing", "chalenge"), 'Did you mean "challenge"?'),
    (("--bits", "8"), "got 8"),
    (("--black", "1023"), "black 1023"),
    (("--raw-dir", "raw"), "--raw-dir and --rgb-dir belong together"),
    (("--rungs", "abc"), '"abc"'),
    (("--rungs", "10,,30"), '"10,,30"'),
    (("--rungs", "30,10"), "30,10"),
    (("--rungs", "10,10"), "10,10"),
    (("--rungs", "0,10"), "0,10"),
    (("--loss", "l3"), 'Did you mean "l1"?'),
    (("--loss", "l1=much"), "l1=much"),
    (("--loss", "l1=-1"), "-1"),
    (("--loss", "l1=0"), "above zero"),
    (("--loss", "l1=nan"), "nan"),
    (("--patch", "33"), "got 33"),
    (("--patch", "0"), "got 0"),
    (("--patch", "128"), "choose --patch 64 or less"),
    (("--batch", "9", "--patch", "64"), "got 8"),
    (("--batch", "0"), "got 0"),
    (("--learning-rate", "0"), "got 0"),
    (("--learning-rate", "nan"), "got nan"),
    (("--max-runtime", "0"), "got 0"),
    (("--max-runtime", "nan"), "got nan"),
    (("--max-memory", "0"), "above zero megabytes, got 0"),
    (("--max-memory", "nan"), "above zero megabytes, got nan"),
    (("--max-memory", "60MB"), "--max-memory"),
    (("--seed", "-1"), "got -1"),
    (("--workers", "0"), "got 0"),
    (("--workers", "two"), "--workers"),
    (("--study", "../elsewhere"), "../elsewhere"),
    (("--study", "a/b"), "a/b"),
    (("--bugdet", "5m"), "--budget"),
]


@pytest.mark.parametrize(("options", "wanted"), WRONG, ids=lambda value: " ".join(value) * isinstance(value, tuple))
def test_a_wrong_option_is_refused_and_named(tiny_pairs: Path, options: tuple[str, ...], wanted: str) -> None:
    assert wanted in refused_search("--budget", 1, "--data", tiny_pairs, *options)


@pytest.mark.parametrize("option", ["--rungs", "--loss"])
def test_an_empty_option_is_refused(tiny_pairs: Path, option: str) -> None:
    assert "--patch" not in refused_search("--budget", 1, "--data", tiny_pairs, f"{option}=", "--patch", 128)


@pytest.mark.parametrize("arguments", [("serch",), ("search",), ("show",), ("data", "chek"), ("train", "smallnet")])
def test_a_command_that_does_not_exist_or_lacks_an_argument_is_refused(arguments: tuple[str, ...]) -> None:
    refusal(isp_nas(*arguments))


# Formats and pictures


FORMATTED = [
    ("space",),
    ("pareto",),
    ("show", "smallnet"),
    ("best",),
    ("train", "smallnet", "--steps", "2"),
    ("export", "smallnet", "--out", "out"),
]


@pytest.mark.parametrize("arguments", FORMATTED, ids=lambda arguments: arguments[0])
def test_an_unknown_format_is_refused_before_anything_is_done(arguments: tuple[str, ...]) -> None:
    assert 'Unknown format "xml"; known: ' in refusal(in_process(*arguments, "--format", "xml"))
    assert list(Path.cwd().iterdir()) == []


def test_an_unknown_format_of_a_check_is_refused(tiny_pairs: Path) -> None:
    assert 'Unknown format "xml"' in refusal(in_process("data", "check", tiny_pairs, "--format", "xml"))


@pytest.mark.parametrize(("plot", "wanted"), [("front.bmp", "front.bmp"), ("front", "front"), ("no/front.png", "no")])
def test_a_picture_that_cannot_be_drawn_is_refused(searched: StudyRecord, plot: str, wanted: str) -> None:
    assert wanted in refusal(in_process("pareto", "--results", searched.folder.parent, "--plot", plot))
    assert list(Path.cwd().iterdir()) == []


# Names of things that are not there


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> StudyRecord:
    """A study with one trained candidate, trial 1, as its records tell; no checkpoint lies beside them."""
    study = make_study(tmp_path_factory.mktemp("results") / "tiny")
    design = DESIGNS["smallnet"].spec
    runtimes = {"runtime_ms": 61.0, "runtime_low_ms": 50.0, "runtime_high_ms": 70.0}
    for trial, verdict in enumerate(("infeasible", "train")):
        study.append("asked", trial=trial, genes=design.to_dict(), verdict=verdict, **runtimes)
    outcome = made_up(Job(design, 10, Path("none"), Path("none"), study.config.recipe, 0))
    study.append("rung", trial=1, rung=0, **vars(outcome))
    study.close()
    return study


def test_an_unknown_study_is_refused_with_the_nearest(searched: StudyRecord) -> None:
    for command in (("pareto",), ("best",), ("show", "best"), ("export", "best", "--out", "out")):
        done = in_process(*command, "--study", "tinny", "--results", searched.folder.parent)
        assert 'Did you mean "tiny"?' in refusal(done)


def test_an_unknown_trial_is_refused_with_the_nearest(searched: StudyRecord) -> None:
    for command in (("show", "12"), ("export", "12", "--out", "out")):
        assert 'Did you mean "1"?' in refusal(in_process(*command, "--results", searched.folder.parent))


def test_an_unknown_target_is_refused_with_the_nearest() -> None:
    for command in (("show", "smalnet"), ("export", "smalnet", "--out", "out"), ("train", "smalnet", "--steps", 2)):
        assert 'Did you mean "smallnet"?' in refusal(in_process(*command))
    assert list(Path.cwd().iterdir()) == []


def test_a_target_of_strange_digits_is_refused(searched: StudyRecord) -> None:
    refusal(in_process("show", "²", "--results", searched.folder.parent))


def test_an_unknown_precision_is_refused_with_the_nearest() -> None:
    assert 'Did you mean "fp32"?' in refusal(in_process("export", "smallnet", "--out", "out", "--precision", "fp23"))
    assert list(Path.cwd().iterdir()) == []


def test_a_rung_that_nobody_reached_is_refused_with_the_known_ones(searched: StudyRecord) -> None:
    assert "known: 10." in refusal(in_process("pareto", "--steps", 11, "--results", searched.folder.parent))


# A spec file and what the sentence must say about it.
WRONG_SPECS = [
    ('{"widht": 8}', 'Did you mean "width"?'),
    ('{"spec": {"widht": 8}}', 'Did you mean "width"?'),
    ('{"activation": "rellu"}', 'Did you mean "relu"?'),
    ('{"width": 9}', "width"),
    ('{"width": "16"}', "width"),
    ('{"width": null}', "width"),
    ('{"width": 8', "not valid JSON"),
    ("[8]", "holds no genes"),
    ("", "not valid JSON"),
    ("\x00", "not valid JSON"),
]


@pytest.mark.parametrize(("text", "wanted"), WRONG_SPECS)
def test_a_wrong_spec_file_is_refused(tmp_path: Path, text: str, wanted: str) -> None:
    file = tmp_path / "x.json"
    file.write_text(text)
    assert wanted in refusal(in_process("show", file))


@pytest.mark.parametrize("name", ["x.json", "x.toml"])
def test_a_missing_spec_file_is_refused(name: str) -> None:
    assert name in refusal(in_process("show", name))


def test_a_damaged_device_is_refused_with_file_and_key(tmp_path: Path) -> None:
    device = write_device(tmp_path / "phone.json", fallback={"ms_per_mb": {"value": 1, "note": ""}})
    sentence = refusal(in_process("show", "smallnet", "--device", device))
    assert "phone.json" in sentence
    assert "fallback.ms_per_gmac is missing" in sentence


def test_a_space_with_an_unknown_gene_is_refused_with_the_nearest(tmp_path: Path) -> None:
    space = write_space(tmp_path / "mine.toml", "[genes]\nwidht = [4, 8]\n")
    assert 'Did you mean "width"?' in refusal(in_process("space", space))


def test_numbers_that_cannot_be_are_refused() -> None:
    for command in (("space", "--sample", -1), ("train", "smallnet", "--steps", 0)):
        refusal(in_process(*command))
    assert list(Path.cwd().iterdir()) == []


def test_a_negative_seed_of_a_training_is_refused_and_leaves_nothing(tiny_pairs: Path) -> None:
    refusal(in_process("train", "smallnet", "--steps", 2, "--seed", -1, "--data", tiny_pairs, *TINY_TRAINING[2:]))
    assert list(Path.cwd().iterdir()) == []


# Folders


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (("--patch", "33"), "The patch must be a multiple of 4 of at least 16 pixels, got 33"),
        (("--patch", "34"), "The patch must be a multiple of 4 of at least 16 pixels, got 34"),
        (("--patch", "128"), "A patch of 128 does not fit into pairs of 64×64; choose --patch 64 or less"),
        (("--batch", "9"), "A batch of 9 needs as many training pairs, got 8; choose a smaller --batch"),
        (("--batch", "0"), "The batch needs at least one pair, got 0"),
    ],
    ids=lambda value: " ".join(value) * isinstance(value, tuple),
)
def test_a_batch_or_patch_that_the_pairs_cannot_fill_is_refused_before_training(
    tiny_pairs: Path, tmp_path: Path, options: tuple[str, ...], wanted: str
) -> None:
    where = ("--data", tiny_pairs, "--out", tmp_path / "run", "--results", tmp_path / "results")
    assert wanted in refusal(in_process("train", "smallnet", "--steps", 2, *where, *options))
    assert not {"run", "results"} & {path.name for path in tmp_path.iterdir()}


def test_a_batch_of_a_recipe_that_the_pairs_cannot_fill_is_refused(tiny_pairs: Path) -> None:
    given = ("--recipe", "cvml", "--steps", 2, "--patch", 64, "--data", tiny_pairs)
    assert "A batch of 16 needs as many training pairs, got 8" in refusal(in_process("train", "smallnet", *given))


def test_a_results_folder_below_a_file_is_refused(tiny_pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    space = write_space(tmp_path / "tiny.toml")
    done = in_process(
        "search", "--budget", 1, "--space", space, "--data", tiny_pairs, "--results", tmp_path / "file" / "in",
        *TINY_TRAINING,
    )  # fmt: skip
    assert "--results" in refusal(done)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.fixture
def sealed(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "sealed"
    folder.mkdir()
    folder.chmod(0o555)
    yield folder
    folder.chmod(0o755)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="permission bits do not bind root")
def test_a_results_folder_without_permission_is_refused(tiny_pairs: Path, sealed: Path) -> None:
    done = in_process("search", "--budget", 1, "--data", tiny_pairs, "--results", sealed, *TINY_TRAINING)
    assert "--results" in refusal(done)
    assert list(sealed.iterdir()) == []


def test_training_into_a_folder_below_a_file_is_refused(tiny_pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    done = in_process("train", "smallnet", "--steps", 2, "--data", tiny_pairs, "--out", tmp_path / "file" / "in")
    assert "--out" in refusal(done)


LOOKS = [
    ("best",),
    ("pareto",),
    ("show", "best"),
    ("show", "0"),
    ("export", "best", "--out", "out"),
    ("export", "0", "--out", "out"),
    ("train", "best", "--steps", "2"),
]


@pytest.mark.parametrize("command", LOOKS, ids=" ".join)
def test_without_a_study_there_is_nothing_to_look_at(command: tuple[str, ...]) -> None:
    Path("results").mkdir()
    assert "There is no study in results" in refusal(in_process(*command))
    assert list(Path.cwd().rglob("*")) == [Path.cwd() / "results"]


@pytest.mark.parametrize("command", LOOKS, ids=" ".join)
def test_a_study_with_nothing_trained_has_no_best(tmp_path: Path, command: tuple[str, ...]) -> None:
    make_study(tmp_path / "results" / "fresh")
    before = snapshot(tmp_path / "results")
    sentence = refusal(in_process(*command, "--results", tmp_path / "results"))
    assert "fresh" in sentence
    assert snapshot(tmp_path / "results") == before
    assert list(Path.cwd().iterdir()) == []


def test_a_network_without_weights_is_not_exported() -> None:
    assert "no trained weights yet" in refusal(in_process("export", "smallnet", "--out", "out"))
    assert list(Path.cwd().iterdir()) == []


def test_a_candidate_whose_checkpoint_is_gone_is_not_exported(searched: StudyRecord) -> None:
    before = snapshot(searched.folder)
    command = ("export", "best", "--results", searched.folder.parent, "--out", "out")
    sentence = refusal(in_process(*command))
    assert f"{searched.checkpoint(searched.best())} of best is missing; put a copy back, or train" in sentence
    assert (snapshot(searched.folder), list(Path.cwd().iterdir())) == (before, [])


@pytest.mark.parametrize("content", [b"", b"torn", b"\x10" + 40 * b"\0"])
def test_a_candidate_whose_checkpoint_is_damaged_is_not_exported(
    searched: StudyRecord, tmp_path: Path, content: bytes
) -> None:
    copied = studies.load(shutil.copytree(searched.folder, tmp_path / "results" / "tiny"))
    path = copied.checkpoint(copied.best())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    command = ("export", "best", "--results", tmp_path / "results", "--out", "out")
    assert f"The checkpoint {path} cannot be read" in refusal(in_process(*command))
    assert list(Path.cwd().iterdir()) == []


# One wrong option of an export, and what the sentence must say about it.
WRONG_EXPORTS = [
    (("--precision", "fp16,int9"), 'Did you mean "int8"?'),
    (("--precision", "fp16", "int61"), 'Did you mean "int16"?'),
    (("--size", "1088"), "such as 1088x1920"),
    (("--size", "1087x1920"), "even height and width, got 1087×1920"),
    (("--input", "raw11"), 'Did you mean "raw1'),
    (("--precision", "int8", "--input", "raw12"), "12 bits do not fit into the 8-bit input of int8"),
    (("--io", "uint8"), "can be float32, not"),
    (("--calibration", "0"), "at least one pair, got 0"),
    (("--max-drop", "int8=lots"), "int8=lots"),
    (("--max-drop", "int9=1"), 'Did you mean "int8"?'),
]


@pytest.mark.parametrize(("options", "sentence"), WRONG_EXPORTS, ids=lambda value: " ".join(value)[:40])
def test_a_wrong_option_of_an_export_is_refused(options: tuple[str, ...], sentence: str) -> None:
    assert sentence in refusal(in_process("export", "smallnet", *options, "--out", "out"))
    assert list(Path.cwd().iterdir()) == []


def test_a_folder_that_holds_an_export_is_not_written_to() -> None:
    for name in ("model.tflite", "model_int8.tflite", "model_none.tflite", "card.json", "card.md", "patches.png"):
        shutil.rmtree("out", ignore_errors=True)
        Path("out").mkdir()
        (Path("out") / name).write_text("mine")
        assert name in refusal(in_process("export", "smallnet", "--out", "out"))
        assert snapshot(Path("out")) == {name: b"mine"}


def test_a_damaged_run_file_is_refused(tmp_path: Path) -> None:
    make_study(tmp_path / "results" / "torn")
    truncate(tmp_path / "results" / "torn" / studies.RUN_FILE)
    assert "run.toml is damaged" in refusal(in_process("pareto", "--results", tmp_path / "results"))


def test_an_empty_training_run_of_another_time_does_not_stand_in_the_way() -> None:
    run = Path("results/trained/mine")
    run.mkdir(parents=True)
    (run / "training.toml").touch()
    assert in_process("show", "smallnet").returncode == 0


# The debug option


@pytest.mark.skipif(sys.platform == "win32", reason="the text of a traceback is the same everywhere")
def test_debug_shows_the_traceback() -> None:
    done = isp_nas("--debug", "search", "--budget", "abc")
    assert done.returncode != 0
    assert "Traceback" in done.stderr
    assert "A budget is a time above zero" in done.stderr
