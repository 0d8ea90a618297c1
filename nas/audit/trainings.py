"""Train networks briefly and long, as the data of an audit.

A training is one network, one seed and so many steps, over which its learning rate falls. Ladders with the same top
share their trainings, and a ladder as long as the truth shares those, too: a search would do the same.

    networks × seeds × steps ─► trainings ─► stretches, each a Job of a worker ─► one durable record per stretch

    OUT/settings.json            what all records have in common; another command with other settings is refused
        runs/<training>/N.json   what came of it at step N, or why nothing did
        runs/<training>/checkpoint.safetensors   until the training is over
        audit.json               what the records say together (nas.audit.report)

Records are keyed by what was trained, so the same folder takes more networks, seeds and ladders later.
"""

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from nas.search.network_ref import NetworkRef, resolve
from nas.search.successive_halving import check_ladder
from nas.train.checkpoint import load
from nas.train.job import Job, JobFailure
from nas.train.ranges import Decibels, Finite, Number, Seconds, Ssim, Steps
from nas.train.recipe import Recipe
from nas.train.run_folder import CHECKPOINT_FILE
from nas.train.worker import TrainingWorker
from nas.train.workers import result_of
from search_spaces.designs import DESIGNS, design_name
from search_spaces.errors import IspNasError, StudyError, UsageError
from search_spaces.networks import build_graph
from search_spaces.space import SearchSpace
from search_spaces.spec import ArchSpec
from search_spaces.system import checksums, stored
from search_spaces.system.atomic_write import write_durably
from search_spaces.system.file_errors import cause, listed

if TYPE_CHECKING:
    from nas.train.job import Outcome

SETTINGS_FILE = "settings.json"
RUNS = "runs"

FEWEST = 4  # below, there is no order to speak of
ENOUGH = 12  # below, a rank correlation says little
# Who takes part where nobody is named: designs and random members of the space that train in reasonable time.
MOST_MACS = 12e9  # at 1920×1088
MEMBERS = 8
MEMBERS_SEED = 0
# A record at least this often: a kill loses at most that much, and judging stays a small part of the time.
LEAST_STRETCH = 1000
STRETCHES = 20
LOOK_EVERY_S = 0.5


@dataclass(frozen=True)
class AuditedNetwork:
    """One that is trained, and what it is called."""

    name: str
    spec: ArchSpec


@dataclass(frozen=True)
class AuditPlan:
    """What is trained, how, and what short trainings are compared with what long one."""

    networks: tuple[AuditedNetwork, ...]
    seeds: tuple[int, ...]
    ladders: tuple[tuple[int, ...], ...]
    steps: int  # of the long training, the truth
    recipe: Recipe  # its total steps are replaced by each training's own

    def __post_init__(self) -> None:
        _check_networks(self.networks)
        if not self.seeds:
            raise UsageError("An audit needs at least one seed, got 0.")
        if not self.ladders:
            raise UsageError(f"No ladder of the defaults is within {self.steps} steps; give one with --rungs.")
        for ladder in self.ladders:
            check_ladder(ladder)
            if ladder[-1] > self.steps:
                raise UsageError(
                    f"The rungs {','.join(map(str, ladder))} go beyond the {self.steps} steps that they are to "
                    "predict; give more --steps."
                )

    @property
    def stops(self) -> dict[int, list[int]]:
        """The steps at which trainings are judged, by total steps, the shortest first."""
        wanted: dict[int, set[int]] = {self.steps: {self.steps}}
        for ladder in self.ladders:
            wanted.setdefault(ladder[-1], set()).update(ladder)
        return {total_steps: sorted(wanted[total_steps]) for total_steps in sorted(wanted)}

    def trainings(self) -> Iterator["AuditTraining"]:
        """Yield every training: all networks with the first seed, then with the next."""
        for seed in self.seeds:
            for network in self.networks:
                for total_steps, stops in self.stops.items():
                    yield AuditTraining(network, seed, total_steps, tuple(_in_stretches(stops, total_steps)))


