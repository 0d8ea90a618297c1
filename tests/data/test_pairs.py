import json
import os
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pytest
import tifffile
from pair_folders import CHALLENGE, file_of, write_flat, write_pair, write_splits
from PIL import Image

from nas.data.decode import read_raw
from nas.data.layout import LAYOUTS
from nas.data.pairs import DataConfig, find_pairs, fingerprint, load_split, prepare
from nas.data.raw_format import RawFormat
from search_spaces.errors import DataError, UnknownNameError, UsageError

ORIENTATION = 274  # of EXIF and TIFF
REAL = Path(__file__).parents[3] / "shared" / "data" / "raw_pairs"


def names(config: DataConfig) -> dict[str, list[str]]:
    return {split: [pair.name for pair in pairs] for split, pairs in find_pairs(config).items()}


def error_of(config: DataConfig) -> str:
    with pytest.raises(DataError) as caught:
        find_pairs(config)
    return str(caught.value)


def load_error(config: DataConfig) -> str:
    with pytest.raises(DataError) as caught:
        load_split(config, "train")
    return str(caught.value)


# Layouts


def test_split_folders_are_taken_as_they_are(tmp_path: Path) -> None:
    assert names(write_splits(tmp_path, train=3, val=2, test=1)) == {
        "train": ["0", "1", "2"],
        "val": ["0", "1"],
        "test": ["0"],
    }


def test_numbered_files_come_in_numeric_order(tmp_path: Path) -> None:
    assert names(write_splits(tmp_path, train=12, val=1, test=1))["train"] == [str(n) for n in range(12)]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_folder_without_splits_is_divided_by_the_seed(tmp_path: Path, layout: tuple[str, str]) -> None:
    config = write_flat(tmp_path, 20, layout=layout)
    splits = names(config)
    assert {split: len(some) for split, some in splits.items()} == {"train": 16, "val": 2, "test": 2}
    assert sorted(name for some in splits.values() for name in some) == sorted(str(n) for n in range(20))
    assert names(config) == splits
    assert names(replace(config, split_seed=1)) != splits


def test_a_missing_split_is_taken_from_training(tmp_path: Path) -> None:
    splits = names(write_splits(tmp_path, train=20, test=3))
    assert [len(splits[split]) for split in ("train", "val", "test")] == [18, 2, 3]
    assert not set(splits["train"]) & set(splits["val"])


def test_zurich_jpeg_targets_are_read(tmp_path: Path) -> None:
    pairs = load_split(write_flat(tmp_path, 10, layout=("huawei_raw", "canon")), "train")
    assert pairs.rgb.shape == (8, 8, 8, 3)


def test_any_two_parallel_folders_can_be_named(tmp_path: Path) -> None:
    write_flat(tmp_path, 10, layout=("phone", "camera"))
    config = DataConfig(str(tmp_path), raw_dir="phone", rgb_dir="camera")
    assert len(find_pairs(config)["train"]) == 8
    assert "has camera/, phone/, not" in error_of(DataConfig(str(tmp_path)))


def test_naming_one_folder_of_two_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--raw-dir and --rgb-dir belong together"):
        find_pairs(DataConfig(str(tmp_path), raw_dir="phone"))


def test_finding_reads_no_pixel(tmp_path: Path) -> None:
    config = write_flat(tmp_path, 10)
    for path in tmp_path.rglob("*.png"):
        path.write_bytes(b"")
    assert len(find_pairs(config)["train"]) == 8


# Errors of folders


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    assert f'"{tmp_path / "none"}"' in error_of(DataConfig(str(tmp_path / "none")))


def test_an_empty_folder_says_what_was_looked_for(tmp_path: Path) -> None:
    said = error_of(DataConfig(str(tmp_path)))
    assert " or ".join(f"{raw}/ with {rgb}/" for raw, rgb in LAYOUTS) in said
    assert "has no sub-folder" in said


def test_folders_without_images_are_an_error(tmp_path: Path) -> None:
    for kind in CHALLENGE:
        (tmp_path / kind).mkdir()
    assert "which is empty; put" in error_of(DataConfig(str(tmp_path)))


def test_files_of_another_kind_are_named(tmp_path: Path) -> None:
    config = write_flat(tmp_path, 10)
    for path in (tmp_path / "mediatek_raw").iterdir():
        path.rename(path.with_suffix(".bmp"))
    assert "only .bmp;" in error_of(config)


