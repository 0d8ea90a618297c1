"""One run of the installed command under a condition that a machine may impose, and what must hold then.

Each runs in folders of its own, which are a copy of prepared ones. What is tried is listed in `conditions.py`.
"""

import errno
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import forked_command
import mounts

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests" / "helpers"), str(ROOT / "tests")]

# Root may read and write whatever the mode; without these rights it is a user like others.
WITHOUT_RIGHTS = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search")
COMMAND = Path(sys.executable).parent / "isp-nas"
SOURCE = Path(__file__).with_name("failing_disk.c")
LONGEST_S = 900  # of the clock, beside other work
LONGEST_FORKED_S = 180
FORKED = ("read-only mount", "small disk", "a file for a folder", "an unreadable file")
# What a command may change of what was there before: what it itself keeps of a study or a run.
OWN = re.compile(r"(^|/)(results|run)/.*|\.isp-nas-render\.jsonl$")
GROWS = re.compile(r"records\.jsonl$")


@dataclass(frozen=True)
class Condition:
    """One run of a command under one condition."""

    area: str  # full disk, no permission, signals, names
    command: str  # of COMMANDS, or arguments
    calls: str = ""  # letters of failing_disk.c: which calls fail
    at: int = 0  # the first call that fails
    under: str = ""  # the folder in which they do, below the work folder; "": everything of ours
    error: str = "ENOSPC"
    signal: str = ""
    after_s: float = 0.0
    to: str = "group"  # the command with its workers, or "command", "worker", "worker for a while"
    chmod: tuple[str, str] = ("", "")  # a path and its mode, for a user whom modes stop
    what: str = ""  # in words
    read_only: str = ""  # a folder that is mounted so
    room_kib: int | None = None  # of a disk that has so little
    file_at: str = ""  # where a file lies and a folder is expected
    unreadable: tuple[str, str] = ("", "")  # a file and why it cannot be read, of UNREADABLE


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    condition: Condition
    code: int | None  # None: it did not end
    said: str  # the end of what it printed, where something did not hold
    wrong: tuple[str, ...]  # what did not hold


UNREADABLE = ("no permission", "a pipe", "a folder")
MEASURED = ("smallnet", "csanet", "acvlab", "cvml", "enerzai-dense", "noahtcv")
# The commands, by what they read and write. Trainings are over at once.
TRAINING = "--batch 2 --patch 16"
CONTINUED = (
    "search",
    "search on",
    "train",
    "audit",
    "data make",
    "measure",
    "render",
    "render dng",
    "export",
    "report",
)
COMMANDS = {
    "data check": "data check pairs",
    "search": f"search --budget 1 --data pairs --space tiny.toml --study new --workers 1 --rungs 2 {TRAINING}",
    "search on": f"search --budget 4 --data pairs --space tiny.toml --study s --workers 1 --rungs 2,4 {TRAINING}",
    "pareto": "pareto --study s",
    "report": "report --study s --photos 0 --out page.html",
    "compare": "compare s:0 s:1 --study s --photos 0 --out page.html",
    "delete": "delete s",
    "designs": "designs",
    "audit": f"audit a.json b.json c.json d.json --rungs 2 --steps 4 --seeds 1 --data pairs --out audited {TRAINING}",
    "data make": "data make --raw phone --target libraw --out made --patch 64 --workers 1",
    "measure": "latency measure net.tflite --out timed",
    "calibrate": "latency calibrate measured.csv --name mine --prior dimensity-1000-plus",
    "plot": "pareto --study s --plot mine.png",
    "page": "pareto --study s --plot mine.html",
    "plot new": "pareto --study s --plot new.png",
    "show": "show best --study s",
    "show file": "show a.json",
    "show run": "show trained",
    "best": "best --study s",
    "status": "status --study s",
    "studies": "studies",
    "space": "space tiny.toml --device phone.json",
    "train": f"train smallnet --steps 2 --data pairs --out run {TRAINING}",
    "train on": f"train smallnet --steps 2 --data pairs --out run --init-from trained/best.safetensors {TRAINING}",
    "configured": "search --config tiny-search.toml --budget 1 --data pairs --study new --workers 1",
    "export": "export best --study s --out export --precision fp16",
    "export run": "export trained --out export --precision fp16",
    "render": "render net.tflite m.png --out pictures --bits 10 --convert",
    "render dng": "render net.tflite m.dng --out pictures --convert",
    "check": "check net.tflite",
    "predict": "latency predict net.tflite --device phone.json",
    "import": "latency import given.csv --out read.csv",
}

LONG = {
    "search": COMMANDS["search"]
    .replace("--budget 1", "--budget 3 --final-steps 8")
    .replace("--rungs 2", "--rungs 2,4"),
    "train": COMMANDS["train"].replace("--steps 2", "--steps 400"),
}


