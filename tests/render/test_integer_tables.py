"""What is looked up is what would have been computed, value by value."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.data.camera_raw import Mosaic
from nas.data.raw_format import PATTERNS, RawFormat
from nas.render import row_threads
from nas.render.image_file import to_integers
from nas.render.integer_tables import look_up_bytes
from nas.render.pack_input import count_look_ups, packed, packed_by_look_ups
from nas.tflite.input_contract import Contract
from nas.tflite.tensor_encoding import TensorEncoding

SCALES = st.floats(1e-4, 0.1)


@given(
    st.sampled_from(["uint8", "int8", "int16"]),
    SCALES,
    st.integers(-128, 127),
    st.sampled_from(PATTERNS),
    st.lists(st.integers(0, 300), min_size=4, max_size=4) | st.integers(0, 300).map(lambda black: [black] * 4),
)
def test_a_mosaic_is_packed_by_looking_up_as_it_is_computed(
    dtype: str, scale: float, zero_point: int, pattern: str, blacks: list[int]
) -> None:
    port = TensorEncoding(dtype, scale, zero_point)
    values = np.random.default_rng(0).integers(0, 1024, (2 * row_threads.ROWS + 6, 8), dtype=np.uint16)
    mosaic = Mosaic(values, pattern, tuple(map(float, blacks)), 1023.0)
    contract = Contract(RawFormat(pattern=pattern, black=64))
    look_ups = count_look_ups(mosaic, contract, port)
    looked_up = packed_by_look_ups(values, look_ups=look_ups, fmt=contract.format, dtype=dtype)
    computed = port.encode(packed(values, mosaic, contract))
    assert looked_up.dtype == computed.dtype
    np.testing.assert_array_equal(looked_up, computed)


@pytest.mark.parametrize("rows", [1, row_threads.ROWS, 2 * row_threads.ROWS + 1])
@pytest.mark.parametrize("finish", [partial(to_integers, bits=8), partial(to_integers, bits=16), np.array])
@given(st.sampled_from(["uint8", "int8"]), SCALES, st.integers(-128, 127))
def test_a_picture_of_bytes_is_finished_through_a_table_as_it_is_computed(
    rows: int, finish: Callable[[np.ndarray], np.ndarray], dtype: str, scale: float, zero_point: int
) -> None:
    port = TensorEncoding(dtype, scale, zero_point)
    stored = np.random.default_rng(0).integers(0, 256, (rows, 20, 3), dtype=np.uint8).view(dtype)
    for part in (stored, stored[:, :6]):  # the second is no single piece of memory
        computed = finish(port.decode(part))
        looked_up = look_up_bytes(part, finish, port)
        assert looked_up.dtype == computed.dtype
        np.testing.assert_array_equal(looked_up, computed)
