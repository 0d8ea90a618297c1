"""The facts about an exported file as data: card.json."""

import hashlib
from dataclasses import asdict, dataclass, field
from math import isnan
from typing import Any

from latency_models.device import Device
from latency_models.file_check import check_file
from latency_models.file_runtime import predict_file
from latency_models.predictor import Prediction
from nas.data.raw_format import RawFormat
from nas.export.converter import Converted
from nas.export.verify import Judged
from nas.tflite.interpreter import threads
from nas.tflite.tensor_encoding import TensorEncoding
from search_spaces.graph import Graph
from search_spaces.input_levels import InputLevels
from search_spaces.tflite_file import op_counts


@dataclass(frozen=True)
class FileCard:
    """One precision: its file, or why there is none."""

    precision: str
    computes_in: str
    file: str | None  # None where it lost more than allowed
    dynamic_file: str | None
    sha256: str | None  # of the file, by which a card is known to belong to it
    dynamic_sha256: str | None
    refused: str | None  # why there is no file, with the layer at which the error enters
    size_bytes: int
    ops: dict[str, int]
    input: dict[str, Any]  # type, scale and zero point: value = (stored − zero_point) · scale; a scale of 0: as it is
    output: dict[str, Any]
    input_contract: str
    calibration_pairs: int | None  # None where nothing was calibrated
    fine_tuned: dict[str, Any] | None  # steps and folder of quantisation-aware training; None without
    val_psnr_db: float  # of the twin, run by LiteRT over the validation pairs
    val_ssim: float
    drop_db: float  # of the file against the trained network
    half_precision_drop_db: float | None  # with every map rounded to half precision; only for fp16
    max_drop_db: float
    test_psnr_db: float | None  # None where the data has no test pairs
    test_ssim: float | None
    full_size_psnr_db: float  # of the deploy file, on validation pairs laid side by side
    full_size_ssim: float | None  # None for sizes below its window
    full_size_drop_db: float
    twin_difference: float  # the largest, Flax against twin on real patches
    twin_mean_difference: float
    deploy_difference: float  # the largest, TensorFlow in float32 against the deploy file on one full-size mosaic
    deploy_mean_difference: float
    local_runtime_ms: float  # of the deploy file on the machine of `provenance`, median
    local_threads: int
    runtime_ms: float | None  # predicted for the device; None where nobody knows
    runtime_low_ms: float | None
    runtime_high_ms: float | None
    runtime_unknown: str | None  # why there is no predicted runtime
    device_check: dict[str, Any]  # what `isp-nas check` says of the file on the device


@dataclass(frozen=True)
class Card:
    """One export. Fields of quality, size and runtime beside `precisions` are those of the float32 file."""

    target: str
    spec: dict[str, Any]
    hash: str
    steps: int
    trained_by: str
    input_shape: list[int]
    output_shape: list[int]
    input_contract: str
    raw: dict[str, Any]  # how the mosaics of the pairs are to be read: bits, black, white, pattern, packing
    input_levels: dict[str, float]  # which counts the files read as 0 and 1
    size_bytes: int
    parameters: int
    macs: int
    ops: dict[str, int]
    val_psnr_db: float
    val_ssim: float
    trained_val_psnr_db: float  # of the network in Flax, same pairs
    trained_val_ssim: float
    test_psnr_db: float | None
    test_ssim: float | None
    twin_difference: float
    deploy_difference: float
    device: str
    device_digest: str
    device_precision: str  # in which the device was when it was measured
    device_unsupported: list[str]
    runtime_ms: float | None
    runtime_low_ms: float | None
    runtime_high_ms: float | None
    runtime_interval: str
    precisions: list[FileCard]
    data: dict[str, Any]
    data_identity: str
    data_licences: list[str]  # names of files beside the pairs that say what may be done with them
    provenance: dict[str, Any]
    not_run: list[str] = field(default_factory=list)  # precisions that could not be judged here, and why

    def to_dict(self) -> dict[str, Any]:
        """Return the card as card.json has it."""
        return asdict(self)


