"""Compare the time of rendering a picture with the time of the network alone.

    python benchmarks/render.py [--pairs 40] [--out benchmarks/render.json]

Full-HD mosaics of noise go through float32 and int8 files of three designs, with random weights, as `isp-nas render`
sends them: levels, packing, the interpreter, clipping and rounding to 8 bits; decoding and encoding are left out. In
turns with that the same interpreter is invoked alone on the same input, so that both see the same disturbances; what
counts is the median of the ratios. A photo of 12 megapixels is compared with as many bare invokes as it has tiles.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from nas import provenance
from nas.data.camera_raw import Mosaic
from nas.data.raw_format import RawFormat
from nas.render.image_file import FileKind
from nas.render.renderer import Renderer
from nas.tflite.input_contract import Contract
from nas.tflite.isp_file import IspFile
from search_spaces import lower_tf
from search_spaces.designs import DESIGNS
from search_spaces.graph import FULL_HD
from search_spaces.networks import build_graph
from search_spaces.tflite_resize import resized

NETWORKS = ("smallnet", "acvlab", "csanet")
PRECISIONS = ("fp32", "int8")
SMALL = (1, 64, 64, 4)
FORMAT = RawFormat()
SIZES = {"full_hd": (1088, 1920), "12_megapixels": (3024, 4032)}
SEED = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = product(NETWORKS, PRECISIONS)
        measured = [measure(name, precision, Path(folder), options.pairs) for name, precision in files]
    made_by = provenance.collect() | {"command": " ".join(["python", *sys.argv]), "load_average": os.getloadavg()}
    text = json.dumps({"provenance": made_by, "pairs": options.pairs, "networks": measured}, indent=1) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text)


def measure(name: str, precision: str, folder: Path, pairs: int) -> dict[str, Any]:
    path = folder / f"{name}_{precision}.tflite"
    path.write_bytes(full_hd_file(name, precision))
    renderer = Renderer(IspFile(path), Contract(FORMAT), FORMAT, FileKind(), may_convert=False, most_bytes=1e12)
    cases = {case: ratios(renderer, noise(*size), pairs) for case, size in SIZES.items()}
    print(name, precision, json.dumps(cases), file=sys.stderr)
    return {"network": name, "precision": precision, **cases}


def full_hd_file(name: str, precision: str) -> bytes:
    """Return a file as exports make it: converted small, its ranges those of noise there, and then resized."""
    graph = build_graph(DESIGNS[name].spec, SMALL)
    rng = np.random.default_rng(SEED)
    shapes = graph.parameter_shapes.items()
    weights = {name: rng.normal(0, 0.1, shape).astype(np.float32) for name, shape in shapes}
    calibration = [rng.random(SMALL, np.float32)] if precision == "int8" else []
    return resized(lower_tf.to_tflite(graph, weights, precision=precision, calibration=calibration), FULL_HD)


def noise(rows: int, columns: int) -> Mosaic:
    values = np.random.default_rng(SEED).integers(0, 1024, (rows, columns), dtype=np.uint16)
    return Mosaic(values, FORMAT.pattern, (0.0,) * 4, float(FORMAT.white_level))


def ratios(renderer: Renderer, mosaic: Mosaic, pairs: int) -> dict[str, Any]:
    layout = renderer.layout(mosaic)
    picture = partial(renderer.picture, mosaic, layout)
    bare = partial(invoke, renderer.model, layout.tiles)
    picture(), bare()  # warm up
    count = max(3, pairs // layout.tiles)
    taken = [(seconds(picture), seconds(bare)) for _ in range(count)]
    ordered = sorted(whole / alone for whole, alone in taken)
    return {
        "tiles": layout.tiles,
        "pairs": count,
        "ratio": median(ordered),
        "ratio_low": ordered[count // 10],
        "ratio_high": ordered[-1 - count // 10],
        "picture_ms": 1e3 * median(whole for whole, _ in taken),
        "invoke_ms": 1e3 * median(alone for _, alone in taken),
    }


def invoke(model: IspFile, times: int) -> None:
    for _ in range(times):
        model.invoke()


def seconds(run: Callable[[], object]) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
