import os
import struct
import subprocess
from pathlib import Path
from typing import ClassVar

import fake_adb
import pytest
from fake_adb import SERIAL, FakePhone

from latency_models.measure import adb
from latency_models.measure.adb import Attached, NoAnswerError, Phone, PhoneLostError, attached_phones, choose_phone
from latency_models.measure.benchmark_setup import DELEGATES, BenchmarkSetup
from latency_models.measure.elf import abis_of, check_abi
from latency_models.measure.phone_state import PhoneState, parse_state
from search_spaces.errors import MeasurementError, UsageError


@pytest.fixture
def phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakePhone:
    fake, path = fake_adb.install(tmp_path, os.environ["PATH"])
    monkeypatch.setenv("PATH", path)
    monkeypatch.delenv("ANDROID_SERIAL", raising=False)
    return fake


class TestChoosing:
    @pytest.mark.usefixtures("phone")
    def test_the_only_phone_is_taken(self) -> None:
        assert attached_phones() == (Attached(SERIAL, "device"),)
        assert choose_phone() == Phone(SERIAL)

    def test_a_phone_in_the_wireless_network_may_have_a_name_with_blanks(self, phone: FakePhone) -> None:
        phone.set(devices=[["adb-R5CT-x (2)._adb-tls-connect._tcp", "device"]])
        assert choose_phone() == Phone("adb-R5CT-x (2)._adb-tls-connect._tcp")

    def test_without_adb_it_is_said_where_to_get_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(MeasurementError, match="The command adb was not found; install Android's platform"):
            choose_phone()

    def test_without_a_phone_it_is_said_how_to_connect_one(self, phone: FakePhone) -> None:
        phone.set(devices=[])
        with pytest.raises(
            MeasurementError, match="adb sees no phone; plug one in, unlock it, and switch on USB debugging"
        ):
            choose_phone()

    @pytest.mark.parametrize(
        ("state", "advice"),
        [
            ("unauthorized", "unlock it and allow USB debugging"),
            ("offline", "unplug it, plug it in again"),
            (
                "no permissions (missing udev rules? user is in the plugdev group); see [http://x]",
                "android-sdk-platform",
            ),
            ("recovery", "start Android on it"),
        ],
    )
    def test_a_phone_that_adb_cannot_use_is_refused_with_what_to_do(
        self, phone: FakePhone, state: str, advice: str
    ) -> None:
        phone.set(devices=[[SERIAL, state]])
        with pytest.raises(MeasurementError, match=rf'{SERIAL}, which is "{state.split("(")[0].strip()}"; .*{advice}'):
            choose_phone()

    def test_of_two_phones_one_must_be_named(self, phone: FakePhone, monkeypatch: pytest.MonkeyPatch) -> None:
        phone.set(devices=[[SERIAL, "device"], ["emulator-5554", "offline"]])
        with pytest.raises(MeasurementError, match=rf"{SERIAL} \(device\), emulator-5554 \(offline\); .*--adb SERIAL"):
            choose_phone()
        assert choose_phone(SERIAL) == Phone(SERIAL)
        monkeypatch.setenv("ANDROID_SERIAL", SERIAL)  # adb's own way to say it
        assert choose_phone() == Phone(SERIAL)

    @pytest.mark.usefixtures("phone")
    def test_a_serial_that_is_not_there_is_refused_with_those_that_are(self) -> None:
        with pytest.raises(MeasurementError, match=f'adb does not see the phone "XYZ", it sees {SERIAL}'):
            choose_phone("XYZ")


