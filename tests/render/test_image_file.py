"""Pictures are stored as what they are: clipped, rounded, in the bits that were asked for."""

from io import BytesIO

import numpy as np
import png
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from nas.render.image_file import FileKind, encode, side_by_side, to_integers
from search_spaces.errors import UsageError


@pytest.mark.parametrize("bits", [8, 16])
@given(
    x=hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=3, max_dims=3, max_side=70).map(lambda s: (*s[:2], 3)),
        elements=st.floats(-3, 3, width=32),
    )
)
def test_numbers_are_clipped_and_rounded_to_the_nearest(bits: int, x: np.ndarray) -> None:
    white = 2**bits - 1
    whole = to_integers(x, bits)
    assert whole.dtype == (np.uint8 if bits == 8 else np.uint16)
    np.testing.assert_allclose(whole / white, np.clip(x, 0, 1), atol=0.51 / white)


@pytest.mark.parametrize("kind", [FileKind(8), FileKind(16)])
def test_a_png_holds_every_value(kind: FileKind) -> None:
    picture = to_integers(np.random.default_rng(0).random((20, 31, 3), np.float32), kind.bits)
    width, height, rows, info = png.Reader(bytes=encode(picture, kind)).read()
    assert (width, height, info["bitdepth"], info["planes"]) == (31, 20, kind.bits, 3)
    np.testing.assert_array_equal(np.vstack(list(rows)).reshape(20, 31, 3), picture)


def test_a_jpeg_of_higher_quality_is_nearer_to_the_picture() -> None:
    y, x = np.mgrid[:64, :64] / 64
    picture = to_integers(np.stack([y, x, (y + x) / 2], -1).astype(np.float32), 8)
    differences = []
    for quality in (30, 95):
        with Image.open(BytesIO(encode(picture, FileKind(8, quality)))) as image:
            assert image.format == "JPEG"
            differences.append(np.abs(np.asarray(image).astype(int) - picture).mean())
    assert differences[1] < differences[0]
    assert differences[1] < 1


@pytest.mark.parametrize(
    ("bits", "quality", "says"),
    [(12, None, "8 or 16 bits"), (8, 0, "1 to 100"), (8, 101, "1 to 100"), (16, 90, "leave out --jpeg")],
)
def test_a_kind_of_file_that_is_none_is_refused(bits: int, quality: int | None, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        FileKind(bits, quality)


@pytest.mark.parametrize("size", [(40, 30), (500, 400), (5000, 100)])
def test_two_pictures_lie_side_by_side_under_their_labels(size: tuple[int, int]) -> None:
    red, blue = np.zeros((*size, 3), np.uint8), np.zeros((*size, 3), np.uint8)
    red[..., 0], blue[..., 2] = 255, 255
    with Image.open(BytesIO(side_by_side([("isp.tflite", red), ("camera", blue)]))) as image:
        sheet = np.asarray(image).astype(int)
    rows, columns = (int(side * min(1, 4096 / max(size))) for side in size)
    quarter = columns // 2
    assert abs(sheet[-rows // 2, quarter] - [255, 0, 0]).max() < 8
    assert abs(sheet[-rows // 2, -quarter] - [0, 0, 255]).max() < 8
    labels = sheet[: sheet.shape[0] - rows]
    for half in (labels[:, :columns], labels[:, -columns:]):
        assert half.min() < 100, "no label"
        assert half.max() > 200
