"""A DNG with a part missing, or stored as nobody here reads it, is refused before LibRaw makes something up."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from dng import Camera, noise

from nas.data.camera_raw import read_mosaic
from nas.data.dng import DngMosaic, Tile, mosaics, require_whole
from nas.data.raw_format import RawFormat
from search_spaces.errors import DataError

CASES = Path(__file__).parents[3] / "shared" / "cases"
FMT = RawFormat()
BITS_PER_SAMPLE = 258
COMPRESSION, STRIP_OFFSETS, STRIP_BYTE_COUNTS, SAMPLE_FORMAT = 259, 273, 279, 339


def dng(path: Path) -> Path:
    return Camera().write(path, noise(64, 64))


def patched(path: Path, code: int, value: int) -> Path:
    """Write another value into a tag of one number."""
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages[0].tags[code].overwrite(value)  # type: ignore[union-attr]
    return path


def test_a_whole_dng_is_whole(tmp_path: Path) -> None:
    path = dng(tmp_path / "a.dng")
    require_whole(path)
    (mosaic,) = mosaics(path)
    assert (mosaic.compression, mosaic.wanted_tiles, mosaic.tiles[0].unpacked) == (1, 1, 64 * 64 * 2)


@pytest.mark.parametrize(
    ("compression", "name"),
    [(8, "deflate"), (9, "VC-5"), (34892, "lossy JPEG"), (52546, "JPEG XL"), (12345, "an unknown method")],
)
def test_a_compression_that_is_not_read_is_named(tmp_path: Path, compression: int, name: str) -> None:
    path = patched(dng(tmp_path / "a.dng"), COMPRESSION, compression)
    with pytest.raises(DataError, match=rf"compressed by {name}.*\(TIFF compression {compression}\)"):
        read_mosaic(path, FMT)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.int16])
def test_floating_point_and_signed_numbers_are_refused(tmp_path: Path, kind: type) -> None:
    path = Camera().write(tmp_path / "a.dng", noise(64, 64).astype(kind))
    with pytest.raises(DataError, match="floating point or signed"):
        read_mosaic(path, FMT)


@pytest.mark.parametrize(
    ("code", "value"),
    [(STRIP_BYTE_COUNTS, 0), (STRIP_BYTE_COUNTS, 100), (STRIP_OFFSETS, 10**6), (STRIP_OFFSETS, 0)],
)
def test_a_strip_that_is_not_there_is_told(tmp_path: Path, code: int, value: int) -> None:
    path = patched(dng(tmp_path / "a.dng"), code, value)
    with pytest.raises(DataError, match="is damaged: tile 1"):
        read_mosaic(path, FMT)


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_a_strip_longer_than_its_samples_contradicts_their_bits(tmp_path: Path, bits: int) -> None:
    path = patched(dng(tmp_path / "a.dng"), BITS_PER_SAMPLE, bits)
    with pytest.raises(DataError, match=f"contradicts itself: tile 1 has 8192 bytes, and its pixels of {bits} bits"):
        read_mosaic(path, FMT)


def test_two_strips_in_one_place_are_told(tmp_path: Path) -> None:
    path = tmp_path / "a.dng"
    tags = [(50706, "B", 4, (1, 4, 0, 0), True), (33421, "H", 2, (2, 2), True), (33422, "B", 4, (0, 1, 1, 2), True)]
    tifffile.imwrite(path, noise(64, 64), photometric="cfa", rowsperstrip=16, extratags=tags)
    require_whole(path)
    with tifffile.TiffFile(path, mode="r+") as file:
        offsets = file.pages[0].tags[STRIP_OFFSETS]  # type: ignore[union-attr]
        offsets.overwrite((*offsets.value[:2], offsets.value[1] + 8, offsets.value[3]))
    with pytest.raises(DataError, match="is damaged: two of 4 tiles in one place"):
        require_whole(path)


def lossless(tiles: list[bytes]) -> tuple[bytes, DngMosaic]:
    content = b"".join([b"II*\0\0\0\0\0", *tiles])
    starts = np.cumsum([8, *map(len, tiles)])
    there = tuple(Tile(int(at), len(tile), 0) for at, tile in zip(starts, tiles, strict=False))
    return content, DngMosaic(7, 1, 16, there, len(tiles), (1, 1), has_black_deltas=False)


JPEG = b"\xff\xd8\xff\xc3\x00\x04\x00\x00\xff\xda\x00\x04\x00\x00" + bytes(range(1, 60)) + b"\xff\xd9"


@pytest.mark.parametrize(
    ("tile", "is_whole"),
    [
        (JPEG, True),
        (JPEG + b"\x00", True),
        (bytes(len(JPEG)), False),
        (JPEG[:-20], False),
        (JPEG[:30] + bytes(40), False),
        (b"\x00\x00" + JPEG[2:], False),
        (JPEG[:2] + b"\x12" + JPEG[3:], False),
        (JPEG + JPEG[:30], False),
    ],
    ids=["whole", "padded", "zeroed", "cut", "cut and filled", "no start", "no marker", "another behind"],
)
def test_every_tile_has_to_be_a_whole_jpeg(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tile: bytes, is_whole: bool
) -> None:
    content, mosaic = lossless([JPEG, tile, JPEG])
    (tmp_path / "a.dng").write_bytes(content)
    monkeypatch.setattr("nas.data.dng.mosaics", lambda _: iter([mosaic]))
    if is_whole:
        require_whole(tmp_path / "a.dng")
    else:
        with pytest.raises(DataError, match="tile 2 of 3 that is no whole JPEG"):
            require_whole(tmp_path / "a.dng")


def test_a_black_level_that_differs_within_a_colour_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = dng(tmp_path / "a.dng")
    other = DngMosaic(1, 1, 16, (Tile(0, 1, 1),), 1, (4, 4), has_black_deltas=False)
    monkeypatch.setattr("nas.data.dng.mosaics", lambda _: iter([other]))
    with pytest.raises(DataError, match="black level differs within a colour"):
        read_mosaic(path, FMT)


@pytest.mark.skipif(not CASES.is_dir(), reason="needs the collected cases beside the repository")
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("damaged-tiled-dng/b_cut_at_tile_2.dng", "is damaged: tile 3 of 4"),
        ("headerless-raw/frame_1920x1080_rggb_10bit.raw", "without a header"),
        ("quad-mislabelled/quad_labelled_2x2.dng", "Quad-Bayer"),
        ("quad-mislabelled/quad_labelled_4x4.dng", "Quad-Bayer"),
        ("unsupported-compression/jpegxl.dng", "JPEG XL"),
        ("unsupported-compression/vc5.dng", "VC-5"),
        ("unsupported-compression/lossyjpeg.dng", "lossy JPEG"),
        ("unsupported-compression/deflate.dng", "deflate"),
        ("unsupported-compression/float16.dng", "floating point"),
        ("unsupported-compression/float32.dng", "floating point"),
    ],
)
def test_the_collected_cases_are_refused_by_name(name: str, says: str) -> None:
    with pytest.raises(DataError) as refused:
        read_mosaic(CASES / name, FMT)
    assert says in str(refused.value)


@pytest.mark.skipif(not CASES.is_dir(), reason="needs the collected cases beside the repository")
def test_the_whole_ones_among_the_collected_cases_are_read() -> None:
    for name in (
        "damaged-tiled-dng/a_whole.dng",
        "quad-mislabelled/bayer.dng",
        "mirrored-orientation/orientation2.dng",
    ):
        assert read_mosaic(CASES / name, FMT).notes == ()
