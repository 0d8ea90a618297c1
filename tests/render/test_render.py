"""`isp-nas render` as people use it: RAW in, pictures out, and one sentence where that cannot be."""

import errno
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import png
import pytest
from dng import QUAD, Camera, noise, write_mosaic
from flow import in_process, isp_nas, refusal, snapshot, truncate
from isp_builder import RANGES, isp
from PIL import Image

from nas.data.raw_format import RawFormat
from nas.render import renderer
from nas.render.batch import _Tiles
from nas.render.made import NOTES_FILE
from nas.tflite.input_contract import Contract, embed_contract
from nas.tflite.isp_file import IspFile
from search_spaces.system import atomic_write

SIDES = (64, 96)  # of a mosaic of the file's own size
ASSUMED = (
    "Neither the network's file nor a card.json tells what it reads; assumed: --input normalized, --bits 10, "
    "--black 0, --white 1023, --pattern RGGB, --packing challenge."
)
REAL_PAIRS = Path(__file__).parents[3] / "shared" / "data" / "raw_pairs"


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Somebody's file: no card beside it."""
    path = tmp_path / "isp.tflite"
    path.write_bytes(isp(SIDES[0] // 2, SIDES[1] // 2))
    return path


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    return write_mosaic(tmp_path / "photo.png", noise(*SIDES, low=0))


def card(folder: Path, **raw: Any) -> None:
    fmt = {"bits": 10, "black": 0, "white": None, "pattern": "RGGB", "packing": "challenge"} | raw
    (folder / "card.json").write_text(json.dumps({"data": {"source": "pairs", "raw": fmt}}))


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def sixteen_bits(path: Path) -> np.ndarray:
    width, height, rows, info = png.Reader(bytes=path.read_bytes()).read()
    assert (info["bitdepth"], info["planes"]) == (16, 3)
    return np.vstack(list(rows)).reshape(height, width, 3)


def rendered(*arguments: object) -> list[dict[str, Any]]:
    done = in_process("render", *arguments, "--format", "json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def direct(model: Path, mosaic: np.ndarray) -> np.ndarray:
    """What the file makes of an RGGB mosaic of 10 bits and its own size, packed as the challenge does, by hand."""
    x = np.stack([mosaic[r::2, c::2] for r, c in ((1, 1), (0, 1), (0, 0), (1, 0))], -1).astype(np.float32) / 1023
    file = IspFile(model)
    file.allocate(*x.shape[:2])
    outputs: list[np.ndarray] = []
    file.run(x[None], lambda y: outputs.append(y[0].copy()))
    return outputs[0]


# What is made


def test_a_mosaic_becomes_the_picture_that_the_file_makes_of_it(model: Path, photo: Path) -> None:
    (row,) = rendered(model, photo, "--out", "out")
    assert (row["input"], row["output"]) == (str(photo), "out/photo.png")
    assert (row["height"], row["width"], row["tiles"]) == (*SIDES, 1)
    assert (row["conversions"], row["notes"], row["comparison"]) == ([], [ASSUMED], None)
    assert all(row[name] >= 0 for name in ("decode_s", "inference_s", "encode_s"))
    np.testing.assert_allclose(pixels(Path("out/photo.png")) / 255, direct(model, pixels(photo)), atol=0.51 / 255)


@pytest.mark.parametrize("sides", [SIDES, (200, 150)], ids=["whole", "tiles"])
@pytest.mark.parametrize("types", [("int8", "int8"), ("uint8", "int8"), ("float32", "uint8"), ("int16", "int16")])
def test_whole_numbers_make_nearly_the_picture_of_real_ones(
    model: Path, tmp_path: Path, types: tuple[str, str], sides: tuple[int, int]
) -> None:
    whole = tmp_path / "whole.tflite"
    whole.write_bytes(isp(SIDES[0] // 2, SIDES[1] // 2, input_type=types[0], output_type=types[1]))
    write_mosaic(tmp_path / "photo.png", noise(*sides, low=0))
    rendered(model, "photo.png", "--out", "real")
    rendered(whole, "photo.png", "--out", "out")
    difference = np.abs(pixels(Path("out/photo.png")).astype(int) - pixels(Path("real/photo.png")))
    assert difference.max() <= 3


def test_sixteen_bits_hold_what_eight_round_away(model: Path, photo: Path) -> None:
    rendered(model, photo, "--out", "out", "--bits-out", 16)
    picture = sixteen_bits(Path("out/photo.png")) / 65535
    np.testing.assert_allclose(picture, direct(model, pixels(photo)), atol=1e-5)


def test_jpeg_is_written_where_it_was_asked_for(model: Path, photo: Path) -> None:
    (row,) = rendered(model, photo, "--out", "out", "--jpeg", 95)
    with Image.open(row["output"]) as image:
        assert (image.format, image.size) == ("JPEG", (SIDES[1], SIDES[0]))


@pytest.mark.parametrize("pattern", ["RGGB", "GBRG"])
def test_a_cameras_raw_becomes_what_its_mosaic_becomes(model: Path, tmp_path: Path, pattern: str) -> None:
    """One scene as a mosaic of 10 bits, and as a camera writes it: 14 bits over a black level, a row begun earlier."""
    earlier = 1 if pattern == "GBRG" else 0
    scene = noise(SIDES[0] + 2 * earlier, SIDES[1], low=0)
    write_mosaic(tmp_path / "mosaic.png", scene[earlier : earlier + SIDES[0]])
    camera = Camera(pattern, black=(512,) * 4, white=512 + 15 * 1023)
    camera.write(tmp_path / "raw.dng", (scene * 15 + 512).astype(np.uint16))
    rendered(model, "mosaic.png", "--out", "out")
    (row,) = rendered(model, "raw.dng", "--out", "out", "--convert")
    np.testing.assert_array_equal(pixels(Path("out/raw.png")), pixels(Path("out/mosaic.png")))
    assert "levels 512–15857 → 0–1023 by rescaling" in row["conversions"]
    assert ("GBRG → RGGB by leaving out the first row" in row["conversions"]) == bool(earlier)


def test_a_camera_held_upright_makes_an_upright_picture(model: Path, tmp_path: Path) -> None:
    mosaic = noise(*SIDES)
    plain = Camera(black=(0,) * 4)
    plain.write(tmp_path / "level.dng", mosaic)
    Camera(black=(0,) * 4, orientation=6).write(tmp_path / "upright.dng", mosaic)
    level, upright = rendered(model, "level.dng", "upright.dng", "--out", "out")
    assert (upright["height"], upright["width"]) == (level["width"], level["height"])
    turned = np.rot90(pixels(Path("out/level.png")), -1)
    np.testing.assert_array_equal(pixels(Path("out/upright.png")), turned)


def test_a_picture_of_any_size_goes_through_a_file_of_one(model: Path, tmp_path: Path) -> None:
    """In tiles or padded: where the border is far away, it is what the file makes of that part alone."""
    large = noise(200, 250, low=0)
    write_mosaic(tmp_path / "large.png", large)
    write_mosaic(tmp_path / "small.png", large[:30, :40])
    wide, small = rendered(model, "large.png", "small.png", "--out", "out")
    assert wide["tiles"] > 9
    assert (wide["height"], wide["width"], small["height"], small["width"]) == (200, 250, 30, 40)
    part = direct(model, large[40 : 40 + SIDES[0], 60 : 60 + SIDES[1]])[8:-8, 8:-8]
    picture = pixels(Path("out/large.png"))[48 : 40 + SIDES[0] - 8, 68 : 60 + SIDES[1] - 8]
    np.testing.assert_allclose(picture / 255, part, atol=0.51 / 255)
    corner = pixels(Path("out/large.png"))[:20, :30]
    np.testing.assert_array_equal(pixels(Path("out/small.png"))[:20, :30], corner)


def test_a_file_of_open_size_is_tiled_where_memory_asks_for_it_and_makes_the_same(tmp_path: Path) -> None:
    path = tmp_path / "open.tflite"
    path.write_bytes(isp(-1, -1))
    write_mosaic(tmp_path / "photo.png", noise(300, 260, low=0))
    (whole,) = rendered(path, "photo.png", "--out", "whole", "--bits-out", 16)
    (tiled,) = rendered(path, "photo.png", "--out", "tiled", "--bits-out", 16, "--max-memory", 1)
    assert whole["tiles"] == 1
    assert tiled["tiles"] > 4
    made = [sixteen_bits(Path(out) / "photo.png") / 65535 for out in ("whole", "tiled")]
    np.testing.assert_allclose(made[0], made[1], atol=1e-4)


def test_what_tiles_cannot_do_exactly_is_said(tmp_path: Path) -> None:
    path = tmp_path / "isp.tflite"
    path.write_bytes(isp(32, 32, is_global=True))
    write_mosaic(tmp_path / "photo.png", noise(200, 200, low=0))
    (row,) = rendered(path, "photo.png", "--out", "out")
    assert row["notes"] == [
        ASSUMED,
        "MEAN sees the whole map, so the size of the input changes the picture a little; tiles are blended.",
    ]
    table = in_process("render", path, "photo.png", "--out", "other")
    assert "photo.png: MEAN sees the whole map" in table.stdout


def test_a_folder_is_walked_and_its_folders_are_kept(model: Path, tiny_pairs: Path) -> None:
    rows = rendered(model, tiny_pairs / "test", tiny_pairs / "val" / "mediatek_raw" / "0.png", "--out", "out")
    made = {str(path.relative_to("out")) for path in Path("out").rglob("*.png")}
    assert made == {"mediatek_raw/0.png", "mediatek_raw/1.png", "0.png"}
    assert {row["output"] for row in rows} == {f"out/{name}" for name in made}


# Beside the camera's own


def test_a_comparison_shows_the_cameras_rendering_or_the_target(model: Path, tmp_path: Path, tiny_pairs: Path) -> None:
    Camera(black=(0,) * 4).write(tmp_path / "raw.dng", noise(*SIDES))
    target = tiny_pairs / "test" / "mediatek_raw" / "0.png"
    rows = rendered(model, "raw.dng", target, "--out", "out", "--compare", "--bits-out", 16)
    assert [row["comparison"] for row in rows] == ["out/raw.compare.jpg", "out/0.compare.jpg"]
    with Image.open(tiny_pairs / "test" / "fujifilm" / "0.png") as image:
        wanted = np.asarray(image).astype(int)
    shown = pixels(Path("out/0.compare.jpg"))[-wanted.shape[0] :, -wanted.shape[1] :]
    assert np.abs(shown - wanted).mean() < 4
    assert pixels(Path("out/raw.compare.jpg")).shape[1] > 2 * SIDES[1]


def test_where_there_is_nothing_to_compare_with_that_is_said(model: Path, photo: Path) -> None:
    (row,) = rendered(model, photo, "--out", "out", "--compare")
    assert row["comparison"] is None
    assert row["notes"] == [ASSUMED, "There is no other rendering of this mosaic to compare with."]
    assert [path.name for path in Path("out").iterdir() if path.name != NOTES_FILE] == ["photo.png"]


# Bad input


def refused(*arguments: object) -> str:
    """Return why nothing is rendered; fail where anything is left behind."""
    before = snapshot(Path.cwd())
    sentence = refusal(in_process("render", *arguments))
    assert snapshot(Path.cwd()) == before
    return sentence


def test_the_installed_command_renders_and_refuses(model: Path, photo: Path) -> None:
    done = isp_nas("render", model, photo, "--out", "out")
    assert done.returncode == 0, done.stderr
    assert "out/photo.png" in done.stdout
    assert done.stderr == ""
    again = refusal(isp_nas("render", model, photo, "--out", "out", "--bits-out", 16))
    assert again == "out/photo.png exists and is not overwritten; name another folder with --out."


def test_a_killed_run_is_continued_and_what_is_whole_is_left_as_it_is(
    model: Path, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = photo.with_name("second.png")
    shutil.copy(photo, other)
    assert in_process("render", model, photo, "--out", "out").returncode == 0
    before = (tmp_path / "out" / "photo.png").stat().st_mtime_ns
    again = in_process("render", model, photo, other, "--out", "out")
    assert again.returncode == 0
    assert "1 of 2 pictures were whole already" in again.stderr
    assert (tmp_path / "out" / "photo.png").stat().st_mtime_ns == before
    assert (tmp_path / "out" / "second.png").is_file()
    for spoil in (lambda path: path.write_bytes(b"mine"), lambda path: path.write_bytes(path.read_bytes()[:-1])):
        spoil(tmp_path / "out" / "photo.png")
        assert "is not overwritten" in refusal(in_process("render", model, photo, other, "--out", "out"))


@pytest.mark.parametrize("name", ["b.png", "b.compare.jpg"])
def test_nothing_is_overwritten_and_that_is_known_before_anything_is_computed(
    model: Path, tmp_path: Path, name: str
) -> None:
    for stem in "ab":
        write_mosaic(tmp_path / f"{stem}.png", noise(*SIDES, low=0))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("mine")
    assert f"out/{name} exists" in refused(model, "a.png", "b.png", "--out", "out", "--compare")


def test_a_file_in_place_of_the_folder_is_refused(model: Path, photo: Path) -> None:
    assert "is a file, and --out names a folder for the pictures" in refused(model, photo, "--out", photo)


def test_what_appears_while_a_picture_is_made_is_not_overwritten(
    model: Path, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meanwhile(*arguments: object) -> bytes:
        write_mosaic(Path("out/photo.png"), noise(2, 2))
        return b"ours"

    monkeypatch.setattr(renderer, "encode", meanwhile)
    assert "out/photo.png exists" in refusal(in_process("render", model, photo, "--out", "out"))
    assert Path("out/photo.png").read_bytes() != b"ours"


def test_two_inputs_that_would_become_one_file_are_refused(model: Path, photo: Path, tmp_path: Path) -> None:
    other = write_mosaic(tmp_path / "other" / "photo.png", noise(*SIDES, low=0))
    assert "would both become out/photo.png" in refused(model, photo, other, "--out", "out")
    assert len(rendered(model, photo, photo, "--out", "out")) == 1, "the same one twice is rendered once"


@pytest.mark.parametrize(
    ("camera", "says"),
    [
        (Camera(), "is RGGB, 64×96, 64–1023"),
        (Camera("BGGR", black=(0,) * 4), "is BGGR, 64×96, 0–1023"),
        (Camera(QUAD), "as of a Quad-Bayer sensor"),
    ],
    ids=["black level", "pattern", "quad"],
)
def test_raw_that_the_network_was_not_trained_on_is_refused(
    model: Path, tmp_path: Path, camera: Camera, says: str
) -> None:
    camera.write(tmp_path / "raw.dng", noise(*SIDES))
    assert says in refused(model, "raw.dng", "--out", "out")


def test_the_card_decides_what_the_network_was_trained_on(model: Path, tmp_path: Path) -> None:
    Camera("BGGR").write(tmp_path / "raw.dng", noise(*SIDES))
    card(tmp_path, pattern="RGGB", black=64)
    assert "the network was trained on RGGB of even sides with levels 64–1023" in refused(
        model, "raw.dng", "--out", "out"
    )
    card(tmp_path, pattern="BGGR", black=64)
    assert rendered(model, "raw.dng", "--out", "out")[0]["conversions"] == []


def test_options_say_what_a_mosaic_is(model: Path, photo: Path, tmp_path: Path) -> None:
    card(tmp_path)
    assert "is GRBG, " in refused(model, photo, "--out", "out", "--pattern", "GRBG")
    (row,) = rendered(model, photo, "--out", "out", "--pattern", "GRBG", "--convert")
    assert row["conversions"][0] == "GRBG → RGGB by leaving out the first column"


RAW_12 = Contract(RawFormat(bits=12, black=256), 256.0, 4095.0)


def test_a_file_that_says_what_it_reads_needs_no_card(model: Path, tmp_path: Path) -> None:
    write_mosaic(tmp_path / "photo.png", noise(*SIDES, low=256, high=4095))
    card(tmp_path, bits=12, black=256)
    carded = json.loads(Path("card.json").read_text()) | {"input_levels": {"black": 256.0, "white": 4095.0}}
    Path("card.json").write_text(json.dumps(carded))
    rendered(model, "photo.png", "--out", "carded")
    Path("card.json").unlink()
    model.write_bytes(embed_contract(model.read_bytes(), RAW_12))
    (row,) = rendered(model, "photo.png", "--out", "out")
    assert row["notes"] == []
    np.testing.assert_array_equal(pixels(Path("out/photo.png")), pixels(Path("carded/photo.png")))


def test_a_card_of_other_files_is_not_believed(model: Path, photo: Path, tmp_path: Path) -> None:
    card(tmp_path)
    document = json.loads(Path("card.json").read_text())
    ours = {"file": "model.tflite", "sha256": "0" * 64, "dynamic_file": None, "dynamic_sha256": None}
    Path("card.json").write_text(json.dumps(document | {"precisions": [ours]}))
    assert "isp.tflite is none of the files that card.json beside it describes (model.tflite)" in refused(
        model, photo, "--out", "out"
    )
    ours |= {"dynamic_file": "model_none.tflite", "dynamic_sha256": hashlib.sha256(model.read_bytes()).hexdigest()}
    Path("card.json").write_text(json.dumps(document | {"precisions": [ours]}))
    assert rendered(model, photo, "--out", "out")[0]["notes"] == []


def test_what_was_said_is_not_assumed(model: Path, photo: Path) -> None:
    said = ("--input", "raw10", "--bits", 10, "--black", 0, "--white", 1023, "--pattern", "RGGB")
    (row,) = rendered(model, photo, "--out", "out", *said)
    assert row["notes"][0].endswith("assumed: --packing challenge.")
    assert rendered(model, photo, "--out", "more", *said, "--packing", "challenge")[0]["notes"] == []


def test_integers_that_hold_counts_are_not_taken_for_values_up_to_one(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RANGES, "int16", (1.0, 0))
    counts = tmp_path / "counts.tflite"
    counts.write_bytes(isp(SIDES[0] // 2, SIDES[1] // 2, input_type="int16"))
    assert "stand for values up to 32767, which are counts" in refused(counts, photo, "--out", "out")
    rendered(counts, photo, "--out", "out", "--input", "raw10")


def test_a_mosaic_of_odd_sides_is_cropped_where_that_was_asked_for(model: Path, tmp_path: Path) -> None:
    whole = noise(SIDES[0] + 1, SIDES[1] + 1, low=0)
    write_mosaic(tmp_path / "odd.png", whole)
    write_mosaic(tmp_path / "even.png", whole[: SIDES[0], : SIDES[1]])
    assert "is RGGB, 65×97, 0–1023" in refused(model, "odd.png", "--out", "out")
    (row,) = rendered(model, "odd.png", "--out", "out", "--convert")
    assert row["conversions"] == ["65×97 → 64×96, whole tiles of 2×2"]
    rendered(model, "even.png", "--out", "out")
    np.testing.assert_array_equal(pixels(Path("out/odd.png")), pixels(Path("out/even.png")))


def test_options_about_mosaics_are_not_silently_ignored_for_a_cameras_raw(model: Path, tmp_path: Path) -> None:
    card(tmp_path, black=64)
    Camera().write(tmp_path / "raw.dng", noise(*SIDES))
    assert "there are none" in refused(model, "raw.dng", "--out", "out", "--black", 60)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--bits-out", 12), "8 or 16 bits per channel"),
        (("--jpeg", 101), "quality of a JPEG is 1 to 100"),
        (("--jpeg", 90, "--bits-out", 16), "leave out --jpeg"),
        (("--max-memory", 0), "more than 0 MB"),
        (("--pattern", "RGBG"), "Unknown Bayer pattern"),
        (("--bits", 8), "Raw values have 9 to 16 bits"),
        (("--input", "raw8"), "Unknown input"),
        (("--format", "csv"), "Unknown format"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    model: Path, photo: Path, options: tuple[object, ...], says: str
) -> None:
    assert says in refused(model, photo, "--out", "out", *options)


def test_a_model_that_is_none_is_refused(model: Path, photo: Path) -> None:
    assert "LiteRT cannot run" in refused(photo, photo, "--out", "out")
    assert 'Cannot read "nowhere.tflite"' in refused("nowhere.tflite", photo, "--out", "out")
    assert "check the path" in refused(model, "nowhere.png", "--out", "out")


def test_a_bad_raw_file_keeps_no_good_one_from_being_rendered(model: Path, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_mosaic(tmp_path / "raw" / f"{name}.png", noise(*SIDES, low=0))
    truncate(tmp_path / "raw" / "b.png")
    done = in_process("render", model, "raw", "--out", "out")
    sentence = refusal(done)
    assert sentence.startswith('1 of 3 inputs were not rendered; the first: The image "')
    assert sorted(path.name for path in Path("out").iterdir() if path.name != NOTES_FILE) == ["a.png", "c.png"]
    assert done.stdout.count("b.png") == 1


def test_an_output_that_is_no_number_is_refused(photo: Path, tmp_path: Path) -> None:
    path = tmp_path / "isp.tflite"
    path.write_bytes(isp(32, 48, weights=lambda *shape: np.full(shape, np.nan, np.float32)))
    assert "The network's output is not a number" in refused(path, photo, "--out", "out")


def test_a_full_disk_leaves_no_partial_file_and_ends_the_run(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        write_mosaic(tmp_path / "raw" / f"{name}.png", noise(*SIDES, low=0))
    synced: list[int] = []

    def full_at_the_second(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) == 3:  # a file and its folder come first
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic_write.os, "fsync", full_at_the_second)
    sentence = refusal(in_process("render", model, "raw", "--out", "out"))
    assert "2 of 3 inputs were not rendered" in sentence
    assert "out/b.png cannot be written (No space left on device)" in sentence
    assert [path.name for path in Path("out").iterdir() if path.name != NOTES_FILE] == ["a.png"]


# Progress


def test_progress_counts_tiles_and_takes_pictures_to_come_for_as_large() -> None:
    shown: list[tuple[int, int]] = []
    tiles = _Tiles(lambda done, total: shown.append((done, total)), 3)
    for count in (4, 1):
        for done in range(count + 1):
            tiles(done, count)
        tiles.next_picture()
    tiles(0, 1)
    assert shown == [(0, 12), (1, 12), (2, 12), (3, 12), (4, 12), (4, 6), (5, 6), (5, 6)]


@pytest.mark.skipif(not REAL_PAIRS.is_dir(), reason="needs the public pairs of real sensors beside the repository")
def test_real_mosaics_are_rendered_beside_their_targets(model: Path) -> None:
    rows = rendered(model, *sorted((REAL_PAIRS / "test" / "mediatek_raw").iterdir())[:2], "--out", "out", "--compare")
    assert [(row["height"], row["width"]) for row in rows] == [(256, 256)] * 2
    assert all(row["comparison"] for row in rows)
