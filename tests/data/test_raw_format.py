import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.data.raw_format import PACKINGS, PATTERNS, RawFormat, pack, unpack
from search_spaces.errors import UnknownNameError, UsageError

formats = st.builds(RawFormat, pattern=st.sampled_from(PATTERNS), packing=st.sampled_from(sorted(PACKINGS)))


def test_challenge_packing_of_rggb_is_that_of_the_challenge_code() -> None:
    # load_dataset.py: R = raw[0::2, 0::2], "Gb" = raw[0::2, 1::2], "Gr" = raw[1::2, 0::2], B = raw[1::2, 1::2],
    # stacked as B, "Gb", R, "Gr".
    assert RawFormat().offsets() == ((1, 1), (0, 1), (0, 0), (1, 0))


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("RGGB", ((0, 0), (0, 1), (1, 0), (1, 1))),
        ("BGGR", ((1, 1), (1, 0), (0, 1), (0, 0))),
        ("GRBG", ((0, 1), (0, 0), (1, 1), (1, 0))),
        ("GBRG", ((1, 0), (1, 1), (0, 0), (0, 1))),
    ],
)
def test_rggb_packing_orders_colours_under_every_pattern(pattern: str, expected: tuple[tuple[int, int], ...]) -> None:
    assert RawFormat(pattern=pattern, packing="rggb").offsets() == expected


@given(formats)
def test_a_packed_channel_holds_one_colour(fmt: RawFormat) -> None:
    colours = np.tile(np.array(fmt.tile()), (3, 2))
    packed = pack(colours, fmt)
    wanted = {"red": 0, "g_red": 1, "g_blue": 1, "blue": 2}
    assert (packed == [wanted[name] for name in PACKINGS[fmt.packing]]).all()


@given(formats, st.integers(1, 4), st.integers(1, 5), st.integers(0, 3))
def test_unpack_inverts_pack_and_keeps_the_type(fmt: RawFormat, rows: int, columns: int, count: int) -> None:
    mosaic = np.arange(count * rows * columns * 4, dtype=np.uint16).reshape(count, 2 * rows, 2 * columns)
    packed = pack(mosaic, fmt)
    assert packed.shape == (count, rows, columns, 4)
    assert packed.dtype == np.uint16
    np.testing.assert_array_equal(unpack(packed, fmt), mosaic)


def test_an_odd_mosaic_is_not_packed() -> None:
    with pytest.raises(UsageError, match="A mosaic of 3×4 has an odd side"):
        pack(np.zeros((3, 4), np.uint16), RawFormat())


def test_white_is_the_largest_value_unless_declared() -> None:
    assert RawFormat(bits=12).white_level == 4095
    assert RawFormat(bits=12, white=4000).white_level == 4000


@pytest.mark.parametrize(
    ("fmt", "said"),
    [
        (RawFormat(bits=8), "Raw values have 9 to 16 bits, got 8"),
        (RawFormat(bits=17), "got 17"),
        (RawFormat(black=500, white=400), "got black 500 and white 400"),
        (RawFormat(white=1024), "white ≤ 1023"),
        (RawFormat(black=-1), "0 ≤ black"),
    ],
)
def test_nonsense_is_refused(fmt: RawFormat, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        fmt.validate()


def test_a_misspelt_pattern_or_packing_gets_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match='Did you mean "RGGB"'):
        RawFormat(pattern="RGBG").validate()
    with pytest.raises(UnknownNameError, match='Did you mean "challenge"'):
        RawFormat(packing="chalenge").validate()


@given(formats)
def test_every_known_format_is_valid(fmt: RawFormat) -> None:
    fmt.validate()
