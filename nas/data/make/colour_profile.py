"""Which colours a photograph has, and its pixels in sRGB, which is what a network is to give.

    embedded profile, else EXIF or PNG marks ─► Colours ─► sRGB, with a note of what was done or could only be assumed

Little CMS, through Pillow, reads profiles and converts 8 bits. It has no 16-bit RGB there: such pictures are converted
by the curves and the matrix that nearly all cameras' profiles consist of, once both ways agree on a sample of colours.
"""

import struct
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import Image, ImageCms

from nas.data.make.matrix_space import MatrixSpace, adobe_rgb, display_p3, matrix_space, srgb_profile
from search_spaces.system.printable import printable

Transform = ImageCms.ImageCmsTransform
SRGB = "sRGB"
_EXIF, _COLOUR_SPACE, _INTEROPERABILITY, _INDEX = 0x8769, 0xA001, 0xA005, 1
_SAYS_SRGB, _SAYS_ADOBE, _UNCALIBRATED = 1, 2, 0xFFFF
_ADOBE_INDEX = "R03"  # DCF's optional colour space
_GAMMA_OF_SRGB, _GAMMA_WITHIN = 1 / 2.2, 0.02
_RED_OF_SRGB, _CHROMATICITY_WITHIN = (0.64, 0.33), 0.01
_SRGB_BY_CICP, _P3_BY_CICP = (1, 13), (12, 13)  # primaries and transfer of ITU-T H.273
_SAME_WITHIN = 2  # levels of 255: sRGB by another maker
_AGREE_WITHIN = 2  # levels of 255, of Little CMS and of curves and matrix
_WHITE_FROM, _BLACK_TO = 200, 60  # of 255: what no profile of a photograph leaves
_SAMPLES = 9  # of each channel
_MOST_NAME = 60
_SPACES = {"RGB": "RGB", "RGBA": "RGB", "P": "RGB", "YCbCr": "RGB", "CMYK": "CMYK"}


@dataclass(frozen=True)
class Colours:
    """What the values of a picture mean."""

    label: str  # as pairs.csv has it
    note: str | None = None  # what a person should know of it
    transform: Transform | None = None  # of 8 bits; None with no matrix: as sRGB
    space: MatrixSpace | None = None  # None with a transform: its profile is no curves and matrix

    def to_srgb(self, image: Image.Image) -> UInt8[np.ndarray, "h w 3"]:
        """Convert a picture of 8 bits."""
        if self.transform is not None:
            wanted = image if image.mode == "CMYK" else image.convert("RGB")
            converted = ImageCms.applyTransform(wanted, self.transform)
            assert converted is not None  # it is None where it works in place
            return np.asarray(converted)
        pixels = np.asarray(image.convert("RGB"))
        return pixels if self.space is None else narrowed(self.space.to_srgb(pixels.astype(np.uint16) * 257))

    def to_srgb_of_16_bits(
        self, pixels: UInt16[np.ndarray, "h w 3"]
    ) -> UInt16[np.ndarray, "h w 3"] | UInt8[np.ndarray, "h w 3"]:
        """Convert a picture of 16 bits, to 8 bits where its profile is known to Little CMS alone."""
        if self.space is not None:
            return self.space.to_srgb(pixels)
        return pixels if self.transform is None else self.to_srgb(Image.fromarray(narrowed(pixels)))


UNLABELLED = Colours(
    f"not told, taken for {SRGB}", f"the target does not say which colours it has; they were taken for {SRGB}"
)


def narrowed(pixels: UInt16[np.ndarray, "h w *c"]) -> UInt8[np.ndarray, "h w *c"]:
    """Round 16 bits to 8."""
    rounded: UInt8[np.ndarray, "h w *c"] = cv2.convertScaleAbs(pixels, alpha=1 / 257)
    return rounded


def colours_of(image: Image.Image) -> Colours:
    """Return which colours a picture says it has, or that it does not say; of an opened file, pixels unread."""
    marked = _of_cicp(image)  # which counts before all else: PNG (third edition), 4.3
    if marked is not None:
        return marked
    if "icc_profile" in image.info:
        return _of_profile(image.info["icc_profile"], _SPACES.get(image.mode, image.mode))
    if image.mode == "CMYK":
        return Colours(
            "CMYK without a profile",
            "the target is CMYK without a profile, so its colours were guessed; store it as sRGB",
        )
    return _of_exif(image) or _of_png(image) or UNLABELLED


def _of_profile(profile: bytes | None, wanted: str) -> Colours:
    try:
        opened = ImageCms.ImageCmsProfile(BytesIO(profile or b""))
        of = opened.profile.xcolor_space.strip()
        if of == wanted:
            transform = _transform(opened, wanted)
            if (sampled := _sampled(transform, wanted)) is not None:
                return _converting(opened, profile or b"", transform, sampled)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, AttributeError):
        of = wanted
    why = "is damaged" if of == wanted else f"is one of {printable(of)[:_MOST_NAME]}, and the picture is {wanted}"
    return Colours(
        f"profile not usable, taken for {SRGB}",
        f"the colour profile of the target {why}: its colours were taken for {SRGB}, "
        "which may be wrong; convert it with another tool",
    )


def _converting(
    opened: ImageCms.ImageCmsProfile, profile: bytes, transform: Transform, sampled: UInt8[np.ndarray, "1 n 3"]
) -> Colours:
    is_rgb = opened.profile.xcolor_space.strip() == "RGB"
    if is_rgb and np.abs(sampled.astype(int) - _lattice()).max() <= _SAME_WITHIN:
        return Colours(SRGB)
    name = printable((opened.profile.profile_description or "an unnamed profile").strip())[:_MOST_NAME]
    space = matrix_space(opened, profile) if is_rgb else None
    if space is not None:
        ours = narrowed(space.to_srgb(_lattice().astype(np.uint16) * 257))
        space = space if np.abs(ours.astype(int) - sampled).max() <= _AGREE_WITHIN else None
    return Colours(
        f"{name}, converted to {SRGB}",
        f"the colours of the target were converted from {name} to {SRGB}",
        transform,
        space,
    )