@dataclass(frozen=True)
class AuditTraining:
    """One network trained from one seed with a learning rate that falls over `total_steps`."""

    network: AuditedNetwork
    seed: int
    total_steps: int
    stops: tuple[int, ...]

    @property
    def key(self) -> str:
        """The name of its folder."""
        return f"{self.network.spec.hash}-seed{self.seed}-{self.total_steps}"


@dataclass(frozen=True)
class AuditRecord:
    """What a training came to at `steps`: figures, or the reason why there are none."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    hash: str
    seed: Number
    horizon: Steps  # the total steps of the training, as files call them
    steps: Steps
    from_step: Number  # where this stretch began
    failure: str | None = None
    psnr_db: Decibels | None = None  # on the validation pairs, as ssim
    ssim: Ssim | None = None
    loss: Finite | None = None
    train_s: Seconds | None = None  # of this stretch alone; None where it was trained before a kill
    compile_s: Seconds | None = None
    evaluate_s: Seconds | None = None
    commit: str | None = None


_RECORD: stored.Schema[AuditRecord] = stored.Schema(AuditRecord)


def _check_networks(networks: Sequence[AuditedNetwork]) -> None:
    seen: dict[str, str] = {}
    for network in networks:
        first = seen.setdefault(network.spec.hash, network.name)
        if first != network.name:
            raise UsageError(f"{first} and {network.name} are the same network; name one of them.")
    if len(seen) < len(networks):
        raise UsageError("A network is named twice; name each of them once.")
    if len(networks) < FEWEST:
        raise UsageError(f"An audit ranks networks and needs {FEWEST} or more, {ENOUGH} to say much; got {len(seen)}.")


def _in_stretches(stops: Sequence[int], total_steps: int) -> Iterator[int]:
    """Yield the stops and, between distant ones, places to rest."""
    longest = max(LEAST_STRETCH, total_steps // STRETCHES)
    for start, end in pairwise([0, *stops]):
        parts = -(-(end - start) // longest)
        yield from (start + (end - start) * part // parts for part in range(1, parts + 1))


# Who takes part


def named(names: Sequence[str], results: Path, study: str | None) -> list[NetworkRef]:
    """Return what the names mean; raise UnknownNameError or UsageError where one means nothing."""
    return [resolve(text, results, study) for text in names]


def networks_of(refs: Sequence[NetworkRef]) -> tuple[AuditedNetwork, ...]:
    """Return the networks to be trained, under the names that a person would know them by."""
    return tuple(AuditedNetwork(_name(ref), ref.spec) for ref in refs)


def _name(ref: NetworkRef) -> str:
    design = design_name(ref.spec)
    if ref.candidate is not None and ref.study is not None:
        return f"{ref.study.config.name}/{ref.candidate.trial}" + (f" {design}" if design else "")
    return design or Path(ref.label).stem


def default_networks(space: SearchSpace) -> tuple[AuditedNetwork, ...]:
    """Return the published designs up to MOST_MACS, and as large random members of the space, the same every time."""
    designs = [
        AuditedNetwork(design.name, design.spec)
        for design in DESIGNS.values()
        if design.variant_of is None and build_graph(design.spec).macs <= MOST_MACS
    ]
    return (*designs, *_members(space, {build_graph(network.spec).structure for network in designs}))


def _members(space: SearchSpace, taken: set[object]) -> Iterator[AuditedNetwork]:
    import random

    rng, seen, count_found = random.Random(MEMBERS_SEED), set(taken), 0
    while count_found < MEMBERS:
        spec = space.sample(lambda _, values, __: rng.choice(values))
        graph = build_graph(spec)
        if graph.macs > MOST_MACS or graph.structure in seen:
            continue
        seen.add(graph.structure)
        count_found += 1
        yield AuditedNetwork(f"member-{count_found}", spec)


# What is kept


def claim(folder: Path, settings: Mapping[str, Any]) -> None:
    """Make the folder one of these settings; raise StudyError where it holds an audit with others, naming them."""
    path = folder / SETTINGS_FILE
    if not path.exists():
        save(path, settings)
    before = _with_defaults(path)
    differs = [
        f"{name} {_written(value)}, the audit has {_written(before.get(name))}"
        for name, value in json.loads(json.dumps(settings)).items()
        if before.get(name) != value
    ]
    if differs:
        raise StudyError(
            f"{folder} holds an audit with other settings: {'; '.join(differs)}. Continue it as it was started, or "
            "name another folder with --out."
        )


def begun(folder: Path) -> dict[str, Any] | None:
    """Return the settings of an audit that goes on in the folder; None where it begins."""
    path = folder / SETTINGS_FILE
    return read(path) if path.exists() else None


def _with_defaults(path: Path) -> dict[str, Any]:
    """Return stored settings with what recipes could not say when they were written: its default is what was done.

    Raises StudyError where they are damaged.
    """
    data = read(path)
    others = {name: data.get(name) for name in ("data", "hardware")}
    rest = {name: value for name, value in data.items() if name not in others}
    try:
        _RECIPE.read(rest)  # types and ranges; what is missing is filled in here
        recipe = Recipe.from_dict(rest)
    except (ValueError, IspNasError) as error:
        why = str(error).removesuffix(".")
        raise StudyError(f"{path} is damaged ({why}); restore it, or name another folder with --out.") from None
    return {**json.loads(json.dumps(recipe.to_dict())), **others}


_RECIPE: stored.Schema[Recipe] = stored.Schema(Recipe)


def _written(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def save(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON durably; raise StudyError where that is impossible."""
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    try:
        write_durably(path, f"{text}\n".encode())
    except OSError as error:
        raise StudyError(
            f"{path} cannot be written ({error.strerror}); free space or name another folder with --out, then the "
            "same command continues."
        ) from None


