"""Read a camera's RAW file: the mosaic and its metadata.

A PNG or TIFF holds the mosaic alone, so its format has to be told. DNG and the other RAW files of cameras bring
pattern, black levels, white level and orientation; LibRaw reads them, through rawpy.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Shaped, UInt8, UInt16
from PIL import ImageOps

from nas.data.colour_filters import greens_lie_as_in, is_quad_mosaic, looks_exchanged
from nas.data.decode import check_levels, read_raw_of_any_size, read_rgb
from nas.data.dng import require_whole
from nas.data.layout import CAMERA_SUFFIXES, LAYOUTS, RAW_SUFFIXES, RGB_SUFFIXES, is_mosaic_alone
from nas.data.picture_file import DAMAGE, open_picture
from nas.data.raw_dump import RawDump, doubt
from nas.data.raw_format import PATTERNS, RawFormat
from search_spaces.errors import DataError
from search_spaces.system import stored
from search_spaces.system.file_errors import acting_on, walked
from search_spaces.system.native_stderr import quiet
from search_spaces.system.printable import is_text

if TYPE_CHECKING:
    from rawpy import RawPy

# What files of cameras begin with, at which byte. A file without one of these is numbers alone: LibRaw would take it
# for a camera by its size.
_SIGNATURES = (
    (0, b"II*\x00"), (0, b"MM\x00*"), (0, b"IIU\x00"), (0, b"IIRO"), (0, b"IIRS"), (0, b"MMOR"), (6, b"HEAPCCDR"),
    (4, b"ftypcrx "), (0, b"FUJIFILMCCD-RAW"), (0, b"\x00MRM"), (0, b"FOVb"), (0, b"II+\x00"), (0, b"MM\x00+"),
    (0, b"DSC-Image"), (0, b"PWAD"), (0, b"ARRI"), (0, b"NORMAL"),
)  # fmt: skip
_PICTURES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"RIFF", b"%!PS", b"%PDF")
_SIGNATURE_BYTES = 16
_LARGEST, _OF_14_BITS = 2**16 - 1, 2**14 - 1
# LibRaw's number for how the camera was held is made of these.
_MIRRORED, _UPSIDE_DOWN, _TRANSPOSED = 1, 2, 4
_BAYER = 2  # px after which the mosaic repeats
_OTHER_SENSORS = {0: "colours without a mosaic", 1: "a sensor without colours", 6: "the mosaic of an X-Trans sensor"}


@dataclass(frozen=True)
class Mosaic:
    """A Bayer mosaic, and what is needed to read it."""

    values: UInt16[np.ndarray, "h w"]
    pattern: str
    black: tuple[float, ...]  # of the four places of the 2×2 tile, row by row
    white: float
    orientation: int = 0  # as LibRaw counts: 1 columns backwards, 2 rows backwards, 4 then rows and columns exchanged
    notes: tuple[str, ...] = ()  # what a person should know of it

    def upright(self, picture: Shaped[np.ndarray, "h w 3"]) -> Shaped[np.ndarray, "h2 w2 3"]:
        """Return a picture of this mosaic as it is to be looked at; a view."""
        return upright(picture, self.orientation)

    @property
    def levels(self) -> str:
        """Black and white in words; one number where all places are alike."""
        black = "/".join(f"{level:g}" for level in (self.black if len(set(self.black)) > 1 else self.black[:1]))
        return f"{black}–{self.white:g}"


def upright(picture: Shaped[np.ndarray, "h w 3"], orientation: int) -> Shaped[np.ndarray, "h2 w2 3"]:
    """Turn and mirror a picture by LibRaw's number; a view."""
    rows, columns = (slice(None, None, -1 if orientation & bit else 1) for bit in (_UPSIDE_DOWN, _MIRRORED))
    moved = picture[rows, columns]
    return moved.swapaxes(0, 1) if orientation & _TRANSPOSED else moved


@dataclass(frozen=True)
class Reference:
    """Somebody else's picture of the same RAW, upright, and who made it."""

    rgb: UInt8[np.ndarray, "h w 3"]
    made_by: str


def find_raw_files(path: Path) -> list[Path]:
    """Return a file itself, or every RAW file below a folder in order, targets of pairs left out.

    Raises DataError where there is none.
    """
    if not path.exists():
        raise DataError(f'No RAW file or folder at "{path}"; check the path.')
    if not path.is_dir():
        return [path]
    files = sorted(_walk(path))
    if not files:
        raise DataError(
            f'No RAW files in "{path}"; mosaics end with {", ".join(RAW_SUFFIXES)}, cameras\' RAW with '
            ".dng, .cr3, .nef, .arw and the like."
        )
    return files


