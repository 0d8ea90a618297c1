"""`isp-nas check`: whether a .tflite file runs on a device as a whole, and what to change."""

import json
from pathlib import Path

import pytest
from flow import in_process, write_device
from tflite_builder import FileBuilder
from tflite_samples import CONV

from latency_models.device import load_device
from latency_models.file_check import FileCheck, check_file
from latency_models.support import UNCHECKED

APU = load_device("dimensity-1000-plus")
CPU = load_device("amd-epyc-genoa-1-thread")
MAP = (1, 8, 8, 4)


def conv_file(*shape: int, bias: bool = True, dtype: str = "float32", input_dtype: str | None = None) -> bytes:
    """One convolution of 3×3 taps, and before it a QUANTIZE where the input is of another type."""
    b = FileBuilder()
    x = b.input(*shape, dtype=input_dtype or dtype)
    if input_dtype:
        x = b.op("QUANTIZE", [x], shape, dtype=dtype)
    inputs = [x, b.weights(4, 3, 3, 4, dtype=dtype, scale=0.1)]
    if bias:
        inputs.append(b.constant([0] * 4, "int32" if dtype == "int8" else "float32"))
    y = b.op("CONV_2D", inputs, shape, dtype=dtype, options=CONV, version=3 if dtype == "int8" else 1)
    return b.file(y)


def check_and_findings(content: bytes, device: object = APU, **options: object) -> tuple[FileCheck, list[str]]:
    checked = check_file(content, device, **options)  # type: ignore[arg-type]
    return checked, [f"{finding.severity} {finding.name}: {finding.what}" for finding in checked.findings]


def test_where_nothing_is_known_of_the_delegate_that_is_said(tmp_path: Path) -> None:
    path = write_device(tmp_path / "strange.json", delegate=UNCHECKED)
    checked, findings = check_and_findings(conv_file(*MAP), load_device(str(path)))
    assert (checked.status, checked.is_fit) == (UNCHECKED, True)
    assert findings == ["warning strange: nothing is known of its delegate, so support is not checked"]
    (tmp_path / "net.tflite").write_bytes(conv_file(*MAP))
    for form in ("table", "json"):
        done = in_process("latency", "predict", tmp_path / "net.tflite", "--device", path, "--format", form)
        assert done.returncode == 0, done.stderr
        assert ("support is not checked" if form == "table" else f'"support": "{UNCHECKED}"') in done.stdout


def test_a_file_that_the_delegate_takes_whole_is_fit() -> None:
    checked, findings = check_and_findings(conv_file(*MAP))
    assert findings == []
    assert checked.is_fit
    assert (checked.status, checked.partitions, checked.delegated, checked.kernels) == ("supported", 1, 1, 1)


def test_a_missing_bias_is_told_with_what_to_do() -> None:
    checked, findings = check_and_findings(conv_file(*MAP, bias=False))
    assert findings[0].startswith("error CONV_2D")
    assert "it has no bias" in findings[0]
    assert checked.findings[0].what_to_do == "give it a bias; zeros will do"
    assert not checked.is_fit


def test_another_batch_is_an_error() -> None:
    _, findings = check_and_findings(conv_file(2, 8, 8, 4))
    assert any(line.endswith("input with a batch of 2") for line in findings)
    assert any(line.endswith("output with a batch of 2") for line in findings)


def test_another_rank_is_an_error() -> None:
    b = FileBuilder()
    x = b.input(8, 8, 4)
    _, findings = check_and_findings(b.file(b.op("RELU", [x], (8, 8, 4))))
    assert any("input of rank 3" in line for line in findings)


def test_open_sizes_are_an_error_and_decided_where_they_are_told() -> None:
    content = conv_file(1, -1, -1, 4)
    checked, findings = check_and_findings(content)
    assert checked.status == "unknown"
    assert findings == ["error t0: sizes are open: [1, ?, ?, 4]"]
    checked, findings = check_and_findings(content, sizes=(1, 8, 8, 4))
    assert (checked.status, checked.kernels) == ("supported", 1)
    assert len(findings) == 1  # that sizes are open is still so


