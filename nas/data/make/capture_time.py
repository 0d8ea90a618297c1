"""When a photograph was taken, in seconds of the camera's own clock, and how far two clocks are apart."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from nas.data.camera_raw import has_signature, opened
from nas.data.layout import CAMERA_SUFFIXES
from nas.data.picture_file import DAMAGE, open_picture
from search_spaces.errors import DataError

_EXIF, _ORIGINAL, _FRACTION = 0x8769, 0x9003, 0x9291
_FORMAT = "%Y:%m:%d %H:%M:%S"
_EPOCH = datetime(1970, 1, 2)  # what files without a time seem to say


def taken_at(path: Path) -> float | None:
    """Return when a photograph was taken by its camera's clock, None where the file does not tell."""
    try:
        return _of_raw(path) if path.suffix.lower() in CAMERA_SUFFIXES else _of_picture(path)
    except (*DAMAGE, DataError):  # whoever reads its pixels says what is wrong with it
        return None


def _of_raw(path: Path) -> float | None:
    if not has_signature(path):
        return None
    with opened(path) as raw:
        time = raw.other.timestamp
    return time.replace(tzinfo=None).timestamp() if time.replace(tzinfo=None) > _EPOCH else None


def _of_picture(path: Path) -> float | None:
    with open_picture(path, for_pixels=False) as image:
        exif = image.getexif().get_ifd(_EXIF)
    if _ORIGINAL not in exif:
        return None
    fraction = str(exif.get(_FRACTION, "")).strip("\0 ")
    seconds = datetime.strptime(str(exif[_ORIGINAL]).strip("\0 "), _FORMAT).timestamp()
    return seconds + (float(f"0.{fraction}") if fraction.isdecimal() else 0.0)


def clock_offset(mine: Sequence[float], theirs: Sequence[float], *, within_s: float) -> float:
    """Return by how much the other clock is ahead: the difference at which most photographs find a partner.

    Of equal ones the nearest to 0 is taken: two clocks that are right need no offset.
    """
    own, other = np.sort(np.asarray(mine, np.float64)), np.sort(np.asarray(theirs, np.float64))
    differences = np.sort(np.subtract.outer(other, own).ravel())  # equal ones are as many votes
    candidates = np.unique(np.concatenate([[0.0], differences]))
    near = np.searchsorted(differences, candidates + within_s, side="right") - np.searchsorted(
        differences, candidates - within_s, side="left"
    )
    # A burst finds one partner many times; only of the foremost it is counted who finds any.
    foremost = candidates[np.argsort(-near, kind="stable")[:_FOREMOST]]
    partners = np.array([(_nearest(own + each, other) <= within_s).sum() for each in foremost])
    best = foremost[partners == partners.max()]
    chosen = float(best[np.abs(best).argmin()])
    around = differences[np.abs(differences - chosen) <= within_s]
    return float(np.median(around)) if len(around) else chosen


_FOREMOST = 200


def _nearest(times: Float64[np.ndarray, "n"], sorted_: Float64[np.ndarray, "m"]) -> Float64[np.ndarray, "n"]:
    """Return how far each time is from the nearest of others."""
    right = np.searchsorted(sorted_, times).clip(0, len(sorted_) - 1)
    left = (right - 1).clip(0)
    nearest: Float64[np.ndarray, n] = np.minimum(np.abs(sorted_[right] - times), np.abs(sorted_[left] - times))
    return nearest
