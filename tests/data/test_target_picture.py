"""A target reaches the pairs in sRGB, or it is told what was assumed of it; 16 bits are rounded, never cut."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from colour_profiles import ADOBE, CAMERAS, SRGB, SRGB_TABLE, gamma, grey_profile, profile, table
from PIL import Image

from nas.data.decode import read_rgb
from nas.data.make.colour_profile import colours_of, narrowed
from nas.data.make.target_picture import read_picture
from search_spaces.errors import DataError

WHOLE = 65535
EIGHT = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
SIXTEEN = np.random.default_rng(1).integers(0, WHOLE + 1, (24, 40, 3), dtype=np.uint16)
GREYS = np.repeat(np.linspace(0, 255, 40).astype(np.uint8)[None, :, None], 24, axis=0).repeat(3, axis=2)
LOSSLESS = {"quality": 100, "subsampling": 0}
EXIF, COLOUR_SPACE, INTEROPERABILITY, ORIENTATION = 0x8769, 0xA001, 0xA005, 274


def exif(space: int, index: str | None = None) -> Image.Exif:
    tags = Image.Exif()
    tags[EXIF] = {COLOUR_SPACE: space} | ({} if index is None else {INTEROPERABILITY: {1: index}})
    return tags


def through_the_formula(pixels: np.ndarray, exponent: float, matrix: np.ndarray) -> np.ndarray:
    """Convert values from 0 to 1 of a space of one power to sRGB, by the definition of IEC 61966-2-1."""
    light = np.clip(pixels**exponent @ (np.linalg.inv(np.array(SRGB).T) @ matrix).T, 0, 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


# Profiles


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
@pytest.mark.parametrize("name", ["Adobe RGB (1998)", "Display P3", "ProPhoto RGB"])
def test_a_picture_of_another_profile_is_converted_and_that_is_said(tmp_path: Path, name: str, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(EIGHT).save(path, icc_profile=CAMERAS[name], **(LOSSLESS if suffix == "jpg" else {}))
    picture = read_picture(path)
    assert picture.colours == f"{name}, converted to sRGB"
    assert picture.notes == (f"the colours of the target were converted from {name} to sRGB",)
    assert np.abs(picture.pixels.astype(int) - EIGHT).max() > 50


def marked(path: Path, primaries: int, transfer: int) -> Path:
    """Write a PNG whose mark cICP, which Pillow cannot write, says so."""
    Image.fromarray(EIGHT).save(path)
    whole, colours = path.read_bytes(), b"cICP" + bytes([primaries, transfer, 0, 1])
    chunk = struct.pack(">I", 4) + colours + struct.pack(">I", zlib.crc32(colours))
    path.write_bytes(whole[:33] + chunk + whole[33:])  # behind the header
    return path


def test_a_png_says_by_cicp_which_colours_it_has(tmp_path: Path) -> None:
    Image.fromarray(EIGHT).save(tmp_path / "p3.png", icc_profile=CAMERAS["Display P3"])
    picture = read_picture(marked(tmp_path / "a.png", 12, 13))
    assert picture.colours == "Display P3 by cICP, converted to sRGB"
    assert np.abs(picture.pixels.astype(int) - read_picture(tmp_path / "p3.png").pixels).max() <= 1
    assert read_picture(marked(tmp_path / "b.png", 1, 13)).colours == "sRGB"
    assert "primaries 9, transfer 16" in read_picture(marked(tmp_path / "c.png", 9, 16)).notes[0]


def test_adobe_rgb_is_converted_as_its_definition_says(tmp_path: Path) -> None:
    Image.fromarray(EIGHT).save(tmp_path / "a.png", icc_profile=CAMERAS["Adobe RGB (1998)"])
    wanted = 255 * through_the_formula(EIGHT / 255, 563 / 256, np.array(ADOBE).T)
    assert np.abs(read_picture(tmp_path / "a.png").pixels - wanted).max() <= 1.5


@pytest.mark.parametrize("name", CAMERAS)
def test_16_bits_are_converted_at_full_precision_as_little_cms_converts_8(tmp_path: Path, name: str) -> None:
    Image.fromarray(EIGHT).save(tmp_path / "a.png", icc_profile=CAMERAS[name])
    with Image.open(tmp_path / "a.png") as image:
        sixteen = colours_of(image).to_srgb_of_16_bits(EIGHT.astype(np.uint16) * 257)
    assert sixteen.dtype == np.uint16
    assert np.abs(narrowed(sixteen).astype(int) - read_picture(tmp_path / "a.png").pixels).max() <= 1


def test_shades_between_two_levels_of_8_bits_stay_apart(tmp_path: Path) -> None:
    """ProPhoto's steps of 8 bits are wide: narrowed first, 257 shades would become 2."""
    shades = np.repeat(np.arange(30_000, 30_257, dtype=np.uint16).reshape(1, -1, 1), 3, axis=2).repeat(4, axis=0)
    tifffile.imwrite(tmp_path / "a.tif", shades, photometric="rgb", iccprofile=CAMERAS["ProPhoto RGB"])
    assert len(np.unique(read_picture(tmp_path / "a.tif").pixels[..., 0])) > 200


