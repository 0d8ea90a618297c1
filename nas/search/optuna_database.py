"""A study as an Optuna database, `study.db`: written for tools such as optuna-dashboard, never read back.

It is made in memory from the records, in bulk, and replaces the file as a whole. Through Optuna's own functions, one
transaction a trial, a thousand trials took 85 s. Rungs are intermediate values by training steps; genes are text; what
else is known are user attributes. Values are those at which the study compares its candidates, and only these count as
complete: what stopped at a lower rung, or repeats another network, is pruned. So the tools name the best that we name.
"""

import json
import sqlite3
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution, distribution_to_json
from optuna.storages import RDBStorage
from optuna.study._constrained_optimization import _CONSTRAINTS_KEY
from optuna.study.study import _SYSTEM_ATTR_METRIC_NAMES
from optuna.trial import TrialState
from sqlalchemy.pool import StaticPool

from nas.search import verdicts
from nas.search.candidate import CandidateRecord
from nas.search.optuna_sampler import CONSTRAINT, Expected, expected_trials
from nas.search.score import final_score
from nas.search.study import RUN_FILE, StudyRecord
from nas.search.successive_halving import OBJECTIVES
from search_spaces.errors import IspNasError
from search_spaces.spec import GENES
from search_spaces.system import stored
from search_spaces.system.atomic_write import write_durably

# While a search runs, the file is written no more often than this, and takes no more than this share of the time.
LEAST_INTERVAL_S, MOST_SHARE = 60.0, 0.01
PATIENCE_S = 2.0  # with a program that writes to the file
Row = tuple[Any, ...]
# Optuna offers no way to add trials in bulk; its tables are the format of its files, kept from version to version.
TABLES = {
    "trials": ("trial_id", "number", "study_id", "state", "datetime_start", "datetime_complete"),
    "trial_params": ("trial_id", "param_name", "param_value", "distribution_json"),
    "trial_values": ("trial_id", "objective", "value", "value_type"),
    "trial_intermediate_values": ("trial_id", "step", "intermediate_value", "intermediate_value_type"),
    "trial_system_attributes": ("trial_id", "key", "value_json"),
    "trial_user_attributes": ("trial_id", "key", "value_json"),
}
_FINITE = "FINITE"


class DatabaseFile:
    """The `study.db` of one study, written now and then during a search and at its end."""

    def __init__(self, study: StudyRecord, on_message: Callable[[str], None] = lambda _: None) -> None:
        """`on_message` gets a sentence where the file that is there is not as it was left."""
        self._study, self._on_message, self._path = study, on_message, study.database
        self._digest = study.folder / f".{self._path.name}.sha256"  # of the file as it was written
        self._written = -1  # the study's version that the file holds
        self._due_s = time.monotonic() + LEAST_INTERVAL_S
        self._messages_sent: set[str] = set()

    def write_if_due(self) -> None:
        """Write what is new, unless the file was written a moment ago."""
        if time.monotonic() >= self._due_s:
            self.write()

    def write(self) -> None:
        """Write what is new, where the file is this study's; a file that cannot be written stops nothing."""
        if self._written == self._study.version or not self._is_free():
            return
        begun = time.monotonic()
        content = to_bytes(self._study)
        try:
            write_durably(self._path, content)
            for stale in _journals(self._path):
                stale.unlink(missing_ok=True)  # it would be played into the new file
            write_durably(self._digest, sha256(content).hexdigest().encode())
        except OSError as error:
            self._tell(f"{self._path} cannot be written ({error.strerror}); the records hold everything.")
            return
        self._written = self._study.version
        self._due_s = time.monotonic() + max(LEAST_INTERVAL_S, (time.monotonic() - begun) / MOST_SHARE)

    def _is_free(self) -> bool:
        """Tell whether the file may be replaced; put a damaged one aside."""
        try:
            content = stored.read_bytes(self._path)
        except FileNotFoundError:
            return True
        except OSError as error:
            self._tell(f"{self._path} cannot be read ({error.strerror}) and is left as it is.")
            return False
        if _is_in_use(self._path):
            self._tell(f"{self._path.name} is in use by another program and is left as it is for now.")
            return False
        if self._is_as_left(content):
            return True
        return self._judge(content)

    def _is_as_left(self, content: bytes) -> bool:
        try:
            return stored.read_bytes(self._digest) == sha256(content).hexdigest().encode()
        except OSError:
            return False

    def _judge(self, content: bytes) -> bool:
        name = self._path.name
        try:
            studies = _studies_in(content)
        except sqlite3.DatabaseError as error:
            aside = _set_aside(self._path)
            self._tell(f"{name} was damaged ({error}); it was rebuilt from the records, the old file is {aside.name}.")
            return True
        if studies is not None and self._study.config.name not in studies:
            self._tell(f"{self._path} holds something else than this study and is left as it is; move it elsewhere.")
            return False
        self._tell(f"{name} was not as the search left it; it was rebuilt from the records, which alone count.")
        return True

    def _tell(self, sentence: str) -> None:
        if sentence not in self._messages_sent:
            self._messages_sent.add(sentence)
            self._on_message(sentence)


