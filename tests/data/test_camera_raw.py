"""A RAW file is read with all it says of itself, and what is no Bayer mosaic is refused in one sentence."""

import os
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from io import BytesIO
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import rawpy
from dng import QUAD, XTRANS, Camera, noise, write_mosaic
from flow import truncate
from PIL import Image

from nas.data.camera_raw import find_raw_files, read_mosaic, read_reference
from nas.data.demo.scene import draw_scene
from nas.data.demo.sensor import capture
from nas.data.raw_dump import RawDump
from nas.data.raw_format import PATTERNS, RawFormat
from search_spaces.errors import DataError, UsageError

REAL_PAIRS = Path(__file__).parents[3] / "shared" / "data" / "raw_pairs"
FMT = RawFormat()


def signed(path: Path) -> Path:
    """Write a file that begins as a camera's RAW does, for tests that replace LibRaw."""
    path.write_bytes(b"II*\x00" + bytes(12))
    return path


# What a camera's RAW says


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_cameras_raw_brings_its_pattern_and_the_black_level_of_every_place(tmp_path: Path, pattern: str) -> None:
    mosaic = noise(32, 48)
    decoded = read_mosaic(Camera(pattern, black=(60, 61, 62, 63), white=1000).write(tmp_path / "a.dng", mosaic), FMT)
    assert (decoded.pattern, decoded.black, decoded.white, decoded.orientation) == (
        pattern,
        (60.0, 61.0, 62.0, 63.0),
        1000.0,
        0,
    )
    np.testing.assert_array_equal(decoded.values, np.minimum(mosaic, 1000))
    assert decoded.levels == "60/61/62/63–1000"


def test_a_raw_whose_levels_do_not_fit_its_values_says_so(tmp_path: Path) -> None:
    mosaic = noise(32, 48)  # of 10 bits
    cut = read_mosaic(Camera(white=1000).write(tmp_path / "a.dng", mosaic), FMT)
    assert "values above its white level are stored as the white level" in cut.notes
    unnamed = read_mosaic(Camera(white=65535).write(tmp_path / "b.dng", mosaic), FMT)
    assert [note for note in unnamed.notes if f"no value is above {mosaic.max()}; give it by --white" in note]
    assert not read_mosaic(Camera(white=1023).write(tmp_path / "c.dng", mosaic), FMT).notes