def test_pairs_without_partner_are_named_on_both_sides(tmp_path: Path) -> None:
    config = write_flat(tmp_path, 20)
    (tmp_path / "mediatek_raw" / "3.png").unlink()
    for number in range(10, 17):
        (tmp_path / "fujifilm" / f"{number}.png").unlink()
    said = error_of(config)
    assert "7 in mediatek_raw/ without a partner (10, 11, 12, 13, 14, … 2 more)" in said
    assert "1 in fujifilm/ without a partner (3)" in said


def test_accented_names_match_however_their_letters_are_stored(tmp_path: Path) -> None:
    for folder, form in (("mediatek_raw", "NFD"), ("fujifilm", "NFC")):
        (tmp_path / folder).mkdir()
        for name in ("café", "übung", "写真", *map(str, range(20))):
            (tmp_path / folder / f"{normalize(form, name)}.png").touch()
    splits = find_pairs(DataConfig(str(tmp_path)))
    assert sum(map(len, splits.values())) == 23


def test_two_files_of_one_name_are_an_error(tmp_path: Path) -> None:
    config = write_flat(tmp_path, 10)
    (tmp_path / "fujifilm" / "3.jpg").write_bytes(b"")
    assert "Two files of one pair" in error_of(config)


def test_a_split_without_targets_is_an_error(tmp_path: Path) -> None:
    config = write_splits(tmp_path, train=5, val=2)
    for path in (tmp_path / "val" / "fujifilm").iterdir():
        path.unlink()
    (tmp_path / "val" / "fujifilm").rmdir()
    assert "move a split without targets elsewhere" in error_of(config)


def test_validation_without_training_is_an_error(tmp_path: Path) -> None:
    assert "No train/ folder" in error_of(write_splits(tmp_path, val=2))


def test_too_few_pairs_to_validate_on_are_an_error(tmp_path: Path) -> None:
    assert "is left for val" in error_of(write_flat(tmp_path, 3))


def test_nothing_left_to_train_on_is_an_error(tmp_path: Path) -> None:
    config = replace(write_flat(tmp_path, 2), val_fraction=0.5, test_fraction=0.45)
    assert "is left for train" in error_of(config)


@pytest.mark.parametrize("fractions", [(-0.1, 0.1), (0.5, 0.5), (1.0, 0.0)])
def test_impossible_fractions_are_refused(tmp_path: Path, fractions: tuple[float, float]) -> None:
    with pytest.raises(UsageError, match="together below 1"):
        find_pairs(DataConfig(str(tmp_path), val_fraction=fractions[0], test_fraction=fractions[1]))


