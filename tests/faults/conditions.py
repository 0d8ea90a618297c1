"""Conditions that a machine may impose on a command, and what must hold in every one of them.

A full disk at each call that writes, a path that may not be read or written, a signal at each phase, odd names: each
is one run of the installed command in folders of its own. `python tests/faults/conditions.py --out FILE.json` runs all
of them and writes what was tried and held by area; the tests beside it run a few.
"""

import argparse
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests" / "helpers"), str(ROOT / "tests")]

COMMAND = Path(sys.executable).parent / "isp-nas"
SOURCE = Path(__file__).with_name("failing_disk.c")
LONGEST_S = 300
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
    what: str = ""  # in words


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    condition: Condition
    code: int | None  # None: it did not end
    said: str  # the end of what it printed
    wrong: tuple[str, ...]  # what did not hold


# The commands, by what they read and write. Trainings are over at once.
TRAINING = "--batch 2 --patch 16"
COMMANDS = {
    "data check": "data check pairs",
    "search": f"search --budget 1 --data pairs --space tiny.toml --study new --workers 1 --rungs 2 {TRAINING}",
    "search on": f"search --budget 4 --data pairs --space tiny.toml --study s --workers 1 --rungs 2,4 {TRAINING}",
    "pareto": "pareto --study s",
    "plot": "pareto --study s --plot mine.png",
    "page": "pareto --study s --plot mine.html",
    "show": "show best --study s",
    "space": "space tiny.toml --device phone.json",
    "train": f"train smallnet --steps 2 --data pairs --out run {TRAINING}",
    "export": "export best --study s --out export --precision fp16",
    "render": "render net.tflite m.png --out pictures --bits 10 --convert",
    "render dng": "render net.tflite m.dng --out pictures --convert",
    "check": "check net.tflite",
    "predict": "latency predict net.tflite --device phone.json",
    "import": "latency import given.csv --out read.csv",
}


def prepare(folder: Path, *, searched: bool = True) -> None:
    """Make a work folder with what the commands need; `searched`: a study, too, and the caches that it fills."""
    import numpy as np
    from conftest import TINY_PAIRS, _colour_gradients, _mosaic
    from dng import Camera, noise, write_mosaic
    from flow import write_device, write_space
    from isp_builder import isp
    from PIL import Image

    work = folder / "work"
    rng = np.random.default_rng(0)
    for split, count in TINY_PAIRS.items():
        for number in range(count):
            rgb = _colour_gradients(rng)
            for kind, image in (("mediatek_raw", _mosaic(rgb, rng)), ("fujifilm", rgb)):
                (work / "pairs" / split / kind).mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(work / "pairs" / split / kind / f"{number}.png")
    write_space(work / "tiny.toml")
    write_device(work / "phone.json")
    (work / "net.tflite").write_bytes(isp(16, 16))
    Camera().write(work / "m.dng", noise(32, 32))
    write_mosaic(work / "m.png", noise(32, 32))
    (work / "given.csv").write_text("network,runtime_ms\na,3.5\nb,4.5\n")
    (work / "mine.png").write_bytes(b"a picture of the user's own")
    (work / "mine.html").write_bytes(b"a page of the user's own")
    if not searched:
        return
    done = started(folder, COMMANDS["search on"].replace("--budget 4", "--budget 3")).communicate()
    assert (work / "results" / "s" / "study.db").exists(), done


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
    places = {"ISP_NAS_CACHE": "cache", "ISP_NAS_HOME": "home", "TMPDIR": "tmp"}
    (folder / "tmp").mkdir(exist_ok=True)
    return os.environ | {name: str(folder / place) for name, place in places.items()} | {"PYTHONPATH": str(ROOT)}


# A shell lets its background jobs ignore Ctrl-C, which a command started from one would inherit.
_HEARS_CTRL_C = (
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
)


