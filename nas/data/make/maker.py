"""Make a set of pairs from photographs: in parallel, continued by the same call, nothing overwritten.

    sources ─► photograph_state (one process per core) ─► assembly ─► pair_writing, report_page

What is to be written is decided and kept before it is written, so that a run that was killed while it wrote goes on
with the same decision.
"""

import json
import os
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from pathlib import Path
from threading import Thread
from typing import NoReturn

from filelock import Timeout

from nas.data.check.problems import listed
from nas.data.layout import SPLITS, Split
from nas.data.make.assembly import EXPOSURE_CHOICES, AssemblySettings, SetLevels, plan
from nas.data.make.pair_writing import (
    COLUMNS,
    DROPPED_COLUMNS,
    DROPPED_FILE,
    PAIRS_FILE,
    dropped_rows,
    highest_numbers,
    read_rows,
    row_of,
    table_of,
    write_own,
    write_pair,
    write_table,
)
from nas.data.make.photograph import MakeSettings
from nas.data.make.photograph_state import FinishedPhotograph, finish, state_folder
from nas.data.make.report_page import KEPT, LEFT_OUT, REPORT_FILE, report_page
from nas.data.make.sources import BY_NAME, Photograph, Refused, find_photographs, left_over
from nas.data.pairs import Progress
from search_spaces.errors import DataError, UnknownNameError, UsageError
from search_spaces.system import checksums, stored
from search_spaces.system.atomic_write import clear_left_behind, write_durably
from search_spaces.system.file_errors import acting_on
from search_spaces.system.folder_lock import lock
from search_spaces.system.machine import usable_cores

PLANNED_FILE, SETTINGS_FILE, LEVELS_FILE = "planned.csv", "settings.json", "levels.json"
FOLDER_TARGET = "folder"
WRITING_THREADS = 4
MOST_REASONS = 3  # why no photograph gave a pair, in the message


@dataclass(frozen=True)
class MakeReport:
    """What became of the photographs and of their patches."""

    out: str
    photographs: int
    refused: tuple[Refused, ...]
    notes: tuple[str, ...]
    patches: Mapping[str, int]  # by reason; "kept" for those that none speaks against
    pairs: Mapping[str, int]  # by split, of the whole folder
    written: int  # by this run
    scenes: int
    bits: int
    black: int
    white: int
    pattern: str

    @property
    def check_options(self) -> str:
        """The options that say how to read the mosaics, where they are not the defaults."""
        levels = [("bits", self.bits, 10), ("black", self.black, 0), ("white", self.white, 2**self.bits - 1)]
        options = [f" --{name} {value}" for name, value, usual in levels if value != usual]
        return "".join(options) + ("" if self.pattern == "RGGB" else f" --pattern {self.pattern}")


def make_pairs(
    raw: Path,
    target: str,
    out: Path,
    settings: MakeSettings,
    assembly: AssemblySettings,
    *,
    match: str = BY_NAME,
    workers: int | None = None,
    progress: Progress | None = None,
) -> MakeReport:
    """Make pairs of every photograph that can be used; raises DataError where there are none at all."""
    settings.validate()
    _check(assembly, workers)
    photographs, refused = find_photographs(raw, target, match=match)
    unused = left_over(target, photographs)
    with _held(out):
        _require_same_settings(out, settings, assembly)
        finished, more = _finish_all(photographs, settings, out, workers or usable_cores(), progress)
        return _assembled(
            out,
            finished,
            [*refused, *more],
            settings,
            assembly,
            given=len(photographs) + len(refused),
            notes=[unused] if unused else [],
        )


def _check(assembly: AssemblySettings, workers: int | None) -> None:
    if assembly.exposure not in EXPOSURE_CHOICES:
        raise UnknownNameError("treatment of exposure", assembly.exposure, EXPOSURE_CHOICES)
    if not (0 <= assembly.val < 1 and 0 <= assembly.test < 1 and assembly.val + assembly.test < 1):
        raise UsageError(
            f"Shares for validation and test are at least 0 and together below 1, got {assembly.val} and "
            f"{assembly.test}; leave the larger part for training."
        )
    for name, value, least in (("--per-photo", assembly.per_photograph, 1), ("--workers", workers, 1)):
        if value is not None and value < least:
            raise UsageError(f"{name} is at least {least}, got {value}; give a larger number, or leave it out.")
    if assembly.gap_s < 0 or assembly.seed < 0:
        raise UsageError(f"--gap and --seed are at least 0, got {assembly.gap_s:g} and {assembly.seed}.")