def prepare(folder: Path, *, searched: bool = True) -> None:
    """Make a work folder with what the commands need; `searched`: a study, too, and the caches that it fills."""
    from dng import Camera, noise, write_mosaic
    from flow import write_device, write_space
    from isp_builder import isp
    from photographed import photograph
    from tiny_pairs import write_tiny_pairs

    from search_spaces.space import load_space

    work = folder / "work"
    write_tiny_pairs(work / "pairs")
    write_space(work / "tiny.toml")
    write_device(work / "phone.json")
    (work / "net.tflite").write_bytes(isp(16, 16))
    Camera().write(work / "m.dng", noise(32, 32))
    write_mosaic(work / "m.png", noise(32, 32))
    (work / "given.csv").write_text("network,runtime_ms\na,3.5\nb,4.5\n")
    rows = (f"{name},{20 + 5 * at},fp16" for at, name in enumerate(MEASURED))
    (work / "measured.csv").write_text("\n".join(("network,runtime_ms,precision", *rows)))
    (work / "phone").mkdir()
    for number in range(2):
        Camera().write(work / "phone" / f"{number}.dng", photograph(258, 322, seed=60 + number).mosaic)
    space, choices = load_space(str(work / "tiny.toml")), random.Random(0)
    sampled = {space.sample(lambda _, values, __: choices.choice(values)): None for _ in range(40)}
    for name, spec in zip("abcd", sampled, strict=False):
        (work / f"{name}.json").write_text(json.dumps({"spec": spec.to_dict()}))
    (work / "tiny-search.toml").write_text('space = "tiny.toml"\nrungs = [2]\nbatch = 2\npatch = 16\n')
    (work / "mine.png").write_bytes(b"a picture of the user's own")
    (work / "mine.html").write_bytes(b"a page of the user's own")
    if not searched:
        return
    done = started(folder, COMMANDS["search on"].replace("--budget 4", "--budget 3")).communicate()
    assert (work / "results" / "s" / "study.db").exists(), done
    done = started(folder, COMMANDS["train"].replace("--out run", "--out trained")).communicate()
    assert (work / "trained" / "best.safetensors").exists(), done