def test_a_raw_whose_name_is_no_text_is_read(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xff.dng")
    try:
        Camera().write(path, noise(32, 48))
    except OSError:
        pytest.skip("this disk holds no such names")
    assert read_mosaic(path, FMT).values.shape == (32, 48)


@pytest.mark.parametrize(("top", "left"), [(2, 4), (2, 5), (3, 4), (3, 5)])
def test_what_is_outside_of_the_picture_is_left_out_and_the_pattern_goes_with_it(
    tmp_path: Path, top: int, left: int
) -> None:
    """A place keeps its filter whatever LibRaw leaves out around the picture."""
    mosaic = noise(32, 48)
    area = (top, left, 28, 44)
    decoded = read_mosaic(Camera("RGGB", active=area).write(tmp_path / "a.dng", mosaic), FMT)
    rows, columns = next(
        (r, c)
        for r, c in product(range(top, top + 4), range(left, left + 4))
        if np.array_equal(mosaic[r : r + decoded.values.shape[0], c : c + decoded.values.shape[1]], decoded.values)
    )
    tile = np.array(list("RGGB")).reshape(2, 2)
    begun = np.roll(tile, (-(rows - top), -(columns - left)), (0, 1))
    assert decoded.pattern == "".join(begun.ravel())


@pytest.mark.parametrize(("top", "left", "pattern"), [(0, 0, "RGGB"), (1, 0, "GBRG"), (0, 1, "GRBG"), (5, 3, "BGGR")])
def test_a_margin_of_odd_size_shifts_the_pattern(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, top: int, left: int, pattern: str
) -> None:
    """LibRaw rounds margins of DNG to even ones, but not those of every camera."""
    values = noise(32, 48)
    raw = SimpleNamespace(
        raw_pattern=np.array([[0, 1], [3, 2]]),
        raw_image_visible=values[top:, left:],
        color_desc=b"RGBG",
        camera_whitebalance=[0.0] * 4,
        black_level_per_channel=[60, 61, 62, 63],
        white_level=1023,
        sizes=SimpleNamespace(top_margin=top, left_margin=left, flip=0),
    )
    monkeypatch.setattr(rawpy, "imread", lambda _: nullcontext(raw))
    mosaic = read_mosaic(signed(tmp_path / "camera.nef"), FMT)
    assert mosaic.pattern == pattern
    by_colour = np.array([[60, 61], [63, 62]])
    np.testing.assert_array_equal(np.reshape(mosaic.black, (2, 2)), np.roll(by_colour, (-top, -left), (0, 1)))


# TIFF's orientation, and what puts the picture upright.
UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: np.rot90(a, 2),
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_a_picture_is_put_upright_by_any_orientation(tmp_path: Path, orientation: int) -> None:
    mosaic = noise(32, 48)
    mosaic[:16, :24] = 64  # dark at the upper left
    path = Camera(orientation=orientation).write(tmp_path / "a.dng", mosaic)
    picture = np.arange(32 * 48 * 3).reshape(32, 48, 3)
    np.testing.assert_array_equal(read_mosaic(path, FMT).upright(picture), UPRIGHT[orientation](picture))
    reference = read_reference(path)
    assert reference is not None
    shown = UPRIGHT[orientation](mosaic[..., None])[..., 0]
    assert reference.rgb.shape[:2] == shown.shape
    corners = {(r, c): reference.rgb[r, c].mean() for r in (4, -5) for c in (4, -5)}
    darkest = min(corners, key=corners.__getitem__)
    assert darkest == min(corners, key=lambda at: shown[at[0] - 3 : at[0] + 3 or None, at[1] - 3 : at[1] + 3].mean())


def test_the_cameras_own_rendering_has_its_white_balance(tmp_path: Path) -> None:
    """Under gains of 4, 1, 4 a mosaic whose red and blue are a quarter of its green is grey."""
    mosaic = np.full((32, 32), 64 + 200, np.uint16)
    mosaic[::2, ::2] = mosaic[1::2, 1::2] = 64 + 50
    path = Camera(white_balance=(4, 1, 4)).write(tmp_path / "a.dng", mosaic)
    reference = read_reference(path)
    assert reference is not None
    assert reference.made_by == "LibRaw, camera white balance"
    inner = reference.rgb[8:-8, 8:-8].reshape(-1, 3)
    assert np.ptp(inner.mean(0)) < 4


def jpeg(colour: tuple[int, int, int]) -> bytes:
    """Return a JPEG that is to be turned clockwise, as LibRaw marks one without a mark of its own."""
    file, mark = BytesIO(), Image.Exif()
    mark[274] = 6
    Image.new("RGB", (24, 16), colour).save(file, "JPEG", exif=mark)
    return file.getvalue()


@pytest.mark.parametrize(
    ("preview", "shown"),
    [
        (SimpleNamespace(format=rawpy.ThumbFormat.JPEG, data=jpeg((200, 100, 50))), (200, 100, 50)),
        (SimpleNamespace(format=rawpy.ThumbFormat.BITMAP, data=np.full((16, 24, 3), 77, np.uint8)), (77, 77, 77)),
        (SimpleNamespace(format=rawpy.ThumbFormat.JPEG, data=b"torn"), None),
        (None, None),
    ],
    ids=["jpeg", "bitmap", "torn", "none"],
)
def test_what_libraw_cannot_develop_is_compared_with_its_preview_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, preview: SimpleNamespace | None, shown: tuple[int, int, int] | None
) -> None:
    def postprocess(**_: object) -> None:
        raise rawpy.LibRawDataError(b"Data error")

    def extract_thumb() -> SimpleNamespace:
        if preview is None:
            raise rawpy.LibRawNoThumbnailError(b"No thumbnail in file")
        return preview

    raw = SimpleNamespace(postprocess=postprocess, extract_thumb=extract_thumb, sizes=SimpleNamespace(flip=6))
    monkeypatch.setattr(rawpy, "imread", lambda _: nullcontext(raw))
    reference = read_reference(signed(tmp_path / "camera.nef"))
    if shown is None:
        assert reference is None
        return
    assert reference is not None
    assert reference.made_by == "embedded preview"
    assert reference.rgb.shape == (24, 16, 3)
    assert np.abs(reference.rgb.reshape(-1, 3).mean(0) - shown).max() < 3


