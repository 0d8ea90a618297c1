"""Read the picture that becomes targets: a file of 8 or 16 bits, the camera's own inside of a RAW, or LibRaw's.

A mark in a file that says how to turn it is obeyed; a profile of colours is not applied.
"""

from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Shaped, UInt8, UInt16
from PIL import Image, ImageOps

from nas.data.camera_raw import has_signature, opened
from nas.data.layout import is_mosaic_alone
from nas.data.picture_file import DAMAGE, HEADER_BYTES, NotAPictureError, bits_per_channel, open_picture
from search_spaces.errors import DataError
from search_spaces.system.native_stderr import quiet

Picture = Shaped[np.ndarray, "rows columns 3"]  # RGB of 8 or 16 bits
_COLOURED = ("RGB", "RGBA", "P", "YCbCr", "CMYK")
_WHOLE_BYTE = 8


def read_picture(path: Path) -> Picture:
    """Read a photograph of 8 or 16 bits, as it is to be looked at; raises DataError."""
    try:
        with open_picture(path) as image, path.open("rb") as file:
            if bits_per_channel(image, file.read(HEADER_BYTES)) > _WHOLE_BYTE:
                return _of_16_bits(path)
            return _of_8_bits(image, path)
    except NotAPictureError as error:
        raise DataError(f'Wanted a photograph at "{path}", got {error}; give a JPEG, PNG or TIFF.') from None
    except DAMAGE as error:
        raise DataError(f'The photograph "{path}" is damaged ({error}); copy it again.') from None


def _of_8_bits(image: Image.Image, path: Path) -> UInt8[np.ndarray, "rows columns 3"]:
    if image.mode not in _COLOURED:
        raise _no_colours(path)
    return np.asarray((ImageOps.exif_transpose(image) or image).convert("RGB"))


def _of_16_bits(path: Path) -> UInt16[np.ndarray, "rows columns 3"]:
    with quiet(drop=True):  # libpng and libtiff complain on standard error
        found = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if found is None:
        raise DataError(f'The photograph "{path}" is damaged; copy it again.')
    if found.dtype != np.uint16 or found.ndim < 3 or found.shape[2] < 3:
        raise _no_colours(path)
    return np.ascontiguousarray(found[..., 2::-1])  # OpenCV has blue first


def _no_colours(path: Path) -> DataError:
    return DataError(f'Wanted a photograph in colour of 8 or 16 bits at "{path}", got another kind; store it as RGB.')


def read_embedded(path: Path) -> UInt8[np.ndarray, "rows columns 3"]:
    """Read the camera's own picture inside of a RAW; raises DataError where there is none."""
    import rawpy

    _require_camera_raw(path, "a picture inside")
    with opened(path) as raw, quiet(drop=True):
        try:
            preview = raw.extract_thumb()
        except rawpy.LibRawError:
            raise DataError(f'"{path}" has no picture inside; use --target sidecar or --target libraw.') from None
    if preview.format == rawpy.ThumbFormat.BITMAP:
        return np.asarray(preview.data)
    try:
        with open_picture(BytesIO(bytes(preview.data)), ["JPEG"]) as image:
            return _of_8_bits(image, path)
    except DAMAGE:
        raise DataError(f'The picture inside of "{path}" is damaged; use --target libraw.') from None


def render_libraw(path: Path) -> UInt8[np.ndarray, "rows columns 3"]:
    """Have LibRaw develop a RAW with the camera's white balance, as the sensor lies."""
    _require_camera_raw(path, "LibRaw's rendering")
    with opened(path) as raw, quiet(drop=True):
        return raw.postprocess(use_camera_wb=True, user_flip=0)


def _require_camera_raw(path: Path, wanted: str) -> None:
    if is_mosaic_alone(path) or not has_signature(path):
        raise DataError(f'"{path}" is a mosaic alone, and {wanted} needs a camera\'s RAW; give a folder with --target.')
