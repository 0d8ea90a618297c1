"""ICC profiles as cameras and editors embed them, written out by hand: version 2, a matrix and curves."""

import struct
from collections.abc import Mapping, Sequence

import numpy as np

_WHITE = (0.9642, 1.0, 0.8249)  # D50
Colorants = Sequence[tuple[float, float, float]]
ADOBE = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
P3 = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))
PROPHOTO = ((0.79767, 0.28804, 0.0), (0.13519, 0.71188, 0.0), (0.03134, 0.00009, 0.82491))
SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))
SRGB_PARAMETERS = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)


def _fixed(*values: float) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def gamma(exponent: float) -> bytes:
    """A curve that is a power."""
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(exponent * 256))


def parametric(kind: int, *parameters: float) -> bytes:
    """A curve by one of the functions of ICC.1, section 10.18."""
    return b"para\0\0\0\0" + struct.pack(">HH", kind, 0) + _fixed(*parameters)


def table(values: np.ndarray) -> bytes:
    """A curve by its values from 0 to 1."""
    return b"curv\0\0\0\0" + struct.pack(">I", len(values)) + np.rint(65535 * values).astype(">u2").tobytes()


def _named(text: str) -> bytes:
    encoded = text.encode() + b"\0"
    return b"desc\0\0\0\0" + struct.pack(">I", len(encoded)) + encoded + bytes(78)


def profile(name: str, colorants: Colorants, curve: bytes) -> bytes:
    """A profile of red, green and blue light."""
    tags = {b"desc": _named(name), b"cprt": b"text\0\0\0\0-\0", b"wtpt": b"XYZ \0\0\0\0" + _fixed(*_WHITE)}
    for letter, place in zip((b"r", b"g", b"b"), colorants, strict=True):
        tags |= {letter + b"XYZ": b"XYZ \0\0\0\0" + _fixed(*place), letter + b"TRC": curve}
    return _packed(tags, b"RGB ")


def grey_profile(exponent: float = 2.2) -> bytes:
    """A profile of greys alone."""
    tags = {b"desc": _named("Gray"), b"wtpt": b"XYZ \0\0\0\0" + _fixed(*_WHITE), b"kTRC": gamma(exponent)}
    return _packed(tags, b"GRAY")


def _packed(tags: Mapping[bytes, bytes], space: bytes) -> bytes:
    directory, content = struct.pack(">I", len(tags)), b""
    begin = 128 + 4 + 12 * len(tags)
    for name, value in tags.items():
        directory += name + struct.pack(">II", begin + len(content), len(value))
        content += value + bytes(-len(value) % 4)
    size = begin + len(content)
    header = struct.pack(">I4sI4s4s4s12s4s28x", size, b"lcms", 0x02400000, b"mntr", space, b"XYZ ", bytes(12), b"acsp")
    return (header + _fixed(*_WHITE)).ljust(128, b"\0") + directory + content


_LEVELS = np.linspace(0, 1, 1024)
SRGB_TABLE = table(np.where(_LEVELS <= 0.04045, _LEVELS / 12.92, ((_LEVELS + 0.055) / 1.055) ** 2.4))
CAMERAS = {
    "Adobe RGB (1998)": profile("Adobe RGB (1998)", ADOBE, gamma(563 / 256)),
    "Display P3": profile("Display P3", P3, parametric(3, *SRGB_PARAMETERS)),
    "ProPhoto RGB": profile("ProPhoto RGB", PROPHOTO, gamma(1.8)),
    "linear": profile("linear", SRGB, gamma(1.0)),
    "curve 0": profile("curve 0", P3, parametric(0, 2.2)),
    "curve 1": profile("curve 1", ADOBE, parametric(1, 2.0, 1.1, -0.1)),
    "curve 2": profile("curve 2", ADOBE, parametric(2, 2.0, 0.93, 0.05, 0.002)),
    "curve 4": profile("curve 4", ADOBE, parametric(4, *SRGB_PARAMETERS, 0.0, 0.0)),
    "table": profile("table", ADOBE, SRGB_TABLE),
}
