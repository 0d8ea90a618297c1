"""A PNG whose data end too soon is damaged: decoders leave its last rows black and say nothing."""

import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from flow import in_process, refusal
from PIL import Image

from nas.data.decode import read_raw, read_rgb
from nas.data.picture_file import _ADAM7, open_picture
from search_spaces.errors import DataError


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(image: np.ndarray, rows: int, *, chunks: int = 1, interlaced: bool = False) -> bytes:
    """Write a picture whose header tells of so many rows."""
    width = image.shape[1]
    bits = 8 * image.dtype.itemsize
    header = struct.pack(">IIBBBBB", width, rows, bits, 2 if image.ndim == 3 else 0, 0, 0, int(interlaced))
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    stored = image.astype(image.dtype.newbyteorder(">"))
    parts = (stored[r::dr, c::dc] for r, c, dr, dc in passes)
    lines = (b"\0" + line.tobytes() for part in parts if part.size for line in part)
    data = zlib.compress(b"".join(lines))
    pieces = [data[at : at + -(-len(data) // chunks)] for at in range(0, len(data), -(-len(data) // chunks))]
    body = b"".join(chunk(b"IDAT", part) for part in pieces)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


@pytest.fixture
def pictures() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 1023, (32, 32), np.uint16), rng.integers(0, 255, (32, 32, 3), np.uint8)


@pytest.mark.parametrize("rows", [34, 64, 100_000])
def test_a_mosaic_and_a_target_that_lack_rows_are_damaged(
    pictures: tuple[np.ndarray, np.ndarray], tmp_path: Path, rows: int
) -> None:
    for image, read in zip(pictures, (read_raw, read_rgb), strict=True):
        path = tmp_path / "short.png"
        path.write_bytes(png(image, rows))
        with pytest.raises(DataError, match=r"short\.png\" is damaged \(its data end after \d+ of \d+ bytes\)"):
            read(path)


@pytest.mark.parametrize("interlaced", [False, True], ids=["plain", "interlaced"])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (32, 31), (9, 40)])
def test_whole_ones_are_read_however_they_are_stored(size: tuple[int, int], interlaced: bool, tmp_path: Path) -> None:
    image = np.random.default_rng(1).integers(0, 255, (*size, 3), np.uint8)
    path = tmp_path / "whole.png"
    path.write_bytes(png(image, size[0], chunks=3, interlaced=interlaced))
    with open_picture(path) as opened:
        np.testing.assert_array_equal(np.asarray(opened), image)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA"])
def test_every_kind_of_colours_is_known(mode: str, tmp_path: Path) -> None:
    image = Image.fromarray(np.random.default_rng(2).integers(0, 255, (7, 13, 3), np.uint8)).convert(mode)
    image.save(tmp_path / "a.png")
    with open_picture(tmp_path / "a.png") as opened:
        opened.load()


def test_a_search_is_refused_before_it_begins(tiny_pairs: Path, tmp_path: Path) -> None:
    pairs = Path(shutil.copytree(tiny_pairs, tmp_path / "pairs"))
    path = next((pairs / "val" / "mediatek_raw").iterdir())
    mosaic = np.asarray(Image.open(path))
    path.write_bytes(png(mosaic, 2 * len(mosaic)))
    sentence = refusal(in_process("search", "--data", pairs, "--budget", "1", "--results", tmp_path / "results"))
    assert "is damaged (its data end after" in sentence
