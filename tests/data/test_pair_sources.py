"""Pairs that lie otherwise than in two folders of PNGs: a table, one folder, a camera's RAW; and pairs cut to fit."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dng import Camera, write_mosaic
from PIL import Image

from nas.data.check.report import check
from nas.data.pairs import DataConfig, find_pairs, fingerprint, identity, load_split, stated_format
from nas.data.raw_format import RawFormat
from search_spaces.errors import DataError, UsageError

SIDE = 64


def write_pair(folder: Path, raw: str, rgb: str, *, seed: int, side: int = SIDE, top: int = 1023) -> np.ndarray:
    rng = np.random.default_rng(seed)
    target = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
    mosaic = rng.integers(64, top + 1, (side, side)).astype(np.uint16)
    write_mosaic(folder / raw, mosaic)
    (folder / rgb).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(target).save(folder / rgb)
    return mosaic


# A table


@pytest.fixture
def table(tmp_path: Path) -> Path:
    for number in range(4):
        write_pair(tmp_path, f"phone/{number}.png", f"camera/c{number}.png", seed=number)
    path = tmp_path / "table.csv"
    rows = [f"phone/{n}.png,camera/c{n}.png,{s},64,1023,10,RGGB" for n, s in enumerate(("train", "", "val", "test"))]
    path.write_text("\n".join(["raw,rgb,split,black,white,bits,pattern", *rows]) + "\n")
    return path


def test_a_table_names_files_splits_and_levels(table: Path) -> None:
    config = DataConfig.of(str(table))
    assert config.raw == RawFormat(black=64, white=1023)
    splits = find_pairs(config)
    assert {split: [pair.name for pair in pairs] for split, pairs in splits.items()} == {
        "train": ["phone/0.png", "phone/1.png"],
        "val": ["phone/2.png"],
        "test": ["phone/3.png"],
    }
    assert load_split(config, "val").rgb.shape == (1, SIDE, SIDE, 3)
    assert check(config).readable == 4


def test_what_is_said_wins_over_the_table(table: Path) -> None:
    assert DataConfig.of(str(table), raw={"black": 60}).raw == RawFormat(black=60, white=1023)


def test_a_row_of_other_levels_is_brought_to_those_of_the_set(table: Path) -> None:
    mosaic = write_pair(table.parent, "phone/2.png", "camera/c2.png", seed=2, top=4095)
    table.write_text(table.read_text().replace("c2.png,val,64,1023,10", "c2.png,val,64,4095,12"))
    read = load_split(DataConfig.of(str(table)), "val").raw[0]
    np.testing.assert_array_equal(read, np.rint((mosaic - 64) * (959 / 4031) + 64))


@pytest.mark.parametrize(
    ("row", "levels"),
    [("60,,10", (60, 1023)), (",4095,12", (64, 4095)), (",,12", (64, 4095)), (",,", None), ("64,1023,10", (64, 1023))],
)
def test_what_a_row_leaves_out_is_as_in_most_rows(table: Path, row: str, levels: tuple[int, int] | None) -> None:
    table.write_text(table.read_text().replace("c2.png,val,64,1023,10,RGGB", f"c2.png,val,{row},"))
    (pair,) = find_pairs(DataConfig.of(str(table)))["val"]
    assert pair.levels == levels


def test_another_table_of_the_same_files_is_other_data(table: Path) -> None:
    before = DataConfig.of(str(table))
    named = fingerprint(before), identity(before)
    table.write_text(table.read_text().replace("c2.png,val,64", "c2.png,val,60"))
    assert {fingerprint(before), identity(before)}.isdisjoint(named)


def test_without_splits_pairs_are_split_by_the_seed(table: Path) -> None:
    table.write_text("raw;rgb\n" + "".join(f"phone/{n}.png;camera/c{n}.png\n" for n in range(4)))
    splits = find_pairs(DataConfig(str(table), val_fraction=0.25, test_fraction=0.25))
    assert [len(pairs) for pairs in splits.values()] == [2, 1, 1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n", "no column raw and rgb"),
        ("raw,rgb\n", "has no rows"),
        ("raw,rgb\nphone/9.png,camera/c0.png\n", 'Line 2 of .* names "phone/9.png" as raw'),
        ("raw,rgb,split\nphone/0.png,camera/c0.png,trian\n", 'has the split "trian"'),
        ("raw,rgb,black\nphone/0.png,camera/c0.png,dark\n", 'has black "dark", which is no number'),
        ("raw,rgb,white\nphone/0.png,camera/c0.png,1e300\n", "has white 1e300, and it is from 1 to 65535"),
        ("raw,rgb,black\nphone/0.png,camera/c0.png,-5\n", "has black -5, and it is from 0"),
        ("raw,rgb,bits\nphone/0.png,camera/c0.png,99\n", "has bits 99, and it is from 1 to 16"),
        ("raw,rgb,black,white\nphone/0.png,camera/c0.png,900,800\n", "black 900, which is not below white, 800"),
        ("raw,rgb\0\n", "perhaps in UTF-16"),
        ("raw,rgb\nphone/0.png,camera/c0.png\nphone/0.png,camera/c1.png\n", "more than one line"),
        ("", "no column raw and rgb"),
        (
            "raw,rgb,pattern\nphone/0.png,camera/c0.png,RGGB\nphone/1.png,camera/c1.png,RGGB\n"
            "phone/2.png,camera/c2.png,GBRG\n",
            "Line 4 of .* has pattern GBRG, and most lines have RGGB",
        ),
        (
            "raw,rgb,black\nphone/0.png,camera/c0.png,\nphone/1.png,camera/c1.png,\nphone/2.png,camera/c2.png,64\n",
            "Line 4 of .* has a black level and neither white nor bits",
        ),
    ],
)
def test_a_table_that_is_wrong_is_refused_by_its_line(table: Path, text: str, said: str) -> None:
    table.write_text(text)
    with pytest.raises(DataError, match=said):
        find_pairs(DataConfig.of(str(table)))


def test_a_table_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"table of pairs .*no\.csv"):
        find_pairs(DataConfig.of(str(tmp_path / "no.csv")))


def test_blanks_around_a_path_are_of_the_table_unless_a_file_is_called_so(tmp_path: Path) -> None:
    for name in ("a.png", " b .png", "a-rgb.png", " b-rgb.png"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "pairs.csv").write_text("raw,rgb\n a.png , a-rgb.png\n b .png, b-rgb.png\n")
    pairs = find_pairs(DataConfig(str(tmp_path / "pairs.csv"), val_fraction=0.5))
    names = {(pair.raw.name, pair.rgb.name) for split in pairs.values() for pair in split}
    assert names == {("a.png", "a-rgb.png"), (" b .png", " b-rgb.png")}


def test_pairs_made_of_photographs_tell_their_levels_though_some_were_removed(tmp_path: Path) -> None:
    write_pair(tmp_path, "train/mediatek_raw/1.png", "train/fujifilm/1.png", seed=1)
    (tmp_path / "pairs.csv").write_text(
        "raw,rgb,black,white,bits,pattern,packing\n"
        + "".join(f"train/mediatek_raw/{n}.png,train/fujifilm/{n}.png,64,4000,12,RGGB,challenge\n" for n in (1, 2))
    )
    assert DataConfig.of(str(tmp_path)).raw == RawFormat(bits=12, black=64, white=4000)
    assert DataConfig(str(tmp_path)).raw == RawFormat()


# One folder


def test_patterns_tell_the_files_of_one_folder_apart(tmp_path: Path) -> None:
    for number in range(10):
        write_pair(tmp_path, f"x/IMG_{number}.png", f"x/IMG_{number}_rgb.png", seed=number)
    config = DataConfig(str(tmp_path / "x"), raw_dir="IMG_*.png", rgb_dir="IMG_*_rgb.png")
    splits = find_pairs(config)
    assert [len(pairs) for pairs in splits.values()] == [8, 1, 1]
    assert all(pair.rgb.name == f"IMG_{pair.name}_rgb.png" for pair in splits["train"])
    (tmp_path / "x" / "IMG_3_rgb.png").unlink()
    with pytest.raises(DataError, match=r"1 files .* have no partner .*\(3\)"):
        find_pairs(config)
    with pytest.raises(DataError, match="called like"):
        find_pairs(replace(config, rgb_dir="*.jpg"))
    with pytest.raises(UsageError, match=r"one \*"):
        find_pairs(replace(config, rgb_dir="*_*.png"))


def test_patterns_hold_below_split_folders(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        write_pair(tmp_path, f"{split}/1_raw.png", f"{split}/1_rgb.png", seed=1)
    splits = find_pairs(DataConfig(str(tmp_path), raw_dir="*_raw.png", rgb_dir="*_rgb.png"))
    assert [len(pairs) for pairs in splits.values()] == [1, 1, 1]


# A camera's RAW


@pytest.fixture
def raws(tmp_path: Path) -> Path:
    for split, seed in (("train", 1), ("val", 2), ("test", 3)):
        mosaic = write_pair(tmp_path, f"{split}/mediatek_raw/1.png", f"{split}/fujifilm/1.png", seed=seed, top=4000)
        (tmp_path / split / "mediatek_raw" / "1.png").unlink()
        Camera(black=(64,) * 4, white=4000).write(tmp_path / split / "mediatek_raw" / "1.dng", mosaic)
    return tmp_path


def test_a_cameras_raw_is_a_mosaic_that_tells_its_format(raws: Path) -> None:
    config = DataConfig.of(str(raws))
    assert config.raw == RawFormat(bits=12, black=64, white=4000)
    mosaic = np.random.default_rng(2)
    mosaic.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    np.testing.assert_array_equal(load_split(config, "val").raw[0], mosaic.integers(64, 4001, (SIDE, SIDE)))
    assert check(config).readable == 3


def test_a_cameras_raw_is_brought_to_levels_that_are_asked_for(raws: Path) -> None:
    read = load_split(DataConfig(str(raws), raw=RawFormat()), "val").raw[0]
    assert 0 <= read.min() < 5
    assert 1018 < read.max() <= 1023


def test_a_cameras_raw_of_another_phase_is_refused(raws: Path) -> None:
    config = DataConfig.of(str(raws), raw={"pattern": "BGGR"})
    with pytest.raises(DataError, match=r"is RGGB, and BGGR is declared; give --pattern RGGB"):
        load_split(config, "val")


def test_a_cameras_raw_that_is_damaged_is_named(raws: Path) -> None:
    path = raws / "val" / "mediatek_raw" / "1.dng"
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(DataError, match=r"1\.dng"):
        load_split(DataConfig.of(str(raws)), "val")


# Cutting to fit


def test_pairs_are_cut_in_their_middle_from_whole_tiles_on(tmp_path: Path) -> None:
    mosaic = write_pair(tmp_path, "mediatek_raw/1.png", "fujifilm/1.png", seed=1, side=70)
    for number in range(2, 11):
        shutil.copy(tmp_path / "mediatek_raw" / "1.png", tmp_path / "mediatek_raw" / f"{number}.png")
        shutil.copy(tmp_path / "fujifilm" / "1.png", tmp_path / "fujifilm" / f"{number}.png")
    config = DataConfig(str(tmp_path), crop=32)
    read = load_split(config, "train")
    np.testing.assert_array_equal(read.raw[0], mosaic[2:66, 2:66])
    target = np.asarray(Image.open(tmp_path / "fujifilm" / "1.png"))
    np.testing.assert_array_equal(read.rgb[0], target[2:66, 2:66])
    assert fingerprint(config) != fingerprint(replace(config, crop=None))
    with pytest.raises(DataError, match="smaller than --crop 128"):
        load_split(replace(config, crop=128), "train")
    with pytest.raises(UsageError, match="even number"):
        find_pairs(replace(config, crop=33))


def test_pairs_that_are_not_cut_are_named_as_they_always_were() -> None:
    assert "crop" not in DataConfig("pairs").to_dict()
    assert DataConfig.from_dict(DataConfig("pairs", crop=32).to_dict()).crop == 32
    assert DataConfig.from_dict(DataConfig("pairs").to_dict()) == DataConfig("pairs")


def test_the_demo_set_tells_nothing_of_itself() -> None:
    assert stated_format(DataConfig("demo")) == {}