@cache
def failing_disk() -> Path | None:
    """Build the library that lets calls fail; None where there is no C compiler, or no LD_PRELOAD."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        return None
    library = Path(tempfile.mkdtemp(prefix="isp-nas-failing-disk-")) / "failing_disk.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-ldl"], check=True)
    return library


def environment(folder: Path) -> dict[str, str]:
    places = {
        "ISP_NAS_CACHE": "cache",
        "ISP_NAS_HOME": "home",
        "TMPDIR": "tmp",
        "HOME": "user",
        "XDG_DATA_HOME": "user",
    }
    for place in ("tmp", "user"):
        if not (folder / place).exists():
            (folder / place).mkdir()
    return os.environ | {name: str(folder / place) for name, place in places.items()} | {"PYTHONPATH": str(ROOT)}


# A shell lets its background jobs ignore Ctrl-C, which a command started from one would inherit.
_HEARS_CTRL_C = (
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
)


def started(
    folder: Path, arguments: str | Sequence[str], *, is_stopped_by_modes: bool = False, **more: str
) -> "subprocess.Popen[str]":
    """Start a command; `is_stopped_by_modes`: also where root starts it."""
    given = arguments.split() if isinstance(arguments, str) else arguments
    return subprocess.Popen(
        [*(WITHOUT_RIGHTS if is_stopped_by_modes and os.getuid() == 0 else ()), sys.executable, "-c", _HEARS_CTRL_C,
         str(COMMAND), *given],
        cwd=folder / "work",
        env=environment(folder) | more,
        text=True,
        errors="replace",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip


def failing(folder: Path, condition: Condition, *, log: Path | None = None) -> dict[str, str]:
    """Return the variables by which calls fail."""
    if not condition.calls:
        return {}
    variables = {
        "LD_PRELOAD": str(failing_disk()),
        "FAILING_UNDER": str(folder / condition.under if condition.under else folder),
        "FAILING_CALL": condition.calls,
        "FAILING_ERRNO": str(getattr(errno, condition.error)),
    }
    return variables | ({"FAILING_LOG": str(log)} if log else {"FAILING_AT": str(condition.at)})


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def run(prepared: Path, condition: Condition) -> Outcome:
    """Run a command under a condition, in a copy of the prepared folder, and once more without it."""
    with tempfile.TemporaryDirectory(prefix="isp-nas-condition-") as name, _disk(condition, Path(name)):
        folder = Path(name) / "at"
        shutil.copytree(prepared, folder)
        before = snapshot(folder / "work")
        with _imposed(condition, folder):
            code, out, err = _done(folder, condition)
        wrong = [*wrong_of(condition, code, out, err, before, folder)]
        wrong += _again(folder, condition, before, is_done=code == 0)
        return Outcome(condition, code, (err or out).replace(str(folder), "")[-400:] if wrong else "", tuple(wrong))


def _done(folder: Path, condition: Condition) -> tuple[int | None, str, str]:
    """Run the command to its end: in a fork where the condition lies on the machine, else as it is installed."""
    arguments = COMMANDS.get(condition.command, condition.command)
    is_closed = bool(condition.chmod[1]) or condition.unreadable[1] == "no permission"
    if condition.area in FORKED:
        return forked_command.run(
            COMMAND,
            arguments.split(),
            cwd=folder / "work",
            env=environment(folder),
            longest_s=LONGEST_FORKED_S,
            is_stopped_by_modes=is_closed,
        )
    return _ended(started(folder, arguments, is_stopped_by_modes=is_closed, **failing(folder, condition)), condition)


def _disk(condition: Condition, place: Path) -> AbstractContextManager[None]:
    return nullcontext() if condition.room_kib is None else mounts.small_disk(place)


@contextmanager
def _imposed(condition: Condition, folder: Path) -> Iterator[None]:
    """Impose on the folder what lies on the machine and not in its calls; take it away again."""
    environment(folder)  # the folders that a command finds
    if condition.chmod[1]:
        (folder / condition.chmod[0]).chmod(int(condition.chmod[1], 8))
    if condition.room_kib is not None:
        mounts.leave_room(folder.parent, condition.room_kib)
    moved = _put_file(folder / condition.file_at) if condition.file_at else None
    readable = _make_unreadable(folder, *condition.unreadable) if condition.unreadable[0] else None
    with mounts.read_only(folder / condition.read_only) if condition.read_only else nullcontext():
        yield
    if readable:
        readable()
    if condition.room_kib is not None:
        mounts.leave_room(folder.parent, None)
    if condition.file_at:
        assert (folder / condition.file_at).read_bytes() == b"a file of the user's own"
        (folder / condition.file_at).unlink()
        if moved:
            moved.rename(folder / condition.file_at)
    if condition.chmod[1]:
        (folder / condition.chmod[0]).chmod(0o755)


def _make_unreadable(folder: Path, name: str, why: str) -> Callable[[], None]:
    """Have a file be one that cannot be read; return what puts it back, unless the command has written it anew."""
    place, aside = folder / name, folder / "kept"
    if why == "no permission":
        mode = place.stat().st_mode
        place.chmod(0)
        return lambda: place.chmod(mode) if place.exists() else None
    place.rename(aside)
    os.mkfifo(place) if why == "a pipe" else place.mkdir()

    def put_back() -> None:
        if place.parent.is_dir() and not place.is_file():  # else it has been moved away, or written anew
            if place.exists():
                place.unlink() if why == "a pipe" else place.rmdir()
            aside.rename(place)

    return put_back


def _put_file(place: Path) -> Path | None:
    """Put a file where a folder is expected; return where the folder is kept meanwhile, if there is one."""
    place.parent.mkdir(exist_ok=True)
    aside = place.rename(place.with_name(f".{place.name}-kept")) if place.exists() else None
    place.write_bytes(b"a file of the user's own")
    return aside


def _again(folder: Path, condition: Condition, before: Mapping[str, bytes], *, is_done: bool) -> list[str]:
    """Give the same command once more, where it is one that goes on; return what does not hold then."""
    name = next((n for n in CONTINUED if condition.command in (n, COMMANDS[n], LONG.get(n))), None)
    if name is None:
        return []
    undisturbed = {
        "calls": "",
        "chmod": ("", ""),
        "read_only": "",
        "room_kib": None,
        "file_at": "",
        "unreadable": ("", ""),
    }
    calm = replace(condition, signal="", **undisturbed)
    code, out, err = _done(folder, calm)
    calm = replace(calm, command=name)
    wrong = [*wrong_of(calm, code, out, err, before, folder)]
    if code != 0 and not (is_done and "exist" in err):
        wrong.append(f"exit code {code}: {err[-300:]}")
    left = [path for path in snapshot(folder) if _TEMPORARY.search(path)]
    wrong += [f"{path} was left behind" for path in left]
    return [f"again: {each}" for each in wrong]


# Of `hidden_name` and `work_folder`.
_TEMPORARY = re.compile(r"(^|/)\.[^/]+(\.tmp|-[a-z0-9_]{8}/.*)$", re.DOTALL)


def _ended(process: "subprocess.Popen[str]", condition: Condition) -> tuple[int | None, str, str]:
    if condition.signal:
        time.sleep(condition.after_s)
        if process.poll() is None:
            _signal(process, condition)
    try:
        out, err = process.communicate(timeout=LONGEST_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return None, "", "it did not end"
    return process.returncode, out, err


STOPPED_S = 2.0


def _signal(process: "subprocess.Popen[str]", condition: Condition) -> None:
    """Send the signal; who is stopped goes on after a while, but "worker"."""
    number = signal.Signals[condition.signal]
    if condition.to == "group":
        os.killpg(process.pid, number)
    else:
        for pid in [process.pid] if condition.to == "command" else workers_of(process.pid):
            os.kill(pid, number)
    if number == signal.SIGSTOP and condition.to != "worker":
        time.sleep(STOPPED_S)
        os.killpg(process.pid, signal.SIGCONT)


def workers_of(pid: int) -> list[int]:
    """Return the processes that a command has started to work for it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def wrong_of(
    condition: Condition, code: int | None, out: str, err: str, before: Mapping[str, bytes], folder: Path
) -> Iterator[str]:
    after = snapshot(folder / "work")
    allowed = (
        {0, 2} if not condition.signal else {0, 130} if condition.to.startswith("worker") else _codes_of(condition)
    )
    is_pythons = condition.signal == "SIGINT" and "KeyboardInterrupt" in err and not _OURS.search(err)
    if code not in allowed and not is_pythons:
        yield f"exit code {code}"
    if ("Traceback" in out + err or "Exception ignored" in err) and not is_pythons:
        yield "a traceback"
    refusals = [line for line in err.splitlines() if line.startswith("isp-nas: ")]
    if code == 2 and len(refusals) != 1 and condition.command not in ("data check", "check"):
        yield f"{len(refusals)} sentences"
    is_imposed = condition.calls or condition.read_only or condition.room_kib is not None
    if code == 2 and is_imposed and not any(each in out + err for each in _CAUSES):
        yield "no cause"
    named = Path(condition.unreadable[0]).name
    said = " ".join((out + err).split())  # without the line ends of a terminal's width
    if code == 2 and named and not (named in said and any(each in said for each in (*_CAUSES, *_KINDS))):
        yield "no cause, or no name"
    for path, content in before.items():
        now = after.get(path)
        if now == content or (GROWS.search(path) and now is not None and now.startswith(content)):
            continue
        if now is None and code == 0 and condition.command.startswith("delete") and _STUDIES.search(path):
            continue  # in the trash
        if now is None or not (OWN.search(path) or (code == 0 and path.startswith("mine."))):
            yield f"{path} was {'removed' if now is None else 'changed'}"


