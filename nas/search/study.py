"""A study on disk: what was asked, what came of it, and everything needed to repeat it.

    results/<study>/run.toml        settings, versions, fingerprints: written once, at the start
                    records.jsonl   one durable line per event: the truth
                    study.db        the same as an Optuna database, for tools that read one; nothing reads it back
                    checkpoints/    one training state per candidate

The records alone say where a search stands. A line is written before anything acts on it, so a crash at
any moment loses at most the rung in flight.
"""

import gc
from bisect import insort
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from nas.search.candidate import CandidateRecord, Rung, least_finals
from nas.search.records import RecordFile
from nas.search.study_config import StudyConfig, digest, without_none
from search_spaces.errors import IspNasError, StudyError, UnknownNameError
from search_spaces.system import stored
from search_spaces.system.atomic_write import write_durably
from search_spaces.system.file_errors import listed

RUN_FILE = "run.toml"
RECORDS_FILE = "records.jsonl"
DATABASE_FILE = "study.db"
FEWEST_TO_COMPARE = 3
FEWEST_FINALISTS = 2


@dataclass(frozen=True)
class Session:
    """A search on a study: one start of the command."""

    elapsed_s: float  # of the study when it began
    budget: str
    workers: int
    began: str | None  # as ISO 8601; None in records made before it was written down
    backend: str | None = None  # of this machine, cpu or gpu; None where it trains nothing, or in older records
    designs: Mapping[str, Sequence[str]] | None = None  # likely, unlikely and refused ones; None in older records


@dataclass(frozen=True)
class LostTraining:
    """A training that was lost with what had it."""

    trial: int
    host: str | None  # None: the machine of the search
    reason: str
    elapsed_s: float


