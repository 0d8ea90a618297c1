"""What a measurement leaves on the phone when a cable is pulled or somebody stops it."""

import os
from contextlib import closing

import pytest
from fake_adb import SERIAL, FakePhone
from measured_phone import GONE, RUN, Networks, measured, no_sleep, times_ms

from latency_models.measure import phone_bench
from latency_models.measure.adb import Phone, Reply
from latency_models.measure.android import measure_on_phone
from latency_models.measure.benchmark_setup import BenchmarkSetup
from latency_models.measure.phone_bench import Failure
from latency_models.measurements import Timing
from search_spaces.errors import MeasurementError


@pytest.mark.usefixtures("untouched")
class TestCable:
    @pytest.mark.parametrize(
        "fault",
        [
            {"match": RUN, "at": 2, "midway": True, "away": 3},
            {"match": RUN, "at": 2, "stderr": "error: closed", "away": 3},
            {"match": "push .*/b.tflite", **GONE, "away": 3},
            {"match": "dumpsys", "at": 2, "stderr": "error: device offline", "away": 3},
            {"match": "rm -f \\S*/b.tflite", **GONE, "away": 3},
        ],
    )
    def test_a_phone_that_comes_back_is_waited_for_and_its_network_run_again(
        self, phone: FakePhone, setup: BenchmarkSetup, networks: Networks, fault: dict
    ) -> None:
        phone.set(faults=[fault])
        slept: list[float] = []
        messages: list[str] = []
        outcomes = measured(
            networks("a", "b"), setup, sleep=slept.append, report=lambda *step: messages.append(step[2])
        )
        assert times_ms(outcomes) == {"a": 10.0, "b": 10.0}
        assert slept == [2.0] * 3
        assert messages.count("waiting for the phone, which is gone") == 3

    def test_a_network_is_run_again_only_once(
        self, phone: FakePhone, setup: BenchmarkSetup, networks: Networks
    ) -> None:
        phone.set(faults=[{"match": RUN, "at": at, "stderr": "error: closed", "away": 1} for at in (2, 3)])
        with pytest.raises(MeasurementError, match=r"plug it in again.*is kept: the same command continues\."):
            measured(networks("a", "b"), setup)


class TestLeavingThePhone:
    def leftover(self, phone: FakePhone) -> list[str]:
        return [path.name for path in phone.tmp.iterdir() if path.name.startswith("isp-nas-")]

    def test_a_phone_that_stays_away_is_given_up_with_what_remains_on_it(
        self, phone: FakePhone, setup: BenchmarkSetup, networks: Networks
    ) -> None:
        phone.set(faults=[{"match": RUN, "at": 2, **GONE, "away": -1}])
        slept: list[float] = []
        got: list[Timing | Failure] = []
        with (
            pytest.raises(MeasurementError) as caught,
            closing(measure_on_phone(networks("a", "b"), setup, sleep=slept.append)) as outcomes,
        ):
            got.extend(outcomes)
        assert times_ms(got) == {"a": 10.0}
        assert sum(slept) == 120.0
        (folder,) = self.leftover(phone)
        assert f'Phone {SERIAL} is still "gone" after 120 s' in str(caught.value)
        assert "the same command continues" in str(caught.value)
        assert f"adb -s {SERIAL} shell rm -r /data/local/tmp/{folder}" in str(caught.value)

    def test_a_cable_pulled_at_the_very_end_is_said_after_all_is_measured(
        self, phone: FakePhone, setup: BenchmarkSetup, networks: Networks
    ) -> None:
        phone.set(faults=[{"match": "rm -rf", **GONE, "away": -1}])
        got: list[Timing | Failure] = []
        with pytest.raises(
            MeasurementError, match=r"The measurement is complete, but .* remains on the phone; remove it with"
        ):
            got.extend(measure_on_phone(networks("a"), setup, sleep=no_sleep))
        assert times_ms(got) == {"a": 10.0}
        assert len(self.leftover(phone)) == 1

    @pytest.mark.parametrize(
        "fault",
        [
            {"match": "mkdir", "interrupt": True},
            {"match": "push .*/benchmark_model", "interrupt": True},
            {"match": "dumpsys", "at": 2, "interrupt": True},
            {"match": "push .*/b.tflite", "interrupt": True},
            {"match": RUN, "at": 2, "midway": True, "interrupt": True},
        ],
    )
    @pytest.mark.usefixtures("untouched")
    def test_control_c_leaves_nothing_behind(
        self, phone: FakePhone, setup: BenchmarkSetup, networks: Networks, fault: dict
    ) -> None:
        phone.set(faults=[fault])
        with pytest.raises(KeyboardInterrupt):
            measured(networks("a", "b"), setup)

    def test_control_c_twice_says_what_may_remain(
        self, phone: FakePhone, setup: BenchmarkSetup, networks: Networks
    ) -> None:
        phone.set(faults=[{"match": RUN, "interrupt": True}, {"match": "rm -rf", "stderr": "", "interrupt": True}])
        with pytest.raises(MeasurementError, match=r"^Interrupted\. The folder .* remains"):
            measured(networks("a"), setup)

    def test_control_c_without_a_phone_says_what_remains(
        self, phone: FakePhone, setup: BenchmarkSetup, networks: Networks
    ) -> None:
        phone.set(faults=[{"match": RUN, "midway": True, "interrupt": True, "away": -1}])
        try:
            with pytest.raises(
                MeasurementError, match=r"^Interrupted\. The folder /data/local/tmp/isp-nas-\w+ remains"
            ):
                measured(networks("a"), setup)
        finally:
            for pid in phone.running():
                os.kill(pid, 9)

    @pytest.mark.usefixtures("untouched")
    def test_a_caller_that_stops_reading_leaves_nothing_behind(
        self, phone: FakePhone, setup: BenchmarkSetup, networks: Networks
    ) -> None:
        with closing(measure_on_phone(networks("a", "b"), setup, sleep=no_sleep)) as outcomes:
            assert isinstance(next(outcomes), Timing)
        assert len(phone.calls(RUN)) == 1

    @pytest.mark.usefixtures("untouched")
    def test_a_folder_that_is_there_is_not_ours(
        self, phone: FakePhone, setup: BenchmarkSetup, networks: Networks, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(phone_bench.secrets, "token_hex", lambda size: "0" * 2 * size)
        theirs = phone.tmp / "isp-nas-00000000"
        theirs.mkdir()
        (theirs / "file").write_text("of another run")
        with pytest.raises(
            MeasurementError, match=r"No folder could be made in /data/local/tmp of the phone: .*exists"
        ):
            measured(networks("a"), setup)
        assert (theirs / "file").read_text() == "of another run"
        (theirs / "file").unlink()
        theirs.rmdir()

    @pytest.mark.usefixtures("untouched")
    def test_a_process_that_is_not_ours_is_not_ended(
        self, phone: FakePhone, setup: BenchmarkSetup, networks: Networks, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # The number of a run may belong to another process by the time that we look; here it is this one.
        shell = Phone.shell

        def reuse(self: Phone, command: str, **options: float) -> Reply:
            if "kill -9" in command:
                (folder,) = phone.tmp.glob("isp-nas-*")
                (folder / "pid").write_text(f"{os.getpid()}\n")
            return shell(self, command, **options)

        monkeypatch.setattr(Phone, "shell", reuse)
        assert times_ms(measured(networks("a"), setup)) == {"a": 10.0}
