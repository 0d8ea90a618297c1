"""Follow the camera's picture pixel by pixel: optical flow in both directions, which must agree.

    grey picture of the mosaic ─ homography ─► place in the picture ─ flow ─► place, and how sure it is

Flow is computed at half the mosaic's size. Where both cameras see the same, its median error on a made photograph with
noise, another tone curve, two planes and a bent lens was 0.07 px of the mosaic and its 95th percentile 0.27 px; the
homography alone had 0.8 and 10.6 px, scikit-image's TV-L1 flow 0.11 and 1.2 px in 18 times the time
(benchmarks/photograph_alignment.json).
Source: Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016, as implemented in OpenCV.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Shaped

from nas.data.make.coarse_alignment import Grey, Matrix, Photo, View

SURE_BELOW_PX = 1.0  # of the mosaic
FILL_STEP = 8  # px of the grey picture, at which the flow around is averaged
FILL_REACHES = (32.0, 8.0, 2.5)  # deviations in such steps
FILL_BLEND = 1.5  # px over which one goes over into the other
LEAST_TRUST = 0.1  # share of sure pixels from which an average is believed
BORDER_PX = 2.0  # of the picture: interpolation reads so far
Places = Float32[np.ndarray, "h w 2"]  # (right, down)


@dataclass(frozen=True)
class Alignment:
    """For each pixel of the grey picture: its place in the camera's, and how far the two directions disagree."""

    places: Places  # px of the camera's picture
    disagreement_px: Float32[np.ndarray, "h w"]  # px of the mosaic
    inside: Bool[np.ndarray, "h w"]  # whether the camera's picture shows it
    matched: Grey  # the camera's picture as seen from there, toned like the mosaic's

    def full(self) -> Places:
        """Places for every pixel of the mosaic; pixel i of the grey picture lies at 2i + 0.5 of it."""
        height, width = self.places.shape[:2]
        wide = np.pad(self.places, ((1, 1), (1, 1), (0, 0)), mode="reflect", reflect_type="odd")  # goes on straight
        full = cv2.resize(wide, (2 * width + 4, 2 * height + 4), interpolation=cv2.INTER_LINEAR)
        inner: Places = np.ascontiguousarray(full[2:-2, 2:-2])
        return inner


def identity(grey: Grey, picture: Photo, begins: tuple[int, int]) -> Alignment:
    """The alignment of a picture that was made of the mosaic itself, pixel for pixel, from (row, column) on."""
    places = 2 * _grid(grey.shape) + np.array([begins[1], begins[0]], np.float32) + np.float32(0.5)
    matched = cv2.resize(picture, grey.shape[::-1], interpolation=cv2.INTER_AREA)
    sure = np.zeros(grey.shape, np.float32)
    return Alignment(places, sure, np.ones(grey.shape, bool), toned_like(matched, grey, sure == 0))


def refine(grey: Grey, picture: Photo, view: View) -> Alignment:
    """Align a picture whose view is known roughly."""
    seen, inside = _seen(picture, view, grey.shape)
    matched = toned_like(seen, grey, inside)
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow.setFinestScale(0)
    forth, back = _filled(flow.calc(grey, matched, None), flow.calc(matched, grey, None))
    at = _grid(grey.shape) + forth
    places = _mapped(view.homography, at)
    return Alignment(
        places=places,
        disagreement_px=_disagreement(forth, back),
        inside=_is_inside(places, picture.shape),
        matched=_moved(matched, at),
    )


def _disagreement(forth: Places, back: Places) -> Float32[np.ndarray, "h w"]:
    """How far from where it began a pixel ends that goes there and back, in px of the mosaic."""
    returned = forth + _moved(back, _grid(forth.shape) + forth)
    disagreement: Float32[np.ndarray, "h w"] = 2 * np.hypot(returned[..., 0], returned[..., 1])
    return disagreement


def _filled(forth: Places, back: Places) -> tuple[Places, Places]:
    """Replace both flows where they disagree by those around.

    In the dark and on plain walls noise leads the flow astray by tens of pixels. What is around is right there, and
    where it is not, as behind something that moved, the two pictures will not look alike.
    """
    return _smoothed(forth, _disagreement(forth, back)), _smoothed(back, _disagreement(back, forth))


def _smoothed(flow: Places, disagreement_px: Float32[np.ndarray, "h w"]) -> Places:
    sure = (disagreement_px < SURE_BELOW_PX).astype(np.float32)
    size = [max(1, side // FILL_STEP) for side in sure.shape[::-1]]
    weight = cv2.resize(sure, size, interpolation=cv2.INTER_AREA)
    weighted = cv2.resize(flow * sure[..., None], size, interpolation=cv2.INTER_AREA)
    around = np.zeros_like(weighted)
    for reach in FILL_REACHES:  # the farthest first, so that nearer ones replace it where they know something
        total = cv2.GaussianBlur(weight, (0, 0), reach)[..., None]
        near = cv2.GaussianBlur(weighted, (0, 0), reach) / np.maximum(total, 1e-6)
        trust = np.clip(total / LEAST_TRUST, 0, 1)
        around = trust * near + (1 - trust) * around
    around = cv2.resize(around, sure.shape[::-1], interpolation=cv2.INTER_LINEAR)
    keep = cv2.GaussianBlur(sure, (0, 0), FILL_BLEND)[..., None] * sure[..., None]
    filled: Places = keep * flow + (1 - keep) * around
    return filled


def _seen(picture: Photo, view: View, shape: tuple[int, ...]) -> tuple[Grey, Bool[np.ndarray, "h w"]]:
    """The picture as seen from the mosaic's place, reduced before where it has more pixels."""
    places = _mapped(view.homography, _grid(shape))
    inside = _is_inside(places, picture.shape)
    reduction = view.scale(shape)
    if reduction > 1:
        size = [max(1, round(side / reduction)) for side in picture.shape[::-1]]
        scale = (np.array(size) / picture.shape[::-1]).astype(np.float32)
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        places = (places + np.float32(0.5)) * scale - np.float32(0.5)
    return _moved(picture, places), inside


def toned_like(picture: Grey, wanted: Grey, where: Bool[np.ndarray, "h w"]) -> Grey:
    """Give a picture the brightness distribution of another, by one curve: a camera's tone curve is undone."""
    if not where.any():
        return picture
    shares = [np.cumsum(np.bincount(each[where], minlength=256)) / where.sum() for each in (picture, wanted)]
    curve = np.interp(shares[0], shares[1], np.arange(256))
    toned: Grey = cv2.LUT(picture, np.rint(curve).astype(np.uint8))
    return toned


def _grid(shape: tuple[int, ...]) -> Places:
    height, width = shape[0], shape[1]
    grid = np.empty((height, width, 2), np.float32)
    grid[..., 0], grid[..., 1] = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    return grid


def _mapped(homography: Matrix, places: Places) -> Places:
    mapped: Places = cv2.perspectiveTransform(places, homography)
    return mapped


def _moved(image: Shaped[np.ndarray, "rows columns *c"], places: Places) -> Shaped[np.ndarray, "h w *c"]:
    moved: Shaped[np.ndarray, "h w *c"] = cv2.remap(
        image, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return moved


def _is_inside(places: Places, shape: tuple[int, ...]) -> Bool[np.ndarray, "h w"]:
    right, down = places[..., 0], places[..., 1]
    inside: Bool[np.ndarray, "h w"] = (
        (right >= BORDER_PX)
        & (down >= BORDER_PX)
        & (right <= shape[1] - 1 - BORDER_PX)
        & (down <= shape[0] - 1 - BORDER_PX)
    )
    return inside