def test_floats_around_integers_are_a_warning() -> None:
    checked, findings = check_and_findings(conv_file(*MAP, dtype="int8", input_dtype="float32"), CPU)
    assert [line for line in findings if "converts floats at its ends" in line]
    assert checked.is_fit


@pytest.mark.parametrize("device", [APU, CPU], ids=["phone", "cpu"])
def test_uint8_around_int8_is_no_conversion_of_floats(device: object) -> None:
    checked, findings = check_and_findings(conv_file(*MAP, dtype="int8", input_dtype="uint8"), device)
    assert not [line for line in findings if "floats" in line.rpartition(": ")[2]]
    assert checked.is_fit


def test_floats_that_come_out_of_integers_are_a_warning() -> None:
    b = FileBuilder()
    x = b.op("RELU", [b.input(*MAP, dtype="int8")], MAP, dtype="int8")
    _, findings = check_and_findings(b.file(b.op("DEQUANTIZE", [x], MAP)), CPU)
    assert "warning DEQUANTIZE t2: the file converts floats at its ends and computes in integers between" in findings


def test_several_inputs_are_told() -> None:
    b = FileBuilder()
    y = b.op("ADD", [b.input(*MAP), b.input(*MAP)], MAP)
    _, findings = check_and_findings(b.file(y))
    assert findings == ["warning input: the file has 2 inputs"]


def test_a_refusal_in_the_middle_makes_pieces() -> None:
    b = FileBuilder()
    x = b.op("RELU", [b.input(*MAP)], MAP)
    y = b.op("RELU", [b.op("RSQRT", [x], MAP)], MAP)
    checked, findings = check_and_findings(b.file(y))
    assert checked.partitions == 2
    assert any(line.startswith("error RSQRT") for line in findings)
    assert any("in 2 pieces" in line for line in findings)


def test_on_a_cpu_what_the_delegate_leaves_is_no_error() -> None:
    b = FileBuilder()
    y = b.op("RSQRT", [b.op("MIRROR_PAD", [b.input(*MAP), b.numbers(0, 0)], MAP)], MAP)
    checked, _ = check_and_findings(b.file(y), CPU)
    assert checked.is_fit


def test_the_command_prints_and_ends_with_2_where_the_file_is_not_fit(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.tflite", tmp_path / "bad.tflite"
    good.write_bytes(conv_file(*MAP))
    bad.write_bytes(conv_file(*MAP, bias=False))
    done = in_process("check", good)
    assert done.returncode == 0
    assert "Fit for the device." in done.stdout
    done = in_process("check", bad, "--format", "json")
    assert done.returncode == 2
    output = json.loads(done.stdout)
    assert output["fit"] is False
    assert output["findings"][0]["severity"] == "error"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("gone.tflite",), "Cannot read gone.tflite"),
        (("x.tflite",), "x.tflite: These bytes are not a .tflite file"),
        (("x.tflite", "--device", "mars"), 'Unknown device "mars"'),
        (("x.tflite", "--format", "xml"), 'Unknown format "xml"'),
    ],
)
def test_mistakes_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.tflite").write_bytes(b"nothing")
    done = in_process("check", *arguments)
    assert done.returncode == 2
    assert sentence in done.stderr


@pytest.mark.parametrize(
    ("size", "sentence"),
    [
        ("big", 'such as 1088x1920; got "big"'),
        ("1087x1921", "even height and width, got 1087×1921"),
        ("16x-16", 'got "16x-16"'),
    ],
)
def test_a_size_that_is_none_is_one_sentence(tmp_path: Path, size: str, sentence: str) -> None:
    path = tmp_path / "open.tflite"
    path.write_bytes(conv_file(1, -1, -1, 4))
    done = in_process("check", path, "--size", size)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("size", ["16x16", "16×16"])
