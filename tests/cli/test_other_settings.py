"""A study continues only with the settings, files and data that it was started with."""

from collections.abc import Callable
from pathlib import Path

import pytest
from flow import in_process, refusal, snapshot, write_device, write_space

from nas.data.pairs import DataConfig
from nas.search.budget import Budget
from nas.search.open_study import SearchOptions, open_study
from search_spaces.system import folder_lock

RAW, RGB = "mediatek_raw", "fujifilm"
pytestmark = pytest.mark.usefixtures("own_folder")


@pytest.fixture
def started(pairs: Path, tmp_path: Path) -> tuple[object, ...]:
    """Start a study on the user's own device and space; return the options that continue it."""
    device, space = write_device(tmp_path / "phone.json"), write_space(tmp_path / "mine.toml")
    results = tmp_path / "results"
    open_study(
        SearchOptions(
            study="s", data=DataConfig(str(pairs)), device=str(device), space=str(space), seed=3, patch=16, batch=2
        ),
        results,
        Budget(candidates=1),
    )
    return ("--budget", 1, "--study", "s", "--results", results)


def edit_device(tmp_path: Path) -> None:
    write_device(tmp_path / "phone.json", title="another phone")


def edit_space(tmp_path: Path) -> None:
    write_space(tmp_path / "mine.toml", "[genes]\nwidth = [4, 8, 12]\n")


def edit_pairs(tmp_path: Path) -> None:
    a_missing_pair = tmp_path / "pairs" / "train"
    for kind in (RAW, RGB):
        (a_missing_pair / kind / "7.png").unlink()


@pytest.mark.parametrize(
    ("change", "wanted"), [(edit_device, "device "), (edit_space, "space "), (edit_pairs, "data ")]
)
def test_a_study_whose_files_were_edited_is_refused(
    started: tuple[object, ...], tmp_path: Path, change: Callable[[Path], None], wanted: str
) -> None:
    change(tmp_path)
    before = snapshot(tmp_path / "results")
    sentence = refusal(in_process("search", *started))
    assert f"was started with other settings: {wanted}" in sentence
    assert snapshot(tmp_path / "results") == before


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (("--data", "demo"), "data demo"),
        (("--device", "dimensity-1000-plus"), "device dimensity-1000-plus"),
        (("--space", "mai21"), "space mai21"),
        (("--seed", "4"), "--seed 4, the study has 3"),
        (("--objective", "pareto"), "--objective pareto, the study has score"),
        (("--sampler", "random"), "--sampler random, the study has model"),
        (("--rungs", "1,2"), "--rungs 1,2, the study has 300,900"),
        (("--patch", "32"), "--patch 32, the study has 16"),
        (("--loss", "ssim"), "--loss"),
        (("--max-runtime", "60"), "--max-runtime"),
        (("--max-memory", "60"), "--max-memory 60.0, the study has inf"),
        (("--bits", "12", "--data", "PAIRS"), "data "),
    ],
    ids=lambda value: " ".join(value) * isinstance(value, tuple),
)
def test_another_setting_of_a_study_is_refused_by_name(
    started: tuple[object, ...], tmp_path: Path, options: tuple[str, ...], wanted: str
) -> None:
    before = snapshot(tmp_path / "results")
    given = [tmp_path / "pairs" if option == "PAIRS" else option for option in options]
    sentence = refusal(in_process("search", *started, *given))
    assert wanted in sentence
    assert "Continue it as it was started" in sentence
    assert snapshot(tmp_path / "results") == before


def test_several_differences_are_all_said(started: tuple[object, ...]) -> None:
    sentence = refusal(in_process("search", *started, "--seed", 4, "--space", "mai21"))
    assert "--seed 4" in sentence
    assert "space mai21" in sentence


def test_a_second_search_on_a_study_is_refused_while_the_first_one_works(
    started: tuple[object, ...], tmp_path: Path
) -> None:
    folder = tmp_path / "results" / "s"
    with folder_lock.lock(folder):
        before = snapshot(folder)
        assert "Another search is working on" in refusal(in_process("search", *started))
        assert snapshot(folder) == before
