"""Compare OpenCV with scikit-image where a camera's photograph is laid onto a phone's mosaic of a made scene.

    PYTHONPATH=.:tests/helpers python benchmarks/photograph_alignment.py --out benchmarks/photograph_alignment.json

`libraries`: for the homography and for the optical flow of each, the shift that remains in px of the mosaic, and CPU
seconds, at 1.4 megapixels. `whole`: what `isp-nas data make` does with photographs of 12 megapixels, each in a process
of its own: shift of the patches kept, how many of the good ones those are (nothing in them moved, is hidden or is
clipped), how many were kept that must not be, and CPU seconds of one thread.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from photographed import FMT, Photographed, View, photograph
from PIL import Image

from nas import provenance
from nas.data.make.coarse_alignment import View as Found
from nas.data.make.coarse_alignment import find_view, transformed
from nas.data.make.dense_alignment import _grid, _mapped, _moved, _seen, refine, toned_like
from nas.data.make.development import develop
from nas.data.make.photograph import MakeSettings, make
from nas.data.make.sources import Photograph

RATIO, WITHIN_PX, SEED = 0.8, 6.0, 0


VIEWS = (View(degrees=8, scale=1.15, shot_noise=3e-4), View(degrees=-8, scale=0.85, distortion=0.02))
PATCH = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    results = {
        "libraries": compare_libraries(),
        "whole": [whole(view, seed) for seed, view in enumerate(VIEWS, start=90)],
    }
    made_by = provenance.collect() | {"command": " ".join(["python", *sys.argv]), "load_average": os.getloadavg()}
    text = json.dumps({"provenance": made_by, **results}, indent=1) + "\n"
    sys.stdout.write(text)
    if options.out:
        options.out.write_text(text)


def compare_libraries() -> list[dict[str, Any]]:
    pair = photograph(1000, 1400, view=VIEWS[0], seed=1)
    grey = develop(pair.mosaic, (64.0,) * 4, 1023.0)
    picture = cv2.cvtColor(pair.picture, cv2.COLOR_RGB2GRAY)
    view, grid = find_view(grey, picture), _grid(grey.shape)
    return [
        timed(pair, "SIFT, MAGSAC++ (OpenCV)", lambda: _mapped(find_view(grey, picture).homography, grid)),
        *(
            timed(pair, f"{name}, RANSAC (scikit-image)", partial(_skimage_view, grey, picture, name))
            for name in ("SIFT", "ORB")
        ),
        timed(pair, "DIS flow, filled (OpenCV)", lambda: refine(grey, picture, view).places),
        timed(pair, "TV-L1 flow (scikit-image)", lambda: _skimage_flow(grey, picture, view, "optical_flow_tvl1")),
        timed(pair, "iLK flow (scikit-image)", lambda: _skimage_flow(grey, picture, view, "optical_flow_ilk")),
    ]


def whole(view: View, seed: int) -> dict[str, Any]:
    """Make pairs of a photograph of 12 megapixels and compare with what is true of it."""
    truth = photograph(3000, 4000, view=view, seed=seed)
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        Image.fromarray(truth.mosaic).save(Path(folder) / "a.png", compress_level=1)
        Image.fromarray(truth.picture).save(Path(folder) / "b.jpg", quality=95)
        patches, places, inside, seconds = pool.submit(_make, folder).result()
    shift = truth.residual_px(places)
    good = bad = kept_good = kept_bad = 0
    shifts = []
    for row, column, reason in patches:
        here = slice(row, row + PATCH), slice(column, column + PATCH)
        wrong = float(max(truth.moved[here].mean(), truth.clipped[here].mean()))
        is_good = bool(inside[here].all()) and max(wrong, float(truth.hidden[here].mean())) < 0.005
        good, kept_good = good + is_good, kept_good + (is_good and reason is None)
        bad, kept_bad = bad + (wrong > 0.02), kept_bad + (wrong > 0.02 and reason is None)
        if reason is None:
            shifts.append(shift[here].ravel())
    every = np.concatenate(shifts)
    return {
        "degrees": view.degrees,
        "scale": view.scale,
        "median_px": float(np.median(every)),
        "p95_px": float(np.percentile(every, 95)),
        "good_patches": good,
        "good_patches_kept": kept_good,
        "moved_or_clipped_patches": bad,
        "moved_or_clipped_patches_kept": kept_bad,
        "cpu_s": seconds,
    }


def _make(folder: str) -> tuple[list[tuple[int, int, str | None]], Any, Any, float]:
    cv2.setNumThreads(1)
    begun = time.process_time()
    made = make(
        Photograph("a", Path(folder) / "a.png", Path(folder) / "b.jpg"), MakeSettings("folder", patch=PATCH, raw=FMT)
    )
    seconds = time.process_time() - begun
    patches = [(each.row, each.column, each.reason) for each in made.judgements]
    inside = made.alignment.inside.repeat(2, axis=0).repeat(2, axis=1)
    return patches, made.alignment.full(), inside, seconds


def timed(pair: Photographed, name: str, align: Callable[[], Any]) -> dict[str, Any]:
    """Align, and return how far places are from the right ones where both cameras see the same."""
    begun = time.process_time()
    places = align()
    seconds = time.process_time() - begun
    full = cv2.resize(places, pair.mosaic.shape[::-1], interpolation=cv2.INTER_LINEAR)
    good = ~(pair.moved | pair.hidden | pair.clipped)
    good &= (full > 2).all(axis=-1) & (full < np.array(pair.picture.shape[1::-1]) - 3).all(axis=-1)
    good[[0, -1]] = good[:, [0, -1]] = False
    shift = pair.residual_px(full)[good]
    median, p95 = np.percentile(shift, (50, 95))
    return {"method": name, "median_px": float(median), "p95_px": float(p95), "cpu_s": seconds}


def _skimage_view(grey: Any, picture: Any, name: str) -> Any:
    from skimage.feature import ORB, SIFT, match_descriptors
    from skimage.measure import ransac
    from skimage.transform import ProjectiveTransform

    matches = []
    for image in (grey, picture):
        small = cv2.resize(image, None, fx=1200 / max(max(image.shape), 1200), fy=1200 / max(max(image.shape), 1200))
        features = SIFT() if name == "SIFT" else ORB(n_keypoints=4000)
        features.detect_and_extract(small)
        matches.append((features.keypoints[:, ::-1] * max(max(image.shape), 1200) / 1200, features.descriptors))
    pairs = match_descriptors(matches[0][1], matches[1][1], max_ratio=RATIO, cross_check=True)
    here, there = matches[0][0][pairs[:, 0]], matches[1][0][pairs[:, 1]]
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
