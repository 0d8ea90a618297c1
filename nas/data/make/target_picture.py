"""Read the picture that becomes targets: a file of 8 or 16 bits, the camera's own inside of a RAW, or LibRaw's.

A mark in a file that says how to turn it is obeyed, and what has other colours than sRGB is converted.
"""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Shaped
from PIL import Image, ImageOps

from nas.data.camera_raw import has_signature, opened, upright
from nas.data.layout import is_mosaic_alone
from nas.data.make.colour_profile import SRGB, UNLABELLED, colours_of
from nas.data.picture_file import DAMAGE, HEADER_BYTES, NotAPictureError, bits_per_channel, open_picture
from search_spaces.errors import DataError
from search_spaces.system.native_stderr import quiet

Picture = Shaped[np.ndarray, "rows columns 3"]  # RGB of 8 or 16 bits
_COLOURED = ("RGB", "RGBA", "P", "YCbCr", "CMYK")
_COLOURS = 3
_ORIENTATION, _PLANES, _APART = 274, 284, 2
_FLIPS = {2: 1, 3: 3, 4: 2, 5: 4, 6: 6, 7: 7, 8: 5}  # TIFF's numbers for how a picture is turned, and LibRaw's
_WHOLE_BYTE, _WHOLE_TWO_BYTES, _TWELVE_BITS = 8, 65535, 4095
_TRANSPARENT = "the target is transparent in places; its colours there were taken as they are stored"
_ROUNDED = "the target has 16 bits, and was rounded to the 8 bits that pairs have once it was aligned"
_ROUNDED_BEFORE = "the target has 16 bits, and its profile is a table: it was rounded to 8 bits before its colours"


@dataclass(frozen=True)
class TargetPicture:
    """A picture in sRGB, and what the file held."""

    pixels: Picture
    bits: int  # of a channel in the file
    colours: str  # which the file has, and what was done with them
    notes: tuple[str, ...] = ()  # what a person should know of it


def read_picture(path: Path) -> TargetPicture:
    """Read a photograph of 8 or 16 bits, as it is to be looked at; raises DataError."""
    try:
        with open_picture(path) as image, path.open("rb") as file:
            if image.mode not in _COLOURED:
                raise _no_colours(path)
            if bits_per_channel(image, file.read(HEADER_BYTES)) > _WHOLE_BYTE:
                return _of_16_bits(image, path)
            return _of_8_bits(image)
    except NotAPictureError as error:
        raise DataError(f'"{path}" is no photograph: it is {error}; give a JPEG, PNG or TIFF.') from None
    except DAMAGE as error:
        raise DataError(f'The photograph "{path}" is damaged ({error}); copy it again.') from None


def _of_8_bits(image: Image.Image) -> TargetPicture:
    colours = colours_of(image)
    turned = ImageOps.exif_transpose(image) or image
    notes = (colours.note, _opacity(turned))
    return TargetPicture(colours.to_srgb(turned), _WHOLE_BYTE, colours.label, tuple(filter(None, notes)))


def _opacity(image: Image.Image) -> str | None:
    if not image.has_transparency_data or image.convert("RGBA").getchannel("A").getextrema() == (255, 255):
        return None
    return _TRANSPARENT


def _of_16_bits(image: Image.Image, path: Path) -> TargetPicture:
    stored = _stored(image, path)
    if stored.dtype != np.uint16 or stored.ndim <= 2 or stored.shape[2] < _COLOURS:
        raise _no_colours(path)
    if (brightest := int(stored[..., :_COLOURS].max())) <= _TWELVE_BITS:
        raise DataError(
            f'The brightest value of "{path}" is {brightest} of {_WHOLE_TWO_BYTES}, as where 12 bits or fewer lie in '
            "the lower ones of 16; scale its values to the whole range."
        )
    colours = colours_of(image)
    pixels = colours.to_srgb_of_16_bits(np.ascontiguousarray(stored[..., :_COLOURS]))
    notes = [colours.note, _ROUNDED if pixels.dtype == np.uint16 else _ROUNDED_BEFORE]
    if (stored[..., _COLOURS:] < _WHOLE_TWO_BYTES).any():
        notes.append(_TRANSPARENT)
    return TargetPicture(pixels, 2 * _WHOLE_BYTE, colours.label, tuple(filter(None, notes)))


def _stored(image: Image.Image, path: Path) -> np.ndarray:
    """Return the channels of a picture of 16 bits, red first, as it is to be looked at."""
    if image.format == "TIFF" and image.getexif().get(_PLANES) == _APART:  # OpenCV takes them for one another
        return _turned(_planes(path), image)
    with quiet(drop=True):  # libpng and libtiff complain on standard error
        pixels: np.ndarray | None = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise DataError(f'The photograph "{path}" is damaged; copy it again.')
    if pixels.ndim > 2:  # OpenCV has blue first
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB if pixels.shape[2] == _COLOURS else cv2.COLOR_BGRA2RGBA)
    return pixels if image.format == "TIFF" else _turned(pixels, image)  # OpenCV turns TIFF alone


def _planes(path: Path) -> np.ndarray:
    """Return the channels of a TIFF that has them one after the other."""
    import tifffile

    try:
        return np.moveaxis(tifffile.imread(path, key=0), 0, -1)
    except (tifffile.TiffFileError, *DAMAGE):
        raise DataError(
            f'"{path}" is damaged, or a TIFF whose channels lie apart in a compression that is not read here; store it '
            "with interleaved channels."
        ) from None


def _turned(pixels: np.ndarray, image: Image.Image) -> np.ndarray:
    orientation = image.getexif().get(_ORIENTATION)
    return upright(pixels, _FLIPS.get(orientation, 0)) if isinstance(orientation, int) else pixels


def _no_colours(path: Path) -> DataError:
    return DataError(f'"{path}" is no photograph in colour of 8 or 16 bits; store it as RGB.')


def read_embedded(path: Path) -> TargetPicture:
    """Read the camera's own picture inside of a RAW; raises DataError where there is none."""
    import rawpy

    _require_camera_raw(path, "a picture inside")
    with opened(path) as raw, quiet(drop=True):
        try:
            preview = raw.extract_thumb()
        except rawpy.LibRawNoThumbnailError:
            raise DataError(f'"{path}" has no picture inside; use --target sidecar or --target libraw.') from None
        except rawpy.LibRawError:
            raise DataError(
                f'The picture inside of "{path}" is damaged or of a kind that LibRaw does not read; use --target '
                "sidecar or --target libraw."
            ) from None
    if preview.format == rawpy.ThumbFormat.BITMAP:
        return TargetPicture(np.asarray(preview.data), _WHOLE_BYTE, UNLABELLED.label, (str(UNLABELLED.note),))
    try:
        with open_picture(BytesIO(bytes(preview.data)), ["JPEG"]) as image:
            return _of_8_bits(image)
    except DAMAGE:
        raise DataError(f'The picture inside of "{path}" is damaged; use --target libraw.') from None


def render_libraw(path: Path) -> TargetPicture:
    """Have LibRaw develop a RAW with the camera's white balance, as the sensor lies."""
    _require_camera_raw(path, "LibRaw's rendering")
    with opened(path) as raw, quiet(drop=True):
        return TargetPicture(raw.postprocess(use_camera_wb=True, user_flip=0), _WHOLE_BYTE, SRGB)


def _require_camera_raw(path: Path, wanted: str) -> None:
    if is_mosaic_alone(path) or not has_signature(path):
        raise DataError(f'"{path}" is a mosaic alone, and {wanted} needs a camera\'s RAW; give a folder with --target.')
