"""Recover the flags of `benchmark_model` from its log, where they appear as "Use gpu: [1]"."""

import re
from collections.abc import Iterable

# "nnapi accelerator name: [x] (Available: x,y)" is one, "NNAPI accelerators available: [x,y]" is none.
_ECHO = re.compile(r"([#A-Za-z][\w #().-]*?) ?: \[(.*?)\](?: \(Available: .*\))?$")
_VERBOSELY = "Log parameter values verbosely"
_NO_FLAGS = ("nnapi accelerators available",)
# Where the words that the log uses are not the flag with blanks.
_NAMES = {
    "#threads used for cpu inference": "num_threads",
    "allow lower precision in gpu": "gpu_precision_loss_allowed",
    "enable running quant models in gpu": "gpu_experimental_enable_quant",
    "prefer maximizing the throughput in gpu": "gpu_inference_for_sustained_speed",
    "model execution priority in nnapi": "nnapi_execution_priority",
    "allow fp16 in nnapi": "nnapi_allow_fp16",
    "allow dynamic dimensions in nnapi": "nnapi_allow_dynamic_dimensions",
    "use burst mode in nnapi": "nnapi_use_burst_mode",
    "use ahardwarebuffer": "neuron_use_ahwb",
    "use cacheable buffer": "neuron_use_cacheable_buffer",
    "add compile options": "neuron_compile_options",
    "extra flags for xnnpack runtime": "xnnpack_runtime_flags",
    "max number of delegated partitions": "max_delegated_partitions",
}
# How long to measure and what to write beside is no condition of a time; these are.
_CONDITIONS = (
    "use_", "gpu_", "nnapi_", "neuron_", "xnnpack_", "external_", "hexagon_", "disable_", "allow_fp16", "max_delegated",
)  # fmt: skip
_DEFAULTS = ("", "0", "-1")


def read_flags(lines: Iterable[str]) -> dict[str, str]:
    """Return every flag in the log with its value as a text; bools are "1" and "0"."""
    matches = (match for line in lines if (match := _ECHO.match(line)))
    return {_flag(match[1]): match[2] for match in matches if match[1].lower() not in _NO_FLAGS}


def command_line(flags: dict[str, str]) -> str:
    """Return those flags that decide what a time means, in one line.

    The tool repeats only what it was given, unless it is old or verbose: then values that are its
    defaults are left out.
    """
    repeats_all = flags.get(_flag(_VERBOSELY), "1") != "0"
    conditions = {name: value for name, value in flags.items() if name.startswith(_CONDITIONS)}
    return " ".join(
        f"--{name}={value}" for name, value in conditions.items() if not (repeats_all and value in _DEFAULTS)
    )


def _flag(words: str) -> str:
    return _NAMES.get(words.lower(), re.sub(r"\W+", "_", words.lower()).strip("_"))
