"""The user's `adb` command: connected phones, their shells and their files.

adb reports failures in words that changed over the years, on either stream, and passes on the exit status of a
command on the phone only where both sides are new enough. So a command is told to end with a line of ours: where that
line is missing the connection broke, and where it is there it holds the status. Every failure is one sentence.
"""

import os
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from search_spaces.errors import MeasurementError

ANSWER_S = 30.0  # for what takes a phone a moment
PUSH_S = 600.0
READY = "device"  # what adb calls a phone that it can use

_STATUS = "isp-nas-status="
_PROPERTY = re.compile(r"^\[(.+?)\]: \[(.*)\]$", re.MULTILINE)
# What adb prints where the cable, the phone's side or the server is gone. Source: transport.cpp, file_sync_client.cpp
# of Android's packages/modules/adb; the first two as printed by version 29.0.6.
_LOST = re.compile(
    r"device '.*' not found|no devices/emulators found|device (still )?(offline|unauthorized|authorizing|connecting)"
    r"|error: closed|connection reset|broken pipe|protocol fault|no response|failed to read (copy|reason)"
    r"|cannot connect to daemon|connect failed",
    re.IGNORECASE,
)
_ALLOW = "unlock it and allow USB debugging for this computer in the dialog that it shows"
_REPLUG = "unplug it, plug it in again and unlock it (or connect it again, where it is used over Wi-Fi)"
_ADVICE = {  # by the state that `adb devices` gives
    "unauthorized": _ALLOW,
    "authorizing": _ALLOW,
    "offline": _REPLUG,
    "connecting": _REPLUG,
    "no permissions": "let your user access it: on Debian and Ubuntu install android-sdk-platform-tools-common, then "
    "plug it in again",
}


class PhoneLostError(MeasurementError):
    """The connection to a phone broke; it may come back."""


class NoAnswerError(MeasurementError):
    """A command took longer than it was given."""


@dataclass(frozen=True)
class Attached:
    """A phone that adb sees."""

    serial: str
    state: str  # READY, or what keeps adb from using it: "unauthorized", "offline", "no permissions", …


@dataclass(frozen=True)
class Reply:
    """What a command on the phone printed, on both streams, and its exit status."""

    text: str
    status: int

    @property
    def last_line(self) -> str:
        """The last line that is not empty, for a message."""
        return next((line.strip() for line in reversed(self.text.splitlines()) if line.strip()), "no output")


def attached_phones() -> tuple[Attached, ...]:
    """Return the phones and emulators that adb sees, usable or not."""
    answer = _adb("devices", timeout_s=ANSWER_S)
    if answer.returncode:
        raise MeasurementError(f'"adb devices" failed: {_said(answer)}. Try "adb kill-server", then again.')
    lines = (line.partition("\t") for line in answer.stdout.splitlines())
    # A state may go on with advice: "no permissions (missing udev rules?); see …".
    return tuple(Attached(serial, re.split(r"[;(]", state)[0].strip()) for serial, tab, state in lines if tab)


def choose_phone(serial: str | None = None) -> "Phone":
    """Return the phone called `serial`, else the one that ANDROID_SERIAL names, else the only one there is."""
    phones = attached_phones()
    wanted = serial or os.environ.get("ANDROID_SERIAL")
    chosen = [phone for phone in phones if wanted in (None, "", phone.serial)]
    seen = ", ".join(f"{phone.serial} ({phone.state})" for phone in phones)
    if not chosen and phones:
        raise MeasurementError(
            f'adb does not see the phone "{wanted}", it sees {seen}; give one of them, --adb SERIAL.'
        )
    if not chosen:
        raise MeasurementError(
            "adb sees no phone; plug one in, unlock it, and switch on USB debugging among its options for developers."
        )
    if len(chosen) > 1:
        raise MeasurementError(f"adb sees several phones, {seen}; say which, --adb SERIAL.")
    (phone,) = chosen
    if phone.state != READY:
        advice = _ADVICE.get(phone.state, "start Android on it, or unplug it and plug it in again")
        raise MeasurementError(f'adb cannot use phone {phone.serial}, which is "{phone.state}"; {advice}.')
    return Phone(phone.serial)


