from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import fake_adb
import pytest
from fake_adb import FakePhone
from measured_phone import RUN, Networks, measured, reasons, times_ms

from latency_models.measure.adb import NoAnswerError, Phone, Reply
from latency_models.measure.android import measure_on_phone, phone_conditions
from latency_models.measure.benchmark_setup import BenchmarkSetup
from latency_models.measure.phone_bench import Patience
from latency_models.measurements import Timing
from search_spaces.errors import MeasurementError, UsageError


@pytest.mark.usefixtures("untouched")
class TestTiming:
    def test_each_network_is_timed_with_its_conditions(
        self, phone: FakePhone, setup: BenchmarkSetup, networks: Networks
    ) -> None:
        phone.set(networks={"b": {"us": [1861000], "nodes": 9}})
        paths = networks("a", "b")
        first, second = measured(paths, setup)
        assert isinstance(second, Timing)
        assert times_ms([first, second]) == {"a": 10.0, "b": 1861.0}
        assert (second.statistic, second.runs, second.low_ms, second.high_ms) == ("median", 50, 1860.995, 1861.005)
        assert (second.nodes, second.delegated_nodes, second.partitions) == (9, 9, 1)
        assert second.model == str(paths[1])
        assert second.model_sha256 == sha256(paths[1].read_bytes()).hexdigest()
        conditions = second.conditions
        assert (conditions.device, conditions.soc) == ("Acme Phone 7", "Mediatek MT6889")
        assert (conditions.os, conditions.runtime) == ("Android 13 (TQ3A.230805)", "benchmark_model")
        assert conditions.binary_sha256 == sha256(setup.binary.read_bytes()).hexdigest()
        assert (conditions.delegate, conditions.precision, conditions.threads) == ("gpu", "fp16", 1)
        assert conditions.flags == " ".join(setup.flags())
        assert conditions.date.startswith("20")

    def test_the_tool_is_given_the_flags_of_the_setup(
        self, phone: FakePhone, setup: BenchmarkSetup, networks: Networks
    ) -> None:
        setup = replace(setup, delegate="neuron", accelerator="mtk-mdla,mtk-dsp", cores="f0", threads=4)
        (timing,) = measured(networks("net"), setup)
        (run,) = phone.calls(RUN)
        assert "shell { taskset f0 /data/local/tmp/isp-nas-" in run
        assert "net.tflite --use_neuron=true --neuron_accelerator_name=mtk-mdla,mtk-dsp --neuron_allow_fp16=true" in run
        assert timing.conditions.flags.startswith("taskset f0 --use_neuron=true")

    def test_names_are_kept_that_a_shell_would_read(self, setup: BenchmarkSetup, networks: Networks) -> None:
        assert times_ms(measured(networks("it's; a `name` $HOME"), setup)) == {"it's; a `name` $HOME": 10.0}

    def test_every_network_is_removed_after_its_run(
        self, phone: FakePhone, setup: BenchmarkSetup, networks: Networks
    ) -> None:
        measured(networks("a", "b"), setup)
        steps = [call for call in phone.calls() if " push " in call or RUN in call or "rm -f" in call]
        kinds = ["push" if " push " in step else "run" if RUN in step else "remove" for step in steps]
        # the program, a, b, and a as the reference; at the end the folder
        assert kinds == ["push", *["push", "run", "remove"] * 3, "remove"]

    def test_a_phone_that_cannot_hash_is_asked_for_sizes(
        self, phone: FakePhone, setup: BenchmarkSetup, networks: Networks
    ) -> None:
        phone.set(sha256sum=False)
        assert times_ms(measured(networks("a"), setup)) == {"a": 10.0}
        assert phone.calls("wc -c")

    def test_on_the_cpu_what_xnnpack_leaves_is_no_fallback(
        self, phone: FakePhone, setup: BenchmarkSetup, networks: Networks
    ) -> None:
        phone.set(networks={"a": {"nodes": 9, "taken": 7}})
        (timing,) = measured(networks("a"), replace(setup, delegate="xnnpack"))
        assert (timing.nodes, timing.delegated_nodes) == (9, 7)

    def test_older_phones_tell_less_of_their_chip(self, setup: BenchmarkSetup) -> None:
        properties = {"ro.product.manufacturer": "HUAWEI", "ro.product.model": "Huawei P20", "ro.hardware": "kirin970"}
        conditions = phone_conditions(properties, setup)
        assert (conditions.device, conditions.soc) == ("Huawei P20", "kirin970")

    def test_progress_is_told(self, setup: BenchmarkSetup, networks: Networks) -> None:
        steps: list[tuple[int, int, str]] = []
        measured(networks("a", "b", "c"), setup, report=lambda *step: steps.append(step))
        assert steps == [
            (0, 3, "copying benchmark_model to the phone"),
            (0, 3, "a"),
            (1, 3, "b"),
            (2, 3, "c"),
            (3, 3, "a"),
        ]