def test_a_size_is_read_as_export_reads_it(tmp_path: Path, size: str) -> None:
    path = tmp_path / "open.tflite"
    path.write_bytes(conv_file(1, -1, -1, 4))
    done = in_process("check", path, "--size", size, "--format", "json")
    assert json.loads(done.stdout)["status"] == "supported"


# Operations that nobody here has a rule for


def foreign_file(name: str, *, custom: str = "", shape: tuple[int, ...] = MAP) -> bytes:
    """An operation without a rule between two that have one; its convolution has no bias."""
    b = FileBuilder()
    x = b.op("RELU", [b.input(*shape)], shape)
    y = b.op(name, [x], shape, custom=custom)
    return b.file(b.op("RSQRT", [y], shape))


@pytest.mark.parametrize("name", ["CONV_3D", "RFFT2D", "WHILE", "IF"])
def test_an_operation_that_nobody_knows_is_a_finding_beside_the_others(name: str) -> None:
    checked, findings = check_and_findings(foreign_file(name))
    assert f"error {name} t2: mediatek-neuron does not take it: the delegate does not know the operation" in findings
    assert any(line.startswith("error RSQRT t3") for line in findings)
    assert (checked.status, checked.kernels, checked.is_fit) == ("partial", 3, False)


@pytest.mark.parametrize("device", [APU, CPU], ids=["phone", "cpu"])
def test_a_custom_operation_is_named_and_an_error_everywhere(device: object) -> None:
    checked, findings = check_and_findings(foreign_file("CUSTOM", custom="FlexErf"), device)
    assert any(line.startswith("error CUSTOM FlexErf t2: ") for line in findings)
    assert not checked.is_fit


def test_an_operation_that_nobody_knows_hides_no_other_rank() -> None:
    _, findings = check_and_findings(foreign_file("CONV_3D", shape=(1, 2, 8, 8, 4)))
    assert any(line.endswith("input of rank 5") for line in findings)
    assert any(line.startswith("error CONV_3D") for line in findings)


def test_an_operation_without_output_is_a_finding() -> None:
    b = FileBuilder()
    x = b.input(*MAP)
    b.op("ASSIGN_VARIABLE", [x], MAP)
    b.graph.operators[0].outputs = []
    y = b.op("RELU", [x], MAP)
    _, findings = check_and_findings(b.file(y))
    assert any(line.startswith("error ASSIGN_VARIABLE") for line in findings)


@pytest.mark.parametrize("sizes", [None, (1, 8, 8, 4)])
def test_an_operation_that_nobody_knows_is_told_of_a_file_with_open_sizes(sizes: tuple[int, ...] | None) -> None:
    checked, findings = check_and_findings(foreign_file("CONV_3D", shape=(1, -1, -1, 4)), sizes=sizes)
    assert checked.status == "unknown"
    assert any(line.startswith("error CONV_3D t2") for line in findings)
    assert ("error sizes: CONV_3D makes maps whose sizes cannot be worked out here" in findings) == (sizes is not None)


def test_names_with_brackets_are_printed_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "brackets.tflite"
    path.write_bytes(foreign_file("CUSTOM", custom="[/red]op"))
    assert "CUSTOM [/red]op t2: " in in_process("check", path).stdout


def test_unknown_operations_are_printed_and_not_priced(tmp_path: Path) -> None:
    path = tmp_path / "foreign.tflite"
    path.write_bytes(foreign_file("CONV_3D"))
    done = in_process("check", path, "--format", "json")
    assert done.returncode == 2
    assert [row["name"] for row in json.loads(done.stdout)["findings"]][:1] == ["CONV_3D t2"]
    done = in_process("latency", "predict", path)
    assert done.returncode == 2
    assert "none of those that can be priced" in done.stderr
