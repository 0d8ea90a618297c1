"""A mosaic rendered in tiles and whole."""

from pathlib import Path

import numpy as np

from nas.data.camera_raw import Mosaic
from nas.data.raw_format import RawFormat
from nas.render.image_file import FileKind
from nas.render.renderer import Renderer
from nas.render.tile_plan import TileLayout
from nas.tflite.input_contract import Contract
from nas.tflite.isp_file import IspFile

EVERYTHING = 1e15
ROUNDING = 1e-4  # what is wrong at a seam is 0.01 and more


def mosaic_of(rows: int, columns: int, seed: int = 0) -> Mosaic:
    values = np.random.default_rng(seed).integers(0, 1024, (2 * rows, 2 * columns), dtype=np.uint16)
    return Mosaic(values, "RGGB", (0.0,) * 4, 1023.0)


def renderer(path: Path, content: bytes, *, most_bytes: float = EVERYTHING) -> Renderer:
    path.write_bytes(content)
    fmt = RawFormat()
    return Renderer(IspFile(path), Contract(fmt), fmt, FileKind(), may_convert=False, most_bytes=most_bytes)


def rendered(by: Renderer, mosaic: Mosaic) -> tuple[TileLayout, np.ndarray]:
    layout = by.layout(mosaic)
    return layout, by.rgb(mosaic, layout, finish=np.array)
