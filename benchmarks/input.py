"""Measure how fast batches are cut, from memory and from a mapped cache, and whether a fast device waits for them.

    python benchmarks/input.py [--out benchmarks/input.json] [--pairs 1000] [--threads 1,2,4]

Made-up pairs of 256×256 in a folder of temporary files. Cold: the system is told to forget the files just before, and
each step touches pairs that no step before it touched; `major_faults` tells how often the disk was waited for.
`batch_cpu_ms` is processor time over all threads, which other programs on the machine do not change much. The consumer
of `waiting` sleeps for as long as a step of its device takes: 5.6 ms is Smallnet at batch 4, patch 64 on two CPU cores,
1 ms a guess at a fast graphics card; `waited_share` is the share of the time in which it had no batch.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from nas import provenance
from nas.data.batches import Batches, BatchSpec
from nas.data.host_cache import load
from nas.data.pairs import PairSet, open_prepared
from nas.data.raw_format import RawFormat

CUTS = (BatchSpec(4, 64), BatchSpec(16, 128), BatchSpec(100, 128))
STEPS_S = (0.001, 0.0056)
SIDE = 256
BATCHES = 60
SEED = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--threads", default="1,2,4")
    options = parser.parse_args()
    threads = [int(part) for part in options.threads.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        write_pairs(Path(folder), options.pairs)
        cases = every_case(Path(folder), threads)
    made_by = provenance.collect() | {"command": " ".join(["python", *sys.argv]), "load_average": os.getloadavg()}
    text = json.dumps({"provenance": made_by, "pairs": options.pairs, "side": SIDE, **cases}, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


def write_pairs(folder: Path, count: int) -> None:
    """Write what `prepare` would have written, without decoding anything."""
    rng = np.random.default_rng(SEED)
    for split, number in (("train", count), ("val", 1)):
        arrays: dict[str, np.ndarray[Any, Any]] = {
            "raw": rng.integers(0, 1024, (number, SIDE, SIDE), dtype=np.uint16),
            "rgb": rng.integers(0, 256, (number, SIDE, SIDE, 3), dtype=np.uint8),
        }
        for kind, array in arrays.items():
            np.save(folder / f"{split}_{kind}.npy", array)
        described = {"names": [str(n) for n in range(number)], "format": vars(RawFormat())}
        (folder / f"{split}.json").write_text(json.dumps(described))
    os.sync()


def every_case(folder: Path, threads: list[int]) -> dict[str, Any]:
    begun = time.perf_counter()
    held = load(folder, "train", available=1 << 60)
    load_s = time.perf_counter() - begun
    cutting = [
        {
            **cut_case(cut, workers),
            "from": name,
            **measure(folder, None if name != "memory" else held, cut, workers, name),
        }
        for cut, workers, name in product(CUTS, threads, ("memory", "warm", "cold"))
    ]
    waiting = [
        {**cut_case(cut, workers), "step_s": step_s, "waited_share": waited_share(held, cut, workers, step_s)}
        for cut, workers, step_s in product(CUTS, threads, STEPS_S)
    ]
    return {"load_s": load_s, "loaded_bytes": held.raw.nbytes + held.rgb.nbytes, "cutting": cutting, "waiting": waiting}


def cut_case(cut: BatchSpec, threads: int) -> dict[str, Any]:
    return {"batch": cut.batch, "patch": cut.patch, "threads": threads}


def measure(folder: Path, held: PairSet | None, cut: BatchSpec, threads: int, name: str) -> dict[str, Any]:
    """Cut as fast as it goes, three times; the median by wall clock."""
    repeats = sorted(one_measurement(folder, held, cut, threads, cold=name == "cold") for _ in range(3))
    batch_s, cpu_s, faults = repeats[1]
    return {
        "batch_ms": 1e3 * batch_s,
        "batch_cpu_ms": 1e3 * cpu_s,
        "pairs_per_s": cut.batch / batch_s,
        "major_faults": faults,
    }


def one_measurement(
    folder: Path, held: PairSet | None, cut: BatchSpec, threads: int, *, cold: bool
) -> tuple[float, float, int]:
    """Return seconds and processor seconds per batch, and how often the disk was waited for."""
    if cold:
        forget(folder)  # before anything maps the files: what is mapped is not forgotten
    pairs = held or open_prepared(folder, "train")
    last = max(1, min(BATCHES, len(pairs) // cut.batch)) if cold else BATCHES
    before = resource.getrusage(resource.RUSAGE_SELF).ru_majflt
    begun, cpu = time.perf_counter(), time.process_time()
    with Batches(pairs, cut, seed=SEED, first=0, last=last, threads=threads) as batches:
        for _ in batches:
            pass
    took, spent = time.perf_counter() - begun, time.process_time() - cpu
    return took / last, spent / last, resource.getrusage(resource.RUSAGE_SELF).ru_majflt - before


def forget(folder: Path) -> None:
    for path in folder.glob("*.npy"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def waited_share(pairs: PairSet, cut: BatchSpec, threads: int, step_s: float) -> float:
    with Batches(pairs, cut, seed=SEED, first=0, last=BATCHES + 1, threads=threads) as batches:
        steps = iter(batches)
        next(steps)  # the first batch is always waited for
        batches.waited_s = 0.0
        begun = time.perf_counter()
        for _ in steps:
            time.sleep(step_s)
        return batches.waited_s / (time.perf_counter() - begun)


if __name__ == "__main__":
    main()
