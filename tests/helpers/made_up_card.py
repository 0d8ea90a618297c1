"""A card as an export writes it, without an export."""

from dataclasses import replace
from typing import Any

from nas.export.card import Card, FileCard
from search_spaces.designs import DESIGNS
from search_spaces.spec import ArchSpec

SPEC: ArchSpec = DESIGNS["smallnet"].spec
VALUES = {"dtype": "float32", "scale": 0.0, "zero_point": 0}


def file_card(**changes: Any) -> FileCard:
    """Return what is known of a float32 file, changed as asked."""
    return replace(_FILE, **changes)


def card(**changes: Any) -> Card:
    """Return a card of a float32 file, changed as asked."""
    return replace(_CARD, **changes)


_FILE = FileCard(
    precision="fp32",
    computes_in="maps and weights float32",
    file="model.tflite",
    dynamic_file=None,
    sha256="0" * 64,
    dynamic_sha256=None,
    refused=None,
    size_bytes=20_700,
    ops={"CONV_2D": 3},
    input=VALUES,
    output=VALUES,
    input_contract="float32 packed RAW; output float32 RGB",
    calibration_pairs=None,
    fine_tuned=None,
    val_psnr_db=33.0,
    val_ssim=0.87,
    drop_db=0.0,
    half_precision_drop_db=None,
    max_drop_db=0.0,
    test_psnr_db=None,
    test_ssim=None,
    full_size_psnr_db=33.0,
    full_size_ssim=0.87,
    full_size_drop_db=0.0,
    twin_difference=1e-6,
    twin_mean_difference=1e-7,
    deploy_difference=1e-6,
    deploy_mean_difference=1e-7,
    local_runtime_ms=31.4,
    local_threads=2,
    runtime_ms=58.9,
    runtime_low_ms=39.3,
    runtime_high_ms=88.4,
    runtime_unknown=None,
    device_check={"fit": True, "findings": []},
)
_CARD = Card(
    target="smallnet",
    spec=SPEC.to_dict(),
    hash=SPEC.hash,
    steps=100,
    trained_by="a test",
    input_shape=[1, 544, 960, 4],
    output_shape=[1, 1088, 1920, 3],
    input_contract=_FILE.input_contract,
    raw={"bits": 10, "black": 0, "white": 1023, "pattern": "RGGB", "packing": "challenge"},
    input_levels={"black": 0.0, "white": 1.0},
    size_bytes=_FILE.size_bytes,
    parameters=4652,
    macs=2_410_000_000,
    ops=_FILE.ops,
    val_psnr_db=33.0,
    val_ssim=0.87,
    trained_val_psnr_db=33.0,
    trained_val_ssim=0.87,
    test_psnr_db=None,
    test_ssim=None,
    twin_difference=1e-6,
    deploy_difference=1e-6,
    device="dimensity-1000-plus",
    device_digest="0123456789ab",
    device_precision="fp16",
    device_unsupported=[],
    runtime_ms=_FILE.runtime_ms,
    runtime_low_ms=_FILE.runtime_low_ms,
    runtime_high_ms=_FILE.runtime_high_ms,
    runtime_interval="the interval being measured",
    precisions=[_FILE],
    data={"source": "pairs"},
    data_identity="0123456789ab",
    data_licences=[],
    provenance={
        "command": "isp-nas export smallnet",
        "created": "2026-01-01T00:00:00+00:00",
        "commit": "0123456789ab",
        "machine": "a machine",
        "versions": {"isp-nas": "0.1.0"},
    },
)