@pytest.mark.parametrize("kind", CHALLENGE)
def test_a_truncated_png_is_named(two: DataConfig, kind: str) -> None:
    path = file_of(two, kind)
    whole = path.read_bytes()
    for length in (0, 20, len(whole) // 2, len(whole) - 30):
        path.write_bytes(whole[:length])
        assert str(path) in load_error(two)


def test_a_truncated_jpeg_is_named(tmp_path: Path) -> None:
    write_flat(tmp_path, 10, layout=("huawei_raw", "canon"))
    for path in (tmp_path / "canon").iterdir():
        path.write_bytes(path.read_bytes()[:-40])
    assert "damaged" in load_error(DataConfig(str(tmp_path)))


def test_a_dark_8_bit_mosaic_holds_counts(two: DataConfig) -> None:
    counts = np.arange(64, dtype=np.uint8).reshape(8, 8)
    Image.fromarray(counts).save(file_of(two, "mediatek_raw"))
    np.testing.assert_array_equal(read_raw(file_of(two, "mediatek_raw")), counts.astype(np.uint16))


def test_an_8_bit_mosaic_of_rescaled_values_is_refused(two: DataConfig) -> None:
    Image.fromarray(np.full((8, 8), 255, np.uint8)).save(file_of(two, "mediatek_raw"))
    assert "many values reach 255" in load_error(two)
    assert "as a 16-bit grey PNG" in load_error(two)


def test_a_16_bit_tiff_target_is_not_narrowed(two: DataConfig) -> None:
    path = file_of(two, "fujifilm").with_suffix(".tif")
    file_of(two, "fujifilm").unlink()
    tifffile.imwrite(path, np.zeros((8, 8, 3), np.uint16), photometric="rgb")
    assert "has mode RGB with 16 bits" in load_error(two)


@pytest.mark.parametrize(
    "content",
    [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", b"BM" + bytes(60), b"GIF89a" + bytes(40), b"P6 8 8 255\n"],
    ids=["eps", "bmp", "gif", "ppm"],
)
def test_only_the_formats_that_are_meant_are_opened(
    two: DataConfig, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import EpsImagePlugin

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: pytest.fail("Ghostscript was started"))
    file_of(two, "mediatek_raw").write_bytes(content)
    assert "it is a file that is no PNG, TIFF or JPEG" in load_error(two)


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_unpacked(two: DataConfig) -> None:
    header = b"IHDR" + struct.pack(">IIBBBBB", 60000, 60000, 16, 0, 0, 0, 0)
    chunks = [
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        for chunk in (header, b"IDAT" + zlib.compress(bytes(100)), b"IEND")
    ]
    file_of(two, "mediatek_raw").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    assert "more than 210 megapixels" in load_error(two)


def test_a_pipe_is_no_picture(two: DataConfig) -> None:
    path = file_of(two, "mediatek_raw")
    path.unlink()
    os.mkfifo(path)
    assert "it is a pipe, not a file" in load_error(two)


@pytest.mark.parametrize("kind", CHALLENGE)
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_mark_that_says_how_to_turn_a_picture_is_refused_and_not_ignored(
    two: DataConfig, kind: str, suffix: str
) -> None:
    stored = Image.open(file_of(two, kind))
    mark = Image.Exif()
    for orientation in range(1, 10):  # 1 turns nothing, and 9 is none
        mark[ORIENTATION] = orientation
        file_of(two, kind).unlink(missing_ok=True)
        stored.save(file_of(two, kind, f"1{suffix}"), exif=mark)
        if orientation in (1, 9):
            load_split(two, "train")
        else:
            assert f"(EXIF orientation {orientation})" in load_error(two)


def test_a_turned_jpeg_of_zurich_is_refused(tmp_path: Path) -> None:
    config = write_flat(tmp_path, layout=("huawei_raw", "canon"))
    mark = Image.Exif()
    mark[ORIENTATION] = 6
    for path in (tmp_path / "canon").iterdir():
        with Image.open(path) as stored:
            stored.save(path, exif=mark)
    assert "(EXIF orientation 6), and pairs lie as they are stored" in load_error(config)


def test_a_colour_mosaic_is_refused(two: DataConfig) -> None:
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(file_of(two, "mediatek_raw"))
    assert "is a colour image, and a mosaic has a single channel of 16 bits; give the mosaic itself" in load_error(two)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "I;16"])
def test_a_target_that_is_not_8_bit_rgb_is_refused(two: DataConfig, mode: str) -> None:
    Image.new(mode, (8, 8)).save(file_of(two, "fujifilm"))
    assert "three channels (RGB) of 8 bits" in (said := load_error(two))
    assert f"has mode {mode}" in said


def test_a_16_bit_rgb_target_is_refused_though_pillow_narrows_it(two: DataConfig) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
    rows = zlib.compress((b"\0" + bytes(8 * 6)) * 8)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    file_of(two, "fujifilm").write_bytes(png)
    assert "has mode RGB with 16 bits" in load_error(two)


def test_an_odd_mosaic_is_refused(two: DataConfig) -> None:
    Image.fromarray(np.zeros((8, 7), np.uint16)).save(file_of(two, "mediatek_raw"))
    assert "even height and width" in load_error(two)


def test_mosaic_and_target_of_different_size_are_refused(two: DataConfig) -> None:
    Image.new("RGB", (8, 10)).save(file_of(two, "fujifilm"))
    said = load_error(two)
    assert "10×8; cut both" in said
    assert "mediatek_raw/1.png" in said
    assert "fujifilm/1.png" in said


def test_pairs_of_different_sizes_are_refused(two: DataConfig) -> None:
    write_pair(Path(two.source) / "train", "1", side=10)
    assert "8×8; cut all pairs to one size" in load_error(two)


def test_values_above_the_declared_bits_name_the_bits_seen(two: DataConfig) -> None:
    Image.fromarray(np.full((8, 8), 3000, np.uint16)).save(file_of(two, "mediatek_raw"))
    said = load_error(two)
    assert "and 10 bits (at most 1023) are declared" in said
    assert "up to 3000, which needs 12 bits" in said
    assert "give the sensor's bit depth with --bits" in said
    assert len(load_split(replace(two, raw=RawFormat(bits=12)), "train")) == 2