class StudyRecord:
    """An open study: settings, candidates by trial number, and the file that takes new records.

    What is asked of it before every decision is kept as records come in, and looked up.
    """

    def __init__(self, folder: Path, config: StudyConfig, settings: Mapping[str, Any] | None = None) -> None:
        """`settings` are those of run.toml as it stands, which may be of before a setting existed."""
        self.folder = folder
        self.config = config
        self.settings_digest = digest(settings or config.to_dict())
        self.candidates: dict[int, CandidateRecord] = {}
        # Test quality by (trial, steps, seed of the final; None: of the rungs).
        self.tests: dict[tuple[int, int, int | None], dict[str, float | None]] = {}
        self.elapsed_s = 0.0
        self.sessions: list[Session] = []
        self.losses: list[LostTraining] = []
        self._session_workers: set[int] = set()  # that have trained in the last session
        self.trainings_on: Counter[str] = Counter()  # by host, where records tell it
        self.backend: str | None = None  # of the last training, cpu or gpu, where records tell it
        self.version = 0  # rises with every record
        self.waiting: dict[int, CandidateRecord] = {}  # to be trained, and not yet at the first rung
        self.repeats: dict[int, list[CandidateRecord]] = defaultdict(list)  # duplicates by the trial that they repeat
        self.verdicts: Counter[str] = Counter()
        self.train_s, self.compile_s = 0.0, 0.0  # of all trainings
        self.finals, self.finals_s = 0, 0.0  # how many there are, and their seconds
        self._designs: list[CandidateRecord] = []  # of the first so many candidates
        self._looked_through = 0
        self._first_rungs_s = 0.0  # seconds of all first rungs together
        self._reached: dict[int, list[CandidateRecord]] = defaultdict(list)  # by rung, in order of trials
        # For each rung the negative score and the trial of what reached it, the best first.
        self.ranked: list[list[tuple[float, int]]] = [[] for _ in config.rungs]
        self._failed: list[CandidateRecord] = []
        self._best: tuple[int, CandidateRecord] | None = None
        self._file = RecordFile(folder / RECORDS_FILE)
        with _no_garbage_collection():
            self._read()

    def _read(self) -> None:
        for number, record in enumerate(self._file.read(), start=1):
            try:
                self._apply(record)
            except ValueError as error:
                raise self._file.damage(number, str(error)) from None

    @property
    def database(self) -> Path:
        """Where the study is written as an Optuna database."""
        return self.folder / DATABASE_FILE

    @property
    def last_workers(self) -> int | None:
        """How many workers the last session began with, or how many have trained in it: a cluster's come later."""
        return max(self.sessions[-1].workers, len(self._session_workers)) if self.sessions else None

    def checkpoint(self, candidate: CandidateRecord) -> Path:
        """Return where the training state of `candidate` is kept."""
        return self.folder / "checkpoints" / f"{candidate.trial:05d}-{candidate.spec.hash}.safetensors"

    def candidate_of(self, state: str) -> CandidateRecord | None:
        """Return the candidate of which a state called so would be, of a rung or a final; None where there is none."""
        trial = state.partition("-")[0]
        return self.candidates.get(int(trial)) if trial.isascii() and trial.isdigit() else None

    def final_checkpoint(self, candidate: CandidateRecord, seed: int) -> Path:
        """Return where the state of one of the candidate's finals is kept."""
        return self.checkpoint(candidate).with_suffix(f".final-{seed}.safetensors")

    def longest_checkpoint(self, candidate: CandidateRecord) -> Path:
        """Return the state that a candidate is exported from: its best final, or what it climbed the rungs with."""
        seed = candidate.best_seed
        return self.checkpoint(candidate) if seed is None else self.final_checkpoint(candidate, seed)

    @property
    def ladder(self) -> tuple[int, ...]:
        """The steps at which candidates are compared: those of the rungs, and of the finals above them."""
        return (*self.config.rungs, *([self.config.final_steps] if self.config.final_steps else []))

    @property
    def final_rung(self) -> int:
        """The index of the finals in the ladder."""
        return len(self.config.rungs)

    @property
    def counts(self) -> tuple[int, ...]:
        """How many reached each rung, and how many finals there are: the results are the same while these are."""
        return (*map(len, self.ranked), self.finals)

    def trained(self) -> list[CandidateRecord]:
        """Return the candidates that reached at least one rung."""
        return [*self._reached[0]]

    @property
    def designs(self) -> Sequence[CandidateRecord]:
        """The published designs among the candidates, in order of trials."""
        fresh = (self.candidates[trial] for trial in range(self._looked_through, len(self.candidates)))
        self._designs += [candidate for candidate in fresh if candidate.name]
        self._looked_through = len(self.candidates)
        return self._designs

    @property
    def first_rung_s(self) -> float:
        """The mean seconds of a first rung; 0 where there is none."""
        return self._first_rungs_s / len(self._reached[0]) if self._reached[0] else 0.0

    @property
    def failed(self) -> Sequence[CandidateRecord]:
        """The candidates that failed at some rung."""
        return self._failed

    @property
    def finished(self) -> int:
        """How many candidates have used their share of a budget that counts them."""
        return len(self._reached[0]) + sum(not c.rungs for c in self._failed)

    def at_rung(self, rung: int) -> list[CandidateRecord]:
        """Return the candidates that reached `rung`: the ones that may be compared there."""
        return [*self._reached[rung]]

    def highest_rung(self) -> int:
        """Return the highest rung that any candidate reached; raise StudyError where nothing is trained."""
        reached = [rung for rung, candidates in self._reached.items() if candidates]
        if not reached:
            over = self.verdicts["infeasible"] and not self.verdicts["train"]
            raise StudyError(
                f"Study {self.config.name} has no trained candidate: nothing that was proposed is within its limits."
                if over
                else f"Study {self.config.name} has no trained candidate yet; run `isp-nas search` on it first."
            )
        return max(reached)

    def comparison_rung(self, *, finals: bool = True) -> int:
        """Return where candidates are compared: at the finals, or the highest rung that three reached, or the first.

        A comparison of one or two, published designs as a rule, says less than one at a lower rung; the finals are
        between the best found and the best design, so two will do.
        """
        if finals and len(self._reached[self.final_rung]) >= FEWEST_FINALISTS:
            return self.final_rung
        below = range(min(self.highest_rung(), self.final_rung - 1), -1, -1)
        reached = (rung for rung in below if len(self._reached[rung]) >= FEWEST_TO_COMPARE)
        return next(reached, 0)

    def best(self) -> CandidateRecord:
        """Return the candidate with the best score at the rung of comparison; of finals, the best mean of as many."""
        if self._best is None or self._best[0] != self.version:
            self._best = self.version, self._best_now()
        return self._best[1]

    def _best_now(self) -> CandidateRecord:
        rung = self.comparison_rung()
        return max(self.compared(), key=lambda c: c.score(rung))

    def compared(self) -> list[CandidateRecord]:
        """Return the candidates among which the best is chosen, all at the rung of comparison."""
        rung = self.comparison_rung()
        compared = self.at_rung(rung)
        if rung == self.final_rung:
            counts = ([len(c.finals) for c in compared if (c.name is None) is kind] for kind in (True, False))
            least = least_finals(*counts)
            compared = [c for c in compared if len(c.finals) >= least]
        return compared

    def candidate(self, trial: int) -> CandidateRecord:
        """Return one candidate; raise UnknownNameError where the study has no such trial."""
        if trial not in self.candidates:
            known = [c.trial for c in self.trained()]
            raise UnknownNameError(f"trial of study {self.config.name}:", trial, map(str, known))
        return self.candidates[trial]

    def append(self, event: str, **values: Any) -> None:
        """Write one record durably, then take it into account; raise StudyError where the disk does not take it."""
        record = {"event": event, **without_none(values), "elapsed_s": round(self.elapsed_s, 3)}
        try:
            written = self._file.append(record)
        except OSError as error:
            raise StudyError(
                f"{self.folder / RECORDS_FILE} cannot be written ({error.strerror}); free space or mend the "
                "permissions, then the same command continues."
            ) from None
        self._apply(written)

    def close(self) -> None:
        """Close the record file."""
        self._file.close()

    def _apply(self, record: dict[str, Any]) -> None:
        """Take a record into account; raise ValueError where it contradicts the ones before it."""
        values = dict(record)
        self.elapsed_s = max(self.elapsed_s, values.pop("elapsed_s"))
        self.version += 1
        _EVENTS[values.pop("event")](self, values)

    def _session(self, values: dict[str, Any]) -> None:
        began = values.get("began")
        if began is not None and datetime.fromisoformat(began).tzinfo is None:
            raise ValueError(f"its date {began} has no offset from UTC")
        more = values.get("backend"), values.get("designs")
        self.sessions.append(Session(self.elapsed_s, values["budget"], values["workers"], began, *more))
        self._session_workers.clear()
        if values.get("settings", self.settings_digest) != self.settings_digest:
            raise StudyError(
                f"{self.folder / RUN_FILE} has other settings than those with which the records were made; restore it, "
                "or start a new study."
            )

    def _asked(self, values: dict[str, Any]) -> None:
        candidate = CandidateRecord(**values, asked_s=self.elapsed_s, ended_s=self.elapsed_s)
        if candidate.trial != len(self.candidates):
            raise ValueError(f"trial {candidate.trial} comes where trial {len(self.candidates)} is expected")
        self._require_price(candidate)
        self._require_original(candidate)
        self.candidates[candidate.trial] = candidate
        self.verdicts[candidate.verdict] += 1
        if candidate.verdict == "train":
            self.waiting[candidate.trial] = candidate
        if candidate.duplicate_of is not None:
            self.repeats[candidate.duplicate_of].append(candidate)

    def _require_price(self, candidate: CandidateRecord) -> None:
        low, middle, high = candidate.runtime_low_ms, candidate.runtime_ms, candidate.runtime_high_ms
        if candidate.verdict in ("train", "infeasible") and None in (low, middle, high):
            raise ValueError(f'a candidate of verdict "{candidate.verdict}" needs a predicted runtime')
        if low is not None and middle is not None and high is not None and not low <= middle <= high:
            raise ValueError(f"the runtime {middle} ms does not lie in its interval, {low} to {high} ms")

    def _require_original(self, candidate: CandidateRecord) -> None:
        if (candidate.verdict == "duplicate") != (candidate.duplicate_of is not None):
            raise ValueError('duplicate_of is there for the verdict "duplicate", and for no other')
        if candidate.duplicate_of is not None and self._known(candidate.duplicate_of).verdict != "train":
            raise ValueError(f"trial {candidate.duplicate_of}, which it repeats, is not one that is trained")

    def _known(self, trial: int) -> CandidateRecord:
        if trial not in self.candidates:
            raise ValueError(f"trial {trial} was not asked for before")
        return self.candidates[trial]

    def _trainable(self, trial: int) -> CandidateRecord:
        candidate = self._known(trial)
        if candidate.verdict != "train":
            raise ValueError(f'trial {trial} is not trained, its verdict is "{candidate.verdict}"')
        return candidate

    def _rung_reached(self, values: dict[str, Any]) -> None:
        candidate, reached = self._trainable(values.pop("trial")), Rung(**values)
        if reached.rung in candidate.rungs:
            raise ValueError(f"trial {candidate.trial} reached rung {reached.rung} before")
        if reached.rung != len(candidate.rungs) or reached.rung >= self.final_rung:
            raise ValueError(f"trial {candidate.trial} cannot reach rung {reached.rung} after {len(candidate.rungs)}")
        self._require_steps(reached, self.config.rungs[reached.rung])
        candidate.rungs[reached.rung] = reached
        self._count(candidate, reached)
        _insert(self._reached[reached.rung], candidate)
        insort(self.ranked[reached.rung], (-candidate.score(reached.rung), candidate.trial))
        if reached.rung == 0:
            self.waiting.pop(candidate.trial, None)
            self._first_rungs_s += reached.seconds

    def _require_steps(self, reached: Rung, steps: int | None) -> None:
        if reached.steps != steps:
            raise ValueError(f"{reached.steps} steps are not the {steps} of that rung")

    def _final(self, values: dict[str, Any]) -> None:
        candidate, seed = self._trainable(values.pop("trial")), values.pop("seed")
        if not candidate.rungs:
            raise ValueError(f"trial {candidate.trial} has a final before its first rung")
        final = Rung(rung=self.final_rung, **values)
        self._require_steps(final, self.config.final_steps)
        if seed in candidate.finals:
            raise ValueError(f"trial {candidate.trial} has a final from seed {seed} before")
        if not candidate.finals:
            _insert(self._reached[self.final_rung], candidate)
        candidate.finals[seed] = final
        self._count(candidate, final)
        self.finals += 1
        self.finals_s += final.seconds

    def _count(self, candidate: CandidateRecord, training: Rung) -> None:
        candidate.losses = 0
        self.backend = training.backend or (self.sessions[-1].backend if self.sessions else None) or self.backend
        if training.worker is not None:
            self._session_workers.add(training.worker)
        if training.host is not None:
            self.trainings_on[training.host] += 1
        candidate.ended_s = self.elapsed_s
        self.train_s += training.train_s
        self.compile_s += training.compile_s

    def _final_failed(self, values: dict[str, Any]) -> None:
        candidate = self._trainable(values["trial"])
        candidate.final_failures[values["seed"]] = values["reason"]
        candidate.losses = 0

    def _candidate_failed(self, values: dict[str, Any]) -> None:
        candidate = self._trainable(values["trial"])
        if not candidate.failure:
            self._failed.append(candidate)
        candidate.failure = values["reason"]
        self.waiting.pop(candidate.trial, None)

    def _lost(self, values: dict[str, Any]) -> None:
        candidate = self._trainable(values["trial"])
        candidate.losses += 1
        self.losses.append(LostTraining(values["trial"], values.get("host"), values["reason"], self.elapsed_s))

    def _moved(self, values: dict[str, Any]) -> None:
        self.config = replace(self.config, data=replace(self.config.data, source=values["source"]))

    def _tested(self, values: dict[str, Any]) -> None:
        candidate, steps, seed = self._known(values["trial"]), values["steps"], values.get("seed")
        trainings = [*candidate.rungs.values(), *candidate.finals.values()]
        if steps not in [training.steps for training in trainings] or seed not in (None, *candidate.finals):
            source = "" if seed is None else f" from seed {seed}"
            raise ValueError(f"trial {candidate.trial} has no training of {steps} steps{source} to be judged")
        quality = {name: values.get(name) for name in ("test_psnr_db", "test_ssim")}
        if len({figure is None for figure in quality.values()}) > 1:
            raise ValueError("test_psnr_db and test_ssim are there together, or neither is")
        if self.tests.setdefault((candidate.trial, steps, seed), quality) != quality:
            raise ValueError(f"trial {candidate.trial} was judged on the test pairs before, with other figures")


