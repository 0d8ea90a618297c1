"""`--config`: options from a file, and a study's own run.toml as the options of an equal search."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from flow import InlineWorker, decisions, in_process, refusal, snapshot, write_device, write_space

from nas.search import session
from nas.search import study as studies
from nas.search.open_study import SearchOptions
from nas.search.study_table import of_table

SETTINGS = (
    "--space", "tiny.toml", "--sampler", "random", "--seed", 3, "--rungs", "2,4", "--batch", 2, "--patch", 32,
    "--workers", 1,
)  # fmt: skip


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, tiny_pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run beside pairs and a small space, and train nothing."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pairs").symlink_to(tiny_pairs)
    write_space(tmp_path / "tiny.toml")
    monkeypatch.setattr(session, "Worker", InlineWorker)


def searched(*options: object) -> None:
    done = in_process("search", *options)
    assert done.returncode == 0, done.stderr


def settings(folder: Path) -> dict[str, Any]:
    study: dict[str, Any] = tomllib.loads((folder / studies.RUN_FILE).read_text())["study"]
    return study


WAYS_TO_START: list[tuple[object, ...]] = [
    ("--final-steps", 0),
    ("--final-steps", 6, "--final-share", 0.5, "--objective", "pareto"),
    ("--loss", "l1=1,ssim=0.25", "--learning-rate", 0.01, "--reparameterise", "--max-runtime", 80, "--max-memory", 900),
    ("--sampler", "model", "--packing", "rggb", "--black", 16, "--dtype", "bfloat16"),
]


@pytest.mark.parametrize("options", WAYS_TO_START)
def test_a_studys_own_file_starts_an_equal_search(options: tuple[object, ...]) -> None:
    searched("--budget", 2, "--data", "pairs", "--study", "first", *SETTINGS, *options)
    run = Path("results/first/run.toml")
    searched("--budget", 2, "--config", run, "--results", "again", "--workers", 1)
    assert settings(Path("again/first")) == settings(run.parent)
    assert decisions(Path("again/first")) == decisions(run.parent)
    before = decisions(run.parent)
    searched("--budget", 2, "--config", run, "--workers", 1)  # continues the study itself
    assert decisions(run.parent) == before


def test_options_in_a_file_are_those_of_the_command_line() -> None:
    Path("mine.toml").write_text(
        'budget = 3\ndata = "pairs"\nspace = "tiny.toml"\nsampler = "random"\nseed = 3\nrungs = [2, 4]\n'
        'batch = 2\npatch = 32\nworkers = 1\nstudy = "by-file"\nfinal-steps = 6\nmax_runtime = 80\n'
        "[loss]\nl1 = 1\nssim = 0.25\n"
    )
    searched("--config", "mine.toml")
    options = ("--final-steps", 6, "--max-runtime", 80, "--loss", "l1=1,ssim=0.25")
    searched("--budget", 3, "--data", "pairs", *SETTINGS, *options, "--study", "by-hand")
    assert settings(Path("results/by-file")) | {"name": "by-hand"} == settings(Path("results/by-hand"))
    assert decisions(Path("results/by-file")) == decisions(Path("results/by-hand"))


def test_what_the_command_line_gives_wins(tiny_pairs: Path) -> None:
    searched("--budget", 2, "--data", "pairs", "--study", "first", *SETTINGS, "--final-steps", 0, "--max-runtime", 70)
    run = Path("results/first/run.toml")
    given = ("--study", "second", "--seed", 8, "--batch", 4, "--max-runtime", 90, "--bits", 10)
    searched("--budget", 2, "--config", run, *given, "--workers", 1)
    first, second = settings(run.parent), settings(Path("results/second"))
    assert (second["seed"], second["recipe"]["batch"], second["max_runtime_ms"]) == (8, 4, 90)
    assert second["recipe"] == first["recipe"] | {"batch": 4}
    assert {name for name in first if first[name] != second[name]} <= {
        "name",
        "seed",
        "recipe",
        "max_runtime_ms",
        "data",
    }


def test_limits_and_permissions_of_a_file_can_be_taken_back() -> None:
    text = "budget = 2\nworkers = 1\nmax-runtime = 70\nmax-memory = 900\nallow-fallback = true\n"
    Path("mine.toml").write_text(text)
    given = ("--max-runtime", "inf", "--max-memory", "inf", "--no-allow-fallback")
    searched("--data", "pairs", "--config", "mine.toml", "--study", "free", *given, *SETTINGS, "--final-steps", 0)
    free = settings(Path("results/free"))
    assert "max_runtime_ms" not in free
    assert "max_memory_mb" not in free
    assert free["allow_fallback"] is False
    searched("--budget", 2, "--study", "free", "--max-runtime", "inf")  # as it was started
    refused = in_process("search", "--budget", 2, "--study", "free", "--max-runtime", 60)
    assert "--max-runtime 60.0, the study has inf" in refusal(refused)


def test_a_file_may_hold_a_study_and_options_beside_it() -> None:
    searched("--budget", 2, "--data", "pairs", "--study", "first", *SETTINGS, "--final-steps", 0)
    text = Path("results/first/run.toml").read_text()
    Path("mine.toml").write_text('budget = "3"\nworkers = 1\nsampler = "tpe"\n' + text)
    searched("--config", "mine.toml", "--results", "again")
    assert settings(Path("again/first"))["sampler"] == "tpe"


# A file, and what the sentence says.
WRONG: list[tuple[str, str]] = [
    ('devise = "x"', 'Unknown option in mine.toml: "devise"'),
    ('devise = "x"', 'Did you mean "device"?'),
    ("max-runtme = 60", 'Did you mean "max-runtime"?'),
    ('batch = "many"', 'batch in mine.toml must be a whole number, got "many".'),
    ("batch = 2.5", "batch in mine.toml must be a whole number, got 2.5."),
    ("batch = true", "batch in mine.toml must be a whole number, got true."),
    ('learning-rate = "fast"', 'learning-rate in mine.toml must be a number, got "fast".'),
    ("device = 5", "device in mine.toml must be text, got 5."),
    ("allow-fallback = 1", "allow-fallback in mine.toml must be true or false, got 1."),
    ('rungs = ["a", 2]', "Rungs are numbers of steps"),
    ('[recipe]\nloss = "l1"', 'Unknown option in mine.toml: "recipe"'),
    ("[study]\nsampeler = 1", 'did you mean "sampler"?'),
    ("[study]\nseed = 1.5", "mine.toml: In [study], seed should be a valid integer, got 1.5."),
    ('[study]\nrungs = "2,4"', 'rungs should be a valid array, got "2,4".'),
    ("[study.recipe]\nbach = 2", 'the key "bach" is unknown; did you mean "batch"?'),
    ("[study.recipe]\nbatch = 0", "mine.toml: The batch needs at least one pair, got 0."),
    ('[study.recipe.loss]\nl1 = "much"', "recipe.loss.l1 should be a valid number"),
    ('[study.data]\nraw_dir = "x"', 'In [study], the key "source" is missing.'),
    ('[study.data]\nsource = "pairs"\n[study.data.raw]\nbits = "ten"', "data.raw.bits should be a valid integer"),
    ('[study]\nprior = ["nobody"]', 'Unknown table of a prior: "nobody"'),
    ('[study]\nsampler = "optuna"', 'Unknown sampler "optuna"'),
    ("budget = ", "mine.toml is not valid TOML"),
    ("\x00", "mine.toml is not valid TOML"),
]


@pytest.mark.parametrize(("text", "sentence"), WRONG)
def test_a_wrong_file_is_one_clear_sentence(text: str, sentence: str) -> None:
    Path("mine.toml").write_text(text)
    before = snapshot(Path.cwd())
    options = ("--data", "pairs", *SETTINGS[:2]) if "study.data" not in text else ()
    assert sentence in refusal(in_process("search", "--budget", 1, *options, "--config", "mine.toml"))
    assert snapshot(Path.cwd()) == before


@pytest.mark.parametrize("name", ["nowhere.toml", "pairs"])
def test_a_file_that_cannot_be_read_is_refused(name: str) -> None:
    assert f"--config, {name}, cannot be read" in refusal(in_process("search", "--budget", 1, "--config", name))


def test_a_file_without_a_budget_asks_for_one() -> None:
    Path("mine.toml").write_text("seed = 1")
    assert "--budget" in refusal(in_process("search", "--config", "mine.toml"))


def test_what_has_changed_since_makes_no_equal_search() -> None:
    write_device(Path("phone.json"))
    options = ("--data", "pairs", "--device", "phone.json", "--study", "first", *SETTINGS, "--final-steps", 0)
    searched("--budget", 1, *options)
    device = json.loads(Path("phone.json").read_text())
    write_device(Path("phone.json"), title=f"{device['title']} again")
    again = ("--budget", 1, "--config", "results/first/run.toml", "--results", "again")
    sentence = refusal(in_process("search", *again))
    assert "would not equal the first: device phone.json has content" in sentence
    assert not Path("again").exists()
    searched(*again, "--device", "phone.json", "--workers", 1)  # which device is said anew


def test_every_setting_of_a_study_is_an_option_or_what_it_was_started_on() -> None:
    searched("--budget", 1, "--data", "pairs", "--study", "first", *SETTINGS, "--final-steps", 6)
    values = of_table(settings(Path("results/first")))
    known = set(SearchOptions.__dataclass_fields__)
    assert set(values) - {"name"} <= known
    assert set(values["recorded"]) == {"data", "device", "space"}