def _walk(folder: Path) -> Iterator[Path]:
    for at, folders, names in walked(folder, DataError):
        targets = {rgb for raw, rgb in LAYOUTS if raw in folders and rgb in folders}
        folders[:] = [name for name in folders if name not in targets and not name.startswith(".")]
        for name in names:
            if Path(name).suffix.lower() in (*RAW_SUFFIXES, *CAMERA_SUFFIXES) and not name.startswith("."):
                yield Path(at) / name


def read_mosaic(path: Path, fmt: RawFormat, *, pattern: str | None = None, dump: RawDump | None = None) -> Mosaic:
    """Read a mosaic; `fmt` is what a PNG, a TIFF or a dump means, a camera's RAW says so itself.

    `pattern` is to hold whatever a camera's RAW says; `dump` says how files without a header are stored.

    Raises DataError for a file that is damaged, no mosaic, or not of a Bayer sensor.
    """
    doubted = None
    if is_mosaic_alone(path):
        values = read_raw_of_any_size(path)
    elif has_signature(path):
        require_whole(path)
        with opened(path) as raw:
            return _of_camera(raw, path, pattern)
    elif dump is not None:
        values = dump.read(path)
        doubted = doubt(values, dump)
    else:
        raise _without_header(path)
    check_levels(values, path, fmt, hint=doubted)
    notes = () if doubted is None else (doubted,)
    return Mosaic(values, fmt.pattern, (float(fmt.black),) * 4, float(fmt.white_level), notes=notes)


def has_signature(path: Path) -> bool:
    """Tell whether a file says of itself that a camera made it; raise DataError for what is no RAW file at all."""
    with acting_on(path, "read", DataError), stored.opened(path) as file:
        start = file.read(_SIGNATURE_BYTES)
    if not start:
        raise DataError(f'The RAW file "{path}" is damaged: it has 0 bytes; copy it again.')
    if start.startswith(_PICTURES):
        raise _no_raw(path)
    return any(start[at:].startswith(signature) for at, signature in _SIGNATURES)


def _without_header(path: Path) -> DataError:
    return DataError(
        f'"{path}" has {path.stat().st_size} bytes without a header that says what they are, and is no camera\'s RAW '
        "file; for a dump of a sensor's frame give --size (height x width), --bits, --pattern and --storage."
    )


def _no_raw(path: Path) -> DataError:
    return DataError(
        f'"{path}" is neither a mosaic as 16-bit grey PNG nor a camera\'s RAW file; give '
        "the RAW itself, not a finished picture."
    )


@contextmanager
def opened(path: Path) -> "Iterator[RawPy]":
    """Open a camera's RAW; whatever LibRaw has to say about it becomes one sentence."""
    import rawpy

    try:
        with quiet(drop=True), rawpy.imread(_openable(path)) as raw:
            yield raw
    except rawpy.LibRawFileUnsupportedError:
        raise DataError(
            f'"{path}" is of a kind or compression that LibRaw does not read; convert it to DNG with another tool.'
        ) from None
    except rawpy.LibRawError as error:
        reason = error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else str(error)
        raise DataError(f'The RAW file "{path}" is damaged (LibRaw: {reason}); copy it again.') from None


def _openable(path: Path) -> str | BytesIO:
    """Return a name, or the content of a file whose name is no UTF-8: rawpy takes none else."""
    return str(path) if is_text(str(path)) else BytesIO(path.read_bytes())


def _without_white(recorded: UInt16[np.ndarray, "h w"], white: float) -> str:
    """Say that a file seems to name no white level: that of 16 bits holds then, which a sensor of 14 never reaches."""
    most = int(recorded.max(initial=0))
    if white < _LARGEST or most > _OF_14_BITS:
        return ""
    return (
        f"its file seems to name no white level: {white:g} was taken, and no value is above {most}; give it by --white"
    )


def _of_camera(raw: "RawPy", path: Path, pattern: str | None) -> Mosaic:
    places = _colours(raw, path)
    black = tuple(float(raw.black_level_per_channel[index]) for index in places)
    white = float(raw.white_level)
    if not max(black) < white:
        raise DataError(
            f'The white level {white:g} of "{path}" is not above its black level {black}; convert it to DNG '
            "with another tool."
        )
    recorded = raw.raw_image_visible
    values = np.minimum(recorded, np.uint16(min(white, 2**16 - 1)))  # sensors go on a little above white
    labelled = _pattern(raw, places, path)
    if is_quad_mosaic(values, black=black):
        raise _no_bayer(path, f"filters that repeat every 4 px, as of a Quad-Bayer sensor, under the label {labelled}")
    doubts = _doubted(values, black, pattern or labelled) or _exchanged(
        values, black, pattern or labelled, raw.camera_whitebalance
    )
    cut = "values above its white level are stored as the white level" if (recorded > white).any() else ""
    notes = tuple(filter(None, [_overridden(labelled, pattern), doubts, cut, _without_white(recorded, white)]))
    return Mosaic(values, pattern or labelled, black, white, raw.sizes.flip, notes)


