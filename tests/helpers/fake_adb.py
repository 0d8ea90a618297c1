"""An adb with a phone behind it, for tests: `install` puts it first on PATH.

The phone is a folder with `scenario.json` (what it is and what goes wrong), `files/` (what it stores) and `calls.jsonl`
(what adb was asked). Commands of its shell are run by this machine's, with /data/local/tmp led into `files/` and with
the phone's own tools as functions; benchmark_model is replaced by a log in its grammar.
"""

import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

TMP = "/data/local/tmp"
SERIAL = "R5CT30ABCDE"
SCENARIO = {
    "devices": [[SERIAL, "device"]],
    "properties": {
        "ro.product.manufacturer": "Acme",
        "ro.product.model": "Phone 7",
        "ro.product.cpu.abilist": "arm64-v8a,armeabi-v7a,armeabi",
        "ro.soc.manufacturer": "Mediatek",
        "ro.soc.model": "MT6889",
        "ro.board.platform": "mt6885",
        "ro.build.version.release": "13",
        "ro.build.id": "TQ3A.230805",
    },
    # Of these the n-th value is given at the n-th question, and the last from then on.
    "battery_c": [30.0],
    "throttling": [0],
    "level": [80],
    "battery": True,
    "thermal_service": True,
    "low_power": 0,
    "sha256sum": True,
    # By name: us (the n-th run took so long), nodes, taken (of them, by the delegate), text (first), status.
    "networks": {},
    # Each is {"match": expression on the arguments, "at": which of the matching calls} and what happens then:
    # "stderr" and "code" (nothing is done), "away" (polls for which the phone is gone, −1 for good), "midway" (a
    # benchmark is left running), "interrupt" (Ctrl-C), "corrupt" (a pushed file is cut), "full" (half of it arrives),
    # "output" and "status" (of the command on the phone).
    "faults": [],
}
MACHINES = {"arm64": 183, "arm": 40, "x86_64": 62}


