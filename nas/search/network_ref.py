"""Resolve a network of a command: `best`, a trial number, a published design, a spec file, or a checkpoint folder.

Whatever the name, the longest-trained checkpoint of that network is taken, be it from the study or from
`isp-nas train`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from nas.data.pairs import DataConfig, identity
from nas.search import study
from nas.search.candidate import CandidateRecord
from nas.search.open_study import anywhere
from nas.search.study import StudyRecord
from nas.train.checkpoint import Checkpoint, load, step_of
from nas.train.run_folder import BEST_FILE, CHECKPOINT_FILE, QUANTISATION, TRAINED, TRAINING_FILE, read_training
from search_spaces.auxiliary_head import detach
from search_spaces.designs import DESIGNS, design_name, find_design
from search_spaces.errors import IspNasError, StudyError, UnknownNameError, UsageError
from search_spaces.spec import ArchSpec
from search_spaces.system import stored
from search_spaces.system.file_errors import listed


@dataclass(frozen=True)
class TrainedState:
    """A checkpoint on disk, how long it was trained and on what."""

    path: Path
    steps: int
    reached: int  # how long the run that it is the best of was trained; `steps` where nothing better is known
    data: DataConfig
    data_identity: str | None  # of the pairs when they were trained on; None where it was not written down then
    origin: str  # for people: "trial 7 of study demo" or "training run smallnet"

    def load(self) -> Checkpoint:
        """Read the state of the network alone; raise StudyError where it is damaged."""
        state = load(self.path)
        return replace(state, parameters=detach(state.weights), average={})


@dataclass(frozen=True)
class NetworkRef:
    """A network that a command works on."""

    label: str
    spec: ArchSpec
    study: StudyRecord | None
    candidate: CandidateRecord | None
    state: TrainedState | None

    @property
    def trained(self) -> TrainedState:
        """The longest-trained checkpoint; raise StudyError where there is none."""
        if self.state is None:
            raise StudyError(self._why_untrained())
        return self.state

    def _why_untrained(self) -> str:
        if self.study and self.candidate in self.study.trained():
            assert self.candidate is not None
            path = self.study.longest_checkpoint(self.candidate)
            return (
                f"The checkpoint {path} of {self.label} is missing; put a copy back, or train the network again: "
                f"`isp-nas train {self.label}`."
            )
        if (Path(self.label) / TRAINING_FILE).is_file():
            return (
                f"The training run {self.label} has no checkpoint: it has not come to its first validation, or "
                f"{CHECKPOINT_FILE} and {BEST_FILE} were removed; put a copy back, or give the command that started "
                "it again."
            )
        return (
            f"{self.label} has no trained weights yet; run `isp-nas train {self.label}` first, or search until it is "
            "trained."
        )


def require_same_pairs(state: TrainedState) -> None:
    """Raise StudyError where the pairs that a state was trained on are no longer what they were.

    What was a pair to validate with may be one to train with by now, and the other way round.
    """
    if state.data_identity not in (None, identity(state.data)):
        raise StudyError(
            f"The pairs in {state.data.source} are not those that {state.origin} was trained on; restore them, or "
            "train it on these."
        )


def find_study(results: Path, name: str | None) -> StudyRecord | None:
    """Return the study called `name`, or the one used last; None where there is none and none was named."""
    known = study.names(results)
    if name is not None and name not in known:
        raise UnknownNameError("study", name, known)
    return study.load(results / (name or known[-1])) if known else None


def the_study(results: Path, name: str | None) -> StudyRecord:
    """Return the study called `name`, or the one used last; raise StudyError where there is none."""
    study = find_study(results, name)
    if study is None:
        raise StudyError(
            f"There is no study in {results}; start one with `isp-nas search`, or name a folder: --results."
        )
    return study


def resolve(text: str, results: Path, study_name: str | None = None) -> NetworkRef:
    """Return what `text` names; raise UnknownNameError or UsageError where it names nothing."""
    folder = Path(text)
    if (folder / TRAINING_FILE).exists():
        return _training_run(folder)
    opened = find_study(results, study_name)
    if text == "best" or (text.isascii() and text.isdigit()):
        study = opened or the_study(results, study_name)
        candidate = study.best() if text == "best" else study.candidate(int(text))
        return _ref(text, candidate.spec, results, study, candidate)
    if folder.suffix in (".json", ".toml"):
        return _ref(text, read_spec(folder), results, opened, None)
    if text not in DESIGNS:
        raise UnknownNameError(
            "network", text, ["best", "a trial number", "a spec file", "a checkpoint folder", *DESIGNS]
        )
    return _ref(text, find_design(text).spec, results, opened, None)


def network_of(spec: ArchSpec, results: Path, study_name: str | None = None) -> NetworkRef:
    """Return the network of these genes, called by its published name or else by its hash."""
    return _ref(design_name(spec) or spec.hash, spec, results, find_study(results, study_name), None)


def read_spec(path: Path) -> ArchSpec:
    """Read genes from a JSON or TOML file, at its top or under "spec".

    Raises UsageError where it holds none, SpecError with the gene, its value and what it may be for a wrong one. What
    isp-nas itself wrote (it carries the network's hash or where it comes from) may lack genes that came later; what a
    person wrote may not.
    """
    try:
        content = stored.read_bytes(path)
        data = stored.parse_json(content) if path.suffix == ".json" else stored.parse_toml(content)
    except OSError as error:
        raise UsageError(f"The spec file {path} cannot be read ({error.strerror}).") from None
    except ValueError as error:
        raise UsageError(f"{path} is not valid {path.suffix[1:].upper()}: {error}.") from None
    genes = data.get("spec", data) if isinstance(data, dict) else None
    if not isinstance(genes, dict):
        raise UsageError(f'{path} holds no genes; wanted them at its top or under "spec".')
    if not {"hash", "provenance"} & data.keys():
        return ArchSpec.from_file(genes)
    spec = ArchSpec.from_dict(genes)
    if spec.hash != data.get("hash", spec.hash):
        raise UsageError(f"{path}: these genes make network {spec.hash}, not {data['hash']}; leave out the hash.")
    return spec


def _training_run(folder: Path) -> NetworkRef:
    training = read_training(folder)
    spec = ArchSpec.from_dict(training["spec"])
    return NetworkRef(str(folder), spec, None, None, _state_of_run(folder, training))


def _state_of_run(folder: Path, training: dict[str, Any]) -> TrainedState | None:
    last, best = folder / CHECKPOINT_FILE, folder / BEST_FILE
    path = best if best.exists() else last  # runs of before bests were kept have none
    if not path.exists():
        return None
    steps = step_of(path)
    reached = _reached(last, at_least=steps)
    total_steps = training["recipe"]["horizon"]
    origin = f"training run {folder.name}" + (
        "" if reached >= total_steps else f", stopped before its {total_steps} steps"
    )
    origin += "" if steps == reached else f", at its best validation of {reached} steps"
    return TrainedState(
        path, steps, reached, DataConfig.from_dict(training["data"]), training.get("data_identity"), origin
    )


def _reached(last: Path, *, at_least: int) -> int:
    """Return how far a run came; its best state is worth as much where its last one was lost."""
    try:
        return step_of(last)
    except StudyError:
        return at_least


def _ref(
    label: str, spec: ArchSpec, results: Path, opened: StudyRecord | None, candidate: CandidateRecord | None
) -> NetworkRef:
    runs = _states_of_runs(results / TRAINED, spec)
    if opened is not None:  # the same network trained on other pairs is another candidate
        runs = (state for state in runs if anywhere(state.data) == anywhere(opened.config.data))
    states = [*_states_in_study(opened, spec), *runs]
    longest = max(states, key=lambda state: state.reached, default=None)
    return NetworkRef(label, spec, opened, candidate, longest)


def _states_in_study(opened: StudyRecord | None, spec: ArchSpec) -> Iterator[TrainedState]:
    if opened is None:
        return
    # Names of checkpoints tell which candidates are this network, without a look at the genes of all.
    trials = {
        int(path.name.split("-")[0])
        for path in listed(opened.folder / "checkpoints", StudyError)
        if fnmatchcase(path.name, f"[0-9]*-{spec.hash}.*safetensors")
    }
    for candidate in (c for c in opened.trained() if c.trial in trials):
        path = opened.longest_checkpoint(candidate)
        if candidate.spec == spec and path.exists():
            origin = f"trial {candidate.trial} of study {opened.config.name}"
            steps = step_of(path)  # ahead of the record after a kill
            config = opened.config
            yield TrainedState(path, steps, steps, config.data, config.data_fingerprint, origin)


def _states_of_runs(folder: Path, spec: ArchSpec) -> Iterator[TrainedState]:
    for run in listed(folder, StudyError):
        if not (run / TRAINING_FILE).is_file():
            continue
        try:
            training = read_training(run)
            # What was fine-tuned for int8 is no better network in float32, however long it was trained.
            is_plain = training["spec"] == spec.to_dict() and QUANTISATION not in training
            state = _state_of_run(run, training) if is_plain else None
        except IspNasError:
            continue  # a damaged run of another time must not stand in the way of this command
        if state is not None:
            yield state


def require_same_data(of: StudyRecord) -> None:
    """Raise StudyError where the pairs that a study was trained on are no longer what they were."""
    if identity(of.config.data) != of.config.data_fingerprint:
        raise StudyError(
            f"The pairs in {of.config.data.source} are not those that study {of.config.name} was trained on; restore "
            "them, or say where they are now by continuing the search with --data."
        )