@pytest.mark.parametrize("curve", [SRGB_TABLE, gamma(2.2)], ids=["its own curve", "gamma 2.2"])
def test_srgb_by_another_maker_is_left_as_it_is_only_where_it_is_srgb(tmp_path: Path, curve: bytes) -> None:
    Image.fromarray(EIGHT).save(tmp_path / "a.png", icc_profile=profile("sRGB", SRGB, curve))
    picture = read_picture(tmp_path / "a.png")
    assert (picture.colours == "sRGB") == (curve == SRGB_TABLE) == bool((picture.pixels == EIGHT).all())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (CAMERAS["Display P3"][:200], "is damaged"),
        (b"no profile at all", "is damaged"),
        (profile("inverted", ADOBE, table(np.array([1.0, 0.0]))), "is damaged"),
        (grey_profile(), "is one of GRAY, and the picture is RGB"),
    ],
    ids=["cut", "junk", "makes white black", "of greys"],
)
def test_a_profile_that_cannot_be_used_is_told(tmp_path: Path, content: bytes, said: str) -> None:
    Image.fromarray(EIGHT).save(tmp_path / "a.png", icc_profile=content)
    picture = read_picture(tmp_path / "a.png")
    assert picture.colours == "profile not usable, taken for sRGB"
    assert said in picture.notes[0]
    np.testing.assert_array_equal(picture.pixels, EIGHT)


@pytest.mark.parametrize(
    ("tags", "colours", "said"),
    [
        (exif(1), "sRGB", None),
        (exif(0xFFFF, "R03"), "Adobe RGB by EXIF, converted to sRGB", "from Adobe RGB, which its EXIF names"),
        (exif(2), "Adobe RGB by EXIF, converted to sRGB", "from Adobe RGB, which its EXIF names"),
        (exif(0xFFFF), "uncalibrated by EXIF, taken for sRGB", "are uncalibrated"),
        (None, "not told, taken for sRGB", "does not say which colours"),
    ],
)
def test_exif_says_which_colours_a_picture_without_a_profile_has(
    tmp_path: Path, tags: Image.Exif | None, colours: str, said: str | None
) -> None:
    Image.fromarray(GREYS).save(tmp_path / "a.jpg", exif=tags or b"", **LOSSLESS)
    picture = read_picture(tmp_path / "a.jpg")
    assert picture.colours == colours
    assert [said in note for note in picture.notes] == ([] if said is None else [True])
    wanted = GREYS
    if "Adobe" in colours:
        wanted = 255 * through_the_formula(GREYS / 255, 563 / 256, np.array(ADOBE).T)
    assert np.abs(picture.pixels - wanted.astype(float)).max() <= 1.5