class FakePhone:
    """What a test knows of its phone."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.files = home / "files"
        self.tmp = self.files / TMP.strip("/")
        self.tmp.mkdir(parents=True)
        (self.tmp / "someone's own file").write_text("not ours")
        self.set()

    def set(self, **changes: object) -> None:
        """Change the scenario; it starts anew."""
        (self.home / "scenario.json").write_text(json.dumps({**SCENARIO, **changes}))
        (self.home / "state.json").write_text("{}")

    def calls(self, pattern: str = "") -> list[str]:
        """Return what adb was asked so far, as one line each, where `pattern` occurs."""
        path = self.home / "calls.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [call for call in map(json.loads, lines) if re.search(pattern, call)]

    def stored(self) -> dict[str, bytes]:
        """Return every file and folder on the phone."""
        paths = sorted(self.files.rglob("*"))
        return {str(path.relative_to(self.files)): path.read_bytes() if path.is_file() else b"" for path in paths}

    def running(self) -> list[int]:
        """Return the benchmarks that were left running and still run."""
        path = self.home / "started"
        return [int(pid) for pid in path.read_text().split() if _alive(int(pid))] if path.exists() else []


def install(folder: Path, path: str) -> tuple[FakePhone, str]:
    """Make a phone in `folder`; return it and the PATH with its adb before `path`."""
    phone = FakePhone(folder / "fake phone")
    binaries = folder / "bin"
    binaries.mkdir()
    adb = binaries / "adb"
    adb.write_text(f"#!/bin/sh\nexec '{sys.executable}' -IS '{__file__}' '{phone.home}' \"$@\"\n")
    adb.chmod(0o755)
    return phone, f"{binaries}{os.pathsep}{path}"


def answer_here(phone: FakePhone) -> SimpleNamespace:
    """Return what stands in for the module `subprocess` of who calls the adb of `phone`: it answers in this process.

    A measurement asks adb tens of times, and each start of Python would take as long as twenty answers.
    """

    def answer(command: list[str], *, timeout: float, **_: object) -> subprocess.CompletedProcess:
        out, err = StringIO(), StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = _AdbHere(phone.home, command[1:], timeout_s=timeout).run()
        return subprocess.CompletedProcess(command, code, out.getvalue(), err.getvalue())

    return SimpleNamespace(run=answer, DEVNULL=subprocess.DEVNULL, TimeoutExpired=subprocess.TimeoutExpired)


def elf(machine: str = "arm64") -> bytes:
    """Return the first bytes of a program, and some more."""
    return b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + struct.pack("<HHI", 3, MACHINES[machine], 1) + b"code" * 100


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


class _Adb:
    """One call of the command."""

    def __init__(self, home: Path, arguments: list[str]) -> None:
        self.home = home
        self.arguments = arguments
        self.caller = os.getppid()
        self.command = " ".join(arguments)
        self.scenario = json.loads((home / "scenario.json").read_text())
        self.state = json.loads((home / "state.json").read_text())
        self.root = str(home / "files") + TMP

    def run(self) -> int:
        with (self.home / "calls.jsonl").open("a") as calls:
            calls.write(json.dumps(self.command) + "\n")
        fault = self._fault()
        code = self._answer(fault)
        self._remember()
        if fault.get("interrupt"):
            os.kill(self.caller, signal.SIGINT)
        return code

    def _remember(self) -> None:
        (self.home / "state.json").write_text(json.dumps(self.state))

    def _fault(self) -> dict:
        due = {}
        for number, fault in enumerate(self.scenario["faults"]):
            if re.search(fault["match"], self.command):
                seen = self._count(f"fault {number}")
                due = fault if fault.get("at", 1) in (seen, "every") else due
        return due

    def _count(self, key: str) -> int:
        self.state[key] = self.state.get(key, 0) + 1
        return self.state[key]

    def _next(self, key: str):
        values = self.scenario[key]
        return values[min(self._count(key), len(values)) - 1]

    def _answer(self, fault: dict) -> int:
        if self.arguments == ["devices"]:
            return self._devices()
        if self.arguments[0] != "-s":
            return _fail("error: more than one device/emulator")
        serial = self.arguments[1]
        if self.state.get("away") or serial not in dict(self.scenario["devices"]):
            return _fail(f"error: device '{serial}' not found")
        self.state["away"] = fault.get("away", 0)
        if fault.get("midway"):
            self._leave_running()
            return 255  # as adb ends where the connection broke: without a word
        if "stderr" in fault:
            return _fail(fault["stderr"], fault.get("code", 1))
        verb, *rest = self.arguments[2:]
        return self._push(*rest, fault) if verb == "push" else self._shell(*rest, fault)

    def _devices(self) -> int:
        sys.stdout.write("* daemon not running; starting now at tcp:5037\n* daemon started successfully\n")
        sys.stdout.write("List of devices attached\n")
        away = self.state.get("away", 0)
        self.state["away"] = away - 1 if away > 0 else away
        if not away:
            sys.stdout.writelines(f"{serial}\t{state}\n" for serial, state in self.scenario["devices"])
        sys.stdout.write("\n")
        return 0

    def _push(self, local: str, remote: str, fault: dict) -> int:
        content = Path(local).read_bytes()
        target = Path(remote.replace(TMP, self.root))
        if fault.get("full"):
            target.write_bytes(content[: len(content) // 2])
            said = f"failed to copy '{local}' to '{remote}': remote write failed: No space left on device"
            return _fail(f"adb: error: {said}")
        target.write_bytes(content[:-1] if fault.get("corrupt") else content)
        sys.stdout.write(f"{local}: 1 file pushed, 0 skipped. 9.9 MB/s ({len(content)} bytes in 0.001s)\n")
        return 0

    def _shell(self, command: str, fault: dict) -> int:
        if "output" in fault:
            mark = re.search(r"echo (\S+=)\$\?$", command)[1]
            sys.stdout.write(f"{fault['output']}\n{mark}{fault['status']}\n")
            return 0
        command = self._local(command)
        if fault.get("interrupt"):
            command += f"; kill -INT {self.caller}"
        self._remember()
        return self._become(["sh", "-c", command])

    def _become(self, command: list[str]) -> int:
        return os.execvp(command[0], command)

    def _local(self, command: str) -> str:
        """Return a command of the phone's shell as one of this machine's."""
        tools = [self._tool("getprop", self._properties())]
        if "dumpsys" in command:
            tools += [self._dumpsys(), self._tool("settings", str(self.scenario["low_power"]))]
        if not self.scenario["sha256sum"]:
            tools.append("sha256sum() { echo 'sh: sha256sum: inaccessible or not found'; return 127; }")
        return "\n".join([*tools, self._benchmark(command).replace(TMP, f"'{self.root}'")])

    def _tool(self, name: str, prints: str) -> str:
        path = self.home / f"{name}.txt"
        path.write_text(prints + "\n")
        return f"{name}() {{ cat '{path}'; }}"

    def _properties(self) -> str:
        return "\n".join(f"[{name}]: [{value}]" for name, value in self.scenario["properties"].items())

    def _dumpsys(self) -> str:
        there = self.scenario["battery"]
        battery = [
            "Current Battery Service state:",
            "  USB powered: true",
            f"  present: {str(there).lower()}",
            f"  level: {self._next('level') if there else 0}",
            "  scale: 100",
            f"  temperature: {round(self._next('battery_c') * 10) if there else 0}",
        ]
        thermal = f"IsStatusOverride: false\nThermal Status: {self._next('throttling')}\nCached temperatures:"
        if not self.scenario["thermal_service"]:
            thermal = "Can't find service: thermalservice"
        (self.home / "battery.txt").write_text("\n".join(battery) + "\n")
        (self.home / "thermalservice.txt").write_text(thermal + "\n")
        return f"dumpsys() {{ cat '{self.home}'/$1.txt; }}"

    def _benchmark(self, command: str) -> str:
        """Replace benchmark_model in a command by what prints its log, where it could be started."""
        call = re.search(r"(?:taskset \S+ )?(\S+/benchmark_model) (--graph=(\S+)\.tflite.*?) & echo", command)
        if not call:
            return command
        program, flags, graph = call.groups()
        log, status = self._log(Path(graph).name, f"{graph}.tflite", flags)
        path = self.home / "log.txt"
        path.write_text(log)
        absent = f"{{ echo '/system/bin/sh: {program}: inaccessible or not found'; exit 127; }}"
        ran = f"(test -x {program} -a -f {graph}.tflite || {absent}; cat '{path}'; exit {status})"
        return command.replace(call[0], f"{ran} & echo")

    def _log(self, name: str, graph: str, flags: str) -> tuple[str, int]:
        network = self.scenario["networks"].get(name, {})
        times = network.get("us", [10_000])
        microseconds = times[min(self._count(f"run {name}"), len(times)) - 1]
        log = [network.get("text", ""), *_opening(flags, graph, network), *_timed(microseconds)]
        if network.get("status"):
            log = log[:-2]
        return "\n".join(log) + "\n", network.get("status", 0)

    def _leave_running(self) -> None:
        """Start a benchmark that goes on when adb ends, and note its number as the shell on the phone would."""
        command = self.arguments[-1].replace(TMP, self.root)
        program = re.search(r"(\S.*/benchmark_model) --graph", command)[1].removeprefix("{ ")
        started = [sys.executable, "-ISc", _START, program]
        pid = int(subprocess.run(started, capture_output=True, text=True, check=True).stdout)
        (Path(program).parent / "pid").write_text(f"{pid}\n")
        with (self.home / "started").open("a") as started:
            started.write(f"{pid}\n")
        while b"time.sleep" not in Path(f"/proc/{pid}/cmdline").read_bytes():
            time.sleep(0.001)  # until the child has become it


# Start a program that outlives the one that starts it, and print its number.
_START = """
import os, subprocess, sys
quiet = dict.fromkeys(("stdout", "stderr"), subprocess.DEVNULL)
print(subprocess.Popen([sys.executable, "-ISc", "import time; time.sleep(60)", sys.argv[1]],
                       start_new_session=True, **quiet).pid, flush=True)
