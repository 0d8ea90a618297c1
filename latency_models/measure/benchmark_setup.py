"""Delegates of `benchmark_model` with their flags, and the precision that results.

The default precision of the tool differs by delegate (the GPU computes in fp16 unless told otherwise, NNAPI and Neuron
in fp32), so every run says it. Source of the flags: TensorFlow's lite/tools/benchmark and lite/tools/delegates;
MediaTek-NeuroPilot/tflite-neuron-delegate.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from search_spaces.errors import UnknownNameError, UsageError

MIN_RUNS = 50
WARMUP_RUNS = 5  # at least, and at least half a second


@dataclass(frozen=True)
class Delegate:
    """One way to run a network, and the flags that ask for it."""

    flags: tuple[str, ...]
    precisions: Mapping[str, tuple[str, ...]]  # what it can compute in, with the flags for it; the first is the default
    accelerator: str = ""  # the flag that names one of several accelerators
    is_cpu: bool = False  # what it leaves to others stays on the same processor


DELEGATES = {
    "cpu": Delegate(("--use_xnnpack=false",), {"fp32": (), "int8": ()}, is_cpu=True),
    "xnnpack": Delegate(
        ("--use_xnnpack=true",), {"fp32": (), "fp16": ("--xnnpack_force_fp16=true",), "int8": ()}, is_cpu=True
    ),
    # Quantised networks are computed in floating point there, so int8 is none of its precisions.
    "gpu": Delegate(
        ("--use_gpu=true",),
        {"fp16": ("--gpu_precision_loss_allowed=true",), "fp32": ("--gpu_precision_loss_allowed=false",)},
    ),
    # fp16 first: what computes in floating point behind these two computes in nothing else (MediaTek's MDLA: "FP32
    # only as relaxed FP16"), and would leave a network that insists on fp32 to something slower.
    "nnapi": Delegate(
        ("--use_nnapi=true", "--disable_nnapi_cpu=true"),
        {"fp16": ("--nnapi_allow_fp16=true",), "fp32": ("--nnapi_allow_fp16=false",), "int8": ()},
        accelerator="--nnapi_accelerator_name",
    ),
    "neuron": Delegate(
        ("--use_neuron=true",),
        {"fp16": ("--neuron_allow_fp16=true",), "fp32": ("--neuron_allow_fp16=false",), "int8": ()},
        accelerator="--neuron_accelerator_name",
    ),
}


@dataclass(frozen=True)
class BenchmarkSetup:
    """The user's program and how it is to run every network."""

    binary: Path
    delegate: str = "xnnpack"
    precision: str = ""  # empty: the delegate's default
    threads: int = 1
    accelerator: str = ""  # of NNAPI or Neuron, as the phone calls it
    cores: str = ""  # mask of the processor's cores for taskset, in hex: "f0" is often the four fast ones
    runs: int = MIN_RUNS
    extra_flags: tuple[str, ...] = ()
    allow_partial: bool = False  # time networks too of which the delegate takes only a part

    def validate(self) -> None:
        """Raise UsageError for what the program could not be asked."""
        if self.delegate not in DELEGATES:
            raise UnknownNameError("delegate", self.delegate, DELEGATES)
        delegate = DELEGATES[self.delegate]
        if self.computes_in not in delegate.precisions:
            raise UnknownNameError(f'precision of delegate "{self.delegate}"', self.precision, delegate.precisions)
        if self.accelerator and not delegate.accelerator:
            raise UsageError(
                f'Delegate "{self.delegate}" takes no accelerator, got "{self.accelerator}"; leave it out.'
            )
        if self.runs < MIN_RUNS:
            raise UsageError(f"A network is timed at least {MIN_RUNS} times, got {self.runs}; ask for more runs.")
        if self.threads < 1:
            raise UsageError(f"The number of threads is 1 or more, got {self.threads}.")
        if self.cores and not re.fullmatch(r"[0-9a-fA-F]+", self.cores):
            raise UsageError(f'The cores are a mask in hex such as "f0", got "{self.cores}".')
        self._validate_extra_flags()

    def _validate_extra_flags(self) -> None:
        ours = {flag.partition("=")[0] for flag in self._own_flags()} | {"--graph"}
        for flag in self.extra_flags:
            name = flag.partition("=")[0]
            if not name.startswith("--"):
                raise UsageError(f'A flag of benchmark_model looks like "--name=value", got "{flag}".')
            if name in ours:
                raise UsageError(f"{name} is decided by the other options already; leave it out of the extra flags.")

    @property
    def computes_in(self) -> str:
        """The precision, the delegate's default where none was asked for."""
        return self.precision or next(iter(DELEGATES[self.delegate].precisions))

    def flags(self) -> tuple[str, ...]:
        """Return what benchmark_model is given beside the network."""
        return *self._own_flags(), *self.extra_flags

    def _own_flags(self) -> tuple[str, ...]:
        delegate = DELEGATES[self.delegate]
        named = (f"{delegate.accelerator}={self.accelerator}",) if self.accelerator else ()
        return (
            *delegate.flags,
            *named,
            *delegate.precisions[self.computes_in],
            f"--num_threads={self.threads}",
            f"--warmup_runs={WARMUP_RUNS}",
            f"--num_runs={self.runs}",
            "--enable_op_profiling=false",  # on one phone a profiled run took 1.7 times as long
        )