class TestPhone:
    @pytest.mark.usefixtures("phone")
    def test_a_command_gives_both_streams_and_its_status(self) -> None:
        reply = Phone(SERIAL).shell("echo out; echo err >&2; printf end; exit 3 | cat; (exit 3)")
        assert (reply.text, reply.status) == ("out\nerr\nend", 3)
        assert reply.last_line == "end"

    def test_files_arrive_whole_whatever_their_folder_is_called(self, phone: FakePhone, tmp_path: Path) -> None:
        local = tmp_path / "it's a folder; with $(signs)" / "a network.tflite"
        local.parent.mkdir()
        local.write_bytes(b"TFL3")
        Phone(SERIAL).push(local, "/data/local/tmp/x.tflite")
        assert phone.stored()["data/local/tmp/x.tflite"] == b"TFL3"
        assert Phone(SERIAL).size("/data/local/tmp/x.tflite") == 4
        assert Phone(SERIAL).digest("/data/local/tmp/x.tflite") is not None
        assert Phone(SERIAL).size("/data/local/tmp/y.tflite") is None

    def test_properties_are_read_at_once(self, phone: FakePhone) -> None:
        assert Phone(SERIAL).properties() == fake_adb.SCENARIO["properties"]
        assert len(phone.calls()) == 1

    def test_full_storage_is_said_with_the_size(self, phone: FakePhone, tmp_path: Path) -> None:
        phone.set(faults=[{"match": "push", "full": True}])
        (tmp_path / "big").write_bytes(bytes(2000))
        with pytest.raises(MeasurementError, match=rf"storage of phone {SERIAL} is full: big \(2,000 bytes\)"):
            Phone(SERIAL).push(tmp_path / "big", "/data/local/tmp/x")

    def test_a_push_that_is_not_allowed_is_said(self, phone: FakePhone, tmp_path: Path) -> None:
        error = "adb: error: failed to copy 'f' to '/x': remote couldn't create file: Permission denied"
        phone.set(faults=[{"match": "push", "stderr": error}])
        (tmp_path / "f").write_bytes(b"1")
        with pytest.raises(MeasurementError, match=r"could not be copied .*Permission denied\.$") as caught:
            Phone(SERIAL).push(tmp_path / "f", "/x")
        assert not isinstance(caught.value, PhoneLostError)

    @pytest.mark.parametrize(
        "error",
        [
            "error: device 'R5CT30ABCDE' not found",
            "error: closed",
            "error: device offline",
            "adb: error: failed to get feature set: no devices/emulators found",
            "error: device unauthorized.\nThis adb server's $ADB_VENDOR_KEYS is not set",
            "adb: error: failed to copy 'f' to '/x': no response: Connection reset by peer",
        ],
    )
    def test_a_pulled_cable_is_told_from_other_failures(self, phone: FakePhone, tmp_path: Path, error: str) -> None:
        phone.set(faults=[{"match": ".", "at": "every", "stderr": error}])
        (tmp_path / "f").write_bytes(b"1")
        with pytest.raises(PhoneLostError, match="plug it in again"):
            Phone(SERIAL).push(tmp_path / "f", "/x")
        with pytest.raises(PhoneLostError, match="plug it in again"):
            Phone(SERIAL).shell("true")

    def test_a_connection_that_breaks_without_a_word_is_lost(self, phone: FakePhone) -> None:
        phone.set(faults=[{"match": "shell", "stderr": "", "code": 255}])
        with pytest.raises(PhoneLostError):
            Phone(SERIAL).shell("sleep 100")

    @pytest.mark.usefixtures("phone")
    def test_a_command_without_an_answer_is_given_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def hang(*arguments: object, timeout: float, **options: object) -> None:
            raise subprocess.TimeoutExpired("adb", timeout)

        monkeypatch.setattr(adb.subprocess, "run", hang)
        with pytest.raises(NoAnswerError, match=r'"adb -s \S+ shell …" gave no answer within 30 s'):
            Phone(SERIAL).shell("dumpsys battery")


class TestProgram:
    @pytest.mark.parametrize(("machine", "abi"), [("arm64", "arm64-v8a"), ("arm", "armeabi-v7a"), ("x86_64", "x86_64")])
    def test_its_processor_is_in_its_header(self, tmp_path: Path, machine: str, abi: str) -> None:
        (tmp_path / "program").write_bytes(fake_adb.elf(machine))
        assert abis_of(tmp_path / "program")[0] == abi

    def test_one_for_another_processor_is_refused(self, tmp_path: Path) -> None:
        program = tmp_path / "benchmark_model"
        program.write_bytes(fake_adb.elf("arm64"))
        check_abi(program, ("arm64-v8a", "armeabi-v7a"))
        check_abi(program, ())  # a phone that does not say
        with pytest.raises(MeasurementError, match="is built for arm64-v8a, the phone runs armeabi-v7a, armeabi; give"):
            check_abi(program, ("armeabi-v7a", "armeabi"))

    def test_one_of_a_processor_that_no_phone_has_is_refused(self, tmp_path: Path) -> None:
        program = tmp_path / "benchmark_model"
        program.write_bytes(b"\x7fELF\x02\x02\x01".ljust(16, b"\0") + struct.pack(">HH", 3, 8))
        with pytest.raises(MeasurementError, match="is built for ELF machine 8"):
            check_abi(program, ("arm64-v8a",))

    @pytest.mark.parametrize("content", [b"", b"PK\x03\x04 an apk", b"#!/bin/sh\n", fake_adb.elf()[:19]])
    def test_what_is_no_program_is_refused(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "program").write_bytes(content)
        with pytest.raises(MeasurementError, match="is not a benchmark_model program"):
            abis_of(tmp_path / "program")

    def test_one_that_is_not_there_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(MeasurementError, match="Cannot read"):
            abis_of(tmp_path / "program")


