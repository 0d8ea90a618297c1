"""Read results of AI Benchmark that a person typed into a CSV under that app's headings. Pure.

    network     also: Model
    runtime     Runtime, Time, Latency or Inference time, with Average or Median before it and its unit behind it:
                "Average time, ms", "Latency (ms)", "Time, s"; unless it says Median it is taken for the mean
    delegate    also: Acceleration, Accelerator
    precision   also: Data type, Mode
    device      also: Phone

Every other heading is one of our own columns. What the app does not show, its version and the phone's chip, can
stand in such a column too.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

from latency_models.measurements import COLUMNS, Timing

_RUNTIME = re.compile(
    r"(?:(?:average|avg|mean|median)_)?(?:inference_)?(?:(?:runtime|time|latency)_)?(?:in_)?(ms|us|s)"
)
_OURS = re.compile(r"(?:runtime|low|high)_(?:ms|us|s)")
_NAMES = {
    "acceleration": "delegate",
    "accelerator": "delegate",
    "data_type": "precision",
    "mode": "precision",
    "phone": "device",
}
_PRECISIONS = {"float16": "fp16", "float32": "fp32"}
_DELEGATES = ("nnapi", "gpu", "neuron", "hexagon", "eden", "qnn", "xnnpack", "cpu")


def typed_columns(headings: Sequence[str]) -> dict[str, str]:
    """Return our column for each heading that is known here and is not ours; empty: the CSV is our own."""
    columns = {heading: column for heading in headings if (column := _column(heading))}
    # Our own "model" is a path, beside the name of the network; alone it is that name.
    if "network" not in {*headings, *columns.values()}:
        columns |= {heading: "network" for heading in headings if heading.lower() == "model"}
    return columns


def _column(heading: str) -> str | None:
    if heading in COLUMNS or _OURS.fullmatch(heading):
        return None
    plain = re.sub(r"\W+", "_", re.sub("[µμ]", "u", heading.lower())).strip("_")
    if match := _RUNTIME.fullmatch(plain):
        return f"runtime_{match[1]}"
    return plain if plain in COLUMNS and plain != "model" else _NAMES.get(plain)


def in_our_words(timing: Timing, headings: Sequence[str]) -> Timing:
    """Return a timing that was read under these headings with its values as logs have them."""
    conditions = timing.conditions
    precision = conditions.precision.lower()
    if "statistic" not in headings:
        is_median = any("median" in heading.lower() for heading in headings)
        timing = replace(timing, statistic="median" if is_median else "mean")
    return replace(
        timing,
        network=timing.network.removesuffix(".tflite"),
        conditions=replace(
            conditions, delegate=_delegate(conditions.delegate), precision=_PRECISIONS.get(precision, precision)
        ),
    )


def _delegate(name: str) -> str:
    """Return the first word of "TFLite GPU delegate" or "NNAPI, mtk-mdla" that is a delegate."""
    words = re.findall(r"[a-z]+", name.lower())
    return next((word for word in words if word in _DELEGATES), name.lower())
