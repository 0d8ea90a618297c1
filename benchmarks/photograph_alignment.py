"""Compare OpenCV with scikit-image where a camera's photograph is laid onto a phone's mosaic of a made scene.

    PYTHONPATH=.:tests/helpers python benchmarks/photograph_alignment.py --out benchmarks/photograph_alignment.json

Writes, for the homography and for the optical flow of each, the shift that remains in px of the mosaic and CPU seconds;
`--size 3000x4000` takes a whole photograph and `--make` what `isp-nas data make` does with it, alone.
"""

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import cv2
import numpy as np
from photographed import Photographed, View, photograph

from nas.data.make.coarse_alignment import View as Found
from nas.data.make.coarse_alignment import find_view, transformed
from nas.data.make.dense_alignment import _grid, _mapped, _moved, _seen, refine, toned_like
from nas.data.make.development import develop

RATIO, WITHIN_PX, SEED = 0.8, 6.0, 0


def main() -> None:
    """Print one JSON line for each method."""
    height, width = (int(side) for side in sys.argv[1:3]) if len(sys.argv) > 2 else (1000, 1400)
    cv2.setNumThreads(1)
    pair = photograph(height, width, view=View(degrees=8, scale=1.15, shot_noise=3e-4), seed=1)
    grey = develop(pair.mosaic, (64.0,) * 4, 1023.0)
    picture = cv2.cvtColor(pair.picture, cv2.COLOR_RGB2GRAY)
    timed(pair, "SIFT, MAGSAC++ (OpenCV)", lambda: _mapped(find_view(grey, picture).homography, _grid(grey.shape)))
    for name in ("SIFT", "ORB"):
        timed(pair, f"{name}, RANSAC (scikit-image)", partial(_skimage_view, grey, picture, name))
    view = find_view(grey, picture)
    timed(pair, "DIS flow (OpenCV)", lambda: refine(grey, picture, view).places)
    timed(pair, "TV-L1 flow (scikit-image)", lambda: _skimage_flow(grey, picture, view, "optical_flow_tvl1"))
    timed(pair, "iLK flow (scikit-image)", lambda: _skimage_flow(grey, picture, view, "optical_flow_ilk"))


def timed(pair: Photographed, name: str, align: Callable[[], Any]) -> None:
    """Align, and print how far places are from the right ones where both cameras see the same."""
    begun = time.process_time()
    places = align()
    seconds = time.process_time() - begun
    full = cv2.resize(places, pair.mosaic.shape[::-1], interpolation=cv2.INTER_LINEAR)
    good = ~(pair.moved | pair.hidden | pair.clipped)
    good &= (full > 2).all(axis=-1) & (full < np.array(pair.picture.shape[1::-1]) - 3).all(axis=-1)
    good[[0, -1]] = good[:, [0, -1]] = False
    shift = pair.residual_px(full)[good]
    told = {name: round(float(np.percentile(shift, share)), 3) for name, share in (("median_px", 50), ("p95_px", 95))}
    sys.stdout.write(json.dumps({"method": name, **told, "cpu_s": round(seconds, 2)}) + "\n")


def _skimage_view(grey: Any, picture: Any, name: str) -> Any:
    from skimage.feature import ORB, SIFT, match_descriptors
    from skimage.measure import ransac
    from skimage.transform import ProjectiveTransform

    found = []
    for image in (grey, picture):
        small = cv2.resize(image, None, fx=1200 / max(max(image.shape), 1200), fy=1200 / max(max(image.shape), 1200))
        features = SIFT() if name == "SIFT" else ORB(n_keypoints=4000)
        features.detect_and_extract(small)
        found.append((features.keypoints[:, ::-1] * max(max(image.shape), 1200) / 1200, features.descriptors))
    pairs = match_descriptors(found[0][1], found[1][1], max_ratio=RATIO, cross_check=True)
    here, there = found[0][0][pairs[:, 0]], found[1][0][pairs[:, 1]]
    model, _ = ransac((here, there), ProjectiveTransform, 4, WITHIN_PX, max_trials=2000, rng=SEED)
    places = transformed(model.params, _grid(grey.shape).reshape(-1, 2).astype(np.float64))
    return places.reshape(*grey.shape, 2).astype(np.float32)


def _skimage_flow(grey: Any, picture: Any, view: Found, name: str) -> Any:
    from skimage import registration

    seen, inside = _seen(picture, view, grey.shape)
    flow = getattr(registration, name)
    matched = toned_like(seen, grey, inside)
    forth = flow(grey / np.float32(255), matched / np.float32(255), dtype=np.float32)
    back = flow(matched / np.float32(255), grey / np.float32(255), dtype=np.float32)
    at = _grid(grey.shape) + np.stack([forth[1], forth[0]], axis=-1)
    _moved(np.stack([back[1], back[0]], axis=-1), at)  # to judge both directions, as OpenCV's was judged
    return _mapped(view.homography, at)


if __name__ == "__main__":
    main()