@contextmanager
def _held(out: Path) -> Iterator[None]:
    """Hold an output folder, which is new, or of an earlier run of this command."""
    state = state_folder(out)
    if out.exists() and not out.is_dir():
        raise UsageError(f'"{out}" is a file; name a folder with --out.')
    theirs = [name for name in (*SPLITS, PAIRS_FILE, REPORT_FILE, DROPPED_FILE) if (out / name).exists()]
    if theirs and not state.is_dir():
        raise UsageError(f'"{out}" holds {theirs[0]} of something else; name a new folder with --out.')
    with acting_on(out, "write", DataError):
        state.mkdir(parents=True, exist_ok=True)
    try:
        with lock(state):
            clear_left_behind(out)
            yield
    except Timeout:
        raise UsageError(
            f'Another run is at work in "{out}"; wait for it, or name another folder with --out.'
        ) from None


def _require_same_settings(out: Path, settings: MakeSettings, assembly: AssemblySettings) -> None:
    """Raise UsageError where a folder was begun with other settings, for its pairs would be of two kinds."""
    path = state_folder(out) / SETTINGS_FILE
    now = json.loads(json.dumps({**asdict(settings), **asdict(assembly)}))
    if not path.exists():
        with acting_on(path, "write", DataError):
            write_durably(path, json.dumps(now).encode())
        return
    try:
        begun = stored.parse_json(stored.read_bytes(path))
    except (OSError, ValueError) as error:
        raise DataError(f'Cannot read "{path}": {error}; name a new folder with --out.') from None
    other = sorted(name for name in now if begun.get(name) != now[name]) if isinstance(begun, dict) else list(now)
    if other:
        raise UsageError(
            f'"{out}" was begun with another {", ".join(other)}; give the same options to continue, or name a new '
            "folder with --out."
        )


def _finish_all(
    photographs: Sequence[Photograph], settings: MakeSettings, out: Path, workers: int, progress: Progress | None
) -> tuple[list[FinishedPhotograph], list[Refused]]:
    """Make all photographs; return those of which there is a record in the order given, and the others."""
    folders: list[Path | Refused] = [Refused(each.name, "It was not reached.") for each in photographs]
    for done, (number, folder) in enumerate(_in_parallel(photographs, settings, out, workers), start=1):
        folders[number] = folder
        if progress is not None:
            progress(done, len(photographs))
    finished: dict[str, FinishedPhotograph] = {}
    refused = []
    for photograph, folder in zip(photographs, folders, strict=True):
        if isinstance(folder, Refused):
            refused.append(folder)
            continue
        result = FinishedPhotograph.read(folder)
        if result.key in finished:
            refused.append(Refused(photograph.name, f"It is a copy of {finished[result.key].record.name}."))
            continue
        finished[result.key] = result
        if result.record.refused is not None:
            refused.append(Refused(photograph.name, result.record.refused))
        elif not result.record.kept:
            refused.append(Refused(photograph.name, _none_kept(result)))
    return list(finished.values()), refused


def _none_kept(photograph: FinishedPhotograph) -> str:
    reasons = Counter(each.reason for each in photograph.record.judgements)
    counts = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    return f"None of its {len(photograph.record.judgements)} patches was kept ({counts}); look at it in {REPORT_FILE}."


def _in_parallel(
    photographs: Sequence[Photograph], settings: MakeSettings, out: Path, workers: int
) -> Iterator[tuple[int, Path | Refused]]:
    """Yield what becomes of each photograph as it is done; one at a time runs in this process, on all cores."""
    workers = min(workers, len(photographs))
    if workers <= 1:
        yield from ((number, finish(each, settings, out)) for number, each in enumerate(photographs))
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_begin_process) as pool:
        jobs = {pool.submit(finish, each, settings, out): number for number, each in enumerate(photographs)}
        try:
            for job in as_completed(jobs):
                yield jobs[job], job.result()
        except BrokenProcessPool:
            raise DataError(
                "A process that made pairs was killed, perhaps because memory ran out. The same command continues; use "
                "fewer --workers if it happens again."
            ) from None
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _begin_process() -> None:
    """Use one core, and end with the command: one that is killed for good ends none of its processes."""
    import cv2

    cv2.setNumThreads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # of LibRaw
    parent = parent_process()
    if parent is not None:
        Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