# What is none


def quad(path: Path) -> str:
    Camera(QUAD).write(path, noise(32, 48))
    return "as of a Quad-Bayer sensor"


def xtrans(path: Path) -> str:
    Camera(XTRANS).write(path, noise(24, 24))
    return "the mosaic of an X-Trans sensor"


def cut_short(path: Path) -> str:
    truncate(Camera().write(path, noise(64, 64)), keep=0.9)
    return "is damaged"


def empty(path: Path) -> str:
    path.write_bytes(b"")
    return "is damaged"


def a_photo(path: Path) -> str:
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path, "JPEG")
    return "is neither a mosaic as 16-bit grey PNG nor a camera's RAW file"


def black_above_white(path: Path) -> str:
    Camera(black=(1023,) * 4, white=1000).write(path, noise(32, 48))
    return "is not above its black level"


@pytest.mark.parametrize("spoil", [quad, xtrans, cut_short, empty, a_photo, black_above_white])
def test_a_cameras_raw_that_cannot_be_used_is_one_sentence_that_names_it(
    tmp_path: Path, spoil: Callable[[Path], str], capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "photo.dng"
    says = spoil(path)
    with pytest.raises(DataError) as refused:
        read_mosaic(path, FMT)
    assert says in str(refused.value)
    assert str(path) in str(refused.value)
    assert capfd.readouterr().err == "", "LibRaw wrote over the terminal"


def colour(path: Path) -> str:
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path)
    return "is a colour image"


def of_8_bits(path: Path) -> str:
    Image.fromarray(np.full((8, 8), 255, np.uint8)).save(path)
    return "8-bit"


def torn(path: Path) -> str:
    truncate(write_mosaic(path, noise(64, 64)))
    return "is damaged"


def above_white(path: Path) -> str:
    write_mosaic(path, noise(8, 8, high=2000))
    return "needs 11 bits"


@pytest.mark.parametrize("spoil", [colour, of_8_bits, torn, above_white])
def test_a_png_that_is_no_mosaic_is_one_sentence_that_names_it(tmp_path: Path, spoil: Callable[[Path], str]) -> None:
    path = tmp_path / "mosaic.png"
    says = spoil(path)
    with pytest.raises(DataError, match="mosaic\\.png") as refused:
        read_mosaic(path, FMT)
    assert says in str(refused.value)


# Files without a header


def packed_mipi(mosaic: np.ndarray, *, values: int, bits: int) -> bytes:
    """Pack as MIPI does, value by value."""
    packed = bytearray()
    for row in mosaic:
        for at in range(0, len(row), values):
            group = [int(value) for value in row[at : at + values]]
            packed += bytes(value >> bits for value in group)
            packed.append(sum((value & (2**bits - 1)) << (bits * place) for place, value in enumerate(group)))
    return bytes(packed)


DUMPS: dict[str, tuple[int, Callable[[np.ndarray], bytes]]] = {
    "u16le": (10, lambda m: m.astype("<u2").tobytes()),
    "u16be": (10, lambda m: m.astype(">u2").tobytes()),
    "mipi10": (10, lambda m: packed_mipi(m, values=4, bits=2)),
    "mipi12": (12, lambda m: packed_mipi(m, values=2, bits=4)),
}


