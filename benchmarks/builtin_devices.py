"""Make the built-in devices of public measurements: six Snapdragon NPUs and the GPUs of three phones.

    python benchmarks/builtin_devices.py AIHUB_FOLDER PHONE_FOLDER OUT_FOLDER

AIHUB_FOLDER holds `npu_latency.csv` (quic/ai-hub-models v0.46.1, commit 52c080d2, BSD-3-Clause), PHONE_FOLDER
`cnn_gpu_ops_us.csv` and `cnn_end_to_end_us.csv` (qed-usc/mobile-ml-benchmark, commit 40ba833, MIT). A device's file
holds the networks' shapes, their times, and what was fitted to them; its `source` names licence and copyright.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import npu_latency
import phone_latency

from latency_models.delegate import load_delegate
from latency_models.device import Device, Measured, refit
from latency_models.device_writer import save_device
from latency_models.measurements import Conditions
from latency_models.methods import Fitted
from latency_models.samples import Sample

NPUS = {
    "galaxy-s24-npu": ("Samsung Galaxy S24", "Snapdragon 8 Gen 3"),
    "snapdragon-8-elite-gen-5-npu": ("Snapdragon 8 Elite Gen 5 QRD", "Snapdragon 8 Elite Gen 5"),
    "qcs8550-npu": ("QCS8550 (Proxy)", "QCS8550"),
    "qcs8275-npu": ("QCS8275 (Proxy)", "QCS8275"),
    "sa8295p-npu": ("SA8295P ADP", "SA8295P"),
    "iq-9075-npu": ("Dragonwing IQ-9075 EVK", "IQ-9075"),
}
GPUS = {
    "pixel-4-gpu": ("pixel4", "Google Pixel 4", "Snapdragon 855"),
    "galaxy-s10-gpu": ("s10", "Samsung Galaxy S10", "Exynos 9820, Mali G76"),
    "iphone-7-gpu": ("iphone7", "Apple iPhone 7", "Apple A10"),
}
# Every third network of the phones, so that a file stays small; the others are what it is judged on in results/latency.
EVERY = 3
AIHUB_SOURCE = (
    "estimated inference times that Qualcomm AI Hub measured, from the performance files of quic/ai-hub-models v0.46.1 "
    "(commit 52c080d2). BSD-3-Clause, Copyright 2025 Qualcomm Technologies, Inc. and/or its subsidiaries"
)
PHONE_SOURCE = (
    "whole networks timed on the GPU, from qed-usc/mobile-ml-benchmark (commit 40ba833; Li et al., ICPE 2023). MIT "
    "License, Copyright 2024 Zhuojin"
)
NPU_LIMITS = (
    "The timed .tflite files are not published: all networks are rebuilt from their papers and public code "
    "(benchmarks/aihub_networks.py). Their operations are fewer than the file's by 2 or 3 for most classifiers, by 4 "
    "to 6 for most super-resolution networks, and two more for one.",
    "Most networks are classifiers at 224×224; the largest maps are of a U-Net at 1280×640. Nothing at Full HD, no "
    "ISP.",
    "Times are of a network whose every layer ran on the NPU; a time of one that falls apart is not known.",
)
GPU_LIMITS = (
    "Classifiers at 224×224 alone: no transposed convolution, no depth-to-space, no map larger than 0.05 million "
    "pixels. At Full HD everything is an extrapolation.",
    "Networks are rebuilt from the source's table of operations, which has no additions and no activations.",
)


def main(arguments: Sequence[str]) -> None:
    aihub, phones, out = map(Path, arguments)
    times = npu_latency.read(aihub / "npu_latency.csv")
    for name, (chip_name, soc) in NPUS.items():
        known = npu_latency.samples(times[chip_name], list(npu_latency.BUILT))
        save_device(npu(name, chip_name, soc, known), out)
    data = phone_latency.read(phones)
    for name, (phone, chip_name, soc) in GPUS.items():
        save_device(gpu(name, chip_name, soc, data.whole(phone, data.models[::EVERY])), out)


def npu(name: str, chip_name: str, soc: str, known: Sequence[Sample]) -> Device:
    conditions = Conditions(
        device=chip_name,
        soc=soc,
        runtime="TensorFlow Lite on Qualcomm AI Hub",
        delegate="qnn",
        precision="fp16",
        flags="float files, computed in fp16",
        date="2025",
    )
    title = f"{chip_name}, NPU by the QNN delegate, fp16; {len(known)} public networks timed by Qualcomm AI Hub"
    return fitted(name, title, conditions, f"{len(known)} networks: {AIHUB_SOURCE}", known, "qualcomm-qnn", NPU_LIMITS)


def gpu(name: str, chip_name: str, soc: str, known: Sequence[Sample]) -> Device:
    conditions = Conditions(
        device=chip_name,
        soc=soc,
        runtime="TensorFlow Lite (fork of 2.10)",
        delegate="gpu",
        precision="fp16",
        date="2023",
    )
    title = f"{chip_name}, GPU, fp16; {len(known)} public CNNs at 224×224"
    return fitted(name, title, conditions, f"{len(known)} {PHONE_SOURCE}", known, "tflite-gpu", GPU_LIMITS)


def fitted(
    name: str,
    title: str,
    conditions: Conditions,
    source: str,
    known: Sequence[Sample],
    table: str,
    limits: tuple[str, ...],
) -> Device:
    measured = tuple(Measured(s.label, s.network, s.runtime_ms, s.family) for s in known)
    device = Device(
        name, title, conditions, source, measured, Fitted(2, 4), None, (), load_delegate(table), None, limits, "",  # type: ignore[arg-type]
    )  # fmt: skip
    predictor, held_out = refit(device)
    return Device(**{**vars(device), "predictor": predictor, "held_out": held_out})


if __name__ == "__main__":
    main(sys.argv[1:])