os._exit(0)
"""


class _AdbHere(_Adb):
    """One call of the command, answered in the process that calls it."""

    def __init__(self, home: Path, arguments: list[str], *, timeout_s: float) -> None:
        super().__init__(home, arguments)
        self.caller = os.getpid()
        self.timeout_s = timeout_s

    def _become(self, command: list[str]) -> int:
        done = subprocess.run(
            command, capture_output=True, check=False, encoding="utf-8", errors="replace", stdin=subprocess.DEVNULL,
            timeout=self.timeout_s,
        )  # fmt: skip
        sys.stdout.write(done.stdout)
        sys.stderr.write(done.stderr)
        return done.returncode


def _fail(sentence: str, code: int = 1) -> int:
    sys.stderr.write(sentence + "\n")
    return code


def _opening(flags: str, graph: str, network: dict) -> list[str]:
    """Return what the tool prints before it measures."""
    lines = ["STARTING!", "Log parameter values verbosely: [0]", "Num threads: [1]", f"Graph: [{graph}]"]
    delegate = re.search(r"--use_(gpu|nnapi|neuron|xnnpack)=true", flags)
    if delegate:
        name = {"neuron": "NeuronDelegate"}.get(delegate[1], delegate[1].upper())
        nodes = network.get("nodes", 7)
        taken = network.get("taken", nodes)
        lines.append(f"Use {delegate[1]}: [1]")
        lines.append(
            f"INFO: Replacing {taken} out of {nodes} node(s) with delegate (TfLite{delegate[1].title()}Delegate) node, "
            f"yielding {1 if taken == nodes else 3} partitions for subgraph 0."
        )
        lines.append(_concluded(name, taken, nodes))
    return [*lines, f"Loaded model {graph}", "The input model file size (MB): 0.02", "Initialized session in 9.9ms."]


def _concluded(name: str, taken: int, nodes: int) -> str:
    graph = "the model graph will be"
    if taken == nodes:
        return f"Explicitly applied {name} delegate, and {graph} completely executed by the delegate."
    if taken:
        return (
            f"Explicitly applied {name} delegate, and {graph} partially executed by the delegate w/ 2 delegate kernels."
        )
    return f"Though {name} delegate is explicitly applied, the model graph will not be executed by the delegate."


def _timed(us: int) -> list[str]:
    """Return what the tool prints of `us` microseconds."""
    return [
        "Running benchmark for at least 5 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.",
        f"count=5 first={us * 2} curr={us} min={us} max={us * 2} avg={us} std=10",
        "",
        "Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150 seconds.",
        f"count=50 first={us} curr={us} min={us - 9} max={us + 9} avg={us} std=5 p5={us - 5} median={us} p95={us + 5}",
        "",
        f"Inference timings in us: Init: 9900, First inference: {us * 2}, Warmup (avg): {us}, Inference (avg): {us}",
    ]


if __name__ == "__main__":
    sys.exit(_Adb(Path(sys.argv[1]), sys.argv[2:]).run())