def _insert(candidates: list[CandidateRecord], candidate: CandidateRecord) -> None:
    """Insert in order of trials; most come in that order."""
    if not candidates or candidates[-1].trial < candidate.trial:
        candidates.append(candidate)
    else:
        insort(candidates, candidate, key=lambda c: c.trial)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Hold the collector back while many objects are made that all stay: it takes a fifth of the time otherwise."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


_EVENTS = {
    "test": StudyRecord._tested,
    "moved": StudyRecord._moved,
    "lost": StudyRecord._lost,
    "session": StudyRecord._session,
    "asked": StudyRecord._asked,
    "rung": StudyRecord._rung_reached,
    "failed": StudyRecord._candidate_failed,
    "final": StudyRecord._final,
    "final_failed": StudyRecord._final_failed,
}


def create(folder: Path, config: StudyConfig, *, provenance: Mapping[str, Any]) -> StudyRecord:
    """Make a new study in `folder`; raise StudyError where it cannot be written."""
    import tomli_w

    text = tomli_w.dumps({"study": config.to_dict(), "provenance": without_none(provenance)})
    try:
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        write_durably(folder / RUN_FILE, text.encode())
    except OSError as error:
        raise StudyError(
            f"The study cannot be written to {folder} ({error.strerror}); choose a writable folder with --results."
        ) from None
    return StudyRecord(folder, config)


