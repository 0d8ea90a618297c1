"""Conditions that a machine may impose on a command: all that are tried, and what held.

A full disk at each call that writes, a path that may not be read or written, a signal at each phase, odd names: each
is one run of the installed command, see `condition_run.py`. `python tests/faults/conditions.py --out FILE.json` runs
all of them and writes what was tried and held by area; the tests beside it run a few.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import groupby
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from condition_run import (
    COMMANDS,
    LONG,
    LONGEST_S,
    UNREADABLE,
    WITHOUT_RIGHTS,
    Condition,
    Outcome,
    calls_of,
    failing_disk,
    files_read,
    prepare,
    run,
    started,
)
from mounts import KIB, can_mount
from odd_names import HEAVY, NAMED, names, run_named


def at_each_call(prepared: Path, command: str, *, calls: str, error: str, area: str) -> Iterator[Condition]:
    """Yield the command with each of its calls failing first; of equal ones in a row the first and the last."""
    made = calls_of(prepared, command, calls)
    for at, call in enumerate(made):
        is_within = 0 < at < len(made) - 1 and made[at - 1] == call == made[at + 1]
        if not is_within:
            yield Condition(area, command, calls, at, error=error, what=call)


def thinned(conditions: Iterable[Condition], most: int) -> Iterator[Condition]:
    """Yield so many of a command's conditions in an area at most, spread over all of them."""
    for _, group in groupby(conditions, key=lambda each: (each.area, each.command)):
        every = [*group]
        count = min(most, len(every))
        yield from (every[(2 * place + 1) * len(every) // (2 * count)] for place in range(count))


WRITERS = (
    "render", "plot", "page", "import", "report", "compare", "calibrate", "delete", "data make", "measure", "search on",
    "search", "train", "audit", "export",
)  # fmt: skip
# Area, commands, calls that fail, and how.
AT_EACH_CALL = (
    ("full disk", WRITERS, "wom", "ENOSPC"),
    ("no permission to write", WRITERS, "omn", "EACCES"),
    ("no permission to read", tuple(COMMANDS), "rl", "EACCES"),
)
READ_ONLY = ("cache", "home", "tmp", "work/results")
MOUNTED = ("work", "work/results", "cache", "tmp", "user", "home")
ROOM = (0.0, 0.3, 0.6, 0.9)


def all_conditions(prepared: Path, areas: Sequence[str], commands: Sequence[str]) -> Iterator[Condition]:
    """Yield everything that is tried in a whole run, or what is asked for of it; empty: everything."""
    for area, affected, calls, error in AT_EACH_CALL if failing_disk() else ():
        for command in affected:
            if _is_chosen(area, areas) and _is_chosen(command, commands):
                yield from at_each_call(prepared, command, calls=calls, error=error, area=area)
    rest = [*names(), *closed_to_others(commands), *files_for_folders()]
    if failing_disk():
        rest += [
            Condition("read-only place", command, "womn", under=place, error="EROFS", what=place)
            for command in ("search", "train", "pareto", "render", "predict", "report", "data make", "audit", "export")
            for place in READ_ONLY
        ]
    yield from (c for c in rest if _is_chosen(c.area, areas) and _is_chosen(c.command, commands))
    if _is_chosen("an unreadable file", areas) and failing_disk():
        yield from unreadable_files(prepared, commands)
    if can_mount():
        yield from mounted(prepared, areas, commands)
    if _is_chosen("signals", areas):
        yield from signals(prepared, commands)


def mounted(prepared: Path, areas: Sequence[str], commands: Sequence[str]) -> Iterator[Condition]:
    """Yield commands with real mounts: places that may only be read, and disks with a share of the room needed."""
    for command in (name for name in WRITERS if _is_chosen(name, commands)):
        if _is_chosen("read-only mount", areas):
            for place in MOUNTED:
                yield Condition("read-only mount", command, read_only=place, what=place)
        if _is_chosen("small disk", areas):
            needed = undisturbed(prepared, COMMANDS[command])[1]
            for share in ROOM:
                room = round(share * needed / KIB)
                yield Condition("small disk", command, room_kib=room, what=f"{share} of the room needed")


# Where a command makes or lists a folder, besides those that all share.
OUT = {
    "render": "work/pictures", "data make": "work/made", "measure": "work/timed", "train": "work/run",
    "audit": "work/audited", "export": "work/export", "search": "work/results/new", "calibrate": "work/devices",
    "predict": "work/devices", "space": "work/spaces", "check": "work/delegates", "data check": "work/pairs/val",
}  # fmt: skip


def files_for_folders() -> Iterator[Condition]:
    """Yield commands that find a file where they expect a folder."""
    for command in COMMANDS:
        for place in (*(READ_ONLY if command in OUT else ()), *([OUT[command]] if command in OUT else ())):
            yield Condition("a file for a folder", command, file_at=place, what=place)


def unreadable_files(prepared: Path, commands: Sequence[str]) -> Iterator[Condition]:
    """Yield commands with each file that they read, of which modes, a pipe or a folder in its place keep them."""
    for command in (name for name in COMMANDS if _is_chosen(name, commands)):
        for path in files_read(prepared, command):
            for why in UNREADABLE:
                yield Condition("an unreadable file", command, unreadable=(path, why), what=f"{path}: {why}")


def _is_chosen(name: str, chosen: Sequence[str]) -> bool:
    return not chosen or name in chosen


SIGNALLED = (
    "data check",
    "render",
    "data make",
    "report",
    "audit",
    "search",
    "train",
    "export",
    "measure",
    "calibrate",
)
STARTS_S = (0.05, 0.2, 0.4, 0.7)  # Python's own start, and ours
SHARES = (0.15, 0.3, 0.5, 0.7, 0.85, 0.95)  # of the time that an undisturbed run takes
SIGNALS = (
    ("SIGINT", "group"), ("SIGTERM", "group"), ("SIGKILL", "command"), ("SIGKILL", "worker"), ("SIGSTOP", "group"),
    ("SIGHUP", "group"), ("SIGSTOP", "worker"), ("SIGSTOP", "worker for a while"),
)  # fmt: skip
WITH_WORKERS = ("search", "audit")


def signals(prepared: Path, commands: Sequence[str] = ()) -> Iterator[Condition]:
    """Yield commands that get a signal, from Python's own start to their last moments."""
    for command in (name for name in SIGNALLED if _is_chosen(name, commands)):
        arguments, lasts_s = LONG.get(command, COMMANDS[command]), 0.0
        for kind, to in SIGNALS:
            if to.startswith("worker") and command not in WITH_WORKERS:
                continue
            lasts_s = lasts_s or undisturbed(prepared, arguments)[0]
            phases = [*STARTS_S, *(round(share * lasts_s, 2) for share in SHARES)]
            for after in (
                phases if not to.startswith("worker") else phases[-4:-1] if kind == "SIGKILL" else phases[-3:-2]
            ):
                yield Condition("signals", arguments, signal=kind, to=to, after_s=after, what=f"{command}: {kind}")


def undisturbed(prepared: Path, arguments: str) -> tuple[float, int]:
    """Return how long a command takes when nothing disturbs it, in seconds, and how many bytes it leaves."""
    with tempfile.TemporaryDirectory(prefix="isp-nas-condition-") as name:
        folder = Path(name) / "at"
        shutil.copytree(prepared, folder)
        before, begun = _size(folder), time.monotonic()
        started(folder, arguments).communicate(timeout=LONGEST_S)
        return time.monotonic() - begun, _size(folder) - before


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


# What another user may not read or write, whatever calls a command makes for it.
CLOSED = {
    "work": "0555",
    "work/pairs": "0000",
    "work/pairs/train/fujifilm/0.png": "0000",
    "work/results": "0000",
    "work/results/s": "0555",
    "work/results/s/records.jsonl": "0400",
    "work/results/s/run.toml": "0000",
    "work/results/s/checkpoints": "0000",
    "work/phone": "0000",
    **{f"work/{name}": "0000" for name in ("net.tflite", "m.png", "phone.json", "tiny.toml", "given.csv", "a.json")},
    **dict.fromkeys(("cache", "user", "tmp"), "0555"),
}


def closed_to_others(commands: Sequence[str]) -> Iterator[Condition]:
    """Yield commands of a user without rights to one path."""
    for command in COMMANDS if os.getuid() or shutil.which(WITHOUT_RIGHTS[0]) else ():
        if _is_chosen(command, commands):
            for path, mode in CLOSED.items():
                yield Condition("closed to the user", command, chmod=(path, mode), what=f"{path} {mode}")


def by_area(outcomes: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """Return how many conditions were tried and how many held, by area."""
    tried, held = Counter[str](), Counter[str]()
    for outcome in outcomes:
        tried[outcome["condition"]["area"]] += 1
        held[outcome["condition"]["area"]] += not outcome["wrong"]
    return {area: {"tried": tried[area], "held": held[area]} for area in tried}


def main() -> None:
    """Run what is asked for and write it down after each."""
    parser = argparse.ArgumentParser(description="Run commands under the conditions that a machine may impose.")
    parser.add_argument("--out", type=Path, required=True, help="JSON; what is in it already is not run again")
    parser.add_argument("--area", nargs="*", default=(), help="only these areas")
    parser.add_argument(
        "--command", nargs="*", default=(), help='only these commands; of odd names "names 0" and so on'
    )
    parser.add_argument("--most", type=int, default=10**6, help="so many of a command in an area; all without it")
    parser.add_argument("--light", action="store_true", help="of odd names leave out what trains or converts")
    parser.add_argument("--prepared", type=Path, help="the folder that all is tried on; made where it is not there")
    options = parser.parse_args()
    known = json.loads(options.out.read_text())["outcomes"] if options.out.exists() else []
    with tempfile.TemporaryDirectory(prefix="isp-nas-prepared-") as name:
        prepared = options.prepared or Path(name) / "prepared"
        if not prepared.exists():
            prepare(prepared)
        for condition in thinned(all_conditions(prepared, options.area, options.command), options.most):
            forms = [form for form in NAMED if not (options.light and any(each in HEAVY for each in form[:2]))]
            left = [form for form in forms if not _is_named(condition, form, known)]
            for outcome in [] if _is_known(condition, known) or not left else run_each(prepared, condition, left):
                known.append(asdict(outcome))
                summary = condition.area, outcome.condition.command, condition.what, outcome.code
                sys.stdout.write(f"{outcome.wrong or 'held'} {summary} {outcome.said if outcome.wrong else ''}\n")
                sys.stdout.flush()
                _write(options.out, known)


def run_each(prepared: Path, condition: Condition, forms: Sequence[list[str]]) -> Iterable[Outcome]:
    return run_named(prepared, condition, forms) if condition.area == "names" else [run(prepared, condition)]


def _is_known(condition: Condition, known: Sequence[Mapping[str, Any]]) -> bool:
    return any(each["condition"] == asdict(condition) for each in known)


def _is_named(condition: Condition, form: Sequence[str], known: Sequence[Mapping[str, Any]]) -> bool:
    """Tell whether a command has been tried with an odd name."""
    named = replace(condition, command=" ".join(form), what=ascii(condition.what))
    return _is_known(named, known)


def _write(path: Path, known: list[dict[str, object]]) -> None:
    from nas import provenance

    document = {
        "made_by": provenance.collect() | {"command": "python tests/faults/conditions.py"},
        "by_area": by_area(known),
        "outcomes": known,
    }
    path.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
