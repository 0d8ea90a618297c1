"""Compare the time of a training step with PyTorch's and with the least this machine allows.

    pip install ".[benchmark]"
    python benchmarks/train_step.py [--device cpu|gpu] [--cases 4x64,16x128] [--out benchmarks/train_step_cpu.json]

One network, batch, data, loss (L1) and optimiser (Adam) on both sides, weights copied and outputs compared before
anything is timed. PyTorch runs channels-last with its fused Adam; on a GPU through torch.compile and both sides in
bfloat16. Each side has a process of its own, since two pools of threads in one would be in each other's way, and the
two take turns in blocks of steps within one run; while one steps, the other waits in a read. Steps begin with the
integers that training reads and end when the new weights are there.

`ratio` is ours to PyTorch's by the least disturbed block of each: the machine may be shared, and PyTorch's threads
suffer more from others than ours do, so the median of the pairs' ratios (`ratio_median`), which flatters us then, is
given beside it. With `threads` 1 each side is held to one core, and processor time, which others hardly change, stands
for the clock. `floor_ms` is the longer of what the products take at the fastest matrix product measured here and what
reading and writing each convolution's maps and weights once takes at the bandwidth measured here.

Tried on the way to the CPU figures (jaxlib 0.10.2, 2 cores of an AMD EPYC, one core's time unless said otherwise).

Taken:
- Kernel gradients as one product of unfolded columns and rows instead of XLA's window as large as the map: 16 → 16
  channels on 4×32×32, 1.04 → 0.28 ms. Values the same way, 0.38 → 0.27 ms; on 2×2 maps of 256 channels 5.5 → 0.3 ms.
- Transposed convolutions as product and sum of windows, no zeros multiplied: 256 → 128 on 2×2, 7.5 → 0.7 ms forward and
  backward; 32 → 16 on 16×16, 1.8 → 1.0 ms.
- LLVM level 1: see compile_cost.py.
- Every map kept behind a barrier that survives until after fusion (nas.backend): XLA computed a map, and the gradient
  of a loss, again in all that read them. Random member 3 of the space (4×64) 57 → 36 ms, CSANet 8.9 → 7.7 ms.
- Sums over pixels with the narrower factor in front: 4096×512 and 4096×64 take 7.6 ms in one order, 2.6 in the other.
- Instance normalisation with its gradient written out, and means over maps by columns: member 3 36 → 29 ms.
- Batches a few images at a time (nas.train.micro_batch), so that maps stay in the cache: Smallnet 16×128 49 → 31 ms.
- glibc keeps freed memory: unfolding 16×64×64×16 into fresh pages took 45 ms, into kept ones 6 to 9 ms (two cores).

Rejected:
- oneDNN's convolution through XLA's own custom call: 0.15 ms where Eigen takes 0.28 to 0.30 (two cores, 16 → 16 on
  4×32×32), but an executable that holds one cannot be written to the compile cache (std::bad_alloc), so that every
  process would compile every candidate again; and the call is undocumented.
- xla_cpu_use_onednn and its fusions, YNN for convolutions, XNNPACK off: products and convolutions as fast as before.
- Whole windows unfolded (im2col): 9 times the map is moved; 0.33 to 0.56 ms against 0.27. Nine products of shifted
  slices: 0.49 ms. Single convolutions in chunks of images, unrolled or in a loop: no faster on large maps, slow to
  compile.
- Multi-output fusion: a fifth less to compile, but CSANet 6.1 → 7.8 ms; before maps were kept it fused chains of
  enlargements into one kernel that took thirty times as long.
- Products split over parts of the pixels: as fast. Maps transposed before the product: slower but for one shape of ten.
- Weights and moments in one flat vector: Smallnet 2.9 → 3.9 ms, U-Net 29 → 37 ms, since XLA copies into the vector.
- One executable per layer, shared by all candidates: 29 segments cost CSANet 4 to 5 ms a step in calls; see
  compile_cost.py.
- Vectors of 512 bits (2.7 → 2.8 ms), the old fusion emitters (Smallnet 3.0 → 4.2 ms), LLVM level 0 (10 to 40 times the
  arithmetic's time), optimising for size (CSANet 10 → 21 ms).
"""

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import product
from math import prod
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from nas import provenance
from search_spaces.designs import DESIGNS
from search_spaces.graph import INPUT, Graph
from search_spaces.networks import build_graph
from search_spaces.ops import Conv, DepthwiseConv, TransposeConv