def started(folder: Path, arguments: str | Sequence[str], **more: str) -> "subprocess.Popen[str]":
    given = arguments.split() if isinstance(arguments, str) else arguments
    return subprocess.Popen(
        [sys.executable, "-c", _HEARS_CTRL_C, str(COMMAND), *given],
        cwd=folder / "work",
        env=environment(folder) | more,
        text=True,
        errors="replace",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def failing(folder: Path, condition: Condition, *, log: Path | None = None) -> dict[str, str]:
    """Return the variables by which calls fail."""
    if not condition.calls:
        return {}
    found = {
        "LD_PRELOAD": str(failing_disk()),
        "FAILING_UNDER": str(folder / condition.under if condition.under else folder),
        "FAILING_CALL": condition.calls,
        "FAILING_ERRNO": str(getattr(errno, condition.error)),
    }
    return found | ({"FAILING_LOG": str(log)} if log else {"FAILING_AT": str(condition.at)})


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def run(prepared: Path, condition: Condition) -> Outcome:
    """Run a command under a condition, in a copy of the prepared folder."""
    with tempfile.TemporaryDirectory(prefix="isp-nas-condition-") as name:
        folder = Path(name) / "at"
        shutil.copytree(prepared, folder)
        before = snapshot(folder / "work")
        process = started(folder, COMMANDS.get(condition.command, condition.command), **failing(folder, condition))
        code, out, err = _ended(process, condition)
        return Outcome(condition, code, (err or out)[-400:], tuple(_wrong(condition, code, out, err, before, folder)))


def _ended(process: "subprocess.Popen[str]", condition: Condition) -> tuple[int | None, str, str]:
    if condition.signal:
        time.sleep(condition.after_s)
        with_group = getattr(signal, condition.signal)
        if process.poll() is None:
            os.killpg(process.pid, with_group)
    try:
        out, err = process.communicate(timeout=LONGEST_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return None, "", "it did not end"
    return process.returncode, out, err


def _wrong(
    condition: Condition, code: int | None, out: str, err: str, before: Mapping[str, bytes], folder: Path
) -> Iterator[str]:
    after = snapshot(folder / "work")
    allowed = {0, 2, 130, -getattr(signal, condition.signal)} if condition.signal else {0, 2}
    if code not in allowed:
        yield f"exit code {code}"
    if "Traceback" in out + err or "Exception ignored" in err:
        yield "a traceback"
    refusals = [line for line in err.splitlines() if line.startswith("isp-nas: ")]
    if code == 2 and len(refusals) != 1 and condition.command not in ("data check", "check"):
        yield f"{len(refusals)} sentences"
    if code == 2 and condition.calls and not any(each in out + err for each in _CAUSES):
        yield "no cause"
    for path, content in before.items():
        now = after.get(path)
        if now == content or (GROWS.search(path) and now is not None and now.startswith(content)):
            continue
        if now is None or not (OWN.search(path) or (code == 0 and path.startswith("mine."))):
            yield f"{path} was {'removed' if now is None else 'changed'}"


_CAUSES = tuple(os.strerror(number) for number in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EIO, errno.EMFILE))


def calls_of(prepared: Path, command: str, calls: str) -> list[str]:
    """Return the calls that a command makes when nothing fails: kind and path, in order, of its busiest process."""
    with tempfile.TemporaryDirectory(prefix="isp-nas-condition-") as name:
        folder, log = Path(name) / "at", Path(name) / "log"
        shutil.copytree(prepared, folder)
        process = started(folder, COMMANDS[command], **failing(folder, Condition("", command, calls), log=log))
        process.communicate(timeout=LONGEST_S)
        told = log.read_text(errors="replace").splitlines() if log.exists() else []
        own = [line.split(" ", 2)[1:] for line in told if line.startswith(f"{process.pid} ")]
        return [f"{kind} {_plain(path.replace(str(folder), ''))}" for kind, path in own]


def _plain(path: str) -> str:
    """Return a path without what differs from run to run, so that a loop of writes counts once."""
    return re.sub(r"\.[\w-]+-\d+\.tmp|tmp\w{8}|(?<=-)\w{8}(?=/|$)|/tmp/\w{8}$|\d{6,}", "…", path)


def at_each_call(prepared: Path, command: str, *, calls: str, error: str, area: str) -> Iterator[Condition]:
    """Yield the command with each of its calls failing first; of equal ones in a row the first and the last."""
    made = calls_of(prepared, command, calls)
    for at, call in enumerate(made):
        is_within = 0 < at < len(made) - 1 and made[at - 1] == call == made[at + 1]
        if not is_within:
            yield Condition(area, command, calls, at, error=error, what=call)


WRITERS = ("render", "plot", "page", "import", "train", "search", "search on", "export")
# Area, commands, calls that fail, and how.
AT_EACH_CALL = (
    ("full disk", WRITERS, "wom", "ENOSPC"),
    ("no permission to write", WRITERS, "omn", "EACCES"),
    ("no permission to read", tuple(COMMANDS), "rl", "EACCES"),
)
READ_ONLY = ("cache", "home", "tmp", "work/results")


def all_conditions(prepared: Path, areas: Sequence[str], commands: Sequence[str]) -> Iterator[Condition]:
    """Yield everything that is tried in a whole run, or what is asked for of it; empty: everything."""
    for area, affected, calls, error in AT_EACH_CALL if failing_disk() else ():
        for command in affected:
            if _is_asked(area, areas) and _is_asked(command, commands):
                yield from at_each_call(prepared, command, calls=calls, error=error, area=area)
    rest = [*signals(), *names()]
    if failing_disk():
        rest += [
            Condition("read-only place", command, "womn", under=place, error="EROFS", what=place)
            for place in READ_ONLY
            for command in ("search", "train", "pareto", "render", "predict")
        ]
    yield from (c for c in rest if _is_asked(c.area, areas) and _is_asked(c.command, commands))


def _is_asked(name: str, asked: Sequence[str]) -> bool:
    return not asked or name in asked


PHASES_S = (0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 9.0)


def signals(kinds: Iterable[str] = ("SIGINT", "SIGTERM", "SIGHUP")) -> Iterator[Condition]:
    """Yield a long search, a training and a rendering that get a signal, from Python's own start on."""
    commands = {
        "search": COMMANDS["search"].replace("--budget 1", "--budget 5").replace("--rungs 2", "--rungs 200"),
        "train": COMMANDS["train"].replace("--steps 2", "--steps 400"),
        "render": COMMANDS["render"],
    }
    for kind in kinds:
        for command in commands.values():
            yield from (
                Condition("signals", command, signal=kind, after_s=after, what=f"{kind} after {after} s")
                for after in PHASES_S
            )


ODD_NAMES = (
    "数据集", "写真raw", "写真 raw (1)", "w%s?x=1&y#z", "[bold]x[bold]", "$x$", "<script>x", "a\nb", "-x", "ab\u202ecd",
    "caf\udce9", "n" * 200, "\x1b[31mred", "'q'\"q\"", "~x", "{x}", "..x", " x ",
)  # fmt: skip


def names() -> Iterator[Condition]:
    """Yield commands on files and folders of odd names; what is called so is made by `run_named`."""
    yield from (Condition("names", "", what=name) for name in ODD_NAMES)


NAMED = (
    ["data", "check", "./{}"],
    ["search", "--budget", "1", "--data", "./{}", "--space", "tiny.toml", "--workers", "1", "--rungs", "2",
     "--batch", "2", "--patch", "16", "--results", "./{}-results"],
    ["check", "./{}.tflite"],
    ["latency", "predict", "./{}.tflite", "--format", "json"],
    ["render", "./{}.tflite", "./{}.png", "--out", "./{}-out", "--convert"],
    ["pareto", "--study", "s", "--plot", "./{}-plot.png"],
    ["pareto", "--study", "s", "--plot", "./{}-plot.html"],
    ["show", "./{}.json"],
    ["pareto", "--results", "./{}-copies"],
)  # fmt: skip


def run_named(prepared: Path, condition: Condition) -> list[Outcome]:
    """Run every command of NAMED on copies that have the odd name."""
    found = []
    with tempfile.TemporaryDirectory(prefix="isp-nas-condition-") as at:
        folder = Path(at) / "at"
        shutil.copytree(prepared, folder)
        work, name = folder / "work", condition.what
        shutil.copytree(work / "pairs", work / name)
        for kind, source in (("tflite", "net.tflite"), ("png", "m.png")):
            shutil.copy(work / source, work / f"{name}.{kind}")
        (work / f"{name}.json").write_text("{}")
        shutil.copytree(work / "results" / "s", work / f"{name}-copies" / "copied")
        before = snapshot(work)
        for form in NAMED:
            process = started(folder, [part.replace("{}", name) for part in form])
            code, out, err = _ended(process, condition)
            wrong = [*_wrong(condition, code, out, err, before, folder)]
            wrong += ["control characters"] if re.search("[\x00-\x09\x0b-\x1f\u202e]", out + err) else []
            if form[-1].endswith("-copies") and code == 0 and "copied" not in out:
                wrong.append("a copied study goes by the name of the original")
            told = replace(condition, command=" ".join(form[:2]), what=ascii(name))
            found.append(Outcome(told, code, (err or out)[-400:], tuple(wrong)))
    return found


def by_area(outcomes: Iterable[Outcome]) -> dict[str, dict[str, int]]:
    """Return how many conditions were tried and how many held, by area."""
    tried, held = Counter[str](), Counter[str]()
    for outcome in outcomes:
        tried[outcome.condition.area] += 1
        held[outcome.condition.area] += not outcome.wrong
    return {area: {"tried": tried[area], "held": held[area]} for area in tried}


def main() -> None:
    """Run what is asked for and write it down after each."""
    parser = argparse.ArgumentParser(description="Run commands under the conditions that a machine may impose.")
    parser.add_argument("--out", type=Path, required=True, help="JSON; what is in it already is not run again")
    parser.add_argument("--area", nargs="*", default=(), help="only these areas")
    parser.add_argument("--command", nargs="*", default=(), help="only these commands")
    asked = parser.parse_args()
    known = json.loads(asked.out.read_text())["outcomes"] if asked.out.exists() else []
    with tempfile.TemporaryDirectory(prefix="isp-nas-prepared-") as name:
        prepare(Path(name))
        for condition in all_conditions(Path(name), asked.area, asked.command):
            for outcome in [] if _is_known(condition, known) else run_each(Path(name), condition):
                known.append(asdict(outcome))
                told = condition.area, outcome.condition.command, condition.what, outcome.code
                sys.stdout.write(f"{outcome.wrong or 'held'} {told} {outcome.said if outcome.wrong else ''}\n")
                sys.stdout.flush()
            _write(asked.out, known)


def run_each(prepared: Path, condition: Condition) -> list[Outcome]:
    return run_named(prepared, condition) if condition.area == "names" else [run(prepared, condition)]


def _is_known(condition: Condition, known: Sequence[Mapping[str, Any]]) -> bool:
    if condition.area == "names":
        return any(each["condition"]["what"] == ascii(condition.what) for each in known)
    return any(each["condition"] == asdict(condition) for each in known)


def _write(path: Path, known: list[dict[str, object]]) -> None:
    from nas import provenance

    told = {"made_by": provenance.collect() | {"command": "python tests/faults/conditions.py"}, "outcomes": known}
    path.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
