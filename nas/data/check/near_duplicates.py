"""Pairs of two splits that show one scene though no file is a copy: burst frames, other exposures, shifted crops.

Small sharpened pictures of the targets are compared with all of the other splits, shifted a little, and turned and
mirrored; what is alike is read again and aligned at half size, which only one scene survives: alike as a whole and in
its parts. On 477 real pairs no two scenes of their own are taken for one.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, Int, UInt8

from nas.data.check.alignment import alike_by_tiles, edge_match
from nas.data.colour_filters import block_mean
from nas.data.decode import read_rgb
from search_spaces.errors import DataError

SIDE = 32  # px of a thumbnail
MARGIN = 3  # px that it may be shifted by
BLUR = 3.0
OFFSET = 8.0  # of 255, so that noise in the dark does not decide
TEXTURED_FROM = 0.03  # deviation of the sharpened logarithm
CANDIDATE_FROM = 0.8  # correlation of thumbnails
SAME_FROM = 0.6  # correlation of edges after undoing the shift; other scenes seldom reach 0.3
# … and by tiles: two real scenes that share an edge have 0.19; of 60 real ones taken again none has less than 0.41,
# whether moved, darker with noise, brighter, blurred or turned by a degree; 5 of 52 have, enlarged by 3 %.
SAME_BY_TILES_FROM = 0.4
ROWS_AT_ONCE = 256
UPRIGHT, *TURNED = range(8)  # how a picture may lie: quarter turns, from 4 on mirrored
TURNED_MARGIN = 1  # px that a turned thumbnail is shifted by: turned copies are seldom cut anew, and trying is slow

Thumbnail = Float[np.ndarray, "t t"]


class Pictured(Protocol):
    """A pair of which the target's thumbnail is known."""

    @property
    def thumbnail(self) -> Thumbnail | None:
        """The thumbnail, or None where there is too little in it."""

    @property
    def split(self) -> str:
        """The split it belongs to."""


def thumbnail(rgb: UInt8[np.ndarray, "h w 3"]) -> Thumbnail | None:
    """Return the sharpened logarithm of a target's luminance at a small size; None where it shows too little."""
    from scipy.ndimage import gaussian_filter

    side = min(rgb.shape[:2]) // SIDE
    if not side:
        return None
    small = np.log(block_mean(rgb, side).mean(axis=-1)[:SIDE, :SIDE] + OFFSET)
    sharpened: Thumbnail = (small - gaussian_filter(small, BLUR)).astype(np.float16)
    return sharpened if sharpened.astype(np.float32).std() >= TEXTURED_FROM else None


def middle(rgb: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "s s 3"]:
    """Return the square in the middle of a picture, which stays there however the picture is turned."""
    side = min(rgb.shape[:2])
    top, left = ((whole - side) // 2 for whole in rgb.shape[:2])
    return rgb[top : top + side, left : left + side]


def turned(picture: np.ndarray[Any, Any], orientation: int) -> np.ndarray[Any, Any]:
    """Return a picture [h, w, …] as it lies in one of the eight orientations."""
    moved = np.rot90(picture, orientation % 4)
    return moved[:, ::-1] if orientation >= 4 else moved


def candidates(first: Sequence[Thumbnail], second: Sequence[Thumbnail]) -> Iterator[tuple[int, int, int]]:
    """Yield for each of `first` the one of `second` that is most like it, where the two may be of one scene.

    The last number is the orientation of `first` in which it is; of those that are not upright the best is yielded,
    beside the one that is.
    """
    if not first or not second:
        return
    inner = slice(MARGIN, SIDE - MARGIN)
    known = _normalised(np.stack(second)[:, inner, inner])
    for start in range(0, len(first), ROWS_AT_ONCE):
        some = first[start : start + ROWS_AT_ONCE]
        for orientations, margin in (((UPRIGHT,), MARGIN), (TURNED, TURNED_MARGIN)):
            best = [_most_alike(np.stack([turned(t, each) for t in some]), known, margin) for each in orientations]
            for row in range(len(some)):
                likeness, column, orientation = max(
                    (float(values[row]), int(columns[row]), each)
                    for each, (values, columns) in zip(orientations, best, strict=True)
                )
                if likeness >= CANDIDATE_FROM:
                    yield start + row, column, orientation


def _most_alike(
    some: Float[np.ndarray, "n t t"], known: Float[np.ndarray, "m ab"], margin: int
) -> tuple[Float[np.ndarray, "n"], Int[np.ndarray, "n"]]:
    """Return for each thumbnail how alike the most alike of the known ones is when shifted so far, and which it is."""
    best = np.full((len(some), len(known)), -1, np.float32)
    shifts = range(MARGIN - margin, MARGIN + margin + 1)
    for down in shifts:
        for right in shifts:
            window = slice(down, SIDE - 2 * MARGIN + down), slice(right, SIDE - 2 * MARGIN + right)
            np.maximum(best, _normalised(some[:, *window]) @ known.T, out=best)
    return best.max(axis=1), best.argmax(axis=1)


def _normalised(windows: Float[np.ndarray, "n a b"]) -> Float[np.ndarray, "n ab"]:
    flat = windows.reshape(len(windows), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    scaled: Float[np.ndarray, "n ab"] = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
    return scaled


def show_one_scene(first: Path, second: Path, orientation: int = UPRIGHT) -> bool:
    """Tell whether two targets show one scene, shifted or not, once the first lies in that orientation."""
    try:
        a, b = turned(read_rgb(first), orientation), read_rgb(second)
    except DataError:
        return False
    rows, columns = min(a.shape[0], b.shape[0]), min(a.shape[1], b.shape[1])
    ours, theirs = _luminance(a[:rows, :columns]), _luminance(b[:rows, :columns])
    match = edge_match(ours, theirs)
    if match is None or not match.is_plane or match.correlation < SAME_FROM:
        return False
    return alike_by_tiles(ours, theirs, match.shift) >= SAME_BY_TILES_FROM


def _luminance(rgb: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h2 w2"]:
    luminance: Float[np.ndarray, "h2 w2"] = np.sqrt(block_mean(rgb, 2).mean(axis=-1))
    return luminance