# Until our first line is run, Ctrl-C is Python's to answer, which it does with a traceback that names no file of ours.
_OURS = re.compile(r'File "[^"]*/(nas|latency_models|search_spaces)/')
_STUDIES = re.compile(r"^results/s/|-copies/copied/", re.DOTALL)


def _codes_of(condition: Condition) -> set[int]:
    number = int(signal.Signals[condition.signal])
    return {0} if number == signal.SIGSTOP else {0, 130, 128 + number, -number}


_CAUSES = tuple(os.strerror(number) for number in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EIO, errno.EMFILE))

_KINDS = ("a pipe", "a folder", os.strerror(errno.EISDIR))


def files_read(prepared: Path, command: str) -> list[str]:
    """Return the files, below the prepared folder, that a command opens: of many beside one another first and last."""
    made = {call.partition(" ")[2] for call in calls_of(prepared, command, "ro", of_all=True)}
    files = {path for name in made for path in (name, f"work/{name}") if (prepared / path).is_file()}
    beside: dict[tuple[str, str], list[str]] = {}
    for path in sorted(files):
        beside.setdefault((str(Path(path).parent), Path(path).suffix), []).append(path)
    return [path for paths in beside.values() for path in dict.fromkeys((paths[0], paths[-1]))]


def calls_of(prepared: Path, command: str, calls: str, *, of_all: bool = False) -> list[str]:
    """Return the calls of a command when nothing fails: kind and path, in order; `of_all`: its workers', too."""
    with tempfile.TemporaryDirectory(prefix="isp-nas-condition-") as name:
        folder, log = Path(name) / "at", Path(name) / "log"
        shutil.copytree(prepared, folder)
        process = started(folder, COMMANDS[command], **failing(folder, Condition("", command, calls), log=log))
        process.communicate(timeout=LONGEST_S)
        calls = log.read_text(errors="replace").splitlines() if log.exists() else []
        own = [line.split(" ", 2)[1:] for line in calls if of_all or line.startswith(f"{process.pid} ")]
        return [f"{kind} {_plain(path.replace(f'{folder}/', ''))}" for kind, path in own]


def _plain(path: str) -> str:
    """Return a path without what differs from run to run, so that a loop of writes counts once."""
    return re.sub(r"\.[\w-]+-\d+\.tmp|tmp\w{8}|(?<=-)\w{8}(?=/|$)|/tmp/\w{8}$|\d{6,}", "…", path)
