"""One session of searching: the study is opened or started, locked, and searched until the budget is spent.

What `isp-nas search` and `nas.search` have in common. Whoever watches is called with plain values; nothing is printed.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from nas import backend
from nas.data.host_cache import warm
from nas.data.pairs import Progress, open_prepared
from nas.defaults import DEFAULT_SPACE
from nas.search import study
from nas.search.budget import Budget
from nas.search.cluster import ClusterOptions, open_hub
from nas.search.device_pruning import runnable
from nas.search.open_study import SearchContext, SearchOptions, open_study
from nas.train.memory import host_bytes
from nas.train.workers import Worker, default_workers, local_workers
from search_spaces.errors import StudyError, UsageError
from search_spaces.system import folder_lock
from search_spaces.system.atomic_write import clear_left_behind
from search_spaces.system.file_errors import sentence

if TYPE_CHECKING:
    from nas.search.driver import Search

OnMessage = Callable[[str], None]
FEW_TRAINING, FEW_VALIDATION = 16, 8  # pairs


def _nothing(*_: object) -> None:
    pass


@dataclass(frozen=True)
class SearchSession:
    """An opened study with everything that a search on it needs."""

    context: SearchContext
    budget: Budget
    workers: int  # of this machine
    cluster: ClusterOptions | None = None
    stall_s: float | None = None

    def run(self, *, on_message: OnMessage = _nothing, on_progress: "Callable[[Search], None]" = _nothing) -> "Ended":
        """Search until the budget is spent or nothing new is left; a KeyboardInterrupt is passed on.

        Raises StudyError where another search works on the study, where the first candidates all fail, or where no
        network is within the limits.
        """
        from nas.search.driver import Search  # loads Optuna, which nothing that was refused before has to wait for

        with only_search(self.context.study.folder):
            opened = _as_it_is_now(self.context)
            before = rungs_reached(opened.study)
            workers = local_workers(self.workers, backend.expected(), Worker)
            hub = None if self.cluster is None else open_hub(self.cluster, opened, on_message)
            search = Search(
                opened.study,
                opened.space,
                opened.device,
                self.budget,
                opened.pairs,
                [*workers],
                on_message,
                on_progress,
                vgg_file=opened.vgg_file,
                source=hub,
                stall_s=self.stall_s,
            )
            try:
                search.run()
            except KeyboardInterrupt as stopped:
                raise SearchInterrupted(opened.study) from stopped
        if search.unmet:
            raise StudyError(search.unmet)
        return Ended(opened.study, _end(search) if rungs_reached(opened.study) == before else "")


@dataclass(frozen=True)
class Ended:
    """How a search came to its end."""

    study: study.StudyRecord
    why_nothing: str  # was trained in this session; empty where something was


def _end(search: "Search") -> str:
    """Say why a session that trained nothing had nothing to train."""
    if search.exhausted:
        return ""
    budget = search.budget
    if search.remaining_s <= 0 or (budget.candidates is not None and search.used >= budget.candidates):
        return f"The budget of {budget} is spent; a larger one extends the search."
    return f"Nothing more fits into what is left of the budget of {budget}; a larger one extends the search."


class SearchInterrupted(KeyboardInterrupt):
    """Ctrl-C ended a search; `study` holds what was found so far."""

    def __init__(self, record: study.StudyRecord) -> None:
        super().__init__()
        self.study = record


def open_session(
    options: SearchOptions,
    results: Path,
    budget: Budget,
    *,
    workers: int | None = None,
    cluster: ClusterOptions | None = None,
    stall_s: float | None = None,
    on_message: OnMessage = _nothing,
    on_reading: Progress | None = None,
) -> SearchSession:
    """Open or start the study that was asked for, and read its pairs; `on_reading` follows that.

    `workers` train at once on this machine; None: as many as suit it, or with a `cluster` none. Raises StudyError where
    the study was started with other settings, and what reading pairs, device and space raises.
    """
    if cluster is not None:
        cluster.require()
    _require_workers(workers, least=1 if cluster is None else 0)
    if stall_s is not None and not 0 < stall_s < math.inf:
        raise UsageError(f"--stall takes seconds above zero, got {stall_s:g}.")
    if workers is None:
        workers = default_workers(backend.expected(), host_bytes()) if cluster is None else 0
    if workers:
        _require_here(options.backend, "--backend")
    backend.prepare(processes=workers)
    opened = open_study(options, results, budget, read=on_reading)
    _require_same_backend(opened.study, options.backend, trains_here=workers > 0)
    for line in few_pairs(*(len(open_prepared(opened.pairs, split)) for split in ("train", "val"))):
        on_message(line)
    warm(opened.pairs, available=host_bytes(), on_message=on_message, progress=on_reading)
    return SearchSession(opened, budget, workers, cluster, stall_s)


def few_pairs(train: int, val: int) -> Iterator[str]:
    """Yield what whoever searches on few pairs must know."""
    if train < FEW_TRAINING:
        yield f"There are only {train} training pairs: networks will learn them by heart; give more."
    if val < FEW_VALIDATION:
        yield (
            f"There are only {val} validation pairs: which network is better depends on these very pairs, and the ± of "
            "results is that of seeds alone; give more."
        )


def _require_workers(workers: int | None, *, least: int) -> None:
    if workers is not None and (type(workers) is not int or workers < least):
        raise UsageError(f"The number of workers is a whole one of {least} or more, got {workers!r}.")


def _require_here(wanted: str | None, who: str) -> None:
    """Raise UsageError where this machine, which is to train, computes on something else than is wanted."""
    here = backend.expected()
    if wanted is not None and wanted != here:
        cure = "hide the GPU with JAX_PLATFORMS=cpu" if here == "gpu" else "use a machine with a GPU and isp-nas[cuda]"
        raise UsageError(
            f"{who} is {wanted}, and this machine trains on {here}: figures of the two are not compared; {cure}, or "
            "have workers of a --cluster train alone (--workers 0)."
        )


def _require_same_backend(record: study.StudyRecord, wanted: str | None, *, trains_here: bool) -> None:
    """Raise UsageError where a study would be trained on another backend than before."""
    before = record.backend
    if before is None:
        return
    if wanted not in (None, before):
        raise UsageError(
            f"Study {record.config.name} was trained on {before} so far, and --backend is {wanted}: figures of the two "
            "are not compared; leave --backend out, or start another study with --study NAME."
        )
    if trains_here:
        _require_here(before, f"What study {record.config.name} was trained on")


def without_refused(session: SearchSession, on_message: OnMessage = _nothing) -> SearchSession:
    """Leave out of the space what the device refuses, with one message that names the values."""
    opened = session.context
    space, left_out = runnable(opened.space, opened.device, allow_fallback=opened.study.config.allow_fallback)
    if left_out:
        values = ", ".join(f"{each.gene}={each.value}" for each in left_out)
        on_message(f"Excluded, because the device does not support them: {values}. Details: `{_why_command(opened)}`.")
    return replace(session, context=replace(opened, space=space))


def _why_command(opened: SearchContext) -> str:
    config = opened.study.config
    space = "" if config.space == DEFAULT_SPACE else f" {config.space}"
    return f"isp-nas space{space} --device {config.device}"


def budget_share(search: "Search") -> float:
    """Return the share of the budget that is used."""
    if search.budget.candidates is not None:
        return min(1.0, search.used / search.budget.candidates)
    return min(1.0, search.elapsed_s / (search.budget.seconds or 1))


def rungs_reached(opened: study.StudyRecord) -> int:
    """Return how many trainings the study has results of."""
    return sum(len(each.rungs) + len(each.finals) for each in opened.candidates.values())


def _as_it_is_now(opened: SearchContext) -> SearchContext:
    """Read the study again now that nobody else may write to it: another search may have ended a moment ago."""
    record = study.load(opened.study.folder)
    if replace(record.config, data=opened.study.config.data) != opened.study.config:
        raise StudyError(f"Study {record.config.name} was started by another command just now; run this one again.")
    if record.config.data != opened.study.config.data:  # the same pairs, as `open_study` made sure, in another place
        record.append("moved", source=opened.study.config.data.source)
    return replace(opened, study=record)


@contextmanager
def only_search(folder: Path) -> Iterator[None]:
    """Hold the study against a second search; raise StudyError where there is one."""
    from filelock import Timeout

    try:
        held = folder_lock.lock(folder).acquire()
    except Timeout:
        raise StudyError(f"Another search is working on {folder}; wait for it, or name another --study.") from None
    except OSError as error:
        raise StudyError(sentence(error, path=folder / folder_lock.LOCK, action="write")) from None
    with held:
        clear_left_behind(folder)
        yield