@pytest.mark.parametrize("storage", DUMPS)
def test_a_dump_is_read_as_it_is_said_to_be_stored(tmp_path: Path, storage: str) -> None:
    bits, stored = DUMPS[storage]
    mosaic = noise(30, 48, low=0, high=2**bits - 1)
    path = tmp_path / "frame.raw"
    path.write_bytes(stored(mosaic))
    decoded = read_mosaic(path, RawFormat(bits=bits, pattern="GBRG"), dump=RawDump(30, 48, storage))
    np.testing.assert_array_equal(decoded.values, mosaic)
    assert (decoded.pattern, decoded.white) == ("GBRG", 2**bits - 1)


@pytest.mark.parametrize("size", [(1080, 1920), (3024, 4032), (30, 48), (1, 1)])
def test_what_has_no_signature_is_refused_whatever_its_size(tmp_path: Path, size: tuple[int, int]) -> None:
    path = tmp_path / "frame.raw"
    path.write_bytes(np.arange(size[0] * size[1], dtype=np.uint16).tobytes())
    with pytest.raises(DataError, match=r"without a header .* give --size"):
        read_mosaic(path, FMT)


def test_a_dump_of_another_length_is_refused(tmp_path: Path) -> None:
    (tmp_path / "frame.raw").write_bytes(bytes(100))
    with pytest.raises(DataError, match="are 1920; check --size"):
        read_mosaic(tmp_path / "frame.raw", FMT, dump=RawDump(20, 48))


@pytest.mark.parametrize(
    ("size", "storage", "said"),
    [
        ((96, 144), "u16le", None),
        ((144, 96), "u16le", "rows of 96 px do not follow each other"),
        ((96, 144), "u16be", "try --storage u16le"),
    ],
)
def test_a_dump_that_was_read_otherwise_than_stored_is_doubted(
    tmp_path: Path, size: tuple[int, int], storage: str, said: str | None
) -> None:
    scene = draw_scene(2)[:96, :144]
    (tmp_path / "frame.raw").write_bytes(capture(scene, FMT, seed=1).astype("<u2").tobytes())
    mosaic = read_mosaic(tmp_path / "frame.raw", RawFormat(bits=16), dump=RawDump(*size, storage))
    assert (said is None) == (not mosaic.notes)
    assert said is None or said in mosaic.notes[0]


@pytest.mark.parametrize("wrong", [(0, 4, "u16le"), (10**6, 10**6, "u16le"), (4, 6, "mipi10"), (4, 4, "mipi14")])
def test_a_dump_that_cannot_be_is_refused(wrong: tuple[int, int, str]) -> None:
    with pytest.raises(UsageError):
        RawDump(*wrong)


# What LibRaw does not tell


