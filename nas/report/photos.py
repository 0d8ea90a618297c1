"""Validation pairs as RAW, output, target and error, the best network found beside the best design.

Loads JAX to run the networks, so it is imported where photos are wanted alone.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nas.data.pair_reading import decode
from nas.data.pairs import DataConfig, PairSet, evenly, find_pairs
from nas.plots import visible_mosaic
from nas.report.data import PairPicture, PhotoRow
from nas.train import checkpoint
from nas.train.evaluation import Evaluator
from search_spaces.networks import build_graph
from search_spaces.spec import ArchSpec

MOST_JUDGED = 48  # validation pairs among which the ones to show are chosen
MOST_SIDE = 384  # pixels; of larger ones the middle is shown
LOSSLESS_SIDE = 128
FULL_ERROR = 0.1  # of the range of a channel: what is drawn white
_QUALITY = 82

Pixels = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Shown:
    """A trained network whose pictures are wanted."""

    label: str
    spec: ArchSpec
    path: Path  # of its checkpoint
    data: DataConfig


def photo_rows(networks: Sequence[Shown], count: int) -> list[PhotoRow]:
    """Return `count` validation pairs with what each network makes of them; they are read, and run, here."""
    pairs = _some_pairs(networks[0].data)
    index = np.arange(len(pairs))
    outputs = [
        np.clip(Evaluator(build_graph(n.spec), pairs).outputs(checkpoint.load(n.path).weights, index), 0, 1)
        for n in networks
    ]
    target = pairs.rgb / np.float32(255)
    psnr = [-10 * np.log10(np.maximum(((made - target) ** 2).mean((1, 2, 3)), 1e-10)) for made in outputs]
    shown = []
    for i, why in _chosen(psnr, [n.label for n in networks], count):
        made = [(n.label, output[i], float(db[i])) for n, output, db in zip(networks, outputs, psnr, strict=True)]
        shown.append(PhotoRow(pairs.names[i], why, _pictures(pairs, i, made)))
    return shown


def _some_pairs(data: DataConfig) -> PairSet:
    pairs = find_pairs(data)["val"]
    some = [pairs[i] for i in evenly(len(pairs), MOST_JUDGED)]
    decoded = list(decode(some, data.raw))
    raw, rgb = (np.stack(each) for each in zip(*decoded, strict=True))
    return PairSet(raw, rgb, tuple(pair.name for pair in some), data.raw)


def _chosen(psnr: Sequence[Pixels], labels: Sequence[str], count: int) -> list[tuple[int, str]]:
    """Return pairs from the one where the first network gains most to the one where it gains least."""
    gain = psnr[0] - psnr[1] if len(psnr) > 1 else psnr[0]
    order = np.argsort(-gain, kind="stable")
    places = np.unique(np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int))
    what = f"gain of {labels[0]} over {labels[1]}" if len(psnr) > 1 else "PSNR"
    words = {0: f"the largest {what}", len(order) - 1: f"the smallest {what}"}
    return [
        (
            int(order[p]),
            f"{words.get(p, f'a middling {what}')} of {len(order)} validation pairs ({gain[order[p]]:+.2f} dB)",
        )
        for p in map(int, places)
    ]


def _pictures(pairs: PairSet, number: int, made: Sequence[tuple[str, Pixels, float]]) -> list[PairPicture]:
    """Return mosaic, outputs, target, and where each output errs; `made`: label, output, PSNR."""
    mosaic, brightness = visible_mosaic(pairs.raw[number], pairs.format)
    target = pairs.rgb[number] / np.float32(255)
    outputs = [PairPicture(f"{label}, {db:.2f} dB", _url(output)) for label, output, db in made]
    errors = [
        PairPicture(f"error of {label}", _url(_heat(np.abs(output - target).mean(2) / FULL_ERROR)))
        for label, output, _ in made
    ]
    raw = PairPicture(f"RAW mosaic{brightness}", _url(mosaic))
    return [raw, *outputs, PairPicture("target", _url(target)), *errors]


def _heat(error: Pixels) -> Pixels:
    """Return a map of values from 0 to 1 in black, red, yellow and white."""
    heat = np.clip(error, 0, 1)[..., None] * 3 - np.arange(3)
    clipped: Pixels = np.clip(heat, 0, 1)
    return clipped


def _url(picture: Pixels) -> str:
    """Return a picture with values from 0 to 1 as a data URL."""
    bytes_ = (np.clip(_middle(picture), 0, 1) * 255).round().astype(np.uint8)
    file = io.BytesIO()
    small = max(bytes_.shape[:2]) <= LOSSLESS_SIDE
    Image.fromarray(bytes_).save(file, "WEBP", lossless=small, quality=_QUALITY, method=4)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


def _middle(picture: Pixels) -> Pixels:
    rows, columns = (max(0, side - MOST_SIDE) // 4 * 2 for side in picture.shape[:2])
    return picture[rows : rows + MOST_SIDE, columns : columns + MOST_SIDE]
