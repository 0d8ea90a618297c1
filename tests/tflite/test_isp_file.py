"""Any .tflite that turns packed RAW into RGB runs, whatever its numbers are; anything else is one sentence."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from flow import truncate
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from isp_builder import RANGES, Trunk, isp, ones
from tflite_builder import FileBuilder

from nas.tflite.isp_file import IspFile
from nas.tflite.tensor_encoding import TensorEncoding
from search_spaces.errors import UsageError

STEP = {"float32": 1e-6, "float16": 1e-3, "uint8": 1 / 255, "int8": 1 / 255, "int16": 1 / 32767}  # of outputs


def answer(model: IspFile, x: np.ndarray) -> np.ndarray:
    outputs: list[np.ndarray] = []
    model.run(x, lambda y: outputs.append(y.copy()))
    return outputs[0]


def loaded(path: Path, content: bytes) -> IspFile:
    path.write_bytes(content)
    return IspFile(path)


@pytest.mark.parametrize("output_type", list(STEP))
@pytest.mark.parametrize("input_type", ["float32", "float16", "uint8", "int8", "int16"])
def test_whole_and_half_numbers_mean_what_the_file_says(tmp_path: Path, input_type: str, output_type: str) -> None:
    real = loaded(tmp_path / "real.tflite", isp(8, 12))
    model = loaded(tmp_path / "isp.tflite", isp(8, 12, input_type=input_type, output_type=output_type))
    assert (model.input.dtype, model.output.dtype) == (input_type, output_type)
    x = np.random.default_rng(0).integers(0, 256, (1, 8, 12, 4)).astype(np.float32) / 255  # what 8 bits can hold
    real.allocate(8, 12)
    model.allocate(8, 12)
    rounded = 1e-3 if input_type in ("float16", "int16") else 0.0
    np.testing.assert_allclose(answer(model, x), answer(real, x), atol=STEP[output_type] + rounded)
    assert answer(model, x).dtype == np.float32


@given(
    st.sampled_from(["uint8", "int8", "int16"]),
    hnp.arrays(np.float32, 7, elements=st.floats(-2, 3, width=32)),
)
def test_what_is_encoded_is_read_back_to_half_a_step_and_clipped(dtype: str, x: np.ndarray) -> None:
    scale, zero_point = RANGES[dtype]
    port = TensorEncoding(dtype, scale, zero_point)
    bounds = np.iinfo(dtype)
    least, most = ((bound - zero_point) * scale for bound in (bounds.min, bounds.max))
    np.testing.assert_allclose(port.decode(port.encode(x)), np.clip(x, least, most), atol=0.51 * scale)


@pytest.mark.parametrize("size", [(8, 12), (20, 6)])
def test_a_file_of_open_size_runs_at_any(tmp_path: Path, size: tuple[int, int]) -> None:
    model = loaded(tmp_path / "open.tflite", isp(-1, -1))
    assert model.size == (None, None)
    fixed = loaded(tmp_path / "fixed.tflite", isp(*size))
    assert fixed.size == size
    x = np.random.default_rng(0).random((1, *size, 4), np.float32)
    for each in (model, fixed):
        assert each.allocate(*size) == 1
    np.testing.assert_allclose(answer(model, x), answer(fixed, x), atol=1e-6)


def test_a_file_takes_as_many_at_once_as_it_says(tmp_path: Path) -> None:
    assert loaded(tmp_path / "three.tflite", isp(8, 12, batch=3)).allocate(8, 12) == 3
    assert loaded(tmp_path / "open.tflite", isp(8, 12, batch=-1)).allocate(8, 12) == 1


# What is no ISP


def two_inputs() -> bytes:
    b = FileBuilder()
    shape = (1, 8, 8, 4)
    both = [b.input(*shape), b.input(*shape)]
    trunk = Trunk(b, b.op("ADD", both, shape), shape, ones)
    trunk.conv(12, 1)
    trunk.shuffle(2)
    return b.file()


def classifier() -> bytes:
    b = FileBuilder()
    trunk = Trunk(b, b.input(1, 8, 8, 3), (1, 8, 8, 3), ones)
    trunk.op("MEAN", b.numbers(1, 2), shape=(1, 3))
    return b.file()


def same_size() -> bytes:
    b = FileBuilder()
    trunk = Trunk(b, b.input(1, 8, 8, 4), (1, 8, 8, 4), ones)
    trunk.conv(3, 3)
    return b.file()


def whole_numbers_without_a_scale() -> bytes:
    b = FileBuilder()
    shape = (1, 8, 8, 4)
    index = b.input(*shape, dtype="int16")
    b.graph.tensors[index].quantization = None
    trunk = Trunk(b, b.op("CAST", [index], shape), shape, ones)
    trunk.conv(12, 1)
    trunk.shuffle(2)
    return b.file()


def of_another_type() -> bytes:
    b = FileBuilder()
    shape = (1, 8, 8, 4)
    trunk = Trunk(b, b.op("CAST", [b.input(*shape, dtype="int32")], shape), shape, ones)
    trunk.conv(12, 1)
    trunk.shuffle(2)
    return b.file()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (two_inputs, "has 2 inputs and 1 outputs, not one each"),
        (classifier, r"turns \[1, 8, 8, 3\] into \[1, 3\]"),
        (same_size, r"turns \[1, 8, 8, 4\] into \[1, 8, 8, 3\]"),
        (whole_numbers_without_a_scale, "holds int16 without one scale"),
        (of_another_type, "holds int32 values"),
        (lambda: b"PK\x03\x04 a zip archive", "LiteRT cannot run"),
        (lambda: b"", "LiteRT cannot run"),
    ],
)
def test_what_is_no_isp_is_one_sentence_that_names_it(
    tmp_path: Path, content: Callable[[], bytes], says: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError, match=says) as refused:
        loaded(tmp_path / "isp.tflite", content())
    assert "isp.tflite" in str(refused.value)
    assert capfd.readouterr().err == "", "LiteRT wrote over the terminal"


def test_a_torn_file_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "isp.tflite"
    path.write_bytes(isp(8, 8))
    truncate(path)
    with pytest.raises(UsageError, match=r"LiteRT cannot run .*isp\.tflite"):
        IspFile(path)


def test_no_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"Cannot read .*; give a \.tflite file"):
        IspFile(tmp_path / "nowhere.tflite")
    with pytest.raises(UsageError, match=r"Cannot read .*; give a \.tflite file"):
        IspFile(tmp_path)


def test_a_file_of_open_size_that_cannot_run_at_one_says_so(tmp_path: Path) -> None:
    """A map halved and doubled again is added to the one before: that fits sides of two alone."""
    b = FileBuilder()
    trunk = Trunk(b, b.input(1, -1, -1, 4), (1, -1, -1, 4), ones)
    before = trunk.index
    trunk.op("SPACE_TO_DEPTH", shape=(1, -1, -1, 16), blockSize=2)
    trunk.shuffle(2)
    trunk.op("ADD", before, shape=(1, -1, -1, 4))
    trunk.conv(12, 1)
    trunk.shuffle(2)
    model = loaded(tmp_path / "isp.tflite", b.file())
    model.allocate(8, 8)
    with pytest.raises(UsageError, match="does not run on 7×8 packed pixels"):
        model.allocate(7, 8)
    assert model.field.period == 2  # so `lay_out` never asks for it