@dataclass(frozen=True)
class Phone:
    """An Android phone that adb can use. Its methods raise PhoneLostError where the connection breaks."""

    serial: str

    def shell(self, command: str, *, timeout_s: float = ANSWER_S) -> Reply:
        """Run `command` in the phone's shell; what goes into it must be quoted already (`shlex.quote`)."""
        answer = self._adb("shell", f"{{ {command}\n}} 2>&1; echo {_STATUS}$?", timeout_s=timeout_s)
        text, mark, status = answer.stdout.replace("\r\n", "\n").rpartition(_STATUS)
        if not mark or not status.strip().isdigit():
            raise self._lost(answer)
        return Reply(text, int(status))

    def push(self, local: Path, remote: str) -> None:
        """Copy a file to the phone, to a path of which adb makes the folders; look at it there before trusting it."""
        answer = self._adb("push", str(local), remote, timeout_s=PUSH_S)
        if not answer.returncode:
            return
        said = _said(answer)
        if "no space left" in said.lower():
            raise MeasurementError(
                f"The storage of phone {self.serial} is full: {local.name} ({local.stat().st_size:,} bytes) did not "
                "fit; free some space there."
            )
        if _LOST.search(answer.stderr + answer.stdout):
            raise self._lost(answer)
        raise MeasurementError(f"{local.name} could not be copied to phone {self.serial}: {said}.")

    def digest(self, remote: str) -> str | None:
        """Return the SHA-256 of a file on the phone, or None where the phone cannot compute it."""
        reply = self.shell(f"sha256sum {shlex.quote(remote)}")
        match = re.match(r"\\?([0-9a-f]{64})\b", reply.text)
        return match[1] if match and not reply.status else None

    def size(self, remote: str) -> int | None:
        """Return the bytes of a file on the phone, or None where it is not there."""
        reply = self.shell(f"wc -c < {shlex.quote(remote)}")
        return int(reply.text) if reply.text.strip().isdigit() else None

    def properties(self) -> dict[str, str]:
        """Return what Android says of itself: `ro.product.model` and so on."""
        return dict(_PROPERTY.findall(self.shell("getprop").text))

    def state(self) -> str:
        """Return READY, or why adb cannot use the phone now; "gone" where adb does not see it."""
        return next((phone.state for phone in attached_phones() if phone.serial == self.serial), "gone")

    def _adb(self, *arguments: str, timeout_s: float) -> "subprocess.CompletedProcess[str]":
        return _adb("-s", self.serial, *arguments, timeout_s=timeout_s)

    def _lost(self, answer: "subprocess.CompletedProcess[str]") -> PhoneLostError:
        return PhoneLostError(f"The connection to phone {self.serial} broke ({_said(answer)}); {_REPLUG}.")


def _adb(*arguments: str, timeout_s: float) -> "subprocess.CompletedProcess[str]":
    program = shutil.which("adb")
    if program is None:
        raise MeasurementError(
            "The command adb was not found; install Android's platform tools "
            "(https://developer.android.com/tools/releases/platform-tools) and put adb on your PATH."
        )
    try:
        return subprocess.run(
            [program, *arguments],
            capture_output=True,
            check=False,
            encoding="utf-8",
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired:
        shown = " ".join(arguments[:3])
        raise NoAnswerError(f'"adb {shown} …" gave no answer within {timeout_s:.0f} s; {_REPLUG}.') from None


def _said(answer: "subprocess.CompletedProcess[str]") -> str:
    """Return what adb said of a failure, in one line."""
    lines = [line.strip() for line in (answer.stderr + answer.stdout).splitlines()]
    said = [line for line in lines if line and not line.startswith("* ")]
    line = next((line for line in said if "error" in line.lower() or "failed" in line.lower()), (*said, "no reason")[0])
    return line.removeprefix("adb: ").removeprefix("error: ").rstrip(".")
