"""Decode and validate the files of a pair: the mosaic and its target.

Each file is read whole and judged on its own; what is wrong with it is said in one sentence that names it.
"""

import os
from pathlib import Path

import numpy as np
from jaxtyping import Shaped, UInt8, UInt16
from PIL import Image

from nas.data.picture_file import (
    DAMAGE,
    EXIF_UPRIGHT,
    HEADER_BYTES,
    MOST_PIXELS,
    NotAPictureError,
    bits_per_channel,
    open_picture,
    orientation_of,
)
from nas.data.raw_format import RawFormat
from search_spaces.errors import DataError
from search_spaces.system.file_errors import sentence

Mosaic = UInt16[np.ndarray, "h w"]
Target = UInt8[np.ndarray, "h w 3"]

# Of the pixels of an 8-bit mosaic: more at its largest value, and counts were cut off or squeezed into 8 bits.
MOST_CUT_OFF = 0.001


def workers() -> int:
    """Threads to decode with; zlib and libjpeg release the interpreter lock."""
    return min(8, os.cpu_count() or 1)


def read_raw(path: Path) -> Mosaic:
    """Read a 16-bit single-channel mosaic of even height and width; its levels are not judged here."""
    image = read_raw_of_any_size(path)
    if image.shape[0] % 2 or image.shape[1] % 2:
        raise DataError(
            f'The mosaic "{path}" has {size_of(image)}, and a Bayer pattern needs an even height and width; crop it to '
            "whole 2×2 tiles."
        )
    return image


def read_raw_of_any_size(path: Path) -> Mosaic:
    """Read a 16-bit single-channel mosaic, odd sides included; its levels are not judged here."""
    image, mode = _pixels(path)
    _refuse_not_a_number(image, path, "a 16-bit grey PNG")
    if mode == "L":
        return _counts_of_8_bits(image, path)
    if mode.startswith("RGB"):
        raise DataError(
            f'"{path}" is a colour image, and a mosaic has a single channel of 16 bits; give the mosaic itself, or '
            "exchange the two folders if they are swapped."
        )
    if image.dtype != np.uint16 or image.ndim != 2:
        raise DataError(
            f'"{path}" has mode {mode} ({image.dtype.itemsize * 8}-bit), and a mosaic has a single channel of 16 bits; '
            "write it as a 16-bit grey PNG without rescaling."
        )
    return image


def _counts_of_8_bits(image: Shaped[np.ndarray, "h w"], path: Path) -> Mosaic:
    """Return an 8-bit mosaic as counts: dark crops of public sets are stored so, all their counts being below 256.

    Raises DataError where many values are the largest of 8 bits, for then they are no counts.
    """
    top = np.iinfo(np.uint8).max
    if np.count_nonzero(image == top) > MOST_CUT_OFF * image.size:
        raise DataError(
            f'"{path}" is 8-bit grey in which many values reach {top}: they cannot be the counts of a sensor; write '
            "the mosaic as a 16-bit grey PNG without rescaling."
        )
    return image.astype(np.uint16)


def read_rgb(path: Path) -> Target:
    """Read an 8-bit, three-channel target."""
    image, mode = _pixels(path)
    _refuse_not_a_number(image, path, "an 8-bit RGB image")
    if mode != "RGB":
        raise DataError(f'"{path}" has mode {mode}, and a target has three channels (RGB) of 8 bits; write it so.')
    return image


def _pixels(path: Path) -> tuple[Shaped[np.ndarray, "h w *c"], str]:
    """The pixels and the mode as stored; Pillow silently narrows 16-bit RGB, so that is named apart."""
    try:
        with open_picture(path) as image:
            bits = bits_per_channel(image, _start(path))
            _refuse_turned(image, path)
            image.load()
            mode = image.mode
            pixels = np.asarray(image)
    except NotAPictureError as error:
        raise DataError(
            f'"{path}" cannot be read as an image: it is {error}; give a PNG or TIFF, for targets a JPEG, too.'
        ) from None
    except DAMAGE as error:
        if isinstance(error, OSError) and error.errno:  # Pillow's own have none
            raise DataError(sentence(error, path=path, action="read")) from None
        reason = f"more than {MOST_PIXELS // 10**6} megapixels" if _is_bomb(error) else str(error)
        raise DataError(f'The image "{path}" is damaged ({reason}); copy it from the source again.') from error
    if mode in ("RGB", "RGBA") and bits > 8:
        mode = f"{mode} with {bits} bits"
    return (pixels.astype(np.uint16, copy=False) if mode.startswith("I;16") else pixels), mode


def _refuse_turned(image: Image.Image, path: Path) -> None:
    """Raise DataError for a picture that is marked to be turned: mosaic and target would lie in two ways."""
    orientation = orientation_of(image)
    if orientation != EXIF_UPRIGHT:
        raise DataError(
            f'"{path}" is marked to be turned or mirrored where it is looked at (EXIF orientation {orientation}), and '
            "pairs lie as they are stored: store it so that it lies like the other file of its pair, without the mark."
        )


def _is_bomb(error: BaseException) -> bool:
    return isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning)


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEADER_BYTES)


def _refuse_not_a_number(image: Shaped[np.ndarray, "h w *c"], path: Path, wanted: str) -> None:
    """Say so where a float file holds NaN: that it is no integer file either would be said first and mislead."""
    if np.issubdtype(image.dtype, np.floating) and not np.isfinite(image).all():
        wrong = np.count_nonzero(~np.isfinite(image))
        raise DataError(
            f'"{path}" holds floating point, and {wrong} of its {image.size} values are NaN or infinite; find out '
            f"where they come from and write it as {wanted}."
        )


def size_of(image: Shaped[np.ndarray, "h w *c"]) -> str:
    """Return height × width."""
    return f"{image.shape[0]}×{image.shape[1]}"


def check_levels(raw: Mosaic, path: Path, fmt: RawFormat, *, hint: str | None = None) -> None:
    """Raise `DataError` when a value is above the white level; `hint` is what else may be wrong with the file."""
    top = int(raw.max())
    if top <= fmt.white_level:
        return
    if top < 2**fmt.bits:
        raise DataError(
            f'"{path}" holds raw values up to {top}, above the white level of {fmt.white_level}; raise the declared '
            "white level."
        )
    cure = "give the sensor's bit depth with --bits" if hint is None else hint
    raise DataError(
        f'"{path}" holds raw values up to {top}, which needs {top.bit_length()} bits, and {fmt.bits} bits (at most '
        f"{fmt.white_level}) are declared; {cure}."
    )