NETWORKS = ("smallnet", "csanet", "tuned-unet")
BLOCK_S = 0.06  # long beside a clock's tick and a thread's waking, short beside the disturbances of a shared machine
WARM_UP = 3
SEED, RATE = 0, 1e-3
OUTPUT_TOLERANCE = LOSS_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Case:
    network: str
    batch: int
    patch: int  # pixels of the mosaic
    device: str
    threads: int

    @property
    def precision(self) -> str:
        return "bfloat16" if self.device == "gpu" else "float32"

    @property
    def graph(self) -> Graph:
        return build_graph(DESIGNS[self.network].spec).at((self.batch, self.patch // 2, self.patch // 2, 4))

    def data(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        rng = np.random.default_rng(SEED)
        n, half = self.batch, self.patch // 2
        raw = rng.integers(0, 1024, (n, half, half, 4), dtype=np.uint16)
        return raw, rng.integers(0, 256, (n, self.patch, self.patch, 3), dtype=np.uint8)


class Side(Protocol):
    """A network in training in one framework."""

    def steps(self, count: int) -> float:
        """Train so many steps, wait for the last, and return its loss."""

    def output(self) -> np.ndarray[Any, Any]:
        """Return what the network makes of the batch, [n, h, w, 3]."""

    def matrix_flops(self, size: int) -> float:
        """Return the floating-point operations per second of a square matrix product."""


class Ours:
    def __init__(self, case: Case) -> None:
        from nas import backend

        backend.prepare()
        import jax

        from nas.data.raw_format import RawFormat
        from nas.train import loop, step
        from nas.train.recipe import Recipe

        recipe = Recipe(batch=case.batch, patch=case.patch, precision=case.precision)
        plan = step.StepPlan.of(recipe)
        start = step.ready(case.graph, loop.start(case.graph, seed=SEED, spec_hash=""), plan, seed=SEED)
        self._jax, self._case, self._data = jax, case, case.data()
        self._state = step.state_of(case.graph, start, plan)
        self._start, self._plan = start, plan
        self._constants = step.Constants.of(recipe, RawFormat(), {})
        self._step, self.compile_s = step.compiled_step(case.graph, plan)

    def steps(self, count: int) -> float:
        for _ in range(count):
            self._state, losses = self._step(self._state, *self._data, np.float32(RATE), self._constants)
        self._jax.block_until_ready(self._state)
        return float(losses["loss"])

    def output(self) -> np.ndarray[Any, Any]:
        from nas.train import step
        from search_spaces import lower_flax

        x = self._jax.numpy.asarray(self._data[0].astype(np.float32) / 1023)
        trained = step.stored(self._case.graph, self._plan, self._start, self._state, step=0)
        weights = {name: self._jax.numpy.asarray(value) for name, value in trained.parameters.items()}
        return np.asarray(lower_flax.jit_apply(self._case.graph)(weights, x))

    def matrix_flops(self, size: int) -> float:
        dtype = self._case.precision
        matrix = self._jax.numpy.asarray(np.ones((size, size)), dtype)
        multiply = self._jax.jit(lambda a: a @ a)
        return 2 * size**3 / fastest(lambda: self._jax.block_until_ready(multiply(matrix)))


class PyTorch:
    def __init__(self, case: Case) -> None:
        import torch
        from torch_network import TorchNetwork

        from search_spaces import lower_flax

        self._torch, self._case, self._data = torch, case, case.data()
        torch.set_num_threads(case.threads)
        self._device = "cuda" if case.device == "gpu" else "cpu"
        parameters = lower_flax.init_parameters(case.graph, SEED)
        self._network = TorchNetwork(case.graph, parameters).to(self._device, memory_format=torch.channels_last)
        self._adam = torch.optim.Adam(self._network.parameters(), lr=RATE, fused=True)
        self._forward = torch.compile(self._loss) if case.device == "gpu" else self._loss

    def _loss(self, raw: Any, rgb: Any) -> Any:
        x = (raw / 1023).permute(0, 3, 1, 2)
        target = (rgb / 255).permute(0, 3, 1, 2)
        return (self._network(x).to(target.dtype) - target).abs().mean()

    def _batch(self) -> tuple[Any, Any]:
        raw, rgb = (self._torch.from_numpy(array).to(self._device) for array in self._data)
        return raw.to(self._torch.float32), rgb.to(self._torch.float32)

    def steps(self, count: int) -> float:
        for _ in range(count):
            self._adam.zero_grad(set_to_none=True)
            with self._torch.autocast(self._device, self._torch.bfloat16, enabled=self._case.device == "gpu"):
                loss = self._forward(*self._batch())
            loss.backward()
            self._adam.step()
        if self._device == "cuda":
            self._torch.cuda.synchronize()
        return float(loss.detach())

    def output(self) -> np.ndarray[Any, Any]:
        with self._torch.no_grad():
            y = self._network((self._batch()[0] / 1023).permute(0, 3, 1, 2))
        image: np.ndarray[Any, Any] = y.permute(0, 2, 3, 1).float().cpu().numpy()
        return image

    def matrix_flops(self, size: int) -> float:
        dtype = getattr(self._torch, self._case.precision)
        matrix = self._torch.ones((size, size), dtype=dtype, device=self._device)

        def multiply() -> None:
            matrix @ matrix
            if self._device == "cuda":
                self._torch.cuda.synchronize()

        return 2 * size**3 / fastest(multiply)


SIDES: dict[str, type[Ours] | type[PyTorch]] = {"ours": Ours, "pytorch": PyTorch}


def fastest(work: Any, *, times: int = 12) -> float:
    """Return the seconds of the fastest of some runs after a first."""
    work()
    took = []
    for _ in range(times):
        begun = time.perf_counter()
        work()
        took.append(time.perf_counter() - begun)
    return min(took)


def serve(name: str, case: Case, pipe: Connection) -> None:
    """Answer (question, argument) until the question is None; in a process of its own."""
    if case.threads == 1:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    side: Side = SIDES[name](case)
    answers = {
        "time": lambda count: timed(side, count),
        "loss": side.steps,
        "output": lambda _: side.output(),
        "matrix_flops": side.matrix_flops,
    }
    while (request := pipe.recv())[0] is not None:
        pipe.send(answers[request[0]](request[1]))


def timed(side: Side, count: int) -> tuple[float, float]:
    """Return wall and processor seconds per step, after a step that wakes the threads."""
    side.steps(1)
    begun, cpu = time.perf_counter(), time.process_time()
    side.steps(count)
    return (time.perf_counter() - begun) / count, (time.process_time() - cpu) / count


class Process:
    """One side in its own process."""

    def __init__(self, name: str, case: Case) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(name, case, theirs), daemon=True)
        self._process.start()
        theirs.close()

    def ask(self, question: str, argument: int = 0) -> Any:
        self._pipe.send((question, argument))
        return self._pipe.recv()

    def close(self) -> None:
        self._pipe.send((None, 0))
        self._process.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--cases", default="4x64,16x128", help="batch x patch, with commas between")
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    sizes = [size.split("x") for size in options.cases.split(",")]
    threads = (1, os.cpu_count() or 1) if options.device == "cpu" else (os.cpu_count() or 1,)
    cases = [
        Case(network, int(batch), int(patch), options.device, n)
        for n, (batch, patch), network in product(threads, sizes, options.networks.split(","))
    ]
    report = {"provenance": made_by(), "cases": [asdict(case) | measure(case, options.rounds) for case in cases]}
    text = json.dumps(report, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


def made_by() -> dict[str, object]:
    facts = provenance.collect() | {"command": " ".join(["python", *sys.argv]), "load_average": os.getloadavg()}
    versions = facts["versions"]
    assert isinstance(versions, dict)
    return facts | {"versions": versions | {"torch": version("torch")}}


def measure(case: Case, rounds: int) -> dict[str, Any]:
    processes = {name: Process(name, case) for name in SIDES}
    try:
        difference = compare(case, processes)
        times = take_turns(processes, rounds)
        flops_per_s = max(process.ask("matrix_flops", 2048) for process in processes.values())
    finally:
        for process in processes.values():
            process.close()
    row = figures(case, times) | floor(case, flops_per_s) | difference
    print(case.network, case.batch, case.patch, case.threads, f"{row['ratio']:.2f}", file=sys.stderr)
    return row


def compare(case: Case, processes: dict[str, Process]) -> dict[str, float]:
    """Return by how much the two sides differ before and after some steps; stop where that is not rounding."""
    ours, theirs = (processes[name].ask("output") for name in SIDES)
    difference = float(np.abs(ours - theirs).max())
    losses = [processes[name].ask("loss", WARM_UP) for name in SIDES]
    apart = abs(losses[0] - losses[1])
    if case.precision == "float32" and (difference > OUTPUT_TOLERANCE or apart > LOSS_TOLERANCE):
        raise SystemExit(f"{case}: not the same training; outputs differ by {difference}, losses by {apart}.")
    return {"largest_output_difference": difference, f"loss_difference_after_{WARM_UP}_steps": apart}


def take_turns(processes: dict[str, Process], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Time blocks of both sides in turn, the order changing with each round."""
    counts = {
        name: max(1, round(BLOCK_S / min(process.ask("time", 1)[0] for _ in range(3))))
        for name, process in processes.items()
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in processes}
    for turn in range(rounds):
        for name in list(processes)[:: 1 if turn % 2 else -1]:
            times[name].append(processes[name].ask("time", counts[name]))
    return times


def figures(case: Case, times: dict[str, list[tuple[float, float]]]) -> dict[str, Any]:
    clock = 1 if case.threads == 1 else 0  # of (wall, processor) seconds
    seconds = {name: [pair[clock] for pair in pairs] for name, pairs in times.items()}
    least = {name: min(values) for name, values in seconds.items()}
    pairs = zip(*(seconds[name] for name in SIDES), strict=True)
    return {
        "clock": "processor" if clock else "wall",
        **{f"{name}_ms": 1e3 * least[name] for name in SIDES},
        **{f"{name}_median_ms": 1e3 * statistics.median(values) for name, values in seconds.items()},
        "ratio": least["ours"] / least["pytorch"],
        "ratio_median": statistics.median(ours / theirs for ours, theirs in pairs),
        "rounds": len(seconds["ours"]),
        "gflop_per_step": step_flops(case.graph) / 1e9,
        "ours_gflop_per_s": step_flops(case.graph) / least["ours"] / 1e9,
    }


def step_flops(graph: Graph) -> int:
    """Return what the products of a step take: value, gradient of the weights and, but for the first, of the input."""
    batch = graph.input_shape[0]
    products = sum((2 if node.inputs == (INPUT,) else 3) * graph.node_macs(node) for node in graph.nodes)
    return 2 * batch * products


def step_bytes(graph: Graph) -> int:
    """Return the traffic of a step in which everything else is done on the way from one convolution to the next.

    Of a convolution's input: read for the value and for the weights' gradient, its own gradient written; of its
    output: written, its gradient read twice. Of a parameter: Adam reads four arrays and writes three.
    """
    maps = sum(
        3 * prod(graph.input_shapes(node)[0]) + 3 * prod(graph.shapes[node.name])
        for node in graph.nodes
        if isinstance(node.op, Conv | DepthwiseConv | TransposeConv)
    )
    return 4 * (maps + 7 * graph.parameters)


def floor(case: Case, flops_per_s: float) -> dict[str, float]:
    arithmetic_s = step_flops(case.graph) / flops_per_s
    bounds = {
        "matrix_gflop_per_s": flops_per_s / 1e9,
        "arithmetic_ms": 1e3 * arithmetic_s,
        "floor_ms": 1e3 * arithmetic_s,
    }
    if case.device == "gpu":  # its memory is not what NumPy measures
        return bounds
    bandwidth = bytes_per_s(step_bytes(case.graph), case.threads)
    memory_s = step_bytes(case.graph) / bandwidth
    bounds |= {"bandwidth_gb_per_s": bandwidth / 1e9, "memory_ms": 1e3 * memory_s}
    return bounds | {"floor_ms": 1e3 * max(arithmetic_s, memory_s)}


def bytes_per_s(size: int, threads: int) -> float:
    """Return the bandwidth of adding two arrays into a third, all three together of `size` bytes."""
    arrays = [np.ones((3, max(1, size // 12 // threads)), np.float32) for _ in range(threads)]

    def add(array: np.ndarray[Any, Any]) -> None:
        np.add(array[0], array[1], out=array[2])

    with ThreadPoolExecutor(threads) as pool:
        return sum(array.nbytes for array in arrays) / fastest(lambda: list(pool.map(add, arrays)), times=30)


if __name__ == "__main__":
    main()