@pytest.mark.usefixtures("untouched")
class TestTrust:
    @pytest.mark.parametrize(
        ("network", "reason"),
        [
            ({"nodes": 9, "taken": 7}, "ran only 7 of 9 nodes"),
            ({"taken": 0}, "will not be executed by the delegate"),
            ({"text": "Failed to apply GPU delegate.\nBenchmarking failed.", "status": 1}, "Failed to apply GPU"),
            ({"status": 139}, r"crashed \(signal 11\)"),
            ({"status": 137}, "want of memory"),
            ({"status": 1}, "ends before its result"),
        ],
    )
    def test_a_network_without_a_time_to_trust_is_no_obstacle_to_the_others(
        self, phone: FakePhone, setup: BenchmarkSetup, networks: Networks, network: dict, reason: str
    ) -> None:
        phone.set(networks={"b": network})
        outcomes = measured(networks("a", "b", "c"), setup)
        assert times_ms(outcomes) == {"a": 10.0, "c": 10.0}
        assert list(reasons(outcomes)) == ["b"]
        with pytest.raises(AssertionError, match=reason):
            raise AssertionError(reasons(outcomes)["b"])

    def test_a_part_of_a_network_may_be_allowed(
        self, phone: FakePhone, setup: BenchmarkSetup, networks: Networks
    ) -> None:
        phone.set(networks={"b": {"nodes": 9, "taken": 7}})
        _, timing = measured(networks("a", "b"), replace(setup, allow_partial=True))
        assert (timing.nodes, timing.delegated_nodes, timing.partitions) == (9, 7, 3)

    def test_a_run_that_does_not_end_is_stopped(
        self, phone: FakePhone, setup: BenchmarkSetup, networks: Networks, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shell = Phone.shell

        def hang(self: Phone, command: str, *, timeout_s: float = 30.0) -> Reply:
            reply = shell(self, command)
            if RUN in command and "/b.tflite" in command:
                raise NoAnswerError("no answer")
            return reply

        monkeypatch.setattr(Phone, "shell", hang)
        outcomes = measured(networks("a", "b", "c"), setup)
        assert times_ms(outcomes) == {"a": 10.0, "c": 10.0}
        assert "was stopped" in reasons(outcomes)["b"]
        assert len(phone.calls("kill -9")) == 2  # that one, and for safety at the end

    @pytest.mark.parametrize(
        ("said", "status"),
        [
            ("/system/bin/sh: /data/local/tmp/x/benchmark_model: not executable: 64-bit ELF file", 1),
            ("sh: benchmark_model: Exec format error", 126),
            ("/system/bin/sh: benchmark_model: No such file or directory", 127),
            ('CANNOT LINK EXECUTABLE "benchmark_model": library "libneuron.so" not found', 1),
        ],
    )
    def test_a_program_that_the_phone_cannot_start_ends_it_all(
        self, phone: FakePhone, setup: BenchmarkSetup, networks: Networks, said: str, status: int
    ) -> None:
        phone.set(faults=[{"match": RUN, "output": said, "status": status}])
        with pytest.raises(MeasurementError, match=r"could not start benchmark_model: .* Give a build for Android"):
            measured(networks("a", "b"), setup)
        assert len(phone.calls(RUN)) == 1

    def test_a_program_that_ignores_the_delegate_ends_it_all(
        self, phone: FakePhone, setup: BenchmarkSetup, networks: Networks
    ) -> None:
        phone.set(networks={"a": {"text": "WARN: Unconsumed cmdline flags: --use_neuron=true"}})
        with pytest.raises(
            MeasurementError, match="does not know --use_neuron=true and would go on without; give a bu"
        ):
            measured(networks("a", "b"), replace(setup, delegate="neuron"))

    def test_a_program_for_another_processor_is_never_pushed(
        self, phone: FakePhone, setup: BenchmarkSetup, networks: Networks
    ) -> None:
        setup.binary.write_bytes(fake_adb.elf("x86_64"))
        with pytest.raises(MeasurementError, match="built for x86_64, the phone runs arm64-v8a, armeabi-v7a, armeabi"):
            measured(networks("a"), setup)
        assert not phone.calls("push")

    @pytest.mark.parametrize("hashes", [True, False])
    def test_a_file_that_arrives_damaged_is_not_run(
        self, phone: FakePhone, setup: BenchmarkSetup, networks: Networks, hashes: bool
    ) -> None:
        phone.set(sha256sum=hashes, faults=[{"match": "push .*/a.tflite", "corrupt": True}])
        with pytest.raises(MeasurementError, match=r"a\.tflite arrived damaged on phone \w+; try another cable"):
            measured(networks("a"), setup)
        assert not phone.calls(RUN)

    def test_full_storage_ends_it_all(self, phone: FakePhone, setup: BenchmarkSetup, networks: Networks) -> None:
        phone.set(faults=[{"match": "push .*/b.tflite", "full": True}])
        with pytest.raises(MeasurementError, match=r"storage .* is full: b\.tflite"):
            measured(networks("a", "b"), setup)

    def test_bad_requests_are_refused_before_the_phone_is_touched(
        self, phone: FakePhone, setup: BenchmarkSetup, networks: Networks, tmp_path: Path
    ) -> None:
        (path,) = networks("a")
        (tmp_path / "a.tflite").write_bytes(b"another")
        with pytest.raises(MeasurementError, match='different networks of one name, "a"; rename one'):
            measure_on_phone([path, tmp_path / "a.tflite"], setup)
        with pytest.raises(MeasurementError, match="Cannot read"):
            measure_on_phone([path, tmp_path / "absent.tflite"], setup)
        with pytest.raises(UsageError, match="at least 50 times"):
            measure_on_phone([path], replace(setup, runs=3))
        assert not phone.calls()

    def test_a_network_given_twice_is_timed_once(self, setup: BenchmarkSetup, networks: Networks) -> None:
        assert len(measured([*networks("a"), *networks("a")], setup)) == 1


@pytest.mark.usefixtures("untouched")
class TestHeat:
    def test_a_warm_phone_is_waited_for_before_each_run(
        self, phone: FakePhone, setup: BenchmarkSetup, networks: Networks
    ) -> None:
        phone.set(battery_c=[41.2, 38.0, 36.5, 37.1, 37.0], throttling=[0, 0, 0, 0, 0, 2, 1, 0])
        slept: list[float] = []
        messages: list[str] = []
        measured(networks("a", "b"), setup, sleep=slept.append, report=lambda *step: messages.append(step[2]))
        assert slept == [10.0] * 5
        assert messages == [
            "copying benchmark_model to the phone",
            "a",
            "a: waiting for the phone to cool: its battery has 41.2 °C, more than 37.0 °C",
            "a: waiting for the phone to cool: its battery has 38.0 °C, more than 37.0 °C",
            "b",
            "b: waiting for the phone to cool: its battery has 37.1 °C, more than 37.0 °C",
            "a",
            "a: waiting for the phone to cool: it throttles (moderate)",
            "a: waiting for the phone to cool: it throttles (light)",
        ]

    def test_a_phone_that_does_not_cool_is_given_up(
        self, phone: FakePhone, setup: BenchmarkSetup, networks: Networks
    ) -> None:
        phone.set(battery_c=[45.0])
        slept: list[float] = []
        with pytest.raises(MeasurementError, match=r"did not cool within 1 minutes: its battery has 45\.0 °C"):
            measured(networks("a"), setup, sleep=slept.append, patience=Patience(cooling_s=60.0))
        assert sum(slept) == 60.0
        assert not phone.calls(RUN)

    def test_a_phone_that_tells_nothing_is_judged_by_the_reference_alone(
        self, phone: FakePhone, setup: BenchmarkSetup, networks: Networks
    ) -> None:
        phone.set(battery=False, thermal_service=False)
        assert times_ms(measured(networks("a"), setup)) == {"a": 10.0}

    @pytest.mark.parametrize(
        ("state", "sentence"),
        [({"level": [80, 14]}, "battery .* is at 14 %.*charge it above 15 %"), ({"low_power": 1}, "saves power")],
    )
    def test_a_phone_that_spares_its_battery_is_not_timed(
        self, phone: FakePhone, setup: BenchmarkSetup, networks: Networks, state: dict, sentence: str
    ) -> None:
        phone.set(**state)
        with pytest.raises(MeasurementError, match=sentence):
            measured(networks("a", "b"), setup)
        assert len(phone.calls(RUN)) < 2


@pytest.mark.usefixtures("untouched")
class TestReference:
    NAMES = ("ref", "a", "b", "c")

    def runs(self, phone: FakePhone) -> list[str]:
        return [call.partition("--graph=")[2].partition(".tflite")[0].rpartition("/")[2] for call in phone.calls(RUN)]

    def test_it_is_run_again_after_every_block(
        self, phone: FakePhone, setup: BenchmarkSetup, networks: Networks
    ) -> None:
        outcomes = measured(networks(*self.NAMES), setup, patience=Patience(block=2))
        assert self.runs(phone) == ["ref", "a", "b", "ref", "c", "ref"]
        assert [outcome.network for outcome in outcomes] == list(self.NAMES)

    def test_a_block_in_which_it_drifts_is_measured_once_more(
        self, phone: FakePhone, setup: BenchmarkSetup, networks: Networks
    ) -> None:
        phone.set(networks={"ref": {"us": [10_000, 10_600, 10_500]}, "a": {"us": [50_000, 40_000]}})
        outcomes = measured(networks(*self.NAMES), setup, patience=Patience(block=2))
        assert self.runs(phone) == ["ref", "a", "b", "ref", "a", "b", "ref", "c", "ref"]
        assert times_ms(outcomes) == {"ref": 10.0, "a": 40.0, "b": 10.0, "c": 10.0}

    def test_a_block_in_which_it_drifts_again_is_refused(
        self, phone: FakePhone, setup: BenchmarkSetup, networks: Networks
    ) -> None:
        phone.set(networks={"ref": {"us": [10_000, 12_000, 14_000]}, "b": {"taken": 0}})
        outcomes = measured(networks(*self.NAMES), setup, patience=Patience(block=2))
        assert times_ms(outcomes) == {"ref": 10.0, "c": 10.0}
        assert "took 12 ms before and 14 ms after (+17%)" in reasons(outcomes)["a"]
        assert "will not be executed" in reasons(outcomes)["b"]
        assert self.runs(phone).count("b") == 1  # it would fail again

    def test_where_it_fails_later_its_block_is_not_trusted(
        self, phone: FakePhone, setup: BenchmarkSetup, networks: Networks
    ) -> None:
        broken = {"match": f"{RUN}\\S*/ref.tflite", "output": "INFO: Run failed: no", "status": 1}
        phone.set(faults=[{**broken, "at": 2}, {**broken, "at": 3}])
        outcomes = measured(networks("ref", "a"), setup)
        assert "ref could not be timed again" in reasons(outcomes)["a"]

    def test_the_next_network_takes_over_from_one_that_cannot_be_timed(
        self, phone: FakePhone, setup: BenchmarkSetup, networks: Networks
    ) -> None:
        phone.set(networks={"ref": {"taken": 3}})
        outcomes = measured(networks(*self.NAMES), setup)
        assert self.runs(phone) == ["ref", "a", "b", "c", "a"]
        assert times_ms(outcomes) == {"a": 10.0, "b": 10.0, "c": 10.0}
        assert list(reasons(outcomes)) == ["ref"]

    def test_where_none_can_be_timed_each_says_why(
        self, phone: FakePhone, setup: BenchmarkSetup, networks: Networks
    ) -> None:
        phone.set(networks={name: {"taken": 0} for name in self.NAMES})
        outcomes = measured(networks(*self.NAMES), setup)
        assert list(reasons(outcomes)) == list(self.NAMES)


@pytest.mark.usefixtures("untouched")
class TestResuming:
    def test_known_networks_are_left_out(self, phone: FakePhone, setup: BenchmarkSetup, networks: Networks) -> None:
        known = measured(networks("a", "b"), setup)
        phone.set()
        outcomes = measured(networks("a", "b", "c"), setup, known=known)
        assert [outcome.network for outcome in outcomes] == ["c"]
        assert not phone.calls("push .*/b.tflite")[1:]

    def test_where_all_are_known_nothing_is_written_to_the_phone(
        self, phone: FakePhone, setup: BenchmarkSetup, networks: Networks
    ) -> None:
        known = measured(networks("a"), setup)
        before = len(phone.calls("mkdir|push"))
        assert measured(networks("a"), setup, known=known) == []
        assert len(phone.calls("mkdir|push")) == before

    @pytest.mark.parametrize("change", ["binary", "precision", "threads", "system", "network"])
    def test_other_conditions_make_another_time(
        self, phone: FakePhone, setup: BenchmarkSetup, networks: Networks, change: str
    ) -> None:
        known = measured(networks("a"), setup)
        (path,) = networks("a")
        if change == "binary":
            setup.binary.write_bytes(fake_adb.elf() + b"another build")
        if change == "precision":
            setup = replace(setup, precision="fp32")
        if change == "threads":
            setup = replace(setup, threads=4)
        if change == "system":
            phone.set(properties={**fake_adb.SCENARIO["properties"], "ro.build.id": "UP1A.231005"})
        if change == "network":
            path.write_bytes(b"TFL3 trained on")
        assert len(measured([path], setup, known=known)) == 1

    def test_the_version_that_only_the_log_tells_does_not_hide_a_known_time(
        self, setup: BenchmarkSetup, networks: Networks
    ) -> None:
        (timing,) = measured(networks("a"), setup)
        known = replace(timing, conditions=replace(timing.conditions, runtime_version="2.17", date="2026-01-01"))
        assert measured(networks("a"), setup, known=[known]) == []
