"""Measure time and memory of converting the largest designs, and of one whole export, in every precision.

    python benchmarks/export_cost.py [--designs tuned-unet eds csanet] [--out benchmarks/export_cost.json]

Every row is a process of its own, so that its peak of resident memory is its own: the seconds of the conversion to
twin, Full-HD and dynamic file with 100 calibration pairs of the demo set, those of importing TensorFlow left out, and
the peak over everything. "export" is a whole export of all precisions: converting, judging every file, writing.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from latency_models.device import load_device
from nas import backend, provenance
from nas.data.cache import cache_dir
from nas.data.pairs import DataConfig, open_prepared, prepare
from nas.defaults import DEFAULT_DEVICE
from nas.export.converter import Converter
from nas.export.exporter import export
from nas.export.options import ExportOptions
from nas.search.network_ref import NetworkRef, TrainedState
from nas.train import checkpoint, loop
from search_spaces.designs import DESIGNS, find_design
from search_spaces.networks import build_graph
from search_spaces.precision import PRECISIONS
from search_spaces.system.machine import peak_memory_mb

LARGEST = ("tuned-unet", "eds", "csanet")  # by weights, by multiply-accumulates, and one of the usual size
EXPORT = "export"
LIMIT_S, LIMIT_MB = 60.0, 4000.0
OPTIONS = ExportOptions(precisions=tuple(PRECISIONS), dynamic=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--designs", nargs="+", choices=DESIGNS, default=LARGEST)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", nargs=2, metavar=("DESIGN", "WHAT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measured(*options.one)))
        return
    made_by = provenance.collect() | {"command": " ".join(["python", *sys.argv])}
    rows = [in_a_process(design, what) for design in options.designs for what in (*PRECISIONS, EXPORT)]
    limits = {"conversion_s": LIMIT_S, "peak_mb": LIMIT_MB}
    text = json.dumps({"provenance": made_by, "limits": limits, "rows": rows}, indent=1) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text, "utf-8")


def in_a_process(design: str, what: str) -> dict[str, object]:
    """Return one row; raise CalledProcessError where the process fails."""
    command = [sys.executable, __file__, "--one", design, what]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    row: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps(row), file=sys.stderr)
    return row


def measured(design: str, what: str) -> dict[str, object]:
    backend.prepare()
    figures = _export(design) if what == EXPORT else {"seconds": _conversion_s(design, what)}
    return {"design": design, "what": what, **figures, "peak_mb": peak_memory_mb()}


def _conversion_s(design: str, precision: str) -> float:
    from search_spaces import lower_tf  # noqa: F401 (its import is not counted)

    train = open_prepared(prepare(DataConfig("demo"), cache_dir() / "pairs"), "train")
    _, h, w = train.raw.shape
    graph = build_graph(find_design(design).spec, (1, h // 2, w // 2, 4))
    weights = loop.start(graph, seed=0, spec_hash="").parameters
    converter = Converter(graph, weights, train, OPTIONS)
    begun = time.perf_counter()
    converter.convert(PRECISIONS[precision])
    return time.perf_counter() - begun


def _export(design: str) -> dict[str, object]:
    """Return the seconds, and what LiteRT could not run: EdS in int16 at Full HD is too large for its CPU kernels."""
    spec = find_design(design).spec
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.safetensors"
        state = loop.start(build_graph(spec), seed=0, spec_hash=spec.hash)
        checkpoint.save(state, path)
        target = NetworkRef(
            design, spec, None, None, TrainedState(path, 0, 0, DataConfig("demo"), None, "fresh weights")
        )
        allowed = dict.fromkeys(PRECISIONS, 99.0)  # fresh weights are no measure of quality
        begun = time.perf_counter()
        card = export(target, Path(folder) / "out", load_device(DEFAULT_DEVICE), replace(OPTIONS, max_drop_db=allowed))
        return {"seconds": time.perf_counter() - begun, "not_run": card.not_run}


if __name__ == "__main__":
    main()