def _transform(opened: ImageCms.ImageCmsProfile, mode: str) -> Transform:
    flags = ImageCms.Flags.BLACKPOINTCOMPENSATION if mode == "CMYK" else ImageCms.Flags.NONE  # ink is no full black
    return ImageCms.buildTransform(opened, srgb_profile(), mode, "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC, flags)


@cache
def _lattice() -> UInt8[np.ndarray, "1 n 3"]:
    steps = np.rint(np.linspace(0, 255, _SAMPLES)).astype(np.uint8)
    return np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(1, -1, 3)


def _sampled(transform: Transform, mode: str) -> UInt8[np.ndarray, "1 n 3"] | None:
    """Convert a sample of colours; None where black is not dark, white not bright or greys change their order."""
    levels = np.rint(np.linspace(0, 255, 2 * _SAMPLES)).astype(np.uint8)
    greys = np.repeat(levels[None, :, None], 3, axis=2)
    converted = _applied(transform, _inks(255 - greys) if mode == "CMYK" else greys)
    if converted[0, 0].max() > _BLACK_TO or converted[0, -1].min() < _WHITE_FROM:
        return None
    if any((after < before).all() for before, after in pairwise(converted[0].astype(int))):
        return None
    return converted if mode == "CMYK" else _applied(transform, _lattice())


def _inks(values: UInt8[np.ndarray, "1 n 3"]) -> UInt8[np.ndarray, "1 n 4"]:
    return np.concatenate([values, values[..., :1]], axis=-1)


def _applied(transform: Transform, values: UInt8[np.ndarray, "1 n c"]) -> UInt8[np.ndarray, "1 n 3"]:
    mode = "CMYK" if values.shape[-1] == 4 else "RGB"
    height, width = values.shape[:2]
    converted = ImageCms.applyTransform(Image.frombytes(mode, (width, height), values.tobytes()), transform)
    return np.asarray(converted)


def _of_exif(image: Image.Image) -> Colours | None:
    exif = image.getexif().get_ifd(_EXIF)
    space = exif.get(_COLOUR_SPACE)
    index = str(image.getexif().get_ifd(_INTEROPERABILITY).get(_INDEX, "")).strip("\0 ")
    if space == _SAYS_ADOBE or (space == _UNCALIBRATED and index == _ADOBE_INDEX):
        return Colours(
            f"Adobe RGB by EXIF, converted to {SRGB}",
            f"the colours of the target were converted from Adobe RGB, which its EXIF names, to {SRGB}",
            space=adobe_rgb(),
        )
    if space == _UNCALIBRATED:
        return Colours(
            f"uncalibrated by EXIF, taken for {SRGB}",
            "the EXIF of the target says that its colours are uncalibrated, and no profile says which they are: they "
            f"were taken for {SRGB}, which may be wrong; store it with its profile",
        )
    return Colours(SRGB) if space == _SAYS_SRGB else None


def _of_cicp(image: Image.Image) -> Colours | None:
    """What the mark cICP of a PNG says, which Pillow does not read; ITU-T H.273 numbers primaries and transfer."""
    code_points = _cicp(image)
    if code_points is None or code_points[:2] == _SRGB_BY_CICP:
        return None if code_points is None else Colours(SRGB)
    if code_points[:2] == _P3_BY_CICP:
        return Colours(
            f"Display P3 by cICP, converted to {SRGB}",
            f"the colours of the target were converted from Display P3, which its PNG names, to {SRGB}",
            space=display_p3(),
        )
    return Colours(
        f"other by cICP, taken for {SRGB}",
        f"the target's PNG says by its cICP that its colours are neither {SRGB} nor Display P3 "
        f"(primaries {code_points[0]}, "
        f"transfer {code_points[1]}); they were taken for {SRGB}, which is wrong; convert it with another tool",
    )


def _cicp(image: Image.Image) -> tuple[int, int] | None:
    path = getattr(image, "filename", "")
    if image.format != "PNG" or not path:
        return None
    with Path(path).open("rb") as file:
        file.seek(8)  # the signature
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if kind == b"cICP" and length == 4:
                primaries, transfer, *_ = file.read(4)
                return primaries, transfer
            if kind in (b"IDAT", b"IEND"):
                return None
            file.seek(length + 4, 1)  # and its check sum
    return None


def _of_png(image: Image.Image) -> Colours | None:
    """What a PNG without a profile says by its smaller marks."""
    if "srgb" in image.info:
        return Colours(SRGB)
    gamma, places = image.info.get("gamma"), image.info.get("chromaticity")
    if gamma is None and places is None:
        return None
    usual = gamma is None or abs(gamma - _GAMMA_OF_SRGB) < _GAMMA_WITHIN
    red = _RED_OF_SRGB if places is None else places[2:4]  # after white
    if usual and max(abs(a - b) for a, b in zip(red, _RED_OF_SRGB, strict=True)) < _CHROMATICITY_WITHIN:
        return Colours(SRGB)
    return Colours(
        f"other by PNG marks, taken for {SRGB}",
        f"the target's PNG says by its gAMA or cHRM that its colours are not {SRGB}; they were taken for {SRGB}, which "
        "may be wrong; store it with a profile",
    )