def bayer_scene(pattern: str = "RGGB", side: int = 128) -> np.ndarray:
    """Return a mosaic of a grey ramp by a sensor that sees half as much red as green, and less blue."""
    seen = {"R": 0.5, "G": 1.0, "B": 0.35}
    light = np.linspace(100, 800, side)[:, None] + np.random.default_rng(0).normal(0, 8, (side, side))
    gains = np.tile(np.array([seen[letter] for letter in pattern]).reshape(2, 2), (side // 2, side // 2))
    return (64 + light * gains).astype(np.uint16)


def test_a_quad_bayer_mosaic_under_a_bayer_label_is_refused(tmp_path: Path) -> None:
    mosaic = bayer_scene()
    quad = mosaic.copy()
    for row, column in product(range(4), repeat=2):
        quad[row::4, column::4] = mosaic[row // 2 + 2 * (row % 2) :: 4, column // 2 + 2 * (column % 2) :: 4]
    path = Camera().write(tmp_path / "quad.dng", quad)
    with pytest.raises(DataError, match="repeat every 4 px, as of a Quad-Bayer sensor, under the label RGGB"):
        read_mosaic(path, FMT)
    assert read_mosaic(Camera().write(tmp_path / "bayer.dng", mosaic), FMT).notes == ()


def test_a_label_with_red_and_blue_exchanged_is_doubted_where_the_white_balance_tells(tmp_path: Path) -> None:
    """Light of which the camera says what it balances: red is weak in it, blue strong."""
    rng = np.random.default_rng(0)
    mosaic = rng.integers(390, 410, (64, 64)).astype(np.uint16)
    mosaic[::2, ::2] = rng.integers(190, 210, (32, 32))  # red
    mosaic[1::2, 1::2] = rng.integers(290, 310, (32, 32))
    balance = (3, 1, 2)
    whole = read_mosaic(Camera("RGGB", black=(0,) * 4, white_balance=balance).write(tmp_path / "a.dng", mosaic), FMT)
    wrong = read_mosaic(Camera("BGGR", black=(0,) * 4, white_balance=balance).write(tmp_path / "b.dng", mosaic), FMT)
    assert whole.notes == ()
    assert "near it as RGGB" in wrong.notes[0]


def test_a_label_that_has_the_greens_elsewhere_is_doubted_and_can_be_overridden(tmp_path: Path) -> None:
    path = Camera("GRBG").write(tmp_path / "wrong.dng", bayer_scene("RGGB"))
    assert "its greens are not where GRBG has them" in read_mosaic(path, FMT).notes[0]
    mosaic = read_mosaic(path, FMT, pattern="RGGB")
    assert (mosaic.pattern, mosaic.notes) == ("RGGB", ("the file says GRBG, read as RGGB",))


# Finding them


def test_folders_are_walked_and_targets_of_pairs_are_no_raw(tmp_path: Path) -> None:
    shown = ["b.dng", "test/mediatek_raw/1.png", "test/mediatek_raw/10.png", "walk/A.NEF"]
    hidden = ["test/fujifilm/1.png", "notes.txt", ".cache/c.dng", "walk/._A.NEF", "preview.jpg"]
    for name in (*shown, *hidden):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [str(path.relative_to(tmp_path)) for path in find_raw_files(tmp_path)] == shown
    assert find_raw_files(tmp_path / "preview.jpg") == [tmp_path / "preview.jpg"], "a file that is named is tried"


def test_a_sensor_that_rawpy_does_not_know_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Unknown:
        @property
        def raw_pattern(self) -> None:
            raise NotImplementedError("filters: 42")

    monkeypatch.setattr(rawpy, "imread", lambda _: nullcontext(Unknown()))
    with pytest.raises(DataError, match="filters of another kind"):
        read_mosaic(signed(tmp_path / "camera.nef"), FMT)


def test_nothing_to_find_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No RAW files in"):
        find_raw_files(tmp_path)
    with pytest.raises(DataError, match=r"No RAW file or folder at .*; check the path"):
        find_raw_files(tmp_path / "nowhere")


def test_the_target_beside_a_mosaic_of_pairs_is_its_reference(tiny_pairs: Path, tmp_path: Path) -> None:
    reference = read_reference(tiny_pairs / "test" / "mediatek_raw" / "0.png")
    assert reference is not None
    assert reference.made_by == "target"
    with Image.open(tiny_pairs / "test" / "fujifilm" / "0.png") as target:
        np.testing.assert_array_equal(reference.rgb, np.asarray(target))
    alone = shutil.copy(tiny_pairs / "test" / "mediatek_raw" / "0.png", tmp_path / "alone.png")
    assert read_reference(Path(alone)) is None


@pytest.mark.skipif(not REAL_PAIRS.is_dir(), reason="needs the public pairs of real sensors beside the repository")
def test_real_mosaics_are_read_as_they_are() -> None:
    for path in find_raw_files(REAL_PAIRS / "val")[:5]:
        mosaic = read_mosaic(path, FMT)
        assert mosaic.values.shape == (256, 256)
        assert (mosaic.pattern, mosaic.levels) == ("RGGB", "0–1023")
