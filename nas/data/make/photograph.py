"""Make the pairs of one photograph: read, bring to one phase, align, cut, judge."""

from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from jaxtyping import Shaped, UInt8, UInt16

from nas.data.camera_raw import Mosaic, read_mosaic
from nas.data.make.coarse_alignment import View, find_view, quarter_turns
from nas.data.make.colour_profile import narrowed
from nas.data.make.dense_alignment import Alignment, identity, refine
from nas.data.make.development import develop
from nas.data.make.one_phase import in_phase, with_levels, without_black
from nas.data.make.patch_judging import Judgement, judge, measure_maps, positions
from nas.data.make.sources import EMBEDDED, LIBRAW, Photograph
from nas.data.make.target_picture import Picture, TargetPicture, read_embedded, read_picture, render_libraw
from nas.data.raw_dump import RawDump
from nas.data.raw_format import RawFormat
from search_spaces.errors import DataError, UnknownNameError, UsageError

KEEP, SUBTRACT = BLACK_CHOICES = ("keep", "subtract")
# How a camera's picture is turned against a sensor that is held so; LibRaw's numbers.
_QUARTERS = {3: 2, 5: 3, 6: 1}
LEAST_SCALE = 0.5  # px of the target for one of the mosaic
LEAST_PATCH, PATCH_MULTIPLE = 64, 2
GREY_WITHIN = 1  # of 255, between the channels of a picture without colours
SHOWN_SIDE = 480  # px of a photograph in the report


@dataclass(frozen=True)
class MakeSettings:
    """How patches are cut; what an output folder was begun with."""

    target: str  # embedded, sidecar, libraw, or "folder" for photographs of another camera
    patch: int = 256
    stride: int | None = None  # None: patches lie side by side
    phase: str = "RGGB"
    black_levels: str = KEEP
    raw: RawFormat = field(default_factory=RawFormat)  # of mosaics without metadata
    pattern: str | None = None  # what holds whatever a RAW says
    black: int | tuple[float, ...] | None = None  # of all, or of each of the four places of the tile, row by row
    white: int | None = None
    dump: RawDump | None = None

    def validate(self) -> None:
        """Raise UsageError for what no pairs can be cut by."""
        self.raw.validate()
        replace(self.raw, pattern=self.phase).validate()
        if isinstance(self.black, tuple) and (len(self.black) != 4 or not all(0 <= b < 2**16 for b in self.black)):
            raise UsageError(
                "Black levels of a tile are four numbers from 0 to 65535, row by row, such as 64,65,65,64; got "
                f"{','.join(f'{level:g}' for level in self.black)}."
            )
        if self.black_levels not in BLACK_CHOICES:
            raise UnknownNameError("treatment of black levels", self.black_levels, BLACK_CHOICES)
        if self.patch < LEAST_PATCH or self.patch % PATCH_MULTIPLE:
            raise UsageError(f"A patch is an even number from {LEAST_PATCH}, got {self.patch}; give another --patch.")
        if self.stride is not None and (self.stride < PATCH_MULTIPLE or self.stride % PATCH_MULTIPLE):
            raise UsageError(f"A stride is an even number of pixels, got {self.stride}; give another --stride.")


@dataclass(frozen=True)
class Cut:
    """A patch that was kept."""

    judgement: Judgement
    mosaic: UInt16[np.ndarray, "p p"]
    target: UInt8[np.ndarray, "p p 3"]


@dataclass(frozen=True)
class Made:
    """All patches of one photograph, and what is true of it as a whole."""

    mosaic: Mosaic  # in its phase
    begins: tuple[int, int]  # of the mosaic in the phase, in the sensor's
    grey: UInt8[np.ndarray, "h w"]
    alignment: Alignment
    shown: UInt8[np.ndarray, "a b 3"]  # the target as the mosaic sees it, small
    judgements: tuple[Judgement, ...]
    cuts: tuple[Cut, ...]
    agreeing: int | None  # features; None where nothing had to be matched
    degrees: float
    scale: float  # px of the target for one of the mosaic
    target_bits: int  # of a channel, in the file
    target_colours: str
    notes: tuple[str, ...]


def make(photograph: Photograph, settings: MakeSettings) -> Made:
    """Make the patches of a photograph; raises DataError with one sentence where none can be made."""
    read = read_mosaic(photograph.raw, settings.raw, pattern=settings.pattern, dump=settings.dump)
    mosaic, begins = in_phase(with_levels(read, settings.black, settings.white), settings.phase)
    if min(mosaic.values.shape) < settings.patch:
        raise DataError(
            f"The mosaic has {mosaic.values.shape[0]}×{mosaic.values.shape[1]} px, less than a patch of "
            f"{settings.patch}×{settings.patch}; give a smaller --patch."
        )
    grey = develop(mosaic.values, mosaic.black, mosaic.white)
    read_target = _read_target(photograph, settings)
    picture = read_target.pixels
    alignment, view = _aligned(grey, picture, read, begins, is_rendering=settings.target == LIBRAW)
    _require_colours(picture)
    if settings.black_levels == SUBTRACT:
        mosaic = without_black(mosaic)
    target = _moved(picture, alignment)
    judgements, cuts = _cut(mosaic, grey, target, alignment, settings)
    degrees = 0.0 if view is None else view.degrees
    return Made(
        mosaic=mosaic,
        begins=begins,
        grey=grey,
        alignment=alignment,
        shown=_small(target),
        judgements=judgements,
        cuts=cuts,
        agreeing=None if view is None else view.agreeing,
        degrees=degrees,
        scale=1.0 if view is None else view.scale(grey.shape) / 2,
        target_bits=read_target.bits,
        target_colours=read_target.colours,
        notes=(*mosaic.notes, *read_target.notes, *(() if view is None else _turned(degrees, read))),
    )