class TestSetup:
    # Source: the usage texts of benchmark_model (TensorFlow 2.17) and of MediaTek's build of it.
    DOCUMENTED: ClassVar = {
        ("cpu", "fp32"): "--use_xnnpack=false",
        ("cpu", "int8"): "--use_xnnpack=false",
        ("xnnpack", "fp32"): "--use_xnnpack=true",
        ("xnnpack", "fp16"): "--use_xnnpack=true --xnnpack_force_fp16=true",
        ("xnnpack", "int8"): "--use_xnnpack=true",
        ("gpu", "fp16"): "--use_gpu=true --gpu_precision_loss_allowed=true",
        ("gpu", "fp32"): "--use_gpu=true --gpu_precision_loss_allowed=false",
        ("nnapi", "fp16"): "--use_nnapi=true --disable_nnapi_cpu=true --nnapi_allow_fp16=true",
        ("nnapi", "fp32"): "--use_nnapi=true --disable_nnapi_cpu=true --nnapi_allow_fp16=false",
        ("nnapi", "int8"): "--use_nnapi=true --disable_nnapi_cpu=true",
        ("neuron", "fp16"): "--use_neuron=true --neuron_allow_fp16=true",
        ("neuron", "fp32"): "--use_neuron=true --neuron_allow_fp16=false",
        ("neuron", "int8"): "--use_neuron=true",
    }

    @pytest.mark.parametrize(
        ("delegate", "precision"), [(name, one) for name, delegate in DELEGATES.items() for one in delegate.precisions]
    )
    def test_every_delegate_has_its_documented_flags(self, delegate: str, precision: str) -> None:
        setup = BenchmarkSetup(Path("b"), delegate=delegate, precision=precision)
        setup.validate()
        common = "--num_threads=1 --warmup_runs=5 --num_runs=50 --enable_op_profiling=false"
        assert " ".join(setup.flags()) == f"{self.DOCUMENTED[delegate, precision]} {common}"

    def test_without_a_precision_that_of_the_delegate_is_said(self) -> None:
        chosen = {name: BenchmarkSetup(Path("b"), delegate=name).computes_in for name in DELEGATES}
        assert chosen == {"cpu": "fp32", "xnnpack": "fp32", "gpu": "fp16", "nnapi": "fp16", "neuron": "fp16"}

    def test_an_accelerator_and_extra_flags_are_passed_on(self) -> None:
        setup = BenchmarkSetup(Path("b"), delegate="nnapi", accelerator="mtk-mdla", extra_flags=("--max_secs=60",))
        setup.validate()
        assert "--nnapi_accelerator_name=mtk-mdla" in setup.flags()
        assert setup.flags()[-1] == "--max_secs=60"
        assert (
            "--neuron_accelerator_name=mtk-mdla"
            in BenchmarkSetup(Path("b"), delegate="neuron", accelerator="mtk-mdla").flags()
        )

    @pytest.mark.parametrize(
        ("options", "sentence"),
        [
            ({"delegate": "nnap"}, 'Unknown delegate "nnap".*Did you mean "nnapi"'),
            ({"delegate": "gpu", "precision": "int8"}, 'Unknown precision of delegate "gpu" "int8"; known: fp16, fp32'),
            ({"delegate": "gpu", "accelerator": "mali"}, "takes no accelerator"),
            ({"runs": 10}, "at least 50 times, got 10"),
            ({"threads": 0}, "threads is 1 or more, got 0"),
            ({"cores": "4-7"}, 'a mask in hex such as "f0", got "4-7"'),
            ({"extra_flags": ("max_secs=60",)}, 'looks like "--name=value", got "max_secs=60"'),
            ({"extra_flags": ("--num_runs=3",)}, "--num_runs is decided by the other options"),
            ({"extra_flags": ("--graph=x",)}, "--graph is decided"),
        ],
    )
    def test_what_cannot_be_asked_is_refused(self, options: dict, sentence: str) -> None:
        with pytest.raises(UsageError, match=sentence):
            BenchmarkSetup(Path("b"), **options).validate()


class TestPhoneState:
    def test_battery_throttling_and_power_saving_are_read(self) -> None:
        text = (
            "Current Battery Service state:\n  present: true\n  level: 45\n  scale: 50\n  temperature: 312\n"
            "Thermal Status: 2\n\tTemperature{mValue=33.9, mType=-1, mName=skin, mStatus=1}\nlow_power: 1\n"
        )
        assert parse_state(text) == PhoneState(battery_c=31.2, charge=90, throttling=2, saves_power=True)

    def test_what_is_not_told_is_unknown(self) -> None:
        assert parse_state("Can't find service: thermalservice\nlow_power: null\n") == PhoneState()

    def test_a_board_without_a_battery_has_no_temperature_of_0(self) -> None:
        text = "  present: false\n  level: 0\n  scale: 100\n  temperature: 0\nThermal Status: 0\nlow_power: 0\n"
        assert parse_state(text) == PhoneState(throttling=0)

    def test_too_warm_is_above_the_limit_or_throttling(self) -> None:
        assert not PhoneState(battery_c=37.0, throttling=0).too_warm(37.0)
        assert "38.1 °C, more than 37.0 °C" in PhoneState(battery_c=38.1, throttling=0).too_warm(37.0)
        assert "throttles (moderate)" in PhoneState(battery_c=30.0, throttling=2).too_warm(37.0)
        assert not PhoneState().too_warm(37.0)