def _is_in_use(path: Path) -> bool:
    """Tell whether a program is writing to a database, having waited for it."""
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=PATIENCE_S)) as opened:
            opened.execute("PRAGMA schema_version").fetchone()
    except sqlite3.DatabaseError as error:
        return getattr(error, "sqlite_errorcode", None) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
    return False


def _studies_in(content: bytes) -> set[str] | None:
    """Return the names of the studies in an Optuna database, nothing for another one; None where it holds none yet.

    Raises sqlite3.DatabaseError where it is none, or damaged.
    """
    if not content:
        return None
    with closing(sqlite3.connect(":memory:")) as opened:
        opened.deserialize(content)  # by its content: SQLite opens no path of more than 512 bytes
        answer = opened.execute("PRAGMA integrity_check").fetchone()[0]
        if answer != "ok":
            raise sqlite3.DatabaseError(answer.splitlines()[0])
        tables = {name for (name,) in opened.execute("SELECT name FROM sqlite_master")}
        if not {"studies", "trials", "trial_params"} <= tables:
            return set()
        columns = {row[1] for row in opened.execute("PRAGMA table_info(studies)")}
        if "study_name" not in columns:
            return set()
        return {str(name) for (name,) in opened.execute("SELECT study_name FROM studies")} or None


def _journals(path: Path) -> list[Path]:
    return [path.with_name(f"{path.name}{ending}") for ending in ("-journal", "-wal", "-shm")]


def _set_aside(path: Path) -> Path:
    numbers = range(1, 10_000)
    free = next(p for n in numbers if not (p := path.with_name(f"{path.name}.damaged-{n}")).exists())
    for journal, aside in zip(_journals(path), _journals(free), strict=True):
        if journal.exists():
            journal.rename(aside)
    return path.rename(free)


def to_bytes(study: StudyRecord) -> bytes:
    """Return the study as the content of an SQLite file."""
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    storage = RDBStorage("sqlite://", engine_kwargs={"creator": lambda: connection, "poolclass": StaticPool})
    try:
        made = optuna.create_study(
            storage=storage, study_name=study.config.name, directions=OBJECTIVES[study.config.objective]
        )
        storage.set_study_system_attr(made._study_id, _SYSTEM_ATTR_METRIC_NAMES, metric_names(study))
        for name, value in _attributes(study).items():
            made.set_user_attr(name, value)
        for table, rows in _rows(study, made._study_id).items():
            columns = TABLES[table]
            places = ", ".join("?" * len(columns))
            connection.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})", rows)
        connection.commit()
        return connection.serialize()
    finally:
        storage.engine.dispose()
        connection.close()


def metric_names(study: StudyRecord) -> list[str]:
    """Return what the objectives are, with units and training steps."""
    steps = study.ladder[_compared_at(study)]
    if study.config.objective == "score":
        return [f"score in dB at {steps} steps"]
    return [f"PSNR in dB at {steps} steps", "predicted runtime in ms"]


def _compared_at(study: StudyRecord) -> int:
    """Return the rung whose values the trials have: that of `isp-nas best`, or of the front where that is asked for."""
    return study.comparison_rung(finals=study.config.objective == "score") if study.trained() else 0


def _complete(study: StudyRecord) -> Mapping[int, list[float]]:
    """Return the values of the trials that count as complete, by their numbers."""
    if not study.trained():
        return {}
    rung = _compared_at(study)
    if study.config.objective == "score":
        return {c.trial: [c.score(rung)] for c in study.compared()}
    return {c.trial: [c.at(rung).psnr_db, c.runtime_ms or 0.0] for c in study.at_rung(rung)}


def _attributes(study: StudyRecord) -> dict[str, Any]:
    config = study.config
    attributes: dict[str, Any] = {"device": config.device, "space": config.space, "data": config.data.source}
    attributes |= {
        "rungs": ", ".join(map(str, config.rungs)),
        "intermediate values": "by training steps, finals included",
    }
    if not study.trained():
        return attributes
    best, verdict = study.best(), verdicts.verdict_of(study)
    attributes |= {"best trial": best.trial, "best score": best.score(study.comparison_rung())}
    return attributes | ({"verdict": verdict.sentence} if verdict else {})


