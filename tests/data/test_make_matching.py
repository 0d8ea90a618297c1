"""Which photographs belong together, and which of them show one scene."""

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from unicodedata import normalize

import cv2
import numpy as np
import pytest
from photographed import photograph
from PIL import Image

from nas.data.check.near_duplicates import thumbnail
from nas.data.make.capture_time import clock_offset, taken_at
from nas.data.make.scenes import Patch, Seen, assign, group, leaks, sight
from nas.data.make.sources import Photograph, Refused, find_photographs, left_over
from search_spaces.errors import DataError

pytestmark = pytest.mark.usefixtures("one_core_of_opencv")


# Matching


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


def targets_of(photographs: list[Photograph]) -> dict[str, str | None]:
    return {each.name: None if each.target is None else each.target.name for each in photographs}


def test_names_match_whatever_their_case_folder_and_ending(tmp_path: Path) -> None:
    for name in ("x/A.dng", "y/a.DNG", "b.dng", "c.dng"):
        touch(tmp_path / "raw" / name)
    for name in ("x/a.JPG", "y/A.jpg", "sub/B.tif", "c.jpg", "c.png"):
        touch(tmp_path / "rgb" / name)
    photographs, refused = find_photographs(tmp_path / "raw", str(tmp_path / "rgb"))
    assert targets_of(photographs) == {"x/A.dng": "a.JPG", "y/a.DNG": "A.jpg", "b.dng": "B.tif"}
    assert [each.name for each in refused] == ["c.dng"]
    assert "there are 2 (c.jpg, c.png)" in refused[0].why
    assert left_over(str(tmp_path / "rgb"), photographs) == (
        "2 of 5 targets belong to no RAW file (c.jpg, c.png) and are not used."
    )


def test_names_match_however_their_accents_are_stored(tmp_path: Path) -> None:
    touch(tmp_path / "raw" / normalize("NFD", "Café.dng"))
    touch(tmp_path / "raw" / "b.dng")
    touch(tmp_path / "rgb" / normalize("NFC", "café.jpg"))
    touch(tmp_path / "rgb" / "b.jpg")
    photographs, refused = find_photographs(tmp_path / "raw", str(tmp_path / "rgb"))
    assert (len(photographs), len(refused)) == (2, 0)


def test_every_target_that_is_used_is_no_left_over(tmp_path: Path) -> None:
    touch(tmp_path / "raw" / "a.bin")
    touch(tmp_path / "rgb" / "a.jpg")
    photographs, _ = find_photographs(tmp_path / "raw", str(tmp_path / "rgb"))
    assert targets_of(photographs) == {"a.bin": "a.jpg"}
    assert left_over(str(tmp_path / "rgb"), photographs) is None
    assert left_over("sidecar", []) is None


def test_targets_below_the_mosaics_folder_are_no_mosaics(tmp_path: Path) -> None:
    touch(tmp_path / "raw" / "a.png")
    touch(tmp_path / "raw" / "camera" / "a.png")
    photographs, refused = find_photographs(tmp_path / "raw", str(tmp_path / "raw" / "camera"))
    assert targets_of(photographs) == {"a.png": "a.png"}
    assert not refused


def test_a_sidecar_is_the_picture_of_the_same_name_beside_the_raw(tmp_path: Path) -> None:
    for name in ("a.dng", "a.JPG", "b.dng", "c.dng", "c.jpg", "c.jpeg", "d.dng", "d.png", "e.dng", "e.tif"):
        touch(tmp_path / name)
    photographs, refused = find_photographs(tmp_path, "sidecar")
    assert targets_of(photographs) == {"a.dng": "a.JPG", "d.dng": "d.png", "e.dng": "e.tif"}
    assert [each.name for each in refused] == ["b.dng", "c.dng"]


def test_a_csv_names_pairs_and_scenes(tmp_path: Path) -> None:
    for name in ("raw/a.dng", "raw/b.dng", "rgb/1.jpg", "rgb/2.jpg"):
        touch(tmp_path / name)
    table = tmp_path / "match.csv"
    table.write_text("raw,target,scene\na.dng,2.jpg,yard\nraw/b.dng,1.jpg,\nc.dng,1.jpg,\n")
    photographs, refused = find_photographs(tmp_path / "raw", str(tmp_path / "rgb"), match=str(table))
    assert targets_of(photographs) == {"a.dng": "2.jpg", "raw/b.dng": "1.jpg"}
    assert [each.scene for each in photographs] == ["yard", None]
    assert refused == [Refused("c.dng", f'Line 4 of "{table}" names "c.dng", which is not there.')]
    table.write_text("mosaic,rgb\n")
    with pytest.raises(DataError, match="raw and target are needed"):
        find_photographs(tmp_path / "raw", str(tmp_path / "rgb"), match=str(table))


def photo_taken(path: Path, at: datetime) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x8769] = {0x9003: at.strftime("%Y:%m:%d %H:%M:%S")}
    Image.new("RGB" if path.suffix == ".jpg" else "I;16", (8, 8)).save(path, exif=exif)


