"""The Python interface: its examples run, its answers are the command line's, and asking for it loads nothing."""

import doctest
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from inspect import signature
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from flow import TINY_SPACE, InlineWorker, decisions, in_process, snapshot, write_space

import nas
from nas import api
from nas.defaults import DEFAULT_DEVICE
from nas.search import session
from search_spaces.errors import IspNasError, StudyError, UnknownNameError, UsageError
from search_spaces.system import named_files

FUNCTIONS = ("search", "load_study", "train", "export", "predict_latency", "render")


@pytest.fixture(scope="module")
def here(tiny_pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with pairs, in which every example was run in the order of a day's work."""
    folder = tmp_path_factory.mktemp("notebook")
    (folder / "pairs").symlink_to(tiny_pairs)
    return folder


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches train nothing: what a network is worth is made up of its genes."""
    monkeypatch.setattr(session, "Worker", InlineWorker)


@pytest.fixture(autouse=True)
def _own_folder(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)


def examples(of: str) -> list[doctest.DocTest]:
    tests = doctest.DocTestFinder(recurse=True).find(getattr(api, of), of, module=False, globs={"nas": nas})
    return [each for each in tests if each.examples]


def run(of: str) -> None:
    (first, *more) = examples(of)
    for example in (first, *more):
        report: list[str] = []
        result = doctest.DocTestRunner().run(example, out=report.append)
        assert result.failed == 0, "".join(report)


@pytest.fixture(scope="module")
def searched(here: Path) -> api.Study:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        patch.setattr(session, "Worker", InlineWorker)
        run("search")
        return api.load_study(here / "results/phone")


@pytest.mark.parametrize("name", ["load_study", "Study", "predict_latency"])
def test_examples_of_looking_run(searched: api.Study, name: str) -> None:
    run(name)


def test_examples_of_training_exporting_and_rendering_run_one_after_the_other(searched: api.Study) -> None:
    for name in ("train", "export", "render"):
        run(name)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_says_what_it_takes_gives_and_raises(name: str) -> None:
    function = getattr(api, name)
    sections = function.__doc__.splitlines()
    assert {"Args:", "Returns:", "Raises:", "Example:"} <= {line.strip() for line in sections}
    for parameter in signature(function).parameters.values():
        assert parameter.annotation is not parameter.empty, parameter
        assert f"{parameter.name}:" in function.__doc__


SCRIPT = """
import nas
study = nas.search(
    1, data="pairs", study="script", rungs=(2, 4), final_steps=0, batch=2, patch=32, sampler="random", workers=1
)
print(len(study.candidates()))
"""


def test_a_script_that_searches_is_not_run_again_by_the_processes_that_train(here: Path) -> None:
    (here / "script.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, "script.py"], cwd=here, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "1"), done.stderr


@pytest.mark.parametrize("workers", [0, -1, "auto", 1.5])
def test_a_number_of_workers_that_is_none_is_refused_before_there_is_a_study(here: Path, workers: object) -> None:
    with pytest.raises(UsageError, match=r"workers (is a whole one of 1 or more|must be a whole number or None)"):
        nas.search(1, data="pairs", study="none", workers=workers)  # type: ignore[arg-type]
    assert not (here / "results" / "none").exists()


LOADED = """
import sys
import nas
print(sorted({"jax", "tensorflow", "optuna", "numpy", "rich", "typer"} & sys.modules.keys()))
nas.predict_latency("smallnet")
nas.Study, nas.load_study, callable(nas.search), callable(nas.train)
print(sorted({"jax", "tensorflow", "optuna", "rich", "typer"} & sys.modules.keys()))
"""


def test_asking_for_the_interface_loads_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == ["[]", "[]"]


def test_the_package_hands_out_every_name_that_it_lists() -> None:
    assert {name for name in nas.__all__ if getattr(nas, name) is None} == set()
    assert set(FUNCTIONS) < set(nas.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        nas.nothing  # noqa: B018


@pytest.mark.parametrize("name", ["search", "train", "export", "render"])
def test_a_package_is_also_the_function_of_its_name(name: str) -> None:
    package = getattr(nas, name)
    assert isinstance(package, ModuleType)
    assert signature(package) == signature(getattr(api, name))


# The same answers as the command line's


def as_json(*words: object) -> Any:
    done = in_process(*words, "--format", "json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def plain(candidate: api.Candidate) -> dict[str, Any]:
    return {name: value for name, value in vars(candidate).items() if name != "study"}


def test_front_and_candidates_are_what_pareto_shows(searched: api.Study) -> None:
    assert [plain(each) for each in searched.candidates()] == as_json("pareto", "--all", "--study", "phone")
    front = [{**row, "on_front": True} for row in as_json("pareto", "--study", "phone")]
    assert [plain(each) for each in searched.front()] == front
    at_first = as_json("pareto", "--all", "--study", "phone", "--steps", 2)
    assert [plain(each) for each in searched.candidates(steps=2)] == at_first


def test_best_and_verdict_are_those_of_the_command(searched: api.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    from nas.cli import show

    monkeypatch.setattr(show, "_test_quality", lambda *_: {"test_psnr_db": None, "test_ssim": None})
    best = as_json("best", "--study", "phone")
    verdict = searched.verdict()
    assert (verdict.to_dict() if verdict else None) == best["verdict"]
    assert {name: value for name, value in plain(searched.best()).items() if name in best} == {
        name: best[name] for name in plain(searched.best()) if name in best
    }
    assert set(plain(searched.best())) - set(best) == {"on_front"}


def test_a_runtime_is_that_of_the_command(searched: api.Study) -> None:
    row = as_json("latency", "predict", "smallnet")
    prediction = api.predict_latency("smallnet", against="csanet")
    assert prediction.probability_faster is not None
    assert 0.5 < prediction.probability_faster < 1
    assert (prediction.runtime_ms, prediction.runtime_low_ms, prediction.runtime_high_ms, prediction.fixed_ms) == (
        row["runtime_ms"],
        row["runtime_low_ms"],
        row["runtime_high_ms"],
        row["fixed_ms"],
    )
    assert list(prediction.kernels_ms.values()) == [kernel["runtime_ms"] for kernel in row["kernels"]]
    candidate = searched.best()
    assert api.predict_latency(candidate).runtime_ms == candidate.runtime_ms
    assert api.predict_latency(nas.ArchSpec.from_dict(candidate.spec)).runtime_ms == candidate.runtime_ms


def test_the_command_makes_the_same_records(searched: api.Study, inline: None, tmp_path: Path) -> None:
    done = in_process(
        "search", "--budget", 4, "--data", "pairs", "--study", "phone", "--workers", 1, "--seed", 0, "--rungs", "2,4",
        "--final-steps", 6, "--sampler", "random", "--batch", 2, "--patch", 32, "--results", tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert decisions(tmp_path / "phone") == decisions(searched.folder)
    settings = api.load_study(tmp_path / "phone").settings
    assert settings == searched.settings


# What may be handed in


def small(name: str, text: str = TINY_SPACE) -> nas.SearchSpace:
    write_space(Path(f"{name}.toml"), text)
    return replace(nas.load_space(f"{name}.toml"), name=name)


SETTINGS: dict[str, Any] = {
    "data": "pairs",
    "workers": 1,
    "rungs": (2, 4),
    "batch": 2,
    "patch": 32,
    "final_steps": 0,
    "sampler": "random",
}


def test_a_space_that_no_file_holds_is_found_again_by_a_later_session(inline: None) -> None:
    space = replace(small("mine"), choices=small("mine").choices | {"width": (4, 8, 16)})
    study = api.search(2, space=space, study="own-space", **SETTINGS)
    name = study.settings["space"]
    assert name.startswith("mine-")
    assert nas.load_space(name).choices == space.choices
    api.search(3, space=space, study="own-space", **SETTINGS)
    assert len(list(named_files.user_folder("spaces").glob("mine-*"))) == 1
    assert api.search(3, study="own-space", **SETTINGS).settings["space"] == name


def test_a_device_by_name_and_an_equal_object_make_the_same_study(inline: None) -> None:
    device = nas.load_device(DEFAULT_DEVICE)
    space = small("devices")
    assert api.search(2, space=space, device=device, study="as-object", **SETTINGS).settings["device"] == DEFAULT_DEVICE


def test_a_changed_device_gets_a_name_of_its_own(inline: None) -> None:
    device = replace(nas.load_device(DEFAULT_DEVICE), title="another", limits=("None.",))
    study = api.search(2, space=small("devices"), device=device, study="other-device", **SETTINGS)
    again = nas.load_device(study.settings["device"])
    assert (again.title, again.limits) == ("another", ("None.",))
    assert study.settings["device"] != DEFAULT_DEVICE


def test_a_delegate_without_a_file_is_refused() -> None:
    device = nas.load_device(DEFAULT_DEVICE)
    before = snapshot(named_files.user_folder("devices"))
    with pytest.raises(UsageError, match="delegates"):
        api.search(2, device=replace(device, delegate=replace(device.delegate, source="made up")), **SETTINGS)
    with pytest.raises(UsageError, match="cannot be written to a file of its own: limits must be a list"):
        api.search(2, device=replace(device, limits=()), **SETTINGS)
    assert snapshot(named_files.user_folder("devices")) == before


def test_messages_and_progress_come_as_values(inline: None, capsys: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []
    seen: list[api.SearchProgress] = []
    study = api.search(
        3, space=small("told"), study="told", on_message=said.append, on_progress=seen.append, **SETTINGS
    )
    assert sum(line.startswith("Trial ") and " at 2 steps" in line for line in said) == 3
    assert seen[-1].share == 1
    assert [each.trained for each in seen] == sorted(each.trained for each in seen)
    assert seen[-1].best_score is not None
    assert study.best().score >= seen[-1].best_score
    assert seen[-1].training == ()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: api.search(1, data="pairs", rungs=(20, 40), final_steps=40), "`final_steps` must exceed the longest"),
        (lambda: api.search(1, data="pairs", stall_s=-1.0), "`stall_s` takes seconds above zero"),
        (lambda: api.search(1, data="pairs", tls="keys"), r"Certificates \(`tls`\) .* give `cluster`, too"),
        (lambda: api.predict_latency("eds"), "give `allow_fallback` to price them"),
        (lambda: api.predict_latency("smallnet", size=(1088, 1920), input_shape=(1, 8, 8, 4)), "Give `size`"),
    ],
)
def test_errors_name_the_arguments_and_not_the_options_of_a_command(
    here: Path, call: Callable[[], object], sentence: str
) -> None:
    with pytest.raises(IspNasError, match=sentence) as raised:
        call()
    assert "--" not in str(raised.value)


def test_a_smaller_photograph_takes_less_time() -> None:
    full, small = (api.predict_latency("smallnet", size=size) for size in (None, (544, 960)))
    assert small.runtime_ms < full.runtime_ms
    assert api.predict_latency("smallnet", input_shape=(1, 272, 480, 4)).runtime_ms == small.runtime_ms


def test_some_of_the_candidates_are_candidates(searched: api.Study) -> None:
    some = searched.candidates()[:2]
    assert isinstance(some, api.Candidates)
    assert len(some) == 2


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: api.search(2, sede=1), UnknownNameError, 'Did you mean "seed"?'),  # type: ignore[call-arg]
        (lambda: api.train("smallnet", steps=2, precision="float32"), UnknownNameError, 'Unknown setting "precision"'),  # type: ignore[call-arg]
        (lambda: api.search("soon"), UsageError, "A budget is a time"),
        (lambda: api.search(2, loss="l1=much"), UsageError, "name=weight"),
        (lambda: api.search(2, data="nowhere"), Exception, "nowhere"),
        (lambda: api.search(2, cluster="here"), UsageError, "An address is HOST:PORT"),
        (lambda: api.search(2, cluster="0.0.0.0:8786"), UsageError, "isp-nas cluster keys"),
        (lambda: api.search(2, tls="keys"), UsageError, "protect a cluster"),
        (lambda: api.load_study("nowhere"), StudyError, "holds no study"),
        (lambda: api.predict_latency("smalnet"), UnknownNameError, 'Did you mean "smallnet"?'),
        (lambda: api.export("smallnet", "out", precisions=("int9",)), UnknownNameError, 'Did you mean "int8"?'),
    ],
)
def test_a_wrong_argument_is_one_sentence(call: Callable[[], object], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=r"\w") as raised:
        call()
    assert text in str(raised.value)
    assert "\n" not in str(raised.value)


# pandas


def test_candidates_become_a_frame_with_a_column_per_field(
    searched: api.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=lambda rows, columns: (rows, columns)))  # type: ignore[arg-type]
    rows, columns = searched.front().to_pandas()
    assert [row["trial"] for row in rows] == [each.trial for each in searched.front()]
    assert set(columns) == set(rows[0])


def test_without_pandas_the_error_says_what_to_do(searched: api.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="pip install pandas"):
        searched.candidates().to_pandas()


@pytest.mark.parametrize(
    ("function", "arguments", "named"),
    [
        ("search", {"budget": 2.5}, "budget"),
        ("search", {"budget": 2, "data": 5}, "data"),
        ("search", {"budget": 2, "reparameterise": "yes"}, "reparameterise"),
        ("search", {"budget": 2, "rungs": "10,20"}, "rungs"),
        ("search", {"budget": 2, "data": nas.DataConfig("demo", crop="32")}, "crop"),  # type: ignore[arg-type]
        ("train", {"network": "smallnet", "steps": "9"}, "steps"),
        ("export", {"network": "smallnet", "out": "e", "size": (64,)}, "size"),
        ("export", {"network": "smallnet", "out": "e", "max_drop_db": 0.1}, "max_drop_db"),
        ("predict_latency", {"network": "smallnet", "device": 3}, "device"),
        ("render", {"model": "m.tflite", "inputs": "a", "out": "b", "raw": {"bits": "10"}}, "bits"),
        ("load_study", {"path": None}, "path"),
        ("load_device", {"name": 3}, "name"),
        ("load_space", {"name": 3}, "name"),
    ],
)
def test_an_argument_of_a_wrong_type_is_refused_before_anything_is_written(
    function: str, arguments: dict[str, Any], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(nas.IspNasError, match=f"^{named} "):
        getattr(nas, function)(**arguments)
    assert not any(tmp_path.iterdir())


def test_one_precision_may_be_named_alone(tmp_path: Path) -> None:
    with pytest.raises(nas.IspNasError, match='Unknown precision "int9"'):
        nas.export("smallnet", tmp_path / "e", precisions="int9")


def test_spaces_and_devices_are_found_by_paths(tmp_path: Path) -> None:
    with pytest.raises(nas.IspNasError, match=r"No space file at .*none\.toml"):
        nas.load_space(tmp_path / "none.toml")
    with pytest.raises(nas.IspNasError, match=r"none\.json"):
        nas.load_device(tmp_path / "none.json")
