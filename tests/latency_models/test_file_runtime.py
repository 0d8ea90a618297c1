"""A device's times hold for files that compute in the numbers it was measured in, and for no others."""

from dataclasses import replace
from pathlib import Path

import pytest
from flow import in_process
from tflite_samples import sample

from latency_models.device import Device, load_device
from latency_models.file_runtime import kind_of_file, mismatch, predict_file
from latency_models.tflite_network import read_network

CPU = load_device("amd-epyc-genoa-1-thread")


def measured_in(precision: str) -> Device:
    return replace(CPU, conditions=replace(CPU.conditions, precision=precision))


@pytest.mark.parametrize(
    ("dtype", "kind"), [("float32", "floating point"), ("uint8", "int8"), ("int8", "int8"), ("int16", "int16")]
)
def test_a_file_computes_in_the_numbers_of_its_multiplications(dtype: str, kind: str) -> None:
    assert kind_of_file(read_network(sample("CONV_2D", dtype))) == kind


def test_what_is_converted_at_the_ends_does_not_count() -> None:
    """The maps of a QUANTIZE of floats are larger than those of nothing else."""
    assert kind_of_file(read_network(sample("QUANTIZE"))) == "floating point"
    network = read_network(sample("CONV_2D", "int8"))
    quantize = read_network(sample("QUANTIZE")).kernels[0]._replace(output_elements=10**6)
    assert kind_of_file(network._replace(kernels=(quantize, *network.kernels))) == "int8"


@pytest.mark.parametrize(
    ("precision", "dtype", "why"),
    [
        ("fp32", "float32", None),
        ("float32 file, computed in fp16", "float32", None),
        ("fp32", "int8", "amd-epyc-genoa-1-thread was calibrated in floating point, and the file computes in int8"),
        ("int8, per channel", "int8", None),
        (
            "int8, per channel",
            "int16",
            "amd-epyc-genoa-1-thread was calibrated in int8, and the file computes in int16",
        ),
        ("INT8", "float32", "amd-epyc-genoa-1-thread was calibrated in int8, and the file computes in floating point"),
        ("", "float32", None),
        ("", "int8", "amd-epyc-genoa-1-thread does not tell its precision, and the file computes in int8"),
    ],
)
def test_a_device_prices_files_of_its_own_precision(precision: str, dtype: str, why: str | None) -> None:
    device = measured_in(precision)
    content = sample("CONV_2D", dtype)
    network = read_network(content)
    assert mismatch(network, device) == why
    predicted, unknown = predict_file(content, device)
    assert unknown == why
    assert predicted == (None if why else device.predict_network(network))


def test_a_file_that_a_device_does_not_run_whole_has_no_time() -> None:
    predicted, why = predict_file(sample("RSQRT"), load_device("dimensity-1000-plus"))
    assert (predicted, why) == (None, "dimensity-1000-plus does not run the whole file")


def test_the_command_prices_no_file_of_another_precision(tmp_path: Path) -> None:
    path = tmp_path / "model_int8.tflite"
    path.write_bytes(sample("CONV_2D", "int8"))
    done = in_process("latency", "predict", path, "--device", CPU.name)
    assert done.returncode == 2
    assert "was calibrated in floating point, and the file computes in int8" in done.stderr
    assert "Predict its float32 file, or calibrate a device from measurements in int8." in done.stderr
    path.write_bytes(sample("CONV_2D"))
    assert in_process("latency", "predict", path, "--device", CPU.name).returncode == 0
