"""Opening picture files: only in the formats that are meant, and no larger than a picture is.

Pillow knows many formats by their first bytes, whatever a file is called, and starts Ghostscript for one of them. So
every reader of pictures here opens them through `open_picture`.
"""

import ctypes
import re
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path

import PIL
import simplejpeg
from PIL import Image, UnidentifiedImageError

from search_spaces.errors import DataError
from search_spaces.system import stored
from search_spaces.system.file_errors import acting_on

FORMATS = ("PNG", "TIFF", "JPEG")
# The largest sensors of phones have 200 megapixels.
MOST_PIXELS = 210_000_000
# Pillow reports damage as any of these; see PIL.PngImagePlugin, PIL.TiffImagePlugin and PIL.ImageFile.
DAMAGE = (
    OSError, SyntaxError, ValueError, EOFError, KeyError, IndexError, TypeError, AttributeError, OverflowError,
    ZeroDivisionError, NotImplementedError, RuntimeError, MemoryError, struct.error, zlib.error,
    Image.DecompressionBombError, Image.DecompressionBombWarning, UserWarning,
)  # fmt: skip

# Pillow warns from here on and refuses twice as many; both are refused here.
Image.MAX_IMAGE_PIXELS = MOST_PIXELS
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)
# Of damage that it reads past, Pillow warns on the terminal.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


def _silence_libtiff() -> None:
    """Have libtiff print nothing of damage: Pillow raises an error then, which says it with the file's name.

    Pillow's wheels bring the library along. Where it is another one, its lines stay.
    """
    package = Path(PIL.__file__).parent
    for library in (*package.parent.glob("[Pp]illow.libs/libtiff*"), *package.glob(".dylibs/libtiff*")):
        with suppress(OSError, AttributeError):
            ctypes.CDLL(str(library)).TIFFSetErrorHandler(None)


_silence_libtiff()


class NotAPictureError(ValueError):
    """A file that is none of the formats."""


@contextmanager
def open_picture(
    source: Path | BytesIO, formats: Sequence[str] = FORMATS, *, for_pixels: bool = True
) -> Iterator[Image.Image]:
    """Open a picture of one of `formats`; raises one of `DAMAGE` where it is none, too large or damaged.

    Raises DataError where a file cannot be read at all, whatever a caller makes of damage: that is none.
    Who wants no pixels, but what is told beside them, need not wait until a JPEG is decoded to see if it is whole.
    """
    if isinstance(source, Path):
        with acting_on(source, "read", DataError):
            stored.require_file(source)
    try:
        image = Image.open(source, formats=list(formats))
    except UnidentifiedImageError:
        raise NotAPictureError(f"a file that is no {', '.join(formats[:-1])} or {formats[-1]}") from None
    with image:
        if for_pixels and image.format in _JPEG:
            _require_whole_jpeg(_content(source))
        if for_pixels and image.format == "PNG":
            _require_whole_png(_content(source))
        if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":  # a phone's JPEG may carry a depth map
            raise NotAPictureError(f"{getattr(image, 'n_frames', 1)} pictures in one file")
        yield image


def _content(source: Path | BytesIO) -> bytes:
    if not isinstance(source, Path):
        return source.getvalue()
    with acting_on(source, "read", DataError):
        return source.read_bytes()


def _require_whole_png(content: bytes) -> None:
    """Raise ValueError where the data of a PNG end before its last row: Pillow leaves the rest black without a word."""
    (width, height, depth, colour, *_, interlaced), expected, length = _PNG_HEADER.unpack_from(content, 16), 0, 0
    bits = depth * _PNG_CHANNELS.get(colour, 1)
    for first_row, first_column, rows, columns in _ADAM7 if interlaced else ((0, 0, 1, 1),):
        across, down = -(-(width - first_column) // columns), -(-(height - first_row) // rows)
        expected += down * (1 + (across * bits + 7) // 8) if across > 0 and down > 0 else 0
    unpacking = zlib.decompressobj()
    for data in _png_data(content):
        rest = data
        while rest and length < expected:
            length += len(unpacking.decompress(rest, _PNG_BLOCK))
            rest = unpacking.unconsumed_tail
    while length < expected and (block := unpacking.decompress(unpacking.unconsumed_tail, _PNG_BLOCK)):
        length += len(block)
    if length < expected:
        raise ValueError(f"its data end after {length} of {expected} bytes")


def _png_data(content: bytes) -> Iterator[bytes]:
    """Yield the chunks of a PNG that hold pixels."""
    at = 8
    while at + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        if kind == b"IDAT":
            yield content[at + 8 : at + 8 + length]
        at += 12 + length


# Width, height, bits, kind of colour, compression, filter, interlacing.
_PNG_HEADER = struct.Struct(">IIBBBBB")
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PNG_BLOCK = 1 << 20
# Of each pass of an interlaced PNG its first row and column, and how many rows and columns lie between.
_ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def _require_whole_jpeg(content: bytes) -> None:
    """Raise ValueError where the data of a JPEG are damaged: libjpeg fills up what is missing, and Pillow says nothing.

    Some phones pad the data before their end; other bytes there are data that the decoder lost its way in.
    """
    try:
        simplejpeg.decode_jpeg(content, "GRAY", fastdct=True, fastupsample=True)
    except ValueError as error:
        padded = _EXTRANEOUS.search(str(error))
        end = content.rfind(_JPEG_END)
        if padded and len(set(content[max(0, end - int(padded[1])) : end])) <= 1:
            return
        if str(error).startswith(_DAMAGED_JPEG):  # others are kinds that Pillow reads, as CMYK
            raise


_JPEG = ("JPEG", "MPO")
_JPEG_END = b"\xff\xd9"
# As libjpeg-turbo says it (jerror.h).
_EXTRANEOUS = re.compile(r"(\d+) extraneous bytes before marker 0xd9")
_DAMAGED_JPEG = ("Corrupt JPEG data", "Premature end of JPEG")


EXIF_UPRIGHT = 1
_ORIENTATION, _ORIENTATIONS = 274, range(EXIF_UPRIGHT, 9)  # of EXIF


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation of a picture; `EXIF_UPRIGHT` without a mark, or with one of no meaning.

    To be asked before the pixels are loaded: Pillow turns those of a TIFF then, and forgets the mark.
    """
    orientation = image.getexif().get(_ORIENTATION)
    return orientation if isinstance(orientation, int) and orientation in _ORIENTATIONS else EXIF_UPRIGHT


def bits_per_channel(image: Image.Image, content_start: bytes) -> int:
    """Return how many bits a channel has in the file; Pillow narrows 16-bit RGB to 8 without a word."""
    if image.format == "PNG" and len(content_start) > _PNG_BIT_DEPTH_AT:
        return content_start[_PNG_BIT_DEPTH_AT]
    if image.format == "TIFF":
        bits = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, 8)
        return max(bits) if isinstance(bits, tuple) else int(bits)
    return 8


_PNG_BIT_DEPTH_AT = 24  # signature 8, length 4, "IHDR" 4, width 4, height 4
_BITS_PER_SAMPLE = 258
HEADER_BYTES = _PNG_BIT_DEPTH_AT + 1