def _overridden(labelled: str, pattern: str | None) -> str | None:
    return f"the file says {labelled}, read as {pattern}" if pattern and pattern != labelled else None


def _doubted(values: UInt16[np.ndarray, "h w"], black: tuple[float, ...], pattern: str) -> str | None:
    """Say so where the places that should be green are less alike than the other two."""
    if greens_lie_as_in(values, pattern, black=black):
        return None
    others = ", ".join(other for other in PATTERNS if (other[0] == "G") != (pattern[0] == "G"))
    return f"its greens are not where {pattern} has them: if colours are wrong, give --pattern ({others})"


def _exchanged(
    values: UInt16[np.ndarray, "h w"], black: tuple[float, ...], pattern: str, gains: Sequence[float]
) -> str | None:
    """Say so where the camera's white balance would make more sense of red and blue exchanged."""
    if not looks_exchanged(values, pattern, black=black, red_gain=gains[0], blue_gain=gains[2]):
        return None
    other = pattern.translate(str.maketrans("RB", "BR"))
    return (
        f"by its white balance it is far from grey as {pattern}, and near it as {other}: if colours are wrong, "
        f"give --pattern {other}"
    )


def _colours(raw: "RawPy", path: Path) -> list[int]:
    """Return LibRaw's indices of colours in the visible 2×2 tile, row by row."""
    try:
        tile = raw.raw_pattern
    except NotImplementedError as error:  # of sensors that LibRaw knows and rawpy does not
        raise _no_bayer(path, f"filters of another kind ({error})") from None
    period = 0 if tile is None else len(tile)
    if tile is None or period != _BAYER:
        raise _no_bayer(path, _OTHER_SENSORS.get(period, f"a mosaic that repeats every {period} px"))
    top, left = raw.sizes.top_margin % _BAYER, raw.sizes.left_margin % _BAYER
    return [int(index) for index in np.roll(tile, (-top, -left), (0, 1)).ravel()]


def _pattern(raw: "RawPy", places: list[int], path: Path) -> str:
    pattern = "".join(chr(raw.color_desc[index]) for index in places)
    if pattern not in PATTERNS:
        other = (
            "as of a Quad-Bayer sensor" if set(pattern) <= set("RGB") else "of other colours than red, green and blue"
        )
        raise _no_bayer(path, f"filters {pattern[:2]}/{pattern[2:]}, {other}")
    return pattern


def _no_bayer(path: Path, got: str) -> DataError:
    return DataError(
        f'"{path}" has {got}, not a Bayer mosaic; only RAW of Bayer sensors can be rendered, Quad-Bayer RAW once '
        "the camera has binned or remosaiced it."
    )


def read_reference(path: Path) -> Reference | None:
    """Return the camera's own picture of a RAW, the target of a pair's mosaic, or None where there is neither."""
    if is_mosaic_alone(path):
        target = _target_beside(path)
        return None if target is None else Reference(read_rgb(target), "target")
    if not has_signature(path):
        return None
    try:
        with opened(path) as raw:
            return Reference(raw.postprocess(use_camera_wb=True), "LibRaw, camera white balance")
    except DataError:
        return _preview(path)


def _target_beside(path: Path) -> Path | None:
    for raw, rgb in LAYOUTS:
        if path.parent.name == raw:
            targets = [path.parent.with_name(rgb) / f"{path.stem}{suffix}" for suffix in RGB_SUFFIXES]
            return next((target for target in targets if target.is_file()), None)
    return None


def _preview(path: Path) -> Reference | None:
    import rawpy

    try:
        with opened(path) as raw:
            preview, flip = raw.extract_thumb(), raw.sizes.flip
    except DataError:
        return None
    if preview.format == rawpy.ThumbFormat.BITMAP:
        return Reference(upright(np.asarray(preview.data), flip), "embedded preview")
    try:
        with open_picture(BytesIO(bytes(preview.data)), ["JPEG"]) as image:
            return Reference(np.asarray(ImageOps.exif_transpose(image).convert("RGB")), "embedded preview")
    except DAMAGE:
        return None