def exists(folder: Path) -> bool:
    """Tell whether `folder` holds a study."""
    return (folder / RUN_FILE).exists()  # also one that is no file: whoever reads it says so


def load(folder: Path) -> StudyRecord:
    """Open the study in `folder`; raise StudyError where it is missing or damaged."""
    if not exists(folder):
        raise StudyError(f"{folder} holds no study ({RUN_FILE} is missing); start one with `isp-nas search`.")
    path = folder / RUN_FILE
    try:
        settings = stored.parse_toml(stored.read_bytes(path)).get("study")
        if settings is None:
            raise ValueError('the table "study" is missing')
        # A folder that was copied or renamed is a study of its own: people know and type the name of the folder.
        config = replace(StudyConfig.from_dict(settings), name=folder.absolute().name)
    except OSError as error:
        raise StudyError(f"{path} cannot be read ({error.strerror}); mend its permissions.") from None
    except (ValueError, IspNasError) as error:
        raise StudyError(
            f"{path} is damaged ({str(error).removesuffix('.')}); restore it or start a new study."
        ) from None
    return StudyRecord(folder, config, settings)


def events(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a study as they were written, in their order; raise StudyError for a damaged one."""
    return RecordFile(folder / RECORDS_FILE).read()


def names(results: Path) -> list[str]:
    """Return the studies in a results folder, the most recently used last."""
    files = [path / RECORDS_FILE for path in listed(results, StudyError) if exists(path)]
    return [path.parent.name for path in sorted(files, key=lambda path: path.stat().st_mtime if path.exists() else 0)]