def read(path: Path) -> dict[str, Any]:
    """Read a JSON object; raise StudyError where the file is damaged."""
    try:
        data = stored.parse_json(stored.read_bytes(path))
    except (OSError, ValueError) as error:
        raise StudyError(
            f"{path} cannot be read ({cause(error)}); remove it, and what it held is made again."
        ) from None
    if not isinstance(data, dict):
        raise StudyError(f"{path} holds no JSON object; remove it, and what it held is made again.")
    return data


def recorded(folder: Path, training: AuditTraining) -> dict[int, AuditRecord]:
    """Return the records of a training, by step; raise StudyError where one is damaged."""
    records = {}
    for path in (p for p in listed(folder / RUNS / training.key, StudyError) if p.suffix == ".json"):
        try:
            record = _RECORD.read(checksums.without_sum(read(path)))
        except ValueError as error:
            raise StudyError(f"{path} is no record of an audit ({error}); remove it, and it is made again.") from None
        records[record.steps] = record
    return records


# Training


@dataclass
class RunningTraining:
    """A stretch that a worker is busy with, and the stops that follow it."""

    training: AuditTraining
    from_step: int
    steps: int
    after: list[int]
    worker: TrainingWorker


class Audit:
    """Works off a plan with some workers.

    `on_message` gets a line per judged stop, `on_progress` the steps done and the steps in all.
    """

    def __init__(
        self,
        folder: Path,
        plan: AuditPlan,
        data: Path,
        workers: Sequence[TrainingWorker],
        *,
        commit: str | None = None,
        on_message: Callable[[str], None] = lambda _: None,
        on_progress: Callable[[int, int], None] = lambda _done, _total: None,
        vgg_file: Path | None = None,
    ) -> None:
        self.folder, self.plan, self.data, self.workers = folder, plan, data, workers
        self._commit, self._on_message, self._on_progress, self._vgg_file = commit, on_message, on_progress, vgg_file
        self._running: dict[Future[Outcome | JobFailure], RunningTraining] = {}
        self._failed: set[str] = set()  # networks of which one training failed: the others would be for nothing
        self._done = self._total = 0

    def run(self) -> list[AuditRecord]:
        """Train what is not recorded yet; return all records of the plan.

        Raises StudyError where nothing can be trained or kept, which no other network would change.
        """
        waiting = deque(self._to_do())
        try:
            while waiting or self._running:
                self._fill(waiting)
                self._collect()
        except BaseException:
            self._close(kill=True)
            raise
        self._close(kill=False)
        return self.records()

    def records(self) -> list[AuditRecord]:
        """Return what is known of every training of the plan."""
        return [record for training in self.plan.trainings() for record in recorded(self.folder, training).values()]

    def _to_do(self) -> Iterator[tuple[AuditTraining, list[int]]]:
        trainings = [(training, recorded(self.folder, training)) for training in self.plan.trainings()]
        self._failed = {t.network.spec.hash for t, known in trainings if any(r.failure for r in known.values())}
        for training, known in trainings:
            pending = [stop for stop in training.stops if stop not in known]
            if pending and training.network.spec.hash not in self._failed:
                self._total += pending[-1]
                yield training, pending

    def _fill(self, waiting: deque[tuple[AuditTraining, list[int]]]) -> None:
        busy = {id(at.worker) for at in self._running.values()}
        for worker in (worker for worker in self.workers if id(worker) not in busy):
            while waiting:
                training, pending = waiting.popleft()
                if training.network.spec.hash in self._failed:
                    self._done += pending[-1]
                    continue
                begun = self._begin(training, pending[0])
                self._done += begun
                self._submit(RunningTraining(training, begun, pending[0], pending[1:], worker))
                break

    def _begin(self, training: AuditTraining, first: int) -> int:
        """Return the step at which training continues; a checkpoint beyond the first stop was for other stops."""
        path = self._checkpoint(training)
        step = load(path).step if path.exists() else 0
        if step > first:
            path.unlink()
            return 0
        return step

    def _submit(self, at: RunningTraining) -> None:
        recipe = self.plan.recipe.scaled(at.training.total_steps)
        path = self._checkpoint(at.training)
        at.worker.recycle()
        job = Job(at.training.network.spec, at.steps, path, self.data, recipe, at.training.seed, self._vgg_file)
        self._running[at.worker.submit(job)] = at

    def _checkpoint(self, training: AuditTraining) -> Path:
        return self.folder / RUNS / training.key / CHECKPOINT_FILE

    def _collect(self) -> None:
        done, _ = wait(self._running, timeout=LOOK_EVERY_S, return_when=FIRST_COMPLETED)
        for future in done:
            self._settle(self._running.pop(future), result_of(future))
        under_way = sum(max(0, at.worker.step - at.from_step) for at in self._running.values())
        self._on_progress(self._done + under_way, self._total)

    def _settle(self, at: RunningTraining, result: "Outcome | JobFailure") -> None:
        if isinstance(result, JobFailure) and result.fatal:
            raise StudyError(result.reason)
        training = at.training
        record = self._record(at, result)
        save(self.folder / RUNS / training.key / f"{record.steps}.json", checksums.summed(asdict(record)))
        self._tell(training, record)
        self._done += at.steps - at.from_step
        if record.failure:
            self._failed.add(record.hash)
            self._done += (at.after or [at.steps])[-1] - at.steps
        elif at.after:
            self._submit(replace(at, from_step=at.steps, steps=at.after[0], after=at.after[1:]))
            return
        self._checkpoint(training).unlink(missing_ok=True)  # nothing follows, and it can be made again

    def _record(self, at: RunningTraining, result: "Outcome | JobFailure") -> AuditRecord:
        training = at.training
        blank = AuditRecord(
            training.network.spec.hash, training.seed, training.total_steps, at.steps, at.from_step, commit=self._commit
        )
        if isinstance(result, JobFailure):
            return replace(blank, failure=result.reason)
        return replace(
            blank,
            psnr_db=result.psnr_db,
            ssim=result.ssim,
            loss=result.loss,
            train_s=result.train_s if at.steps > at.from_step else None,
            compile_s=result.compile_s,
            evaluate_s=result.evaluate_s,
        )

    def _tell(self, training: AuditTraining, record: AuditRecord) -> None:
        if not record.failure and record.steps not in self.plan.stops[training.total_steps]:
            return
        came = record.failure or f"{record.psnr_db:.2f} dB"
        name = training.network.name
        self._on_message(f"{name}, seed {training.seed}, {record.steps} of {training.total_steps} steps: {came}")

    def _close(self, *, kill: bool) -> None:
        for worker in self.workers:
            worker.close(kill=kill)
