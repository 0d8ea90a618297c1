"""Spoilt pairs: one sentence that names the file, from a search, a training, and a check."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from flow import in_process, isp_nas, refusal, truncate
from PIL import Image
from refused import refused_search

RAW, RGB = "mediatek_raw", "fujifilm"
pytestmark = pytest.mark.usefixtures("own_folder")


def edit(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    with Image.open(path) as image:
        pixels = np.array(image)
    Image.fromarray(change(pixels)).save(path)


def no_folder(root: Path) -> str:
    shutil.rmtree(root)
    return "No folder of RAW→RGB pairs"


def empty_folder(root: Path) -> str:
    shutil.rmtree(root)
    root.mkdir()
    return "no sub-folder"


def no_images(root: Path) -> str:
    for path in (root / "train" / RAW).iterdir():
        path.unlink()
    return "which is empty; put the images"


def a_missing_target(root: Path) -> str:
    (root / "train" / RGB / "3.png").unlink()
    return f"1 in {RAW}/ without a partner (3)"


def another_number(root: Path) -> str:
    (root / "train" / RGB / "3.png").rename(root / "train" / RGB / "33.png")
    return f"1 in {RAW}/ without a partner (3) and 1 in {RGB}/ without a partner (33)"


def no_training_pairs(root: Path) -> str:
    shutil.rmtree(root / "train")
    return "No train/ folder"


def a_truncated_mosaic(root: Path) -> str:
    truncate(root / "train" / RAW / "5.png")
    return f"{RAW}/5.png"


def a_truncated_target(root: Path) -> str:
    truncate(root / "val" / RGB / "2.png")
    return f"{RGB}/2.png"


def an_empty_file(root: Path) -> str:
    (root / "train" / RAW / "0.png").write_bytes(b"")
    return f"{RAW}/0.png"


def a_colour_mosaic(root: Path) -> str:
    shutil.copy(root / "train" / RGB / "1.png", root / "train" / RAW / "1.png")
    return "is a colour image"


def as_float(path: Path, *, spoilt: float | None = None) -> None:
    """Replace an image by a float TIFF of the same stem, one value of it spoilt."""
    with Image.open(path) as image:
        pixels = np.array(image.convert("F") if image.mode == "RGB" else image, np.float32)
    if spoilt is not None:
        pixels[3, 5] = spoilt
    Image.fromarray(pixels).save(path.with_suffix(".tif"))
    path.unlink()


def a_mosaic_with_nan(root: Path) -> str:
    as_float(root / "train" / RAW / "1.png", spoilt=float("nan"))
    return f'{RAW}/1.tif" holds floating point, and 1 of its 4096 values are NaN or infinite'


def a_mosaic_with_infinity(root: Path) -> str:
    as_float(root / "val" / RAW / "1.png", spoilt=float("inf"))
    return f'{RAW}/1.tif" holds floating point, and 1 of its 4096 values are NaN or infinite'


def a_target_with_nan(root: Path) -> str:
    as_float(root / "train" / RGB / "1.png", spoilt=float("nan"))
    return f'{RGB}/1.tif" holds floating point, and 1 of its 4096 values are NaN or infinite'


def a_mosaic_of_floats(root: Path) -> str:
    as_float(root / "train" / RAW / "1.png")
    return f'{RAW}/1.tif" has mode F (32-bit)'


def a_grey_target(root: Path) -> str:
    edit(root / "train" / RGB / "1.png", lambda rgb: rgb[..., 0])
    return "has mode L"


def an_odd_mosaic(root: Path) -> str:
    for kind in (RAW, RGB):
        edit(root / "train" / kind / "2.png", lambda image: image[:-1])
    return "has 63×64"


def a_smaller_target(root: Path) -> str:
    edit(root / "train" / RGB / "2.png", lambda rgb: rgb[:32])
    return "32×64; cut both"


def a_smaller_pair(root: Path) -> str:
    for kind in (RAW, RGB):
        edit(root / "train" / kind / "2.png", lambda image: image[:32])
    return "64×64; cut all pairs to one size"


def values_of_twelve_bits(root: Path) -> str:
    edit(root / "train" / RAW / "4.png", lambda raw: raw * np.uint16(4) + np.uint16(3))
    return "--bits"


def a_copied_target(root: Path) -> str:
    shutil.copy(root / "train" / RGB / "1.png", root / "train" / RGB / "6.png")
    return "train/1 and train/6 have the same picture as target"


def sides_that_cannot_be_halved_often(root: Path) -> str:
    for path in root.rglob("*.png"):
        edit(path, lambda image: image[:62])
    return "Pairs of 62×64 do not fit space mai21, which needs sides that are multiples of 32"


SPOILS = (
    no_folder, empty_folder, no_images, a_missing_target, another_number, no_training_pairs, a_truncated_mosaic,
    a_truncated_target, an_empty_file, a_mosaic_with_nan, a_mosaic_with_infinity, a_target_with_nan, a_mosaic_of_floats,
    a_colour_mosaic, a_grey_target, an_odd_mosaic, a_smaller_target, a_smaller_pair,
    values_of_twelve_bits, a_copied_target, sides_that_cannot_be_halved_often,
)  # fmt: skip


@pytest.mark.parametrize("spoil", SPOILS, ids=lambda spoil: spoil.__name__)
def test_a_search_on_spoilt_pairs_is_refused(pairs: Path, spoil: Callable[[Path], str]) -> None:
    wanted = spoil(pairs)
    assert wanted in refused_search("--budget", 1, "--data", pairs)


def test_the_installed_search_refuses_spoilt_pairs(pairs: Path) -> None:
    wanted = a_truncated_mosaic(pairs)
    assert wanted in refused_search("--budget", 1, "--data", pairs, run=isp_nas)


def test_a_check_warns_of_sides_that_deep_networks_cannot_halve(pairs: Path) -> None:
    sides_that_cannot_be_halved_often(pairs)
    done = in_process("data", "check", pairs)
    assert done.returncode == 0
    assert "--crop 32" in " ".join(done.stdout.split())


def test_training_on_spoilt_pairs_is_refused(pairs: Path) -> None:
    wanted = a_truncated_mosaic(pairs)
    assert wanted in refusal(in_process("train", "smallnet", "--steps", 2, "--data", pairs))


@pytest.mark.parametrize("spoil", [a_mosaic_with_nan, a_target_with_nan], ids=lambda spoil: spoil.__name__)
def test_a_file_with_nan_is_named_in_one_sentence_by_a_training_too(pairs: Path, spoil: Callable[[Path], str]) -> None:
    wanted = spoil(pairs)
    assert wanted in refusal(in_process("train", "smallnet", "--steps", 2, "--data", pairs))


@pytest.mark.parametrize(
    "spoil", [a_mosaic_with_nan, a_mosaic_with_infinity, a_target_with_nan], ids=lambda spoil: spoil.__name__
)
def test_a_check_names_a_file_with_nan_and_ends_with_2(pairs: Path, spoil: Callable[[Path], str]) -> None:
    wanted = spoil(pairs)
    done = in_process("data", "check", pairs, "--format", "json")
    assert done.returncode == 2
    errors = [p for p in json.loads(done.stdout)["problems"] if p["severity"] == "error"]
    assert [wanted in p["what"] for p in errors] == [True]
    assert errors[0]["name"] in ("train/1", "val/1")


def test_a_check_of_spoilt_pairs_names_the_file_and_ends_with_2(pairs: Path) -> None:
    a_truncated_mosaic(pairs)
    done = in_process("data", "check", pairs)
    assert (done.returncode, done.stderr) == (2, "")
    assert "train/5" in done.stdout
    assert "Not fit for training." in done.stdout


def test_a_check_finds_a_target_that_is_a_copy_of_another(pairs: Path) -> None:
    shutil.copy(pairs / "train" / RGB / "1.png", pairs / "train" / RGB / "6.png")
    done = in_process("data", "check", pairs, "--format", "json")
    assert (done.returncode, done.stderr) == (2, "")
    report = json.loads(done.stdout)
    assert report["ok"] is False
    errors = " ".join(f"{p['name']} {p['what']}" for p in report["problems"] if p["severity"] == "error")
    assert "train/1" in errors
    assert "train/6" in errors


def test_a_check_of_a_missing_folder_is_refused(pairs: Path) -> None:
    assert no_folder(pairs) in refusal(in_process("data", "check", pairs))