def test_values_above_a_declared_white_level_are_refused(two: DataConfig) -> None:
    assert "above the white level of 500" in load_error(replace(two, raw=RawFormat(white=500)))


def test_every_error_is_one_sentence_with_a_remedy(two: DataConfig) -> None:
    file_of(two, "fujifilm").write_bytes(b"not an image")
    said = load_error(two)
    assert said[0].isupper() or said[0] == '"'
    assert said.endswith(".")
    assert "; " in said
    assert "\n" not in said


# Pixels


def test_pixels_come_as_written(two: DataConfig) -> None:
    pairs = load_split(two, "train")
    assert pairs.names == ("0", "1")
    for index, name in enumerate(pairs.names):
        np.testing.assert_array_equal(
            pairs.raw[index], np.asarray(Image.open(file_of(two, "mediatek_raw", f"{name}.png")))
        )
        np.testing.assert_array_equal(pairs.rgb[index], np.asarray(Image.open(file_of(two, "fujifilm", f"{name}.png"))))
    assert pairs.packed().shape == (2, 4, 4, 4)
    np.testing.assert_array_equal(pairs.packed()[..., 2], pairs.raw[:, ::2, ::2])


def test_progress_counts_up_to_all_pairs(two: DataConfig, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    load_split(two, "train", progress=lambda done, total: seen.append((done, total)))
    prepare(two, tmp_path / "cache", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2), (1, 3), (2, 3), (3, 3)]


def test_an_unknown_split_gets_a_suggestion(two: DataConfig) -> None:
    with pytest.raises(UnknownNameError, match='Did you mean "train"'):
        load_split(two, "trian")


def test_an_empty_test_split_cannot_be_loaded(tmp_path: Path) -> None:
    config = replace(write_flat(tmp_path, 10), test_fraction=0.0)
    with pytest.raises(DataError, match="No test pairs"):
        load_split(config, "test")


# Settings and fingerprint


def test_settings_survive_json() -> None:
    config = DataConfig("pairs", raw_dir="a", rgb_dir="b", split_seed=3, raw=RawFormat(bits=12, pattern="GBRG"))
    assert DataConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert DataConfig.from_dict({"source": "pairs"}) == DataConfig("pairs")


def test_an_unknown_setting_is_named() -> None:
    with pytest.raises(UnknownNameError, match=r'data setting "split_sed".*Did you mean "split_seed"'):
        DataConfig.from_dict({"source": "pairs", "split_sed": 1})
    with pytest.raises(UnknownNameError, match='data setting "bit"'):
        DataConfig.from_dict({"source": "pairs", "raw": {"bit": 12}})


def test_the_fingerprint_follows_settings_and_files(two: DataConfig) -> None:
    before = fingerprint(two)
    assert fingerprint(two) == before
    assert fingerprint(replace(two, raw=RawFormat(pattern="BGGR"))) != before
    path = file_of(two, "fujifilm")
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert fingerprint(two) != before


def test_a_relative_and_an_absolute_path_name_the_same_data(two: DataConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(two.source).parent)
    assert fingerprint(replace(two, source=Path(two.source).name)) == fingerprint(two)


@pytest.mark.skipif(not REAL.is_dir(), reason="the real pairs are not here")
def test_the_real_pairs_are_found_and_read() -> None:
    config = DataConfig(str(REAL))
    assert {split: len(pairs) for split, pairs in find_pairs(config).items()} == {"train": 334, "val": 47, "test": 96}
    assert load_split(config, "val").raw.shape == (47, 256, 256)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("raw,rgb,split\nraw/0.png,rgb/0.png,val\n", "None of the 1 pairs .* is left for train"),
        ("raw,rgb\nraw/0.png,rgb\r0.png\n", "Line 1 of .* is no CSV"),
        ("raw,rgb\nraw/0.png," + "x" * 200_000 + "\n", "is no CSV"),
    ],
)
def test_tables_of_pairs_that_are_none_are_refused(tmp_path: Path, text: str, said: str) -> None:
    for kind in ("raw", "rgb"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "0.png").touch()
    (tmp_path / "pairs.csv").write_bytes(text.encode())
    with pytest.raises(DataError, match=said):
        find_pairs(DataConfig(str(tmp_path / "pairs.csv")))
