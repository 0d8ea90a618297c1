"""What an export may be asked for is settled before any work."""

import pytest

from nas.data.raw_format import RawFormat
from nas.export.options import ExportOptions, parse_max_drop, parse_precisions, parse_size
from search_spaces.errors import UnknownNameError, UsageError
from search_spaces.input_levels import InputLevels
from search_spaces.precision import PRECISIONS


@pytest.mark.parametrize(
    "texts", [["fp16,int8"], ["fp16", "int8"], ["fp16 int8"], ["fp16,int8", "fp16"], ["fp16, int8"]]
)
def test_precisions_may_be_given_in_one_word_or_in_several(texts: list[str]) -> None:
    assert parse_precisions(texts) == ("fp16", "int8")


def test_an_unknown_precision_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match='Did you mean "int16"'):
        parse_precisions(["fp16,int61"])


def test_float32_always_comes_along_and_first() -> None:
    assert [p.name for p in ExportOptions(precisions=("int8", "fp16")).wanted] == ["fp32", "fp16", "int8"]


def test_a_size_is_height_by_width() -> None:
    assert parse_size("1088x1920") == (1088, 1920)
    assert parse_size("64×96") == (64, 96)
    assert ExportOptions(size=(64, 96)).packed_shape == (1, 32, 48, 4)


@pytest.mark.parametrize("text", ["1088", "1088x", "x1920", "1088x1920x3", "-2x4", "0x4", "a×b", "٤x4", "1.5x2"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="such as 1088x1920; got"):
        parse_size(text)


@pytest.mark.parametrize("text", ["1087x1920", "1088x1921"])
def test_an_odd_mosaic_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="even height and width"):
        parse_size(text)


def test_a_drop_is_for_every_precision_or_for_one() -> None:
    assert parse_max_drop(["0.3"]) == {"fp16": 0.3, "int8": 0.3, "int16": 0.3}
    assert parse_max_drop(["0.3,int8=1"]) == {"fp16": 0.3, "int8": 1.0, "int16": 0.3}
    assert parse_max_drop([]) == {}
    options = ExportOptions(max_drop_db=parse_max_drop(["fp16=0.02"]))
    allowed = {name: options.allowed_drop_db(precision) for name, precision in PRECISIONS.items()}
    assert allowed == {"fp32": 0.001, "fp16": 0.02, "int8": 0.5, "int16": 0.1}


@pytest.mark.parametrize("text", ["much", "int8=", "int8=-1", "-0.1", "nan", "inf", "1000", ""])
def test_what_is_no_drop_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="given in dB"):
        parse_max_drop([text])


def test_a_drop_of_an_unknown_precision_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="int88"):
        parse_max_drop(["int88=1"])


def test_input_and_output_have_the_type_asked_for_where_a_precision_can() -> None:
    def types(io: str | None) -> dict[str, str]:
        options = ExportOptions(precisions=tuple(PRECISIONS), io=io)
        options.validate()
        return {name: options.io_of(precision) for name, precision in PRECISIONS.items()}

    floats = {"fp32": "float32", "fp16": "float32"}
    assert types(None) == floats | {"int8": "int8", "int16": "int16"}
    assert types("uint8") == floats | {"int8": "uint8", "int16": "int16"}
    assert types("float32") == floats | {"int8": "float32", "int16": "float32"}


# Options that no export can have, and what the sentence must say.
WRONG = [
    ({"precisions": ("fp8",)}, "fp8"),
    ({"input": "raw9"}, 'Did you mean "raw'),
    ({"calibration": 0}, "at least one pair, got 0"),
    ({"precisions": ("fp16",), "io": "uint8"}, 'not "uint8"'),
    ({"precisions": ("int16",), "io": "uint8"}, "int16"),
    ({"precisions": ("int8",), "io": "int4"}, "int8, uint8"),
    ({"precisions": ("int8",), "input": "raw10"}, "10 bits do not fit into the 8-bit input of int8; add --io float32"),
    ({"precisions": ("int8",), "input": "raw14", "io": "uint8"}, "14 bits do not fit"),
]


@pytest.mark.parametrize(("options", "sentence"), WRONG)
def test_what_no_export_can_be_is_refused(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        ExportOptions(**options).validate()  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{"precisions": ("int8",), "io": "float32"}, {"precisions": ("int16",)}])
def test_counts_go_where_they_fit(options: dict[str, object]) -> None:
    ExportOptions(**options, input="raw14").validate()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "raw", "levels"),
    [
        ("normalized", RawFormat(black=64), InputLevels(0, 1)),
        ("raw10", RawFormat(), InputLevels(0, 1023)),
        ("raw10", RawFormat(black=64), InputLevels(64, 1023)),
        ("raw12", RawFormat(), InputLevels(0, 4095)),
        ("raw14", RawFormat(black=64), InputLevels(1024, 16383)),
        ("raw14", RawFormat(bits=12, black=256, white=4000), InputLevels(1024, 16000)),
        ("raw10", RawFormat(bits=14, black=1024, white=15000), InputLevels(64, 937.5)),
    ],
)
def test_counts_of_other_bits_are_the_same_light_in_other_steps(name: str, raw: RawFormat, levels: InputLevels) -> None:
    assert ExportOptions(input=name).levels(raw) == levels