def file_card(
    converted: Converted,
    judged: Judged,
    raw: RawFormat,
    device: Device,
    *,
    names: tuple[str | None, str | None],
    refused: str | None,
    max_drop_db: float,
    calibration_pairs: int | None,
) -> FileCard:
    """Return what is known of one precision; `names` are those of the deploy and the dynamic file."""
    tuned = converted.fine_tuned
    predicted, unknown = predict_file(converted.deploy, device)
    return FileCard(
        precision=converted.precision.name,
        computes_in=converted.precision.title,
        file=names[0],
        dynamic_file=names[1],
        sha256=_sha256(converted.deploy, names[0]),
        dynamic_sha256=_sha256(converted.dynamic, names[1]),
        refused=refused,
        size_bytes=len(converted.deploy),
        ops=op_counts(converted.deploy),
        input=asdict(judged.input),
        output=asdict(judged.output),
        input_contract=contract(converted.levels, judged.input, judged.output, raw),
        calibration_pairs=calibration_pairs,
        fine_tuned={"steps": tuned.steps, "folder": tuned.folder} if tuned else None,
        val_psnr_db=judged.val.psnr_db,
        val_ssim=judged.val.ssim,
        drop_db=judged.drop_db,
        half_precision_drop_db=judged.half_drop_db,
        max_drop_db=max_drop_db,
        test_psnr_db=judged.test.psnr_db if judged.test else None,
        test_ssim=judged.test.ssim if judged.test else None,
        full_size_psnr_db=judged.full_size.psnr_db,
        full_size_ssim=None if isnan(judged.full_size.ssim) else judged.full_size.ssim,
        full_size_drop_db=judged.full_size_drop_db,
        twin_difference=judged.twin.largest,
        twin_mean_difference=judged.twin.mean,
        deploy_difference=judged.deploy.largest,
        deploy_mean_difference=judged.deploy.mean,
        local_runtime_ms=judged.local_runtime_ms,
        local_threads=threads(),
        **_runtime_fields(predicted),
        runtime_unknown=unknown,
        device_check=check_file(converted.deploy, device).to_dict(),
    )


def _sha256(content: bytes | None, name: str | None) -> str | None:
    """Return the hash of a file that is written."""
    return hashlib.sha256(content).hexdigest() if content and name else None


def contract(levels: InputLevels, taken: TensorEncoding, given: TensorEncoding, raw: RawFormat) -> str:
    """Say in one sentence what to feed and what comes out."""
    channels = f"packed RAW, channels {raw.packing} of a {raw.pattern} mosaic"
    if levels.is_normalized:
        values = f"(value − {raw.black}) / {raw.white_level - raw.black}"
    else:
        values = f"raw counts, black {levels.black:g} and white {levels.white:g}"
    return (
        f"{taken.dtype} {channels}, {values}{_taken(taken)}; output {given.dtype} RGB, nominally 0 … 1, to be "
        f"clipped{_given(given)}"
    )


def _taken(encoding: TensorEncoding) -> str:
    if not _is_scaled(encoding):
        return ""
    return f", stored as round(value / {encoding.scale:.6g}){_signed(encoding.zero_point)}"


def _given(encoding: TensorEncoding) -> str:
    if not _is_scaled(encoding):
        return ""
    return f", value = (stored{_signed(-encoding.zero_point)}) · {encoding.scale:.6g}"


def _is_scaled(encoding: TensorEncoding) -> bool:
    return bool(encoding.scale) and (encoding.scale, encoding.zero_point) != (1.0, 0)


def _signed(number: int) -> str:
    return f" {'+' if number > 0 else '−'} {abs(number)}" if number else ""


def runtime(device: Device, graph: Graph) -> dict[str, Any]:
    """Return what the device's model says of a network, as the card tells it."""
    refused = list(device.unsupported(graph))
    predicted = None if refused else device.predict(graph)
    return {
        "device": device.name,
        "device_digest": device.digest,
        "device_precision": device.conditions.precision,
        "device_unsupported": refused,
        **_runtime_fields(predicted),
        "runtime_interval": _interval(predicted),
    }


def _runtime_fields(predicted: Prediction | None) -> dict[str, Any]:
    return {
        "runtime_ms": predicted.runtime_ms if predicted else None,
        "runtime_low_ms": predicted.low_ms if predicted else None,
        "runtime_high_ms": predicted.high_ms if predicted else None,
    }


def _interval(predicted: Prediction | None) -> str:
    if predicted is None:
        return "no prediction"
    return "the interval being " + ("assumed, not measured" if predicted.assumed_interval else "measured")
