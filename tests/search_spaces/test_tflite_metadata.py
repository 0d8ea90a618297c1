"""What a file says of itself changes nothing of its network."""

import numpy as np
import pytest
from isp_builder import isp

from nas.tflite.interpreter import TfliteModel
from search_spaces.errors import ExportError
from search_spaces.tflite_metadata import read_metadata, with_metadata


def test_an_entry_is_read_again_and_the_network_stays() -> None:
    plain = isp(8, 8)
    content = with_metadata(with_metadata(plain, "one", b"first"), "other", b"")
    assert (read_metadata(content, "one"), read_metadata(content, "other")) == (b"first", b"")
    assert read_metadata(content, "none") is None
    x = np.random.default_rng(0).random((1, 8, 8, 4), np.float32)
    np.testing.assert_array_equal(TfliteModel(content)(x), TfliteModel(plain)(x))


def test_other_bytes_are_refused() -> None:
    with pytest.raises(ExportError, match=r"not a \.tflite file"):
        read_metadata(b"nothing", "one")