def _rows(study: StudyRecord, study_id: int) -> dict[str, list[Row]]:
    """Return the rows of all tables about trials."""
    clock, genes, complete = _Clock(study), _Genes(study), _complete(study)
    rows: dict[str, list[Row]] = {table: [] for table in TABLES}
    for candidate, expected in zip(study.candidates.values(), expected_trials(study), strict=True):
        number = candidate.trial
        values, state = complete.get(number), expected.state
        if state is TrialState.COMPLETE and values is None:
            state = TrialState.PRUNED
        start, end = clock.at(candidate.asked_s), clock.at(candidate.ended_s)
        rows["trials"].append((number + 1, number, study_id, state.name, start, end if state.is_finished() else None))
        parts = {
            "trial_params": genes.of(candidate),
            "trial_values": ((place, value, _FINITE) for place, value in enumerate(values or ())),
            "trial_intermediate_values": _rungs(study, candidate),
            "trial_system_attributes": _constraints(expected),
            "trial_user_attributes": _facts(candidate),
        }
        for table, table_rows in parts.items():
            rows[table] += ((number + 1, *row) for row in table_rows)
    if study.trained():
        rows["trial_user_attributes"].append((study.best().trial + 1, "best", "true"))
    return rows


class _Clock:
    """When things happened, as Optuna stores it: records tell seconds of searching, and when each session began."""

    def __init__(self, study: StudyRecord) -> None:
        created = _created(study)
        known = [(s.elapsed_s, datetime.fromisoformat(s.began)) for s in study.sessions if s.began]
        # What began before sessions were dated is counted from the creation of the study.
        self._begun = [(0.0, created), *((s, when.astimezone(UTC).replace(tzinfo=None)) for s, when in known)]

    def at(self, elapsed_s: float) -> str:
        """Return the date at which so many seconds had been searched."""
        place = max(0, bisect_right(self._begun, elapsed_s, key=lambda each: each[0]) - 1)
        since_s, begun = self._begun[place]
        return str(begun + timedelta(seconds=elapsed_s - since_s, microseconds=1))


def _created(study: StudyRecord) -> datetime:
    """Return when the search began, as Optuna stores it: in UTC, and without saying so."""
    path = study.folder / RUN_FILE
    try:
        text = stored.parse_toml(stored.read_bytes(path))["provenance"]["created"]
        return datetime.fromisoformat(text).astimezone(UTC).replace(tzinfo=None)
    except (OSError, ValueError, KeyError, TypeError, IspNasError):
        return datetime(2000, 1, 1)


class _Genes:
    """Genes as text, of those values that occur in a study."""

    def __init__(self, study: StudyRecord) -> None:
        parts = {
            name: {c.genes.get(name, gene.default) for c in study.candidates.values()} for name, gene in GENES.items()
        }
        self._index = {
            name: {value: float(place) for place, value in enumerate(v for v in gene.legal if v in parts[name])}
            for name, gene in GENES.items()
        }
        self._json = {
            name: distribution_to_json(CategoricalDistribution([str(value) for value in places]))
            for name, places in self._index.items()
            if places
        }

    def of(self, candidate: CandidateRecord) -> Iterator[Row]:
        for name, gene in GENES.items():
            yield name, self._index[name][candidate.genes.get(name, gene.default)], self._json[name]


def _rungs(study: StudyRecord, candidate: CandidateRecord) -> Iterator[Row]:
    rungs = [*candidate.rungs, *([study.final_rung] if candidate.finals else [])]
    for reached in (candidate.at(rung) for rung in rungs):
        scored = study.config.objective == "score" and candidate.runtime_ms is not None
        value = final_score(reached.psnr_db, candidate.runtime_ms or 0.0) if scored else reached.psnr_db
        yield reached.steps, value, _FINITE


def _constraints(expected: Expected) -> Iterator[Row]:
    if expected.constraint is not None:
        yield f"{_CONSTRAINTS_KEY}:{CONSTRAINT}", repr(float(expected.constraint))


def _facts(candidate: CandidateRecord) -> Iterator[Row]:
    reached = candidate.longest
    facts = {
        "verdict": candidate.verdict,
        "design": candidate.name,
        "network": candidate.spec.description,
        "runtime in ms": candidate.runtime_ms,
        "maps in MB": candidate.peak_memory_mb,
        "steps": reached and reached.steps,
        "PSNR in dB": reached and reached.psnr_db,
        "SSIM": reached and reached.ssim,
        "repeats trial": candidate.duplicate_of,
        "reason": candidate.failure or candidate.reason or None,
    }
    yield from ((name, json.dumps(value, ensure_ascii=False)) for name, value in facts.items() if value is not None)
