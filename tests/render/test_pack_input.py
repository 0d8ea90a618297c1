"""A mosaic reaches the network as it was trained: colours in their channels, levels rescaled, the Bayer phase kept."""

import json
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.data.camera_raw import Mosaic
from nas.data.encodings import INPUT_BITS
from nas.data.raw_format import PACKINGS, PATTERNS, RawFormat, pack
from nas.render.pack_input import convert, packed, pad
from nas.tflite.input_contract import Contract, contract_of, read_contract
from search_spaces.errors import DataError, UsageError

SIDES = st.integers(1, 12)
# The value of a pixel of each filter, by which a mosaic tells its own pattern.
LEVEL = {"R": 100, "B": 300}
GREEN_BY_RED, GREEN_BY_BLUE = 200, 250


def coloured(pattern: str, rows: int, columns: int) -> np.ndarray:
    """A mosaic that holds one value for each of the four kinds of place."""
    tile = np.array([LEVEL.get(letter, 0) for letter in pattern], np.uint16).reshape(2, 2)
    for row, column in product((0, 1), repeat=2):
        if not tile[row, column]:
            tile[row, column] = GREEN_BY_RED if LEVEL["R"] in tile[row] else GREEN_BY_BLUE
    return np.tile(tile, (-(-rows // 2), -(-columns // 2)))[:rows, :columns]


def mosaic_of(values: np.ndarray, pattern: str = "RGGB", *, black: float = 0.0, white: float = 1023.0) -> Mosaic:
    return Mosaic(values, pattern, (black,) * 4, white)


# Pattern and size


@pytest.mark.parametrize(("has", "wants"), list(product(PATTERNS, PATTERNS)))
def test_any_pattern_becomes_any_other_by_leaving_out_rows_and_columns(has: str, wants: str) -> None:
    mosaic = mosaic_of(coloured(has, 12, 16), has)
    made, done = convert(mosaic, RawFormat(pattern=wants), allowed=True, name="a.dng")
    np.testing.assert_array_equal(made.values, coloured(wants, *made.values.shape))
    assert made.pattern == wants
    assert all(before - after in (0, 2) for before, after in zip((12, 16), made.values.shape, strict=True))
    assert (done == ()) == (has == wants)


@given(st.sampled_from(PATTERNS), st.sampled_from(PATTERNS), st.integers(4, 9), st.integers(4, 9))
def test_black_levels_go_with_their_places(has: str, wants: str, rows: int, columns: int) -> None:
    """Every place's black level is its value here, so that all that is left is zero."""
    values = coloured(has, rows, columns)
    mosaic = Mosaic(values, has, tuple(map(float, values[:2, :2].ravel())), 1023.0)
    fmt = RawFormat(pattern=wants)
    made, _ = convert(mosaic, fmt, allowed=True, name="a.dng")
    np.testing.assert_allclose(packed(made.values, made, Contract(fmt)), 0, atol=1e-6)


@given(st.integers(3, 20), st.integers(3, 20))
def test_odd_sides_lose_their_last_row_or_column(rows: int, columns: int) -> None:
    mosaic = mosaic_of(coloured("RGGB", rows, columns))
    made, done = convert(mosaic, RawFormat(), allowed=True, name="a.dng")
    assert made.values.shape == (rows // 2 * 2, columns // 2 * 2)
    np.testing.assert_array_equal(made.values, mosaic.values[: rows // 2 * 2, : columns // 2 * 2])
    assert (done == ()) == (rows % 2 == columns % 2 == 0)


@pytest.mark.parametrize(
    ("mosaic", "says"),
    [
        (mosaic_of(coloured("GRBG", 8, 8), "GRBG"), "is GRBG, 8×8, 0–1023"),
        (mosaic_of(coloured("RGGB", 8, 8), black=64.0), "is RGGB, 8×8, 64–1023"),
        (mosaic_of(coloured("RGGB", 8, 8), white=16383.0), "is RGGB, 8×8, 0–16383"),
        (mosaic_of(coloured("RGGB", 9, 8)), "is RGGB, 9×8, 0–1023"),
    ],
    ids=["pattern", "black", "white", "size"],
)
def test_nothing_is_converted_unless_it_was_asked_for(mosaic: Mosaic, says: str) -> None:
    with pytest.raises(DataError, match="the network was trained on RGGB of even sides with levels 0–1023") as refused:
        convert(mosaic, RawFormat(), allowed=False, name="a.dng")
    assert says in str(refused.value)
    assert '"a.dng"' in str(refused.value)
    assert "--convert" in str(refused.value)
    _, done = convert(mosaic, RawFormat(), allowed=True, name="a.dng")
    assert len(done) == 1 + (mosaic.pattern != "RGGB")  # what is left of another pattern is smaller, too


def test_a_mosaic_of_which_nothing_would_be_left_is_refused() -> None:
    with pytest.raises(DataError, match=r"too small to be converted \(2×2\)"):
        convert(mosaic_of(coloured("BGGR", 2, 2), "BGGR"), RawFormat(), allowed=True, name="a.png")


# Reflection


@given(st.sampled_from(PATTERNS), SIDES, SIDES, st.integers(0, 60), st.integers(0, 60))
def test_a_reflected_border_goes_on_in_the_same_bayer_phase(
    pattern: str, rows: int, columns: int, below: int, right: int
) -> None:
    values = coloured(pattern, 2 * rows, 2 * columns)
    sides = (2 * (rows + below), 2 * (columns + right))
    np.testing.assert_array_equal(pad(values, *sides), coloured(pattern, *sides))


def test_a_border_is_a_reflection_and_what_needs_none_is_not_copied() -> None:
    values = np.arange(16, dtype=np.uint16).reshape(4, 4)
    np.testing.assert_array_equal(pad(values, 4, 8)[0], [0, 1, 2, 3, 2, 1, 0, 1])
    assert pad(values, 4, 4) is values


# Levels


@given(st.sampled_from(PATTERNS), st.sampled_from(sorted(PACKINGS)), st.integers(0, 300), st.integers(400, 1023))
def test_a_mosaic_of_the_trained_format_is_packed_as_in_training(
    pattern: str, packing: str, black: int, white: int
) -> None:
    fmt = RawFormat(bits=10, black=black, white=white, pattern=pattern, packing=packing)
    values = np.random.default_rng(0).integers(0, white + 1, (6, 8), dtype=np.uint16)
    trained = (pack(values, fmt).astype(np.float32) - np.float32(black)) / np.float32(white - black)
    planes = packed(values, mosaic_of(values, pattern, black=float(black), white=float(white)), Contract(fmt))
    np.testing.assert_allclose(planes, trained, atol=1e-6)


def test_other_levels_become_those_of_training() -> None:
    values = np.array([[512, 16383], [8447, 512]], np.uint16)
    planes = packed(values, mosaic_of(values, black=512.0, white=16383.0), Contract(RawFormat(packing="rggb")))
    np.testing.assert_allclose(planes.ravel(), [0, 1, (8447 - 512) / (16383 - 512), 0], atol=1e-6)


@pytest.mark.parametrize(
    ("fmt", "counts", "black", "white"),
    [
        (RawFormat(bits=10), "raw10", 0, 1023),
        (RawFormat(bits=10, black=64), "raw12", 256, 4095),
        (RawFormat(bits=14, black=512, white=15871), "raw14", 512, 15871),
    ],
)
def test_a_file_that_normalises_itself_is_fed_counts(fmt: RawFormat, counts: str, black: int, white: int) -> None:
    values = np.array([[100, 900], [500, 100]], np.uint16)
    mosaic = mosaic_of(values, black=100.0, white=900.0)
    planes = packed(values, mosaic, contract_of(replace(fmt, packing="rggb"), counts))
    np.testing.assert_allclose(planes.ravel(), [black, white, (black + white) / 2, black], rtol=1e-5, atol=1e-3)


# What a network reads


def write_card(folder: Path, content: Any) -> Path:
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "card.json").write_text(text, "utf-8")
    return folder / "model.tflite"


BGGR_12 = {"bits": 12, "black": 64, "white": 4000, "pattern": "BGGR", "packing": "rggb"}


def test_the_card_tells_what_the_network_reads_and_mosaics_are_of_that_format(tmp_path: Path) -> None:
    model = write_card(tmp_path, {"raw": BGGR_12, "input_levels": {"black": 64.0, "white": 4000.0}})
    contract, mosaic_format, _ = read_contract(model, {}, input_kind=None)
    assert contract == Contract(RawFormat(**BGGR_12), 64.0, 4000.0)  # type: ignore[arg-type]
    assert mosaic_format == contract.format


def test_options_say_what_mosaics_are_and_leave_the_card_its_word_on_the_network(tmp_path: Path) -> None:
    model = write_card(tmp_path, {"data": {"raw": BGGR_12}})
    contract, mosaic_format, _ = read_contract(model, {"pattern": "RGGB", "bits": 14}, input_kind=None)
    assert contract.format == RawFormat(**BGGR_12)  # type: ignore[arg-type]
    assert mosaic_format == replace(contract.format, pattern="RGGB", bits=14, white=None)
    assert read_contract(model, {"white": 3000}, input_kind=None)[1] == replace(contract.format, white=3000)


def test_without_a_card_options_say_both(tmp_path: Path) -> None:
    contract, mosaic_format, _ = read_contract(tmp_path / "model.tflite", {"pattern": "GBRG"}, input_kind="raw10")
    assert contract == Contract(RawFormat(pattern="GBRG"), 0.0, 1023.0)
    assert mosaic_format == contract.format


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        {},
        {"data": {"raw": {"bits": 99}}},
        {"data": {"raw": {"colour": 1}}},
        {"data": None},
        {"data": {"raw": BGGR_12}, "input_levels": {"black": 1, "white": 0}},
        {"data": {"raw": BGGR_12}, "input_levels": {"black": -1e308, "white": 1}},
        {"data": {"raw": BGGR_12}, "input_levels": {"black": 0, "white": 1e300}},
        {"data": {"raw": BGGR_12}, "input_levels": {"black": 0, "white": 1e-300}},
        {"raw": BGGR_12, "input_levels": {}},
    ],
    ids=["torn", "list", "empty", "bits", "field", "null", "levels", "low", "high", "narrow", "no levels"],
)
def test_a_card_that_does_not_tell_is_one_sentence(tmp_path: Path, content: Any) -> None:
    with pytest.raises(UsageError, match=r"Cannot read from .*card\.json what RAW the network was trained on"):
        read_contract(write_card(tmp_path, content), {}, input_kind=None)


@pytest.mark.parametrize(
    ("raw", "kind", "option"), [({"packing": "challenge"}, None, "--packing"), ({}, "raw12", "--input")]
)
def test_options_that_contradict_the_card_are_refused(
    tmp_path: Path, raw: dict[str, Any], kind: str | None, option: str
) -> None:
    model = write_card(tmp_path, {"data": {"raw": BGGR_12}})
    assert read_contract(model, {}, input_kind="normalized")[0] == read_contract(model, {}, input_kind=None)[0]
    with pytest.raises(UsageError, match=f"{option} belongs to the network"):
        read_contract(model, raw, input_kind=kind)


def test_unknown_inputs_and_formats_are_refused_without_a_card(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match='Unknown input "raw8"') as refused:
        read_contract(tmp_path / "model.tflite", {}, input_kind="raw8")
    assert all(kind in str(refused.value) for kind in INPUT_BITS)
    with pytest.raises(UsageError, match="Bayer pattern"):
        read_contract(tmp_path / "model.tflite", {"pattern": "RGBG"}, input_kind=None)
