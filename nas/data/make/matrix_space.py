"""Colours that are red, green and blue light, each along one curve, and how they become sRGB at full precision.

Nearly all profiles of cameras and displays are of this kind: Adobe RGB, Display P3, ProPhoto, Rec. 2020.
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, UInt16
from PIL import ImageCms

_WHOLE = 65535
_STRIP = 128  # rows at a time: what is computed of them takes six times their memory

Curve = Callable[[Float64[np.ndarray, " n"]], Float64[np.ndarray, " n"]]


@cache
def srgb_profile() -> ImageCms.ImageCmsProfile:
    """Return the profile that pictures are converted to."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


@dataclass(frozen=True)
class MatrixSpace:
    """Colours that are red, green and blue light: one curve each, and their places in XYZ (D50)."""

    curves: Float32[np.ndarray, "3 levels"]  # light of red, green and blue at each of 65 536 levels
    matrix: Float64[np.ndarray, "3 3"]  # light → XYZ

    def to_srgb(self, pixels: UInt16[np.ndarray, "h w 3"]) -> UInt16[np.ndarray, "h w 3"]:
        """Convert pixels; colours beyond sRGB end at its border."""
        matrix = (np.linalg.inv(srgb_matrix()) @ self.matrix).astype(np.float32)
        converted = np.empty_like(pixels)
        for top in range(0, len(pixels), _STRIP):
            strip = pixels[top : top + _STRIP]
            light = np.stack([table[strip[..., channel]] for channel, table in enumerate(self.curves)], axis=-1)
            shown = _srgb_curve(np.clip(light @ matrix.T, 0, 1))
            converted[top : top + _STRIP] = np.rint(shown * np.float32(_WHOLE)).astype(np.uint16)
        return converted


@cache
def srgb_matrix() -> Float64[np.ndarray, "3 3"]:
    """Return the places of the primaries of sRGB in XYZ (D50), in columns."""
    colorants = _colorants(srgb_profile())
    assert colorants is not None
    return colorants


def _srgb_curve(light: Float32[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "h w 3"]:
    """Source: IEC 61966-2-1."""
    bright = np.float32(1.055) * np.maximum(light, np.float32(0.0031308)) ** np.float32(1 / 2.4) - np.float32(0.055)
    return np.where(light <= 0.0031308, np.float32(12.92) * light, bright)


@cache
def adobe_rgb() -> MatrixSpace:
    """Return the colours that cameras offer beside sRGB.

    Source: Adobe RGB (1998) Color Image Encoding, annex C (the matrix for ICC profiles).
    """
    matrix = np.array([[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]])
    return MatrixSpace(_sampled([lambda values: values ** (563 / 256)] * 3), matrix)


@cache
def display_p3() -> MatrixSpace:
    """Return the colours of today's phones.

    Source: the colorants of the ICC profile Display P3, which are SMPTE EG 432-1's primaries and D65 adapted to D50,
    with the curve of IEC 61966-2-1.
    """
    matrix = np.array([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]])
    return MatrixSpace(_sampled([_srgb_light] * 3), matrix)


def _srgb_light(values: Any) -> Any:
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _colorants(opened: ImageCms.ImageCmsProfile) -> Float64[np.ndarray, "3 3"] | None:
    colorants = [getattr(opened.profile, f"{name}_colorant") for name in ("red", "green", "blue")]
    return None if None in colorants else np.array([each[0] for each in colorants], np.float64).T


def matrix_space(opened: ImageCms.ImageCmsProfile, profile: bytes) -> MatrixSpace | None:
    """Return the curves and the matrix of a profile; None where it has none, or a table of colours beside."""
    tags = _tags(profile)
    matrix = _colorants(opened)
    if matrix is None or "A2B0" in tags or not {"rTRC", "gTRC", "bTRC"} <= tags.keys():
        return None
    try:
        return MatrixSpace(_sampled([_curve(tags[name]) for name in ("rTRC", "gTRC", "bTRC")]), matrix)
    except (struct.error, ValueError, ArithmeticError):  # a damaged curve; Little CMS may know to read it
        return None


def _sampled(curves: Sequence[Curve]) -> Float32[np.ndarray, "3 levels"]:
    levels = np.linspace(0, 1, _WHOLE + 1)
    with np.errstate(over="raise", divide="raise", invalid="raise"):
        return np.stack([curve(levels) for curve in curves]).astype(np.float32)


_TAG_TABLE = 128  # bytes of header before it


def _tags(profile: bytes) -> dict[str, bytes]:
    """Source: ICC.1:2022, section 7.3."""
    (count,) = struct.unpack_from(">I", profile, _TAG_TABLE)
    places = (struct.unpack_from(">4sII", profile, _TAG_TABLE + 4 + 12 * number) for number in range(min(count, 100)))
    return {name.decode("latin-1"): profile[offset : offset + size] for name, offset, size in places}


_PARAMETERS = (1, 3, 4, 5, 7)  # of the functions that a parametric curve may have


def _curve(tag: bytes) -> Curve:
    """Source: ICC.1:2022, sections 10.6 (curves) and 10.18 (parametric curves)."""
    if tag[:4] == b"para":
        kind = struct.unpack_from(">H", tag, 8)[0]
        if kind >= len(_PARAMETERS):
            raise ValueError(f"parametric curve {kind}")
        return _parametric(kind, [part / 65536 for part in struct.unpack_from(f">{_PARAMETERS[kind]}i", tag, 12)])
    if tag[:4] != b"curv":
        raise ValueError(f"curve {tag[:4]!r}")
    (count,) = struct.unpack_from(">I", tag, 8)
    if count == 0:
        return lambda values: values
    table = np.array(struct.unpack_from(f">{count}H", tag, 12), np.float64)
    if count == 1:
        return lambda values: values ** (table[0] / 256)
    return lambda values: np.interp(values, np.linspace(0, 1, count), table / _WHOLE)


def _parametric(kind: int, parameters: list[float]) -> Curve:
    """(a·x + b)^g + e from d on, c·x + f below; kinds leave out some of them."""
    g, a, b, c, d, e, f = (*parameters, *(1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0)[len(parameters) :])
    if kind in (1, 2):  # the curve begins where its base is 0; what kind 2 calls c lifts all of it
        c, d, e, f = 0.0, -b / a, c, c
    return lambda x: np.where(x >= d, np.maximum(a * x + b, 0) ** g + e, c * x + f).clip(0, 1)