def _assembled(
    out: Path,
    finished: Sequence[FinishedPhotograph],
    refused: Sequence[Refused],
    settings: MakeSettings,
    assembly: AssemblySettings,
    *,
    given: int,
    notes: Sequence[str],
) -> MakeReport:
    """Write what the photographs gave, those of earlier runs among them."""
    state = state_folder(out)
    planned = read_rows(state / PLANNED_FILE)
    known = {each.key: each for each in finished}
    total = given + len({row["key"] for row in planned} - known.keys())
    for key in dict.fromkeys(row["key"] for row in planned):
        known.setdefault(key, FinishedPhotograph.read(state / "photographs" / key))
    splits: dict[str, Split] = {row["key"]: row["split"] for row in planned}  # type: ignore[misc]  # our own words
    decided = plan(
        sorted(known.values(), key=lambda each: (each.record.name, each.key)),
        assembly,
        levels=_read_levels(state),
        before=splits,
        numbers=highest_numbers(planned),
        black_levels=settings.black_levels,
    )
    if decided is None:
        _report_nothing(out, list(known.values()), refused, total)
    fmt = replace(settings.raw, pattern=settings.phase)
    rows = [*planned, *(row_of(pair, decided.levels, fmt) for pair in decided.pairs)]
    write_durably(state / LEVELS_FILE, json.dumps(checksums.summed(asdict(decided.levels))).encode())
    write_table(state / PLANNED_FILE, COLUMNS, rows)
    _write_files(out, rows, known)
    write_own(out / DROPPED_FILE, table_of(DROPPED_COLUMNS, dropped_rows(known.values())), state)
    write_own(out / PAIRS_FILE, table_of(COLUMNS, rows), state)
    every = [*refused, *decided.refused]
    report = MakeReport(
        out=str(out),
        photographs=total,
        refused=tuple(every),
        notes=(*notes, *decided.notes, *_notes_of(known.values())),
        patches=_counted(known.values(), {each.name for each in decided.refused}),
        pairs={split: sum(row["split"] == split for row in rows) for split in SPLITS},
        written=len(decided.pairs),
        scenes=len(decided.splits),
        bits=decided.levels.bits,
        black=decided.levels.black,
        white=decided.levels.white,
        pattern=settings.phase,
    )
    left_out = {each.name: each.why for each in decided.refused}
    page = report_page(report_facts(report), list(known.values()), rows, every, report.notes, left_out)
    write_own(out / REPORT_FILE, page.encode(), state)
    return report


def _read_levels(state: Path) -> SetLevels | None:
    path = state / LEVELS_FILE
    if not path.exists():
        return None
    try:
        return _LEVELS.read(checksums.without_sum(stored.parse_json(stored.read_bytes(path))))
    except (OSError, ValueError) as error:
        raise DataError(f'Cannot read "{path}": {error}; name a new folder with --out.') from None


_LEVELS: stored.Schema[SetLevels] = stored.Schema(SetLevels)


def _write_files(out: Path, rows: Iterable[Mapping[str, str]], known: Mapping[str, FinishedPhotograph]) -> None:
    """Write the files of rows that were not there when the last run ended."""
    there = {row["raw"] for row in read_rows(out / PAIRS_FILE)}
    with ThreadPoolExecutor(WRITING_THREADS) as pool:
        jobs = [pool.submit(write_pair, out, row, known[row["key"]]) for row in rows if row["raw"] not in there]
        for job in jobs:
            job.result()


def _report_nothing(
    out: Path, photographs: Sequence[FinishedPhotograph], refused: Sequence[Refused], total: int
) -> NoReturn:
    """Write why none of the photographs gave a pair, and raise DataError with the most frequent reasons."""
    state = state_folder(out)
    page = report_page({"photographs": f"{total}; none gave a pair"}, photographs, [], refused)
    write_own(out / DROPPED_FILE, table_of(DROPPED_COLUMNS, dropped_rows(photographs)), state)
    write_own(out / REPORT_FILE, page.encode(), state)
    groups: dict[str, list[str]] = {}
    for each in refused:
        groups.setdefault(each.why, []).append(each.name)
    reasons = sorted(groups.items(), key=lambda group: -len(group[1]))
    told = [f"{listed(names)}: {why}" for why, names in reasons[:MOST_REASONS]]
    more = [f"{len(reasons) - MOST_REASONS} more reasons are in {REPORT_FILE}."] * (len(reasons) > MOST_REASONS)
    raise DataError(" ".join([f"No pair could be made of {total} photographs.", *told, *more]))


def _counted(photographs: Iterable[FinishedPhotograph], left_out: Container[str]) -> dict[str, int]:
    """Return how many patches there are by what became of them; those of a photograph `left_out` make no pairs."""
    return dict(
        Counter(
            judgement.reason or (LEFT_OUT if each.record.name in left_out else KEPT)
            for each in photographs
            for judgement in each.record.judgements
        ).most_common()
    )


def _notes_of(photographs: Iterable[FinishedPhotograph]) -> list[str]:
    """Return every note on photographs once, with how many it is true of."""
    said: dict[str, list[str]] = {}
    for each in photographs:
        for note in each.record.notes:
            said.setdefault(note, []).append(each.record.name)
    return [
        f"{names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}: {note}" for note, names in said.items()
    ]


def report_facts(report: MakeReport) -> dict[str, str]:
    """Return the report as lines of a table."""
    pairs = ", ".join(f"{count} {split}" for split, count in report.pairs.items())
    return {
        "photographs": f"{report.photographs}, of {report.scenes} scenes; {len(report.refused)} gave no pairs",
        "patches": ", ".join(f"{count} {reason}" for reason, count in report.patches.items()),
        "pairs": pairs,
        "targets": "8 bits, sRGB",
        "mosaics": f"{report.bits} bits, black {report.black}, white {report.white}, {report.pattern}",
    }
