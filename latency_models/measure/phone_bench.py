"""A temporary folder on a phone in which networks are timed one by one; nothing of it remains."""

import re
import secrets
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from latency_models.measure.adb import READY, NoAnswerError, Phone, PhoneLostError, Reply
from latency_models.measure.benchmark_log import LogResult
from latency_models.measure.benchmark_reply import TIMED_OUT, check_program, judge
from latency_models.measure.benchmark_setup import BenchmarkSetup
from latency_models.measure.network_file import NetworkFile
from latency_models.measure.phone_state import OnMessage, Sleep, wait_until_fit
from latency_models.measurements import Conditions, Failure, Timing
from search_spaces.errors import MeasurementError

PHONE_FOLDER = "/data/local/tmp"  # where Android lets the shell write and start programs
RUN_S = 900.0  # the tool stops timing after 150 s; compiling for an NPU before that takes minutes
RECONNECT_POLL_S = 2.0
MAX_NAME = 100

_NOT_PLAIN = re.compile(r"[^A-Za-z0-9._-]")


@dataclass(frozen=True)
class Patience:
    """For what is waited, how long, and how steady a phone has to be."""

    hottest_c: float = 37.0  # of the battery, before a run
    cooling_s: float = 600.0  # at most, before each run
    reconnect_s: float = 120.0  # for a phone whose cable was pulled
    block: int = 5  # networks between two runs of the reference network
    drift: float = 0.05  # of the reference's time within a block, as a share


@dataclass
class Bench:
    """The folder, with the user's program in it; see `open_bench`."""

    phone: Phone
    folder: str
    setup: BenchmarkSetup
    conditions: Conditions
    patience: Patience
    on_message: OnMessage
    sleep: Sleep

    def time(self, network: NetworkFile) -> Timing | Failure:
        """Time one network, once more where the phone was lost meanwhile and came back."""
        try:
            return self._time(network)
        except (PhoneLostError, NoAnswerError):
            self._regain_phone()
        try:
            return self._time(network)
        except (PhoneLostError, NoAnswerError):
            self._regain_phone()  # so that it can be tidied
            raise

    def _time(self, network: NetworkFile) -> Timing | Failure:
        self.on_message(network.name)
        wait_until_fit(
            self.phone,
            hottest_c=self.patience.hottest_c,
            patience_s=self.patience.cooling_s,
            on_message=lambda reason: self.on_message(f"{network.name}: {reason}"),
            sleep=self.sleep,
        )
        model = f"{self.folder}/{_NOT_PLAIN.sub('_', network.name)[:MAX_NAME]}.tflite"
        push_checked(self.phone, network.path, model, network.sha256)
        reply = self._run(model)
        self.phone.shell(f"rm -f {model}")
        check_program(reply, self.setup)
        try:
            return self._timing(network, judge(reply, self.setup))
        except MeasurementError as error:
            return Failure(network.name, str(network.path), str(error))

    def _run(self, model: str) -> Reply:
        """Run the tool on a network in the folder, and leave no process behind where it takes too long.

        It runs beside the phone's shell, which notes its number: pulling the cable ends the shell alone.
        """
        pinned = ("taskset", self.setup.cores) if self.setup.cores else ()
        words = (*pinned, f"{self.folder}/benchmark_model", f"--graph={model}", *self.setup.flags())
        try:
            return self.phone.shell(f"{shlex.join(words)} & echo $! > {self.folder}/pid; wait $!", timeout_s=RUN_S)
        except NoAnswerError:
            self._stop()
            return Reply("", TIMED_OUT)

    def _stop(self) -> None:
        self.phone.shell(_stop_command(self.folder))

    def _regain_phone(self) -> None:
        """Wait for the phone and end the run that was left on it; raise PhoneLostError where it stays away."""
        waited_s = 0.0
        while (state := self.phone.state()) != READY:
            if waited_s >= self.patience.reconnect_s:
                raise PhoneLostError(
                    f'Phone {self.phone.serial} is still "{state}" after {waited_s:.0f} s; '
                    "plug it in again and unlock it."
                )
            self.on_message(f"waiting for the phone, which is {state}")
            self.sleep(RECONNECT_POLL_S)
            waited_s += RECONNECT_POLL_S
        self._stop()

    def _timing(self, network: NetworkFile, result: LogResult) -> Timing:
        return Timing(
            network=network.name,
            runtime_ms=result.runtime_ms,
            statistic=result.statistic,
            low_ms=result.low_ms,
            high_ms=result.high_ms,
            runs=result.runs,
            model=str(network.path),
            model_sha256=network.sha256,
            nodes=result.nodes,
            delegated_nodes=result.delegated_nodes,
            partitions=result.partitions,
            source=shlex.join(("benchmark_model", f"--graph={network.path.name}", *self.setup.flags())),
            conditions=replace(
                self.conditions,
                runtime_version=result.runtime_version,
                date=datetime.now(UTC).isoformat(timespec="seconds"),
            ),
        )


@contextmanager
def open_bench(
    phone: Phone,
    setup: BenchmarkSetup,
    conditions: Conditions,
    *,
    patience: Patience,
    on_message: OnMessage,
    sleep: Sleep,
) -> Iterator[Bench]:
    """Give a bench in a fresh folder on the phone, and remove it all at the end, however it ends."""
    with _folder(phone) as folder:
        on_message("copying benchmark_model to the phone")
        program = f"{folder}/benchmark_model"
        push_checked(phone, setup.binary, program, conditions.binary_sha256)
        phone.shell(f"chmod 755 {program}")
        yield Bench(phone, folder, setup, conditions, patience, on_message, sleep)


@contextmanager
def _folder(phone: Phone) -> Iterator[str]:
    folder = f"{PHONE_FOLDER}/isp-nas-{secrets.token_hex(4)}"  # no character that a shell would read
    refused = False
    try:
        reply = phone.shell(f"mkdir {folder}")  # fails where it is there: that one is not ours
        refused = bool(reply.status)
        if refused:
            raise MeasurementError(f"No folder could be made in {PHONE_FOLDER} of the phone: {reply.last_line}.")
        yield folder
    except BaseException as error:
        if not refused and (remains := _removal(phone, folder)):
            raise MeasurementError(f"{str(error) or 'Interrupted.'} {remains}") from error
        raise
    if remains := _removal(phone, folder):
        raise MeasurementError(f"The measurement is complete, but the phone could not be restored. {remains}")


def _removal(phone: Phone, folder: str) -> str:
    """Remove our folder and end what runs from it; return what the user has to do where that failed."""
    try:
        if not phone.shell(f"{_stop_command(folder)}; rm -rf {folder}").status:
            return ""
    except (MeasurementError, KeyboardInterrupt):  # a second Ctrl-C must not hide what remains
        pass
    return f"The folder {folder} remains on the phone; remove it with: adb -s {phone.serial} shell rm -r {folder}"


def _stop_command(folder: str) -> str:
    """Return the command that ends the run whose number the folder holds; a number that went to others is not ours."""
    pid = f"pid=$(cat {folder}/pid 2>/dev/null)"
    return f"{pid} && grep -q {folder} /proc/$pid/cmdline 2>/dev/null && kill -9 $pid; rm -f {folder}/pid"


def push_checked(phone: Phone, local: Path, remote: str, digest: str) -> None:
    """Copy a file to the phone and make sure that it arrived whole."""
    phone.push(local, remote)
    arrived = phone.digest(remote)
    if arrived not in (None, digest) or (arrived is None and phone.size(remote) != local.stat().st_size):
        raise MeasurementError(f"{local.name} arrived damaged on phone {phone.serial}; try another cable, then again.")
