"""A study on disk: what was asked, what came of it, and everything needed to repeat it.

    results/<study>/run.toml        settings, versions, fingerprints: written once, at the start
                    records.jsonl   one durable line per event: the truth
                    study.db        Optuna's memory, rebuilt from the records when it disagrees with them
                    checkpoints/    one training state per candidate

The records alone say where a search stands. A line is written before anything acts on it, so a crash at
any moment loses at most the rung in flight.
"""

import errno
import json
import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from nas.data.pairs import DataConfig
from nas.search.score import final_score
from nas.train.recipe import Recipe
from search_spaces.designs import design_name
from search_spaces.errors import IspNasError, StudyError, UnknownNameError
from search_spaces.spec import ArchSpec, Value
from search_spaces.system.atomic_write import write_durably

RUN_FILE = "run.toml"
RECORDS_FILE = "records.jsonl"
DATABASE_FILE = "study.db"
FEWEST_TO_COMPARE = 3
FEWEST_FINALISTS = 2
FULL_FINALS = 3  # trainings of one network, after which further ones change little


@dataclass(frozen=True)
class StudyConfig:
    """The settings that make two runs the same study. Fixed when the study is created."""

    name: str
    data: DataConfig
    data_fingerprint: str
    device: str
    device_digest: str
    space: str
    space_digest: str
    objective: str
    sampler: str
    seed: int
    rungs: tuple[int, ...]
    recipe: Recipe
    max_runtime_ms: float | None = None
    max_memory_mb: float | None = None  # of maps at once, float32, at Full HD
    allow_fallback: bool = False  # networks of which the delegate runs only a part are priced, not refused
    final_steps: int | None = None  # how long finals train the best candidates and designs; None: no finals
    final_share: float = 0.0  # of a budget in time, kept for the finals
    prior: tuple[str, ...] = ()  # tables of other pairs that the sampler "model" begins with, as in nas.search.prior
    vgg: str | None = None  # SHA-256 of VGG-19's weights, where the loss vgg takes part

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain data, None left out (TOML has no null)."""
        plain = asdict(self) | {"data": self.data.to_dict(), "rungs": list(self.rungs), "prior": list(self.prior)}
        return _without_none(plain)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "StudyConfig":
        """Read what `to_dict` wrote."""
        read = {"data": DataConfig.from_dict(data["data"]), "recipe": Recipe.from_dict(data["recipe"])}
        return cls(**{**data, **read, "rungs": tuple(data["rungs"]), "prior": tuple(data.get("prior", ()))})


def _without_none(data: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in data.items() if value is not None}
    return {name: _without_none(value) if isinstance(value, Mapping) else value for name, value in kept.items()}


@dataclass(frozen=True)
class Rung:
    """What training to one rung came to."""

    rung: int
    steps: int
    psnr_db: float
    ssim: float
    loss: float
    train_s: float
    compile_s: float
    evaluate_s: float
    memory_mb: float | None
    rate_share: float = 1.0  # of the recipe's learning rates; below one since the loss diverged

    @property
    def seconds(self) -> float:
        """Everything that the rung cost."""
        return self.train_s + self.compile_s + self.evaluate_s


@dataclass
class Candidate:
    """One proposal and what has become of it; `verdict` tells why it is trained or not."""

    trial: int
    spec: ArchSpec
    genes: dict[str, Value]
    verdict: str  # train | infeasible | unsupported | duplicate
    runtime_ms: float | None = None
    runtime_low_ms: float | None = None
    runtime_high_ms: float | None = None
    peak_memory_mb: float | None = None  # None in records made before it was known
    reason: str = ""
    violation: float | None = None  # how far over the limits, in the unit of nas.search.constraints.Limits.excess
    duplicate_of: int | None = None
    sampler_notes: dict[str, Any] = field(default_factory=dict)  # what the sampler keeps with a trial
    rungs: dict[int, Rung] = field(default_factory=dict)
    finals: dict[int, Rung] = field(default_factory=dict)  # trainings from fresh weights to the final steps, by seed
    final_failures: dict[int, str] = field(default_factory=dict)  # reasons, by seed
    failure: str = ""

    @property
    def name(self) -> str | None:
        """The published name, None where this is not a published design."""
        return design_name(self.spec)

    @property
    def is_finished(self) -> bool:
        """Whether it has used its share of a budget that counts candidates."""
        return bool(self.rungs or self.failure)

    @property
    def highest(self) -> Rung | None:
        """The longest training so far."""
        return self.rungs[max(self.rungs)] if self.rungs else None

    @property
    def longest(self) -> Rung | None:
        """What a report tells: the mean of the finals where there are any, else the highest rung."""
        return _mean(list(self.finals.values())) if self.finals else self.highest

    @property
    def best_seed(self) -> int | None:
        """The seed of the best final, None without finals."""
        return max(self.finals, key=lambda seed: self.finals[seed].psnr_db, default=None)

    def at(self, rung: int) -> Rung:
        """Return a rung that this candidate reached; the one above the ladder is the mean of its finals."""
        return self.rungs[rung] if rung in self.rungs else _mean(list(self.finals.values()))

    def score(self, rung: int) -> float:
        """Return the challenge's score at a rung that this candidate reached, as in `at`."""
        assert self.runtime_ms is not None
        return final_score(self.at(rung).psnr_db, self.runtime_ms)

    def final_scores(self) -> dict[int, float]:
        """Return the challenge's score of every final, by seed."""
        assert self.runtime_ms is not None
        return {seed: final_score(final.psnr_db, self.runtime_ms) for seed, final in self.finals.items()}


