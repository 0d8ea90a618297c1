"""Find where a photograph of the camera shows what the mosaic shows: features, and the homography most agree with.

Source: Lowe, "Distinctive Image Features from Scale-Invariant Keypoints", IJCV 60, 2004 (features and the ratio test);
Barath et al., "MAGSAC++, a Fast, Reliable and Accurate Robust Estimator", CVPR 2020; both as implemented in OpenCV.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt8

from search_spaces.errors import DataError

LONG_SIDE = 1200  # px at which features are looked for
FEATURES = 4000
RATIO = 0.8
WITHIN_PX = 4.0  # of LONG_SIDE: lenses bend lines, and near things are displaced; dense alignment follows
LEAST_FEATURES = 16
LEAST_AGREEING, LEAST_SHARE = 16, 0.08  # other scenes reach 9 features that agree
MOST_SCALE = 32.0  # between the two pictures
MOST_TRIES = 10_000
QUARTER = 90

Matrix = Float64[np.ndarray, "3 3"]
Grey = UInt8[np.ndarray, "h w"]
Photo = UInt8[np.ndarray, "rows columns"]  # grey, too


@dataclass(frozen=True)
class View:
    """How the camera's picture lies to the grey picture of the mosaic."""

    homography: Matrix  # pixel of the grey picture → pixel of the camera's, (right, down, 1)
    agreeing: int
    features: int

    @property
    def degrees(self) -> float:
        """By how much the camera's picture is turned, clockwise."""
        return float(np.degrees(np.arctan2(self.homography[1, 0], self.homography[0, 0])))

    def scale(self, shape: tuple[int, ...]) -> float:
        """Pixels of the camera's picture for one of the grey picture, in its middle."""
        middle = np.array([shape[1] / 2, shape[0] / 2])
        steps = middle + np.array([[0, 0], [1, 0], [0, 1]])
        centre, right, down = transformed(self.homography, steps)
        return float(np.sqrt(abs(np.linalg.det(np.stack([right - centre, down - centre])))))


def transformed(homography: Matrix, points: Float64[np.ndarray, "n 2"]) -> Float64[np.ndarray, "n 2"]:
    """Map points (right, down)."""
    mapped = np.column_stack([points, np.ones(len(points))]) @ homography.T
    flat: Float64[np.ndarray, "n 2"] = mapped[:, :2] / mapped[:, 2:]
    return flat


def find_view(grey: Grey, picture: Photo) -> View:
    """Find the view; raises DataError where the two do not show one scene, or one of them is mirrored."""
    mine, theirs = _Features.of(grey), _Features.of(picture)
    for features, what in ((mine, "mosaic"), (theirs, "target")):
        if len(features.places) < LEAST_FEATURES:
            raise DataError(
                f"the {what} shows too little to be matched by ({len(features.places)} features); leave the photograph "
                "out"
            )
    view = _view(mine, theirs, grey.shape)
    if view is not None:
        return view
    if _view(_Features.of(np.ascontiguousarray(grey[:, ::-1])), theirs, grey.shape) is not None:
        raise DataError("the target is mirrored; flip it back")
    raise DataError(
        "mosaic and target do not show the same scene (features that agree are no more than by chance); match "
        "photographs by --match time or by a CSV, or leave it out"
    )


@dataclass(frozen=True)
class _Features:
    places: Float32[np.ndarray, "n 2"]  # px of the picture as it was given
    descriptors: Float32[np.ndarray, "n d"]

    @classmethod
    def of(cls, picture: Grey) -> "_Features":
        size = [max(1, round(side * min(1.0, LONG_SIDE / max(picture.shape)))) for side in picture.shape[::-1]]
        small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        keypoints, descriptors = cv2.SIFT_create(nfeatures=FEATURES).detectAndCompute(small, None)
        if not keypoints:
            return cls(np.empty((0, 2), np.float32), np.empty((0, 128), np.float32))
        places = np.array([each.pt for each in keypoints])
        scale = np.array(picture.shape[::-1]) / size
        return cls(((places + 0.5) * scale - 0.5).astype(np.float32), descriptors)


def _view(mine: _Features, theirs: _Features, shape: tuple[int, ...]) -> View | None:
    pairs = cv2.BFMatcher().knnMatch(mine.descriptors, theirs.descriptors, k=2)
    good = [each[0] for each in pairs if len(each) == 2 and each[0].distance < RATIO * each[1].distance]
    if len(good) < LEAST_AGREEING:
        return None
    here = mine.places[[each.queryIdx for each in good]]
    there = theirs.places[[each.trainIdx for each in good]]
    # Within so many px of the camera's picture; the estimator's own seed is fixed, so the result repeats.
    spread = np.ptp(there, axis=0).max() / LONG_SIDE
    homography, inside = cv2.findHomography(
        here, there, cv2.USAC_MAGSAC, max(WITHIN_PX * float(spread), 1.0), maxIters=MOST_TRIES, confidence=0.9999
    )
    if homography is None:
        return None
    view = View(homography.astype(np.float64), int(inside.sum()), len(good))
    enough = view.agreeing >= max(LEAST_AGREEING, LEAST_SHARE * len(good))
    return view if enough and _is_plausible(view, shape) else None


def _is_plausible(view: View, shape: tuple[int, ...]) -> bool:
    """Whether the frame stays a convex shape of its own orientation, neither mirrored nor folded."""
    height, width = shape[0], shape[1]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64)
    depths = np.column_stack([corners, np.ones(4)]) @ view.homography[2]
    if depths.min() <= 0:
        return False
    mapped = transformed(view.homography, corners)
    sides = np.roll(mapped, -1, axis=0) - mapped
    after = np.roll(sides, -1, axis=0)
    turns = sides[:, 0] * after[:, 1] - sides[:, 1] * after[:, 0]
    return bool((turns > 0).all()) and 1 / MOST_SCALE < view.scale(shape) < MOST_SCALE


def quarter_turns(degrees: float) -> int:
    """Return the nearest number of quarter turns clockwise, 0 to 3."""
    return round(degrees / QUARTER) % 4