def png(pixels: np.ndarray, *chunks: tuple[bytes, bytes], kind: int = 2) -> bytes:
    """A PNG of 16 bits with chunks of one's own; kind 2 is RGB."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    size = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, kind, 0, 0, 0)
    every = [(b"IHDR", size), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in every)


@pytest.mark.parametrize(
    ("name", "content", "colours"),
    [
        (b"sRGB", b"\0", "sRGB"),
        (b"gAMA", struct.pack(">I", 45455), "sRGB"),
        (b"gAMA", struct.pack(">I", 100000), "other by PNG marks, taken for sRGB"),
        (b"iCCP", b"x\0\0damaged", "profile not usable, taken for sRGB"),
    ],
)
def test_the_marks_of_a_png_are_heeded(tmp_path: Path, name: bytes, content: bytes, colours: str) -> None:
    (tmp_path / "a.png").write_bytes(png(SIXTEEN, (name, content)))
    picture = read_picture(tmp_path / "a.png")
    assert picture.colours == colours
    assert len(picture.notes) == (1 if colours == "sRGB" else 2)  # that it was rounded, and of its colours


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "CMYK without a profile"), (CAMERAS["Display P3"], "is one of RGB, and the picture is CMYK")],
)
def test_inks_without_a_profile_of_their_own_are_told(tmp_path: Path, content: bytes | None, said: str) -> None:
    Image.fromarray(EIGHT).convert("CMYK").save(tmp_path / "a.jpg", icc_profile=content, quality=100)
    [note] = read_picture(tmp_path / "a.jpg").notes
    assert said in note


# 16 bits


def planes(pixels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(pixels, -1, 0))


def with_alpha(opacity: int) -> np.ndarray:
    return np.dstack([SIXTEEN, np.full(SIXTEEN.shape[:2], opacity, np.uint16)])


def tiff(pixels: np.ndarray, **options: object) -> Callable[[Path], None]:
    return lambda path: tifffile.imwrite(path, pixels, photometric="rgb", metadata=None, **options)


@pytest.mark.parametrize(
    "write",
    [
        tiff(SIXTEEN),
        tiff(SIXTEEN, byteorder=">"),
        tiff(SIXTEEN, compression="zlib", predictor=True),
        tiff(SIXTEEN, tile=(16, 16)),
        tiff(planes(SIXTEEN), planarconfig="separate"),
        tiff(planes(SIXTEEN), planarconfig="separate", byteorder=">"),
        tiff(planes(with_alpha(WHOLE)), planarconfig="separate", extrasamples=["unassalpha"]),
        tiff(with_alpha(WHOLE), extrasamples=["unassalpha"]),
        lambda path: path.write_bytes(png(SIXTEEN)),
        lambda path: path.write_bytes(png(with_alpha(WHOLE), kind=6)),
    ],
)
def test_16_bits_arrive_whatever_way_they_are_stored(tmp_path: Path, write: Callable[[Path], None]) -> None:
    write(tmp_path / "a.tif")
    picture = read_picture(tmp_path / "a.tif")
    np.testing.assert_array_equal(picture.pixels, SIXTEEN)
    assert picture.bits == 16
    assert any("rounded to the 8 bits" in note for note in picture.notes)
    assert not any("transparent" in note for note in picture.notes)


def test_every_value_of_16_bits_is_rounded_to_the_nearest_of_8() -> None:
    values = np.arange(WHOLE + 1, dtype=np.uint16).reshape(256, 256)
    np.testing.assert_array_equal(narrowed(values), np.rint(values / 257))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["png", "interleaved", "planar"])
def test_16_bits_are_turned_as_8_bits_are(tmp_path: Path, kind: str, orientation: int) -> None:
    tags = Image.Exif()
    tags[ORIENTATION] = orientation
    Image.fromarray(narrowed(SIXTEEN)).save(tmp_path / "8.png", exif=tags)
    path = tmp_path / "16.tif"
    if kind == "png":
        path.write_bytes(png(SIXTEEN, (b"eXIf", tags.tobytes().removeprefix(b"Exif\0\0"))))
    else:
        options = {"extratags": [(ORIENTATION, 3, 1, orientation, True)]}
        pixels = planes(SIXTEEN) if kind == "planar" else SIXTEEN
        tiff(pixels, planarconfig="separate" if kind == "planar" else "contig", **options)(path)
    np.testing.assert_array_equal(narrowed(read_picture(path).pixels), read_picture(tmp_path / "8.png").pixels)


@pytest.mark.parametrize("bits", [8, 16])
def test_transparency_is_told(tmp_path: Path, bits: int) -> None:
    if bits == 16:
        (tmp_path / "a.png").write_bytes(png(with_alpha(7), kind=6))
    else:
        Image.fromarray(np.dstack([EIGHT, EIGHT[..., :1]])).save(tmp_path / "a.png")
    picture = read_picture(tmp_path / "a.png")
    assert any("transparent in places" in note for note in picture.notes)
    np.testing.assert_array_equal(picture.pixels, EIGHT if bits == 8 else SIXTEEN)


def test_12_bits_in_the_lower_ones_of_16_are_no_dark_photograph(tmp_path: Path) -> None:
    tiff(SIXTEEN >> 4)(tmp_path / "a.tif")
    with pytest.raises(DataError, match=r"is 4095 of 65535, .*scale its values"):
        read_picture(tmp_path / "a.tif")


@pytest.mark.parametrize("cut", [1000, 3000])
@pytest.mark.parametrize("config", ["contig", "separate"])
def test_half_a_picture_of_16_bits_is_refused(tmp_path: Path, config: str, cut: int) -> None:
    path = tmp_path / "a.tif"
    tiff(planes(SIXTEEN) if config == "separate" else SIXTEEN, planarconfig=config)(path)
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(DataError, match="damaged"):
        read_picture(path)


def _cut(content: bytes) -> bytes:
    return content[: len(content) * 4 // 5] + content[-2:]


def _zeroed(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes(80) + content[middle + 80 :]


@pytest.mark.parametrize("kind", [{}, {"progressive": True}, {"restart_marker_rows": 1}], ids=str)
@pytest.mark.parametrize("damage", [_cut, _zeroed])
def test_a_jpeg_that_the_decoder_would_fill_up_is_refused(
    tmp_path: Path, damage: Callable[[bytes], bytes], kind: dict[str, object]
) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(EIGHT).save(path, quality=92, **kind)
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    for read in (read_picture, read_rgb):
        with pytest.raises(DataError, match="JPEG"):
            read(path)
    path.write_bytes(whole[:-2] + bytes(900) + whole[-2:] + b"a depth map")  # as phones pad them
    assert read_rgb(path).shape == EIGHT.shape


def test_greys_are_no_photograph_in_colour(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), SIXTEEN[..., 0])
    with pytest.raises(DataError, match="in colour of 8 or 16 bits"):
        read_picture(tmp_path / "a.png")
