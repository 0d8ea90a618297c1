"""Write RGB in [0, 1] as PNG of 8 or 16 bits or as JPEG, and two pictures of one scene side by side."""

from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image, ImageDraw, ImageFont

from nas.render.row_threads import in_strips
from search_spaces.errors import UsageError

Integers = np.ndarray[Any, Any]  # [h, w, 3], uint8 or uint16
BITS = (8, 16)
_COMPRESSION = 4  # of PNG: as small as 6 for photos, in a third of the time
_COMPARED_SIDE = 4096  # px of a panel, at most
_GAP = 8
COMPARISON_QUALITY = 92


@dataclass(frozen=True)
class FileKind:
    """How pictures are stored: PNG of so many bits, or JPEG where a quality is given."""

    bits: int = 8
    jpeg_quality: int | None = None

    def __post_init__(self) -> None:
        if self.bits not in BITS:
            raise UsageError(f"A picture has 8 or 16 bits per channel, got {self.bits}.")
        if self.jpeg_quality is not None and not 1 <= self.jpeg_quality <= 100:
            raise UsageError(f"The quality of a JPEG is 1 to 100, got {self.jpeg_quality}.")
        if self.jpeg_quality is not None and self.bits == 16:
            raise UsageError("A JPEG has 8 bits per channel; leave out --jpeg to get a PNG of 16.")

    @property
    def suffix(self) -> str:
        """What the file's name ends with."""
        return ".png" if self.jpeg_quality is None else ".jpg"


def to_integers(rgb: Float32[np.ndarray, "h w 3"], bits: int) -> Integers:
    """Clip to [0, 1] and round to whole numbers of so many bits."""
    white = 2**bits - 1
    whole = np.empty(rgb.shape, np.uint8 if bits == 8 else np.uint16)

    def some(rows: slice) -> None:
        scaled = np.multiply(rgb[rows], np.float32(white))
        scaled += np.float32(0.5)  # the cast cuts off what is behind the point
        np.clip(scaled, 0, white, out=scaled)
        np.copyto(whole[rows], scaled, casting="unsafe")

    in_strips(len(rgb), some)
    return whole


def encode(picture: Integers, kind: FileKind) -> bytes:
    """Return the bytes of a picture file."""
    if picture.dtype == np.uint16:
        return _png_of_16_bits(picture)
    file = BytesIO()
    if kind.jpeg_quality is None:
        Image.fromarray(picture).save(file, "PNG", compress_level=_COMPRESSION)
    else:
        Image.fromarray(picture).save(file, "JPEG", quality=kind.jpeg_quality, subsampling=0)
    return file.getvalue()


def _png_of_16_bits(picture: Integers) -> bytes:
    import png

    height, width, _ = picture.shape
    file = BytesIO()
    writer = png.Writer(width, height, greyscale=False, bitdepth=16)
    writer.write_packed(file, (row.tobytes() for row in picture.astype(">u2")))
    return file.getvalue()


def side_by_side(panels: list[tuple[str, UInt8[np.ndarray, "h w 3"]]]) -> bytes:
    """Return a JPEG of pictures next to each other, each under its label, at their own size where that can be drawn."""
    images = [_within(Image.fromarray(np.ascontiguousarray(picture)), _COMPARED_SIDE) for _, picture in panels]
    height = max(image.height for image in images)
    line = max(16, height // 40)
    width = sum(image.width for image in images) + _GAP * (len(images) - 1)
    sheet = Image.new("RGB", (width, height + 2 * line), "white")
    draw, left = ImageDraw.Draw(sheet), 0
    for (label, _), image in zip(panels, images, strict=True):
        draw.text((left + line // 2, line // 2), label, "black", _fitting_font(label, line, image.width - line))
        sheet.paste(image, (left, 2 * line))
        left += image.width + _GAP
    file = BytesIO()
    sheet.save(file, "JPEG", quality=COMPARISON_QUALITY, subsampling=0)
    return file.getvalue()


def _within(image: Image.Image, side: int) -> Image.Image:
    image.thumbnail((side, side))  # leaves smaller ones as they are
    return image


def _fitting_font(label: str, size: int, room: int) -> Any:
    """Return the largest font up to a size in which a label has room."""
    font = ImageFont.load_default(size)
    wide = font.getlength(label)
    return font if wide <= room else ImageFont.load_default(max(6, int(size * room / wide)))