def _read_target(photograph: Photograph, settings: MakeSettings) -> TargetPicture:
    if photograph.target is not None:
        return read_picture(photograph.target)
    return read_embedded(photograph.raw) if settings.target == EMBEDDED else render_libraw(photograph.raw)


def _grey(picture: Picture) -> UInt8[np.ndarray, "rows columns"]:
    grey: Shaped[np.ndarray, "rows columns"] = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    return grey if grey.dtype == np.uint8 else narrowed(grey)


def _require_colours(picture: Picture) -> None:
    """Raise DataError for a picture in black and white that is stored as one of colours."""
    if np.ptp(narrowed(picture) if picture.dtype == np.uint16 else picture, axis=-1).max() <= GREY_WITHIN:
        raise DataError("the target is black and white, and a network would learn that; give it in colour")


def _aligned(
    grey: UInt8[np.ndarray, "h w"], picture: Picture, read: Mosaic, begins: tuple[int, int], *, is_rendering: bool
) -> tuple[Alignment, View | None]:
    """Align a picture; a rendering of the mosaic itself lies on it as it is."""
    if is_rendering and picture.shape[:2] == read.values.shape:
        rows, columns = (slice(at, at + 2 * side) for at, side in zip(begins, grey.shape, strict=True))
        return identity(grey, _grey(np.ascontiguousarray(picture[rows, columns])), begins), None
    shown = _grey(picture)
    view = find_view(grey, shown)
    scale = view.scale(grey.shape) / 2
    if scale < LEAST_SCALE:
        raise DataError(
            f"The target has {scale:.2f} px for one of the mosaic ({picture.shape[1]}×{picture.shape[0]} in all), too "
            "few to be better than it; give one of full size."
        )
    return refine(grey, shown, view), view


def _turned(degrees: float, read: Mosaic) -> tuple[str, ...]:
    """Say so where a picture is turned by quarters in another way than the RAW says it is to be turned."""
    quarters = (quarter_turns(degrees) - _QUARTERS.get(read.orientation, 0)) % 4
    return (f"the target was turned by {90 * quarters}° against what the RAW says, and was turned back",) * bool(
        quarters
    )


def _moved(picture: Picture, alignment: Alignment) -> UInt8[np.ndarray, "h w 3"]:
    """Move the picture onto the mosaic, reduced before where it has many more pixels."""
    places = alignment.full()
    step = np.linalg.norm(places[:: max(1, len(places) - 1), 0] - places[:: max(1, len(places) - 1), -1], axis=-1)
    reduction = float(step.mean()) / max(1, places.shape[1] - 1)
    if reduction > 1:
        size = [max(1, round(side / reduction)) for side in picture.shape[1::-1]]
        scale = (np.array(size) / picture.shape[1::-1]).astype(np.float32)
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        places = (places + np.float32(0.5)) * scale - np.float32(0.5)
    moved: Picture = cv2.remap(picture, places, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return moved if moved.dtype == np.uint8 else narrowed(moved)


def _small(picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h2 w2 3"]:
    size = [max(1, round(side * min(1.0, SHOWN_SIDE / max(picture.shape[:2])))) for side in picture.shape[1::-1]]
    reduced: UInt8[np.ndarray, "h2 w2 3"] = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return reduced


def _cut(
    mosaic: Mosaic,
    grey: UInt8[np.ndarray, "h w"],
    target: UInt8[np.ndarray, "h2 w2 3"],
    alignment: Alignment,
    settings: MakeSettings,
) -> tuple[tuple[Judgement, ...], tuple[Cut, ...]]:
    maps = measure_maps(mosaic.values, grey, alignment, max(mosaic.black), mosaic.white)
    judgements, cuts = [], []
    side, stride = settings.patch, settings.stride or settings.patch
    for row, column in positions(alignment.inside, patch=side, stride=stride):
        here = slice(row, row + side), slice(column, column + side)
        judgement = judge(row, column, mosaic.values[here], target[here], maps)
        judgements.append(judgement)
        if judgement.reason is None:
            cuts.append(Cut(judgement, mosaic.values[here], target[here]))
    return tuple(judgements), tuple(cuts)


__all__ = ["BLACK_CHOICES", "Cut", "Made", "MakeSettings", "make"]