def least_finals(*kinds: Sequence[int]) -> int:
    """Return how many finals a network needs to be compared, from the counts of networks found and of designs.

    As many as the best covered of either kind has, up to FULL_FINALS: one lucky training wins nothing.
    """
    return min([FULL_FINALS, *(max(counts) for counts in kinds if any(counts))])


def _mean(finals: list[Rung]) -> Rung:
    means = {
        name: statistics.fmean(getattr(final, name) for final in finals)
        for name in ("psnr_db", "ssim", "loss", "train_s", "compile_s", "evaluate_s")
    }
    return replace(finals[0], **means)  # type: ignore[arg-type]  # means are of the fields that are floats


class Study:
    """An open study: settings, candidates by trial number, and the file that takes new records."""

    def __init__(self, folder: Path, config: StudyConfig) -> None:
        self.folder = folder
        self.config = config
        self.candidates: dict[int, Candidate] = {}
        # Test quality by (trial, steps, seed of the final; None: of the rungs).
        self.tests: dict[tuple[int, int, int | None], dict[str, float | None]] = {}
        self.elapsed_s = 0.0
        self.sessions = 0
        self._file: IO[bytes] | None = None
        for number, record in enumerate(_read_records(folder / RECORDS_FILE), start=1):
            try:
                self._apply(record)
            except (KeyError, TypeError, AttributeError, ValueError, IspNasError):
                raise _damaged_line(folder / RECORDS_FILE, number) from None

    @property
    def database(self) -> Path:
        """Where Optuna keeps its memory."""
        return self.folder / DATABASE_FILE

    def checkpoint(self, candidate: Candidate) -> Path:
        """Return where the training state of `candidate` is kept."""
        return self.folder / "checkpoints" / f"{candidate.trial:05d}-{candidate.spec.hash}.safetensors"

    def final_checkpoint(self, candidate: Candidate, seed: int) -> Path:
        """Return where the state of one of the candidate's finals is kept."""
        return self.checkpoint(candidate).with_suffix(f".final-{seed}.safetensors")

    def longest_checkpoint(self, candidate: Candidate) -> Path:
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

    def trained(self) -> list[Candidate]:
        """Return the candidates that reached at least one rung."""
        return [c for c in self.candidates.values() if c.rungs]

    def at_rung(self, rung: int) -> list[Candidate]:
        """Return the candidates that reached `rung`: the ones that may be compared there."""
        if rung == self.final_rung:
            return [c for c in self.candidates.values() if c.finals]
        return [c for c in self.candidates.values() if rung in c.rungs]

    def highest_rung(self) -> int:
        """Return the highest rung that any candidate reached; raise StudyError where nothing is trained."""
        reached = [rung for c in self.candidates.values() for rung in c.rungs]
        if not reached:
            raise StudyError(
                f"Study {self.config.name} has no trained candidate yet; run `isp-nas search` on it first."
            )
        return self.final_rung if self.at_rung(self.final_rung) else max(reached)

    def comparison_rung(self, *, finals: bool = True) -> int:
        """Return where candidates are compared: at the finals, or the highest rung that three reached, or the first.

        A comparison of one or two, published designs as a rule, says less than one at a lower rung; the finals are
        between the best found and the best design, so two will do.
        """
        if finals and len(self.at_rung(self.final_rung)) >= FEWEST_FINALISTS:
            return self.final_rung
        below = range(min(self.highest_rung(), self.final_rung - 1), -1, -1)
        reached = (rung for rung in below if len(self.at_rung(rung)) >= FEWEST_TO_COMPARE)
        return next(reached, 0)

    def best(self) -> Candidate:
        """Return the candidate with the best score at the rung of comparison; of finals, the best mean of as many."""
        rung = self.comparison_rung()
        compared = self.at_rung(rung)
        if rung == self.final_rung:
            counts = ([len(c.finals) for c in compared if (c.name is None) is kind] for kind in (True, False))
            least = least_finals(*counts)
            compared = [c for c in compared if len(c.finals) >= least]
        return max(compared, key=lambda c: c.score(rung))

    def candidate(self, trial: int) -> Candidate:
        """Return one candidate; raise UnknownNameError where the study has no such trial."""
        if trial not in self.candidates:
            known = [c.trial for c in self.trained()]
            raise UnknownNameError(f"trial of study {self.config.name}:", trial, map(str, known))
        return self.candidates[trial]

    def append(self, event: str, **values: Any) -> None:
        """Write one record durably, then take it into account; raise StudyError where the disk does not take it."""
        record = {"event": event, **_without_none(values), "elapsed_s": round(self.elapsed_s, 3)}
        try:
            self._write(json.dumps(record, ensure_ascii=False, allow_nan=False).encode() + b"\n")
        except OSError as error:
            raise StudyError(
                f"{self.folder / RECORDS_FILE} cannot be written ({error.strerror}); free space or mend the "
                "permissions, then the same command continues."
            ) from None
        self._apply(record)

    def _write(self, line: bytes) -> None:
        self._file = self._file or _open_records(self.folder / RECORDS_FILE)
        if self._file.write(line) != len(line):
            raise OSError(errno.ENOSPC, "No space left on device")
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the record file."""
        if self._file:
            self._file.close()
            self._file = None

    def _apply(self, record: dict[str, Any]) -> None:
        values = dict(record)
        self.elapsed_s = max(self.elapsed_s, values.pop("elapsed_s", 0.0))
        _EVENTS[values.pop("event")](self, values)

    def _session(self, _: dict[str, Any]) -> None:
        self.sessions += 1

    def _asked(self, values: dict[str, Any]) -> None:
        candidate = Candidate(spec=ArchSpec.from_dict(values["genes"]), **values)
        self.candidates[candidate.trial] = candidate

    def _reached(self, values: dict[str, Any]) -> None:
        candidate = self.candidates[values.pop("trial")]
        candidate.rungs[values["rung"]] = Rung(**values)

    def _final(self, values: dict[str, Any]) -> None:
        candidate, seed = self.candidates[values.pop("trial")], int(values.pop("seed"))
        candidate.finals[seed] = Rung(rung=self.final_rung, **values)

    def _final_failed(self, values: dict[str, Any]) -> None:
        self.candidates[values["trial"]].final_failures[int(values["seed"])] = values["reason"]

    def _failed(self, values: dict[str, Any]) -> None:
        self.candidates[values["trial"]].failure = values["reason"]

    def _moved(self, values: dict[str, Any]) -> None:
        self.config = replace(self.config, data=replace(self.config.data, source=values["source"]))

    def _tested(self, values: dict[str, Any]) -> None:
        quality = {name: values.get(name) for name in ("test_psnr_db", "test_ssim")}
        self.tests[values["trial"], values["steps"], values.get("seed")] = quality


_EVENTS = {
    "test": Study._tested,
    "moved": Study._moved,
    "session": Study._session,
    "asked": Study._asked,
    "rung": Study._reached,
    "failed": Study._failed,
    "final": Study._final,
    "final_failed": Study._final_failed,
}


def create(folder: Path, config: StudyConfig, *, provenance: Mapping[str, Any]) -> Study:
    """Make a new study in `folder`; raise StudyError where it cannot be written."""
    import tomli_w

    text = tomli_w.dumps({"study": config.to_dict(), "provenance": _without_none(provenance)})
    try:
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        write_durably(folder / RUN_FILE, text.encode())
    except OSError as error:
        raise StudyError(
            f"The study cannot be written to {folder} ({error.strerror}); choose a writable folder with --results."
        ) from None
    return Study(folder, config)


def exists(folder: Path) -> bool:
    """Tell whether `folder` holds a study."""
    return (folder / RUN_FILE).is_file()


def load(folder: Path) -> Study:
    """Open the study in `folder`; raise StudyError where it is missing or damaged."""
    import tomllib

    if not exists(folder):
        raise StudyError(f"{folder} holds no study ({RUN_FILE} is missing); start one with `isp-nas search`.")
    try:
        config = StudyConfig.from_dict(tomllib.loads((folder / RUN_FILE).read_text("utf-8"))["study"])
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError, TypeError, IspNasError) as error:
        raise StudyError(f"{folder / RUN_FILE} is damaged ({error}); restore it or start a new study.") from None
    return Study(folder, config)


def names(results: Path) -> list[str]:
    """Return the studies in a results folder, the most recently used last."""
    files = [path / RECORDS_FILE for path in results.glob("*") if exists(path)]
    return [path.parent.name for path in sorted(files, key=lambda path: path.stat().st_mtime if path.exists() else 0)]


def _open_records(path: Path) -> IO[bytes]:
    """Open for appending behind the last whole line: what a crash left of a line is cut off."""
    file = path.open("a+b", buffering=0)  # nothing may be left to be written when it is closed
    file.seek(0)
    content = file.read()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        file.truncate(whole)
    file.seek(0, os.SEEK_END)
    return file


def _read_records(path: Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines[:-1], start=1):  # what follows the last newline is an unfinished record
        try:
            yield json.loads(line)
        except ValueError:
            raise _damaged_line(path, number) from None


def _damaged_line(path: Path, number: int) -> StudyError:
    return StudyError(f"Line {number} of {path} is damaged; restore the file, or remove that line and what follows it.")