def test_times_match_once_clocks_are_made_to_agree(tmp_path: Path) -> None:
    begun = datetime(2026, 5, 1, 12)
    for number, seconds in enumerate((0, 40, 95, 300)):
        photo_taken(tmp_path / "raw" / f"p{number}.png", begun + timedelta(seconds=seconds))
        photo_taken(tmp_path / "rgb" / f"c{number}.jpg", begun + timedelta(seconds=seconds + 3607 + number % 2))
    (tmp_path / "rgb" / "c2.jpg").unlink()
    photographs, refused = find_photographs(tmp_path / "raw", str(tmp_path / "rgb"), match="time")
    assert targets_of(photographs) == {"p0.png": "c0.jpg", "p1.png": "c1.jpg", "p3.png": "c3.jpg"}
    assert [each.name for each in refused] == ["p2.png"]
    assert taken_at(tmp_path / "rgb" / "c0.jpg") == (begun + timedelta(seconds=3607)).timestamp()


def test_clocks_that_agree_are_left_alone() -> None:
    assert clock_offset([0, 100, 250], [1, 101, 251], within_s=2) == pytest.approx(1)
    assert abs(clock_offset([0, 10, 20], [0, 10, 20], within_s=2)) < 1


@pytest.mark.parametrize("ahead_s", [0, 3607, -53])
@pytest.mark.parametrize("count", [3, 5, 8, 40])
def test_the_offset_of_irregular_series_in_whole_seconds_is_found(count: int, ahead_s: int) -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        mine = np.cumsum(rng.integers(4, 90, count)).astype(float)
        theirs = rng.permutation(mine) + ahead_s
        assert clock_offset(mine, theirs, within_s=2) == pytest.approx(ahead_s, abs=1)


# Scenes


def seen(name: str, seed: int, **details: object) -> Seen:
    return Seen(name, name, sight(cv2.cvtColor(photograph(240, 320, seed=seed).picture, cv2.COLOR_RGB2GRAY)), **details)


def test_one_scene_is_told_by_content_name_time_and_word() -> None:
    far = [seen(f"n{number:02}.dng", 40 + number) for number in range(3)]
    same = replace(
        seen("z.dng", 41),
        sight=sight(
            cv2.GaussianBlur(cv2.cvtColor(photograph(240, 320, seed=41).picture, cv2.COLOR_RGB2GRAY), (0, 0), 1)
        ),
    )
    assert group([*far, same], gap_s=10) == {
        "n00.dng": "n00.dng",
        "n01.dng": "n01.dng",
        "n02.dng": "n02.dng",
        "z.dng": "n01.dng",
    }
    burst = [replace(far[0], name="i_BURST1.dng"), replace(far[1], name="i_BURST2.dng"), far[2]]
    assert len(set(group(burst, gap_s=10).values())) == 2
    timed = [replace(each, taken=float(at)) for each, at in zip(far, (0, 8, 30), strict=True)]
    assert len(set(group(timed, gap_s=10).values())) == 2
    worded = [replace(each, scene="yard") for each in far]
    assert set(group(worded, gap_s=10).values()) == {"yard"}


def test_patches_alike_in_two_splits_are_found_whatever_their_place(tmp_path: Path) -> None:
    def patch(key: str, at: int, seed: int, brighter: float = 1.0) -> Patch:
        target = np.clip(photograph(128, 128, seed=seed).picture * brighter, 0, 255).astype(np.uint8)
        path = tmp_path / f"{key}-{at}.png"
        Image.fromarray(target).save(path)
        small = thumbnail(target)
        assert small is not None
        return Patch(key, (at, 0), small, path)

    patches = [patch("a", 0, 1), patch("a", 128, 2), patch("b", 0, 3), patch("b", 128, 2, 0.9)]
    [(first, second)] = leaks(patches, {"a": "train", "b": "val"})
    assert (first.key, first.at, second.key, second.at) == ("b", (128, 0), "a", (128, 0))
    assert list(leaks(patches, {"a": "train", "b": "train"})) == []


def test_scenes_are_shared_out_by_their_pairs_and_stay_where_they_are() -> None:
    sizes = {f"s{number}": 10 for number in range(40)}
    splits = assign(sizes, {}, seed=0, val=0.1, test=0.1)
    assert [list(splits.values()).count(split) for split in ("train", "val", "test")] == [32, 4, 4]
    more = assign({**sizes, **{f"t{number}": 10 for number in range(10)}}, splits, seed=0, val=0.1, test=0.1)
    assert {scene: more[scene] for scene in sizes} == splits
    assert list(more.values()).count("val") == 5
    assert set(assign({"a": 50, "b": 50, "c": 9}, {}, seed=1, val=0.1, test=0.1).values()) == {"train", "val", "test"}
    assert assign({"a": 50}, {}, seed=1, val=0.1, test=0.1) == {"a": "train"}
